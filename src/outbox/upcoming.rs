//! Looking ahead: when is there something to do next, so that an idle worker sleeps exactly until then.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgPool;

use crate::database;
use crate::outbox::OutboxError;
use crate::outbox::admit::interval;
use crate::pace::slots::{HORIZON, REFILL};

/// What lies ahead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upcoming {
    /// From now until a row is due, wakes, a line opens for a job that stands ready, or a lease runs out.
    pub next_in: Option<Duration>,
    /// The account is halted, and its next probe is due.
    pub probe_due: bool,
}

/// Reads what lies ahead, from the indexes alone.
pub async fn upcoming(pool: &PgPool) -> Result<Upcoming, OutboxError> {
    let mut tx = database::begin(pool).await.map_err(OutboxError::Upcoming)?;
    let row = sqlx::query!(
        r#"
        select least(
                   (select coalesce(wake_at, due_at) from outbox.jobs where state = 'queued' and not ready
                     order by coalesce(wake_at, due_at) limit 1),
                   (select lease_until from outbox.jobs where state = 'sending' order by lease_until limit 1),
                   (select min(greatest(opens.at - $1::interval, a.blocked_until))
                      from outbox.openings o, outbox.account a,
                   lateral (select o.next_at as at
                             where exists (select from outbox.jobs j where j.state = 'queued' and j.ready and j.line_id in (o.id, '*') and not j.first_touch)
                            union all
                            select o.first_touch_at
                             where exists (select from outbox.jobs j where j.state = 'queued' and j.ready and j.line_id in (o.id, '*') and j.first_touch)) opens)
               ) as next_at,
               clock_timestamp() as "now!",
               exists (select from outbox.account where block_kind = 'halted' and blocked_until <= clock_timestamp()) as "probe_due!"
        "#,
        interval(HORIZON - REFILL),
    )
    .fetch_one(&mut *tx)
    .await
    .map_err(OutboxError::Upcoming)?;
    tx.commit().await.map_err(OutboxError::Upcoming)?;
    let until = |at: DateTime<Utc>| (at - row.now).to_std().unwrap_or(Duration::ZERO);
    Ok(Upcoming { next_in: row.next_at.map(until), probe_due: row.probe_due })
}
