//! The last look at the suppressions and reviews. A slot may lie two seconds ahead of the claim that looked at them: who says
//! stop meanwhile is found here. One statement looks for all jobs whose slot is still ahead, again and again.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};
use tracing::debug;

use crate::outbox::suppressions::stopped;
use crate::worker::Shared;

/// A message leaves if it was looked for no longer than this before its slot.
const FRESH: Duration = Duration::from_millis(500);
/// How often is looked: a look or two may fail, or take long.
const EVERY: Duration = Duration::from_millis(150);

/// The jobs that this worker is about to send, and which of them the newest look found stopped.
#[derive(Default)]
pub struct LastLook {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// How many claims of the job wait: one that lost its lease may be here a second time.
    waiting: HashMap<i64, usize>,
    began: Option<Instant>,
    found: HashSet<i64>,
}

impl LastLook {
    /// Waits for the slot, and tells whether the job may be sent then. Without a fresh look it does not go.
    pub async fn allows(&self, job_id: i64, slot: Instant) -> bool {
        let must_begin = slot.checked_sub(FRESH).filter(|at| *at > Instant::now());
        let waiting = must_begin.map(|_| Waiting::new(self, job_id));
        tokio::time::sleep_until(slot).await;
        let state = self.lock();
        let allows = must_begin.is_none_or(|at| state.began >= Some(at) && !state.found.contains(&job_id));
        drop(state);
        drop(waiting);
        allows
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change of the state is complete before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A job is looked for as long as this lives.
struct Waiting<'a> {
    look: &'a LastLook,
    job_id: i64,
}

impl<'a> Waiting<'a> {
    fn new(look: &'a LastLook, job_id: i64) -> Waiting<'a> {
        *look.lock().waiting.entry(job_id).or_default() += 1;
        Waiting { look, job_id }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.look.lock();
        if let Some(count) = state.waiting.get_mut(&self.job_id) {
            *count -= 1;
            if *count == 0 {
                state.waiting.remove(&self.job_id);
            }
        }
    }
}

/// Looks until it is dropped.
pub async fn run(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let jobs: Vec<i64> = shared.last_look.lock().waiting.keys().copied().collect();
        if jobs.is_empty() {
            continue;
        }
        let began = Instant::now();
        match tokio::time::timeout(FRESH, stopped(&shared.pool, &jobs)).await {
            Ok(Ok(found)) => {
                let mut state = shared.last_look.lock();
                (state.began, state.found) = (Some(began), found);
            }
            Ok(Err(error)) => debug!(%error, "No last look at the suppressions"),
            Err(_) => debug!("No last look at the suppressions in time"),
        }
    }
}
