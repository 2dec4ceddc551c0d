//! Jobs as people look at them: listed, shown with their attempts, tried again, canceled.

use chrono::{DateTime, Utc};
use sqlx::{PgPool, PgTransaction};

use crate::database::{self, describe};
use crate::outbox::admit::wake_after_commit;

/// What went wrong with a job that somebody named.
#[derive(Debug, thiserror::Error)]
pub enum JobsError {
    #[error("reading jobs: {}", describe(.0))]
    Read(#[source] sqlx::Error),
    #[error("writing a job: {}", describe(.0))]
    Write(#[source] sqlx::Error),
    #[error("there is no job {0}")]
    NoSuchJob(i64),
    #[error("job {id} is {state}: only failed, expired, canceled, suppressed and parked jobs can be tried again")]
    NotRetryable { id: i64, state: String },
    #[error("job {id} is {state}: only a queued job can be canceled")]
    NotCancelable { id: i64, state: String },
    #[error(
        "job {0} may be on the phone already, and Chert may have forgotten its key: trying it again can send it twice. \
         Look at the phone first, then add --may-double"
    )]
    MayDouble(i64),
    #[error("job {id} is of a campaign, and its enrolment is over ({why}): nothing more is sent for it")]
    EnrolmentOver { id: i64, why: String },
    #[error(
        "job {0} is of a campaign, and its enrolment goes on without it: another message has taken its place, or will. \
         Tried again, it could come beside or behind that one"
    )]
    EnrolmentGoesOn(i64),
    #[error(
        "job {0} is of a campaign, and may not go any more: its window has closed, or its step's deadline has passed. Leave it: where \
         the step is still worth its message, the enrolment makes its own next one when that may go"
    )]
    TooLate(i64),
}

/// Which jobs to list.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub id: Option<i64>,
    pub state: Option<String>,
    pub reason: Option<String>,
    pub phone: Option<String>,
    pub limit: i64,
}

/// One job as it stands; the phone is masked unless it was asked for whole, the body is left out.
#[derive(Debug, Clone, serde::Serialize)]
pub struct JobRow {
    pub id: i64,
    pub phone: String,
    pub state: String,
    pub reason: Option<String>,
    pub class: String,
    pub priority: i16,
    pub due_at: DateTime<Utc>,
    pub wake_at: Option<DateTime<Utc>>,
    pub expires_at: Option<DateTime<Utc>>,
    pub attempt: i32,
    pub max_attempts: i32,
    pub deferrals: i32,
    pub line_id: Option<String>,
    pub sent_line_id: Option<String>,
    pub message_id: Option<String>,
    pub error_code: Option<i32>,
    pub error_message: Option<String>,
    pub error_detail: Option<serde_json::Value>,
    pub trace_id: Option<String>,
    pub dedupe_key: Option<String>,
    pub idempotency_key: Option<String>,
    pub created_at: DateTime<Utc>,
    pub sent_at: Option<DateTime<Utc>>,
    pub finished_at: Option<DateTime<Utc>>,
    /// What became of the message: `sent`, `delivered`, `failed`, `unconfirmed`, `not_found`, or a word of Chert's.
    pub delivery_state: Option<String>,
    pub delivered_at: Option<DateTime<Utc>>,
    pub read_at: Option<DateTime<Utc>>,
    pub replied_at: Option<DateTime<Utc>>,
    #[serde(skip)]
    pub ready: bool,
    #[serde(skip)]
    pub first_touch: Option<bool>,
}

/// Jobs that match, the newest first, at most `limit`.
pub async fn list(pool: &PgPool, filter: &Filter) -> Result<Vec<JobRow>, JobsError> {
    let mut tx = database::begin_plain(pool).await.map_err(JobsError::Read)?;
    sqlx::query_as!(
        JobRow,
        r#"
        select id, outbox.masked(phone) as "phone!", state, reason, class, priority, due_at, wake_at, expires_at, attempt, max_attempts,
               deferrals, line_id, sent_line_id, message_id, error_code, error_message, error_detail, trace_id, dedupe_key,
               idempotency_key, created_at, sent_at, finished_at, delivery_state, delivered_at, read_at, replied_at, ready, first_touch
          from outbox.jobs
         where ($1::bigint is null or id = $1) and ($2::text is null or state = $2)
           and ($3::text is null or reason = $3) and ($4::text is null or phone = $4)
         order by id desc
         limit $5
        "#,
        filter.id,
        filter.state,
        filter.reason,
        filter.phone,
        filter.limit,
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(JobsError::Read)
}

/// One HTTP call of a job.
#[derive(Debug, Clone, serde::Serialize)]
pub struct AttemptRow {
    pub claim: i32,
    pub late: bool,
    pub outcome: String,
    pub started_at: DateTime<Utc>,
    pub duration_ms: Option<i32>,
    pub line_id: Option<String>,
    pub http_status: Option<i32>,
    pub code: Option<i32>,
    pub message: Option<String>,
    pub retryable: Option<bool>,
    pub retry_after_s: Option<i32>,
    pub trace_id: Option<String>,
}

/// A job and its attempts, in their order.
pub async fn show(pool: &PgPool, id: i64) -> Result<(JobRow, Vec<AttemptRow>), JobsError> {
    let one = Filter { id: Some(id), limit: 1, ..Filter::default() };
    let job = list(pool, &one).await?.pop().ok_or(JobsError::NoSuchJob(id))?;
    let mut tx = database::begin_plain(pool).await.map_err(JobsError::Read)?;
    let attempts = sqlx::query_as!(
        AttemptRow,
        r#"
        select claim, late, outcome, started_at, duration_ms, line_id, http_status, code, message, retryable, retry_after_s, trace_id
          from outbox.attempts
         where job_id = $1
         order by claim, late
        "#,
        id,
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(JobsError::Read)?;
    Ok((job, attempts))
}

/// Puts an ended job back, with its attempts counted from zero and its key as it was. A job that may be on the phone
/// already goes back only with `may_double`, and one of a campaign only while its enrolment waits for it.
pub async fn retry(pool: &PgPool, id: i64, may_double: bool) -> Result<(), JobsError> {
    let mut tx = database::begin(pool).await.map_err(JobsError::Write)?;
    match retry_in(&mut tx, id, may_double).await {
        Ok(()) => tx.commit().await.map_err(JobsError::Write),
        Err(refused) => {
            // What it has locked is free before it tells why, and not only when its connection has ended.
            tx.rollback().await.map_err(JobsError::Write)?;
            Err(refused)
        }
    }
}

async fn retry_in(tx: &mut PgTransaction<'_>, id: i64, may_double: bool) -> Result<(), JobsError> {
    enrolment_waits_for(tx, id).await?;
    let job = sqlx::query!(
        r#"
        select state, unknown_since is not null as "unknown!",
               (enrolment is not null and expires_at <= clock_timestamp()) is true as "too_late!"
          from outbox.jobs
         where id = $1
           for update
        "#,
        id
    )
    .fetch_optional(&mut **tx)
    .await
    .map_err(JobsError::Read)?
    .ok_or(JobsError::NoSuchJob(id))?;
    if !["failed", "expired", "canceled", "suppressed", "parked"].contains(&job.state.as_str()) {
        return Err(JobsError::NotRetryable { id, state: job.state });
    }
    if job.too_late {
        return Err(JobsError::TooLate(id));
    }
    if job.unknown && !may_double {
        return Err(JobsError::MayDouble(id));
    }
    // Its due time stays, so it keeps its place among its recipient's messages; an expiry that has passed is lifted. One of
    // a campaign has not: it is the end of its window, and nobody looks at the hour after this.
    sqlx::query!(
        r#"
        update outbox.jobs
           set state = 'queued', reason = null, attempt = 0, ready = false, wake_at = now(), finished_at = null,
               unknown_since = null, expires_at = case when expires_at > now() then expires_at end
         where id = $1
        "#,
        id,
    )
    .execute(&mut **tx)
    .await
    .map_err(JobsError::Write)?;
    // Workers that sleep are woken as by an insert.
    sqlx::query!("select pg_notify('outbox_jobs', '')").fetch_one(&mut **tx).await.map_err(JobsError::Write)?;
    Ok(())
}

/// The enrolment is locked before its job, as whoever stops one does it; and so nobody makes another job of that step meanwhile.
async fn enrolment_waits_for(tx: &mut PgTransaction<'_>, id: i64) -> Result<(), JobsError> {
    let Some(enrolment) = sqlx::query_scalar!("select enrolment from outbox.jobs where id = $1", id)
        .fetch_optional(&mut **tx)
        .await
        .map_err(JobsError::Read)?
        .flatten()
    else {
        return Ok(());
    };
    let enrolment = sqlx::query!(
        r#"
        select state, coalesce(reason, state) as "why!", (waiting and job_id = $2) is true as "waits!"
          from outbox.enrolments
         where id = $1
           for update
        "#,
        enrolment,
        id,
    )
    .fetch_optional(&mut **tx)
    .await
    .map_err(JobsError::Read)?;
    match enrolment {
        Some(enrolment) if enrolment.waits => Ok(()),
        Some(enrolment) if ["active", "held"].contains(&enrolment.state.as_str()) => {
            Err(JobsError::EnrolmentGoesOn(id))
        }
        Some(enrolment) => Err(JobsError::EnrolmentOver { id, why: enrolment.why }),
        None => Err(JobsError::EnrolmentOver { id, why: "gone".to_owned() }),
    }
}

/// Cancels a job that waits, and returns what it is now: `canceled`, or `parked` if it may be on the phone already.
pub async fn cancel(pool: &PgPool, id: i64) -> Result<String, JobsError> {
    let mut tx = database::begin_plain(pool).await.map_err(JobsError::Write)?;
    let canceled = sqlx::query_scalar!(r#"select outbox.cancel($1) as "canceled!""#, id)
        .fetch_one(&mut *tx)
        .await
        .map_err(JobsError::Write)?;
    let job = sqlx::query!("select state, phone from outbox.jobs where id = $1", id)
        .fetch_optional(&mut *tx)
        .await
        .map_err(JobsError::Read)?
        .ok_or(JobsError::NoSuchJob(id))?;
    tx.commit().await.map_err(JobsError::Write)?;
    if !canceled {
        return Err(JobsError::NotCancelable { id, state: job.state });
    }
    wake_after_commit(pool, &[job.phone]).await;
    Ok(job.state)
}
