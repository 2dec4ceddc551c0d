//! Any response has an outcome, and none but Chert's yes is a success. The input is a first line with the HTTP status and,
//! after a space, the header `Retry-After`; then the body.

#![no_main]

use std::time::Duration;

use chert_outbox::chert::reply::{Answer, Reply};
use chert_outbox::outcome::{Outcome, classify};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|input: &[u8]| {
    let line = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let Ok(head) = std::str::from_utf8(&input[..line]) else { return };
    let (status, retry_after) = head.split_once(' ').map_or((head, None), |(status, header)| (status, Some(header)));
    let Ok(status) = status.parse() else { return };
    let body = input.get(line + 1..).unwrap_or_default();

    let answer = Answer::decode(status, retry_after, None, body);
    if let Some(message) = &answer.message {
        assert!(message.chars().count() <= 500 && !message.contains(char::is_control));
        let digits = message.split(|char: char| !char.is_ascii_digit()).map(str::len).max();
        assert!(digits <= Some(4), "a number is shown");
    }
    match classify(&Reply::Answered(Box::new(answer))) {
        Outcome::Sent { .. } | Outcome::Duplicate { .. } => assert!(says_yes(status, body), "a false success"),
        Outcome::Deferred { wait } | Outcome::RateLimited { wait } | Outcome::Retry { wait: Some(wait), .. } => {
            assert!(wait >= Duration::from_secs(1) && wait <= Duration::from_secs(24 * 3_600));
        }
        Outcome::Unreachable { .. } => panic!("something did answer"),
        _ => {}
    }
});

/// The least that a success says, written down a second time: 2xx, a status or a message's id, and no word of an error.
fn says_yes(status: u16, body: &[u8]) -> bool {
    let Ok(json) = serde_json::from_slice::<Value>(body) else { return false };
    let text = |name: &str| json.get(name).and_then(Value::as_str);
    let says = text("status").or(text("message_id")).is_some();
    let error = json.get("error").filter(|error| error.is_object()).unwrap_or(&Value::Null);
    let is_code = |code: &Value| code.as_i64().is_some_and(|code| i32::try_from(code).is_ok());
    let fails = [error, &json].into_iter().any(|shape| shape.get("code").is_some_and(is_code));
    // The nested shape is the documented one, and so the one that is believed.
    let retryable = [error, &json].into_iter().find_map(|shape| shape.get("retryable")?.as_bool());
    (200..300).contains(&status) && says && !fails && retryable != Some(false) && text("status") != Some("failed")
}
