//! What comes back: replies, stops and delivery. Three ways in, one effect.
//!
//! ```text
//! webhook ─┐
//! stream  ─┼─▶ event (read) ─▶ store ─▶ outbox.events ─▶ apply ─▶ recipients, suppressions, jobs
//! list    ─┘
//! ```

pub mod delivery;
pub mod event;
pub mod reader;
pub mod store;

/// What a statement was for when the database refused it.
#[derive(Debug, thiserror::Error)]
pub enum InboundError {
    #[error("storing events: {}", crate::database::describe(.0))]
    Store(#[source] sqlx::Error),
    #[error("electing a reader of events: {}", crate::database::describe(.0))]
    Elect(#[source] sqlx::Error),
    #[error("somebody else reads these events now")]
    LostElection,
}
