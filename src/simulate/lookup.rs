//! What callers read: `GET /phone-numbers` and `GET /messages/{id}`.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};
use uuid::Uuid;

use super::answer::Trace;
use super::clock::micros;
use super::error::Refusal;
use super::options::MessageShape;
use super::{Shared, lines, request};

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

/// One message of the ledger. Contract 2.6; errors: 2003 if it is not there, or not yet.
pub async fn message(State(shared): State<Arc<Shared>>, Path(id): Path<String>, request: Request) -> Response {
    request::answer(&shared, request, |_| {
        let now_us = shared.clock.stamp().at_us;
        let state = shared.state();
        let lag_us = micros(state.options.messages.message_lag);
        let entry = Uuid::parse_str(&id).ok().and_then(|id| state.ledger.with_message(id));
        let entry = entry.filter(|entry| entry.at_us.saturating_add(lag_us) <= now_us);
        let entry = entry.ok_or_else(|| Refusal::new(2003))?;
        let lead = state.leads.get(&entry.phone).ok_or_else(|| Refusal::new(2003))?;
        let message = state.fate(entry).message(entry, lead.lead_id, &shared.clock, now_us);
        Ok(match state.options.messages.message_shape {
            MessageShape::Wrapped => json!({ "message": message }),
            MessageShape::Bare => message,
        })
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
