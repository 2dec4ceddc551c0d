//! What a test or a person makes happen: somebody writes, somebody reacts, a message is read, webhooks get lost. Each is a
//! method of `Handle`, and a route under `/_sim`.

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post, put};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::admin::{Answer, parse, refusal};
use super::events::Event;
use super::fate::MessageState;
use super::fault::FaultsError;
use super::inbound::{Inbound, InboundError, Reaction};
use super::webhooks::WebhookFaults;
use super::{Handle, Shared};

impl Handle {
    /// Somebody writes to us. Returns the `event_id`. Errors: `InboundError`, and nothing happens.
    pub fn receive(&self, inbound: &Inbound) -> Result<String, InboundError> {
        let now = self.shared.clock.stamp();
        self.shared.state().receive(inbound, now)
    }

    /// Somebody reacts to a message of ours. Returns the `event_id`. Errors: `InboundError::Message`.
    pub fn react(&self, reaction: &Reaction) -> Result<String, InboundError> {
        let now = self.shared.clock.stamp();
        self.shared.state().react(reaction, now)
    }

    /// All events of the log, oldest first.
    pub fn events(&self) -> Vec<Event> {
        self.shared.state().log.events().cloned().collect()
    }

    /// Brings a message to this state now. Returns whether there is such a message.
    pub fn set_message(&self, message_id: &str, state: MessageState) -> bool {
        let now = self.shared.clock.stamp();
        self.shared.state().set_message(message_id, state, now)
    }

    /// Puts these faults in place of all others of webhooks. Errors: `FaultsError`, and nothing changes.
    pub fn webhook_faults(&self, faults: WebhookFaults) -> Result<(), FaultsError> {
        let faults = faults.checked()?;
        self.shared.state().webhook_faults = faults;
        Ok(())
    }
}

/// The admin routes of this file.
pub fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/_sim/receive", post(receive))
        .route("/_sim/react", post(react))
        .route("/_sim/events", get(events))
        .route("/_sim/messages/{id}", put(set_message))
        .route("/_sim/webhooks", get(webhooks).put(change_webhooks))
}

async fn receive(State(shared): State<Arc<Shared>>, body: Bytes) -> Answer {
    let inbound: Inbound = parse(&body)?;
    let received = Handle { shared }.receive(&inbound);
    received.map(|event_id| Json(json!({ "event_id": event_id }))).map_err(|error| refusal(error.to_string()))
}

async fn react(State(shared): State<Arc<Shared>>, body: Bytes) -> Answer {
    let reaction: Reaction = parse(&body)?;
    let reacted = Handle { shared }.react(&reaction);
    reacted.map(|event_id| Json(json!({ "event_id": event_id }))).map_err(|error| refusal(error.to_string()))
}

#[derive(Deserialize)]
struct Wish {
    /// The newest so many, still oldest first.
    limit: Option<usize>,
}

#[derive(Serialize)]
struct Events {
    events: Vec<Event>,
    dropped: u64,
}

async fn events(State(shared): State<Arc<Shared>>, Query(wish): Query<Wish>) -> Json<Events> {
    let state = shared.state();
    let first = state.log.events().len().saturating_sub(wish.limit.unwrap_or(usize::MAX));
    Json(Events { events: state.log.events().skip(first).cloned().collect(), dropped: state.log.dropped() })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MessageChange {
    status: MessageState,
}

async fn set_message(State(shared): State<Arc<Shared>>, Path(id): Path<String>, body: Bytes) -> Answer {
    let MessageChange { status } = parse(&body)?;
    let is_set = Handle { shared }.set_message(&id, status);
    if is_set {
        Ok(Json(json!({ "id": id, "status": status })))
    } else {
        Err((StatusCode::NOT_FOUND, Json(json!({ "error": "there is no such message" }))))
    }
}

async fn webhooks(State(shared): State<Arc<Shared>>) -> Json<WebhookFaults> {
    Json(shared.state().webhook_faults.clone())
}

/// What is not named stays.
async fn change_webhooks(State(shared): State<Arc<Shared>>, body: Bytes) -> Answer {
    let change: serde_json::Map<String, Value> = parse(&body)?;
    let mut state = shared.state();
    let mut fields = json!(state.webhook_faults);
    for (name, value) in change {
        fields[name] = value;
    }
    let changed: WebhookFaults = serde_json::from_value(fields).map_err(|error| refusal(error.to_string()))?;
    state.webhook_faults = changed.checked().map_err(|error| refusal(error.to_string()))?;
    Ok(Json(json!(state.webhook_faults)))
}
