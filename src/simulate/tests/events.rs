//! Events from the outside: the list, and what is made to happen by hand.

use super::*;

impl Far {
    /// The `event_id`s of a page, and its cursor.
    async fn page(&self, query: &str) -> (Vec<String>, Value) {
        let Reply { status, body, .. } = self.get(&format!("/events{query}")).await;
        assert_eq!(status, 200, "{body}");
        let events = body["events"].as_array().expect("a list");
        assert_eq!(body["count"], json!(events.len()));
        let ids = events.iter().map(|event| event["event_id"].as_str().expect("a text").to_owned()).collect();
        (ids, body["next_cursor"].clone())
    }
}

#[tokio::test]
async fn an_inbound_message_is_an_event_in_the_documented_envelope() {
    let far = far(plain()).await;
    let sent = far.text(PHONE, "Hi").await;
    let wish = json!({"phone": PHONE, "text": "yes please", "attachments": ["in_1"]});
    let received = far.admin(Method::POST, "/receive", wish).await;
    let page = far.get("/events").await.body;
    let row = &page["events"][0];
    assert_eq!((&row["type"], &row["event_id"]), (&json!("message.received"), &received.body["event_id"]));
    assert_eq!((&row["lead_id"], &row["convo_id"]), (&sent.body["lead_id"], &sent.body["convo_id"]));
    assert!(row["id"].as_str().expect("a text").starts_with("evt_"));
    assert!(row["event_id"].as_str().expect("a text").starts_with("chert:msg:"));
    assert_eq!(row["delivery"], json!({"status": "pending", "url": null, "attempts": [], "delivered_at": null}));
    let envelope = &row["payload"];
    for (field, value) in [
        ("event", json!("message.received")),
        ("event_type", json!("message.received")),
        ("event_id", row["event_id"].clone()),
        ("api_version", json!("v1")),
        ("partner_id", json!("acme")),
    ] {
        assert_eq!(envelope[field], value, "{field}");
    }
    let (chat, message) = (&envelope["data"]["chat"], &envelope["data"]["message"]);
    assert_eq!((&chat["id"], &chat["owner_handle"]["handle"]), (&sent.body["lead_id"], &json!("+15550100001")));
    assert_eq!((&message["direction"], &message["sender_handle"]["handle"]), (&json!("inbound"), &json!(PHONE)));
    let parts = json!([{"type": "text", "value": "yes please"}, {"type": "media", "attachment_id": "in_1"}]);
    assert_eq!(message["parts"], parts);
    let one = far.get(&format!("/events/{}", row["id"].as_str().expect("a text"))).await;
    assert_eq!((one.status, &one.body), (200, row));
    assert_eq!(far.get("/events/evt_0").await.code(), 2011);
    assert_eq!(far.admin(Method::GET, "/events?limit=1", json!({})).await.body["events"], page["events"]);
}

#[tokio::test]
async fn the_list_goes_from_new_to_old_by_cursor_and_stops_at_since() {
    let far = far(plain()).await;
    let ids: Vec<String> = (0..5).map(|n| far.receive(&phone(n), "Hi")).collect();
    let newest = |range: std::ops::Range<usize>| ids[range].iter().rev().cloned().collect::<Vec<_>>();
    assert_eq!(far.page("").await, (newest(0..5), Value::Null));
    let (first, cursor) = far.page("?limit=2").await;
    assert_eq!(first, newest(3..5));
    far.receive(PHONE, "Meanwhile");
    let (second, cursor) = far.page(&format!("?limit=3&cursor={}", cursor.as_str().expect("a text"))).await;
    assert_eq!((second, cursor), (newest(0..3), Value::Null));
    let since = far.get("/events?limit=4").await.body["events"][3]["created_at"].as_str().expect("a text").to_owned();
    assert_eq!(far.page(&format!("?since={since}")).await.0.len(), 3, "strictly after");
    let lead = far.simulator.handle().events()[1].lead_id;
    assert_eq!(far.page(&format!("?lead_id={lead}")).await.0, newest(1..2));
    assert_eq!(far.page("?type=reaction.added").await.0.len(), 0);
    assert_eq!(far.page("?status=pending&type=message.received").await.0.len(), 6);
    for query in ["?limit=0", "?limit=201", "?limit=x", "?since=yesterday", "?status=lost", "?cursor=x"] {
        let refused = far.get(&format!("/events{query}")).await;
        assert_eq!((refused.status, refused.code()), (400, 1002), "{query}");
    }
}

#[tokio::test]
async fn whoever_writes_first_has_a_lead_and_a_pin_and_is_touched_by_nobody() {
    let far = far(Options { lines: 2, first_touch_cap: Cap(Some(0)), ..plain() }).await;
    assert_eq!(far.text(PHONE, "Hi").await.code(), 4002);
    far.simulator
        .handle()
        .receive(&Inbound { line: Some("pl_2".into()), ..inbound(PHONE, "Hello?") })
        .expect("it is received");
    let sent = far.text(PHONE, "Hi").await;
    assert_eq!((&sent.body["lead_created"], &sent.body["phone_line_id"]), (&json!(false), &json!("pl_2")));
    assert!(!far.simulator.ledger()[0].first_touch);
    assert_eq!(sent.body["lead_id"], json!(far.simulator.handle().events()[0].lead_id.to_string()));
}

#[tokio::test]
async fn what_makes_no_sense_is_not_received() {
    let far = far(plain()).await;
    for wish in [json!({}), json!({"phone": "1"}), json!({"phone": PHONE, "line": "pl_9"}), json!({"phnoe": PHONE})] {
        assert_eq!(far.admin(Method::POST, "/receive", wish.clone()).await.status, 400, "{wish}");
    }
    assert_eq!(far.simulator.handle().react(&Reaction::default()), Err(InboundError::Message));
    assert_eq!(far.admin(Method::PUT, "/messages/0", json!({"status": "read"})).await.status, 404);
    assert!(far.simulator.handle().events().is_empty());
}

#[tokio::test]
async fn a_reaction_is_an_event_about_the_last_message_or_the_one_that_is_named() {
    let far = far(plain()).await;
    let (first, second) = (far.text(PHONE, "1").await, far.text(PHONE, "2").await);
    far.admin(Method::POST, "/react", json!({"phone": PHONE})).await;
    let named = json!({"phone": PHONE, "message_id": first.message_id(), "reaction": "laugh", "removed": true});
    far.admin(Method::POST, "/react", named).await;
    let rows = far.get("/events").await.body;
    let told = |n: usize| (&rows["events"][n]["type"], &rows["events"][n]["payload"]["data"]);
    let ((added, love), (removed, laugh)) = (told(1), told(0));
    assert_eq!((added, &love["reaction"]), (&json!("reaction.added"), &json!("love")));
    assert_eq!(love["message"]["id"], second.message_id());
    assert_eq!((removed, &laugh["reaction"]), (&json!("reaction.removed"), &json!("laugh")));
    assert_eq!(laugh["message"]["id"], first.message_id());
}

#[tokio::test]
async fn other_types_come_beside_a_message_only_if_asked_for() {
    let far = far(events(EventOptions { lead_replies: true, unknown_events: true, ..EventOptions::default() })).await;
    let event_id = far.receive(PHONE, "Hi");
    let told = far.simulator.handle().events();
    let kinds: Vec<_> = told.iter().map(|event| event.kind).collect();
    assert_eq!(kinds, ["message.received", "lead_reply", "conversation.reviewed"]);
    assert!(told[1..].iter().all(|event| event.event_id != event_id));
}
