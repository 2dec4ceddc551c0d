//! People who pause, cancel, suppress, retry and upgrade while all of it runs.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use rand::RngExt as _;
use rand::seq::SliceRandom as _;
use sqlx::SqlSafeStr as _;
use sqlx::migrate::{Migration, MigrationType};

use crate::database;
use crate::pace::slots::HORIZON;
use crate::simulate::{Fault, Faults};
use crate::trial::prove::world::phone;
use crate::trial::prove::{ProveError, Scenario, Setup, World};

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "operators",
        breaks: "lines paused, jobs canceled, suppressed and tried again, workers killed",
        quick: true,
        setup: Setup::default,
        play: |world| Box::pin(operate(world)),
    },
    Scenario {
        name: "operators-suppress",
        breaks: "many recipients suppressed at once while four workers send to them",
        quick: false,
        setup: two_slots_a_claim,
        play: |world| Box::pin(suppress_in_bulk(world)),
    },
    Scenario {
        name: "upgrade-migration",
        breaks: "migrations of the next version applied under load",
        quick: false,
        setup: Setup::default,
        play: |world| Box::pin(migrate_under_load(world)),
    },
    Scenario {
        name: "upgrade-mixed",
        breaks: "workers of the previous version beside those of this one, and killed",
        quick: false,
        setup: Setup::default,
        play: |world| Box::pin(mix_versions(world)),
    },
];

/// What people do, each as often as every other, in an order by the seed.
#[derive(Clone, Copy)]
enum Deed {
    Pause,
    Resume,
    Cancel,
    Suppress,
    Retry,
    Kill,
}

async fn operate(world: &mut World) -> Result<(), ProveError> {
    const JOBS: usize = 200;
    const RECIPIENTS: u32 = 100;
    /// Beyond the others: each has one job, so that trying it again overtakes nothing.
    const REFUSED: std::ops::Range<u32> = 500..510;
    const ROUNDS: usize = 5;
    let refused: Vec<String> = REFUSED.map(phone).collect();
    let refusals = refused.iter().map(|phone| (phone.clone(), Fault::error(1003)));
    world.faults(Faults { drop_after: 0.1, phones: refusals.collect(), ..Faults::default() })?;
    world.insert(JOBS, RECIPIENTS).await?;
    world.insert_to(&refused).await?;
    for _ in 0..3 {
        world.start_worker()?;
    }
    let mut deeds = [Deed::Pause, Deed::Resume, Deed::Cancel, Deed::Suppress, Deed::Retry, Deed::Kill].repeat(ROUNDS);
    deeds.shuffle(&mut world.rng);
    let mut pauses = Pauses::default();
    for deed in deeds {
        let rest = Duration::from_millis(world.rng.random_range(20..150));
        tokio::time::sleep(rest).await;
        match deed {
            Deed::Pause => pauses.pause_any(world).await?,
            Deed::Resume => pauses.resume_any(world).await?,
            Deed::Cancel => cancel_any(world).await?,
            Deed::Suppress => {
                let phones: Vec<String> = (0..4).map(|_| phone(world.rng.random_range(0..RECIPIENTS))).collect();
                world.suppress(&phones).await?;
            }
            Deed::Retry => retry_failed(world, 2).await?,
            Deed::Kill => {
                world.kill_any_worker().await?;
                world.start_worker()?;
            }
        }
    }
    pauses.resume_all(world).await?;
    world.faults(Faults::default())?;
    world.until_ended(1.0).await?;
    retry_failed(world, i64::MAX).await?;
    world.until_ended(1.0).await?;
    let failed = count(world, "state = 'failed'").await?;
    if failed > 0 {
        world.findings.push(format!("{failed} jobs failed although nothing was wrong with them any more"));
    }
    world.notes.push(format!("{ROUNDS} times each: pause, resume, cancel, suppress, retry, kill"));
    Ok(())
}

/// The lines that somebody has paused, and since when, on the ledger's clock.
#[derive(Default)]
struct Pauses(BTreeMap<u32, i64>);

impl Pauses {
    async fn pause_any(&mut self, world: &mut World) -> Result<(), ProveError> {
        let line = world.rng.random_range(1..=40);
        world.command(&["lines", "pause", &format!("pl_{line}"), "--reason", "looked at"]).await?;
        self.0.entry(line).or_insert(world.simulator.handle().now_us());
        Ok(())
    }

    async fn resume_any(&mut self, world: &mut World) -> Result<(), ProveError> {
        let index = world.rng.random_range(0..self.0.len().max(1));
        let Some(line) = self.0.keys().nth(index).copied() else { return Ok(()) };
        self.stood_still(world, line);
        world.command(&["lines", "resume", &format!("pl_{line}")]).await
    }

    async fn resume_all(mut self, world: &mut World) -> Result<(), ProveError> {
        while let Some(line) = self.0.keys().next().copied() {
            self.stood_still(world, line);
        }
        world.command(&["lines", "resume", "--all"]).await
    }

    /// Slots that were handed out before the pause may be used; nothing may leave behind them, with a second for the way.
    fn stood_still(&mut self, world: &mut World, line: u32) {
        let Some(paused_us) = self.0.remove(&line) else { return };
        let used_us = paused_us + (HORIZON + Duration::from_secs(1)).as_micros() as i64;
        let id = format!("pl_{line}");
        let late = world.simulator.ledger().iter().filter(|entry| entry.line_id == id && entry.at_us > used_us).count();
        if late > 0 {
            world.findings.push(format!("{late} messages left from {id} while it was paused"));
        }
    }
}

/// Cancels some jobs, whatever they are doing: those that are being sent, or have ended, stay as they are.
async fn cancel_any(world: &mut World) -> Result<(), ProveError> {
    let ids: Vec<i64> = (0..6).map(|_| world.rng.random_range(1..=world.inserted.cast_signed())).collect();
    sqlx::query("select outbox.cancel(id) from unnest($1::bigint[]) id").bind(ids).execute(&world.pool).await?;
    Ok(())
}

/// Tries the oldest failed jobs again.
async fn retry_failed(world: &mut World, most: i64) -> Result<(), ProveError> {
    let failed: Vec<i64> = sqlx::query_scalar("select id from outbox.jobs where state = 'failed' order by id limit $1")
        .bind(most)
        .fetch_all(&world.pool)
        .await?;
    if failed.is_empty() { Ok(()) } else { world.retry(&failed).await }
}

/// At this pace a claim hands out two slots of a line, the later one almost two seconds ahead: nothing lies longer between
/// the claim and its call.
fn two_slots_a_claim() -> Setup {
    Setup { gap: Duration::from_millis(900), ..Setup::default() }
}

/// Half of the recipients say stop, in some few transactions, while messages to them wait, stand ready, and are in flight.
async fn suppress_in_bulk(world: &mut World) -> Result<(), ProveError> {
    const JOBS: usize = 280;
    const RECIPIENTS: u32 = 120;
    const AT_ONCE: usize = 15;
    world.insert(JOBS, RECIPIENTS).await?;
    let mut stopping: Vec<String> = (0..RECIPIENTS / 2).map(phone).collect();
    stopping.shuffle(&mut world.rng);
    for _ in 0..4 {
        world.start_worker()?;
    }
    world.until_ended(0.15).await?;
    for phones in stopping.chunks(AT_ONCE) {
        world.suppress(phones).await?;
        let rest = Duration::from_millis(world.rng.random_range(200..800));
        tokio::time::sleep(rest).await;
    }
    world.until_ended(1.0).await?;
    let suppressed = count(world, "state = 'suppressed'").await?;
    let others =
        count(world, "state not in ('sent', 'suppressed') and phone in (select phone from outbox.suppressions)")
            .await?;
    if others > 0 || suppressed == 0 {
        world.findings.push(format!("{suppressed} jobs were suppressed, {others} ended neither sent nor suppressed"));
    }
    world.notes.push(format!("{} recipients, {suppressed} jobs suppressed", stopping.len()));
    Ok(())
}

/// What a next version might bring: each true for the release before it, which knows nothing of them and runs on.
const NEXT: [(&str, &str, bool); 2] = [
    // No default, so that no row is rewritten: the lock that keeps everybody away is held for an instant.
    ("add a column", "alter table outbox.jobs add column note text", false),
    // Built beside the writers, which no transaction can do.
    ("index it", "create index concurrently jobs_noted on outbox.jobs (note) where note is not null", true),
];

/// The next version's migrations arrive in the middle of the sending; workers from before run on, and one that starts or
/// migrates afterwards finds a newer schema and works too.
async fn migrate_under_load(world: &mut World) -> Result<(), ProveError> {
    const JOBS: usize = 280;
    world.insert(JOBS, 140).await?;
    for _ in 0..3 {
        world.start_worker()?;
    }
    world.until_ended(0.2).await?;
    let newest = database::newest();
    let next = (newest + 1..).zip(NEXT).map(|(version, (name, sql, alone))| {
        Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), alone)
    });
    database::migrator(next).run(&world.pool).await?;
    let ended = world.progress().await?.ended();
    if ended == world.inserted {
        world.findings.push("all jobs had ended before the migration had".to_owned());
        return Ok(());
    }
    let pool = world.pool.clone();
    // What is claimed by now is sent within the horizon, with no look at the tables.
    let since: DateTime<Utc> = sqlx::query_scalar("select clock_timestamp() + $1 * interval '1 second'")
        .bind((HORIZON + Duration::from_secs(1)).as_secs_f64())
        .fetch_one(&pool)
        .await?;
    let send_on = || async {
        let sent = "select exists (select from outbox.attempts where started_at > $1 and outcome = 'sent')";
        Ok(sqlx::query_scalar(sent).bind(since).fetch_one(&pool).await?)
    };
    // Before another one helps them.
    world.until("the workers from before the migration sent on", send_on).await?;
    world.command(&["migrate"]).await?;
    world.start_worker()?;
    world.until_ended(1.0).await?;
    world.notes.push(format!("{ended} of {JOBS} jobs had ended when it was applied"));
    if world.reap()? > 0 {
        world.findings.push("a worker ended by itself".to_owned());
    }
    Ok(())
}

/// Two workers of each version; one by chance is killed and comes back, now as the one and now as the other.
async fn mix_versions(world: &mut World) -> Result<(), ProveError> {
    const JOBS: usize = 280;
    const KILLS: u32 = 8;
    let Some(previous) = std::env::var_os(PREVIOUS) else {
        return Err(ProveError::Skipped(format!("no previous version is given: {PREVIOUS} names its binary")));
    };
    let programs = [world.setup.program.clone(), previous.into()];
    world.insert(JOBS, 100).await?;
    for turn in 0..4 + KILLS {
        if turn >= 4 {
            let life = Duration::from_millis(world.rng.random_range(300..800));
            tokio::time::sleep(life).await;
            world.kill_any_worker().await?;
        }
        world.setup.program = programs[turn as usize % 2].clone();
        world.start_worker()?;
    }
    world.until_ended(1.0).await?;
    let unsent = count(world, "state <> 'sent'").await?;
    if unsent > 0 {
        world.findings.push(format!("{unsent} jobs were begun by one version and not finished by the other"));
    }
    world.notes.push(format!("{KILLS} kills"));
    Ok(())
}

/// Names the binary of the release before this one. There is none in the tree, and building it would double every build.
const PREVIOUS: &str = "OUTBOX_PREVIOUS_BINARY";

async fn count(world: &World, condition: &'static str) -> Result<i64, ProveError> {
    let jobs = format!("select count(*) from outbox.jobs where {condition}");
    Ok(sqlx::query_scalar(sqlx::AssertSqlSafe(jobs)).fetch_one(&world.pool).await?)
}
