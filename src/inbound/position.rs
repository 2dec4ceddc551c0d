//! How far a reader has come in Chert's event log, and what it read on the way. Pure.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde::Deserialize;

use crate::inbound::event::Incoming;

/// The newest `created_at` that was read; to the database it is just a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position(DateTime<Utc>);

impl Position {
    /// As far as this time.
    pub fn at(time: DateTime<Utc>) -> Position {
        Position(time)
    }

    /// As the database keeps it; none if it is not one.
    pub fn read(text: &str) -> Option<Position> {
        text.parse().ok().map(Position)
    }

    /// This much earlier: events can share their time, and one can become visible after a later one, so what was read last is
    /// read again.
    pub fn back(self, overlap: Duration) -> Position {
        Position(self.0.checked_sub_signed(TimeDelta::from_std(overlap).unwrap_or_default()).unwrap_or(self.0))
    }

    /// Where a row of the log, or an envelope, stands in it. Never later than `now`: a time from the future would pass over all
    /// that comes until then.
    fn of(row: &str, now: DateTime<Utc>) -> Option<Position> {
        #[derive(Deserialize)]
        struct Times {
            created_at: Option<DateTime<Utc>>,
            timestamp: Option<DateTime<Utc>>,
        }
        let times: Times = serde_json::from_str(row).ok()?;
        // An envelope was made before its row, so its time is on the safe side.
        times.created_at.or(times.timestamp).map(|time| Position(time.min(now)))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_rfc3339_opts(SecondsFormat::Micros, true))
    }
}

/// What some rows of the log came to.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    pub events: Vec<Incoming>,
    /// The position of the newest one.
    pub newest: Option<Position>,
    /// How many were no events at all.
    pub unreadable: usize,
}

impl Batch {
    /// Reads rows that arrived at `now`.
    pub fn read(rows: &[String], now: DateTime<Utc>) -> Batch {
        let mut batch = Batch::default();
        for row in rows {
            match Incoming::read(row, now) {
                Ok(event) => batch.events.push(event),
                Err(_) => batch.unreadable += 1,
            }
            batch.newest = batch.newest.max(Position::of(row, now));
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time: &str) -> Position {
        Position::read(time).expect("a time")
    }

    #[test]
    fn the_newest_row_counts_whatever_their_order_and_shape() {
        let now = at("2026-06-03T10:00:00Z").0;
        let rows = [
            r#"{"event_id":"a","created_at":"2026-06-03T09:20:11.5Z","payload":{"timestamp":"2026-06-03T09:59:00Z"}}"#,
            r#"{"event_id":"b","timestamp":"2026-06-03T11:20:12+02:00"}"#,
            r#"{"event_id":"c","created_at":"2026-06-03T09:19:00Z"}"#,
            r#"{"event_id":"d","created_at":7}"#,
            "[]",
        ];
        let batch = Batch::read(&rows.map(str::to_owned), now);
        assert_eq!((batch.events.len(), batch.unreadable), (4, 1));
        assert_eq!(batch.newest, Some(at("2026-06-03T09:20:12Z")));
    }

    #[test]
    fn a_time_from_the_future_does_not_pass_over_what_comes_until_then() {
        let now = at("2026-06-03T10:00:00Z").0;
        let batch = Batch::read(&[r#"{"created_at":"2199-01-01T00:00:00Z"}"#.to_owned()], now);
        assert_eq!(batch.newest, Some(Position(now)));
    }

    #[test]
    fn a_position_reads_back_as_it_was_written() {
        let position = at("2026-06-03T09:20:11.123456Z");
        assert_eq!(position.to_string(), "2026-06-03T09:20:11.123456Z");
        assert_eq!(Position::read(&position.to_string()), Some(position));
        assert_eq!(position.back(Duration::from_secs(60)), at("2026-06-03T09:19:11.123456Z"));
        assert_eq!(Position::read("evt_1"), None);
    }
}
