//! What becomes of messages, as their lookup tells it.

use super::*;

fn messages(messages: MessageOptions) -> Options {
    Options { messages, ..plain() }
}

#[tokio::test]
async fn a_message_comes_to_the_states_that_its_shares_say() {
    let message = async |options: MessageOptions| {
        let far = far(Options { time_scale: 100_000.0, ..messages(options) }).await;
        let sent = far.text(PHONE, "Hi").await;
        far.get(&format!("/messages/{}", sent.message_id())).await.body["message"].take()
    };
    let read = message(MessageOptions { read_share: 1.0, ..MessageOptions::default() }).await;
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
