//! `campaign apply`: files into the database, as new versions.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use serde_json::json;
use sqlx::PgPool;

use crate::campaign::file::Checked;
use crate::campaign::file::shape::{Audience, Campaign, StopOn};
use crate::campaign::fires;
use crate::campaign::running::Running;
use crate::cli::campaign::beside;
use crate::cli::campaign::lines::Account;
use crate::cli::campaign::people::{self, People};
use crate::cli::campaign::plan::{self, PlanArgs};
use crate::cli::campaign::query;
use crate::cli::{DatabaseOptions, ask, print_json};
use crate::config::UnansweredOptions;
use crate::outbox::campaigns::versions::{self, NewVersion};
use crate::outbox::campaigns::{CampaignsError, overview};
use crate::units::counted;

/// So many bad lines are shown.
const SHOWN: usize = 20;

/// Bring campaign files into the database: each that says anything new becomes a new version.
///
/// Says first what each of them would do, as `campaign plan` does, and asks; with --yes it does neither. New enrolments start with the new
/// version, also those of a firing that has not found its people yet; those that run finish on theirs. A new campaign runs at once; one that
/// was paused or stopped stays so.
#[derive(Debug, Args)]
#[command(
    after_help = "A file that changes nothing is neither planned nor asked about. Where nobody can be asked, as in CI, --yes is needed.

The plan goes by OUTBOX_UNANSWERED_LIMIT, which is an option of workers: give this command the same environment.

Examples:
  chert-outbox campaign apply jobs/welcome.yaml
  chert-outbox campaign apply jobs/*.yaml --yes

What looks wrong in a file and is allowed is told on standard error, as `campaign check` tells it.

Exit code: 0 applied, 1 a file has errors, or bad lines in its CSV, or a role that workers may not become, or a query that Postgres does not
plan, or a line, in its pool or named by a step, that the account does not have (where its lines are known), or the answer was no: then
nothing is applied."
)]
pub struct Apply {
    #[command(flatten)]
    database: DatabaseOptions,
    /// The campaign files.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Apply a CSV some of whose lines are bad or stand there twice: these are left out, and counted when it fires.
    #[arg(long)]
    leave_out_bad: bool,
    /// Apply without a plan and without asking.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    unanswered: UnansweredOptions,
    /// Print the result as JSON; with --yes, since nobody is asked then.
    #[arg(long)]
    json: bool,
}

impl Apply {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let (mut read, mut wrong) = (Vec::new(), Vec::new());
        let mut names = BTreeMap::new();
        for path in &self.files {
            match self.read(path) {
                Ok((checked, new)) => {
                    let twin = super::shared_name(&mut names, &new.name, &path.display().to_string());
                    wrong.extend(twin.map(|twin| format!("{}:{twin}", path.display())));
                    read.push((checked, new));
                }
                Err(error) => wrong.push(format!("{error:#}")),
            }
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        let pool = self.database.outbox(2).await?;
        let account = Account::read(&pool).await?;
        for (path, (checked, _)) in self.files.iter().zip(&read) {
            let (lines, query) =
                (account.must_have_lines(path, checked), query::must_be_planned(&pool, path, checked).await);
            wrong.extend([lines, query].into_iter().filter_map(Result::err).map(|error| format!("{error:#}")));
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        if !self.yes && !self.agreed(&pool, &read).await? {
            eprintln!("nothing was applied");
            return Ok(ExitCode::FAILURE);
        }
        let mut told = Vec::new();
        for (checked, new) in read {
            let campaign = checked.campaign;
            let next_after = |now| fires::next_after(&campaign.schedule, campaign.zone, now);
            let applied = versions::apply(&pool, &new, next_after).await?;
            let next_at = applied.next_at.filter(|_| applied.state != "stopped");
            let next = next_at.map_or("it fires at no time by itself".to_owned(), |at| {
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
            let people = people.map_or(String::new(), |people| format!(", {}", counted(people, "person", "people")));
            outln!("{}: version {} {what}, {}{people}; {next}", new.name, applied.version, applied.state);
        }
        if self.json {
            print_json(&told)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Shows what each file that says anything new would do, and asks once for all of them.
    /// Errors: there is nobody to ask; a plan cannot be made.
    async fn agreed(&self, pool: &PgPool, read: &[(Checked, NewVersion)]) -> anyhow::Result<bool> {
        let mut news = Vec::new();
        for (path, (checked, new)) in self.files.iter().zip(read) {
            if versions::is_news(pool, new).await? {
                news.push((path, checked, new));
            }
        }
        if news.is_empty() {
            return Ok(true);
        }
        ensure!(
            !self.json && ask::is_anybody_there(),
            "{} of {} would change something, and there is nobody to ask: look at chert-outbox campaign plan, then add --yes",
            news.len(),
            counted(read.len(), "file", "files")
        );
        for (path, checked, new) in &news {
            if let Audience::Enrolled { .. } = checked.campaign.audience {
                outln!("{}: the application enrols its people, so that there is nobody to plan for yet\n", new.name);
                continue;
            }
            if let Some(state) = state(pool, &new.name).await?.filter(|state| state != "running") {
                outln!(
                    "{} is {state}, and stays so: nothing of this comes about before campaign resume {}\n",
                    new.name,
                    new.name
                );
            }
            let args = PlanArgs::before_applying(self.database.clone(), self.unanswered, (*path).clone());
            let plan = args.plan(&Running::read(&new.definition)?, pool).await?;
            plan::show_short(&plan, checked.campaign.zone);
        }
        ask::agreed(&format!("apply {}", counted(news.len(), "file", "files")))
    }

    /// A file and its CSV; nothing is applied before all are read.
    fn read(&self, path: &Path) -> anyhow::Result<(Checked, NewVersion)> {
        let checked = super::checked(path)?;
        let people = match &checked.campaign.audience {
            Audience::Csv { csv, .. } => Some(self.people(&beside::beside(path, csv))?),
            _ => None,
        };
        if let Some(people) = &people {
            super::warn(path, &beside::lacks(&checked, people));
        }
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
            lines.push(format!("{shown}: {}", counted(more, "more line", "more lines")));
        }
        let lines = lines.join("\n");
        let (bad, all) = (people.problems.len(), counted(people.people.len(), "line", "lines"));
        let are = if bad == 1 { "is" } else { "are" };
        if !self.leave_out_bad {
            bail!("{lines}\n{bad} of {all} {are} bad: mend the file, or add --leave-out-bad");
        }
        eprintln!("{lines}\n{bad} of {all} {are} left out");
        Ok(people)
    }
}

/// Of a campaign that is there already.
async fn state(pool: &PgPool, name: &str) -> anyhow::Result<Option<String>> {
    match overview::one(pool, name).await {
        Ok(campaign) => Ok(Some(campaign.state)),
        Err(CampaignsError::NoSuchCampaign(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn version(campaign: &Campaign, people: Option<People>) -> anyhow::Result<NewVersion> {
    let stop_on = campaign.stop_on.iter().map(|stop| match stop {
        StopOn::Reply => "reply".to_owned(),
        StopOn::OptOut => "opt_out".to_owned(),
        StopOn::Goal => "goal".to_owned(),
    });
    Ok(NewVersion {
        name: campaign.name.to_string(),
        definition: serde_json::to_value(campaign).context("writing the campaign as JSON")?,
        again_after: campaign.audience.again_after(),
        stop_on: stop_on.collect(),
        labels: json!(campaign.labels),
        priority: campaign.caps.priority,
        people: people.map(|people| (people.people, people.digest)),
    })
}
