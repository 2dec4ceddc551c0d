//! Firings: each a row, whoever notices it, and so once; and the locking of one whose audience is to be read.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::types::Json;
use sqlx::{PgPool, PgTransaction};

use crate::campaign::file::shape::Overlap;
use crate::campaign::fires::{Fate, Fire, ON_TIME};
use crate::database;
use crate::outbox::admit::interval;
use crate::outbox::campaigns::CampaignsError;

/// The most campaigns that one look tells of.
const MAX_CAMPAIGNS: i64 = 1_000;
/// How often the reading of an audience may fail, whatever the time.
const MAX_FAILURES: i32 = 3;

/// The names of running campaigns whose next firing has come, by the database's clock.
pub async fn firing(pool: &PgPool) -> Result<Vec<String>, CampaignsError> {
    let mut tx = database::begin(pool).await.map_err(CampaignsError::Fire)?;
    sqlx::query_scalar!(
        r#"
        select name
          from outbox.campaigns
         where state = 'running' and next_at <= clock_timestamp()
         order by next_at
         limit $1
        "#,
        MAX_CAMPAIGNS,
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(CampaignsError::Fire)
}

/// A campaign whose next firing has come, locked.
#[derive(Debug, Clone)]
pub struct Firing {
    pub version: i32,
    pub next_at: DateTime<Utc>,
    pub now: DateTime<Utc>,
}

/// Locks a campaign whose next firing has come; none if that is not so any more, or somebody else is at it.
pub async fn lock(tx: &mut PgTransaction<'_>, name: &str) -> Result<Option<Firing>, sqlx::Error> {
    sqlx::query_as!(
        Firing,
        r#"
        select version, next_at as "next_at!", clock_timestamp() as "now!"
          from outbox.campaigns
         where name = $1 and state = 'running' and next_at <= clock_timestamp()
           for no key update skip locked
        "#,
        name,
    )
    .fetch_optional(&mut **tx)
    .await
}

/// How the firings of a campaign are recorded.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    pub overlap: Overlap,
    pub jitter: Duration,
    /// There is somebody to enrol: the application does not do it by itself.
    pub has_audience: bool,
}

/// Records firings of a locked campaign, and when the next one is. One on time is skipped while an earlier one still enrols, where
/// the rules say so; one that is made up for waits instead.
pub async fn record(
    tx: &mut PgTransaction<'_>,
    name: &str,
    version: i32,
    fires: &[Fire],
    rules: Rules,
    next_at: Option<DateTime<Utc>>,
) -> Result<(), sqlx::Error> {
    let mut busy = sqlx::query_scalar!(
        r#"select exists (select from outbox.ticks where campaign = $1 and finished_at is null) as "busy!""#,
        name
    )
    .fetch_one(&mut **tx)
    .await?;
    let recorded: Vec<(&'static str, Option<&'static str>)> = fires
        .iter()
        .map(|fire| match fire.fate {
            Fate::TooLate => ("missed", Some("too_late")),
            Fate::CaughtUp => ("missed", Some("caught_up")),
            Fate::Run if !rules.has_audience => ("done", Some("no_audience")),
            Fate::Run if busy && rules.overlap == Overlap::Skip && !fire.late => ("skipped", Some("overlap")),
            Fate::Run => {
                busy = true;
                ("new", None)
            }
        })
        .collect();
    sqlx::query!(
        r#"
        insert into outbox.ticks (campaign, at, version, state, reason, late, beside, jitter, finished_at)
        select $1, u.at, $2, u.state, u.reason, u.late, $3, $4, case when u.state <> 'new' then clock_timestamp() end
          from unnest($5::timestamptz[], $6::text[], $7::text[], $8::bool[]) as u (at, state, reason, late)
            on conflict on constraint one_tick_a_firing do nothing
        "#,
        name,
        version,
        rules.overlap == Overlap::Allow,
        interval(rules.jitter),
        &fires.iter().map(|fire| fire.at).collect::<Vec<_>>(),
        &recorded.iter().map(|(state, _)| (*state).to_owned()).collect::<Vec<_>>(),
        &recorded.iter().map(|(_, reason)| reason.map(str::to_owned)).collect::<Vec<_>>() as &[Option<String>],
        &fires.iter().map(|fire| fire.late).collect::<Vec<_>>(),
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!("update outbox.campaigns set next_at = $2 where name = $1", name, next_at).execute(&mut **tx).await?;
    Ok(())
}

/// Records firings of a locked campaign that had come, and nobody had noticed, when its times were changed.
pub async fn rescheduled(
    tx: &mut PgTransaction<'_>,
    name: &str,
    version: i32,
    come: &[DateTime<Utc>],
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        r#"
        insert into outbox.ticks (campaign, at, version, state, reason, late, finished_at)
        select $1, u.at, $2, 'missed', 'rescheduled', u.at < clock_timestamp() - $4::interval, clock_timestamp()
          from unnest($3::timestamptz[]) as u (at)
            on conflict on constraint one_tick_a_firing do nothing
        "#,
        name,
        version,
        come,
        interval(ON_TIME),
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// A firing that is not over, locked.
#[derive(Debug, Clone)]
pub struct Open {
    pub id: i64,
    pub campaign: String,
    pub at: DateTime<Utc>,
    pub manual: bool,
    pub now: DateTime<Utc>,
    /// Once its people are known, the one that they were found by; until then the campaign's newest.
    pub version: i32,
    /// The rows of the version's file.
    pub file: Option<i64>,
    /// The rows of its people, where they are known.
    pub audience: Option<i64>,
    /// The row that was looked at last.
    pub position: i64,
    pub excluded: Json<BTreeMap<String, i64>>,
}

/// Locks the oldest firing of a running campaign whose audience is not known, and which nobody else is at. It stays locked while the
/// audience is read: the lock goes with the process that dies over it.
pub async fn lock_unread(tx: &mut PgTransaction<'_>) -> Result<Option<Open>, sqlx::Error> {
    lock_open(tx, "new").await
}

/// Locks a firing of a running campaign that enrols, and which nobody else is at: of several campaigns any, so that the people of one
/// do not wait behind the million of another.
pub async fn lock_enrolling(tx: &mut PgTransaction<'_>) -> Result<Option<Open>, sqlx::Error> {
    lock_open(tx, "enrolling").await
}

async fn lock_open(tx: &mut PgTransaction<'_>, state: &str) -> Result<Option<Open>, sqlx::Error> {
    sqlx::query_as!(
        Open,
        r#"
        select t.id, t.campaign, t.at, t.manual, clock_timestamp() as "now!", v.version, v.audience as file, t.audience, t.position,
               t.excluded as "excluded!: Json<BTreeMap<String, i64>>"
          from outbox.ticks t
          join outbox.campaigns c on c.name = t.campaign and c.state = 'running'
          -- What has found nobody yet goes by the newest version, and so by a file that was mended meanwhile.
          join outbox.campaign_versions v on v.campaign = t.campaign
                                         and v.version = case when t.state = 'new' then c.version else t.version end
         where t.finished_at is null and t.state = $1 and (t.again_at is null or t.again_at <= clock_timestamp())
           and (t.beside
                or not exists (select from outbox.ticks e
                                where e.campaign = t.campaign and e.finished_at is null and e.at < t.at offset 0))
         order by case when t.state = 'enrolling' then random() end, t.at, t.id
         limit 1
           for update of t skip locked
        "#,
        state,
    )
    .fetch_optional(&mut **tx)
    .await
}

/// When the firing before a locked one was done, or given up: until then that one may have waited behind it.
pub async fn earlier_ended(tx: &mut PgTransaction<'_>, tick: &Open) -> Result<Option<DateTime<Utc>>, sqlx::Error> {
    let ended = sqlx::query_scalar!(
        r#"
        select finished_at
          from outbox.ticks
         where campaign = $1 and at < $2 and state in ('done', 'failed')
         order by at desc
         limit 1
        "#,
        tick.campaign,
        tick.at,
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(ended.flatten())
}

/// It is too late for a locked firing to find anybody.
pub async fn missed(tx: &mut PgTransaction<'_>, tick: i64) -> Result<(), sqlx::Error> {
    sqlx::query!(
        r#"
        update outbox.ticks
           set state = 'missed', reason = 'too_late', late = true, again_at = null, finished_at = clock_timestamp()
         where id = $1
        "#,
        tick
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The people of a locked firing are known, by its version: they are enrolled in it from now on.
pub async fn found(tx: &mut PgTransaction<'_>, tick: &Open, audience: i64) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update outbox.ticks set state = 'enrolling', version = $2, audience = $3, again_at = null, error = null where id = $1",
        tick.id,
        tick.version,
        audience,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Puts a locked firing off for so long, and counts no failure: nothing is wrong with it.
pub async fn put_off(tx: &mut PgTransaction<'_>, tick: i64, wait: Duration) -> Result<(), sqlx::Error> {
    sqlx::query!("update outbox.ticks set again_at = clock_timestamp() + $2 where id = $1", tick, interval(wait))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// The audience of a locked firing could not be read: it is tried again, ever less often, `until` then, and given up in the end. Returns
/// whether it was.
pub async fn failed(
    tx: &mut PgTransaction<'_>,
    tick: i64,
    why: &str,
    until: DateTime<Utc>,
) -> Result<bool, sqlx::Error> {
    let given_up = sqlx::query_scalar!(
        r#"
        with next as (
            select failures + 1 as failures,
                   clock_timestamp() + least(interval '20 seconds' * power(2, least(failures, 10)), interval '10 minutes') as again_at
              from outbox.ticks
             where id = $1
        )
        update outbox.ticks t
           set error = $2, failures = next.failures, again_at = next.again_at,
               state = case when next.failures >= $3 and next.again_at > $4 then 'failed' else t.state end,
               reason = case when next.failures >= $3 and next.again_at > $4 then 'audience_failed' end,
               finished_at = case when next.failures >= $3 and next.again_at > $4 then clock_timestamp() end
          from next
         where t.id = $1 and t.state = 'new'
        returning t.state = 'failed' as "given_up!"
        "#,
        tick,
        why,
        MAX_FAILURES,
        until,
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(given_up == Some(true))
}
