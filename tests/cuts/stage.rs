//! What the boards of these tests have: a registry, a disk with archives and two scripts, pods; and the commands that
//! change their images.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use super::book::State;
use super::qemu::{Board, PATIENCE, Setup, board, built};
use super::servers::{Form, Registry, layout, noise, run, tar};
use super::shown::Shown;

/// Images that the registry and the archives have: some layers are all images', some two images', some one's alone.
const CONTENTS: usize = 6;
/// Of them, those that the registry has by a tag that stays.
const STAYING: usize = 4;
const IMPORTED: &str = "cuts.test/box:imported";
const TAGGED: &str = "cuts.test/box:tagged";
const FACTORY: &str = "podinit.dev/demo:1";

/// Runs each argument as a `podinit image` command, all at once; tells which have ended well.
const RUN: &str = r#"
echo GO.
n=0
for words; do
  (
    if out=$(busybox chroot /host /proc/1/exe image $words 2>&1); then echo "ACK $n."; else echo "FAIL $n: $out"; fi
  ) &
  n=$((n + 1))
done
wait
echo DONE.
"#;

/// Shows the store; with `prune` also what is left after one.
const LOOK: &str = r#"
cd /host/var/lib/podinit/images
image() { busybox chroot /host /proc/1/exe image "$@" 2>&1; echo "status $?"; }
files() { busybox find layers configs tmp damaged -type f; }
echo ==MOUNT; busybox grep ' /data ' /host/proc/1/mounts
echo ==TAGS; busybox cat tags/*.json
echo ==FILES; files
echo ==VERIFY; image verify
echo ==PRUNE
if [ "$1" = prune ]; then image prune; echo ==LEFT; files; fi
echo ==END
"#;

pub struct Stage {
    folder: PathBuf,
    registry: Registry,
    /// The digests of the contents' manifests.
    digests: Vec<String>,
    /// As a board is given it.
    pub disk: PathBuf,
}

/// A command that changes images.
#[derive(Clone, Debug)]
pub struct Op {
    pub kind: &'static str,
    /// The arguments of `podinit image`.
    pub words: String,
    /// The name that it changes, and where it leads then.
    pub change: Option<(String, State)>,
    pub sweeps: bool,
}

impl Stage {
    pub fn new(name: &str) -> Stage {
        // First, as it makes images as well; and what fails before there is a stage leaves its folder behind.
        built("qemu-x86_64");
        let folder =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cuts-{name}-{}", std::process::id()));
        let tree = folder.join("tree");
        fs::create_dir_all(folder.join("registry")).expect("a folder");
        fs::create_dir_all(tree.join("cuts")).expect("a folder");
        let registry = Registry::plain(&folder.join("registry"));
        let mut digests = Vec::new();
        for content in 0..CONTENTS {
            let layers =
                [(Form::Gzip, 700, 0), (Form::Zstd, 300, 1 + content), (Form::Gzip, 200, 100 + content / 2)];
            let layers = layers.map(|(form, kib, seed)| {
                let (large, small) = (noise(seed as u64, kib << 10), noise(seed as u64 + 1000, 5000));
                (form, tar(&[(&format!("{seed}/large"), &large), (&format!("{seed}/small"), &small)]))
            });
            let at = folder.join(content.to_string());
            layout(&at, &["linux/amd64"], &layers);
            let index: serde_json::Value =
                serde_json::from_slice(&fs::read(at.join("index.json")).expect("an index")).expect("JSON");
            digests.push(index["manifests"][0]["digest"].as_str().expect("a digest").to_owned());
            let archive = File::create(tree.join(format!("cuts/{content}.tar"))).expect("an archive");
            tar::Builder::new(archive).append_dir_all(".", &at).expect("an archive");
            if content < STAYING {
                registry.push(&at, &format!("app:{content}"), &[]);
            }
        }
        let demo = format!("oci-archive:{}/build/demo/amd64.tar", env!("CARGO_MANIFEST_DIR"));
        registry.copy(&demo, "pod:1", &[]);
        fs::write(tree.join("cuts/run"), RUN).expect("a script");
        fs::write(tree.join("cuts/look"), LOOK).expect("a script");
        let disk = folder.join("disk");
        let images = Path::new(env!("CARGO_MANIFEST_DIR")).join("build/qemu-x86_64/images");
        fs::create_dir(tree.join("podinit")).expect("a folder");
        run(Command::new("cp").arg("-r").arg(images).arg(tree.join("podinit/images")));
        let mut make = Command::new("/sbin/mke2fs");
        make.args(["-q", "-t", "ext4", "-b", "4096", "-i", "16384", "-m", "0", "-L", "data", "-d"])
            .arg(&tree);
        run(make.args(["-E", "root_owner=0:0"]).arg(&disk).arg("256M"));
        Stage { folder, registry, digests, disk }
    }

    /// The registry's name on a board: qemu's for this machine's loopback.
    fn server(&self) -> String {
        format!("10.0.2.2:{}", self.registry.port)
    }

    fn config(&self, more: &str) -> String {
        let kind = "apiVersion: podinit.dev/v1alpha1\nkind: MachineConfiguration";
        format!("{kind}\nregistries:\n- {{host: '{}', insecure: true{more}}}\n", self.server())
    }

    /// A configuration by which this machine finds the images under the names that the boards have for them.
    pub fn here(&self) -> PathBuf {
        let path = self.folder.join("config.yaml");
        let name = self.registry.name();
        let mirror = self.config(&format!(", mirrors: ['{name}']"))
            + &format!("- {{host: '{name}', insecure: true}}\n");
        fs::write(&path, mirror).expect("a configuration");
        path
    }

    pub fn setup(&self, disk: &Path) -> Setup {
        let pods = format!(
            "
apiVersion: v1
kind: Pod
metadata: {{name: ctl}}
spec:
  hostNetwork: true
  containers:
  - name: ctl
    image: {FACTORY}
    command: [sh, -c, 'trap exit TERM; while :; do sleep 1000 & wait; done']
    securityContext: {{privileged: true}}
    volumeMounts: [{{name: host, mountPath: /host}}]
  volumes: [{{name: host, hostPath: {{path: /}}}}]
---
apiVersion: v1
kind: Pod
metadata: {{name: pulled}}
spec:
  containers:
  - name: pulled
    image: {}/pod:1
    command: [sh, -c, 'trap exit TERM; while :; do sleep 1000 & wait; done']
",
            self.server()
        );
        board("qemu-x86_64").line().config(&self.config("")).pods(&pods).disk(disk)
    }

    /// Waits until the pods run, and shows the store. An error: what a power cut must not leave.
    pub fn look(&self, board: &mut Board, prune: bool) -> Result<(Shown, Option<Shown>), String> {
        board.wait_for("ctl-podinit/ctl: started");
        let until = Instant::now() + PATIENCE;
        loop {
            let pods = board.ask("get pods");
            let runs = |line: &&str| line.contains("1/1") && line.contains("Running");
            if pods.lines().filter(runs).count() == 2 {
                break;
            }
            if Instant::now() > until {
                return Err(format!("the pods do not run:\n{pods}\n{}", board.ask("describe pods")));
            }
        }
        let said =
            board.ask(&format!("exec ctl -- sh /host/data/cuts/look {}", if prune { "prune" } else { "" }));
        let part = |name: &str| {
            let begin = said.find(&format!("=={name}\n")).map(|at| at + name.len() + 3);
            let begin = begin.unwrap_or_else(|| panic!("no {name} in:\n{said}"));
            let length = said[begin..].find("==").expect("an end");
            &said[begin..begin + length]
        };
        if !part("MOUNT").contains(" ext4 rw,") || board.console().contains("EXT4-fs error") {
            return Err(format!("the disk is not mounted: {}", part("MOUNT")));
        }
        let tags = part("TAGS");
        for step in ["VERIFY", "PRUNE"] {
            let told = part(step);
            if !told.is_empty() && !told.ends_with("status 0\n") {
                return Err(format!("{step}: {told}"));
            }
        }
        let left = prune.then(|| Shown::parse(tags, part("LEFT"))).transpose()?;
        Ok((Shown::parse(tags, part("FILES"))?, left))
    }

    /// Some commands to be run at once, given where the names lead. What they need is in place.
    pub fn draw(&self, random: &mut fastrand::Rng, there: &BTreeMap<String, State>) -> Vec<Op> {
        let (mut ops, mut used) = (Vec::new(), BTreeSet::new());
        let most = [1, 1, 2, 3][random.usize(..4)];
        while ops.len() < most {
            let op = match random.usize(..9) {
                0..3 => {
                    let content = random.usize(..STAYING);
                    let name = self.staying(content);
                    if there.contains_key(&name) { remove(&name) } else { self.pull(content) }
                }
                3 => self.pull_moving(random.usize(..CONTENTS)),
                4 | 5 => self.import(random.usize(..CONTENTS)),
                6 | 7 => {
                    let all: Vec<_> = there.iter().collect();
                    let (name, state) = all[random.usize(..all.len())];
                    if name == TAGGED || !used.insert(name.clone()) {
                        continue;
                    }
                    tag(name, state.clone())
                }
                _ => {
                    let all: Vec<_> =
                        there.keys().filter(|name| **name != FACTORY && !name.ends_with("/pod:1")).collect();
                    match random.usize(..=all.len()) {
                        0 => Op { kind: "prune", words: "prune".into(), change: None, sweeps: true },
                        at => remove(all[at - 1]),
                    }
                }
            };
            if used.insert(op.change.as_ref().map_or(String::new(), |(name, _)| name.clone())) {
                ops.push(op);
            }
        }
        self.moved(ops)
    }

    /// One of each kind, to learn how long they take.
    pub fn each(&self) -> Vec<Op> {
        let name = self.staying(0);
        let state = Some(self.digests[0].clone());
        let prune = Op { kind: "prune", words: "prune".into(), change: None, sweeps: true };
        self.moved(vec![
            self.pull(0),
            self.pull_moving(1),
            self.import(2),
            tag(&name, state),
            remove(&name),
            prune,
        ])
    }

    fn staying(&self, content: usize) -> String {
        format!("{}/app:{content}", self.server())
    }

    pub fn pull(&self, content: usize) -> Op {
        let name = self.staying(content);
        let words = format!("pull {name}");
        Op { kind: "pull", words, change: Some((name, Some(self.digests[content].clone()))), sweeps: false }
    }

    /// A tag that its owner moves, by `moved`, before it is pulled.
    fn pull_moving(&self, content: usize) -> Op {
        let name = format!("{}/app:moving", self.server());
        let words = format!("pull {name}");
        Op { kind: "pull", words, change: Some((name, Some(self.digests[content].clone()))), sweeps: false }
    }

    /// Moves the registry's tag to where a pull among these commands shall find it.
    fn moved(&self, ops: Vec<Op>) -> Vec<Op> {
        let moving = format!("{}/app:moving", self.server());
        let pulls = || ops.iter().filter(|op| op.kind == "pull").filter_map(|op| op.change.as_ref());
        if let Some((_, state)) = pulls().find(|(name, _)| *name == moving) {
            let content =
                self.digests.iter().position(|digest| Some(digest) == state.as_ref()).expect("ours");
            self.registry.push(&self.folder.join(content.to_string()), "app:moving", &[]);
        }
        ops
    }

    pub fn import(&self, content: usize) -> Op {
        let words = format!("import /data/cuts/{content}.tar --name {IMPORTED}");
        let change = Some((IMPORTED.to_owned(), Some(self.digests[content].clone())));
        Op { kind: "import", words, change, sweeps: false }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn tag(from: &str, state: State) -> Op {
    Op {
        kind: "tag",
        words: format!("tag {from} {TAGGED}"),
        change: Some((TAGGED.to_owned(), state)),
        sweeps: true,
    }
}

fn remove(name: &str) -> Op {
    Op {
        kind: "remove",
        words: format!("remove {name}"),
        change: Some((name.to_owned(), None)),
        sweeps: true,
    }
}

/// A command that types the commands to the board.
pub fn typed(ops: &[Op]) -> String {
    let words: Vec<String> = ops.iter().map(|op| format!("'{}'", op.words)).collect();
    format!("exec ctl -- sh /host/data/cuts/run {}", words.join(" "))
}
