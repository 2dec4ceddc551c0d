//! What `status` shows: how many jobs are in which state, and what those that wait are waiting for.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::PgPool;

use crate::database;
use crate::outbox::OutboxError;
use crate::outbox::account::{self, Account};
use crate::outbox::hearing::{self, Way};
use crate::outbox::lines::{self, LineStatus, LinesError};
use crate::outbox::workers::{self, Worker};

/// The whole picture at one moment.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Status {
    /// Jobs by state; every state is there, also with 0.
    pub jobs: BTreeMap<String, i64>,
    /// Queued jobs by what they wait for.
    pub waiting: BTreeMap<String, i64>,
    /// Ended jobs by state and reason, e.g. `failed/rejected`.
    pub ended: BTreeMap<String, i64>,
    /// When the longest-waiting due job fell due.
    pub oldest_due_at: Option<DateTime<Utc>>,
    pub account: Account,
    /// How replies are received.
    pub hearing: Vec<Way>,
    pub lines: Vec<LineStatus>,
    pub workers: Vec<Worker>,
    /// Why no worker sends, if none does: there is none, or each that there is has paused.
    pub no_worker_sends: Option<String>,
}

/// Why `status` could not be read.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    #[error("counting the jobs: {}", crate::database::describe(.0))]
    Count(#[source] sqlx::Error),
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    #[error(transparent)]
    Lines(#[from] LinesError),
}

const STATES: [&str; 9] =
    ["queued", "sending", "sent", "duplicate", "failed", "expired", "canceled", "suppressed", "parked"];

/// Reads the picture. It counts every job, so its cost grows with the table: it is for people, not for a hot path.
pub async fn status(pool: &PgPool) -> Result<Status, StatusError> {
    let account = account::read(pool).await?;
    let lines = lines::list(pool).await?;
    let hearing = hearing::read(pool).await?;
    let workers = workers::list(pool).await?;
    let mut tx = database::begin_plain(pool).await.map_err(StatusError::Count)?;
    let counts = sqlx::query!(
        r#"
        select state, reason, case when state = 'queued' then ready end as ready,
               case when state = 'queued' and ready then line_id end as line_id,
               case when state = 'queued' and ready then first_touch end as first_touch,
               state = 'queued' and not ready and coalesce(wake_at, due_at) > now() as "later!",
               count(*) as "count!",
               min(due_at) filter (where state = 'queued' and due_at <= now()) as oldest_due_at
          from outbox.jobs
         group by 1, 2, 3, 4, 5, 6
        "#
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(StatusError::Count)?;
    drop(tx);

    let mut status = Status {
        jobs: STATES.iter().map(|state| ((*state).to_owned(), 0)).collect(),
        waiting: BTreeMap::new(),
        ended: BTreeMap::new(),
        oldest_due_at: counts.iter().filter_map(|row| row.oldest_due_at).min(),
        account,
        hearing,
        lines,
        no_worker_sends: no_worker_sends(&workers),
        workers,
    };
    for row in counts {
        *status.jobs.entry(row.state.clone()).or_default() += row.count;
        if row.state == "queued" {
            let why = match (row.ready, row.reason) {
                (Some(true), _) => {
                    let first_touch = row.first_touch.unwrap_or(false);
                    wait_of_ready(&status.account, &status.lines, row.line_id.as_deref(), first_touch).to_owned()
                }
                (_, Some(reason)) => reason,
                (_, None) if row.later => "not_due".to_owned(),
                (_, None) => "new".to_owned(),
            };
            *status.waiting.entry(why).or_default() += row.count;
        } else if let Some(reason) = row.reason {
            *status.ended.entry(format!("{}/{reason}", row.state)).or_default() += row.count;
        }
    }
    Ok(status)
}

/// Why no worker sends, if none does: there is none, or each that there is has paused.
pub fn no_worker_sends(workers: &[Worker]) -> Option<String> {
    let mut working = workers.iter().filter(|worker| worker.alive && !worker.stopping).peekable();
    if working.peek().is_none() {
        return Some("no worker runs: start one with chert-outbox worker".to_owned());
    }
    working.map(|worker| worker.dispatch_reason.clone()).reduce(Option::and).flatten()
}

/// What a job that stands ready in this queue waits for, where workers send.
pub fn wait_of_ready(
    account: &Account,
    lines: &[LineStatus],
    line_id: Option<&str>,
    first_touch: bool,
) -> &'static str {
    let serving = |line: &&LineStatus| match line_id {
        Some(id) if id != crate::line::ANY_LINE => line.id == id,
        _ => !line.is_default() || lines.len() == 1,
    };
    let mut serving = lines.iter().filter(serving).peekable();
    if account.blocked {
        if account.kind.as_deref() == Some("halted") { "account_halted" } else { "rate_limit" }
    } else if serving.peek().is_none() || serving.clone().all(|line| !line.active) {
        "line_inactive"
    } else if serving.clone().all(|line| line.paused || !line.active) {
        "line_paused"
    } else if first_touch {
        "first_touch_slot"
    } else {
        "line_slot"
    }
}

/// The explanation of a waiting word, for tables.
pub fn explain(word: &str) -> &'static str {
    match word {
        "new" => "due, and not looked at yet",
        "not_due" => "due later",
        "behind_earlier" => "behind an earlier message to the same recipient",
        "recipient_saturated" => "Chert has no room for this recipient yet (4002)",
        "retrying" => "will be tried again after a failed attempt",
        "outcome_unknown" => "will be asked again with its own key",
        "account_stopped" | "account_halted" => "dispatch is stopped for the whole account",
        "inbound_stale" => "held until replies are known to be received: one, or a stop, may have been missed",
        "unanswered" => "held until the recipient answers one of the messages before it",
        "campaign_paused" => "its campaign is paused or being stopped: campaign resume",
        "in_review" => "held until a person has looked at what the recipient said: recipients release",
        "rate_limit" => "Chert asked everybody to slow down (1007)",
        "unreachable" => "Chert could not be reached",
        "line_paused" => "its line is paused",
        "line_inactive" => "its line is inactive at Chert",
        "first_touch_slot" => "waits for a line's next first-touch slot",
        "line_slot" => "waits for its line's next slot",
        _ => "",
    }
}
