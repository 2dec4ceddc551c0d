//! The simulator from the outside: real requests over real connections.

use std::time::Duration;

use futures_util::future::{join, join_all};
use reqwest::header::HeaderMap;
use reqwest::{Client, Method};
use secrecy::SecretString;
use serde_json::{Value, json};

use super::*;
use crate::chert::auth::Credentials;

mod events;
mod webhooks;

const PHONE: &str = "+15550142200";

/// A simulator and a caller that knows its secret.
struct Far {
    simulator: Simulator,
    http: Client,
}

struct Reply {
    status: u16,
    headers: HeaderMap,
    body: Value,
}

impl Reply {
    fn message_id(&self) -> &str {
        self.body["message_id"].as_str().unwrap_or_else(|| panic!("no message: {} {}", self.status, self.body))
    }

    /// The code in either shape; 0 for a success.
    fn code(&self) -> u64 {
        self.body["error"]["code"].as_u64().or(self.body["code"].as_u64()).unwrap_or(0)
    }
}

/// Everything off that could stand in a test's way: no gap, no cap, any port.
fn plain() -> Options {
    Options {
        port: 0,
        first_touch_gap: Duration::ZERO,
        first_touch_cap: Cap(None),
        seed: Some(7),
        ..Options::default()
    }
}

async fn far(options: Options) -> Far {
    Far {
        simulator: start(options).await.expect("a port is free"),
        http: Client::builder().no_proxy().build().expect("a client"),
    }
}

impl Far {
    async fn call(&self, method: Method, url: String, headers: &[(&str, String)], body: String) -> Reply {
        let mut request = self.http.request(method, url).body(body);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let response = request.send().await.expect("it answers");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.expect("a text");
        Reply { status, headers, body: serde_json::from_str(&text).unwrap_or(Value::String(text)) }
    }

    fn bearer() -> Vec<(&'static str, String)> {
        vec![("authorization", format!("Bearer {DEFAULT_SECRET}"))]
    }

    async fn get(&self, route: &str) -> Reply {
        self.call(Method::GET, self.simulator.base_url() + route, &Far::bearer(), String::new()).await
    }

    async fn post(&self, body: String) -> Reply {
        self.call(Method::POST, self.simulator.base_url() + "/send", &Far::bearer(), body).await
    }

    async fn send(&self, request: Value) -> Reply {
        self.post(request.to_string()).await
    }

    async fn text(&self, phone: &str, body: &str) -> Reply {
        self.send(json!({"phone": phone, "body": body})).await
    }

    async fn keyed(&self, key: &str, body: &str) -> Reply {
        self.send(json!({"phone": PHONE, "body": body, "idempotency_key": key})).await
    }

    /// A send that is expected to get no answer.
    async fn broken(&self, key: &str, timeout: Duration) -> reqwest::Error {
        let request = json!({"phone": PHONE, "body": "Hi", "idempotency_key": key});
        let call = self.http.post(self.simulator.base_url() + "/send").bearer_auth(DEFAULT_SECRET).timeout(timeout);
        match call.json(&request).send().await {
            Ok(response) => response.bytes().await.expect_err("it breaks"),
            Err(error) => error,
        }
    }

    async fn admin(&self, method: Method, route: &str, body: Value) -> Reply {
        self.call(method, self.simulator.admin_url() + route, &[], body.to_string()).await
    }

    async fn next(&self, faults: Value) {
        assert_eq!(self.admin(Method::PUT, "/faults", json!({"next": faults})).await.status, 200);
    }
}

fn phone(n: usize) -> String {
    format!("+1555014{n:04}")
}

#[tokio::test]
async fn a_first_send_answers_as_the_contract_says_and_is_in_the_ledger() {
    let far = far(plain()).await;
    let attachments = json!(["a", {"id": "b", "live_photo": true}]);
    let request =
        json!({"phone": PHONE, "body": "Hi", "idempotency_key": "k", "effect": "slam", "attachments": attachments});
    let reply = far.send(request).await;
    assert_eq!((reply.status, &reply.body["status"], &reply.body["lead_created"]), (200, &json!("sent"), &json!(true)));
    assert_eq!(reply.message_id().len(), 32);
    for field in ["lead_id", "convo_id"] {
        assert!(uuid::Uuid::parse_str(reply.body[field].as_str().expect("a text")).is_ok());
    }
    let [entry] = &far.simulator.ledger()[..] else { panic!("not one message") };
    assert_eq!((entry.seq, entry.phone.as_str(), entry.first_touch), (1, PHONE, true));
    assert_eq!((entry.message_id.as_str(), entry.idempotency_key.as_deref()), (reply.message_id(), Some("k")));
    assert_eq!((entry.line_id.as_str(), entry.effect.as_deref()), ("pl_1", Some("slam")));
    assert_eq!(entry.attachments[1], Attachment { id: "b".into(), live_photo: true });
    assert_eq!(far.admin(Method::GET, "/ledger/k", json!({})).await.body["messages"][0], json!(entry));
}

#[tokio::test]
async fn every_answer_carries_its_trace_id() {
    let far = far(plain()).await;
    for reply in [far.text(PHONE, "").await, far.get("/nothing").await, far.get("/send").await] {
        assert_eq!(
            reply.headers["x-trace-id"].to_str().expect("a text"),
            reply.body["trace_id"].as_str().expect("a text")
        );
    }
    for reply in [far.text(PHONE, "Hi").await, far.get("/phone-numbers").await] {
        assert_eq!((reply.status, reply.headers["x-trace-id"].len()), (200, 12));
    }
}

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

#[tokio::test]
async fn invalid_requests_are_refused_with_their_code_in_the_nested_shape() {
    let far = far(plain()).await;
    for (request, status, code) in [
        (json!({"body": "Hi"}), 400, 1001),
        (json!({"phone": PHONE, "body": 7}), 400, 1002),
        (json!({"phone": "5550142200", "body": "Hi"}), 400, 1003),
        (json!({"phone": PHONE, "body": "x".repeat(10_001)}), 400, 1009),
        (json!({"phone": PHONE, "body": "Hi", "attachments": [{"url": "u"}]}), 409, 1011),
        (json!({"phone": PHONE, "body": "Hi", "phone_line_id": "pl_9"}), 403, 2006),
        (json!({"phone": PHONE, "body": "Hi", "attachments": ["a", "missing"]}), 404, 5001),
    ] {
        let reply = far.send(request).await;
        let error = &reply.body["error"];
        assert_eq!((reply.status, &error["code"], &error["status"]), (status, &json!(code), &json!(status)));
        assert_eq!((&error["retryable"], &reply.body["success"]), (&json!(false), &json!(false)));
    }
    assert_eq!(far.post("{".into()).await.code(), 1004);
    let oversized = far.post("x".repeat(BODY_LIMIT_BYTES + 1)).await;
    assert_eq!((oversized.status, oversized.code()), (413, 1002));
    assert!(far.simulator.ledger().is_empty());
}

#[tokio::test]
async fn an_unknown_effect_is_told_which_ones_there_are() {
    let reply = far(plain()).await.send(json!({"phone": PHONE, "body": "Hi", "effect": "glitter"})).await;
    assert_eq!((reply.status, reply.code()), (400, 4098));
    assert!(reply.body["allowed_effects"].as_array().expect("a list").contains(&json!("celebration")));
}

#[tokio::test]
async fn a_phone_stays_on_its_line_until_another_one_is_named() {
    let far = far(plain()).await;
    assert_eq!(far.text(PHONE, "1").await.body["phone_line_id"], "pl_1");
    assert_eq!(far.text(&phone(1), "1").await.body["phone_line_id"], "pl_2");
    let second = far.text(PHONE, "2").await;
    assert_eq!((&second.body["phone_line_id"], &second.body["lead_created"]), (&json!("pl_1"), &json!(false)));
    let moved = far.send(json!({"phone": PHONE, "body": "3", "phone_line_id": "pl_4"})).await;
    assert_eq!((&moved.body["phone_line_id"], &moved.body["lead_id"]), (&json!("pl_4"), &second.body["lead_id"]));
    assert_eq!(far.text(PHONE, "4").await.body["phone_line_id"], "pl_4");
}

#[tokio::test]
async fn same_key_returns_the_original_answer_and_one_message() {
    let far = far(plain()).await;
    let first = far.keyed("k", "Hi").await;
    let second = far.keyed("k", "Hi").await;
    assert_eq!((second.status, second.body), (200, first.body));
    assert_eq!(far.simulator.ledger().len(), 1);
    assert_eq!(far.simulator.handle().calls().replays, 1);
}

#[tokio::test]
async fn same_key_with_another_body_does_what_the_switch_says() {
    use SameKeyOtherBody::{Error, Replay, Send};
    for (switch, status, messages) in [(Error, 409, 1), (Replay, 200, 1), (Send, 200, 2)] {
        let far = far(Options { same_key_other_body: switch, ..plain() }).await;
        let first = far.keyed("k", "Hi").await;
        let second = far.keyed("k", "Ho").await;
        assert_eq!((second.status, far.simulator.ledger().len()), (status, messages), "{switch:?}");
        assert_eq!(second.body == first.body, switch == Replay, "{switch:?}");
        if switch == Error {
            assert_eq!((second.code(), &second.body["error"]["retryable"]), (1012, &json!(false)));
        }
    }
}

#[tokio::test]
async fn a_forgotten_key_sends_again() {
    let far = far(Options { key_lifetime: Duration::ZERO, ..plain() }).await;
    far.keyed("k", "Hi").await;
    far.keyed("k", "Hi").await;
    assert_eq!(far.simulator.handle().ledger_of_key("k").len(), 2);
}

#[tokio::test]
async fn a_concurrent_request_with_the_key_waits_for_the_first_answer() {
    let far = far(Options { latency: Duration::from_millis(500), ..plain() }).await;
    let (one, other) = join(far.keyed("k", "Hi"), far.keyed("k", "Hi")).await;
    assert_eq!(one.message_id(), other.message_id());
    assert_eq!(far.simulator.ledger().len(), 1);
}

#[tokio::test]
async fn concurrent_requests_with_one_key_are_both_executed_if_the_switch_says_so() {
    let options = Options { latency: Duration::from_millis(500), concurrent_key: ConcurrentKey::Both, ..plain() };
    let far = far(options).await;
    let (one, other) = join(far.keyed("k", "Hi"), far.keyed("k", "Hi")).await;
    assert_ne!(one.message_id(), other.message_id());
    assert_eq!(far.simulator.ledger().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_requests_with_one_key_put_one_message_on_the_phone() {
    let far = far(plain()).await;
    let replies = join_all((0..50).map(|_| far.keyed("k", "Hi"))).await;
    assert!(replies.iter().all(|reply| reply.message_id() == replies[0].message_id()));
    assert_eq!(far.simulator.ledger().len(), 1);
}

#[tokio::test]
async fn a_repeated_body_is_a_duplicate_inside_the_window_and_reaches_nobody() {
    let far = far(Options { dedup_window: Some(Duration::from_secs(300)), ..plain() }).await;
    let first = far.keyed("a", "Hi").await;
    let repeat = far.keyed("b", "Hi").await;
    assert_eq!((repeat.status, &repeat.body["status"]), (200, &json!("duplicate")));
    assert_eq!(repeat.message_id(), first.message_id());
    assert_eq!(far.keyed("c", "Hi!").await.body["status"], "sent");
    assert_eq!(far.text(&phone(1), "Hi").await.body["status"], "sent");
    assert_eq!(far.keyed("b", "Hi").await.body["status"], "duplicate", "the key replays it");
    assert_eq!(far.simulator.ledger().len(), 3);
    assert_eq!(far.simulator.handle().calls().duplicates, 1);
}

#[tokio::test]
async fn first_touches_without_a_free_line_get_4002_with_the_wait_and_follow_ups_go_on() {
    let far = far(Options { lines: 2, first_touch_gap: Duration::from_secs(600), ..plain() }).await;
    assert_eq!(far.text(&phone(1), "Hi").await.body["phone_line_id"], "pl_1");
    assert_eq!(far.text(&phone(2), "Hi").await.body["phone_line_id"], "pl_2");
    let refused = far.text(&phone(3), "Hi").await;
    assert_eq!((refused.status, refused.code(), &refused.body["status"]), (503, 4002, &json!("failed")));
    assert_eq!(refused.body["retryable"], json!(true));
    let wait_secs = refused.body["retry_after"].as_u64().expect("a number");
    assert!((500..=600).contains(&wait_secs), "{wait_secs}");
    assert_eq!(refused.headers["retry-after"].to_str().expect("a text"), wait_secs.to_string());
    let named = far.send(json!({"phone": phone(3), "body": "Hi", "phone_line_id": "pl_2"})).await;
    assert_eq!(named.code(), 4002);
    assert_eq!(far.text(&phone(1), "Still there?").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_first_touches_never_exceed_the_lines() {
    let far = far(Options { first_touch_gap: Duration::from_secs(600), ..plain() }).await;
    let phones: Vec<String> = (0..50).map(phone).collect();
    let replies = join_all(phones.iter().map(|phone| far.text(phone, "Hi"))).await;
    assert_eq!(replies.iter().filter(|reply| reply.status == 200).count(), 5);
    let mut lines: Vec<_> = far.simulator.ledger().into_iter().map(|entry| entry.line_id).collect();
    lines.sort();
    assert_eq!(lines, ["pl_1", "pl_2", "pl_3", "pl_4", "pl_5"]);
}

#[tokio::test]
async fn a_line_at_its_daily_cap_refuses_until_midnight() {
    let far = far(Options { lines: 1, first_touch_cap: Cap(Some(1)), ..plain() }).await;
    far.text(&phone(1), "Hi").await;
    let refused = far.text(&phone(2), "Hi").await;
    assert_eq!(refused.code(), 4002);
    assert!((1..=86_400).contains(&refused.body["retry_after"].as_u64().expect("a number")));
}

#[tokio::test]
async fn retry_after_is_in_real_seconds_whatever_the_time_scale() {
    let gap = Duration::from_secs(600);
    let far = far(Options { lines: 1, time_scale: 600.0, first_touch_gap: gap, ..plain() }).await;
    let (first, second) = (phone(1), phone(2));
    let replies = join(far.text(&first, "Hi"), far.text(&second, "Hi")).await;
    let refused = if replies.0.status == 200 { replies.1 } else { replies.0 };
    assert_eq!((refused.code(), &refused.body["retry_after"]), (4002, &json!(1)));
}

#[tokio::test]
async fn too_many_requests_get_1007_with_the_wait() {
    let far = far(Options { request_rate: Some("2/h".parse().expect("a rate")), ..plain() }).await;
    far.get("/phone-numbers").await;
    assert_eq!(far.text(PHONE, "Hi").await.status, 200);
    let refused = far.text(PHONE, "").await;
    assert_eq!((refused.status, refused.code()), (429, 1007), "before validation");
    let wait_secs = refused.body["error"]["retry_after"].as_u64().expect("a number");
    assert!((1700..=1800).contains(&wait_secs), "{wait_secs}");
    assert_eq!(refused.headers["retry-after"].to_str().expect("a text"), wait_secs.to_string());
}

#[tokio::test]
async fn the_shape_switch_decides_how_send_tells_errors() {
    use ErrorShape::{Flat, Mixed, Nested};
    for (error_shape, is_delivery_flat, is_validation_flat) in
        [(Mixed, true, false), (Flat, true, true), (Nested, false, false)]
    {
        let far = far(Options { error_shape, fault_5xx: 1.0, ..plain() }).await;
        assert_eq!(far.text(PHONE, "Hi").await.body["code"].is_u64(), is_delivery_flat, "{error_shape:?}");
        assert_eq!(far.text(PHONE, "").await.body["code"].is_u64(), is_validation_flat, "{error_shape:?}");
    }
}

#[tokio::test]
async fn one_shot_faults_are_taken_in_order() {
    let far = far(plain()).await;
    let raw = json!({"kind": "raw", "status": 503, "body": "upstream"});
    let own = json!({"kind": "error", "code": 1007, "status": 418, "retryable": false, "retry_after": 3});
    far.next(json!([{"kind": "error", "code": 4001}, own, {"kind": "html"}, raw])).await;
    let failed = far.text(PHONE, "Hi").await;
    assert_eq!((failed.status, failed.code(), &failed.body["retryable"]), (502, 4001, &json!(true)));
    let failed = far.text(PHONE, "Hi").await;
    assert_eq!((failed.status, failed.code(), &failed.body["error"]["retry_after"]), (418, 1007, &json!(3)));
    assert_eq!(failed.body["error"]["retryable"], json!(false));
    let failed = far.text(PHONE, "Hi").await;
    assert_eq!((failed.status, failed.headers["content-type"].to_str().expect("a text")), (502, "text/html"));
    let failed = far.text(PHONE, "Hi").await;
    assert_eq!((failed.status, failed.body), (503, json!("upstream")));
    assert!(far.simulator.ledger().is_empty());
    assert_eq!(far.text(PHONE, "Hi").await.status, 200);
}

#[tokio::test]
async fn a_drop_before_acceptance_leaves_no_message() {
    let far = far(plain()).await;
    far.next(json!([{"kind": "drop_before"}])).await;
    let error = far.broken("k", Duration::from_secs(30)).await;
    assert!(error.is_request() && !error.is_timeout(), "{error:?}");
    assert!(far.simulator.ledger().is_empty());
    assert_eq!(far.keyed("k", "Hi").await.status, 200);
    assert_eq!(far.simulator.ledger().len(), 1);
}

#[tokio::test]
async fn a_drop_after_acceptance_leaves_one_message_that_the_key_finds() {
    let far = far(plain()).await;
    far.next(json!([{"kind": "drop_after"}])).await;
    let error = far.broken("k", Duration::from_secs(30)).await;
    assert!(error.is_request() && !error.is_timeout(), "{error:?}");
    let replayed = far.keyed("k", "Hi").await;
    assert_eq!(replayed.message_id(), far.simulator.ledger()[0].message_id);
    assert_eq!(far.simulator.ledger().len(), 1);
}

#[tokio::test]
async fn a_slow_body_outlasts_its_caller_and_the_message_is_accepted() {
    let far = far(plain()).await;
    far.next(json!([{"kind": "slow_body"}])).await;
    let error = far.broken("k", Duration::from_millis(700)).await;
    assert!(error.is_timeout() && error.status().is_none(), "{error:?}");
    assert_eq!(far.simulator.ledger().len(), 1);
}

#[tokio::test]
async fn half_an_answer_breaks_in_its_head_or_in_its_body_and_the_message_is_accepted() {
    let far = far(plain()).await;
    let (mut in_head, mut in_body) = (0, 0);
    for n in 0..40 {
        far.next(json!([{"kind": "half_answer"}])).await;
        let error = far.broken(&n.to_string(), Duration::from_secs(30)).await;
        assert!(!error.is_timeout() && !error.is_connect(), "{error:?}");
        *if error.is_request() { &mut in_head } else { &mut in_body } += 1;
    }
    assert!(in_head > 0 && in_body > 0, "{in_head} {in_body}");
    assert_eq!(far.simulator.ledger().len(), 40);
    assert_eq!(far.keyed("0", "Hi").await.message_id(), far.simulator.ledger()[0].message_id);
}

#[tokio::test]
async fn a_hang_outlasts_its_caller_and_leaves_no_message() {
    let far = far(plain()).await;
    far.next(json!([{"kind": "hang"}])).await;
    assert!(far.broken("k", Duration::from_millis(500)).await.is_timeout());
    assert!(far.simulator.ledger().is_empty());
    assert_eq!(far.simulator.handle().calls().faults["hang"], 1);
    assert_eq!(far.keyed("k", "Hi").await.status, 200);
}

#[tokio::test]
async fn a_delayed_answer_outlasts_its_caller_and_the_message_is_accepted() {
    let far = far(plain()).await;
    far.next(json!([{"kind": "delay", "ms": 600_000}])).await;
    assert!(far.broken("k", Duration::from_millis(500)).await.is_timeout());
    assert_eq!(far.simulator.ledger().len(), 1);
}

#[tokio::test]
async fn a_phones_fault_lasts_until_it_is_cleared_and_meets_nobody_else() {
    let far = far(plain()).await;
    let failing = json!({"phones": {PHONE: {"kind": "error", "code": 4001}}});
    far.admin(Method::PUT, "/faults", failing).await;
    for _ in 0..2 {
        assert_eq!(far.text(PHONE, "Hi").await.code(), 4001);
    }
    assert_eq!(far.text(&phone(1), "Hi").await.status, 200);
    far.admin(Method::PUT, "/faults", json!({"phones": {PHONE: null}})).await;
    assert_eq!(far.text(PHONE, "Hi").await.status, 200);
}

#[tokio::test]
async fn a_saturated_line_answers_4002_to_its_phones_and_new_ones_go_elsewhere() {
    let far = far(Options { lines: 2, ..plain() }).await;
    far.text(PHONE, "Hi").await;
    far.admin(Method::PUT, "/faults", json!({"saturated_lines": ["pl_1"]})).await;
    let refused = far.text(PHONE, "Hi").await;
    assert_eq!((refused.code(), &refused.body["retry_after"]), (4002, &json!(30)));
    assert_eq!(far.text(&phone(1), "Hi").await.body["phone_line_id"], "pl_2");
    assert_eq!(far.text(&phone(2), "Hi").await.body["phone_line_id"], "pl_2");
    let all = json!({"saturated_lines": ["pl_1", "pl_2"], "saturated_retry_after": 7});
    far.admin(Method::PUT, "/faults", all).await;
    assert_eq!(far.text(&phone(3), "Hi").await.body["retry_after"], json!(7));
}

#[tokio::test]
async fn an_inactive_line_fails_its_phones_and_takes_no_new_ones() {
    let far = far(Options { lines: 2, ..plain() }).await;
    far.text(PHONE, "Hi").await;
    assert_eq!(far.admin(Method::PUT, "/lines/pl_1", json!({"is_active": false})).await.status, 200);
    assert_eq!(far.admin(Method::PUT, "/lines/pl_3", json!({"is_active": false})).await.status, 404);
    let lines = far.get("/phone-numbers").await.body;
    assert_eq!(lines["phone_numbers"][0]["is_active"], json!(false));
    assert_eq!(lines["phone_numbers"][1]["phone_number"], "+15550100002");
    let refused = far.text(PHONE, "Hi").await;
    assert_eq!((refused.status, refused.code()), (503, 3002));
    assert_eq!(far.text(&phone(1), "Hi").await.body["phone_line_id"], "pl_2");
}

#[tokio::test]
async fn errors_are_remembered_under_the_key_only_if_the_switch_says_so() {
    for (cache_errors, code) in [(false, 0), (true, 4001)] {
        let far = far(Options { cache_errors, ..plain() }).await;
        far.next(json!([{"kind": "error", "code": 4001}])).await;
        assert_eq!(far.keyed("k", "Hi").await.code(), 4001);
        assert_eq!(far.keyed("k", "Hi").await.code(), code);
        assert_eq!(far.simulator.ledger().len(), usize::from(!cache_errors));
    }
}

#[tokio::test]
async fn random_faults_strike_by_their_probability() {
    let far = far(Options { fault_5xx: 1.0, ..plain() }).await;
    for _ in 0..5 {
        let failed = far.text(PHONE, "Hi").await;
        assert!([(500, 3001), (503, 3002), (502, 3004)].contains(&(failed.status, failed.code())));
    }
    far.simulator.set_faults(Faults::default()).expect("no faults are possible");
    assert_eq!(far.text(PHONE, "Hi").await.status, 200);
    assert_eq!(far.simulator.handle().calls().faults["error"], 5);
}

#[tokio::test]
async fn a_message_is_delivered_one_simulated_second_after_it_was_sent() {
    let far_scaled = |time_scale| far(Options { time_scale, ..plain() });
    let slow = far_scaled(0.001).await;
    let sent = slow.text(PHONE, "Hi").await;
    let message = slow.get(&format!("/messages/{}", sent.message_id())).await.body["message"].take();
    assert_eq!((&message["status"], &message["delivered_at"]), (&json!("sent"), &Value::Null));
    assert_eq!((&message["chat_id"], &message["parts"][0]["value"]), (&sent.body["lead_id"], &json!("Hi")));
    let fast = far_scaled(100_000.0).await;
    let sent = fast.text(PHONE, "Hi").await;
    let message = fast.get(&format!("/messages/{}", sent.message_id())).await.body["message"].take();
    assert_eq!(message["status"], "delivered");
    assert!(message["delivered_at"].as_str() >= message["created_at"].as_str());
    let unknown = fast.get("/messages/nothing").await;
    assert_eq!((unknown.status, unknown.code()), (404, 2003));
}

#[tokio::test]
async fn the_ledger_is_read_by_phone_line_and_number_and_counts_what_it_lost() {
    let far = far(Options { lines: 2, ledger_limit: 3, ..plain() }).await;
    for n in 1..=4 {
        far.text(&phone(n), "Hi").await;
    }
    let seqs = async |query: &str| {
        let reply = far.admin(Method::GET, &format!("/ledger{query}"), json!({})).await;
        let messages = reply.body["messages"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|message| message["seq"].as_u64().expect("a number"));
        (messages.collect::<Vec<_>>(), reply.body["dropped"].as_u64().expect("a number"))
    };
    assert_eq!(seqs("").await, (vec![2, 3, 4], 1));
    assert_eq!(seqs("?limit=2").await.0, [3, 4]);
    assert_eq!(seqs("?line=pl_2").await.0, [2, 4]);
    assert_eq!(seqs("?phone=%2B15550140003").await.0, [3]);
    assert_eq!(seqs("?phone=+15550140003").await.0, [3]);
    assert_eq!(far.admin(Method::DELETE, "/ledger", json!({})).await.status, 204);
    assert_eq!(seqs("").await, (vec![], 0));
}

#[tokio::test]
async fn calls_count_what_happened() {
    let far = far(plain()).await;
    far.keyed("k", "Hi").await;
    far.keyed("k", "Hi").await;
    far.text(PHONE, "").await;
    far.get("/phone-numbers").await;
    far.next(json!([{"kind": "html"}])).await;
    far.text(PHONE, "Hi").await;
    let calls = far.admin(Method::GET, "/calls", json!({})).await.body;
    let expected = json!({"requests": 5, "sends": 4, "sent": 1, "replays": 1, "duplicates": 0,
        "codes": {"1001": 1}, "faults": {"html": 1}});
    assert_eq!(calls, expected);
    assert_eq!(far.admin(Method::GET, "/health", json!({})).await.body["status"], "ok");
}

#[tokio::test]
async fn impossible_faults_are_refused_and_change_nothing() {
    let far = far(plain()).await;
    for change in [json!({"html": 2}), json!({"misspelt": 1}), json!({"next": [{"kind": "delay"}]})] {
        assert_eq!(far.admin(Method::PUT, "/faults", change).await.status, 400);
    }
    assert_eq!(far.simulator.handle().faults(), Faults::default());
    let faults = Options { fault_html: 0.7, fault_drop_after: 0.7, ..plain() };
    assert!(matches!(start(faults).await, Err(StartError::Faults(FaultsError::Probabilities))));
}

#[tokio::test]
async fn shutdown_cuts_open_calls_and_frees_the_port() {
    let far = far(Options { latency: Duration::from_secs(600), ..plain() }).await;
    let (addr, handle) = (far.simulator.addr(), far.simulator.handle());
    let url = far.simulator.base_url() + "/send";
    let request = json!({"phone": PHONE, "body": "Hi"}).to_string();
    let call = tokio::spawn(far.http.post(url).bearer_auth(DEFAULT_SECRET).body(request).send());
    while handle.ledger_len() == 0 {
        tokio::task::yield_now().await;
    }
    far.simulator.shutdown().await;
    assert!(!call.await.expect("no panic").expect_err("it was cut off").is_timeout());
    assert_eq!(handle.ledger_len(), 1, "the ledger outlives it");
    start(Options { port: addr.port(), ..plain() }).await.expect("its port is free again");
}

#[tokio::test]
async fn a_closed_port_refuses_callers_and_opens_again_with_everything_it_knew() {
    let mut far = far(plain()).await;
    let first = far.keyed("k", "Hi").await;
    for _ in 0..2 {
        far.simulator.close().await.expect("it closes");
        assert!(far.broken("k", Duration::from_secs(30)).await.is_connect());
        far.simulator.open().expect("it opens again");
        assert_eq!(far.keyed("k", "Hi").await.message_id(), first.message_id());
    }
    assert_eq!(far.simulator.ledger().len(), 1);
}
