//! The record: attempts, the jobs' next states, recipients and budgets of one batch, in one transaction. Every write to a
//! job names its claim; a claim that was lost leaves its attempt and not its state.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::postgres::types::PgInterval;
use sqlx::{PgPool, PgTransaction};

use crate::chert::reply::{Answer, Ids};
use crate::claim::{Attempt, Ending, Finished};
use crate::database;
use crate::failpoint::{self, Point};
use crate::outbox::OutboxError;
use crate::outbox::account::{self, Block};
use crate::outbox::admit::{interval, wake_after_commit, wake_next};
use crate::outbox::lookups::follow;
use crate::outbox::progress::announce_each;
use crate::outbox::settle::settle_lines;
use crate::outcome::Outcome;
use crate::retry::Next;

/// What a batch did, for counters and for the exit code of `worker --drain`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recorded {
    pub sent: u64,
    /// Jobs that ended as `failed` or `parked`.
    pub failed: u64,
    /// Results of claims that somebody else had taken over.
    pub lost_claims: u64,
}

impl std::ops::AddAssign for Recorded {
    fn add_assign(&mut self, more: Recorded) {
        self.sent += more.sent;
        self.failed += more.failed;
        self.lost_claims += more.lost_claims;
    }
}

/// Records a batch; either all of it or, on an error, nothing. Recording the same batch twice changes nothing more, so an
/// unclear commit is simply tried again. `probe_wait` is the first wait before a halted account is probed.
/// Errors: `OutboxError::Record` if Postgres fails. Source: design 6; invariants 1 and 2.
pub async fn record(
    pool: &PgPool,
    worker: &str,
    batch: &[Finished],
    probe_wait: Duration,
) -> Result<Recorded, OutboxError> {
    let mut tx = database::begin(pool).await.map_err(OutboxError::Record)?;
    let (recorded, ended) = write(&mut tx, worker, batch, probe_wait).await.map_err(OutboxError::Record)?;
    tx.commit().await.map_err(OutboxError::Record)?;
    failpoint::reached(Point::AfterRecord);
    wake_after_commit(pool, &ended).await;
    Ok(recorded)
}

async fn write(
    tx: &mut PgTransaction<'_>,
    worker: &str,
    batch: &[Finished],
    probe_wait: Duration,
) -> Result<(Recorded, Vec<String>), sqlx::Error> {
    insert_attempts(tx, worker, batch).await?;
    failpoint::reached(Point::InRecord);
    let (recorded, ended, current) = update_jobs(tx, batch).await?;
    wake_next(tx, &ended).await?;
    // Only what changed its job: what was recorded before, or was taken over, has been counted there.
    let current: Vec<&Finished> = batch.iter().filter(|finished| current.contains(&finished.job_id)).collect();
    touch_recipients(tx, &current).await?;
    settle_lines(tx, &current).await?;
    let attempts = || batch.iter().filter_map(attempt_of);
    // A block wins over an answer of the same batch: it is the later news, or will be found out again by one probe.
    match attempts().filter_map(block_of).max_by_key(Block::strength) {
        Some(block) => account::block(tx, &block, probe_wait).await?,
        None if attempts().any(is_answer) => account::unblock(tx).await?,
        None => {}
    }
    Ok((recorded, ended))
}

fn attempt_of(finished: &Finished) -> Option<&Attempt> {
    match &finished.ending {
        Ending::Attempted(attempt) => Some(attempt),
        Ending::HandedBack { .. } => None,
    }
}

fn block_of(attempt: &Attempt) -> Option<Block> {
    let code = attempt.answer.as_ref().and_then(|answer| answer.code);
    match &attempt.outcome {
        Outcome::RateLimited { wait } => Some(Block::RateLimited { wait: *wait }),
        Outcome::Halted { why } => Some(Block::Halted { why: why.clone(), code }),
        _ => None,
    }
}

/// Whether Chert itself spoke: then credentials and tenant are in order.
fn is_answer(attempt: &Attempt) -> bool {
    attempt.answer.as_ref().is_some_and(|answer| answer.is_from_chert())
}

async fn insert_attempts(tx: &mut PgTransaction<'_>, worker: &str, batch: &[Finished]) -> Result<(), sqlx::Error> {
    let rows: Vec<(&Finished, &Attempt)> = batch.iter().filter_map(|f| Some((f, attempt_of(f)?))).collect();
    if rows.is_empty() {
        return Ok(());
    }
    let answers: Vec<Option<&Answer>> = rows.iter().map(|(_, attempt)| attempt.answer.as_deref()).collect();
    let message = |(attempt, answer): (&Attempt, &Option<&Answer>)| match &attempt.outcome {
        Outcome::Halted { why } | Outcome::Unreachable { why } | Outcome::Unknown { why } => Some(why.clone()),
        _ => answer.and_then(|answer| answer.message.clone()),
    };
    sqlx::query!(
        r#"
        insert into outbox.attempts
               (job_id, claim, late, outcome, started_at, duration_ms, line_id, worker, http_status, code, message, retryable,
                retry_after_s, trace_id)
        -- A row of somebody else for this claim is a rescue that called it unknown: this answer comes late.
        select u.job_id, u.claim,
               exists (select from outbox.attempts a where a.job_id = u.job_id and a.claim = u.claim and a.worker <> $13),
               u.outcome, u.started_at, u.duration_ms, u.line_id, $13, u.http_status, u.code, u.message, u.retryable,
               u.retry_after_s, u.trace_id
          from unnest($1::bigint[], $2::int[], $3::text[], $4::timestamptz[], $5::int[], $6::text[], $7::int[], $8::int[],
                      $9::text[], $10::bool[], $11::int[], $12::text[])
            as u (job_id, claim, outcome, started_at, duration_ms, line_id, http_status, code, message, retryable,
                  retry_after_s, trace_id)
            on conflict do nothing
        "#,
        &rows.iter().map(|(finished, _)| finished.job_id).collect::<Vec<_>>(),
        &rows.iter().map(|(finished, _)| finished.claim).collect::<Vec<_>>(),
        &rows.iter().map(|(_, attempt)| attempt.outcome.word().to_owned()).collect::<Vec<_>>(),
        &rows.iter().map(|(_, attempt)| attempt.started_at).collect::<Vec<_>>(),
        &rows.iter().map(|(_, attempt)| millis(attempt.duration)).collect::<Vec<_>>(),
        &rows.iter().map(|(finished, _)| finished.line.id.clone()).collect::<Vec<_>>(),
        &answers.iter().map(|a| a.map(|a| i32::from(a.http_status))).collect::<Vec<_>>() as &[Option<i32>],
        &answers.iter().map(|a| a.and_then(|a| a.code)).collect::<Vec<_>>() as &[Option<i32>],
        &rows.iter().map(|(_, a)| *a).zip(&answers).map(message).collect::<Vec<_>>() as &[Option<String>],
        &answers.iter().map(|a| a.and_then(|a| a.retryable)).collect::<Vec<_>>() as &[Option<bool>],
        &answers.iter().map(|a| a.and_then(|a| i32::try_from(a.retry_after_secs?).ok())).collect::<Vec<_>>() as &[Option<i32>],
        &answers.iter().map(|a| a.and_then(|a| a.trace_id.clone())).collect::<Vec<_>>() as &[Option<String>],
        worker,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

/// The columns that one finished claim writes to its job.
struct Change<'a> {
    finished: &'a Finished,
    attempt: Option<&'a Attempt>,
    state: &'static str,
    reason: Option<&'static str>,
    spent: bool,
    wait: Option<Duration>,
    forget_key: bool,
}

impl<'a> Change<'a> {
    fn of(finished: &'a Finished) -> Change<'a> {
        let attempt = attempt_of(finished);
        let (state, reason, spent, wait, forget_key) = match &finished.ending {
            Ending::HandedBack { forget_key } => ("queued", None, false, Some(Duration::ZERO), *forget_key),
            Ending::Attempted(attempt) => match attempt.next {
                Next::End { state, reason, spent } => (state, reason, spent, None, false),
                Next::Wait { wait, reason, spent } => ("queued", Some(reason), spent, Some(wait), false),
            },
        };
        Change { finished, attempt, state, reason, spent, wait, forget_key }
    }

    fn answer(&self) -> Option<&'a Answer> {
        self.attempt.and_then(|attempt| attempt.answer.as_deref())
    }

    fn ids(&self) -> Option<&'a Ids> {
        match &self.attempt?.outcome {
            Outcome::Sent { ids, .. } | Outcome::Duplicate { ids } => Some(ids),
            _ => None,
        }
    }

    /// What went wrong, for a job that was not sent.
    fn error_message(&self) -> Option<String> {
        match &self.attempt?.outcome {
            Outcome::Sent { .. } | Outcome::Duplicate { .. } => None,
            Outcome::Halted { why } | Outcome::Unreachable { why } | Outcome::Unknown { why } => Some(why.clone()),
            _ => self.answer().and_then(|answer| answer.message.clone()),
        }
    }
}

/// Returns what was done, the recipients of jobs that ended, and the jobs that were changed.
async fn update_jobs(
    tx: &mut PgTransaction<'_>,
    batch: &[Finished],
) -> Result<(Recorded, Vec<String>, BTreeSet<i64>), sqlx::Error> {
    let changes: Vec<Change> = batch.iter().map(Change::of).collect();
    let answer = |change: &Change| change.answer().cloned().unwrap_or_default();
    let ids = |change: &Change| change.ids().cloned().unwrap_or_default();
    let updated = sqlx::query!(
        r#"
        update outbox.jobs j
           set state = u.state, reason = u.reason,
               -- A job that was taken over has spent its attempt already.
               attempt = j.attempt + (u.spent and j.state = 'sending')::int,
               deferrals = j.deferrals + (u.outcome is not distinct from 'deferred')::int,
               ready = false,
               wake_at = case when u.wait is not null then least(clock_timestamp() + u.wait, j.expires_at) end,
               lease_until = null, worker = null,
               idempotency_key = case when not u.forget_key then j.idempotency_key end,
               named_line_id = case when not u.forget_key then j.named_line_id end,
               -- Whether it is counted is settled with its line's budget: it stays so while it may be on the phone.
               counted_until = case when not u.counted or u.outcome = 'unknown' then j.counted_until end,
               unknown_since = case when u.outcome = 'unknown' then coalesce(j.unknown_since, u.started_at) else j.unknown_since end,
               message_id = coalesce(u.message_id, j.message_id), lead_id = coalesce(u.lead_id, j.lead_id),
               convo_id = coalesce(u.convo_id, j.convo_id), sent_line_id = coalesce(u.sent_line_id, j.sent_line_id),
               lead_created = coalesce(u.lead_created, j.lead_created), status = coalesce(u.status, j.status),
               error_code = u.error_code, error_message = u.error_message, error_detail = u.error_detail,
               trace_id = coalesce(u.trace_id, j.trace_id),
               sent_at = case when u.outcome = 'sent' then u.started_at else j.sent_at end,
               -- Without an id nobody can look: then nothing is ever known of it.
               delivery_state = case when u.outcome = 'sent' and u.message_id is not null then 'sent' else j.delivery_state end,
               finished_at = case when u.state <> 'queued' then clock_timestamp() end
          from unnest($1::bigint[], $2::int[], $3::text[], $4::text[], $5::bool[], $6::interval[], $7::bool[], $8::text[],
                      $9::timestamptz[], $10::text[], $11::text[], $12::text[], $13::text[], $14::bool[], $15::text[],
                      $16::int[], $17::text[], $18::jsonb[], $19::text[], $20::bool[])
            as u (id, claim, state, reason, spent, wait, forget_key, outcome, started_at, message_id, lead_id, convo_id,
                  sent_line_id, lead_created, status, error_code, error_message, error_detail, trace_id, counted)
         where j.id = u.id and j.claims = u.claim
           -- A late yes still counts while nobody has claimed the job again; anything else needs its claim.
           and (j.state = 'sending' or (j.state in ('queued', 'parked') and u.outcome in ('sent', 'duplicate')))
        returning j.id, j.state, j.phone, j.message_id, j.sent_at
        "#,
        &changes.iter().map(|c| c.finished.job_id).collect::<Vec<_>>(),
        &changes.iter().map(|c| c.finished.claim).collect::<Vec<_>>(),
        &changes.iter().map(|c| c.state.to_owned()).collect::<Vec<_>>(),
        &changes.iter().map(|c| c.reason.map(str::to_owned)).collect::<Vec<_>>() as &[Option<String>],
        &changes.iter().map(|c| c.spent).collect::<Vec<_>>(),
        &changes.iter().map(|c| c.wait.map(interval)).collect::<Vec<_>>() as &[Option<PgInterval>],
        &changes.iter().map(|c| c.forget_key).collect::<Vec<_>>(),
        &changes.iter().map(|c| c.attempt.map(|a| a.outcome.word().to_owned())).collect::<Vec<_>>() as &[Option<String>],
        &changes.iter().map(|c| c.attempt.map(|a| a.started_at)).collect::<Vec<_>>() as &[Option<DateTime<Utc>>],
        &changes.iter().map(|c| ids(c).message_id).collect::<Vec<_>>() as &[Option<String>],
        &changes.iter().map(|c| ids(c).lead_id).collect::<Vec<_>>() as &[Option<String>],
        &changes.iter().map(|c| ids(c).convo_id).collect::<Vec<_>>() as &[Option<String>],
        &changes.iter().map(|c| ids(c).line_id).collect::<Vec<_>>() as &[Option<String>],
        &changes.iter().map(|c| ids(c).lead_created).collect::<Vec<_>>() as &[Option<bool>],
        &changes.iter().map(|c| c.ids().and(answer(c).status)).collect::<Vec<_>>() as &[Option<String>],
        &changes.iter().map(|c| answer(c).code).collect::<Vec<_>>() as &[Option<i32>],
        &changes.iter().map(Change::error_message).collect::<Vec<_>>() as &[Option<String>],
        &changes.iter().map(|c| answer(c).detail).collect::<Vec<_>>() as &[Option<serde_json::Value>],
        &changes.iter().map(|c| answer(c).trace_id).collect::<Vec<_>>() as &[Option<String>],
        &changes.iter().map(|c| c.finished.counted).collect::<Vec<_>>(),
    )
    .fetch_all(&mut **tx)
    .await?;

    // A duplicate has no message of its own: what it names is another job's, or nobody's.
    let sent = updated.iter().filter(|row| row.state == "sent");
    let followed: Vec<_> = sent.filter_map(|row| Some((row.id, row.message_id.clone()?, row.sent_at?))).collect();
    follow(tx, &followed).await?;
    let news = updated.iter().filter(|row| row.state != "queued").map(|row| (row.id, row.state.as_str()));
    announce_each(tx, &news.collect::<Vec<_>>()).await?;

    let count = |states: &[&str]| updated.iter().filter(|row| states.contains(&row.state.as_str())).count() as u64;
    let recorded = Recorded {
        sent: count(&["sent"]),
        failed: count(&["failed", "parked"]),
        lost_claims: (batch.len() - updated.len()) as u64,
    };
    let ended = updated.iter().filter(|row| row.state != "queued").map(|row| row.phone.clone()).collect();
    let current = updated.iter().map(|row| row.id).collect();
    Ok((recorded, ended, current))
}

/// The first message to a recipient records the pin; every later one keeps it as Chert last named it.
async fn touch_recipients(tx: &mut PgTransaction<'_>, batch: &[&Finished]) -> Result<(), sqlx::Error> {
    // One row a recipient, in the order of the numbers, so that two batches cannot wait for each other.
    let mut touched: BTreeMap<&str, (Option<String>, DateTime<Utc>, bool)> = BTreeMap::new();
    for finished in batch {
        let Some(attempt) = attempt_of(finished) else { continue };
        if let Outcome::Sent { ids, .. } | Outcome::Duplicate { ids } = &attempt.outcome {
            let sent = matches!(attempt.outcome, Outcome::Sent { .. });
            touched.insert(finished.phone.as_str(), (ids.line_id.clone(), attempt.started_at, sent));
        }
    }
    if touched.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        r#"
        insert into outbox.recipients as r (phone, line_id, first_touched_at, last_outbound_at, unanswered)
        select u.phone, u.line_id, u.at, case when u.sent then u.at end, u.sent::int
          from unnest($1::text[], $2::text[], $3::timestamptz[], $4::bool[]) as u (phone, line_id, at, sent)
            on conflict (phone) do update
           set line_id = coalesce(excluded.line_id, r.line_id),
               first_touched_at = coalesce(r.first_touched_at, excluded.first_touched_at),
               last_outbound_at = greatest(r.last_outbound_at, excluded.last_outbound_at),
               unanswered = r.unanswered + excluded.unanswered
        "#,
        &touched.keys().map(|phone| (*phone).to_owned()).collect::<Vec<_>>(),
        &touched.values().map(|(line, _, _)| line.clone()).collect::<Vec<_>>() as &[Option<String>],
        &touched.values().map(|(_, at, _)| *at).collect::<Vec<_>>(),
        &touched.values().map(|(_, _, sent)| *sent).collect::<Vec<_>>(),
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
