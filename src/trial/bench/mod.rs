//! The bench: what a job costs beside a bare HTTP loop, what a claim costs as the backlog grows, and how soon a webhook is answered.

mod children;
pub mod claim;
pub(in crate::trial) mod process;
mod scratch;
pub mod throughput;
pub mod webhooks;

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::database::DatabaseError;
use crate::outbox::OutboxError;
use crate::trial::postgres::PostgresError;

pub use scratch::Scratch;

/// What kept a bench from its end.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    #[error("DATABASE_URL does not look like postgres://user:password@host:5432/database")]
    Url,
    #[error("making a database for the bench: {0}")]
    Scratch(String),
    #[error("filling and reading the bench's database: {0}")]
    Sql(String),
    #[error("starting this program again as {role}")]
    Child {
        role: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("{role} ended badly: {how}")]
    ChildEnded { role: &'static str, how: String },
    #[error("a bare post failed: {0}")]
    Post(String),
    #[error("a claim brought {found} jobs instead of {wanted}")]
    ShortClaim { found: usize, wanted: usize },
    #[error("{missing} of {jobs} jobs were not sent")]
    Unsent { missing: i64, jobs: i64 },
    #[error("the idle worker did not send a job within {0:?}")]
    Idle(Duration),
}

impl From<sqlx::Error> for BenchError {
    fn from(error: sqlx::Error) -> BenchError {
        BenchError::Sql(crate::database::describe(&error))
    }
}

/// What the bench is doing: a spinner on a terminal, lines elsewhere; on standard error, so that the figures stay alone.
pub struct Progress(Option<ProgressBar>);

impl Progress {
    pub fn start() -> Progress {
        Progress(io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            bar.set_style(
                ProgressStyle::with_template("{spinner} {msg} {elapsed}").expect("the template is well formed"),
            );
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        }))
    }

    /// Tells the next step.
    pub fn say(&self, step: impl Into<String>) {
        match &self.0 {
            Some(bar) => bar.set_message(step.into()),
            None => eprintln!("{}", step.into()),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
