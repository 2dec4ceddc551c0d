//! Admission: each due row is looked at once, and either stands ready in the queue of its line and class, or waits for
//! the instant at which what holds it may be gone. Claims then never meet a row that cannot go.

use std::time::Duration;

use sqlx::postgres::types::PgInterval;
use sqlx::{PgPool, PgTransaction};

use crate::config::HoldOptions;
use crate::database;
use crate::outbox::OutboxError;
use crate::outbox::marks::Marks;
use crate::outbox::progress::announce_each;

/// Looks at up to `limit` rows that are new and due, or whose time to wake has come, and returns how many there were.
///
/// Suppressed and expired jobs, and those of an enrolment that was ended, end here, as parked if their outcome is unknown; one whose outcome has been unknown for longer
/// than `key_horizon` is parked, since Chert may have forgotten its key; one behind an earlier message of its recipient
/// waits for it, and one that is held (see `holds`) holds up nobody behind it. Safe to run from many workers at once. Rows are read from `marks` on, which are moved up.
/// Source: design 5; invariants 1, 4, 5 and 6.
pub async fn admit(
    pool: &PgPool,
    limit: i64,
    key_horizon: Duration,
    holds: &HoldOptions,
    marks: &mut Marks,
) -> Result<i64, OutboxError> {
    let key_horizon = interval(key_horizon);
    let (from_at, from_id) = marks.admission();
    let (stale_holds_marketing, stale_holds_others) = holds.hold_on_stale.holds();
    let mut tx = database::begin(pool).await.map_err(OutboxError::Admit)?;
    let admitted = sqlx::query!(
        r#"
        with due as materialized (
            select id, phone, priority, due_at, expires_at, phone_line_id, named_line_id, unknown_since,
                   class, campaign, enrolment, labels, past_suppression, coalesce(wake_at, due_at) as looked_for_at
              from outbox.jobs
             where state = 'queued' and not ready and coalesce(wake_at, due_at) <= now()
               and (coalesce(wake_at, due_at), id) >= ($3, $4)
             order by coalesce(wake_at, due_at), id
             limit $1
               for update skip locked
        ), hearing as materialized (
            select outbox.is_deaf($5) as is_stale, exists (select from outbox.erased) as knows_erased,
                   array(select name from outbox.campaigns where state <> 'running') as paused_campaigns
        ), judged as materialized (
            select due.id,
                   case when due.unknown_since < now() - $2::interval then 'parked'
                        -- It may be on the phone already, and must not be called unsent.
                        when (stop.stops or gone.ended or due.expires_at <= now()) and due.unknown_since is not null then 'parked'
                        when stop.stops then 'suppressed'
                        when gone.ended then 'canceled'
                        when due.expires_at <= now() then 'expired'
                        else 'queued'
                   end as state,
                   case when due.past_suppression then null
                        when due.campaign = any (hearing.paused_campaigns) then 'campaign_paused'
                        when r.review_since is not null then 'in_review'
                        when hearing.is_stale and case when due.class = 'marketing' then $6::bool else $7::bool end then 'inbound_stale'
                        when due.class = 'marketing' and r.unanswered >= $8 then 'unanswered'
                   end as held,
                   coalesce(flying.lease_until + interval '1 second', before.wakes_at) as wakes_at,
                   coalesce(l.id, '*') as line_id,
                   r.first_touched_at is null and r.last_inbound_at is null as first_touch
              from due
             cross join hearing
             cross join lateral (
                   select not due.past_suppression
                          and (exists (select from outbox.suppressions s
                                        where s.phone = due.phone and outbox.in_scope(s.scope, due.campaign, due.labels))
                               or hearing.knows_erased
                                  and exists (select from outbox.erased e
                                               where e.phone_hash = outbox.phone_hash(due.phone)
                                                 and outbox.in_scope(e.scope, due.campaign, due.labels))) as stops) stop
              -- Its enrolment was ended by a reply, a goal or an operator while it was on its way.
              left join lateral (
                   select true as ended
                     from outbox.enrolments e
                    where e.id = due.enrolment and e.state = 'stopped'
                      and e.reason in ('replied', 'opted_out', 'goal', 'campaign_stopped')) gone on true
              left join outbox.recipients r on r.phone = due.phone
              -- A line that was taken from the account is no reason to wait: Chert pins its recipients anew.
              left join outbox.lines l
                on l.id = coalesce(due.named_line_id, due.phone_line_id, r.line_id) and l.removed_at is null
              -- Asked row by row (the limit sees to it): as a plain join, every due row is compared with every one in flight.
              left join lateral (
                   select f.lease_until from outbox.jobs f where f.phone = due.phone and f.state = 'sending' limit 1) flying on true
              left join lateral (
                   -- The message just before this one, and when to look again should nobody wake us. Behind a message
                   -- that is itself behind another it is a long time: waking goes from one to the next.
                   select case when earlier.wake_at is not null and earlier.reason is distinct from 'behind_earlier'
                               then greatest(earlier.wake_at, now()) + interval '1 second'
                               else now() + interval '15 minutes' * (1 + random())
                          end as wakes_at
                     from outbox.jobs earlier
                    where earlier.phone = due.phone and earlier.due_at <= now() and earlier.state in ('queued', 'sending')
                      and not outbox.is_held(earlier.reason)
                      and (earlier.priority, earlier.due_at, earlier.id) < (due.priority, due.due_at, due.id)
                    order by earlier.priority desc, earlier.due_at desc, earlier.id desc
                    limit 1) before on true
        ), admitted as (
            update outbox.jobs j
               set state = judged.state,
                   reason = case when judged.state = 'parked' then 'outcome_unknown'
                                 when judged.state <> 'queued' then judged.state
                                 when judged.held is not null then judged.held
                                 when judged.wakes_at is not null then 'behind_earlier'
                            end,
                   finished_at = case when judged.state <> 'queued' then now() end,
                   ready = judged.state = 'queued' and judged.held is null and judged.wakes_at is null,
                   -- What is held is let go by whoever mends what holds it; the time is only a net.
                   wake_at = case when judged.held is not null
                                  then least(now() + interval '15 minutes' * (1 + random()), j.expires_at)
                                  when judged.wakes_at is not null then least(judged.wakes_at, j.expires_at) end,
                   line_id = judged.line_id,
                   first_touch = judged.first_touch
              from judged
             where j.id = judged.id
            returning j.id, j.phone, j.state, j.reason
        )
        select count(*) as "count!", coalesce(array_agg(phone) filter (where state <> 'queued' or outbox.is_held(reason)), '{}') as "passable!",
               coalesce(array_agg(id) filter (where state <> 'queued'), '{}') as "ended!",
               coalesce(array_agg(state) filter (where state <> 'queued'), '{}') as "ended_as!",
               (select min(looked_for_at) from due) as first_at,
               (select min(id) from due where looked_for_at = (select min(looked_for_at) from due)) as first_id
          from admitted
        "#,
        limit,
        key_horizon,
        from_at,
        from_id,
        interval(holds.stale_after),
        stale_holds_marketing,
        stale_holds_others,
        holds.unanswered.limit.0.map_or(i32::MAX, i32::from),
    )
    .fetch_one(&mut *tx)
    .await
    .map_err(OutboxError::Admit)?;
    wake_next(&mut tx, &admitted.passable).await.map_err(OutboxError::Admit)?;
    let news: Vec<_> = admitted.ended.iter().copied().zip(admitted.ended_as.iter().map(String::as_str)).collect();
    announce_each(&mut tx, &news).await.map_err(OutboxError::Admit)?;
    tx.commit().await.map_err(OutboxError::Admit)?;
    marks.admitted(admitted.first_at.zip(admitted.first_id));
    wake_after_commit(pool, &admitted.passable).await;
    Ok(admitted.count)
}

/// Lets the next waiting job of each of these recipients be looked at now. It belongs into the transaction that ends or holds a
/// job, so that a crash cannot come between; and `wake_after_commit` belongs behind it.
pub(crate) async fn wake_next(tx: &mut PgTransaction<'_>, phones: &[String]) -> Result<(), sqlx::Error> {
    if !phones.is_empty() {
        sqlx::query!("select outbox.wake_next($1)", phones).fetch_one(&mut **tx).await?;
    }
    Ok(())
}

/// The same once more, for jobs that were admitted while the transaction was under way and took the ended job for one in
/// flight. What is missed here too wakes when that job's lease would have run out.
pub(crate) async fn wake_after_commit(pool: &PgPool, phones: &[String]) {
    if phones.is_empty() {
        return;
    }
    let woken = async {
        let mut tx = database::begin(pool).await?;
        wake_next(&mut tx, phones).await?;
        tx.commit().await
    };
    if let Err(error) = woken.await {
        let error = database::describe(&error);
        tracing::warn!(
            error,
            "Waking the next jobs of {} recipients failed; they go on after their wait",
            phones.len()
        );
    }
}

/// A length of time for Postgres, in whole microseconds.
pub(crate) fn interval(length: Duration) -> PgInterval {
    PgInterval { months: 0, days: 0, microseconds: i64::try_from(length.as_micros()).unwrap_or(i64::MAX) }
}
