//! Campaign files: YAML in, a checked campaign or everything that is wrong with it out. And what is stored of them, to be run.

pub mod finding;
mod hours;
pub mod node;
mod read;
mod reader;
mod schema;
pub mod shape;
pub mod step;
mod steps;
pub mod words;

#[cfg(test)]
mod tests;

pub use finding::Finding;
pub use schema::schema;
pub use shape::Campaign;

use crate::campaign::file::finding::Findings;
use crate::campaign::file::node::{Node, Place};
use crate::campaign::lint;
use crate::campaign::program::Program;

/// A file without faults.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    pub campaign: Campaign,
    pub program: Program,
    /// What is allowed and looks like a mistake, in the order of the file.
    pub warnings: Vec<Finding>,
    /// Where everything stands.
    tree: Node,
}

impl Checked {
    /// A finding about the value that a path such as `audience.csv` leads to.
    pub fn about(&self, path: &str, message: impl Into<String>, hint: impl Into<String>) -> Finding {
        let at = self.tree.follow(path);
        Finding::at(path, at.line, at.column, message, hint)
    }

    /// The same about a part of a text, which begins at a byte of it.
    pub fn about_within(
        &self,
        path: &str,
        offset: usize,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Finding {
        let (line, column) = self.tree.follow(path).position_of(offset);
        Finding::at(path, line, column, message, hint)
    }
}

/// Reads a campaign's file.
/// Errors: all that is wrong with the file, in its order; of what is no YAML, the first thing.
pub fn read(source: &str) -> Result<Checked, Vec<Finding>> {
    let (root, cut) = node::parse(source).map_err(|finding| vec![*finding])?;
    let mut findings = Findings::default();
    let campaign = read::campaign(&Place::root(&root), &mut findings);
    let Some(campaign) = campaign.filter(|_| findings.is_empty()) else {
        return Err(findings.sorted());
    };
    let program = Program::of(&campaign.steps);
    let mut warnings = Findings::default();
    let again = root.get("audience").and_then(|audience| audience.get("again"));
    for warning in lint::lint(&campaign, again.is_some()) {
        let at = root.follow(&warning.path);
        warnings.at(&warning.path, at.line, at.column, warning.message, warning.hint);
    }
    for Finding { line, column, path, message, hint } in cut {
        warnings.at(&path, line, column, message, hint);
    }
    Ok(Checked { campaign, program, warnings: warnings.sorted(), tree: root })
}

/// Reads a definition that is stored, which some release took for a file without faults. What this one refuses in files is none of its
/// faults: people are on their way through it.
/// Errors: what has no meaning to this release, such as a key of a later one.
pub fn read_stored(definition: &serde_json::Value) -> Result<(Campaign, Program), Vec<Finding>> {
    let root = Node::of(definition);
    let mut findings = Findings::default();
    let campaign = read::campaign(&Place::root(&root), &mut findings);
    let faults = findings.faults();
    match campaign.filter(|_| faults.is_empty()) {
        Some(campaign) => {
            let program = Program::of(&campaign.steps);
            Ok((campaign, program))
        }
        None => Err(faults),
    }
}
