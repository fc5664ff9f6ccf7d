//! Lives of a manifest directory.

use std::ffi::OsStr;
use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

/// A directory of its own, removed at the end.
struct Scene {
    path: PathBuf,
    dir: Dir,
}

impl Scene {
    fn new() -> Scene {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("podinit-manifests-{}-{count}", std::process::id()));
        fs::create_dir(&path).expect("cannot make a directory for the test");
        Scene { dir: Dir::new(path.clone(), "n".into()), path }
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path.join(name), text).expect("cannot write a manifest");
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.path.join(name)).expect("cannot remove a manifest");
    }

    /// `name=image` of each pod, and the problems.
    fn list(&mut self) -> (String, Vec<String>) {
        let listing = self.dir.list();
        let pods = listing.pods.iter().map(|pod| format!("{}={}", pod.name, pod.containers[0].image));
        let problems = listing.problems.iter().map(ToString::to_string);
        (pods.collect::<Vec<_>>().join(" "), problems.collect())
    }

    fn pods(&mut self) -> String {
        self.list().0
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn pod(name: &str, image: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  containers:\n  - {{name: c, image: {image}}}\n"
    )
}

fn docs(pods: &[String]) -> String {
    pods.join("---\n")
}

const BAD: &str =
    "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n  - {name: c, image: 5}\n";

#[test]
fn a1_files_come_change_and_go() {
    let mut scene = Scene::new();
    assert_eq!(scene.list(), (String::new(), vec![]));
    scene.write("b.yaml", &pod("b", "one"));
    scene.write("a", &pod("a", "one"));
    scene.write(".hidden.yaml", &pod("h", "one"));
    assert_eq!(scene.list(), ("a-n=one b-n=one".into(), vec![]));
    // Same size, perhaps the same tick of the file system's clock.
    scene.write("b.yaml", &pod("b", "two"));
    assert_eq!(scene.pods(), "a-n=one b-n=two");
    scene.write("b.yaml", &pod("b", "six"));
    assert_eq!(scene.pods(), "a-n=one b-n=six");
    fs::rename(scene.path.join("b.yaml"), scene.path.join("0.yaml")).unwrap();
    assert_eq!(scene.pods(), "b-n=six a-n=one");
    scene.remove("a");
    assert_eq!(scene.pods(), "b-n=six");
    scene.write("0.yaml", "# nothing here any more\n");
    assert_eq!(scene.list(), (String::new(), vec![]));
}

#[test]
fn an_unchanged_pod_stays_the_same_allocation() {
    let mut scene = Scene::new();
    scene.write("a", &docs(&[pod("a", "one"), pod("b", "one")]));
    let first = scene.dir.list().pods;
    assert!(Arc::ptr_eq(&first[0], &scene.dir.list().pods[0]));
    scene.write("a", &docs(&[pod("a", "one"), pod("b", "two")]));
    let second = scene.dir.list().pods;
    assert!(Arc::ptr_eq(&first[0], &second[0]));
    assert!(!Arc::ptr_eq(&first[1], &second[1]));
}

#[test]
fn an_unchanged_file_is_not_read_again() {
    let mut scene = Scene::new();
    scene.write("a", &pod("a", "one"));
    std::thread::sleep(std::time::Duration::from_millis(30));
    scene.write("b", &pod("b", "one"));
    assert_eq!(scene.pods(), "a-n=one b-n=one");
    // Spoil what is remembered of a: only a second reading could mend it.
    let entry = scene.dir.files.get_mut(OsStr::new("a")).unwrap();
    entry.hash = None;
    entry.taken.clear();
    assert_eq!(scene.pods(), "b-n=one");
    // The newest file is read again, but parsed only where its text differs.
    scene.dir.files.get_mut(OsStr::new("b")).unwrap().taken.clear();
    assert_eq!(scene.pods(), "");
}

#[test]
fn a_file_that_turns_bad_keeps_its_last_good_pods() {
    let mut scene = Scene::new();
    scene.write("a", &pod("a", "one"));
    assert_eq!(scene.pods(), "a-n=one");
    let runs_on = "a: pod default/a-n runs on as its last good manifest says";
    for bad in [
        BAD,
        "spec: [\n",
        "\u{0}",
        "kind: Deployment\napiVersion: apps/v1\nmetadata: {name: a}\n",
        "README\n",
    ] {
        scene.write("a", bad);
        let (pods, problems) = scene.list();
        assert_eq!(pods, "a-n=one", "{bad}");
        assert!(problems.len() >= 2 && problems.contains(&runs_on.to_owned()), "{bad}: {problems:?}");
        // And once more, unchanged.
        assert_eq!(scene.list(), (pods, problems), "{bad}");
    }
    scene.write("a", &pod("a", "two"));
    assert_eq!(scene.list(), ("a-n=two".into(), vec![]));
    scene.remove("a");
    scene.write("new", BAD);
    let (pods, problems) = scene.list();
    assert_eq!((pods.as_str(), problems.len()), ("", 1));
    assert!(problems[0].starts_with("new:6: spec.containers[0].image: 5 is a number"), "{problems:?}");
}

#[test]
fn an_empty_file_is_one_being_written() {
    let mut scene = Scene::new();
    scene.write("a", "");
    assert_eq!(scene.list(), (String::new(), vec![]));
    scene.write("a", &pod("a", "one"));
    assert_eq!(scene.pods(), "a-n=one");
    scene.write("a", "");
    let said = "a: is empty, as if being written: its pods run on; remove the file to stop them".to_owned();
    assert_eq!(scene.list(), ("a-n=one".into(), vec![said.clone()]));
    assert_eq!(scene.list(), ("a-n=one".into(), vec![said]));
    scene.write("a", "\n");
    assert_eq!(scene.list(), (String::new(), vec![]));
}

#[test]
fn of_several_documents_only_the_bad_one_stays_as_it_was() {
    let mut scene = Scene::new();
    let first = docs(&[pod("a", "one"), pod("b", "one"), pod("c", "one")]);
    let table: [(&str, String, &str); 9] = [
        ("refused by name", docs(&[pod("b", "two"), BAD.into(), pod("c", "two")]), "b-n=two c-n=two a-n=one"),
        (
            "unreadable with a name",
            docs(&[pod("b", "two"), "metadata:\n  name: a\nspec: [\n".into()]),
            "b-n=two a-n=one",
        ),
        ("unreadable without", docs(&[pod("b", "two"), "spec: [\n".into()]), "b-n=two a-n=one c-n=one"),
        (
            "a new name",
            docs(&[pod("b", "two"), BAD.replace("name: a", "name: z")]),
            "b-n=two a-n=one c-n=one",
        ),
        ("another kind", docs(&[pod("b", "two"), "kind: ConfigMap\napiVersion: v1\n".into()]), "b-n=two"),
        ("another kind of its name", docs(&[pod("b", "two"), BAD.replace("Pod", "Job")]), "b-n=two a-n=one"),
        ("not UTF-8 at all", "\u{1}".into(), "a-n=one b-n=one c-n=one"),
        ("all good", docs(&[pod("c", "two")]), "c-n=two"),
        ("reordered", docs(&[pod("c", "one"), pod("a", "one"), pod("b", "one")]), "c-n=one a-n=one b-n=one"),
    ];
    for (case, text, expected) in table {
        scene.write("f", &first);
        assert_eq!(scene.pods(), "a-n=one b-n=one c-n=one");
        scene.write("f", &text);
        assert_eq!(scene.pods(), expected, "{case}");
    }
}

#[test]
fn a_document_refused_all_along_holds_no_removed_pod() {
    let mut scene = Scene::new();
    let bad = BAD.replace("name: a", "name: z");
    scene.write("f", &docs(&[pod("a", "one"), pod("b", "one"), bad.clone()]));
    assert_eq!(scene.pods(), "a-n=one b-n=one");
    scene.write("f", &docs(&[pod("a", "one"), bad]));
    assert_eq!(scene.pods(), "a-n=one");
}

#[test]
fn after_a_re_execution_a_bad_file_keeps_what_ran() {
    let mut scene = Scene::new();
    scene.write("a", &docs(&[pod("a", "one"), pod("b", "one")]));
    scene.write("g", &pod("g", "one"));
    scene.write("gone", &pod("gone", "one"));
    let ran = scene.dir.list().pods;
    assert_eq!(ran.len(), 4);
    scene.write("a", &docs(&[pod("a", "two"), "spec: [\n".into()]));
    scene.remove("gone");
    scene.dir = Dir::new(scene.path.clone(), "n".into());
    scene.dir.remember(ran.iter().cloned());
    assert_eq!(scene.pods(), "a-n=two b-n=one g-n=one");
    assert_eq!(scene.pods(), "a-n=two b-n=one g-n=one");
    // A directory that cannot be listed (here: a file stands in its way) takes nothing away.
    let mut dir = Dir::new(scene.path.join("g/below"), "n".into());
    dir.remember(ran.iter().cloned());
    let listing = dir.list();
    assert_eq!(listing.pods.len(), 4);
    assert!(listing.problems[0].message.contains("cannot be listed"), "{:?}", listing.problems);
}

#[test]
fn an_unreadable_file_keeps_its_pods() {
    let mut scene = Scene::new();
    scene.write("a", &pod("a", "one"));
    assert_eq!(scene.pods(), "a-n=one");
    scene.remove("a");
    std::os::unix::fs::symlink("a", scene.path.join("a")).unwrap();
    let (pods, problems) = scene.list();
    assert_eq!(pods, "a-n=one");
    assert!(problems[0].starts_with("a: cannot be read: "), "{problems:?}");
    scene.remove("a");
    std::os::unix::fs::symlink("nowhere", scene.path.join("a")).unwrap();
    assert_eq!(scene.pods(), "a-n=one");
    scene.remove("a");
    assert_eq!(scene.list(), (String::new(), vec![]));
}

#[test]
fn what_is_no_manifest_is_named_and_left_alone() {
    let mut scene = Scene::new();
    fs::create_dir(scene.path.join("sub")).unwrap();
    nix::unistd::mkfifo(&scene.path.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    for name in ["a.yaml~", "a.yaml.bak", "a.swp", "a.orig", "a.tmp", "#a#"] {
        scene.write(name, &pod("backup", "one"));
    }
    scene.write("real", &pod("real", "one"));
    std::os::unix::fs::symlink("real", scene.path.join("link")).unwrap();
    let (pods, problems) = scene.list();
    assert_eq!(pods, "real-n=one");
    assert_eq!(problems.len(), 9, "{problems:?}");
    let said = |start: &str| problems.iter().any(|problem| problem.starts_with(start));
    assert!(said("sub: is a directory") && said("pipe: is no regular file"));
    assert!(said("#a#: looks like an editor's backup") && said("a.yaml~: looks like"));
    assert!(said(
        "real:3: metadata.name: pod default/real-n is also in link: this later one, of real, counts"
    ));
}

#[test]
fn the_last_file_of_a_name_counts_and_the_other_takes_over() {
    let mut scene = Scene::new();
    scene.write("a", &pod("x", "one"));
    scene.write("b", &pod("x", "two"));
    let (pods, problems) = scene.list();
    assert_eq!(pods, "x-n=two");
    assert_eq!(problems, ["b:3: metadata.name: pod default/x-n is also in a: this later one, of b, counts"]);
    scene.remove("b");
    assert_eq!(scene.list(), ("x-n=one".into(), vec![]));
}

#[test]
fn a1_a_missing_directory_wants_nothing_and_may_come_later() {
    let mut scene = Scene::new();
    scene.dir = Dir::new(scene.path.join("later"), "n".into());
    let (pods, problems) = scene.list();
    assert_eq!((pods.as_str(), problems.len()), ("", 1));
    assert!(problems[0].contains("does not exist"));
    fs::create_dir(scene.path.join("later")).unwrap();
    scene.write("later/a", &pod("a", "one"));
    assert_eq!(scene.list(), ("a-n=one".into(), vec![]));
    fs::remove_dir_all(scene.path.join("later")).unwrap();
    assert_eq!(scene.pods(), "");
}

#[test]
fn a1_a_single_file_may_stand_for_a_directory() {
    let mut scene = Scene::new();
    scene.write("pod.yaml", &pod("a", "one"));
    scene.dir = Dir::new(scene.path.join("pod.yaml"), "n".into());
    assert_eq!(scene.list(), ("a-n=one".into(), vec![]));
    // So may a link to one, also before there is anything.
    scene.dir = Dir::new(scene.path.join("link.yaml"), "n".into());
    let none = format!("{}: does not exist: no pods are wanted", scene.path.join("link.yaml").display());
    assert_eq!(scene.list(), (String::new(), vec![none]));
    std::os::unix::fs::symlink("pod.yaml", scene.path.join("link.yaml")).unwrap();
    assert_eq!(scene.list(), ("a-n=one".into(), vec![]));
    scene.write("pod.yaml", &pod("a", "two"));
    assert_eq!(scene.list(), ("a-n=two".into(), vec![]));
}

#[test]
fn a1_a_link_is_the_file_to_which_it_leads() {
    let (mut scene, elsewhere) = (Scene::new(), Scene::new());
    assert_eq!(scene.list(), (String::new(), vec![]));
    let to = elsewhere.path.join("there.yaml");
    elsewhere.write("there.yaml", &pod("a", "one"));
    std::os::unix::fs::symlink(&to, scene.path.join("link.yaml")).unwrap();
    assert_eq!(scene.list(), ("a-n=one".into(), vec![]));
    elsewhere.write("there.yaml", &pod("a", "two"));
    assert_eq!(scene.list(), ("a-n=two".into(), vec![]));
    let more = pod("b", "one").replace("spec:\n", "spec:\n  restartPolicy: Never\n");
    elsewhere.write("more.yaml", &more.replace("image: one", "image: one, restartPolicy: Always"));
    std::os::unix::fs::symlink(elsewhere.path.join("more.yaml"), scene.path.join("0.yaml")).unwrap();
    assert_eq!(scene.list(), ("b-n=one a-n=two".into(), vec![]));
    scene.remove("link.yaml");
    assert_eq!(scene.list(), ("b-n=one".into(), vec![]));
}

#[test]
fn many_small_files_are_listed() {
    let mut scene = Scene::new();
    for index in 0..2000 {
        scene.write(&format!("{index}.yaml"), &pod(&format!("p{index}"), "one"));
    }
    assert_eq!(scene.dir.list().pods.len(), 2000);
    assert_eq!(scene.dir.list().pods.len(), 2000);
}

fn config(kind: &str, name: &str, value: &str) -> String {
    format!("apiVersion: v1\nkind: {kind}\nmetadata: {{name: {name}}}\ndata: {{k: {value}}}\n")
}

#[test]
fn the_last_good_content_of_a_config_did_not_outlive_a_re_execution() {
    let mut scene = Scene::new();
    scene.write("a.yaml", &docs(&[config("ConfigMap", "a", "one"), config("Secret", "a", "YQ==")]));
    scene.write("b.yaml", &config("ConfigMap", "b", "one"));
    scene.write("c.yaml", &config("ConfigMap", "c", "one"));
    let known = scene.dir.list().configs;
    scene.write("a.yaml", "kind: [");
    scene.write("b.yaml", &config("ConfigMap", "b", "two"));
    scene.remove("c.yaml");
    let mut next = Dir::new(scene.path.clone(), "n".into());
    next.remember_configs(known.iter().cloned());
    for _ in 0..2 {
        let listing = next.list();
        let told = listing
            .configs
            .iter()
            .map(|config| format!("{}={}", key(config), String::from_utf8_lossy(&config.data["k"])));
        let all = ["ConfigMap default/a=one", "Secret default/a=a", "ConfigMap default/b=two"];
        assert_eq!(told.collect::<Vec<_>>(), all);
        let problems: Vec<_> = listing.problems.iter().map(ToString::to_string).collect();
        let stays = "a.yaml: Secret default/a stays as its last good manifest says".to_owned();
        assert!(problems.contains(&stays), "{problems:?}");
    }
    // A directory that cannot be listed takes nothing away.
    let mut next = Dir::new(scene.path.join("b.yaml/below"), "n".into());
    next.remember_configs(known.iter().cloned());
    assert_eq!(next.list().configs.len(), 4);
}

#[test]
fn a_config_keeps_its_last_good_content_and_the_last_of_a_name_counts() {
    let mut scene = Scene::new();
    let said = |scene: &mut Scene| {
        let listing = scene.dir.list();
        let configs = listing.configs.iter().map(|config| {
            let value = config.data.get("k").map(|bytes| String::from_utf8_lossy(bytes).into_owned());
            format!("{}={}", key(config), value.unwrap_or_default())
        });
        (
            configs.collect::<Vec<_>>().join(" "),
            listing.problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
        )
    };
    let map = |value: &str| config("ConfigMap", "a", value);
    let both = docs(&[map("one"), config("Secret", "a", "YQ==")]);
    scene.write("a.yaml", &both);
    assert_eq!(said(&mut scene), ("ConfigMap default/a=one Secret default/a=a".into(), vec![]));
    assert_eq!(scene.pods(), "");

    // One document turns bad, the other changes.
    scene.write("a.yaml", &docs(&[map("two"), config("Secret", "a", "hunter2")]));
    let (configs, problems) = said(&mut scene);
    assert_eq!(configs, "ConfigMap default/a=two Secret default/a=a");
    assert_eq!(
        problems,
        [
            "a.yaml: Secret default/a stays as its last good manifest says",
            "a.yaml:9: data.k: is not base64: write it as text in stringData, or encode it",
        ]
    );

    // One cannot be read at all, and its text betrays its name.
    let torn = "kind: ConfigMap\nmetadata:\n  name: a\ndata:\n  k: |\n  bad\n x: [\n";
    scene.write("a.yaml", &docs(&[torn.into(), config("Secret", "a", "Yg==")]));
    let (configs, problems) = said(&mut scene);
    assert_eq!(configs, "Secret default/a=b ConfigMap default/a=two");
    assert!(problems.iter().any(|problem| problem.contains("not YAML")), "{problems:?}");
    scene.write("a.yaml", &both.replace("one", "two"));

    // The file is no text any more: both stay. Then it is gone.
    assert_eq!(said(&mut scene).0, "ConfigMap default/a=two Secret default/a=a");
    scene.write("a.yaml", "a: \u{1b}");
    assert_eq!(said(&mut scene).0, "ConfigMap default/a=two Secret default/a=a");
    scene.remove("a.yaml");
    assert_eq!(said(&mut scene), (String::new(), vec![]));

    scene.write("a.yaml", &map("one"));
    scene.write("b.yaml", &map("two"));
    assert_eq!(
        said(&mut scene),
        (
            "ConfigMap default/a=two".into(),
            vec![
                "b.yaml:3: metadata.name: ConfigMap default/a is also in a.yaml: this later one, of b.yaml, counts"
                    .into()
            ]
        )
    );
}

#[test]
fn a_workload_keeps_its_last_good_pods() {
    let mut scene = Scene::new();
    let deployment = |replicas: &str, image: &str| {
        format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: a}}\nspec:\n  replicas: {replicas}\n  template:\n    spec:\n      containers:\n      - {{name: c, image: {image}}}\n"
        )
    };
    scene.write("a.yaml", &docs(&[deployment("2", "one"), pod("b", "one")]));
    assert_eq!(scene.pods(), "a-0-n=one a-1-n=one b-n=one");
    scene.write("a.yaml", &docs(&[deployment("1", "two"), pod("b", "one")]));
    assert_eq!(scene.pods(), "a-0-n=two b-n=one");
    scene.write("a.yaml", &docs(&[deployment("two", "z"), pod("b", "z")]));
    let (pods, problems) = scene.list();
    assert_eq!(pods, "b-n=z a-0-n=two");
    assert!(
        problems.contains(&"a.yaml: pod default/a-0-n runs on as its last good manifest says".to_owned())
    );
    scene.write("a.yaml", &docs(&[deployment("0", "z"), pod("b", "z")]));
    assert_eq!(scene.pods(), "b-n=z");
}
