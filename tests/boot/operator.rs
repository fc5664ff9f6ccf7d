//! The operator at the serial console: what is asked there is answered in kubectl's words, truthfully.

use crate::pods::{controlled, named, one, pods, status};

#[test]
fn the_operator_is_answered_truthfully() {
    let mut board = controlled()
        .manifest("web.yaml", &one("web", "Always", "echo hello; exec sleep 1000"))
        .manifest("job.yaml", &one("job", "Never", "exit 4"))
        .boot();
    let board = &mut board;
    let (_, line) = board.wait_from(0, "web-podinit/main: started, pid ");
    let pid = line.rsplit(' ').next().expect("a pid").to_owned();
    board.wait_for("ctl-podinit/ctl: started");
    board.wait_for("job-podinit/main: exited with code 4");

    let all = pods(board, |pods| status(pods, "web", "main").ready);
    let web = named(&all, "web");
    let state = web.status.as_ref().expect("a status");
    assert_eq!(web.metadata.namespace.as_deref(), Some("default"));
    assert_eq!(web.spec.as_ref().and_then(|spec| spec.node_name.as_deref()), Some("podinit"));
    assert!(state.start_time.is_some() && web.metadata.creation_timestamp.is_some());
    let notes = web.metadata.annotations.clone().unwrap_or_default();
    assert_eq!(notes.get("kubernetes.io/config.source").map(String::as_str), Some("file"));
    assert_eq!(notes.get("kubernetes.io/config.hash"), web.metadata.uid.as_ref());
    let main = status(&all, "web", "main");
    assert!(main.started == Some(true) && main.image == "podinit.dev/demo:1", "{main:?}");
    assert!(main.image_id.contains("sha256:"), "{main:?}");
    assert!(main.state.as_ref().and_then(|state| state.running.as_ref()).is_some());
    let conditions: Vec<_> = state.conditions.iter().flatten().collect();
    let condition = |pod: &[&k8s_openapi::api::core::v1::PodCondition], kind: &str| {
        pod.iter().find(|one| one.type_ == kind).map(|one| one.status.clone()).unwrap_or_default()
    };
    for kind in ["Initialized", "Ready", "ContainersReady", "PodScheduled"] {
        assert_eq!(condition(&conditions, kind), "True", "{kind}");
    }
    let job = named(&all, "job").status.as_ref().expect("a status");
    assert_eq!(job.phase.as_deref(), Some("Failed"));
    assert_eq!(condition(&job.conditions.iter().flatten().collect::<Vec<_>>(), "Ready"), "False");
    let own = named(&all, "ctl").status.as_ref().expect("a status");
    assert_eq!(own.pod_ip, own.host_ip);

    let wide = board.ask_until("get pods -o wide", |text| text.contains("10.0.2.15"));
    let line = |text: &str, name: &str| {
        text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{text}")).to_owned()
    };
    let words = |line: String| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(line(&wide, "NAME"))[..7], ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE"]);
    assert_eq!(words(line(&wide, "web-podinit"))[1..4], ["1/1", "Running", "0"]);
    assert_eq!(words(line(&wide, "job-podinit"))[1..4], ["0/1", "Error", "0"]);
    let names = board.ask("get pods -o name");
    assert_eq!(names.lines().collect::<Vec<_>>(), ["pod/ctl-podinit", "pod/job-podinit", "pod/web-podinit"]);
    let yaml = board.ask("get pod web -o yaml");
    for part in ["kind: Pod", "  name: web-podinit", "  phase: Running"] {
        assert!(yaml.contains(part), "{part:?}: {yaml}");
    }
    let described = board.ask("describe pod web");
    for part in
        ["Name:", "web-podinit", "Status:", "Running", "podinit.dev/demo:1", "Restart Count:", "Started"]
    {
        assert!(described.contains(part), "{part:?}: {described}");
    }
    let events = board.ask("get events");
    for part in ["Pulled", "Created", "Started", "pod/web-podinit"] {
        assert!(events.contains(part), "{part:?}: {events}");
    }
    assert!(board.ask("get pods nobody").contains("\"nobody\" not found"));

    // Commands in containers.
    assert!(board.ask("exec web -- sh -c 'exit 7'").contains("exit code 7"));
    assert!(board.ask("exec web -- nothing").contains("nothing"));
    assert!(!board.ask("exec web -- sh -c 'exit 0'").contains("exit code"));
    assert!(board.ask("exec job -- sh").to_lowercase().contains("error"));
    let prompt = board.prompt();
    let mark = prompt.say("exec -i web -- cat");
    prompt.keys("typed\r");
    let mark = prompt.wait_from(mark, "typed\r\ntyped\r\n");
    prompt.keys("\x04");
    prompt.wait_from(mark, "podinit> ");
    let mark = prompt.say("exec -it web -- sh");
    prompt.wait_from(mark, "# ");
    prompt.keys("busybox tty; echo $((6 * 7)); exit 3\r");
    let mark = prompt.wait_from(mark, "/dev/pts/0");
    let mark = prompt.wait_from(mark, "42");
    let mark = prompt.wait_from(mark, "exit code 3");
    prompt.wait_from(mark, "podinit> ");

    let signals = crate::pods::inside(board, "web", "busybox grep -E 'SigBlk|SigIgn' /proc/1/status");
    assert_eq!(signals.matches("0000000000000000").count(), 2, "{signals}");

    // The pid that the console told is that of the container's first process.
    let command = format!("busybox tr '\\0' ' ' </host/proc/{pid}/cmdline");
    assert_eq!(crate::pods::ctl(board, &command), "sleep 1000");
}
