//! The stream of events, and how it ends.

use super::*;

#[tokio::test]
async fn the_stream_tells_what_happens_and_of_the_past_only_what_since_asks_for() {
    let far = far(plain()).await;
    let old = far.receive(PHONE, "Old");
    let newer = far.receive(PHONE, "Newer");
    let mut fresh = far.stream("").await;
    let since = far.simulator.handle().events()[0].created_at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
    let mut resumed = far.stream(&format!("?since={since}")).await;
    let now = far.receive(PHONE, "Now");
    assert_eq!(fresh.data().await["event_id"], json!(now));
    let row = resumed.data().await;
    assert_eq!((&row["event_id"], &row["payload"]["event_id"]), (&json!(newer), &json!(newer)));
    assert_eq!(resumed.data().await["event_id"], json!(now));
    assert_ne!(old, newer);
    assert_eq!(far.get("/events/stream?since=yesterday").await.code(), 1002);
    let closed = far.call(Method::GET, far.simulator.base_url() + "/events/stream", &[], String::new()).await;
    assert_eq!(closed.code(), 2012);
}

#[tokio::test]
async fn the_stream_beats_while_nothing_happens_and_ends_with_a_word() {
    let (life, heartbeat) = (Duration::from_secs(1), Duration::from_millis(20));
    let options = EventOptions { stream_life: life, stream_heartbeat: heartbeat, ..EventOptions::default() };
    let far = far(events(options)).await;
    let mut lines = far.stream("").await;
    let mut all = Vec::new();
    while let Some(line) = lines.next().await {
        all.push(line);
    }
    let beats = all.iter().filter(|line| *line == ": heartbeat").count();
    assert!((1..=50).contains(&beats), "{all:?}");
    assert_eq!(all[beats..], ["event: close", "data: {}"]);
}

#[tokio::test]
async fn a_stream_ends_in_time_however_much_there_is_to_tell() {
    let far = far(events(EventOptions { stream_life: Duration::from_millis(20), ..EventOptions::default() })).await;
    for _ in 0..20_000 {
        far.receive(PHONE, "Hi");
    }
    let mut lines = far.stream("?since=1970-01-01T00:00:00Z").await;
    let (mut told, mut last) = (0, String::new());
    while let Some(line) = lines.next().await {
        told += 1;
        last = line;
    }
    assert_eq!(last, "data: {}");
    assert!(told < 20_000, "{told}");
}

#[tokio::test]
async fn the_stream_tells_envelopes_if_the_switch_says_so() {
    let options = EventOptions { stream_shape: EventShape::Envelope, ..EventOptions::default() };
    let far = far(events(options)).await;
    let mut lines = far.stream("").await;
    let event_id = far.receive(PHONE, "Hi");
    let envelope = lines.data().await;
    assert_eq!((&envelope["event_id"], &envelope["payload"]), (&json!(event_id), &Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_thousand_messages_are_received_and_streamed_in_order() {
    let far = far(plain()).await;
    let mut lines = far.stream("").await;
    let handle = far.simulator.handle();
    let writing = tokio::task::spawn_blocking(move || {
        (0..20_000)
            .map(|n| handle.receive(&inbound(&phone(n % 1000), "Hi")).expect("it is received"))
            .collect::<Vec<_>>()
    });
    let mut told = Vec::new();
    while told.len() < 20_000 {
        told.push(lines.data().await["event_id"].as_str().expect("a text").to_owned());
    }
    assert_eq!(told, writing.await.expect("it does not panic"));
}
