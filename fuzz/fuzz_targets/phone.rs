//! A phone is E.164 to the letter, keeps it, and shows no more than six characters of it.

#![no_main]

use chert_outbox::phone::Phone;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let e164 = match text.as_bytes() {
        [b'+', b'1'..=b'9', rest @ ..] => (6..=14).contains(&rest.len()) && rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    let phone = text.parse::<Phone>();
    assert_eq!(phone.is_ok(), e164);
    if let Ok(phone) = phone {
        assert_eq!(phone.as_str(), text);
        let shown = phone.to_string();
        assert!(shown.len() == text.len() && shown.bytes().filter(|byte| *byte != b'*').count() == 6);
    }
});
