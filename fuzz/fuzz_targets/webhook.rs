//! No request is taken that was not signed with the secret, every one that was is, and any body that is taken for an event
//! becomes one that can be stored. The input is two lines, the values of the two signature headers; then the body.

#![no_main]

use chert_outbox::chert::auth::sign;
use chert_outbox::inbound::event::Incoming;
use chert_outbox::inbound::signature::{Refused, SIGNATURE_HEADERS, verify};
use chert_outbox::inbound::sse::Parser;
use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use secrecy::SecretString;

const NOW: i64 = 1_780_000_000;

fuzz_target!(|input: &[u8]| {
    let mut parts = input.splitn(3, |byte| *byte == b'\n');
    let given = [parts.next().unwrap_or_default(), parts.next().unwrap_or_default()];
    let body = parts.next().unwrap_or_default();
    let secret = "a0".repeat(32);
    let secrets = [SecretString::from("another"), SecretString::from(secret.as_str())];
    let good = sign(&secret, NOW, body);

    let mut headers = HeaderMap::new();
    for (name, value) in SIGNATURE_HEADERS.into_iter().zip(given).filter(|(_, value)| !value.is_empty()) {
        let Ok(value) = HeaderValue::from_bytes(value) else { return };
        headers.append(name, value);
    }
    // Whatever passes holds a signature that only the secret makes; the corpus holds one of the body that comes with it.
    if verify(&headers, body, &secrets, NOW).is_ok() {
        let text = String::from_utf8_lossy(input).to_lowercase();
        let mut possible = (NOW - 300..=NOW + 300).map(|at| sign(&secret, at, body));
        assert!(possible.any(|hex| text.contains(&hex)), "a forged webhook was taken");
    }
    assert!(verify(&headers, body, &[], NOW).is_err() && verify(&headers, body, &[SecretString::from("")], NOW).is_err());

    for name in SIGNATURE_HEADERS {
        for value in [format!("t={NOW},v1={good}"), format!("v1,{NOW},{good}")] {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_str(&value).expect("it is ASCII"));
            assert_eq!(verify(&headers, body, &secrets, NOW + 300), Ok(()));
            assert_eq!(verify(&headers, body, &secrets, NOW - 301), Err(Refused::Stale));
            assert_eq!(verify(&headers, &[body, b" "].concat(), &secrets, NOW), Err(Refused::Forged));
        }
    }

    let said = Parser::default().feed(body);
    let pieces: Vec<_> = body.chunks(3).scan(Parser::default(), |parser, piece| Some(parser.feed(piece))).flatten().collect();
    assert_eq!(said, pieces);

    let Ok(text) = std::str::from_utf8(body) else { return };
    let now = "2026-06-03T10:00:00Z".parse().expect("a time");
    let Ok(event) = Incoming::read(text, now) else { return };
    for word in [&event.event_id, &event.kind] {
        assert!((1..=200).contains(&word.chars().count()) && !word.contains(char::is_control));
    }
    assert!(event.occurred_at <= now && event.body == text);
    assert_eq!(event.message().map(|message| message.from), event.phone);
    assert_eq!(Incoming::read(text, now).expect("it was one").event_id, event.event_id);
});
