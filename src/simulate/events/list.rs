//! `GET /events`, `GET /events/{id}` and `GET /dev-inbox`: pages of the log, newest first. Contract 4.7.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::response::Response;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::event::{Event, EventStatus};
use super::log::Filter;
use crate::simulate::Shared;
use crate::simulate::error::Refusal;
use crate::simulate::request::{self, Asked};

/// Events on one page if the caller does not say, and at most.
const PAGE: usize = 50;
const PAGE_LIMIT: usize = 200;

/// The query of a list; what is absent does not filter.
#[derive(Deserialize)]
struct Wish {
    #[serde(rename = "type")]
    kind: Option<String>,
    status: Option<EventStatus>,
    lead_id: Option<String>,
    since: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

#[derive(Serialize)]
struct Page {
    events: Vec<Event>,
    next_cursor: Option<String>,
    count: usize,
}

/// One page of the log. Errors: 1002 for a query that makes no sense.
pub async fn events(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    request::answer(&shared, request, |asked| page(&shared, asked, false)).await
}

/// One page of what subscriptions to the dev-inbox took, in the same shape.
pub async fn dev_inbox(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    request::answer(&shared, request, |asked| page(&shared, asked, true)).await
}

/// One row with all its attempts. Errors: 2011.
pub async fn event(State(shared): State<Arc<Shared>>, Path(id): Path<String>, request: Request) -> Response {
    request::answer(&shared, request, |_| shared.state().log.with_id(&id).cloned().ok_or_else(|| Refusal::new(2011)))
        .await
}

/// The time of `?since=`. Errors: 1002.
pub fn parse_since(since: &str) -> Result<DateTime<Utc>, Refusal> {
    let time = DateTime::parse_from_rfc3339(since);
    time.map(|time| time.to_utc()).map_err(|_| Refusal::new(1002).because("`since` must be a time as in ISO 8601."))
}

fn page(shared: &Shared, asked: &Asked, in_dev_inbox: bool) -> Result<Page, Refusal> {
    let Wish { kind, status, lead_id, since, limit, cursor } = asked.query()?;
    let limit = limit.unwrap_or(PAGE);
    if !(1..=PAGE_LIMIT).contains(&limit) {
        return Err(Refusal::new(1002).because("`limit` must be from 1 to 200."));
    }
    let since = since.as_deref().map(parse_since).transpose()?;
    let mut state = shared.state();
    state.log.forget_old(shared.clock.stamp().at_us);
    let seq = |cursor: String| {
        state.log.seq_of_cursor(&cursor).ok_or_else(|| Refusal::new(1002).because("`cursor` is none of ours."))
    };
    let before_seq = cursor.map(seq).transpose()?;
    let filter = Filter { kind, status, lead_id, since, before_seq, in_dev_inbox };
    let (events, next_cursor) = state.log.page(&filter, limit);
    Ok(Page { count: events.len(), events, next_cursor })
}
