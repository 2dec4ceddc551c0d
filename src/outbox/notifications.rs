//! Webhooks out: rows that `outbox.announce` wrote, taken when they are due, done when they are delivered, and dead letters when
//! they were tried for three days.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use sqlx::postgres::types::PgInterval;

use crate::database;
use crate::outbox::OutboxError;
use crate::outbox::admit::interval;

/// Rows are kept for so long, whatever became of them.
const KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Something to tell, in the hands of whoever took it until its lease is over.
#[derive(Debug, Clone)]
pub struct Notification {
    pub id: i64,
    /// How often it was taken; the fence.
    pub attempts: i32,
    pub webhook_id: String,
    /// Such as `sent`.
    pub what: String,
    pub created_at: DateTime<Utc>,
    pub job_id: i64,
    /// None once the job was deleted.
    pub job: Option<Subject>,
}

/// The job that is told of, as it stands.
#[derive(Debug, Clone)]
pub struct Subject {
    pub dedupe_key: Option<String>,
    pub labels: serde_json::Value,
    pub phone: String,
    pub state: String,
    pub reason: Option<String>,
    pub error_code: Option<i32>,
    pub message_id: Option<String>,
    pub delivery_state: Option<String>,
    pub sent_at: Option<DateTime<Utc>>,
    pub delivered_at: Option<DateTime<Utc>>,
    pub read_at: Option<DateTime<Utc>>,
    pub replied_at: Option<DateTime<Utc>>,
}

/// Takes at most `limit` notifications that are due, for as long as `lease`, in the order of their ids; none while they are
/// switched off. Errors: `OutboxError::Notifications`, nothing taken.
pub async fn take(pool: &PgPool, limit: i64, lease: Duration) -> Result<Vec<Notification>, OutboxError> {
    let mut tx = database::begin(pool).await.map_err(OutboxError::Notifications)?;
    let mut taken = sqlx::query!(
        r#"
        update outbox.notifications
           set attempts = attempts + 1, due_at = clock_timestamp() + $2::interval
         where id = any (array(select id from outbox.notifications
                                where due_at <= now() and (select a.notifications from outbox.account a)
                                order by due_at, id limit $1 for update skip locked))
        returning id, attempts, 'msg_' || replace(webhook_id::text, '-', '') as "webhook_id!", what, created_at, job_id
        "#,
        limit,
        interval(lease),
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(OutboxError::Notifications)?;
    let ids: Vec<i64> = taken.iter().map(|row| row.job_id).collect();
    let jobs = sqlx::query!(
        r#"
        select id, dedupe_key, labels, phone, state, reason, error_code, message_id, delivery_state, sent_at, delivered_at, read_at,
               replied_at
          from outbox.jobs
         where id = any ($1)
        "#,
        &ids,
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(OutboxError::Notifications)?;
    tx.commit().await.map_err(OutboxError::Notifications)?;
    taken.sort_by_key(|row| row.id);
    let subject = |id: i64| {
        jobs.iter().find(|job| job.id == id).map(|job| Subject {
            dedupe_key: job.dedupe_key.clone(),
            labels: job.labels.clone(),
            phone: job.phone.clone(),
            state: job.state.clone(),
            reason: job.reason.clone(),
            error_code: job.error_code,
            message_id: job.message_id.clone(),
            delivery_state: job.delivery_state.clone(),
            sent_at: job.sent_at,
            delivered_at: job.delivered_at,
            read_at: job.read_at,
            replied_at: job.replied_at,
        })
    };
    Ok(taken
        .into_iter()
        .map(|row| Notification {
            id: row.id,
            attempts: row.attempts,
            webhook_id: row.webhook_id,
            what: row.what,
            created_at: row.created_at,
            job_id: row.job_id,
            job: subject(row.job_id),
        })
        .collect())
}

/// What became of one attempt to tell.
#[derive(Debug, Clone)]
pub struct Told {
    pub id: i64,
    pub attempts: i32,
    pub fate: Fate,
    pub http_status: Option<u16>,
    /// Why it was not delivered, in words for people.
    pub error: Option<String>,
}

/// What happens to a notification next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Delivered,
    Again { wait: Duration },
    Dead,
}

/// Records a batch. One that somebody else has taken meanwhile stays theirs. Errors: `OutboxError::Notifications`, nothing
/// recorded: those that were delivered are posted again after their lease, under the same id.
pub async fn note(pool: &PgPool, told: &[Told]) -> Result<(), OutboxError> {
    let wait = |told: &Told| match told.fate {
        Fate::Again { wait } => Some(interval(wait)),
        Fate::Delivered | Fate::Dead => None,
    };
    let mut tx = database::begin(pool).await.map_err(OutboxError::Notifications)?;
    sqlx::query!(
        r#"
        update outbox.notifications n
           set due_at = clock_timestamp() + u.wait,
               delivered_at = case when u.delivered then clock_timestamp() end,
               failed_at = case when not u.delivered and u.wait is null then clock_timestamp() end,
               http_status = u.http_status, error = u.error
          from unnest($1::bigint[], $2::int[], $3::bool[], $4::interval[], $5::int[], $6::text[])
            as u (id, attempts, delivered, wait, http_status, error)
         where n.id = u.id and n.attempts = u.attempts and n.due_at is not null
        "#,
        &told.iter().map(|told| told.id).collect::<Vec<_>>(),
        &told.iter().map(|told| told.attempts).collect::<Vec<_>>(),
        &told.iter().map(|told| told.fate == Fate::Delivered).collect::<Vec<_>>(),
        &told.iter().map(wait).collect::<Vec<_>>() as &[Option<PgInterval>],
        &told.iter().map(|told| told.http_status.map(i32::from)).collect::<Vec<_>>() as &[Option<i32>],
        &told.iter().map(|told| told.error.clone()).collect::<Vec<_>>() as &[Option<String>],
    )
    .execute(&mut *tx)
    .await
    .map_err(OutboxError::Notifications)?;
    tx.commit().await.map_err(OutboxError::Notifications)
}

/// Switches notifications on or off, for the whole deployment. What waits meanwhile is kept for a week. Returns whether that
/// was a change.
pub async fn switch(pool: &PgPool, on: bool) -> Result<bool, OutboxError> {
    let mut tx = database::begin(pool).await.map_err(OutboxError::Notifications)?;
    let switched = sqlx::query!("update outbox.account set notifications = $1 where notifications <> $1", on)
        .execute(&mut *tx)
        .await
        .map_err(OutboxError::Notifications)?;
    tx.commit().await.map_err(OutboxError::Notifications)?;
    Ok(switched.rows_affected() > 0)
}

/// Deletes at most `limit` of those that are older than a week, and returns how many there were.
pub async fn forget(pool: &PgPool, limit: i64) -> Result<u64, OutboxError> {
    let mut tx = database::begin(pool).await.map_err(OutboxError::Notifications)?;
    // Ids are given in the order of time, so that a look at the first few is enough.
    let forgotten = sqlx::query!(
        r#"
        delete from outbox.notifications
         where id = any (array(select first.id
                                 from (select id, created_at from outbox.notifications order by id limit $1) first
                                where first.created_at < now() - $2::interval))
        "#,
        limit,
        interval(KEPT),
    )
    .execute(&mut *tx)
    .await
    .map_err(OutboxError::Notifications)?;
    tx.commit().await.map_err(OutboxError::Notifications)?;
    Ok(forgotten.rows_affected())
}

/// One row for people.
#[derive(Debug, Clone, serde::Serialize)]
pub struct NotificationRow {
    pub id: i64,
    pub job_id: i64,
    pub what: String,
    pub created_at: DateTime<Utc>,
    pub attempts: i32,
    pub due_at: Option<DateTime<Utc>>,
    pub delivered_at: Option<DateTime<Utc>>,
    pub failed_at: Option<DateTime<Utc>>,
    pub http_status: Option<i32>,
    pub error: Option<String>,
}

/// Dead letters, the newest first, at most `limit`; with `all`, also what waits and what was delivered.
pub async fn list(pool: &PgPool, all: bool, limit: i64) -> Result<Vec<NotificationRow>, OutboxError> {
    let mut tx = database::begin_plain(pool).await.map_err(OutboxError::Notifications)?;
    sqlx::query_as!(
        NotificationRow,
        r#"
        select id, job_id, what, created_at, attempts, due_at, delivered_at, failed_at, http_status, error
          from outbox.notifications
         where failed_at is not null or $1
         order by id desc
         limit $2
        "#,
        all,
        limit,
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(OutboxError::Notifications)
}

/// Lets dead letters be posted once more each: these, or all of them. Returns how many there were.
pub async fn retry(pool: &PgPool, ids: Option<&[i64]>) -> Result<u64, OutboxError> {
    let mut tx = database::begin_plain(pool).await.map_err(OutboxError::Notifications)?;
    let retried = sqlx::query!(
        r#"
        update outbox.notifications
           set failed_at = null, due_at = now()
         where failed_at is not null and ($1::bigint[] is null or id = any ($1))
        "#,
        ids as Option<&[i64]>,
    )
    .execute(&mut *tx)
    .await
    .map_err(OutboxError::Notifications)?;
    tx.commit().await.map_err(OutboxError::Notifications)?;
    Ok(retried.rows_affected())
}
