//! The routes under `/_sim`: what really happened, and what is to go wrong next. No credentials; a loopback tool.

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, put};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::caller::{Account, AccountChange};
use super::calls::Calls;
use super::fault::{Faults, FaultsChange};
use super::ledger::LedgerEntry;
use super::{BODY_LIMIT_BYTES, Shared, by_hand, lines};

/// JSON, or a refusal that says why.
pub type Answer = Result<Json<Value>, (StatusCode, Json<Value>)>;

/// All admin routes.
pub fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/_sim/ledger", get(ledger).delete(clear_ledger))
        .route("/_sim/ledger/{idempotency_key}", get(ledger_of_key))
        .route("/_sim/calls", get(calls))
        .route("/_sim/faults", get(faults).put(change_faults))
        .route("/_sim/account", put(change_account))
        .route("/_sim/lines/{id}", put(change_line))
        .route("/_sim/health", get(health))
        .merge(by_hand::routes())
        .layer(DefaultBodyLimit::max(BODY_LIMIT_BYTES))
}

#[derive(Deserialize)]
struct Wish {
    phone: Option<String>,
    line: Option<String>,
    /// The newest so many, still oldest first.
    limit: Option<usize>,
}

async fn ledger(State(shared): State<Arc<Shared>>, Query(wish): Query<Wish>) -> Json<Value> {
    // In a query a bare `+` means a blank, and whoever types an address by hand forgets to escape it.
    let phone = wish.phone.map(|phone| format!("+{}", phone.trim_start_matches([' ', '+'])));
    let is_wanted = |entry: &&LedgerEntry| {
        phone.as_ref().is_none_or(|phone| entry.phone == *phone)
            && wish.line.as_ref().is_none_or(|line| entry.line_id == *line)
    };
    let (mut messages, dropped) = {
        let state = shared.state();
        let newest = state.ledger.entries().rev().filter(is_wanted).take(wish.limit.unwrap_or(usize::MAX));
        (newest.cloned().collect::<Vec<_>>(), state.ledger.dropped())
    };
    messages.reverse();
    Json(json!({ "messages": messages, "dropped": dropped }))
}

async fn ledger_of_key(State(shared): State<Arc<Shared>>, Path(key): Path<String>) -> Json<Value> {
    let messages: Vec<LedgerEntry> = shared.state().ledger.with_key(&key).cloned().collect();
    Json(json!({ "messages": messages }))
}

async fn clear_ledger(State(shared): State<Arc<Shared>>) -> StatusCode {
    shared.state().ledger.clear();
    StatusCode::NO_CONTENT
}

async fn calls(State(shared): State<Arc<Shared>>) -> Json<Calls> {
    Json(shared.state().calls.clone())
}

async fn faults(State(shared): State<Arc<Shared>>) -> Json<Faults> {
    Json(shared.state().faults.clone())
}

async fn change_faults(State(shared): State<Arc<Shared>>, body: Bytes) -> Answer {
    let change: FaultsChange = parse(&body)?;
    let mut state = shared.state();
    let changed = state.faults.clone().changed(change).checked().map_err(|error| refusal(error.to_string()))?;
    state.faults = changed;
    Ok(Json(json!(state.faults)))
}

async fn change_account(State(shared): State<Arc<Shared>>, body: Bytes) -> Answer {
    let change: AccountChange = parse(&body)?;
    let mut account = shared.account_mut();
    account.change(change);
    let Account { tenant, is_suspended, clock_ahead_secs, .. } = &*account;
    Ok(Json(json!({ "tenant": tenant, "suspended": is_suspended, "clock_ahead_secs": clock_ahead_secs })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LineChange {
    is_active: bool,
}

async fn change_line(State(shared): State<Arc<Shared>>, Path(id): Path<String>, body: Bytes) -> Answer {
    let change: LineChange = parse(&body)?;
    let line = lines::position(&id, shared.line_count)
        .ok_or_else(|| (StatusCode::NOT_FOUND, Json(json!({ "error": "there is no such line" }))))?;
    shared.state().lines.lines[line].is_active = change.is_active;
    Ok(Json(json!({ "id": id, "is_active": change.is_active })))
}

async fn health(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let now = shared.clock.stamp();
    Json(json!({
        "status": "ok",
        "uptime_us": now.at_us,
        "simulated_at": shared.clock.calendar(now.simulated_us),
    }))
}

/// JSON whatever the content type, so that a bare `curl -d` works.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, (StatusCode, Json<Value>)> {
    serde_json::from_slice(body).map_err(|error| refusal(error.to_string()))
}

/// 400 with this message.
pub fn refusal(message: String) -> (StatusCode, Json<Value>) {
    (StatusCode::BAD_REQUEST, Json(json!({ "error": message })))
}
