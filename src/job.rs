//! A message to send, as a producer writes it down; and the rules of `outbox.jobs`, said before the database has to.

use std::fmt;

use chrono::{DateTime, Datelike as _, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::phone::{NotE164, Phone};

/// Longest body, in characters.
pub const BODY_MAX_CHARS: usize = 20_000;
/// Longest `dedupe_key` and `phone_line_id`, in characters.
pub const KEY_MAX_CHARS: usize = 200;
/// Largest payload, in bytes of the text that Postgres makes of it.
pub const PAYLOAD_MAX_BYTES: usize = 65_536;
/// The most attempts that a job may ask for.
pub const MAX_ATTEMPTS_LIMIT: i32 = 100;
/// The attempts of a job that does not say.
pub const MAX_ATTEMPTS_DEFAULT: i32 = 10;

/// One message to one recipient. Only `phone` and `body` are needed: `NewJob { name: Some(name), ..NewJob::new(phone, body) }`.
/// Its JSON has these very fields and no other; one that is not given is left out.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewJob {
    #[serde(with = "phone_text")]
    pub phone: Phone,
    pub body: String,
    /// The recipient's name, for the lead that Chert makes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The producer's own id of the recipient.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
    /// The line that must send it; Chert chooses when it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone_line_id: Option<String>,
    /// Each an id, `{"id":…}` or `{"attachment_id":…}`, perhaps with `"live_photo": true`; passed on as they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Value>,
    /// An Apple send effect, e.g. `celebration`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<String>,
    /// A second job with the same key is not inserted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dedupe_key: Option<String>,
    /// Lower goes first; 0 unless given.
    #[serde(default)]
    pub priority: i16,
    /// Not before; now unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_at: Option<DateTime<Utc>>,
    /// Not after; then the job becomes `expired`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<DateTime<Utc>>,
    /// What the message is to its recipient; transactional unless given.
    #[serde(default, skip_serializing_if = "Class::is_default")]
    pub class: Class,
    /// 1 to 100; [`MAX_ATTEMPTS_DEFAULT`] unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<i32>,
    /// Whatever the producer wants to find the job by.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub labels: Map<String, Value>,
    /// The W3C trace context of the producer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

/// What a message is to its recipient. Marketing is held back where somebody may have asked for an end of it, or does not answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// What the recipient asked for or waits for.
    #[default]
    Transactional,
    /// What the sender wants to say.
    Marketing,
}

impl Class {
    /// As the database calls it.
    pub fn word(self) -> &'static str {
        match self {
            Class::Transactional => "transactional",
            Class::Marketing => "marketing",
        }
    }

    fn is_default(&self) -> bool {
        *self == Class::default()
    }
}

/// The rule of `outbox.jobs` that a job breaks, as a sentence that starts with the field and ends with what to do. What
/// the field holds stays out of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidJob {
    #[error("{NotE164}")]
    Phone,
    #[error("body is blank: write the text to send")]
    BodyIsBlank,
    #[error("body is longer than {BODY_MAX_CHARS} characters: shorten it, or send it as several jobs")]
    BodyIsTooLong,
    #[error(
        "payload (name, external_id, attachments and effect together) is larger than {PAYLOAD_MAX_BYTES} bytes: shorten it"
    )]
    PayloadIsTooLarge,
    #[error(
        "dedupe_key is empty or longer than {KEY_MAX_CHARS} characters: give 1 to {KEY_MAX_CHARS}, or leave it out"
    )]
    DedupeKeyLength,
    #[error("phone_line_id is empty or longer than {KEY_MAX_CHARS} characters: give the id of a line, or leave it out")]
    PhoneLineIdLength,
    #[error("due_at is not from 2000 to 2199: give a time in that range, or leave it out to be due at once")]
    DueAtOutOfRange,
    #[error("expires_at is after 2199: leave it out if the job never expires")]
    ExpiresTooLate,
    #[error("expires_at is not after due_at: let the job expire later, or leave expires_at out")]
    ExpiresBeforeDue,
    #[error("max_attempts is not from 1 to {MAX_ATTEMPTS_LIMIT}: give a number in that range, or leave it out")]
    MaxAttempts,
    #[error("{0} has a NUL character, which Postgres cannot store: take it out")]
    HasNul(&'static str),
}

impl NewJob {
    /// A job for now, with nothing but its text.
    pub fn new(phone: Phone, body: impl Into<String>) -> NewJob {
        NewJob {
            phone,
            body: body.into(),
            name: None,
            external_id: None,
            phone_line_id: None,
            attachments: Vec::new(),
            effect: None,
            dedupe_key: None,
            priority: 0,
            due_at: None,
            expires_at: None,
            class: Class::default(),
            max_attempts: None,
            labels: Map::new(),
            traceparent: None,
        }
    }

    /// What goes into the column `payload`: those of name, external_id, attachments and effect that are given.
    pub fn payload(&self) -> Value {
        let texts = [("name", &self.name), ("external_id", &self.external_id), ("effect", &self.effect)];
        let mut payload: Map<String, Value> = texts
            .into_iter()
            .filter_map(|(field, text)| Some((field.to_owned(), Value::String(text.clone()?))))
            .collect();
        if !self.attachments.is_empty() {
            payload.insert("attachments".to_owned(), Value::Array(self.attachments.clone()));
        }
        Value::Object(payload)
    }

    /// The first rule of `outbox.jobs` that this job breaks. A job without `due_at` is due at a time that only the database
    /// knows, so there an early `expires_at` is left to it.
    pub fn check(&self) -> Result<(), InvalidJob> {
        let key_length_is_wrong = |key: &Option<String>| {
            key.as_ref().is_some_and(|key| key.is_empty() || key.chars().nth(KEY_MAX_CHARS).is_some())
        };
        let payload = self.payload();
        let broken = if let Some(field) = self.field_with_nul() {
            InvalidJob::HasNul(field)
        } else if self.body.chars().all(char::is_whitespace) {
            InvalidJob::BodyIsBlank
        } else if self.body.chars().nth(BODY_MAX_CHARS).is_some() {
            InvalidJob::BodyIsTooLong
        } else if jsonb_text_bytes(&payload) > PAYLOAD_MAX_BYTES {
            InvalidJob::PayloadIsTooLarge
        } else if key_length_is_wrong(&self.dedupe_key) {
            InvalidJob::DedupeKeyLength
        } else if key_length_is_wrong(&self.phone_line_id) {
            InvalidJob::PhoneLineIdLength
        } else if self.due_at.is_some_and(|due| !(2000..2200).contains(&due.year())) {
            InvalidJob::DueAtOutOfRange
        } else if self.expires_at.is_some_and(|expires| expires.year() >= 2200) {
            InvalidJob::ExpiresTooLate
        } else if self.due_at.zip(self.expires_at).is_some_and(|(due, expires)| expires <= due) {
            InvalidJob::ExpiresBeforeDue
        } else if self.max_attempts.is_some_and(|attempts| !(1..=MAX_ATTEMPTS_LIMIT).contains(&attempts)) {
            InvalidJob::MaxAttempts
        } else {
            return Ok(());
        };
        Err(broken)
    }

    fn field_with_nul(&self) -> Option<&'static str> {
        let texts = [
            ("body", Some(&self.body)),
            ("name", self.name.as_ref()),
            ("external_id", self.external_id.as_ref()),
            ("phone_line_id", self.phone_line_id.as_ref()),
            ("effect", self.effect.as_ref()),
            ("dedupe_key", self.dedupe_key.as_ref()),
            ("traceparent", self.traceparent.as_ref()),
        ];
        let text = texts.iter().find(|(_, text)| text.is_some_and(|text| text.contains('\0'))).map(|(field, _)| *field);
        let attachments = || self.attachments.iter().any(json_has_nul).then_some("attachments");
        let label = |(key, value): (&String, &Value)| key.contains('\0') || json_has_nul(value);
        text.or_else(attachments).or_else(|| self.labels.iter().any(label).then_some("labels"))
    }
}

impl InvalidJob {
    /// The rules that a [`NewJob`] can break, by the constraint of `outbox.jobs` that holds them.
    pub const CONSTRAINTS: [(&str, InvalidJob); 10] = [
        ("phone_is_e164_like_plus15550142200", InvalidJob::Phone),
        ("body_is_not_blank", InvalidJob::BodyIsBlank),
        ("body_is_at_most_20000_characters", InvalidJob::BodyIsTooLong),
        ("payload_is_at_most_64_kilobytes", InvalidJob::PayloadIsTooLarge),
        ("dedupe_key_is_1_to_200_characters", InvalidJob::DedupeKeyLength),
        ("phone_line_id_is_1_to_200_characters", InvalidJob::PhoneLineIdLength),
        ("due_at_is_from_2000_to_2199", InvalidJob::DueAtOutOfRange),
        ("expires_at_is_before_2200", InvalidJob::ExpiresTooLate),
        ("expires_at_is_after_due_at", InvalidJob::ExpiresBeforeDue),
        ("max_attempts_is_1_to_100", InvalidJob::MaxAttempts),
    ];

    /// The rule that a constraint of this name holds; none for one that is not ours, or that a [`NewJob`] cannot break.
    pub fn of_constraint(name: &str) -> Option<InvalidJob> {
        InvalidJob::CONSTRAINTS.iter().find(|(constraint, _)| *constraint == name).map(|(_, rule)| *rule)
    }

    /// The field that breaks the rule.
    pub fn field(self) -> &'static str {
        match self {
            InvalidJob::Phone => "phone",
            InvalidJob::BodyIsBlank | InvalidJob::BodyIsTooLong => "body",
            InvalidJob::PayloadIsTooLarge => "payload",
            InvalidJob::DedupeKeyLength => "dedupe_key",
            InvalidJob::PhoneLineIdLength => "phone_line_id",
            InvalidJob::DueAtOutOfRange => "due_at",
            InvalidJob::ExpiresTooLate | InvalidJob::ExpiresBeforeDue => "expires_at",
            InvalidJob::MaxAttempts => "max_attempts",
            InvalidJob::HasNul(field) => field,
        }
    }
}

/// Enough to tell jobs apart in a log: the number masked, the body counted, nothing else that could name a person.
impl fmt::Debug for NewJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewJob")
            .field("phone", &self.phone)
            .field("body_chars", &self.body.chars().count())
            .field("priority", &self.priority)
            .field("due_at", &self.due_at)
            .finish_non_exhaustive()
    }
}

/// How long `value::jsonb::text` is. Postgres writes a space after each `,` and `:`, which serde_json does not.
fn jsonb_text_bytes(value: &Value) -> usize {
    let separators = |count: usize| 2 * count.saturating_sub(1);
    match value {
        Value::Array(items) => 2 + separators(items.len()) + items.iter().map(jsonb_text_bytes).sum::<usize>(),
        Value::Object(fields) => {
            let field = |(key, value): (&String, &Value)| json_string_bytes(key) + 2 + jsonb_text_bytes(value);
            2 + separators(fields.len()) + fields.iter().map(field).sum::<usize>()
        }
        Value::String(text) => json_string_bytes(text),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string().len(),
    }
}

fn json_string_bytes(text: &str) -> usize {
    let escaped = |c: char| match c {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        c if c < ' ' => 6,
        c => c.len_utf8(),
    };
    2 + text.chars().map(escaped).sum::<usize>()
}

fn json_has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(json_has_nul),
        Value::Object(fields) => fields.iter().any(|(key, value)| key.contains('\0') || json_has_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

mod phone_text {
    use serde::{Deserialize as _, Deserializer, Serializer};

    use crate::phone::Phone;

    pub fn serialize<S: Serializer>(phone: &Phone, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(phone.as_str())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Phone, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> NewJob {
        NewJob::new("+15550142200".parse().expect("valid"), "Hi")
    }

    #[test]
    fn each_rule_is_named_by_field_and_remedy() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().expect("valid");
        let long = |chars: usize| Some("é".repeat(chars));
        let table = [
            (NewJob { body: " \n\t".into(), ..job() }, InvalidJob::BodyIsBlank),
            (NewJob { body: "é".repeat(BODY_MAX_CHARS + 1), ..job() }, InvalidJob::BodyIsTooLong),
            (NewJob { name: Some("x".repeat(PAYLOAD_MAX_BYTES)), ..job() }, InvalidJob::PayloadIsTooLarge),
            (NewJob { dedupe_key: Some(String::new()), ..job() }, InvalidJob::DedupeKeyLength),
            (NewJob { dedupe_key: long(KEY_MAX_CHARS + 1), ..job() }, InvalidJob::DedupeKeyLength),
            (NewJob { phone_line_id: long(KEY_MAX_CHARS + 1), ..job() }, InvalidJob::PhoneLineIdLength),
            (
                NewJob {
                    due_at: Some(at("2026-06-03T09:15:00Z")),
                    expires_at: Some(at("2026-06-03T09:15:00Z")),
                    ..job()
                },
                InvalidJob::ExpiresBeforeDue,
            ),
            (NewJob { due_at: Some(at("1999-12-31T23:59:59Z")), ..job() }, InvalidJob::DueAtOutOfRange),
            (NewJob { due_at: Some(at("2200-01-01T00:00:00Z")), ..job() }, InvalidJob::DueAtOutOfRange),
            (NewJob { expires_at: Some(at("2200-01-01T00:00:00Z")), ..job() }, InvalidJob::ExpiresTooLate),
            (NewJob { max_attempts: Some(0), ..job() }, InvalidJob::MaxAttempts),
            (NewJob { max_attempts: Some(MAX_ATTEMPTS_LIMIT + 1), ..job() }, InvalidJob::MaxAttempts),
            (
                NewJob { attachments: vec![serde_json::json!({"id": "a\0"})], ..job() },
                InvalidJob::HasNul("attachments"),
            ),
        ];
        for (job, broken) in table {
            assert_eq!(job.check(), Err(broken));
            assert!(broken.to_string().starts_with(broken.field()), "{broken}");
            assert!(broken.to_string().contains(": "), "says what to do: {broken}");
        }
        assert_eq!(InvalidJob::BodyIsBlank.to_string(), "body is blank: write the text to send");
    }

    #[test]
    fn the_limits_themselves_are_allowed() {
        let longest = NewJob {
            body: "é".repeat(BODY_MAX_CHARS),
            dedupe_key: Some("é".repeat(KEY_MAX_CHARS)),
            phone_line_id: Some("é".repeat(KEY_MAX_CHARS)),
            max_attempts: Some(MAX_ATTEMPTS_LIMIT),
            // `{"name": "…"}` is 12 bytes without the name.
            name: Some("x".repeat(PAYLOAD_MAX_BYTES - 12)),
            ..job()
        };
        assert_eq!(longest.check(), Ok(()));
    }

    #[test]
    fn the_numbers_are_those_in_the_names_of_the_constraints() {
        let has = |text: String| InvalidJob::CONSTRAINTS.iter().any(|(name, _)| name.contains(&text));
        assert!(has(format!("at_most_{BODY_MAX_CHARS}_characters")));
        assert!(has(format!("at_most_{}_kilobytes", PAYLOAD_MAX_BYTES / 1024)));
        assert!(has(format!("dedupe_key_is_1_to_{KEY_MAX_CHARS}")));
        assert!(has(format!("max_attempts_is_1_to_{MAX_ATTEMPTS_LIMIT}")));
    }

    #[test]
    fn json_has_the_given_fields_and_refuses_others() {
        let text =
            r#"{"phone":"+15550142200","body":"Hi","attachments":["a",{"id":"b","live_photo":true}],"priority":0}"#;
        let job: NewJob = serde_json::from_str(text).expect("valid");
        assert_eq!(serde_json::to_string(&job).expect("serialisable"), text);
        assert_eq!(job.payload(), serde_json::json!({"attachments": ["a", {"id": "b", "live_photo": true}]}));
        assert!(serde_json::from_str::<NewJob>(r#"{"phone":"+15550142200","body":"Hi","bdy":"x"}"#).is_err());
        assert!(serde_json::from_str::<NewJob>(r#"{"phone":"15550142200","body":"Hi"}"#).is_err());
    }

    #[test]
    fn i12_debug_shows_neither_number_nor_body() {
        let shown = format!("{:?}", NewJob { body: "secret".into(), ..job() });
        assert!(!shown.contains("secret") && !shown.contains("+15550142200"), "{shown}");
    }
}
