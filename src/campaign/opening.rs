//! When a message may go: what is left of its recipient's hours. Pure.

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;

use crate::campaign::running::Running;
use crate::campaign::window::Windows;
use crate::campaign::zone::{region_of, zones_of};
use crate::phone::Phone;

/// A job is over so long before its window closes: a claim hands out slots some seconds ahead.
const MARGIN: TimeDelta = TimeDelta::seconds(30);
/// A window that closes within this is as good as closed.
const LEAST_OPEN: TimeDelta = TimeDelta::seconds(90);
/// What waits for a window goes within so long a time after it opens, or a quarter of it where that is less.
const SPREAD: TimeDelta = TimeDelta::minutes(10);

/// Whether somebody may be written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// Now, until then; none if it never closes.
    Open { until: Option<DateTime<Utc>> },
    /// Not before this instant. Those who wait for it are spread over so long a time after it.
    Later { at: DateTime<Utc>, spread: TimeDelta },
    /// Within weeks there is no such time.
    Never,
}

impl Opening {
    /// In these hours, for somebody who may be in any of these zones.
    pub fn of(hours: &Windows, zones: &[Tz], now: DateTime<Utc>) -> Opening {
        let closes = |at| hours.closes_at(at, zones).map(|closes| closes - MARGIN);
        if hours.is_open(now, zones) {
            let until = closes(now);
            if until.is_none_or(|until| until >= now + (LEAST_OPEN - MARGIN)) {
                return Opening::Open { until };
            }
        }
        match next_long_enough(hours, zones, now) {
            Some(at) => {
                let open = closes(at).map_or(SPREAD * 4, |closes| closes - at);
                Opening::Later { at, spread: (open / 4).min(SPREAD) }
            }
            None => Opening::Never,
        }
    }

    /// Until when the answer stays the same; none if it does so for weeks.
    pub fn holds_until(self) -> Option<DateTime<Utc>> {
        match self {
            Opening::Open { until } => until.map(|until| until - (LEAST_OPEN - MARGIN)),
            Opening::Later { at, .. } => Some(at),
            Opening::Never => None,
        }
    }

    /// For this person of a campaign; `given` is their own zone, where it is known.
    pub fn for_person(running: &Running, phone: &Phone, given: Option<Tz>, now: DateTime<Utc>) -> Opening {
        let zones = zones_of(phone, given, running.campaign.zone);
        Opening::of(&running.hours.in_region(region_of(phone)), &zones, now)
    }
}

/// An instant of the time over which those are spread who wait for an opening, by a number of theirs. It is the same share of it at every
/// opening, so that those who were not reached keep their order: drawn anew, somebody could come last day after day. Multiples of the
/// golden ratio lie evenly, however many there are.
pub fn place(number: i64, at: DateTime<Utc>, spread: TimeDelta) -> DateTime<Utc> {
    let share = number.cast_unsigned().wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    let spread = u64::try_from(spread.num_milliseconds()).unwrap_or(0);
    at + TimeDelta::milliseconds((spread.saturating_mul(share) >> 32).cast_signed())
}

/// The next time at which it opens for long enough; a rest of a window that is too short is passed over.
fn next_long_enough(hours: &Windows, zones: &[Tz], now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let mut from = now;
    // A window that is shorter than that opens at most a few times a day.
    for _ in 0..20 {
        let at = hours.next_open(from, zones)?;
        match hours.closes_at(at, zones) {
            Some(closes) if closes - at < LEAST_OPEN => from = closes,
            _ => return Some(at),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaign::hours::Span;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().expect("a time")
    }

    #[test]
    fn what_a_window_holds_goes_some_time_after_it_opens_and_ends_before_it_closes() {
        let hours = Span::new("mon-fri", "09:00", "18:00").expect("hours");
        let hours = Windows::new(vec![hours], Vec::new(), &[]).expect("they leave time");
        let opening = |now| Opening::of(&hours, &[chrono_tz::America::New_York], at(now));
        let until = at("2026-12-01T22:59:30Z");
        assert_eq!(opening("2026-12-01T15:00:00Z"), Opening::Open { until: Some(until) });
        let nine = at("2026-12-02T14:00:00Z");
        for now in ["2026-12-01T23:30:00Z", "2026-12-01T22:59:00Z"] {
            assert_eq!(opening(now), Opening::Later { at: nine, spread: SPREAD }, "{now}");
        }
    }

    #[test]
    fn a_short_window_is_spread_over_a_quarter_of_it_and_a_shorter_one_is_none() {
        let day = |from, to| Span::new("daily", from, to).expect("hours");
        let hours = vec![day("08:00", "08:01"), day("09:00", "09:08")];
        let hours = Windows::new(hours, Vec::new(), &[]).expect("they leave time");
        let spread = (TimeDelta::minutes(8) - MARGIN) / 4;
        let nine = at("2026-12-01T09:00:00Z");
        assert_eq!(Opening::of(&hours, &[Tz::UTC], at("2026-12-01T07:00:00Z")), Opening::Later { at: nine, spread });
    }
}
