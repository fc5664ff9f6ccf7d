//! KubeletConfiguration's fields about the machine: what is reserved, how many pods, how limits are enforced.

use super::fields::number;
use super::{Config, Floor, Reserved, value};

/// Sets one of them; None: it is none.
pub(super) fn kubelet(config: &mut Config, path: &str, text: &str) -> Option<Result<(), String>> {
    let (map, key) = path.split_once('.').unwrap_or((path, ""));
    Some(match (map, key) {
        ("systemReserved", _) => reserved(&mut config.system_reserved, key, text),
        ("kubeReserved", _) => reserved(&mut config.kube_reserved, key, text),
        ("evictionHard", "memory.available") => floor(text).map(|floor| config.eviction_memory = floor),
        ("evictionHard", "nodefs.available") => floor(text).map(|floor| config.eviction_storage = floor),
        ("maxPods", "") => number(text, 1, 1 << 20).map(|most| config.max_pods = most.unsigned_abs()),
        ("podsPerCore", "") => {
            number(text, 0, 1 << 20).map(|most| config.pods_per_core = most.unsigned_abs())
        }
        ("userNamespaces", "idsPerPod") => text
            .parse()
            .ok()
            .filter(|ids: &u32| *ids > 0 && ids.is_multiple_of(65_536))
            .map(|ids| config.ids_per_pod = ids)
            .ok_or_else(|| format!("{text:?}: use a multiple of 65536, less than 4294967296")),
        ("singleProcessOOMKill", "") => value::switch(text).map(|on| config.single_process_oom_kill = on),
        ("cpuCFSQuota", "") => value::switch(text).map(|on| config.cfs_quota = on),
        ("cpuCFSQuotaPeriod", "") => value::duration(text)
            .and_then(|span| match (1..=1000).contains(&span.as_millis()) {
                true => Ok(span),
                false => Err(format!("{text:?}: use 1ms to 1s")),
            })
            .map(|span| config.cfs_period = span),
        (list, "") if list.starts_with("enforceNodeAllocatable[") => match text {
            "pods" | "none" => {
                config.enforce_allocatable = text == "pods";
                Ok(())
            }
            _ => Err(format!("{text:?}: podinit enforces it on pods; use pods or none")),
        },
        (list, "") if list.starts_with("allowedUnsafeSysctls[") => {
            config.allowed_sysctls.push(text.into());
            Ok(())
        }
        _ => return None,
    })
}

fn reserved(reserved: &mut Reserved, key: &str, text: &str) -> Result<(), String> {
    match key {
        "cpu" => value::milli(text).map(|milli| reserved.cpu_milli = milli),
        "memory" => value::bytes(text).map(|bytes| reserved.memory = bytes),
        "ephemeral-storage" => value::bytes(text).map(|bytes| reserved.storage = bytes),
        "pid" => number(text, 0, 1 << 22).map(|pids| reserved.pids = pids.unsigned_abs()),
        _ => Err("use cpu, memory, ephemeral-storage or pid".into()),
    }
}

/// A quantity, or a share of the capacity: `100Mi`, `10%`.
fn floor(text: &str) -> Result<Floor, String> {
    let Some(number) = text.strip_suffix('%') else { return value::bytes(text).map(Floor::Bytes) };
    let share = number.parse::<f64>().ok().filter(|share| (0.0..100.0).contains(share));
    let share =
        share.ok_or_else(|| format!("{text:?} is no share, write it like 10%, or a size like 100Mi"))?;
    Ok(Floor::Share((share * 1000.0) as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn set(path: &str, text: &str) -> Result<Config, String> {
        let mut config = Config::default();
        kubelet(&mut config, path, text).unwrap_or(Err("unknown".into())).map(|()| config)
    }

    #[test]
    fn fields_about_the_machine() {
        assert_eq!(set("systemReserved.cpu", "250m").unwrap().system_reserved.cpu_milli, 250);
        assert_eq!(set("systemReserved.cpu", "1.5").unwrap().system_reserved.cpu_milli, 1500);
        assert_eq!(set("kubeReserved.memory", "64Mi").unwrap().kube_reserved.memory, 64 << 20);
        assert_eq!(set("kubeReserved.ephemeral-storage", "1Gi").unwrap().kube_reserved.storage, 1 << 30);
        assert_eq!(set("kubeReserved.pid", "100").unwrap().kube_reserved.pids, 100);
        let floor = |text| set("evictionHard.memory.available", text).unwrap().eviction_memory;
        assert_eq!((floor("100Mi"), floor("7.5%")), (Floor::Bytes(100 << 20), Floor::Share(7500)));
        assert_eq!(
            set("evictionHard.nodefs.available", "10%").unwrap().eviction_storage,
            Floor::Share(10_000)
        );
        assert_eq!(set("maxPods", "3").unwrap().max_pods, 3);
        assert_eq!(set("userNamespaces.idsPerPod", "131072").unwrap().ids_per_pod, 131_072);
        assert_eq!(set("podsPerCore", "0").unwrap().pods_per_core, 0);
        assert!(set("singleProcessOOMKill", "true").unwrap().single_process_oom_kill);
        assert!(!set("cpuCFSQuota", "false").unwrap().cfs_quota);
        assert_eq!(set("cpuCFSQuotaPeriod", "5ms").unwrap().cfs_period, Duration::from_millis(5));
        assert!(!set("enforceNodeAllocatable[0]", "none").unwrap().enforce_allocatable);
        assert_eq!(set("allowedUnsafeSysctls[0]", "net.*").unwrap().allowed_sysctls, ["net.*"]);
    }

    #[test]
    fn what_cannot_be_is_told() {
        let table = [
            ("systemReserved.gpu", "1", "use cpu, memory, ephemeral-storage or pid"),
            ("systemReserved.cpu", "-1", "\"-1\" is no amount of cpu"),
            ("systemReserved.memory", "1MB", "is no size"),
            ("evictionHard.memory.available", "110%", "is no share"),
            ("maxPods", "0", "is no number from 1"),
            ("userNamespaces.idsPerPod", "65535", "use a multiple of 65536"),
            ("userNamespaces.idsPerPod", "0", "use a multiple of 65536"),
            ("userNamespaces.idsPerPod", "4294967296", "less than 4294967296"),
            ("cpuCFSQuota", "on", "use true or false"),
            ("cpuCFSQuotaPeriod", "2s", "use 1ms to 1s"),
            ("enforceNodeAllocatable[0]", "system-reserved", "use pods or none"),
            ("evictionHard.imagefs.available", "1Gi", "unknown"),
        ];
        for (path, text, part) in table {
            let error = set(path, text).unwrap_err();
            assert!(error.contains(part), "{path}: {error}");
        }
    }
}
