//! Putting jobs in, from Rust: inside the producer's own transaction, one or many.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::PgConnection;

use crate::job::{InvalidJob, MAX_ATTEMPTS_DEFAULT, NewJob};

/// Puts one job in and gives its id; a `dedupe_key` that is there already inserts nothing and gives the existing id.
/// `conn` is what the producer's other statements run on: `enqueue(&mut tx, &job)` commits or vanishes with them.
/// Errors: the rule that the job breaks, or what Postgres said. After an error of Postgres the transaction is spent.
///
/// ```no_run
/// # async fn order(pool: sqlx::PgPool) -> Result<(), Box<dyn std::error::Error>> {
/// use chert_outbox::NewJob;
///
/// let mut tx = pool.begin().await?;
/// sqlx::query("insert into orders (id, phone) values ('1001', '+15550142200')").execute(&mut *tx).await?;
/// let job = NewJob {
///     name: Some("Ann".to_owned()),
///     dedupe_key: Some("order-1001-shipped".to_owned()),
///     ..NewJob::new("+15550142200".parse()?, "Order 1001 is on its way.")
/// };
/// let job_id = chert_outbox::enqueue(&mut tx, &job).await?;
/// tx.commit().await?; // the order and its message are there together, or neither is
/// # let _ = job_id;
/// # Ok(())
/// # }
/// ```
pub async fn enqueue(conn: &mut PgConnection, job: &NewJob) -> Result<i64, EnqueueError> {
    job.check()?;
    sqlx::query_scalar!(
        r#"
        select outbox.enqueue(phone => $1, body => $2, payload => $3, phone_line_id => $4, dedupe_key => $5,
                              priority => $6, due_at => $7, expires_at => $8, max_attempts => $9, labels => $10,
                              traceparent => $11, class => $12) as "id!"
        "#,
        job.phone.as_str(),
        job.body,
        job.payload(),
        job.phone_line_id,
        job.dedupe_key,
        i32::from(job.priority),
        job.due_at,
        job.expires_at,
        job.max_attempts,
        Value::Object(job.labels.clone()),
        job.traceparent,
        job.class.word(),
    )
    .fetch_one(conn)
    .await
    .map_err(insert_error)
}

/// Puts many jobs in by one statement and tells of each, in the order given, its id and whether it is new: it is not when
/// its `dedupe_key` is there already, or stood earlier in `jobs`.
/// Errors: as [`enqueue`]; nothing is checked by halves, one bad job refuses them all. A few thousand at a time are plenty.
pub async fn enqueue_many(conn: &mut PgConnection, jobs: &[NewJob]) -> Result<Vec<Enqueued>, EnqueueError> {
    for (index, job) in jobs.iter().enumerate() {
        job.check().map_err(|rule| EnqueueError::InvalidAt { index, rule })?;
    }
    let inserted = insert(conn, jobs).await?;

    // Rows without a key are all inserted and take their ids in the order given, so the n-th of them has the n-th id.
    let mut keyless: Vec<i64> = inserted.iter().filter(|row| row.dedupe_key.is_none()).map(|row| row.id).collect();
    keyless.sort_unstable();
    let mut keyless = keyless.into_iter();
    let mut fresh: HashMap<String, i64> =
        inserted.into_iter().filter_map(|row| Some((row.dedupe_key?, row.id))).collect();

    let refused: Vec<String> =
        jobs.iter().filter_map(|job| job.dedupe_key.clone()).filter(|key| !fresh.contains_key(key)).collect();
    let mut existing = if refused.is_empty() { HashMap::new() } else { ids_of(conn, &refused).await? };

    let told = jobs.iter().map(|job| match &job.dedupe_key {
        None => keyless.next().map(|id| Enqueued { id, inserted: true }),
        Some(key) => match fresh.remove(key) {
            Some(id) => {
                existing.insert(key.clone(), id);
                Some(Enqueued { id, inserted: true })
            }
            None => existing.get(key).map(|&id| Enqueued { id, inserted: false }),
        },
    });
    told.collect::<Option<Vec<Enqueued>>>().ok_or(EnqueueError::Pruned)
}

/// What became of one job of many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Enqueued {
    pub id: i64,
    /// Whether the job is new; if not, `id` is that of the job which holds its `dedupe_key`.
    pub inserted: bool,
}

/// Why nothing was enqueued. None of it shows what the refused job holds.
#[derive(Debug, thiserror::Error)]
pub enum EnqueueError {
    #[error(transparent)]
    Invalid(#[from] InvalidJob),
    #[error("job {} of the batch cannot be queued: {rule}", .index + 1)]
    InvalidAt { index: usize, rule: InvalidJob },
    /// A constraint that a [`NewJob`] cannot break by itself, such as one that was added to the table.
    #[error("the job cannot be queued: it breaks the rule {constraint} of outbox.jobs")]
    Refused { constraint: String },
    #[error("inserting into outbox.jobs: {0}")]
    Insert(DatabaseFault),
    #[error("looking up the jobs that hold these dedupe keys: {0}")]
    LookUp(DatabaseFault),
    #[error("a job with the same dedupe_key was pruned at this very moment: enqueue again")]
    Pruned,
}

impl EnqueueError {
    /// Whether one job is to blame, so that the others could go in without it.
    pub fn is_about_a_job(&self) -> bool {
        match self {
            EnqueueError::Invalid(_) | EnqueueError::InvalidAt { .. } | EnqueueError::Refused { .. } => true,
            EnqueueError::Insert(fault) | EnqueueError::LookUp(fault) => fault.is_about_the_data(),
            EnqueueError::Pruned => false,
        }
    }

    /// Whether the same transaction may well succeed when it is run again.
    pub fn is_transient(&self) -> bool {
        match self {
            EnqueueError::Insert(fault) | EnqueueError::LookUp(fault) => fault.is_conflict(),
            EnqueueError::Pruned => true,
            _ => false,
        }
    }
}

/// What Postgres, or the way to it, said. The `sqlx::Error` itself is not kept: its `Debug` carries the refused row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct DatabaseFault {
    message: String,
    sqlstate: Option<String>,
}

impl DatabaseFault {
    fn class(&self) -> Option<&str> {
        self.sqlstate.as_deref().and_then(|code| code.get(..2))
    }

    /// Data exceptions, constraints, limits, and what somebody's trigger raised.
    fn is_about_the_data(&self) -> bool {
        matches!(self.class(), Some("22" | "23" | "54" | "P0"))
    }

    /// Serialization failures and deadlocks.
    fn is_conflict(&self) -> bool {
        self.class() == Some("40")
    }
}

impl From<sqlx::Error> for DatabaseFault {
    fn from(error: sqlx::Error) -> DatabaseFault {
        let sqlstate = error.as_database_error().and_then(|error| error.code()).map(|code| code.into_owned());
        let message = match error.as_database_error() {
            Some(error) => match error.constraint() {
                Some(constraint) => format!("{} (constraint {constraint})", error.message()),
                None => error.message().to_owned(),
            },
            None => error.to_string(),
        };
        DatabaseFault { message, sqlstate }
    }
}

/// A refused constraint is the job's fault and named as a rule; all else is told as it is.
fn insert_error(error: sqlx::Error) -> EnqueueError {
    match error.as_database_error().and_then(|error| error.constraint()) {
        Some(constraint) => match InvalidJob::of_constraint(constraint) {
            Some(rule) => EnqueueError::Invalid(rule),
            None => EnqueueError::Refused { constraint: constraint.to_owned() },
        },
        None => EnqueueError::Insert(error.into()),
    }
}

struct InsertedRow {
    id: i64,
    dedupe_key: Option<String>,
}

async fn insert(conn: &mut PgConnection, jobs: &[NewJob]) -> Result<Vec<InsertedRow>, EnqueueError> {
    let phones: Vec<&str> = jobs.iter().map(|job| job.phone.as_str()).collect();
    let bodies: Vec<&str> = jobs.iter().map(|job| job.body.as_str()).collect();
    let payloads: Vec<Value> = jobs.iter().map(NewJob::payload).collect();
    let lines: Vec<Option<&str>> = jobs.iter().map(|job| job.phone_line_id.as_deref()).collect();
    let keys: Vec<Option<&str>> = jobs.iter().map(|job| job.dedupe_key.as_deref()).collect();
    let priorities: Vec<i16> = jobs.iter().map(|job| job.priority).collect();
    let dues: Vec<Option<DateTime<Utc>>> = jobs.iter().map(|job| job.due_at).collect();
    let expiries: Vec<Option<DateTime<Utc>>> = jobs.iter().map(|job| job.expires_at).collect();
    let attempts: Vec<i32> = jobs.iter().map(|job| job.max_attempts.unwrap_or(MAX_ATTEMPTS_DEFAULT)).collect();
    let labels: Vec<Value> = jobs.iter().map(|job| Value::Object(job.labels.clone())).collect();
    let traces: Vec<Option<&str>> = jobs.iter().map(|job| job.traceparent.as_deref()).collect();
    let classes: Vec<&str> = jobs.iter().map(|job| job.class.word()).collect();
    // Only id and dedupe_key come back: a producer may read no other column.
    sqlx::query_as!(
        InsertedRow,
        r#"
        insert into outbox.jobs
               (phone, body, payload, phone_line_id, dedupe_key, priority, due_at, expires_at, max_attempts, labels, traceparent,
                class)
        select g.phone, g.body, g.payload, g.phone_line_id, g.dedupe_key, g.priority, coalesce(g.due_at, now()),
               g.expires_at, g.max_attempts, g.labels, g.traceparent, g.class
          from unnest($1::text[], $2::text[], $3::jsonb[], $4::text[], $5::text[], $6::smallint[], $7::timestamptz[],
                      $8::timestamptz[], $9::int[], $10::jsonb[], $11::text[], $12::text[])
               with ordinality as g (phone, body, payload, phone_line_id, dedupe_key, priority, due_at, expires_at,
                                     max_attempts, labels, traceparent, class, position)
         order by g.position
        on conflict (dedupe_key) do nothing
        returning id, dedupe_key
        "#,
        &phones as _,
        &bodies as _,
        &payloads,
        &lines as _,
        &keys as _,
        &priorities,
        &dues as _,
        &expiries as _,
        &attempts,
        &labels,
        &traces as _,
        &classes as _,
    )
    .fetch_all(conn)
    .await
    .map_err(insert_error)
}

/// The jobs that hold these keys. A statement of its own, since the insert cannot see what another transaction committed
/// while it waited for it.
async fn ids_of(conn: &mut PgConnection, keys: &[String]) -> Result<HashMap<String, i64>, EnqueueError> {
    let rows =
        sqlx::query!(r#"select id, dedupe_key as "dedupe_key!" from outbox.jobs where dedupe_key = any ($1)"#, keys)
            .fetch_all(conn)
            .await
            .map_err(|error| EnqueueError::LookUp(error.into()))?;
    Ok(rows.into_iter().map(|row| (row.dedupe_key, row.id)).collect())
}
