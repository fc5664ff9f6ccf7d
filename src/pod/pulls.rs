//! PURE: which images are pulled for whom, and which are next. One pull serves all who want the image.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A container: its pod's uid, its name.
pub type Who = (String, String);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pulls {
    /// What each still waits for.
    wants: BTreeMap<Who, BTreeSet<String>>,
    /// In the order in which they were asked for, as the kubelet's.
    queue: VecDeque<String>,
    flying: BTreeSet<String>,
}

impl Pulls {
    /// A container needs these images anew. A pull that is under way serves it too.
    pub fn want(&mut self, who: Who, images: impl IntoIterator<Item = String>) {
        let images: BTreeSet<String> = images.into_iter().collect();
        for image in &images {
            if !self.flying.contains(image) && !self.queue.contains(image) {
                self.queue.push_back(image.clone());
            }
        }
        self.wants.insert(who, images);
    }

    /// The next image to be pulled, which is under way from now on; None: none waits, or `most` are under way.
    pub fn next(&mut self, most: u32) -> Option<String> {
        if self.flying.len() as u64 >= u64::from(most) {
            return None;
        }
        let image = self.queue.pop_front()?;
        self.flying.insert(image.clone());
        Some(image)
    }

    /// The pull of an image has ended: those who have all that they want now; where it failed, all who want it.
    pub fn ended(&mut self, image: &str, done: bool) -> Vec<Who> {
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

    /// Only these still want something. The images under way that nobody wants any more.
    pub fn keep(&mut self, wants: impl Fn(&Who) -> bool) -> Vec<String> {
        self.wants.retain(|who, _| wants(who));
        self.forget();
        let wanted = |image: &&String| self.wants.values().any(|images| images.contains(*image));
        self.flying.iter().filter(|image| !wanted(image)).cloned().collect()
    }

    /// Whether this one waits for something.
    pub fn wanted_by(&self, who: &Who) -> bool {
        self.wants.contains_key(who)
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

    fn begun(pulls: &mut Pulls, most: u32) -> Vec<String> {
        std::iter::from_fn(|| pulls.next(most)).collect()
    }

    #[test]
    fn one_pull_serves_all_and_never_more_than_the_most_are_under_way() {
        let mut pulls = Pulls::default();
        for (name, image) in [("a", "x"), ("b", "y"), ("c", "x"), ("d", "z")] {
            pulls.want(who(name), [image.to_owned()]);
        }
        assert_eq!(begun(&mut pulls, 1), ["x"]);
        assert_eq!(begun(&mut pulls, 1), [""; 0]);
        pulls.want(who("e"), ["x".to_owned()]);
        assert_eq!(begun(&mut pulls, 2), ["y"]);
        assert_eq!(pulls.ended("x", true), [who("a"), who("c"), who("e")]);
        assert_eq!(begun(&mut pulls, u32::MAX), ["z"]);
        assert_eq!(pulls.ended("y", false), [who("b")]);
        assert_eq!(pulls.ended("z", true), [who("d")]);
        assert!(pulls.is_empty());
    }

    #[test]
    fn a_container_waits_for_all_its_images_and_for_none_after_the_first_that_fails() {
        let mut pulls = Pulls::default();
        let images = || ["x", "y"].map(str::to_owned);
        pulls.want(who("a"), images());
        assert_eq!(begun(&mut pulls, 2), ["x", "y"]);
        assert_eq!(pulls.ended("y", true), []);
        assert_eq!(pulls.ended("x", true), [who("a")]);
        pulls.want(who("a"), images());
        assert_eq!(begun(&mut pulls, 1), ["x"]);
        assert_eq!(pulls.ended("x", false), [who("a")]);
        assert_eq!((begun(&mut pulls, 1), pulls.is_empty()), (Vec::new(), true), "y was for nobody else");
    }

    #[test]
    fn what_nobody_wants_any_more_is_told_and_not_begun() {
        let mut pulls = Pulls::default();
        pulls.want(who("a"), ["x".to_owned()]);
        pulls.want(who("b"), ["y".to_owned()]);
        assert_eq!(begun(&mut pulls, 1), ["x"]);
        assert_eq!(pulls.keep(|who| who.1 == "b"), ["x"]);
        assert!(!pulls.wanted_by(&who("a")) && pulls.wanted_by(&who("b")));
        assert_eq!(pulls.keep(|_| false), ["x"]);
        assert_eq!(pulls.ended("x", true), []);
        assert_eq!((begun(&mut pulls, 1), pulls.is_empty()), (Vec::new(), true));
    }
}
