//! The plan, turn after turn: only what changed since the last one is thought about again.
//!
//! It comes to what `plan` comes to, action by action: tests/simulation.rs holds it to that at each step of each history.
//! A pod of which nothing is to be done now stays so until a fact is learned of it, until something else is wanted of
//! it, or until its own wake-up. A pod that is to be done something about is thought about at each step.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::admit::{Edit, decide, edit};
use super::room::Room;
use super::{Action, Plan, Turn, end, one, stop};
use crate::clock::{Tick, Wall};
use crate::pod::agenda::Agenda;
use crate::pod::batch;
use crate::pod::facts::{Fact, PodFacts, World};
use crate::pod::spec::{Desired, Pod};

/// What a look at the whole comes to.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// The first of what is due.
    Act(Action),
    /// Nothing is due before that moment, or before there is news.
    Rest(Option<Tick>),
}

#[derive(Clone)]
pub struct Planner {
    desired: Desired,
    /// The wanted pods' places in `desired.pods` by uid, and how often each name is wanted.
    places: BTreeMap<String, usize>,
    names: BTreeMap<Name, u32>,
    /// The uids of admitted pods that are to be thought about.
    open: BTreeSet<String>,
    /// When the others are.
    wakes: Agenda<String>,
    admission: Admission,
    /// The pods that Jobs want now: the last ones of `desired.pods`.
    owned: Vec<Arc<Pod>>,
    /// Nothing is to be noted of Jobs before this moment, as the wall clock stood then; None: they are to be thought about.
    jobs_rest: Option<(Option<Tick>, Wall)>,
}

/// Who comes in.
#[derive(Clone, Default)]
struct Admission {
    /// The admitted pods, each with whether it is in the room.
    there: BTreeMap<String, (Arc<Pod>, bool)>,
    /// How many of them bear a name.
    names: BTreeMap<Name, u32>,
    room: Room,
    /// The wanted pods that are not there, by their places.
    absent: BTreeMap<usize, Arc<Pod>>,
    /// The uids of admitted pods that ask to be resized.
    resizes: BTreeSet<String>,
    /// What is still to be done of what was decided; None: it must be decided anew.
    decided: Option<VecDeque<Action>>,
}

/// Namespace and name.
type Name = (String, String);

impl Planner {
    /// `world` may hold what a former life left.
    pub fn new(desired: Desired, world: &World) -> Self {
        let mut planner = Planner {
            desired: Desired::default(),
            places: BTreeMap::new(),
            names: BTreeMap::new(),
            open: BTreeSet::new(),
            wakes: Agenda::default(),
            admission: Admission::default(),
            owned: Vec::new(),
            jobs_rest: None,
        };
        for (uid, pod) in &world.pods {
            planner.open.insert(uid.clone());
            planner.admission.look(uid, Some(pod));
        }
        planner.want(desired);
        planner
    }

    pub fn desired(&self) -> &Desired {
        &self.desired
    }

    /// From now on this is wanted.
    pub fn want(&mut self, mut desired: Desired) {
        desired.pods.retain(|pod| pod.owner.is_none());
        desired.pods.extend(self.owned.iter().cloned());
        self.jobs_rest = None;
        let former = std::mem::replace(&mut self.desired, desired);
        let desired = &self.desired;
        let rules =
            |of: &Desired| (of.ending, of.returns, of.ending_grace, of.ending_grace_critical, of.restart_cap);
        let same_pods = former.pods.len() == desired.pods.len()
            && former.pods.iter().zip(&desired.pods).all(|(one, other)| Arc::ptr_eq(one, other));
        let same_rules = rules(&former) == rules(desired);
        if same_pods && same_rules && former.node == desired.node && former.projections == desired.projections
        {
            return;
        }
        let places = |pods: &[Arc<Pod>]| -> BTreeMap<String, usize> {
            pods.iter().enumerate().map(|(place, pod)| (pod.uid.clone(), place)).collect()
        };
        let before = std::mem::replace(&mut self.places, places(&desired.pods));
        self.names = BTreeMap::new();
        desired.pods.iter().for_each(|pod| count(&mut self.names, pod, true));
        let there = &self.admission.there;
        if same_rules {
            let wanted = |places: &BTreeMap<String, usize>, of: &Desired, uid: &str| {
                places.get(uid).and_then(|place| of.pods.get(*place).map(Arc::as_ptr))
            };
            let changed = there.keys().filter(|uid| {
                wanted(&before, &former, uid) != wanted(&self.places, desired, uid)
                    || former.projections.get(*uid) != desired.projections.get(*uid)
            });
            self.open.extend(changed.cloned());
        } else {
            self.open.extend(there.keys().cloned());
        }
        let absent = desired.pods.iter().enumerate().filter(|(_, pod)| !there.contains_key(&pod.uid));
        self.admission.absent = absent.map(|(place, pod)| (place, pod.clone())).collect();
        self.admission.decided = None;
    }

    /// The wall clock stands so.
    pub fn at(&mut self, wall: Wall) {
        self.desired.wall = wall;
    }

    /// The world has learned this fact.
    pub fn learned(&mut self, fact: &Fact, world: &World) {
        if matches!(fact, Fact::Job(_)) {
            self.jobs_rest = None;
        }
        let Some(uid) = fact.uid() else { return };
        let pod = world.pods.get(uid);
        let former = self.admission.there.get(uid).map(|(spec, _)| spec);
        if pod.map(|pod| &pod.spec).or(former).is_some_and(|spec| spec.owner.is_some()) {
            self.jobs_rest = None;
        }
        let was = self.admission.there.contains_key(uid);
        if pod.is_some() {
            self.open.insert(uid.to_owned());
        } else {
            self.open.remove(uid);
        }
        self.wakes.set(&uid.to_owned(), None);
        let news = self.admission.look(uid, pod);
        if let Some(place) = self.places.get(uid).filter(|_| was != pod.is_some()) {
            match self.desired.pods.get(*place).filter(|_| pod.is_none()) {
                Some(wanted) => drop(self.admission.absent.insert(*place, wanted.clone())),
                None => drop(self.admission.absent.remove(place)),
            }
        }
        self.admission.heed(fact, news);
    }

    /// The first of what is to be done now, or when to look again.
    pub fn next(&mut self, world: &World, now: Tick) -> Step {
        if let Some(action) = self.jobs(world, now) {
            return Step::Act(action);
        }
        let critical = self.critical(world, now);
        self.open.extend(self.wakes.due(now));
        while let Some(uid) = self.open.first().cloned() {
            let mut turn = Turn { desired: &self.desired, now, plan: Plan::default() };
            let resizes = world.pods.get(&uid).is_some_and(|pod| {
                let (edit, again) = self.edit(&uid, pod);
                one(&mut turn, pod, edit, again, critical)
            });
            let Plan { actions, wake_at } = turn.plan;
            self.admission.resizes(&uid, resizes);
            if let Some(action) = actions.into_iter().next() {
                return Step::Act(action);
            }
            self.open.remove(&uid);
            self.wakes.set(&uid, wake_at);
        }
        match self.admission.first(&self.desired, &self.places, world) {
            Some(action) => Step::Act(action),
            None => {
                let jobs = self.jobs_rest.and_then(|(until, _)| until);
                Step::Rest([self.wakes.first(), jobs].into_iter().flatten().min())
            }
        }
    }

    /// What is to be noted of Jobs; else the pods that they want are wanted. Thought about anew after a fact of theirs, at
    /// their own wake-up, and where the wall clock was set.
    fn jobs(&mut self, world: &World, now: Tick) -> Option<Action> {
        let second = |wall: Wall| wall.time(Tick(0)).as_second();
        if let Some((until, wall)) = self.jobs_rest
            && until.is_none_or(|until| now < until)
            && (second(wall) - second(self.desired.wall)).abs() <= 1
        {
            return None;
        }
        let wants = batch::decide::decide(&self.desired, world, now);
        if let Some(note) = wants.notes.into_iter().next() {
            return Some(Action::Note(note));
        }
        // What stays stays the same allocation.
        let keep = |pod: Arc<Pod>| {
            let same = |known: &&Arc<Pod>| Arc::ptr_eq(known, &pod) || known.uid == pod.uid && **known == pod;
            self.owned.iter().find(same).cloned().unwrap_or(pod)
        };
        let owned: Vec<_> = wants.pods.into_iter().map(keep).collect();
        let same = owned.len() == self.owned.len()
            && owned.iter().zip(&self.owned).all(|(one, other)| Arc::ptr_eq(one, other));
        if !same {
            self.owned = owned;
            self.want(self.desired.clone());
        }
        self.jobs_rest = Some((wants.wake_at, self.desired.wall));
        None
    }

    /// How what is wanted differs from an admitted pod, and whether one of its uid is to come after it.
    fn edit(&self, uid: &str, pod: &PodFacts) -> (Edit, bool) {
        let Desired { ending, returns, pods, .. } = &self.desired;
        let wanted = self.places.get(uid).and_then(|place| pods.get(*place));
        let named = || self.names.contains_key(&name(&pod.spec));
        let again = (!ending || *returns) && wanted.is_some();
        (edit(*ending, wanted.map(Arc::as_ref), named, pod), again)
    }

    /// As `end::critical`, which is asked by an ending machine only. Where critical pods wait for the others, that
    /// moment moves with each of those, and with the clock.
    fn critical(&mut self, world: &World, now: Tick) -> Tick {
        if !self.desired.ending || stop::share(&self.desired).is_none() {
            return now;
        }
        let waits = |pod: &PodFacts| pod.spec.critical() && pod.dismissed.is_none();
        self.open.extend(world.pods.iter().filter(|(_, pod)| waits(pod)).map(|(uid, _)| uid.clone()));
        end::critical(&Turn { desired: &self.desired, now, plan: Plan::default() }, world)
    }
}

impl Admission {
    /// Whether an admitted pod asks to be resized.
    fn resizes(&mut self, uid: &str, asks: bool) {
        let asked = if asks { !self.resizes.insert(uid.to_owned()) } else { self.resizes.remove(uid) };
        if asks != asked {
            self.decided = None;
        }
    }

    /// Looks at one pod again. Whether it came, went, was resized, or is done or not done any more.
    fn look(&mut self, uid: &str, pod: Option<&PodFacts>) -> bool {
        let now = pod.map(|pod| (&pod.spec, !pod.done()));
        let before = self.there.get(uid).map(|(spec, roomed)| (spec, *roomed));
        let same = |(one, roomed): (&Arc<Pod>, bool), (other, then): (&Arc<Pod>, bool)| {
            Arc::ptr_eq(one, other) && roomed == then
        };
        if now.is_none() && before.is_none() || now.zip(before).is_some_and(|(now, before)| same(now, before))
        {
            return false;
        }
        if pod.is_none() {
            self.resizes.remove(uid);
        }
        if let Some((spec, roomed)) = self.there.remove(uid) {
            count(&mut self.names, &spec, false);
            if roomed {
                self.room.give(&spec);
            }
        }
        if let Some((spec, roomed)) = now {
            count(&mut self.names, spec, true);
            if roomed {
                self.room.take(spec);
            }
            self.there.insert(uid.to_owned(), (spec.clone(), roomed));
        }
        true
    }

    /// What was decided stands where what came of it is what was to come. `news`: of who is there, or in the room.
    fn heed(&mut self, fact: &Fact, news: bool) {
        let front = self.decided.as_ref().and_then(VecDeque::front);
        let expected = match (fact, front) {
            (Fact::Admitted { pod }, Some(Action::Admit(wanted)))
            | (Fact::Allocated { pod }, Some(Action::Allocate(wanted))) => Arc::ptr_eq(pod, wanted),
            (
                Fact::Rejected { pod, reason, message },
                Some(Action::Reject { pod: wanted, reason: why, message: words }),
            )
            | (
                Fact::ResizePending { pod, reason, message },
                Some(Action::Postpone { pod: wanted, reason: why, message: words }),
            ) => Arc::ptr_eq(pod, wanted) && reason == why && message == words,
            (Fact::Withdrawn { uid }, Some(Action::Withdraw { uid: wanted })) => uid == wanted,
            _ => false,
        };
        let told =
            matches!(fact, Fact::Rejected { .. } | Fact::ResizePending { .. } | Fact::Withdrawn { .. });
        match (&mut self.decided, expected) {
            (Some(decided), true) => drop(decided.pop_front()),
            (decided, false) if news || told => *decided = None,
            (Some(_) | None, _) => {}
        }
    }

    fn first(
        &mut self,
        desired: &Desired,
        places: &BTreeMap<String, usize>,
        world: &World,
    ) -> Option<Action> {
        if self.decided.is_none() {
            let absent = self.absent.iter().filter(|_| !desired.ending);
            let free = absent.filter(|(_, pod)| !self.names.contains_key(&name(pod)));
            let mut asks: BTreeMap<usize, &Arc<Pod>> = free.map(|(place, pod)| (*place, pod)).collect();
            let resizes = self.resizes.iter().filter_map(|uid| places.get(uid));
            asks.extend(resizes.filter_map(|place| Some((*place, desired.pods.get(*place)?))));
            let actions = decide(asks.into_values(), &mut self.room, &desired.node, world);
            // They are in when they have come, and have what they asked for when they have got it.
            for action in &actions {
                if let Action::Admit(pod) = action {
                    self.room.give(pod);
                } else if let Action::Allocate(pod) = action
                    && let Some((is, _)) = self.there.get(&pod.uid)
                {
                    self.room.resize(pod, is);
                }
            }
            self.decided = Some(actions.into());
        }
        self.decided.as_ref().and_then(VecDeque::front).cloned()
    }
}

fn name(pod: &Pod) -> Name {
    (pod.namespace.clone(), pod.name.clone())
}

fn count(names: &mut BTreeMap<Name, u32>, pod: &Pod, more: bool) {
    let name = name(pod);
    let times = names.get(&name).copied().unwrap_or(0);
    match if more { times.saturating_add(1) } else { times.saturating_sub(1) } {
        0 => drop(names.remove(&name)),
        times => drop(names.insert(name, times)),
    }
}
