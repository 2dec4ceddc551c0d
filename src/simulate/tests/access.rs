//! Who is let in.

use secrecy::SecretString;

use super::*;
use crate::chert::auth::Credentials;

#[tokio::test]
async fn bearer_and_signature_both_open_the_door_and_nothing_else_does() {
    let far = far(plain()).await;
    let url = far.simulator.base_url() + "/send";
    let body = json!({"phone": PHONE, "body": "Hi"}).to_string();
    let now = system_time().timestamp();
    let hmac = |secret: &str| Credentials::Hmac { secret: SecretString::from(secret), tenant: "acme".into() };
    for (headers, code) in [
        (hmac(DEFAULT_SECRET).headers(body.as_bytes(), now), 0),
        (hmac(DEFAULT_SECRET).headers(b"another body", now), 2004),
        (hmac("wrong").headers(body.as_bytes(), now), 2004),
        (hmac(DEFAULT_SECRET).headers(body.as_bytes(), now - 400), 2013),
        (vec![], 2012),
    ] {
        assert_eq!(far.call(Method::POST, url.clone(), &headers, body.clone()).await.code(), code);
    }
    let headers = hmac(DEFAULT_SECRET).headers(b"", now);
    let reply = far.call(Method::GET, far.simulator.base_url() + "/phone-numbers", &headers, String::new()).await;
    assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn an_administrator_can_rotate_the_secret_and_suspend_the_tenant() {
    let far = far(plain()).await;
    far.admin(Method::PUT, "/account", json!({"suspended": true})).await;
    let refused = far.text(PHONE, "Hi").await;
    assert_eq!((refused.status, refused.code()), (403, 2005));
    far.admin(Method::PUT, "/account", json!({"suspended": false, "secret": "another"})).await;
    let refused = far.text(PHONE, "Hi").await;
    assert_eq!((refused.status, refused.code()), (401, 2004));
}

#[tokio::test]
async fn a_clock_that_is_off_refuses_signatures_until_it_is_set() {
    let far = far(plain()).await;
    let url = far.simulator.base_url() + "/send";
    let body = json!({"phone": PHONE, "body": "Hi"}).to_string();
    let secret = SecretString::from(DEFAULT_SECRET);
    let headers =
        Credentials::Hmac { secret, tenant: "acme".into() }.headers(body.as_bytes(), system_time().timestamp());
    for (ahead_secs, code) in [(600, 2013), (-600, 2013), (200, 0), (0, 0)] {
        let account = far.admin(Method::PUT, "/account", json!({"clock_ahead_secs": ahead_secs})).await;
        assert_eq!(account.body["clock_ahead_secs"], json!(ahead_secs));
        assert_eq!(far.call(Method::POST, url.clone(), &headers, body.clone()).await.code(), code, "{ahead_secs}");
    }
    far.simulator.handle().change_account(AccountChange { clock_ahead_secs: Some(600), ..AccountChange::default() });
    assert_eq!(far.text(PHONE, "Hi").await.status, 200, "a secret needs no clock");
}
