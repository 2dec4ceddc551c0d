//! `GET /events/stream`: new events as they happen, until the server ends the connection. Contract 4.8.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use futures_util::stream;
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep};

use super::event::{DEFAULT_VERSION, Event};
use super::list::parse_since;
use crate::simulate::Shared;
use crate::simulate::answer::Trace;
use crate::simulate::error::Refusal;
use crate::simulate::options::EventShape;
use crate::simulate::request;

/// Most events in one piece of the body, and under one hold of the lock.
const PIECE_EVENTS: usize = 100;

#[derive(Deserialize)]
struct Wish {
    since: Option<String>,
}

/// Opens a stream: what is newer than `since`, then what happens. Without `since` nothing of the past. Errors: 1002.
pub async fn stream(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let trace = Trace::random();
    let wish = request::admit(&shared, request).await.and_then(|asked| asked.query());
    match wish.and_then(|Wish { since }| open(&shared, since.as_deref())) {
        Ok(opened) => {
            let body = stream::unfold(opened, |mut opened| async move {
                opened.next_piece().await.map(|piece| (Ok::<_, Infallible>(piece), opened))
            });
            trace.bytes(200, "text/event-stream", Body::from_stream(body))
        }
        Err(refusal) => request::tell::<()>(&shared, &trace, Err(refusal)),
    }
}

fn open(shared: &Arc<Shared>, since: Option<&str>) -> Result<Opened, Refusal> {
    let since = since.map(parse_since).transpose()?;
    let state = shared.state();
    Ok(Opened {
        seq: state.log.seq_at(since),
        newest: state.log.newest(),
        shared: Arc::clone(shared),
        end: Box::pin(sleep(shared.stream.life)),
        heartbeat: Box::pin(sleep(shared.stream.heartbeat)),
        is_ended: false,
    })
}

/// How streams behave. Times are real.
pub struct StreamRules {
    pub life: Duration,
    pub heartbeat: Duration,
    pub shape: EventShape,
}

/// One stream. It holds no events: a slow reader reads from the log, and misses what the log drops.
struct Opened {
    shared: Arc<Shared>,
    /// Number of the last event that was told.
    seq: u64,
    newest: watch::Receiver<u64>,
    end: Pin<Box<Sleep>>,
    heartbeat: Pin<Box<Sleep>>,
    is_ended: bool,
}

impl Opened {
    /// The next bytes of the body, as soon as there are some; `None` after the last.
    async fn next_piece(&mut self) -> Option<Bytes> {
        if self.is_ended {
            return None;
        }
        loop {
            // The end and the heartbeat come first: a busy log would put them off for ever.
            let has_news = *self.newest.borrow_and_update() > self.seq;
            tokio::select! {
                biased;
                () = &mut self.end => {
                    self.is_ended = true;
                    return Some(Bytes::from_static(b"event: close\ndata: {}\n\n"));
                }
                () = &mut self.heartbeat => {
                    self.heartbeat.as_mut().reset(Instant::now() + self.shared.stream.heartbeat);
                    return Some(Bytes::from_static(b": heartbeat\n\n"));
                }
                () = std::future::ready(()), if has_news => {
                    let piece = self.new_events();
                    if !piece.is_empty() {
                        return Some(piece.into());
                    }
                }
                changed = self.newest.changed() => changed.ok()?,
            }
        }
    }

    fn new_events(&mut self) -> Vec<u8> {
        let mut piece = Vec::new();
        let state = self.shared.state();
        // What the log has dropped by now is passed over.
        let mut last_seq = state.log.seq_at(None);
        for event in state.log.after(self.seq, PIECE_EVENTS) {
            last_seq = event.seq;
            write(&mut piece, event, self.shared.stream.shape);
        }
        self.seq = last_seq;
        piece
    }
}

fn write(piece: &mut Vec<u8>, event: &Event, shape: EventShape) {
    piece.extend_from_slice(b"data: ");
    match shape {
        EventShape::Row => serde_json::to_writer(&mut *piece, event),
        EventShape::Envelope => serde_json::to_writer(&mut *piece, &event.envelope(DEFAULT_VERSION)),
    }
    .expect("plain data with text keys becomes JSON");
    piece.extend_from_slice(b"\n\n");
}
