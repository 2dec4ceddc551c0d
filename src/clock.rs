//! The database's clock, as this process can tell it: workers on machines whose clocks differ agree on slots and leases.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

/// The two clocks may drift apart by this share of the time that passes: ten times what a bad quartz does.
const MOST_DRIFT: f64 = 0.001;

/// An instant of the database's clock, tied to one of this process's steady clock. Times come out late by at most the way
/// of the quickest answer so far, never early.
#[derive(Debug, Clone, Copy)]
pub struct Anchor {
    time: DateTime<Utc>,
    instant: Instant,
    /// How late `instant` may be.
    late: Duration,
}

impl Anchor {
    /// The database said `time` in an answer that has just arrived, to a question asked at `asked`. What is known from
    /// `before` holds on if it is closer: an answer that was held up on its way, or by a process that stood still, says
    /// little. If the two cannot both be true, the database's clock was set: then the new answer alone counts, and it is
    /// told by how far it jumped, rounded up forward and down backward.
    pub fn new(before: Option<Anchor>, asked: Instant, time: DateTime<Utc>) -> (Anchor, TimeDelta) {
        let now = Instant::now();
        let fresh = Anchor { time, instant: now, late: now - asked };
        let Some(before) = before else { return (fresh, TimeDelta::zero()) };
        let drift = asked.saturating_duration_since(before.instant).mul_f64(MOST_DRIFT);
        // When the database's clock should have shown this time, were it not set, counted from the older instant.
        let should = time - before.time;
        let did = signed(asked.saturating_duration_since(before.instant));
        let (soonest, latest) = (should - signed(before.late + drift), should + signed(drift));
        if soonest > did + signed(fresh.late) || latest < did {
            return (fresh, latest - did);
        }
        let held = before.instant + latest.to_std().unwrap_or_default();
        let held = Anchor { time, instant: held, late: before.late + 2 * drift };
        (if held.instant < now { held } else { fresh }, TimeDelta::zero())
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

fn signed(length: Duration) -> TimeDelta {
    TimeDelta::from_std(length).unwrap_or(TimeDelta::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(1_780_000_000_000 + ms).expect("in range")
    }

    /// Asked, answered by the database after `there` ms at its time `time_ms`, and arrived after `back` ms more.
    async fn ask(before: Option<Anchor>, there: u64, time_ms: i64, back: u64) -> (Anchor, TimeDelta) {
        let asked = Instant::now();
        tokio::time::advance(Duration::from_millis(there + back)).await;
        Anchor::new(before, asked, at(time_ms))
    }

    #[tokio::test(start_paused = true)]
    async fn i03_an_answer_that_was_held_up_moves_no_slot() {
        let start = Instant::now();
        let (quick, _) = ask(None, 1, 1, 1).await;
        let (late, jump) = ask(Some(quick), 1, 3, 900).await;
        assert!(jump.is_zero());
        let slot = late.instant_of(at(1_000));
        let off = slot.duration_since(start + Duration::from_millis(1_000));
        assert!(off <= Duration::from_millis(2), "{off:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_quicker_answer_takes_the_place_of_a_slow_one() {
        let start = Instant::now();
        let (late, _) = ask(None, 1, 1, 900).await;
        let (quick, jump) = ask(Some(late), 1, 902, 1).await;
        assert!(jump.is_zero());
        assert_eq!(quick.instant_of(at(1_902)), start + Duration::from_millis(1_903));
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_was_set_is_believed_and_told() {
        let start = Instant::now();
        for set in [3_600_000, -3_600_000, 100, -100] {
            let (before, _) = ask(None, 1, 1, 1).await;
            let (after, jump) = ask(Some(before), 1, 3 + set, 1).await;
            assert!((jump.num_milliseconds() - set).abs() <= 3, "{jump} for {set}");
            let slot = after.instant_of(at(1_000 + set)) - start;
            assert!(slot < Duration::from_secs(2), "{slot:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn clocks_that_drift_apart_are_not_taken_for_set() {
        let start = Instant::now();
        let mut anchor = None;
        for _ in 0..600 {
            let fast = start.elapsed().mul_f64(1.000_3).as_millis() as i64;
            let (next, jump) = ask(anchor, 1, fast + 1, 1).await;
            assert!(jump.is_zero(), "{jump}");
            anchor = Some(next);
            tokio::time::advance(Duration::from_secs(30)).await;
        }
    }
}
