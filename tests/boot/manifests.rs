//! The manifest directory of a running board: what is put there, changed, broken, mended, renamed and removed.

use crate::pods::{controlled, ctl, named, one, phase, pods};
use crate::qemu::Board;

/// In the manifest directory.
fn there(board: &mut Board, script: &str) -> usize {
    let mark = board.mark();
    let answer = ctl(board, &format!("cd /host/etc/kubernetes/manifests; {script}"));
    assert_eq!(answer, "");
    mark
}

fn uid(board: &mut Board, name: &str) -> String {
    named(&pods(board, |_| true), name).metadata.uid.clone().expect("a uid")
}

#[test]
fn manifests_come_change_break_and_go() {
    let web = |text: &str| one("web", "Always", &format!("echo {text}; exec sleep 1000"));
    let wait = "exec sleep 1000";
    let json = r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "json"},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [{"name": "main", "image": "podinit.dev/demo:1"}]}}"#;
    let json = json.replace("\"image\"", "\"args\": [\"-p\", \"9003\"], \"image\"");
    let mut board = controlled()
        .manifest(".web1", &web("v1"))
        .manifest(".web2", &web("v2"))
        .manifest(".web3", &web("v3"))
        .manifest(".many", &(one("first", "Always", wait) + &one("second", "Always", wait)))
        .manifest(".json", &json)
        .manifest(".slow", &one("slow", "Always", wait))
        .manifest(".typo", &one("typo", "Always", wait).replace("GracePeriodSeconds", "GracePeriodSecond"))
        .manifest(".last", &one("last", "Always", wait))
        .manifest("web.yaml~", &one("backup", "Always", wait))
        .boot();
    let board = &mut board;
    board.wait_for("ctl-podinit/ctl: started");
    board.wait_for("web.yaml~: looks like an editor's backup");

    // New: JSON, YAML, and several documents of a file.
    let mark = there(board, "cp .json json; cp .many many.yaml; cp .web1 .t; mv .t web.yaml");
    for name in ["json", "first", "second", "web"] {
        board.wait_from(mark, &format!("{name}-podinit/main: started"));
    }
    let first = uid(board, "web");

    // Touched, or only a comment more: nothing happens.
    let mark = there(
        board,
        "touch web.yaml; (echo \"# comment\"; cat .web1) >.t; mv .t web.yaml; cp .last last.yaml",
    );
    board.wait_from(mark, "last-podinit/main: started");
    assert_eq!(uid(board, "web"), first);
    assert!(!board.console()[mark..].contains("default/web-podinit"), "a comment touched the pod");

    // Changed: replaced, as soon as the old one is gone.
    let mark = there(board, "cp .web2 .t; mv .t web.yaml");
    board.wait_from(mark, "web-podinit: stopping: its manifest was changed");
    let (gone, _) = board.wait_from(mark, "web-podinit: gone");
    let (_, started) = board.wait_from(mark, "web-podinit/main: started");
    assert!(board.console()[gone..].contains(&started), "the new one started before the old one was gone");
    board.ask_until("logs web", |said| said.lines().any(|line| line == "v2"));
    let second = uid(board, "web");
    assert_ne!(first, second);

    // Broken: the last good one runs on, and it is told where and what.
    let mark = there(board, "busybox sed s/Always/Sometimes/ .web1 >.t; mv .t web.yaml");
    let (_, line) = board.wait_from(mark, "web.yaml:5: spec.restartPolicy: ");
    assert!(line.contains("Sometimes"), "{line}");
    let problems = board.ask("get problems");
    let told = problems.lines().find(|line| line.starts_with("web.yaml:5")).unwrap_or_default();
    assert!(told.contains("Refused") && told.contains("spec.restartPolicy"), "{problems}");
    let events = board.ask("get events");
    assert!(events.contains("web.yaml:5") && events.contains("spec.restartPolicy"), "{events}");
    assert_eq!(uid(board, "web"), second);
    let mark = there(board, "cp .web2 .t; mv .t web.yaml");
    board.wait_from(mark, "web.yaml: no problems any more");
    assert_eq!(uid(board, "web"), second);

    // Written slowly: in place over the old one, which runs until the new one is whole, and as a new file.
    let mark = there(board, "(busybox head -c 70 .web3; sleep 2; busybox tail -c +71 .web3) >web.yaml");
    board.wait_from(mark, "web-podinit/main: started");
    board.ask_until("logs web", |said| said.lines().any(|line| line == "v3"));
    assert_eq!(board.console()[mark..].matches("web-podinit: stopping").count(), 1);
    let mark = there(board, "(busybox head -c 70 .slow; sleep 2; busybox tail -c +71 .slow) >slow.yaml");
    board.wait_from(mark, "slow-podinit/main: started");
    assert_eq!(board.console()[mark..].matches("slow-podinit: admitted").count(), 1);

    // A typo is a warning, and the pod runs.
    let mark = there(board, "cp .typo typo.yaml");
    let (_, line) = board.wait_from(mark, "typo.yaml:6: spec.terminationGracePeriodSecond: ");
    assert!(line.contains("terminationGracePeriodSeconds"), "{line}");
    board.wait_from(mark, "typo-podinit/main: started");

    // A second pod of the same name is refused, whichever file comes first in the alphabet.
    let third = uid(board, "web");
    let mark = there(board, "cp .web1 zebra.yaml");
    let (_, line) = board.wait_from(mark, "zebra.yaml:");
    assert!(line.contains("web.yaml"), "{line}");
    assert_eq!(uid(board, "web"), third);
    there(board, "rm zebra.yaml");
    board.wait_from(mark, "zebra.yaml: no problems any more");

    // Renamed, moved to a dotfile, removed.
    let mark = there(board, "mv web.yaml other.yaml");
    board.wait_from(mark, "web-podinit: gone");
    board.wait_from(mark, "web-podinit: admitted from other.yaml");
    board.wait_from(mark, "web-podinit/main: started");
    let mark = there(board, "mv other.yaml .other.yaml; rm many.yaml json");
    for name in ["web", "first", "second", "json"] {
        board.wait_from(mark, &format!("{name}-podinit: stopping: its manifest is gone"));
        board.wait_from(mark, &format!("{name}-podinit: gone"));
    }
    let left = pods(board, |_| true);
    let names: Vec<_> = left.iter().filter_map(|pod| pod.metadata.name.as_deref()).collect();
    assert_eq!(names, ["ctl-podinit", "last-podinit", "slow-podinit", "typo-podinit"]);
    assert_eq!(phase(&left, "last"), "Running");
}
