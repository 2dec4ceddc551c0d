//! What ends enrolments before their last step: the words of their people, here; a goal, in `outbox.goal`; and a campaign that is
//! stopped, in `manage`.

use chrono::{DateTime, Utc};
use sqlx::PgTransaction;

use crate::phone::Phone;
use crate::scope::Scope;

/// Ends the enrolments of people who have written to us, where their campaign says so and has written to them. A reply from before the
/// enrolment is none to it; the two clocks may differ by half a minute. Jobs are locked after their enrolments: what ends a job passes
/// over an enrolment that is locked.
pub async fn replied(tx: &mut PgTransaction<'_>, replies: &[(&Phone, DateTime<Utc>)]) -> Result<i64, sqlx::Error> {
    if replies.is_empty() {
        return Ok(0);
    }
    let stopped = sqlx::query_scalar!(
        r#"
        select outbox.stop_enrolments(
               array(select e.id
                       from unnest($1::text[], $2::timestamptz[]) as u (phone, at)
                      cross join lateral (
                            select o.id, o.campaign, o.version
                              from outbox.enrolments o
                             -- "is true" as in outbox.wake_next: one person's, and not all that run.
                             where o.phone = u.phone and (o.state in ('active', 'held')) is true and o.job_id is not null
                               and o.created_at < u.at + interval '30 seconds'
                            offset 0) e
                       join outbox.campaign_versions v on v.campaign = e.campaign and v.version = e.version
                      where 'reply' = any (v.stop_on)
                      order by e.id), 'replied') as "stopped!"
        "#,
        &replies.iter().map(|(phone, _)| phone.as_str().to_owned()).collect::<Vec<_>>(),
        &replies.iter().map(|(_, at)| *at).collect::<Vec<_>>(),
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(stopped)
}

/// Ends the enrolments that these stops cover, where their campaign says so.
pub async fn opted_out(tx: &mut PgTransaction<'_>, stops: &[(&Phone, &Scope)]) -> Result<i64, sqlx::Error> {
    if stops.is_empty() {
        return Ok(0);
    }
    let stopped = sqlx::query_scalar!(
        r#"
        select outbox.stop_enrolments(
               array(select e.id
                       from unnest($1::text[], $2::text[]) as u (phone, scope)
                      cross join lateral (
                            select o.id, o.campaign, o.version
                              from outbox.enrolments o
                             where o.phone = u.phone and (o.state in ('active', 'held')) is true
                            offset 0) e
                       join outbox.campaign_versions v on v.campaign = e.campaign and v.version = e.version
                      where 'opt_out' = any (v.stop_on) and outbox.in_scope(u.scope, e.campaign, v.labels)
                      order by e.id), 'opted_out') as "stopped!"
        "#,
        &stops.iter().map(|(phone, _)| phone.as_str().to_owned()).collect::<Vec<_>>(),
        &stops.iter().map(|(_, scope)| scope.as_str().to_owned()).collect::<Vec<_>>(),
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(stopped)
}
