//! This process's own limit a line, with governor: whatever slots a stalled worker still holds when it wakes up, they
//! leave no closer together than the line's gap.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

/// One limiter a line, kept as long as the process lives: there are as many as the account has lines.
#[derive(Default)]
pub struct LocalPace {
    limiters: Mutex<HashMap<String, (Duration, DefaultDirectRateLimiter)>>,
    clock: DefaultClock,
}

impl LocalPace {
    /// Takes the line's turn if its last message left at least `gap` ago.
    /// Errors: how long to wait for the turn; nothing is taken.
    pub fn check(&self, line_id: &str, gap: Duration) -> Result<(), Duration> {
        let Some(quota) = Quota::with_period(gap) else { return Ok(()) };
        // A panic elsewhere cannot leave a limiter half written: its state is one atomic number.
        let mut limiters = self.limiters.lock().unwrap_or_else(PoisonError::into_inner);
        let (kept, limiter) = limiters.entry(line_id.to_owned()).or_insert_with(|| (gap, RateLimiter::direct(quota)));
        if *kept != gap {
            (*kept, *limiter) = (gap, RateLimiter::direct(quota));
        }
        limiter.check().map_err(|not_until| not_until.wait_time_from(self.clock.now()))
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
        let wait = pace.check("pl_1", hour).expect_err("the second is too early");
        assert!(wait > hour - Duration::from_secs(60) && wait <= hour);
        assert_eq!(pace.check("pl_2", hour), Ok(()), "another line");
    }

    #[test]
    fn no_gap_means_no_limit() {
        let pace = LocalPace::default();
        assert!((0..1_000).all(|_| pace.check("pl_1", Duration::ZERO).is_ok()));
    }
}
