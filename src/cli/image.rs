//! `podinit image`: what is in the image store, and images into it, from archives and registries. Works on the store's
//! files, no daemon asked.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use lexopt::prelude::*;

use super::pull as puller;
use crate::config::{Config, FILE};
use crate::image::archive;
use crate::image::platform::Platform;
use crate::image::registry::credentials::Login;
use crate::image::{Image, Reference, Store, export};

pub const HELP: &str = "\
podinit image [--store DIR] COMMAND

  pull NAME [--creds USER:PASSWORD] [--platform OS/ARCH] [--config FILE]   an image from its registry
  import ARCHIVE [--name NAME] [--platform OS/ARCH]   an OCI layout or docker save tar, - for standard input
  list [-q] [-o json]                                 the images there are
  inspect NAME...                                     images as JSON
  verify [NAME...]                                    read every byte and compare; all images without a name
  verify --repair [--from DIR] [NAME...]              put damaged files aside, and replace them from the store in DIR
  remove NAME...                                      take names away, and files that none names any more
  tag NAME NEW                                        give an image a further name
  prune                                               remove files that no name leads to
  export NAME FILE                                    an OCI layout in a tar, - for standard output

The words of crictl and docker do as well: images, ls, rmi, rm, load, save. A layer is kept as a file system, not as
the tar that it came in: export makes tars anew, with the same files and other digests, so the exported image has
another id than the one in the store. Import of what was exported keeps that id.
";

/// Runs the command; `store` is used unless `--store` names another. Returns the exit status: 0 done, 1 failed,
/// 2 not understood.
pub fn run(args: &[String], store: &Path) -> i32 {
    let command = match parse(args, store) {
        Ok(command) => command,
        Err(error) => {
            eprintln!("podinit image: {error}\n{HELP}");
            return 2;
        }
    };
    // A board's own images lie behind its store, and no other's.
    let behind = if command.store == Config::default().root.join("images") {
        Config::board("", fs::read_to_string(FILE).ok().as_deref()).0.image_stores
    } else {
        Vec::new()
    };
    let store = Store::open(command.store.clone()).over(&behind);
    let names = command.names;
    let done = match command.verb.as_str() {
        "pull" => pull(&command.store, &names, &command.platform, command.login, command.config.as_deref()),
        "import" => import(&store, &names, command.name.as_deref(), &command.platform),
        "list" => list(&store, command.quiet, command.json),
        "inspect" => inspect(&store, &names),
        "verify" if command.repair => repair(&store, &names, command.from),
        "verify" => verify(&store, &names),
        "remove" => remove(&store, &names),
        "tag" => tag(&store, &names),
        "prune" => prune(&store),
        "export" => save(&store, &names),
        _ => {
            print!("{HELP}");
            Ok(())
        }
    };
    match done {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("podinit image: {error}");
            1
        }
    }
}

struct Command {
    verb: String,
    names: Vec<String>,
    store: PathBuf,
    name: Option<String>,
    platform: Platform,
    quiet: bool,
    login: Option<Login>,
    config: Option<PathBuf>,
    json: bool,
    repair: bool,
    from: Option<PathBuf>,
}

fn parse(args: &[String], store: &Path) -> Result<Command, lexopt::Error> {
    let mut parser = lexopt::Parser::from_args(args.iter().map(OsString::from));
    let mut command = Command {
        verb: String::new(),
        names: Vec::new(),
        store: store.to_owned(),
        name: None,
        platform: Platform::host(),
        quiet: false,
        login: None,
        config: None,
        json: false,
        repair: false,
        from: None,
    };
    while let Some(arg) = parser.next()? {
        match arg {
            Long("store") => command.store = parser.value()?.into(),
            Long("name") => command.name = Some(parser.value()?.string()?),
            Long("repair") => command.repair = true,
            Long("from") => command.from = Some(parser.value()?.into()),
            Long("platform") => command.platform = Platform::parse(&parser.value()?.string()?)?,
            Long("creds") => command.login = Some(Login::parse(&parser.value()?.string()?)?),
            Long("config") => command.config = Some(parser.value()?.into()),
            Short('q') | Long("quiet") => command.quiet = true,
            Short('o') | Long("output") => match parser.value()?.string()?.as_str() {
                "json" => command.json = true,
                other => return Err(format!("unknown output format {other:?}: use json").into()),
            },
            Short('h') | Long("help") => command.verb = "help".into(),
            Value(value) if command.verb.is_empty() => command.verb = value.string()?,
            Value(value) => command.names.push(value.string()?),
            other => return Err(other.unexpected()),
        }
    }
    // The words of docker beside our own.
    command.verb = match command.verb.as_str() {
        "ls" | "images" => "list".into(),
        "rm" | "rmi" => "remove".into(),
        "load" => "import".into(),
        "save" => "export".into(),
        "help" | "pull" | "import" | "list" | "inspect" | "verify" | "remove" | "tag" | "prune"
        | "export" => command.verb,
        "" => return Err("a command is missing".into()),
        other => return Err(format!("no command {other:?}").into()),
    };
    match (command.verb.as_str(), command.names.len()) {
        ("pull" | "import", 1) | ("list" | "prune", 0) | ("help" | "verify", _) | ("tag" | "export", 2) => {
            Ok(command)
        }
        ("remove" | "inspect", n) if n > 0 => Ok(command),
        ("tag", _) => Err("tag takes the image's name and its new one".into()),
        ("export", _) => Err("export takes the image's name and a file, - for standard output".into()),
        (verb, n) => Err(format!("{verb} does not take {n} names").into()),
    }
}

fn import(store: &Store, names: &[String], name: Option<&str>, platform: &Platform) -> Result<(), String> {
    for archive in names {
        for reference in archive::import(store, Path::new(archive), name, platform)? {
            println!("{reference}");
        }
    }
    Ok(())
}

fn pull(
    store: &Path,
    names: &[String],
    platform: &Platform,
    login: Option<Login>,
    config: Option<&Path>,
) -> Result<(), String> {
    for name in names {
        let report = puller::pull(store, name, platform, login.clone(), config)?;
        println!("{}\n{}", report.reference, report.digest);
    }
    Ok(())
}

fn list(store: &Store, quiet: bool, json: bool) -> Result<(), String> {
    let images = store.list()?;
    if json {
        let views: Vec<_> = images.iter().map(view).collect();
        println!("{}", pretty(&serde_json::json!({ "images": views }))?);
    } else if quiet {
        images.iter().for_each(|image| println!("{}", image.id));
    } else {
        print!("{}", table(&images));
    }
    Ok(())
}

/// The columns of `crictl images`.
fn table(images: &[Image]) -> String {
    let mut rows = vec![["IMAGE".into(), "TAG".into(), "IMAGE ID".into(), "SIZE".into()]];
    for image in images {
        let Ok(reference) = Reference::parse(&image.reference) else { continue };
        let id = image.id.trim_start_matches("sha256:").chars().take(12).collect();
        let tag = reference.tag.clone().unwrap_or_else(|| "<none>".into());
        rows.push([reference.name(), tag, id, size(image.size)]);
    }
    let width: [usize; 3] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0) + 3);
    rows.iter()
        .map(|row| {
            let [image, tag, id, size] = row;
            format!("{image:<w0$}{tag:<w1$}{id:<w2$}{size}\n", w0 = width[0], w1 = width[1], w2 = width[2])
        })
        .collect()
}

/// Three digits and a decimal unit, as docker tells sizes.
pub(super) fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut units = ["B", "kB", "MB", "GB"].iter();
    let mut unit = units.next();
    while value >= 999.5
        && let Some(next) = units.next()
    {
        value /= 1000.0;
        unit = Some(next);
    }
    let unit = unit.copied().unwrap_or_default();
    match value {
        v if unit == "B" || v >= 99.95 => format!("{v:.0}{unit}"),
        v if v >= 9.995 => format!("{v:.1}{unit}"),
        v => format!("{v:.2}{unit}"),
    }
}

fn inspect(store: &Store, names: &[String]) -> Result<(), String> {
    for name in names {
        println!("{}", pretty(&view(&known(store, name)?))?);
    }
    Ok(())
}

fn view(image: &Image) -> serde_json::Value {
    serde_json::json!({
        "reference": image.reference,
        "id": image.id,
        "manifest": image.manifest,
        "factory": image.factory,
        "size": image.size,
        "layers": image.layers,
        "config": image.config,
    })
}

fn pretty(value: &serde_json::Value) -> Result<String, String> {
    serde_json::to_string_pretty(value).map_err(|error| error.to_string())
}

fn known(store: &Store, name: &str) -> Result<Image, String> {
    store.find(name)?.ok_or_else(|| missing(name))
}

fn missing(name: &str) -> String {
    format!("no image {name}: podinit image list tells those that are there")
}

fn tag(store: &Store, names: &[String]) -> Result<(), String> {
    let [name, new] = names else { return Ok(()) };
    if !store.tag(name, new)? {
        return Err(missing(name));
    }
    println!("{}", Reference::parse(new)?);
    Ok(())
}

fn prune(store: &Store) -> Result<(), String> {
    let (count, bytes) = store.prune()?;
    println!("removed {count} files, {}", size(bytes));
    Ok(())
}

/// Writes beside the file first: what was there before stays until all is written.
fn save(store: &Store, names: &[String]) -> Result<(), String> {
    let [name, file] = names else { return Ok(()) };
    let image = known(store, name)?;
    if file == "-" {
        let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
        return export::export(store, &image, &mut out).map(drop);
    }
    let part = format!("{file}.part");
    let text = |error: io::Error| format!("{file}: {error}");
    let out = File::create(&part).map_err(text)?;
    let mut out = BufWriter::with_capacity(1 << 16, out);
    let done = export::export(store, &image, &mut out).and_then(|digest| {
        out.into_inner().map_err(|error| text(error.into_error()))?.sync_all().map_err(text)?;
        fs::rename(&part, file).map_err(text)?;
        Ok(digest)
    });
    match done {
        Ok(digest) => println!("{}@{digest}", image.reference),
        Err(why) => {
            let _ = fs::remove_file(&part);
            return Err(why);
        }
    }
    Ok(())
}

fn verify(store: &Store, names: &[String]) -> Result<(), String> {
    let names = if names.is_empty() { store.names()? } else { names.to_vec() };
    let mut damaged = 0;
    for name in &names {
        let damage = store.verify(name)?;
        damaged += usize::from(!damage.is_empty());
        match damage.as_slice() {
            [] => println!("{name}: ok"),
            damage => damage.iter().for_each(|what| println!("{name}: {what}")),
        }
    }
    if damaged > 0 { Err(format!("{damaged} of {} images damaged", names.len())) } else { Ok(()) }
}

fn repair(store: &Store, names: &[String], from: Option<PathBuf>) -> Result<(), String> {
    let source = from.map(Store::open).or_else(|| store.behind().next());
    // What lies behind the store cannot be written.
    let store = store.own();
    let names = if names.is_empty() { store.names()? } else { names.to_vec() };
    let mut broken = 0;
    for name in &names {
        let (told, whole) = store.repair(name, source.as_ref())?;
        broken += usize::from(!whole);
        match told.as_slice() {
            [] => println!("{name}: ok"),
            told => told.iter().for_each(|what| println!("{name}: {what}")),
        }
    }
    if broken > 0 { Err(format!("{broken} of {} images are not whole", names.len())) } else { Ok(()) }
}

fn remove(store: &Store, names: &[String]) -> Result<(), String> {
    for name in names {
        if !store.remove(name)? {
            return Err(missing(name));
        }
        println!("removed {}", Reference::parse(name)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        let table = [(0, "0B"), (999, "999B"), (1000, "1.00kB"), (12_345, "12.3kB"), (187_600_000, "188MB")];
        for (bytes, text) in table {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(size(999_999), "1.00MB");
        assert_eq!(size(5_000_000_000_000), "5000GB");
    }

    #[test]
    fn what_is_not_understood_is_status_2() {
        let nowhere = Path::new("/nonexistent/images");
        let run = |args: &[&str]| run(&args.iter().map(|arg| arg.to_string()).collect::<Vec<_>>(), nowhere);
        for args in [
            &[][..],
            &["frob"],
            &["import"],
            &["list", "x"],
            &["list", "--frob"],
            &["import", "a", "--platform", "x"],
            &["pull"],
            &["pull", "a", "b"],
            &["pull", "a", "--creds", "user"],
            &["tag", "a"],
            &["export", "a"],
            &["prune", "a"],
            &["list", "-o", "yaml"],
        ] {
            assert_eq!(run(args), 2, "{args:?}");
        }
        assert_eq!(run(&["list"]), 0);
        assert_eq!(run(&["inspect", "nginx"]), 1);
    }
}
