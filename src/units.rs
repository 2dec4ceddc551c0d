//! How people write times, rates and counts: `10m`, `1/s`, `none`, `1 job`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Utc};

/// A hundred years: what is added to an instant, or doubled, must stay within what clocks can tell.
const LONGEST: Duration = Duration::from_secs(100 * 31_557_600);

/// Reads a length of time, e.g. `250ms`, `10m`, `1h 30m`, or a bare `0`; at most 100 years.
/// Errors: a sentence with examples.
pub fn duration(text: &str) -> Result<Duration, String> {
    if text.trim() == "0" {
        return Ok(Duration::ZERO);
    }
    let length = humantime::parse_duration(text.trim()).ok().filter(|length| *length <= LONGEST);
    length.ok_or_else(|| "write a length of time such as 250ms, 30s, 10m or 1h, at most 100 years".to_owned())
}

/// Writes a length of time as [`duration`] reads it and people type it: in days at most, since humantime would make months of 30.44
/// days of them.
pub fn show_duration(value: Duration) -> String {
    let (secs, nanos) = (value.as_secs(), value.subsec_nanos());
    let whole = [(secs / 86_400, "d"), (secs / 3_600 % 24, "h"), (secs / 60 % 60, "m"), (secs % 60, "s")];
    let below = [(nanos / 1_000_000, "ms"), (nanos / 1_000 % 1_000, "us"), (nanos % 1_000, "ns")];
    let below = below.map(|(count, unit)| (u64::from(count), unit));
    let parts = whole.into_iter().chain(below).filter(|(count, _)| *count > 0);
    let shown = parts.map(|(count, unit)| format!("{count}{unit}")).collect::<Vec<_>>().join(" ");
    if shown.is_empty() { "0s".to_owned() } else { shown }
}

/// Writes a count with what is counted, e.g. `1 person` and `2 people`.
pub fn counted<N: fmt::Display + PartialEq + From<u8>>(count: N, one: &str, more: &str) -> String {
    let what = if count == N::from(1) { one } else { more };
    format!("{count} {what}")
}

/// Reads an instant in RFC 3339, e.g. `2026-06-03T09:15:00Z`.
/// Errors: a sentence with an example.
pub fn instant(text: &str) -> Result<DateTime<Utc>, String> {
    DateTime::parse_from_rfc3339(text.trim())
        .map(|at| at.with_timezone(&Utc))
        .map_err(|_| "write a time with its zone, such as 2026-06-03T09:15:00Z or 2026-06-03T09:15:00+02:00".to_owned())
}

/// How often something may happen: kept as the gap between two, zero for "as often as it likes".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    gap: Duration,
}

impl Rate {
    /// The shortest time between two, rounded up to whole microseconds; zero means no limit.
    pub fn gap(self) -> Duration {
        self.gap
    }

    /// The rate whose events are `gap` apart.
    pub fn every(gap: Duration) -> Rate {
        Rate { gap }
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Rate, String> {
        let help = || "write a rate such as 1/s, 20/s, 90/m, 30/h, 30/d, or none".to_owned();
        let text = text.trim();
        if text == "none" {
            return Ok(Rate { gap: Duration::ZERO });
        }
        let (count, unit) = text.split_once('/').ok_or_else(help)?;
        let count: f64 = count.trim().parse().map_err(|_| help())?;
        let unit_secs = match unit.trim() {
            "s" | "sec" | "second" => 1.0,
            "m" | "min" | "minute" => 60.0,
            "h" | "hour" => 3_600.0,
            "d" | "day" => 86_400.0,
            _ => return Err(help()),
        };
        let gap_us = (unit_secs * 1e6 / count).ceil();
        if !(count.is_finite() && count > 0.0 && gap_us <= 86_400e6) {
            return Err(help());
        }
        Ok(Rate { gap: Duration::from_micros(gap_us as u64) })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secs = self.gap.as_secs_f64();
        let (count, unit) = match secs {
            0.0 => return f.write_str("none"),
            s if s <= 1.0 => (1.0 / s, "s"),
            s if s <= 60.0 => (60.0 / s, "m"),
            s if s <= 3_600.0 => (3_600.0 / s, "h"),
            s => (86_400.0 / s, "d"),
        };
        write!(f, "{}/{unit}", (count * 100.0).round() / 100.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_singular_and_none_is_not() {
        let people = |count: u32| counted(count, "person", "people");
        assert_eq!([people(0), people(1), people(2)], ["0 people", "1 person", "2 people"]);
    }

    #[test]
    fn rates_are_gaps() {
        let gap = |text: &str| text.parse::<Rate>().map(|rate| rate.gap().as_micros());
        assert_eq!(gap("20/s"), Ok(50_000));
        assert_eq!(gap("3/s"), Ok(333_334), "rounded up, so that the pace is never exceeded");
        assert_eq!(gap("90/m"), Ok(666_667));
        assert_eq!(gap("none"), Ok(0));
        for bad in ["", "20", "0/s", "-1/s", "1/fortnight", "nan/s", "inf/s", "0.5/d"] {
            assert!(gap(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_shown_rate_reads_back() {
        for text in ["20/s", "1/s", "30/m", "2/h", "none"] {
            assert_eq!(text.parse::<Rate>().expect("valid").to_string(), text);
        }
    }

    #[test]
    fn durations_take_human_units() {
        assert_eq!(duration("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        assert!(duration("soon").is_err());
        assert!(duration("100years").is_ok());
        assert!(duration("300000years").is_err(), "no clock can tell when that ends");
    }

    #[test]
    fn durations_are_shown_as_they_are_typed() {
        for text in ["90d", "180d", "400d", "1d 7h 58m 51s", "36h", "10m", "30s", "250ms", "1s 500us", "0s"] {
            let length = duration(text).expect("valid");
            let shown = show_duration(length);
            assert_eq!((shown.as_str(), duration(&shown)), (if text == "36h" { "1d 12h" } else { text }, Ok(length)));
        }
    }
}
