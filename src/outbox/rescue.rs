//! Rescue: jobs whose lease ran out were in the hands of a worker that died. Nobody knows whether the call was made, so
//! it counts as an attempt with unknown outcome, and the job is asked again with its own key.

use sqlx::PgPool;

use crate::database;
use crate::outbox::OutboxError;
use crate::outbox::admit::{wake_after_commit, wake_next};
use crate::outbox::progress::announce;

/// The most jobs that one call takes over.
const MAX_RESCUES: i64 = 500;

/// What a sweep found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rescued {
    /// Jobs that will be asked again.
    pub queued: i64,
    /// Jobs without attempts left: a person decides.
    pub parked: i64,
}

/// Takes over up to 500 jobs whose lease has run out, for `worker`. Safe to run from any number of workers.
/// Source: design 6, last rows; invariant 1.
pub async fn rescue(pool: &PgPool, worker: &str) -> Result<Rescued, OutboxError> {
    let mut tx = database::begin(pool).await.map_err(OutboxError::Rescue)?;
    let rescued = sqlx::query!(
        r#"
        with dead as materialized (
            select id, claims, worker, line_id, lease_until, attempt + 1 >= max_attempts as exhausted
              from outbox.jobs
             where lease_until < now()
             order by lease_until
             limit $1
               for update skip locked
        ), noted as (
            insert into outbox.attempts (job_id, claim, outcome, started_at, line_id, worker, message)
            select id, claims, 'unknown', lease_until, line_id, $2, 'its worker died or lost touch before the outcome was recorded'
              from dead
                on conflict do nothing
        ), freed as (
            update outbox.jobs j
               set state = case when dead.exhausted then 'parked' else 'queued' end,
                   reason = 'outcome_unknown', attempt = j.attempt + 1,
                   unknown_since = coalesce(j.unknown_since, j.lease_until),
                   ready = false, wake_at = case when not dead.exhausted then now() end,
                   lease_until = null, worker = null,
                   error_message = 'its worker died or lost touch before the outcome was recorded',
                   finished_at = case when dead.exhausted then now() end
              from dead
             where j.id = dead.id
            returning j.id, j.phone, j.state
        )
        select count(*) filter (where state = 'queued') as "queued!", count(*) filter (where state = 'parked') as "parked!",
               coalesce(array_agg(phone) filter (where state = 'parked'), '{}') as "ended!",
               coalesce(array_agg(id) filter (where state = 'parked'), '{}') as "parked_ids!"
          from freed
        "#,
        MAX_RESCUES,
        worker,
    )
    .fetch_one(&mut *tx)
    .await
    .map_err(OutboxError::Rescue)?;
    wake_next(&mut tx, &rescued.ended).await.map_err(OutboxError::Rescue)?;
    announce(&mut tx, &rescued.parked_ids, "parked").await.map_err(OutboxError::Rescue)?;
    tx.commit().await.map_err(OutboxError::Rescue)?;
    wake_after_commit(pool, &rescued.ended).await;
    Ok(Rescued { queued: rescued.queued, parked: rescued.parked })
}

/// Sends up to `limit` waiting or ready jobs whose time is over back to admission, which ends them: one that stands in
/// the queue of a paused line would never be looked at again.
pub async fn expire(pool: &PgPool, limit: i64) -> Result<u64, OutboxError> {
    let mut tx = database::begin(pool).await.map_err(OutboxError::Rescue)?;
    let expired = sqlx::query!(
        r#"
        update outbox.jobs
           set ready = false, wake_at = now()
         where id = any (array(select id from outbox.jobs
                                where state = 'queued' and expires_at <= now() and (ready or wake_at > now())
                                order by expires_at limit $1 for update skip locked))
        "#,
        limit,
    )
    .execute(&mut *tx)
    .await
    .map_err(OutboxError::Rescue)?
    .rows_affected();
    tx.commit().await.map_err(OutboxError::Rescue)?;
    Ok(expired)
}
