//! The judgement: the database held against the ledger, and the workers' logs and connections looked through.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection};

use crate::simulate::LedgerEntry;
use crate::trial::facts;
use crate::trial::prove::ProveError;
use crate::trial::prove::world::{Suppression, World};
use crate::trial::tally::{Tally, tally};

/// A call that left before the suppression was committed may arrive this much later: it is on the wire, and counted.
const ON_THE_WIRE_US: i64 = 1_000_000;

/// What a worker may hold at most, whatever waits in the database: one with 512 jobs in flight needs half of it.
const MEMORY_LIMIT_KB: u64 = 64 * 1024;

/// What a scenario came to.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    pub scenario: String,
    pub seed: u64,
    /// Whether nothing at all went wrong.
    pub ok: bool,
    pub jobs: u64,
    pub messages: u64,
    #[serde(flatten)]
    pub tally: Tally,
    /// Messages to a suppressed recipient later than a second after the suppression was committed.
    pub sent_after_suppression: u64,
    /// Messages to a suppressed recipient within that second.
    pub on_the_wire: u64,
    /// Ended jobs by state.
    pub states: BTreeMap<String, u64>,
    /// Everything else that should not be, as sentences.
    pub findings: Vec<String>,
    /// What happened on purpose.
    pub notes: Vec<String>,
    /// The most memory that one worker held.
    pub peak_rss_kb: u64,
    pub secs: f64,
    /// Where logs, ledger and jobs were kept for whoever looks into a failure.
    pub evidence: Option<PathBuf>,
}

/// Judges a world in which nothing happens any more.
pub async fn verdict(scenario: &str, world: &mut World, began: Instant) -> Result<Verdict, ProveError> {
    let jobs = facts::jobs(&world.pool).await?;
    let lines = facts::lines(&world.pool).await?;
    let ledger = world.simulator.ledger();
    let tally = tally(world.inserted, &jobs, &ledger, &lines);
    let mut states = BTreeMap::new();
    for job in &jobs {
        let reason = job.reason.as_deref().filter(|reason| *reason != job.state);
        let reason = reason.map_or(String::new(), |reason| format!("/{reason}"));
        *states.entry(format!("{}{reason}", job.state)).or_default() += 1;
    }
    let (on_the_wire, sent_after_suppression) = after_suppression(&world.suppressions, &ledger);
    if on_the_wire > 0 {
        world.notes.push(format!("{on_the_wire} on the wire at a stop"));
    }
    check_attempts(world).await?;
    check_logs(world);
    check_memory(world);
    check_connections(world).await?;
    let mut verdict = Verdict {
        scenario: scenario.to_owned(),
        seed: world.seed,
        ok: tally.is_clean() && sent_after_suppression == 0 && world.findings.is_empty(),
        jobs: world.inserted,
        messages: ledger.len() as u64,
        tally,
        sent_after_suppression,
        on_the_wire,
        states,
        findings: std::mem::take(&mut world.findings),
        notes: std::mem::take(&mut world.notes),
        peak_rss_kb: world.peak_rss_kb,
        secs: began.elapsed().as_secs_f64(),
        evidence: None,
    };
    if !verdict.ok {
        verdict.evidence = Some(keep(world, &ledger).await?);
    }
    Ok(verdict)
}

fn after_suppression(suppressions: &[Suppression], ledger: &[LedgerEntry]) -> (u64, u64) {
    let (mut on_the_wire, mut late) = (0, 0);
    for suppression in suppressions {
        for entry in ledger.iter().filter(|entry| entry.phone == suppression.phone) {
            match entry.at_us - suppression.committed_us {
                ..=0 => {}
                1..=ON_THE_WIRE_US => on_the_wire += 1,
                _ => late += 1,
            }
        }
    }
    (on_the_wire, late)
}

/// A claim spends one attempt if one of its outcomes does, by the outcome table; jobs that a person tried again count anew.
async fn check_attempts(world: &mut World) -> Result<(), ProveError> {
    let wrong = facts::wrongly_spent(&world.pool, &world.retried).await?;
    if wrong > 0 {
        world.findings.push(format!("{wrong} jobs spent more or fewer attempts than their outcomes say"));
    }
    Ok(())
}

fn check_logs(world: &mut World) {
    let logs = fs::read_dir(world.logs.path()).into_iter().flatten().flatten();
    let panicked = |path: &Path| fs::read_to_string(path).is_ok_and(|log| log.contains("panicked"));
    let workers: BTreeSet<String> = logs
        .filter(|file| panicked(&file.path()))
        .map(|file| file.file_name().to_string_lossy().into_owned())
        .collect();
    world.findings.extend(workers.into_iter().map(|log| format!("a panic in {log}")));
}

fn check_memory(world: &mut World) {
    let peak = world.peak_rss_kb;
    if peak > MEMORY_LIMIT_KB {
        world.findings.push(format!("a worker held {} MB, the bound is {} MB", peak / 1024, MEMORY_LIMIT_KB / 1024));
    }
}

/// Every worker has ended: none of its connections may be left, also not of those that were killed.
async fn check_connections(world: &mut World) -> Result<(), ProveError> {
    const LOOKS: u32 = 100;
    world.pool.close().await;
    let url: PgConnectOptions = world.server.url("postgres").parse()?;
    let mut conn = PgConnection::connect_with(&url.application_name("prove")).await?;
    let mut left = 0;
    for _ in 0..LOOKS {
        left = facts::connections(&mut conn).await?;
        if left == 0 {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    world.findings.push(format!("{left} connections are left behind"));
    Ok(())
}

/// Keeps what shows how it came about.
async fn keep(world: &mut World, ledger: &[LedgerEntry]) -> Result<PathBuf, ProveError> {
    let directory = world.logs.path().to_owned();
    let mut conn = PgConnection::connect(&world.server.url("postgres")).await?;
    for table in ["jobs", "attempts", "lines", "workers"] {
        let rows = facts::dump(&mut conn, table).await?;
        fs::write(directory.join(format!("{table}.json")), rows)?;
    }
    let ledger = serde_json::to_string_pretty(ledger).map_err(std::io::Error::from)?;
    fs::write(directory.join("ledger.json"), ledger)?;
    world.logs.disable_cleanup(true);
    Ok(directory)
}
