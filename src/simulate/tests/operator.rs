//! What an operator asks of it, and what is left of it when it ends.

use super::*;

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
