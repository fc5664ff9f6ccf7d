//! A board pulls: over its own network, in a cgroup of its kernel's, into its store.

use std::path::Path;

use crate::pods::{controlled, ctl, one, pods, status};
use crate::servers::Registry;

#[test]
fn a_board_pulls_from_a_registry_and_runs_without_it_after_a_boot() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("boot-registry-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let registry = Registry::plain(&folder);
    // qemu's name for this machine's loopback.
    let server = format!("10.0.2.2:{}", registry.port);
    let config = format!(
        "apiVersion: podinit.dev/v1alpha1\nkind: MachineConfiguration\nregistries:\n- host: {server}\n  insecure: true\n"
    );
    let pod = one("pulled", "Always", "trap 'exit 0' TERM; while :; do sleep 0.2; done")
        .replace("podinit.dev/demo:1", &format!("{server}/demo:1\n    imagePullPolicy: Always"));
    assert!(pod.contains("imagePullPolicy: Always"), "{pod}");
    let mut board = controlled().config(&config).data().manifest("pulled.yaml", &pod).boot();
    board.wait_for("ctl-podinit/ctl: started");
    pods(&mut board, |pods| {
        let state = status(pods, "pulled", "main").state.clone().and_then(|state| state.waiting);
        let reason = state.and_then(|waiting| waiting.reason);
        reason.is_some_and(|reason| reason == "ErrImagePull" || reason == "ImagePullBackOff")
    });
    let archive = format!("oci-archive:{}/build/demo/amd64.tar", env!("CARGO_MANIFEST_DIR"));
    registry.copy(&archive, "demo:1", &[]);
    pods(&mut board, |pods| status(pods, "pulled", "main").ready);
    let told = board.ask("describe pod pulled");
    assert!(told.contains(&format!("Successfully pulled image \"{server}/demo:1\"")), "{told}");
    assert_eq!(ctl(&mut board, "busybox sync; ls /host/sys/fs/cgroup | busybox grep ^pull-"), "");
    // Whom a pull by TLS trusts.
    assert_eq!(
        ctl(&mut board, "busybox test -s /host/etc/ssl/certs/ca-certificates.crt && echo there"),
        "there"
    );

    drop(registry);
    let mut board = board.boot_again();
    board.wait_for("ctl-podinit/ctl: started");
    pods(&mut board, |pods| status(pods, "pulled", "main").ready);
    let told = board.ask("describe pod pulled");
    assert!(told.contains("Failed to pull image"), "{told}");
    std::fs::remove_dir_all(&folder).expect("removed");
}
