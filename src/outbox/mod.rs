//! All SQL of the sending side, one family of statements a file, in the order of a job's way.

pub mod enqueue;

pub mod admit;
pub mod claim;
pub mod marks;
mod queues;
pub mod record;
mod settle;

pub mod lookups;
pub mod notifications;
pub mod progress;

pub mod campaigns;

pub mod account;
pub mod erase;
pub mod explain;
pub mod hearing;
pub mod jobs;
pub mod lines;
pub mod prune;
pub mod recipients;
pub mod rescue;
pub mod status;
pub mod suppress;
pub mod suppressions;
pub mod upcoming;
pub mod workers;

/// How often a transaction of a command is run again that was given up because another one stood in its way.
pub(crate) const MAX_RACES: usize = 5;

/// Whether a transaction was given up because another one stood in its way (class 40).
fn is_conflict(error: &sqlx::Error) -> bool {
    is_of_class(error, "40")
}

fn is_of_class(error: &sqlx::Error, class: &str) -> bool {
    let code = error.as_database_error().and_then(|refused| refused.code());
    code.is_some_and(|code| code.starts_with(class))
}

/// What a statement was for when the database refused it.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    #[error("admitting due jobs: {}", crate::database::describe(.0))]
    Admit(#[source] sqlx::Error),
    #[error("claiming due jobs: {}", crate::database::describe(.0))]
    Claim(#[source] sqlx::Error),
    #[error("recording outcomes: {}", crate::database::describe(.0))]
    Record(#[source] sqlx::Error),
    #[error("rescuing the jobs of dead workers: {}", crate::database::describe(.0))]
    Rescue(#[source] sqlx::Error),
    #[error("looking ahead: {}", crate::database::describe(.0))]
    Upcoming(#[source] sqlx::Error),
    #[error("reading the account: {}", crate::database::describe(.0))]
    Account(#[source] sqlx::Error),
    #[error("looking for a suppression: {}", crate::database::describe(.0))]
    Suppressions(#[source] sqlx::Error),
    #[error("following what was sent: {}", crate::database::describe(.0))]
    Lookups(#[source] sqlx::Error),
    #[error("telling the producer: {}", crate::database::describe(.0))]
    Notifications(#[source] sqlx::Error),
    #[error("looking at how replies are received: {}", crate::database::describe(.0))]
    Hearing(#[source] sqlx::Error),
    #[error("writing the heartbeat: {}", crate::database::describe(.0))]
    Heartbeat(#[source] sqlx::Error),
}

impl OutboxError {
    /// Whether the database refuses what it was given (classes 22 and 23: data and constraints), so that trying the same
    /// again is of no use.
    pub fn is_refusal(&self) -> bool {
        self.is_of_class("22") || self.is_of_class("23")
    }

    /// Whether two transactions got in each other's way (class 40: deadlocks and the like), so that trying the same again is
    /// all there is to do: the database is well.
    pub fn is_conflict(&self) -> bool {
        self.is_of_class("40")
    }

    fn is_of_class(&self, class: &str) -> bool {
        let (OutboxError::Admit(error)
        | OutboxError::Claim(error)
        | OutboxError::Record(error)
        | OutboxError::Rescue(error)
        | OutboxError::Upcoming(error)
        | OutboxError::Account(error)
        | OutboxError::Suppressions(error)
        | OutboxError::Lookups(error)
        | OutboxError::Notifications(error)
        | OutboxError::Hearing(error)
        | OutboxError::Heartbeat(error)) = self;
        is_of_class(error, class)
    }
}
