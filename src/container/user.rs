//! Whom a container runs as: its securityContext, else the image's USER, to numbers by its own /etc/passwd and
//! /etc/group.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::Mode;

use crate::pod::facts::StartError;
use crate::pod::spec::{PodSecurity, Security};

/// Whom a process runs as.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    /// The primary group first, then those of which the user is a member (supplementalGroupsPolicy Merge), then the
    /// pod's fsGroup and supplementalGroups.
    pub groups: Vec<u32>,
    /// From passwd; `/` where the user has no entry.
    pub home: String,
}

/// A passwd or group file larger than this is refused: PID 1 reads it.
const LARGEST: u64 = 4 << 20;

/// `image_user` as in an image config: empty, `user`, `uid`, `user:group`, `uid:gid` and mixtures
/// (OCI image specification, config.md, `User`). Names must exist; ids need not. runAsUser replaces the image's user
/// together with its group, runAsGroup the group alone.
pub fn resolve(
    rootfs: &Path,
    image_user: &str,
    security: &Security,
    pod: &PodSecurity,
) -> Result<User, StartError> {
    let passwd = read(rootfs, "etc/passwd").map_err(|why| failed(rootfs, "/etc/passwd", &why))?;
    let group = read(rootfs, "etc/group").map_err(|why| failed(rootfs, "/etc/group", &why))?;
    let found = look_up(&passwd, &group, &wanted(image_user, security));
    let mut user = found.map_err(|message| StartError {
        reason: "CreateContainerError".into(),
        message,
        ours: false,
    })?;
    if pod.strict_groups {
        user.groups = vec![user.gid];
    }
    for group in pod.fs_group.iter().chain(&pod.groups) {
        if !user.groups.contains(group) {
            user.groups.push(*group);
        }
    }
    Ok(user)
}

fn wanted(image_user: &str, security: &Security) -> String {
    let (name, group) = match security.user {
        Some(uid) => (uid.to_string(), None),
        None => match image_user.split_once(':') {
            Some((name, group)) => (name.to_owned(), Some(group.to_owned())),
            None => (image_user.to_owned(), None),
        },
    };
    match security.group.map(|gid| gid.to_string()).or(group) {
        Some(group) => format!("{name}:{group}"),
        None => name,
    }
}

fn failed(rootfs: &Path, file: &str, why: &io::Error) -> StartError {
    let message = format!("read {file} of {}: {why}", rootfs.display());
    StartError { reason: "CreateContainerError".into(), message, ours: false }
}

fn look_up(passwd: &str, group: &str, user: &str) -> Result<User, String> {
    let (name, group_name) = match user.split_once(':') {
        Some((name, group_name)) => (name, Some(group_name)),
        None => (user, None),
    };
    // containerd asks for the groups of root where the image names nobody.
    let name = if name.is_empty() { "0" } else { name };

    let known = match number(name) {
        Some(uid) => people(passwd).find(|person| person.uid == uid),
        None => {
            let found = people(passwd).find(|person| person.name == name);
            Some(found.ok_or_else(|| format!("unable to find user {name:?}: no such entry in /etc/passwd"))?)
        }
    };
    let uid = known.as_ref().map_or_else(|| number(name).unwrap_or(0), |person| person.uid);
    let gid = match group_name {
        None | Some("") => known.as_ref().map_or(0, |person| person.gid),
        Some(wanted) => match number(wanted) {
            Some(gid) => gid,
            None => groups(group)
                .find(|entry| entry.name == wanted)
                .map(|entry| entry.gid)
                .ok_or_else(|| format!("unable to find group {wanted:?}: no such entry in /etc/group"))?,
        },
    };
    let mut list = vec![gid];
    if let Some(person) = &known {
        for entry in groups(group).filter(|entry| entry.name != person.name) {
            if entry.members.split(',').any(|member| member == person.name) && !list.contains(&entry.gid) {
                list.push(entry.gid);
            }
        }
    }
    let home = known.map(|person| person.home).filter(|home| home.starts_with('/')).unwrap_or("/");
    Ok(User { uid, gid, groups: list, home: home.into() })
}

/// An id of 0..2^31-1; anything else is a name.
fn number(text: &str) -> Option<u32> {
    text.parse::<i32>().ok().and_then(|id| u32::try_from(id).ok())
}

struct Person<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

/// passwd(5); lines that do not read are skipped, as every C library does.
fn people(passwd: &str) -> impl Iterator<Item = Person<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let uid = number(fields.nth(1)?)?;
        let gid = number(fields.next()?)?;
        Some(Person { name, uid, gid, home: fields.nth(1).unwrap_or("") })
    })
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

/// group(5).
fn groups(group: &str) -> impl Iterator<Item = Group<'_>> {
    group.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let gid = number(fields.nth(1)?)?;
        Some(Group { name, gid, members: fields.next().unwrap_or("") })
    })
}

/// The text of a file inside the rootfs; empty where there is none. No symlink leads out of the rootfs, and what is
/// not a regular file is refused: a fifo would hold up PID 1 for ever.
fn read(rootfs: &Path, path: &str) -> io::Result<String> {
    let root: OwnedFd = open(rootfs, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let file = match openat2(&root, path, how) {
        Ok(fd) => File::from(fd),
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(String::new()),
        Err(error) => return Err(error.into()),
    };
    let about = file.metadata()?;
    if !about.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    if about.len() > LARGEST {
        return Err(io::Error::other(format!("{} bytes are too many", about.len())));
    }
    let mut bytes = Vec::new();
    file.take(LARGEST).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n# comment\nbroken\nbin:x:1:1::/bin:\n\
                          www:x:33:34:web:/var/www:/sbin/nologin\nodd:x:44:44\nnohome:x:45:45::\n";
    const GROUP: &str = "root:x:0:root\nbin:x:1:root,bin\nwww:x:34:www\nssl:x:70:www,nohome\nssl2:x:70:www\nwww2:x:71:x,www\n";

    #[test]
    fn users_and_groups_are_found() {
        let user = |uid, gid, groups: &[u32], home: &str| User {
            uid,
            gid,
            groups: groups.into(),
            home: home.into(),
        };
        let table = [
            ("", user(0, 0, &[0, 1], "/root")),
            ("root", user(0, 0, &[0, 1], "/root")),
            ("0", user(0, 0, &[0, 1], "/root")),
            ("www", user(33, 34, &[34, 70, 71], "/var/www")),
            ("33", user(33, 34, &[34, 70, 71], "/var/www")),
            ("www:bin", user(33, 1, &[1, 70, 71], "/var/www")),
            ("www:9", user(33, 9, &[9, 70, 71], "/var/www")),
            ("www:", user(33, 34, &[34, 70, 71], "/var/www")),
            (":9", user(0, 9, &[9, 1], "/root")),
            ("1000", user(1000, 0, &[0], "/")),
            ("1000:1001", user(1000, 1001, &[1001], "/")),
            ("odd", user(44, 44, &[44], "/")),
            ("nohome", user(45, 45, &[45, 70], "/")),
        ];
        for (name, wanted) in table {
            assert_eq!(look_up(PASSWD, GROUP, name), Ok(wanted), "{name}");
        }
        for (name, word) in
            [("nobody", "user \"nobody\""), ("-1", "user \"-1\""), ("www:none", "group \"none\"")]
        {
            let error = look_up(PASSWD, GROUP, name).expect_err(name);
            assert!(error.contains(word), "{error}");
        }
        assert_eq!(look_up("", "", "7"), Ok(user(7, 0, &[0], "/")));
        assert_eq!(look_up("", "", ""), Ok(user(0, 0, &[0], "/")));
    }

    /// behaviour 7: runAsUser, runAsGroup, supplementalGroups, fsGroup and supplementalGroupsPolicy.
    #[test]
    fn the_security_context_comes_before_the_image() {
        let dir = std::env::temp_dir().join(format!("podinit-who-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("etc")).expect("make");
        std::fs::write(dir.join("etc/passwd"), PASSWD).expect("write");
        std::fs::write(dir.join("etc/group"), GROUP).expect("write");
        type Row<'a> = (&'a str, Option<u32>, Option<u32>, u32, u32, &'a [u32], &'a [u32]);
        let table: &[Row] = &[
            ("www", None, None, 33, 34, &[34, 70, 71, 500, 60], &[34, 500, 60, 70]),
            ("www:bin", None, None, 33, 1, &[1, 70, 71, 500, 60], &[1, 500, 60, 70]),
            ("www:bin", None, Some(9), 33, 9, &[9, 70, 71, 500, 60], &[9, 500, 60, 70]),
            ("www:bin", Some(1000), None, 1000, 0, &[0, 500, 60, 70], &[0, 500, 60, 70]),
            ("www", Some(1000), Some(500), 1000, 500, &[500, 60, 70], &[500, 60, 70]),
            ("", Some(33), None, 33, 34, &[34, 70, 71, 500, 60], &[34, 500, 60, 70]),
            ("", None, Some(5), 0, 5, &[5, 1, 500, 60, 70], &[5, 500, 60, 70]),
            ("www", Some(0), None, 0, 0, &[0, 1, 500, 60, 70], &[0, 500, 60, 70]),
        ];
        for (image, user, group, uid, gid, merged, strict) in table {
            let security = Security { user: *user, group: *group, ..Security::default() };
            for (strict_groups, groups) in [(false, merged), (true, strict)] {
                let pod = PodSecurity {
                    fs_group: Some(500),
                    groups: vec![60, 70, 60],
                    strict_groups,
                    ..PodSecurity::default()
                };
                let found = resolve(&dir, image, &security, &pod).expect("resolve");
                let about = format!("{image:?} {user:?} {group:?}, strict {strict_groups}");
                assert_eq!((found.uid, found.gid, found.groups.as_slice()), (*uid, *gid, *groups), "{about}");
            }
        }
        std::fs::remove_dir_all(&dir).expect("remove");
    }

    #[test]
    fn no_symlink_escapes_and_no_fifo_blocks() {
        let dir = std::env::temp_dir().join(format!("podinit-user-{}", std::process::id()));
        let rootfs = dir.join("rootfs");
        std::fs::create_dir_all(rootfs.join("etc")).expect("make rootfs");
        std::fs::write(dir.join("passwd"), "evil:x:6:6::/:\n").expect("write");
        symlink("../../../passwd", rootfs.join("etc/passwd")).expect("link");
        // The link's `..` stop at the rootfs: there is no such file in it.
        let resolve = |user: &str| resolve(&rootfs, user, &Security::default(), &PodSecurity::default());
        assert_eq!(resolve("6").expect("resolve").gid, 0);
        std::fs::write(rootfs.join("passwd"), "good:x:6:66::/g:\n").expect("write");
        assert_eq!(resolve("good").expect("resolve").gid, 66);

        nix::unistd::mkfifo(&rootfs.join("etc/group"), Mode::S_IRWXU).expect("fifo");
        let error = resolve("good").expect_err("a fifo was read");
        assert!(
            error.message.contains("not a regular file") && error.message.contains("/etc/group"),
            "{error:?}"
        );
        std::fs::remove_dir_all(&dir).expect("remove");
    }
}
