//! Looking ahead: when is there something to do next, so that an idle worker sleeps exactly until then.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgPool;

use crate::database;
use crate::outbox::OutboxError;
use crate::outbox::admit::interval;
use crate::outbox::marks::Marks;
use crate::pace::slots::{HORIZON, REFILL};

/// What lies ahead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upcoming {
    /// From now until a row is due, wakes, a line opens for a job that stands ready, or (where it was asked) a lease runs
    /// out.
    pub next_in: Option<Duration>,
    /// The account is halted, and its next probe is due.
    pub probe_due: bool,
    /// With `leases`: jobs are held until replies are known to be received.
    pub held: bool,
}

/// Reads what lies ahead, from the indexes alone and from `marks` on. With `leases` also when the next lease runs out: a
/// rescue looks for those by itself, but a drain waits for them.
pub async fn upcoming(pool: &PgPool, marks: &Marks, leases: bool) -> Result<Upcoming, OutboxError> {
    let mut tx = database::begin(pool).await.map_err(OutboxError::Upcoming)?;
    let columns = marks.columns();
    let (from_at, from_id) = marks.admission();
    let row = sqlx::query!(
        r#"
        with marks as materialized (
            select * from unnest($4::text[], $5::smallint[], $6::timestamptz[], $7::bigint[], $8::smallint[], $9::timestamptz[], $10::bigint[])
                       as m (line_id, priority, due_at, id, touch_priority, touch_due_at, touch_id)
        ), anyone as materialized (
            select heads.follow_up, heads.first_touch
              from marks m
             cross join lateral outbox.heads(m.line_id, m.priority, m.due_at, m.id, m.touch_priority, m.touch_due_at, m.touch_id) heads
             where m.line_id = '*'
        )
        select least(
                   (select coalesce(wake_at, due_at) from outbox.jobs
                     where state = 'queued' and not ready and (coalesce(wake_at, due_at), id) >= ($2, $11)
                     order by coalesce(wake_at, due_at), id limit 1),
                   case when $3 then (select lease_until from outbox.jobs where lease_until is not null order by lease_until limit 1) end,
                   (select min(greatest(opens.at - $1::interval, a.blocked_until))
                      from outbox.openings o
                     cross join anyone
                     cross join outbox.account a
                      left join marks m on m.line_id = o.id
                     cross join lateral outbox.heads(o.id, m.priority, m.due_at, m.id, m.touch_priority, m.touch_due_at, m.touch_id) heads
                     cross join lateral (
                           select o.next_at as at where anyone.follow_up or heads.follow_up
                           union all
                           select o.first_touch_at where anyone.first_touch or heads.first_touch
                           union all
                           select greatest(o.next_at, o.next_first_touch_at, o.saturated_until) where o.has_counted) opens)
               ) as next_at,
               clock_timestamp() as "now!",
               exists (select from outbox.account where block_kind = 'halted' and blocked_until <= clock_timestamp()) as "probe_due!",
               $3 and (select true from outbox.jobs where state = 'queued' and reason = 'inbound_stale' limit 1) is true as "held!"
        "#,
        interval(HORIZON - REFILL),
        from_at,
        leases,
        &columns.line_ids,
        &columns.priorities,
        &columns.dues,
        &columns.ids,
        &columns.touch_priorities,
        &columns.touch_dues,
        &columns.touch_ids,
        from_id,
    )
    .fetch_one(&mut *tx)
    .await
    .map_err(OutboxError::Upcoming)?;
    tx.commit().await.map_err(OutboxError::Upcoming)?;
    let until = |at: DateTime<Utc>| (at - row.now).to_std().unwrap_or(Duration::ZERO);
    Ok(Upcoming { next_in: row.next_at.map(until), probe_due: row.probe_due, held: row.held })
}
