//! Gives the cgroup of a pod, or of a run of one of its containers, other values while it is in use.

use super::{Hands, paths};
use crate::container::cgroup;
use crate::pod::Fact;
use crate::pod::facts::PodFacts;
use crate::pod::resources::{Grant, resized};

impl Hands {
    pub(super) fn resize(&self, pod: &PodFacts, of: Option<&(String, u32)>, grant: Grant) -> Vec<Fact> {
        let spec = &pod.spec;
        let below = match of {
            None => paths::pod(&self.config, spec).cgroup,
            Some((container, run)) => paths::run(&self.config, spec, container, *run).cgroup,
        };
        let files = resized(&grant, of.is_none(), self.cfs());
        let (uid, whose) = (spec.uid.clone(), of.cloned());
        let what = of.map_or("pod".to_owned(), |(container, _)| format!("container \"{container}\""));
        vec![match cgroup::resize(&paths::cgroup(&self.config, &below), &files, &self.controllers) {
            Ok(()) => Fact::Resized { uid, of: whose, grant },
            Err(cgroup::Unfit::Below { limit, usage }) => {
                let why =
                    format!("attempting to set {what} memory limit ({limit}) below current usage ({usage})");
                Fact::ResizeFailed {
                    uid,
                    of: whose,
                    grant,
                    why: format!("cannot decrease memory limits: {why}"),
                }
            }
            Err(cgroup::Unfit::Write(why)) => {
                Fact::ResizeFailed { uid, of: whose, grant, why: format!("{what}: {why}") }
            }
        }]
    }
}
