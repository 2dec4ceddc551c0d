//! What `campaign plan` foretells, held against what happens.

use std::fs;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Deserialize;

use crate::trial::prove::drip::{BY_HAND, OVER, apply, count_jobs, replica, steps};
use crate::trial::prove::world::phone;
use crate::trial::prove::{ProveError, Setup, World};

/// So much may the end differ from the one that is foretold.
const TOLERANCE: f64 = 0.1;
const PEOPLE: u32 = 160;

/// The plan of a campaign.
#[derive(Debug, Clone, Deserialize)]
pub struct Foretold {
    starts_at: DateTime<Utc>,
    finishes_from: DateTime<Utc>,
    finishes_by: DateTime<Utc>,
    steps: Vec<Messages>,
}

/// A step's, the fewest and the most.
#[derive(Debug, Clone, Deserialize)]
struct Messages {
    messages: (usize, usize),
}

impl Foretold {
    /// Asks the command, and keeps what it says beside the logs.
    pub async fn ask(world: &mut World, file: &str) -> Result<Foretold, ProveError> {
        // As the replicas are told.
        let plan = world.asked(&["campaign", "plan", "--json", "--unanswered-limit", "none", file]).await?;
        fs::write(world.logs.path().join("plan.json"), &plan)?;
        Ok(serde_json::from_str(&plan).map_err(std::io::Error::from)?)
    }

    /// How long it takes, at least and at most, in seconds.
    pub fn range(&self) -> (f64, f64) {
        let secs = |until: DateTime<Utc>| (until - self.starts_at).as_seconds_f64();
        (secs(self.finishes_from), secs(self.finishes_by))
    }

    /// After this nobody waits any longer.
    pub fn patience(&self) -> Duration {
        Duration::from_secs_f64(2.0 * self.range().1 + 60.0)
    }
}

pub fn setup() -> Setup {
    let (gap, first_touch_gap) = (Duration::from_secs(1), Duration::from_secs(2));
    Setup { lines: 20, gap, first_touch_gap, worker_env: replica(), ..Setup::default() }
}

/// Nobody answers and nothing is killed, and answers would not end it: what is left of the range is how much of their pace lines keep. The
/// end is held against the middle.
pub async fn hold(world: &mut World) -> Result<(), ProveError> {
    let phones: Vec<String> = (0..PEOPLE).map(phone).collect();
    let rest = format!("zone: UTC\nschedule: {BY_HAND}\nstop_on: [goal]\nsteps:\n{}", steps());
    let file = apply(world, "drip", "never", &rest, &phones).await?;
    world.start_worker()?;
    world.start_worker()?;
    let foretold = Foretold::ask(world, &file).await?;
    world.command(&["campaign", "run", "drip"]).await?;
    let pool = world.pool.clone();
    world.until("the drip is over", || async { Ok(sqlx::query_scalar(OVER).fetch_one(&pool).await?) }).await?;
    let began: DateTime<Utc> = sqlx::query_scalar("select at from outbox.ticks").fetch_one(&world.pool).await?;
    let ledger = world.simulator.ledger();
    let took = ledger.iter().map(|entry| entry.at).max().map_or(0.0, |end| (end - began).as_seconds_f64());
    let (from, by) = foretold.range();
    let off = 2.0 * took / (from + by) - 1.0;
    world.notes.push(format!(
        "{} messages in {took:.1} s, foretold {from:.1} to {by:.1} s, {:+.1} % off the middle",
        ledger.len(),
        off * 100.0
    ));
    if off.abs() > TOLERANCE || !(from..=by).contains(&took) {
        world.findings.push(format!("it took {took:.1} s, where {from:.1} to {by:.1} s were foretold"));
    }
    let messages: usize = foretold.steps.iter().map(|step| step.messages.1).sum();
    if ledger.len() != messages {
        world.findings.push(format!("{} messages, where {messages} were foretold", ledger.len()));
    }
    count_jobs(world).await
}
