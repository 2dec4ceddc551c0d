//! What comes back: replies, stops and delivery. Three ways in, one effect.
//!
//! ```text
//! webhook ─┐
//! stream  ─┼─▶ event (read) ─▶ store ─▶ outbox.events ─▶ optout, weigh ─▶ apply ─▶ recipients, suppressions, jobs
//! list    ─┘
//! ```

use std::net::SocketAddr;

pub mod catchup;
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
mod trouble;

pub mod apply;
mod effects;
pub mod optout;
pub mod weigh;

pub mod delivery;

pub mod tail;

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
    #[error("applying events: {}", crate::database::describe(.0))]
    Apply(#[source] sqlx::Error),
    #[error("somebody else reads these events now")]
    LostElection,
    #[error("OUTBOX_WEBHOOK_LISTEN: cannot listen on {addr}")]
    Listen {
        addr: SocketAddr,
        #[source]
        source: std::io::Error,
    },
}

impl InboundError {
    /// Whether the database refuses what it was given (classes 21 to 23), so that trying the same again is of no use.
    pub fn is_refusal(&self) -> bool {
        self.is_of_class(&["21", "22", "23"])
    }

    /// Whether two transactions got in each other's way (class 40), and this one gave way.
    pub fn is_conflict(&self) -> bool {
        self.is_of_class(&["40"])
    }

    /// Whether somebody else holds the rows for longer than is waited for (class 55).
    pub fn is_locked(&self) -> bool {
        self.is_of_class(&["55"])
    }

    fn is_of_class(&self, classes: &[&str]) -> bool {
        let (InboundError::Store(error) | InboundError::Elect(error) | InboundError::Apply(error)) = self else {
            return false;
        };
        let code = error.as_database_error().and_then(|refused| refused.code());
        code.is_some_and(|code| classes.iter().any(|class| code.starts_with(class)))
    }
}
