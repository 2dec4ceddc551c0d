//! How an event gets to a webhook: signed afresh at every attempt, a few attempts, a few at a time. Contract 4.4 and 4.6.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::{Client, redirect};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::QUEUE_LIMIT;
use crate::chert::auth;
use crate::simulate::Shared;
use crate::simulate::clock::system_time;
use crate::simulate::events::Attempt;
use crate::simulate::options::{EventShape, WebhookOptions};

/// Most calls of webhooks at once.
const CALLS_LIMIT: usize = 64;

/// One event on its way to one subscription.
pub struct Dispatch {
    pub seq: u64,
    pub subscription_id: Uuid,
    /// Real time before the first attempt.
    pub held_back: Duration,
}

/// What one attempt came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tried {
    /// 2xx.
    Delivered(u16),
    /// 5xx, or no answer: it is worth another attempt.
    Failed(Option<u16>),
    /// Anything else: it is not (contract 8, question 40).
    Refused(u16),
    /// The subscription or the event is no more.
    Gone,
}

/// What all deliveries share.
pub struct Deliverer {
    http: Client,
    calls: Semaphore,
    waits: Vec<Duration>,
}

impl Deliverer {
    /// Errors: there is no TLS to be had.
    pub fn new(options: &WebhookOptions) -> reqwest::Result<Deliverer> {
        let http =
            Client::builder().no_proxy().redirect(redirect::Policy::none()).timeout(options.webhook_timeout).build()?;
        Ok(Deliverer { http, calls: Semaphore::new(CALLS_LIMIT), waits: options.webhook_waits.clone() })
    }
}

/// Delivers what comes from `queue` until `stop`, then drops what is under way.
pub async fn run(shared: Arc<Shared>, mut queue: mpsc::Receiver<Dispatch>, stop: CancellationToken) {
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            Some(_) = open.join_next() => {}
            Some(dispatch) = queue.recv(), if open.len() < QUEUE_LIMIT => {
                open.spawn(deliver(Arc::clone(&shared), dispatch));
            }
        }
    }
}

async fn deliver(shared: Arc<Shared>, dispatch: Dispatch) {
    let Dispatch { seq, subscription_id, held_back } = dispatch;
    tokio::time::sleep(held_back).await;
    let mut delivered_at = None;
    for wait in &shared.deliverer.waits {
        tokio::time::sleep(*wait).await;
        match attempt(&shared, seq, subscription_id).await {
            Tried::Failed(_) => {}
            Tried::Delivered(_) => {
                delivered_at = Some(shared.clock.calendar(shared.clock.stamp().at_us));
                break;
            }
            Tried::Refused(_) | Tried::Gone => break,
        }
    }
    if let Some(event) = shared.state().log.get_mut(seq) {
        event.delivery.end(delivered_at);
    }
}

/// Calls the webhook once, and writes the attempt down.
pub async fn attempt(shared: &Shared, seq: u64, subscription_id: Uuid) -> Tried {
    let _turn = shared.deliverer.calls.acquire().await.expect("the semaphore is never closed");
    let Some(letter) = letter(shared, seq, subscription_id) else { return Tried::Gone };
    let Letter { url, kind, event_id, secret, body } = letter;
    let unix_secs = system_time().timestamp().saturating_add(shared.account().clock_ahead_secs);
    let hex = auth::sign(secret.expose_secret(), unix_secs, &body);
    let call = shared
        .deliverer
        .http
        .post(&url)
        .header("content-type", "application/json")
        .header("x-webhook-event", kind)
        .header("x-webhook-event-id", event_id)
        .header("x-webhook-subscription-id", subscription_id.to_string())
        .header("x-webhook-signature", format!("t={unix_secs},v1={hex}"))
        .header(auth::SIGNATURE_HEADER, format!("v1,{unix_secs},{hex}"))
        .body(body);
    let at = shared.clock.calendar(shared.clock.stamp().at_us);
    let started = Instant::now();
    let answered = call.send().await;
    let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);

    let status = answered.as_ref().ok().map(|response| response.status().as_u16());
    let error = answered.err().map(|error| if error.is_timeout() { "timeout" } else { "unreachable" });
    if let Some(event) = shared.state().log.get_mut(seq) {
        event.delivery.attempted(url, Attempt { at, status, duration_ms, subscription_id, error });
    }
    match status {
        Some(status @ 200..=299) => Tried::Delivered(status),
        Some(status) if status < 500 => Tried::Refused(status),
        _ => Tried::Failed(status),
    }
}

/// What is sent, and where to.
struct Letter {
    url: String,
    kind: &'static str,
    event_id: String,
    secret: SecretString,
    body: Vec<u8>,
}

/// The event as this subscription wants it; `None` if one of them is no more, or is switched off.
fn letter(shared: &Shared, seq: u64, subscription_id: Uuid) -> Option<Letter> {
    let state = shared.state();
    let event = state.log.get(seq)?;
    let subscription = state.subscriptions.get(subscription_id).filter(|one| one.is_active)?;
    let body = match state.webhook_faults.shape {
        EventShape::Envelope => serde_json::to_vec(&event.envelope(&subscription.version)),
        EventShape::Row => serde_json::to_vec(&event.row(&subscription.version)),
    };
    Some(Letter {
        url: subscription.url.clone(),
        kind: event.kind,
        event_id: event.event_id.clone(),
        secret: subscription.secret.clone(),
        body: body.expect("plain data with text keys becomes JSON"),
    })
}
