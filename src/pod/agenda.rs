//! What is to be looked at when: a moment for each key, and the earliest of all at hand.

use std::collections::{BTreeMap, BTreeSet};

use crate::clock::Tick;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agenda<K> {
    by_key: BTreeMap<K, Tick>,
    by_time: BTreeSet<(Tick, K)>,
}

impl<K> Default for Agenda<K> {
    fn default() -> Self {
        Agenda { by_key: BTreeMap::new(), by_time: BTreeSet::new() }
    }
}

impl<K: Ord + Clone> Agenda<K> {
    /// Puts the key down for this moment and no other; None: for none.
    pub fn set(&mut self, key: &K, at: Option<Tick>) {
        let former = match at {
            Some(at) => self.by_key.insert(key.clone(), at),
            None => self.by_key.remove(key),
        };
        if let Some(former) = former {
            self.by_time.remove(&(former, key.clone()));
        }
        self.by_time.extend(at.map(|at| (at, key.clone())));
    }

    /// The earliest moment of all.
    pub fn first(&self) -> Option<Tick> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes off the keys whose moment has come, the earliest first.
    pub fn due(&mut self, now: Tick) -> Vec<K> {
        let mut due = Vec::new();
        while self.first().is_some_and(|at| at <= now) {
            let Some((_, key)) = self.by_time.pop_first() else { break };
            self.by_key.remove(&key);
            due.push(key);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_is_due_once_at_the_moment_that_was_said_last() {
        let mut agenda = Agenda::default();
        assert_eq!((agenda.first(), agenda.due(Tick(9))), (None, vec![]));
        agenda.set(&"a", Some(Tick(5)));
        agenda.set(&"b", Some(Tick(3)));
        agenda.set(&"c", Some(Tick(4)));
        agenda.set(&"b", Some(Tick(6)));
        agenda.set(&"c", None);
        assert_eq!((agenda.first(), agenda.due(Tick(4))), (Some(Tick(5)), vec![]));
        assert_eq!(agenda.due(Tick(6)), ["a", "b"]);
        assert_eq!((agenda.first(), agenda.due(Tick(9))), (None, vec![]));
        assert_eq!(agenda, Agenda::default());
    }
}
