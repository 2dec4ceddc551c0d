//! A drip campaign while workers that send, receive and work on campaigns are killed all along; its plan, held against what happened;
//! and a campaign that fires every few seconds under clocks an hour apart.

mod clocks;
mod dealt;
mod foretold;
mod full;
mod hours;
mod judge;
mod night;

use std::fmt::Write as _;
use std::fs;
use std::ops::Range;
use std::time::{Duration, Instant};

use rand::RngExt as _;

use crate::simulate::{self, MessageOptions, Recipients};
use crate::trial::prove::drip::foretold::Foretold;
use crate::trial::prove::world::phone;
use crate::trial::prove::{ProveError, Scenario, Setup, World};

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "drip",
        breaks: "SIGKILL of workers all along a four-step drip, whose people reply and say stop; its plan against its end",
        quick: false,
        setup: || setup(Duration::from_secs(1), Duration::from_millis(1_500)),
        play: |world| Box::pin(drip(world, 200, 2_000..3_000, "")),
    },
    Scenario {
        name: "drip-full",
        breaks: "the same with 20,000 people, over a midnight of the lines and quiet hours of every third person",
        quick: false,
        setup: full::setup,
        play: |world| Box::pin(full::drip(world)),
    },
    Scenario {
        name: "drip-plan",
        breaks: "nothing: a drip to people who say nothing, held against its plan",
        quick: false,
        setup: foretold::setup,
        play: |world| Box::pin(foretold::hold(world)),
    },
    Scenario {
        name: "drip-plan-lines",
        breaks: "nothing: a drip by a pool of lines over a midnight at which caps and hours begin, held against its plan line by line",
        quick: false,
        setup: dealt::setup,
        play: |world| Box::pin(dealt::hold(world)),
    },
    Scenario {
        name: "drip-night",
        breaks: "SIGKILL of workers while recipients' hours end and begin, and with a new day the caps of first touches",
        quick: false,
        setup: night::setup,
        play: |world| Box::pin(night::fall(world)),
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
/// Whether everybody has gone through the campaign `drip`.
const OVER: &str = "select not exists (select from outbox.ticks where finished_at is null)
                       and not exists (select from outbox.enrolments where campaign = 'drip' and state in ('active', 'held'))";
/// Of the four steps, in which people have time to reply.
const WAIT_SECS: u64 = 4;
const LINES: u32 = 20;
/// How many replicas run at a time.
const REPLICAS: usize = 4;
/// Campaigns that would write to the same people under a cap, and how many people these are.
const RIVALS: [&str; 3] = ["spring", "summer", "autumn"];
const WOOED: u32 = 40;
/// Their numbers, which end in digits of people who say nothing.
const FIRST_WOOED: u32 = 900_000;

fn setup(gap: Duration, first_touch_gap: Duration) -> Setup {
    Setup { lines: LINES, gap, first_touch_gap, simulator: scripted(), worker_env: replica(), ..Setup::default() }
}

/// People do what their numbers say, within a second.
fn scripted() -> simulate::Options {
    let messages = MessageOptions { recipients: Recipients::Scripted, ..MessageOptions::default() };
    simulate::Options { messages, ..quick() }
}

/// A simulated minute is a second.
fn quick() -> simulate::Options {
    simulate::Options { time_scale: 60.0, ..Setup::default().simulator }
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

/// `people` go through four steps, and every `kill_ms` one of the replicas is killed, by chance: which wastes what its lines could have
/// sent in the two seconds ahead. `more` is more of the campaign's file.
async fn drip(world: &mut World, people: u32, kill_ms: Range<u64>, more: &str) -> Result<(), ProveError> {
    let mut kills = Kills::every(kill_ms);
    compete(world, &mut kills).await?;
    let phones: Vec<String> = (0..people).map(phone).collect();
    let rest = format!("zone: UTC\nschedule: {BY_HAND}\n{more}caps: {{ per_recipient: 4 in 1h }}\nsteps:\n{}", steps());
    let file = apply(world, "drip", "never", &rest, &phones).await?;
    let foretold = Foretold::ask(world, &file).await?;
    world.command(&["campaign", "run", "drip"]).await?;
    kills.until(world, "the drip is over", foretold.patience(), OVER).await?;
    world.notes.push(format!("{people} people, {} kills", kills.count));
    judge::drip(world, &foretold).await?;
    count_jobs(world).await
}

/// Three campaigns have fired when the first replicas start, to the same people, under a cap of one message: each gets one, from any.
async fn compete(world: &mut World, kills: &mut Kills) -> Result<(), ProveError> {
    let rivals: Vec<String> = (0..WOOED).map(|n| phone(FIRST_WOOED + n)).collect();
    for name in RIVALS {
        let step = format!("  - {{ name: offer, send: {{ body: '{{{{ name }}}}, {name} is here' }} }}\n");
        let rest = format!("zone: UTC\nschedule: {BY_HAND}\ncaps: {{ per_recipient: 1 in 1h }}\nsteps:\n{step}");
        apply(world, name, "never", &rest, &rivals).await?;
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

/// Writes a campaign and its people to files, and applies it: what of it is `rest`, but for its audience, who are enrolled `again` or not.
/// Returns the campaign's file.
async fn apply(
    world: &mut World,
    name: &str,
    again: &str,
    rest: &str,
    phones: &[String],
) -> Result<String, ProveError> {
    let mut people = "phone,name\n".to_owned();
    for (n, phone) in phones.iter().enumerate() {
        let _ = writeln!(people, "{phone},n{n}");
    }
    fs::write(world.logs.path().join(format!("{name}.csv")), people)?;
    let source = format!(
        "name: {name}\naudience: {{ csv: {name}.csv, again: {again} }}\nvariables: {{ name: {{ missing: hold }} }}\n{rest}"
    );
    let file = world.logs.path().join(format!("{name}.yaml"));
    fs::write(&file, source)?;
    let file = file.display().to_string();
    world.command(&["campaign", "apply", "--yes", &file]).await?;
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
