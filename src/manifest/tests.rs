//! A document's whole way, identity, and hostile input.

use std::time::Duration;

use super::*;
use crate::pod::spec::{
    Container, EnvValue, EnvVar, HostPathType, Measure, Mount, PullPolicy, ResourceField, Resources,
    RestartPolicy, Volume, VolumeSource,
};

const WEB: &str = "
apiVersion: v1
kind: Pod
metadata:
  name: web
  labels: {app: web}
spec:
  restartPolicy: OnFailure
  terminationGracePeriodSeconds: 5
  initContainers:
  - name: prepare
    image: busybox:1.36
    command: [sh, -c, 'echo hi > /data/index.html']
    volumeMounts:
    - {name: data, mountPath: /data/}
  containers:
  - name: nginx
    image: nginx
    args: ['-g', 'daemon off;']
    workingDir: /srv
    tty: false
    ports: [{containerPort: 80}]
    env:
    - {name: A, value: 'x$(B)'}
    - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: CPU, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 1m}}}
    - {name: MEM, valueFrom: {resourceFieldRef: {containerName: prepare, resource: requests.memory}}}
    resources:
      limits: {cpu: 1.5, memory: 64Mi}
      requests: {cpu: 250m}
    volumeMounts:
    - {name: data, mountPath: srv/www, subPath: a/b, readOnly: true}
    - {name: host, mountPath: /host}
    - {name: bare, mountPath: /bare}
    terminationMessagePath: /out
    terminationMessagePolicy: FallbackToLogsOnError
  volumes:
  - name: data
    emptyDir: {medium: Memory, sizeLimit: 1Mi}
  - name: host
    hostPath: {path: /var/lib/web, type: DirectoryOrCreate}
  - name: bare
";

fn one(text: &str) -> Pod {
    let Parsed { mut pods, problems, .. } = parse(text.as_bytes(), "web.yaml", "/etc/m/web.yaml", "Board1");
    assert_eq!(problems, [], "{text}");
    assert_eq!(pods.len(), 1);
    pods.remove(0)
}

#[test]
fn a_manifest_becomes_a_pod() {
    let pod = one(WEB);
    let mount = |volume: &str, path: &str| Mount {
        volume: volume.into(),
        path: path.into(),
        read_only: false,
        sub_path: None,
        ..Mount::default()
    };
    let prepare = Container {
        name: "prepare".into(),
        image: "busybox:1.36".into(),
        pull: PullPolicy::IfNotPresent,
        command: vec!["sh".into(), "-c".into(), "echo hi > /data/index.html".into()],
        args: vec![],
        working_dir: None,
        env: vec![],
        mounts: vec![mount("data", "/data")],
        resources: Resources::default(),
        tty: false,
        termination_path: "/dev/termination-log".into(),
        fallback_to_logs: false,
        ..Container::default()
    };
    let var = |name: &str, value| EnvVar { name: name.into(), value };
    let resource = |container: &str, limit, measure| {
        EnvValue::Resource(ResourceField { container: container.into(), limit, measure, divisor: 1 })
    };
    let nginx = Container {
        name: "nginx".into(),
        image: "nginx".into(),
        pull: PullPolicy::Always,
        command: vec![],
        args: vec!["-g".into(), "daemon off;".into()],
        working_dir: Some("/srv".into()),
        env: vec![
            var("A", EnvValue::Literal("x$(B)".into())),
            var("IP", EnvValue::Field("status.podIP".into())),
            var("CPU", resource("nginx", true, Measure::Cpu)),
            var("MEM", resource("prepare", false, Measure::Memory)),
        ],
        mounts: vec![
            Mount { sub_path: Some("a/b".into()), read_only: true, ..mount("data", "/srv/www") },
            mount("host", "/host"),
            mount("bare", "/bare"),
        ],
        resources: Resources {
            cpu_request: Some(250),
            cpu_limit: Some(1500),
            memory_request: Some(64 << 20),
            memory_limit: Some(64 << 20),
            ..Resources::default()
        },
        tty: false,
        termination_path: "/out".into(),
        fallback_to_logs: true,
        ..Container::default()
    };
    let volume = |name: &str, source| Volume { name: name.into(), source };
    let host = VolumeSource::HostPath { path: "/var/lib/web".into(), kind: HostPathType::DirectoryOrCreate };
    let expected = Pod {
        uid: pod.uid.clone(),
        namespace: "default".into(),
        name: "web-board1".into(),
        origin: "web.yaml".into(),
        restart: RestartPolicy::OnFailure,
        grace: Duration::from_secs(5),
        host_network: false,
        hostname: "web-board1".into(),
        init: vec![prepare],
        containers: vec![nginx],
        volumes: vec![
            volume(
                "data",
                VolumeSource::EmptyDir { medium: crate::pod::spec::Medium::Memory, limit: Some(1 << 20) },
            ),
            volume("host", host),
            volume("bare", VolumeSource::EmptyDir { medium: crate::pod::spec::Medium::Disk, limit: None }),
        ],
        object: pod.object.clone(),
        ..Pod::default()
    };
    assert_eq!(pod, expected);
}

#[test]
fn the_object_bears_what_the_kubelet_adds() {
    let pod = one(WEB);
    assert!(pod.uid.len() == 32 && pod.uid.bytes().all(|byte| byte.is_ascii_hexdigit()), "{}", pod.uid);
    let metadata = &pod.object.metadata;
    assert_eq!(metadata.name.as_deref(), Some("web-board1"));
    assert_eq!(metadata.namespace.as_deref(), Some("default"));
    assert_eq!(metadata.uid.as_ref(), Some(&pod.uid));
    let annotations = metadata.annotations.as_ref().unwrap();
    assert_eq!(annotations["kubernetes.io/config.hash"], pod.uid);
    assert_eq!(annotations["kubernetes.io/config.source"], "file");
    assert_eq!(annotations.len(), 2);
    let spec = pod.object.spec.as_ref().unwrap();
    assert_eq!(spec.node_name.as_deref(), Some("Board1"));
    assert_eq!(spec.dns_policy.as_deref(), Some("ClusterFirst"));
    let toleration = serde_json::to_value(spec.tolerations.as_ref().unwrap()).unwrap();
    assert_eq!(toleration, serde_json::json!([{"operator": "Exists", "effect": "NoExecute"}]));
    assert_eq!(pod.object.status, None);
}

#[test]
fn the_uid_is_that_of_what_runs() {
    let uid = |text: &str| one(text).uid;
    let same = [
        format!("# a comment\n{WEB}\n# another\n"),
        WEB.replace("labels: {app: web}", "labels:\n    \"app\": 'web'"),
        WEB.replace("  restartPolicy: OnFailure\n", "")
            .replace("spec:\n", "spec:\n  restartPolicy: OnFailure\n"),
        WEB.replace("spec:\n", "spec:\n  dnsPolicy: ClusterFirst\n  hostname: ~\n"),
        WEB.replace("apiVersion: v1\nkind: Pod\n", "kind: Pod\napiVersion: \"v1\"\n"),
    ];
    for text in same {
        assert_eq!(uid(&text), uid(WEB), "{text}");
    }
    let differ = [
        WEB.replace("app: web", "app: web2"),
        WEB.replace("labels: {app: web}", "labels: {app: web}\n  annotations: {a: b}"),
        WEB.replace("labels: {app: web}", "labels: {app: web, a: b}"),
        WEB.replace("name: web\n", "name: web2\n"),
        WEB.replace("x$(B)", "y"),
        WEB.replace("spec:\n", "spec:\n  enableServiceLinks: false\n"),
    ];
    for text in differ {
        assert_ne!(uid(&text), uid(WEB), "{text}");
    }
    let uid_at = |path: &str, node: &str| parse(WEB.as_bytes(), "web.yaml", path, node).pods.remove(0).uid;
    assert_ne!(uid_at("/etc/m/web.yaml", "a"), uid_at("/etc/m/web.yaml", "b"));
    assert_ne!(uid_at("/etc/m/web.yaml", "a"), uid_at("/etc/m/web2.yaml", "a"));
    // Pinned: a change here restarts every pod of every board at its next upgrade. Do it knowingly.
    assert_eq!(uid_at("/etc/kubernetes/manifests/web.yaml", "board"), PINNED);
    assert_eq!(uid(&WEB.replace("name: web\n", "name: web\n  uid: my-own\n")), "my-own");
}

const PINNED: &str = "9549aba08bd135e693545f6549636400";

#[test]
fn documents_bear_their_number_and_the_last_of_a_name_counts() {
    let pod = |name: &str, image: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  containers:\n  - {{name: c, image: {image}}}\n"
        )
    };
    let text = format!("---\n{}---\n# nothing\n---\n{}---\n{}", pod("a", "x"), pod("b", "x"), pod("a", "z"));
    let Parsed { pods, problems, .. } = parse(text.as_bytes(), "f", "/f", "n");
    let found: Vec<_> = pods.iter().map(|pod| (pod.name.as_str(), pod.origin.as_str())).collect();
    assert_eq!(found, [("b-n", "f#2"), ("a-n", "f#3")]);
    assert_eq!(pods[1].containers[0].image, "z");
    let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        problems,
        ["f:20: metadata.name: pod default/a-n is also in f: this later one, of f#3, counts"]
    );

    let fixed = |name: &str| pod(name, "x").replace("metadata: {", "metadata: {uid: u, ");
    let Parsed { pods, problems, .. } =
        parse(format!("{}---\n{}", fixed("a"), fixed("b")).as_bytes(), "f", "/f", "n");
    assert_eq!(pods.len(), 1);
    assert_eq!(
        problems[0].to_string(),
        "f:10: metadata.uid: u is also the uid of f: write another, or leave it out"
    );
    assert!(problems[0].refused);
}

#[test]
fn a_bad_document_leaves_the_others() {
    let text = format!(
        "{WEB}---\nkind: Pod\napiVersion: v1\nmetadata: [\n---\n{}",
        WEB.replace("name: web\n", "name: other\n")
    );
    let Parsed { pods, problems, .. } = parse(text.as_bytes(), "f", "/f", "n");
    assert_eq!(pods.iter().map(|pod| pod.origin.as_str()).collect::<Vec<_>>(), ["f", "f#3"]);
    assert_eq!(problems.len(), 1);
    assert!(problems[0].refused && problems[0].message.starts_with("not YAML"), "{problems:?}");
}

/// Whatever the text, parsing ends, without a panic, and takes nothing it reports as refused.
#[test]
fn no_text_makes_it_panic() {
    let json = serde_json::to_string_pretty(&one(WEB).object).unwrap();
    let seeds = [
        WEB.as_bytes(),
        json.as_bytes(),
        include_bytes!("../../tests/manifests/good/configs.yaml"),
        include_bytes!("../../tests/manifests/good/hardened.yaml"),
        include_bytes!("../../tests/manifests/good/workloads.yaml"),
        include_bytes!("../../tests/manifests/good/podlist.json"),
    ];
    let spice: [&[u8]; 32] = [
        b"&a ",
        b"*a",
        b"<<: *a\n",
        b"!!str ",
        b"!x ",
        b"|\n",
        b">-\n",
        b"'",
        b"\"",
        b"\\u",
        b"\\ud800",
        b"{",
        b"}",
        b"[",
        b"]",
        b"- ",
        b": ",
        b"? ",
        b"---\n",
        b"...\n",
        b"%YAML 1.1\n",
        b"%TAG ! x\n",
        b"\t",
        b"\r",
        b"\0",
        b"\xff",
        "\u{feff}".as_bytes(),
        "ä".as_bytes(),
        b"~",
        b"1e999",
        b"0x",
        b"#",
    ];
    let mut random = fastrand::Rng::with_seed(7);
    for round in 0..3000 {
        let mut text = seeds[round % seeds.len()].to_vec();
        for _ in 0..random.usize(1..6) {
            let at = random.usize(0..=text.len());
            let end = (at + random.usize(0..40)).min(text.len());
            match random.u8(0..6) {
                0 => drop(text.drain(at..end)),
                1 => text.truncate(at.max(1)),
                2 => drop(text.splice(at..at, text[at..end].to_vec())),
                3 if at < text.len() => text[at] = random.u8(..),
                _ => drop(text.splice(at..at, spice[random.usize(0..spice.len())].iter().copied())),
            }
        }
        let Parsed { pods, configs, jobs, crons, problems } = parse(&text, "f", "/f", "n");
        if pods.is_empty() && configs.is_empty() && jobs.is_empty() && crons.is_empty() {
            let blank =
                text.split(|byte| *byte == b'\n').all(|line| line.trim_ascii().is_empty() || line[0] == b'#');
            let silent = problems.is_empty() && !blank && !text.starts_with(b"~");
            assert!(!silent, "no pod, no problem: {}", String::from_utf8_lossy(&text));
        }
        for problem in problems {
            assert!(!problem.message.is_empty() && problem.file == "f");
        }
    }
}

/// A re-executed PID 1 compares what it reads from the manifests with what its ledger holds.
#[test]
fn a_pod_survives_its_way_through_the_ledger() {
    let pod = one(WEB);
    let back: Pod = serde_json::from_slice(&serde_json::to_vec(&pod).unwrap()).unwrap();
    assert_eq!(back, pod);
}

/// One was told a hundred thousand findings of such a file, and PID 1 was busy for most of a minute.
#[test]
fn a_file_tells_a_bounded_number_of_findings_and_hides_no_refusal() {
    let wrong: String = (0..50).map(|n| format!("wrong{n}: 1, ")).collect();
    let bad = format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\nspec: {{{wrong}}}\n---\n");
    let read = read(bad.repeat(50).as_bytes(), "f", From::File("/f"), "n");
    assert_eq!(
        read.documents.iter().filter(|document| !matches!(document.content, Content::Refused)).count(),
        0
    );
    assert_eq!(read.problems.len(), report::MOST + 48);
}

/// Kubernetes' pkg/kubelet/config: common_test.go and http_test.go.
#[test]
fn names_and_kinds_are_taken_as_the_kubelet_takes_them() {
    let pod = |head: &str, name: &str| {
        format!("{head}metadata: {{name: {name}}}\nspec: {{containers: [{{name: c, image: i}}]}}\n")
    };
    let v1 = "apiVersion: v1\nkind: Pod\n";
    let said = |text: &str, node: &str| {
        let Parsed { pods, problems, .. } = parse(text.as_bytes(), "f", "/f", node);
        let pods = pods.iter().map(|pod| pod.name.clone());
        let problems = problems.iter().map(|problem| format!("{}: {}", problem.field, problem.message));
        pods.chain(problems).collect::<Vec<_>>().join("; ")
    };
    let label = "use at most 253 lower-case letters, digits, '-' and '.', a letter or digit first and last";
    let table = [
        (pod(v1, "static-pod1"), "node1", "static-pod1-node1".to_owned()),
        (pod(v1, "static-pod1"), "NODE1", "static-pod1-node1".into()),
        (
            pod(v1, "static-pod1-NODE1"),
            "n",
            format!("metadata.name: \"static-pod1-NODE1\" is not a DNS subdomain: {label}"),
        ),
        (
            pod(v1, "a, deletionTimestamp: '2026-01-01T00:00:00Z'"),
            "n",
            "metadata.deletionTimestamp: \"2026-01-01T00:00:00Z\" marks a pod that is being deleted: remove it".into(),
        ),
        (pod("kind: Pod\n", "a"), "n", "apiVersion: is missing: write apiVersion: v1".into()),
        (pod("apiVersion: v1\n", "a"), "n", "kind: is missing: write kind: Pod".into()),
        (
            pod("apiVersion: v1betta2\nkind: Pod\n", "a"),
            "n",
            "apiVersion: \"v1betta2\" has no Pod: write v1".into(),
        ),
        (
            pod("apiVersion: extensions/v1beta1\nkind: Deployment\n", "a"),
            "n",
            "apiVersion: \"extensions/v1beta1\" has no Deployment: write apps/v1".into(),
        ),
        (pod("apiVersion: v1\nkind: pod\n", "a"), "n", "kind: \"pod\" is not supported: did you mean Pod?".into()),
        (
            pod("apiVersion: batch/v1beta1\nkind: CronJob\n", "a"),
            "n",
            "apiVersion: \"batch/v1beta1\" has no CronJob: write batch/v1".into(),
        ),
    ];
    for (text, node, expected) in table {
        assert_eq!(said(&text, node), expected, "{text}");
    }
}

#[test]
fn a_pod_list_is_its_pods() {
    let text = r#"{"apiVersion": "v1", "kind": "PodList", "items": [
        {"metadata": {"name": "foo", "uid": "111"}, "spec": {"containers": [{"name": "1", "image": "foo"}]}},
        {"metadata": {"name": "bar", "uid": "222"}, "spec": {"containers": [{"name": "2", "image": "bar:bartag"}]}}]}"#;
    let Parsed { pods, problems, .. } = parse(text.as_bytes(), "f", "/f", "n");
    assert_eq!(problems, []);
    let found: Vec<_> = pods
        .iter()
        .map(|pod| (pod.full_name(), pod.uid.as_str(), pod.containers[0].pull, pod.origin.as_str()))
        .collect();
    let expected = [
        ("default/foo-n".to_owned(), "111", PullPolicy::Always, "f"),
        ("default/bar-n".to_owned(), "222", PullPolicy::IfNotPresent, "f"),
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_workload_is_numbered_pods_of_its_template() {
    let text = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop, uid: object, labels: {of: the object}}
spec:
  replicas: 11
  template:
    metadata: {labels: {app: web}, annotations: {a: b}}
    spec:
      containers: [{name: c, image: i}]
";
    let pods = |text: &str| {
        let Parsed { pods, problems, .. } = parse(text.as_bytes(), "f", "/f", "n");
        assert!(problems.iter().all(|problem| !problem.refused), "{problems:?}");
        pods
    };
    let found = pods(text);
    let names: Vec<String> = found.iter().map(Pod::full_name).collect();
    assert_eq!(names, (0..11).map(|number| format!("shop/web-{number}-n")).collect::<Vec<_>>());
    let uids: std::collections::HashSet<&str> = found.iter().map(|pod| pod.uid.as_str()).collect();
    assert_eq!(uids.len(), 11);
    let metadata = &found[3].object.metadata;
    assert_eq!(metadata.labels, Some([("app".to_owned(), "web".to_owned())].into()));
    assert_eq!(metadata.annotations.as_ref().unwrap()["a"], "b");
    assert_eq!(metadata.owner_references, None);
    assert_eq!(found[3].object.spec.as_ref().unwrap().containers[0].image.as_deref(), Some("i"));
    // Of fewer replicas the others stay the same pods.
    assert_eq!(pods(&text.replace("11", "2")), found[..2]);
    assert_eq!(pods(&text.replace("11", "0")), []);
    let daemon = text.replace("Deployment", "DaemonSet").replace("  replicas: 11\n", "");
    assert_eq!(pods(&daemon).iter().map(Pod::full_name).collect::<Vec<_>>(), ["shop/web-n"]);

    // What is wrong with the template is told once, and where it stands.
    let Parsed { pods, problems, .. } =
        parse(text.replace("image: i", "image: ''").as_bytes(), "f", "/f", "n");
    assert_eq!(pods, []);
    let problems: Vec<String> = problems.iter().filter(|one| one.refused).map(ToString::to_string).collect();
    assert_eq!(problems, ["f:10: spec.template.spec.containers[0].image: a container needs an image"]);
}

/// A file of a few lines could have kept PID 1 busy for minutes.
#[test]
fn a_small_file_does_not_want_more_than_can_be_read_in_time() {
    let args = vec!["a"; 300].join(", ");
    let text = format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web}}\nspec:\n  replicas: 1000\n  template:\n    \
         spec: {{containers: [{{name: c, image: i, args: [{args}]}}]}}\n"
    );
    let Parsed { pods, problems, .. } = parse(text.as_bytes(), "f", "/f", "n");
    assert_eq!(pods, []);
    assert_eq!(
        problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["f:5: spec.replicas: 1000 pods of this template are too many for one file: write several files"]
    );
    let twice = format!("{0}---\n{0}", text.replace("1000", "400"));
    let Parsed { problems, .. } = parse(twice.as_bytes(), "f", "/f", "n");
    assert!(problems[0].message.starts_with("400 pods of this template are too many"), "{problems:?}");
}
