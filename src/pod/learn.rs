//! What a fact changes in the world.
//!
//! Facts come late, twice or about what is gone: a re-executed PID 1 replays its ledger over a snapshot that may hold
//! the same facts already. So a fact that does not fit changes nothing, and one that is told again counts once.

mod damage;
mod resize;

use super::batch;
use super::events;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::facts::{
    ContainerFacts, Fact, Hook, Image, PodFacts, ProbeKind, Rejection, Run, Sandbox, Size, Stale, StartError,
    Stream, World,
};
use super::kept;
use super::missing;
use super::resources::Grant;
use super::restart;
use super::spec::Pod;
use crate::clock::Tick;

impl World {
    /// Files one fact under its moment, and tells it as an event where it is news.
    pub fn learn(&mut self, fact: Fact, now: Tick) {
        if let Fact::Listed { problems } = &fact {
            events::refused(self, problems, now);
        }
        let fresh = self.file(&fact, now);
        if matches!(fact, Fact::Rejected { .. } | Fact::ResizePending { .. }) {
            events::waits(self, &fact, fresh, now);
        } else if let Fact::CollectFailed { reason, message } = &fact {
            events::collect_failed(self, reason, message, now);
        } else if fresh {
            events::derive(self, &fact, now);
        }
    }

    /// True where something changed, or a first of its kind happened.
    fn file(&mut self, fact: &Fact, now: Tick) -> bool {
        match fact {
            Fact::Listed { problems } => {
                self.problems.clone_from(problems);
                true
            }
            Fact::Kept { config } => {
                self.configs.insert(kept::key(config), config.clone());
                true
            }
            Fact::Dropped { key } => self.configs.remove(key).is_some(),
            Fact::Admitted { pod } => {
                let fresh = !self.pods.contains_key(&pod.uid);
                if fresh {
                    self.pods.insert(pod.uid.clone(), PodFacts::new(pod.clone(), now));
                }
                self.rejected.remove(&pod.uid);
                if let Some(owner) = &pod.owner {
                    batch::learn::admitted(self, owner);
                }
                fresh
            }
            Fact::Rejected { pod, reason, message } => rejected(self, pod, reason, message, now),
            Fact::Withdrawn { uid } => {
                let pending = self.about(uid, |pod| pod.pending.take().is_some());
                self.rejected.remove(uid).is_some() || pending
            }
            Fact::Allocated { pod } => self.about(&pod.uid, |known| resize::allocated(known, pod, now)),
            Fact::ResizePending { pod, reason, message } => {
                self.about(&pod.uid, |known| resize::pending(known, (pod, reason, message), now))
            }
            // Of a resize before the newest one, told by a replay: it would be news once more when that one is.
            Fact::Resized { uid, .. } | Fact::ResizeFailed { uid, .. }
                if self.pods.get(uid).and_then(|pod| pod.resized).is_some_and(|at| now < at) =>
            {
                false
            }
            Fact::Resized { uid, of, grant } => {
                self.sized(uid, of.as_ref(), |size| resize::resized(size, *grant))
            }
            Fact::ResizeFailed { uid, of, grant, why } => {
                self.sized(uid, of.as_ref(), |size| resize::failed(size, *grant, why, now))
            }
            Fact::Dismissed { uid, why } => self.about(uid, |pod| {
                pod.pending = None;
                first(&mut pod.dismissed, (now, *why))
            }),
            Fact::Expired { uid } => self.about(uid, |pod| first(&mut pod.expired, now)),
            Fact::RestartAll { uid, container, run } => {
                self.about(uid, |pod| restart_all(pod, container, *run))
            }
            Fact::Allotted { uid, ids } => self.about(uid, |pod| first(&mut pod.ids, *ids)),
            Fact::SetUp { uid, ip } => self.about(uid, |pod| {
                pod.sandbox = Sandbox::Ready { since: now, ip: ip.clone() };
                pod.size.grant.get_or_insert_with(|| Grant::pod(&pod.spec));
                true
            }),
            Fact::Logged { uid, container, runs } => self.within(uid, container, |facts| {
                let fresh = facts.run.is_none() && facts.first < *runs;
                if fresh {
                    facts.first = *runs;
                }
                fresh
            }),
            Fact::SetUpFailed { uid, why } => self.about(uid, |pod| set_up_failed(pod, why, now)),
            Fact::ImageFound { uid, container, id, pulled: _ } => self.within(uid, container, |facts| {
                if damage::is_older(facts, now) {
                    return false;
                }
                facts.seen = facts.seen.max(Some(now));
                if !matches!(&facts.image, Image::Pulling { since, .. } if *since > now) {
                    facts.image = Image::Found { id: id.clone() };
                    damage::mended(facts, now);
                }
                true
            }),
            Fact::ImageDamaged { uid, container, what, layer } => {
                self.within(uid, container, |facts| damage::damaged(facts, what, *layer, now))
            }
            Fact::Verified { begun, images, all, damaged } => {
                self.verified.learn(*begun, images, *all, damaged);
                true
            }
            Fact::ImagePulling { uid, container, lacking: _ } => {
                self.within(uid, container, |facts| image_pulling(facts, now))
            }
            Fact::ImageMissing { uid, container, why } => {
                self.within(uid, container, |facts| image_missing(facts, why, now))
            }
            Fact::ImageBackOff { uid, container } => self.within(uid, container, |facts| {
                let Image::Missing { told, at, .. } = &mut facts.image else { return false };
                let fresh = *at < now && !*told;
                *told |= fresh;
                fresh
            }),
            Fact::Starting { uid, container, run, helper, stdout, stderr } => {
                let spec = self.pods.get(uid).map(|pod| pod.spec.clone());
                let grant = spec.as_ref().and_then(|spec| spec.container(container)).map(Grant::container);
                self.within(uid, container, |facts| {
                    let fresh = starting(facts, *run, (*helper, *stdout, *stderr), now);
                    if let Some(run) = facts.run.as_mut().filter(|_| fresh) {
                        run.size.grant = grant;
                    }
                    fresh
                })
            }
            Fact::Piped { id, log, fds } => {
                let stream = Stream { log: log.clone(), fds: fds.clone() };
                self.streams.insert(id.clone(), stream).is_none()
            }
            Fact::Drained { id } => self.streams.remove(id).is_some(),
            Fact::Started { uid, container, run, pid } => self.within(uid, container, |facts| {
                let Some(run) = live(facts, *run) else { return false };
                run.helper = None;
                let fresh = first(&mut run.started, (now, *pid));
                facts.trouble = 0;
                fresh
            }),
            Fact::StartFailed { uid, container, run, why } => {
                self.within(uid, container, |facts| start_failed(facts, *run, why, now))
            }
            Fact::Signalled { uid, container, run, kill } => self.within(uid, container, |facts| {
                live(facts, *run).is_some_and(|run| signalled(run, *kill, now))
            }),
            Fact::Exited { uid, container, run, exit } => self.within(uid, container, |facts| {
                let Some(run) = live(facts, *run) else { return false };
                run.helper = None;
                run.exited = Some((now, exit.clone()));
                true
            }),
            Fact::Cleaned { uid, container, run } => self.within(uid, container, |facts| {
                let ended = facts.run.as_mut().filter(|ended| ended.number == *run && !ended.live());
                ended.is_some_and(|ended| !std::mem::replace(&mut ended.cleaned, true))
            }),
            Fact::Projected { uid, digest } => self.about(uid, |pod| {
                pod.stale = None;
                pod.projected.replace(*digest) != Some(*digest)
            }),
            Fact::ProjectFailed { uid, digest, why } => {
                self.about(uid, |pod| project_failed(pod, *digest, why, now))
            }
            Fact::Probed { uid, container, run, probe, ok, why } => self.within(uid, container, |facts| {
                let Some(run) = live(facts, *run) else { return false };
                probed(run, *probe, (now, *ok, why.clone()))
            }),
            Fact::ProbeFailed { uid, container, run, .. } => {
                self.within(uid, container, |facts| live(facts, *run).is_some())
            }
            Fact::Hooking { uid, container, run, hook, helper } => self.within(uid, container, |facts| {
                let Some(run) = live(facts, *run) else { return false };
                let begun = Hook { begun: now, helper: Some(*helper), ended: None };
                let fresh = !run.hooks.contains_key(hook);
                run.hooks.entry(*hook).or_insert(begun);
                fresh
            }),
            Fact::Hooked { uid, container, run, hook, failed } => self.within(uid, container, |facts| {
                let Some(run) = facts.run.as_mut().filter(|known| known.number == *run) else { return false };
                let Some(hook) = run.hooks.get_mut(hook) else { return false };
                hook.helper = None;
                first(&mut hook.ended, (now, failed.clone()))
            }),
            Fact::TornDown { uid } => self.pods.remove(uid).is_some(),
            Fact::TearDownFailed { uid, why } => self.about(uid, |pod| tear_down_failed(pod, why, now)),
            Fact::Helper { name, pid: Some(pid) } => self.helpers.insert(name.clone(), *pid) != Some(*pid),
            Fact::Helper { name, pid: None } => self.helpers.remove(name).is_some(),
            Fact::Collected { .. } | Fact::CollectFailed { .. } => true,
            Fact::Job(fact) => batch::learn::learn(self, fact, now),
        }
    }

    fn about(&mut self, uid: &str, change: impl FnOnce(&mut PodFacts) -> bool) -> bool {
        self.pods.get_mut(uid).is_some_and(change)
    }

    /// What is in force in the cgroup of this live run, or of the pod.
    fn sized(
        &mut self,
        uid: &str,
        of: Option<&(String, u32)>,
        change: impl FnOnce(&mut Size) -> bool,
    ) -> bool {
        let Some((container, run)) = of else { return self.about(uid, |pod| change(&mut pod.size)) };
        self.within(uid, container, |facts| live(facts, *run).is_some_and(|run| change(&mut run.size)))
    }

    fn within(
        &mut self,
        uid: &str,
        container: &str,
        change: impl FnOnce(&mut ContainerFacts) -> bool,
    ) -> bool {
        self.about(uid, |pod| {
            pod.spec.container(container).is_some()
                && change(pod.containers.entry(container.to_owned()).or_default())
        })
    }
}

/// Notes what happened once; true where it had not.
fn first<T>(slot: &mut Option<T>, value: T) -> bool {
    let fresh = slot.is_none();
    slot.get_or_insert(value);
    fresh
}

/// The present run, if it has this number and has not ended.
fn live(facts: &mut ContainerFacts, number: u32) -> Option<&mut Run> {
    facts.run.as_mut().filter(|run| run.number == number && run.live())
}

/// True where it is news: not yet rejected, for another reason, or with another content. The message alone is none: it
/// counts what others use, and would be told whenever one of them comes or goes.
fn rejected(world: &mut World, pod: &Arc<Pod>, reason: &str, message: &str, now: Tick) -> bool {
    if world.pods.contains_key(&pod.uid) {
        return false;
    }
    let known = world.rejected.get(&pod.uid);
    let since = known.filter(|known| known.reason == reason).map_or(now, |known| known.since);
    let fresh = known.is_none_or(|known| !known.told(reason, pod));
    let rejection =
        Rejection { pod: pod.clone(), since, reason: reason.to_owned(), message: message.to_owned() };
    world.rejected.insert(pod.uid.clone(), rejection);
    fresh
}

/// True where the verdict is another one. It dates from its first telling, and it is final where the run is stopped for
/// it, and where a startup probe succeeded: a run is not stopped halfway.
fn probed(run: &mut Run, probe: ProbeKind, (now, ok, why): (Tick, bool, String)) -> bool {
    match (probe, run.verdicts.get_mut(&probe)) {
        (ProbeKind::Startup, Some(_)) | (ProbeKind::Liveness, Some((_, false, _))) => false,
        (ProbeKind::Liveness | ProbeKind::Readiness, Some((_, before, said))) if *before == ok => {
            *said = why;
            false
        }
        (ProbeKind::Liveness | ProbeKind::Readiness, Some(verdict)) => {
            *verdict = (now, ok, why);
            true
        }
        (ProbeKind::Startup | ProbeKind::Liveness | ProbeKind::Readiness, None) => {
            run.verdicts.insert(probe, (now, ok, why));
            true
        }
    }
}

/// All present runs become ones of the past, if this one has ended and is still the container's newest.
fn restart_all(pod: &mut PodFacts, container: &str, run: u32) -> bool {
    let fits = pod.present(container).is_some_and(|known| known.number == run && !known.live());
    if fits {
        for facts in pod.containers.values_mut() {
            facts.past = facts.run.as_ref().map(|run| run.number);
        }
    }
    fits
}

/// True for the first signal of the run.
fn signalled(run: &mut Run, kill: bool, now: Tick) -> bool {
    let fresh = run.stopped.is_none() && run.killed.is_none();
    if kill {
        run.killed = run.killed.max(Some(now));
    } else {
        run.stopped.get_or_insert(now);
    }
    fresh
}

fn set_up_failed(pod: &mut PodFacts, why: &str, now: Tick) -> bool {
    let tries = match &pod.sandbox {
        Sandbox::Failed { at, .. } if *at >= now => return false,
        Sandbox::Failed { tries, .. } => *tries,
        Sandbox::Absent | Sandbox::Ready { .. } => 0,
    };
    // If it was for want of contents, that is told next.
    pod.stale = None;
    pod.sandbox = Sandbox::Failed { tries: tries.saturating_add(1), at: now, why: why.to_owned() };
    true
}

fn project_failed(pod: &mut PodFacts, digest: u64, why: &str, now: Tick) -> bool {
    let tries = match &pod.stale {
        Some(stale) if stale.at >= now => return false,
        Some(stale) if stale.digest == digest => stale.tries,
        Some(_) | None => 0,
    };
    pod.stale = Some(Stale { digest, tries: tries.saturating_add(1), at: now, why: why.to_owned() });
    true
}

fn tear_down_failed(pod: &mut PodFacts, why: &str, now: Tick) -> bool {
    let tries = match &pod.stuck {
        Some((_, at, _)) if *at >= now => return false,
        Some((tries, _, _)) => *tries,
        None => 0,
    };
    pod.stuck = Some((tries.saturating_add(1), now, why.to_owned()));
    true
}

fn image_missing(facts: &mut ContainerFacts, why: &str, now: Tick) -> bool {
    if damage::is_older(facts, now) {
        return false;
    }
    match &facts.image {
        Image::Missing { at, .. } if *at >= now => return false,
        Image::Pulling { since, .. } if *since > now => return false,
        Image::Missing { .. } | Image::Pulling { .. } | Image::Unknown | Image::Found { .. } => {}
    }
    let mut tries = 1;
    if missing::reason(why).0 == missing::PULL {
        tries = match facts.failed_pulls {
            // Told again.
            Some((tries, last)) if last >= now => tries,
            Some((tries, last)) if now - last <= missing::FORGIVEN => tries.saturating_add(1),
            Some(_) | None => 1,
        };
        facts.failed_pulls = facts.failed_pulls.filter(|(_, last)| *last >= now).or(Some((tries, now)));
    }
    facts.image = Image::Missing { tries, at: now, why: why.to_owned(), told: false };
    true
}

/// A pull is begun, or waits for its turn, unless its end is known already.
fn image_pulling(facts: &mut ContainerFacts, now: Tick) -> bool {
    if damage::is_older(facts, now) {
        return false;
    }
    let (tries, why) = match &facts.image {
        Image::Pulling { since, .. } if *since >= now => return false,
        Image::Missing { at, .. } if *at >= now => return false,
        Image::Found { .. } if facts.seen >= Some(now) => return false,
        Image::Missing { tries, why, .. } | Image::Pulling { tries, why, .. } => (*tries, why.clone()),
        Image::Unknown | Image::Found { .. } => (0, String::new()),
    };
    facts.image = Image::Pulling { since: now, tries, why };
    true
}

/// A new run: the former one becomes the last, and the back-off is raised if it was a run that counts.
fn starting(
    facts: &mut ContainerFacts,
    number: u32,
    (helper, stdout, stderr): (i32, i32, i32),
    now: Tick,
) -> bool {
    if facts.run.as_ref().is_some_and(|run| run.live() || run.number >= number) {
        return false;
    }
    if facts.run.is_none() {
        facts.restarts = facts.first;
    }
    if let Some(former) = facts.run.take() {
        let ours = former.failed.as_ref().is_some_and(|(_, why)| why.ours);
        if let Some(ended) = former.ended()
            && !ours
            && former.worn.is_none()
        {
            facts.step = restart::current(facts, ended).saturating_add(1);
            facts.stepped = Some(now);
        }
        if former.code().is_some() {
            facts.restarts = facts.restarts.saturating_add(1);
            facts.last = Some(former);
        }
    }
    facts.run = Some(Run {
        number,
        starting: now,
        helper: (helper > 0).then_some(helper),
        stdout,
        stderr,
        started: None,
        failed: None,
        stopped: None,
        killed: None,
        verdicts: BTreeMap::new(),
        hooks: BTreeMap::new(),
        exited: None,
        cleaned: false,
        size: Size::default(),
        outgrown: None,
        worn: None,
    });
    true
}

/// A start may fail before there was a helper to tell of: then this is the first that is heard of the run.
fn start_failed(facts: &mut ContainerFacts, number: u32, why: &StartError, now: Tick) -> bool {
    starting(facts, number, (0, -1, -1), now);
    let Some(run) = live(facts, number) else { return false };
    run.helper = None;
    run.failed = Some((now, why.clone()));
    facts.trouble = if why.ours { facts.trouble.saturating_add(1) } else { 0 };
    true
}
