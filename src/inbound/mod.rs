//! What comes back: replies, stops and delivery. Three ways in, one effect.
//!
//! ```text
//! webhook ─┐
//! stream  ─┼─▶ event (read) ─▶ store ─▶ outbox.events ─▶ apply ─▶ recipients, suppressions, jobs
//! list    ─┘
//! ```

use std::net::SocketAddr;

pub mod run;

mod list;
pub mod listener;
pub mod signature;
mod stream;
pub mod webhook;

pub mod event;
pub mod position;
pub mod reader;
pub mod sse;
pub mod store;
pub mod tail;
mod trouble;

use run::{Shared, WayError, stopped};

/// What went wrong with what comes in; of a statement, what it was for.
#[derive(Debug, thiserror::Error)]
pub enum InboundError {
    #[error("storing events: {}", crate::database::describe(.0))]
    Store(#[source] sqlx::Error),
    #[error("electing a reader of events: {}", crate::database::describe(.0))]
    Elect(#[source] sqlx::Error),
    #[error("reading events: {}", crate::database::describe(.0))]
    Read(#[source] sqlx::Error),
    #[error("somebody else reads these events now")]
    LostElection,
    #[error("OUTBOX_WEBHOOK_LISTEN: cannot listen on {addr}")]
    Listen {
        addr: SocketAddr,
        #[source]
        source: std::io::Error,
    },
}
