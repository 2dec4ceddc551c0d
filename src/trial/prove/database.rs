//! Postgres goes away, crashes, cuts its connections, fills up.

use std::fs;
use std::time::Duration;

use rand::RngExt as _;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::trial::postgres::Stop;
use crate::trial::prove::{Machine, ProveError, Scenario, Setup, World};

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "postgres-restart",
        breaks: "Postgres restarted again and again, in order and at once",
        quick: true,
        setup: many_lines,
        play: |world| Box::pin(restart(world, &[Stop::Fast, Stop::Immediate, Stop::Fast])),
    },
    Scenario {
        name: "postgres-kill",
        breaks: "SIGKILL to every process of Postgres, which recovers from its log",
        quick: false,
        setup: many_lines,
        play: |world| Box::pin(restart(world, &[Stop::Kill; 3])),
    },
    Scenario {
        name: "postgres-terminate",
        breaks: "workers' connections cut by pg_terminate_backend, at random",
        quick: false,
        setup: many_lines,
        play: |world| Box::pin(terminate(world)),
    },
    Scenario {
        name: "postgres-refused",
        breaks: "Postgres refuses connections for 20 s, with calls in flight",
        quick: false,
        setup: calls_in_flight,
        play: |world| Box::pin(refused(world)),
    },
    Scenario {
        name: "postgres-full",
        breaks: "no space left on Postgres's disk, for seconds",
        quick: false,
        setup: || Setup { machine: Machine::SmallDisk, ..calls_in_flight() },
        play: |world| Box::pin(full(world)),
    },
];

pub(super) const JOBS: usize = 240;
pub(super) const RECIPIENTS: u32 = 400;

/// Many slow lines: a machine that has servers to start and to recover may hold a message up for as long as it lies apart
/// from its slot, a tenth of the gap.
pub(super) fn many_lines() -> Setup {
    Setup { lines: 80, gap: Duration::from_secs(2), ..Setup::default() }
}

/// Takes Postgres down in each of these ways, in the middle of the sending.
async fn restart(world: &mut World, ways: &[Stop]) -> Result<(), ProveError> {
    world.insert(JOBS, RECIPIENTS).await?;
    world.start_worker()?;
    world.start_worker()?;
    for way in ways {
        until_on_phones(world, 10).await?;
        let moment = Duration::from_millis(world.rng.random_range(0..200));
        tokio::time::sleep(moment).await;
        world.server.restart(*way).await?;
    }
    world.notes.push(format!("{} restarts", ways.len()));
    all_workers_live(world)
}

/// Cuts one connection after another, those in a transaction first, so that every statement of a worker is met some time.
async fn terminate(world: &mut World) -> Result<(), ProveError> {
    const CUTS: u32 = 150;
    world.insert(JOBS, RECIPIENTS).await?;
    world.start_worker()?;
    world.start_worker()?;
    // The world's own pool is cut too, and does not mind; this connection is not.
    let url: PgConnectOptions = world.server.url("postgres").parse()?;
    let mut conn = PgConnection::connect_with(&url.application_name("prove")).await?;
    until_on_phones(world, 1).await?;
    let mut cut = 0;
    for _ in 0..CUTS {
        tokio::time::sleep(Duration::from_millis(world.rng.random_range(0..60))).await;
        let backends: Vec<i32> = sqlx::query_scalar(
            "select pid from pg_stat_activity where application_name = 'chert-outbox'
              order by xact_start is null, backend_start limit 4",
        )
        .fetch_all(&mut conn)
        .await?;
        if !backends.is_empty() {
            let victim = backends[world.rng.random_range(0..backends.len())];
            let terminate = sqlx::query_scalar("select pg_terminate_backend($1)").bind(victim);
            let terminated: bool = terminate.fetch_one(&mut conn).await?;
            cut += u32::from(terminated);
        }
    }
    if cut == 0 {
        world.findings.push("no connection was cut".to_owned());
    }
    world.notes.push(format!("{cut} connections cut"));
    all_workers_live(world)
}

/// How long an answer of Chert takes while Postgres goes away.
const ANSWER: Duration = Duration::from_millis(400);

/// Answers are on their way at any moment, and leases outlast what is broken.
fn calls_in_flight() -> Setup {
    let mut setup = many_lines();
    setup.simulator.latency = ANSWER;
    setup.worker_env = vec![("OUTBOX_HTTP_TIMEOUT", "8s".to_owned()), ("OUTBOX_LEASE", "40s".to_owned())];
    setup
}

/// What Chert answers meanwhile waits in memory, so that no message has to be asked for again.
async fn refused(world: &mut World) -> Result<(), ProveError> {
    const AWAY: Duration = Duration::from_secs(20);
    world.insert(JOBS, RECIPIENTS).await?;
    world.start_worker()?;
    world.start_worker()?;
    until_on_phones(world, 30).await?;
    let phones = world.simulator.handle();
    let unanswered_since_us = phones.now_us() - ANSWER.as_micros() as i64;
    world.server.take_down(Stop::Fast).await?;
    tokio::time::sleep(AWAY).await;
    let waited = phones.ledger().iter().filter(|entry| entry.at_us > unanswered_since_us).count();
    world.server.bring_up().await?;
    if waited == 0 {
        world.findings.push("nothing was in flight when Postgres went away".to_owned());
    }
    world.notes.push(format!("{waited} outcomes waited in memory"));
    nothing_is_asked_again(world).await
}

/// All tables are on a disk of which nothing is left, until Postgres has failed to write for some seconds.
async fn full(world: &mut World) -> Result<(), ProveError> {
    const FULL: Duration = Duration::from_secs(3);
    let disk = world.server.directory().join("small");
    let statements = [
        format!("create tablespace small location '{}'", disk.display()),
        "alter table all in tablespace pg_default set tablespace small".to_owned(),
        "alter index all in tablespace pg_default set tablespace small".to_owned(),
    ];
    for statement in statements {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&world.pool).await?;
    }
    world.insert(JOBS, RECIPIENTS).await?;
    world.start_worker()?;
    world.start_worker()?;
    until_on_phones(world, 30).await?;
    world.server.fill_disk(true).await?;
    let log = world.server.directory().join("server.log");
    let failures = || fs::read_to_string(&log).unwrap_or_default().matches("No space left on device").count();
    world.until("Postgres finds no space left", || std::future::ready(Ok(failures() > 0))).await?;
    tokio::time::sleep(FULL).await;
    world.server.fill_disk(false).await?;
    world.notes.push(format!("{} writes failed with no space left", failures()));
    nothing_is_asked_again(world).await
}

/// What broke was the database's: no worker may have ended of it.
pub(super) fn all_workers_live(world: &mut World) -> Result<(), ProveError> {
    let ended = world.reap()?;
    if ended > 0 {
        world.findings.push(format!("{ended} workers ended by themselves"));
    }
    Ok(())
}

/// Every answer that came while it could not be recorded was kept: Chert would have said the same again, but nobody needed
/// to ask.
async fn nothing_is_asked_again(world: &mut World) -> Result<(), ProveError> {
    world.until_ended(1.0).await?;
    let again = world.simulator.handle().calls().replays;
    if again > 0 {
        world.findings.push(format!("{again} messages were asked for again although their answers had come"));
    }
    all_workers_live(world)
}

/// Waits until so many more messages have reached a phone: the workers are in the middle of it.
pub(super) async fn until_on_phones(world: &mut World, more: usize) -> Result<(), ProveError> {
    let phones = world.simulator.handle();
    let enough = phones.ledger_len() + more;
    world.until("messages reach their phones", || std::future::ready(Ok(phones.ledger_len() >= enough))).await
}
