//! The signature of Standard Webhooks: HMAC-SHA256 over `id.timestamp.payload`.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretSlice, SecretString};
use sha2::Sha256;

/// What webhooks are signed with. It shows itself to nobody.
#[derive(Clone)]
pub struct Key(SecretSlice<u8>);

/// A secret that cannot be one; it is not quoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it must be whsec_ and 24 to 64 bytes in base64: printf 'whsec_%s' \"$(openssl rand -base64 32)\" makes one")]
pub struct KeyError;

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    /// Reads `whsec_<base64>`.
    pub fn read(secret: &SecretString) -> Result<Key, KeyError> {
        let encoded = secret.expose_secret().trim().strip_prefix("whsec_").ok_or(KeyError)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| KeyError)?;
        if !(24..=64).contains(&bytes.len()) {
            return Err(KeyError);
        }
        Ok(Key(bytes.into()))
    }

    /// The value of `webhook-signature` for this id, second of sending and exact payload.
    pub fn sign(&self, id: &str, unix_secs: i64, payload: &[u8]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.expose_secret()).expect("HMAC takes a key of any length");
        mac.update(format!("{id}.{unix_secs}.").as_bytes());
        mac.update(payload);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(secret: &str) -> Result<Key, KeyError> {
        Key::read(&SecretString::from(secret))
    }

    #[test]
    fn the_vector_of_the_standards_own_libraries_is_met() {
        let key = key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("a secret");
        let signature = key.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn i12_a_secret_that_is_none_is_refused_and_not_quoted() {
        for bad in ["", "whsec_", "whsec_c2hvcnQ=", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_!!!!"] {
            assert!(key(bad).is_err(), "{bad}");
        }
        let good = key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("a secret");
        assert_eq!(format!("{good:?}"), "Key");
    }
}
