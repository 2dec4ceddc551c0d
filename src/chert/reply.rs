//! What came back from a call, decoded tolerantly: both error shapes, every field optional, no field trusted to exist.

use std::fmt;

use serde_json::Value;

/// The far end's word, or the lack of it. Only `NoAnswer` leaves open whether the message went out.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// An HTTP response, whatever it says.
    Answered(Box<Answer>),
    /// The request cannot have reached Chert: refused connection, no such host, TLS.
    NotSent(Cause),
    /// The request left, and no whole response came: time-out, broken connection, cut body.
    NoAnswer(Cause),
}

/// Why there is no answer, in words for people; holds no body, secret or number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause(pub String);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Everything that a response told, from either error shape.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answer {
    pub http_status: u16,
    pub status: Option<String>,
    pub code: Option<i32>,
    pub message: Option<String>,
    pub retryable: Option<bool>,
    /// Seconds to wait, the larger of body and header, as given.
    pub retry_after_secs: Option<u64>,
    pub trace_id: Option<String>,
    pub ids: Ids,
    /// `attachment_index` and `allowed_effects`, kept for whoever fixes the job.
    pub detail: Option<Value>,
}

/// What Chert calls the message it took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ids {
    pub message_id: Option<String>,
    pub lead_id: Option<String>,
    pub convo_id: Option<String>,
    pub line_id: Option<String>,
    pub lead_created: Option<bool>,
}

/// Texts from the far end are kept at most this long, in characters.
const MAX_TEXT: usize = 500;

impl Answer {
    /// Whether Chert itself spoke: a proxy may answer in JSON too, but not with these fields.
    pub fn is_from_chert(&self) -> bool {
        self.code.is_some() || self.retryable.is_some() || self.status.is_some() || self.ids.message_id.is_some()
    }

    /// Reads a response. `retry_after` and `trace_id` are the headers; `body` is whatever bytes came.
    /// Never fails: what is missing or of the wrong type is absent. Source: API contract 3.1 to 3.2.
    pub fn decode(http_status: u16, retry_after: Option<&str>, trace_id: Option<&str>, body: &[u8]) -> Answer {
        let json: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
        let error = json.get("error").filter(|error| error.is_object());
        let shapes: Vec<&Value> = error.into_iter().chain([&json]).collect();
        let text = |name: &str| json.get(name).and_then(Value::as_str).map(bounded_id);

        let waits =
            [either(&shapes, "retry_after", seconds), retry_after.and_then(|header| header.trim().parse().ok())];
        let detail: serde_json::Map<String, Value> = ["attachment_index", "allowed_effects"]
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), either(&shapes, name, given)?)))
            .collect();
        Answer {
            http_status,
            status: text("status"),
            code: either(&shapes, "code", |code| i32::try_from(code.as_i64()?).ok()),
            message: either(&shapes, "message", |message| message.as_str().map(bounded)),
            retryable: either(&shapes, "retryable", Value::as_bool),
            retry_after_secs: waits.into_iter().flatten().max(),
            trace_id: text("trace_id").or_else(|| trace_id.map(bounded_id)),
            ids: Ids {
                message_id: text("message_id"),
                lead_id: text("lead_id"),
                convo_id: text("convo_id"),
                line_id: text("phone_line_id"),
                lead_created: json.get("lead_created").and_then(Value::as_bool),
            },
            detail: (!detail.is_empty()).then_some(Value::Object(detail)),
        }
    }
}

/// The first of the shapes in which the field can be read.
fn either<T>(shapes: &[&Value], name: &str, read: impl Fn(&Value) -> Option<T>) -> Option<T> {
    shapes.iter().find_map(|shape| read(shape.get(name)?))
}

fn given(value: &Value) -> Option<Value> {
    (!value.is_null()).then(|| value.clone())
}

fn seconds(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_f64().filter(|s| s.is_finite() && *s >= 0.0).map(|s| s.ceil() as u64))
}

fn bounded_id(text: &str) -> String {
    text.chars().filter(|char| !char.is_control()).take(MAX_TEXT).collect()
}

/// Cut to [`MAX_TEXT`], without control characters (Postgres takes no NUL), and with the tail of every long run of digits
/// masked: the far end may quote the recipient's number, and error messages are shown to people and logs.
fn bounded(text: &str) -> String {
    let mut run = 0;
    text.chars()
        .filter(|char| !char.is_control())
        .take(MAX_TEXT)
        .map(|char| {
            match char {
                '0'..='9' => run += 1,
                // What people put between the digits of a number does not end it.
                ' ' | '-' | '.' | '(' | ')' => {}
                _ => run = 0,
            }
            if run > 4 && char.is_ascii_digit() { '*' } else { char }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_error_shapes_say_the_same() {
        let nested = br#"{"success":false,"error":{"status":503,"code":4002,"message":"full","retryable":true,"retry_after":900},"trace_id":"t"}"#;
        let flat =
            br#"{"status":"failed","code":4002,"message":"full","retryable":true,"retry_after":900,"trace_id":"t"}"#;
        let nested = Answer::decode(503, Some("30"), None, nested);
        let flat = Answer::decode(503, None, None, flat);
        assert_eq!((nested.code, nested.retryable, nested.retry_after_secs), (Some(4002), Some(true), Some(900)));
        assert_eq!(Answer { status: None, ..flat }, nested);
    }

    #[test]
    fn a_field_that_cannot_be_read_in_one_shape_is_read_in_the_other() {
        let answer = Answer::decode(200, None, None, br#"{"status":"sent","code":4002,"error":{"code":"4002"}}"#);
        assert_eq!(answer.code, Some(4002), "it is not taken for a yes");
    }

    #[test]
    fn the_larger_wait_counts_and_the_header_stands_in_for_the_body() {
        assert_eq!(Answer::decode(429, Some("45"), None, br#"{"retry_after":7}"#).retry_after_secs, Some(45));
        assert_eq!(Answer::decode(429, Some("45"), Some("trace"), b"<html>").trace_id.as_deref(), Some("trace"));
        assert_eq!(Answer::decode(429, Some("Wed, 21 Oct 2026 07:28:00 GMT"), None, b"").retry_after_secs, None);
    }

    #[test]
    fn what_helps_to_fix_a_job_is_kept() {
        let answer = Answer::decode(400, None, None, br#"{"code":4098,"allowed_effects":["echo"],"retryable":false}"#);
        assert_eq!(answer.detail, Some(serde_json::json!({"allowed_effects": ["echo"]})));
    }

    #[test]
    fn i12_a_number_quoted_back_is_masked() {
        let answer = Answer::decode(400, None, None, br#"{"message":"+15550142200 or (555) 014-2200, code 1003"}"#);
        assert_eq!(answer.message.as_deref(), Some("+1555******* or (555) 0**-****, code 1003"));
    }
}
