//! A million rows, one recipient, open transactions, many workers, many lines.

use std::time::{Duration, Instant};

use sqlx::{Connection as _, PgConnection};

use crate::simulate::LedgerEntry;
use crate::trial::bench::process;
use crate::trial::prove::world::phone;
use crate::trial::prove::{ProveError, Scenario, Setup, World};

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "load-million",
        breaks: "a million rows that wait, half of them for later and half on a paused line",
        quick: false,
        setup: || alone(40),
        play: |world| Box::pin(wait_by_the_million(world)),
    },
    Scenario {
        name: "load-one-recipient",
        breaks: "a hundred thousand jobs for one recipient, before those of others",
        quick: false,
        setup: || alone(40),
        play: |world| Box::pin(crowd_one_recipient(world)),
    },
    Scenario {
        name: "load-producer-open",
        breaks: "a producer's transaction held open while thousands of jobs pass",
        quick: false,
        setup: || unpaced(4),
        play: |world| Box::pin(hold_a_producer_open(world)),
    },
    Scenario {
        name: "load-old-snapshot",
        breaks: "a reader holding an old snapshot",
        quick: false,
        setup: || unpaced(4),
        play: |world| Box::pin(hold_a_snapshot(world)),
    },
    Scenario {
        name: "load-one-line",
        breaks: "sixteen workers on one line",
        quick: false,
        setup: || alone(1),
        play: |world| Box::pin(share_one_line(world)),
    },
    Scenario {
        name: "load-many-lines",
        breaks: "two hundred lines on one worker",
        quick: false,
        setup: || alone(200),
        play: |world| Box::pin(serve_many_lines(world)),
    },
];

/// A machine of its own: what is measured is how much of it is used.
fn alone(lines: u32) -> Setup {
    Setup { lines, alone: true, ..Setup::default() }
}

/// How much of their rate lines must get while messages wait for them: less than a third is not for want of a processor. A
/// quiet machine gives four fifths and more.
const FAIR_SHARE: f64 = 1.0 / 3.0;

/// The jobs that could go, beside a crowd that cannot: six for each of forty lines.
const FREE: u32 = 240;

async fn wait_by_the_million(world: &mut World) -> Result<(), ProveError> {
    /// Nothing is compressed, but that the half on the paused line stands there without having been admitted one by one.
    const WAITING: i64 = 1_000_000;
    world.command(&["lines", "pause", "pl_40"]).await?;
    let start = Instant::now();
    sqlx::query(
        "insert into outbox.jobs (phone, body, due_at, ready, line_id, first_touch)
         select '+1666' || 1000000 + n, 'waits', now() + case when n % 2 = 0 then '1 day' else '-1 hour' end::interval,
                n % 2 = 1, 'pl_40', true
           from generate_series(1, $1) n",
    )
    .bind(WAITING)
    .execute(&world.pool)
    .await?;
    let took = start.elapsed().as_secs_f64();
    let began_us = world.simulator.handle().now_us();
    world.insert_to(&phones(0, FREE)).await?;
    for _ in 0..2 {
        world.start_worker()?;
    }
    until_arrived(world, FREE as usize).await?;
    judge_share(world, began_us, &world.simulator.ledger(), 39);
    world.notes.push(format!("the million was inserted in {took:.0} s"));
    // They are no jobs of this world, which is judged job by job: it is enough that nobody has touched them.
    let untouched = sqlx::query("delete from outbox.jobs where body = 'waits' and state = 'queued' and claims = 0")
        .execute(&world.pool)
        .await?;
    if untouched.rows_affected() != WAITING.unsigned_abs() {
        world.findings.push(format!("only {} of the waiting jobs were left alone", untouched.rows_affected()));
    }
    Ok(())
}

async fn crowd_one_recipient(world: &mut World) -> Result<(), ProveError> {
    /// Nothing is compressed, but that the crowd is canceled once the others have gone past it.
    const CROWD: i64 = 100_000;
    let one = phone(CROWD_FROM);
    let inserted = sqlx::query(
        "insert into outbox.jobs (phone, body) select $1, 'one of many, ' || n from generate_series(1, $2) n",
    )
    .bind(&one)
    .bind(CROWD)
    .execute(&world.pool)
    .await?;
    world.inserted += inserted.rows_affected();
    let began_us = world.simulator.handle().now_us();
    world.insert_to(&phones(0, FREE)).await?;
    for _ in 0..2 {
        world.start_worker()?;
    }
    let handle = world.simulator.handle();
    let of_others = || handle.ledger().into_iter().filter(|entry| entry.phone != one).collect::<Vec<_>>();
    world.until("the others had gone past", || async { Ok(of_others().len() == FREE as usize) }).await?;
    judge_share(world, began_us, &of_others(), 40);
    let start = Instant::now();
    let canceled: i64 = sqlx::query_scalar(
        "select outbox.cancel_all(array(select id from outbox.jobs where phone = $1 and state = 'queued'))",
    )
    .bind(&one)
    .fetch_one(&world.pool)
    .await?;
    world.notes.push(format!("{canceled} canceled in {:.1} s", start.elapsed().as_secs_f64()));
    Ok(())
}

/// Lines without pace and an API that answers at once: as many jobs pass in a second as otherwise in a minute.
fn unpaced(lines: u32) -> Setup {
    let mut setup = Setup { gap: Duration::ZERO, ..alone(lines) };
    (setup.simulator.latency, setup.simulator.latency_jitter) = (Duration::ZERO, Duration::ZERO);
    setup
}

/// What the producer inserted has earlier ids and due times than everything that passed, and is sent all the same.
async fn hold_a_producer_open(world: &mut World) -> Result<(), ProveError> {
    /// What four lines send in ten minutes, at a message a second each.
    const PASSING: u32 = 2_400;
    /// A transaction inserts so many of them.
    const AT_ONCE: usize = 10;
    const HELD: u32 = 5;
    let mut producer = PgConnection::connect(&world.setup.database_url).await?;
    let mut held = producer.begin().await?;
    let taken =
        sqlx::query("insert into outbox.jobs (phone, body) select phone, 'held back' from unnest($1::text[]) phone")
            .bind(phones(CROWD_FROM, HELD))
            .execute(&mut *held)
            .await?;
    world.inserted += taken.rows_affected();
    for _ in 0..2 {
        world.start_worker()?;
    }
    let transactions = "select pg_snapshot_xmax(pg_current_snapshot())::text::bigint";
    let before: i64 = sqlx::query_scalar(transactions).fetch_one(&world.pool).await?;
    for phones in phones(0, PASSING).chunks(AT_ONCE) {
        world.insert_to(phones).await?;
    }
    until_arrived(world, PASSING as usize).await?;
    let after: i64 = sqlx::query_scalar(transactions).fetch_one(&world.pool).await?;
    held.commit().await?;
    world.notes.push(format!("{PASSING} jobs and {} transactions passed meanwhile", after - before));
    Ok(())
}

/// A reader that looks at the outbox as it was keeps every row version since then, and every index entry. What that costs is
/// read from the time that Postgres computes for some jobs, by that which the worker computes for the same ones: a machine that
/// shares its processors is a quarter quicker in one second than in the next, and both of them feel it. Each round with the
/// snapshot is held against the two without that lie around it. Autovacuum, which would cost as much as a round in whichever it
/// came, does not come.
async fn hold_a_snapshot(world: &mut World) -> Result<(), ProveError> {
    /// Ten minutes of ten lines at a message a second pass under the snapshot before anything is measured, over four lines,
    /// so that each line's queue holds more than twice the dead entries of ten minutes.
    const PASSING: u32 = 6_000;
    /// After a snapshot: enough to clear away what it kept.
    const CLEARING: u32 = 1_000;
    const ROUNDS: usize = 5;
    /// The least that must be left of the throughput.
    const LEAST: f64 = 0.9;
    for change in ["alter system set autovacuum = off", "select pg_reload_conf()"] {
        sqlx::query(change).execute(&world.pool).await?;
    }
    world.start_worker()?;
    pass(world, PASSING).await?;
    let mut free = vec![measure(world).await?];
    let mut held = Vec::new();
    for _ in 0..ROUNDS {
        let mut reader = PgConnection::connect(&world.setup.database_url).await?;
        let mut snapshot = reader.begin_with("begin isolation level repeatable read, read only").await?;
        sqlx::query("select count(*) from outbox.jobs").execute(&mut *snapshot).await?;
        pass(world, PASSING).await?;
        held.push(measure(world).await?);
        snapshot.commit().await?;
        pass(world, CLEARING).await?;
        free.push(measure(world).await?);
    }
    // All rounds together: a single one is some percent off.
    let around = free.windows(2).map(|pair| (pair[0] + pair[1]) / 2.0);
    let left = around.sum::<f64>() / held.iter().sum::<f64>();
    let told = format!("{:.0} % of the throughput are left under a snapshot", left * 100.0);
    if left < LEAST {
        world.findings.push(told.clone());
    }
    world.notes.push(told);
    Ok(())
}

/// Seconds that all processes of Postgres compute while a number of jobs pass, for each second of the worker.
async fn measure(world: &mut World) -> Result<f64, ProveError> {
    const MEASURED: u32 = 3_000;
    let spent = |world: &World| {
        let worker = world.workers.first().map(|worker| worker.pid().unsigned_abs());
        let spent = world.server.pid().and_then(process::family_cpu_secs).zip(worker.and_then(process::cpu_secs));
        spent.ok_or_else(|| ProveError::Skipped("this system does not tell what a process computes".to_owned()))
    };
    let (server, worker) = spent(world)?;
    pass(world, MEASURED).await?;
    let after = spent(world)?;
    Ok((after.0 - server) / (after.1 - worker))
}

/// Inserts jobs to new recipients, and waits until all have arrived.
async fn pass(world: &mut World, jobs: u32) -> Result<(), ProveError> {
    let before = world.simulator.handle().ledger_len();
    let first = u32::try_from(world.inserted).expect("a scenario has few jobs");
    world.insert_to(&phones(first, jobs)).await?;
    until_arrived(world, before + jobs as usize).await
}

/// The gap between two messages is kept by all of them together.
async fn share_one_line(world: &mut World) -> Result<(), ProveError> {
    const JOBS: u32 = 10;
    const WORKERS: i64 = 16;
    for _ in 0..WORKERS {
        world.start_worker()?;
    }
    // So many starts at once keep a small machine busy, and a message that is held up on its way arrives close to the next.
    let pool = world.pool.clone();
    let workers = || sqlx::query_scalar::<_, i64>("select count(*) from outbox.workers").fetch_one(&pool);
    world.until("all workers were up", || async { Ok(workers().await? == WORKERS) }).await?;
    let began_us = world.simulator.handle().now_us();
    world.insert_to(&phones(0, JOBS)).await?;
    world.until_ended(1.0).await?;
    judge_share(world, began_us, &world.simulator.ledger(), 1);
    Ok(())
}

async fn serve_many_lines(world: &mut World) -> Result<(), ProveError> {
    const JOBS: u32 = 1_200;
    let began_us = world.simulator.handle().now_us();
    world.insert_to(&phones(0, JOBS)).await?;
    // Room for two slots of every line.
    world.start_worker_with(&[("OUTBOX_CONCURRENCY", "512".to_owned())])?;
    until_arrived(world, JOBS as usize).await?;
    judge_share(world, began_us, &world.simulator.ledger(), 200);
    Ok(())
}

/// The number of a recipient beyond all others.
const CROWD_FROM: u32 = 1_000_000;

fn phones(first: u32, count: u32) -> Vec<String> {
    (first..first + count).map(phone).collect()
}

/// Waits until so many messages are on phones, without a look at the tables, which are large here.
async fn until_arrived(world: &mut World, messages: usize) -> Result<(), ProveError> {
    let handle = world.simulator.handle();
    world.until("the messages had arrived", || async { Ok(handle.ledger_len() >= messages) }).await
}

/// How much of their rate, a message a second, the lines used from `began_us` on until the last of these messages.
fn judge_share(world: &mut World, began_us: i64, messages: &[LedgerEntry], lines: u32) {
    let Some(last) = messages.last() else { return world.findings.push("no message was sent".to_owned()) };
    let secs = (last.at_us - began_us) as f64 / 1e6;
    let share = messages.len() as f64 / (f64::from(lines) * secs);
    let told = format!("{:.0} % of the lines' rate used", share * 100.0);
    if share < FAIR_SHARE {
        world.findings.push(format!("only {told}"));
    }
    world.notes.push(told);
}
