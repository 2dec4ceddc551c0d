//! What a line may send, and when: its gaps, and the first touches of its day.

use std::collections::VecDeque;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use chrono_tz::Tz;

use crate::campaign::zone::first_instant;
use crate::pace::slots::guard;

/// A line as it stands when the campaign begins. Gaps of zero are none.
#[derive(Debug, Clone)]
pub struct Line {
    pub gap: Duration,
    pub first_touch_gap: Duration,
    pub first_touch_cap: Option<u32>,
    /// In which its days begin and end.
    pub zone: Tz,
    pub next_at: DateTime<Utc>,
    pub next_first_touch_at: DateTime<Utc>,
    /// Of the cap, on the day on which the campaign begins.
    pub first_touches_left: Option<u32>,
}

/// What a line sends on one of its days.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    pub first_touches: u32,
    pub follow_ups: u32,
}

/// A line while it is played.
pub(super) struct Budget {
    line: Line,
    day: Option<NaiveDate>,
    left: Option<u32>,
    /// Messages of others, which go before those of the campaign.
    pub queued: Load,
    pub first_touches: VecDeque<usize>,
    pub follow_ups: VecDeque<usize>,
    /// The event that counts; others of this line are stale.
    pub next: Option<DateTime<Utc>>,
}

impl Budget {
    pub fn new(line: &Line) -> Budget {
        Budget {
            line: line.clone(),
            day: None,
            left: line.first_touches_left,
            queued: Load::default(),
            first_touches: VecDeque::new(),
            follow_ups: VecDeque::new(),
            next: None,
        }
    }

    /// A new day has its whole cap.
    pub fn begin_day(&mut self, at: DateTime<Utc>) {
        let day = at.with_timezone(&self.line.zone).date_naive();
        if self.day.replace(day).is_some_and(|before| before != day) {
            self.left = self.line.first_touch_cap;
        }
    }

    pub fn follow_up_at(&self, at: DateTime<Utc>) -> DateTime<Utc> {
        self.line.next_at.max(at)
    }

    pub fn first_touch_at(&self, at: DateTime<Utc>) -> DateTime<Utc> {
        let soonest = self.follow_up_at(at).max(self.line.next_first_touch_at);
        let day = |at: DateTime<Utc>| at.with_timezone(&self.line.zone).date_naive();
        // Nothing was counted yet: then what is left is of the first day.
        let today = self.day.unwrap_or_else(|| day(at));
        if self.left != Some(0) || day(soonest) > today {
            return soonest;
        }
        let midnight = today.succ_opt().and_then(|day| first_instant(day.and_time(NaiveTime::MIN), self.line.zone));
        midnight.map_or(soonest, |midnight| midnight.max(soonest))
    }

    /// Books a message, and returns the line's day.
    pub fn spend(&mut self, is_first_touch: bool, at: DateTime<Utc>) -> NaiveDate {
        self.line.next_at = at + self.line.gap + guard(self.line.gap);
        if is_first_touch {
            self.line.next_first_touch_at = at + self.line.first_touch_gap + guard(self.line.first_touch_gap);
            self.left = self.left.map(|left| left.saturating_sub(1));
        }
        at.with_timezone(&self.line.zone).date_naive()
    }
}
