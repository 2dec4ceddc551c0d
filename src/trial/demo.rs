//! The demo: a producer, two workers and a Chert that fails on purpose. One worker is killed half way. In the end it is
//! counted whether anything was lost, doubled or sent too fast.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use sqlx::PgPool;
use tempfile::TempDir;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::instrument::WithSubscriber as _;
use tracing::subscriber::NoSubscriber;

use crate::chert::lines::ListedLine;
use crate::database::{self, DatabaseError, describe};
use crate::outbox::lines::{self, LinesError, Paces, Which};
use crate::simulate::{self, DEFAULT_SECRET, Faults, FaultsError, Options, Simulator, StartError};
use crate::trial::Audience;
use crate::trial::facts::{self, Progress};
use crate::trial::ground::Ground;
use crate::trial::producer;
use crate::trial::rig::{RigError, WorkerProcess, WorkerSetup, log_directory};
use crate::trial::tally::{Tally, tally};
use crate::units::counted;

/// The demo gives up after this long and reports what is left.
pub const LIMIT: Duration = Duration::from_secs(90);

const LINES: u32 = 5;
/// 10 messages a second on each line.
const GAP: Duration = Duration::from_millis(100);
/// Chert's ten minutes between two first touches of a line, and how much faster its clock runs here.
const SIMULATED_FIRST_TOUCH_GAP: Duration = Duration::from_secs(600);
const TIME_SCALE: u32 = 600;
const FIRST_TOUCH_CAP: u32 = 30;
/// For so long, two lines answer that they have no room.
const SATURATED_FOR: Duration = Duration::from_secs(3);
/// How often we look.
const TICK: Duration = Duration::from_millis(100);
/// How long we wait for a good moment to kill: when a message of the victim is on a phone, and not yet recorded.
const AIM: Duration = Duration::from_secs(2);
/// How long a worker may take to end in good order, and the database to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was counted.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Whether all jobs ended in time and nothing went wrong.
    pub ok: bool,
    #[serde(flatten)]
    pub tally: Tally,
    pub inserted: u64,
    pub refused_at_insert: u64,
    /// Jobs by state, with reason and code.
    pub jobs: BTreeMap<String, u64>,
    /// Failed jobs that keep the list of effects that Chert would have taken.
    pub with_allowed_effects: u64,
    /// Attempts by outcome, with code.
    pub attempts: BTreeMap<String, u64>,
    pub messages: u64,
    pub phones: u64,
    pub lines: u64,
    /// Calls that Chert had had before, by their key, and answered without sending.
    pub replays: u64,
    /// What went wrong on purpose, by kind.
    pub faults: BTreeMap<String, u64>,
    pub workers: Workers,
    pub secs: f64,
}

/// What became of the workers.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Workers {
    pub started: u64,
    pub killed: u64,
    /// Jobs that the killed one held, and how many of those were on a phone already, unrecorded.
    pub held_when_killed: u64,
    pub on_a_phone_when_killed: u64,
    /// Jobs that others took over from it.
    pub rescued: u64,
}

/// Why the demo cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    #[error("starting the simulator: {0}")]
    Simulator(#[from] StartError),
    #[error("choosing what goes wrong: {0}")]
    Faults(#[from] FaultsError),
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error(transparent)]
    Lines(#[from] LinesError),
    #[error("inserting jobs: {}", describe(.0))]
    Insert(#[source] sqlx::Error),
    #[error("the outbox took a number that is none")]
    TookBadNumber,
    #[error("counting: {}", describe(.0))]
    Count(#[source] sqlx::Error),
    #[error("finding our own program: {0}")]
    Program(#[source] std::io::Error),
    #[error("making a directory for the workers' logs: {0}")]
    Logs(#[source] std::io::Error),
    #[error(transparent)]
    Rig(#[from] RigError),
    #[error("{name} ended by itself, with {status}: {last_words}")]
    WorkerEnded { name: String, status: std::process::ExitStatus, last_words: String },
}

/// Everything that runs; dropping it ends it.
pub struct Demo {
    started: Instant,
    pool: PgPool,
    simulator: Simulator,
    setup: WorkerSetup,
    running: Vec<WorkerProcess>,
    workers: Workers,
    inserted: u64,
    refused_at_insert: u64,
    logs: TempDir,
}

impl Demo {
    /// Sets the scene on an empty outbox: a simulator, its lines and their paces.
    pub async fn prepare(ground: &Ground, audience: &mut dyn Audience) -> Result<Demo, DemoError> {
        let started = Instant::now();
        let logs = log_directory().map_err(DemoError::Logs)?;
        // Its greeting is for those who run it by itself.
        let simulator = simulate::start(simulator_options()).with_subscriber(NoSubscriber::default()).await?;
        audience.say(&format!("Chert: a simulator with {LINES} lines, {}", simulator.base_url()));
        let pool = database::connect(ground.url(), 4).await?;
        // As `lines sync` would, but without a call: whatever proxy our environment names does not lead to the simulator.
        let listed = |line| ListedLine { id: format!("pl_{line}"), phone_number: None, is_active: true };
        lines::sync(&pool, &(1..=LINES).map(listed).collect::<Vec<_>>()).await?;
        let first_touch_gap = SIMULATED_FIRST_TOUCH_GAP / TIME_SCALE;
        let paces = Paces {
            gap: Some(GAP),
            first_touch_gap: Some(first_touch_gap),
            first_touch_cap: Some(Some(FIRST_TOUCH_CAP.cast_signed())),
            time_zone: None,
        };
        lines::set(&pool, &Which::All, &paces).await?;
        audience.say(&format!(
            "Lines: {} messages/s each, a first touch every {first_touch_gap:?} (Chert's 10 min)",
            1000 / GAP.as_millis()
        ));
        let setup = WorkerSetup {
            program: std::env::current_exe().map_err(DemoError::Program)?,
            database_url: ground.url().to_owned(),
            base_url: simulator.base_url(),
            secret: DEFAULT_SECRET.to_owned(),
            env: worker_env(ground.deployment()),
            logs: logs.path().to_owned(),
        };
        Ok(Demo {
            started,
            pool,
            simulator,
            setup,
            running: Vec::new(),
            workers: Workers::default(),
            inserted: 0,
            refused_at_insert: 0,
            logs,
        })
    }

    /// Inserts the jobs, sends them with two workers, and kills one of them half way. Returns when no job waits any more,
    /// or when [`LIMIT`] is over.
    pub async fn play(&mut self, audience: &mut dyn Audience) -> Result<(), DemoError> {
        self.insert(audience).await?;
        for name in ["worker-1", "worker-2"] {
            self.start_worker(name)?;
        }
        let pids: Vec<String> = self.running.iter().map(|worker| worker.pid().to_string()).collect();
        audience.say(&format!("Workers: processes {}. Chert fails now and then", pids.join(" and ")));
        let began = Instant::now();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let progress = read(facts::progress(&self.pool)).await?;
            audience.show(&progress);
            self.check_workers()?;
            if progress.ended() == progress.total() {
                audience.say("Nothing waits any more: counting");
                return Ok(());
            }
            if self.started.elapsed() > LIMIT {
                audience.say(&format!("Not done after {LIMIT:?}: counting what is left"));
                return Ok(());
            }
            self.simulator.set_faults(faults(began.elapsed(), &progress))?;
            if self.workers.killed == 0 && 2 * progress.ended() >= progress.total() {
                self.kill_one(audience).await?;
            }
        }
    }

    /// Counts, from the simulator's ledger and the database.
    pub async fn count(&self) -> Result<Report, DemoError> {
        let jobs = read(facts::jobs(&self.pool)).await?;
        let lines = read(facts::lines(&self.pool)).await?;
        let attempts = read(facts::attempts(&self.pool)).await?;
        let ledger = self.simulator.ledger();
        let calls = self.simulator.handle().calls();
        let tally = tally(self.inserted, &jobs, &ledger, &lines);
        let different =
            |name: fn(&simulate::LedgerEntry) -> &str| ledger.iter().map(name).collect::<BTreeSet<_>>().len() as u64;
        Ok(Report {
            ok: tally.is_clean(),
            tally,
            inserted: self.inserted,
            refused_at_insert: self.refused_at_insert,
            jobs: read(facts::outcomes(&self.pool)).await?,
            with_allowed_effects: read(facts::with_allowed_effects(&self.pool)).await?,
            messages: ledger.len() as u64,
            phones: different(|entry| &entry.phone),
            lines: different(|entry| &entry.line_id),
            replays: calls.replays,
            faults: calls.faults,
            workers: Workers { rescued: attempts.rescued, ..self.workers.clone() },
            attempts: attempts.by_outcome,
            secs: self.started.elapsed().as_secs_f64(),
        })
    }

    /// Ends the workers in good order: what they hold is finished and recorded.
    pub async fn stop_workers(&mut self) -> Result<(), DemoError> {
        for worker in std::mem::take(&mut self.running) {
            let (name, last_words) = (worker.name().to_owned(), worker.last_words());
            let status = worker.stop(PATIENCE).await?;
            if !status.success() {
                return Err(DemoError::WorkerEnded { name, status, last_words });
            }
        }
        Ok(())
    }

    /// Where the simulator tells what is on the phones.
    pub fn ledger_url(&self) -> String {
        format!("{}/ledger", self.simulator.admin_url())
    }

    /// Where the workers log.
    pub fn logs(&self) -> &Path {
        self.logs.path()
    }

    /// Ends all of it, the workers in good order if they can.
    pub async fn end(mut self) -> Result<(), DemoError> {
        let stopped = self.stop_workers().await;
        self.pool.close().await;
        self.simulator.shutdown().await;
        stopped
    }

    async fn insert(&mut self, audience: &mut dyn Audience) -> Result<(), DemoError> {
        let failed = DemoError::Insert;
        audience.say("Producer: plain SQL, such as");
        audience.say("    insert into outbox.jobs (phone, body) values");
        audience.say("           ('+15550142000', 'Hi 0, order 1000 is on its way.'), …;");
        let first_touches = producer::first_touches(&self.pool).await.map_err(failed)?;
        let follow_ups = producer::follow_ups(&self.pool).await.map_err(failed)?;
        audience.say(&format!("Inserted {first_touches} first touches and {follow_ups} messages to follow them"));
        let hopeless = producer::hopeless(&self.pool).await.map_err(failed)?;
        audience.say(&format!("Inserted {hopeless} that Chert will refuse: a bad number, an unknown effect"));
        let once = producer::one_job_twice(&self.pool).await.map_err(failed)?;
        audience.say(&format!("Inserted one job twice with the same dedupe_key: {once} row"));
        let constraint = producer::bad_number(&self.pool).await.map_err(failed)?.ok_or(DemoError::TookBadNumber)?;
        audience.say(&format!("Refused at insert, '555-0142': {constraint}"));
        self.inserted = first_touches + follow_ups + hopeless + once;
        self.refused_at_insert = 1;
        Ok(())
    }

    fn start_worker(&mut self, name: &str) -> Result<(), DemoError> {
        self.running.push(WorkerProcess::start(&self.setup, name)?);
        self.workers.started += 1;
        Ok(())
    }

    fn check_workers(&mut self) -> Result<(), DemoError> {
        for worker in &mut self.running {
            if let Some(status) = worker.ended()? {
                let (name, last_words) = (worker.name().to_owned(), worker.last_words());
                return Err(DemoError::WorkerEnded { name, status, last_words });
            }
        }
        Ok(())
    }

    /// SIGKILL, if it can be had at a moment when a message of the victim is on a phone and not yet recorded.
    async fn kill_one(&mut self, audience: &mut dyn Audience) -> Result<(), DemoError> {
        let victim = self.running.remove(0);
        let (name, pid) = (victim.name().to_owned(), victim.pid());
        let aimed = Instant::now();
        while self.on_phones(&self.held_keys(&name).await?) == 0 && aimed.elapsed() < AIM {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        victim.kill().await?;
        let held = self.held_keys(&name).await?;
        let on_phones = self.on_phones(&held);
        self.workers.killed += 1;
        self.workers.held_when_killed = held.len() as u64;
        self.workers.on_a_phone_when_killed = on_phones;
        self.start_worker("worker-3")?;
        let successor = self.running.last().map_or(0, WorkerProcess::pid);
        audience.say(&format!("Half way: SIGKILL to {name} ({pid}), {successor} takes its place"));
        let held = counted(held.len(), "job", "jobs");
        audience.say(&format!("    it held {held}, {on_phones} on a phone already and not recorded"));
        Ok(())
    }

    async fn held_keys(&self, worker: &str) -> Result<Vec<String>, DemoError> {
        read(facts::held_keys(&self.pool, worker)).await
    }

    fn on_phones(&self, keys: &[String]) -> u64 {
        let simulator = self.simulator.handle();
        keys.iter().filter(|key| !simulator.ledger_of_key(key).is_empty()).count() as u64
    }
}

/// A database that has gone silent must not hold us up.
async fn read<T>(query: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, DemoError> {
    let answer = tokio::time::timeout(PATIENCE, query).await;
    answer.unwrap_or(Err(sqlx::Error::PoolTimedOut)).map_err(DemoError::Count)
}

fn simulator_options() -> Options {
    Options {
        port: 0,
        lines: LINES,
        first_touch_gap: SIMULATED_FIRST_TOUCH_GAP,
        time_scale: f64::from(TIME_SCALE),
        // A day of keys in our time, not in its own.
        key_lifetime: Duration::from_secs(24 * 60 * 60) * TIME_SCALE,
        latency: Duration::from_millis(40),
        latency_jitter: Duration::from_millis(60),
        ..Options::default()
    }
}

/// Leases are short, so that the jobs of the killed worker are taken over soon.
fn worker_env(deployment: &str) -> Vec<(&'static str, String)> {
    vec![
        ("OUTBOX_DEPLOYMENT", deployment.to_owned()),
        ("OUTBOX_LINE_CHOICE", "name".to_owned()),
        ("OUTBOX_HTTP_TIMEOUT", "2s".to_owned()),
        ("OUTBOX_LEASE", "5s".to_owned()),
    ]
}

/// What goes wrong: two lines have no room at first; until three quarters are done, one call in twenty gets a 5xx, one in
/// thirty breaks before Chert has the message and one in twenty after.
fn faults(since_start: Duration, progress: &Progress) -> Faults {
    let saturated: &[&str] = if since_start < SATURATED_FOR { &["pl_4", "pl_5"] } else { &[] };
    let failing = 4 * progress.ended() < 3 * progress.total();
    let chance = |chance: f64| if failing { chance } else { 0.0 };
    Faults {
        error_5xx: chance(0.05),
        drop_before: chance(0.03),
        drop_after: chance(0.05),
        saturated_lines: saturated.iter().map(|line| (*line).to_owned()).collect(),
        saturated_retry_after: 1,
        ..Faults::default()
    }
}
