//! This process's own limit a line, with governor: whatever slots a stalled worker still holds when it wakes up, they
//! leave no closer together than the line's gap. And where answers come sooner than the guard between two slots, the
//! answer proves when a message had arrived: the next one keeps its gap from that.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::time::Instant;

use crate::pace::slots::guard;

/// While an answer is waited for, it is looked for this often.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// One limiter a line, kept as long as the process lives: there are as many as the account has lines.
#[derive(Default)]
pub struct LocalPace {
    state: Mutex<State>,
    clock: DefaultClock,
}

#[derive(Default)]
struct State {
    lines: HashMap<String, Line>,
    /// How long answers take lately; an average that gives the newest an eighth.
    usual_answer: Duration,
}

struct Line {
    gap: Duration,
    limiter: DefaultDirectRateLimiter,
    left_at: Option<Instant>,
    answered_at: Option<Instant>,
}

impl Line {
    fn new(gap: Duration, quota: Quota) -> Line {
        Line { gap, limiter: RateLimiter::direct(quota), left_at: None, answered_at: None }
    }

    /// How long to wait until the last message has certainly arrived a gap ago. A call that is overdue by a whole slot
    /// is waited for no longer: it has arrived, and is stuck behind that.
    fn until_arrived(&self, now: Instant) -> Option<Duration> {
        let left_at = self.left_at?;
        match self.answered_at {
            Some(answered_at) => (answered_at + self.gap).checked_duration_since(now).filter(|wait| !wait.is_zero()),
            None => (now < left_at + 2 * (self.gap + guard(self.gap))).then_some(LOOK_AGAIN),
        }
    }
}

impl LocalPace {
    /// Takes the line's turn if its last message left, and arrived, at least `gap` ago.
    /// Errors: how long to wait before asking again; nothing is taken.
    pub fn check(&self, line_id: &str, gap: Duration) -> Result<(), Duration> {
        let Some(quota) = Quota::with_period(gap) else { return Ok(()) };
        let now = Instant::now();
        let mut state = self.lock();
        let answers_prove_arrival = state.usual_answer <= guard(gap);
        let line = state.lines.entry(line_id.to_owned()).or_insert_with(|| Line::new(gap, quota));
        if line.gap != gap {
            *line = Line::new(gap, quota);
        }
        if let Some(wait) = line.until_arrived(now).filter(|_| answers_prove_arrival) {
            return Err(wait);
        }
        line.limiter.check().map_err(|not_until| not_until.wait_time_from(self.clock.now()))?;
        (line.left_at, line.answered_at) = (Some(now), None);
        Ok(())
    }

    /// Notes that a call of this line, which took so long, has ended.
    pub fn answered(&self, line_id: &str, took: Duration) {
        let mut state = self.lock();
        state.usual_answer = (7 * state.usual_answer + took) / 8;
        if let Some(line) = state.lines.get_mut(line_id) {
            line.answered_at = Some(Instant::now());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere cannot leave the state half written.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i03_a_stalled_worker_does_not_burst() {
        let pace = LocalPace::default();
        let hour = Duration::from_secs(3_600);
        assert_eq!(pace.check("pl_1", hour), Ok(()));
        // Answers that take a minute prove nothing: governor alone decides.
        pace.answered("pl_1", Duration::from_secs(60));
        let wait = pace.check("pl_1", hour).expect_err("the second is too early");
        assert!(wait > hour - Duration::from_secs(60) && wait <= hour);
        assert_eq!(pace.check("pl_2", hour), Ok(()), "another line");
    }

    #[tokio::test(start_paused = true)]
    async fn i03_where_answers_are_quick_the_gap_is_kept_from_the_answer() {
        let (pace, gap) = (LocalPace::default(), Duration::from_millis(50));
        assert_eq!(pace.check("pl_1", gap), Ok(()));
        tokio::time::advance(Duration::from_millis(40)).await;
        pace.answered("pl_1", Duration::from_millis(2));
        tokio::time::advance(Duration::from_millis(30)).await;
        assert_eq!(pace.check("pl_1", gap), Err(Duration::from_millis(20)), "it may have arrived only 30 ms ago");
    }

    #[tokio::test(start_paused = true)]
    async fn i05_a_call_that_hangs_costs_its_line_one_slot() {
        let (pace, gap) = (LocalPace::default(), Duration::from_millis(50));
        assert_eq!(pace.check("pl_1", gap), Ok(()));
        tokio::time::advance(Duration::from_millis(70)).await;
        assert_eq!(pace.check("pl_1", gap), Err(LOOK_AGAIN));
        tokio::time::advance(Duration::from_millis(70)).await;
        // governor reads the machine's clock, which has not moved: it alone is in the way now.
        assert!(pace.check("pl_1", gap).is_err_and(|wait| wait > LOOK_AGAIN));
    }

    #[test]
    fn no_gap_means_no_limit() {
        let pace = LocalPace::default();
        assert!((0..1_000).all(|_| pace.check("pl_1", Duration::ZERO).is_ok()));
    }
}
