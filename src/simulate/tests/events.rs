//! Events from the outside: the list, the stream, and what is made to happen by hand.

use std::collections::{BTreeMap, VecDeque};

use super::*;

/// The text of a stream, line by line.
struct Lines {
    response: reqwest::Response,
    whole: VecDeque<String>,
    /// The last line, which may go on.
    rest: String,
}

impl Lines {
    /// The next line that is not empty; `None` at the end.
    async fn next(&mut self) -> Option<String> {
        while self.whole.is_empty() {
            let piece = self.response.chunk().await.expect("it reads")?;
            self.rest.push_str(std::str::from_utf8(&piece).expect("UTF-8"));
            let rest = self.rest.rfind('\n').map_or(0, |end| end + 1);
            let rest = self.rest.split_off(rest);
            let whole = std::mem::replace(&mut self.rest, rest);
            self.whole.extend(whole.lines().filter(|line| !line.is_empty()).map(str::to_owned));
        }
        self.whole.pop_front()
    }

    async fn data(&mut self) -> Value {
        let line = self.next().await.expect("a line");
        serde_json::from_str(line.strip_prefix("data: ").unwrap_or_else(|| panic!("no data: {line}"))).expect("JSON")
    }
}

impl Far {
    /// Opens a stream; from here on it misses nothing.
    async fn stream(&self, query: &str) -> Lines {
        let url = format!("{}/events/stream{query}", self.simulator.base_url());
        let response = self.http.get(url).bearer_auth(DEFAULT_SECRET).send().await.expect("it answers");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Lines { response, whole: VecDeque::new(), rest: String::new() }
    }

    fn receive(&self, phone: &str, text: &str) -> String {
        self.simulator.handle().receive(&inbound(phone, text)).expect("it is received")
    }

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

fn inbound(phone: &str, text: &str) -> Inbound {
    Inbound { phone: phone.into(), text: Some(text.into()), ..Inbound::default() }
}

fn messages(messages: MessageOptions) -> Options {
    Options { messages, ..plain() }
}

fn events(events: EventOptions) -> Options {
    Options { events, ..plain() }
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
