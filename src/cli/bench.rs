//! `bench`: what a job costs here, in ratios that mean something on any machine.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{print_json, table};
use crate::trial::bench::claim::{self, Measured};
use crate::trial::bench::throughput::{self, Load, Report};
use crate::trial::bench::webhooks::{self, Answers, Spread};
use crate::trial::bench::{BenchError, Progress, Scratch};
use crate::units::counted;

/// Measure what a job costs on this machine, against a local Chert; nothing leaves it.
///
/// It works in a database of its own, on the server of DATABASE_URL or else on a throw-away Postgres, and leaves nothing
/// behind. Figures are noisy: trust the ratios, which compare two things of one run.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  chert-outbox bench                                # 10,000 jobs, beside a bare loop of posts
  chert-outbox bench --jobs 50000 --concurrency 256 --json
  chert-outbox bench claim                          # a claim of 500 at 10,000 and at 1,000,000 rows, and with blocked ones
  chert-outbox bench claim --rows 100000 --json
  chert-outbox bench webhooks                       # how soon a webhook is answered, beside a bare commit
  DATABASE_URL= chert-outbox bench claim            # not on your own server")]
pub struct Bench {
    /// Work in a fresh database on this server, dropped afterwards, instead of on a throw-away Postgres.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, global = true)]
    database_url: Option<String>,
    /// Print the figures as JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    throughput: Throughput,
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Args)]
struct Throughput {
    /// Jobs to drain, and bare posts to make.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(i64).range(100..=1_000_000))]
    jobs: i64,
    /// Calls at once, of the worker and of the bare loop.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096))]
    concurrency: u16,
    /// Single inserts that an idle worker picks up.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pickups: u32,
    /// Such inserts a second.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pickup_rate: u32,
}

impl Throughput {
    fn load(&self) -> Load {
        let Throughput { jobs, concurrency, pickups, pickup_rate } = *self;
        Load { jobs, concurrency, pickups, pickup_rate }
    }
}

#[derive(Debug, Subcommand)]
enum What {
    Claim(Claim),
    Webhooks(Webhooks),
}

/// Measure how soon webhooks are answered, whether or not those before them are, beside bare commits at the same rate.
#[derive(Debug, Args)]
struct Webhooks {
    /// How many.
    #[arg(long, default_value_t = 3_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    webhooks: u32,
    /// So many a second.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=2_000))]
    rate: u32,
}

/// Measure a claim of 500 jobs at 10,000 and at --rows rows, and with a tenth of them more blocked at a line's head.
#[derive(Debug, Args)]
struct Claim {
    /// The large backlog.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(i64).range(10_000..=20_000_000))]
    rows: i64,
    /// Leave the planner without statistics, as right after a bulk load.
    #[arg(long)]
    no_analyze: bool,
}

impl Bench {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
        let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
        let progress = Progress::start();
        progress.say("Setting up the database");
        let scratch = Scratch::create(self.database_url.as_deref().filter(|url| !url.is_empty())).await?;
        let measured = tokio::select! {
            measured = self.measure(&scratch, &progress) => Some(measured),
            _ = interrupt.recv() => None,
            _ = terminate.recv() => None,
        };
        drop(progress);
        let removed = scratch.remove().await;
        measured.context("interrupted")??.print(self.json)?;
        removed?;
        Ok(ExitCode::SUCCESS)
    }

    async fn measure(&self, scratch: &Scratch, progress: &Progress) -> Result<Figures, BenchError> {
        match &self.what {
            None => {
                let report = throughput::run(scratch, self.throughput.load(), progress).await?;
                Ok(Figures::Throughput(Box::new(report)))
            }
            Some(What::Claim(args)) => {
                claim::run(scratch, args.rows, !args.no_analyze, progress).await.map(Figures::Claim)
            }
            Some(What::Webhooks(args)) => {
                webhooks::run(scratch, args.webhooks, args.rate, progress).await.map(Figures::Webhooks)
            }
        }
    }
}

enum Figures {
    Throughput(Box<Report>),
    Claim(Vec<Measured>),
    Webhooks(Answers),
}

impl Figures {
    fn print(&self, json: bool) -> anyhow::Result<()> {
        match self {
            Figures::Throughput(report) if json => print_json(report)?,
            Figures::Throughput(report) => print_throughput(report),
            Figures::Claim(measured) if json => print_json(measured)?,
            Figures::Claim(measured) => print_claims(measured),
            Figures::Webhooks(answers) if json => print_json(answers)?,
            Figures::Webhooks(answers) => print_webhooks(answers),
        }
        Ok(())
    }
}

fn print_webhooks(answers: &Answers) {
    let mut times = table(&["", "p50", "p99", "slowest"]);
    for (what, Spread { p50_ms, p99_ms, slowest_ms }) in [("webhook", answers.webhook), ("bare commit", answers.commit)]
    {
        times.add_row([
            what.to_owned(),
            format!("{p50_ms:.1} ms"),
            format!("{p99_ms:.1} ms"),
            format!("{slowest_ms:.1} ms"),
        ]);
    }
    outln!("{} of each, {} a second\n\n{times}", answers.webhooks, answers.per_sec);
    outln!("\nthe median of a webhook to that of a bare commit: {:.2}", answers.ratio);
}

fn print_claims(measured: &[Measured]) {
    let mut claims = table(&["rows", "claim of 500, median", "slowest", "ratio"]);
    for row in measured {
        let rows = match row.blocked {
            0 => row.rows.to_string(),
            blocked => format!("{} + {blocked} blocked", row.rows),
        };
        claims.add_row([
            rows,
            format!("{:.1} ms", row.claim_ms),
            format!("{:.1} ms", row.slowest_ms),
            format!("{:.2}", row.ratio),
        ]);
    }
    outln!("{claims}");
    for row in measured {
        if let Some(ms) = row.admit_blocked_ms {
            outln!("\nLooking once at {} took {:.1} s.", counted(row.blocked, "blocked job", "blocked jobs"), ms / 1e3);
        }
    }
}

fn print_throughput(report: &Report) {
    let known = |value: Option<f64>, unit: &str| value.map_or("n/a".to_owned(), |value| format!("{value:.2}{unit}"));
    let (raw, worker, pickup) = (&report.raw, &report.worker, &report.pickup);
    let mut costs = table(&["", "worker --drain", "bare posts", "ratio"]);
    let to_raw = |part: Option<f64>| known(part.zip(raw.cpu_ms_per_post).map(|(part, raw)| part / raw), "");
    costs.add_row([
        "a second".to_owned(),
        format!("{:.0} jobs", worker.jobs_per_sec),
        format!("{:.0} posts", raw.posts_per_sec),
        format!("{:.2}", report.ratio),
    ]);
    let mut cpu = |what: &str, value: Option<f64>, bare: String| {
        costs.add_row([format!("CPU of {what}, each"), known(value, " ms"), bare, to_raw(value)]);
    };
    cpu("the caller", worker.worker_cpu_ms_per_job, known(raw.cpu_ms_per_post, " ms"));
    cpu("Postgres", worker.postgres_cpu_ms_per_job, String::new());
    cpu("the simulator", worker.simulator_cpu_ms_per_job, String::new());
    let jobs = counted(report.jobs, "job", "jobs");
    outln!("{jobs}, {} at a time, on a line without pace\n", report.concurrency);
    outln!("{costs}\n");
    outln!("each job cost {:.3} transactions (pg_stat_database),", worker.transactions_per_job);
    outln!(
        "{} statements (pg_stat_statements; begin, set local and commit count),",
        known(worker.statements_per_job, "")
    );
    outln!("{:.0} bytes of write-ahead log (of the whole server)", worker.wal_bytes_per_job);
    outln!(
        "\npicked up by an idle worker, {} inserts at {} a second: p50 {:.1} ms, p99 {:.1} ms, slowest {:.1} ms",
        pickup.jobs,
        pickup.inserts_per_sec,
        pickup.p50_ms,
        pickup.p99_ms,
        pickup.slowest_ms
    );
}
