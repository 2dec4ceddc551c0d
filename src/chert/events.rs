//! What Chert remembers of what happened: the event log by pages, the stream of what is new, and one event told again.

use std::time::Duration;

use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::chert::ask::{AskError, accepted, segment};
use crate::chert::client::{Client, cause};
use crate::chert::reply::Cause;

/// The most events that one page may have.
pub const PAGE_LIMIT: u16 = 200;
const EVENT_STREAM: &str = "text/event-stream";
/// No heartbeat and nothing else for this long, and a stream counts as broken: Chert sends one every 15 s.
const SILENCE: Duration = Duration::from_secs(40);
/// Chert ends a stream after 60 s; one that it never ends is ended here.
const LONGEST_STREAM: Duration = Duration::from_secs(24 * 3_600);

/// A page of the event log, the newest event first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventPage {
    /// Each row as its JSON text, byte for byte.
    pub events: Vec<String>,
    /// Where the next page, of older events, begins; none on the last.
    pub next_cursor: Option<String>,
}

/// A connection on which Chert tells what happens, while it happens.
#[derive(Debug)]
pub struct EventStream {
    response: reqwest::Response,
    silence: Duration,
}

impl Client {
    /// A page of the events created strictly after `since` (ISO 8601), at most `limit` (1 to [`PAGE_LIMIT`]) of them.
    /// Source: API contract 4.7.
    pub async fn events(&self, since: &str, cursor: Option<&str>, limit: u16) -> Result<EventPage, AskError> {
        self.page("events", since, cursor, limit).await
    }

    /// A page of what was recorded for a subscription to `https://dev-inbox`; its shape is taken to be that of the log
    /// (API contract 8, question 45).
    pub async fn dev_inbox(&self, since: &str, cursor: Option<&str>, limit: u16) -> Result<EventPage, AskError> {
        self.page("dev-inbox", since, cursor, limit).await
    }

    async fn page(&self, route: &str, since: &str, cursor: Option<&str>, limit: u16) -> Result<EventPage, AskError> {
        #[derive(Deserialize)]
        struct Page {
            events: Vec<Box<RawValue>>,
            next_cursor: Option<String>,
        }
        let limit = limit.to_string();
        let mut query = vec![("since", since), ("limit", limit.as_str())];
        query.extend(cursor.map(|cursor| ("cursor", cursor)));
        let page: Page = self.ask(Method::GET, route, &query, &Value::Null, "a page of events").await?;
        let events = page.events.into_iter().map(|row| Box::<str>::from(row).into_string()).collect();
        Ok(EventPage { events, next_cursor: page.next_cursor })
    }

    /// Has one event of the log, by its row's id (`evt_…`), delivered to webhooks again: to all, or to one subscription.
    /// Source: API contract 4.7.
    pub async fn replay(&self, id: &str, subscription_id: Option<&str>) -> Result<(), AskError> {
        let route = format!("events/{}/replay", segment(id));
        let query: Vec<_> = subscription_id.map(|id| ("subscription_id", id)).into_iter().collect();
        self.ask::<IgnoredAny>(Method::POST, &route, &query, &Value::Null, "JSON").await.map(drop)
    }

    /// Opens the stream of events, from what was created strictly after `since` on. It may last a day,
    /// which Chert never lets it; connecting takes as long as any call may. Source: API contract 4.8.
    pub async fn event_stream(&self, since: &str) -> Result<EventStream, AskError> {
        let request = self.request(Method::GET, "events/stream", &[("since", since)], &Value::Null);
        let request = request.header(ACCEPT, EVENT_STREAM).timeout(LONGEST_STREAM);
        let opened = tokio::time::timeout(self.timeout(), async {
            let response = request.send().await.map_err(|error| AskError::Unreachable(cause(&error)))?;
            accepted(response).await
        });
        let no_answer = |_| AskError::Unreachable(Cause("no answer in time".to_owned()));
        let response = opened.await.map_err(no_answer)??;
        // A proxy's page is no sign that events would be heard.
        let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if !kind.starts_with(EVENT_STREAM) {
            return Err(AskError::Unreadable("a stream of events"));
        }
        Ok(EventStream { response, silence: SILENCE })
    }
}

impl EventStream {
    /// The next bytes; none when Chert has ended the stream. Dropping the future loses nothing.
    /// Errors: the connection broke, or was silent for 40 s.
    pub async fn chunk(&mut self) -> Result<Option<impl AsRef<[u8]> + use<>>, AskError> {
        let silent = format!("no heartbeat for {} s", self.silence.as_secs());
        let chunk = tokio::time::timeout(self.silence, self.response.chunk()).await;
        let chunk = chunk.map_err(|_| AskError::Unreachable(Cause(silent)))?;
        chunk.map_err(|error| AskError::Unreachable(cause(&error)))
    }
}
