//! Faults on demand: by chance, one by one for the next requests, for one phone, or for whole lines.

use std::collections::{BTreeMap, VecDeque};

use rand::{Rng, RngExt as _};
use serde::{Deserialize, Serialize};

use super::lines;
use super::options::Options;

/// Most phones that can have a fault of their own.
const PHONES_LIMIT: usize = 100_000;
/// What a random 5xx says.
const RANDOM_CODES: [u16; 3] = [3001, 3002, 3004];

/// Something that goes wrong with one `/send` request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// An error answer, not accepted. What is not given comes from the code table.
    Error {
        code: u16,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<u16>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retryable: Option<bool>,
        /// Real seconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after: Option<u64>,
    },
    /// 502 with an HTML page, as from a proxy; not accepted.
    Html,
    /// The connection is closed; not accepted.
    DropBefore,
    /// Accepted, then the connection is closed without an answer.
    DropAfter,
    /// Accepted; the head of the answer comes at once, its body over 10 s.
    SlowBody,
    /// Accepted; the connection breaks in the middle of the answer, in its head or in its body.
    HalfAnswer,
    /// No answer, and not accepted; the connection stays open until the caller gives up.
    Hang,
    /// Accepted; the answer takes `ms` real milliseconds longer.
    Delay { ms: u64 },
    /// This status and this body, as text; not accepted.
    Raw { status: u16, body: String },
}

impl Fault {
    /// The name under which it is counted, the same as in JSON.
    pub fn kind(&self) -> &'static str {
        match self {
            Fault::Error { .. } => "error",
            Fault::Html => "html",
            Fault::DropBefore => "drop_before",
            Fault::DropAfter => "drop_after",
            Fault::SlowBody => "slow_body",
            Fault::HalfAnswer => "half_answer",
            Fault::Hang => "hang",
            Fault::Delay { .. } => "delay",
            Fault::Raw { .. } => "raw",
        }
    }

    /// An error answer with everything from the code table.
    pub fn error(code: u16) -> Fault {
        Fault::Error { code, status: None, retryable: None, retry_after: None }
    }
}

/// Which faults there are. The probabilities (0 to 1) exclude each other, so their sum is at most 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    pub error_5xx: f64,
    pub html: f64,
    pub drop_before: f64,
    pub drop_after: f64,
    pub slow_body: f64,
    pub half_answer: f64,
    pub hang: f64,
    /// One for each of the next `/send` requests that pass validation, in order; before the random ones.
    pub next: VecDeque<Fault>,
    /// For every valid `/send` request to that phone; before `next`, which it does not use up.
    pub phones: BTreeMap<String, Fault>,
    /// Ids of lines that answer 4002 to everything.
    pub saturated_lines: Vec<String>,
    /// What their 4002 asks for, in real seconds; 30 unless set.
    pub saturated_retry_after: u64,
}

/// A change of faults: what is not named stays.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FaultsChange {
    pub error_5xx: Option<f64>,
    pub html: Option<f64>,
    pub drop_before: Option<f64>,
    pub drop_after: Option<f64>,
    pub slow_body: Option<f64>,
    pub half_answer: Option<f64>,
    pub hang: Option<f64>,
    /// Takes the place of the whole list.
    pub next: Option<VecDeque<Fault>>,
    /// `null` clears one phone; phones that are not named keep theirs.
    pub phones: BTreeMap<String, Option<Fault>>,
    /// Takes the place of the whole list.
    pub saturated_lines: Option<Vec<String>>,
    pub saturated_retry_after: Option<u64>,
}

impl Default for Faults {
    fn default() -> Faults {
        Faults {
            error_5xx: 0.0,
            html: 0.0,
            drop_before: 0.0,
            drop_after: 0.0,
            slow_body: 0.0,
            half_answer: 0.0,
            hang: 0.0,
            next: VecDeque::new(),
            phones: BTreeMap::new(),
            saturated_lines: Vec::new(),
            saturated_retry_after: 30,
        }
    }
}

/// Why faults are refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FaultsError {
    #[error("every probability must be from 0 to 1, and their sum at most 1")]
    Probabilities,
    #[error("at most {PHONES_LIMIT} phones can have a fault")]
    TooManyPhones,
    #[error("the status of a fault must be from 200 to 599")]
    Status,
}

impl Faults {
    /// The random faults of the flags.
    pub fn of(options: &Options) -> Faults {
        Faults {
            error_5xx: options.fault_5xx,
            html: options.fault_html,
            drop_before: options.fault_drop_before,
            drop_after: options.fault_drop_after,
            slow_body: options.fault_slow_body,
            half_answer: options.fault_half_answer,
            hang: options.fault_hang,
            ..Faults::default()
        }
    }

    /// These faults with `change` laid over them.
    pub fn changed(mut self, change: FaultsChange) -> Faults {
        for (phone, fault) in change.phones {
            match fault {
                Some(fault) => self.phones.insert(phone, fault),
                None => self.phones.remove(&phone),
            };
        }
        Faults {
            error_5xx: change.error_5xx.unwrap_or(self.error_5xx),
            html: change.html.unwrap_or(self.html),
            drop_before: change.drop_before.unwrap_or(self.drop_before),
            drop_after: change.drop_after.unwrap_or(self.drop_after),
            slow_body: change.slow_body.unwrap_or(self.slow_body),
            half_answer: change.half_answer.unwrap_or(self.half_answer),
            hang: change.hang.unwrap_or(self.hang),
            next: change.next.unwrap_or(self.next),
            phones: self.phones,
            saturated_lines: change.saturated_lines.unwrap_or(self.saturated_lines),
            saturated_retry_after: change.saturated_retry_after.unwrap_or(self.saturated_retry_after),
        }
    }

    /// These faults, if they make sense. Errors: `FaultsError`.
    pub fn checked(self) -> Result<Faults, FaultsError> {
        let chances = self.chances().map(|(chance, _)| chance);
        // The sum of, say, five times 0.2 may end a little above 1.
        if chances.iter().any(|chance| !(0.0..=1.0).contains(chance)) || chances.iter().sum::<f64>() > 1.0 + 1e-9 {
            return Err(FaultsError::Probabilities);
        }
        if self.phones.len() > PHONES_LIMIT {
            return Err(FaultsError::TooManyPhones);
        }
        let statuses = self.next.iter().chain(self.phones.values()).filter_map(|fault| match fault {
            Fault::Error { status, .. } => *status,
            Fault::Raw { status, .. } => Some(*status),
            _ => None,
        });
        if statuses.into_iter().any(|status| !(200..600).contains(&status)) {
            return Err(FaultsError::Status);
        }
        Ok(self)
    }

    /// What goes wrong with this request to `phone`: the phone's own fault, else the next in the list, else chance.
    pub fn draw(&mut self, phone: &str, rng: &mut impl Rng) -> Option<Fault> {
        if let Some(fault) = self.phones.get(phone) {
            return Some(fault.clone());
        }
        if let Some(fault) = self.next.pop_front() {
            return Some(fault);
        }
        let chances = self.chances();
        if chances.iter().all(|(chance, _)| *chance == 0.0) {
            return None;
        }
        let mut left: f64 = rng.random();
        for (chance, fault) in chances {
            if left < chance {
                return Some(fault.unwrap_or_else(|| Fault::error(RANDOM_CODES[rng.random_range(0..3)])));
            }
            left -= chance;
        }
        None
    }

    /// Whether the line at `position` answers 4002 to everything.
    pub fn is_saturated(&self, position: usize) -> bool {
        !self.saturated_lines.is_empty() && self.saturated_lines.contains(&lines::id(position))
    }

    /// Each probability with its fault; `None` stands for one of `RANDOM_CODES`.
    fn chances(&self) -> [(f64, Option<Fault>); 7] {
        [
            (self.error_5xx, None),
            (self.html, Some(Fault::Html)),
            (self.drop_before, Some(Fault::DropBefore)),
            (self.drop_after, Some(Fault::DropAfter)),
            (self.slow_body, Some(Fault::SlowBody)),
            (self.half_answer, Some(Fault::HalfAnswer)),
            (self.hang, Some(Fault::Hang)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;
    use serde_json::json;

    use super::*;

    #[test]
    fn each_kind_is_drawn_about_as_often_as_it_was_asked_for() {
        let mut faults =
            Faults { error_5xx: 0.1, html: 0.2, drop_after: 0.3, ..Faults::default() }.checked().expect("possible");
        let mut rng = StdRng::seed_from_u64(7);
        let mut drawn = BTreeMap::new();
        for _ in 0..10_000 {
            *drawn.entry(faults.draw("+15550142200", &mut rng).map_or("none", |fault| fault.kind())).or_insert(0) += 1;
        }
        for (kind, expected) in [("error", 1000_i32), ("html", 2000), ("drop_after", 3000), ("none", 4000)] {
            assert!((drawn[kind] - expected).abs() < 200, "{drawn:?}");
        }
    }

    #[test]
    fn a_change_keeps_what_it_does_not_name() {
        let change = |value| serde_json::from_value::<FaultsChange>(value).expect("a change");
        let faults = Faults::default()
            .changed(change(json!({"html": 0.5, "phones": {"+15550142200": {"kind": "html"}}})))
            .changed(change(
                json!({"next": [{"kind": "delay", "ms": 5}], "phones": {"+15550142201": {"kind": "html"}}}),
            ))
            .changed(change(json!({"phones": {"+15550142200": null}})));
        assert_eq!(faults.html, 0.5);
        assert_eq!(faults.next, [Fault::Delay { ms: 5 }]);
        assert_eq!(faults.phones.keys().collect::<Vec<_>>(), ["+15550142201"]);
    }

    #[test]
    fn misspelt_or_impossible_faults_are_refused() {
        for value in [json!({"htlm": 0.5}), json!({"next": [{"kind": "delay"}]}), json!({"next": [{"kind": "x"}]})] {
            assert!(serde_json::from_value::<FaultsChange>(value.clone()).is_err(), "{value}");
        }
        let faults = Faults { html: 0.6, drop_after: 0.6, ..Faults::default() };
        assert_eq!(faults.checked(), Err(FaultsError::Probabilities));
        let faults = Faults { next: [Fault::Raw { status: 7, body: String::new() }].into(), ..Faults::default() };
        assert_eq!(faults.checked(), Err(FaultsError::Status));
    }

    #[test]
    fn a_phones_own_fault_does_not_use_up_the_list() {
        let mut faults = Faults { next: [Fault::Html].into(), ..Faults::default() };
        faults.phones.insert("+15550142200".into(), Fault::DropAfter);
        let mut rng = StdRng::seed_from_u64(7);
        assert_eq!(faults.draw("+15550142200", &mut rng), Some(Fault::DropAfter));
        assert_eq!(faults.draw("+15550142201", &mut rng), Some(Fault::Html));
        assert_eq!(faults.draw("+15550142201", &mut rng), None);
    }
}
