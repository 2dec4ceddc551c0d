//! Erasing a person: whatever names them goes in one transaction. What stays is how much it was, and, by a keyed hash, that they
//! must not be written to.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use sqlx::{PgPool, PgTransaction};

use crate::database::{self, describe};
use crate::outbox::admit::wake_after_commit;
use crate::outbox::prune::delete_jobs;
use crate::outbox::suppress::suppress;
use crate::outbox::{MAX_RACES, is_conflict};
use crate::phone::Phone;
use crate::scope::Scope;

/// A message on its way is waited for until its lease is over; after this the erasure is given up, whatever goes on there.
const MAX_WAIT: Duration = Duration::from_secs(15 * 60);
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How an erasure's own suppression is known from one that was there before.
const REASON: &str = "erased";
const SOURCE: &str = "purge";

/// What went wrong with an erasure.
#[derive(Debug, thiserror::Error)]
pub enum EraseError {
    #[error("looking for what is known of the recipient: {}", describe(.0))]
    Look(#[source] sqlx::Error),
    #[error("erasing: {}", describe(.0))]
    Erase(#[source] sqlx::Error),
    #[error("the reason names the number, and would be kept: write it without")]
    ReasonNamesPhone,
    #[error(
        "{0} events of this person were not applied yet, and one of them may be a stop: let a worker apply them first, or leave out \
         --may-return"
    )]
    NotApplied(i64),
    #[error("{0} messages to this person are still being sent; nothing more will be: run this again later")]
    StillSending(usize),
    #[error("this person is enrolled anew all the time; nothing was erased: end what enrols them, and run this again")]
    EnrolledAgain,
}

/// How much is known of a person, by kind of data.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Counts {
    pub jobs: u64,
    pub attempts: u64,
    /// What they wrote to us, and other events in which their number stands.
    pub events: u64,
    /// Enrolments in campaigns, their place in a campaign's audience, and goals.
    #[serde(default)]
    pub enrolments: u64,
    pub recipients: u64,
    pub consents: u64,
    /// Suppressions that are kept by hash.
    pub suppressions: u64,
}

/// That somebody was erased, and nothing of whom.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Receipt {
    pub id: i64,
    pub at: DateTime<Utc>,
    pub counts: Counts,
    pub reason: Option<String>,
}

/// Messages that are on their way at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flying {
    pub jobs: usize,
    /// When the last of their leases is over.
    pub until: DateTime<Utc>,
}

/// What [`erase`] would count, were it now. Errors: `EraseError::Look`.
pub async fn look(pool: &PgPool, phone: &Phone, may_return: bool) -> Result<Counts, EraseError> {
    let mut tx = database::begin(pool).await.map_err(EraseError::Look)?;
    let found = sqlx::query!(
        r#"
        with theirs as materialized (
            select id from outbox.jobs where phone = $1 and state in ('queued', 'sending')
            union
            select id from outbox.jobs where phone = $1 and sent_at is not null
            union
            select id from outbox.jobs where phone = $1 and sent_at is null and finished_at is not null
        ), scopes as (
            select scope from outbox.suppressions where phone = $1 and not ($4 and reason = $5 and source = $6)
            union
            select 'all' where not $4
        )
        select (select count(*) from theirs) as "jobs!",
               (select count(*) from theirs cross join lateral (
                       select from outbox.attempts a where a.job_id = theirs.id offset 0) a) as "attempts!",
               (select count(*) from outbox.events where phone = $1)
               + (select count(*) from outbox.events
                   where phone is null and body is not null and strpos(body, $2) > 0 and body ~ $3) as "events!",
               (select count(*) from outbox.enrolments where phone = $1)
               + (select count(*) from outbox.audience_rows where phone = $1)
               + (select count(*) from outbox.goals where phone = $1) as "enrolments!",
               (select count(*) from outbox.recipients where phone = $1) as "recipients!",
               (select count(*) from outbox.consents where phone = $1) as "consents!",
               (select count(*) from scopes
                 where not exists (select from outbox.erased e
                                    where e.phone_hash = outbox.phone_hash($1) and e.scope = scopes.scope)) as "suppressions!"
        "#,
        phone.as_str(),
        digits(phone),
        alone(phone),
        may_return,
        REASON,
        SOURCE,
    )
    .fetch_one(&mut *tx)
    .await
    .map_err(EraseError::Look)?;
    Ok(Counts {
        jobs: found.jobs.unsigned_abs(),
        attempts: found.attempts.unsigned_abs(),
        events: found.events.unsigned_abs(),
        enrolments: found.enrolments.unsigned_abs(),
        recipients: found.recipients.unsigned_abs(),
        consents: found.consents.unsigned_abs(),
        suppressions: found.suppressions.unsigned_abs(),
    })
}

/// Erases a person in one transaction. Their jobs go with their attempts; of their events the number and the text; their
/// consents; and what was known of them as a recipient. Their suppressions move to `outbox.erased`, by hash, with one of scope `all`
/// added unless they `may_return`, so that whoever brings the number back does not write to them.
///
/// Where a message to them is on its way, nothing more is sent from this moment on, and `waiting` is called while its lease lasts:
/// an answer that comes after that finds no job, and is kept as an attempt of nobody. Events that were not applied yet are ignored.
/// Errors: `ReasonNamesPhone`, `NotApplied`, `StillSending`, `Erase`; then everything is as before, but that nothing may be sent
/// to them any more.
pub async fn erase(
    pool: &PgPool,
    phone: &Phone,
    reason: Option<&str>,
    may_return: bool,
    mut waiting: impl FnMut(Flying),
) -> Result<Receipt, EraseError> {
    if reason.is_some_and(|reason| reason.contains(digits(phone))) {
        return Err(EraseError::ReasonNamesPhone);
    }
    let began = Instant::now();
    let mentions = take_out_mentions(pool, phone).await.map_err(EraseError::Erase)?;
    let mut races = 0;
    loop {
        match try_erase(pool, phone, reason, may_return, mentions).await {
            Ok(Tried::Erased(receipt)) => return Ok(receipt),
            Ok(Tried::Flying(flying)) if began.elapsed() < MAX_WAIT => {
                waiting(flying);
                tokio::time::sleep(LOOK_EVERY).await;
            }
            Ok(Tried::Flying(flying)) => return Err(EraseError::StillSending(flying.jobs)),
            Ok(Tried::Enrolled) if races < MAX_RACES => races += 1,
            Ok(Tried::Enrolled) => return Err(EraseError::EnrolledAgain),
            Err(EraseError::Erase(error)) if races < MAX_RACES && is_conflict(&error) => races += 1,
            Err(error) => return Err(error),
        }
    }
}

/// What one transaction came to.
enum Tried {
    Erased(Receipt),
    Flying(Flying),
    /// Somebody enrolled the person meanwhile, and nothing is done: it is begun anew, with that enrolment.
    Enrolled,
}

async fn try_erase(
    pool: &PgPool,
    phone: &Phone,
    reason: Option<&str>,
    may_return: bool,
    mentions: u64,
) -> Result<Tried, EraseError> {
    let mut tx = database::begin(pool).await.map_err(EraseError::Erase)?;
    // Whoever applies events (inbound::apply) has read theirs, and would write down the number again: it goes first, or not at all.
    sqlx::query!("select pg_advisory_xact_lock(hashtext('chert-outbox'), hashtext('apply'))")
        .fetch_one(&mut *tx)
        .await
        .map_err(EraseError::Erase)?;
    let enrolments = lock_enrolments(&mut tx, phone).await.map_err(EraseError::Erase)?;
    // Before the jobs are looked for, so that nothing is claimed while we wait; it is taken back by whoever may return.
    let suppressed = suppress(&mut tx, phone, &Scope::all(), REASON, SOURCE, None).await.map_err(EraseError::Erase)?;
    let (jobs, flying) = lock_jobs(&mut tx, phone).await.map_err(EraseError::Erase)?;
    if let Some(flying) = flying {
        tx.commit().await.map_err(EraseError::Erase)?;
        wake_after_commit(pool, &suppressed.ended).await;
        return Ok(Tried::Flying(flying));
    }
    if has_others(&mut tx, phone, &enrolments).await.map_err(EraseError::Erase)? {
        return Ok(Tried::Enrolled);
    }
    if may_return {
        let unapplied = sqlx::query_scalar!(
            r#"select count(*) as "events!" from outbox.events where phone = $1 and applied_at is null"#,
            phone.as_str()
        )
        .fetch_one(&mut *tx)
        .await
        .map_err(EraseError::Erase)?;
        if unapplied > 0 {
            return Err(EraseError::NotApplied(unapplied));
        }
    }
    let theirs = Theirs { enrolments, jobs };
    let receipt = take_out(&mut tx, phone, &theirs, reason, may_return, mentions).await.map_err(EraseError::Erase)?;
    tx.commit().await.map_err(EraseError::Erase)?;
    Ok(Tried::Erased(receipt))
}

/// What we wrote to them comes back as an event that has no sender. It is looked for in every text, which takes long: by itself, so that
/// nobody who says stop meanwhile waits for it.
async fn take_out_mentions(pool: &PgPool, phone: &Phone) -> Result<u64, sqlx::Error> {
    let mut tx = database::begin(pool).await?;
    let mentions = sqlx::query!(
        r#"
        update outbox.events
           set body = null, applied_at = coalesce(applied_at, now()), effect = coalesce(effect, 'ignored')
         where phone is null and body is not null and strpos(body, $1) > 0 and body ~ $2
        "#,
        digits(phone),
        alone(phone),
    )
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(mentions.rows_affected())
}

/// What is locked of a person, and goes.
struct Theirs {
    enrolments: Vec<i64>,
    jobs: Vec<i64>,
}

/// All enrolments of the person, locked. Before any of their jobs, as everybody does who takes both: an engine that has made a job and
/// not committed it yet is waited for here, so that whoever looks for jobs after this finds that one too.
async fn lock_enrolments(tx: &mut PgTransaction<'_>, phone: &Phone) -> Result<Vec<i64>, sqlx::Error> {
    sqlx::query_scalar!("select id from outbox.enrolments where phone = $1 order by id for update", phone.as_str())
        .fetch_all(&mut **tx)
        .await
}

/// Whether the person has enrolments beside these. Their jobs may have been made after we looked for jobs.
async fn has_others(tx: &mut PgTransaction<'_>, phone: &Phone, enrolments: &[i64]) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select exists (select from outbox.enrolments where phone = $1 and id <> all ($2)) as "others!""#,
        phone.as_str(),
        enrolments,
    )
    .fetch_one(&mut **tx)
    .await
}

/// All jobs of the person, locked, and whether any of them is being sent under a lease that lasts.
async fn lock_jobs(tx: &mut PgTransaction<'_>, phone: &Phone) -> Result<(Vec<i64>, Option<Flying>), sqlx::Error> {
    let jobs = sqlx::query!(
        r#"
        select id, case when state = 'sending' and lease_until > clock_timestamp() then lease_until end as flies_until
          from outbox.jobs
         where id = any (array(
                   select id from outbox.jobs where phone = $1 and state in ('queued', 'sending')
                   union
                   select id from outbox.jobs where phone = $1 and sent_at is not null
                   union
                   select id from outbox.jobs where phone = $1 and sent_at is null and finished_at is not null))
         order by id
           for update
        "#,
        phone.as_str(),
    )
    .fetch_all(&mut **tx)
    .await?;
    let leases: Vec<DateTime<Utc>> = jobs.iter().filter_map(|job| job.flies_until).collect();
    let flying = leases.iter().max().map(|&until| Flying { jobs: leases.len(), until });
    Ok((jobs.iter().map(|job| job.id).collect(), flying))
}

async fn take_out(
    tx: &mut PgTransaction<'_>,
    phone: &Phone,
    theirs: &Theirs,
    reason: Option<&str>,
    may_return: bool,
    mentions: u64,
) -> Result<Receipt, sqlx::Error> {
    let deleted = delete_jobs(tx, &theirs.jobs).await?;
    let events = sqlx::query!(
        r#"
        update outbox.events
           set body = null, phone = null, applied_at = coalesce(applied_at, now()), effect = coalesce(effect, 'ignored')
         where phone = $1
        "#,
        phone.as_str(),
    )
    .execute(&mut **tx)
    .await?;
    let enrolments = take_out_enrolments(tx, phone, &theirs.enrolments).await?;
    let recipients =
        sqlx::query!("delete from outbox.recipients where phone = $1", phone.as_str()).execute(&mut **tx).await?;
    let consents =
        sqlx::query!("delete from outbox.consents where phone = $1", phone.as_str()).execute(&mut **tx).await?;
    let suppressions = sqlx::query_scalar!(
        r#"
        with gone as (
            delete from outbox.suppressions where phone = $1 returning scope, reason, source, created_at
        ), kept as (
            insert into outbox.erased (phone_hash, scope, reason, source, created_at)
            select outbox.phone_hash($1), scope, replace(reason, $2, ''), replace(source, $2, ''), created_at
              from gone
             where not ($3 and reason = $4 and source = $5)
                on conflict do nothing
            returning 1
        )
        select count(*) as "kept!" from kept
        "#,
        phone.as_str(),
        digits(phone),
        may_return,
        REASON,
        SOURCE,
    )
    .fetch_one(&mut **tx)
    .await?;
    let counts = Counts {
        jobs: deleted.jobs,
        attempts: deleted.attempts,
        events: events.rows_affected() + mentions,
        enrolments,
        recipients: recipients.rows_affected(),
        consents: consents.rows_affected(),
        suppressions: suppressions.unsigned_abs(),
    };
    let erasure = sqlx::query!(
        "insert into outbox.erasures (counts, reason) values ($1, $2) returning id, at",
        sqlx::types::Json(&counts) as _,
        reason,
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(Receipt { id: erasure.id, at: erasure.at, counts, reason: reason.map(str::to_owned) })
}

/// Who is taken out of an audience is not counted by its firing.
async fn take_out_enrolments(
    tx: &mut PgTransaction<'_>,
    phone: &Phone,
    enrolments: &[i64],
) -> Result<u64, sqlx::Error> {
    let taken = sqlx::query_scalar!(
        r#"
        with enrolments as (
            delete from outbox.enrolments where id = any ($2) returning 1
        ), audiences as (
            delete from outbox.audience_rows where phone = $1 returning 1
        ), goals as (
            delete from outbox.goals where phone = $1 returning 1
        )
        select (select count(*) from enrolments) + (select count(*) from audiences) + (select count(*) from goals) as "taken!"
        "#,
        phone.as_str(),
        enrolments,
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(taken.unsigned_abs())
}

/// The number without its plus, which a text may write in another way.
fn digits(phone: &Phone) -> &str {
    &phone.as_str()[1..]
}

/// Its digits, and not as a part of a longer number.
fn alone(phone: &Phone) -> String {
    format!("(^|[^0-9]){}([^0-9]|$)", digits(phone))
}
