//! One event: a row of the log, the envelope in it, and how its delivery went.

use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;
use uuid::Uuid;

/// The `webhook_version` of an envelope that is on its way to no subscription. Contract 4.5.
pub const DEFAULT_VERSION: &str = "2026-04-01";
/// Most attempts remembered of one event; replays would otherwise make them many.
const ATTEMPTS_LIMIT: usize = 100;

/// One row of the log; as JSON it is what the list and the stream tell (contract 4.7).
#[derive(Debug, Clone)]
pub struct Event {
    /// Order in the log, from 1, without gaps.
    pub seq: u64,
    /// The row's own id, `evt_…`; not what duplicates are told by.
    pub id: String,
    /// What duplicates are told by, `chert:msg:…`.
    pub event_id: String,
    /// The type, e.g. `message.received`.
    pub kind: &'static str,
    pub lead_id: Uuid,
    pub convo_id: Uuid,
    /// Real time; strictly growing along the log unless ties are asked for.
    pub created_at: DateTime<Utc>,
    pub delivery: EventDelivery,
    /// Real microseconds since the start.
    pub at_us: i64,
    pub trace_id: String,
    pub partner_id: Arc<str>,
    /// The envelope's `data`.
    pub data: Box<RawValue>,
}

impl Event {
    /// The envelope of contract 4.3, in this version.
    pub fn envelope<'a>(&'a self, version: &'a str) -> Envelope<'a> {
        Envelope {
            event: self.kind,
            event_id: &self.event_id,
            timestamp: self.created_at.to_rfc3339_opts(SecondsFormat::Millis, true),
            api_version: "v1",
            webhook_version: version,
            event_type: self.kind,
            trace_id: &self.trace_id,
            partner_id: &self.partner_id,
            data: &self.data,
        }
    }

    /// The row that a webhook gets if it gets rows: without the delivery, which is under way.
    pub fn row<'a>(&'a self, version: &'a str) -> Row<'a> {
        Row {
            id: &self.id,
            kind: self.kind,
            event_id: &self.event_id,
            lead_id: self.lead_id.to_string(),
            convo_id: self.convo_id.to_string(),
            payload: self.envelope(version),
            delivery: None,
            created_at: timestamp(self.created_at),
        }
    }
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Row { delivery: Some(&self.delivery), ..self.row(DEFAULT_VERSION) }.serialize(serializer)
    }
}

/// What an event says.
#[derive(Serialize)]
pub struct Envelope<'a> {
    event: &'a str,
    event_id: &'a str,
    timestamp: String,
    api_version: &'a str,
    webhook_version: &'a str,
    event_type: &'a str,
    trace_id: &'a str,
    partner_id: &'a str,
    data: &'a RawValue,
}

/// An event as the log tells it.
#[derive(Serialize)]
pub struct Row<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    event_id: &'a str,
    lead_id: String,
    convo_id: String,
    payload: Envelope<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delivery: Option<&'a EventDelivery>,
    created_at: String,
}

/// How the webhooks of an event went, all subscriptions together.
#[derive(Debug, Clone, Default)]
pub struct EventDelivery {
    /// Where the last attempt went.
    pub url: Option<String>,
    pub attempts: Vec<Attempt>,
    pub delivered_at: Option<DateTime<Utc>>,
    /// A subscription to the dev-inbox takes it.
    pub is_in_dev_inbox: bool,
    /// Deliveries that have not ended.
    open: u32,
    is_failed: bool,
}

/// Where the delivery of an event stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventStatus {
    /// Under way, or nobody wants it, or it was lost.
    Pending,
    Delivered,
    /// At least one subscription did not get it.
    Failed,
    /// Nobody wants it but the dev-inbox.
    DevInbox,
}

/// One call of a webhook.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Attempt {
    #[serde(serialize_with = "rfc3339")]
    pub at: DateTime<Utc>,
    /// The HTTP status of the answer, if there was one.
    pub status: Option<u16>,
    pub duration_ms: u64,
    #[serde(serialize_with = "text")]
    pub subscription_id: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<&'static str>,
}

impl EventDelivery {
    /// Where it stands.
    pub fn status(&self) -> EventStatus {
        if self.open > 0 {
            EventStatus::Pending
        } else if self.is_failed {
            EventStatus::Failed
        } else if self.delivered_at.is_some() {
            EventStatus::Delivered
        } else if self.is_in_dev_inbox {
            EventStatus::DevInbox
        } else {
            EventStatus::Pending
        }
    }

    /// One more delivery is under way.
    pub fn begin(&mut self) {
        self.open += 1;
    }

    /// A replay is under way: what it comes to takes the place of what was before.
    pub fn begin_again(&mut self) {
        self.open += 1;
        self.is_failed = false;
    }

    /// Remembers an attempt.
    pub fn attempted(&mut self, url: String, attempt: Attempt) {
        self.url = Some(url);
        if self.attempts.len() >= ATTEMPTS_LIMIT {
            self.attempts.remove(0);
        }
        self.attempts.push(attempt);
    }

    /// A delivery that was under way has ended.
    pub fn end(&mut self, delivered_at: Option<DateTime<Utc>>) {
        self.open = self.open.saturating_sub(1);
        match delivered_at {
            Some(_) => self.delivered_at = delivered_at,
            None => self.is_failed = true,
        }
    }
}

impl Serialize for EventDelivery {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Told<'a> {
            status: EventStatus,
            url: &'a Option<String>,
            attempts: &'a [Attempt],
            delivered_at: Option<String>,
        }
        let delivered_at = self.delivered_at.map(timestamp);
        Told { status: self.status(), url: &self.url, attempts: &self.attempts, delivered_at }.serialize(serializer)
    }
}

/// RFC 3339 in UTC with microseconds: what `since` is compared with.
pub fn timestamp(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

fn text<S: Serializer>(id: &Uuid, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

fn rfc3339<S: Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&timestamp(*time))
}
