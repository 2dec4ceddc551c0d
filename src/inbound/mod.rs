//! What comes back: replies, stops and delivery. Three ways in, one effect.
//!
//! ```text
//! webhook ─┐
//! stream  ─┼─▶ event (read) ─▶ store ─▶ outbox.events ─▶ optout, weigh ─▶ apply ─▶ recipients, suppressions, jobs
//! list    ─┘
//! ```

pub mod apply;
pub mod event;
pub mod optout;
pub mod reader;
pub mod store;
pub mod weigh;

/// What a statement was for when the database refused it.
#[derive(Debug, thiserror::Error)]
pub enum InboundError {
    #[error("storing events: {}", crate::database::describe(.0))]
    Store(#[source] sqlx::Error),
    #[error("electing a reader of events: {}", crate::database::describe(.0))]
    Elect(#[source] sqlx::Error),
    #[error("applying events: {}", crate::database::describe(.0))]
    Apply(#[source] sqlx::Error),
    #[error("somebody else reads these events now")]
    LostElection,
}

impl InboundError {
    /// Whether the database refuses what it was given (classes 22 and 23), so that trying the same again is of no use.
    pub fn is_refusal(&self) -> bool {
        let (InboundError::Store(error) | InboundError::Elect(error) | InboundError::Apply(error)) = self else {
            return false;
        };
        let code = error.as_database_error().and_then(|refused| refused.code());
        code.is_some_and(|code| code.starts_with("22") || code.starts_with("23"))
    }
}
