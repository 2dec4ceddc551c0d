//! Campaign files: YAML in, a checked campaign or everything that is wrong with it out.

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
use crate::campaign::file::node::Place;
use crate::campaign::lint;
use crate::campaign::program::Program;

/// A file without faults.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    pub campaign: Campaign,
    pub program: Program,
    /// What is allowed and looks like a mistake, in the order of the file.
    pub warnings: Vec<Finding>,
}

/// Reads a campaign.
/// Errors: all that is wrong with the file, in its order; of what is no YAML, the first thing.
pub fn read(source: &str) -> Result<Checked, Vec<Finding>> {
    let root = node::parse(source).map_err(|finding| vec![*finding])?;
    let mut findings = Findings::default();
    let campaign = read::campaign(&Place::root(&root), &mut findings);
    let Some(campaign) = campaign.filter(|_| findings.is_empty()) else {
        return Err(findings.sorted());
    };
    let program = Program::of(&campaign.steps);
    let mut warnings = Findings::default();
    for warning in lint::lint(&campaign) {
        let at = root.follow(&warning.path);
        warnings.at(&warning.path, at.line, at.column, warning.message, warning.hint);
    }
    Ok(Checked { campaign, program, warnings: warnings.sorted() })
}
