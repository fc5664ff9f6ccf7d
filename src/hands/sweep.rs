//! What a former life left is found and removed; and at the end of `podinit run` what this one made.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use log::{info, warn};
use nix::mount::{MntFlags, umount2};

use super::{Hands, paths, remove_tree};
use crate::clock::Tick;
use crate::container::cgroup;
use crate::pod::{Pod, World};
use crate::volume;

/// How long killed processes may take to be gone.
const DEATH: Duration = Duration::from_secs(10);

impl Hands {
    /// A first life: whatever an earlier one left here is killed and removed. `wanted`: the uids of pods whose volumes
    /// and logs stay; None: they are not known for certain, and all stay.
    pub fn sweep(&mut self, wanted: Option<&BTreeSet<String>>) {
        self.kill_all();
        self.empty_trash();
        match cgroup::prepare(&self.config.cgroup, &self.config.cgroup_parent) {
            Ok(found) => self.controllers = found.available,
            Err(why) => warn!("{why}"),
        }
        let (sandboxes, data) = (self.config.run.join("pods"), self.config.root.join("pods"));
        let left = names(&sandboxes);
        if !left.is_empty() {
            info!("podinit: removing what a former podinit left of these pods: {}", left.join(", "));
        }
        for uid in &left {
            let here = [sandboxes.join(uid), data.join(uid)];
            if !here.iter().all(|path| detached(path)) {
                warn!("pod {uid}: what is mounted there cannot be unmounted, so it stays");
                continue;
            }
            let stays = wanted.is_none_or(|wanted| wanted.contains(uid));
            if !stays {
                told(&data.join(uid), self.discard(&data.join(uid)));
                self.remove_logs(uid);
            }
            told(&sandboxes.join(uid), remove_tree(&sandboxes.join(uid)));
            if stays {
                // A mark for `forget`: a pod that is no longer wanted before it is taken up left its volumes and logs.
                told(&sandboxes.join(uid), fs::create_dir(sandboxes.join(uid)));
            }
        }
        // Off a board the data directory may be shared with another podinit, whose pods are not ours to touch.
        let all = if self.config.cgroup_parent.is_empty() { names(&data) } else { left };
        for scratch in all.iter().map(|uid| data.join(uid).join("containers")) {
            if detached(&scratch) {
                told(&scratch, self.discard(&scratch));
            }
        }
        if let Some(wanted) = wanted {
            self.forget_logs(wanted);
        }
        for folder in ["state", "logs"].map(|name| self.config.run.join(name)) {
            told(&folder, remove_tree(&folder));
        }
    }

    /// Logs outlive a boot, so that runs are counted on from them: those of pods that are not wanted any more go. Off a
    /// board they may be another's.
    fn forget_logs(&self, wanted: &BTreeSet<String>) {
        if !self.config.cgroup_parent.is_empty() {
            return;
        }
        for name in names(&self.config.pod_logs) {
            let uid = name.rsplit_once('_').map(|(_, uid)| uid).filter(|uid| !uid.is_empty());
            let stays = wanted.iter().any(|uid| name.ends_with(&format!("_{uid}")));
            if let Some(uid) = uid.filter(|_| !stays) {
                info!("podinit: removing the logs of pod {uid}, which is not wanted any more");
                let logs = self.config.pod_logs.join(&name);
                told(&logs, self.unlink_logs(&logs));
                told(&logs, remove_tree(&logs));
            }
        }
    }

    /// What a former life left of pods that are neither wanted nor there any more goes. To be called at each listing that
    /// is certain, before anything is done about it.
    pub fn forget(&mut self, world: &World, wanted: &[Arc<Pod>]) {
        for uid in names(&self.config.run.join("pods")) {
            if world.pods.contains_key(&uid) || wanted.iter().any(|pod| pod.uid == uid) {
                continue;
            }
            info!("podinit: removing what a former podinit left of pod {uid}");
            let (data, sandbox) =
                (self.config.root.join("pods").join(&uid), self.config.run.join("pods").join(&uid));
            if [&data, &sandbox].into_iter().all(|path| detached(path)) {
                told(&data, self.discard(&data));
                self.remove_logs(&uid);
                told(&sandbox, remove_tree(&sandbox));
            }
        }
    }

    /// The end of `podinit run`: helpers, cgroups, mounts and files in the run directory go.
    pub fn leave(&mut self, world: &World) {
        self.fetch_no_more();
        self.resume(world.clone());
        for check in std::mem::take(&mut self.checks).into_values() {
            check.session.kill();
        }
        self.kill_all();
        let trash = self.volumes().trash();
        told(&trash, remove_tree(&trash));
        if !self.config.cgroup_parent.is_empty() {
            let own = paths::cgroup(&self.config, &self.config.cgroup_parent);
            // Ours alone, unless somebody made something in it.
            told(&own, fs::remove_dir(&own));
        }
        let run = &self.config.run;
        if !detached(run) {
            warn!("{}: what is mounted there cannot be unmounted, so it stays", run.display());
            return;
        }
        for folder in ["pods", "layers", "state", "logs"].map(|name| run.join(name)) {
            told(&folder, remove_tree(&folder));
        }
        for file in ["world.json", "world.json.new", "facts.jsonl", "jobs.json", "podinit.sock"]
            .map(|name| run.join(name))
        {
            told(&file, fs::remove_file(&file));
        }
        // Only where nobody else has something in it.
        let _ = fs::remove_dir(run.join("containers"));
    }

    /// Kills everything in our cgroups and removes them.
    fn kill_all(&self) {
        let root = paths::cgroup(&self.config, &self.config.cgroup_parent);
        let until = Tick::now() + DEATH;
        for group in ["kubepods", "podinit"].map(|name| root.join(name)) {
            loop {
                match cgroup::kill(&group).and_then(|()| cgroup::remove(&group)) {
                    Ok(()) => break,
                    Err(why) if Tick::now() >= until => {
                        warn!("cgroup {}: {why}", group.display());
                        break;
                    }
                    // Nothing tells when the last process of a whole tree is gone; before the first pod short naps do.
                    Err(_) => std::thread::sleep(Duration::from_millis(5)),
                }
            }
        }
    }

    fn remove_logs(&self, uid: &str) {
        for name in names(&self.config.pod_logs).iter().filter(|name| name.ends_with(&format!("_{uid}"))) {
            let logs = self.config.pod_logs.join(name);
            told(&logs, self.unlink_logs(&logs));
            told(&logs, remove_tree(&logs));
        }
    }
}

/// Says what could not be done; that there was nothing to do is fine.
pub(super) fn told(path: &Path, done: io::Result<()>) {
    match done {
        Err(why) if why.kind() != io::ErrorKind::NotFound => {
            warn!("{}: cannot remove: {why}", path.display())
        }
        Ok(()) | Err(_) => {}
    }
}

/// What is in a directory; nothing where there is none.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// Detaches all that is mounted at or below the path, the last first; whether nothing is left there.
fn detached(path: &Path) -> bool {
    let path = match fs::canonicalize(path) {
        Ok(path) => path,
        Err(why) => return why.kind() == io::ErrorKind::NotFound,
    };
    for mount in volume::mounts(&path).iter().rev() {
        // Told by what is left.
        let _ = umount2(mount, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
    }
    volume::mounts(&path).is_empty()
}
