//! What becomes of a message, and what its recipient does.

use std::collections::BTreeMap;

use super::*;

fn messages(messages: MessageOptions) -> Options {
    Options { messages, ..plain() }
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
async fn a_message_comes_to_the_states_that_its_shares_say() {
    let message = async |options: MessageOptions| {
        let far = far(Options { time_scale: 100_000.0, ..messages(options) }).await;
        let sent = far.text(PHONE, "Hi").await;
        far.get(&format!("/messages/{}", sent.message_id())).await.body["message"].take()
    };
    let read_after = Duration::ZERO;
    let read = message(MessageOptions { read_share: 1.0, read_after, ..MessageOptions::default() }).await;
    assert_eq!(read["status"], "delivered");
    assert!(read["read_at"].as_str() >= read["delivered_at"].as_str());
    assert!(read["delivered_at"].as_str() >= read["created_at"].as_str());
    let failed = message(MessageOptions { failed_share: 1.0, ..MessageOptions::default() }).await;
    assert_eq!((&failed["status"], &failed["delivered_at"]), (&json!("failed"), &Value::Null));
    let stuck = message(MessageOptions { undelivered_share: 1.0, ..MessageOptions::default() }).await;
    assert_eq!((&stuck["status"], &stuck["delivered_at"]), (&json!("sent"), &Value::Null));
}

#[tokio::test]
async fn a_message_is_told_bare_and_late_if_the_switches_say_so() {
    let bare = far(messages(MessageOptions { message_shape: MessageShape::Bare, ..MessageOptions::default() })).await;
    let sent = bare.text(PHONE, "Hi").await;
    let message = bare.get(&format!("/messages/{}", sent.message_id())).await;
    assert_eq!((message.status, &message.body["id"]), (200, &sent.body["message_id"]));
    let late =
        far(messages(MessageOptions { message_lag: Duration::from_secs(600), ..MessageOptions::default() })).await;
    let sent = late.text(PHONE, "Hi").await;
    let message = late.get(&format!("/messages/{}", sent.message_id())).await;
    assert_eq!((message.status, message.code()), (404, 2003));
}

#[tokio::test]
async fn a_message_is_brought_to_a_state_by_hand() {
    let far = far(Options { time_scale: 0.001, ..plain() }).await;
    let sent = far.text(PHONE, "Hi").await;
    let route = format!("/messages/{}", sent.message_id());
    for (status, told, is_read) in
        [("delivered", "delivered", false), ("read", "delivered", true), ("failed", "failed", false)]
    {
        assert_eq!(far.admin(Method::PUT, &route, json!({"status": status})).await.status, 200);
        let message = far.get(&route).await.body["message"].take();
        assert_eq!((&message["status"], message["read_at"].is_string()), (&json!(told), is_read));
    }
    assert!(far.simulator.handle().events().is_empty(), "Chert names no such events");
}

#[tokio::test]
async fn delivery_events_come_once_each_if_asked_for() {
    let options = EventOptions { delivery_events: true, ..EventOptions::default() };
    let messages = MessageOptions { read_share: 1.0, ..MessageOptions::default() };
    let far = far(Options { time_scale: 100.0, messages, ..events(options) }).await;
    let mut lines = far.stream("").await;
    let sent = far.text(PHONE, "Hi").await;
    let delivered = lines.data().await;
    assert_eq!(delivered["type"], "message.delivered");
    let message = &delivered["payload"]["data"]["message"];
    assert_eq!((&message["id"], &message["status"]), (&sent.body["message_id"], &json!("delivered")));
    assert!(message["delivered_at"].is_string() && message["read_at"].is_null());
    assert_eq!(lines.data().await["type"], "message.read");
}

#[tokio::test]
async fn scripted_recipients_do_what_their_numbers_say() {
    let messages = MessageOptions { recipients: Recipients::Scripted, ..MessageOptions::default() };
    let far = far(Options { time_scale: 1000.0, messages, ..plain() }).await;
    let mut lines = far.stream("").await;
    for n in 0..100 {
        far.text(&phone(n), "Hi").await;
    }
    let mut said = BTreeMap::<String, Vec<String>>::new();
    for _ in 0..20 + 10 + 5 + 10 + 5 + 10 + 5 + 5 {
        let row = lines.data().await;
        let data = &row["payload"]["data"];
        let from =
            data["message"]["sender_handle"].as_object().or(data["sender_handle"].as_object()).expect("a sender");
        let text = data["message"]["parts"][0]["value"].as_str().map(str::to_owned);
        let what = text.unwrap_or_else(|| format!("{} {}", row["type"], data["reaction"]).replace('"', ""));
        said.entry(from["handle"].as_str().expect("a text").to_owned()).or_default().push(what);
    }
    let of = |n: usize| said.get(&phone(n)).cloned().unwrap_or_default();
    assert!((0..40).all(|n| of(n).is_empty()));
    assert_eq!(of(40), ["Yes please"]);
    assert_eq!((60..70).flat_map(of).collect::<Vec<_>>(), STOPS);
    assert_eq!(of(70), ["reaction.added love"]);
    assert_eq!(of(79), ["reaction.added like", "reaction.removed like"]);
    assert_eq!(of(80), ["Is this the right number?"]);
    assert_eq!(of(85), ["STOP", "START"]);
    assert_eq!(of(90), ["please remove me"]);
    assert_eq!(of(99), ["Tell me more"]);
    let ledger = far.simulator.ledger();
    assert_eq!(ledger.iter().filter(|entry| !entry.first_touch).count(), 5, "who wrote before we did");

    far.text(&phone(40), "Ho").await;
    far.text(&phone(99), "Ho").await;
    let row = lines.data().await;
    assert_eq!(row["payload"]["data"]["message"]["sender_handle"]["handle"], json!(phone(99)));
}
