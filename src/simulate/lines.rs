//! The sender lines and their first-touch budgets: a gap between two first touches, and a cap a day.

use chrono::{DateTime, NaiveTime, TimeDelta, TimeZone as _, Utc};
use chrono_tz::Tz;

use super::clock::{Clock, micros};
use super::options::Options;

/// One sender line. Times are simulated microseconds since the start.
#[derive(Debug, Clone)]
pub struct Line {
    pub is_active: bool,
    last_first_touch_us: Option<i64>,
    first_touches_today: u32,
}

/// All lines of the tenant, in the order of their ids.
pub struct Lines {
    pub lines: Vec<Line>,
    gap_us: i64,
    cap: Option<u32>,
    zone: Tz,
    clock: Clock,
    day_ends_us: i64,
}

/// The id of the line at `position`: `pl_1` is the first.
pub fn id(position: usize) -> String {
    format!("pl_{}", position + 1)
}

/// The number of the line at `position`, E.164.
pub fn number(position: usize) -> String {
    format!("+155501{:05}", position + 1)
}

/// The position of the line with this id among `line_count`; `None` if it is not ours.
pub fn position(line_id: &str, line_count: usize) -> Option<usize> {
    let ordinal: usize = line_id.strip_prefix("pl_")?.parse().ok()?;
    // The comparison refuses other spellings of the number, such as `pl_01`.
    let position = ordinal.checked_sub(1).filter(|position| *position < line_count)?;
    (id(position) == line_id).then_some(position)
}

impl Lines {
    /// Idle lines with full budgets.
    pub fn new(options: &Options, clock: Clock) -> Lines {
        let line = Line { is_active: true, last_first_touch_us: None, first_touches_today: 0 };
        Lines {
            lines: vec![line; options.lines as usize],
            gap_us: micros(options.first_touch_gap),
            cap: options.first_touch_cap.0,
            zone: options.time_zone,
            clock,
            day_ends_us: clock.since_start_us(next_midnight(options.time_zone, clock.calendar(0))),
        }
    }

    /// Starts a new day, with full caps, if the last one has ended by `now_us`. Comes before every use of a budget.
    pub fn turn_day(&mut self, now_us: i64) {
        if now_us >= self.day_ends_us {
            self.day_ends_us = self.clock.since_start_us(next_midnight(self.zone, self.clock.calendar(now_us)));
            self.lines.iter_mut().for_each(|line| line.first_touches_today = 0);
        }
    }

    /// The earliest moment at which the line at `position` may touch somebody first; it is free if that has passed.
    pub fn slot_us(&self, position: usize) -> i64 {
        let line = &self.lines[position];
        // Requests are stamped before they are put in order, so the last touch may lie a little after the current
        // request; where there is no gap, that must not make it wait.
        let after_gap = match line.last_first_touch_us {
            Some(last_us) if self.gap_us > 0 => last_us.saturating_add(self.gap_us),
            _ => 0,
        };
        match self.cap {
            // A cap of 0 has no slot tomorrow either; the caller is told to come back then all the same.
            Some(cap) if line.first_touches_today >= cap => after_gap.max(self.day_ends_us),
            _ => after_gap,
        }
    }

    /// Of the lines at `positions`, the free one that has touched nobody for the longest time.
    pub fn longest_idle(&self, positions: impl Iterator<Item = usize>, now_us: i64) -> Option<usize> {
        positions
            .filter(|position| self.slot_us(*position) <= now_us)
            .min_by_key(|position| self.lines[*position].last_first_touch_us)
    }

    /// Takes a slot of the line at `position`.
    pub fn touch(&mut self, position: usize, now_us: i64) {
        let line = &mut self.lines[position];
        line.last_first_touch_us = line.last_first_touch_us.max(Some(now_us));
        line.first_touches_today += 1;
    }
}

/// The first instant of the day after `now`, as the zone counts days.
fn next_midnight(zone: Tz, now: DateTime<Utc>) -> DateTime<Utc> {
    let tomorrow = now.with_timezone(&zone).date_naive().succ_opt();
    let midnight = tomorrow.and_then(|day| {
        // Where the clocks jump over midnight, the day starts when the jump ends.
        let mut quarters = (0..24).map(|quarter| day.and_time(NaiveTime::MIN) + TimeDelta::minutes(15 * quarter));
        quarters.find_map(|local| zone.from_local_datetime(&local).earliest())
    });
    midnight.map_or_else(|| now + TimeDelta::days(1), |midnight| midnight.to_utc())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::simulate::options::Cap;

    const MINUTE_US: i64 = 60_000_000;
    const DAY_US: i64 = 24 * 60 * MINUTE_US;

    fn lines(gap_minutes: u64, cap: Option<u32>) -> Lines {
        let first_touch_gap = Duration::from_secs(60 * gap_minutes);
        let options = Options { lines: 2, first_touch_gap, first_touch_cap: Cap(cap), ..Options::default() };
        Lines::new(&options, Clock::start(1.0, TimeDelta::zero()))
    }

    #[test]
    fn ids_and_numbers_count_from_one() {
        assert_eq!((id(0).as_str(), number(0).as_str()), ("pl_1", "+15550100001"));
        assert_eq!(position("pl_2", 2), Some(1));
        for foreign in ["pl_0", "pl_3", "pl_02", "pl_+2", "2", ""] {
            assert_eq!(position(foreign, 2), None, "{foreign}");
        }
    }

    #[test]
    fn the_free_line_that_was_idle_longest_is_next() {
        let mut lines = lines(10, None);
        assert_eq!(lines.longest_idle(0..2, 0), Some(0));
        lines.touch(0, 0);
        assert_eq!(lines.longest_idle(0..2, 1), Some(1));
        lines.touch(1, 1);
        assert_eq!(lines.longest_idle(0..2, 2), None);
        assert_eq!(lines.longest_idle(0..2, 10 * MINUTE_US + 1), Some(0));
    }

    #[test]
    fn without_a_gap_a_request_that_was_overtaken_does_not_wait() {
        let mut lines = lines(0, None);
        lines.touch(0, 7);
        lines.touch(1, 7);
        assert!(lines.longest_idle(0..2, 6).is_some());
    }

    #[test]
    fn a_line_at_its_cap_is_free_again_on_the_next_day() {
        let mut lines = lines(0, Some(1));
        lines.touch(0, 0);
        let midnight_us = lines.slot_us(0);
        assert!((1..=DAY_US).contains(&midnight_us));
        lines.turn_day(midnight_us - 1);
        assert_eq!(lines.slot_us(0), midnight_us);
        lines.turn_day(midnight_us);
        assert_eq!(lines.slot_us(0), 0);
    }

    #[test]
    fn days_end_at_the_zones_midnight() {
        let midnight = |zone, now: &str| next_midnight(zone, now.parse().expect("a time")).to_rfc3339();
        assert_eq!(midnight(Tz::UTC, "2026-06-03T23:59:59Z"), "2026-06-04T00:00:00+00:00");
        assert_eq!(midnight(Tz::America__New_York, "2026-06-03T03:59:59Z"), "2026-06-03T04:00:00+00:00");
        // Beirut's clocks skip the first hour of 29 March 2026.
        assert_eq!(midnight(Tz::Asia__Beirut, "2026-03-28T12:00:00Z"), "2026-03-28T22:00:00+00:00");
    }
}
