//! Deliveries: signed, tried again, replayed, and lost where that was asked for.

use std::collections::BTreeSet;

use super::*;
use crate::chert::auth;

#[tokio::test]
async fn a_webhook_carries_both_signatures_and_the_version_that_was_asked_for() {
    let far = far(quick()).await;
    let mut receiver = Receiver::start(&[]).await;
    let one = far.subscribe(json!({"url": receiver.url, "version": "2026-05-04"})).await;
    let seq = far.hear();
    let got = receiver.next().await;
    let secret = one["secret"].as_str().expect("a text");
    let modern =
        got.header("x-webhook-signature").strip_prefix("t=").expect("a time").split_once(",v1=").expect("a code");
    let legacy =
        got.header("x-chert-signature").strip_prefix("v1,").expect("a version").split_once(',').expect("a code");
    assert_eq!(modern, legacy);
    let unix_secs: i64 = modern.0.parse().expect("a number");
    assert!((system_time().timestamp() - unix_secs).abs() < 60);
    assert!(auth::verify(secret, unix_secs, &got.body, modern.1));
    let event = &far.simulator.handle().events()[0];
    assert_eq!(got.header("x-webhook-event"), "message.received");
    assert_eq!(got.header("x-webhook-event-id"), event.event_id);
    assert_eq!(got.header("x-webhook-subscription-id"), one["id"].as_str().expect("a text"));
    let body = got.json();
    assert_eq!((&body["event_id"], &body["webhook_version"]), (&json!(event.event_id), &json!("2026-05-04")));
    let delivery = far.ended(seq).await;
    assert_eq!((delivery.status(), delivery.url.as_deref()), (EventStatus::Delivered, Some(receiver.url.as_str())));
    assert!(delivery.delivered_at.is_some());
    assert_eq!(far.get("/events?status=delivered").await.body["count"], json!(1));
}

#[tokio::test]
async fn five_hundreds_are_tried_three_times_and_everything_else_once() {
    for (statuses, tried, status) in [
        (&[500, 503][..], 3, EventStatus::Delivered),
        (&[500, 503, 502], 3, EventStatus::Failed),
        (&[400], 1, EventStatus::Failed),
        (&[429], 1, EventStatus::Failed),
        (&[302], 1, EventStatus::Failed),
        (&[204], 1, EventStatus::Delivered),
    ] {
        let far = far(quick()).await;
        let receiver = Receiver::start(statuses).await;
        far.subscribe(json!({"url": receiver.url})).await;
        let seq = far.hear();
        let delivery = far.ended(seq).await;
        assert_eq!((delivery.attempts.len(), delivery.status()), (tried, status), "{statuses:?}");
        assert_eq!(delivery.attempts[0].status, Some(statuses[0]));
    }
}

#[tokio::test]
async fn nobody_there_is_tried_three_times_and_silence_is_a_timeout() {
    let far = far(quick()).await;
    // Nobody listens there, and nobody else can.
    let closed = TcpSocket::new_v4().expect("a socket");
    closed.bind("127.0.0.1:0".parse().expect("an address")).expect("a port is free");
    far.subscribe(json!({"url": format!("http://{}/", closed.local_addr().expect("bound"))})).await;
    let seq = far.hear();
    let attempts = far.ended(seq).await.attempts;
    assert_eq!(attempts.iter().map(|attempt| attempt.error).collect::<Vec<_>>(), [Some("unreachable"); 3]);

    let webhooks = WebhookOptions {
        webhook_waits: vec![Duration::ZERO],
        webhook_timeout: Duration::from_millis(50),
        ..WebhookOptions::default()
    };
    let far = super::far(Options { webhooks, ..plain() }).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    far.subscribe(json!({"url": format!("http://{}/", silent.local_addr().expect("bound"))})).await;
    let seq = far.hear();
    assert_eq!(far.ended(seq).await.attempts[0].error, Some("timeout"));
}

#[tokio::test]
async fn a_replay_is_signed_afresh_keeps_the_event_id_and_mends_the_status() {
    let far = far(quick()).await;
    let mut receiver = Receiver::start(&[400, 503]).await;
    let one = far.subscribe(json!({"url": receiver.url})).await;
    let seq = far.hear();
    assert_eq!(far.ended(seq).await.status(), EventStatus::Failed);
    let failed = far.replay(seq, "").await;
    assert_eq!((failed.status, failed.code(), &failed.body["downstream_status"]), (502, 3004, &json!(503)));
    assert_eq!((&failed.body["ok"], &failed.body["retryable"]), (&json!(false), &json!(true)));
    assert_eq!(
        failed.headers["x-trace-id"].to_str().expect("a text"),
        failed.body["trace_id"].as_str().expect("a text")
    );
    let query = format!("?subscription_id={}", one["id"].as_str().expect("a text"));
    let replayed = far.replay(seq, &query).await;
    assert_eq!((replayed.status, &replayed.body["ok"]), (200, &json!(true)));
    assert_eq!(replayed.body["event"]["delivery"]["status"], "delivered");
    let ids: Vec<Value> = [receiver.next().await, receiver.next().await, receiver.next().await]
        .map(|got| got.json()["event_id"].take())
        .into();
    assert!(ids.iter().all(|id| *id == ids[0]));
    assert_eq!(far.replay(seq, "?subscription_id=other").await.code(), 1002);
    let unknown = far.api(Method::POST, "/events/evt_0/replay", json!({})).await;
    assert_eq!((unknown.status, unknown.code(), &unknown.body["ok"]), (404, 2011, &json!(false)));
}

#[tokio::test]
async fn faults_lose_double_and_hold_back_and_change_the_shape() {
    let far = far(quick()).await;
    let mut receiver = Receiver::start(&[]).await;
    far.subscribe(json!({"url": receiver.url})).await;
    let fault = async |change: Value| {
        let changed = far.admin(Method::PUT, "/webhooks", change).await;
        assert_eq!(changed.status, 200, "{}", changed.body);
    };
    fault(json!({"loss": 1})).await;
    let lost = far.hear();
    fault(json!({"loss": 0, "double": 1, "shape": "row"})).await;
    let doubled = far.hear();
    let (one, other) = (receiver.next().await.json(), receiver.next().await.json());
    assert_eq!(one, other);
    assert_eq!(one["event_id"], one["payload"]["event_id"]);
    assert_eq!(far.ended(doubled).await.attempts.len(), 2);
    assert!(far.simulator.handle().events()[lost as usize - 1].delivery.attempts.is_empty());

    fault(json!({"double": 0, "reorder": 1, "reorder_by_ms": 40})).await;
    let seqs: Vec<u64> = (0..50).map(|_| far.hear()).collect();
    let mut told = Vec::new();
    for _ in &seqs {
        told.push(receiver.next().await.json()["event_id"].take());
    }
    let events = far.simulator.handle().events();
    let in_order: Vec<Value> = seqs.iter().map(|seq| json!(events[*seq as usize - 1].event_id)).collect();
    assert_ne!(told, in_order);
    assert!(in_order.iter().all(|id| told.contains(id)));

    for change in [json!({"loss": 2}), json!({"misspelt": 1}), json!({"shape": "x"})] {
        assert_eq!(far.admin(Method::PUT, "/webhooks", change).await.status, 400);
    }
    let wrong = WebhookFaults { double: -0.1, ..WebhookFaults::default() };
    assert_eq!(far.simulator.handle().webhook_faults(wrong), Err(FaultsError::Probabilities));
    assert_eq!(far.admin(Method::GET, "/webhooks", json!({})).await.body["reorder"], json!(1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_webhooks_all_arrive() {
    let far = far(quick()).await;
    let mut receiver = Receiver::start(&[]).await;
    far.subscribe(json!({"url": receiver.url})).await;
    let handle = far.simulator.handle();
    let inbound = Inbound { phone: PHONE.into(), ..Inbound::default() };
    let sent: BTreeSet<String> = (0..2000).map(|_| handle.receive(&inbound).expect("it is received")).collect();
    let mut told = BTreeSet::new();
    for _ in 0..2000 {
        told.insert(receiver.next().await.json()["event_id"].as_str().expect("a text").to_owned());
    }
    assert_eq!(told, sent);
}

#[tokio::test]
async fn a_simulator_that_is_gone_tells_nobody() {
    let far = far(quick()).await;
    let receiver = Receiver::start(&[]).await;
    far.subscribe(json!({"url": receiver.url})).await;
    let handle = far.simulator.handle();
    far.simulator.shutdown().await;
    handle.receive(&Inbound { phone: PHONE.into(), ..Inbound::default() }).expect("it is received");
    assert_eq!(handle.events().len(), 1, "the log outlives it");
    until(|| Arc::strong_count(&handle.shared) == 1).await;
    assert!(receiver.got.is_empty());
}
