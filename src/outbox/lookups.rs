//! The messages whose delivery is followed: entered when they are sent, taken when a look is due, gone when they are settled.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::postgres::types::PgInterval;
use sqlx::{PgPool, PgTransaction};

use crate::chert::messages::Message;
use crate::database;
use crate::delivery::{LOOKS, Look, Verdict, judge};
use crate::outbox::OutboxError;
use crate::outbox::admit::interval;
use crate::outbox::progress::announce_each;

/// A message that its taker shall look at before the lease is over.
#[derive(Debug, Clone)]
pub struct Lookup {
    pub job_id: i64,
    /// The fence: every later write names it.
    pub looks: i32,
    pub message_id: String,
    /// What is known of its delivery.
    pub state: String,
    /// Since it was sent.
    pub age: Duration,
}

/// Begins to follow messages: each is a job, its message and when it was sent.
pub(super) async fn follow(
    tx: &mut PgTransaction<'_>,
    sent: &[(i64, String, DateTime<Utc>)],
) -> Result<(), sqlx::Error> {
    if sent.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        r#"
        insert into outbox.lookups (job_id, message_id, sent_at, due_at)
        select u.job_id, u.message_id, u.sent_at, u.sent_at + $4::interval
          from unnest($1::bigint[], $2::text[], $3::timestamptz[]) as u (job_id, message_id, sent_at)
            on conflict (job_id) do nothing
        "#,
        &sent.iter().map(|(job, _, _)| *job).collect::<Vec<_>>(),
        &sent.iter().map(|(_, message, _)| message.clone()).collect::<Vec<_>>(),
        &sent.iter().map(|(_, _, at)| *at).collect::<Vec<_>>(),
        interval(LOOKS[0]),
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Takes at most `limit` messages whose look is due, the longest overdue first, for as long as `lease`; none while the account is
/// blocked, since what Chert refuses or has no time for would be in the way of sends.
/// Errors: `OutboxError::Lookups`, nothing taken.
pub async fn take(pool: &PgPool, limit: i64, lease: Duration) -> Result<Vec<Lookup>, OutboxError> {
    let mut tx = database::begin(pool).await.map_err(OutboxError::Lookups)?;
    let taken = sqlx::query!(
        r#"
        update outbox.lookups
           set looks = looks + 1, due_at = clock_timestamp() + $2::interval
         where job_id = any (array(select job_id from outbox.lookups
                                    where due_at <= now()
                                      and not exists (select from outbox.account
                                                       where block_kind = 'halted' or blocked_until > clock_timestamp())
                                    order by due_at limit $1 for update skip locked))
        returning job_id, looks, message_id, state, extract(epoch from clock_timestamp() - sent_at)::float8 as "age_secs!"
        "#,
        limit,
        interval(lease),
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(OutboxError::Lookups)?;
    tx.commit().await.map_err(OutboxError::Lookups)?;
    Ok(taken
        .into_iter()
        .map(|row| Lookup {
            job_id: row.job_id,
            looks: row.looks,
            message_id: row.message_id,
            state: row.state,
            age: Duration::from_secs_f64(row.age_secs.max(0.0)),
        })
        .collect())
}

/// How long until the next look is due, zero if one is; none if no message is followed.
pub async fn next_in(pool: &PgPool) -> Result<Option<Duration>, OutboxError> {
    let mut tx = database::begin(pool).await.map_err(OutboxError::Lookups)?;
    let secs = sqlx::query_scalar!(
        r#"
        select extract(epoch from due_at - clock_timestamp())::float8 as "secs!"
          from outbox.lookups
         order by due_at
         limit 1
        "#
    )
    .fetch_optional(&mut *tx)
    .await
    .map_err(OutboxError::Lookups)?;
    Ok(secs.map(|secs| Duration::from_secs_f64(secs.max(0.0))))
}

/// Records what looks brought, in one transaction, and returns how many counted: one whose message somebody else has taken
/// meanwhile, or an event has told of, does not.
/// Errors: `OutboxError::Lookups`, nothing recorded.
pub async fn note(pool: &PgPool, looks: &[(Lookup, Look)]) -> Result<u64, OutboxError> {
    let mut tx = database::begin(pool).await.map_err(OutboxError::Lookups)?;
    let held = sqlx::query!(
        r#"
        select l.job_id, clock_timestamp() as "now!"
          from unnest($1::bigint[], $2::int[]) as u (job_id, looks)
          join outbox.lookups l on l.job_id = u.job_id and l.looks = u.looks
           for update of l skip locked
        "#,
        &looks.iter().map(|(lookup, _)| lookup.job_id).collect::<Vec<_>>(),
        &looks.iter().map(|(lookup, _)| lookup.looks).collect::<Vec<_>>(),
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(OutboxError::Lookups)?;
    let verdicts: Vec<(i64, Verdict)> = looks
        .iter()
        .filter_map(|(lookup, look)| {
            let row = held.iter().find(|row| row.job_id == lookup.job_id)?;
            Some((lookup.job_id, judge(&lookup.state, lookup.age, look, row.now)))
        })
        .collect();
    write(&mut tx, &verdicts).await.map_err(OutboxError::Lookups)?;
    tx.commit().await.map_err(OutboxError::Lookups)?;
    Ok(verdicts.len() as u64)
}

/// Gives back what was taken and not looked at, to be looked at after `wait`.
pub async fn put_back(pool: &PgPool, lookups: &[Lookup], wait: Duration) -> Result<(), OutboxError> {
    let mut tx = database::begin(pool).await.map_err(OutboxError::Lookups)?;
    sqlx::query!(
        r#"
        update outbox.lookups l
           set due_at = clock_timestamp() + $3::interval
          from unnest($1::bigint[], $2::int[]) as u (job_id, looks)
         where l.job_id = u.job_id and l.looks = u.looks
        "#,
        &lookups.iter().map(|lookup| lookup.job_id).collect::<Vec<_>>(),
        &lookups.iter().map(|lookup| lookup.looks).collect::<Vec<_>>(),
        interval(wait),
    )
    .execute(&mut *tx)
    .await
    .map_err(OutboxError::Lookups)?;
    tx.commit().await.map_err(OutboxError::Lookups)
}

/// An event says that a message came to `state` (`delivered`, `read`, `failed`, or any other word) at `at`: what a look would
/// have found out later. Returns the jobs that sent it; none if nobody follows it, because it is settled or not recorded yet.
pub async fn told(
    tx: &mut PgTransaction<'_>,
    message_id: &str,
    state: &str,
    at: DateTime<Utc>,
) -> Result<Vec<i64>, sqlx::Error> {
    let followed = sqlx::query!(
        r#"
        select job_id, state, extract(epoch from clock_timestamp() - sent_at)::float8 as "age_secs!"
          from outbox.lookups
         where message_id = $1
         order by job_id
           for update
        "#,
        message_id,
    )
    .fetch_all(&mut **tx)
    .await?;
    let look = Look::Seen(Message { status: Some(state.to_owned()), ..Message::default() });
    let verdicts: Vec<(i64, Verdict)> = followed
        .into_iter()
        .map(|row| (row.job_id, judge(&row.state, Duration::from_secs_f64(row.age_secs.max(0.0)), &look, at)))
        .collect();
    write(tx, &verdicts).await?;
    Ok(verdicts.into_iter().map(|(job, _)| job).collect())
}

/// Writes verdicts of messages whose rows this transaction has locked.
async fn write(tx: &mut PgTransaction<'_>, verdicts: &[(i64, Verdict)]) -> Result<(), sqlx::Error> {
    if verdicts.is_empty() {
        return Ok(());
    }
    let (open, settled): (Vec<_>, Vec<_>) = verdicts.iter().partition(|(_, verdict)| verdict.next.is_some());
    let open: Vec<&(i64, Verdict)> = open;
    let settled: Vec<i64> = settled.into_iter().map(|(job, _)| *job).collect();
    // Its fence moves too: a look that is under way knows less than this.
    sqlx::query!(
        r#"
        update outbox.lookups l
           set looks = l.looks + 1, state = u.state, due_at = l.sent_at + u.next
          from unnest($1::bigint[], $2::text[], $3::interval[]) as u (job_id, state, next)
         where l.job_id = u.job_id
        "#,
        &open.iter().map(|(job, _)| *job).collect::<Vec<_>>(),
        &open.iter().map(|(_, verdict)| verdict.state.clone()).collect::<Vec<_>>(),
        &open.iter().map(|(_, verdict)| verdict.next.map(interval)).collect::<Vec<_>>() as &[Option<PgInterval>],
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!("delete from outbox.lookups where job_id = any ($1)", &settled).execute(&mut **tx).await?;
    sqlx::query!(
        r#"
        update outbox.jobs j
           set delivery_state = u.state,
               delivered_at = case when u.state <> 'failed' then coalesce(j.delivered_at, u.delivered_at) end,
               read_at = coalesce(j.read_at, u.read_at)
          from unnest($1::bigint[], $2::text[], $3::timestamptz[], $4::timestamptz[]) as u (id, state, delivered_at, read_at)
         where j.id = u.id and j.state = 'sent'
           and (j.delivery_state is distinct from u.state or u.read_at is not null)
        "#,
        &verdicts.iter().map(|(job, _)| *job).collect::<Vec<_>>(),
        &verdicts.iter().map(|(_, verdict)| verdict.state.clone()).collect::<Vec<_>>(),
        &verdicts.iter().map(|(_, verdict)| verdict.delivered_at).collect::<Vec<_>>() as &[Option<DateTime<Utc>>],
        &verdicts.iter().map(|(_, verdict)| verdict.read_at).collect::<Vec<_>>() as &[Option<DateTime<Utc>>],
    )
    .execute(&mut **tx)
    .await?;
    let news: Vec<(i64, &str)> =
        verdicts.iter().flat_map(|(job, verdict)| verdict.news.iter().map(|word| (*job, *word))).collect();
    announce_each(tx, &news).await
}
