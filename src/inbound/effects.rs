//! The statements of applying: each writes one effect of a batch of events, in the transaction that applies it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{PgPool, PgTransaction};
use tracing::warn;

use crate::config::ReplyOptions;
use crate::database;
use crate::inbound::InboundError;
use crate::inbound::event::Incoming;
use crate::inbound::weigh::{Before, Read, Verdict};
use crate::outbox::admit::interval;
use crate::outbox::lookups;
use crate::outbox::progress::announce;
use crate::phone::Phone;

/// A stored event that waits to be applied.
pub(super) struct Stored {
    pub id: i64,
    pub received_at: DateTime<Utc>,
    pub event: Incoming,
}

/// The message that a reply most likely answers.
pub(super) struct Answered {
    pub job_id: i64,
    pub campaign: Option<String>,
}

pub(super) fn phones<'a>(verdicts: impl IntoIterator<Item = (&'a Phone, &'a Verdict)>) -> Vec<String> {
    verdicts.into_iter().map(|(phone, _)| phone.as_str().to_owned()).collect()
}

/// Whether this is the one applier. A process that is frozen in the middle loses the lock, and its transaction, within two seconds;
/// and nobody's stop waits long for a row that another transaction holds.
pub(super) async fn lock(tx: &mut PgTransaction<'_>, lock_wait: Duration) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        select set_config('idle_in_transaction_session_timeout', '2s', true) is not null
           and set_config('lock_timeout', $1, true) is not null
           and pg_try_advisory_xact_lock(hashtext('chert-outbox'), hashtext('apply')) as "mine!"
        "#,
        format!("{}ms", lock_wait.as_millis()),
    )
    .fetch_one(&mut **tx)
    .await
}

pub(super) async fn read_events(
    tx: &mut PgTransaction<'_>,
    after: i64,
    limit: i64,
) -> Result<Vec<Stored>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"
        select id, event_id, type as kind, body, occurred_at, received_at
          from outbox.events
         where applied_at is null and id > $2
         order by id
         limit $1
        "#,
        limit,
        after,
    )
    .fetch_all(&mut **tx)
    .await?;
    let stored = rows.into_iter().map(|row| Stored {
        id: row.id,
        received_at: row.received_at,
        event: Incoming {
            event_id: row.event_id,
            kind: row.kind,
            occurred_at: row.occurred_at,
            phone: None,
            body: row.body.unwrap_or_default(),
        },
    });
    Ok(stored.collect())
}

pub(super) async fn read_before(
    tx: &mut PgTransaction<'_>,
    reads: &[Read],
) -> Result<HashMap<String, Before>, sqlx::Error> {
    let senders: Vec<String> =
        reads.iter().filter_map(|read| Some(read.message.as_ref()?.0.from.as_str().to_owned())).collect();
    let rows =
        sqlx::query!("select phone, opted_out_at, opted_in_at from outbox.recipients where phone = any ($1)", &senders)
            .fetch_all(&mut **tx)
            .await?;
    let before = |opted_out_at, opted_in_at| Before { opted_out_at, opted_in_at };
    Ok(rows.into_iter().map(|row| (row.phone, before(row.opted_out_at, row.opted_in_at))).collect())
}

/// For each event, the newest message that had been sent to its sender when it was written. The two clocks may differ a little: half a
/// minute is allowed for that, but nothing that was sent after the event had arrived.
pub(super) async fn find_answered(
    tx: &mut PgTransaction<'_>,
    stored: &[Stored],
    reads: &[Read],
) -> Result<Vec<Option<Answered>>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"
        select answered.id as "job_id?", answered.campaign as "campaign?"
          from unnest($1::text[], $2::timestamptz[], $3::timestamptz[]) with ordinality as u (phone, at, received_at, n)
          left join lateral (
               select j.id, j.campaign
                 from outbox.jobs j
                where j.phone = u.phone and j.sent_at <= least(u.received_at, u.at + interval '30 seconds')
                order by j.sent_at desc
                limit 1) answered on true
         order by u.n
        "#,
        &reads.iter().map(|read| Some(read.message.as_ref()?.0.from.as_str().to_owned())).collect::<Vec<_>>()
            as &[Option<String>],
        &reads.iter().map(|read| read.at).collect::<Vec<_>>(),
        &stored.iter().map(|stored| stored.received_at).collect::<Vec<_>>(),
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows.into_iter().map(|row| row.job_id.map(|job_id| Answered { job_id, campaign: row.campaign })).collect())
}

/// The one text that a stop is answered with, itself let past the suppression; too late it is not sent at all.
pub(super) async fn confirm(
    tx: &mut PgTransaction<'_>,
    stops: &BTreeMap<Phone, i64>,
    options: &ReplyOptions,
) -> Result<(), sqlx::Error> {
    if stops.is_empty() || options.opt_out_text.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        r#"
        insert into outbox.jobs (phone, body, dedupe_key, priority, expires_at, labels, past_suppression)
        select u.phone, $3, 'opt-out-confirmation:' || u.event, -32768, now() + $4::interval,
               '{"outbox": "opt-out-confirmation"}', true
          from unnest($1::text[], $2::bigint[]) as u (phone, event)
            on conflict on constraint jobs_dedupe_key_key do nothing
        "#,
        &stops.keys().map(|phone| phone.as_str().to_owned()).collect::<Vec<_>>(),
        &stops.values().copied().collect::<Vec<_>>(),
        options.opt_out_text,
        interval(options.opt_out_within),
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// A start takes back what a stop did, and nothing that an operator decided.
pub(super) async fn lift(tx: &mut PgTransaction<'_>, phones: &[String]) -> Result<(), sqlx::Error> {
    if !phones.is_empty() {
        sqlx::query!("delete from outbox.suppressions where phone = any ($1) and source = 'reply'", phones)
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

/// Who has written is nobody who leaves us unanswered, and no first touch any more: what waited for that is looked at again.
pub(super) async fn wake(tx: &mut PgTransaction<'_>, phones: &[String]) -> Result<(), sqlx::Error> {
    sqlx::query!(
        r#"
        update outbox.jobs j
           set ready = false, wake_at = now(), reason = null
         where j.phone = any ($1) and j.state in ('queued', 'sending')
           and (j.state = 'queued' and (j.reason = 'unanswered' or j.ready and j.first_touch)) is true
        "#,
        phones
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub(super) async fn mark_answered(
    tx: &mut PgTransaction<'_>,
    reads: &[Read],
    answered: &[Option<Answered>],
) -> Result<(), sqlx::Error> {
    let mut first: BTreeMap<i64, (DateTime<Utc>, Option<DateTime<Utc>>)> = BTreeMap::new();
    for (read, answered) in reads.iter().zip(answered) {
        if let Some(job) = answered {
            let (at, stopped_at) = first.entry(job.job_id).or_insert((read.at, None));
            *at = read.at.min(*at);
            if read.effect() == "opt_out" {
                *stopped_at = Some(stopped_at.map_or(read.at, |earlier| earlier.min(read.at)));
            }
        }
    }
    sqlx::query!(
        r#"
        update outbox.jobs j
           set replied_at = least(j.replied_at, u.at), opted_out_at = least(j.opted_out_at, u.stopped_at)
          from unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[]) as u (id, at, stopped_at)
         where j.id = u.id
        "#,
        &first.keys().copied().collect::<Vec<_>>(),
        &first.values().map(|(at, _)| *at).collect::<Vec<_>>(),
        &first.values().map(|(_, stopped_at)| *stopped_at).collect::<Vec<_>>() as &[Option<DateTime<Utc>>],
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// After the jobs, as the recorder does: two transactions that lock both in one order cannot wait for each other.
pub(super) async fn touch_recipients(
    tx: &mut PgTransaction<'_>,
    verdicts: &BTreeMap<Phone, Verdict>,
) -> Result<(), sqlx::Error> {
    let of = |field: fn(&Verdict) -> Option<String>| verdicts.values().map(field).collect::<Vec<_>>();
    sqlx::query!(
        r#"
        insert into outbox.recipients as r (phone, line_id, last_inbound_at, opted_out_at, opted_in_at, review_since, review_reason)
        select u.phone, l.id, u.at, u.opted_out_at, u.opted_in_at, case when u.review is not null then now() end, u.review
          from unnest($1::text[], $2::timestamptz[], $3::timestamptz[], $4::timestamptz[], $5::text[], $6::text[])
            as u (phone, at, opted_out_at, opted_in_at, review, line_number)
          left join lateral (
               select l.id from outbox.lines l where l.number = u.line_number and l.removed_at is null limit 1) l on true
            on conflict (phone) do update
           set line_id = coalesce(r.line_id, excluded.line_id),
               last_inbound_at = greatest(r.last_inbound_at, excluded.last_inbound_at),
               -- What went out after they wrote is still unanswered; how much of it, is counted in the index.
               unanswered = case when r.last_outbound_at > excluded.last_inbound_at
                                 then least(r.unanswered, greatest(1, (
                                      select count(*)
                                        from (select from outbox.jobs j
                                               where j.phone = r.phone and j.sent_at > excluded.last_inbound_at
                                               limit 100) later)))
                                 else 0 end,
               opted_out_at = excluded.opted_out_at, opted_in_at = excluded.opted_in_at,
               review_since = coalesce(r.review_since, excluded.review_since),
               review_reason = coalesce(r.review_reason, excluded.review_reason)
        "#,
        &phones(verdicts),
        &verdicts.values().map(|verdict| verdict.last_inbound_at).collect::<Vec<_>>(),
        &verdicts.values().map(|verdict| verdict.opted_out_at).collect::<Vec<_>>() as &[Option<DateTime<Utc>>],
        &verdicts.values().map(|verdict| verdict.opted_in_at).collect::<Vec<_>>() as &[Option<DateTime<Utc>>],
        &of(|verdict| verdict.review.clone()) as &[Option<String>],
        &of(|verdict| verdict.line_number.clone()) as &[Option<String>],
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// What a look would have found out later.
pub(super) async fn follow_deliveries(tx: &mut PgTransaction<'_>, reads: &[Read]) -> Result<(), sqlx::Error> {
    for read in reads {
        if let Some((message_id, state)) = &read.delivery {
            lookups::told(tx, message_id, state, read.at).await?;
        }
    }
    Ok(())
}

/// Tells the producer which of its messages were answered, and which by a stop.
pub(super) async fn tell(
    tx: &mut PgTransaction<'_>,
    reads: &[Read],
    answered: &[Option<Answered>],
) -> Result<(), sqlx::Error> {
    let answered_by = |stops: bool| {
        let said = reads.iter().zip(answered).filter(|(read, _)| (read.effect() == "opt_out") == stops);
        let jobs: BTreeSet<i64> = said.filter_map(|(_, job)| Some(job.as_ref()?.job_id)).collect();
        jobs.into_iter().collect::<Vec<_>>()
    };
    announce(tx, &answered_by(false), "replied").await?;
    announce(tx, &answered_by(true), "opted_out").await
}

pub(super) async fn finish(
    tx: &mut PgTransaction<'_>,
    stored: &[Stored],
    reads: &[Read],
    answered: &[Option<Answered>],
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        r#"
        update outbox.events e
           set applied_at = clock_timestamp(), effect = u.effect, job_id = u.job_id
          from unnest($1::bigint[], $2::text[], $3::bigint[]) as u (id, effect, job_id)
         where e.id = u.id
        "#,
        &stored.iter().map(|stored| stored.id).collect::<Vec<_>>(),
        &reads.iter().map(|read| read.effect().to_owned()).collect::<Vec<_>>(),
        &answered.iter().map(|job| job.as_ref().map(|job| job.job_id)).collect::<Vec<_>>() as &[Option<i64>],
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// An event that waits, and who wrote it.
pub(super) struct Waiting {
    pub id: i64,
    pub phone: Option<String>,
}

/// The oldest events that wait behind this one.
pub(super) async fn waiting(pool: &PgPool, after: i64, limit: i64) -> Result<Vec<Waiting>, InboundError> {
    let mut tx = database::begin(pool).await.map_err(InboundError::Apply)?;
    sqlx::query_as!(
        Waiting,
        "select id, phone from outbox.events where applied_at is null and id > $1 order by id limit $2",
        after,
        limit,
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(InboundError::Apply)
}

/// Puts an event aside, which the database refuses to apply.
pub(super) async fn put_aside(pool: &PgPool, id: i64) -> Result<(), InboundError> {
    let mut tx = database::begin(pool).await.map_err(InboundError::Apply)?;
    sqlx::query!(
        "update outbox.events set applied_at = clock_timestamp(), effect = 'unreadable' where id = $1 and applied_at is null",
        id
    )
    .execute(&mut *tx)
    .await
    .map_err(InboundError::Apply)?;
    warn!(event.id = id, "Event {id} cannot be applied and is put aside: chert-outbox events tail shows it");
    tx.commit().await.map_err(InboundError::Apply)
}
