//! The sender lines: as Chert lists them, and the paces and pauses that people set.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{PgPool, PgTransaction};

use crate::campaign::pool::AccountLine;
use crate::chert::lines::ListedLine;
use crate::database::{self, describe};
use crate::line::ANY_LINE;
use crate::outbox::admit::interval;
use crate::pace::slots::HORIZON;

/// What went wrong with the lines.
#[derive(Debug, thiserror::Error)]
pub enum LinesError {
    #[error("writing the lines: {}", describe(.0))]
    Write(#[source] sqlx::Error),
    #[error("reading the lines: {}", describe(.0))]
    Read(#[source] sqlx::Error),
    #[error("Chert lists no lines at all, although some are known: nothing was changed; look at the Chert console")]
    NoLines,
    #[error("there is no line '{0}': chert-outbox lines list shows those there are")]
    NoSuchLine(String),
    #[error("'{0}' is not a time zone: write a name such as Europe/Berlin or UTC")]
    NoSuchZone(String),
}

/// What a sync changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Synced {
    pub added: Vec<String>,
    pub removed: Vec<String>,
    pub known: usize,
}

/// Takes over the account's lines as listed. New ones start with the paces, and the pause, of '*'; lines that are gone are marked
/// removed, and what waited for them is admitted anew; one that comes back keeps its paces.
/// Errors: `NoLines` for an empty list where lines are known, since that is a fault far more often than the truth.
pub async fn sync(pool: &PgPool, listed: &[ListedLine]) -> Result<Synced, LinesError> {
    let ids: Vec<String> = listed.iter().map(|line| line.id.clone()).collect();
    let mut tx = database::begin(pool).await.map_err(LinesError::Write)?;
    // Several workers refresh at about the same time: one after the other, and in one order.
    sqlx::query!("select id from outbox.lines order by id for update")
        .fetch_all(&mut *tx)
        .await
        .map_err(LinesError::Write)?;
    let known = sqlx::query_scalar!("select exists (select from outbox.lines where id <> '*' and removed_at is null)")
        .fetch_one(&mut *tx)
        .await
        .map_err(LinesError::Write)?;
    if listed.is_empty() && known == Some(true) {
        return Err(LinesError::NoLines);
    }
    let added = sqlx::query_scalar!(
        r#"
        insert into outbox.lines
               (id, number, active, gap_us, first_touch_gap_us, first_touch_cap, time_zone, paused_at, paused_reason, synced_at)
        select u.id, u.number, u.active, d.gap_us, d.first_touch_gap_us, d.first_touch_cap, d.time_zone, d.paused_at,
               d.paused_reason, now()
          from unnest($1::text[], $2::text[], $3::bool[]) as u (id, number, active), outbox.lines d
         where d.id = '*' and u.id <> '*'
            on conflict (id) do nothing
        returning id
        "#,
        &ids,
        &listed.iter().map(|line| line.phone_number.clone()).collect::<Vec<_>>() as &[Option<String>],
        &listed.iter().map(|line| line.is_active).collect::<Vec<_>>(),
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(LinesError::Write)?;
    sqlx::query!(
        r#"
        update outbox.lines l
           set number = u.number, active = u.active, removed_at = null, synced_at = now()
          from unnest($1::text[], $2::text[], $3::bool[]) as u (id, number, active)
         where l.id = u.id and l.id <> '*'
        "#,
        &ids,
        &listed.iter().map(|line| line.phone_number.clone()).collect::<Vec<_>>() as &[Option<String>],
        &listed.iter().map(|line| line.is_active).collect::<Vec<_>>(),
    )
    .execute(&mut *tx)
    .await
    .map_err(LinesError::Write)?;
    let removed = sqlx::query_scalar!(
        "update outbox.lines set removed_at = now() where id <> '*' and removed_at is null and not (id = any ($1)) returning id",
        &ids,
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(LinesError::Write)?;
    if !removed.is_empty() {
        sqlx::query!(
            "update outbox.jobs set ready = false, wake_at = now() where state = 'queued' and ready and line_id = any ($1)",
            &removed,
        )
        .execute(&mut *tx)
        .await
        .map_err(LinesError::Write)?;
    }
    tx.commit().await.map_err(LinesError::Write)?;
    Ok(Synced { added, removed, known: ids.len() })
}

/// Which lines a change is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// Every line there is, and every line there will be.
    All,
    One(String),
}

impl Which {
    fn id(&self) -> Option<&str> {
        match self {
            Which::All => None,
            Which::One(id) => Some(id),
        }
    }

    fn found(&self, rows: u64) -> Result<u64, LinesError> {
        match self {
            Which::One(id) if rows == 0 => Err(LinesError::NoSuchLine(id.clone())),
            _ => Ok(rows),
        }
    }
}

/// New paces; what is `None` stays as it is.
#[derive(Debug, Clone, Default)]
pub struct Paces {
    pub gap: Option<Duration>,
    pub first_touch_gap: Option<Duration>,
    /// First touches a day; `Some(None)` for no cap.
    pub first_touch_cap: Option<Option<i32>>,
    pub time_zone: Option<String>,
}

/// Sets paces and returns how many lines changed. They count from the next slot on.
/// Errors: `NoSuchLine`, `NoSuchZone`.
pub async fn set(pool: &PgPool, which: &Which, paces: &Paces) -> Result<u64, LinesError> {
    if let Some(zone) = &paces.time_zone
        && zone.parse::<chrono_tz::Tz>().is_err()
    {
        return Err(LinesError::NoSuchZone(zone.clone()));
    }
    let micros = |gap: Option<Duration>| gap.map(|gap| i64::try_from(gap.as_micros()).unwrap_or(i64::MAX));
    let mut tx = database::begin_plain(pool).await.map_err(LinesError::Write)?;
    let changed = sqlx::query!(
        r#"
        update outbox.lines
           set gap_us = coalesce($2, gap_us),
               first_touch_gap_us = coalesce($3, first_touch_gap_us),
               -- The next slot lies a gap behind the last one: it moves by what the gap changes, there and back.
               next_at = next_at + (coalesce($2, gap_us) - gap_us) * interval '1 microsecond',
               next_first_touch_at = next_first_touch_at + (coalesce($3, first_touch_gap_us) - first_touch_gap_us) * interval '1 microsecond',
               first_touch_cap = case when $4 then $5 else first_touch_cap end,
               time_zone = coalesce($6, time_zone)
         where $1::text is null or id = $1
        "#,
        which.id(),
        micros(paces.gap),
        micros(paces.first_touch_gap),
        paces.first_touch_cap.is_some(),
        paces.first_touch_cap.flatten(),
        paces.time_zone,
    )
    .execute(&mut *tx)
    .await
    .map_err(LinesError::Write)?;
    tx.commit().await.map_err(LinesError::Write)?;
    which.found(changed.rows_affected())
}

/// Pauses lines: nothing is claimed for them until they are resumed. Returns how many there are.
pub async fn pause(pool: &PgPool, which: &Which, reason: Option<&str>) -> Result<u64, LinesError> {
    let mut tx = database::begin_plain(pool).await.map_err(LinesError::Write)?;
    let known = sqlx::query!(
        "update outbox.lines set paused_at = coalesce(paused_at, now()), paused_reason = $2 where $1::text is null or id = $1",
        which.id(),
        reason,
    )
    .execute(&mut *tx)
    .await
    .map_err(LinesError::Write)?;
    tx.commit().await.map_err(LinesError::Write)?;
    which.found(known.rows_affected())
}

/// Resumes lines and returns how many there are. What had gathered leaves at the line's pace.
pub async fn resume(pool: &PgPool, which: &Which) -> Result<u64, LinesError> {
    let mut tx = database::begin_plain(pool).await.map_err(LinesError::Write)?;
    let known = sqlx::query!(
        r#"
        update outbox.lines set paused_at = null, paused_reason = null, next_at = greatest(next_at, now())
         where $1::text is null or id = $1
        "#,
        which.id(),
    )
    .execute(&mut *tx)
    .await
    .map_err(LinesError::Write)?;
    tx.commit().await.map_err(LinesError::Write)?;
    which.found(known.rows_affected())
}

/// Somebody set the database's clock: moves the lines' next slots along by `jump`, so that they lie as far off as before,
/// and never further than a whole gap. The first to notice it does so; whoever notices it within ten seconds takes it for
/// the same jump, unless it is the one that `known` tells of, which this function returned last time.
pub(crate) async fn follow_clock(
    pool: &PgPool,
    jump: TimeDelta,
    known: Option<DateTime<Utc>>,
) -> Result<Option<DateTime<Utc>>, sqlx::Error> {
    let jump_us = jump.num_microseconds().unwrap_or(0);
    let mut tx = database::begin_plain(pool).await?;
    let first = sqlx::query!(
        r#"
        update outbox.account set clock_set_at = clock_timestamp()
         where clock_set_at is not distinct from $1
            or clock_timestamp() not between clock_set_at - interval '10 seconds' and clock_set_at + interval '10 seconds'
        "#,
        known,
    )
    .execute(&mut *tx)
    .await?;
    if first.rows_affected() > 0 {
        tracing::warn!("The database's clock was set by {} ms: the lines' slots follow it", jump.num_milliseconds());
        sqlx::query!(
            r#"
            update outbox.lines
               set next_at = least(next_at + $1 * interval '1 microsecond',
                                   greatest(next_at, clock_timestamp() + $2::interval + slowdown * gap_us * interval '1 microsecond')),
                   next_first_touch_at = least(next_first_touch_at + $1 * interval '1 microsecond',
                                   greatest(next_first_touch_at, clock_timestamp() + $2::interval + slowdown * first_touch_gap_us * interval '1 microsecond'))
            "#,
            jump_us as f64,
            interval(2 * HORIZON),
        )
        .execute(&mut *tx)
        .await?;
    }
    let set_at = sqlx::query_scalar!("select clock_set_at from outbox.account").fetch_one(&mut *tx).await?;
    tx.commit().await?;
    Ok(set_at)
}

/// A line as people see it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct LineStatus {
    pub id: String,
    pub number: Option<String>,
    pub active: bool,
    pub paused: bool,
    pub paused_reason: Option<String>,
    pub removed: bool,
    /// The gap between two messages, in microseconds; 0 for none.
    pub gap_us: i64,
    pub first_touch_gap_us: i64,
    pub first_touch_cap: Option<i32>,
    pub time_zone: String,
    pub first_touches_today: i32,
    pub next_at: DateTime<Utc>,
    /// `None` while the line is paused or inactive.
    pub next_first_touch_at: Option<DateTime<Utc>>,
    /// 1 when the line runs at its own pace, 2 at half of it.
    pub slowdown: f32,
    /// Until when Chert said that the line is full for first touches.
    pub saturated_until: Option<DateTime<Utc>>,
    /// Jobs that stand ready for this line alone, counted to 10,000 and no further.
    pub ready: i64,
}

impl LineStatus {
    /// As `account` has it.
    pub fn takes_new(&self) -> bool {
        self.active && !self.paused && self.first_touch_cap != Some(0)
    }

    /// Whether this row stands for any line: the default for new ones.
    pub fn is_default(&self) -> bool {
        self.id == ANY_LINE
    }
}

/// The lines that the account has, as far as a draw among them asks.
pub(crate) async fn account(tx: &mut PgTransaction<'_>) -> Result<Vec<AccountLine>, sqlx::Error> {
    sqlx::query_as!(
        AccountLine,
        r#"
        select id, (active and paused_at is null and first_touch_cap is distinct from 0) as "takes_new!"
          from outbox.lines
         where removed_at is null and id <> '*'
        "#
    )
    .fetch_all(&mut **tx)
    .await
}

/// All lines that were not removed, '*' last.
pub async fn list(pool: &PgPool) -> Result<Vec<LineStatus>, LinesError> {
    let mut tx = database::begin_plain(pool).await.map_err(LinesError::Read)?;
    listed(&mut tx).await.map_err(LinesError::Read)
}

/// The same, with the database's time.
pub async fn list_now(pool: &PgPool) -> Result<(Vec<LineStatus>, DateTime<Utc>), LinesError> {
    let mut tx = database::begin_plain(pool).await.map_err(LinesError::Read)?;
    let now = sqlx::query_scalar!(r#"select now() as "now!""#).fetch_one(&mut *tx).await.map_err(LinesError::Read)?;
    Ok((listed(&mut tx).await.map_err(LinesError::Read)?, now))
}

async fn listed(tx: &mut PgTransaction<'_>) -> Result<Vec<LineStatus>, sqlx::Error> {
    sqlx::query_as!(
        LineStatus,
        r#"
        select l.id, l.number, l.active, l.paused_at is not null as "paused!", l.paused_reason, l.removed_at is not null as "removed!",
               l.gap_us, l.first_touch_gap_us, l.first_touch_cap, l.time_zone,
               coalesce(o.first_touches_today, 0) as "first_touches_today!", l.next_at, o.first_touch_at as "next_first_touch_at?",
               l.slowdown, case when l.saturated_until > now() then l.saturated_until end as saturated_until,
               (select count(*) from (select from outbox.jobs j where j.state = 'queued' and j.ready and j.line_id = l.id limit 10000) r) as "ready!"
          from outbox.lines l
          left join outbox.openings o on o.id = l.id
         where l.removed_at is null
         order by l.id = '*', l.id
        "#
    )
    .fetch_all(&mut **tx)
    .await
}
