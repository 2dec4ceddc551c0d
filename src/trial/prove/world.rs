//! The world of one scenario: a Postgres, a Chert and workers of its own, all of them real, all of them breakable.

use std::collections::BTreeMap;
use std::future::Future;
use std::process::Stdio;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sqlx::PgPool;
use tempfile::TempDir;
use tokio::process::Command;
use tracing::instrument::WithSubscriber as _;
use tracing::subscriber::NoSubscriber;

use crate::chert::client::wall_clock;
use crate::chert::lines::ListedLine;
use crate::database;
use crate::outbox::lines::{self, Paces, Which};
use crate::simulate::{self, Cap, DEFAULT_SECRET, Faults, Simulator};
use crate::trial::facts::{self, Progress};
use crate::trial::forwarder::Forwarder;
use crate::trial::postgres::{Durability, Embedded};
use crate::trial::prove::setup::{Machine, Setup};
use crate::trial::prove::{ProveError, SETTLE_LIMIT};
use crate::trial::rig::{WorkerProcess, WorkerSetup, log_directory};

/// How often a scenario looks whether something has happened.
const LOOK: Duration = Duration::from_millis(20);
/// How long a worker may take to end in good order.
const STOP_PATIENCE: Duration = Duration::from_secs(20);

/// Short, so that what a dead worker held is taken over soon.
pub const LEASE: Duration = Duration::from_secs(4);

/// Everything that a scenario plays with; dropping it ends all of it.
pub struct World {
    pub seed: u64,
    /// Chance, by the seed.
    pub rng: StdRng,
    /// The server that takes writes.
    pub server: Embedded,
    pub pool: PgPool,
    /// The workers' way to a server that may change.
    pub forwarder: Option<Forwarder>,
    pub simulator: Simulator,
    /// The workers that run.
    pub workers: Vec<WorkerProcess>,
    /// What should not be, as sentences.
    pub findings: Vec<String>,
    /// What happened, for the table.
    pub notes: Vec<String>,
    pub suppressions: Vec<Suppression>,
    /// Jobs that a person tried again, and how often they had been claimed before: their attempts count anew from there.
    pub retried: BTreeMap<i64, i32>,
    pub inserted: u64,
    pub peak_rss_kb: u64,
    /// What a world begins before, by Postgres's and Chert's clocks.
    pub begins_before: Option<DateTime<Utc>>,
    pub setup: WorkerSetup,
    pub logs: TempDir,
    started_workers: u32,
}

/// Somebody who must not be sent to.
pub struct Suppression {
    pub phone: String,
    /// When its commit had returned, on the ledger's clock.
    pub committed_us: i64,
}

impl World {
    /// Starts Postgres and Chert, migrates, and sets the lines' paces. No worker runs yet.
    pub async fn make(setup: Setup, seed: u64) -> Result<World, ProveError> {
        let (mut begins_before, mut ahead_secs) = (None, 0);
        let server = match setup.machine {
            Machine::Plain => Embedded::start(Durability::None).await?,
            Machine::SmallDisk => Embedded::start_on_a_small_disk().await?,
            Machine::Clock => Embedded::start_with_a_clock().await?,
            Machine::Before { instant, lead } => {
                (begins_before, ahead_secs) = (Some(instant), (instant - lead - wall_clock()).num_seconds());
                Embedded::start_off_by(i32::try_from(ahead_secs).unwrap_or(0)).await?
            }
        };
        let pool = database::connect(&server.url("postgres"), 4).await?;
        database::migrate(&pool, "default").await?;
        let options = simulate::Options {
            port: 0,
            lines: setup.lines,
            first_touch_gap: Duration::ZERO,
            first_touch_cap: Cap(None),
            seed: Some(seed),
            calendar_ahead: TimeDelta::seconds(ahead_secs),
            ..setup.simulator
        };
        // Its greeting is for those who run it by itself.
        let simulator = simulate::start(options).with_subscriber(NoSubscriber::default()).await?;
        let listed = |line| ListedLine { id: format!("pl_{line}"), phone_number: None, is_active: true };
        lines::sync(&pool, &(1..=setup.lines).map(listed).collect::<Vec<_>>()).await?;
        let paces = Paces {
            gap: Some(setup.gap),
            first_touch_gap: Some(setup.first_touch_gap),
            first_touch_cap: Some(setup.first_touch_cap.map(u32::cast_signed)),
            time_zone: None,
        };
        lines::set(&pool, &Which::All, &paces).await?;
        let logs = log_directory()?;
        let lease = format!("{}s", LEASE.as_secs());
        let env = [
            ("OUTBOX_LINE_CHOICE", "name"),
            ("OUTBOX_HTTP_TIMEOUT", "1s"),
            ("OUTBOX_LEASE", &lease),
            ("OUTBOX_PROBE_WAIT", "1s"),
        ];
        let env = env.map(|(name, value)| (name, value.to_owned())).into_iter().chain(setup.worker_env);
        let setup = WorkerSetup {
            program: std::env::current_exe()?,
            database_url: server.url("postgres"),
            base_url: simulator.base_url(),
            secret: DEFAULT_SECRET.to_owned(),
            env: env.collect(),
            logs: logs.path().to_owned(),
        };
        Ok(World {
            seed,
            rng: StdRng::seed_from_u64(seed),
            server,
            pool,
            forwarder: None,
            simulator,
            workers: Vec::new(),
            findings: Vec::new(),
            notes: Vec::new(),
            suppressions: Vec::new(),
            retried: BTreeMap::new(),
            inserted: 0,
            peak_rss_kb: 0,
            begins_before,
            setup,
            logs,
            started_workers: 0,
        })
    }

    /// Inserts jobs to recipients drawn by the seed.
    pub async fn insert(&mut self, jobs: usize, recipients: u32) -> Result<(), ProveError> {
        let phones: Vec<String> = (0..jobs).map(|_| phone(self.rng.random_range(0..recipients))).collect();
        self.insert_to(&phones).await
    }

    /// Inserts a job to each of these, in batches as a producer would. Each body is one of its kind.
    pub async fn insert_to(&mut self, phones: &[String]) -> Result<(), ProveError> {
        const BATCH: usize = 500;
        for phones in phones.chunks(BATCH) {
            let taken = sqlx::query(
                "insert into outbox.jobs (phone, body)
                 select phone, 'message ' || $2 + n from unnest($1::text[]) with ordinality as u (phone, n)",
            )
            .bind(phones)
            .bind(self.inserted.cast_signed())
            .execute(&self.pool)
            .await?;
            self.inserted += taken.rows_affected();
        }
        Ok(())
    }

    /// Inserts the same text twice to each of so many recipients.
    pub async fn insert_everybody_twice(&mut self, recipients: u32) -> Result<(), ProveError> {
        let phones: Vec<String> = (0..recipients).map(phone).collect();
        let taken = sqlx::query(
            "insert into outbox.jobs (phone, body) select phone, 'the same' from unnest($1::text[] || $1::text[]) phone",
        )
        .bind(phones)
        .execute(&self.pool)
        .await?;
        self.inserted += taken.rows_affected();
        Ok(())
    }

    /// Starts a worker.
    pub fn start_worker(&mut self) -> Result<(), ProveError> {
        self.start_worker_with(&[])
    }

    /// Starts a worker with more of an environment.
    pub fn start_worker_with(&mut self, env: &[(&'static str, String)]) -> Result<(), ProveError> {
        self.started_workers += 1;
        let mut setup = self.setup.clone();
        setup.env.extend_from_slice(env);
        self.workers.push(WorkerProcess::start(&setup, &format!("worker-{}", self.started_workers))?);
        Ok(())
    }

    /// SIGKILL to one of the workers, by chance.
    pub async fn kill_any_worker(&mut self) -> Result<(), ProveError> {
        let victim = self.rng.random_range(0..self.workers.len());
        self.kill_worker(victim).await
    }

    /// SIGKILL to this worker.
    pub async fn kill_worker(&mut self, index: usize) -> Result<(), ProveError> {
        let victim = self.workers.remove(index);
        self.note_memory(&victim);
        Ok(victim.kill().await?)
    }

    /// Takes away the workers that have ended by themselves, and returns how many did.
    pub fn reap(&mut self) -> Result<usize, ProveError> {
        let before = self.workers.len();
        let mut running = Vec::with_capacity(before);
        for mut worker in std::mem::take(&mut self.workers) {
            if worker.ended()?.is_none() {
                running.push(worker);
            }
        }
        self.workers = running;
        Ok(before - self.workers.len())
    }

    pub fn faults(&self, faults: Faults) -> Result<(), ProveError> {
        Ok(self.simulator.set_faults(faults)?)
    }

    /// How far it is. Errors: the database is away.
    pub async fn progress(&self) -> Result<Progress, ProveError> {
        Ok(facts::progress(&self.pool).await?)
    }

    /// Waits until `share` of all jobs (0 to 1) have ended; at most the limit of a scenario.
    pub async fn until_ended(&mut self, share: f64) -> Result<(), ProveError> {
        let limit = Instant::now() + SETTLE_LIMIT;
        loop {
            // A database that is away just now is no reason to stop.
            if let Ok(progress) = self.progress().await
                && progress.ended() as f64 >= share * self.inserted as f64
            {
                return Ok(());
            }
            if Instant::now() >= limit {
                self.findings.push(format!("{:.0} % of the jobs had not ended in time", share * 100.0));
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until the condition holds; a finding if it does not within the limit of a scenario.
    pub async fn until<F: Future<Output = Result<bool, ProveError>>>(
        &mut self,
        what: &str,
        condition: impl Fn() -> F,
    ) -> Result<(), ProveError> {
        let limit = Instant::now() + SETTLE_LIMIT;
        while !condition().await? {
            if Instant::now() >= limit {
                self.findings.push(format!("waited in vain until {what}"));
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Suppresses recipients in one transaction, and notes when that was committed.
    pub async fn suppress(&mut self, phones: &[String]) -> Result<(), ProveError> {
        sqlx::query(
            "insert into outbox.suppressions (phone, reason)
             select phone, 'said stop' from unnest($1::text[]) phone on conflict do nothing",
        )
        .bind(phones)
        .execute(&self.pool)
        .await?;
        let committed_us = self.simulator.handle().now_us();
        self.suppressions.extend(phones.iter().map(|phone| Suppression { phone: phone.clone(), committed_us }));
        Ok(())
    }

    /// Runs a command of this program as a person would; a finding if it fails.
    pub async fn command(&mut self, args: &[&str]) -> Result<(), ProveError> {
        self.asked(args).await.map(drop)
    }

    /// The same, and returns what it printed.
    pub async fn asked(&mut self, args: &[&str]) -> Result<String, ProveError> {
        let mut command = Command::new(&self.setup.program);
        command.args(args).env("DATABASE_URL", &self.setup.database_url);
        command
            .env("CHERT_BASE_URL", &self.setup.base_url)
            .env("CHERT_SIGNING_SECRET", &self.setup.secret)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let done = command.output().await?;
        if !done.status.success() {
            let said = String::from_utf8_lossy(&done.stderr).trim().to_owned();
            self.findings.push(format!("chert-outbox {}: {said}", args.join(" ")));
        }
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    }

    /// Tries ended jobs again, one after the other, as a person would.
    pub async fn retry(&mut self, ids: &[i64]) -> Result<(), ProveError> {
        let claims: Vec<(i64, i32)> = sqlx::query_as("select id, claims from outbox.jobs where id = any ($1)")
            .bind(ids)
            .fetch_all(&self.pool)
            .await?;
        let ids: Vec<String> = ids.iter().map(i64::to_string).collect();
        let args: Vec<&str> = ["jobs", "retry"].into_iter().chain(ids.iter().map(String::as_str)).collect();
        self.command(&args).await?;
        self.retried.extend(claims);
        Ok(())
    }

    /// Waits until no job waits any more, starting a worker if none is left, and ends the workers in good order.
    pub async fn settle(&mut self) -> Result<(), ProveError> {
        self.reap()?;
        if self.workers.is_empty() {
            self.start_worker()?;
        }
        self.until_ended(1.0).await?;
        for worker in std::mem::take(&mut self.workers) {
            self.note_memory(&worker);
            let (name, log) = (worker.name().to_owned(), worker.last_words());
            match worker.stop(STOP_PATIENCE).await {
                Ok(status) if status.success() => {}
                Ok(status) => self.findings.push(format!("{name} ended with {status}: {log}")),
                Err(error) => self.findings.push(error.to_string()),
            }
        }
        Ok(())
    }

    /// What the workers had to complain about in their logs, as sentences.
    pub fn complaints(&self) -> Vec<String> {
        let lines = |worker: &WorkerProcess| {
            let log = worker.log();
            let warnings = log.lines().filter(|line| ["WARN", "ERROR"].iter().any(|level| line.contains(level)));
            warnings.map(|line| format!("{}: {line}", worker.name())).collect::<Vec<_>>()
        };
        self.workers.iter().flat_map(lines).collect()
    }

    fn note_memory(&mut self, worker: &WorkerProcess) {
        self.peak_rss_kb = self.peak_rss_kb.max(worker.peak_rss_kb().unwrap_or(0));
    }
}

/// The number of the n-th recipient.
pub fn phone(recipient: u32) -> String {
    format!("+1555{:07}", 2_000_000 + recipient)
}
