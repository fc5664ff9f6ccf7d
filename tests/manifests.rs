//! Real-looking manifests: each in `good/` yields pods, each in `refused/` has a document that is refused, and both
//! say what the `.expect` file beside them lists.
//!
//! An `.expect` file holds a line `pods: namespace/name ...`, if there are any, one `configs: ...` likewise, and then one problem a line, as
//! podinit prints it. `PODINIT_EXPECT=write cargo test --test manifests` writes them anew: read the diff.

use std::fs;
use std::path::{Path, PathBuf};

use podinit::manifest::{Parsed, parse};

fn manifests(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/manifests").join(folder);
    let entries = fs::read_dir(&folder).expect("no such folder");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("cannot list").path()).collect();
    paths.retain(|path| path.extension().is_none_or(|end| end != "expect"));
    paths.sort();
    assert!(paths.len() > 10, "{} holds too few manifests", folder.display());
    paths
}

/// What a manifest says, and whether any of its documents was refused.
fn said(path: &Path) -> (String, usize, bool) {
    let file = path.file_name().and_then(|name| name.to_str()).expect("a plain name");
    let text = fs::read(path).expect("cannot read a manifest");
    let Parsed { pods, configs, jobs, crons, problems } =
        parse(&text, file, &format!("/etc/kubernetes/manifests/{file}"), "board1");
    let names: Vec<String> = pods.iter().map(|pod| pod.full_name()).collect();
    let mut said = String::new();
    if !pods.is_empty() {
        said += &format!("pods: {}\n", names.join(" "));
    }
    if !configs.is_empty() {
        let names: Vec<String> =
            configs.iter().map(|config| format!("{}/{}", config.namespace, config.name)).collect();
        said += &format!("configs: {}\n", names.join(" "));
    }
    for job in &jobs {
        said += &format!("job: {} of {}\n", job.full_name(), job.pod.containers[0].image);
    }
    for cron in &crons {
        said += &format!("cron job: {} in {}\n", cron.full_name(), cron.zone.name());
    }
    for problem in &problems {
        assert!(problem.line > 0, "{problem}: no line");
        said += &format!("{}: {problem}\n", if problem.refused { "refused" } else { "warning" });
    }
    (said, pods.len() + jobs.len() + crons.len(), problems.iter().any(|problem| problem.refused))
}

fn compare(path: &Path, said: &str) {
    let expect =
        path.with_file_name(format!("{}.expect", path.file_name().unwrap_or_default().to_string_lossy()));
    if std::env::var_os("PODINIT_EXPECT").is_some() {
        fs::write(&expect, said).expect("cannot write what is expected");
    }
    let expected = fs::read_to_string(&expect).unwrap_or_default();
    assert_eq!(said, expected, "{} (left: said, right: expected)", path.display());
}

#[test]
fn good_manifests_yield_their_pods() {
    for path in manifests("good") {
        let (said, pods, refused) = said(&path);
        assert!(pods > 0 && !refused, "{}:\n{said}", path.display());
        compare(&path, &said);
    }
}

#[test]
fn bad_manifests_are_refused_with_every_reason() {
    for path in manifests("refused") {
        let (said, _, refused) = said(&path);
        assert!(refused, "{}:\n{said}", path.display());
        compare(&path, &said);
    }
}
