//! What `/send` accepts: the body is parsed once into a `Wanted`, or refused with the code of the first fault in it.

use serde_json::{Map, Value};

use super::error::Refusal;
use super::ledger::Attachment;
use super::lines;

/// Names that `effect` may have. Chert publishes no list; these are the simulator's (contract 8, question 51).
pub const EFFECTS: &[&str] = &[
    "confetti",
    "fireworks",
    "lasers",
    "sparkles",
    "celebration",
    "hearts",
    "love",
    "balloons",
    "happy_birthday",
    "echo",
    "spotlight",
    "slam",
    "loud",
    "gentle",
    "invisible",
];
/// Longest body, in characters; longer gets 1009. Assumed: contract 8, question 51.
const BODY_LIMIT_CHARS: usize = 10_000;
/// Longest idempotency key, in ASCII characters; longer gets 1002. Assumed: contract 8, question 5.
const KEY_LIMIT_CHARS: usize = 64;
/// Numbers that look right and are refused all the same, so that 1003 can be tried out.
const UNUSABLE_PREFIX: &str = "+1555000";
/// Attachment ids that were never uploaded, so that 5001 can be tried out.
const MISSING_PREFIX: &str = "missing";

/// A message that somebody asks for, and that can be sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    pub phone: String,
    pub body: String,
    pub idempotency_key: Option<String>,
    /// Position of the line that the caller insists on.
    pub line: Option<usize>,
    pub effect: Option<String>,
    pub attachments: Vec<Attachment>,
}

/// Parses the body of `/send` for a tenant with `line_count` lines.
/// Errors, in this order: 1004, 1001, 1002, 1003, 1009, 1002 1011 5001 (the first attachment at fault), 4098, 2006.
pub fn parse(raw_body: &[u8], line_count: usize) -> Result<Wanted, Refusal> {
    let fields: Value = serde_json::from_slice(raw_body).map_err(|_| Refusal::new(1004))?;
    let Value::Object(mut fields) = fields else {
        return Err(Refusal::new(1002).because("The body must be a JSON object."));
    };
    for required in ["phone", "body"] {
        if is_blank(fields.get(required)) {
            return Err(Refusal::new(1001).because(format!("`{required}` is missing or blank.")));
        }
    }
    let [Some(phone), Some(body)] = [take_text(&mut fields, "phone")?, take_text(&mut fields, "body")?] else {
        return Err(Refusal::new(1001));
    };
    for unused in ["name", "external_id"] {
        take_text(&mut fields, unused)?;
    }
    let idempotency_key = take_text(&mut fields, "idempotency_key")?;
    if idempotency_key.as_deref().is_some_and(|key| !is_key(key)) {
        return Err(Refusal::new(1002).because("`idempotency_key` must be 1 to 64 printable ASCII characters."));
    }
    let line_id = take_text(&mut fields, "phone_line_id")?;
    let effect = take_text(&mut fields, "effect")?;
    if !matches!(fields.get("test_lead"), None | Some(Value::Null | Value::Bool(_))) {
        return Err(Refusal::new(1002).because("`test_lead` must be a boolean."));
    }
    let entries = match fields.remove("attachments") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(entries)) => entries,
        Some(_) => return Err(Refusal::new(1002).because("`attachments` must be an array.")),
    };

    if !is_usable_phone(&phone) {
        return Err(Refusal::new(1003));
    }
    if body.chars().nth(BODY_LIMIT_CHARS).is_some() {
        return Err(Refusal::new(1009));
    }
    let attachments = entries
        .into_iter()
        .enumerate()
        .map(|(index, entry)| attachment(entry).map_err(|refusal| refusal.at_attachment(index)))
        .collect::<Result<_, _>>()?;
    if effect.as_deref().is_some_and(|effect| !EFFECTS.contains(&effect)) {
        return Err(Refusal::new(4098));
    }
    let line = line_id.map(|id| lines::position(&id, line_count).ok_or_else(|| Refusal::new(2006))).transpose()?;
    Ok(Wanted { phone, body, idempotency_key, line, effect, attachments })
}

fn is_blank(field: Option<&Value>) -> bool {
    match field {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.trim().is_empty(),
        Some(_) => false,
    }
}

fn take_text(fields: &mut Map<String, Value>, name: &str) -> Result<Option<String>, Refusal> {
    match fields.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Refusal::new(1002).because(format!("`{name}` must be a string."))),
    }
}

fn is_key(key: &str) -> bool {
    (1..=KEY_LIMIT_CHARS).contains(&key.len()) && key.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
}

/// E.164: a plus, then 7 to 15 digits, the first of them not 0.
pub fn is_usable_phone(phone: &str) -> bool {
    let digits = phone.strip_prefix('+').unwrap_or_default();
    (7..=15).contains(&digits.len())
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && !digits.starts_with('0')
        && !phone.starts_with(UNUSABLE_PREFIX)
}

/// One entry: an id as text, or an object with `id` or `attachment_id`, and perhaps `live_photo`.
fn attachment(entry: Value) -> Result<Attachment, Refusal> {
    let malformed = || Refusal::new(1002).because("An attachment must be an id, or an object with one.");
    let (id, live_photo) = match entry {
        Value::String(id) => (id, false),
        Value::Object(entry) if entry.contains_key("url") => {
            let mixed = entry.contains_key("id") || entry.contains_key("attachment_id");
            let message = if mixed { "`url` and an id exclude each other." } else { "`/send` takes no `url`." };
            return Err(Refusal::new(1011).because(message));
        }
        Value::Object(mut entry) => {
            let live_photo = match entry.get("live_photo") {
                None => false,
                Some(live_photo) => live_photo.as_bool().ok_or_else(malformed)?,
            };
            match (entry.remove("id"), entry.remove("attachment_id")) {
                (Some(Value::String(id)), None) | (None, Some(Value::String(id))) => (id, live_photo),
                _ => return Err(malformed()),
            }
        }
        _ => return Err(malformed()),
    };
    if id.trim().is_empty() {
        return Err(malformed());
    }
    if id.starts_with(MISSING_PREFIX) {
        return Err(Refusal::new(5001));
    }
    Ok(Attachment { id, live_photo })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The plainest request with `change` laid over it.
    fn wanted(change: Value) -> Result<Wanted, Refusal> {
        let mut request = json!({"phone": "+15550142200", "body": "Hi"});
        request.as_object_mut().expect("an object").extend(change.as_object().expect("an object").clone());
        parse(request.to_string().as_bytes(), 2)
    }

    fn code(change: Value) -> u16 {
        wanted(change).expect_err("refused").code
    }

    #[test]
    fn every_field_of_the_contract_is_read() {
        let request = wanted(json!({
            "idempotency_key": "k-1", "name": "Dana", "external_id": "7", "phone_line_id": "pl_2", "test_lead": true,
            "effect": "slam", "attachments": ["a", {"id": "b"}, {"attachment_id": "c", "live_photo": true}],
        }))
        .expect("valid");
        assert_eq!(request.line, Some(1));
        assert_eq!(request.idempotency_key.as_deref(), Some("k-1"));
        let attachments: Vec<_> = request.attachments.iter().map(|one| (one.id.as_str(), one.live_photo)).collect();
        assert_eq!(attachments, [("a", false), ("b", false), ("c", true)]);
    }

    #[test]
    fn missing_or_blank_fields_are_1001() {
        for change in [json!({"phone": null}), json!({"phone": " "}), json!({"body": ""}), json!({"body": "\n "})] {
            assert_eq!(code(change.clone()), 1001, "{change}");
        }
    }

    #[test]
    fn wrong_types_are_1002() {
        for change in [
            json!({"phone": 15550142200_u64}),
            json!({"body": ["Hi"]}),
            json!({"attachments": "a"}),
            json!({"attachments": [7]}),
            json!({"attachments": [{}]}),
            json!({"attachments": [{"id": "a", "attachment_id": "a"}]}),
            json!({"attachments": [{"id": "a", "live_photo": "yes"}]}),
            json!({"idempotency_key": 7}),
            json!({"idempotency_key": "k".repeat(65)}),
            json!({"test_lead": "yes"}),
        ] {
            assert_eq!(code(change.clone()), 1002, "{change}");
        }
        assert_eq!(parse(b"[]", 1).expect_err("refused").code, 1002);
        assert_eq!(parse(b"{", 1).expect_err("refused").code, 1004);
    }

    #[test]
    fn phones_outside_e164_and_the_unusable_range_are_1003() {
        for phone in ["15550142200", "+05550142200", "+1555014", "+1555 014 2200", "+1234567890123456", "+15550001234"]
        {
            let refused = wanted(json!({"phone": phone}));
            assert_eq!(refused.is_ok(), phone == "+1555014", "{phone}");
        }
        assert_eq!(code(json!({"phone": "+15550001234"})), 1003);
    }

    #[test]
    fn text_above_10000_characters_is_1009() {
        assert!(wanted(json!({"body": "é".repeat(10_000)})).is_ok());
        assert_eq!(code(json!({"body": "é".repeat(10_001)})), 1009);
    }

    #[test]
    fn bad_attachment_references_name_their_index() {
        for (entry, code) in [
            (json!({"url": "https://example.test/a.png"}), 1011),
            (json!({"url": "https://example.test/a.png", "id": "a"}), 1011),
            (json!("missing-1"), 5001),
        ] {
            let refusal = wanted(json!({"attachments": ["a", entry]})).expect_err("refused");
            assert_eq!((refusal.code, refusal.attachment_index), (code, Some(1)));
        }
    }

    #[test]
    fn unknown_effect_is_4098_and_foreign_line_is_2006() {
        assert_eq!(code(json!({"effect": "glitter"})), 4098);
        for line in ["pl_3", "pl_0", "pl_01", "other"] {
            assert_eq!(code(json!({"phone_line_id": line})), 2006, "{line}");
        }
    }
}
