//! Stored events as people follow them.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use sqlx::PgPool;

use crate::database;
use crate::inbound::InboundError;
use crate::inbound::event::Incoming;

/// The most events that one look brings.
pub const LOOK_LIMIT: i64 = 500;

/// One stored event; its sender is masked.
#[derive(Debug, Clone, serde::Serialize)]
pub struct EventRow {
    pub id: i64,
    pub event_id: String,
    /// The id of its row in Chert's log (`evt_…`), which a replay asks for, where it came with it.
    pub log_id: Option<String>,
    #[serde(rename = "type")]
    pub kind: String,
    /// The way by which it came first.
    pub source: String,
    pub phone: Option<String>,
    pub occurred_at: DateTime<Utc>,
    pub received_at: DateTime<Utc>,
    /// What applying it did; none while it waits.
    pub effect: Option<String>,
    /// The job that it most likely answers.
    pub job_id: Option<i64>,
    /// What was written, if it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The ids of the pictures and the like that came with it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<String>,
}

/// Follows the events of one type, or all. Ids are given out before they are committed, so one may appear behind a later one: what
/// came lately is looked at again each time, and told once.
#[derive(Debug)]
pub struct Tail {
    pool: PgPool,
    kind: Option<String>,
    shows_text: bool,
    /// Everything up to here was told, or was there before.
    low: i64,
    told: BTreeSet<i64>,
}

impl Tail {
    /// Begins with the newest `limit` events (at most [`LOOK_LIMIT`]), the oldest of them first. Errors: `InboundError::Read`.
    pub async fn begin(
        pool: PgPool,
        kind: Option<String>,
        limit: i64,
        shows_text: bool,
    ) -> Result<(Tail, Vec<EventRow>), InboundError> {
        let settled = settled_id(&pool).await?;
        let unsettled = rows_after(&pool, settled).await?;
        let low =
            if unsettled.len() as i64 == LOOK_LIMIT { unsettled.last().map_or(settled, |row| row.id) } else { settled };
        let told = unsettled.iter().map(|row| row.id).filter(|id| *id > low).collect();
        let mut rows = newest_rows(&pool, kind.as_deref(), limit.min(LOOK_LIMIT)).await?;
        rows.reverse();
        let tail = Tail { pool, kind, shows_text, low, told };
        let rows = rows.into_iter().map(|row| row.shown(shows_text)).collect();
        Ok((tail, rows))
    }

    /// What has come since the last look, and whether there may be more at once. Errors: `InboundError::Read`.
    pub async fn look(&mut self) -> Result<(Vec<EventRow>, bool), InboundError> {
        let rows = rows_after(&self.pool, self.low).await?;
        let is_full = rows.len() as i64 == LOOK_LIMIT;
        // So many at once are not looked at twice.
        let low = rows.iter().take_while(|row| row.is_settled || is_full).last().map(|row| row.id);
        let mut new = Vec::new();
        for row in rows {
            if self.told.insert(row.id) && self.kind.as_ref().is_none_or(|kind| *kind == row.kind) {
                new.push(row.shown(self.shows_text));
            }
        }
        self.low = self.low.max(low.unwrap_or(self.low));
        self.told = self.told.split_off(&(self.low + 1));
        Ok((new, is_full))
    }
}

/// An event as it is stored.
struct StoredRow {
    id: i64,
    event_id: String,
    kind: String,
    source: String,
    phone: Option<String>,
    occurred_at: DateTime<Utc>,
    received_at: DateTime<Utc>,
    effect: Option<String>,
    job_id: Option<i64>,
    body: Option<String>,
    /// It came so long ago that whoever stored something before it has committed.
    is_settled: bool,
}

impl StoredRow {
    fn shown(self, shows_text: bool) -> EventRow {
        let event = self.body.as_deref().and_then(|body| Incoming::read(body, self.received_at).ok());
        let log_id = event.as_ref().and_then(Incoming::log_id);
        let message = event.as_ref().and_then(Incoming::message);
        let text = message.as_ref().map(|said| said.text.clone());
        let text = text.or_else(|| event.as_ref()?.unaddressed()).filter(|_| shows_text);
        EventRow {
            id: self.id,
            event_id: self.event_id,
            log_id,
            kind: self.kind,
            source: self.source,
            phone: self.phone,
            occurred_at: self.occurred_at,
            received_at: self.received_at,
            effect: self.effect,
            job_id: self.job_id,
            text,
            attachments: message.map(|said| said.attachments).unwrap_or_default(),
        }
    }
}

/// The newest event that no later commit can come before.
async fn settled_id(pool: &PgPool) -> Result<i64, InboundError> {
    let mut tx = database::begin_plain(pool).await.map_err(InboundError::Read)?;
    let settled = sqlx::query_scalar!(
        r#"
        select id
          from outbox.events
         where received_at < clock_timestamp() - interval '10 seconds'
         order by id desc
         limit 1
        "#
    )
    .fetch_optional(&mut *tx)
    .await;
    Ok(settled.map_err(InboundError::Read)?.unwrap_or(0))
}

async fn newest_rows(pool: &PgPool, kind: Option<&str>, limit: i64) -> Result<Vec<StoredRow>, InboundError> {
    let mut tx = database::begin_plain(pool).await.map_err(InboundError::Read)?;
    sqlx::query_as!(
        StoredRow,
        r#"
        select id, event_id, type as kind, source, outbox.masked(phone) as phone, occurred_at, received_at, effect, job_id, body,
               received_at < clock_timestamp() - interval '10 seconds' as "is_settled!"
          from outbox.events
         where $1::text is null or type = $1
         order by id desc
         limit $2
        "#,
        kind,
        limit,
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(InboundError::Read)
}

async fn rows_after(pool: &PgPool, id: i64) -> Result<Vec<StoredRow>, InboundError> {
    let mut tx = database::begin_plain(pool).await.map_err(InboundError::Read)?;
    sqlx::query_as!(
        StoredRow,
        r#"
        select id, event_id, type as kind, source, outbox.masked(phone) as phone, occurred_at, received_at, effect, job_id, body,
               received_at < clock_timestamp() - interval '10 seconds' as "is_settled!"
          from outbox.events
         where id > $1
         order by id
         limit $2
        "#,
        id,
        LOOK_LIMIT,
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(InboundError::Read)
}
