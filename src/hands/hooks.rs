//! postStart and preStop: begun here, ended by their helper's end, by the clock, or with their container.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::checks::{Check, Hooked, Purpose, hooks};
use super::probes::{address, command};
use super::reaper::is_child;
use super::{Hands, of};
use crate::clock::{Tick, sooner};
use crate::pod::facts::{ContainerFacts, HookKind, PodFacts};
use crate::pod::probe::HookRequest;
use crate::pod::spec::Handler;
use crate::pod::{Container, Fact, World};

impl Hands {
    /// A hook that cannot even be begun has failed.
    pub(super) fn hook(
        &mut self,
        pod: &PodFacts,
        container: &Container,
        facts: Option<&ContainerFacts>,
        number: u32,
        kind: HookKind,
    ) -> Vec<Fact> {
        let (uid, name) = (pod.spec.uid.clone(), container.name.clone());
        let purpose = Purpose::Hook { uid: uid.clone(), container: name.clone(), run: number, hook: kind };
        let (helper, failed) = match (handler(container, kind), of(facts, number)) {
            (Some(Handler::Exec(words)), Some(run)) => {
                let words = command(container, words);
                self.begun(Check::command(&self.config, pod, (&name, run), &words, None, purpose))
            }
            (Some(handler @ Handler::Http { .. }), Some(run)) => {
                let (address, space) = address(&self.config, pod);
                let request = HookRequest { handler: handler.clone(), address, space };
                self.begun(Check::http(&self.config, pod, (&name, run), &request, purpose))
            }
            (Some(Handler::Sleep(_)), Some(_)) => (0, None),
            (Some(handler @ (Handler::Tcp { .. } | Handler::Grpc { .. })), Some(_)) => {
                // Let through by validation for old manifests' sake, as the kubelet does.
                (0, Some(format!("invalid handler: {}", word(handler))))
            }
            (None, _) | (_, None) => (0, Some("there is no such hook".into())),
        };
        let begun =
            Fact::Hooking { uid: uid.clone(), container: name.clone(), run: number, hook: kind, helper };
        let ended = failed.map(|why| Fact::Hooked {
            uid,
            container: name,
            run: number,
            hook: kind,
            failed: Some(why),
        });
        [begun].into_iter().chain(ended).collect()
    }

    fn begun(&mut self, check: std::io::Result<Check>) -> (i32, Option<String>) {
        match check {
            Ok(check) => {
                let helper = check.session.helper;
                self.checks.insert(helper, check);
                (helper, None)
            }
            Err(why) => (0, Some(why.to_string())),
        }
    }

    /// Ends hooks that sleep long enough, and those whose container has ended. Returns what was learned, and when to
    /// look again.
    pub(super) fn end_hooks(&self, world: &World, now: Tick) -> (Vec<Fact>, Option<Tick>) {
        let (mut facts, mut wake_at) = (Vec::new(), None);
        let pods = self.roll.hooked().filter_map(|uid| world.pods.get(uid));
        for hooked in pods.flat_map(hooks) {
            match self.end_hook(&hooked, now) {
                Next::Ended(failed) => facts.push(hooked.ended(failed)),
                Next::At(due) => wake_at = sooner(wake_at, due),
                Next::Later => {}
            }
        }
        (facts, wake_at)
    }

    fn end_hook(&self, hooked: &Hooked, now: Tick) -> Next {
        let Some(hook) = hooked.run.hooks.get(&hooked.kind) else { return Next::Later };
        match (hook.helper.filter(|helper| *helper > 0), handler(hooked.container, hooked.kind)) {
            (Some(_), _) if hooked.run.live() => Next::Later,
            (Some(helper), _) => {
                if let Some(check) = self.checks.get(&helper) {
                    check.session.kill();
                } else if is_child(helper) {
                    let _ = kill(Pid::from_raw(helper), Signal::SIGKILL);
                }
                // Told by its end.
                Next::Later
            }
            (None, Some(Handler::Sleep(span))) if hook.begun + *span <= now => Next::Ended(None),
            (None, Some(Handler::Sleep(_))) if !hooked.run.live() => {
                Next::Ended(Some("container terminated before sleep hook finished".into()))
            }
            (None, Some(Handler::Sleep(span))) => Next::At(hook.begun + *span),
            // A life that died between the two facts of a hook that could not be begun.
            (None, _) => Next::Ended(Some("it could not be begun".into())),
        }
    }
}

enum Next {
    Ended(Option<String>),
    At(Tick),
    Later,
}

fn handler(container: &Container, kind: HookKind) -> Option<&Handler> {
    match kind {
        HookKind::PostStart => container.post_start.as_ref(),
        HookKind::PreStop => container.pre_stop.as_ref(),
    }
}

fn word(handler: &Handler) -> &'static str {
    match handler {
        Handler::Exec(_) => "exec",
        Handler::Http { .. } => "httpGet",
        Handler::Tcp { .. } => "tcpSocket",
        Handler::Grpc { .. } => "grpc",
        Handler::Sleep(_) => "sleep",
    }
}
