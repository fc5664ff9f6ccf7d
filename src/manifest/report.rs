//! What is found while a document is read: each finding with its line and field, all of them, none twice.

use super::tree::{Node, Path};
use crate::pod::spec::Problem;

/// How many findings of one file are told, and of each document at least one: a hostile file could have hundreds of
/// thousands, and each costs PID 1 its time.
pub const MOST: usize = 100;

/// Where in its document a part stands whose paths begin anew.
#[derive(Clone, Debug, Default)]
pub struct Place {
    before: Path,
    /// It is a pod that was made of a workload's template, which stands there.
    template: Option<&'static str>,
}

impl Place {
    /// An item of the list that is here.
    pub fn item(&self, index: usize) -> Place {
        Place { before: self.before.key("items").item(index), template: None }
    }

    /// The template of the workload that is here.
    pub fn template(&self, at: &'static str) -> Place {
        Place { before: self.before.clone(), template: Some(at) }
    }

    /// The path as its author knows it.
    fn whole(&self, path: &Path) -> Path {
        let mut whole = self.before.clone();
        let metadata = Path::of("metadata");
        // Its name and namespace are the workload's own.
        let own = ["name", "namespace"].iter().any(|field| path.within(&metadata.key(field)));
        if let Some(at) = self.template.filter(|_| !own && *path != metadata) {
            whole = whole.key(at);
        }
        whole.0.extend(path.0.iter().cloned());
        whole
    }
}

/// The findings of one document.
pub struct Report<'d> {
    file: &'d str,
    root: &'d Node,
    place: Place,
    found: Vec<(Path, Problem)>,
    /// How many may be told.
    room: usize,
    refused: bool,
}

impl<'d> Report<'d> {
    /// `told`: how many findings the file has already.
    pub fn new(file: &'d str, root: &'d Node, told: usize) -> Self {
        let room = MOST.saturating_sub(told).max(1);
        Report { file, root, place: Place::default(), found: Vec::new(), room, refused: false }
    }

    /// What this word stands for; refused, as `shown`, where it is none of these. One that is empty is not offered.
    pub fn one_of<T: Copy>(
        &mut self,
        path: &Path,
        given: Option<&str>,
        shown: &str,
        words: &[(&str, T)],
    ) -> Option<T> {
        let found = words.iter().find(|(word, _)| given == Some(*word)).map(|(_, value)| *value);
        if found.is_none() {
            let known: Vec<&str> =
                words.iter().map(|(word, _)| *word).filter(|word| !word.is_empty()).collect();
            self.refuse(path, format!("{shown} is none of {}", known.join(", ")));
        }
        found
    }

    /// Its root stands there in the document.
    pub fn at(self, place: Place) -> Self {
        Report { place, ..self }
    }

    /// Whether no further finding will be told, so that its words need not be made.
    pub fn full(&self) -> bool {
        self.found.len() >= self.room
    }

    pub fn root(&self) -> &'d Node {
        self.root
    }

    /// The document cannot be taken. What follows from a refusal already made is not told again.
    pub fn refuse(&mut self, path: &Path, message: impl Into<String>) {
        if self.full() {
            self.refused = true;
            return;
        }
        let told = |(earlier, problem): &(Path, Problem)| problem.refused && path.within(earlier);
        if !self.found.iter().any(told) {
            self.add(path, message.into(), true);
        }
    }

    /// The document is taken, but its author should know.
    pub fn warn(&mut self, path: &Path, message: impl Into<String>) {
        if !self.full() && !self.found.iter().any(|(earlier, _)| earlier == path) {
            self.add(path, message.into(), false);
        }
    }

    pub fn refused(&self) -> bool {
        self.refused
    }

    /// Whether something at this path or below was refused.
    pub fn refused_within(&self, path: &Path) -> bool {
        self.found.iter().any(|(earlier, problem)| problem.refused && earlier.within(path))
    }

    /// In the order of the file.
    pub fn into_problems(self) -> Vec<Problem> {
        let mut problems: Vec<Problem> = self.found.into_iter().map(|(_, problem)| problem).collect();
        problems.sort_by_key(|problem| problem.line);
        problems
    }

    fn add(&mut self, path: &Path, message: String, refused: bool) {
        self.refused |= refused;
        let last = self.found.len() + 1 == self.room;
        let more = if last { " (and what follows is not told: mend these first)" } else { "" };
        let message = format!("{message}{more}");
        let line = self.root.line_of(path);
        let problem = Problem {
            file: self.file.into(),
            line,
            field: self.place.whole(path).to_string(),
            message,
            refused,
        };
        self.found.push((path.clone(), problem));
    }
}
