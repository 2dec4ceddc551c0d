//! `/webhook-subscriptions`: create, list, look at, change, delete. Contract 4.5.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use axum::routing::get;
use serde_json::{Value, json};
use uuid::Uuid;

use super::subscriptions::Subscription;
use crate::simulate::Shared;
use crate::simulate::error::Refusal;
use crate::simulate::request;

/// All routes of subscriptions.
pub fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/api/v1/webhook-subscriptions", get(list).post(create))
        .route("/api/v1/webhook-subscriptions/{id}", get(one).patch(change).delete(delete))
}

async fn create(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    request::answer(&shared, request, |asked| {
        let wish = asked.json()?;
        let now = shared.clock.calendar(shared.clock.stamp().at_us);
        let mut state = shared.state();
        let created = state.subscriptions.create(wish, now)?;
        Ok(json!({ "subscription": created.object_with_secret() }))
    })
    .await
}

async fn list(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    request::answer(&shared, request, |_| {
        let state = shared.state();
        let all: Vec<Value> = state.subscriptions.all().map(Subscription::object).collect();
        Ok(json!({ "subscriptions": all }))
    })
    .await
}

async fn one(State(shared): State<Arc<Shared>>, Path(id): Path<String>, request: Request) -> Response {
    request::answer(&shared, request, |_| {
        let state = shared.state();
        let one = state.subscriptions.get(parse_id(&id)?).ok_or_else(|| Refusal::new(2011))?;
        Ok(json!({ "subscription": one.object() }))
    })
    .await
}

async fn change(State(shared): State<Arc<Shared>>, Path(id): Path<String>, request: Request) -> Response {
    request::answer(&shared, request, |asked| {
        let wish = asked.json()?;
        let mut state = shared.state();
        Ok(json!({ "subscription": state.subscriptions.change(parse_id(&id)?, wish)?.object() }))
    })
    .await
}

async fn delete(State(shared): State<Arc<Shared>>, Path(id): Path<String>, request: Request) -> Response {
    request::answer(&shared, request, |_| {
        shared.state().subscriptions.delete(parse_id(&id)?)?;
        Ok(json!({ "success": true }))
    })
    .await
}

/// What is no id is none of ours. Errors: 2011.
fn parse_id(id: &str) -> Result<Uuid, Refusal> {
    Uuid::parse_str(id).map_err(|_| Refusal::new(2011))
}
