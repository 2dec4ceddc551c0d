//! What a campaign file names beside it: the CSV of its audience, as `campaign apply` would find it, and its calendar.

use std::path::{Path, PathBuf};

use crate::campaign::calendar::Calendar;
use crate::campaign::file::node::MAX_BYTES;
use crate::campaign::file::shape::{Audience, Holidays, Missing, Variable};
use crate::campaign::file::{Checked, Finding};
use crate::cli::campaign::people::{self, People};
use crate::units::counted;

/// So many names of columns are shown.
const SHOWN: usize = 20;

/// Where a file lies that a campaign file names.
pub fn beside(file: &Path, name: &str) -> PathBuf {
    file.parent().unwrap_or(Path::new(".")).join(name)
}

/// Reads the calendar that a campaign names beside it: its days are then the campaign's own.
/// Errors: there is none, or it is no calendar.
pub fn read_calendar(file: &Path, checked: &mut Checked) -> Result<(), Finding> {
    let Some(Holidays::Named(name)) = &checked.campaign.calendar else { return Ok(()) };
    if Calendar::named(name).is_some() {
        return Ok(());
    }
    let about = |message: String| {
        checked.about("calendar", message, "write a line such as `2026-12-25 Christmas Day` for each day of it")
    };
    let path = beside(file, name);
    let text = super::read(&path).map_err(|findings| about(format!("{}: {}", path.display(), findings[0].message)))?;
    let calendar = match Calendar::read(name, &text) {
        _ if text.len() > MAX_BYTES => return Err(about(format!("{name} is larger than {MAX_BYTES} bytes"))),
        Ok(calendar) if calendar.holidays().is_empty() => return Err(about(format!("there is no day in {name}"))),
        calendar => calendar.map_err(|error| about(error.to_string()))?,
    };
    checked.campaign.calendar = Some(Holidays::Days { days: calendar.holidays().clone() });
    Ok(())
}

/// Looks at the CSV of a campaign, and returns what looks wrong: it is not there yet, lines of it are bad, or it lacks a column that the
/// steps ask for.
/// Errors: what makes `campaign apply` refuse it, whatever its flags.
pub fn look(file: &Path, checked: &Checked) -> Result<Vec<Finding>, Finding> {
    let Audience::Csv { csv, .. } = &checked.campaign.audience else { return Ok(Vec::new()) };
    let about = |message: String, hint: &str| checked.about("audience.csv", message, hint);
    let path = beside(file, csv);
    if let Ok(false) = path.try_exists() {
        let message = format!("there is no file {}", path.display());
        return Ok(vec![about(message, "put it there: campaign plan and campaign apply fail without it")]);
    }
    let people = people::read(&path)
        .map_err(|error| about(format!("{error:#}"), "mend it: campaign plan and campaign apply refuse it"))?;
    let mut warnings = lacks(checked, &people);
    if let Some((line, problem)) = people.problems.first() {
        let (bad, all) = (people.problems.len(), counted(people.people.len(), "line", "lines"));
        let are = if bad == 1 { "is" } else { "are" };
        let message = format!("{bad} of {all} {are} bad, the first is line {line}: {problem}");
        warnings.insert(0, about(message, "mend the file, or apply it with --leave-out-bad"));
    }
    Ok(warnings)
}

/// What looks wrong with the people of a campaign's CSV as a whole: there are none, or they lack a column that the steps ask for.
pub fn lacks(checked: &Checked, people: &People) -> Vec<Finding> {
    let about = |message: String, hint: &str| checked.about("audience.csv", message, hint);
    let mut warnings = Vec::new();
    if people.people.is_empty() {
        warnings.push(about("the file has no people".to_owned(), "write a line for each, below that of the columns"));
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
    warnings
}
