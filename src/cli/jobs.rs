//! `jobs`: looking at single jobs, and deciding about them.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::cli::{DatabaseOptions, ListOptions, print_json, table};
use crate::outbox::jobs::{self, Filter, JobRow};
use crate::outbox::status::{explain, no_worker_sends, wait_of_ready};
use crate::outbox::{account, lines, workers};
use crate::phone::Phone;

/// Look at jobs, try them again, cancel them.
#[derive(Debug, Subcommand)]
pub enum Jobs {
    /// List jobs, the newest first.
    List(List),
    /// Show one job, why it stands where it stands, and every attempt.
    Show(Show),
    /// Try ended jobs again.
    Retry(Retry),
    /// Cancel jobs that wait.
    Cancel(Cancel),
}

impl Jobs {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Jobs::List(args) => args.run().await?,
            Jobs::Show(args) => args.run().await?,
            Jobs::Retry(args) => {
                let pool = args.database.outbox(1).await?;
                for id in args.ids {
                    jobs::retry(&pool, id, args.may_double).await?;
                    outln!("job {id} is queued again");
                }
            }
            Jobs::Cancel(args) => {
                let pool = args.database.outbox(1).await?;
                for id in args.ids {
                    match jobs::cancel(&pool, id).await?.as_str() {
                        "parked" => {
                            outln!("job {id} is not asked again; it may be on the phone already, and is parked")
                        }
                        state => outln!("job {id} is {state}"),
                    }
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  chert-outbox jobs list --state failed --json
  chert-outbox jobs list --phone +15550142200")]
pub struct List {
    #[command(flatten)]
    page: ListOptions,
    /// Only jobs in this state.
    #[arg(long, value_parser = ["queued", "sending", "sent", "duplicate", "failed", "expired", "canceled", "suppressed", "parked"])]
    state: Option<String>,
    /// Only jobs with this reason, such as `behind_earlier` or `rejected`.
    #[arg(long)]
    reason: Option<String>,
    /// Only jobs of this recipient.
    #[arg(long)]
    phone: Option<Phone>,
}

impl List {
    async fn run(self) -> anyhow::Result<()> {
        let pool = self.page.database.outbox(1).await?;
        let phone = self.phone.map(|phone| phone.as_str().to_owned());
        let filter = Filter { id: None, state: self.state, reason: self.reason, phone, limit: self.page.limit };
        let found = jobs::list(&pool, &filter).await?;
        if self.page.json {
            return print_json(&found);
        }
        let mut rows = table(&["job", "phone", "state", "due", "tries", "line", "error"]);
        for job in &found {
            rows.add_row([
                job.id.to_string(),
                job.phone.clone(),
                job.reason.as_ref().map_or(job.state.clone(), |reason| format!("{} ({reason})", job.state)),
                job.due_at.format("%F %T").to_string(),
                format!("{}/{}", job.attempt, job.max_attempts),
                job.sent_line_id.clone().or(job.line_id.clone()).unwrap_or_default(),
                error(job),
            ]);
        }
        outln!("{}", rows.trim_fmt());
        if found.len() as i64 == self.page.limit {
            outln!("(the newest {}; --limit shows more)", self.page.limit);
        }
        Ok(())
    }
}

fn error(job: &JobRow) -> String {
    let code = job.error_code.map(|code| code.to_string());
    [code, job.error_message.clone()].into_iter().flatten().collect::<Vec<_>>().join(" ")
}

#[derive(Debug, Args)]
pub struct Show {
    #[command(flatten)]
    database: DatabaseOptions,
    /// The job's id.
    id: i64,
    /// Print it as JSON.
    #[arg(long)]
    json: bool,
}

impl Show {
    async fn run(self) -> anyhow::Result<()> {
        let pool = self.database.outbox(1).await?;
        let (job, attempts) = jobs::show(&pool, self.id).await?;
        let waits_for = match &job.reason {
            _ if job.state != "queued" => None,
            _ if job.ready => {
                let (account, lines) = (account::read(&pool).await?, lines::list(&pool).await?);
                let first_touch = job.first_touch.unwrap_or(false);
                Some(wait_of_ready(&account, &lines, job.line_id.as_deref(), first_touch).to_owned())
            }
            Some(reason) => Some(reason.clone()),
            None => Some(if job.due_at > job.created_at { "not_due" } else { "new" }.to_owned()),
        };
        if self.json {
            return print_json(&serde_json::json!({ "job": job, "waits_for": waits_for, "attempts": attempts }));
        }
        outln!("job {} to {} is {}", job.id, job.phone, job.state);
        let mut facts = table(&[]);
        let mut fact = |name: &str, value: Option<String>| {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                facts.add_row([name.to_owned(), value]);
            }
        };
        fact("waits for", waits_for.map(|word| format!("{word}: {}", explain(&word))));
        fact("meanwhile", if job.ready { no_worker_sends(&workers::list(&pool).await?) } else { None });
        fact("looked at again", job.wake_at.map(|at| at.format("%F %T UTC").to_string()));
        fact("reason", job.reason.clone().filter(|_| job.state != "queued"));
        fact("error", Some(error(&job)));
        fact("Chert adds", job.error_detail.as_ref().map(ToString::to_string));
        fact("class", Some(job.class.clone()));
        fact("due", Some(job.due_at.format("%F %T UTC").to_string()));
        fact("expires", job.expires_at.map(|at| at.format("%F %T UTC").to_string()));
        fact("sent", job.sent_at.map(|at| at.format("%F %T UTC").to_string()));
        fact("line", job.sent_line_id.clone().or(job.line_id.clone()));
        fact("message", job.message_id.clone());
        fact("delivery", job.delivery_state.clone());
        fact("delivered", job.delivered_at.map(|at| at.format("%F %T UTC").to_string()));
        fact("read", job.read_at.map(|at| at.format("%F %T UTC").to_string()));
        fact("answered", job.replied_at.map(|at| at.format("%F %T UTC").to_string()));
        fact("trace", job.trace_id.clone());
        fact("key", job.idempotency_key.clone());
        outln!("{}", facts.trim_fmt());
        if attempts.is_empty() {
            outln!("\nno attempt yet");
            return Ok(());
        }
        let mut rows = table(&["claim", "at", "took", "outcome", "answer"]);
        for attempt in &attempts {
            let answer = [
                attempt.http_status.map(|status| format!("HTTP {status}")),
                attempt.code.map(|code| format!("code {code}")),
                attempt.message.clone(),
                attempt.retry_after_s.map(|secs| format!("again after {secs} s")),
            ];
            rows.add_row([
                attempt.claim.to_string(),
                attempt.started_at.format("%F %T%.3f").to_string(),
                attempt.duration_ms.map_or("?".to_owned(), |ms| format!("{ms} ms")),
                if attempt.late { format!("{} (late)", attempt.outcome) } else { attempt.outcome.clone() },
                answer.into_iter().flatten().collect::<Vec<_>>().join(", "),
            ]);
        }
        outln!("\n{}", rows.trim_fmt());
        Ok(())
    }
}

#[derive(Debug, Args)]
#[command(
    after_help = "A job keeps its idempotency key, so that Chert answers a repeated one with the first answer for as long as it
remembers the key. One of a campaign is tried again only while its enrolment waits for it and its window is open.

Example:
  chert-outbox jobs retry 41 42"
)]
pub struct Retry {
    #[command(flatten)]
    database: DatabaseOptions,
    /// The jobs' ids.
    #[arg(required = true)]
    ids: Vec<i64>,
    /// Also a job that may be on the phone already.
    #[arg(long)]
    may_double: bool,
}

#[derive(Debug, Args)]
pub struct Cancel {
    #[command(flatten)]
    database: DatabaseOptions,
    /// The jobs' ids.
    #[arg(required = true)]
    ids: Vec<i64>,
}
