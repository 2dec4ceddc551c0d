//! What is wrong with a file, or looks wrong: where, what and what to write instead.

use std::fmt;

use serde::Serialize;

use crate::campaign::file::node::{Node, Place};

/// As many are kept of one file; the first are worth reading.
const MOST: usize = 50;

/// One thing about a file. Shown as `12:7: steps[2].send.body: message — hint`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// Where in the campaign, e.g. `steps[2].send.body`; empty for the file as a whole.
    pub path: String,
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

impl Finding {
    pub fn at(path: &str, line: usize, column: usize, message: impl Into<String>, hint: impl Into<String>) -> Finding {
        Finding { line, column, path: path.to_owned(), message: message.into(), hint: hint.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.line, self.column)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        write!(f, "{} — {}", self.message, self.hint)
    }
}

/// Gathers findings of one file, so that all of them can be told at once.
#[derive(Debug, Default)]
pub struct Findings {
    /// What could not be read.
    faults: Vec<Finding>,
    /// What was read, and no file may say.
    refused: Vec<Finding>,
}

impl Findings {
    /// About a value.
    pub fn add(&mut self, place: &Place<'_>, message: impl Into<String>, hint: impl Into<String>) {
        self.at(&place.path, place.node.line, place.node.column, message, hint);
    }

    /// About a part of a text, which begins at a byte of it.
    pub fn add_within(
        &mut self,
        place: &Place<'_>,
        offset: usize,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let (line, column) = place.node.position_of(offset);
        self.at(&place.path, line, column, message, hint);
    }

    /// About a value that was read all the same. A file is refused for it; of a definition that is stored, people are on their way through
    /// it, and it is run.
    pub fn refuse(&mut self, place: &Place<'_>, message: impl Into<String>, hint: impl Into<String>) {
        self.refuse_at(&place.path, place.node.line, place.node.column, message, hint);
    }

    /// The same about a part of a text.
    pub fn refuse_within(
        &mut self,
        place: &Place<'_>,
        offset: usize,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let (line, column) = place.node.position_of(offset);
        self.refuse_at(&place.path, line, column, message, hint);
    }

    /// About a value, in a sentence that ends with what to do, after a colon.
    pub fn add_sentence(&mut self, place: &Place<'_>, sentence: &str) {
        let (message, hint) = sentence.split_once(": ").unwrap_or((sentence, "write it in another way"));
        self.add(place, message, hint);
    }

    pub fn at(&mut self, path: &str, line: usize, column: usize, message: impl Into<String>, hint: impl Into<String>) {
        keep(&mut self.faults, Finding::at(path, line, column, message, hint));
    }

    pub fn refuse_at(
        &mut self,
        path: &str,
        line: usize,
        column: usize,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        keep(&mut self.refused, Finding::at(path, line, column, message, hint));
    }

    pub fn is_empty(&self) -> bool {
        self.faults.is_empty() && self.refused.is_empty()
    }

    /// What could not be read.
    pub fn faults(self) -> Vec<Finding> {
        self.faults
    }

    /// All, in the order of the file.
    pub fn sorted(self) -> Vec<Finding> {
        let mut found = [self.faults, self.refused].concat();
        found.sort_by_key(|finding| (finding.line, finding.column));
        found.truncate(MOST);
        found
    }
}

fn keep(found: &mut Vec<Finding>, finding: Finding) {
    if found.len() < MOST {
        found.push(finding);
    }
}

/// What a value is, in words.
pub fn kind_of(node: &Node) -> String {
    use crate::campaign::file::node::Value;
    match &node.value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(value) => format!("the truth value {value}"),
        Value::Number(text) => format!("the number {text}"),
        Value::Text(_) => "a text".to_owned(),
        Value::List(_) => "a list".to_owned(),
        Value::Map(_) => "a mapping of keys to values".to_owned(),
    }
}

/// The name that was probably meant, e.g. "did you mean `schedule`?"; else the names that there are.
pub fn did_you_mean<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    match nearest(written, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => "none is known here".to_owned(),
        None => format!("known here: {}", known.join(", ")),
    }
}

/// The one name that a typing error may have come from.
pub fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let written = written.to_lowercase();
    // Longer names are not typed that wrong, and comparing them costs the product of the lengths.
    if written.len() > 100 {
        return None;
    }
    let allowed = (written.chars().count() / 3).min(3);
    let distance = |name: &str| strsim::damerau_levenshtein(&written, &name.to_lowercase());
    let near = known.into_iter().map(|name| (distance(name), name)).filter(|(distance, _)| *distance <= allowed);
    near.min_by_key(|(distance, _)| *distance).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_finds_the_name_that_was_meant() {
        let known = ["schedule", "steps", "send", "windows"];
        assert_eq!(did_you_mean("shedule", known), "did you mean `schedule`?");
        assert_eq!(did_you_mean("Steps", known), "did you mean `steps`?");
        assert_eq!(did_you_mean("audience", known), "known here: schedule, steps, send, windows");
        let long = "x".repeat(101);
        assert_eq!(nearest(&long, [long.as_str()]), None, "not even compared");
    }
}
