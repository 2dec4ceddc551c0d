//! What callers read: `GET /phone-numbers` and `GET /messages/{id}`.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};
use uuid::Uuid;

use super::answer::Trace;
use super::clock::Clock;
use super::error::Refusal;
use super::ledger::LedgerEntry;
use super::{Shared, lines, request};

/// Simulated time from a send to its delivery, in microseconds.
const DELIVERY_US: i64 = 1_000_000;

/// The tenant's lines, all of them in one answer. Contract 5.1.
pub async fn phone_numbers(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    request::answer(&shared, request, |_| {
        let state = shared.state();
        let lines: Vec<Value> = (0..state.lines.lines.len())
            .map(|line| {
                json!({
                    "id": lines::id(line),
                    "phone_line_id": lines::id(line),
                    "phone_number": lines::number(line),
                    "service": "imessage",
                    "is_active": state.lines.lines[line].is_active,
                    "capabilities": ["imessage", "send", "receive"],
                })
            })
            .collect();
        Ok(json!({ "phone_numbers": lines }))
    })
    .await
}

/// One message of the ledger. Contract 2.6; errors: 2003 if it is not there.
pub async fn message(State(shared): State<Arc<Shared>>, Path(id): Path<String>, request: Request) -> Response {
    request::answer(&shared, request, |_| {
        let state = shared.state();
        let entry = Uuid::parse_str(&id).ok().and_then(|id| state.ledger.with_message(id));
        let entry = entry.ok_or_else(|| Refusal::new(2003))?;
        let chat_id = state.leads.get(&entry.phone).map(|lead| lead.lead_id.to_string());
        Ok(json!({ "message": message_object(entry, chat_id, &shared.clock) }))
    })
    .await
}

/// The answer to a route that the API does not have.
pub async fn unknown_route() -> Response {
    Refusal::new(2011).response(false, &Trace::random())
}

/// The answer to a route that the API has with another method.
pub async fn unknown_method() -> Response {
    let refusal = Refusal { http_status: StatusCode::METHOD_NOT_ALLOWED.as_u16(), ..Refusal::new(2011) };
    refusal.because("This route has no such method.").response(false, &Trace::random())
}

/// Times are real ones, whatever the time scale: callers compare them with their own clock.
fn message_object(entry: &LedgerEntry, chat_id: Option<String>, clock: &Clock) -> Value {
    let delivery_us = entry.at_us.saturating_add(clock.real_us(DELIVERY_US));
    let is_delivered = delivery_us <= clock.stamp().at_us;
    json!({
        "id": entry.message_id,
        "chat_id": chat_id,
        "parts": [{ "type": "text", "value": entry.body }],
        "status": if is_delivered { "delivered" } else { "sent" },
        "direction": "outbound",
        "created_at": rfc3339(entry.at),
        "delivered_at": is_delivered.then(|| rfc3339(clock.calendar(delivery_us))),
        "read_at": null,
        "service": "imessage",
    })
}

fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}
