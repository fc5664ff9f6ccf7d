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

/// The run of which this is a log, rotated or not.
fn run_of(name: &str) -> Option<u32> {
    let (digits, rest) = name.split_once('.')?;
    let ours = rest == "log" || rest.starts_with("log.");
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    (ours && plain).then(|| digits.parse().ok()).flatten().filter(|number| *number < RUNS)
}

/// The number of the next run by the names of the logs that are there: one more than the greatest, or 0.
pub fn next_run<'a>(names: impl IntoIterator<Item = &'a str>) -> u32 {
    names.into_iter().filter_map(run_of).max().map_or(0, |run| run.saturating_add(1))
}

/// The logs that go when this run begins, each with its run: as with the kubelet (MaxPerPodContainer 1) one ended run's
/// stay, those of `previous`; where it is not known, those of the newest run that left any. A start that came to no
/// container is not one.
pub fn outlived<'a>(names: &[&'a str], run: u32, previous: Option<u32>) -> Vec<(u32, &'a str)> {
    let logs = || names.iter().filter_map(|name| Some((run_of(name)?, *name)));
    let newest = || logs().map(|(number, _)| number).filter(|number| *number < run).max();
    let Some(kept) = previous.or_else(newest) else { return Vec::new() };
    logs().filter(|(number, _)| *number < run && *number != kept).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i7_names() {
        let dir = pod_dir(Path::new("/var/log/pods"), "default", "web", "u1");
        assert_eq!(log(&dir, "c", 3), Path::new("/var/log/pods/default_web_u1/c/3.log"));
        let root = Path::new("/var/log/containers");
        assert_eq!(link(root, "p", "n", "c", "id"), Path::new("/var/log/containers/p_n_c-id.log"));
        let long = link(root, &"p".repeat(200), "n", "c", &"1".repeat(80));
        let name = long.file_name().unwrap().to_str().unwrap();
        assert_eq!((name.len(), name.ends_with("1.log")), (255, true));
    }

    #[test]
    fn e14_runs_counted_by_logs() {
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
                    "2.log",
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
    /// The kubelet's container GC (kuberuntime_gc_test.go), as far as logs tell of containers that have ended.
    #[test]
    fn i8_one_ended_run_keeps_its_logs() {
        // What is there, the run that begins, the one before it as far as it is known; what goes.
        type Row<'a> = (&'a [&'a str], u32, Option<u32>, &'a [&'a str]);
        let table: [Row; 16] = [
            (&[], 0, None, &[]),
            (&["0.log"], 0, None, &[]),
            (&["0.log"], 1, Some(0), &[]),
            (&["0.log", "1.log"], 2, Some(1), &["0.log"]),
            (&["2.log", "0.log", "1.log", "3.log"], 3, Some(2), &["0.log", "1.log"]),
            // The rotated ones of a run go and stay with it; one that was not packed to its end is its too.
            (
                &["0.log.20260101-000000.gz", "0.log.20260101-000001.tmp", "1.log", "1.log.20260101-000002"],
                2,
                Some(1),
                &["0.log.20260101-000000.gz", "0.log.20260101-000001.tmp"],
            ),
            // Starts that came to no container are not the run before.
            (&["0.log", "1.log", "2.log", "3.log"], 4, Some(1), &["0.log", "2.log", "3.log"]),
            (&["1.log"], 4, Some(3), &["1.log"]),
            // By number, not by letter.
            (&["9.log", "10.log", "11.log"], 12, Some(11), &["9.log", "10.log"]),
            // After a boot no run before is known, but its log is there.
            (&["4.log", "5.log"], 6, None, &["4.log"]),
            (&["4.log", "5.log", "6.log"], 6, None, &["4.log"]),
            (&["6.log", "7.log"], 6, None, &[]),
            // Whatever the facts say, nothing of this run and of later ones.
            (&["2.log", "3.log", "4.log"], 3, Some(9), &["2.log"]),
            (&["3.log"], 3, Some(3), &[]),
            // What is no log of ours stays.
            (&["a.log", "-1.log", "0", "0.txt", "0log", "x0.log", "3000000000.log"], 9, Some(8), &[]),
            (&["0.log", "core", "0.logs"], 9, Some(8), &["0.log"]),
        ];
        for (names, run, previous, expected) in table {
            let gone: Vec<_> = outlived(names, run, previous).into_iter().map(|(_, name)| name).collect();
            assert_eq!(gone, expected, "{names:?} {run} {previous:?}");
        }
    }
}
