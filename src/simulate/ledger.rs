//! What each phone received: one entry is one message on one phone. Tests read it to see what really happened.

use std::collections::{HashMap, VecDeque};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// One message on one phone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LedgerEntry {
    /// Order of acceptance, from 1, without gaps.
    pub seq: u64,
    /// When the request arrived, in real time.
    #[serde(with = "micros")]
    pub at: DateTime<Utc>,
    /// The same on a monotonic clock: real microseconds since the simulator's start.
    pub at_us: i64,
    /// When the request arrived, in simulated time.
    #[serde(with = "micros")]
    pub simulated_at: DateTime<Utc>,
    /// The recipient, E.164.
    pub phone: String,
    /// The line that the message came from.
    pub line_id: String,
    /// Whether it is the first message to this phone.
    pub first_touch: bool,
    /// The key that the request carried.
    pub idempotency_key: Option<String>,
    /// 32 hex digits, as in the answer.
    pub message_id: String,
    pub body: String,
    pub effect: Option<String>,
    pub attachments: Vec<Attachment>,
}

/// An attachment of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    pub id: String,
    #[serde(default)]
    pub live_photo: bool,
}

/// The newest messages, at most `limit`, found by number, key or id.
pub struct Ledger {
    entries: VecDeque<LedgerEntry>,
    by_key: HashMap<String, Vec<u64>>,
    by_message: HashMap<Uuid, u64>,
    limit: usize,
    next_seq: u64,
    dropped: u64,
}

impl Ledger {
    /// An empty ledger for at most `limit` messages.
    pub fn new(limit: usize) -> Ledger {
        Ledger {
            entries: VecDeque::new(),
            by_key: HashMap::new(),
            by_message: HashMap::new(),
            limit,
            next_seq: 1,
            dropped: 0,
        }
    }

    /// Appends an entry with the next number, whatever its `seq` says. Drops the oldest when the ledger is full.
    pub fn append(&mut self, message_id: Uuid, entry: LedgerEntry) {
        if self.entries.len() >= self.limit {
            self.drop_oldest();
        }
        let seq = self.next_seq;
        self.next_seq += 1;
        if let Some(key) = &entry.idempotency_key {
            self.by_key.entry(key.clone()).or_default().push(seq);
        }
        self.by_message.insert(message_id, seq);
        self.entries.push_back(LedgerEntry { seq, ..entry });
    }

    /// All entries, oldest first.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = &LedgerEntry> + ExactSizeIterator {
        self.entries.iter()
    }

    /// The entries with this key, oldest first; more than one means that the key did not protect the phone.
    pub fn with_key(&self, key: &str) -> impl Iterator<Item = &LedgerEntry> {
        self.by_key.get(key).into_iter().flatten().filter_map(|seq| self.entry(*seq))
    }

    /// The entry of this message.
    pub fn with_message(&self, message_id: Uuid) -> Option<&LedgerEntry> {
        self.by_message.get(&message_id).and_then(|seq| self.entry(*seq))
    }

    /// How many entries the limit has pushed out since the last `clear`.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Forgets every entry. Numbers go on from where they were.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.by_key.clear();
        self.by_message.clear();
        self.dropped = 0;
    }

    fn entry(&self, seq: u64) -> Option<&LedgerEntry> {
        let oldest_seq = self.entries.front()?.seq;
        self.entries.get(usize::try_from(seq.checked_sub(oldest_seq)?).ok()?)
    }

    fn drop_oldest(&mut self) {
        let Some(oldest) = self.entries.pop_front() else { return };
        self.dropped += 1;
        if let Ok(message_id) = Uuid::parse_str(&oldest.message_id) {
            self.by_message.remove(&message_id);
        }
        if let Some(key) = oldest.idempotency_key
            && let Some(seqs) = self.by_key.get_mut(&key)
        {
            seqs.retain(|seq| *seq != oldest.seq);
            if seqs.is_empty() {
                self.by_key.remove(&key);
            }
        }
    }
}

/// RFC 3339 in UTC with microseconds, always six digits.
mod micros {
    use chrono::{DateTime, SecondsFormat, Utc};
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&time.to_rfc3339_opts(SecondsFormat::Micros, true))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DateTime<Utc>, D::Error> {
        DateTime::deserialize(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &str, message_id: Uuid) -> LedgerEntry {
        LedgerEntry {
            seq: 0,
            at: DateTime::UNIX_EPOCH,
            at_us: 0,
            simulated_at: DateTime::UNIX_EPOCH,
            phone: "+15550142200".into(),
            line_id: "pl_1".into(),
            first_touch: true,
            idempotency_key: Some(key.into()),
            message_id: message_id.simple().to_string(),
            body: "Hi".into(),
            effect: None,
            attachments: Vec::new(),
        }
    }

    fn append(ledger: &mut Ledger, key: &str, message: u128) {
        let message_id = Uuid::from_u128(message);
        ledger.append(message_id, entry(key, message_id));
    }

    #[test]
    fn the_oldest_entry_goes_first_and_leaves_no_trace_in_the_indexes() {
        let mut ledger = Ledger::new(2);
        append(&mut ledger, "a", 1);
        append(&mut ledger, "a", 2);
        append(&mut ledger, "b", 3);
        assert_eq!(ledger.dropped(), 1);
        assert_eq!(ledger.entries().map(|entry| entry.seq).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(ledger.with_key("a").map(|entry| entry.seq).collect::<Vec<_>>(), [2]);
        assert!(ledger.with_message(Uuid::from_u128(1)).is_none());
        append(&mut ledger, "b", 4);
        assert!(!ledger.by_key.contains_key("a"));
        assert_eq!(ledger.by_message.len(), 2);
    }

    #[test]
    fn numbers_go_on_after_a_clear() {
        let mut ledger = Ledger::new(2);
        append(&mut ledger, "a", 1);
        ledger.clear();
        append(&mut ledger, "b", 2);
        assert_eq!(ledger.with_message(Uuid::from_u128(2)).expect("it is kept").seq, 2);
    }

    #[test]
    fn times_have_six_digits_and_come_back() {
        let entry = entry("a", Uuid::nil());
        let json = serde_json::to_value(&entry).expect("serialisable");
        assert_eq!(json["at"], "1970-01-01T00:00:00.000000Z");
        assert_eq!(serde_json::from_value::<LedgerEntry>(json).expect("it reads back"), entry);
    }
}
