//! Enrolling the people of a firing, a batch at a time: who is new goes in, who is enrolled gets of their row what they lack, who was held
//! for that goes on, everybody but the new is counted by reason, and the firing's position moves, all in one transaction.

use sqlx::types::Json;
use sqlx::{Connection as _, PgTransaction};

use crate::database;
use crate::outbox::campaigns::ticks::Open;

/// Rows of one transaction.
pub const BATCH: i64 = 500;

/// What a batch came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Enrolled {
    pub people: usize,
    pub enrolled: usize,
    /// It was the last one of its firing.
    pub is_last: bool,
}

/// Enrols the next people of a locked firing; `ready` says that the first step makes a job. None if somebody else enrols one of them at
/// this moment and does not commit at once, as an application may: then nothing was done, and the firing is still locked.
/// Source: one transaction with `ticks::lock_enrolling`, and unique by campaign, person and round: whoever repeats it enrols nobody twice.
pub async fn enrol(tx: &mut PgTransaction<'_>, tick: &Open, ready: bool) -> Result<Option<Enrolled>, sqlx::Error> {
    let mut trying = tx.begin().await?;
    match enrol_in(&mut trying, tick, ready).await {
        Err(error) if database::is_locked(&error) => {
            trying.rollback().await?;
            Ok(None)
        }
        enrolled => {
            let enrolled = enrolled?;
            trying.commit().await?;
            Ok(Some(enrolled))
        }
    }
}

async fn enrol_in(tx: &mut PgTransaction<'_>, tick: &Open, ready: bool) -> Result<Enrolled, sqlx::Error> {
    sqlx::query!(r#"select set_config('lock_timeout', '300ms', true) as "set!""#).fetch_one(&mut **tx).await?;
    let judged = judge_and_enrol(tx, tick, ready).await?;
    tell(tx, tick.id, &judged).await?;
    let batch = Enrolled {
        people: judged.len(),
        enrolled: judged.iter().filter(|row| row.reason.is_none()).count(),
        is_last: judged.len() < BATCH as usize,
    };
    move_on(tx, tick, &judged, batch).await?;
    Ok(batch)
}

/// A row of the audience: enrolled, or why not.
struct Judged {
    n: i64,
    /// Masked.
    phone: Option<String>,
    reason: Option<String>,
}

async fn judge_and_enrol(tx: &mut PgTransaction<'_>, tick: &Open, ready: bool) -> Result<Vec<Judged>, sqlx::Error> {
    sqlx::query_as!(
        Judged,
        r#"
        with rows as materialized (
            select r.n, r.phone, r.vars, r.problem
              from outbox.audience_rows r
             where r.audience = $1 and r.n > $2
             order by r.n
             limit $3
        ), judged as materialized (
            select rows.n, rows.phone, rows.vars, coalesce(latest.round, 0) + 1 as round, now() + random() * t.jitter as due_at,
                   case when latest.state in ('active', 'held') then latest.id end as enrolment,
                   case when rows.problem is not null then rows.problem
                        -- The first row without a problem is the one that counts.
                        when row_number() over (partition by rows.phone, rows.problem is null order by rows.n) > 1
                             or latest.tick_id = t.id then 'duplicate'
                        when latest.state in ('active', 'held') then 'already_active'
                        when latest.id is not null
                             and (v.again_after is null
                                  -- Its firing may have been purged.
                                  or outbox.again_from(latest.created_at, coalesce(fired.at, case when latest.tick_id is not null then latest.created_at end),
                                                       v.again_after) > t.at)
                             then 'already_enrolled'
                        -- It came after its people were found, or while they were.
                        when 'goal' = any (v.stop_on)
                             and exists (select from outbox.goals g
                                          where g.phone = rows.phone and g.campaign = t.campaign and g.reached_at >= t.recorded_at offset 0)
                             then 'goal'
                        when exists (select from outbox.suppressions s
                                      where s.phone = rows.phone and outbox.in_scope(s.scope, t.campaign, v.labels) offset 0)
                             or gone.knows_erased
                                and exists (select from outbox.erased e
                                             where e.phone_hash = outbox.phone_hash(rows.phone)
                                               and outbox.in_scope(e.scope, t.campaign, v.labels) offset 0) then 'suppressed'
                   end as reason
              from rows
             cross join outbox.ticks t
             cross join (select exists (select from outbox.erased) as knows_erased offset 0) gone
              join outbox.campaign_versions v on v.campaign = t.campaign and v.version = t.version
              left join lateral (
                   select e.id, e.round, e.state, e.created_at, e.tick_id
                     from outbox.enrolments e
                    where e.campaign = t.campaign and e.phone = rows.phone
                    order by e.round desc
                    limit 1) latest on true
              left join outbox.ticks fired on fired.id = latest.tick_id
             where t.id = $4
        ), enrolled as (
            insert into outbox.enrolments (campaign, version, phone, round, vars, tick_id, ready, line_id, first_touch, reached_at, due_at)
            select $5, $6, j.phone, j.round, j.vars, $4, $7, coalesce(r.line_id, '*'),
                   r.first_touched_at is null and r.last_inbound_at is null, j.due_at, j.due_at
              from judged j
              left join outbox.recipients r on r.phone = j.phone
             where j.reason is null
             order by j.phone
                on conflict on constraint one_enrolment_a_round do nothing
            returning phone
        ), mended as (
            -- As outbox.enrol does. What would be too much for one person is left as it is: it must not hold up the others.
            update outbox.enrolments e
               set vars = outbox.brought(e.state, e.vars, j.vars), state = 'active', reason = null,
                   detail = case when e.state = 'active' then e.detail end, due_at = coalesce(e.due_at, now()),
                   reached_at = case when e.state = 'held' and e.sent_at is null then greatest(e.reached_at, now()) else e.reached_at end
              from judged j
             where e.id = j.enrolment and j.reason = 'already_active' and (e.state in ('active', 'held')) is true
               and (e.state = 'held' or outbox.brought(e.state, e.vars, j.vars) <> e.vars)
               and octet_length(outbox.brought(e.state, e.vars, j.vars)::text) <= 65536
        )
        select j.n as "n!", outbox.masked(j.phone) as phone,
               -- Somebody else was quicker.
               case when j.reason is null and e.phone is null then 'already_active' else j.reason end as reason
          from judged j
          left join enrolled e on e.phone = j.phone and j.reason is null
         order by j.n
        "#,
        tick.audience,
        tick.position,
        BATCH,
        tick.id,
        tick.campaign,
        tick.version,
        ready,
    )
    .fetch_all(&mut **tx)
    .await
}

/// Writes down who is left out for something that somebody may mend.
async fn tell(tx: &mut PgTransaction<'_>, tick: i64, judged: &[Judged]) -> Result<(), sqlx::Error> {
    let told: Vec<_> =
        judged.iter().filter(|row| row.reason.as_ref().is_some_and(|reason| !reason.starts_with("already"))).collect();
    sqlx::query!(
        r#"
        insert into outbox.exclusions (tick_id, n, reason, phone)
        select $1, u.n, u.reason, u.phone from unnest($2::bigint[], $3::text[], $4::text[]) as u (n, reason, phone)
        "#,
        tick,
        &told.iter().map(|row| row.n).collect::<Vec<_>>(),
        &told.iter().filter_map(|row| row.reason.clone()).collect::<Vec<_>>(),
        &told.iter().map(|row| row.phone.clone()).collect::<Vec<_>>() as &[Option<String>],
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The firing has come so far; who was not enrolled is counted by reason.
async fn move_on(
    tx: &mut PgTransaction<'_>,
    tick: &Open,
    judged: &[Judged],
    batch: Enrolled,
) -> Result<(), sqlx::Error> {
    let mut excluded = tick.excluded.0.clone();
    for reason in judged.iter().filter_map(|row| row.reason.as_ref()) {
        *excluded.entry(reason.clone()).or_default() += 1;
    }
    let position = judged.last().map_or(tick.position, |row| row.n);
    sqlx::query!(
        r#"
        update outbox.ticks
           set position = $2, people = people + $3, enrolled = enrolled + $4, excluded = $5,
               state = case when $6 then 'done' else state end, finished_at = case when $6 then clock_timestamp() end
         where id = $1
        "#,
        tick.id,
        position,
        batch.people as i64,
        batch.enrolled as i64,
        Json(&excluded) as _,
        batch.is_last,
    )
    .execute(&mut **tx)
    .await?;
    if tick.file != tick.audience {
        // What a query brought is not kept for longer than it is needed; the rows of a file are the version's own.
        sqlx::query!(
            "delete from outbox.audience_rows where audience = $1 and n > $2 and n <= $3",
            tick.audience,
            tick.position,
            position
        )
        .execute(&mut **tx)
        .await?;
    }
    Ok(())
}
