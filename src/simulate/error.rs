//! What a refused request gets: the code table, and the two bodies in which a code is told.

use std::borrow::Cow;

use axum::http::{HeaderValue, header};
use axum::response::Response;
use serde::Serialize;

use super::answer::Trace;
use super::checks::EFFECTS;

/// Seconds that 1007 and 4002 ask for when nothing says how long the wait is. Our choice: the contract names no number.
const RETRY_AFTER_SECS: u64 = 30;

/// A code as the contract has it, section 3.4.
struct Row(u16, u16, bool, &'static str);

/// Code, HTTP status, retryable, message. Where the sources disagree (2006, 4098, 4099), the documentation wins.
const CODES: &[Row] = &[
    Row(1001, 400, false, "A required field is missing or blank."),
    Row(1002, 400, false, "A field has an unacceptable value."),
    Row(1003, 400, false, "The phone number is not usable."),
    Row(1004, 400, false, "The body is not JSON."),
    Row(1005, 400, false, "The first message of a chat may not contain a link."),
    Row(1006, 400, false, "Too many parts or recipients, or the wrong kind of chat."),
    Row(1007, 429, true, "Too many requests."),
    Row(1008, 400, false, "Two text parts stand side by side."),
    Row(1009, 400, false, "The text is too long."),
    Row(1010, 400, false, "Only imessage is supported."),
    Row(1011, 409, false, "The attachment reference is not acceptable."),
    Row(1012, 409, false, "The resource is in a state that forbids this."),
    Row(1013, 409, false, "The contact has no usable phone number."),
    Row(2001, 404, false, "There is no such tenant."),
    Row(2002, 404, false, "There is no such chat."),
    Row(2003, 404, false, "There is no such message."),
    Row(2004, 401, false, "The token or signature is wrong."),
    Row(2005, 403, false, "The tenant is suspended or lacks permission."),
    Row(2006, 403, false, "The line is not assigned to this tenant."),
    Row(2007, 403, false, "The account's e-mail address is not verified."),
    Row(2008, 402, false, "The account's limit is reached."),
    Row(2010, 403, false, "The integration is not connected."),
    Row(2011, 404, false, "There is no such resource."),
    Row(2012, 401, false, "Credentials are missing."),
    Row(2013, 401, false, "The signature's time is too far from the server's."),
    Row(2014, 400, false, "The OAuth state does not match."),
    Row(3001, 500, true, "Something went wrong here."),
    Row(3002, 503, true, "Delivery is not available at the moment."),
    Row(3003, 500, false, "No delivery provider is configured."),
    Row(3004, 502, true, "The delivery service answered with an error."),
    Row(4001, 502, true, "Delivery failed."),
    Row(4002, 503, true, "All lines for this recipient are saturated."),
    Row(4098, 400, false, "The effect is unknown."),
    Row(4099, 422, false, "This is not supported here."),
    Row(5001, 404, false, "There is no such attachment."),
    Row(5002, 400, false, "The attachment is too large."),
    Row(5003, 400, false, "The attachment's type is not accepted."),
    Row(5004, 400, false, "The attachment was never uploaded."),
];

/// A request that is not carried out, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub code: u16,
    pub http_status: u16,
    pub retryable: bool,
    /// Real seconds; set for 1007 and 4002 alone, unless a fault asks for it.
    pub retry_after_secs: Option<u64>,
    pub message: Cow<'static, str>,
    /// Which attachment is at fault, counted from 0.
    pub attachment_index: Option<usize>,
}

impl Refusal {
    /// The table's row for `code`. A code that the table lacks has status 500 and is retryable if it is 3xxx or 4xxx.
    pub fn new(code: u16) -> Refusal {
        let unknown = Row(code, 500, (3000..5000).contains(&code), "This code is not in the contract.");
        let Row(_, http_status, retryable, message) = CODES.iter().find(|row| row.0 == code).unwrap_or(&unknown);
        Refusal {
            code,
            http_status: *http_status,
            retryable: *retryable,
            retry_after_secs: matches!(code, 1007 | 4002).then_some(RETRY_AFTER_SECS),
            message: Cow::Borrowed(message),
            attachment_index: None,
        }
    }

    /// 1002 with status 413: the body is over the limit, or broke off.
    pub fn oversized() -> Refusal {
        Refusal { http_status: 413, ..Refusal::new(1002) }.because("The body is over 1 MiB or did not arrive.")
    }

    /// The same with a message that names the cause; it must not repeat what the caller sent.
    pub fn because(self, message: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal { message: message.into(), ..self }
    }

    /// The same about the attachment at `index`.
    pub fn at_attachment(self, index: usize) -> Refusal {
        Refusal { attachment_index: Some(index), ..self }
    }

    /// The same, asking for `secs` real seconds of patience.
    pub fn retry_after(self, secs: u64) -> Refusal {
        Refusal { retry_after_secs: Some(secs), ..self }
    }

    /// The answer, with `Retry-After` where there is a wait. The flat body is the legacy one of `/send`: contract 3.2.
    pub fn response(&self, flat: bool, trace: &Trace) -> Response {
        let fields = Fields {
            code: self.code,
            message: &self.message,
            retryable: self.retryable,
            retry_after: self.retry_after_secs,
            attachment_index: self.attachment_index,
            allowed_effects: (self.code == 4098).then_some(EFFECTS),
        };
        let trace_id = trace.as_str();
        let mut response = if flat {
            trace.json(self.http_status, &Flat { status: "failed", fields, trace_id })
        } else {
            let error = NestedError { status: self.http_status, fields };
            trace.json(self.http_status, &Nested { success: false, error, trace_id })
        };
        if let Some(secs) = self.retry_after_secs {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(secs));
        }
        response
    }
}

#[derive(Serialize)]
struct Fields<'a> {
    code: u16,
    message: &'a str,
    retryable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attachment_index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed_effects: Option<&'a [&'a str]>,
}

#[derive(Serialize)]
struct Flat<'a> {
    status: &'a str,
    #[serde(flatten)]
    fields: Fields<'a>,
    trace_id: &'a str,
}

#[derive(Serialize)]
struct Nested<'a> {
    success: bool,
    error: NestedError<'a>,
    trace_id: &'a str,
}

#[derive(Serialize)]
struct NestedError<'a> {
    status: u16,
    #[serde(flatten)]
    fields: Fields<'a>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_without_repeats() {
        assert!(CODES.is_sorted_by(|earlier, later| earlier.0 < later.0));
    }

    #[test]
    fn only_1007_and_4002_ask_for_a_wait() {
        let waits: Vec<u16> =
            CODES.iter().map(|row| row.0).filter(|code| Refusal::new(*code).retry_after_secs.is_some()).collect();
        assert_eq!(waits, [1007, 4002]);
    }

    #[test]
    fn a_code_outside_the_table_still_has_an_answer() {
        let refusal = Refusal::new(4777);
        assert_eq!((refusal.http_status, refusal.retryable), (500, true));
    }
}
