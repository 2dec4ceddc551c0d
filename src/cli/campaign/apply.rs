//! `campaign apply`: files into the database, as new versions.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::json;

use crate::campaign::file::shape::{Audience, Campaign, StopOn};
use crate::campaign::file::words::Again;
use crate::campaign::file::{self, Checked};
use crate::campaign::fires;
use crate::cli::campaign::people::{self, People};
use crate::cli::{DatabaseOptions, print_json};
use crate::outbox::campaigns::versions::{self, NewVersion};

/// So many bad lines are shown.
const SHOWN: usize = 20;

/// Bring campaign files into the database: each that says anything new becomes a new version.
///
/// New enrolments start with it; those that run finish on theirs. A new campaign runs at once; one that was paused or stopped stays so.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  chert-outbox campaign apply jobs/welcome.yaml
  chert-outbox campaign apply jobs/*.yaml

Exit code: 0 applied, 1 a file has errors, or bad lines in its CSV: then nothing of that file, and of those after it, is applied.")]
pub struct Apply {
    #[command(flatten)]
    database: DatabaseOptions,
    /// The campaign files.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Apply a CSV some of whose lines are bad or stand there twice: these are left out, and counted when it fires.
    #[arg(long)]
    leave_out_bad: bool,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

impl Apply {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let mut read = Vec::new();
        for path in &self.files {
            read.push(self.read(path)?);
        }
        let pool = self.database.outbox(2).await?;
        let mut told = Vec::new();
        for (checked, new) in read {
            let campaign = checked.campaign;
            let next_after = |now| fires::next_after(&campaign.schedule, campaign.zone, now);
            let applied = versions::apply(&pool, &new, next_after).await?;
            let next = applied.next_at.map_or("it fires at no time by itself".to_owned(), |at| {
                let zone = campaign.schedule.zone(campaign.zone);
                format!("it fires next at {}", at.with_timezone(&zone).format("%a %F %T %Z"))
            });
            let people = new.people.as_ref().map(|(people, _)| people.len());
            if self.json {
                told.push(json!({
                    "campaign": new.name, "version": applied.version, "unchanged": applied.unchanged, "state": applied.state,
                    "next_at": applied.next_at, "people": people,
                }));
                continue;
            }
            let what = if applied.unchanged { "is as it was" } else { "is applied" };
            let people = people.map_or(String::new(), |people| format!(", {people} people"));
            outln!("{}: version {} {what}, {}{people}; {next}", new.name, applied.version, applied.state);
        }
        if self.json {
            print_json(&told)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// A file and its CSV; nothing is applied before all are read.
    fn read(&self, path: &Path) -> anyhow::Result<(Checked, NewVersion)> {
        let shown = path.display();
        let source = super::read(path).and_then(|source| file::read(&source));
        let checked = match source {
            Ok(checked) => checked,
            Err(findings) => {
                let lines: Vec<String> = findings.iter().map(|finding| format!("{shown}:{finding}")).collect();
                bail!("{}", lines.join("\n"));
            }
        };
        let people = match &checked.campaign.audience {
            Audience::Csv { csv, .. } => Some(self.people(&path.parent().unwrap_or(Path::new(".")).join(csv))?),
            _ => None,
        };
        let new = version(&checked.campaign, people)?;
        Ok((checked, new))
    }

    fn people(&self, path: &Path) -> anyhow::Result<People> {
        let people = people::read(path)?;
        if people.problems.is_empty() {
            return Ok(people);
        }
        let shown = path.display();
        let mut lines: Vec<String> =
            people.problems.iter().take(SHOWN).map(|(line, problem)| format!("{shown}:{line}: {problem}")).collect();
        if let Some(more) = people.problems.len().checked_sub(SHOWN).filter(|more| *more > 0) {
            lines.push(format!("{shown}: {more} more lines"));
        }
        let lines = lines.join("\n");
        if !self.leave_out_bad {
            bail!(
                "{lines}\n{} of {} lines are bad: mend them, or add --leave-out-bad",
                people.problems.len(),
                people.people.len()
            );
        }
        eprintln!("{lines}\n{} of {} lines are left out", people.problems.len(), people.people.len());
        Ok(people)
    }
}

fn version(campaign: &Campaign, people: Option<People>) -> anyhow::Result<NewVersion> {
    let again = match &campaign.audience {
        Audience::Sql { again, .. } | Audience::Csv { again, .. } | Audience::Enrolled { again, .. } => *again,
    };
    let stop_on = campaign.stop_on.iter().map(|stop| match stop {
        StopOn::Reply => "reply".to_owned(),
        StopOn::OptOut => "opt_out".to_owned(),
        StopOn::Goal => "goal".to_owned(),
    });
    Ok(NewVersion {
        name: campaign.name.to_string(),
        definition: serde_json::to_value(campaign).context("writing the campaign as JSON")?,
        again_after: match again {
            Again::Never => None,
            Again::After(length) => Some(length.0),
            Again::Always => Some(Duration::ZERO),
        },
        stop_on: stop_on.collect(),
        labels: json!(campaign.labels),
        priority: campaign.caps.priority,
        people: people.map(|people| (people.people, people.digest)),
    })
}
