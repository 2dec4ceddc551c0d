//! `campaign list`, `status`, `pause`, `resume`, `stop` and `run`.

use std::process::ExitCode;

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use clap::Args;
use serde_json::json;
use sqlx::PgPool;

use crate::campaign::fires;
use crate::campaign::running::Running;
use crate::cli::{DatabaseOptions, print_json, table};
use crate::database;
use crate::outbox::campaigns::overview::{self, Listed};
use crate::outbox::campaigns::{CampaignsError, manage, versions};

/// List the campaigns, with how many people stand where.
#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    database: DatabaseOptions,
    /// Print them as JSON.
    #[arg(long)]
    json: bool,
}

impl List {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let pool = self.database.outbox(1).await?;
        let listed = overview::list(&pool, None).await?;
        match self.json {
            true => print_json(&listed)?,
            false => outln!("{}", rows(&listed).trim_fmt()),
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn rows(listed: &[Listed]) -> comfy_table::Table {
    let mut rows =
        table(&["campaign", "version", "state", "next firing", "active", "held", "done", "stopped", "queued"]);
    for one in listed {
        let next_at = one.next_at.map_or_else(String::new, shown);
        let counts = [one.active, one.held, one.done, one.stopped, one.queued].map(|count| count.to_string());
        rows.add_row(
            [vec![one.name.clone(), one.version.to_string(), one.state.clone(), next_at], counts.to_vec()].concat(),
        );
    }
    rows
}

fn shown(at: DateTime<Utc>) -> String {
    at.format("%F %T").to_string()
}

/// Show one campaign: its newest firings, and how many people stand at which step, held or stopped for what.
#[derive(Debug, Args)]
pub struct Status {
    #[command(flatten)]
    database: DatabaseOptions,
    /// The campaign.
    name: String,
    /// Print it as JSON.
    #[arg(long)]
    json: bool,
}

impl Status {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let pool = self.database.outbox(1).await?;
        let listed = overview::list(&pool, Some(&self.name)).await?;
        let Some(campaign) = listed.first() else {
            return Err(CampaignsError::NoSuchCampaign(self.name).into());
        };
        let (standing, ticks) = overview::standing(&pool, &self.name).await?;
        if self.json {
            print_json(&json!({"campaign": campaign, "firings": ticks, "people": standing}))?;
            return Ok(ExitCode::SUCCESS);
        }
        outln!("{}", rows(&listed).trim_fmt());
        if !ticks.is_empty() {
            let mut firings = table(&["firing", "version", "state", "people", "enrolled", "left out", "error"]);
            for tick in &ticks {
                let state = [Some(tick.state.as_str()), tick.reason.as_deref(), tick.manual.then_some("by hand")];
                let left_out = tick.excluded.0.iter().map(|(reason, count)| format!("{count} {reason}"));
                firings.add_row([
                    shown(tick.at),
                    tick.version.to_string(),
                    state.into_iter().flatten().collect::<Vec<_>>().join(", "),
                    tick.people.to_string(),
                    tick.enrolled.to_string(),
                    left_out.collect::<Vec<_>>().join(", "),
                    tick.error.clone().unwrap_or_default(),
                ]);
            }
            outln!("\n{}", firings.trim_fmt());
        }
        if !standing.is_empty() {
            let mut people = table(&["version", "step", "state", "reason", "people"]);
            let running = running(&pool, &self.name, campaign.version).await;
            for row in &standing {
                let named = running.as_ref().ok().filter(|_| row.version == campaign.version);
                let step = named.and_then(|running| running.program.get(usize::try_from(row.step).ok()?));
                people.add_row([
                    row.version.to_string(),
                    step.map_or_else(|| row.step.to_string(), |step| step.name.to_string()),
                    row.state.clone(),
                    row.reason.clone().unwrap_or_default(),
                    row.people.to_string(),
                ]);
            }
            outln!("\n{}", people.trim_fmt());
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Pause a campaign: nothing of it is sent within a second, also of what is queued, and nobody moves on.
#[derive(Debug, Args)]
pub struct Pause {
    #[command(flatten)]
    database: DatabaseOptions,
    /// The campaign.
    name: String,
}

impl Pause {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let pool = self.database.outbox(1).await?;
        let before = manage::pause(&pool, &self.name).await?;
        match before.as_str() {
            "stopped" => outln!("{} was stopped already: nothing of it is sent", self.name),
            _ => outln!(
                "{} is paused (it was {before}); chert-outbox campaign resume {} lets it go on",
                self.name,
                self.name
            ),
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Let a campaign that was paused or stopped go on.
///
/// After a pause, everybody goes on where they stand. After a stop, enrolments are over, and new ones begin with its next firing.
#[derive(Debug, Args)]
pub struct Resume {
    #[command(flatten)]
    database: DatabaseOptions,
    /// The campaign.
    name: String,
}

impl Resume {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let pool = self.database.outbox(1).await?;
        let listed = overview::list(&pool, Some(&self.name)).await?;
        let version = listed.first().map(|one| one.version);
        let version = version.ok_or_else(|| CampaignsError::NoSuchCampaign(self.name.clone()))?;
        let campaign = running(&pool, &self.name, version).await?.campaign;
        let next_after = |now| fires::next_after(&campaign.schedule, campaign.zone, now);
        let before = manage::resume(&pool, &self.name, next_after).await?;
        outln!("{} runs (it was {before})", self.name);
        Ok(ExitCode::SUCCESS)
    }
}

/// Stop a campaign: all its enrolments end, and what is queued is canceled.
#[derive(Debug, Args)]
pub struct Stop {
    #[command(flatten)]
    database: DatabaseOptions,
    /// The campaign.
    name: String,
}

impl Stop {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let pool = self.database.outbox(1).await?;
        manage::stop(&pool, &self.name).await?;
        // From here on nothing of it is sent; workers end the rest too, should this be interrupted.
        let mut sum = manage::Ended::default();
        loop {
            let ended = manage::end(&pool, &self.name).await?;
            if ended.is_nothing() {
                break;
            }
            sum.enrolments += ended.enrolments;
            sum.jobs += ended.jobs;
        }
        outln!("{} is stopped: {} enrolments ended here", self.name, sum.enrolments);
        Ok(ExitCode::SUCCESS)
    }
}

/// Let a campaign fire now, whatever its schedule says.
#[derive(Debug, Args)]
pub struct Run {
    #[command(flatten)]
    database: DatabaseOptions,
    /// The campaign.
    name: String,
}

impl Run {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let pool = self.database.outbox(1).await?;
        let tick = manage::fire(&pool, &self.name).await?;
        outln!("{} fires (firing {tick}); chert-outbox campaign status {} shows whom it finds", self.name, self.name);
        Ok(ExitCode::SUCCESS)
    }
}

async fn running(pool: &PgPool, name: &str, version: i32) -> anyhow::Result<Running> {
    let mut tx = database::begin_plain(pool).await.map_err(CampaignsError::Read)?;
    let definition = versions::definition(&mut tx, name, version).await?;
    let definition = definition.context("the campaign's version is not there")?;
    Ok(Running::read(&definition)?)
}
