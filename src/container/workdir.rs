//! What libcontainer leaves to its caller: the working directory is made where it is missing, as every other runtime
//! does, and what a mount shows must be there. Its own words for both are "failed to unix syscall".

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{Mode, mkdirat};
use oci_spec::runtime::Spec;

/// For the config.json of this bundle. The directory is made in the volume that holds it, else in the rootfs; owned by
/// root, mode 0755.
pub fn check(bundle: &Path) -> io::Result<()> {
    let spec = Spec::load(bundle.join("config.json")).map_err(io::Error::other)?;
    for mount in spec.mounts().iter().flatten().filter(|mount| mount.typ().as_deref() == Some("bind")) {
        let Some(source) = mount.source() else { continue };
        std::fs::symlink_metadata(source).map_err(|error| {
            let target = mount.destination().display();
            io::Error::new(error.kind(), format!("mount of {} at {target}: {error}", source.display()))
        })?;
    }
    let Some(cwd) = spec.process().as_ref().map(|process| process.cwd()) else { return Ok(()) };
    make(&spec, cwd).map_err(|error| {
        io::Error::new(error.kind(), format!("working directory {}: {error}", cwd.display()))
    })
}

fn make(spec: &Spec, cwd: &Path) -> io::Result<()> {
    let Some(root) = spec.root().as_ref().map(|root| root.path()) else { return Ok(()) };
    if cwd == Path::new("/") {
        return Ok(());
    }
    let volumes = spec.mounts().iter().flatten().filter_map(|mount| {
        let rest = cwd.strip_prefix(mount.destination()).ok()?;
        Some((
            mount.destination().components().count(),
            mount.source().as_deref()?,
            rest,
            mount.typ().as_deref(),
        ))
    });
    match volumes.max_by_key(|(depth, ..)| *depth) {
        Some((_, source, rest, Some("bind"))) => make_in(source, rest),
        // /proc, /dev, ...: nothing to make there.
        Some(_) => Ok(()),
        None => make_in(root, cwd),
    }
}

/// No symlink leads out of `root`. A path with `..` is left to the container's own attempt to enter it.
fn make_in(root: &Path, path: &Path) -> io::Result<()> {
    let mut names = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => names.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return Ok(()),
        }
    }
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let base: OwnedFd = openat2(AT_FDCWD, root, OpenHow::new().flags(flags))?;
    let inside = |path: &Path| {
        let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        openat2(&base, path, OpenHow::new().flags(flags).resolve(resolve))
    };
    let mut reached = Path::new(".").to_path_buf();
    for name in names {
        let parent = inside(&reached)?;
        reached.push(name);
        match inside(&reached) {
            Ok(_) => {}
            Err(Errno::ENOENT) => match mkdirat(&parent, name, Mode::from_bits_truncate(0o755)) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(error) => return Err(error.into()),
            },
            Err(errno) => return Err(errno.into()),
        }
        // A dangling link: EEXIST, and still no directory.
        if inside(&reached).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn it_is_made_inside_and_never_outside() {
        let dir = std::env::temp_dir().join(format!("podinit-workdir-{}", std::process::id()));
        let root = dir.join("root");
        std::fs::create_dir_all(root.join("real")).expect("make");
        symlink("/real", root.join("link")).expect("link");
        symlink("../../../outside", root.join("up")).expect("link");
        symlink("/nowhere", root.join("dangling")).expect("link");
        std::fs::write(root.join("file"), "").expect("write");
        for path in ["/a/b/c", "/link/d", "/up", "/up/e", "/dangling/f", "/x/../y", "/a/b/c"] {
            make_in(&root, Path::new(path)).expect(path);
        }
        let error = make_in(&root, Path::new("/file/g")).expect_err("a file was entered");
        assert_eq!(error.kind(), io::ErrorKind::NotADirectory);
        assert!(root.join("a/b/c").is_dir() && root.join("real/d").is_dir());
        assert!(!dir.join("outside").exists() && !root.join("x").exists() && !root.join("nowhere").exists());
        std::fs::remove_dir_all(&dir).expect("remove");
    }
}
