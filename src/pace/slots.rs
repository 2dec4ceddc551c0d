//! A line's schedule: when may it send next? GCRA without a burst: the next free instant of each class is all its state,
//! so unused time is never saved up.

use std::time::Duration;

use chrono::{DateTime, Utc};

/// Slots are handed out this far ahead; a worker that dies wastes no more than these.
pub const HORIZON: Duration = Duration::from_secs(2);
/// A line is visited again when it has this much of its horizon left to give, not for every single slot.
pub const REFILL: Duration = Duration::from_secs(1);

/// Two messages that leave in neighbouring slots arrive closer together than they left when the first is held up on its
/// way. Slots are therefore this much further apart than the gap that must be kept on arrival.
const LEAST_GUARD: Duration = Duration::from_millis(20);
const MOST_GUARD: Duration = Duration::from_secs(1);
/// Each message that goes through brings so much of a slowed line's full pace back.
const RECOVERY: f32 = 0.1;
/// The guard of longer gaps, as a share of the gap.
const GUARD_SHARE: u32 = 10;

/// What a slot is padded with so that jitter on the way cannot break `gap`; none where there is no gap to keep.
/// 20 ms up to a gap of 200 ms, then a tenth of it, at most 1 s.
pub fn guard(gap: Duration) -> Duration {
    if gap.is_zero() {
        return Duration::ZERO;
    }
    // Whole microseconds, as the database keeps them.
    Duration::from_micros((gap / GUARD_SHARE).as_micros() as u64).clamp(LEAST_GUARD, MOST_GUARD)
}

/// How many times slower a line still is after a message that went through.
pub fn recovered(slowdown: f32) -> f32 {
    1.0 / (1.0 / slowdown + RECOVERY).min(1.0)
}

/// How late in its slot a message may still leave; the rest of the guard is for the way to Chert. `None`: any time will
/// do, since no gap is kept.
pub fn latest_start(gap: Duration) -> Option<Duration> {
    (!gap.is_zero()).then(|| guard(gap) / 4)
}

/// How much later than now a line may send first that stands at this place among the `lines` of one claim. Lines that open
/// at one instant, as after a block of the account, would else call together ever after: many calls would be refused, and a
/// stall of some milliseconds would cost all of them their slots. 6 ms a line, and less where it would come to more than
/// half the gap, or half the horizon.
pub fn stagger(place: usize, lines: usize, gap: Duration) -> Duration {
    const STEP: Duration = Duration::from_millis(6);
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    // Whole microseconds, as the database keeps them.
    let step = STEP.min(gap.min(HORIZON) / 2 / count(lines).max(1)).as_micros() as u64;
    Duration::from_micros(step) * count(place)
}

/// What a message asks of its line's schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Touch {
    FollowUp,
    First,
    /// A first touch that is counted on the line's day already, since an earlier call may be on the phone: it keeps the gap
    /// of first touches, and needs no more room under the cap.
    Counted,
}

impl Touch {
    /// `is_counted`: the day of a line that may send it has counted it.
    pub fn of(is_first: bool, is_counted: bool) -> Touch {
        match (is_first, is_counted) {
            (false, _) => Touch::FollowUp,
            (true, false) => Touch::First,
            (true, true) => Touch::Counted,
        }
    }

    pub fn is_first(self) -> bool {
        self != Touch::FollowUp
    }
}

/// A line's schedule, as the database keeps it between claims.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// The gap between any two messages; zero for none.
    pub gap: Duration,
    /// A paced message gets no slot sooner than this: the claim that takes it needs the time to commit, and a slot that
    /// has passed by then is lost. Lines that open together have different leads, by [`stagger`].
    pub lead: Duration,
    /// The gap between two first touches; zero for none.
    pub first_touch_gap: Duration,
    /// The next free slot of any message.
    pub next_at: DateTime<Utc>,
    /// The next free slot of a first touch, never before `next_at` when taken.
    pub next_first_touch_at: DateTime<Utc>,
    /// First touches left today; `None` for no cap.
    pub first_touches_left: Option<u32>,
    /// The end of the line's day: no first touch is given a slot within a second of it, so that each is counted on the
    /// day on which it arrives.
    pub day_ends_at: DateTime<Utc>,
}

impl Schedule {
    /// The slot that a message would get now, `None` if it lies beyond `horizon_end` or the class has none left today.
    pub fn peek(&self, touch: Touch, now: DateTime<Utc>, horizon_end: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let soonest = if self.gap.is_zero() { now } else { now + self.lead };
        let any = self.next_at.max(soonest);
        let slot = if touch.is_first() { any.max(self.next_first_touch_at) } else { any };
        let used_up = touch == Touch::First && self.first_touches_left == Some(0)
            || touch.is_first() && slot + MOST_GUARD >= self.day_ends_at;
        (slot <= horizon_end && !used_up).then_some(slot)
    }

    /// How many slots of one class are open up to `horizon_end`, counted no further than `most`.
    pub fn count_open(&self, touch: Touch, most: usize, now: DateTime<Utc>, horizon_end: DateTime<Utc>) -> usize {
        let mut ahead = self.clone();
        (0..most)
            .take_while(|_| match ahead.peek(touch, now, horizon_end) {
                Some(slot) => {
                    ahead.take(slot, touch);
                    true
                }
                None => false,
            })
            .count()
    }

    /// Takes a slot that [`Schedule::peek`] named. Where no gap is kept nothing moves, so that there is nothing to write.
    pub fn take(&mut self, slot: DateTime<Utc>, touch: Touch) {
        if !self.gap.is_zero() {
            self.next_at = slot + self.gap + guard(self.gap);
        }
        if touch.is_first() && !self.first_touch_gap.is_zero() {
            self.next_first_touch_at = slot + self.first_touch_gap + guard(self.first_touch_gap);
        }
        if touch == Touch::First {
            self.first_touches_left = self.first_touches_left.map(|left| left.saturating_sub(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(ms: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(1_780_000_000_000 + ms).expect("in range")
    }

    #[test]
    fn a_stall_saves_nothing_up() {
        let mut line = Schedule {
            gap: Duration::from_secs(1),
            lead: Duration::ZERO,
            first_touch_gap: Duration::ZERO,
            next_at: at(0),
            next_first_touch_at: at(0),
            first_touches_left: None,
            day_ends_at: at(86_400_000),
        };
        let now = at(3_600_000);
        let slot = line.peek(Touch::FollowUp, now, now + HORIZON).expect("free");
        assert_eq!(slot, now);
        line.take(slot, Touch::FollowUp);
        assert_eq!(line.peek(Touch::FollowUp, now, now + HORIZON), Some(now + Duration::from_millis(1_100)));
    }

    #[test]
    fn lines_that_open_at_one_instant_spread_over_half_their_gap_at_most() {
        let last = |lines, gap_ms| stagger(lines - 1, lines, Duration::from_millis(gap_ms)).as_millis();
        assert_eq!([last(1, 1_000), last(5, 1_000), last(40, 1_000)], [0, 24, 234]);
        assert_eq!([last(200, 1_000), last(200, 60_000), last(200, 0)], [497, 995, 0]);
    }

    fn touch() -> impl Strategy<Value = Touch> {
        prop_oneof![Just(Touch::FollowUp), Just(Touch::First), Just(Touch::Counted)]
    }

    #[test]
    fn a_used_up_cap_holds_first_touches_but_not_those_that_it_has_counted() {
        let mut line = Schedule {
            gap: Duration::ZERO,
            lead: Duration::ZERO,
            first_touch_gap: Duration::from_secs(10),
            next_at: at(0),
            next_first_touch_at: at(0),
            first_touches_left: Some(0),
            day_ends_at: at(86_400_000),
        };
        let peek = |line: &Schedule, touch, ms| line.peek(touch, at(ms), at(ms) + HORIZON);
        assert_eq!([peek(&line, Touch::First, 0), peek(&line, Touch::Counted, 0)], [None, Some(at(0))]);
        line.take(at(0), Touch::Counted);
        assert_eq!([peek(&line, Touch::Counted, 0), peek(&line, Touch::Counted, 9_000)], [None, Some(at(11_000))]);
        assert_eq!(peek(&line, Touch::Counted, 86_399_000), None, "it might arrive on a day that has not counted it");
        line.first_touches_left = Some(1);
        line.take(at(11_000), Touch::Counted);
        assert_eq!(peek(&line, Touch::First, 21_000), Some(at(22_000)), "it has taken nothing of the cap");
    }

    proptest! {
        /// Any number of workers that claim at any instants, in any mix of classes: the row lock makes their claims a
        /// sequence, and over every sequence the gaps and the cap hold.
        #[test]
        fn i03_any_interleaving_of_claims_keeps_slots_apart_and_within_the_cap(
            claims in proptest::collection::vec((0i64..4_000, proptest::collection::vec(touch(), 0..20)), 1..60),
            gap_ms in prop_oneof![Just(0u64), 1u64..3_000],
            first_gap_ms in prop_oneof![Just(0u64), 1u64..20_000],
            cap in proptest::option::of(0u32..12),
            leads_ms in proptest::collection::vec(0u64..1_200, 1..5),
        ) {
            let (gap, first_gap) = (Duration::from_millis(gap_ms), Duration::from_millis(first_gap_ms));
            let mut line = Schedule {
                gap, lead: Duration::ZERO, first_touch_gap: first_gap, next_at: at(0), next_first_touch_at: at(0),
                first_touches_left: cap, day_ends_at: at(50_000),
            };
            let (mut now, mut slots, mut firsts, mut counts) = (at(0), Vec::new(), Vec::new(), 0);
            for ((pause_ms, jobs), lead_ms) in claims.into_iter().zip(leads_ms.into_iter().cycle()) {
                line.lead = Duration::from_millis(lead_ms);
                now += Duration::from_millis(pause_ms as u64);
                for touch in jobs {
                    if let Some(slot) = line.peek(touch, now, now + HORIZON) {
                        prop_assert!(slot >= now && slot <= now + HORIZON);
                        line.take(slot, touch);
                        slots.push(slot);
                        if touch.is_first() { firsts.push(slot); }
                        counts += u32::from(touch == Touch::First);
                    }
                }
            }
            let apart = |slots: &[DateTime<Utc>], gap: Duration| {
                slots.windows(2).all(|pair| pair[1] - pair[0] >= chrono::TimeDelta::from_std(gap + guard(gap)).expect("small"))
            };
            prop_assert!(gap.is_zero() || apart(&slots, gap));
            prop_assert!(first_gap.is_zero() || apart(&firsts, first_gap));
            prop_assert!(cap.is_none_or(|cap| counts <= cap));
            prop_assert!(firsts.iter().all(|slot| *slot < at(49_000)), "none in the last second of the day");
        }
    }
}
