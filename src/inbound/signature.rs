//! Whether a webhook is Chert's: an HMAC over its time and its exact bytes, made with the secret of its subscription. Pure.

use axum::http::{HeaderMap, StatusCode};
use secrecy::{ExposeSecret, SecretString};

use crate::chert::auth::{self, CLOCK_WINDOW_SECS};

/// The headers that carry a signature; which format stands in which is told in two ways (API contract 4.4).
pub const SIGNATURE_HEADERS: [&str; 2] = ["x-webhook-signature", "x-chert-signature"];
/// Nobody signs with more secrets than the current and the previous one, in two headers.
const MOST_SIGNATURES: usize = 8;

/// Why a webhook is not taken. What it says goes to the sender, and helps nobody to forge one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("the request has no signature: X-Webhook-Signature or x-chert-signature is needed")]
    Unsigned,
    #[error("the signature header reads neither t=<unix seconds>,v1=<hex> nor v1,<unix seconds>,<hex>")]
    Unreadable,
    #[error("the signature was made more than 300 s before or after this server's time")]
    Stale,
    #[error("the signature does not fit the body and the secret of the subscription")]
    Forged,
    #[error("the body is larger than 1 MiB")]
    TooLarge,
    #[error("the body did not arrive whole and in time")]
    CutOff,
    #[error("the body is not a JSON object")]
    NotAnEvent,
    #[error("too many requests are being answered: try again later")]
    Busy,
    #[error("the event could not be stored: try again later")]
    NotStored,
}

impl Refused {
    /// Chert tries again after 5xx, and never after 4xx (API contract 4.6).
    pub fn status(self) -> StatusCode {
        match self {
            Refused::Unsigned | Refused::Unreadable | Refused::Stale | Refused::Forged => StatusCode::UNAUTHORIZED,
            Refused::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Refused::NotAnEvent => StatusCode::BAD_REQUEST,
            Refused::CutOff | Refused::Busy | Refused::NotStored => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// Whether a request with these headers and this body was signed with one of the secrets, at most 300 s from `now_secs` (unix
/// time). One good signature among those given is enough. Errors: `Unsigned`, `Unreadable`, `Stale`, `Forged`.
/// Source: API contract 4.4.
pub fn verify(headers: &HeaderMap, body: &[u8], secrets: &[SecretString], now_secs: i64) -> Result<(), Refused> {
    let signatures = timely(headers, now_secs)?;
    // An empty secret is one that anybody knows.
    let secrets = || secrets.iter().map(ExposeSecret::expose_secret).filter(|secret| !secret.is_empty());
    let is_good = |(unix_secs, hex): &(i64, &str)| secrets().any(|secret| auth::verify(secret, *unix_secs, body, hex));
    if signatures.iter().any(is_good) { Ok(()) } else { Err(Refused::Forged) }
}

/// The signatures whose time is right, as (unix seconds, hex): what can be said before there is a body.
/// Errors: `Unsigned`, `Unreadable`, `Stale`.
pub fn timely(headers: &HeaderMap, now_secs: i64) -> Result<Vec<(i64, &str)>, Refused> {
    let mut given = SIGNATURE_HEADERS.into_iter().flat_map(|name| headers.get_all(name)).peekable();
    given.peek().ok_or(Refused::Unsigned)?;
    let readable = given.filter_map(|value| value.to_str().ok()).flat_map(parse).take(MOST_SIGNATURES);
    let readable: Vec<_> = readable.collect();
    if readable.is_empty() {
        return Err(Refused::Unreadable);
    }
    let window = CLOCK_WINDOW_SECS.unsigned_abs();
    let timely: Vec<_> = readable.into_iter().filter(|(at, _)| now_secs.abs_diff(*at) <= window).collect();
    if timely.is_empty() { Err(Refused::Stale) } else { Ok(timely) }
}

/// The signatures of one header: one of `v1,<unix>,<hex>`, or those of `t=<unix>,v1=<hex>`.
fn parse(header: &str) -> Vec<(i64, &str)> {
    let parts: Vec<&str> = header.split(',').map(str::trim).collect();
    if let ["v1", unix_secs, hex] = parts[..] {
        return unix_secs.parse().ok().map(|at| (at, hex)).into_iter().collect();
    }
    let value = |name: &'static str| parts.iter().filter_map(move |part| part.strip_prefix(name)?.strip_prefix('='));
    let Some(Ok(unix_secs)) = value("t").next().map(str::parse) else { return Vec::new() };
    value("v1").map(|hex| (unix_secs, hex)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: i64 = 1_780_000_000;
    const BODY: &[u8] = br#"{"event":"message.received","event_id":"chert:msg:demo-1"}"#;
    const HEX: &str = "fc20d5ab8e67c481fb16987ed3fb2b763fe12b0cdc16431f9ba2127f99040b1b";

    fn secret() -> String {
        "a0".repeat(32)
    }

    fn headers(given: &[(&'static str, String)]) -> HeaderMap {
        given.iter().map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value"))).collect()
    }

    fn answer(given: &[(&'static str, String)], secrets: &[&str], now_secs: i64) -> Result<(), Refused> {
        let secrets: Vec<SecretString> = secrets.iter().map(|secret| SecretString::from(*secret)).collect();
        verify(&headers(given), BODY, &secrets, now_secs)
    }

    #[test]
    fn both_formats_are_taken_in_either_header() {
        for name in SIGNATURE_HEADERS {
            for value in [
                format!("t={TIME},v1={HEX}"),
                format!("v1,{TIME},{HEX}"),
                format!("v1={HEX}, t={TIME}"),
                format!("t={TIME},v1=00,v1={HEX},v0=11"),
                format!("t={TIME},v1={}", HEX.to_uppercase()),
            ] {
                assert_eq!(answer(&[(name, value.clone())], &[&secret()], TIME), Ok(()), "{name}: {value}");
            }
        }
    }

    #[test]
    fn one_good_signature_is_enough_and_any_of_the_secrets_will_do() {
        let good = || format!("t={TIME},v1={HEX}");
        let bad = || format!("v1,{TIME},{}", "00".repeat(32));
        let [modern, legacy] = SIGNATURE_HEADERS;
        for given in [[(modern, bad()), (legacy, good())], [(modern, good()), (legacy, bad())]] {
            assert_eq!(answer(&given, &["the next one", &secret()], TIME), Ok(()));
        }
        assert_eq!(answer(&[(modern, bad()), (legacy, bad())], &[&secret()], TIME), Err(Refused::Forged));
        assert_eq!(answer(&[(modern, good())], &["another"], TIME), Err(Refused::Forged));
        assert_eq!(answer(&[(modern, good())], &[], TIME), Err(Refused::Forged));
    }

    #[test]
    fn exactly_300_seconds_are_inside_the_window() {
        let given = [(SIGNATURE_HEADERS[0], format!("t={TIME},v1={HEX}"))];
        for (off, expected) in [(300, Ok(())), (-300, Ok(())), (301, Err(Refused::Stale)), (-301, Err(Refused::Stale))]
        {
            assert_eq!(answer(&given, &[&secret()], TIME + off), expected, "{off}");
        }
        assert_eq!(answer(&given, &[&secret()], i64::MIN), Err(Refused::Stale));
    }

    #[test]
    fn an_empty_secret_opens_nothing() {
        let hex = auth::sign("", TIME, BODY);
        let given = [(SIGNATURE_HEADERS[0], format!("t={TIME},v1={hex}"))];
        assert_eq!(answer(&given, &[""], TIME), Err(Refused::Forged));
    }

    #[test]
    fn what_cannot_be_read_is_no_signature() {
        assert_eq!(answer(&[], &[&secret()], TIME), Err(Refused::Unsigned));
        for value in
            ["", "v1", "t=,v1=", &format!("v2,{TIME},{HEX}"), &format!("t=soon,v1={HEX}"), &format!("v1={HEX}")]
        {
            let given = [(SIGNATURE_HEADERS[0], value.to_owned())];
            assert_eq!(answer(&given, &[&secret()], TIME), Err(Refused::Unreadable), "{value}");
        }
        // Another product of Chert's signs like this.
        let given = [(SIGNATURE_HEADERS[1], format!("sha256={HEX}"))];
        assert_eq!(answer(&given, &[&secret()], TIME), Err(Refused::Unreadable));
    }
}
