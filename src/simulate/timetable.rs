//! What is still to happen: what scripted recipients will do, and the states that messages will come to.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use uuid::Uuid;

use super::clock::Stamp;
use super::fate::MessageState;
use super::inbound::{Inbound, Reaction};
use super::state::State;
use super::{Shared, clock};

/// Most deeds that wait; more never happen.
const DEEDS_LIMIT: usize = 1_000_000;
/// Most deeds under one hold of the lock.
const BATCH: usize = 256;

/// Something that will happen.
pub enum Deed {
    Receive(Inbound),
    React(Reaction),
    /// A message of ours comes to this state.
    Tell(Uuid, MessageState),
}

/// All that waits, soonest first.
pub struct Timetable {
    /// By real microseconds since the start, and in order of entry.
    deeds: BTreeMap<(i64, u64), Deed>,
    next_order: u64,
    changed: Arc<Notify>,
}

impl Timetable {
    /// Nothing will happen.
    pub fn new() -> Timetable {
        Timetable { deeds: BTreeMap::new(), next_order: 0, changed: Arc::new(Notify::new()) }
    }

    /// Enters a deed for real `at_us`.
    pub fn enter(&mut self, at_us: i64, deed: Deed) {
        if self.deeds.len() >= DEEDS_LIMIT {
            warn!("The timetable is full: something that a recipient would do will not happen");
            return;
        }
        let is_next = self.deeds.first_key_value().is_none_or(|((next_us, _), _)| at_us < *next_us);
        self.deeds.insert((at_us, self.next_order), deed);
        self.next_order += 1;
        if is_next {
            self.changed.notify_one();
        }
    }
}

impl State {
    /// Does what is due at `now`, a batch at most, and says when the next is.
    fn do_due(&mut self, now: Stamp) -> Option<i64> {
        for _ in 0..BATCH {
            let next = self.timetable.deeds.first_entry()?;
            let (at_us, _) = *next.key();
            if at_us > now.at_us {
                return Some(at_us);
            }
            match next.remove() {
                // They fail only if the ledger has dropped the message since, or was cleared.
                Deed::Receive(inbound) => drop(self.receive(&inbound, now)),
                Deed::React(reaction) => drop(self.react(&reaction, now)),
                Deed::Tell(message_id, state) => {
                    let entry = self.ledger.with_message(message_id);
                    // Somebody may have set it to another state meanwhile.
                    if entry.is_some_and(|entry| self.fate(entry).time_of(state) == Some(at_us)) {
                        self.tell_state(message_id, state, now.at_us);
                    }
                }
            }
        }
        self.timetable.deeds.first_key_value().map(|((at_us, _), _)| *at_us)
    }
}

/// Does everything at its time, until `stop`.
pub async fn run(shared: Arc<Shared>, stop: CancellationToken) {
    let changed = Arc::clone(&shared.state().timetable.changed);
    loop {
        let next_us = shared.state().do_due(shared.clock.stamp());
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = changed.notified() => {}
            () = wait(&shared.clock, next_us) => {}
        }
        // A wait for what is due by now does not yield, and a long backlog would keep everybody else out.
        tokio::task::yield_now().await;
    }
}

async fn wait(clock: &clock::Clock, next_us: Option<i64>) {
    match next_us {
        Some(at_us) => clock.wait_until(at_us).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::sync::mpsc;

    use super::*;
    use crate::simulate::checks;
    use crate::simulate::clock::Clock;
    use crate::simulate::fault::Faults;
    use crate::simulate::options::{EventOptions, MessageOptions, Options};
    use crate::simulate::state::{Call, Ending, Outcome};

    fn state() -> State {
        let events = EventOptions { delivery_events: true, ..EventOptions::default() };
        let messages = MessageOptions { read_share: 1.0, ..MessageOptions::default() };
        let options = Options { events, messages, ..Options::default() };
        State::new(&options, Clock::start(1.0, chrono::TimeDelta::zero()), Faults::default(), mpsc::channel(1).0)
    }

    fn send(state: &mut State) -> String {
        let body = json!({"phone": "+15550142200", "body": "Hi"}).to_string();
        let wanted = checks::parse(body.as_bytes(), 1).expect("valid");
        let arrival = Stamp { at_us: 0, simulated_us: 0 };
        match state.decide(Call { arrival, wanted, fingerprint: 0 }).ending {
            Ending::Answer(Outcome::Accepted(receipt)) => receipt.message_id.to_string(),
            _ => panic!("not accepted"),
        }
    }

    fn kinds(state: &State) -> Vec<&str> {
        state.log.events().map(|event| event.kind).collect()
    }

    #[test]
    fn states_are_told_at_their_time_and_once() {
        let mut state = state();
        send(&mut state);
        let mut at = |at_secs: i64| {
            let at_us = at_secs * 1_000_000;
            let next_us = state.do_due(Stamp { at_us, simulated_us: at_us });
            (next_us, kinds(&state).len())
        };
        assert_eq!(at(0), (Some(1_000_000), 0));
        assert_eq!(at(1), (Some(31_000_000), 1));
        assert_eq!(at(60), (None, 2));
        assert_eq!(kinds(&state), ["message.delivered", "message.read"]);
    }

    #[test]
    fn what_was_to_come_of_a_message_that_was_set_comes_to_nothing() {
        let mut state = state();
        let message_id = send(&mut state);
        state.set_message(&message_id, MessageState::Failed, Stamp { at_us: 5, simulated_us: 5 });
        state.do_due(Stamp { at_us: 60_000_000, simulated_us: 60_000_000 });
        assert_eq!(kinds(&state), ["message.failed"]);
    }
}
