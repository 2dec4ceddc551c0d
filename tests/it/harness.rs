//! What a test needs of the product: a database, a simulator, workers in this process or as processes of their own, and
//! questions to ask afterwards.

use std::collections::BTreeMap;
use std::future::Future;
use std::process::Stdio;
use std::time::Duration;

use chert_outbox::chert::client::Client;
use chert_outbox::config::WorkerOptions;
use chert_outbox::outbox::lines::{self, Paces, Which};
use chert_outbox::simulate::{self, Cap, Fault, Faults, LedgerEntry, Simulator};
use chert_outbox::worker::{self, Summary};
use chrono::{DateTime, Utc};
use clap::Parser;
use sqlx::PgPool;
use tokio::process::{Child, Command};
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::database::Database;

/// Every wait for something to happen ends here, as a failure.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Tests that measure gaps on the wire run alone, so that only the product's own delays are seen.
static MACHINE: RwLock<()> = RwLock::const_new(());

#[expect(dead_code, reason = "the guards are held, not read")]
enum Turn {
    Shared(RwLockReadGuard<'static, ()>),
    Alone(RwLockWriteGuard<'static, ()>),
}

pub struct Harness {
    pub database: Database,
    pub simulator: Simulator,
    _turn: Turn,
}

/// `chert-outbox worker`'s own options, read as from its command line.
#[derive(Parser)]
#[command(args_override_self = true)]
struct Options {
    #[command(flatten)]
    worker: WorkerOptions,
}

impl Harness {
    /// A simulator of five lines without first-touch rules, its lines known to the outbox and unpaced.
    pub async fn start() -> Harness {
        Harness::with(|_| {}).await
    }

    /// The same with other simulator options.
    pub async fn with(change: impl FnOnce(&mut simulate::Options)) -> Harness {
        Harness::make(change, Turn::Shared(MACHINE.read().await)).await
    }

    /// The same, with the machine for itself.
    pub async fn alone(change: impl FnOnce(&mut simulate::Options)) -> Harness {
        Harness::make(change, Turn::Alone(MACHINE.write().await)).await
    }

    async fn make(change: impl FnOnce(&mut simulate::Options), turn: Turn) -> Harness {
        let mut options = simulate::Options {
            port: 0,
            first_touch_gap: Duration::ZERO,
            first_touch_cap: Cap(None),
            ..simulate::Options::default()
        };
        change(&mut options);
        let simulator = simulate::start(options).await.expect("a port is free");
        let it = Harness { database: Database::create().await, simulator, _turn: turn };
        let listed = it.client().lines().await.expect("the simulator lists its lines");
        lines::sync(it.pool(), &listed).await.expect("lines are written");
        it.pace(Paces {
            gap: Some(Duration::ZERO),
            first_touch_gap: Some(Duration::ZERO),
            first_touch_cap: Some(None),
            time_zone: None,
        })
        .await;
        it
    }

    pub fn pool(&self) -> &PgPool {
        self.database.pool()
    }

    pub async fn pace(&self, paces: Paces) {
        lines::set(self.pool(), &Which::All, &paces).await.expect("paces are set");
    }

    pub fn faults(&self, faults: Faults) {
        self.simulator.set_faults(faults).expect("the faults are possible");
    }

    /// The next calls fail in this order.
    pub fn next_faults(&self, next: impl IntoIterator<Item = Fault>) {
        self.faults(Faults { next: next.into_iter().collect(), ..Faults::default() });
    }

    /// Runs any SQL that changes something.
    pub async fn execute(&self, sql: &'static str) {
        sqlx::raw_sql(sql).execute(self.pool()).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    pub async fn insert(&self, phone: &str, body: &str) -> i64 {
        sqlx::query_scalar("insert into outbox.jobs (phone, body) values ($1, $2) returning id")
            .bind(phone)
            .bind(body)
            .fetch_one(self.pool())
            .await
            .expect("a good row is taken")
    }

    /// `jobs` jobs spread evenly over `phones` recipients; a job's body is its place among its recipient's.
    pub async fn insert_many(&self, jobs: i32, phones: i32) {
        sqlx::query(
            "insert into outbox.jobs (phone, body)
             select '+1555014' || lpad((n % $2)::text, 4, '0'), 'message ' || n / $2 from generate_series(0, $1 - 1) n",
        )
        .bind(jobs)
        .bind(phones)
        .execute(self.pool())
        .await
        .expect("good rows are taken");
    }

    /// A client of the simulator.
    pub fn client(&self) -> Client {
        client(&self.args(&[]))
    }

    fn args(&self, more: &[&str]) -> Vec<String> {
        let fixed = ["worker", "--base-url", &self.simulator.base_url(), "--signing-secret", simulate::DEFAULT_SECRET];
        let quick = ["--http-timeout", "2s", "--lease", "5s", "--lines-refresh", "0", "--poll", "200ms"];
        // What the test gives comes last and wins.
        fixed.iter().chain(&quick).chain(more).map(|arg| (*arg).to_owned()).collect()
    }

    /// A worker in this process, on connections of its own.
    pub async fn worker(&self, args: &[&str]) -> Worker {
        let args = self.args(args);
        let options = Options::try_parse_from(&args).unwrap_or_else(|error| panic!("{error}")).worker;
        let (stop, stopping) = watch::channel(false);
        let pool = chert_outbox::database::connect(self.database.url(), 5).await.expect("the database answers");
        let client = options.chert.client().expect("the options are complete");
        let running = tokio::spawn(async move { worker::run(pool, client, options, stopping).await.expect("starts") });
        Worker { stop, running }
    }

    /// Runs a worker until nothing is left.
    pub async fn drain(&self) -> Summary {
        self.drain_with(&[]).await
    }

    pub async fn drain_with(&self, args: &[&str]) -> Summary {
        let args: Vec<&str> = ["--drain", "--drain-wait", "30s"].iter().chain(args).copied().collect();
        let worker = self.worker(&args).await;
        tokio::time::timeout(PATIENCE, worker.running).await.expect("it drains").expect("it does not panic")
    }

    /// A worker as a process of its own, killed when it is dropped.
    pub fn spawn_worker(&self, args: &[&str]) -> Child {
        let mut command = self.binary();
        command.args(self.args(args)).stdin(Stdio::null()).stdout(Stdio::null());
        command.spawn().expect("the binary starts")
    }

    /// The real binary, set up for this database and this simulator.
    pub fn binary(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chert-outbox"));
        command
            .env_clear()
            .env("DATABASE_URL", self.database.url())
            .env("CHERT_BASE_URL", self.simulator.base_url())
            .env("CHERT_SIGNING_SECRET", simulate::DEFAULT_SECRET)
            // Tests of what comes back say so; the others are spared its connections.
            .env("OUTBOX_ROLES", "send")
            .env("RUST_LOG", "warn")
            .kill_on_drop(true);
        command
    }

    /// Runs the binary to its end: exit code, standard output, standard error.
    pub async fn run(&self, args: &[&str]) -> (i32, String, String) {
        let mut command = self.binary();
        command.args(args);
        let output = tokio::time::timeout(PATIENCE, command.output()).await.expect("it ends").expect("it starts");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
    }

    /// Runs the binary to its end while nobody reads its standard output: exit code, standard error.
    pub async fn run_unread(&self, args: &[&str]) -> (i32, String) {
        let mut command = self.binary();
        let mut child = command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        drop(child.stdout.take());
        let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.expect("it ends").expect("it ran");
        (output.status.code().unwrap_or(-1), String::from_utf8(output.stderr).expect("UTF-8"))
    }

    /// Waits until the condition holds.
    pub async fn until<F: Future<Output = bool>>(&self, what: &str, condition: impl Fn() -> F) {
        until(what, condition).await;
    }

    pub async fn count(&self, condition: &str) -> i64 {
        let sql = format!("select count(*) from outbox.jobs where {condition}");
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(self.pool()).await.expect("the condition is SQL")
    }

    /// How many events are stored that the condition holds for.
    pub async fn events(&self, condition: &str) -> i64 {
        let sql = format!("select count(*) from outbox.events where {condition}");
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(self.pool()).await.expect("the condition is SQL")
    }

    /// The database's clock.
    pub async fn now(&self) -> DateTime<Utc> {
        sqlx::query_scalar("select clock_timestamp()").fetch_one(self.pool()).await.expect("answers")
    }

    /// One value of one job, as text.
    pub async fn field(&self, job: i64, column: &str) -> Option<String> {
        let sql = format!("select ({column})::text from outbox.jobs where id = $1");
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
            .bind(job)
            .fetch_one(self.pool())
            .await
            .expect("the column is there")
    }

    /// A job's state and reason, e.g. `failed/rejected`.
    pub async fn state(&self, job: i64) -> String {
        self.field(job, "state || coalesce('/' || reason, '')").await.expect("a job has a state")
    }

    /// The outcomes of a job's attempts, in order.
    pub async fn outcomes(&self, job: i64) -> Vec<String> {
        sqlx::query_scalar("select outcome from outbox.attempts where job_id = $1 order by claim, late")
            .bind(job)
            .fetch_all(self.pool())
            .await
            .expect("attempts can be read")
    }

    pub fn ledger(&self) -> Vec<LedgerEntry> {
        self.simulator.ledger()
    }

    /// Every job is `sent`, and each is on its phone exactly once.
    pub async fn each_sent_once(&self, jobs: i64) {
        assert_eq!(self.count("state = 'sent'").await, jobs, "jobs that were sent; {:?}", self.states().await);
        let mut messages: BTreeMap<String, u32> = BTreeMap::new();
        for entry in self.ledger() {
            *messages.entry(entry.idempotency_key.expect("every call has a key")).or_default() += 1;
        }
        let doubled = messages.values().filter(|count| **count > 1).count();
        assert_eq!((messages.len() as i64, doubled), (jobs, 0), "keys on phones, and those there more than once");
        assert_eq!(self.count("idempotency_key is null").await, 0);
    }

    /// Each recipient's messages arrived in the order of their places (see `insert_many`).
    pub fn in_order(&self) {
        let mut places: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        for entry in self.ledger() {
            let place =
                entry.body.strip_prefix("message ").and_then(|n| n.parse().ok()).expect("a body of insert_many");
            places.entry(entry.phone).or_default().push(place);
        }
        for (phone, places) in places {
            assert!(places.is_sorted(), "{phone} got its messages as {places:?}");
        }
    }

    /// No line sent two messages closer than `gap`, by the ledger's own clock, with 2 ms of tolerance.
    pub fn gaps_kept(&self, gap: Duration) {
        let mut arrivals: BTreeMap<String, Vec<i64>> = BTreeMap::new();
        for entry in self.ledger() {
            arrivals.entry(entry.line_id).or_default().push(entry.at_us);
        }
        let least = gap.as_micros() as i64 - 2_000;
        for (line, mut at) in arrivals {
            at.sort_unstable();
            let closest = at.windows(2).map(|pair| pair[1] - pair[0]).min().unwrap_or(i64::MAX);
            assert!(closest >= least, "{line} sent two messages {closest} µs apart");
        }
    }

    pub async fn states(&self) -> Vec<(String, i64)> {
        sqlx::query_as("select state || coalesce('/' || reason, ''), count(*) from outbox.jobs group by 1 order by 1")
            .fetch_all(self.pool())
            .await
            .expect("jobs can be counted")
    }
}

/// A worker in this process.
pub struct Worker {
    stop: watch::Sender<bool>,
    running: JoinHandle<Summary>,
}

impl Worker {
    /// Stops it in order.
    pub async fn stop(self) -> Summary {
        self.stop.send_replace(true);
        tokio::time::timeout(PATIENCE, self.running).await.expect("it stops").expect("it does not panic")
    }

    pub fn is_running(&self) -> bool {
        !self.running.is_finished()
    }
}

fn client(args: &[String]) -> Client {
    let options = Options::try_parse_from(args).unwrap_or_else(|error| panic!("{error}")).worker;
    options.chert.client().expect("the options are complete")
}

/// Waits until the condition holds, and asks often.
pub async fn until<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "waited too long until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
