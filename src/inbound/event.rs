//! An event as Chert tells it, read tolerantly: the envelope at the top or under `payload`, every field optional.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::phone::Phone;

/// Ids and types are kept at most this long, in characters.
const MAX_ID: usize = 200;

/// An event that can be stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Incoming {
    pub event_id: String,
    /// E.g. `message.received`; unknown ones are stored too.
    pub kind: String,
    /// By Chert's clock; never later than its arrival, since a time from the future would outweigh every word that follows.
    pub occurred_at: DateTime<Utc>,
    /// Who wrote to us.
    pub phone: Option<Phone>,
    /// The text as it came.
    pub body: String,
}

/// The text is no JSON object. It stays out of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event must be a JSON object")]
pub struct NotAnEvent;

/// What somebody wrote to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboundMessage {
    pub from: Phone,
    /// The texts of its parts, a line each; empty if it has none.
    pub text: String,
    /// Our own number that it came to, where the event says it.
    pub line_number: Option<String>,
}

impl Incoming {
    /// Reads an event that arrived at `now`. Without an id of Chert's it gets one made of its bytes, so that the same event
    /// is known again. Errors: not a JSON object. Source: API contract 4.3 and 4.7.
    pub fn read(text: &str, now: DateTime<Utc>) -> Result<Incoming, NotAnEvent> {
        let row: Value = serde_json::from_str(text).map_err(|_| NotAnEvent)?;
        if !row.is_object() {
            return Err(NotAnEvent);
        }
        let envelope = envelope(&row);
        let word = |name: &str| [envelope, &row].into_iter().find_map(|at| at.get(name)?.as_str()).map(clean);
        let id = |name: &str| word(name).filter(|id| !id.is_empty());
        let time = ["timestamp", "created_at"].into_iter().find_map(word).and_then(|time| time.parse().ok());
        Ok(Incoming {
            event_id: id("event_id").or_else(|| id("id")).unwrap_or_else(|| fingerprint(text)),
            kind: ["event_type", "event", "type"].into_iter().find_map(id).unwrap_or_else(|| "unknown".to_owned()),
            occurred_at: time.map_or(now, |time: DateTime<Utc>| time.min(now)),
            phone: InboundMessage::of(envelope).map(|message| message.from),
            body: text.to_owned(),
        })
    }

    /// The message that the event brings, if it brings one that somebody else wrote.
    pub fn message(&self) -> Option<InboundMessage> {
        let row: Value = serde_json::from_str(&self.body).ok()?;
        InboundMessage::of(envelope(&row))
    }
}

impl Incoming {
    /// Which of our messages came to which state, if the event says that: Chert names no such event, and may send one all the same.
    pub fn delivery(&self) -> Option<(String, String)> {
        let state =
            self.kind.strip_prefix("message.").filter(|state| ["delivered", "read", "failed"].contains(state))?;
        let row: Value = serde_json::from_str(&self.body).ok()?;
        let id = envelope(&row).get("data")?.get("message")?.get("id")?.as_str().map(clean)?;
        Some((id, state.to_owned()))
    }
}

impl InboundMessage {
    fn of(envelope: &Value) -> Option<InboundMessage> {
        let data = envelope.get("data").unwrap_or(&Value::Null);
        let message = data.get("message").unwrap_or(&Value::Null);
        let sender = message.get("sender_handle").unwrap_or(&Value::Null);
        let is_ours = sender.get("is_me").and_then(Value::as_bool) == Some(true)
            || message.get("direction").and_then(Value::as_str) == Some("outbound");
        if is_ours {
            return None;
        }
        // Legacy deliveries have their fields at the top.
        let from = number(sender.get("handle").or_else(|| envelope.get("from"))?.as_str()?)?;
        let parts = message.get("parts").and_then(Value::as_array);
        let texts: Vec<&str> = parts
            .into_iter()
            .flatten()
            .filter_map(|part| part.get("value").or_else(|| part.get("text"))?.as_str())
            .collect();
        let text = match texts.is_empty() {
            true => envelope.get("text").and_then(Value::as_str).unwrap_or_default().to_owned(),
            false => texts.join("\n"),
        };
        let line =
            data.get("chat").and_then(|chat| chat.get("owner_handle")?.get("handle")).or_else(|| envelope.get("to"));
        Some(InboundMessage { from, text, line_number: line.and_then(Value::as_str).map(clean) })
    }
}

/// A number however it is written, such as `tel:+1 (555) 014-2200`; none for an address that is not a number.
fn number(handle: &str) -> Option<Phone> {
    let handle = handle.trim();
    let digits = handle.strip_prefix("tel:").unwrap_or(handle);
    digits.replace([' ', '-', '(', ')', '.', '\u{a0}'], "").parse().ok()
}

/// The envelope itself: a row of the event log has it under `payload`.
fn envelope(row: &Value) -> &Value {
    row.get("payload").filter(|payload| payload.is_object()).unwrap_or(row)
}

fn clean(text: &str) -> String {
    text.chars().filter(|char| !char.is_control()).take(MAX_ID).collect()
}

fn fingerprint(text: &str) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(text)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn now() -> DateTime<Utc> {
        "2026-06-03T10:00:00Z".parse().expect("a time")
    }

    fn envelope_of(text: &str) -> Value {
        json!({
            "event": "message.received", "event_id": "chert:msg:1", "timestamp": "2026-06-03T09:20:11.000Z",
            "data": {"chat": {"owner_handle": {"handle": "+15550100001"}},
                     "message": {"direction": "inbound", "sender_handle": {"handle": "+15550142200", "is_me": false},
                                 "parts": [{"type": "text", "value": text}, {"type": "media", "attachment_id": "in_1"}]}},
        })
    }

    #[test]
    fn the_envelope_is_read_at_the_top_and_under_payload() {
        let envelope = envelope_of("yes please");
        let row = json!({"id": "evt_1", "type": "message.received", "event_id": "chert:msg:1", "payload": envelope,
                         "created_at": "2026-06-03T09:20:12Z"});
        for text in [envelope.to_string(), row.to_string()] {
            let event = Incoming::read(&text, now()).expect("an event");
            assert_eq!((event.event_id.as_str(), event.kind.as_str()), ("chert:msg:1", "message.received"));
            assert_eq!(event.occurred_at, "2026-06-03T09:20:11Z".parse::<DateTime<Utc>>().expect("a time"));
            let message = event.message().expect("a message");
            assert_eq!((message.from.as_str(), message.text.as_str()), ("+15550142200", "yes please"));
            assert_eq!(message.line_number.as_deref(), Some("+15550100001"));
        }
    }

    #[test]
    fn a_number_is_read_however_it_is_written() {
        for handle in ["+15550142200", " tel:+1 (555) 014-2200", "+1.555.014.2200"] {
            let legacy = json!({"event": "message.received", "from": handle, "text": "stop"});
            let message = Incoming::read(&legacy.to_string(), now()).expect("an event").message();
            assert_eq!(message.expect(handle).from.as_str(), "+15550142200");
        }
    }

    #[test]
    fn what_we_wrote_ourselves_is_no_inbound_message() {
        let mut envelope = envelope_of("Hi");
        envelope["data"]["message"]["direction"] = json!("outbound");
        assert_eq!(Incoming::read(&envelope.to_string(), now()).expect("an event").message(), None);
    }

    #[test]
    fn a_legacy_event_has_its_fields_at_the_top() {
        let legacy = json!({"event": "message.received", "from": "+15550142200", "to": "+15550100001", "text": "stop"});
        let event = Incoming::read(&legacy.to_string(), now()).expect("an event");
        assert_eq!(event.message().expect("a message").text, "stop");
        assert!(event.event_id.starts_with("sha256:") && event.occurred_at == now());
    }

    #[test]
    fn a_delivery_names_its_message_and_state() {
        let event = |kind: &str| json!({"event": kind, "event_id": "d", "data": {"message": {"id": "m1"}}}).to_string();
        let delivery = |kind| Incoming::read(&event(kind), now()).expect("an event").delivery();
        assert_eq!(delivery("message.delivered"), Some(("m1".to_owned(), "delivered".to_owned())));
        assert_eq!(delivery("message.received"), None);
    }

    #[test]
    fn a_time_from_the_future_is_the_arrival() {
        let event =
            Incoming::read(r#"{"event_id": "a", "timestamp": "2199-01-01T00:00:00Z"}"#, now()).expect("an event");
        assert_eq!((event.occurred_at, event.kind.as_str()), (now(), "unknown"));
    }

    #[test]
    fn what_is_no_object_is_no_event() {
        for text in ["", "null", "[]", "\"a\"", "{", "1"] {
            assert_eq!(Incoming::read(text, now()), Err(NotAnEvent), "{text}");
        }
    }
}
