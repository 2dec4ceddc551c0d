//! What a job says to `POST /send`, byte for byte the same at every attempt.

use serde::Serialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::phone::Phone;

/// Longest key that Chert is assumed to take (API contract 8, question 5).
pub const MAX_KEY_LENGTH: usize = 64;
const KEY_PREFIX: &str = "co1_";

/// One `/send` call without its key. Field order is the order on the wire and must not change: keys are derived from it.
#[derive(Debug, Clone, Serialize)]
pub struct SendRequest {
    #[serde(serialize_with = "whole")]
    phone: Phone,
    body: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    phone_line_id: Option<String>,
    /// name, external_id, attachments, effect, as the producer wrote them; sorted, so that the bytes are stable.
    #[serde(flatten)]
    payload: serde_json::Map<String, Value>,
}

impl SendRequest {
    /// The request for a recipient, from the job's own fields. `phone_line_id` moves the recipient's pin at Chert, so it
    /// is given only when the producer insists or the line choice is `name`.
    pub fn new(phone: Phone, body: String, phone_line_id: Option<String>, payload: Value) -> SendRequest {
        let payload = match payload {
            Value::Object(fields) => fields,
            _ => serde_json::Map::new(),
        };
        SendRequest { phone, body, phone_line_id, payload }
    }

    /// The key of this request: `co1_` and 60 hex digits of SHA-256 over namespace, identity and the request itself.
    /// `identity` is the dedupe key or the job's id, already marked as one or the other by [`identity`].
    pub fn idempotency_key(&self, namespace: &str, identity: &str) -> String {
        let mut hash = Sha256::new();
        // Lengths go in front, so that no two different triples run together into the same bytes.
        for part in [namespace.as_bytes(), identity.as_bytes(), &self.canonical()] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let mut key = KEY_PREFIX.to_owned();
        key.push_str(&hex::encode(hash.finalize()));
        key.truncate(MAX_KEY_LENGTH);
        key
    }

    /// The bytes that go over the wire.
    pub fn to_bytes(&self, idempotency_key: &str) -> Vec<u8> {
        #[derive(Serialize)]
        struct Keyed<'a> {
            #[serde(flatten)]
            request: &'a SendRequest,
            idempotency_key: &'a str,
        }
        json(&Keyed { request: self, idempotency_key })
    }

    fn canonical(&self) -> Vec<u8> {
        json(self)
    }
}

/// What makes a job itself: its dedupe key where it has one, else its id.
pub fn identity(dedupe_key: Option<&str>, job_id: i64) -> String {
    dedupe_key.map_or_else(|| format!("job:{job_id}"), |key| format!("dedupe:{key}"))
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("strings and JSON values always serialise")
}

fn whole<S: serde::Serializer>(phone: &Phone, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(phone.as_str())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn request(body: &str, line: Option<&str>, payload: Value) -> SendRequest {
        SendRequest::new("+15550142200".parse().expect("valid"), body.to_owned(), line.map(str::to_owned), payload)
    }

    #[test]
    fn every_field_of_send_passes_through() {
        let payload = json!({
            "name": "Dana", "external_id": "crm-7", "effect": "celebration",
            "attachments": ["att_1", {"id": "att_2"}, {"attachment_id": "att_3", "live_photo": true}],
        });
        let bytes = request("Hi", Some("pl_1"), payload.clone()).to_bytes("co1_x");
        let sent: Value = serde_json::from_slice(&bytes).expect("JSON");
        let mut wanted = payload;
        wanted["phone"] = json!("+15550142200");
        wanted["body"] = json!("Hi");
        wanted["phone_line_id"] = json!("pl_1");
        wanted["idempotency_key"] = json!("co1_x");
        assert_eq!(sent, wanted);
    }

    #[test]
    fn the_key_of_a_known_request_never_changes() {
        // A change here would send every job that is waiting for a replay a second time.
        let key = request("Hi", None, json!({})).idempotency_key("ns", &identity(None, 1));
        assert_eq!(key, "co1_864eb0d08475b3fb231fb8eba40b49d4e6a9703053098bf9c71a17acd300");
    }

    proptest! {
        #[test]
        fn i02_the_key_is_stable_short_and_ascii(body in ".*", ns in ".*", id in any::<i64>(), line in proptest::option::of("[a-z_0-9]{1,9}")) {
            let make = || request(&body, line.as_deref(), json!({"name": &body})).idempotency_key(&ns, &identity(None, id));
            let key = make();
            prop_assert_eq!(&key, &make());
            prop_assert_eq!(key.len(), MAX_KEY_LENGTH);
            prop_assert!(key.starts_with(KEY_PREFIX) && key.is_ascii());
        }

        #[test]
        fn i02_anything_different_gives_another_key(a in "[ -~]{0,12}", b in "[ -~]{0,12}", ns in "[ -~]{0,6}", other_ns in "[ -~]{0,6}", id in 0i64..9, other_id in 0i64..9) {
            let one = request(&a, None, json!({})).idempotency_key(&ns, &identity(None, id));
            let two = request(&b, None, json!({})).idempotency_key(&other_ns, &identity(None, other_id));
            prop_assert_eq!(one == two, (a, ns, id) == (b, other_ns, other_id));
        }

        #[test]
        fn i02_a_dedupe_key_is_never_taken_for_an_id(id in any::<i64>()) {
            prop_assert_ne!(identity(Some(&format!("job:{id}")), id), identity(None, id));
        }
    }
}
