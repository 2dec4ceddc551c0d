//! Who calls: the bearer secret, or the signature over time and body. Contract 1.3 to 1.6.

use axum::http::{HeaderMap, header};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use super::error::Refusal;
use crate::chert::auth;

/// The one tenant, as an administrator last set it.
pub struct Account {
    pub tenant: String,
    pub secret: SecretString,
    pub is_suspended: bool,
    /// How far Chert's clock is ahead of the callers', in seconds.
    pub clock_ahead_secs: i64,
}

/// A change of the tenant: what is not named stays. It shows itself to nobody: it holds a secret.
#[derive(Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccountChange {
    pub secret: Option<String>,
    pub suspended: Option<bool>,
    /// How far Chert's clock is ahead of this machine's, in seconds; negative if it is behind. Signatures are checked by it.
    pub clock_ahead_secs: Option<i64>,
}

impl Account {
    /// Takes the change in.
    pub fn change(&mut self, change: AccountChange) {
        if let Some(secret) = change.secret {
            self.secret = secret.into();
        }
        self.is_suspended = change.suspended.unwrap_or(self.is_suspended);
        self.clock_ahead_secs = change.clock_ahead_secs.unwrap_or(self.clock_ahead_secs);
    }
}

/// Proves the caller of a request with these headers and this body, when the machine's clock says `unix_secs`.
/// A signature is checked first, and a wrong one is not forgiven for a good token (contract 8, question 46).
/// Errors: 2012 nothing given, 2001 unknown tenant, 2013 time too far off, 2004 wrong, 2005 suspended.
pub fn check(account: &Account, headers: &HeaderMap, raw_body: &[u8], unix_secs: i64) -> Result<(), Refusal> {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let tenant = text(auth::TENANT_HEADER);
    let is_ours = tenant.is_none_or(|tenant| tenant == account.tenant);
    if let Some(signature) = text(auth::SIGNATURE_HEADER) {
        let (signed_at, hex) = parse_signature(signature).ok_or_else(|| Refusal::new(2004))?;
        if tenant.is_none() {
            return Err(Refusal::new(2012).because("A signature needs `x-chert-tenant`."));
        }
        if !is_ours {
            return Err(Refusal::new(2001));
        }
        if unix_secs.saturating_add(account.clock_ahead_secs).abs_diff(signed_at)
            > auth::CLOCK_WINDOW_SECS.unsigned_abs()
        {
            return Err(Refusal::new(2013));
        }
        if !auth::verify(account.secret.expose_secret(), signed_at, raw_body, hex) {
            return Err(Refusal::new(2004));
        }
    } else {
        let token = text(header::AUTHORIZATION.as_str()).ok_or_else(|| Refusal::new(2012))?;
        let token = token.strip_prefix("Bearer ").ok_or_else(|| Refusal::new(2004))?;
        if !is_equal(token.as_bytes(), account.secret.expose_secret().as_bytes()) {
            return Err(Refusal::new(2004));
        }
        if !is_ours {
            return Err(Refusal::new(2001));
        }
    }
    if account.is_suspended { Err(Refusal::new(2005)) } else { Ok(()) }
}

/// The time and the hex digits of `v1,<unix seconds>,<hex>`.
fn parse_signature(signature: &str) -> Option<(i64, &str)> {
    let (unix_secs, hex) = signature.strip_prefix("v1,")?.split_once(',')?;
    Some((unix_secs.parse().ok()?, hex))
}

/// Compares in a time that depends on the lengths alone.
fn is_equal(given: &[u8], expected: &[u8]) -> bool {
    let difference = given.iter().zip(expected).fold(0, |difference, (a, b)| difference | (a ^ b));
    given.len() == expected.len() && difference == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "00112233445566778899aabbccddeeff";
    const NOW: i64 = 1_780_000_000;
    const BODY: &[u8] = b"{}";

    /// The code that a call with these headers gets; 0 if it is let in.
    fn code(is_suspended: bool, given: &[(&'static str, String)]) -> u16 {
        let account = Account { tenant: "acme".into(), secret: SECRET.into(), is_suspended, clock_ahead_secs: 0 };
        let headers: HeaderMap = given
            .iter()
            .map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value")))
            .collect();
        check(&account, &headers, BODY, NOW).err().map_or(0, |refusal| refusal.code)
    }

    fn bearer(token: &str) -> (&'static str, String) {
        ("authorization", format!("Bearer {token}"))
    }

    fn tenant(slug: &str) -> (&'static str, String) {
        ("x-chert-tenant", slug.to_owned())
    }

    fn signature(unix_secs: i64, secret: &str) -> (&'static str, String) {
        ("x-chert-signature", format!("v1,{unix_secs},{}", auth::sign(secret, unix_secs, BODY)))
    }

    #[test]
    fn a_bearer_needs_the_secret_and_no_tenant() {
        assert_eq!(code(false, &[bearer(SECRET)]), 0);
        assert_eq!(code(false, &[bearer(SECRET), tenant("acme")]), 0);
        assert_eq!(code(false, &[bearer(SECRET), tenant("other")]), 2001);
        assert_eq!(code(false, &[bearer("wrong")]), 2004);
        assert_eq!(code(false, &[("authorization", SECRET.into())]), 2004);
        assert_eq!(code(false, &[]), 2012);
    }

    #[test]
    fn a_signature_needs_secret_tenant_and_time() {
        assert_eq!(code(false, &[signature(NOW, SECRET), tenant("acme")]), 0);
        assert_eq!(code(false, &[signature(NOW, SECRET), tenant("other")]), 2001);
        assert_eq!(code(false, &[signature(NOW, SECRET)]), 2012);
        assert_eq!(code(false, &[signature(NOW, "wrong"), tenant("acme")]), 2004);
        assert_eq!(code(false, &[("x-chert-signature", "v2,1,00".into()), tenant("acme")]), 2004);
    }

    #[test]
    fn exactly_300_seconds_off_is_inside_the_window() {
        for (skew_secs, expected) in [(300, 0), (-300, 0), (301, 2013), (-301, 2013)] {
            assert_eq!(code(false, &[signature(NOW + skew_secs, SECRET), tenant("acme")]), expected, "{skew_secs}");
        }
    }

    #[test]
    fn a_wrong_signature_is_not_forgiven_for_a_good_token() {
        assert_eq!(code(false, &[signature(NOW, "wrong"), tenant("acme"), bearer(SECRET)]), 2004);
        assert_eq!(code(false, &[signature(NOW, SECRET), tenant("acme"), bearer("wrong")]), 0);
    }

    #[test]
    fn a_suspended_tenant_is_2005_once_it_is_proven() {
        assert_eq!(code(true, &[bearer(SECRET)]), 2005);
        assert_eq!(code(true, &[bearer("wrong")]), 2004);
    }
}
