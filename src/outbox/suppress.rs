//! Suppressing: a recipient goes on the list, and what waits for them ends, in one transaction.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use sqlx::{PgPool, PgTransaction};

use crate::database::{self, describe};
use crate::outbox::admit::{wake_after_commit, wake_next};
use crate::outbox::progress::announce_each;
use crate::outbox::{MAX_RACES, is_conflict};
use crate::phone::Phone;
use crate::scope::Scope;

/// One entry of the list, to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSuppression {
    pub phone: Phone,
    pub scope: Scope,
    pub reason: String,
    pub source: String,
    /// Now unless given.
    pub created_at: Option<DateTime<Utc>>,
    /// The event by which the recipient said so.
    pub event_id: Option<String>,
}

/// What suppressing came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Suppressed {
    /// For each that was given, whether it is new; one that was there keeps its reason and its time.
    pub new: Vec<bool>,
    /// Jobs that will not be sent.
    pub jobs: u64,
    /// Jobs that may be on the phone already, and are not asked again.
    pub parked: u64,
    /// Whose jobs these were: after the commit, `wake_after_commit` belongs to them.
    pub ended: Vec<String>,
}

/// Suppresses one recipient in this transaction, and returns what waited for them and ends now: see [`suppress_all`].
pub async fn suppress(
    tx: &mut PgTransaction<'_>,
    phone: &Phone,
    scope: &Scope,
    reason: &str,
    source: &str,
    event_id: Option<&str>,
) -> Result<Suppressed, sqlx::Error> {
    let one = NewSuppression {
        phone: phone.clone(),
        scope: scope.clone(),
        reason: reason.to_owned(),
        source: source.to_owned(),
        created_at: None,
        event_id: event_id.map(str::to_owned),
    };
    suppress_all(tx, &[one]).await
}

/// Suppresses recipients in this transaction. Every waiting job in scope ends: as `suppressed`, or as `parked` if its outcome is
/// unknown, since it may be on the phone already; jobs that may pass a suppression stay. What is being sent at this moment is not
/// called back; should it come back to the queue, admission ends it. The record locks jobs before recipients: a caller that also
/// writes `outbox.recipients` does so after this, or the two wait for each other. Source: invariant 6.
pub async fn suppress_all(
    tx: &mut PgTransaction<'_>,
    suppressions: &[NewSuppression],
) -> Result<Suppressed, sqlx::Error> {
    let phones: Vec<String> = suppressions.iter().map(|one| one.phone.as_str().to_owned()).collect();
    let scopes: Vec<String> = suppressions.iter().map(|one| one.scope.to_string()).collect();
    let inserted = sqlx::query!(
        r#"
        insert into outbox.suppressions (phone, scope, reason, source, created_at, event_id)
        -- Of one that is given twice the first goes in.
        select distinct on (u.phone, u.scope) u.phone, u.scope, u.reason, u.source, coalesce(u.created_at, now()), u.event_id
          from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::text[])
               with ordinality as u (phone, scope, reason, source, created_at, event_id, position)
         -- In one order, so that two who suppress the same people cannot wait for each other.
         order by u.phone, u.scope, u.position
            -- Who is asked for by an operator as well is no longer let back by a start alone.
            on conflict (phone, scope) do update
           set reason = excluded.reason, source = excluded.source
         where suppressions.source = 'reply' and excluded.source <> 'reply'
        returning phone, scope, xmax = 0 as "new!"
        "#,
        &phones,
        &scopes,
        &suppressions.iter().map(|one| one.reason.clone()).collect::<Vec<_>>(),
        &suppressions.iter().map(|one| one.source.clone()).collect::<Vec<_>>(),
        &suppressions.iter().map(|one| one.created_at).collect::<Vec<_>>() as &[Option<DateTime<Utc>>],
        &suppressions.iter().map(|one| one.event_id.clone()).collect::<Vec<_>>() as &[Option<String>],
    )
    .fetch_all(&mut **tx)
    .await?;
    // Where one is given twice, the first of them went in.
    let mut inserted: HashSet<(String, String)> =
        inserted.into_iter().filter(|row| row.new).map(|row| (row.phone, row.scope)).collect();
    let new =
        phones.iter().zip(&scopes).map(|(phone, scope)| inserted.remove(&(phone.clone(), scope.clone()))).collect();

    let ended = sqlx::query!(
        r#"
        update outbox.jobs j
           set state = case when j.unknown_since is null then 'suppressed' else 'parked' end,
               reason = case when j.unknown_since is null then 'suppressed' else 'outcome_unknown' end,
               ready = false, wake_at = null, finished_at = now()
         where j.id = any (array(
                   select w.id
                     from unnest($1::text[], $2::text[]) as u (phone, scope)
                    cross join lateral (
                          select q.id
                            from outbox.jobs q
                           where q.phone = u.phone and q.state = 'queued' and not q.past_suppression
                             and outbox.in_scope(u.scope, q.campaign, q.labels)
                          offset 0) w))
           -- Claimed meanwhile: it is on its way. "is true" as in outbox.wake_next.
           and (j.state = 'queued') is true
        returning j.id, j.phone, j.state
        "#,
        &phones,
        &scopes,
    )
    .fetch_all(&mut **tx)
    .await?;
    let news: Vec<(i64, &str)> = ended.iter().map(|job| (job.id, job.state.as_str())).collect();
    announce_each(tx, &news).await?;
    let parked = ended.iter().filter(|job| job.state == "parked").count();
    let mut recipients: Vec<String> = ended.iter().map(|job| job.phone.clone()).collect();
    recipients.sort_unstable();
    recipients.dedup();
    wake_next(tx, &recipients).await?;
    Ok(Suppressed { new, jobs: (ended.len() - parked) as u64, parked: parked as u64, ended: recipients })
}

/// What went wrong with the list.
#[derive(Debug, thiserror::Error)]
pub enum SuppressError {
    #[error("suppressing: {}", describe(.0))]
    Write(#[source] sqlx::Error),
    #[error("reading the suppressions: {}", describe(.0))]
    Read(#[source] sqlx::Error),
}

/// Suppresses these recipients, all or none. Errors: `SuppressError::Write`, nothing changed.
pub async fn add(pool: &PgPool, suppressions: &[NewSuppression]) -> Result<Suppressed, SuppressError> {
    let mut races = 0;
    loop {
        match try_add(pool, suppressions).await {
            // It met a claim or a record at the same jobs, and was the one to give way.
            Err(error) if races < MAX_RACES && is_conflict(&error) => races += 1,
            outcome => return outcome.map_err(SuppressError::Write),
        }
    }
}

async fn try_add(pool: &PgPool, suppressions: &[NewSuppression]) -> Result<Suppressed, sqlx::Error> {
    let mut tx = database::begin(pool).await?;
    let suppressed = suppress_all(&mut tx, suppressions).await?;
    tx.commit().await?;
    wake_after_commit(pool, &suppressed.ended).await;
    Ok(suppressed)
}

/// Takes recipients off the list, also one who was erased and is known by hash alone: of this scope, or of every. What was
/// suppressed stays so; `jobs retry` puts single jobs back. Returns how many entries there were.
/// Errors: `SuppressError::Write`, nothing changed.
pub async fn remove(pool: &PgPool, phone: &Phone, scope: Option<&Scope>) -> Result<i64, SuppressError> {
    let mut tx = database::begin(pool).await.map_err(SuppressError::Write)?;
    let removed = sqlx::query_scalar!(
        r#"
        with listed as (
            delete from outbox.suppressions where phone = $1 and ($2::text is null or scope = $2) returning 1
        ), hashed as (
            delete from outbox.erased where phone_hash = outbox.phone_hash($1) and ($2::text is null or scope = $2) returning 1
        )
        select (select count(*) from listed) + (select count(*) from hashed) as "removed!"
        "#,
        phone.as_str(),
        scope.map(Scope::as_str),
    )
    .fetch_one(&mut *tx)
    .await
    .map_err(SuppressError::Write)?;
    tx.commit().await.map_err(SuppressError::Write)?;
    Ok(removed)
}

/// One entry of the list.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Listed {
    /// Masked, unless it was asked for whole; none for somebody who was erased.
    pub phone: Option<String>,
    pub scope: String,
    pub reason: String,
    pub source: String,
    pub created_at: DateTime<Utc>,
    pub event_id: Option<String>,
}

/// The newest `limit` entries, or those of one recipient, with whom erasures have left by hash alone only where `phone` is asked for.
pub async fn list(pool: &PgPool, phone: Option<&Phone>, whole: bool, limit: i64) -> Result<Vec<Listed>, SuppressError> {
    let mut tx = database::begin_plain(pool).await.map_err(SuppressError::Read)?;
    list_in(&mut tx, phone, whole, limit).await
}

/// The same in a transaction that goes on.
pub(crate) async fn list_in(
    tx: &mut PgTransaction<'_>,
    phone: Option<&Phone>,
    whole: bool,
    limit: i64,
) -> Result<Vec<Listed>, SuppressError> {
    sqlx::query_as!(
        Listed,
        r#"
        select case when $2 then s.phone else outbox.masked(s.phone) end as phone, s.scope as "scope!", s.reason as "reason!",
               s.source as "source!", s.created_at as "created_at!", s.event_id
          from outbox.suppressions s
         where $1::text is null or s.phone = $1
         union all
        select null, e.scope, e.reason, e.source, e.created_at, null
          from outbox.erased e
         where e.phone_hash = outbox.phone_hash($1)
         order by 5 desc, 2
         limit $3
        "#,
        phone.map(Phone::as_str),
        whole,
        limit,
    )
    .fetch_all(&mut **tx)
    .await
    .map_err(SuppressError::Read)
}

/// How many people are on no list but suppressed by their hash, since they were erased.
pub async fn erased(pool: &PgPool) -> Result<i64, SuppressError> {
    let mut tx = database::begin_plain(pool).await.map_err(SuppressError::Read)?;
    sqlx::query_scalar!(r#"select count(distinct phone_hash) as "people!" from outbox.erased"#)
        .fetch_one(&mut *tx)
        .await
        .map_err(SuppressError::Read)
}

/// An entry as it leaves for another database: whole.
#[derive(Debug, Clone)]
pub struct Exported {
    pub phone: String,
    pub scope: String,
    pub reason: String,
    pub source: String,
    pub created_at: DateTime<Utc>,
}

/// Up to `limit` entries after this one, in the order of number and scope.
pub async fn export(pool: &PgPool, after: Option<&Exported>, limit: i64) -> Result<Vec<Exported>, SuppressError> {
    let mut tx = database::begin(pool).await.map_err(SuppressError::Read)?;
    sqlx::query_as!(
        Exported,
        r#"
        select phone, scope, reason, source, created_at
          from outbox.suppressions
         where (phone, scope) > ($1, $2)
         order by phone, scope
         limit $3
        "#,
        after.map_or("", |last| &last.phone),
        after.map_or("", |last| &last.scope),
        limit,
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(SuppressError::Read)
}
