//! Jobs that must not be sent any more: admission and claim look by themselves; this is the last look before a call.

use std::collections::HashSet;

use sqlx::PgPool;

use crate::database;
use crate::outbox::OutboxError;

/// Which of these jobs must not be sent now: their recipient is suppressed in their scope, or held for a person to look at; or their
/// campaign is paused or stopped, or their enrolment was ended.
/// Source: invariant 6.
pub async fn stopped(pool: &PgPool, job_ids: &[i64]) -> Result<HashSet<i64>, OutboxError> {
    let mut tx = database::begin(pool).await.map_err(OutboxError::Suppressions)?;
    let found = sqlx::query_scalar!(
        r#"
        select j.id
          from outbox.jobs j
         where j.id = any ($1) and not j.past_suppression
           and (exists (select from outbox.suppressions s
                         where s.phone = j.phone and outbox.in_scope(s.scope, j.campaign, j.labels) offset 0)
                or exists (select from outbox.erased e
                            where e.phone_hash = outbox.phone_hash(j.phone)
                              and outbox.in_scope(e.scope, j.campaign, j.labels) offset 0)
                or exists (select from outbox.recipients r
                            where r.phone = j.phone and r.review_since is not null offset 0)
                or exists (select from outbox.campaigns c where c.name = j.campaign and c.state <> 'running' offset 0)
                or exists (select from outbox.enrolments e
                            where e.id = j.enrolment and e.state = 'stopped'
                              and e.reason in ('replied', 'opted_out', 'goal', 'campaign_stopped') offset 0))
        "#,
        job_ids
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(OutboxError::Suppressions)?;
    tx.commit().await.map_err(OutboxError::Suppressions)?;
    Ok(found.into_iter().collect())
}
