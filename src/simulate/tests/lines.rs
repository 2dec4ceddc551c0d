//! Lines: which one a message goes by, and when none has room.

use futures_util::future::{join, join_all};

use super::*;

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
