//! Webhooks: who wants which events, and how they get there. An event is in the log before its first attempt.

mod deliver;
mod faults;
mod routes;
mod subscriptions;

pub use deliver::{Deliverer, Dispatch, Tried, attempt, run};
pub use faults::WebhookFaults;
pub use routes::routes;
pub use subscriptions::{Subscription, Subscriptions};

use std::time::Duration;

use rand::RngExt as _;
use tracing::warn;

use super::state::State;

/// Most deliveries that wait for their turn; more fail at once.
pub const QUEUE_LIMIT: usize = 50_000;

impl State {
    /// Sends the event with this number on its way to everybody who wants it, with the faults that were asked for.
    pub fn announce(&mut self, seq: u64) {
        let Some(event) = self.log.get_mut(seq) else { return };
        for subscription in self.subscriptions.all().filter(|subscription| subscription.wants(event.kind)) {
            if subscription.is_dev_inbox() {
                event.delivery.is_in_dev_inbox = true;
                continue;
            }
            let faults = &self.webhook_faults;
            if strikes(faults.loss, &mut self.rng) {
                continue;
            }
            let times = if strikes(faults.double, &mut self.rng) { 2 } else { 1 };
            for _ in 0..times {
                let is_held_back = strikes(faults.reorder, &mut self.rng);
                let held_ms = if is_held_back { self.rng.random_range(0..=faults.reorder_by_ms) } else { 0 };
                let held_back = Duration::from_millis(held_ms);
                event.delivery.begin();
                let dispatch = Dispatch { seq, subscription_id: subscription.id, held_back };
                if self.dispatches.try_send(dispatch).is_err() {
                    warn!("An event goes to a webhook no more: too many are under way");
                    event.delivery.end(None);
                }
            }
        }
    }
}

/// Draws only if there is a chance, so that a seed means the same with and without webhooks.
fn strikes(chance: f64, rng: &mut impl rand::Rng) -> bool {
    chance > 0.0 && rng.random::<f64>() < chance
}
