//! Where logs are, by the kubelet's names (pkg/kubelet/kuberuntime/{helpers,legacy}.go).

use std::path::{Path, PathBuf};

/// `<pod's log directory>/<container>/<run>.log`.
pub fn log(pod: &Path, container: &str, run: u32) -> PathBuf {
    pod.join(container).join(format!("{run}.log"))
}

/// The name of the link in the container log directory: at most 255 bytes, the id cut where it does not fit.
pub fn link(pod: &str, namespace: &str, container: &str, id: &str) -> String {
    let mut name = format!("{pod}_{namespace}_{container}-{id}");
    name.truncate((0..=251.min(name.len())).rev().find(|at| name.is_char_boundary(*at)).unwrap_or(0));
    name + ".log"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_cut_at_251_bytes() {
        assert_eq!(link("p", "n", "c", "abc"), "p_n_c-abc.log");
        assert_eq!(link(&"p".repeat(200), "n", "c", &"f".repeat(80)).len(), 255);
    }
}
