//! `notifications`: webhooks out that did not arrive.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::cli::{DatabaseOptions, ListOptions, print_json, table};
use crate::outbox::notifications::{self, NotificationRow};
use crate::units::counted;

/// Look at the webhooks that tell your application, and post those again that it did not take.
#[derive(Debug, Subcommand)]
pub enum Notifications {
    /// List what was given up after three days, the newest first.
    List(List),
    /// Post what was given up once more.
    Retry(Retry),
}

impl Notifications {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Notifications::List(args) => args.run().await?,
            Notifications::Retry(args) => args.run().await?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  chert-outbox notifications list
  chert-outbox notifications list --all --json | jq '.[] | select(.delivered_at == null)'")]
pub struct List {
    #[command(flatten)]
    page: ListOptions,
    /// Also those that wait, and those that were delivered in the last seven days.
    #[arg(long)]
    all: bool,
}

impl List {
    async fn run(self) -> anyhow::Result<()> {
        let pool = self.page.database.outbox(1).await?;
        let found = notifications::list(&pool, self.all, self.page.limit).await?;
        if self.page.json {
            return print_json(&found);
        }
        let mut rows = table(&["notification", "job", "what", "since", "attempts", "now", "last answer"]);
        for row in &found {
            rows.add_row([
                row.id.to_string(),
                row.job_id.to_string(),
                row.what.clone(),
                row.created_at.format("%F %T").to_string(),
                row.attempts.to_string(),
                stands(row),
                row.error.clone().unwrap_or_default(),
            ]);
        }
        outln!("{}", rows.trim_fmt());
        if found.len() as i64 == self.page.limit {
            outln!("(the newest {}; --limit shows more)", self.page.limit);
        }
        Ok(())
    }
}

fn stands(row: &NotificationRow) -> String {
    match (row.delivered_at, row.due_at) {
        (Some(at), _) => format!("delivered {}", at.format("%F %T")),
        (None, Some(at)) => format!("waits until {}", at.format("%F %T")),
        (None, None) => "given up".to_owned(),
    }
}

#[derive(Debug, Args)]
#[command(after_help = "Each is posted once more, under its own id, by a worker that has --notify-url.

Examples:
  chert-outbox notifications retry 41 42
  chert-outbox notifications retry --all")]
pub struct Retry {
    #[command(flatten)]
    database: DatabaseOptions,
    /// The notifications' ids.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    ids: Vec<i64>,
    /// All that were given up.
    #[arg(long)]
    all: bool,
}

impl Retry {
    async fn run(self) -> anyhow::Result<()> {
        let pool = self.database.outbox(1).await?;
        let ids = (!self.all).then_some(self.ids.as_slice());
        let retried = notifications::retry(&pool, ids).await?;
        outln!("{} posted again", counted(retried, "notification is", "notifications are"));
        let unknown = ids.map_or(0, |ids| (ids.len() as u64).saturating_sub(retried));
        if unknown > 0 {
            anyhow::bail!(
                "{unknown} of these were not given up, or are not there: see chert-outbox notifications list --all"
            );
        }
        Ok(())
    }
}
