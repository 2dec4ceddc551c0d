//! The first way in: Chert posts an event here. It is verified, stored, and answered 200 only then; what it means comes later.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_LENGTH;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use chrono::TimeDelta;
use futures_util::StreamExt as _;
use secrecy::SecretString;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tracing::{debug, warn};

use crate::chert::auth::CLOCK_WINDOW_SECS;
use crate::chert::client::wall_clock;
use crate::inbound::Shared;
use crate::inbound::event::Incoming;
use crate::inbound::signature::{Refused, timely, verify};
use crate::inbound::store::{Source, store};

/// Where Chert posts to.
pub const PATH: &str = "/webhooks/chert";
/// The largest body that is taken.
const MAX_BODY: usize = 1024 * 1024;
/// A body that is too large is read on to this, so that its sender hears the answer before the connection ends.
const MAX_IGNORED: usize = 8 * MAX_BODY;
/// The most requests in flight; with the largest of bodies they hold 64 MiB.
const MOST_IN_FLIGHT: usize = 64;
/// How long a body may take to arrive.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// How long storing may take: after that Chert is told to try again.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);
/// Refusals are logged at most this often, since anybody can cause them.
const COMPLAINT_EVERY: Duration = Duration::from_secs(60);

struct Receiving {
    shared: Arc<Shared>,
    /// The current secret of the subscription, and during a rotation the previous one.
    secrets: Vec<SecretString>,
    room: Semaphore,
    complained: Mutex<Option<Instant>>,
}

/// `POST /webhooks/chert` and nothing else.
pub(super) fn routes(shared: Arc<Shared>, secrets: Vec<SecretString>) -> Router {
    let room = Semaphore::new(MOST_IN_FLIGHT);
    let receiving = Receiving { shared, secrets, room, complained: Mutex::new(None) };
    let nothing = || async { StatusCode::NOT_FOUND };
    Router::new().route(PATH, post(receive).fallback(nothing)).fallback(nothing).with_state(Arc::new(receiving))
}

async fn receive(State(receiving): State<Arc<Receiving>>, request: Request) -> Response {
    match take(&receiving, request).await {
        Ok(new) => {
            receiving.shared.stored(new, "webhook");
            StatusCode::OK.into_response()
        }
        Err(refused) => {
            receiving.complain(refused);
            (refused.status(), format!("{refused}\n")).into_response()
        }
    }
}

/// Stores the event of a request, and returns how many events that were new: one or none.
async fn take(receiving: &Receiving, request: Request) -> Result<u64, Refused> {
    let (head, body) = request.into_parts();
    // Whoever has nothing to show need not be listened to.
    timely(&head.headers, wall_clock().timestamp())?;
    let _place = receiving.room.try_acquire().map_err(|_| Refused::Busy)?;
    let length = head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > MAX_IGNORED) {
        return Err(Refused::TooLarge);
    }
    let body = timeout(READ_TIMEOUT, read(body)).await.map_err(|_| Refused::CutOff)??;
    let now = wall_clock();
    verify(&head.headers, &body, &receiving.secrets, now.timestamp())?;
    let text = std::str::from_utf8(&body).map_err(|_| Refused::NotAnEvent)?;
    // This machine's clock may be so far behind. Storing cuts what is later than the database's.
    let latest = now + TimeDelta::seconds(CLOCK_WINDOW_SECS);
    let event = Incoming::read(text, latest).map_err(|_| Refused::NotAnEvent)?;
    let stored = timeout(STORE_TIMEOUT, store(&receiving.shared.pool, Source::Webhook, &[event])).await;
    let stored = stored.map_err(|_| Refused::NotStored)?;
    stored.map_err(|error| {
        debug!(%error, "A webhook was not stored");
        Refused::NotStored
    })
}

/// The whole body. Errors: `TooLarge`, `CutOff`.
async fn read(body: Body) -> Result<Vec<u8>, Refused> {
    let mut pieces = body.into_data_stream();
    let (mut whole, mut length) = (Vec::new(), 0);
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| Refused::CutOff)?;
        length += piece.len();
        if length <= MAX_BODY {
            whole.extend_from_slice(&piece);
        } else if length <= MAX_IGNORED {
            whole = Vec::new();
        } else {
            return Err(Refused::TooLarge);
        }
    }
    if length > MAX_BODY { Err(Refused::TooLarge) } else { Ok(whole) }
}

impl Receiving {
    fn complain(&self, refused: Refused) {
        let mut complained = self.complained.lock().unwrap_or_else(PoisonError::into_inner);
        if complained.is_none_or(|at| at.elapsed() >= COMPLAINT_EVERY) {
            *complained = Some(Instant::now());
            warn!("A webhook was refused with {}: {refused}", refused.status().as_u16());
        }
    }
}
