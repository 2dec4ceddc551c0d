//! Following a campaign by the real commands: the funnel, the end, the people one by one, and all of them in a file.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use chert_outbox::campaign::engine::Engine;
use chert_outbox::config::CampaignOptions;
use chert_outbox::inbound::store::{Source, store};
use chert_outbox::outbox::campaigns::everybody::{Filter, HELD_BACK, REASONS, Reader};
use serde_json::{Value, json};

use crate::campaign::applying::at_terminal_of;
use crate::campaign::{ANN, BOB, CID, DOT, file};
use crate::harness::Harness;
use crate::replies::{applier, message};

/// Two wordings, a day's wait, and a second message; everybody needs a city.
const TWO: &str = "[{ name: hello, send: {}, variants: [{ name: a, body: wording a }, { name: b, body: wording b }] }, { wait: 1d }, \
     { name: again, send: { body: 'Again, {{ city }}' } }]";
const NEEDS_CITY: &str = "variables: { city: { missing: hold } }";
const FAILS: &str = "+15550001234";

async fn status(it: &Harness) -> Value {
    let (code, told, error) = it.run(&["campaign", "status", "drip", "--json"]).await;
    assert_eq!(code, 0, "{error}");
    serde_json::from_str(&told).expect("JSON")
}

/// A step of the funnel, by name.
fn step<'a>(status: &'a Value, name: &str) -> &'a Value {
    let steps = status["funnel"]["steps"].as_array().expect("a list");
    steps.iter().find(|step| step["name"] == name).unwrap_or_else(|| panic!("no step {name} in {status}"))
}

/// These fields of a step, and no others.
fn has(step: &Value, expected: &Value) {
    let found: Value =
        expected.as_object().expect("an object").keys().map(|key| (key.clone(), step[key].clone())).collect();
    assert_eq!(&found, expected, "{step}");
}

/// Eight people and one whose number fails got the first message, and one lacks a city.
async fn begun(it: &Harness) {
    it.apply(&file(NEEDS_CITY, TWO)).await;
    for digit in 0..8 {
        it.enrol_with(&format!("+1555014220{digit}"), r#"{"city": "Rome"}"#).await;
    }
    it.enrol_with(FAILS, r#"{"city": "Rome"}"#).await;
    it.enrol("+15550142299").await;
    let engine = it.engine();
    it.settle(&engine).await;
    it.drain().await;
    it.settle(&engine).await;
}

async fn says(it: &Harness, id: &str, phone: &str, text: &str) {
    store(it.pool(), Source::List, &[message(id, phone, text)]).await.expect("stores");
    applier(&["--opt-out-text", "Bye"]).apply(it.pool()).await.expect("applies");
}

#[tokio::test]
async fn everybody_is_counted_once_at_each_step_with_what_became_of_them() {
    let it = Harness::start().await;
    begun(&it).await;
    says(&it, "e1", ANN, "Thanks!").await;
    says(&it, "e2", BOB, "STOP").await;
    // The answer to the stop goes out, and is none of the campaign's; nor is what is said to it.
    it.drain().await;
    says(&it, "e3", BOB, "ok").await;
    it.execute("update outbox.jobs set delivered_at = now() where phone <> '+15550142202' and state = 'sent'").await;
    let told = status(&it).await;
    has(
        step(&told, "hello"),
        &json!({"coming": 0, "reached": 10, "due": 0, "queued": 0, "sent": 8, "delivered": 7, "replied": 1, "opted_out": 1,
                "held": {"missing_variable: city": 1}, "ended": {"failed": 1}, "left_before": {}}),
    );
    has(
        step(&told, "again"),
        &json!({"coming": 6, "reached": 0, "sent": 0, "ended": {}, "left_before": {"replied": 1, "opted_out": 1}}),
    );
    // The phones know who read which wording.
    let texts = it.texts();
    for (variant, wording) in [("a", "wording a"), ("b", "wording b")] {
        let read = |phone: &str| texts.get(phone).is_some_and(|texts| texts[0] == wording);
        let sent = texts.keys().filter(|phone| read(phone)).count();
        assert!(sent > 0, "both are drawn: {texts:?}");
        let counts = json!({"sent": sent, "replied": i64::from(read(ANN)), "opted_out": i64::from(read(BOB))});
        has(&step(&told, "hello")["variants"][variant], &counts);
    }

    let engine = it.engine();
    it.time_passes().await;
    it.settle(&engine).await;
    has(step(&status(&it).await, "again"), &json!({"coming": 0, "reached": 6, "due": 0, "queued": 6, "sent": 0}));
    it.drain().await;
    has(step(&status(&it).await, "again"), &json!({"reached": 6, "queued": 0, "sent": 6}));
    it.settle(&engine).await;
    // An answer counts for what was sent last, also when all is over.
    says(&it, "e4", CID, "Late, but thanks").await;
    let told = status(&it).await;
    has(step(&told, "again"), &json!({"reached": 6, "due": 0, "sent": 6, "replied": 1, "opted_out": 0}));
    has(step(&told, "hello"), &json!({"reached": 10, "sent": 8, "replied": 1, "opted_out": 1}));
    assert_eq!(told["funnel"]["done"], 6);
    let (_, text, _) = it.run(&["campaign", "status", "drip"]).await;
    assert!(text.contains("1 (12 %)") && text.contains("1 replied before it"), "{text}");
}

#[tokio::test]
async fn a_word_that_nobody_can_stand_by_is_refused_with_those_that_there_are() {
    let it = Harness::start().await;
    it.apply(&file(
        "",
        "[{ name: hello, send: { body: Hi } }, { name: rest, wait: 1d }, { name: bye, send: { body: Bye } }]",
    ))
    .await;
    it.apply(&file("", "[{ name: hi, send: { body: Hi } }]")).await;
    it.enrol(ANN).await;
    it.apply(&file("", "[{ name: hey, send: { body: Hi } }]")).await;
    let (code, _, error) = it.run(&["campaign", "people", "drip", "--step", "nosuch"]).await;
    let told = "the campaign drip has no step named nosuch: its steps are hey, end, hi";
    assert!(code == 1 && error.contains(told), "{error}");
    assert!(!error.contains("hello"), "nobody stands in the first version: {error}");
    let (code, _, error) = it.run(&["campaign", "export", "drip", "--step", "nosuch"]).await;
    assert!(code == 1 && error.contains(told), "{error}");
    for step in ["hello", "hi", "end"] {
        let (code, _, error) = it.run(&["campaign", "people", "drip", "--step", step]).await;
        assert_eq!(code, 0, "{step}: {error}");
    }
    for (flag, known) in [("--state", "held"), ("--reason", "missing_variable")] {
        let (code, _, error) = it.run(&["campaign", "people", "drip", flag, "nosuch"]).await;
        assert!(code == 2 && error.contains("possible values") && error.contains(known), "{error}");
    }
    let constraint = "select pg_get_constraintdef(oid) from pg_constraint where conname = 'enrolment_reason_is_known'";
    let constraint = it.text(constraint).await;
    let mut words: Vec<&str> = constraint.split('\'').skip(1).step_by(2).collect();
    let mut reasons = REASONS.to_vec();
    words.sort_unstable();
    reasons.sort_unstable();
    assert_eq!(words, reasons, "those of the schema");
    let holds = it.text("select prosrc from pg_proc where oid = 'outbox.is_held'::regproc").await;
    let holds: Vec<&str> = holds.split('\'').skip(1).step_by(2).collect();
    assert_eq!(holds, HELD_BACK, "those of its function");
}

#[tokio::test]
async fn a_step_that_was_made_twice_counts_once() {
    let it = Harness::start().await;
    it.apply(&file("", "[{ name: hello, send: { body: Hi } }]")).await;
    it.enrol(ANN).await;
    let engine = it.engine();
    it.settle(&engine).await;
    it.execute(
        "update outbox.jobs set due_at = now() - interval '2 seconds', expires_at = now() - interval '1 second'",
    )
    .await;
    it.drain().await;
    has(step(&status(&it).await, "hello"), &json!({"reached": 1, "due": 1, "queued": 0, "ended": {}}));
    it.settle(&engine).await;
    has(step(&status(&it).await, "hello"), &json!({"reached": 1, "due": 0, "queued": 1}));
    it.drain().await;
    assert_eq!((it.count("true").await, it.count("state = 'sent'").await), (2, 1));
    has(step(&status(&it).await, "hello"), &json!({"reached": 1, "due": 0, "queued": 0, "sent": 1}));
    // Also where both were sent; and what is nobody's enrolment is none of its messages.
    it.execute(
        "update outbox.jobs set state = 'sent', reason = null, sent_at = now() where state = 'expired';
         insert into outbox.jobs (phone, body, campaign, state, sent_at, finished_at)
         values ('+15550142201', 'Hi', 'drip', 'sent', now(), now())",
    )
    .await;
    assert_eq!(it.count("campaign = 'drip' and state = 'sent'").await, 3);
    has(step(&status(&it).await, "hello"), &json!({"reached": 1, "due": 0, "queued": 0, "sent": 1}));
}

#[tokio::test]
async fn a_message_on_its_way_counts_as_one_when_its_enrolment_has_ended() {
    let it = Harness::start().await;
    it.apply(&file("", "[{ name: hello, send: { body: Hi } }]")).await;
    it.enrol(ANN).await;
    it.settle(&it.engine()).await;
    it.execute(
        "update outbox.jobs set state = 'sending', lease_until = now() + interval '1 minute', worker = 'w', idempotency_key = 'k';
         select outbox.stop_enrolments(array(select id from outbox.enrolments), 'goal')",
    )
    .await;
    has(step(&status(&it).await, "hello"), &json!({"reached": 1, "queued": 1, "ended": {}}));
}

#[tokio::test]
async fn the_row_of_a_campaign_counts_as_queued_what_its_funnel_does() {
    let it = Harness::start().await;
    it.apply(&file("", "[{ name: hello, send: { body: Hi } }]")).await;
    it.enrol(ANN).await;
    it.enrol(BOB).await;
    it.settle(&it.engine()).await;
    it.execute(
        "insert into outbox.jobs (phone, body, campaign) values ('+15550142202', 'Hi', 'drip'), ('+15550142203', 'Hi', 'drip');
         update outbox.jobs set state = 'sending', lease_until = now() + interval '1 minute', worker = 'w', idempotency_key = 'k' where id = 1",
    )
    .await;
    let told = status(&it).await;
    has(step(&told, "hello"), &json!({"queued": 2}));
    has(&told["campaign"], &json!({"queued": 2}));
    let (_, _, error) = it.run(&["campaign", "stop", "drip"]).await;
    assert!(error.contains("cancels 3 queued jobs"), "what can be canceled, also of the application: {error}");
}

#[tokio::test]
async fn steps_of_older_versions_have_their_names_too() {
    let it = Harness::start().await;
    let engine = it.engine();
    let pause = "{ wait: 1d }";
    it.apply(&file("", &format!("[{{ name: hello, send: {{ body: A }} }}, {pause}, {{ name: help, send: {{ body: B }} }}, {{ name: bye, send: {{ body: C }} }}]"))).await;
    it.enrol(ANN).await;
    it.settle(&engine).await;
    it.drain().await;
    it.settle(&engine).await;
    it.apply(&file(
        "",
        &format!("[{{ name: hello, send: {{ body: A }} }}, {{ name: bye, send: {{ body: C }} }}, {pause}]"),
    ))
    .await;
    it.enrol(BOB).await;
    it.settle(&engine).await;
    it.drain().await;
    it.settle(&engine).await;
    let told = status(&it).await;
    let names: Vec<&str> =
        told["funnel"]["steps"].as_array().expect("a list").iter().filter_map(|step| step["name"].as_str()).collect();
    assert_eq!(names, ["hello", "help", "bye"]);
    has(step(&told, "hello"), &json!({"sent": 2}));
    has(step(&told, "help"), &json!({"coming": 1, "reached": 0}));
    has(step(&told, "bye"), &json!({"queued": 1, "reached": 1}));
    let (_, told, _) = it.run(&["campaign", "people", "drip", "--step", "bye", "--json"]).await;
    let people: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!((people.as_array().map(Vec::len), &people[0]["version"]), (Some(1), &2.into()), "{people}");
}

#[tokio::test]
async fn the_end_is_foretold_from_where_everybody_stands() {
    let it = Harness::start().await;
    begun(&it).await;
    let hours = |at: &Value, now: chrono::DateTime<chrono::Utc>| {
        let at: chrono::DateTime<chrono::Utc> = at.as_str().expect("an instant").parse().expect("an instant");
        (at - now).as_seconds_f64() / 3600.0
    };
    let now = it.now().await;
    let eta = status(&it).await["eta"].clone();
    has(&eta, &json!({"people": 8, "wait_for_somebody": 0, "stuck": 0, "messages": [8, 8]}));
    for end in ["from", "by"] {
        assert!((23.9..24.1).contains(&hours(&eta[end], now)), "a day from the first message: {eta}");
    }
    it.time_passes().await;
    it.settle(&it.engine()).await;
    it.execute("update outbox.jobs set reason = 'in_review' where phone = '+15550142200' and state = 'queued'").await;
    let eta = status(&it).await["eta"].clone();
    has(&eta, &json!({"people": 7, "wait_for_somebody": 1, "messages": [7, 7]}));
    assert!(hours(&eta["by"], now) < 0.1, "{eta}");
    it.execute("update outbox.lines set paused_at = now()").await;
    has(&status(&it).await["eta"], &json!({"stuck": 7, "from": null}));
    it.run(&["campaign", "stop", "drip", "--yes"]).await;
    let told = status(&it).await;
    assert_eq!((&told["eta"], &told["no_eta"]), (&Value::Null, &"the campaign is stopped".into()));
}

#[tokio::test]
async fn who_will_wait_for_a_reply_is_told_before_they_do_and_when_they_do() {
    let it = Harness::start().await;
    it.apply(&file("", TWO.replace(", {{ city }}", "").as_str()).replace("transactional", "marketing")).await;
    it.enrol(ANN).await;
    it.enrol(BOB).await;
    let engine = Engine::new(it.pool().clone(), CampaignOptions { look_ahead: 500 }, Some(1));
    it.settle(&engine).await;
    it.drain_with(&["--hold-on-stale", "none"]).await;
    it.settle(&engine).await;
    says(&it, "e1", BOB, "Thanks!").await;
    let status = async |args: &[&str]| {
        let (code, told, error) = it.run(&[&["campaign", "status", "drip"], args].concat()).await;
        assert_eq!(code, 0, "{error}");
        told
    };
    let eta = async |limit: &str| {
        let told = status(&["--json", "--unanswered-limit", limit]).await;
        serde_json::from_str::<Value>(&told).expect("JSON")["eta"].clone()
    };
    has(&eta("2").await, &json!({"people": 1, "wait_for_somebody": 0, "unanswered": 0, "messages": [1, 1]}));
    let waits = json!({"people": 1, "wait_for_somebody": 0, "unanswered": 1, "messages": [0, 0], "by": null});
    has(&eta("1").await, &waits);
    let told = status(&["--unanswered-limit", "1"]).await;
    assert!(told.contains("unanswered     1 person: they will wait for a reply"), "{told}");
    it.time_passes().await;
    it.settle(&engine).await;
    has(&eta("1").await, &json!({"people": 0, "wait_for_somebody": 1, "unanswered": 0}));
}

#[tokio::test]
async fn times_of_lists_say_whose_they_are() {
    let it = Harness::start().await;
    let audience = "schedule: { cron: '@daily' }\naudience: { sql: \"select '+15550142200' as phone\" }";
    it.apply(&file(audience, TWO.replace(", {{ city }}", "").as_str())).await;
    it.run(&["campaign", "run", "drip"]).await;
    let engine = it.engine();
    it.settle(&engine).await;
    it.drain().await;
    it.settle(&engine).await;
    for args in [&["campaign", "list"][..], &["campaign", "status", "drip"], &["campaign", "people", "drip"]] {
        let (_, told, _) = it.run(args).await;
        let words: Vec<&str> = told.split_whitespace().collect();
        let is_time = |word: &str| word.len() == 8 && word.matches(':').count() == 2;
        let zones: Vec<&str> = words.windows(2).filter(|pair| is_time(pair[0])).map(|pair| pair[1]).collect();
        assert!(!zones.is_empty() && zones.iter().all(|zone| *zone == "UTC"), "{told}");
    }
}

#[tokio::test]
async fn where_no_end_is_foretold_it_is_said_why_in_json_as_to_people() {
    let it = Harness::start().await;
    begun(&it).await;
    assert!(!status(&it).await.as_object().expect("an object").contains_key("no_eta"), "there is one");
    it.execute("update outbox.campaign_versions set definition = jsonb_set(definition, '{lines}', '{\"pool\": [\"pl_none\"]}')")
        .await;
    has(&status(&it).await["eta"], &json!({"no_message": {"not_in_pool": 8}, "stuck": 0, "messages": [0, 0]}));
    let (_, shown, _) = it.run(&["campaign", "status", "drip"]).await;
    assert!(shown.contains("no message     8 people: 8 not_in_pool, at the next step that sends"), "{shown}");
    it.execute("update outbox.campaign_versions set definition = jsonb_set(definition, '{zone}', '\"Mars\"')").await;
    let told = status(&it).await;
    let why = told["no_eta"].as_str().expect("a reason");
    assert!(told["eta"].is_null() && why.contains("its version cannot be read"), "{told}");
    let (_, shown, _) = it.run(&["campaign", "status", "drip"]).await;
    assert!(shown.contains(&format!("no end is foretold: {why}")), "{shown}");
}

#[tokio::test]
async fn a_watch_shows_each_look_and_ends_when_nothing_is_under_way() {
    let it = Harness::start().await;
    it.apply(&file("", "[{ name: hello, send: { body: Hi } }]")).await;
    it.enrol(ANN).await;
    let unread = ["campaign", "status", "drip", "--watch", "--every", "100ms"];
    assert_eq!(it.run_unread(&unread).await, (0, String::new()), "nor goes it on for nobody");
    let mut command = it.binary();
    command.args(["campaign", "status", "drip", "--watch", "--every", "100ms", "--json"]).stdout(Stdio::piped());
    let mut watch = command.spawn().expect("starts");
    let out = watch.stdout.take().expect("piped");
    let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(out));
    for _ in 0..2 {
        let line = lines.next_line().await.expect("readable").expect("it goes on while somebody is under way");
        has(step(&serde_json::from_str(&line).expect("JSON"), "hello"), &json!({"due": 1}));
    }
    let engine = it.engine();
    it.settle(&engine).await;
    it.drain().await;
    it.settle(&engine).await;
    let mut last = String::new();
    while let Some(line) = lines.next_line().await.expect("readable") {
        last = line;
    }
    assert!(watch.wait().await.expect("ends").success());
    let last: Value = serde_json::from_str(&last).expect("JSON");
    assert_eq!((&last["funnel"]["done"], &last["campaign"]["active"]), (&1.into(), &0.into()));
    let (code, text, _) = it.run(&["campaign", "status", "drip", "--watch"]).await;
    assert!(code == 0 && text.contains("hello") && !text.contains('\x1b'), "{text}");
}

#[tokio::test]
async fn a_terminal_that_says_it_has_no_columns_is_shown_whole_words() {
    let it = Harness::start().await;
    it.apply(&file("", "[{ name: hello, send: { body: Hi } }]")).await;
    let (code, told) = at_terminal_of(&it, 0, &["campaign", "status", "drip", "--watch"], "").await;
    let has_row = |words: &[&str]| told.lines().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(code == 0 && has_row(&["drip", "running"]) && has_row(&["step", "coming", "delivered", "ended"]), "{told}");
}

#[tokio::test]
async fn who_is_held_back_is_told_beside_those_who_are_held_and_listed_by_the_reason() {
    let it = Harness::start().await;
    it.apply(&file("", "[{ name: hello, send: { body: Hi } }]")).await;
    for phone in [ANN, BOB, CID, DOT] {
        it.enrol(phone).await;
    }
    it.settle(&it.engine()).await;
    let people = async |args: &[&str]| {
        let (code, told, error) = it.run(&[&["campaign", "people", "drip"], args].concat()).await;
        assert_eq!(code, 0, "{error}");
        told
    };
    assert!(!people(&["--state", "held"]).await.contains("held back"), "nobody is");
    it.execute(
        "update outbox.jobs set reason = 'unanswered', wake_at = now() + interval '1 hour' where phone in ('+15550142200', '+15550142201');
         update outbox.jobs set reason = 'in_review', wake_at = now() + interval '1 hour' where phone = '+15550142202';
         update outbox.jobs set reason = 'retrying', wake_at = now() + interval '1 hour' where phone = '+15550142203'",
    )
    .await;
    let told = "3 more people are held back: 1 in_review, 2 unanswered; --reason REASON lists them";
    assert!(people(&["--state", "held"]).await.contains(told), "{}", people(&["--state", "held"]).await);
    for args in [&["--state", "held", "--step", "hello"][..], &["--state", "active"], &[]] {
        assert!(!people(args).await.contains("held back"), "{args:?}");
    }
    let unanswered = people(&["--reason", "unanswered", "--show-numbers", "--json"]).await;
    let unanswered: Vec<Value> = serde_json::from_str(&unanswered).expect("JSON");
    let phones: Vec<&Value> = unanswered.iter().map(|one| &one["phone"]).collect();
    assert_eq!(phones, [ANN, BOB]);
    assert!(
        unanswered.iter().all(|one| one["state"] == "active" && one["waits_for"] == "unanswered"),
        "{unanswered:?}"
    );
}

#[tokio::test]
async fn whom_the_engine_holds_back_is_told_with_the_reason_as_if_their_message_were_made() {
    let it = Harness::start().await;
    it.apply(
        &file("stop_on: [opt_out]", "[{ name: hello, send: { body: Hi } }]").replace("transactional", "marketing"),
    )
    .await;
    it.execute(
        "insert into outbox.recipients (phone, first_touched_at, unanswered, review_since, review_reason) values
         ('+15550142200', now(), 3, null, null), ('+15550142201', now(), 0, now(), 'why')",
    )
    .await;
    for phone in [ANN, BOB, CID] {
        it.enrol(phone).await;
    }
    let engine = it.engine();
    it.settle(&engine).await;
    assert_eq!(it.text("select phone from outbox.jobs").await, CID);
    let people = async |args: &[&str]| it.run(&[&["campaign", "people", "drip"], args].concat()).await.1;
    let told = "2 more people are held back: 1 in_review, 1 unanswered; --reason REASON lists them";
    assert!(people(&["--state", "held"]).await.contains(told), "{}", people(&["--state", "held"]).await);
    let unanswered = people(&["--reason", "unanswered", "--show-numbers", "--json"]).await;
    let unanswered: Value = serde_json::from_str(&unanswered).expect("JSON");
    has(
        &unanswered[0],
        &json!({"phone": ANN, "state": "active", "standing": "due", "waits_for": "unanswered", "detail": null}),
    );
    assert_eq!(unanswered.as_array().map(Vec::len), Some(1));
    assert!(people(&["--reason", "in_review"]).await.contains("due (in_review)"), "{}", people(&[]).await);
    has(
        step(&status(&it).await, "hello"),
        &json!({"due": 2, "held_back": {"in_review": 1, "unanswered": 1}, "queued": 1}),
    );
    let shown = it.run(&["campaign", "status", "drip"]).await.1;
    assert!(shown.contains("2 (1 in_review, 1 unanswered)"), "{shown}");
    says(&it, "e1", ANN, "Thanks!").await;
    it.settle(&engine).await;
    has(step(&status(&it).await, "hello"), &json!({"due": 1, "held_back": {"in_review": 1}, "queued": 2}));
    assert_eq!(people(&["--reason", "unanswered", "--json"]).await.trim(), "[]", "no more");
}

#[tokio::test]
async fn people_are_listed_masked_with_what_holds_them_and_what_comes_next() {
    let it = Harness::start().await;
    begun(&it).await;
    says(&it, "e1", ANN, "Thanks!").await;
    let people = async |args: &[&str]| {
        let (code, told, error) = it.run(&[&["campaign", "people", "drip", "--json"], args].concat()).await;
        assert_eq!(code, 0, "{error}");
        serde_json::from_str::<Vec<Value>>(&told).expect("JSON")
    };
    assert_eq!(people(&[]).await.len(), 10);
    assert_eq!(people(&["--limit", "3"]).await.len(), 3);
    let held = people(&["--state", "held"]).await;
    assert_eq!(held.len(), 1);
    has(
        &held[0],
        &json!({"phone": "+1******2299", "step": "hello", "reason": "missing_variable", "detail": "city", "next_at": null}),
    );
    let replied = people(&["--reason", "replied", "--step", "again", "--show-numbers"]).await;
    assert_eq!(replied.len(), 1);
    has(&replied[0], &json!({"phone": ANN, "state": "stopped", "sent": 1, "opted_out_at": null}));
    assert!(replied[0]["replied_at"].is_string());
    let coming = people(&["--state", "active"]).await;
    assert!(coming.iter().all(|one| one["standing"] == "coming" && one["next_at"].is_string()), "{coming:?}");
    assert!(people(&["--step", "end"]).await.is_empty(), "nobody stands there");
    let (_, text, _) = it.run(&["campaign", "people", "drip", "--state", "held"]).await;
    assert!(text.contains("held (missing_variable: city)") && text.contains("+1******2299"), "{text}");
    for command in ["people", "export", "status"] {
        let (code, _, error) = it.run(&["campaign", command, "none"]).await;
        assert!(code == 1 && error.starts_with("error: there is no campaign named none"), "{error}");
    }
}

#[tokio::test]
async fn an_export_has_everybody_once_with_whole_numbers() {
    let it = Harness::start().await;
    begun(&it).await;
    says(&it, "e1", DOT, "stop").await;
    let directory = tempfile::tempdir().expect("made");
    let path = directory.path().join("people.csv");
    let shown = path.to_str().expect("UTF-8");
    // One was there before, longer, that everybody may read.
    std::fs::write(&path, "x".repeat(100_000)).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("set");
    let (code, told, error) = it.run(&["campaign", "export", "drip", "--to", shown]).await;
    assert_eq!((code, told.as_str()), (0, format!("10 people written to {shown}\n").as_str()), "{error}");
    assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    let written = std::fs::read_to_string(&path).expect("readable");
    let rows: Vec<Vec<&str>> = written.lines().map(|line| line.split(',').collect()).collect();
    let column = |name: &str| rows[0].iter().position(|column| *column == name).expect("the column is there");
    let phones: Vec<&str> = rows[1..].iter().map(|row| row[column("phone")]).collect();
    assert!(phones.len() == 10 && phones.is_sorted() && phones.contains(&"+15550142299"), "{phones:?}");
    let texts = it.texts();
    for row in &rows[1..] {
        let wording = match texts.get(row[column("phone")]).map(|texts| texts[0].as_str()) {
            Some("wording a") => "hello=a",
            Some("wording b") => "hello=b",
            _ => "",
        };
        assert_eq!(row[column("variants")], wording);
        assert_eq!(row[column("opted_out_at")].is_empty(), row[column("phone")] != DOT);
    }
    let (code, told, _) = it.run(&["campaign", "export", "drip", "--state", "held", "--format", "jsonl"]).await;
    let lines: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!((code, lines.len(), &lines[0]["detail"]), (0, 1, &"city".into()));
    // Both ways of writing say the same of everything.
    let held = rows.iter().find(|row| row[column("state")] == "held").expect("there is one");
    let fields = lines[0].as_object().expect("an object");
    assert_eq!(fields.len(), rows[0].len());
    for (name, value) in fields {
        let text = value.as_str().map_or_else(|| value.to_string().replace("null", ""), str::to_owned);
        assert_eq!(held[column(name)], text, "{name}");
    }

    for format in ["csv", "jsonl"] {
        assert_eq!(
            it.run_unread(&["campaign", "export", "drip", "--format", format]).await,
            (0, String::new()),
            "{format}"
        );
    }

    let mut reader = Reader::of(it.pool(), "drip", Filter::default()).await.expect("there is one");
    let mut paged = Vec::new();
    loop {
        let page = reader.next(3, true).await.expect("readable");
        assert!(page.len() <= 3);
        if page.is_empty() {
            break;
        }
        paged.extend(page.into_iter().map(|person| person.phone));
    }
    assert_eq!(paged, phones, "page by page");
}
