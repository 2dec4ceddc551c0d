//! What a line may send, and when: its gaps, and the first touches of its day.

use std::collections::VecDeque;
use std::iter;
use std::ops::AddAssign;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use chrono_tz::Tz;

use crate::campaign::zone::first_instant;
use crate::pace::slots::{guard, recovered};

/// A line as it stands when the campaign begins. Gaps of zero are none.
#[derive(Debug, Clone)]
pub struct Line {
    pub gap: Duration,
    pub first_touch_gap: Duration,
    /// Both gaps are so many times longer, until messages have gone through.
    pub slowdown: f32,
    pub first_touch_cap: Option<u32>,
    /// In which its days begin and end.
    pub zone: Tz,
    pub next_at: DateTime<Utc>,
    pub next_first_touch_at: DateTime<Utc>,
    /// Of the cap, and on which of its days.
    pub first_touches_left: Option<u32>,
    pub today: NaiveDate,
}

/// What a line sends on one of its days.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    pub first_touches: u32,
    pub follow_ups: u32,
}

impl Load {
    fn take(&mut self, opens: (bool, bool)) -> Option<bool> {
        let (is_first_touch, left) = match opens {
            (true, _) if self.follow_ups > 0 => (false, &mut self.follow_ups),
            (_, true) if self.first_touches > 0 => (true, &mut self.first_touches),
            _ => return None,
        };
        *left -= 1;
        Some(is_first_touch)
    }
}

impl AddAssign for Load {
    fn add_assign(&mut self, other: Load) {
        self.first_touches += other.first_touches;
        self.follow_ups += other.follow_ups;
    }
}

/// Messages in the queue: when each was made, and whose it is.
pub(super) type Made = VecDeque<(DateTime<Utc>, usize)>;

/// A line while it is played.
pub(super) struct Budget {
    line: Line,
    day: NaiveDate,
    left: Option<u32>,
    /// Messages of others, which go before those of the campaign.
    queued: Load,
    /// Messages of each other campaign, which go in turn with those of this one, and whose turn it is; behind them all, this one's.
    in_turn: Vec<Load>,
    turn: usize,
    pub first_touches: Made,
    pub follow_ups: Made,
    /// The event that counts; others of this line are stale.
    pub next: Option<DateTime<Utc>>,
}

impl Budget {
    pub fn new(line: &Line) -> Budget {
        Budget {
            line: line.clone(),
            day: line.today,
            left: line.first_touches_left,
            queued: Load::default(),
            in_turn: Vec::new(),
            turn: 0,
            first_touches: Made::new(),
            follow_ups: Made::new(),
            next: None,
        }
    }

    /// Others' messages. Tells when they can begin to go.
    pub fn put_beside(&mut self, queued: Load, in_turn: Vec<Load>) -> DateTime<Utc> {
        (self.queued, self.in_turn) = (queued, in_turn);
        self.line.next_at.min(self.line.next_first_touch_at)
    }

    /// Whether others have follow-ups to send, and first touches.
    pub fn others_have(&self) -> (bool, bool) {
        let mut all = iter::once(&self.queued).chain(&self.in_turn);
        (all.clone().any(|load| load.follow_ups > 0), all.any(|load| load.first_touches > 0))
    }

    /// Takes a message of others, if it is their turn and the line may send one, and tells whether it is a first touch.
    pub fn take_of_others(&mut self, opens: (bool, bool)) -> Option<bool> {
        let first = self.queued.take(opens);
        if first.is_some() {
            return first;
        }
        while let Some(load) = self.in_turn.get_mut(self.turn) {
            self.turn += 1;
            let taken = load.take(opens);
            if taken.is_some() {
                return taken;
            }
        }
        self.turn = 0;
        None
    }

    /// A new day has its whole cap.
    pub fn begin_day(&mut self, at: DateTime<Utc>) {
        let day = at.with_timezone(&self.line.zone).date_naive();
        if std::mem::replace(&mut self.day, day) != day {
            self.left = self.line.first_touch_cap;
        }
    }

    pub fn follow_up_at(&self, at: DateTime<Utc>) -> DateTime<Utc> {
        self.line.next_at.max(at)
    }

    /// None for a line that sends no first touch on any day.
    pub fn first_touch_at(&self, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if self.line.first_touch_cap == Some(0) {
            return None;
        }
        let soonest = self.follow_up_at(at).max(self.line.next_first_touch_at);
        if self.left != Some(0) {
            return Some(soonest);
        }
        let tomorrow = self.day.succ_opt()?.and_time(NaiveTime::MIN);
        first_instant(tomorrow, self.line.zone).map(|midnight| midnight.max(soonest))
    }

    /// Books a message, and returns the line's day.
    pub fn spend(&mut self, is_first_touch: bool, at: DateTime<Utc>) -> NaiveDate {
        let slowed = |gap: Duration| gap.mul_f64(f64::from(self.line.slowdown));
        let (gap, first_touch_gap) = (slowed(self.line.gap), slowed(self.line.first_touch_gap));
        self.line.slowdown = recovered(self.line.slowdown);
        self.line.next_at = at + gap + guard(gap);
        if is_first_touch {
            self.line.next_first_touch_at = at + first_touch_gap + guard(first_touch_gap);
            self.left = self.left.map(|left| left.saturating_sub(1));
        }
        at.with_timezone(&self.line.zone).date_naive()
    }
}
