//! What ends enrolments before their last step, or lets them go on sooner: the words of their people, here; a goal, in `outbox.goal`;
//! and a campaign that is stopped, in `manage`.

use chrono::{DateTime, Utc};
use sqlx::PgTransaction;

use crate::phone::Phone;
use crate::scope::Scope;

/// Somebody's words, as far as enrolments go.
#[derive(Debug, Clone, Copy)]
struct Said<'a> {
    phone: &'a Phone,
    /// Of a reply: when it was said.
    replied_at: Option<DateTime<Utc>>,
    /// Of a stop: what it covers.
    scope: Option<&'a Scope>,
}

/// Ends the enrolments of people who have written to us, where their campaign says so and has made a message for them. A reply from before the
/// enrolment is none to it; the two clocks may differ by half a minute. Jobs are locked after their enrolments: what ends a job passes
/// over an enrolment that is locked.
pub async fn replied(tx: &mut PgTransaction<'_>, replies: &[(&Phone, DateTime<Utc>)]) -> Result<i64, sqlx::Error> {
    let said = replies.iter().map(|(phone, at)| Said { phone, replied_at: Some(*at), scope: None });
    stop(tx, &said.collect::<Vec<_>>(), "replied").await
}

/// Ends the enrolments that these stops cover, where their campaign says so.
pub async fn opted_out(tx: &mut PgTransaction<'_>, stops: &[(&Phone, &Scope)]) -> Result<i64, sqlx::Error> {
    let said = stops.iter().map(|(phone, scope)| Said { phone, replied_at: None, scope: Some(scope) });
    stop(tx, &said.collect::<Vec<_>>(), "opted_out").await
}

/// Who have answered, or were let go: an enrolment of theirs whose step has come, and which waits for that, or for whatever else, is looked
/// at now. A wait goes on. One that is due already is written as well: an engine may have it in hand that has read what was known before,
/// and would let it wait. Whoever writes waits for that engine, and finds what it has written.
pub async fn look_again(tx: &mut PgTransaction<'_>, phones: &[String]) -> Result<(), sqlx::Error> {
    sqlx::query!(
        r#"
        update outbox.enrolments e
           set due_at = least(e.due_at, now())
         where e.phone = any ($1) and (e.state = 'active') is true and e.ready and not e.waiting and e.reached_at <= now()
        "#,
        phones
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn stop(tx: &mut PgTransaction<'_>, said: &[Said<'_>], why: &str) -> Result<i64, sqlx::Error> {
    if said.is_empty() {
        return Ok(0);
    }
    sqlx::query_scalar!(
        r#"
        select outbox.stop_enrolments(
               array(select e.id
                       from unnest($1::text[], $2::timestamptz[], $3::text[]) as u (phone, replied_at, scope)
                      cross join lateral (
                            select o.id, o.campaign, o.version, o.job_id, o.created_at
                              from outbox.enrolments o
                             -- "is true" as in outbox.wake_next: one person's, and not all that run.
                             where o.phone = u.phone and (o.state in ('active', 'held')) is true
                            offset 0) e
                       join outbox.campaign_versions v on v.campaign = e.campaign and v.version = e.version
                      where case when u.scope is null
                                 then 'reply' = any (v.stop_on) and e.job_id is not null
                                      and e.created_at < u.replied_at + interval '30 seconds'
                                 else 'opt_out' = any (v.stop_on) and outbox.in_scope(u.scope, e.campaign, v.labels)
                            end
                      order by e.id), $4) as "stopped!"
        "#,
        &said.iter().map(|said| said.phone.as_str().to_owned()).collect::<Vec<_>>(),
        &said.iter().map(|said| said.replied_at).collect::<Vec<_>>() as &[Option<DateTime<Utc>>],
        &said.iter().map(|said| said.scope.map(|scope| scope.as_str().to_owned())).collect::<Vec<_>>()
            as &[Option<String>],
        why,
    )
    .fetch_one(&mut **tx)
    .await
}
