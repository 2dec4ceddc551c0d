//! `campaign pause`, `resume`, `stop` and `run`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Args;
use serde_json::Value;
use sqlx::PgPool;

use crate::campaign::fires;
use crate::campaign::running::Running;
use crate::cli::{DatabaseOptions, ask};
use crate::database;
use crate::outbox::campaigns::{CampaignsError, manage, overview, versions};
use crate::units::counted;

/// A stop looks so often, and for so long, whether all of its enrolments are ended.
const PAUSE: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(2);

/// Pause a campaign: nothing of it is sent within a second, also of what is queued, and nobody moves on.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  chert-outbox campaign pause welcome")]
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
/// After a pause, everybody goes on where they stand, and a firing of that time is made up for as `catch_up` says. After a stop, enrolments
/// are over, and new ones begin with its next firing.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  chert-outbox campaign resume welcome")]
pub struct Resume {
    #[command(flatten)]
    database: DatabaseOptions,
    /// The campaign.
    name: String,
}

impl Resume {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let pool = self.database.outbox(1).await?;
        let version = overview::one(&pool, &self.name).await?.version;
        let campaign = running(&pool, &self.name, version).await?.campaign;
        let next_after = |now| fires::next_after(&campaign.schedule, campaign.zone, now);
        let before = manage::resume(&pool, &self.name, next_after).await?;
        outln!("{} runs (it was {before})", self.name);
        Ok(ExitCode::SUCCESS)
    }
}

/// Stop a campaign: all its enrolments end for good, and what is queued is canceled.
///
/// Says first how many, and asks; with --yes it does neither. A pause can be taken back, this cannot.
#[derive(Debug, Args)]
#[command(after_help = "Where nobody can be asked, --yes is needed.

Exit code: 0 stopped, 1 it could not be, or the answer was no: then nothing has ended.")]
pub struct Stop {
    #[command(flatten)]
    database: DatabaseOptions,
    /// The campaign.
    name: String,
    /// Stop it without asking.
    #[arg(long)]
    yes: bool,
}

impl Stop {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let pool = self.database.outbox(1).await?;
        if !self.yes && !self.agreed(&pool).await? {
            eprintln!("nothing was stopped");
            return Ok(ExitCode::FAILURE);
        }
        manage::stop(&pool, &self.name).await?;
        // From here on nothing of it is sent; workers end the rest too, should this be interrupted.
        let began = Instant::now();
        let stopping = loop {
            while !manage::end(&pool, &self.name).await?.is_nothing() {}
            let stopping = manage::stopping(&pool, &self.name).await?;
            // What a worker has in hand at this moment is over in the next.
            if stopping.left == 0 || began.elapsed() > PATIENCE {
                break stopping;
            }
            tokio::time::sleep(PAUSE).await;
        };
        let ended = counted(stopping.ended, "enrolment has", "enrolments have");
        let left = match stopping.left {
            0 => String::new(),
            left => format!("; {} locked at this moment, and left to workers", counted(left, "more is", "more are")),
        };
        outln!("{} is stopped, and {ended} ended{left}", self.name);
        Ok(ExitCode::SUCCESS)
    }

    /// Says what would end, and asks.
    /// Errors: there is no such campaign; there is nobody to ask.
    async fn agreed(&self, pool: &PgPool) -> anyhow::Result<bool> {
        let all = manage::would_end(pool, &self.name).await?;
        let (name, people) = (&self.name, counted(all.enrolments, "enrolment", "enrolments"));
        let queued = counted(all.jobs, "queued job", "queued jobs");
        ensure!(
            ask::is_anybody_there(),
            "a stop of {name} ends {people} for good and cancels {queued}, and there is nobody to ask: \
             add --yes, or hold it by chert-outbox campaign pause {name}"
        );
        ask::agreed(&format!("stop {name}, which ends {people} for good and cancels {queued}"))
    }
}

/// Let a campaign fire now, whatever its schedule says.
///
/// One that is paused or stopped does not: resume it first. It waits for an earlier firing that still enrols. One that the application
/// enrols people in finds nobody, and does not fire.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  chert-outbox campaign run announcement")]
pub struct Run {
    #[command(flatten)]
    database: DatabaseOptions,
    /// The campaign.
    name: String,
}

impl Run {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let pool = self.database.outbox(1).await?;
        let version = overview::one(&pool, &self.name).await?.version;
        let definition = definition(&pool, &self.name, version).await?;
        ensure!(
            definition["audience"]["enrolled"] != true,
            "the application enrols the people of {0}, so that there is nobody to find: \
             select outbox.enrol('{0}', '+15550142200', '{{\"first_name\": \"Ann\"}}') enrols one",
            self.name
        );
        let tick = manage::fire(&pool, &self.name).await?;
        outln!("{} fires (firing {tick}); chert-outbox campaign status {} shows whom it finds", self.name, self.name);
        Ok(ExitCode::SUCCESS)
    }
}

async fn running(pool: &PgPool, name: &str, version: i32) -> anyhow::Result<Running> {
    Ok(Running::read(&definition(pool, name, version).await?)?)
}

async fn definition(pool: &PgPool, name: &str, version: i32) -> anyhow::Result<Value> {
    let mut tx = database::begin_plain(pool).await.map_err(CampaignsError::Read)?;
    let definition = versions::definition(&mut tx, name, version).await?;
    definition.context("the campaign's version is not there")
}
