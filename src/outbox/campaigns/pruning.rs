//! Retention of what campaigns leave behind: enrolments that ended, goals, firings with whom they left out, and the rows of files that a
//! newer version has replaced.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgTransaction;

use crate::campaign::file::words::Cap;
use crate::outbox::prune::{BATCH, LOOKED_AT, Mark, Old};

/// For how long a message of a campaign counts, by the longest frequency cap of any version; none where none has one.
pub async fn longest_cap(tx: &mut PgTransaction<'_>) -> Result<Option<Duration>, sqlx::Error> {
    let caps = sqlx::query_scalar!(
        r#"
        select distinct definition #>> '{caps,per_recipient}' as "cap!"
          from outbox.campaign_versions
         where definition #>> '{caps,per_recipient}' is not null
        "#
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(caps.iter().filter_map(|cap| cap.parse::<Cap>().ok()).map(|cap| cap.within.0).max())
}

pub async fn look_at_enrolments(tx: &mut PgTransaction<'_>, before: DateTime<Utc>) -> Result<Old, sqlx::Error> {
    sqlx::query_as!(
        Old,
        r#"
        select count(*) filter (where not is_kept) as "count!", min(finished_at) filter (where not is_kept) as oldest,
               count(*) filter (where is_kept) as "kept!"
          from (select e.finished_at,
                       (v.again_after is null or e.created_at > now() - v.again_after)
                       and not exists (select from outbox.enrolments l
                                        where l.campaign = e.campaign and l.phone = e.phone and l.round > e.round offset 0)
                       or exists (select from outbox.ticks t where t.campaign = e.campaign and t.finished_at is null offset 0)
                       or exists (select from outbox.jobs j where j.id = e.job_id and j.state in ('queued', 'sending') offset 0)
                       as is_kept
                  from outbox.enrolments e
                  left join outbox.campaigns c on c.name = e.campaign
                  left join outbox.campaign_versions v on v.campaign = c.name and v.version = c.version
                 where e.finished_at < $1) old
        "#,
        before,
    )
    .fetch_one(&mut **tx)
    .await
}

/// Deletes enrolments that have ended. A person's latest one stays for as long as the campaign's rule asks for it: where nobody is
/// enrolled again, for good. So do those of a campaign that enrols at this moment, by the rule of whichever version; and those by which
/// a job is still to end.
pub async fn prune_enrolments(
    tx: &mut PgTransaction<'_>,
    before: DateTime<Utc>,
    mark: Mark,
) -> Result<(u64, Mark), sqlx::Error> {
    let old = sqlx::query!(
        r#"
        with old as materialized (
            select e.id, e.finished_at, e.campaign, e.phone, e.round, e.created_at, e.job_id
              from outbox.enrolments e
             where e.finished_at < $1 and (e.finished_at, e.id) > ($2, $3)
             order by e.finished_at, e.id
             limit $4
               for update skip locked
        )
        select e.id, e.finished_at as "finished_at!",
               ((v.again_after is null or e.created_at > now() - v.again_after)
                and not exists (select from outbox.enrolments l
                                 where l.campaign = e.campaign and l.phone = e.phone and l.round > e.round offset 0)
                or exists (select from outbox.ticks t where t.campaign = e.campaign and t.finished_at is null offset 0)
                or exists (select from outbox.jobs j where j.id = e.job_id and j.state in ('queued', 'sending') offset 0)) as "is_kept!"
          from old e
          left join outbox.campaigns c on c.name = e.campaign
          left join outbox.campaign_versions v on v.campaign = c.name and v.version = c.version
         order by e.finished_at, e.id
        "#,
        before,
        mark.0,
        mark.1,
        LOOKED_AT,
    )
    .fetch_all(&mut **tx)
    .await?;
    let going: Vec<_> = old.iter().filter(|enrolment| !enrolment.is_kept).take(BATCH as usize).collect();
    let ids: Vec<i64> = going.iter().map(|enrolment| enrolment.id).collect();
    let gone = sqlx::query!("delete from outbox.enrolments where id = any ($1)", &ids).execute(&mut **tx).await?;
    let last = if going.len() == BATCH as usize { going.last().copied() } else { old.last() };
    Ok((gone.rows_affected(), last.map_or(mark, |last| Mark(last.finished_at, last.id, 0))))
}

pub async fn look_at_goals(tx: &mut PgTransaction<'_>, before: DateTime<Utc>) -> Result<Old, sqlx::Error> {
    sqlx::query_as!(
        Old,
        r#"
        select count(*) as "count!", min(reached_at) as oldest, 0::bigint as "kept!" from outbox.goals where reached_at < $1
        "#,
        before,
    )
    .fetch_one(&mut **tx)
    .await
}

pub async fn prune_goals(
    tx: &mut PgTransaction<'_>,
    before: DateTime<Utc>,
    mark: Mark,
) -> Result<(u64, Mark), sqlx::Error> {
    let old = sqlx::query!(
        r#"
        select id, reached_at
          from outbox.goals
         where reached_at < $1 and (reached_at, id) > ($2, $3)
         order by reached_at, id
         limit $4
           for update skip locked
        "#,
        before,
        mark.0,
        mark.1,
        BATCH,
    )
    .fetch_all(&mut **tx)
    .await?;
    let ids: Vec<i64> = old.iter().map(|goal| goal.id).collect();
    let gone = sqlx::query!("delete from outbox.goals where id = any ($1)", &ids).execute(&mut **tx).await?;
    Ok((gone.rows_affected(), old.last().map_or(mark, |last| Mark(last.reached_at, last.id, 0))))
}

/// Firings, whom they left out, and what an audience has left that was not gone through.
pub async fn look_at_firings(tx: &mut PgTransaction<'_>, before: DateTime<Utc>) -> Result<Old, sqlx::Error> {
    sqlx::query_as!(
        Old,
        r#"
        with old as materialized (
            select t.id, t.finished_at, t.audience,
                   exists (select from outbox.campaign_versions v
                            where v.campaign = t.campaign and v.version = t.version and v.audience = t.audience) as is_file
              from outbox.ticks t
             where t.finished_at < $1
        )
        select (select count(*) from old)
               + (select count(*) from old join outbox.exclusions x on x.tick_id = old.id)
               + (select count(*) from old join outbox.audience_rows r on r.audience = old.audience where not old.is_file) as "count!",
               (select min(finished_at) from old) as oldest,
               0::bigint as "kept!"
        "#,
        before,
    )
    .fetch_one(&mut **tx)
    .await
}

/// The rows of one firing, then the firing. The mark's last number is the last row of those left out.
pub async fn prune_firings(
    tx: &mut PgTransaction<'_>,
    before: DateTime<Utc>,
    mark: Mark,
) -> Result<(u64, Mark), sqlx::Error> {
    let old = sqlx::query!(
        r#"
        select t.id, t.finished_at as "finished_at!", t.audience,
               exists (select from outbox.campaign_versions v
                        where v.campaign = t.campaign and v.version = t.version and v.audience = t.audience) as "is_file!"
          from outbox.ticks t
         where t.finished_at < $1 and (t.finished_at, t.id) > ($2, $3)
         order by t.finished_at, t.id
         limit 1
           for update of t skip locked
        "#,
        before,
        mark.0,
        mark.1,
    )
    .fetch_optional(&mut **tx)
    .await?;
    let Some(tick) = old else { return Ok((0, mark)) };
    let excluded = sqlx::query!(
        r#"
        with old as materialized (
            select n from outbox.exclusions where tick_id = $1 and n > $2 order by n limit $3
        ), gone as (
            delete from outbox.exclusions x using old where x.tick_id = $1 and x.n = old.n returning x.n
        )
        select count(*) as "count!", max(n) as last from gone
        "#,
        tick.id,
        mark.2,
        BATCH,
    )
    .fetch_one(&mut **tx)
    .await?;
    if let Some(last) = excluded.last {
        return Ok((excluded.count.unsigned_abs(), Mark(mark.0, mark.1, last)));
    }
    // The rows of a file are the version's own, and go with it.
    if let Some(audience) = tick.audience.filter(|_| !tick.is_file) {
        let (rows, _) = delete_rows(tx, audience, 0).await?;
        if rows > 0 {
            return Ok((rows, mark));
        }
    }
    let gone = sqlx::query!("delete from outbox.ticks where id = $1", tick.id).execute(&mut **tx).await?;
    Ok((gone.rows_affected(), Mark(tick.finished_at, tick.id, 0)))
}

/// The rows of files of versions that are not the newest one, as far as no firing of theirs still goes through them.
pub async fn look_at_files(tx: &mut PgTransaction<'_>, before: DateTime<Utc>) -> Result<Old, sqlx::Error> {
    sqlx::query_as!(
        Old,
        r#"
        select count(r.n) filter (where not old.is_kept) as "count!",
               min(old.created_at) filter (where not old.is_kept and r.n is not null) as oldest,
               count(r.n) filter (where old.is_kept) as "kept!"
          from (select v.audience, v.created_at,
                       v.version = c.version
                       or exists (select from outbox.ticks t
                                   where t.campaign = v.campaign and t.version = v.version and t.finished_at is null) as is_kept
                  from outbox.campaign_versions v
                  join outbox.campaigns c on c.name = v.campaign
                 where v.created_at < $1 and v.audience is not null) old
          join outbox.audience_rows r on r.audience = old.audience
        "#,
        before,
    )
    .fetch_one(&mut **tx)
    .await
}

/// The mark's second number is the file that was begun, the third its last row.
pub async fn prune_files(
    tx: &mut PgTransaction<'_>,
    before: DateTime<Utc>,
    mark: Mark,
) -> Result<(u64, Mark), sqlx::Error> {
    let next = sqlx::query_scalar!(
        r#"
        select min(v.audience)
          from outbox.campaign_versions v
          join outbox.campaigns c on c.name = v.campaign and c.version > v.version
         where v.created_at < $1 and v.audience >= $2
           and not exists (select from outbox.ticks t
                            where t.campaign = v.campaign and t.version = v.version and t.finished_at is null offset 0)
        "#,
        before,
        mark.1,
    )
    .fetch_one(&mut **tx)
    .await?;
    let Some(audience) = next else { return Ok((0, mark)) };
    let after = if audience == mark.1 { mark.2 } else { 0 };
    let (rows, last) = delete_rows(tx, audience, after).await?;
    Ok((rows, last.map_or(Mark(mark.0, audience + 1, 0), |last| Mark(mark.0, audience, last))))
}

/// Deletes up to 1,000 rows of an audience, those behind this one; returns how many, and the last one.
async fn delete_rows(tx: &mut PgTransaction<'_>, audience: i64, after: i64) -> Result<(u64, Option<i64>), sqlx::Error> {
    let gone = sqlx::query!(
        r#"
        with old as materialized (
            select n from outbox.audience_rows where audience = $1 and n > $2 order by n limit $3
        ), gone as (
            delete from outbox.audience_rows r using old where r.audience = $1 and r.n = old.n returning r.n
        )
        select count(*) as "count!", max(n) as last from gone
        "#,
        audience,
        after,
        BATCH,
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok((gone.count.unsigned_abs(), gone.last))
}
