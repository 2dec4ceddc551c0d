//! The last look at the suppressions. A slot may lie two seconds ahead of the claim that looked at them: who says stop
//! meanwhile is found here. One statement looks for all recipients whose slot is still ahead, again and again.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};
use tracing::debug;

use crate::outbox::suppressions::suppressed;
use crate::phone::Phone;
use crate::worker::Shared;

/// A message leaves if it was looked for no longer than this before its slot.
const FRESH: Duration = Duration::from_millis(500);
/// How often is looked: a look or two may fail, or take long.
const EVERY: Duration = Duration::from_millis(150);

/// Whom this worker is about to send to, and what the newest look found.
#[derive(Default)]
pub struct LastLook {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: HashMap<Phone, usize>,
    began: Option<Instant>,
    found: HashSet<Phone>,
}

impl LastLook {
    /// Waits for the slot, and tells whether the recipient may be sent to then. Without a fresh look the message does not go.
    pub async fn allows(&self, phone: &Phone, slot: Instant) -> bool {
        let must_begin = slot.checked_sub(FRESH).filter(|at| *at > Instant::now());
        let waiting = must_begin.map(|_| Waiting::new(self, phone));
        tokio::time::sleep_until(slot).await;
        let state = self.lock();
        let allows = must_begin.is_none_or(|at| state.began >= Some(at) && !state.found.contains(phone));
        drop(state);
        drop(waiting);
        allows
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change of the state is complete before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A recipient is looked for as long as this lives.
struct Waiting<'a> {
    look: &'a LastLook,
    phone: &'a Phone,
}

impl<'a> Waiting<'a> {
    fn new(look: &'a LastLook, phone: &'a Phone) -> Waiting<'a> {
        *look.lock().waiting.entry(phone.clone()).or_default() += 1;
        Waiting { look, phone }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.look.lock();
        if let Some(count) = state.waiting.get_mut(self.phone) {
            *count -= 1;
            if *count == 0 {
                state.waiting.remove(self.phone);
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
        let phones: Vec<Phone> = shared.last_look.lock().waiting.keys().cloned().collect();
        if phones.is_empty() {
            continue;
        }
        let began = Instant::now();
        match tokio::time::timeout(FRESH, suppressed(&shared.pool, &phones)).await {
            Ok(Ok(found)) => {
                let mut state = shared.last_look.lock();
                (state.began, state.found) = (Some(began), found);
            }
            Ok(Err(error)) => debug!(%error, "No last look at the suppressions"),
            Err(_) => debug!("No last look at the suppressions in time"),
        }
    }
}
