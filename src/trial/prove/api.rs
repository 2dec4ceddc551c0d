//! The API fails in every way that the contract knows, and in some that it does not.
//!
//! Each scenario also shows that its fault struck, by the simulator's own counters, and what it left in the attempts.

mod answers;
mod outages;

use crate::simulate::{Calls, Faults};
use crate::trial::facts::{self, Attempts};
use crate::trial::prove::{ProveError, Scenario, Setup, World};

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "api-latency",
        breaks: "answers after 0 s to more than the time-out",
        quick: false,
        setup: answers::slow,
        play: |world| Box::pin(answers::latency(world)),
    },
    Scenario {
        name: "api-drop",
        breaks: "connections dropped before and after acceptance",
        quick: true,
        setup,
        play: |world| Box::pin(answers::drops(world)),
    },
    Scenario {
        name: "api-half-answer",
        breaks: "connections broken in an answer's head or body",
        quick: false,
        setup,
        play: |world| Box::pin(answers::half_answers(world)),
    },
    Scenario {
        name: "api-5xx-burst",
        breaks: "two bursts in which Chert answers 3001, 3002 and 3004",
        quick: false,
        setup,
        play: |world| Box::pin(answers::bursts(world)),
    },
    Scenario {
        name: "api-duplicate",
        breaks: "the same text twice to everybody; answers lost",
        quick: false,
        setup: answers::deduplicating,
        play: |world| Box::pin(answers::duplicates(world)),
    },
    Scenario {
        name: "api-html",
        breaks: "502 pages of a proxy, here and there, then nothing else",
        quick: false,
        setup,
        play: |world| Box::pin(outages::html(world)),
    },
    Scenario {
        name: "api-hang",
        breaks: "requests are taken, and none is answered",
        quick: false,
        setup: outages::impatient,
        play: |world| Box::pin(outages::hang(world)),
    },
    Scenario {
        name: "api-refused",
        breaks: "the port is closed for some seconds",
        quick: false,
        setup,
        play: |world| Box::pin(outages::refused(world)),
    },
    Scenario {
        name: "api-401",
        breaks: "the secret is refused for a while",
        quick: false,
        setup: outages::probing_soon,
        play: |world| Box::pin(outages::wrong_secret(world)),
    },
    Scenario {
        name: "api-clock-skew",
        breaks: "signatures whose clock is 10 minutes off",
        quick: false,
        setup: outages::signing,
        play: |world| Box::pin(outages::clock_skew(world)),
    },
    Scenario {
        name: "api-1007",
        breaks: "fewer requests allowed than the lines could send; a long wait asked for",
        quick: false,
        setup: outages::rate_limited,
        play: |world| Box::pin(outages::too_many_requests(world)),
    },
    Scenario {
        name: "api-4002-storm",
        breaks: "all lines saturated for a while",
        quick: false,
        setup,
        play: |world| Box::pin(outages::saturation(world)),
    },
];

const JOBS: usize = 100;
const RECIPIENTS: u32 = 80;

/// A line for everybody: nobody waits for anything but what is broken, and the end comes soon.
fn setup() -> Setup {
    Setup { lines: RECIPIENTS, ..Setup::default() }
}

/// Inserts the jobs and starts two workers.
async fn start(world: &mut World) -> Result<(), ProveError> {
    world.insert(JOBS, RECIPIENTS).await?;
    world.start_worker()?;
    world.start_worker()
}

/// What Chert counted, and what the outbox recorded.
struct Seen {
    calls: Calls,
    attempts: Attempts,
}

impl Seen {
    /// How many faults of this kind struck.
    fn faults(&self, kind: &str) -> u64 {
        self.calls.faults.get(kind).copied().unwrap_or(0)
    }

    /// How many attempts had this outcome, with any code.
    fn attempts(&self, outcome: &str) -> u64 {
        let is_meant = |name: &str| name.split(' ').next() == Some(outcome);
        self.attempts.by_outcome.iter().filter(|(name, _)| is_meant(name)).map(|(_, count)| count).sum()
    }
}

/// Lets this strike until so many of all jobs (0 to 1) have ended: those it struck last then have time to end.
async fn strike(world: &mut World, faults: Faults, share: f64) -> Result<(), ProveError> {
    world.faults(faults)?;
    world.until_ended(share).await?;
    world.faults(Faults::default())
}

async fn look(world: &World) -> Result<Seen, ProveError> {
    // Chert first: a call that comes in between has its attempt at least.
    let calls = world.simulator.handle().calls();
    Ok(Seen { calls, attempts: facts::attempts(&world.pool).await? })
}

/// Waits until every job has ended, and asks that every call has left its attempt.
async fn all_ended(world: &mut World) -> Result<Seen, ProveError> {
    world.until_ended(1.0).await?;
    let seen = look(world).await?;
    let (calls, attempts) = (seen.calls.sends, seen.attempts.total());
    require(world, calls <= attempts, || format!("{calls} calls left {attempts} attempts"));
    Ok(seen)
}

/// The same, and nothing but `sent` will do: no fault here is one that a job should end by.
async fn all_sent(world: &mut World) -> Result<Seen, ProveError> {
    let seen = all_ended(world).await?;
    let otherwise = world.progress().await?.ended_otherwise;
    require(world, otherwise == 0, || format!("{otherwise} jobs ended in another way than sent"));
    Ok(seen)
}

/// Notes how often something happened; less often than it had to is a finding.
fn happened(world: &mut World, what: &str, count: u64, least: u64) {
    world.notes.push(format!("{count} {what}"));
    require(world, count >= least, || format!("{count} {what}: there had to be {least} at least"));
}

/// Every fault must have left an attempt of this outcome.
fn left_attempts(world: &mut World, seen: &Seen, outcome: &str, faults: u64) {
    let attempts = seen.attempts(outcome);
    require(world, attempts >= faults, || format!("{faults} faults left {attempts} attempts called {outcome}"));
}

fn require(world: &mut World, holds: bool, finding: impl FnOnce() -> String) {
    if !holds {
        world.findings.push(finding());
    }
}
