//! What the simulated Chert knows, and the one decision it makes: whether a message goes on a phone. The whole decision
//! is one call under one lock, so that two requests with one key, or two first touches of one line, cannot interleave.

use std::collections::HashMap;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::calls::Calls;
use super::checks::Wanted;
use super::clock::{Clock, Stamp, micros, retry_after_secs};
use super::error::Refusal;
use super::events::Log;
use super::fate::Fate;
use super::fault::{Fault, Faults};
use super::ledger::{Ledger, LedgerEntry};
use super::lines::{self, Lines};
use super::memory::Memory;
use super::options::{ConcurrentKey, Options, SameKeyOtherBody};
use super::timetable::Timetable;
use super::webhooks::{Dispatch, Subscriptions, WebhookFaults};

/// Most idempotency keys and most recent bodies remembered, whatever their lifetime: a bound on memory.
const MEMORY_LIMIT: usize = 2_000_000;
/// Most phones known. Forgetting one would touch it first a second time, so the next one is refused with 3001.
pub const PHONES_LIMIT: usize = 4_000_000;

/// A `/send` request that is valid in itself.
pub struct Call {
    /// When it arrived.
    pub arrival: Stamp,
    pub wanted: Wanted,
    /// Hash of the request's exact bytes: what "same body" means for an idempotency key.
    pub fingerprint: u64,
}

/// How the request ends, and not before which real moment.
pub struct Verdict {
    /// Real microseconds since the start.
    pub ready_us: i64,
    pub ending: Ending,
}

/// What the caller gets to see.
pub enum Ending {
    Answer(Outcome),
    /// The same, but the body takes its time.
    SlowAnswer(Outcome),
    /// The same, until the connection breaks at this share of it, 0 to 1.
    HalfAnswer {
        outcome: Outcome,
        share: f64,
    },
    /// Not from the API at all.
    Page {
        http_status: u16,
        content_type: &'static str,
        body: String,
    },
    /// Nothing, and the connection stays open.
    Hang,
    /// The connection is closed.
    HangUp,
}

/// What the API says about a message; remembered under its key.
#[derive(Clone)]
pub enum Outcome {
    Accepted(Receipt),
    Refused(Refusal),
}

/// The success answer of `/send`.
#[derive(Clone, Copy)]
pub struct Receipt {
    /// Not a new message, but one that said the same a moment ago.
    pub is_duplicate: bool,
    pub message_id: Uuid,
    pub lead: Lead,
    pub lead_created: bool,
}

/// A phone that we have sent to, or that wrote to us, and the line that it is pinned to.
#[derive(Clone, Copy)]
pub struct Lead {
    pub lead_id: Uuid,
    pub convo_id: Uuid,
    pub line: usize,
    /// Our last message to it.
    pub last_message_id: Option<Uuid>,
}

impl Lead {
    /// Somebody new, pinned to this line.
    pub fn new(line: usize) -> Lead {
        Lead { lead_id: random_uuid(), convo_id: random_uuid(), line, last_message_id: None }
    }
}

struct Answered {
    fingerprint: u64,
    ready_us: i64,
    outcome: Outcome,
}

/// Everything that changes.
pub struct State {
    pub lines: Lines,
    pub leads: HashMap<String, Lead>,
    pub ledger: Ledger,
    pub calls: Calls,
    pub faults: Faults,
    pub log: Log,
    pub subscriptions: Subscriptions,
    pub webhook_faults: WebhookFaults,
    /// Where deliveries to webhooks go.
    pub dispatches: mpsc::Sender<Dispatch>,
    pub timetable: Timetable,
    /// What became of the messages that somebody set by hand. They live as long as the ledger remembers as many.
    pub fates_set: Memory<Uuid, Fate>,
    pub seed: u64,
    pub rng: StdRng,
    pub clock: Clock,
    pub options: Options,
    keys: Memory<String, Answered>,
    /// By a hash of phone and body: keeping a million bodies twice would cost more than the odd collision.
    recent: Memory<u64, Receipt>,
}

impl State {
    /// A Chert that has sent nothing yet.
    pub fn new(options: &Options, clock: Clock, faults: Faults, dispatches: mpsc::Sender<Dispatch>) -> State {
        let seed = options.seed.unwrap_or_else(rand::random);
        State {
            lines: Lines::new(options, clock),
            leads: HashMap::new(),
            ledger: Ledger::new(options.ledger_limit),
            calls: Calls::default(),
            faults,
            log: Log::new(options, clock),
            subscriptions: Subscriptions::new(options.webhooks.webhook_http),
            webhook_faults: WebhookFaults::of(&options.webhooks),
            dispatches,
            timetable: Timetable::new(),
            fates_set: Memory::new(i64::MAX, options.ledger_limit),
            seed,
            rng: StdRng::seed_from_u64(seed),
            clock,
            options: options.clone(),
            keys: Memory::new(micros(options.key_lifetime), MEMORY_LIMIT),
            recent: Memory::new(options.dedup_window.map_or(0, micros), MEMORY_LIMIT),
        }
    }

    /// Refuses a `/send` request that did not pass the checks before the key is looked up.
    pub fn refuse(&mut self, arrival: Stamp, refusal: Refusal) -> Verdict {
        self.calls.requests += 1;
        self.calls.sends += 1;
        self.calls.refused(refusal.code);
        Verdict { ready_us: arrival.at_us + self.latency_us(), ending: Ending::Answer(Outcome::Refused(refusal)) }
    }

    /// Decides about a valid request: fault, key, dedup window, capacity, delivery, in this order.
    pub fn decide(&mut self, call: Call) -> Verdict {
        self.calls.requests += 1;
        self.calls.sends += 1;
        let mut ready_us = call.arrival.at_us + self.latency_us();
        let fault = self.faults.draw(&call.wanted.phone, &mut self.rng);
        if let Some(fault) = &fault {
            self.calls.fault(fault.kind());
        }
        let ending = match fault {
            None => Ending::Answer(self.answer(call, &mut ready_us)),
            Some(Fault::Delay { ms }) => {
                ready_us = ready_us.saturating_add(i64::try_from(ms).unwrap_or(i64::MAX).saturating_mul(1000));
                Ending::Answer(self.answer(call, &mut ready_us))
            }
            Some(Fault::SlowBody) => Ending::SlowAnswer(self.answer(call, &mut ready_us)),
            Some(Fault::HalfAnswer) => {
                let share = self.rng.random();
                Ending::HalfAnswer { outcome: self.answer(call, &mut ready_us), share }
            }
            Some(Fault::Hang) => Ending::Hang,
            Some(Fault::DropAfter) => {
                self.answer(call, &mut ready_us);
                Ending::HangUp
            }
            Some(Fault::DropBefore) => Ending::HangUp,
            Some(Fault::Error { code, status, retryable, retry_after }) => {
                let usual = Refusal::new(code);
                let refusal = Refusal {
                    http_status: status.unwrap_or(usual.http_status),
                    retryable: retryable.unwrap_or(usual.retryable),
                    retry_after_secs: retry_after.or(usual.retry_after_secs),
                    ..usual
                };
                Ending::Answer(self.fail(&call, ready_us, refusal))
            }
            Some(Fault::Html) => {
                let body = "<html><body><h1>502 Bad Gateway</h1></body></html>\n".to_owned();
                Ending::Page { http_status: 502, content_type: "text/html", body }
            }
            Some(Fault::Raw { status, body }) => Ending::Page { http_status: status, content_type: "text/plain", body },
        };
        Verdict { ready_us, ending }
    }

    /// A refusal by delivery, which a known key does not prevent.
    fn fail(&mut self, call: &Call, ready_us: i64, refusal: Refusal) -> Outcome {
        self.calls.refused(refusal.code);
        let is_known = |key: &String| self.keys.get(key, call.arrival.simulated_us).is_some();
        let outcome = Outcome::Refused(refusal);
        if !call.wanted.idempotency_key.as_ref().is_some_and(is_known) {
            self.remember(call, ready_us, &outcome);
        }
        outcome
    }

    /// The answer to a request that reaches the API; a replay is ready no sooner than the answer that it repeats.
    fn answer(&mut self, call: Call, ready_us: &mut i64) -> Outcome {
        if let Some(key) = &call.wanted.idempotency_key
            && let Some(known) = self.keys.get(key, call.arrival.simulated_us)
        {
            let is_same_body = known.fingerprint == call.fingerprint;
            // A stored answer that is not ready yet belongs to a request that still waits for it.
            let is_in_flight = call.arrival.at_us < known.ready_us;
            let is_executed = if is_same_body {
                is_in_flight && self.options.concurrent_key == ConcurrentKey::Both
            } else {
                self.options.same_key_other_body == SameKeyOtherBody::Send
            };
            if !is_same_body && self.options.same_key_other_body == SameKeyOtherBody::Error {
                let refusal = Refusal::new(1012).because("The idempotency key was used with another body.");
                self.calls.refused(refusal.code);
                return Outcome::Refused(refusal);
            }
            if !is_executed {
                *ready_us = known.ready_us.max(*ready_us);
                let outcome = known.outcome.clone();
                self.calls.replays += 1;
                return outcome;
            }
        }
        if let Some(receipt) = self.duplicate(&call) {
            self.calls.duplicates += 1;
            let outcome = Outcome::Accepted(receipt);
            self.remember(&call, *ready_us, &outcome);
            return outcome;
        }
        self.write_first(&call.wanted.phone, call.arrival);
        match self.line_for(&call) {
            Ok(line) => self.accept(call, line, *ready_us),
            Err(refusal) => {
                self.calls.refused(refusal.code);
                let outcome = Outcome::Refused(refusal);
                self.remember(&call, *ready_us, &outcome);
                outcome
            }
        }
    }

    fn duplicate(&self, call: &Call) -> Option<Receipt> {
        self.options.dedup_window?;
        let earlier = self.recent.get(&recent_hash(&call.wanted), call.arrival.simulated_us)?;
        Some(Receipt { is_duplicate: true, lead_created: false, ..*earlier })
    }

    /// The line that this message goes out from. Errors: 4002 without a free slot, 3002 if the line is not active.
    fn line_for(&mut self, call: &Call) -> Result<usize, Refusal> {
        let now_us = call.arrival.simulated_us;
        self.lines.turn_day(now_us);
        let lead = self.leads.get(&call.wanted.phone);
        if lead.is_none() && self.leads.len() >= PHONES_LIMIT {
            return Err(Refusal::new(3001).because("The simulator knows too many phones; restart it."));
        }
        let count = self.lines.lines.len();
        let candidates = match call.wanted.line.or(lead.map(|lead| lead.line)) {
            // Chert does not fail over to another line by itself: contract 8, question 27.
            Some(line) => line..line + 1,
            None => 0..count,
        };
        let is_active = |line: &usize| self.lines.lines[*line].is_active;
        let is_free = |line: &usize| is_active(line) && !self.faults.is_saturated(*line);
        if !candidates.clone().any(|line| is_active(&line)) {
            return Err(Refusal::new(3002).because("The line is not active."));
        }
        let chosen = if lead.is_some() {
            candidates.clone().find(is_free)
        } else {
            self.lines.longest_idle(candidates.clone().filter(is_free), now_us)
        };
        let wait_secs = |line: usize| {
            if self.faults.is_saturated(line) {
                self.faults.saturated_retry_after
            } else {
                retry_after_secs(self.clock.real_us(self.lines.slot_us(line).saturating_sub(now_us)))
            }
        };
        chosen.ok_or_else(|| {
            let refusal = Refusal::new(4002);
            match candidates.filter(is_active).map(wait_secs).min() {
                Some(secs) => refusal.retry_after(secs),
                None => refusal,
            }
        })
    }

    /// Puts the message on the phone.
    fn accept(&mut self, call: Call, line: usize, ready_us: i64) -> Outcome {
        let Stamp { at_us, simulated_us } = call.arrival;
        let message_id = random_uuid();
        let known = self.leads.get_mut(&call.wanted.phone);
        let lead_created = known.is_none();
        // Whoever wrote first is known, and has nothing from us yet.
        let is_first = known.as_ref().is_none_or(|lead| lead.last_message_id.is_none());
        let lead = if let Some(lead) = known {
            (lead.line, lead.last_message_id) = (line, Some(message_id));
            *lead
        } else {
            let lead = Lead { last_message_id: Some(message_id), ..Lead::new(line) };
            self.leads.insert(call.wanted.phone.clone(), lead);
            self.lines.touch(line, simulated_us);
            lead
        };
        let receipt = Receipt { is_duplicate: false, message_id, lead, lead_created };
        let outcome = Outcome::Accepted(receipt);
        self.remember(&call, ready_us, &outcome);
        if self.options.dedup_window.is_some() {
            self.recent.insert(recent_hash(&call.wanted), receipt, simulated_us);
        }
        self.calls.sent += 1;
        let Wanted { phone, body, idempotency_key, line: _, effect, attachments } = call.wanted;
        let entry = LedgerEntry {
            seq: 0,
            at: self.clock.calendar(at_us),
            at_us,
            simulated_at: self.clock.calendar(simulated_us),
            phone,
            line_id: lines::id(line),
            first_touch: lead_created,
            idempotency_key,
            message_id: message_id.simple().to_string(),
            body,
            effect,
            attachments,
        };
        self.ledger.append(message_id, entry);
        self.follow_up(message_id, is_first);
        outcome
    }

    /// Stores the answer under the request's key; a refusal only if errors are cached.
    fn remember(&mut self, call: &Call, ready_us: i64, outcome: &Outcome) {
        let is_kept = self.options.cache_errors || matches!(outcome, Outcome::Accepted(_));
        if let Some(key) = call.wanted.idempotency_key.as_ref().filter(|_| is_kept) {
            let answered = Answered { fingerprint: call.fingerprint, ready_us, outcome: outcome.clone() };
            self.keys.insert(key.clone(), answered, call.arrival.simulated_us);
        }
    }

    fn latency_us(&mut self) -> i64 {
        let jitter_us = micros(self.options.latency_jitter);
        let drawn_us = if jitter_us > 0 { self.rng.random_range(0..=jitter_us) } else { 0 };
        micros(self.options.latency).saturating_add(drawn_us)
    }
}

fn recent_hash(wanted: &Wanted) -> u64 {
    super::fingerprint(&(&wanted.phone, &wanted.body))
}

/// A version 4 id from the thread's generator: the system's would cost a call into the kernel each time.
pub fn random_uuid() -> Uuid {
    uuid::Builder::from_random_bytes(rand::random()).into_uuid()
}
