//! `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf` as a pod's containers see them.
//!
//! They are files of the pod's sandbox, bind-mounted: what is written into them later is seen at once. So they follow the
//! node's own, which on a board come from DHCP, often after the first pods have started.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::chown;
use std::path::Path;
use std::time::SystemTime;

use log::warn;

use super::{Hands, paths};
use crate::pod::dns::{self, Dns};
use crate::pod::facts::Sandbox;
use crate::pod::users::Ids;
use crate::pod::{Pod, World, hosts};

const HOSTS: &str = "/etc/hosts";

/// The most that is read of a file of the node's.
const LARGEST: u64 = 10 << 20;

/// Tells whether a file of the node's changed.
pub(super) type Stamp = Option<(SystemTime, u64)>;

impl Hands {
    /// Writes them for a pod whose sandbox stands.
    pub(super) fn name_files(&self, pod: &Pod, ids: Option<Ids>, ip: Option<&str>) -> io::Result<()> {
        let owner = ids.map(|ids| ids.first);
        let sandbox = paths::pod(&self.config, pod).sandbox;
        let domain = &self.config.cluster_domain;
        let hosts = match pod.host_network {
            true => hosts::of_node(pod, &read(Path::new(HOSTS))),
            false => hosts::managed(pod, &ip.into_iter().map(str::to_owned).collect::<Vec<_>>(), domain),
        };
        put(&sandbox.join("hosts"), &hosts, owner)?;
        let name = hosts::kernel_name(pod, domain).unwrap_or_else(|_| pod.hostname.clone());
        put(&sandbox.join("hostname"), &format!("{name}\n"), owner)?;
        let own = self.config.resolv_conf.as_deref().map(|path| Dns::parse(&read(path)));
        let own =
            own.transpose().map_err(|why| io::Error::other(format!("the node's resolv.conf: {why}")))?;
        let cluster_dns = self.config.cluster_dns.clone();
        let node = dns::Node { cluster_dns, cluster_domain: domain.clone(), own };
        let (dns, left_out) = dns::effective(pod, &node);
        for why in left_out {
            warn!("{}: DNSConfigForming: {why}", pod.full_name());
        }
        put(&sandbox.join("resolv.conf"), &dns.text(), owner)
    }

    /// Writes them anew for all pods, where the node's own have changed. To be called now and then.
    pub fn follow_names(&mut self, world: &World) {
        let resolv = self.config.resolv_conf.as_deref().and_then(stamp);
        let now = [stamp(Path::new(HOSTS)), resolv];
        if std::mem::replace(&mut self.names, now) == now {
            return;
        }
        for pod in world.pods.values().filter(|pod| pod.dismissed.is_none()) {
            let Sandbox::Ready { ip, .. } = &pod.sandbox else { continue };
            if let Err(why) = self.name_files(&pod.spec, pod.ids, ip.as_deref()) {
                warn!("{}: cannot follow the node's names: {why}", pod.spec.full_name());
            }
        }
    }
}

fn stamp(path: &Path) -> Stamp {
    let meta = fs::metadata(path).ok()?;
    Some((meta.modified().ok()?, meta.len()))
}

/// A file of the node's as text; empty where it cannot be read.
fn read(path: &Path) -> String {
    let mut bytes = Vec::new();
    let done = File::open(path).and_then(|file| file.take(LARGEST).read_to_end(&mut bytes));
    if done.is_err() {
        bytes.clear();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// In place, as containers have the very file mounted; not at all where it says so already. `owner`: the pod's root where
/// that is not the machine's.
fn put(path: &Path, text: &str, owner: Option<u32>) -> io::Result<()> {
    if fs::read(path).is_ok_and(|known| known == text.as_bytes()) {
        return Ok(());
    }
    fs::write(path, text)?;
    owner.map_or(Ok(()), |owner| chown(path, Some(owner), Some(owner)))
}
