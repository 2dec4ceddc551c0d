//! Whether we hear: the newest proof, by any way, that replies are being received. What was held because there was none is let go.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{PgPool, PgTransaction};

use crate::database;
use crate::outbox::OutboxError;
use crate::outbox::admit::interval;

/// Lets up to `limit` jobs go that wait for our hearing, if it has been proved within `stale_after`; returns how many.
/// Source: design 7.
pub async fn release(pool: &PgPool, stale_after: Duration, limit: i64) -> Result<u64, OutboxError> {
    let mut tx = database::begin(pool).await.map_err(OutboxError::Hearing)?;
    let held = sqlx::query_scalar!(
        r#"
        select id
          from outbox.jobs
         where state = 'queued' and reason = 'inbound_stale'
           and not (select outbox.is_deaf($1))
         order by id
         limit $2
           for update skip locked
        "#,
        interval(stale_after),
        limit,
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(OutboxError::Hearing)?;
    let released = let_go(&mut tx, &held).await.map_err(OutboxError::Hearing)?;
    tx.commit().await.map_err(OutboxError::Hearing)?;
    Ok(released)
}

/// Lets held jobs go, whose rows the caller has locked, and returns how many.
pub(super) async fn let_go(tx: &mut PgTransaction<'_>, held: &[i64]) -> Result<u64, sqlx::Error> {
    let released = sqlx::query!("update outbox.jobs set wake_at = now(), reason = null where id = any ($1)", held)
        .execute(&mut **tx)
        .await?;
    Ok(released.rows_affected())
}

/// One way in, for people.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Way {
    /// `webhook`, `stream` or `list`.
    pub name: String,
    /// When it last proved that replies are being received.
    pub proved_at: Option<DateTime<Utc>>,
    /// How old that proof is, in seconds.
    pub age_secs: Option<i64>,
    /// Events stored by it that are not applied yet.
    pub waiting: i64,
}

/// Reads how we hear.
pub async fn read(pool: &PgPool) -> Result<Vec<Way>, OutboxError> {
    let mut tx = database::begin_plain(pool).await.map_err(OutboxError::Hearing)?;
    sqlx::query_as!(
        Way,
        r#"
        select c.name, c.proved_at, extract(epoch from clock_timestamp() - c.proved_at)::bigint as age_secs,
               (select count(*) from outbox.events e where e.applied_at is null and e.source = c.name) as "waiting!"
          from outbox.cursors c
         order by c.name
        "#
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(OutboxError::Hearing)
}
