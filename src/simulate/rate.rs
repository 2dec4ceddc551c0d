//! The request rate of the tenant: 1007 for whoever calls too often.

use std::sync::atomic::{AtomicI64, Ordering};

use super::clock::micros;
use super::options::Rate;

/// A bucket of `count` requests that refills evenly over the period. Times are real microseconds since the start.
pub struct RequestRate {
    interval_us: i64,
    burst_us: i64,
    /// When the bucket is full again. One number, so that a request costs one atomic exchange and no lock.
    full_at_us: AtomicI64,
}

impl RequestRate {
    /// A full bucket.
    pub fn new(rate: Rate) -> RequestRate {
        let interval_us = (micros(rate.period) / i64::from(rate.count)).max(1);
        RequestRate { interval_us, burst_us: interval_us * i64::from(rate.count - 1), full_at_us: AtomicI64::new(0) }
    }

    /// Takes one request from the bucket. Errors: the microseconds until there is one, if there is none.
    pub fn take(&self, now_us: i64) -> Result<(), i64> {
        let next = |full_at_us: i64| {
            let start_us = full_at_us.max(now_us);
            (start_us - now_us <= self.burst_us).then_some(start_us + self.interval_us)
        };
        match self.full_at_us.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next) {
            Ok(_) => Ok(()),
            Err(full_at_us) => Err(full_at_us - now_us - self.burst_us),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_bucket_serves_its_count_at_once_and_then_refills() {
        let rate = RequestRate::new("2/s".parse().expect("a rate"));
        assert_eq!([rate.take(0), rate.take(0), rate.take(0)], [Ok(()), Ok(()), Err(500_000)]);
        assert_eq!([rate.take(499_999), rate.take(500_000)], [Err(1), Ok(())]);
    }
}
