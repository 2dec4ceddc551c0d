//! Pausing, resuming, stopping and running a campaign by hand. Each is one row, which every admission, claim and last look reads.

use chrono::{DateTime, Utc};
use sqlx::PgPool;

use crate::database;
use crate::outbox::campaigns::CampaignsError;
use crate::outbox::{MAX_RACES, hearing, is_conflict};

/// Enrolments, or jobs, of one transaction.
const BATCH: i64 = 500;

/// Pauses a campaign: nothing of it is sent from now on, also of what is queued, until it is resumed. Returns what it was before.
/// Errors: `NoSuchCampaign`, `Change`.
pub async fn pause(pool: &PgPool, name: &str) -> Result<String, CampaignsError> {
    set_state(pool, name, "paused", &["running"]).await
}

/// Stops a campaign: its enrolments end, and what is queued is canceled, by whoever calls `end` from now on. Returns what it was.
/// Errors: `NoSuchCampaign`, `Change`.
pub async fn stop(pool: &PgPool, name: &str) -> Result<String, CampaignsError> {
    set_state(pool, name, "stopped", &["running", "paused"]).await
}

async fn set_state(pool: &PgPool, name: &str, to: &str, from: &[&str]) -> Result<String, CampaignsError> {
    let mut tx = database::begin(pool).await.map_err(CampaignsError::Change)?;
    let before = sqlx::query_scalar!("select state from outbox.campaigns where name = $1 for update", name)
        .fetch_optional(&mut *tx)
        .await
        .map_err(CampaignsError::Change)?
        .ok_or_else(|| CampaignsError::NoSuchCampaign(name.to_owned()))?;
    if from.contains(&before.as_str()) {
        sqlx::query!("update outbox.campaigns set state = $2, changed_at = now() where name = $1", name, to)
            .execute(&mut *tx)
            .await
            .map_err(CampaignsError::Change)?;
    }
    tx.commit().await.map_err(CampaignsError::Change)?;
    Ok(before)
}

/// What a stop would end of a campaign. It counts them, so its cost grows with them. Errors: `NoSuchCampaign`, `Change`.
pub async fn would_end(pool: &PgPool, name: &str) -> Result<Ended, CampaignsError> {
    let mut tx = database::begin_plain(pool).await.map_err(CampaignsError::Change)?;
    sqlx::query_as!(
        Ended,
        r#"
        select (select count(*) from outbox.enrolments e where e.campaign = c.name and e.state in ('active', 'held')) as "enrolments!",
               (select count(*) from outbox.jobs j where j.campaign = c.name and j.state = 'queued') as "jobs!"
          from outbox.campaigns c
         where c.name = $1
        "#,
        name,
    )
    .fetch_optional(&mut *tx)
    .await
    .map_err(CampaignsError::Change)?
    .ok_or_else(|| CampaignsError::NoSuchCampaign(name.to_owned()))
}

/// How far the last stop of a campaign has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopping {
    /// Enrolments that it ended, whichever process did it.
    pub ended: i64,
    /// Enrolments that it has not ended yet.
    pub left: i64,
}

/// Reads how far the last stop of a campaign has come. It reads all enrolments of the campaign. Errors: `Change`.
pub async fn stopping(pool: &PgPool, name: &str) -> Result<Stopping, CampaignsError> {
    let mut tx = database::begin_plain(pool).await.map_err(CampaignsError::Change)?;
    sqlx::query_as!(
        Stopping,
        r#"
        select count(*) filter (where e.reason = 'campaign_stopped' and e.finished_at >= c.changed_at) as "ended!",
               count(*) filter (where e.state in ('active', 'held')) as "left!"
          from outbox.campaigns c
          join outbox.enrolments e on e.campaign = c.name
         where c.name = $1
        "#,
        name,
    )
    .fetch_one(&mut *tx)
    .await
    .map_err(CampaignsError::Change)
}

/// Lets a campaign go on. After a pause, firings of that time are made up for as its policy says; after a stop it begins anew with the
/// first firing from now on, which `next_after` tells of its version. Returns what it was before.
/// Errors: `NoSuchCampaign`, `StillStopping`, `Change`.
pub async fn resume(
    pool: &PgPool,
    name: &str,
    next_after: impl Fn(DateTime<Utc>) -> Option<DateTime<Utc>>,
) -> Result<String, CampaignsError> {
    let mut tx = database::begin(pool).await.map_err(CampaignsError::Change)?;
    let before = sqlx::query!(
        r#"
        select state, next_at, clock_timestamp() as "now!",
               -- Also a firing whose query still runs: whom it finds would be enrolled after all.
               exists (select from outbox.enrolments e
                        where e.campaign = c.name and e.state in ('active', 'held') offset 0)
               or exists (select from outbox.ticks t where t.campaign = c.name and t.finished_at is null offset 0) as "busy!"
          from outbox.campaigns c
         where name = $1
           for update
        "#,
        name,
    )
    .fetch_optional(&mut *tx)
    .await
    .map_err(CampaignsError::Change)?
    .ok_or_else(|| CampaignsError::NoSuchCampaign(name.to_owned()))?;
    let next_at = match before.state.as_str() {
        "stopped" if before.busy => return Err(CampaignsError::StillStopping(name.to_owned())),
        "stopped" => next_after(before.now),
        _ => before.next_at,
    };
    sqlx::query!(
        "update outbox.campaigns set state = 'running', changed_at = now(), next_at = $2 where name = $1 and state <> 'running'",
        name,
        next_at
    )
    .execute(&mut *tx)
    .await
    .map_err(CampaignsError::Change)?;
    tx.commit().await.map_err(CampaignsError::Change)?;
    while release(pool).await? == BATCH as u64 {}
    Ok(before.state)
}

/// Lets jobs go that a pause holds whose campaign runs: a resume does it, and upkeep again and again, for what was admitted while the
/// resume was under way and held for a pause that is over. Returns how many of at most 500. Errors: `CampaignsError::Change`.
pub async fn release(pool: &PgPool) -> Result<u64, CampaignsError> {
    let mut tx = database::begin(pool).await.map_err(CampaignsError::Change)?;
    let held = sqlx::query_scalar!(
        r#"
        select held.id
          from outbox.campaigns c
         cross join lateral (
               select j.id
                 from outbox.jobs j
                where j.campaign = c.name and j.state = 'queued' and j.reason = 'campaign_paused'
                order by j.id
                limit $1
                  for update skip locked) held
         where c.state = 'running'
         limit $1
        "#,
        BATCH,
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(CampaignsError::Change)?;
    let released = hearing::let_go(&mut tx, &held).await.map_err(CampaignsError::Change)?;
    if released > 0 {
        // Workers that sleep are woken as by an insert.
        sqlx::query!("select pg_notify('outbox_jobs', '')")
            .fetch_one(&mut *tx)
            .await
            .map_err(CampaignsError::Change)?;
    }
    tx.commit().await.map_err(CampaignsError::Change)?;
    Ok(released)
}

/// Stopped campaigns that still have something to end.
pub async fn ending(pool: &PgPool) -> Result<Vec<String>, CampaignsError> {
    let mut tx = database::begin(pool).await.map_err(CampaignsError::Change)?;
    sqlx::query_scalar!(
        r#"
        select c.name
          from outbox.campaigns c
         where c.state = 'stopped'
           and (exists (select from outbox.enrolments e where e.campaign = c.name and e.state in ('active', 'held') offset 0)
                or exists (select from outbox.jobs j where j.campaign = c.name and j.state = 'queued' offset 0)
                or exists (select from outbox.ticks t where t.campaign = c.name and t.finished_at is null offset 0))
        "#
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(CampaignsError::Change)
}

/// What is ended, of one batch or of all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ended {
    pub enrolments: i64,
    pub jobs: i64,
}

impl Ended {
    pub fn is_nothing(self) -> bool {
        self == Ended::default()
    }
}

/// Ends up to 500 enrolments of a stopped campaign with the jobs that they wait for, and cancels up to 500 more jobs, which alone are counted.
/// Errors: `CampaignsError::Change`, nothing ended.
pub async fn end(pool: &PgPool, name: &str) -> Result<Ended, CampaignsError> {
    let mut races = 0;
    loop {
        match try_end(pool, name).await {
            Err(error) if races < MAX_RACES && is_conflict(&error) => races += 1,
            ended => return ended.map_err(CampaignsError::Change),
        }
    }
}

async fn try_end(pool: &PgPool, name: &str) -> Result<Ended, sqlx::Error> {
    let mut tx = database::begin(pool).await?;
    let stopped = sqlx::query_scalar!("select state from outbox.campaigns where name = $1 for share", name)
        .fetch_optional(&mut *tx)
        .await?;
    if stopped.as_deref() != Some("stopped") {
        return Ok(Ended::default());
    }
    let enrolments = sqlx::query_scalar!(
        r#"
        select outbox.stop_enrolments(
               array(select id
                       from outbox.enrolments
                      where campaign = $1 and state in ('active', 'held')
                      limit $2
                        for update skip locked), 'campaign_stopped') as "ended!"
        "#,
        name,
        BATCH,
    )
    .fetch_one(&mut *tx)
    .await?;
    let jobs = sqlx::query_scalar!(
        r#"
        select outbox.cancel_all(
               array(select id from outbox.jobs where campaign = $1 and state = 'queued' order by id limit $2)) as "canceled!"
        "#,
        name,
        BATCH,
    )
    .fetch_one(&mut *tx)
    .await?;
    sqlx::query!(
        r#"
        update outbox.ticks
           set state = 'skipped', reason = 'stopped', finished_at = clock_timestamp()
         where id = any (array(
               select id from outbox.ticks where campaign = $1 and finished_at is null for update skip locked))
        "#,
        name
    )
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(Ended { enrolments, jobs })
}

/// Lets a running campaign fire now, and returns the firing's id.
/// Errors: `NoSuchCampaign`, `NotRunning`, `Change`.
pub async fn fire(pool: &PgPool, name: &str) -> Result<i64, CampaignsError> {
    let mut tx = database::begin(pool).await.map_err(CampaignsError::Change)?;
    let campaign = sqlx::query!("select state, version from outbox.campaigns where name = $1 for share", name)
        .fetch_optional(&mut *tx)
        .await
        .map_err(CampaignsError::Change)?
        .ok_or_else(|| CampaignsError::NoSuchCampaign(name.to_owned()))?;
    if campaign.state != "running" {
        return Err(CampaignsError::NotRunning(name.to_owned(), campaign.state));
    }
    let id = sqlx::query_scalar!(
        r#"
        insert into outbox.ticks (campaign, at, version, state, manual)
        values ($1, clock_timestamp(), $2, 'new', true)
        returning id
        "#,
        name,
        campaign.version,
    )
    .fetch_one(&mut *tx)
    .await
    .map_err(CampaignsError::Change)?;
    tx.commit().await.map_err(CampaignsError::Change)?;
    Ok(id)
}
