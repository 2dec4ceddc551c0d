//! `POST /events/{id}/replay`: one recorded event goes to its webhooks once more, now. Contract 3.3 and 4.7.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::response::Response;
use futures_util::future::join_all;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::simulate::Shared;
use crate::simulate::answer::Trace;
use crate::simulate::error::Refusal;
use crate::simulate::request;
use crate::simulate::webhooks::{Subscription, Tried, attempt};

#[derive(Deserialize)]
struct Wish {
    subscription_id: Option<String>,
}

/// Replays one event to the subscription that is named, else to all that want it; one attempt each.
/// Errors: 2011 unknown event, 1002 nobody to deliver to, 3004 with the webhook's status if one failed.
pub async fn replay(State(shared): State<Arc<Shared>>, Path(id): Path<String>, request: Request) -> Response {
    let trace = Trace::random();
    let wish = match request::admit(&shared, request).await.and_then(|asked| asked.query()) {
        Ok(wish) => wish,
        Err(refusal) => return request::tell::<()>(&shared, &trace, Err(refusal)),
    };
    match again(&shared, &id, &wish).await {
        Ok(told) => trace.json(200, &told),
        Err((refusal, downstream_status)) => {
            shared.state().calls.refused(refusal.code);
            let body = json!({
                "ok": false,
                "error": refusal.message,
                "downstream_status": downstream_status,
                "code": refusal.code,
                "message": refusal.message,
                "retryable": refusal.retryable,
                "trace_id": trace.as_str(),
            });
            trace.json(refusal.http_status, &body)
        }
    }
}

/// Why there was no replay, and what the webhook answered if it was asked.
type Failure = (Refusal, Option<u16>);

async fn again(shared: &Shared, id: &str, wish: &Wish) -> Result<Value, Failure> {
    let (seq, destinations) = begin(shared, id, wish).map_err(|refusal| (refusal, None))?;
    let tried = join_all(destinations.iter().map(|destination| attempt(shared, seq, *destination))).await;

    let now = shared.clock.calendar(shared.clock.stamp().at_us);
    let mut state = shared.state();
    if let Some(event) = state.log.get_mut(seq) {
        for one in &tried {
            event.delivery.end(matches!(one, Tried::Delivered(_)).then_some(now));
        }
    }
    let mut downstream_status = None;
    for one in tried {
        match one {
            Tried::Delivered(status) => downstream_status = Some(status),
            Tried::Refused(status) => return Err((Refusal::new(3004), Some(status))),
            Tried::Failed(status) => return Err((Refusal::new(3004), status)),
            Tried::Gone => return Err((Refusal::new(3004), None)),
        }
    }
    let event = state.log.get(seq).ok_or_else(|| (Refusal::new(2011), None))?;
    Ok(json!({ "ok": true, "downstream_status": downstream_status, "event": event }))
}

/// The event's number and where it goes; from here on its delivery is under way.
fn begin(shared: &Shared, id: &str, wish: &Wish) -> Result<(u64, Vec<Uuid>), Refusal> {
    let mut state = shared.state();
    let event = state.log.with_id(id).ok_or_else(|| Refusal::new(2011))?;
    let (seq, kind) = (event.seq, event.kind);
    let is_meant = |one: &&Subscription| match &wish.subscription_id {
        Some(id) => one.is_active && one.id.to_string() == *id,
        None => one.wants(kind),
    };
    let meant: Vec<&Subscription> = state.subscriptions.all().filter(is_meant).collect();
    let destinations: Vec<Uuid> = meant.iter().filter(|one| !one.is_dev_inbox()).map(|one| one.id).collect();
    if destinations.is_empty() {
        let message =
            if meant.is_empty() { "The event has no destination." } else { "The dev-inbox takes no replays." };
        return Err(Refusal::new(1002).because(message));
    }
    if let Some(event) = state.log.get_mut(seq) {
        destinations.iter().for_each(|_| event.delivery.begin_again());
    }
    Ok((seq, destinations))
}
