//! What a request is answered.

use super::*;

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
