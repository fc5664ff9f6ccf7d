//! Requests and limits to QoS class, cgroup values and oom_score_adj.

use sha2::{Digest, Sha256};

use super::spec::Pod;

/// STUB of this branch: the real one comes from another branch.
pub fn container_id(uid: &str, name: &str, run: u32) -> String {
    let digest = Sha256::digest(format!("{uid}/{name}/{run}"));
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// STUB of this branch.
pub fn qos(_pod: &Pod) -> &'static str {
    "BestEffort"
}
