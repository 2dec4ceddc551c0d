//! Enrolments that go on with another version: by hand, beside engines, and never to what they had.

use std::time::Duration;

use chert_outbox::outbox::campaigns::moving::move_some;

use crate::campaign::{ANN, BOB, CID, DOT, THREE, file};
use crate::harness::Harness;

const OLD: &str = "[{ send: { body: a }, name: a }, { wait: 1d }, { send: { body: b }, name: b }, { wait: 1d }, { send: { body: c }, name: c }]";
const NEW: &str = "[{ send: { body: c }, name: c }, { wait: 1d }, { send: { body: d }, name: d }]";

async fn migrate(it: &Harness, args: &[&str]) -> (i32, String, String) {
    it.run(&[&["campaign", "migrate", "drip"], args].concat()).await
}

/// Lets everybody have their next message, and come to rest behind it.
async fn a_day_passes(it: &Harness) {
    let engine = it.engine();
    it.time_passes().await;
    it.settle(&engine).await;
    it.drain().await;
    it.settle(&engine).await;
}

#[tokio::test]
async fn who_stands_where_the_new_version_has_nothing_is_told_and_nobody_is_moved() {
    let it = Harness::start().await;
    it.apply(&file("", OLD)).await;
    it.enrol(ANN).await;
    a_day_passes(&it).await;
    it.enrol(BOB).await;
    it.settle(&it.engine()).await;
    let (code, told, error) = migrate(&it, &[]).await;
    assert!(code == 0 && told.contains("nobody runs with an older version of drip"), "{told} {error}");
    it.apply(&file("", NEW)).await;
    let (code, _, error) = migrate(&it, &["--yes"]).await;
    assert_eq!(code, 1);
    for told in [
        "nobody was moved",
        "1 person at `a` of version 1: the new version has no step `a`: add --map a=STEP, or a=end",
        "1 person at `b` of version 1: the new version has no step `b`",
    ] {
        assert!(error.contains(told), "{error}");
    }
    for (map, told) in [
        ("b=x", "version 2 has no step `x`: c, step-2, d, end"),
        ("x=c", "no older version has a step `x`: version 1 has a, step-2, b, step-4, c, end"),
        ("a=c,a=d", "names a step twice"),
    ] {
        let (code, _, error) = migrate(&it, &["--map", map]).await;
        assert!(code == 1 && error.contains(told), "{error}");
    }
    let (code, told, error) = migrate(&it, &["--map", "a=c,b=end"]).await;
    assert!(code == 0 && told.contains("nobody was moved: add --yes to do it"), "{told} {error}");
    assert_eq!(it.text("select distinct version::text from outbox.enrolments").await, "1");
    let (code, ..) = migrate(&it, &["--from", "2"]).await;
    assert_eq!(code, 1, "version 2 is the newest one");
}

#[tokio::test]
async fn everybody_goes_on_where_the_map_says_and_keeps_the_message_that_is_queued() {
    let it = Harness::start().await;
    it.apply(&file("", OLD)).await;
    let engine = it.engine();
    it.enrol(ANN).await;
    a_day_passes(&it).await;
    it.enrol(BOB).await;
    a_day_passes(&it).await;
    it.enrol(CID).await;
    it.settle(&engine).await;
    it.enrol(DOT).await;
    it.execute("update outbox.enrolments set state = 'held', reason = 'unreadable', detail = 'body', due_at = null, ready = false where phone = '+15550142203'").await;
    assert_eq!(it.enrolments().await, "active active active held/unreadable");
    it.apply(&file("", NEW)).await;
    // Ann rests before c, Bob before b, Cid has a in the queue, Dot was held before it.
    let (code, told, error) = migrate(&it, &["--map", "a=c,b=step-2", "--yes", "--json"]).await;
    assert_eq!(code, 0, "{error}");
    let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!((&told["moved"], &told["version"]), (&4.into(), &2.into()), "{told}");
    let under_way = told["people"].as_array().expect("a list").iter().find(|row| row["message_under_way"] == true);
    assert_eq!(under_way.map(|row| (&row["step"], &row["to"])), Some((&"a".into(), &"c".into())), "{told}");
    let rests = "select (due_at = reached_at and due_at > now() + interval '20 hours')::text from outbox.enrolments order by id limit 2";
    assert_eq!(it.text(rests).await, "true true", "until the time that they were told");
    for _ in 0..4 {
        a_day_passes(&it).await;
    }
    assert_eq!(it.enrolments().await, "done done done done");
    let texts = it.texts();
    assert_eq!(texts[ANN], ["a", "b", "c", "d"]);
    assert_eq!(texts[BOB], ["a", "d"]);
    assert_eq!(texts[CID], ["a", "c", "d"], "c follows what was queued");
    assert_eq!(texts[DOT], ["c", "d"], "the new version mends what held them");
    let (code, told, _) = migrate(&it, &["--yes"]).await;
    assert!(code == 0 && told.contains("nobody runs with an older version"), "{told}");
}

#[tokio::test]
async fn nobody_is_moved_to_a_version_that_brings_a_message_again() {
    let it = Harness::start().await;
    it.apply(&file("", OLD)).await;
    it.enrol(ANN).await;
    a_day_passes(&it).await;
    let again = "[{ send: { body: b }, name: b }, { send: { body: c }, name: c }, { send: { body: a }, name: a }]";
    it.apply(&file("", again)).await;
    let (code, _, error) = migrate(&it, &["--yes"]).await;
    let told = "they have had the message of `a`, and the new version would send them `a`";
    assert!(code == 1 && error.contains(told), "{error}");
    // Nor by way of a version that does not have it.
    it.apply(&file("", "[{ send: { body: b }, name: b }, { send: { body: c }, name: c }]")).await;
    let (code, _, error) = migrate(&it, &["--yes"]).await;
    assert_eq!(code, 0, "{error}");
    it.apply(&file("", again)).await;
    let (code, _, error) = migrate(&it, &["--yes"]).await;
    assert!(code == 1 && error.contains(told), "{error}");
}

#[tokio::test]
async fn i09_each_message_once_and_in_order_while_everybody_is_moved_under_engines_and_workers() {
    const PEOPLE: i64 = 60;
    let it = Harness::start().await;
    let audience = "audience: { sql: \"select '+1555014' || lpad(n::text, 4, '0') as phone from generate_series(1, 60) n\" }\n\
         schedule: { manual: true }";
    let version = |messages: &[u8]| {
        let steps = messages.iter().map(|n| format!("{{ send: {{ body: message {n} }}, name: m{n} }}"));
        file(audience, &format!("[{}]", steps.collect::<Vec<_>>().join(", { wait: 1s }, ")))
    };
    it.apply(&version(&[0, 1, 2, 4])).await;
    it.run(&["campaign", "run", "drip"]).await;
    let worker = it.worker(&[]).await;
    let sent = |n: i64| {
        let it = &it;
        async move { it.ledger().len() as i64 >= n }
    };
    let done = async || it.scalar("select count(*) from outbox.enrolments where state = 'done'").await == PEOPLE;
    let engines = [it.engine(), it.engine()];
    let working = async {
        let mut passes = 0_u64;
        while !done().await {
            passes += 1;
            // One of them is dropped with its transaction, whatever it is at.
            let after = Duration::from_micros(500 + passes * 977 % 25_000);
            let (worked, _) = tokio::join!(engines[0].pass(), tokio::time::timeout(after, engines[1].pass()));
            worked.expect("it works");
        }
    };
    let moving = async {
        // The numbers of steps mean other messages each time.
        it.until("some are at it", || sent(PEOPLE / 2)).await;
        it.apply(&version(&[1, 2, 4])).await;
        let (code, told, error) = migrate(&it, &["--map", "m0=m1", "--yes", "--json"]).await;
        assert_eq!(code, 0, "{told} {error}");
        it.until("they go on", || sent(PEOPLE * 2)).await;
        it.apply(&version(&[1, 2, 3, 4])).await;
        let (code, told, error) = migrate(&it, &["--yes", "--json"]).await;
        assert_eq!(code, 0, "{told} {error}");
    };
    let both = async { tokio::join!(working, moving) };
    tokio::time::timeout(Duration::from_secs(100), both).await.expect("it ends");
    worker.stop().await;
    assert_eq!(it.text("select distinct version::text from outbox.enrolments").await, "3");
    let (mut first, mut third) = (0, 0);
    for (phone, mut texts) in it.texts() {
        let whole = texts.clone();
        for (optional, count) in [("message 0", &mut first), ("message 3", &mut third)] {
            if let Some(place) = texts.iter().position(|text| text == optional) {
                *count += 1;
                texts.remove(place);
            }
        }
        assert_eq!(texts, ["message 1", "message 2", "message 4"], "{phone}: {whole:?}");
        assert!(whole.is_sorted(), "{phone}: {whole:?}");
    }
    // Who had the first message queued has got it; who came to the third one was moved in time.
    assert!(first >= PEOPLE / 2 && third > 0, "{first} and {third}");
    assert_eq!(it.texts().len() as i64, PEOPLE);
}

#[tokio::test]
async fn who_was_moved_with_the_message_of_another_step_still_gets_their_own_after_another_move() {
    let it = Harness::start().await;
    it.apply(&file("", OLD)).await;
    it.enrol(ANN).await;
    it.settle(&it.engine()).await;
    it.apply(&file("", NEW)).await;
    let (code, _, error) = migrate(&it, &["--map", "a=c", "--yes"]).await;
    assert_eq!(code, 0, "{error}");
    it.apply(&file("", "[{ send: { body: c }, name: c }, { wait: 1d }, { send: { body: e }, name: e }]")).await;
    let (code, _, error) = migrate(&it, &["--yes"]).await;
    assert_eq!(code, 0, "{error}");
    assert_eq!(
        it.text("select had::text from outbox.enrolments").await,
        "{a}",
        "they wait for a, where they stand at c"
    );
    for _ in 0..3 {
        a_day_passes(&it).await;
    }
    assert_eq!(it.texts()[ANN], ["a", "c", "e"], "a was on its way, and is not c");
}

#[tokio::test]
async fn nobody_is_moved_to_a_version_that_another_has_replaced_meanwhile() {
    let it = Harness::start().await;
    it.apply(&file("", OLD)).await;
    it.enrol(ANN).await;
    it.apply(&file("", NEW)).await;
    it.apply(&file("", OLD)).await;
    let moved = move_some(it.pool(), "drip", (None, 2), &|_| None, 0).await.expect_err("version 2 is not the newest");
    assert!(moved.to_string().contains("the campaign drip has a version 3 by now"), "{moved}");
}

#[tokio::test]
async fn whoever_is_moved_stands_with_their_own_line_and_behind_no_new_contacts() {
    let it = Harness::start().await;
    it.apply(&file("", THREE)).await;
    for phone in [BOB, CID] {
        it.enrol(phone).await;
    }
    let engine = it.engine_with(1);
    it.settle(&engine).await;
    assert_eq!(it.count("state = 'queued'").await, 1, "there is no room for more new contacts");
    it.execute(
        "insert into outbox.recipients (phone, line_id, first_touched_at) values ('+15550142200', 'pl_1', now())",
    )
    .await;
    it.enrol(ANN).await;
    it.apply(&file("", &THREE.replace("body: one", "body: hello"))).await;
    assert_eq!(it.run(&["campaign", "migrate", "drip", "--yes"]).await.0, 0);
    it.settle(&engine).await;
    assert_eq!(it.text("select body from outbox.jobs where phone = '+15550142200'").await, "hello");
}
