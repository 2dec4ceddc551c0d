//! Faults that were asked for: what the caller meets, and whether there is a message.

use super::*;

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
async fn impossible_faults_are_refused_and_change_nothing() {
    let far = far(plain()).await;
    for change in [json!({"html": 2}), json!({"misspelt": 1}), json!({"next": [{"kind": "delay"}]})] {
        assert_eq!(far.admin(Method::PUT, "/faults", change).await.status, 400);
    }
    assert_eq!(far.simulator.handle().faults(), Faults::default());
    let faults = Options { fault_html: 0.7, fault_drop_after: 0.7, ..plain() };
    assert!(matches!(start(faults).await, Err(StartError::Faults(FaultsError::Probabilities))));
}
