//! Outcome → what becomes of the job, and when it is tried again. Pure: time and chance come in as arguments.

use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff as _;
use rand::{Rng, RngExt as _};

use crate::outcome::Outcome;

/// How a job stood when it was claimed.
#[derive(Debug, Clone, Copy)]
pub struct Standing {
    /// Attempts spent before this one.
    pub attempt: u32,
    pub max_attempts: u32,
    /// Whether an earlier attempt may have reached the phone.
    pub unknown: bool,
}

/// What becomes of a job after an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// The job has ended.
    End { state: &'static str, reason: Option<&'static str>, spent: bool },
    /// The job is looked at again after `wait`, counted from the record.
    Wait { wait: Duration, reason: &'static str, spent: bool },
}

/// The first wait between attempts, doubled each time up to the longest.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(10 * 60);
/// A wait is stretched by a random share of itself, never shortened.
const JITTER: f64 = 0.5;
/// `retry_after` is stretched less: half a day's worth of waiting needs no other half on top.
const RETRY_AFTER_JITTER: f64 = 0.1;

/// What becomes of a job that stood like this and met this outcome. Source: design 6.
pub fn next(outcome: &Outcome, standing: Standing, rng: &mut impl Rng) -> Next {
    let spent_now = standing.attempt + 1;
    match outcome {
        Outcome::Sent { .. } => Next::End { state: "sent", reason: None, spent: true },
        Outcome::Duplicate { .. } => Next::End { state: "duplicate", reason: None, spent: true },
        Outcome::Rejected => Next::End { state: "failed", reason: Some("rejected"), spent: true },
        Outcome::Deferred { wait } => {
            let wait = stretched(*wait, RETRY_AFTER_JITTER, rng);
            Next::Wait { wait, reason: "recipient_saturated", spent: false }
        }
        // The account itself is blocked until its time; the job is ready as soon as the account is.
        Outcome::RateLimited { .. } | Outcome::Halted { .. } => {
            Next::Wait { wait: Duration::ZERO, reason: "account_stopped", spent: false }
        }
        Outcome::Unreachable { .. } => Next::Wait { wait: Duration::ZERO, reason: "unreachable", spent: false },
        Outcome::Retry { wait, limit } => {
            if spent_now >= limit.unwrap_or(u32::MAX).min(standing.max_attempts) {
                return exhausted(standing.unknown);
            }
            let wait = match wait {
                Some(named) => stretched(*named, RETRY_AFTER_JITTER, rng),
                None => backoff(spent_now, rng),
            };
            Next::Wait { wait, reason: "retrying", spent: true }
        }
        Outcome::Unknown { .. } if spent_now >= standing.max_attempts => exhausted(true),
        Outcome::Unknown { .. } => Next::Wait { wait: backoff(spent_now, rng), reason: "outcome_unknown", spent: true },
    }
}

/// No attempts left: a job that may be on the phone is parked for a person, never called failed.
fn exhausted(unknown: bool) -> Next {
    if unknown {
        Next::End { state: "parked", reason: Some("outcome_unknown"), spent: true }
    } else {
        Next::End { state: "failed", reason: Some("attempts_exhausted"), spent: true }
    }
}

/// The wait after the given number of attempts: 1 s, 2 s, 4 s … 10 min, each stretched by up to half of itself.
pub fn backoff(attempts: u32, rng: &mut impl Rng) -> Duration {
    let mut schedule = ExponentialBackoff {
        current_interval: FIRST_WAIT,
        initial_interval: FIRST_WAIT,
        multiplier: 2.0,
        max_interval: LONGEST_WAIT,
        // The crate's own jitter also shortens a wait; ours goes on top.
        randomization_factor: 0.0,
        max_elapsed_time: None,
        ..ExponentialBackoff::default()
    };
    // Twenty doublings are far beyond the longest wait.
    let steps = attempts.clamp(1, 20);
    let wait = (0..steps).filter_map(|_| schedule.next_backoff()).last().unwrap_or(LONGEST_WAIT);
    stretched(wait, JITTER, rng)
}

/// `wait`, and a random part of `share` of it on top.
pub fn stretched(wait: Duration, share: f64, rng: &mut impl Rng) -> Duration {
    wait + wait.mul_f64(share * rng.random::<f64>())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;
    use crate::chert::reply::Ids;

    fn standing(attempt: u32, max_attempts: u32, unknown: bool) -> Standing {
        Standing { attempt, max_attempts, unknown }
    }

    fn after(outcome: Outcome, standing: Standing) -> Next {
        next(&outcome, standing, &mut StdRng::seed_from_u64(1))
    }

    #[test]
    fn success_and_refusal_end_a_job() {
        let sent = Outcome::Sent { ids: Ids::default(), status: "sent".into() };
        assert_eq!(after(sent, standing(0, 10, false)), Next::End { state: "sent", reason: None, spent: true });
        let duplicate = Outcome::Duplicate { ids: Ids::default() };
        assert_eq!(
            after(duplicate, standing(0, 10, true)),
            Next::End { state: "duplicate", reason: None, spent: true }
        );
        let rejected = Next::End { state: "failed", reason: Some("rejected"), spent: true };
        assert_eq!(after(Outcome::Rejected, standing(0, 10, false)), rejected);
    }

    #[test]
    fn i07_faults_of_tenant_and_network_spend_no_attempt() {
        for outcome in [
            Outcome::Halted { why: "secret".into() },
            Outcome::RateLimited { wait: Duration::from_secs(9) },
            Outcome::Unreachable { why: "refused".into() },
            Outcome::Deferred { wait: Duration::from_secs(9) },
        ] {
            // Even on its last attempt the job waits.
            assert!(matches!(after(outcome, standing(9, 10, false)), Next::Wait { spent: false, .. }));
        }
    }

    #[test]
    fn i01_a_job_that_may_be_on_the_phone_is_parked_not_failed() {
        let retry = Outcome::Retry { wait: None, limit: None };
        let failed = Next::End { state: "failed", reason: Some("attempts_exhausted"), spent: true };
        let parked = Next::End { state: "parked", reason: Some("outcome_unknown"), spent: true };
        assert_eq!(after(retry.clone(), standing(9, 10, false)), failed);
        assert_eq!(after(retry, standing(9, 10, true)), parked);
        assert_eq!(after(Outcome::Unknown { why: "timed out".into() }, standing(9, 10, false)), parked);
    }

    #[test]
    fn delivery_failures_stop_after_their_own_limit() {
        let failed = Outcome::Retry { wait: None, limit: Some(3) };
        assert!(matches!(after(failed.clone(), standing(1, 10, false)), Next::Wait { spent: true, .. }));
        assert!(matches!(after(failed, standing(2, 10, false)), Next::End { state: "failed", .. }));
    }

    proptest! {
        #[test]
        fn the_backoff_grows_to_its_longest_and_is_never_shortened(attempts in 1u32..200, seed in any::<u64>()) {
            let wait = backoff(attempts, &mut StdRng::seed_from_u64(seed));
            let plain = FIRST_WAIT.saturating_mul(2u32.saturating_pow(attempts - 1)).min(LONGEST_WAIT);
            prop_assert!(wait >= plain, "{wait:?} is under {plain:?}");
            prop_assert!(wait <= plain.mul_f64(1.0 + JITTER));
        }

        #[test]
        fn a_named_wait_is_only_ever_stretched(secs in 1u64..86_400, seed in any::<u64>(), attempt in 0u32..5) {
            let named = Duration::from_secs(secs);
            for outcome in [Outcome::Deferred { wait: named }, Outcome::Retry { wait: Some(named), limit: None }] {
                let Next::Wait { wait, .. } = next(&outcome, standing(attempt, 10, false), &mut StdRng::seed_from_u64(seed)) else {
                    return Err(TestCaseError::fail("it should wait"));
                };
                prop_assert!(wait >= named && wait <= named.mul_f64(1.0 + RETRY_AFTER_JITTER));
            }
        }
    }
}
