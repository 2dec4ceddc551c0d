//! The gate of this process: it opens fully only after Chert has answered one job as it should, and closes when the tenant
//! or the network is at fault. What stops every worker is in the account's row; this is what one process knows by itself.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::chert::reply::Reply;
use crate::outcome::Outcome;
use crate::retry::backoff;

/// So many calls in a row without a word from Chert close the gate.
const FAILURES_TO_CLOSE: u32 = 5;
/// Time for an outcome to be recorded.
const UNTIL_RECORDED: Duration = Duration::from_secs(1);
/// The longest pause before the next probe.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Starts as probing: one job first.
pub struct Gate {
    state: Mutex<State>,
}

struct State {
    position: Position,
    /// Grows each time the gate closes: claims from before are handed back.
    closings: u64,
    failures: u32,
    pauses: u32,
    /// Why it last closed, until Chert has spoken again.
    why: Option<String>,
    /// No call has been answered yet in the life of this process.
    fresh: bool,
}

enum Position {
    Open,
    Probing { out: bool },
    Paused { until: Instant },
}

/// Which opening of the gate a claim was made in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket(u64);

impl Default for Gate {
    fn default() -> Gate {
        let position = Position::Probing { out: false };
        Gate { state: Mutex::new(State { position, closings: 0, failures: 0, pauses: 0, why: None, fresh: true }) }
    }
}

impl Gate {
    /// How many jobs may be claimed when there are `places` free.
    pub fn allowance(&self, places: usize) -> usize {
        let mut state = self.lock();
        if let Position::Paused { until } = state.position
            && Instant::now() >= until
        {
            state.position = Position::Probing { out: false };
        }
        match state.position {
            Position::Open => places,
            Position::Probing { out: false } => places.min(1),
            Position::Probing { out: true } | Position::Paused { .. } => 0,
        }
    }

    /// Whether this process has never been answered: it may then try one job although the account is halted, because it
    /// may have been started with the right secret.
    pub fn is_fresh(&self) -> bool {
        self.lock().fresh
    }

    /// The ticket for claims that are made now.
    pub fn ticket(&self) -> Ticket {
        Ticket(self.lock().closings)
    }

    /// Notes that jobs were claimed.
    pub fn claimed(&self, jobs: usize) {
        if let Position::Probing { out } = &mut self.lock().position {
            *out = *out || jobs > 0;
        }
    }

    /// Whether a claim with this ticket may still be sent.
    pub fn admits(&self, ticket: Ticket) -> bool {
        self.lock().closings == ticket.0
    }

    /// Notes that a claim was handed back unsent: if it was the probe, another one may go.
    pub fn handed_back(&self, ticket: Ticket) {
        let mut state = self.lock();
        if state.closings == ticket.0
            && let Position::Probing { out } = &mut state.position
        {
            *out = false;
        }
    }

    /// Takes in what the call of a claim with this ticket brought.
    pub fn report(&self, ticket: Ticket, reply: &Reply, outcome: &Outcome) {
        let mut state = self.lock();
        let spoke = matches!(reply, Reply::Answered(answer) if answer.is_from_chert());
        match outcome {
            // From here on the account's row says when somebody may try; this pause lasts until that row is written.
            Outcome::Halted { why } => {
                state.fresh = false;
                state.pause(UNTIL_RECORDED, why.clone());
            }
            Outcome::RateLimited { wait } => state.pause(*wait, "Chert answered 1007: too many requests".to_owned()),
            // It was under way when the gate closed: it neither makes the pause longer nor ends it, however many they are.
            _ if state.closings != ticket.0 => {}
            Outcome::Unreachable { why } => state.pause_longer(format!("Chert cannot be reached: {why}")),
            _ if spoke => {
                state.fresh = false;
                (state.failures, state.pauses, state.why) = (0, 0, None);
                state.position = Position::Open;
            }
            _ => {
                state.failures += 1;
                let probing = matches!(state.position, Position::Probing { .. });
                if probing || state.failures >= FAILURES_TO_CLOSE {
                    let why = format!("no word from Chert in {} calls", state.failures);
                    state.pause_longer(why);
                }
            }
        }
    }

    /// The time until a pause ends.
    pub fn reopens_in(&self) -> Option<Duration> {
        match self.lock().position {
            Position::Paused { until } => Some(until.saturating_duration_since(Instant::now())),
            _ => None,
        }
    }

    /// The gate's position for `status`, with the reason why it closed last, until Chert has spoken again.
    pub fn describe(&self) -> (&'static str, Option<String>) {
        let state = self.lock();
        let position = match state.position {
            Position::Open => "open",
            Position::Probing { .. } => "probing",
            Position::Paused { .. } => "paused",
        };
        (position, state.why.clone())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change of the state is complete before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn pause(&mut self, wait: Duration, why: String) {
        self.closings += 1;
        self.position = Position::Paused { until: Instant::now() + wait };
        self.why = Some(why);
    }

    /// Each pause in a row is longer than the one before.
    fn pause_longer(&mut self, why: String) {
        self.pauses += 1;
        self.pause(backoff(self.pauses, &mut rand::rng()).min(LONGEST_PAUSE), why);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chert::reply::{Answer, Cause, Ids};

    fn answered(gate: &Gate, ticket: Ticket) {
        let answer = Answer { http_status: 200, status: Some("sent".into()), ..Answer::default() };
        let sent = Outcome::Sent { ids: Ids::default(), status: "sent".into() };
        gate.report(ticket, &Reply::Answered(Box::new(answer)), &sent);
    }

    fn unanswered(gate: &Gate, ticket: Ticket) {
        gate.report(ticket, &Reply::NoAnswer(Cause("broken".into())), &Outcome::Unknown { why: "broken".into() });
    }

    fn refused(gate: &Gate, ticket: Ticket) {
        gate.report(ticket, &Reply::NotSent(Cause("refused".into())), &Outcome::Unreachable { why: "refused".into() });
    }

    #[tokio::test(start_paused = true)]
    async fn i07_one_job_goes_first_and_the_rest_after_its_answer() {
        let gate = Gate::default();
        assert_eq!(gate.allowance(64), 1);
        gate.claimed(1);
        assert_eq!(gate.allowance(63), 0, "the probe is out");
        answered(&gate, gate.ticket());
        assert_eq!(gate.allowance(63), 63);
    }

    #[tokio::test(start_paused = true)]
    async fn i07_a_halt_hands_back_what_was_claimed_before() {
        let gate = Gate::default();
        answered(&gate, gate.ticket());
        let ticket = gate.ticket();
        gate.report(ticket, &Reply::Answered(Box::default()), &Outcome::Halted { why: "secret".into() });
        assert!(!gate.admits(ticket));
        assert_eq!(gate.allowance(64), 0);
        tokio::time::advance(UNTIL_RECORDED).await;
        assert_eq!(gate.allowance(64), 1, "the next one is a probe, if the account's row lets it");
    }

    #[tokio::test(start_paused = true)]
    async fn an_unreachable_api_pauses_and_is_probed_after_growing_waits() {
        let gate = Gate::default();
        let mut waits = Vec::new();
        for _ in 0..8 {
            refused(&gate, gate.ticket());
            assert_eq!(gate.allowance(64), 0);
            let wait = gate.reopens_in().expect("paused");
            waits.push(wait);
            tokio::time::advance(wait).await;
            assert_eq!(gate.allowance(64), 1);
        }
        assert!(waits[0] >= Duration::from_secs(1) && waits[2] >= Duration::from_secs(4));
        assert_eq!(waits[7], LONGEST_PAUSE);
    }

    #[tokio::test(start_paused = true)]
    async fn some_lost_answers_are_borne_and_many_in_a_row_close_the_gate() {
        let gate = Gate::default();
        answered(&gate, gate.ticket());
        (1..FAILURES_TO_CLOSE).for_each(|_| unanswered(&gate, gate.ticket()));
        assert_eq!(gate.allowance(64), 64);
        answered(&gate, gate.ticket());
        (0..FAILURES_TO_CLOSE).for_each(|_| unanswered(&gate, gate.ticket()));
        assert_eq!(gate.allowance(64), 0);
        assert_eq!(gate.describe(), ("paused", Some("no word from Chert in 5 calls".to_owned())));
    }

    #[tokio::test(start_paused = true)]
    async fn calls_that_were_under_way_when_the_gate_closed_change_nothing() {
        for fails in [unanswered, refused] {
            let gate = Gate::default();
            answered(&gate, gate.ticket());
            let ticket = gate.ticket();
            (0..64).for_each(|_| fails(&gate, ticket));
            let wait = gate.reopens_in().expect("paused");
            assert!(wait <= Duration::from_millis(1_500), "the first pause, not the sixtieth: {wait:?}");
            answered(&gate, ticket);
            assert_eq!(gate.allowance(64), 0, "an answer to a call from before says nothing of now");
            tokio::time::advance(wait).await;
            assert_eq!(gate.allowance(64), 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_was_handed_back_makes_way_for_another() {
        let gate = Gate::default();
        let ticket = gate.ticket();
        gate.claimed(1);
        gate.handed_back(ticket);
        assert_eq!(gate.allowance(64), 1);
    }
}
