//! The commands: parse, call, print; one file each. Only here do errors become sentences for people.

/// Prints a line on standard output. A reader that has gone away, such as `head`, is no error.
macro_rules! outln {
    ($($line:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($line)*);
    }};
}

mod ask;
pub mod bench;
pub mod campaign;
pub mod demo;
pub mod enqueue;
pub mod events;
pub mod explain;
pub mod import;
pub mod jobs;
pub mod lines;
mod load;
pub mod migrate;
pub mod notifications;
pub mod prove;
pub mod purge;
pub mod recipients;
pub mod simulate;
mod stage;
pub mod status;
mod stop;
pub mod suppress;
pub mod webhooks;
pub mod worker;

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use sqlx::PgPool;

use crate::database;

/// Ended, but some jobs failed (`worker --drain`).
pub const SOME_FAILED: u8 = 3;

/// A durable, paced outbound send queue on Postgres for the Chert Messaging API.
///
/// Insert rows into outbox.jobs in your own transaction; workers send each exactly once, at the pace of your phone lines.
#[derive(Debug, Parser)]
#[command(
    version,
    max_term_width = 110,
    after_help = "Start here:
  chert-outbox demo                       see all of it work on this machine, in under a minute
  chert-outbox migrate                    create the outbox in the database that DATABASE_URL names
  chert-outbox lines sync                 read your phone lines from Chert
  chert-outbox worker                     send what is inserted and receive replies, until SIGTERM"
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Migrate(migrate::Migrate),
    Enqueue(Box<enqueue::Enqueue>),
    Worker(Box<worker::Worker>),
    #[command(subcommand)]
    Lines(lines::Lines),
    #[command(subcommand)]
    Jobs(jobs::Jobs),
    #[command(subcommand)]
    Campaign(campaign::Campaign),
    #[command(subcommand)]
    Suppress(suppress::Suppress),
    #[command(subcommand)]
    Recipients(recipients::Recipients),
    Purge(Box<purge::Purge>),
    #[command(subcommand)]
    Notifications(notifications::Notifications),
    #[command(subcommand)]
    Events(events::Events),
    #[command(subcommand)]
    Webhooks(webhooks::Webhooks),
    Explain(Box<explain::Explain>),
    Status(status::Status),
    Adopt(migrate::Adopt),
    Simulate(simulate::Simulate),
    Demo(demo::DemoArgs),
    Prove(prove::Prove),
    Bench(bench::Bench),
}

/// What every list of rows of the outbox takes.
#[derive(Debug, Args)]
struct ListOptions {
    #[command(flatten)]
    database: DatabaseOptions,
    /// How many at most.
    #[arg(long, default_value = "50", value_parser = clap::value_parser!(i64).range(1..=100_000))]
    limit: i64,
    /// Print them as JSON.
    #[arg(long)]
    json: bool,
}

/// Where the outbox is.
#[derive(Debug, Clone, Args)]
pub struct DatabaseOptions {
    /// The database that holds the outbox, e.g. postgres://user:password@host:5432/app.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, global = true)]
    pub database_url: Option<String>,
}

impl DatabaseOptions {
    /// The URL, or what to do when there is none.
    pub fn url(&self) -> anyhow::Result<&str> {
        let url = self.database_url.as_deref().filter(|url| !url.is_empty());
        url.context("DATABASE_URL is not set: put the address of your database there, such as postgres://user:password@localhost:5432/app")
    }

    /// A pool for a command.
    pub async fn connect(&self, connections: u32) -> anyhow::Result<PgPool> {
        Ok(database::connect(self.url()?, connections).await?)
    }

    /// A pool on a schema that this binary can work with.
    pub async fn outbox(&self, connections: u32) -> anyhow::Result<PgPool> {
        let pool = self.connect(connections).await?;
        database::check_version(&pool).await?;
        Ok(pool)
    }
}

/// Runs the command line.
pub async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Migrate(args) => args.run().await,
        Command::Enqueue(args) => args.run().await,
        Command::Worker(args) => args.run().await,
        Command::Lines(args) => args.run().await,
        Command::Jobs(args) => args.run().await,
        Command::Campaign(args) => args.run().await,
        Command::Suppress(args) => args.run().await,
        Command::Recipients(args) => args.run().await,
        Command::Purge(args) => args.run().await,
        Command::Notifications(args) => args.run().await,
        Command::Events(args) => args.run().await,
        Command::Webhooks(args) => args.run().await,
        Command::Explain(args) => args.run().await,
        Command::Status(args) => args.run().await,
        Command::Adopt(args) => args.run().await,
        Command::Simulate(args) => args.run().await,
        Command::Demo(args) => args.run().await,
        Command::Prove(args) => args.run().await,
        Command::Bench(args) => args.run().await,
    }
}

/// Prints a value as JSON for programs.
pub fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    outln!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}

/// A table without frames, which reads well and can be cut by other tools. On a terminal its cells are folded to fit, unless that says
/// that it has no columns, as some do that nobody has told their size.
pub fn table(header: &[&str]) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    if table.width() != Some(0) {
        table.set_content_arrangement(comfy_table::ContentArrangement::Dynamic);
    }
    table.set_header(header);
    table
}

/// Where an export goes: a file for the owner's eyes only, since it holds whole numbers, or standard output.
/// Errors: the file cannot be opened, or is somebody else's.
fn output(file: Option<&Path>) -> anyhow::Result<Box<dyn io::Write>> {
    let Some(file) = file else { return Ok(Box::new(io::stdout().lock())) };
    let opened = private(file).with_context(|| format!("opening {} for its owner's eyes only", file.display()))?;
    Ok(Box::new(opened))
}

/// An empty file that others may not read, also where one was there that they may.
fn private(path: &Path) -> io::Result<File> {
    let file = File::options().create(true).write(true).truncate(false).mode(0o600).open(path)?;
    // A terminal or a pipe has no owner's eyes, and belongs to more than this export.
    if file.metadata()?.is_file() {
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.set_len(0)?;
    }
    Ok(file)
}

/// Whether whoever read standard output has gone away, such as `head`: to an export that is no error.
fn has_reader_gone(error: &anyhow::Error) -> bool {
    let of_csv = |error: &csv::Error| match error.kind() {
        csv::ErrorKind::Io(error) => Some(error.kind()),
        _ => None,
    };
    let kind = match (error.downcast_ref::<io::Error>(), error.downcast_ref(), error.downcast_ref()) {
        (Some(error), ..) => Some(error.kind()),
        (_, Some(error), _) => of_csv(error),
        (.., error) => error.and_then(serde_json::Error::io_error_kind),
    };
    kind == Some(io::ErrorKind::BrokenPipe)
}
