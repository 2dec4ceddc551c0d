//! What becomes of a message: it is delivered and perhaps read, or it fails, or nothing more is heard of it.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::clock::{Clock, Stamp, micros};
use super::ledger::LedgerEntry;
use super::options::MessageOptions;
use super::state::State;

/// A state that a message may come to after `sent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageState {
    Delivered,
    /// Delivered, and seen.
    Read,
    Failed,
}

/// When a message comes to which state, in real microseconds since the start; `None` for never.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fate {
    pub delivered_us: Option<i64>,
    pub read_us: Option<i64>,
    pub failed_us: Option<i64>,
}

impl Fate {
    /// What chance has for this message. It follows from seed, phone and text, so that nothing has to be remembered, and
    /// that it is the same whatever else goes on.
    fn drawn(options: &MessageOptions, seed: u64, entry: &LedgerEntry, clock: &Clock) -> Fate {
        let chance = |of: &str| {
            let drawn = super::fingerprint(&(seed, of, &entry.phone, &entry.body)) >> 11;
            drawn as f64 / (1_u64 << 53) as f64
        };
        let later = |from_us: i64, after| from_us.saturating_add(clock.real_us(micros(after)));
        let end_us = later(entry.at_us, options.delivery_after);
        let end = chance("delivery");
        if end < options.failed_share {
            return Fate { failed_us: Some(end_us), ..Fate::default() };
        }
        if end < options.failed_share + options.undelivered_share {
            return Fate::default();
        }
        let is_read = chance("reading") < options.read_share;
        let read_us = is_read.then(|| later(end_us, options.read_after));
        Fate { delivered_us: Some(end_us), read_us, failed_us: None }
    }

    /// The same, but it comes to `state` at `now_us`.
    fn set(self, state: MessageState, now_us: i64) -> Fate {
        let delivered_us = Some(self.delivered_us.map_or(now_us, |delivered_us| delivered_us.min(now_us)));
        match state {
            MessageState::Delivered => Fate { delivered_us, read_us: None, failed_us: None },
            MessageState::Read => Fate { delivered_us, read_us: Some(now_us), failed_us: None },
            MessageState::Failed => Fate { failed_us: Some(now_us), ..Fate::default() },
        }
    }

    /// When it comes to this state.
    pub fn time_of(&self, state: MessageState) -> Option<i64> {
        match state {
            MessageState::Delivered => self.delivered_us,
            MessageState::Read => self.read_us,
            MessageState::Failed => self.failed_us,
        }
    }

    /// The message as it stands at `now_us`. Times are real ones, whatever the time scale: callers compare them with their
    /// own clock. A message that was read stays `delivered`: contract 8, question 34.
    pub fn message(&self, entry: &LedgerEntry, chat_id: Uuid, clock: &Clock, now_us: i64) -> Value {
        let time = |at_us: Option<i64>| at_us.filter(|at_us| *at_us <= now_us);
        let told = |at_us: Option<i64>| time(at_us).map(|at_us| rfc3339(clock.calendar(at_us)));
        let status = match (time(self.failed_us), time(self.delivered_us)) {
            (Some(_), _) => "failed",
            (None, Some(_)) => "delivered",
            (None, None) => "sent",
        };
        json!({
            "id": entry.message_id,
            "chat_id": chat_id.to_string(),
            "parts": [{ "type": "text", "value": entry.body }],
            "status": status,
            "direction": "outbound",
            "created_at": rfc3339(entry.at),
            "delivered_at": told(self.delivered_us),
            "read_at": told(self.read_us),
            "service": "imessage",
        })
    }
}

impl State {
    /// What becomes of this message: what somebody set, else what chance has for it.
    pub fn fate(&self, entry: &LedgerEntry) -> Fate {
        let set = Uuid::parse_str(&entry.message_id).ok().and_then(|id| self.fates_set.get(&id, 0));
        set.copied().unwrap_or_else(|| Fate::drawn(&self.options.messages, self.seed, entry, &self.clock))
    }

    /// Brings a message to this state now. Returns whether there is such a message.
    pub fn set_message(&mut self, message_id: &str, state: MessageState, now: Stamp) -> bool {
        let Ok(id) = Uuid::parse_str(message_id) else { return false };
        let Some(entry) = self.ledger.with_message(id) else { return false };
        let fate = self.fate(entry).set(state, now.at_us);
        self.fates_set.insert(id, fate, 0);
        self.tell_state(id, state, now.at_us);
        true
    }
}

/// Real time as callers read it, in milliseconds.
pub fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(phone: &str) -> LedgerEntry {
        let entry = json!({"seq": 1, "at": DateTime::UNIX_EPOCH, "at_us": 0, "simulated_at": DateTime::UNIX_EPOCH,
            "phone": phone, "line_id": "pl_1", "first_touch": true, "message_id": "", "body": "Hi",
            "attachments": []});
        serde_json::from_value(entry).expect("an entry")
    }

    #[test]
    fn shares_are_kept_and_the_same_message_meets_the_same_fate() {
        let options =
            MessageOptions { read_share: 0.5, failed_share: 0.2, undelivered_share: 0.1, ..MessageOptions::default() };
        let clock = Clock::start(1.0, chrono::TimeDelta::zero());
        let fates: Vec<Fate> = (0..10_000)
            .map(|n| {
                let entry = entry(&format!("+1555{n:07}"));
                let fate = Fate::drawn(&options, 7, &entry, &clock);
                assert_eq!(fate, Fate::drawn(&options, 7, &entry, &clock));
                fate
            })
            .collect();
        let share = |is_so: fn(&Fate) -> bool| fates.iter().filter(|fate| is_so(fate)).count() as i32;
        for (count, expected) in [
            (share(|fate| fate.failed_us.is_some()), 2000),
            (share(|fate| *fate == Fate::default()), 1000),
            (share(|fate| fate.delivered_us.is_some()), 7000),
            (share(|fate| fate.read_us.is_some()), 3500),
        ] {
            assert!((count - expected).abs() < 200, "{count} for {expected}");
        }
    }

    #[test]
    fn a_state_that_was_set_takes_the_place_of_the_others() {
        let drawn = Fate { delivered_us: Some(10), read_us: Some(20), failed_us: None };
        assert_eq!(drawn.set(MessageState::Read, 5), Fate { delivered_us: Some(5), read_us: Some(5), failed_us: None });
        assert_eq!(drawn.set(MessageState::Delivered, 15), Fate { read_us: None, ..drawn });
        assert_eq!(drawn.set(MessageState::Failed, 15), Fate { failed_us: Some(15), ..Fate::default() });
    }
}
