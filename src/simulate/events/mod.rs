//! What happened, as Chert tells it: an append-only log that is listed, streamed, replayed, and carried to webhooks.

mod event;
mod list;
mod log;
mod replay;
mod stream;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};

use super::Shared;

pub use event::{Attempt, DEFAULT_VERSION, Event, EventDelivery, EventStatus, timestamp};
pub use log::{Happening, Log};
pub use stream::StreamRules;

/// The routes of contract 4.7 and 4.8.
pub fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/api/v1/events", get(list::events))
        .route("/api/v1/events/stream", get(stream::stream))
        .route("/api/v1/events/{id}", get(list::event))
        .route("/api/v1/events/{id}/replay", post(replay::replay))
        .route("/api/v1/dev-inbox", get(list::dev_inbox))
}
