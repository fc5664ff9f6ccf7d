//! What was done to the names of a store, as one who reads the console knows it: what began when, and what was
//! acknowledged when. From this follows what may be there after a power cut at any moment. Pure.

use std::collections::{BTreeMap, BTreeSet};

/// Where a name leads: the digest of a manifest; None: nowhere.
pub type State = Option<String>;

/// One command. Commands that run at once change different names.
struct Change {
    /// None: none is changed, as by prune.
    name: Option<String>,
    to: State,
    /// Whether it removes what no name leads to, at its end.
    sweeps: bool,
    begun: u64,
    done: Option<u64>,
}

/// Moments are numbers that grow: places in a log of writes, or a count.
#[derive(Default)]
pub struct Book {
    first: BTreeMap<String, State>,
    changes: Vec<Change>,
}

impl Book {
    pub fn new(first: BTreeMap<String, State>) -> Book {
        Book { first, changes: Vec::new() }
    }

    /// Where the names led before all.
    pub fn first(&self) -> BTreeMap<String, State> {
        self.first.clone()
    }

    /// Notes that a command begins; its number.
    pub fn begin(&mut self, at: u64, change: Option<(String, State)>, sweeps: bool) -> usize {
        let (name, to) = change.map_or((None, None), |(name, to)| (Some(name), to));
        self.changes.push(Change { name, to, sweeps, begun: at, done: None });
        self.changes.len() - 1
    }

    /// Notes that it has told its success.
    pub fn done(&mut self, number: usize, at: u64) {
        self.changes[number].done = Some(at);
    }

    /// All names that ever led somewhere, or may have.
    pub fn names(&self) -> BTreeSet<String> {
        self.first
            .keys()
            .chain(self.changes.iter().filter_map(|change| change.name.as_ref()))
            .cloned()
            .collect()
    }

    /// Where a name may lead after a cut at this moment: where the last acknowledged command left it, or where one that
    /// was under way would.
    pub fn allowed(&self, name: &str, at: u64) -> BTreeSet<State> {
        let mut allowed = BTreeSet::from([self.first.get(name).cloned().flatten()]);
        for change in
            self.changes.iter().filter(|change| change.begun <= at && change.name.as_deref() == Some(name))
        {
            if change.done.is_some_and(|done| done <= at) {
                allowed.clear();
            }
            allowed.insert(change.to.clone());
        }
        allowed
    }

    /// Whether nothing unnamed may be left: a command that sweeps was acknowledged, and all others ended before it began.
    pub fn swept(&self, at: u64) -> bool {
        let begun = || self.changes.iter().filter(|change| change.begun <= at);
        begun().any(|sweep| {
            let others = || begun().filter(|other| !std::ptr::eq(*other, sweep));
            sweep.sweeps
                && sweep.done.is_some_and(|done| done <= at)
                && others().all(|other| other.done.is_some_and(|done| done <= sweep.begun))
        })
    }

    /// Whether a command was under way.
    pub fn working(&self, at: u64) -> bool {
        self.under_way(at).next().is_some()
    }

    /// The names whose commands were under way.
    pub fn open(&self, at: u64) -> BTreeSet<String> {
        self.under_way(at).filter_map(|change| change.name.clone()).collect()
    }

    fn under_way(&self, at: u64) -> impl Iterator<Item = &Change> {
        self.changes
            .iter()
            .filter(move |change| change.begun <= at && change.done.is_none_or(|done| done > at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_acknowledged_stays_and_what_was_under_way_may_be() {
        let state = |text: &str| (text != "-").then(|| text.to_owned());
        let mut book = Book::new(BTreeMap::from([("a".to_owned(), state("1"))]));
        let second = book.begin(10, Some(("a".into(), state("2"))), false);
        book.done(second, 20);
        // Never acknowledged.
        book.begin(30, Some(("a".into(), state("3"))), false);
        let last = book.begin(40, Some(("a".into(), state("-"))), true);
        book.done(last, 50);
        let table: [(u64, &[&str]); 6] = [
            (9, &["1"]),
            (10, &["1", "2"]),
            (20, &["2"]),
            (30, &["2", "3"]),
            (49, &["-", "2", "3"]),
            (50, &["-"]),
        ];
        for (at, expected) in table {
            let expected: BTreeSet<State> = expected.iter().map(|text| state(text)).collect();
            assert_eq!(book.allowed("a", at), expected, "at {at}");
        }
        assert_eq!(book.allowed("b", 50), BTreeSet::from([None]));
        assert_eq!((book.open(25), book.open(35)), (BTreeSet::new(), BTreeSet::from(["a".to_owned()])));
        // One that was never acknowledged may have left something.
        assert!(!book.swept(60));
    }

    #[test]
    fn a_sweep_leaves_nothing_once_all_others_have_ended() {
        let mut book = Book::default();
        let pull = book.begin(1, Some(("a".into(), None)), false);
        book.done(pull, 5);
        let prune = book.begin(6, None, true);
        assert!(!book.swept(6));
        book.done(prune, 8);
        assert!(!book.swept(7) && book.swept(8));
        book.begin(9, None, false);
        assert!(book.swept(8) && !book.swept(9));
    }
}
