//! Where a container's log lies, as the kubelet lays it out.

use std::path::{Path, PathBuf};

/// The longest name of a link in bytes, without its `.log`: with it the kernel's 255.
const LINK: usize = 251;

/// The directory of a pod's logs: `<pod_logs>/<namespace>_<name>_<uid>`.
pub fn pod_dir(pod_logs: &Path, namespace: &str, name: &str, uid: &str) -> PathBuf {
    pod_logs.join(format!("{namespace}_{name}_{uid}"))
}

/// The log of one run of a container below `pod_dir`: `<container>/<run>.log`.
pub fn log(pod_dir: &Path, container: &str, run: u32) -> PathBuf {
    pod_dir.join(container).join(format!("{run}.log"))
}

/// The link to it among all containers' logs: `<pod>_<namespace>_<container>-<id>.log`.
pub fn link(container_logs: &Path, pod: &str, namespace: &str, container: &str, id: &str) -> PathBuf {
    let mut name = format!("{pod}_{namespace}_{container}-{id}");
    let end = (0..=LINK.min(name.len())).rev().find(|&end| name.is_char_boundary(end)).unwrap_or(0);
    name.truncate(end);
    container_logs.join(name + ".log")
}

/// Beyond any number of runs: a log of such a number is not ours, and nothing could be counted on from it.
const RUNS: u32 = i32::MAX as u32;

/// The number of the next run by the names of the logs that are there: one more than the greatest, or 0.
pub fn next_run<'a>(names: impl IntoIterator<Item = &'a str>) -> u32 {
    let number = |name: &str| -> Option<u32> {
        let (digits, rest) = name.split_once('.')?;
        let ours = rest == "log" || rest.starts_with("log.");
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        (ours && plain).then(|| digits.parse().ok()).flatten().filter(|number| *number < RUNS)
    };
    names.into_iter().filter_map(number).max().map_or(0, |run| run.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let dir = pod_dir(Path::new("/var/log/pods"), "default", "web", "u1");
        assert_eq!(log(&dir, "c", 3), Path::new("/var/log/pods/default_web_u1/c/3.log"));
        let root = Path::new("/var/log/containers");
        assert_eq!(link(root, "p", "n", "c", "id"), Path::new("/var/log/containers/p_n_c-id.log"));
        let long = link(root, &"p".repeat(200), "n", "c", &"1".repeat(80));
        let name = long.file_name().unwrap().to_str().unwrap();
        assert_eq!((name.len(), name.ends_with("1.log")), (255, true));
    }

    #[test]
    fn runs_counted_by_logs() {
        let table: [(&[&str], u32); 13] = [
            (&["0.log.rotated-log"], 1),
            (&["0.log"], 1),
            (&["0.log", "1.log", "2.log"], 3),
            (&["0.log.rotated", "1.log", "2.log"], 3),
            (&["5.log.rotated", "6.log.rotated"], 7),
            (&["5.log.rotated", "6.log", "7.log"], 8),
            (&[], 0),
            (&["a.log.rotated", "b.log.rotated", "12log.rotated"], 0),
            (&["145.log.log.rotated"], 146),
            (&["92233720368547758089223372036854775808.log.rotated"], 0),
            (
                &[
                    "9223372036854775808.log.rotated",
                    "23.log",
                    "23a.log",
                    "1aaa.log.rotated",
                    "3.log.rotated",
                ],
                24,
            ),
            (&["-42.log"], 0),
            (&["4294967295.log", "2147483647.log", "7.log"], 8),
        ];
        for (names, expected) in table {
            assert_eq!(next_run(names.iter().copied()), expected, "{names:?}");
        }
    }
}
