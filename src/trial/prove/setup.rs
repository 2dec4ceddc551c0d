//! What the world of a scenario is made with.

use std::time::Duration;

use chrono::{DateTime, DurationRound as _, TimeDelta, Timelike as _, Utc};

use crate::chert::client::wall_clock;
use crate::simulate;

/// What a world is made with.
pub struct Setup {
    /// How many lines Chert has.
    pub lines: u32,
    /// What each line may do.
    pub gap: Duration,
    pub first_touch_gap: Duration,
    pub first_touch_cap: Option<u32>,
    /// Chert's own behaviour. It does not enforce paces: a breach is to be seen on the phones.
    pub simulator: simulate::Options,
    pub machine: Machine,
    /// Whether no other scenario may be played beside this one: it measures a rate, or keeps the machine busy by itself.
    pub alone: bool,
    /// Whether it is played only when it is asked for by name: it takes longer than all others together.
    pub only_named: bool,
    /// More of the workers' environment.
    pub worker_env: Vec<(&'static str, String)>,
}

/// What Postgres runs on.
#[derive(Debug, Clone, Copy)]
pub enum Machine {
    Plain,
    /// With a small disk, which can be filled.
    SmallDisk,
    /// With a clock that can be set.
    Clock,
    /// With a clock by which it begins so long before an instant, by Chert's clock too.
    Before {
        instant: DateTime<Utc>,
        lead: TimeDelta,
    },
}

impl Machine {
    /// It begins so long before a full hour.
    pub fn before_the_hour(lead: TimeDelta) -> Machine {
        let at = wall_clock() + lead;
        let hour = at.duration_trunc(TimeDelta::hours(1)).unwrap_or(at) + TimeDelta::hours(1);
        Machine::Before { instant: hour, lead }
    }
}

/// A zone in which it is so many hours o'clock at this full hour. The names of these zones have the sign the other way round.
pub fn zone_where(hour: u32, at: DateTime<Utc>) -> String {
    let ahead = (hour.cast_signed() - at.hour().cast_signed() + 11).rem_euclid(24) - 11;
    format!("Etc/GMT{:+}", -ahead)
}

impl Default for Setup {
    /// Forty lines at a message a second, first touches not held back, answers after 20 to 60 ms.
    fn default() -> Setup {
        Setup {
            lines: 40,
            gap: Duration::from_secs(1),
            first_touch_gap: Duration::ZERO,
            first_touch_cap: None,
            simulator: simulate::Options {
                latency: Duration::from_millis(20),
                latency_jitter: Duration::from_millis(40),
                ..simulate::Options::default()
            },
            machine: Machine::Plain,
            alone: false,
            only_named: false,
            worker_env: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_found_for_every_hour() {
        for utc in 0..24 {
            let at: DateTime<Utc> = format!("2026-12-01T{utc:02}:00:00Z").parse().expect("a time");
            for hour in 0..24 {
                let zone: chrono_tz::Tz = zone_where(hour, at).parse().expect("a zone");
                assert_eq!(at.with_timezone(&zone).hour(), hour);
            }
        }
    }
}
