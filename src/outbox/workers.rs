//! Heartbeats: who works, so that `status` can say it. Rescue does not depend on them: a lease runs out by itself.

use chrono::{DateTime, Utc};
use sqlx::{PgPool, PgTransaction};

use crate::database;
use crate::outbox::OutboxError;

/// What a worker says of itself at every heartbeat.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    /// Unique to this start of the process: a restarted pod that reuses its name is somebody else.
    pub id: String,
    pub name: String,
    pub concurrency: i32,
    pub in_flight: i32,
    pub stopping: bool,
    /// `open`, `probing` or `paused`.
    pub dispatch: &'static str,
    pub dispatch_reason: Option<String>,
    pub sent: i64,
}

/// Writes the heartbeat, and forgets workers that have not been heard of for a day.
pub async fn beat(pool: &PgPool, beat: &Heartbeat) -> Result<(), OutboxError> {
    let mut tx = database::begin_plain(pool).await.map_err(OutboxError::Heartbeat)?;
    sqlx::query!(
        r#"
        with forgotten as (delete from outbox.workers where heartbeat_at < now() - interval '1 day')
        insert into outbox.workers as w
               (id, name, pid, version, concurrency, in_flight, stopping, dispatch, dispatch_reason, sent)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
            on conflict (id) do update
           set heartbeat_at = now(), in_flight = excluded.in_flight, stopping = excluded.stopping,
               dispatch = excluded.dispatch, dispatch_reason = excluded.dispatch_reason, sent = excluded.sent
        "#,
        beat.id,
        beat.name,
        i32::try_from(std::process::id()).unwrap_or(0),
        env!("CARGO_PKG_VERSION"),
        beat.concurrency,
        beat.in_flight,
        beat.stopping,
        beat.dispatch,
        beat.dispatch_reason,
        beat.sent,
    )
    .execute(&mut *tx)
    .await
    .map_err(OutboxError::Heartbeat)?;
    tx.commit().await.map_err(OutboxError::Heartbeat)
}

/// Takes a worker that has stopped in order off the list.
pub async fn leave(pool: &PgPool, id: &str) -> Result<(), OutboxError> {
    let mut tx = database::begin_plain(pool).await.map_err(OutboxError::Heartbeat)?;
    let gone = sqlx::query!("delete from outbox.workers where id = $1", id).execute(&mut *tx).await;
    gone.map_err(OutboxError::Heartbeat)?;
    tx.commit().await.map_err(OutboxError::Heartbeat)
}

/// A worker as `status` shows it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Worker {
    pub id: String,
    pub name: String,
    pub pid: i32,
    pub version: String,
    pub started_at: DateTime<Utc>,
    pub heartbeat_at: DateTime<Utc>,
    /// Heard of within the last 30 s.
    pub alive: bool,
    pub stopping: bool,
    pub concurrency: i32,
    pub in_flight: i32,
    pub dispatch: String,
    pub dispatch_reason: Option<String>,
    pub sent: i64,
}

/// Workers heard of within the last day, the newest first, at most 1,000.
pub async fn list(pool: &PgPool) -> Result<Vec<Worker>, OutboxError> {
    let mut tx = database::begin_plain(pool).await.map_err(OutboxError::Heartbeat)?;
    list_in(&mut tx).await
}

/// The same in a transaction that goes on.
pub(crate) async fn list_in(tx: &mut PgTransaction<'_>) -> Result<Vec<Worker>, OutboxError> {
    sqlx::query_as!(
        Worker,
        r#"
        select id, name, pid, version, started_at, heartbeat_at, heartbeat_at > now() - interval '30 seconds' as "alive!",
               stopping, concurrency, in_flight, dispatch, dispatch_reason, sent
          from outbox.workers
         order by started_at desc
         limit 1000
        "#
    )
    .fetch_all(&mut **tx)
    .await
    .map_err(OutboxError::Heartbeat)
}
