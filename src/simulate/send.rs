//! `POST /send`: prove the caller, check the request, let the state decide, then answer or fail as decided.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::header;
use axum::response::Response;
use futures_util::stream;
use serde_json::json;

use super::answer::Trace;
use super::clock::Stamp;
use super::error::Refusal;
use super::state::{Call, Ending, Outcome, Receipt, Verdict};
use super::wire::Hangup;
use super::{BODY_LIMIT_BYTES, Shared, checks, fingerprint, lines};

/// How many pieces a slow body comes in, and how long each takes: 10 s in all.
const SLOW_PIECES: usize = 20;
const SLOW_PIECE_TIME: Duration = Duration::from_millis(500);

/// No answer's head is shorter, so that a cut within this and the body is always before the end.
const HEAD_BYTES: usize = 100;

/// Handles one request; may close its connection instead of answering.
pub async fn send(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    // Before anything that may wait, so that the ledger tells when callers called and not when we came round to it.
    let arrival = shared.clock.stamp();
    let hangup = request.extensions().get::<Hangup>().cloned();
    let Verdict { ready_us, ending } = match read(&shared, arrival, request).await {
        Ok(call) => shared.state().decide(call),
        Err(refusal) => shared.state().refuse(arrival, refusal),
    };
    shared.clock.wait_until(ready_us).await;

    let trace = Trace::random();
    match ending {
        Ending::Answer(outcome) => answer(&shared, &trace, &outcome),
        Ending::SlowAnswer(outcome) => trickle(answer(&shared, &trace, &outcome)).await,
        Ending::HalfAnswer { outcome, share } => cut(answer(&shared, &trace, &outcome), share, hangup).await,
        Ending::Page { http_status, content_type, body } => trace.bytes(http_status, content_type, body),
        Ending::Hang => std::future::pending().await,
        Ending::HangUp => match hangup {
            Some(hangup) => hangup.hang_up().await,
            None => trace.bytes(500, "text/plain", "this connection cannot be closed from here\n"),
        },
    }
}

/// The checks that come before the idempotency key. Errors: 2xxx, 1007, 1xxx, 4098, 5001, 2006, in this order.
async fn read(shared: &Shared, arrival: Stamp, request: Request) -> Result<Call, Refusal> {
    let (head, body) = request.into_parts();
    let raw_body = to_bytes(body, BODY_LIMIT_BYTES).await.map_err(|_| Refusal::oversized())?;
    shared.admit(arrival, &head.headers, &raw_body)?;
    let wanted = checks::parse(&raw_body, shared.line_count)?;
    Ok(Call { arrival, wanted, fingerprint: fingerprint(&raw_body) })
}

fn answer(shared: &Shared, trace: &Trace, outcome: &Outcome) -> Response {
    match outcome {
        Outcome::Refused(refusal) => refusal.response(shared.error_shape.is_flat(refusal.code), trace),
        Outcome::Accepted(Receipt { is_duplicate, message_id, lead, lead_created }) => {
            let body = json!({
                "status": if *is_duplicate { "duplicate" } else { "sent" },
                "message_id": message_id.simple().to_string(),
                "lead_id": lead.lead_id.to_string(),
                "lead_created": lead_created,
                "convo_id": lead.convo_id.to_string(),
                "phone_line_id": lines::id(lead.line),
            });
            trace.json(200, &body)
        }
    }
}

/// The same answer, until the connection breaks at this share of it (0 to 1): in its head or in its body.
async fn cut(answer: Response, share: f64, hangup: Option<Hangup>) -> Response {
    let (head, body) = answer.into_parts();
    let body = to_bytes(body, usize::MAX).await.expect("our own answer is in memory");
    if let Some(hangup) = hangup {
        hangup.hang_up_after(1 + (share * (HEAD_BYTES + body.len()) as f64) as usize);
    }
    Response::from_parts(head, Body::from(body))
}

/// The same answer, its head at once and its body in pieces.
async fn trickle(answer: Response) -> Response {
    let (mut head, body) = answer.into_parts();
    let whole = to_bytes(body, usize::MAX).await.expect("our own answer is in memory");
    head.headers.insert(header::CONTENT_LENGTH, whole.len().into());
    let piece_bytes = whole.len().div_ceil(SLOW_PIECES).max(1);
    let pieces = stream::unfold(whole, move |mut rest: Bytes| async move {
        if rest.is_empty() {
            return None;
        }
        tokio::time::sleep(SLOW_PIECE_TIME).await;
        let piece = rest.split_to(piece_bytes.min(rest.len()));
        Some((Ok::<_, std::convert::Infallible>(piece), rest))
    });
    Response::from_parts(head, Body::from_stream(pieces))
}
