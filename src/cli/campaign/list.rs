//! `campaign list`: the campaigns, with how many people stand where.

use std::process::ExitCode;

use chrono::{DateTime, Utc};
use clap::Args;

use crate::cli::{ListOptions, print_json, table};
use crate::outbox::campaigns::overview::{self, Listed};

/// List the campaigns by name, with how many people stand where.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  chert-outbox campaign list
  chert-outbox campaign list --json")]
pub struct List {
    #[command(flatten)]
    page: ListOptions,
}

impl List {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let pool = self.page.database.outbox(1).await?;
        let listed = overview::list(&pool, None, self.page.limit).await?;
        if self.page.json {
            print_json(&listed)?;
            return Ok(ExitCode::SUCCESS);
        }
        outln!("{}", rows(&listed).trim_fmt());
        if listed.len() as i64 == self.page.limit {
            outln!("(the first {}; --limit shows more)", self.page.limit);
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Campaigns as a table.
pub(super) fn rows(listed: &[Listed]) -> comfy_table::Table {
    let mut rows =
        table(&["campaign", "version", "state", "next firing", "active", "held", "done", "stopped", "queued"]);
    for one in listed {
        // Whatever is paused or stopped fires at no time before it is resumed.
        let next_at = one.next_at.filter(|_| one.state == "running").map_or_else(String::new, shown);
        let counts = [one.active, one.held, one.done, one.stopped, one.queued].map(|count| count.to_string());
        rows.add_row(
            [vec![one.name.clone(), one.version.to_string(), one.state.clone(), next_at], counts.to_vec()].concat(),
        );
    }
    rows
}

pub(super) fn shown(at: DateTime<Utc>) -> String {
    at.format("%F %T UTC").to_string()
}
