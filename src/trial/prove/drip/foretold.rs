//! What `campaign plan` foretells, held against what happens.

use std::collections::BTreeMap;
use std::time::Duration;
use std::{fmt, fs};

use chrono::{DateTime, NaiveDate, Utc};
use serde::Deserialize;

use crate::trial::prove::drip::{BY_HAND, OVER, apply, count_jobs, quick, replica, steps};
use crate::trial::prove::world::phone;
use crate::trial::prove::{ProveError, Setup, World};

/// So much may the end differ from the one that is foretold.
const TOLERANCE: f64 = 0.1;
const PEOPLE: u32 = 160;

/// The plan of a campaign.
#[derive(Debug, Clone, Deserialize)]
pub struct Foretold {
    pub starts_at: DateTime<Utc>,
    finishes_from: DateTime<Utc>,
    finishes_by: DateTime<Utc>,
    steps: Vec<Messages>,
    loads: Vec<LineLoad>,
}

#[derive(Debug, Clone, Deserialize)]
struct LineLoad {
    id: String,
    days: Vec<Day>,
}

#[derive(Debug, Clone, Deserialize)]
struct Day {
    date: NaiveDate,
    #[serde(flatten)]
    sent: Sent,
}

/// What a line sends on a day.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub struct Sent {
    pub first_touches: u32,
    pub follow_ups: u32,
}

impl fmt::Display for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} first touches and {} follow-ups", self.first_touches, self.follow_ups)
    }
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

    /// By line and day.
    pub fn loads(&self) -> BTreeMap<(String, NaiveDate), Sent> {
        let days =
            |line: &LineLoad| line.days.iter().map(|day| ((line.id.clone(), day.date), day.sent)).collect::<Vec<_>>();
        self.loads.iter().flat_map(days).collect()
    }

    /// Holds the end of what began then against the middle of the range, and what was sent against what was foretold. Returns how many
    /// seconds it took.
    pub fn judge_the_end(&self, world: &mut World, began: DateTime<Utc>) -> f64 {
        let ledger = world.simulator.ledger();
        let took = ledger.iter().map(|entry| entry.at).max().map_or(0.0, |end| (end - began).as_seconds_f64());
        let (from, by) = self.range();
        let off = 2.0 * took / (from + by) - 1.0;
        world.notes.push(format!(
            "{} messages in {took:.1} s, foretold {from:.1} to {by:.1} s, {:+.1} % off the middle",
            ledger.len(),
            off * 100.0
        ));
        if off.abs() > TOLERANCE {
            world.findings.push(format!("it took {took:.1} s, where {from:.1} to {by:.1} s were foretold"));
        }
        let messages: usize = self.steps.iter().map(|step| step.messages.1).sum();
        if ledger.len() != messages {
            world.findings.push(format!("{} messages, where {messages} were foretold", ledger.len()));
        }
        took
    }
}

pub fn setup() -> Setup {
    let (gap, first_touch_gap) = (Duration::from_secs(1), Duration::from_secs(2));
    Setup { lines: 20, gap, first_touch_gap, simulator: quick(), worker_env: replica(), ..Setup::default() }
}

/// Nobody answers and nothing is killed, and answers would not end it: what is left of the range is how much of their pace lines keep.
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
    let took = foretold.judge_the_end(world, began);
    let (from, by) = foretold.range();
    if !(from..=by).contains(&took) {
        world.findings.push(format!("{took:.1} s lie outside of what was foretold"));
    }
    count_jobs(world).await
}
