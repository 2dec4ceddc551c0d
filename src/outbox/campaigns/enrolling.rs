//! Enrolling the people of a firing, a batch at a time: who is new goes in, everybody else is counted by reason, and the firing's
//! position moves, all in one transaction. Whoever is held up by somebody else stays behind, uncounted, and comes again at the end.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::types::Json;
use sqlx::{Connection as _, PgTransaction};

use crate::database;
use crate::outbox::campaigns::entering::{New, enter};
use crate::outbox::campaigns::ticks::Open;

/// Rows of one transaction.
pub const BATCH: i64 = 500;
/// For what else is locked than people that somebody else enrols.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a batch came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Enrolled {
    pub people: usize,
    pub enrolled: usize,
    /// Somebody else enrols them at this moment and does not commit, as an application may: they come again.
    pub held: usize,
    /// There is nothing more to do for the firing before those have let go.
    pub waits: bool,
    /// It was the last one of its firing.
    pub is_last: bool,
}

/// Enrols the next people of a locked firing; `ready` says that the first step makes a job. None if something else of it is locked for
/// longer than a second: then nothing was done, and the firing is still locked.
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
    let rows = judge(tx, tick).await?;
    let new: Vec<New> = rows
        .iter()
        .filter(|row| row.reason.is_none())
        .map(|row| New { n: row.n, round: row.round, due_at: row.due_at })
        .collect();
    let entered = enter(tx, tick, ready, &new).await?;
    database::wait_for_locks(tx, PATIENCE).await?;
    let (is_through, last) = (rows.len() < BATCH as usize, rows.last().map_or(tick.position, |row| row.n));
    let (held, mut judged): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| entered.held.contains(&row.n));
    let held: Vec<i64> = held.iter().map(|row| row.n).collect();
    for row in judged.iter_mut().filter(|row| row.reason.is_none() && !entered.enrolled.contains(&row.n)) {
        // Somebody else was quicker.
        row.reason = Some("already_active".to_owned());
    }
    let behind = keep_behind(tx, tick, last, &held).await?;
    let (waits, is_last) = (is_through && behind.is_some(), is_through && behind.is_none());
    tell(tx, tick, &judged).await?;
    let mut excluded = tick.excluded.0.clone();
    for reason in judged.iter().filter_map(|row| row.reason.as_ref()) {
        *excluded.entry(reason.clone()).or_default() += 1;
    }
    sqlx::query!(
        r#"
        update outbox.ticks
           set position = $2, audience = $3, people = people + $4, enrolled = enrolled + $5, excluded = $6,
               state = case when $7 then 'done' else state end, finished_at = case when $7 then clock_timestamp() end
         where id = $1
        "#,
        tick.id,
        if waits { 0 } else { last },
        behind.filter(|_| waits).or(tick.audience),
        judged.len() as i64,
        entered.enrolled.len() as i64,
        Json(&excluded) as _,
        is_last,
    )
    .execute(&mut **tx)
    .await?;
    Ok(Enrolled {
        people: judged.len(),
        enrolled: entered.enrolled.len(),
        held: held.len(),
        waits: waits || !entered.is_searched_through,
        is_last,
    })
}

/// A row of an audience, and why its person is not enrolled, if so.
struct Judged {
    n: i64,
    /// Masked.
    phone: Option<String>,
    round: i32,
    due_at: DateTime<Utc>,
    reason: Option<String>,
}

/// The next rows of a firing.
async fn judge(tx: &mut PgTransaction<'_>, tick: &Open) -> Result<Vec<Judged>, sqlx::Error> {
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
                   case when rows.problem is not null then rows.problem
                        -- The first row without a problem is the one that counts.
                        when row_number() over (partition by rows.phone, rows.problem is null order by rows.n) > 1
                             or latest.tick_id = t.id then 'duplicate'
                        when latest.state in ('active', 'held') then 'already_active'
                        when latest.id is not null and (v.again_after is null or latest.created_at > now() - v.again_after)
                             then 'already_enrolled'
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
             where t.id = $4
        )
        select j.n as "n!", outbox.masked(j.phone) as phone, j.round as "round!", j.due_at as "due_at!", j.reason
          from judged j
         order by j.n
        "#,
        tick.audience,
        tick.position,
        BATCH,
        tick.id,
    )
    .fetch_all(&mut **tx)
    .await
}

/// Notes whom a firing left out, and where; those who are enrolled already are only counted.
async fn tell(tx: &mut PgTransaction<'_>, tick: &Open, judged: &[Judged]) -> Result<(), sqlx::Error> {
    let told: Vec<_> =
        judged.iter().filter(|row| row.reason.as_ref().is_some_and(|reason| !reason.starts_with("already"))).collect();
    sqlx::query!(
        r#"
        insert into outbox.exclusions (tick_id, n, reason, phone)
        select $1, u.n, u.reason, u.phone from unnest($2::bigint[], $3::text[], $4::text[]) as u (n, reason, phone)
        "#,
        tick.id,
        &told.iter().map(|row| row.n).collect::<Vec<_>>(),
        &told.iter().filter_map(|row| row.reason.clone()).collect::<Vec<_>>(),
        &told.iter().map(|row| row.phone.clone()).collect::<Vec<_>>() as &[Option<String>],
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Deletes what was gone through up to the row `last`, but for those who are held; returns the audience in which somebody stays behind, if
/// anybody does. The rows of a file are the version's own: those of whom it holds are copied, to a number that no other audience has.
async fn keep_behind(
    tx: &mut PgTransaction<'_>,
    tick: &Open,
    last: i64,
    held: &[i64],
) -> Result<Option<i64>, sqlx::Error> {
    let of_file = tick.file.is_some() && tick.file == tick.audience;
    let own = if of_file { Some(-tick.id) } else { tick.audience };
    if !of_file {
        // What a query brought is not kept for longer than it is needed.
        sqlx::query!(
            "delete from outbox.audience_rows where audience = $1 and n > $2 and n <= $3 and n <> all ($4)",
            own,
            tick.position,
            last,
            held,
        )
        .execute(&mut **tx)
        .await?;
    } else if !held.is_empty() {
        sqlx::query!(
            r#"
            insert into outbox.audience_rows (audience, n, phone, vars, problem)
            select $1, n, phone, vars, problem
              from outbox.audience_rows
             where audience = $2 and n = any ($3)
               -- Nobody is copied who is erased at this moment.
               for key share
            "#,
            -tick.id,
            tick.audience,
            held,
        )
        .execute(&mut **tx)
        .await?;
    }
    let anybody = sqlx::query_scalar!(
        r#"select exists (select from outbox.audience_rows where audience = $1 and n <= $2) as "anybody!""#,
        own,
        last,
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(own.filter(|_| anybody))
}
