//! Retention: what is finished and old is deleted, a kind of data at a time, in batches that hold nobody up.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{PgPool, PgTransaction};

use crate::database::{self, describe};
use crate::outbox::admit::interval;
use crate::outbox::campaigns::pruning;

/// Rows of one transaction.
pub(super) const BATCH: i64 = 1_000;
/// Jobs, or enrolments, that one transaction looks at: of some campaigns all stay.
pub(super) const LOOKED_AT: i64 = 5_000;

/// A kind of data that has a retention of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Ended jobs, with their attempts. Parked ones wait for a decision, and stay; so do those of enrolments that go on, whose conditions
    /// ask what became of them, and messages of campaigns for as long as the longest frequency cap counts them.
    FinishedJobs,
    /// Attempts of jobs that have ended, or are gone.
    Attempts,
    /// What people wrote to us: the event stays, its text goes.
    Texts,
    /// Applied events.
    Events,
    /// Enrolments that ended; a person's latest one stays while nobody may be enrolled again for it.
    Enrolments,
    /// That a campaign's goal was reached.
    Goals,
    /// Firings that are over, with whom they left out.
    Firings,
    /// The rows of files of versions that are not the newest one.
    Files,
}

/// What went wrong while old data was looked at or deleted.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    #[error("looking for old data: {}", describe(.0))]
    Look(#[source] sqlx::Error),
    #[error("deleting old data: {}", describe(.0))]
    Delete(#[source] sqlx::Error),
}

/// What a retention would delete.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Old {
    pub count: i64,
    pub oldest: Option<DateTime<Utc>>,
    /// As old, and kept, since they are not finished or still needed: parked jobs, jobs that campaigns still ask
    /// for, events that were not applied, enrolments that keep their people from being enrolled again.
    pub kept: i64,
}

/// The instant so long ago, by the database's clock.
pub async fn before(pool: &PgPool, age: Duration) -> Result<DateTime<Utc>, PruneError> {
    let mut tx = database::begin_plain(pool).await.map_err(PruneError::Look)?;
    sqlx::query_scalar!(r#"select now() - $1::interval as "before!""#, interval(age))
        .fetch_one(&mut *tx)
        .await
        .map_err(PruneError::Look)
}

/// Counts what is older than `before`, and deletes nothing. Source: the indexes by age; as long as what it counts.
pub async fn look(pool: &PgPool, kind: Kind, before: DateTime<Utc>) -> Result<Old, PruneError> {
    let mut tx = database::begin(pool).await.map_err(PruneError::Look)?;
    let old = match kind {
        Kind::FinishedJobs => look_at_jobs(&mut tx, before).await,
        Kind::Attempts => {
            sqlx::query_as!(
                Old,
                r#"
                select count(*) filter (where not is_kept) as "count!", min(started_at) filter (where not is_kept) as oldest,
                       count(*) filter (where is_kept) as "kept!"
                  from (select a.started_at,
                               exists (select from outbox.jobs j
                                        where j.id = a.job_id and (j.finished_at is null or j.state = 'parked') offset 0) as is_kept
                          from outbox.attempts a
                         where a.started_at < $1) old
                "#,
                before,
            )
            .fetch_one(&mut *tx)
            .await
        }
        Kind::Texts => {
            sqlx::query_as!(
                Old,
                r#"
                select count(*) filter (where applied_at is not null) as "count!",
                       min(received_at) filter (where applied_at is not null) as oldest,
                       count(*) filter (where applied_at is null) as "kept!"
                  from outbox.events
                 where received_at < $1 and body is not null
                "#,
                before,
            )
            .fetch_one(&mut *tx)
            .await
        }
        Kind::Events => {
            sqlx::query_as!(
                Old,
                r#"
                select count(*) filter (where applied_at is not null) as "count!",
                       min(received_at) filter (where applied_at is not null) as oldest,
                       count(*) filter (where applied_at is null) as "kept!"
                  from outbox.events
                 where received_at < $1
                "#,
                before,
            )
            .fetch_one(&mut *tx)
            .await
        }
        Kind::Enrolments => pruning::look_at_enrolments(&mut tx, before).await,
        Kind::Goals => pruning::look_at_goals(&mut tx, before).await,
        Kind::Firings => pruning::look_at_firings(&mut tx, before).await,
        Kind::Files => pruning::look_at_files(&mut tx, before).await,
    };
    old.map_err(PruneError::Look)
}

/// How far the deleting of one kind has come: rows that were deleted stand in the index until they are vacuumed, and rows that
/// are kept for good, and neither is to be read over by every batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(pub(super) DateTime<Utc>, pub(super) i64, pub(super) i64);

impl Default for Mark {
    fn default() -> Mark {
        Mark(DateTime::UNIX_EPOCH, 0, 0)
    }
}

/// Deletes up to 1,000 rows that are older than `before`, in a transaction of its own, and returns how many there were: none when
/// nothing is left. Rows that somebody else holds are left for another day.
/// Errors: `PruneError::Delete`, this batch not deleted.
pub async fn prune(pool: &PgPool, kind: Kind, before: DateTime<Utc>, mark: &mut Mark) -> Result<u64, PruneError> {
    loop {
        let mut tx = database::begin(pool).await.map_err(PruneError::Delete)?;
        let (deleted, next) = match kind {
            Kind::FinishedJobs => prune_jobs(&mut tx, before, *mark).await,
            Kind::Attempts => prune_attempts(&mut tx, before, *mark).await,
            Kind::Texts => prune_texts(&mut tx, before, *mark).await,
            Kind::Events => prune_events(&mut tx, before, *mark).await,
            Kind::Enrolments => pruning::prune_enrolments(&mut tx, before, *mark).await,
            Kind::Goals => pruning::prune_goals(&mut tx, before, *mark).await,
            Kind::Firings => pruning::prune_firings(&mut tx, before, *mark).await,
            Kind::Files => pruning::prune_files(&mut tx, before, *mark).await,
        }
        .map_err(PruneError::Delete)?;
        tx.commit().await.map_err(PruneError::Delete)?;
        // It may have read over rows that stay, and found none that goes; the mark moves on each time.
        let is_over = *mark == next;
        *mark = next;
        if deleted > 0 || is_over {
            return Ok(deleted);
        }
    }
}

/// What went with jobs that were deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Deleted {
    pub jobs: u64,
    pub attempts: u64,
}

/// Deletes jobs, whose rows the caller has locked, and all that is kept by their ids. A table that names jobs has
/// its line here; notifications say nothing without their job, and go by themselves after a week.
pub(super) async fn delete_jobs(tx: &mut PgTransaction<'_>, ids: &[i64]) -> Result<Deleted, sqlx::Error> {
    let attempts = sqlx::query!("delete from outbox.attempts where job_id = any ($1)", ids).execute(&mut **tx).await?;
    sqlx::query!("delete from outbox.lookups where job_id = any ($1)", ids).execute(&mut **tx).await?;
    let jobs = sqlx::query!("delete from outbox.jobs where id = any ($1)", ids).execute(&mut **tx).await?;
    Ok(Deleted { jobs: jobs.rows_affected(), attempts: attempts.rows_affected() })
}

async fn look_at_jobs(tx: &mut PgTransaction<'_>, before: DateTime<Utc>) -> Result<Old, sqlx::Error> {
    let longest_cap = pruning::longest_cap(tx).await?.map(interval);
    sqlx::query_as!(
        Old,
        r#"
        select count(*) filter (where not is_kept) as "count!", min(finished_at) filter (where not is_kept) as oldest,
               count(*) filter (where is_kept) as "kept!"
          from (select j.finished_at,
                       j.state = 'parked'
                       or exists (select from outbox.enrolments e where e.id = j.enrolment and e.finished_at is null offset 0)
                       or (j.campaign is not null and j.sent_at > now() - $2::interval) is true as is_kept
                  from outbox.jobs j
                 where j.finished_at < $1) old
        "#,
        before,
        longest_cap,
    )
    .fetch_one(&mut **tx)
    .await
}

/// Jobs are locked after it was seen which of them go: an enrolment that has ended does not begin again, and one of its jobs that is
/// tried again meanwhile is not finished any more.
async fn prune_jobs(tx: &mut PgTransaction<'_>, before: DateTime<Utc>, mark: Mark) -> Result<(u64, Mark), sqlx::Error> {
    let longest_cap = pruning::longest_cap(tx).await?.map(interval);
    let old = sqlx::query!(
        r#"
        with old as materialized (
            select id, finished_at, state, campaign, enrolment, sent_at
              from outbox.jobs
             where finished_at < $1 and (finished_at, id) > ($2, $3)
             order by finished_at, id
             limit $4
        )
        select j.id, j.finished_at as "finished_at!",
               (j.state = 'parked'
                or exists (select from outbox.enrolments e where e.id = j.enrolment and e.finished_at is null offset 0)
                or (j.campaign is not null and j.sent_at > now() - $5::interval) is true) as "is_kept!"
          from old j
         order by j.finished_at, j.id
        "#,
        before,
        mark.0,
        mark.1,
        LOOKED_AT,
        longest_cap,
    )
    .fetch_all(&mut **tx)
    .await?;
    let going: Vec<_> = old.iter().filter(|job| !job.is_kept).take(BATCH as usize).collect();
    let ids = sqlx::query_scalar!(
        r#"
        select id
          from outbox.jobs
         where id = any ($1) and (finished_at < $2 and state <> 'parked') is true
         order by id
           for update skip locked
        "#,
        &going.iter().map(|job| job.id).collect::<Vec<_>>(),
        before,
    )
    .fetch_all(&mut **tx)
    .await?;
    let deleted = delete_jobs(tx, &ids).await?;
    let last = if going.len() == BATCH as usize { going.last().copied() } else { old.last() };
    Ok((deleted.jobs, last.map_or(mark, |last| Mark(last.finished_at, last.id, 0))))
}

async fn prune_attempts(
    tx: &mut PgTransaction<'_>,
    before: DateTime<Utc>,
    mark: Mark,
) -> Result<(u64, Mark), sqlx::Error> {
    let gone = sqlx::query!(
        r#"
        with old as materialized (
            select a.job_id, a.claim, a.late
              from outbox.attempts a
             where a.started_at < $1 and a.started_at >= $2
               and not exists (select from outbox.jobs j
                                where j.id = a.job_id and (j.finished_at is null or j.state = 'parked') offset 0)
             order by a.started_at
             limit $3
        ), gone as (
            delete from outbox.attempts a using old
             where a.job_id = old.job_id and a.claim = old.claim and a.late = old.late
            returning a.started_at
        )
        select count(*) as "count!", max(started_at) as last from gone
        "#,
        before,
        mark.0,
        BATCH,
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok((gone.count.unsigned_abs(), gone.last.map_or(mark, |last| Mark(last, 0, 0))))
}

async fn prune_texts(
    tx: &mut PgTransaction<'_>,
    before: DateTime<Utc>,
    mark: Mark,
) -> Result<(u64, Mark), sqlx::Error> {
    let old = sqlx::query!(
        r#"
        select id, received_at
          from outbox.events
         where received_at < $1 and (received_at, id) > ($2, $3) and body is not null and applied_at is not null
         order by received_at, id
         limit $4
           for update skip locked
        "#,
        before,
        mark.0,
        mark.1,
        BATCH,
    )
    .fetch_all(&mut **tx)
    .await?;
    let ids: Vec<i64> = old.iter().map(|event| event.id).collect();
    let gone =
        sqlx::query!("update outbox.events set body = null where id = any ($1)", &ids).execute(&mut **tx).await?;
    Ok((gone.rows_affected(), old.last().map_or(mark, |last| Mark(last.received_at, last.id, 0))))
}

async fn prune_events(
    tx: &mut PgTransaction<'_>,
    before: DateTime<Utc>,
    mark: Mark,
) -> Result<(u64, Mark), sqlx::Error> {
    let old = sqlx::query!(
        r#"
        select id, received_at
          from outbox.events
         where received_at < $1 and (received_at, id) > ($2, $3) and applied_at is not null
         order by received_at, id
         limit $4
           for update skip locked
        "#,
        before,
        mark.0,
        mark.1,
        BATCH,
    )
    .fetch_all(&mut **tx)
    .await?;
    let ids: Vec<i64> = old.iter().map(|event| event.id).collect();
    let gone = sqlx::query!("delete from outbox.events where id = any ($1)", &ids).execute(&mut **tx).await?;
    Ok((gone.rows_affected(), old.last().map_or(mark, |last| Mark(last.received_at, last.id, 0))))
}
