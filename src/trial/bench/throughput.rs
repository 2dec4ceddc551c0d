//! What a job costs: a worker that drains a backlog, beside a bare loop that makes the same calls without a database, and
//! how soon an idle worker picks up a single insert. The worker and the simulator are processes of their own.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use serde::Serialize;
use sqlx::PgPool;
use tokio::time::MissedTickBehavior;

use crate::simulate::DEFAULT_SECRET;
use crate::trial::bench::children::{Simulator, worker};
use crate::trial::bench::{BenchError, Progress, Scratch, process};

/// How long an idle worker may take until its first job is sent, and until the last one is.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long bare posts are made for, at least.
const BARE_POSTS: Duration = Duration::from_secs(2);

/// How much to measure.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub jobs: i64,
    pub concurrency: u16,
    /// Single inserts for an idle worker, and how many a second.
    pub pickups: u32,
    pub pickup_rate: u32,
}

/// What was measured; `None` where this machine or this server does not tell.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub jobs: i64,
    pub concurrency: u16,
    /// The bare loop: the same posts, at the same concurrency, without a database.
    pub raw: Raw,
    /// `worker --drain`, from the start of its process to its end.
    pub worker: Drained,
    /// The worker's jobs a second to those of the bare loop.
    pub ratio: f64,
    pub pickup: Pickup,
}

#[derive(Debug, Clone, Serialize)]
pub struct Raw {
    pub posts: i64,
    pub posts_per_sec: f64,
    pub cpu_ms_per_post: Option<f64>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Drained {
    pub jobs_per_sec: f64,
    pub worker_cpu_ms_per_job: Option<f64>,
    /// All processes of the throw-away server, autovacuum and checkpoints among them.
    pub postgres_cpu_ms_per_job: Option<f64>,
    pub simulator_cpu_ms_per_job: Option<f64>,
    /// From pg_stat_database.
    pub transactions_per_job: f64,
    /// From pg_stat_statements: each `begin`, `set local` and `commit` is one, and several may share a round trip.
    pub statements_per_job: Option<f64>,
    /// Of the whole server, full-page images among them.
    pub wal_bytes_per_job: f64,
}

/// From the insert (the start of its transaction) to the start of the call.
#[derive(Debug, Clone, Serialize)]
pub struct Pickup {
    pub jobs: u32,
    pub inserts_per_sec: u32,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub slowest_ms: f64,
}

/// Measures all of it.
pub async fn run(scratch: &Scratch, load: Load, progress: &Progress) -> Result<Report, BenchError> {
    let pool = scratch.connect(2).await?;
    let mut simulator = Simulator::start().await?;
    progress.say(format!("{} bare posts, {} at a time", load.jobs, load.concurrency));
    // The first calls pay for connections and for memory: they are not counted.
    post_all(&simulator.base_url, 0, load.jobs / 10, load.concurrency).await?;
    let raw = post_rounds(&simulator.base_url, load).await?;
    progress.say(format!("{} jobs for worker --drain, {} at a time", load.jobs, load.concurrency));
    let worker = drain(scratch, &pool, &simulator, load).await?;
    progress.say(format!("{} single inserts for an idle worker, {} a second", load.pickups, load.pickup_rate));
    let pickup = pick_up(scratch, &pool, &simulator.base_url, load).await?;
    pool.close().await;
    simulator.stop().await?;
    let ratio = worker.jobs_per_sec / raw.posts_per_sec;
    Ok(Report { jobs: load.jobs, concurrency: load.concurrency, raw, worker, ratio, pickup })
}

/// As many posts as there are jobs, again and again for two seconds: a single round may be over in a tenth of one.
async fn post_rounds(base_url: &str, load: Load) -> Result<Raw, BenchError> {
    let (cpu, start) = (process::own_cpu_secs(), Instant::now());
    let mut posts = 0;
    while posts == 0 || start.elapsed() < BARE_POSTS {
        post_all(base_url, load.jobs + posts, load.jobs, load.concurrency).await?;
        posts += load.jobs;
    }
    let secs = start.elapsed().as_secs_f64();
    let cpu_ms_per_post = per_job(cpu, process::own_cpu_secs(), posts).map(|secs| secs * 1e3);
    Ok(Raw { posts, posts_per_sec: posts as f64 / secs, cpu_ms_per_post })
}

async fn post_all(base_url: &str, first: i64, posts: i64, concurrency: u16) -> Result<(), BenchError> {
    let failed = |error: reqwest::Error| BenchError::Post(error.without_url().to_string());
    let http = reqwest::Client::builder().tcp_nodelay(true).build().map_err(failed)?;
    let mut loops = tokio::task::JoinSet::new();
    for turn in 0..i64::from(concurrency) {
        let (http, url) = (http.clone(), format!("{base_url}/send"));
        loops.spawn(async move {
            for n in (first + turn..first + posts).step_by(usize::from(concurrency)) {
                let phone = 5_000_000_000 + n;
                let body = format!(
                    r#"{{"phone":"+1{phone}","body":"Hello from the bench, number {n}","idempotency_key":"raw_{phone}"}}"#
                );
                let post = http.post(&url).header(CONTENT_TYPE, "application/json");
                let post = post.header(AUTHORIZATION, format!("Bearer {DEFAULT_SECRET}")).body(body);
                post.send().await?.error_for_status()?.bytes().await?;
            }
            Ok(())
        });
    }
    loops.join_all().await.into_iter().collect::<Result<(), _>>().map_err(failed)
}

async fn drain(scratch: &Scratch, pool: &PgPool, simulator: &Simulator, load: Load) -> Result<Drained, BenchError> {
    sqlx::query("update outbox.lines set gap_us = 0, first_touch_gap_us = 0, first_touch_cap = null")
        .execute(pool)
        .await?;
    sqlx::query(
        "insert into outbox.lines (id, gap_us, first_touch_gap_us, first_touch_cap) values ('pl_1', 0, 0, null)",
    )
    .execute(pool)
    .await?;
    sqlx::query(
        "insert into outbox.jobs (phone, body)
         select '+1' || (2000000000 + n), 'Hello from the bench, number ' || n from generate_series(1, $1) n",
    )
    .bind(load.jobs)
    .execute(pool)
    .await?;

    let before = Counters::read(scratch, pool).await?;
    let (reaped, answering) = (process::reaped_cpu_secs(), simulator.cpu_secs());
    let start = Instant::now();
    let mut worker = worker(scratch.url(), &simulator.base_url, load.concurrency, true)?;
    let ended = worker.wait().await.map_err(|source| BenchError::Child { role: "the worker", source })?;
    let secs = start.elapsed().as_secs_f64();
    let worker_cpu = per_job(reaped, process::reaped_cpu_secs(), load.jobs);
    let simulator_cpu = per_job(answering, simulator.cpu_secs(), load.jobs);
    if !ended.success() {
        return Err(BenchError::ChildEnded { role: "the worker", how: ended.to_string() });
    }
    let after = Counters::read(scratch, pool).await?;
    let sent: i64 = sqlx::query_scalar("select count(*) from outbox.jobs where state = 'sent'").fetch_one(pool).await?;
    if sent != load.jobs {
        return Err(BenchError::Unsent { missing: load.jobs - sent, jobs: load.jobs });
    }
    let ms = |secs: Option<f64>| secs.map(|secs| secs * 1e3);
    Ok(Drained {
        jobs_per_sec: load.jobs as f64 / secs,
        worker_cpu_ms_per_job: ms(worker_cpu),
        postgres_cpu_ms_per_job: ms(per_job(before.cpu_secs, after.cpu_secs, load.jobs)),
        simulator_cpu_ms_per_job: ms(simulator_cpu),
        transactions_per_job: (after.transactions - before.transactions) / load.jobs as f64,
        statements_per_job: per_job(before.statements, after.statements, load.jobs),
        wal_bytes_per_job: (after.wal_bytes - before.wal_bytes) / load.jobs as f64,
    })
}

async fn pick_up(scratch: &Scratch, pool: &PgPool, base_url: &str, load: Load) -> Result<Pickup, BenchError> {
    let mut worker = worker(scratch.url(), base_url, load.concurrency, false)?;
    // The first job wakes it up altogether, and is not counted.
    insert_one(pool, 7_999_999_999).await?;
    wait_until_sent(pool).await?;
    let every = Duration::from_secs(1) / load.pickup_rate;
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for n in 0..i64::from(load.pickups) {
        ticks.tick().await;
        insert_one(pool, 8_000_000_000 + n).await?;
    }
    wait_until_sent(pool).await?;
    let pid = worker.id().and_then(|pid| i32::try_from(pid).ok());
    if let Some(pid) = pid {
        // Whatever comes of it, the process ends at the latest when its handle is dropped.
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
    worker.wait().await.map_err(|source| BenchError::Child { role: "the worker", source })?;
    let (p50_ms, p99_ms, slowest_ms): (f64, f64, f64) = sqlx::query_as(
        "select percentile_cont(0.5) within group (order by ms), percentile_cont(0.99) within group (order by ms), max(ms)
           from (select extract(epoch from a.started_at - j.created_at)::float8 * 1000 as ms
                   from outbox.jobs j join outbox.attempts a on a.job_id = j.id
                  where j.phone like '+18%') waits",
    )
    .fetch_one(pool)
    .await?;
    Ok(Pickup { jobs: load.pickups, inserts_per_sec: load.pickup_rate, p50_ms, p99_ms, slowest_ms })
}

async fn insert_one(pool: &PgPool, phone: i64) -> Result<(), BenchError> {
    sqlx::query("insert into outbox.jobs (phone, body) values ('+1' || $1, 'Hello')").bind(phone).execute(pool).await?;
    Ok(())
}

async fn wait_until_sent(pool: &PgPool) -> Result<(), BenchError> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let waiting: bool =
            sqlx::query_scalar("select exists (select from outbox.jobs where state in ('queued', 'sending'))")
                .fetch_one(pool)
                .await?;
        if !waiting {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(BenchError::Idle(PATIENCE))
}

/// What the server has counted so far.
struct Counters {
    cpu_secs: Option<f64>,
    transactions: f64,
    statements: Option<f64>,
    wal_bytes: f64,
}

impl Counters {
    /// Sessions that have ended have told what they did; the ones of the worker are waited for.
    async fn read(scratch: &Scratch, pool: &PgPool) -> Result<Counters, BenchError> {
        let deadline = Instant::now() + PATIENCE;
        let mut sessions_left = true;
        while sessions_left && Instant::now() < deadline {
            sessions_left = sqlx::query_scalar(
                "select exists (select from pg_stat_activity
                                 where datname = current_database() and application_name like 'chert-outbox%')",
            )
            .fetch_one(pool)
            .await?;
        }
        let (transactions, wal_bytes): (f64, f64) = sqlx::query_as(
            "select xact_commit::float8, pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::float8
               from pg_stat_database where datname = current_database()",
        )
        .fetch_one(pool)
        .await?;
        let statements = sqlx::query_scalar(
            "select sum(calls)::float8 from pg_stat_statements
              where dbid = (select oid from pg_database where datname = current_database())",
        )
        .fetch_one(pool)
        .await
        .ok();
        let cpu_secs = scratch.server_pid().and_then(process::family_cpu_secs);
        Ok(Counters { cpu_secs, transactions, statements, wal_bytes })
    }
}

fn per_job(before: Option<f64>, after: Option<f64>, jobs: i64) -> Option<f64> {
    Some((after? - before?) / jobs as f64)
}
