//! How often what happened.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Counters since the start of the simulator.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calls {
    /// Requests to known routes of the API, `/send` included.
    pub requests: u64,
    /// Requests to `/send`.
    pub sends: u64,
    /// Messages put on a phone.
    pub sent: u64,
    /// Answers given again because the key was known, errors included.
    pub replays: u64,
    /// Answers `duplicate`, replays of them not included.
    pub duplicates: u64,
    /// Refusals on any route by error code, injected ones included.
    pub codes: BTreeMap<u16, u64>,
    /// Injected faults by kind: `error`, `html`, `drop_before`, `drop_after`, `slow_body`, `half_answer`, `hang`, `delay`,
    /// `raw`.
    pub faults: BTreeMap<String, u64>,
}

impl Calls {
    /// Counts a refusal.
    pub fn refused(&mut self, code: u16) {
        *self.codes.entry(code).or_default() += 1;
    }

    /// Counts an injected fault.
    pub fn fault(&mut self, kind: &str) {
        match self.faults.get_mut(kind) {
            Some(count) => *count += 1,
            None => {
                self.faults.insert(kind.to_owned(), 1);
            }
        }
    }
}
