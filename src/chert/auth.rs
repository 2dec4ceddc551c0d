//! The two ways to prove who calls: a bearer secret, or an HMAC over the time and the exact bytes of the body.

use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Sha256;

/// Header that names the tenant; needed with HMAC, harmless with a bearer secret.
pub const TENANT_HEADER: &str = "x-chert-tenant";
/// Header that carries `v1,<unix seconds>,<hex>`.
pub const SIGNATURE_HEADER: &str = "x-chert-signature";
/// How far the two clocks may be apart, in seconds; exactly this much is still accepted.
pub const CLOCK_WINDOW_SECS: i64 = 300;

/// How a call proves its tenant. Source: API contract 1.3 and 1.4.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// `Authorization: Bearer <secret>`; the tenant is sent along when it is known.
    Bearer { secret: SecretString, tenant: Option<String> },
    /// A fresh signature for every call, also for a repeated one.
    Hmac { secret: SecretString, tenant: String },
}

impl Credentials {
    /// The headers of one call with this body, made at `unix_secs`.
    pub fn headers(&self, body: &[u8], unix_secs: i64) -> Vec<(&'static str, String)> {
        match self {
            Credentials::Bearer { secret, tenant } => {
                let bearer = ("authorization", format!("Bearer {}", secret.expose_secret()));
                let tenant = tenant.clone().map(|tenant| (TENANT_HEADER, tenant));
                std::iter::once(bearer).chain(tenant).collect()
            }
            Credentials::Hmac { secret, tenant } => {
                let hex = sign(secret.expose_secret(), unix_secs, body);
                vec![(TENANT_HEADER, tenant.clone()), (SIGNATURE_HEADER, format!("v1,{unix_secs},{hex}"))]
            }
        }
    }
}

/// Lower-case hex of HMAC-SHA256 over `<unix_secs>.<body>`. The key is the text of the secret, not its decoded bytes.
pub fn sign(secret: &str, unix_secs: i64, body: &[u8]) -> String {
    hex::encode(mac(secret, unix_secs, body).finalize().into_bytes())
}

/// Whether `signature_hex` is the signature of this body at this time, compared in constant time.
pub fn verify(secret: &str, unix_secs: i64, body: &[u8], signature_hex: &str) -> bool {
    hex::decode(signature_hex).is_ok_and(|given| mac(secret, unix_secs, body).verify_slice(&given).is_ok())
}

fn mac(secret: &str, unix_secs: i64, body: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes a key of any length");
    mac.update(unix_secs.to_string().as_bytes());
    mac.update(b".");
    mac.update(body);
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "00112233445566778899aabbccddeeff";
    const TIME: i64 = 1_780_000_000;
    const BODY: &[u8] = br#"{"phone":"+15550142200","body":"ping","idempotency_key":"k-1"}"#;

    #[test]
    fn signature_matches_the_contract_vectors() {
        assert_eq!(BODY.len(), 62);
        assert_eq!(sign(SECRET, TIME, BODY), "61685adde18e284e2bb7a4700aca14fd3dde0e502e10fbfe442655678890522a");
        assert_eq!(sign(SECRET, TIME, b""), "70819cf68f0350420d9835c5a18ffd553cc29ac8151c903571dcdd926e67b625");
    }

    #[test]
    fn verify_accepts_its_own_signature_and_no_other() {
        let good = sign(SECRET, TIME, BODY);
        assert!(verify(SECRET, TIME, BODY, &good));
        assert!(!verify(SECRET, TIME + 1, BODY, &good));
        assert!(!verify("another", TIME, BODY, &good));
        assert!(!verify(SECRET, TIME, BODY, "not hex"));
    }

    #[test]
    fn bearer_and_hmac_send_the_documented_headers() {
        let secret = SecretString::from(SECRET);
        let bearer = Credentials::Bearer { secret: secret.clone(), tenant: None };
        assert_eq!(bearer.headers(BODY, TIME), vec![("authorization", format!("Bearer {SECRET}"))]);
        let hmac = Credentials::Hmac { secret, tenant: "acme".into() };
        assert_eq!(
            hmac.headers(b"", TIME),
            vec![
                ("x-chert-tenant", "acme".to_owned()),
                (
                    "x-chert-signature",
                    "v1,1780000000,70819cf68f0350420d9835c5a18ffd553cc29ac8151c903571dcdd926e67b625".to_owned()
                ),
            ]
        );
    }
}
