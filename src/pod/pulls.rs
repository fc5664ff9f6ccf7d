//! PURE: which images are pulled for whom, and which are next. One pull serves all who want the image.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::clock::Tick;

/// A container: its pod's uid, its name.
pub type Who = (String, String);

/// What is pulled, and as whom. Pods that would ask as others do not share a pull: what a registry refuses to one it may
/// give to the other, and nobody shall wait for, or be told, what concerns another's login. The layers are shared all
/// the same: the second pull finds them in the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pull {
    /// In full form.
    pub image: String,
    /// The Secrets whose logins are tried first, as the pod names them: `namespace/name`.
    pub secrets: Vec<String>,
}

/// An image on its way, as the operator is told of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OnTheWay {
    /// The full form of its name.
    pub image: String,
    /// Who waits for it.
    pub whose: Vec<Who>,
    /// How long it has been under way; None: it waits for its turn.
    pub millis: Option<u64>,
    /// None before its manifest is known.
    pub layers: Vec<Layer>,
}

/// How far one layer is, in bytes of its blob.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    pub done: u64,
    pub total: u64,
    /// Those of `done` that were there before.
    pub had: u64,
}

/// registryPullQPS and registryBurst, as client-go's token bucket: `burst` at once, then so many a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// 0: no bound.
    pub per_second: u32,
    pub burst: u32,
}

/// The tokens that there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// In thousand millionths, and when it had so many; None: it is full.
    level: Option<(u64, Tick)>,
}

impl Bucket {
    /// Takes one, if there is one.
    pub fn take(&mut self, rate: Rate, now: Tick) -> bool {
        const TOKEN: u64 = 1_000_000_000;
        if rate.per_second == 0 {
            return true;
        }
        let full = u64::from(rate.burst) * TOKEN;
        let level = self.level.map_or(full, |(level, at)| {
            // A nanosecond brings as many parts of a token as there are tokens a second.
            let nanos = u64::try_from((now - at).as_nanos()).unwrap_or(u64::MAX);
            level.saturating_add(nanos.saturating_mul(rate.per_second.into())).min(full)
        });
        let left = level.checked_sub(TOKEN);
        self.level = Some((left.unwrap_or(level), now));
        left.is_some()
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pulls {
    /// What each still waits for.
    wants: BTreeMap<Who, BTreeSet<Pull>>,
    /// In the order in which they were asked for, as the kubelet's.
    queue: VecDeque<Pull>,
    flying: BTreeSet<Pull>,
}

impl Pulls {
    /// A container needs these images anew. A pull that is under way serves it too.
    pub fn want(&mut self, who: Who, images: impl IntoIterator<Item = Pull>) {
        let images: BTreeSet<Pull> = images.into_iter().collect();
        for image in &images {
            if !self.flying.contains(image) && !self.queue.contains(image) {
                self.queue.push_back(image.clone());
            }
        }
        self.wants.insert(who, images);
    }

    /// The next image to be pulled, which is under way from now on; None: none waits, or `most` are under way.
    pub fn next(&mut self, most: u32) -> Option<Pull> {
        if self.flying.len() as u64 >= u64::from(most) {
            return None;
        }
        let image = self.queue.pop_front()?;
        self.flying.insert(image.clone());
        Some(image)
    }

    /// The pull of an image has ended: those who have all that they want now; where it failed, all who want it.
    pub fn ended(&mut self, image: &Pull, done: bool) -> Vec<Who> {
        self.flying.remove(image);
        let mut served = Vec::new();
        for (who, images) in &mut self.wants {
            if images.remove(image) && (!done || images.is_empty()) {
                served.push(who.clone());
            }
        }
        served.iter().for_each(|who| drop(self.wants.remove(who)));
        self.forget();
        served
    }

    /// The pull of an image has ended and is to be made again: the next one, if it is still wanted.
    pub fn again(&mut self, pull: &Pull) {
        self.flying.remove(pull);
        self.queue.push_front(pull.clone());
        self.forget();
    }

    /// Only these still want something. The images under way that nobody wants any more.
    pub fn keep(&mut self, wants: impl Fn(&Who) -> bool) -> Vec<Pull> {
        self.wants.retain(|who, _| wants(who));
        self.forget();
        let wanted = |image: &&Pull| self.wants.values().any(|images| images.contains(*image));
        self.flying.iter().filter(|image| !wanted(image)).cloned().collect()
    }

    /// Whether this one waits for something.
    pub fn wanted_by(&self, who: &Who) -> bool {
        self.wants.contains_key(who)
    }

    /// All images that somebody waits for, those under way first, then in their turn; and who it is.
    pub fn all(&self) -> Vec<(&Pull, Vec<Who>)> {
        let whose = |image: &Pull| {
            let wants = self.wants.iter().filter(|(_, images)| images.contains(image));
            wants.map(|(who, _)| who.clone()).collect()
        };
        self.flying.iter().chain(&self.queue).map(|image| (image, whose(image))).collect()
    }

    /// All who wait for something.
    pub fn waiting(&self) -> Vec<Who> {
        self.wants.keys().cloned().collect()
    }

    pub fn is_empty(&self) -> bool {
        self.wants.is_empty() && self.flying.is_empty()
    }

    fn forget(&mut self) {
        let wants = &self.wants;
        self.queue.retain(|image| wants.values().any(|images| images.contains(image)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(name: &str) -> Who {
        ("u".to_owned(), name.to_owned())
    }

    fn of(image: &str) -> Pull {
        Pull { image: image.to_owned(), ..Pull::default() }
    }

    fn begun(pulls: &mut Pulls, most: u32) -> Vec<String> {
        std::iter::from_fn(|| pulls.next(most)).map(|pull| pull.image).collect()
    }

    #[test]
    fn one_pull_serves_all_and_never_more_than_the_most_are_under_way() {
        let mut pulls = Pulls::default();
        for (name, image) in [("a", "x"), ("b", "y"), ("c", "x"), ("d", "z")] {
            pulls.want(who(name), [of(image)]);
        }
        assert_eq!(begun(&mut pulls, 1), ["x"]);
        assert_eq!(begun(&mut pulls, 1), [""; 0]);
        let told: Vec<_> =
            pulls.all().into_iter().map(|(image, whose)| (image.image.as_str(), whose)).collect();
        assert_eq!(told, [("x", vec![who("a"), who("c")]), ("y", vec![who("b")]), ("z", vec![who("d")])]);
        pulls.want(who("e"), [of("x")]);
        assert_eq!(begun(&mut pulls, 2), ["y"]);
        assert_eq!(pulls.ended(&of("x"), true), [who("a"), who("c"), who("e")]);
        assert_eq!(begun(&mut pulls, u32::MAX), ["z"]);
        assert_eq!(pulls.ended(&of("y"), false), [who("b")]);
        assert_eq!(pulls.ended(&of("z"), true), [who("d")]);
        assert!(pulls.is_empty());
    }

    #[test]
    fn i2_a_bucket_bounds_the_pulls_of_a_second() {
        // Per second, burst, and at which tenths of a second a pull may begin.
        let table: &[(u32, u32, &[(u64, bool)])] = &[
            (5, 2, &[(0, true), (0, true), (0, false), (1, false), (2, true), (3, false), (4, true)]),
            (5, 2, &[(0, true), (90, true), (90, true), (90, false)]),
            (5, 0, &[(0, false), (100, false)]),
            (0, 0, &[(0, true), (0, true)]),
            (1, 1, &[(0, true), (9, false), (10, true)]),
        ];
        for (per_second, burst, tries) in table {
            let (rate, mut bucket) = (Rate { per_second: *per_second, burst: *burst }, Bucket::default());
            for (tenth, expected) in *tries {
                let now = Tick(1_000_000_000 + tenth * 100_000_000);
                assert_eq!(bucket.take(rate, now), *expected, "{rate:?} at {tenth}");
            }
        }
    }

    #[test]
    fn a_container_waits_for_all_its_images_and_for_none_after_the_first_that_fails() {
        let mut pulls = Pulls::default();
        let images = || ["x", "y"].map(of);
        pulls.want(who("a"), images());
        assert_eq!(begun(&mut pulls, 2), ["x", "y"]);
        assert_eq!(pulls.ended(&of("y"), true), []);
        assert_eq!(pulls.ended(&of("x"), true), [who("a")]);
        pulls.want(who("a"), images());
        assert_eq!(begun(&mut pulls, 1), ["x"]);
        assert_eq!(pulls.ended(&of("x"), false), [who("a")]);
        assert_eq!((begun(&mut pulls, 1), pulls.is_empty()), (Vec::new(), true), "y was for nobody else");
    }

    #[test]
    fn a_pull_that_is_made_again_is_the_next_one_if_it_is_still_wanted() {
        let mut pulls = Pulls::default();
        for (name, image) in [("a", "x"), ("b", "y"), ("c", "z")] {
            pulls.want(who(name), [of(image)]);
        }
        assert_eq!(begun(&mut pulls, 2), ["x", "y"]);
        pulls.again(&of("x"));
        pulls.keep(|who| who.1 != "b");
        pulls.again(&of("y"));
        assert_eq!(begun(&mut pulls, 2), ["x", "z"]);
        assert_eq!(pulls.ended(&of("x"), true), [who("a")]);
    }

    #[test]
    fn who_asks_as_another_waits_for_a_pull_of_his_own() {
        let mut pulls = Pulls::default();
        let with = |secrets: &[&str]| Pull {
            secrets: secrets.iter().map(|one| (*one).to_owned()).collect(),
            ..of("x")
        };
        for (name, secrets) in
            [("a", &["n/one"][..]), ("b", &[]), ("c", &["n/one"]), ("d", &["n/two", "n/one"])]
        {
            pulls.want(who(name), [with(secrets)]);
        }
        let flying: Vec<_> = std::iter::from_fn(|| pulls.next(9)).collect();
        assert_eq!(flying, [with(&["n/one"]), with(&[]), with(&["n/two", "n/one"])]);
        assert_eq!(pulls.ended(&with(&[]), false), [who("b")]);
        assert_eq!(pulls.ended(&with(&["n/one"]), true), [who("a"), who("c")]);
        assert!(pulls.wanted_by(&who("d")));
    }

    #[test]
    fn what_nobody_wants_any_more_is_told_and_not_begun() {
        let mut pulls = Pulls::default();
        pulls.want(who("a"), [of("x")]);
        pulls.want(who("b"), [of("y")]);
        assert_eq!(begun(&mut pulls, 1), ["x"]);
        assert_eq!(pulls.keep(|who| who.1 == "b"), [of("x")]);
        assert!(!pulls.wanted_by(&who("a")) && pulls.wanted_by(&who("b")));
        assert_eq!(pulls.keep(|_| false), [of("x")]);
        assert_eq!(pulls.ended(&of("x"), true), []);
        assert_eq!((begun(&mut pulls, 1), pulls.is_empty()), (Vec::new(), true));
    }
}
