//! The database's clock, as this process can tell it: workers on machines whose clocks differ agree on slots and leases.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

/// An instant of the database's clock, tied to one of this process's steady clock when its answer arrived. Times come out
/// late by at most the answer's way, never early.
#[derive(Debug, Clone, Copy)]
pub struct Anchor {
    time: DateTime<Utc>,
    instant: Instant,
}

impl Anchor {
    /// The database said `time` in an answer that has just arrived.
    pub fn now(time: DateTime<Utc>) -> Anchor {
        Anchor { time, instant: Instant::now() }
    }

    /// When the steady clock shows this time; the anchor's own instant for anything before it.
    pub fn instant_of(&self, time: DateTime<Utc>) -> Instant {
        self.instant + (time - self.time).to_std().unwrap_or(Duration::ZERO)
    }

    /// What the database's clock shows at this instant.
    pub fn time_of(&self, instant: Instant) -> DateTime<Utc> {
        let since = instant.saturating_duration_since(self.instant);
        self.time + TimeDelta::from_std(since).unwrap_or(TimeDelta::MAX)
    }
}
