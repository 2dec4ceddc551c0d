//! The simulator's two times: real time, kept monotonic, and simulated time, which runs `scale` times as fast.

use std::time::{Duration, Instant, SystemTime};

use chrono::{DateTime, TimeDelta, Utc};

/// Reads both times; both count from the start of the simulator, so that they agree at that moment.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    started: Instant,
    started_at: DateTime<Utc>,
    scale: f64,
}

/// One moment in both times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Real microseconds since the start; never runs backwards.
    pub at_us: i64,
    /// Simulated microseconds since the start.
    pub simulated_us: i64,
}

impl Clock {
    /// Starts now; `scale` is simulated seconds per real second. The calendar is so far `ahead` of the machine's.
    pub fn start(scale: f64, ahead: TimeDelta) -> Clock {
        Clock { started: Instant::now(), started_at: system_time() + ahead, scale }
    }

    /// This moment.
    pub fn stamp(&self) -> Stamp {
        let at_us = micros(self.started.elapsed());
        Stamp { at_us, simulated_us: (at_us as f64 * self.scale) as i64 }
    }

    /// The calendar time of `since_start_us`, in real or in simulated microseconds: the answer is in the same time.
    pub fn calendar(&self, since_start_us: i64) -> DateTime<Utc> {
        self.started_at.checked_add_signed(TimeDelta::microseconds(since_start_us)).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    /// Simulated microseconds from the start to `time`.
    pub fn since_start_us(&self, time: DateTime<Utc>) -> i64 {
        time.signed_duration_since(self.started_at).num_microseconds().unwrap_or(i64::MAX)
    }

    /// Real microseconds that pass during `simulated_us`.
    pub fn real_us(&self, simulated_us: i64) -> i64 {
        (simulated_us as f64 / self.scale).ceil() as i64
    }

    /// Returns at real `at_us`; at once if that has passed.
    pub async fn wait_until(&self, at_us: i64) {
        let moment = self.started + Duration::from_micros(u64::try_from(at_us).unwrap_or(0));
        if moment > Instant::now() {
            tokio::time::sleep_until(moment.into()).await;
        }
    }
}

/// The system's time, which callers sign with; unlike a `Stamp` it follows clock corrections.
pub fn system_time() -> DateTime<Utc> {
    DateTime::from(SystemTime::now())
}

/// Microseconds of `duration`, at most `i64::MAX`.
pub fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// Whole seconds of `wait_us`, rounded up, at least 1: what `retry_after` may say.
pub fn retry_after_secs(wait_us: i64) -> u64 {
    u64::try_from(wait_us).unwrap_or(0).div_ceil(1_000_000).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn simulated_time_runs_by_the_scale() {
        let clock = Clock::start(600.0, TimeDelta::zero());
        let stamp = clock.stamp();
        assert_eq!(stamp.simulated_us, stamp.at_us * 600);
        assert_eq!(clock.real_us(600_000_000), 1_000_000);
        assert_eq!(clock.since_start_us(clock.calendar(42)), 42);
    }

    #[test]
    fn retry_after_is_rounded_up_and_never_zero() {
        assert_eq!([-5, 0, 1, 1_000_000, 1_000_001].map(retry_after_secs), [1, 1, 1, 1, 2]);
    }
}
