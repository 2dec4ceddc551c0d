//! Recipients as people look at them: what is known of one, who waits for a look, and what they allowed.

use chrono::{DateTime, Utc};
use sqlx::{PgPool, PgTransaction};

use crate::database::{self, describe};
use crate::outbox::campaigns::stops;
use crate::outbox::suppress::{self, Listed, SuppressError};
use crate::phone::Phone;

/// Jobs, events and facts of one recipient that are shown, of each the newest.
const SHOWN: i64 = 10;

/// What went wrong with a recipient that somebody named.
#[derive(Debug, thiserror::Error)]
pub enum RecipientsError {
    #[error("reading the recipient: {}", describe(.0))]
    Read(#[source] sqlx::Error),
    #[error("writing the recipient: {}", describe(.0))]
    Write(#[source] sqlx::Error),
    #[error(transparent)]
    Suppressions(#[from] SuppressError),
    #[error("there is no recipient {0}: nothing was ever sent to or received from that number")]
    NoSuchRecipient(Phone),
}

/// One recipient as it stands; the number masked unless it was asked for whole.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Recipient {
    pub phone: String,
    /// The line that writes to them.
    pub line_id: Option<String>,
    pub first_touched_at: Option<DateTime<Utc>>,
    pub last_outbound_at: Option<DateTime<Utc>>,
    pub last_inbound_at: Option<DateTime<Utc>>,
    /// Messages since their last reply.
    pub unanswered: i32,
    pub time_zone: Option<String>,
    pub review_since: Option<DateTime<Utc>>,
    pub review_reason: Option<String>,
    pub opted_out_at: Option<DateTime<Utc>>,
    pub opted_in_at: Option<DateTime<Utc>>,
}

/// One of a recipient's jobs, without what it says.
#[derive(Debug, Clone, serde::Serialize)]
pub struct TheirJob {
    pub id: i64,
    pub state: String,
    pub reason: Option<String>,
    pub class: String,
    pub campaign: Option<String>,
    pub due_at: DateTime<Utc>,
    pub sent_at: Option<DateTime<Utc>>,
    pub delivery_state: Option<String>,
    pub delivered_at: Option<DateTime<Utc>>,
    pub read_at: Option<DateTime<Utc>>,
    pub replied_at: Option<DateTime<Utc>>,
}

/// One of a recipient's events; what it says is printed where somebody asks for it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct TheirEvent {
    pub event_id: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub effect: Option<String>,
    pub occurred_at: DateTime<Utc>,
    pub job_id: Option<i64>,
    #[serde(skip)]
    pub body: Option<String>,
}

/// That somebody agreed, or no longer does.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Consent {
    pub kind: String,
    pub given_at: DateTime<Utc>,
    pub text_version: String,
    pub source: String,
    pub note: Option<String>,
    pub recorded_at: DateTime<Utc>,
}

/// All that is known of one number.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Known {
    /// None where nothing was sent or received yet.
    pub recipient: Option<Recipient>,
    pub suppressions: Vec<Listed>,
    pub consents: Vec<Consent>,
    pub jobs: Vec<TheirJob>,
    pub events: Vec<TheirEvent>,
}

/// What is known of this number, with the newest ten of its jobs, events and consents.
/// Errors: `RecipientsError::Read`, `RecipientsError::Suppressions`.
pub async fn show(pool: &PgPool, phone: &Phone, whole: bool) -> Result<Known, RecipientsError> {
    let suppressions = suppress::list(pool, Some(phone), whole, SHOWN).await?;
    let mut tx = database::begin(pool).await.map_err(RecipientsError::Read)?;
    let recipient = recipient_in(&mut tx, phone, whole).await?;
    let consents = consents_in(&mut tx, phone).await?;
    let jobs = sqlx::query_as!(
        TheirJob,
        r#"
        select id, state, reason, class, campaign, due_at, sent_at, delivery_state, delivered_at, read_at, replied_at
          from outbox.jobs
         where id = any (array(
                   select id from outbox.jobs where phone = $1 and state in ('queued', 'sending')
                   union
                   select id from outbox.jobs where phone = $1 and sent_at is not null
                   union
                   select id from outbox.jobs where phone = $1 and sent_at is null and finished_at is not null
                    order by id desc
                    limit $2))
         order by id desc
        "#,
        phone.as_str(),
        SHOWN,
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(RecipientsError::Read)?;
    let events = sqlx::query_as!(
        TheirEvent,
        r#"
        select event_id, type as kind, effect, occurred_at, job_id, body
          from outbox.events
         where phone = $1
         order by occurred_at desc, id desc
         limit $2
        "#,
        phone.as_str(),
        SHOWN,
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(RecipientsError::Read)?;
    Ok(Known { recipient, suppressions, consents, jobs, events })
}

/// One recipient; none where nothing was sent or received yet.
pub(crate) async fn recipient_in(
    tx: &mut PgTransaction<'_>,
    phone: &Phone,
    whole: bool,
) -> Result<Option<Recipient>, RecipientsError> {
    sqlx::query_as!(
        Recipient,
        r#"
        select case when $2 then phone else outbox.masked(phone) end as "phone!", line_id, first_touched_at, last_outbound_at,
               last_inbound_at, unanswered, time_zone, review_since, review_reason, opted_out_at, opted_in_at
          from outbox.recipients
         where phone = $1
        "#,
        phone.as_str(),
        whole,
    )
    .fetch_optional(&mut **tx)
    .await
    .map_err(RecipientsError::Read)
}

/// Their newest consents.
pub(crate) async fn consents_in(tx: &mut PgTransaction<'_>, phone: &Phone) -> Result<Vec<Consent>, RecipientsError> {
    sqlx::query_as!(
        Consent,
        r#"
        select kind, given_at, text_version, source, note, recorded_at
          from outbox.consents
         where phone = $1
         order by given_at desc, id desc
         limit $2
        "#,
        phone.as_str(),
        SHOWN,
    )
    .fetch_all(&mut **tx)
    .await
    .map_err(RecipientsError::Read)
}

/// Up to `limit` recipients who wait for a person to look at them, the longest wait first.
pub async fn in_review(pool: &PgPool, whole: bool, limit: i64) -> Result<Vec<Recipient>, RecipientsError> {
    let mut tx = database::begin(pool).await.map_err(RecipientsError::Read)?;
    sqlx::query_as!(
        Recipient,
        r#"
        select case when $1 then phone else outbox.masked(phone) end as "phone!", line_id, first_touched_at, last_outbound_at,
               last_inbound_at, unanswered, time_zone, review_since, review_reason, opted_out_at, opted_in_at
          from outbox.recipients
         where review_reason is not null
         order by review_since
         limit $2
        "#,
        whole,
        limit,
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(RecipientsError::Read)
}

/// Ends the review of a recipient, and with `unanswered` counts their unanswered messages from zero; what was held for either is
/// looked at now. Returns how many jobs that are.
/// Errors: `RecipientsError::NoSuchRecipient`; `RecipientsError::Write`, nothing changed.
pub async fn release(pool: &PgPool, phone: &Phone, unanswered: bool) -> Result<i64, RecipientsError> {
    let mut tx = database::begin(pool).await.map_err(RecipientsError::Write)?;
    // Jobs before recipients, as the record locks them.
    let released = release_held(&mut tx, phone, unanswered).await.map_err(RecipientsError::Write)?;
    let known = sqlx::query!(
        r#"
        update outbox.recipients
           set review_since = null, review_reason = null, unanswered = case when $2 then 0 else unanswered end
         where phone = $1
        "#,
        phone.as_str(),
        unanswered,
    )
    .execute(&mut *tx)
    .await
    .map_err(RecipientsError::Write)?;
    if known.rows_affected() == 0 {
        return Err(RecipientsError::NoSuchRecipient(phone.clone()));
    }
    // Workers that sleep are woken as by an insert.
    sqlx::query!("select pg_notify('outbox_jobs', '')").fetch_one(&mut *tx).await.map_err(RecipientsError::Write)?;
    tx.commit().await.map_err(RecipientsError::Write)?;
    // Once more, for what was admitted meanwhile and held for what is gone by now; and campaigns go on with them.
    let mut tx = database::begin(pool).await.map_err(RecipientsError::Write)?;
    stops::look_again(&mut tx, &[phone.as_str().to_owned()]).await.map_err(RecipientsError::Write)?;
    release_held(&mut tx, phone, unanswered).await.map_err(RecipientsError::Write)?;
    tx.commit().await.map_err(RecipientsError::Write)?;
    Ok(released)
}

async fn release_held(tx: &mut PgTransaction<'_>, phone: &Phone, unanswered: bool) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select outbox.release($1, 'in_review') + case when $2 then outbox.release($1, 'unanswered') else 0 end as "released!""#,
        phone.as_str(),
        unanswered,
    )
    .fetch_one(&mut **tx)
    .await
}

/// Keeps the fact that somebody agreed, or no longer does. It is a record and no rule: nobody is suppressed by it.
/// `at` is now unless given. Errors: `RecipientsError::Write`.
pub async fn consent(pool: &PgPool, phone: &Phone, fact: &NewConsent) -> Result<i64, RecipientsError> {
    let mut tx = database::begin_plain(pool).await.map_err(RecipientsError::Write)?;
    let id = sqlx::query_scalar!(
        r#"
        insert into outbox.consents (phone, kind, given_at, text_version, source, note)
        values ($1, $2, coalesce($3, now()), $4, $5, $6)
        returning id
        "#,
        phone.as_str(),
        if fact.withdrawn { "withdrawn" } else { "given" },
        fact.at,
        fact.text_version,
        fact.source,
        fact.note,
    )
    .fetch_one(&mut *tx)
    .await
    .map_err(RecipientsError::Write)?;
    tx.commit().await.map_err(RecipientsError::Write)?;
    Ok(id)
}

/// A fact of consent, to be kept.
#[derive(Debug, Clone)]
pub struct NewConsent {
    pub withdrawn: bool,
    pub at: Option<DateTime<Utc>>,
    pub text_version: String,
    pub source: String,
    pub note: Option<String>,
}
