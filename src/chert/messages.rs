//! One message as Chert sees it: where it is, and whether it was read.

use chrono::{DateTime, Utc};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Method;
use serde_json::Value;

use crate::chert::ask::AskError;
use crate::chert::client::Client;

/// A status is kept at most this long, in characters.
const MAX_STATUS: usize = 64;

/// What a message object tells of delivery; any of it may be missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// Verbatim, also when nobody has heard of it.
    pub status: Option<String>,
    pub delivered_at: Option<DateTime<Utc>>,
    pub read_at: Option<DateTime<Utc>>,
}

impl Client {
    /// Looks up one message; none if Chert does not know it, which can be so just after a send.
    /// Errors: also a 404 that is not about the message, such as an unknown tenant or a proxy's page. Source: API contract 2.6.
    pub async fn message(&self, id: &str) -> Result<Option<Message>, AskError> {
        const WHAT: &str = "a message";
        let route = format!("messages/{}", utf8_percent_encode(id, NON_ALPHANUMERIC));
        match self.ask::<Value>(Method::GET, &route, &[], &Value::Null, WHAT).await {
            Ok(body) => Message::read(&body).map(Some).ok_or(AskError::Unreadable(WHAT)),
            Err(AskError::Refused(answer)) if answer.http_status == 404 && answer.code == Some(2003) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Message {
    /// Reads a message object, bare or under `message`; none if there is no object.
    pub fn read(body: &Value) -> Option<Message> {
        let message = body.get("message").filter(|message| message.is_object()).unwrap_or(body).as_object()?;
        let text = |name: &str| message.get(name).and_then(Value::as_str);
        let time = |name: &str| text(name).and_then(|time| time.parse().ok());
        let status: Option<String> =
            text("status").map(|status| status.chars().filter(|char| !char.is_control()).take(MAX_STATUS).collect());
        Some(Message {
            status: status.filter(|status| !status.is_empty()),
            delivered_at: time("delivered_at"),
            read_at: time("read_at"),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_message_is_read_wrapped_and_bare() {
        let message =
            json!({"id": "m", "status": "delivered", "delivered_at": "2026-06-03T09:15:02Z", "read_at": null});
        let read = Message::read(&json!({ "message": message }));
        assert_eq!(read, Message::read(&message));
        let read = read.expect("a message");
        assert_eq!(read.status.as_deref(), Some("delivered"));
        assert_eq!((read.delivered_at, read.read_at), ("2026-06-03T09:15:02Z".parse().ok(), None));
    }

    #[test]
    fn what_is_missing_or_odd_is_absent_and_an_unknown_word_is_kept() {
        assert_eq!(Message::read(&json!({"status": 7, "delivered_at": "yesterday"})), Some(Message::default()));
        let long = format!("held\u{0} back{}", "!".repeat(100));
        let status = Message::read(&json!({ "status": long })).and_then(|message| message.status).expect("a word");
        assert!(status.starts_with("held back!") && status.chars().count() == MAX_STATUS, "{status}");
        for nothing in [json!(null), json!([]), json!("sent")] {
            assert_eq!(Message::read(&nothing), None);
        }
    }
}
