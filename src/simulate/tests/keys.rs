//! Idempotency keys, and texts that repeat: what is one message, and what is another.

use futures_util::future::{join, join_all};

use super::*;

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
async fn errors_are_remembered_under_the_key_only_if_the_switch_says_so() {
    for (cache_errors, code) in [(false, 0), (true, 4001)] {
        let far = far(Options { cache_errors, ..plain() }).await;
        far.next(json!([{"kind": "error", "code": 4001}])).await;
        assert_eq!(far.keyed("k", "Hi").await.code(), 4001);
        assert_eq!(far.keyed("k", "Hi").await.code(), code);
        assert_eq!(far.simulator.ledger().len(), usize::from(!cache_errors));
    }
}
