//! Suppressing a recipient: from the commit on, nothing of theirs is claimed, and what waited has ended.

use sqlx::PgTransaction;

use crate::outbox::admit::wake_next;
use crate::phone::Phone;

/// The scope that covers every job.
pub const ALL: &str = "all";

/// What a suppression did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Suppressed {
    /// Whether it was not there before.
    pub new: bool,
    /// Jobs that ended by it.
    pub jobs: i64,
}

/// Suppresses a recipient for the jobs in `scope` (`all`, `campaign=NAME` or `LABEL=VALUE`), in the caller's transaction. Their queued
/// jobs end as `suppressed`; one that may be on the phone already, since its outcome is unknown, is parked: it must not be called
/// unsent. What is being sent is finished, and looked at again before it is asked once more. `event_id` is the event that says so.
/// Source: design 7, invariant 6.
pub async fn suppress(
    tx: &mut PgTransaction<'_>,
    phone: &Phone,
    scope: &str,
    reason: &str,
    source: &str,
    event_id: Option<&str>,
) -> Result<Suppressed, sqlx::Error> {
    let done = sqlx::query!(
        r#"
        with added as (
            insert into outbox.suppressions (phone, scope, reason, source, event_id)
            values ($1, $2, $3, $4, $5)
                on conflict do nothing
            returning phone
        ), ended as (
            update outbox.jobs j
               set state = case when j.unknown_since is null then 'suppressed' else 'parked' end,
                   reason = case when j.unknown_since is null then 'suppressed' else 'outcome_unknown' end,
                   ready = false, wake_at = null, finished_at = now()
             where j.phone = $1 and j.state in ('queued', 'sending') and (j.state = 'queued') is true
               and not j.past_suppression and outbox.in_scope($2, j.campaign, j.labels)
            returning j.id
        )
        select exists (select from added) as "new!", (select count(*) from ended) as "jobs!"
        "#,
        phone.as_str(),
        scope,
        reason,
        source,
        event_id,
    )
    .fetch_one(&mut **tx)
    .await?;
    if scope != ALL && done.jobs > 0 {
        wake_next(tx, &[phone.as_str().to_owned()]).await?;
    }
    Ok(Suppressed { new: done.new, jobs: done.jobs })
}
