//! Subscriptions: made, shown, changed; and who gets what.

use super::*;

#[tokio::test]
async fn a_secret_is_shown_once_and_a_repeat_makes_another_subscription() {
    let far = far(plain()).await;
    let wish = json!({"url": "https://worker.example/hooks", "events": ["message.received"]});
    let one = far.subscribe(wish.clone()).await;
    assert_eq!(one["secret"].as_str().expect("a text").len(), 64);
    assert_eq!((&one["version"], &one["is_active"]), (&json!("2026-04-01"), &json!(true)));
    let other = far.subscribe(wish).await;
    assert_ne!((&one["id"], &one["secret"]), (&other["id"], &other["secret"]));
    let route = format!("/webhook-subscriptions/{}", one["id"].as_str().expect("a text"));
    let listed = far.get("/webhook-subscriptions").await.body;
    assert_eq!(listed["subscriptions"].as_array().expect("a list").len(), 2);
    let changed = far.api(Method::PATCH, &route, json!({"version": "2026-05-04", "is_active": false})).await.body;
    assert_eq!(
        (&changed["subscription"]["version"], &changed["subscription"]["url"]),
        (&json!("2026-05-04"), &one["url"])
    );
    let told = far.get(&route).await.body;
    assert_eq!(told, changed);
    for text in [&listed, &told] {
        assert!(!text.to_string().contains("secret"));
    }
    assert_eq!(far.api(Method::DELETE, &route, json!({})).await.status, 200);
    assert_eq!(far.get(&route).await.code(), 2011);
    for (wish, code) in [(json!({}), 1001), (json!({"url": "http://worker.example"}), 1002), (json!({"url": 7}), 1002)]
    {
        assert_eq!(far.api(Method::POST, "/webhook-subscriptions", wish).await.code(), code);
    }
    let foreign = far.call(Method::GET, far.simulator.base_url() + "/webhook-subscriptions", &[], String::new()).await;
    assert_eq!(foreign.code(), 2012);
}

#[tokio::test]
async fn each_subscription_gets_what_it_wants_and_a_switched_off_one_nothing() {
    let far = far(quick()).await;
    let (mut all, mut reactions, off) =
        (Receiver::start(&[]).await, Receiver::start(&[]).await, Receiver::start(&[]).await);
    far.subscribe(json!({"url": all.url})).await;
    far.subscribe(json!({"url": reactions.url, "events": ["reaction.added"]})).await;
    let one = far.subscribe(json!({"url": off.url})).await;
    let route = format!("/webhook-subscriptions/{}", one["id"].as_str().expect("a text"));
    far.api(Method::PATCH, &route, json!({"is_active": false})).await;
    far.text(PHONE, "Hi").await;
    let heard = far.hear();
    far.simulator.handle().react(&Reaction { phone: PHONE.into(), ..Reaction::default() }).expect("it reacts");
    far.ended(heard).await;
    far.ended(heard + 1).await;
    let mut kinds = vec![all.next().await.json()["event"].take(), all.next().await.json()["event"].take()];
    kinds.sort_by_key(|kind| kind.to_string());
    assert_eq!(kinds, ["message.received", "reaction.added"]);
    assert_eq!(reactions.next().await.json()["event"], "reaction.added");
    assert!(reactions.got.is_empty() && off.got.is_empty());
}

#[tokio::test]
async fn the_dev_inbox_takes_events_down_and_sends_none() {
    let far = far(quick()).await;
    far.hear();
    far.subscribe(json!({"url": "https://dev-inbox"})).await;
    let seq = far.hear();
    let taken = far.get("/dev-inbox").await.body;
    assert_eq!((&taken["count"], &taken["events"][0]["delivery"]["status"]), (&json!(1), &json!("dev_inbox")));
    assert_eq!(far.get("/events?status=dev_inbox").await.body["events"], taken["events"]);
    let refused = far.replay(seq, "").await;
    assert_eq!((refused.status, refused.code(), &refused.body["ok"]), (400, 1002, &json!(false)));
}
