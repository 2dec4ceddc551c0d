//! What a campaign file names beside it: the CSV of its audience, as `campaign apply` would find it.

use std::path::{Path, PathBuf};

use crate::campaign::file::shape::{Audience, Missing, Variable};
use crate::campaign::file::{Checked, Finding};
use crate::cli::campaign::people;
use crate::units::counted;

/// So many names of columns are shown.
const SHOWN: usize = 20;

/// Where the CSV of a campaign file lies.
pub fn csv_of(file: &Path, csv: &str) -> PathBuf {
    file.parent().unwrap_or(Path::new(".")).join(csv)
}

/// Looks at the CSV of a campaign, and returns what looks wrong: it is not there yet, lines of it are bad, or it lacks a column that the
/// steps ask for.
/// Errors: what makes `campaign apply` refuse it, whatever its flags.
pub fn look(file: &Path, checked: &Checked) -> Result<Vec<Finding>, Finding> {
    let Audience::Csv { csv, .. } = &checked.campaign.audience else { return Ok(Vec::new()) };
    let about = |message: String, hint: &str| checked.about("audience.csv", message, hint);
    let path = csv_of(file, csv);
    if let Ok(false) = path.try_exists() {
        let message = format!("there is no file {}", path.display());
        return Ok(vec![about(message, "put it there: campaign plan and campaign apply fail without it")]);
    }
    let people = people::read(&path)
        .map_err(|error| about(format!("{error:#}"), "mend it: campaign plan and campaign apply refuse it"))?;
    let mut warnings = Vec::new();
    if let Some((line, problem)) = people.problems.first() {
        let (bad, all) = (people.problems.len(), counted(people.people.len(), "line", "lines"));
        let are = if bad == 1 { "is" } else { "are" };
        let message = format!("{bad} of {all} {are} bad, the first is line {line}: {problem}");
        warnings.push(about(message, "mend the file, or apply it with --leave-out-bad"));
    }
    let columns: Vec<&str> = people.columns.iter().take(SHOWN).map(String::as_str).collect();
    let hint = format!("add it to the file, whose columns are {}, or take the variable out", columns.join(", "));
    for (name, variable) in &checked.campaign.variables {
        if people.columns.contains(name) {
            continue;
        }
        let then = match variable {
            Variable::Needed { missing: Missing::Hold } => "is held",
            Variable::Needed { missing: Missing::Skip } => "is left out",
            Variable::Default { .. } => "gets its default",
        };
        warnings.push(about(format!("the file has no column `{name}`, so that everybody {then}"), &hint));
    }
    Ok(warnings)
}
