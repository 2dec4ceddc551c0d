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
    /// The ids of its pictures and the like, whose bytes stay with Chert (`GET /attachments/{id}/content`).
    pub attachments: Vec<String>,
    /// Our own number that it came to, where the event says it.
    pub line_number: Option<String>,
}

impl Incoming {
    /// Reads an event that arrived at `now`. Without an id of Chert's it gets one made of its bytes, so that the same event
    /// is known again. Errors: not a JSON object. Source: API contract 4.3 and 4.7.
    pub fn read(text: &str, now: DateTime<Utc>) -> Result<Incoming, NotAnEvent> {
        let row = parse(text).filter(Value::is_object).ok_or(NotAnEvent)?;
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

    /// The message that the event brings, if it brings one that somebody else wrote from a number.
    pub fn message(&self) -> Option<InboundMessage> {
        InboundMessage::of(envelope(&parse(&self.body)?))
    }

    /// What somebody else wrote from an address that is no number (an Apple ID), so that nobody is known who could be meant.
    pub fn unaddressed(&self) -> Option<String> {
        let row = parse(&self.body)?;
        let envelope = envelope(&row);
        let handle = sender(envelope)?;
        number(handle).is_none().then(|| text_of(envelope))
    }

    /// The id of its row in Chert's log (`evt_…`), which a replay asks for; an envelope by itself has none.
    pub fn log_id(&self) -> Option<String> {
        let row = parse(&self.body)?;
        row.get("payload")?;
        row.get("id")?.as_str().map(clean)
    }

    /// Which of our messages came to which state, if the event says that: Chert names no such event, and may send one all the same.
    pub fn delivery(&self) -> Option<(String, String)> {
        let state =
            self.kind.strip_prefix("message.").filter(|state| ["delivered", "read", "failed"].contains(state))?;
        let row = parse(&self.body)?;
        let id = envelope(&row).get("data")?.get("message")?.get("id")?.as_str().map(clean)?;
        Some((id, state.to_owned()))
    }
}

impl InboundMessage {
    fn of(envelope: &Value) -> Option<InboundMessage> {
        let from = number(sender(envelope)?)?;
        let data = envelope.get("data").unwrap_or(&Value::Null);
        let attachments = parts(envelope).filter_map(|part| part.get("attachment_id")?.as_str()).map(clean).collect();
        let line =
            data.get("chat").and_then(|chat| chat.get("owner_handle")?.get("handle")).or_else(|| envelope.get("to"));
        let line_number = line.and_then(Value::as_str).map(clean);
        Some(InboundMessage { from, text: text_of(envelope), attachments, line_number })
    }
}

/// Who wrote it, as it is written there; none if we did. Legacy deliveries have their fields at the top.
fn sender(envelope: &Value) -> Option<&str> {
    let message = envelope.get("data").and_then(|data| data.get("message")).unwrap_or(&Value::Null);
    let sender = message.get("sender_handle").unwrap_or(&Value::Null);
    let is_ours = sender.get("is_me").and_then(Value::as_bool) == Some(true)
        || message.get("direction").and_then(Value::as_str) == Some("outbound");
    if is_ours { None } else { sender.get("handle").or_else(|| envelope.get("from"))?.as_str() }
}

fn parts(envelope: &Value) -> impl Iterator<Item = &Value> {
    let parts = envelope.get("data").and_then(|data| data.get("message")?.get("parts")?.as_array());
    parts.into_iter().flatten()
}

fn text_of(envelope: &Value) -> String {
    let texts: Vec<&str> =
        parts(envelope).filter_map(|part| part.get("value").or_else(|| part.get("text"))?.as_str()).collect();
    match texts.is_empty() {
        true => envelope.get("text").and_then(Value::as_str).unwrap_or_default().to_owned(),
        false => texts.join("\n"),
    }
}

/// Reads JSON. A text that was cut in the middle of an emoji holds half of a surrogate pair, which is no character: such an
/// event is read all the same, since it may be a stop.
fn parse(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok().or_else(|| serde_json::from_str(&without_lone_surrogates(text)?).ok())
}

/// The text with a replacement character for each escape of half a pair; none if there is no such escape.
fn without_lone_surrogates(text: &str) -> Option<String> {
    let unit = |at: usize| {
        let hex = text.get(at..)?.strip_prefix("\\u")?.get(..4)?;
        u16::from_str_radix(hex, 16).ok()
    };
    let (mut mended, mut kept, mut at) = (String::new(), 0, 0);
    while let Some(found) = text[at..].find('\\') {
        at += found;
        match unit(at) {
            Some(0xd800..0xdc00) if unit(at + 6).is_some_and(|low| (0xdc00..0xe000).contains(&low)) => at += 12,
            Some(0xd800..0xe000) => {
                mended.push_str(&text[kept..at]);
                mended.push('\u{fffd}');
                at += 6;
                kept = at;
            }
            // An escaped character may be a backslash itself, and may be cut off.
            _ => at += 1 + text[at + 1..].chars().next().map_or(0, char::len_utf8),
        }
    }
    mended.push_str(&text[kept..]);
    (kept > 0).then_some(mended)
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
    fn a_message_from_an_address_that_is_no_number_is_nobodys() {
        let mut envelope = envelope_of("stop");
        envelope["data"]["message"]["sender_handle"]["handle"] = json!("someone@icloud.com");
        let event = Incoming::read(&envelope.to_string(), now()).expect("an event");
        assert_eq!((event.message(), event.unaddressed()), (None, Some("stop".to_owned())));
        let numbered = Incoming::read(&envelope_of("stop").to_string(), now()).expect("an event");
        assert_eq!(numbered.unaddressed(), None);
    }

    #[test]
    fn pictures_are_named_by_their_ids() {
        let event = Incoming::read(&envelope_of("look").to_string(), now()).expect("an event");
        assert_eq!(event.message().expect("a message").attachments, ["in_1"]);
    }

    #[test]
    fn half_an_emoji_spoils_no_event() {
        for (cut, read) in [
            ("stop \\ud83d", "stop \u{fffd}"),
            ("\\udc4d\\ud83d\\udc4d stop", "\u{fffd}👍 stop"),
            ("\\\\ud83d \\ud83dé", "\\ud83d \u{fffd}é"),
        ] {
            let text = envelope_of("TEXT").to_string().replace("TEXT", cut);
            let event = Incoming::read(&text, now()).expect("an event");
            assert_eq!(event.message().expect("a message").text, read, "{cut}");
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
        for text in ["", "null", "[]", "\"a\"", "{", "1", "\\ud83d", "\\", "{\"a\":\"\\ud83d\\"] {
            assert_eq!(Incoming::read(text, now()), Err(NotAnEvent), "{text}");
        }
    }
}
