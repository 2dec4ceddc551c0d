//! `status`: the whole picture, in one place.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::cli::{DatabaseOptions, lines, print_json, table};
use crate::outbox::status::{self, explain};
use crate::units::show_duration;

/// Show what is queued and why it waits, the lines, the workers, and whether the account may send.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  chert-outbox status
  chert-outbox status --json | jq .jobs.queued")]
pub struct Status {
    #[command(flatten)]
    database: DatabaseOptions,
    /// Print it as JSON.
    #[arg(long)]
    json: bool,
}

impl Status {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let pool = self.database.outbox(1).await?;
        let status = status::status(&pool).await?;
        if self.json {
            print_json(&status)?;
        } else {
            print(&status);
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn print(status: &status::Status) {
    match (&status.account.reason, status.account.blocked) {
        (Some(reason), true) => {
            let until =
                status.account.until.map_or(String::new(), |at| format!(", next look at {}", at.format("%T UTC")));
            outln!("STOPPED  {reason}{until}\n");
        }
        _ => match &status.no_worker_sends {
            Some(reason) => outln!("WAITING  {reason}\n"),
            None => outln!("account  may send\n"),
        },
    }

    let mut jobs = table(&["jobs", "", ""]);
    for (state, count) in status.jobs.iter().filter(|(_, count)| **count > 0) {
        jobs.add_row([state.clone(), count.to_string(), String::new()]);
        if state == "queued" {
            for (word, count) in &status.waiting {
                jobs.add_row([format!("  {word}"), count.to_string(), explain(word).to_owned()]);
            }
        }
        for (ended, count) in &status.ended {
            if let Some(reason) = ended.strip_prefix(&format!("{state}/")).filter(|reason| reason != state) {
                jobs.add_row([format!("  {reason}"), count.to_string(), String::new()]);
            }
        }
    }
    if status.jobs.values().all(|count| *count == 0) {
        jobs.add_row(["none", "", "insert into outbox.jobs (phone, body) values ('+15550142200', 'Hi')"]);
    }
    outln!("{}", jobs.trim_fmt());
    if let Some(oldest) = status.oldest_due_at {
        outln!("  the longest wait began at {}", oldest.format("%F %T UTC"));
    }

    outln!("\n{}", lines::render(&status.lines).trim_fmt());

    let mut workers = table(&["worker", "since", "holds", "sent", "dispatch"]);
    for worker in status.workers.iter().filter(|worker| worker.alive) {
        let dispatch = match (&worker.dispatch_reason, worker.stopping) {
            (_, true) => "stopping".to_owned(),
            (Some(reason), _) => format!("{}: {reason}", worker.dispatch),
            (None, _) => worker.dispatch.clone(),
        };
        workers.add_row([
            format!("{} (pid {})", worker.name, worker.pid),
            worker.started_at.format("%F %T UTC").to_string(),
            format!("{} of {}", worker.in_flight, worker.concurrency),
            worker.sent.to_string(),
            dispatch,
        ]);
    }
    if !status.workers.iter().any(|worker| worker.alive) {
        workers.add_row(["none: start one with chert-outbox worker", "", "", "", ""]);
    }
    outln!("\n{}", workers.trim_fmt());

    let mut hearing = table(&["replies by", "last heard", "not applied yet"]);
    for way in &status.hearing {
        let heard = way.age_secs.and_then(|secs| u64::try_from(secs).ok()).map(Duration::from_secs);
        let heard = heard.map_or("never".to_owned(), |age| format!("{} ago", show_duration(age)));
        hearing.add_row([way.name.clone(), heard, way.waiting.to_string()]);
    }
    outln!("\n{}", hearing.trim_fmt());
}
