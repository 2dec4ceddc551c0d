//! Reply → outcome: what an attempt meant. Pure; the table of the design's section 6, in one match.

use std::time::Duration;

use crate::chert::reply::{Answer, Ids, Reply};

/// What one attempt meant.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Chert took the message.
    Sent { ids: Ids, status: String },
    /// Chert says that the recipient got the same text before, and sent nothing.
    Duplicate { ids: Ids },
    /// 4002: no line has room for this recipient now; others may go.
    Deferred { wait: Duration },
    /// 1007: too many requests; everybody waits.
    RateLimited { wait: Duration },
    /// A fault of the tenant or its configuration; nobody can send until somebody mends it.
    Halted { why: String },
    /// Chert says that another try may work. `limit`: fewer attempts than the job's own limit.
    Retry { wait: Option<Duration>, limit: Option<u32> },
    /// Chert says no, for good.
    Rejected,
    /// The request cannot have reached Chert.
    Unreachable { why: String },
    /// The request left and no answer came: the message may be on the phone.
    Unknown { why: String },
}

/// A wait is at least this long and at most a day, whatever the far end says (API contract 8, question 18).
const MIN_WAIT: Duration = Duration::from_secs(1);
const MAX_WAIT: Duration = Duration::from_secs(24 * 60 * 60);
/// The wait for 4002 and 1007 when none is named.
const DEFAULT_WAIT: Duration = Duration::from_secs(60);
/// 4001 may have put part of a message on the phone: it is tried three times at most.
const DELIVERY_FAILED_LIMIT: u32 = 3;

impl Outcome {
    /// The word for `outbox.attempts.outcome`, logs and tables.
    pub fn word(&self) -> &'static str {
        match self {
            Outcome::Sent { .. } => "sent",
            Outcome::Duplicate { .. } => "duplicate",
            Outcome::Deferred { .. } => "deferred",
            Outcome::RateLimited { .. } => "rate_limited",
            Outcome::Halted { .. } => "halted",
            Outcome::Retry { .. } => "retry",
            Outcome::Rejected => "rejected",
            Outcome::Unreachable { .. } => "unreachable",
            Outcome::Unknown { .. } => "unknown",
        }
    }
}

/// What this reply means. Any reply at all has an outcome.
pub fn classify(reply: &Reply) -> Outcome {
    match reply {
        Reply::NotSent(cause) => Outcome::Unreachable { why: cause.to_string() },
        Reply::NoAnswer(cause) => Outcome::Unknown { why: cause.to_string() },
        Reply::Answered(answer) => classify_answer(answer),
    }
}

fn classify_answer(answer: &Answer) -> Outcome {
    let failed = answer.code.is_some() || answer.retryable == Some(false) || answer.status.as_deref() == Some("failed");
    if (200..300).contains(&answer.http_status) && !failed {
        return classify_success(answer);
    }
    let wait = answer.retry_after_secs.map(|secs| Duration::from_secs(secs).clamp(MIN_WAIT, MAX_WAIT));
    match answer.code {
        Some(4002) => return Outcome::Deferred { wait: wait.unwrap_or(DEFAULT_WAIT) },
        Some(1007) => return Outcome::RateLimited { wait: wait.unwrap_or(DEFAULT_WAIT) },
        Some(code @ (2001 | 2004 | 2005 | 2007 | 2008 | 2012 | 2013 | 3003)) => {
            return Outcome::Halted { why: halt_reason(code).to_owned() };
        }
        _ => {}
    }
    // Not the API at all: a redirect, or a proxy's own page. A wrong base URL must not fail the whole queue.
    if !answer.is_from_chert() && matches!(answer.http_status, 300..=399 | 401 | 403 | 404 | 405 | 407) {
        let status = answer.http_status;
        return Outcome::Halted {
            why: format!("HTTP {status} from something that is not the Chert API: check CHERT_BASE_URL"),
        };
    }
    let by_status = answer.http_status == 429 || (500..600).contains(&answer.http_status);
    if answer.retryable.unwrap_or(by_status) {
        let limit = (answer.code == Some(4001)).then_some(DELIVERY_FAILED_LIMIT);
        Outcome::Retry { wait, limit }
    } else {
        Outcome::Rejected
    }
}

/// A 2xx without any word of what became of the message proves nothing: it is asked again, with the same key.
fn classify_success(answer: &Answer) -> Outcome {
    match answer.status.as_deref() {
        Some("duplicate") => Outcome::Duplicate { ids: answer.ids.clone() },
        Some(status) => Outcome::Sent { ids: answer.ids.clone(), status: status.to_owned() },
        None if answer.ids.message_id.is_some() => Outcome::Sent { ids: answer.ids.clone(), status: "sent".to_owned() },
        None => Outcome::Unknown {
            why: format!("HTTP {} that does not say what became of the message", answer.http_status),
        },
    }
}

/// What a person does about a tenant-wide fault. Source: API contract 1.6.
fn halt_reason(code: i32) -> &'static str {
    match code {
        2001 => "Chert does not know this tenant: check CHERT_TENANT",
        2004 => "Chert refuses the secret: check CHERT_SIGNING_SECRET",
        2005 => "Chert says the tenant is suspended or lacks permission: ask Chert",
        2007 => "the account's e-mail address is not verified: verify it in the Chert console",
        2008 => "the account's limit is reached: raise it in the Chert console",
        2012 => "Chert saw no credentials: check CHERT_SIGNING_SECRET and CHERT_AUTH",
        2013 => "this machine's clock is more than 5 minutes off: set the clock",
        _ => "Chert's delivery provider is not configured: ask Chert",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::chert::reply::Cause;

    fn answered(http_status: u16, body: &str) -> Outcome {
        classify(&Reply::Answered(Box::new(Answer::decode(http_status, None, None, body.as_bytes()))))
    }

    fn word(http_status: u16, body: &str) -> &'static str {
        answered(http_status, body).word()
    }

    #[test]
    fn the_table_row_by_row() {
        for (status, body, wanted) in [
            (200, r#"{"status":"sent","message_id":"m"}"#, "sent"),
            (201, r#"{"status":"queued","message_id":"m"}"#, "sent"),
            (200, r#"{"status":"something new","message_id":"m"}"#, "sent"),
            (200, r#"{"message_id":"m"}"#, "sent"),
            (200, r#"{"status":"duplicate"}"#, "duplicate"),
            (503, r#"{"code":4002,"retryable":true,"retry_after":9}"#, "deferred"),
            (429, r#"{"error":{"code":1007,"retryable":true,"retry_after":9}}"#, "rate_limited"),
            (404, r#"{"error":{"code":2001,"retryable":false}}"#, "halted"),
            (401, r#"{"error":{"code":2004,"retryable":false}}"#, "halted"),
            (401, r#"{"error":{"code":2013,"retryable":false}}"#, "halted"),
            (500, r#"{"code":3003,"retryable":false}"#, "halted"),
            (500, r#"{"code":3001,"retryable":true}"#, "retry"),
            (502, r#"{"code":4001,"retryable":true}"#, "retry"),
            (400, r#"{"code":4098,"retryable":false}"#, "rejected"),
            (400, r#"{"code":4098,"retryable":true}"#, "retry"),
            (400, r#"{"code":1003,"retryable":false}"#, "rejected"),
            (502, "<html>bad gateway</html>", "retry"),
            (503, "", "retry"),
            (429, "slow down", "retry"),
            (422, "no", "rejected"),
            (500, r#"{"code":7777}"#, "retry"),
            (418, r#"{"code":7777}"#, "rejected"),
            (200, r#"{"status":"failed","code":4001,"retryable":true}"#, "retry"),
            (200, "<html>welcome to the hotel's network</html>", "unknown"),
            (301, "", "halted"),
            (404, "<html>not here</html>", "halted"),
            (404, r#"{"message":"no route matched"}"#, "halted"),
        ] {
            assert_eq!(word(status, body), wanted, "{status} {body}");
        }
        assert_eq!(classify(&Reply::NotSent(Cause("refused".into()))).word(), "unreachable");
        assert_eq!(classify(&Reply::NoAnswer(Cause("timed out".into()))).word(), "unknown");
    }

    #[test]
    fn i08_the_field_decides_against_code_and_status() {
        for code in [1001, 2006, 3001, 4001, 4099, 5001, 9999] {
            for status in [400, 404, 409, 422, 429, 500, 503] {
                let body = |retryable: bool| format!(r#"{{"code":{code},"retryable":{retryable}}}"#);
                assert_eq!(word(status, &body(true)), "retry", "{code} {status}");
                assert_eq!(word(status, &body(false)), "rejected", "{code} {status}");
            }
        }
    }

    #[test]
    fn waits_are_clamped_and_delivery_failures_are_few() {
        let wait = |secs: &str| match answered(503, &format!(r#"{{"code":4002,"retry_after":{secs}}}"#)) {
            Outcome::Deferred { wait } => wait.as_secs(),
            other => panic!("{other:?}"),
        };
        assert_eq!((wait("0"), wait("900"), wait("99999999"), wait("null")), (1, 900, 86_400, 60));
        let failed = answered(502, r#"{"code":4001,"retryable":true}"#);
        assert_eq!(failed, Outcome::Retry { wait: None, limit: Some(3) });
    }

    proptest! {
        #[test]
        fn any_bytes_have_an_outcome(status in 100u16..600, header in proptest::option::of(".{0,12}"), body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let outcome = classify(&Reply::Answered(Box::new(Answer::decode(status, header.as_deref(), None, &body))));
            let success = matches!(outcome, Outcome::Sent { .. } | Outcome::Duplicate { .. });
            prop_assert!(status < 300 || !success);
        }

        #[test]
        fn any_json_has_an_outcome_and_never_a_false_success(
            status in 200u16..600, code in proptest::option::of(-10_000i64..10_000), retryable in proptest::option::of(any::<bool>()),
            word in proptest::option::of("sent|queued|duplicate|failed|later"), wait in proptest::option::of(any::<i64>()), nested in any::<bool>(),
        ) {
            let mut fields = serde_json::json!({});
            if let Some(code) = code { fields["code"] = code.into(); }
            if let Some(retryable) = retryable { fields["retryable"] = retryable.into(); }
            if let Some(wait) = wait { fields["retry_after"] = wait.into(); }
            let mut body = if nested { serde_json::json!({"error": fields}) } else { fields };
            if let Some(word) = &word { body["status"] = word.as_str().into(); }
            let outcome = answered(status, &body.to_string());
            let success = matches!(outcome, Outcome::Sent { .. } | Outcome::Duplicate { .. });
            prop_assert!(!success || (status < 300 && code.is_none() && word.is_some()));
            if let Outcome::Deferred { wait } | Outcome::RateLimited { wait } = outcome {
                prop_assert!(wait >= MIN_WAIT && wait <= MAX_WAIT);
            }
        }
    }
}
