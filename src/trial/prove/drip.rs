//! A drip campaign while workers that send, receive and work on campaigns are killed all along; its plan, held against what happened;
//! and a campaign that fires every few seconds under clocks an hour apart.

mod clocks;
mod judge;

use std::fmt::Write as _;
use std::fs;
use std::ops::Range;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use rand::RngExt as _;
use serde::Deserialize;

use crate::outbox::lines::{self, Paces, Which};
use crate::simulate::{self, MessageOptions, Recipients};
use crate::trial::prove::world::phone;
use crate::trial::prove::{ProveError, Scenario, Setup, World};

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "drip",
        breaks: "SIGKILL of workers all along a four-step drip, whose people reply and say stop; its plan against its end",
        quick: false,
        setup: || Setup { alone: true, ..setup(Duration::from_millis(600), Duration::from_millis(1_500)) },
        play: |world| Box::pin(drip(world, 400, 2_000..3_000)),
    },
    Scenario {
        name: "drip-full",
        breaks: "the same with 20,000 people",
        quick: false,
        setup: || Setup {
            alone: true,
            only_named: true,
            ..setup(Duration::from_millis(120), Duration::from_millis(380))
        },
        play: |world| Box::pin(full_drip(world)),
    },
    Scenario {
        name: "drip-clocks",
        breaks: "a campaign that fires every 3 s, worked on by three replicas whose clocks are an hour apart",
        quick: false,
        setup: clocks::setup,
        play: |world| Box::pin(clocks::fire(world)),
    },
];

/// A campaign that fires when it is told to.
const BY_HAND: &str = "{ manual: true }";
/// Of the four steps, in which people have time to reply.
const WAIT_SECS: u64 = 4;
/// How many replicas run at a time.
const REPLICAS: usize = 4;
/// Campaigns that would write to the same people under a cap, and how many people these are.
const RIVALS: [&str; 3] = ["spring", "summer", "autumn"];
const WOOED: u32 = 40;
/// Their numbers, which end in digits of people who say nothing.
const FIRST_WOOED: u32 = 900_000;

fn setup(gap: Duration, first_touch_gap: Duration) -> Setup {
    Setup { lines: 20, gap, first_touch_gap, simulator: scripted(), worker_env: replica(), ..Setup::default() }
}

/// People do what their numbers say. A simulated minute is a second, so that they reply within one.
fn scripted() -> simulate::Options {
    let messages = MessageOptions { recipients: Recipients::Scripted, ..MessageOptions::default() };
    simulate::Options { time_scale: 60.0, messages, ..Setup::default().simulator }
}

/// What a worker does that does everything.
fn replica() -> Vec<(&'static str, String)> {
    let env = [
        ("OUTBOX_ROLES", "send,inbound,campaigns"),
        ("OUTBOX_EVENTS_EVERY", "1s"),
        // A text to somebody who said stop would look like a fault.
        ("OUTBOX_OPT_OUT_TEXT", ""),
        // Four messages without a reply is what a drip is.
        ("OUTBOX_UNANSWERED_LIMIT", "none"),
    ];
    env.map(|(name, value)| (name, value.to_owned())).into()
}

/// What `campaign plan` foretells.
#[derive(Debug, Clone, Copy, Deserialize)]
struct Foretold {
    starts_at: DateTime<Utc>,
    finishes_from: DateTime<Utc>,
    finishes_by: DateTime<Utc>,
}

impl Foretold {
    /// How long it takes, at least and at most, in seconds.
    fn range(self) -> (f64, f64) {
        let secs = |until: DateTime<Utc>| (until - self.starts_at).as_seconds_f64();
        (secs(self.finishes_from), secs(self.finishes_by))
    }
}

/// At this rate slots have a guard of 20 ms, and a machine that starts and kills processes stalls for longer now and then: lines are held
/// against a gap that is shorter by as much again.
async fn full_drip(world: &mut World) -> Result<(), ProveError> {
    drip(world, 20_000, 4_000..6_000).await?;
    let paces = Paces { gap: Some(Duration::from_millis(100)), ..Paces::default() };
    lines::set(&world.pool, &Which::All, &paces).await?;
    Ok(())
}

/// `people` go through four steps, and every `kill_ms` one of the replicas is killed, by chance: which wastes what its lines could have
/// sent in the two seconds ahead.
async fn drip(world: &mut World, people: u32, kill_ms: Range<u64>) -> Result<(), ProveError> {
    let mut kills = Kills::every(kill_ms);
    compete(world, &mut kills).await?;
    let phones: Vec<String> = (0..people).map(phone).collect();
    let file = write_campaign(world, "drip", BY_HAND, "again: never", "4 in 1h", &steps(), &phones)?;
    let file = file.display().to_string();
    world.command(&["campaign", "apply", "--yes", &file]).await?;
    let plan = world.asked(&["campaign", "plan", "--json", &file]).await?;
    fs::write(world.logs.path().join("plan.json"), &plan)?;
    let foretold: Foretold = serde_json::from_str(&plan).map_err(std::io::Error::from)?;
    world.command(&["campaign", "run", "drip"]).await?;
    let most = Duration::from_secs_f64(2.0 * foretold.range().1 + 60.0);
    let over = "select not exists (select from outbox.ticks where finished_at is null)
                   and not exists (select from outbox.enrolments where campaign = 'drip' and state in ('active', 'held'))";
    kills.until(world, "the drip is over", most, over).await?;
    world.notes.push(format!("{people} people, {} kills", kills.count));
    judge::drip(world, foretold).await?;
    count_jobs(world).await
}

/// Three campaigns have fired when the first replicas start, to the same people, under a cap of one message: each gets one, from any.
async fn compete(world: &mut World, kills: &mut Kills) -> Result<(), ProveError> {
    let rivals: Vec<String> = (0..WOOED).map(|n| phone(FIRST_WOOED + n)).collect();
    for name in RIVALS {
        let step = format!("  - {{ name: offer, send: {{ body: '{{{{ name }}}}, {name} is here' }} }}\n");
        let file = write_campaign(world, name, BY_HAND, "again: never", "1 in 1h", &step, &rivals)?;
        world.command(&["campaign", "apply", "--yes", &file.display().to_string()]).await?;
    }
    for name in RIVALS {
        world.command(&["campaign", "run", name]).await?;
    }
    for _ in 0..REPLICAS {
        world.start_worker()?;
    }
    let sent = "select count(distinct phone) = 40 and bool_and(state not in ('queued', 'sending')) from outbox.jobs";
    kills.until(world, "the rivals have written", Duration::from_secs(60), sent).await
}

fn steps() -> String {
    let mut steps = String::new();
    for (n, name) in judge::STEPS.iter().enumerate() {
        if n > 0 {
            let _ = writeln!(steps, "  - wait: {WAIT_SECS}s");
        }
        let _ = writeln!(steps, "  - {{ name: {name}, send: {{ body: 'Hi {{{{ name }}}}, the {name} word' }} }}");
    }
    steps
}

/// Writes a campaign and its people to files, and returns the first.
fn write_campaign(
    world: &World,
    name: &str,
    schedule: &str,
    again: &str,
    cap: &str,
    steps: &str,
    phones: &[String],
) -> Result<PathBuf, ProveError> {
    let mut people = "phone,name\n".to_owned();
    for (n, phone) in phones.iter().enumerate() {
        let _ = writeln!(people, "{phone},n{n}");
    }
    fs::write(world.logs.path().join(format!("{name}.csv")), people)?;
    let source = format!(
        "name: {name}\nzone: UTC\nschedule: {schedule}\naudience: {{ csv: {name}.csv, {again} }}\n\
         variables: {{ name: {{ missing: hold }} }}\ncaps: {{ per_recipient: {cap} }}\nsteps:\n{steps}"
    );
    let file = world.logs.path().join(format!("{name}.yaml"));
    fs::write(&file, source)?;
    Ok(file)
}

/// SIGKILL to one replica after the other.
struct Kills {
    every_ms: Range<u64>,
    next: Instant,
    count: u32,
}

impl Kills {
    fn every(every_ms: Range<u64>) -> Kills {
        let next = Instant::now() + Duration::from_millis(every_ms.end);
        Kills { every_ms, next, count: 0 }
    }

    /// Kills, and starts another in its place, until the question is answered with true; a finding if it is not within `most`.
    async fn until(
        &mut self,
        world: &mut World,
        what: &str,
        most: Duration,
        question: &'static str,
    ) -> Result<(), ProveError> {
        let limit = Instant::now() + most;
        loop {
            if sqlx::query_scalar::<_, Option<bool>>(question).fetch_one(&world.pool).await? == Some(true) {
                return Ok(());
            }
            if Instant::now() >= limit {
                world.findings.push(format!("waited in vain until {what}"));
                return Ok(());
            }
            if Instant::now() >= self.next {
                world.kill_any_worker().await?;
                world.start_worker()?;
                self.next = Instant::now() + Duration::from_millis(world.rng.random_range(self.every_ms.clone()));
                self.count += 1;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Campaigns make their jobs by themselves: what there is now is what was asked for.
async fn count_jobs(world: &mut World) -> Result<(), ProveError> {
    world.inserted = world.progress().await?.total();
    Ok(())
}
