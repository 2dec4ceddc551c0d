//! Plans by the real command, over people and lines as the database has them.

use std::time::Duration;

use chert_outbox::campaign::engine::Engine;
use chert_outbox::config::CampaignOptions;
use chert_outbox::outbox::campaigns::known::{self, Ours};
use chert_outbox::outbox::lines::Paces;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use crate::campaign::{ANN, BOB, CID, DOT, file};
use crate::harness::Harness;

/// Four people, of whom one is suppressed, one lacks a name and one is there twice.
async fn people(it: &Harness) -> String {
    it.execute("create table people (phone text, name text)").await;
    it.execute(
        "insert into people values ('+15550142200', 'Ann'), ('+15550142201', 'Bob'), ('+15550142202', null), ('+15550142203', 'Dot'),
                                   ('+15550142200', 'Ann'), ('1', 'x')",
    )
    .await;
    it.execute("insert into outbox.suppressions (phone, reason, source) values ('+15550142201', 'asked', 'test')")
        .await;
    file(
        "schedule: { manual: true }\naudience: { sql: \"select phone, name from people order by name nulls first\" }\nvariables: { name: { missing: hold } }",
        "[{ send: { body: 'Hi {{ name }}' }, name: hello }]",
    )
}

/// The exit code of a plan and what it says as JSON.
async fn plan(it: &Harness, source: &str, args: &[&str]) -> (i32, Value) {
    let (code, told, _) = asked(it, source, &[&["--json"], args].concat()).await;
    (code, serde_json::from_str(&told).unwrap_or_else(|_| panic!("{told}")))
}

/// The exit code of a plan and what it says.
async fn shown(it: &Harness, source: &str, args: &[&str]) -> (i32, String) {
    let (code, told, error) = asked(it, source, args).await;
    (code, told + &error)
}

async fn asked(it: &Harness, source: &str, args: &[&str]) -> (i32, String, String) {
    let directory = tempfile::tempdir().expect("made");
    let path = directory.path().join("campaign.yaml");
    std::fs::write(&path, source).expect("written");
    it.run(&[&["campaign", "plan", path.to_str().expect("UTF-8")], args].concat()).await
}

#[tokio::test]
async fn a_plan_counts_everybody_and_writes_nothing() {
    let it = Harness::start().await;
    let source = people(&it).await;
    it.insert(DOT, "Hi").await;
    it.drain().await;
    let (code, plan) = plan(&it, &source, &["--preview", "9"]).await;
    assert_eq!(code, 0);
    let counts = &plan["people"];
    assert_eq!((&counts["people"], &counts["enrolled"], &counts["new"]), (&6.into(), &3.into(), &2.into()), "{counts}");
    assert_eq!(counts["excluded"], json!({"bad_number": 1, "duplicate": 1, "suppressed": 1}));
    assert_eq!(counts["held"], json!({"missing_variable: name": 1}));
    let why: Vec<&str> =
        counts["examples"].as_array().expect("a list").iter().filter_map(|one| one["why"].as_str()).collect();
    assert_eq!(why[..2], ["missing_variable: name", "the same number stands in row 2"], "{why:?}");
    assert!(why[2] == "suppressed" && why[3].starts_with("phone is not E.164"), "{why:?}");
    let texts: Vec<&str> =
        plan["preview"].as_array().expect("a list").iter().filter_map(|text| text["text"].as_str()).collect();
    assert_eq!(texts, ["Hi Ann", "Hi Dot"]);
    assert_eq!((&plan["days"][0]["first_touches"], &plan["days"][0]["follow_ups"]), (&1.into(), &1.into()));
    let written = "select (select count(*) from outbox.campaigns) + (select count(*) from outbox.enrolments)
                        + (select count(*) from outbox.audience_rows) + (select count(*) from outbox.jobs) - 1";
    assert_eq!(it.scalar(written).await, 0);
}

#[tokio::test]
async fn a_plan_fails_a_pipeline_that_asks_for_more() {
    let it = Harness::start().await;
    let source = people(&it).await;
    let code = async |args: &'static [&'static str]| plan(&it, &source, args).await.0;
    assert_eq!(code(&[]).await, 0);
    assert_eq!(code(&["--strict"]).await, 3, "somebody is held");
    assert_eq!(code(&["--finish-by", "2020-01-01T00:00:00Z"]).await, 3);
    assert_eq!(code(&["--finish-by", "2199-01-01T00:00:00Z"]).await, 0);
}

#[tokio::test]
async fn a_strict_plan_fails_where_somebody_drops_out_or_is_stuck() {
    let it = Harness::start().await;
    it.execute("create table people as select '+1555014220' || n as phone from generate_series(0, 6) n").await;
    let audience = "schedule: { manual: true }\naudience: { sql: select phone from people }";
    let source = file(audience, "[{ send: { body: Hi }, expires_after: 1m }]");
    let code = async |args: &'static [&'static str]| plan(&it, &source, args).await.0;
    assert_eq!(code(&["--strict"]).await, 0);
    it.pace(Paces { first_touch_gap: Some(Duration::from_secs(600)), ..Paces::default() }).await;
    let (strict, told) = plan(&it, &source, &["--strict"]).await;
    assert_eq!(
        (strict, &told["steps"][0]["expired"], &told["stuck"]),
        (3, &2.into(), &0.into()),
        "one a line is in time"
    );
    assert_eq!(code(&[]).await, 0);
    it.pace(Paces { first_touch_gap: Some(Duration::ZERO), first_touch_cap: Some(Some(0)), ..Paces::default() }).await;
    let (strict, told) = plan(&it, &source, &["--strict"]).await;
    assert_eq!((strict, &told["steps"][0]["expired"], &told["stuck"]), (3, &0.into(), &7.into()));
    assert_eq!(code(&[]).await, 0);
}

#[tokio::test]
async fn what_others_have_queued_goes_before_a_plans_messages() {
    let it = Harness::start().await;
    it.execute("update outbox.lines set active = false where id > (select min(id) from outbox.lines where id <> '*')")
        .await;
    it.pace(Paces { first_touch_gap: Some(Duration::from_secs(600)), ..Paces::default() }).await;
    it.execute("create table people as select '+15550142209' as phone").await;
    let audience = "schedule: { manual: true }\naudience: { sql: select phone from people }";
    let source = file(audience, "[{ send: { body: Hi } }]");
    let waits = async || {
        let (_, told) = plan(&it, &source, &[]).await;
        let at = |key: &str| told[key].as_str().and_then(|at| at.parse::<DateTime<Utc>>().ok()).expect("a time");
        (at("first_at") - at("starts_at")) / 601
    };
    assert_eq!(waits().await, TimeDelta::zero());
    for phone in [ANN, BOB] {
        it.insert(phone, "of a producer").await;
    }
    assert_eq!(waits().await, TimeDelta::seconds(2));
    it.apply(&file("", "[{ send: { body: of a campaign } }]").replace("drip", "other")).await;
    it.execute("select outbox.enrol('other', '+15550142202', '{}')").await;
    it.settle(&it.engine()).await;
    assert_eq!(waits().await, TimeDelta::seconds(3));
    it.execute("update outbox.jobs set priority = 1 where body = 'of a producer'").await;
    assert_eq!(waits().await, TimeDelta::seconds(1), "the others have a later priority");
    it.execute("update outbox.jobs set priority = -1 where body = 'of a producer'").await;
    it.insert(DOT, "held").await;
    it.execute("update outbox.jobs set reason = 'in_review' where body = 'held'").await;
    it.insert(CID, "for next week").await;
    it.execute("update outbox.jobs set due_at = now() + interval '7d' where body = 'for next week'").await;
    assert_eq!(waits().await, TimeDelta::seconds(3), "neither of them takes a line's time");
}

#[tokio::test]
async fn whom_other_campaigns_have_still_to_write_to_goes_in_turn_in_plan_and_status() {
    let it = Harness::start().await;
    it.execute("update outbox.lines set active = false where id > (select min(id) from outbox.lines where id <> '*')")
        .await;
    it.pace(Paces { first_touch_gap: Some(Duration::from_secs(600)), ..Paces::default() }).await;
    it.execute(
        "create table people as select '+155501424' || lpad(n::text, 2, '0') as phone from generate_series(0, 9) n",
    )
    .await;
    let list = |name: &str, more: &str| {
        let audience =
            format!("schedule: {{ manual: true }}\naudience: {{ sql: \"select phone from people\" }}\n{more}");
        file(&audience, "[{ send: { body: Hi } }]").replace("drip", name)
    };
    let same = "caps: { priority: 1 }";
    it.apply(&list("first", same)).await;
    it.run(&["campaign", "run", "first"]).await;
    // Of its ten messages two stand in the queue.
    it.settle(&it.engine_with(2)).await;
    assert_eq!(it.count("state = 'queued'").await, 2);
    it.execute("update people set phone = overlay(phone placing '5' from 10)").await;
    let slots = |from: &Value, to: &Value| {
        let at = |at: &Value| at.as_str().and_then(|at| at.parse::<DateTime<Utc>>().ok()).expect("a time");
        (at(to) - at(from)).num_seconds() / 601
    };
    let planned = async |name: &str, more: &str| {
        let (_, told) = plan(&it, &list(name, more), &[]).await;
        slots(&told["starts_at"], &told["finishes_from"])
    };
    assert_eq!(planned("second", same).await, 2 + 8 + 9, "behind what is queued, and in turn with the others");
    assert_eq!(planned("second", "").await, 9, "theirs is later");
    it.execute("delete from people where phone > '+15550142502'").await;
    assert_eq!(planned("second", same).await, 2 + 2 * 3 - 1, "they take turns");
    assert_eq!(planned("second", "caps: { priority: 2 }").await, 2 + 8 + 2, "theirs goes first");
    assert_eq!(planned("first", same).await, 2 + 8 + 2, "its own people came first");

    it.apply(&list("second", same)).await;
    it.run(&["campaign", "run", "second"]).await;
    it.settle(&it.engine_with(2)).await;
    let end = async |name: &str| {
        let now = it.now().await;
        let (_, told, _) = it.run(&["campaign", "status", name, "--json"]).await;
        let told: Value = serde_json::from_str(&told).expect("JSON");
        slots(&json!(now), &told["eta"]["from"])
    };
    // Two of each are queued. The first has eight more, the second one.
    assert_eq!(end("second").await, 2 + 2 * 3 - 1);
    assert_eq!(end("first").await, 2 + 1 + 9);
}

#[tokio::test]
async fn a_plan_says_which_way_it_counts_and_who_is_held_at_a_branch() {
    let it = Harness::start().await;
    it.execute(
        "create table people as select * from (values ('+15550142200', '3'), ('+15550142201', 'x')) p (phone, n)",
    )
    .await;
    let more = "schedule: { manual: true }\naudience: { sql: \"select phone, n from people\" }\nvariables: { n: { missing: hold } }";
    let branch = |condition: &str| {
        let ways =
            "then: [{ send: { body: Thanks }, name: thanks }], else: [{ wait: 3d }, { send: { body: Anybody? } }]";
        file(more, &format!("[{{ send: {{ body: Hi }} }}, {{ name: many, branch: {{ if: {condition}, {ways} }} }}]"))
    };
    let (code, told) = shown(&it, &branch("replied"), &["--strict", "--preview", "1"]).await;
    assert_eq!(code, 0, "{told}");
    assert!(
        told.contains("texts are counted by the way that takes longer") && told.contains("another way\n"),
        "{told}"
    );
    assert!(told.contains(", thanks, by another way\n  Thanks"), "{told}");
    let (code, told) = shown(&it, &branch("var.n | int >= 3"), &["--strict"]).await;
    assert_eq!(code, 3, "{told}");
    assert!(told.contains("held at many, or may be: its condition does not fit"), "{told}");
    assert!(!told.contains("another way"), "all is known: {told}");
    assert_eq!(shown(&it, &branch("var.n | int >= 3"), &[]).await.0, 0);
}

/// A campaign of this name writes to these people.
async fn wrote(it: &Harness, name: &str, phones: &[&str]) {
    it.apply(&file("", "[{ send: { body: Hi } }]").replace("drip", name)).await;
    for phone in phones {
        it.scalar(&format!("select outbox.enrol('{name}', '{phone}', '{{}}')")).await;
    }
    it.settle(&it.engine()).await;
    it.drain().await;
}

#[tokio::test]
async fn a_plan_tells_who_waits_for_a_reply_and_just_that_happens() {
    let it = Harness::start().await;
    wrote(&it, "one", &[ANN, BOB]).await;
    wrote(&it, "two", &[ANN]).await;
    it.execute("create table people as select '+1555014220' || n as phone from generate_series(0, 2) n").await;
    let audience =
        "stop_on: [opt_out]\nschedule: { manual: true }\naudience: { sql: select phone from people order by phone }";
    let steps = "[{ send: { body: A }, name: hello }, { send: { body: B }, name: again }]";
    let source = file(audience, steps).replace("transactional", "marketing");
    let foretold = async |args: &[&str]| {
        let (code, told) = plan(&it, &source, &[&["--strict"], args].concat()).await;
        let fate = |step: usize| json!([told["steps"][step]["messages"][1], told["steps"][step]["unanswered"]]);
        (code, fate(0), fate(1))
    };
    assert_eq!(foretold(&["--unanswered-limit", "none"]).await, (0, json!([3, 0]), json!([3, 0])));
    assert_eq!(
        foretold(&[]).await,
        (3, json!([3, 0]), json!([2, 1])),
        "as many as workers send unless they are told otherwise"
    );
    assert_eq!(foretold(&["--unanswered-limit", "2"]).await, (3, json!([2, 1]), json!([1, 1])));
    let (_, told) = shown(&it, &source, &["--unanswered-limit", "2"]).await;
    for step in ["hello", "again"] {
        assert!(told.contains(&format!("unanswered: they wait for a reply at {step}  1")), "{told}");
    }

    it.apply(&source).await;
    it.run(&["campaign", "run", "drip"]).await;
    let engine = Engine::new(it.pool().clone(), CampaignOptions { look_ahead: 500 }, Some(2));
    for _ in 0..3 {
        it.settle(&engine).await;
        it.drain_with(&["--unanswered-limit", "2", "--hold-on-stale", "none"]).await;
    }
    let sent = "select coalesce(string_agg(body, '' order by id), '-') from outbox.jobs where campaign = 'drip' and state = 'sent' and phone = ";
    for (phone, texts) in [(ANN, "-"), (BOB, "A"), (CID, "AB")] {
        assert_eq!(it.text(&format!("{sent}'{phone}'")).await, texts);
    }
}

#[tokio::test]
async fn what_people_got_and_what_is_on_its_way_counts_under_a_plans_cap() {
    let it = Harness::start().await;
    wrote(&it, "one", &[ANN]).await;
    it.execute("update outbox.jobs set sent_at = sent_at - interval '2 days'").await;
    it.scalar(&format!("select outbox.enrol('one', '{BOB}', '{{}}')")).await;
    it.settle(&it.engine()).await;
    it.insert(CID, "of no campaign").await;
    for (phone, days) in [(ANN, 5.0), (BOB, 7.0), (CID, 0.0)] {
        let more = format!(
            "caps: {{ per_recipient: 1 in 7d }}\nschedule: {{ manual: true }}\naudience: {{ sql: \"select '{phone}' as phone\" }}"
        );
        let (_, told) = plan(&it, &file(&more, "[{ send: { body: Hi } }]"), &[]).await;
        let at = |key: &str| told[key].as_str().and_then(|at| at.parse::<DateTime<Utc>>().ok()).expect("a time");
        for end in ["finishes_from", "finishes_by"] {
            let waited = (at(end) - at("starts_at")).as_seconds_f64() / 86_400.0;
            assert!((waited - days).abs() < 0.01, "{phone} {end}: {waited}");
        }
    }
}

#[tokio::test]
async fn what_is_on_its_way_from_another_campaign_counts_under_a_cap_in_status_too() {
    let it = Harness::start().await;
    it.apply(&file("", "[{ send: { body: Hi } }]").replace("drip", "one")).await;
    it.scalar(&format!("select outbox.enrol('one', '{BOB}', '{{}}')")).await;
    it.settle(&it.engine()).await;
    it.apply(&file("caps: { per_recipient: 1 in 7d }", "[{ send: { body: Hi } }]")).await;
    for (phone, days) in [(ANN, 0.0), (BOB, 7.0)] {
        it.enrol(phone).await;
        let (_, told, _) = it.run(&["campaign", "status", "drip", "--json"]).await;
        let told: Value = serde_json::from_str(&told).expect("JSON");
        let end: DateTime<Utc> = told["eta"]["by"].as_str().and_then(|at| at.parse().ok()).expect("a time");
        let waited = (end - it.now().await).as_seconds_f64() / 86_400.0;
        assert!((waited - days).abs() < 0.01, "{phone}: {waited}");
    }
}

#[tokio::test]
async fn a_plan_counts_people_as_its_firing_does_and_tells_bad_lines_as_apply_does() {
    let it = Harness::start().await;
    let directory = tempfile::tempdir().expect("made");
    let at = |name: &str| directory.path().join(name);
    let bad = "555,x\n".repeat(22);
    let people = format!(
        "phone,name\n+15550142200,Ann\n555,Bob\n+15550142200,Ann\n+15550142202\n+15550142203,Dot\n+15550142204,Eve\n+15550142205,\n+15550142206,Fay\n{bad}"
    );
    std::fs::write(at("people.csv"), people).expect("written");
    let more = "audience: { csv: people.csv }\nschedule: { manual: true }\nvariables: { name: { missing: hold } }";
    std::fs::write(at("drip.yaml"), file(more, "[{ send: { body: 'Hi {{ name }}' }, name: hello }]")).expect("written");
    let path = at("drip.yaml");
    let path = path.to_str().expect("UTF-8");
    let (_, _, refused) = it.run(&["campaign", "apply", path, "--yes"]).await;
    assert_eq!(it.run(&["campaign", "apply", path, "--yes", "--leave-out-bad"]).await.0, 0);
    it.enrol_with(DOT, r#"{"name": "Dot"}"#).await;
    it.execute(
        "insert into outbox.suppressions (phone, reason, source)
         values ('+15550142203', 'asked', 'test'), ('+15550142204', 'asked', 'test');
         insert into outbox.recipients (phone, review_since, review_reason) values ('+15550142206', now(), 'why')",
    )
    .await;
    let (_, told, _) = it.run(&["campaign", "plan", path, "--json"]).await;
    let plan: Value = serde_json::from_str(&told).expect("JSON");
    let (_, shown, _) = it.run(&["campaign", "plan", path]).await;
    it.run(&["campaign", "run", "drip"]).await;
    it.settle(&it.engine()).await;
    let (_, told, _) = it.run(&["campaign", "status", "drip", "--json"]).await;
    let status: Value = serde_json::from_str(&told).expect("JSON");

    let (planned, fired) = (&plan["people"], &status["firings"][0]);
    for counted in ["people", "enrolled", "excluded"] {
        assert_eq!(planned[counted], fired[counted], "{counted}");
    }
    assert_eq!((&planned["people"], &planned["enrolled"]), (&30.into(), &3.into()));
    let excluded = json!({"bad_number": 23, "duplicate": 1, "unreadable": 1, "already_active": 1, "suppressed": 1});
    assert_eq!(planned["excluded"], excluded);
    assert_eq!(planned["held"], status["funnel"]["steps"][0]["held"]);
    assert_eq!((&planned["in_review"], &status["eta"]["wait_for_somebody"]), (&1.into(), &1.into()));
    assert_eq!(planned["examples"].as_array().map(Vec::len), Some(27), "programs are told all");

    let lines: Vec<(&str, &str)> = refused
        .lines()
        .filter_map(|line| line.split_once("people.csv:")?.1.split_once(": "))
        .filter(|(line, _)| line.parse::<u32>().is_ok_and(|line| line < 20))
        .collect();
    assert!(lines.len() > 10, "{refused}");
    for (line, why) in lines {
        let is_told = |told: &str| told.starts_with(&format!("line {line}: ")) && told.ends_with(why);
        assert!(shown.lines().any(is_told), "{line}: {why} in {shown}");
    }
    assert!(shown.contains("\nand 7 more; --json tells all\n"), "{shown}");
}

#[tokio::test]
async fn who_may_be_enrolled_again_by_the_time_of_the_firing_is_in_its_plan() {
    let it = Harness::start().await;
    let audience =
        format!("schedule: {{ manual: true }}\naudience: {{ sql: \"select '{ANN}' as phone\", again: after 6d }}");
    let source = file(&audience, "[{ send: { body: Hi } }]");
    it.apply(&source).await;
    it.enrol(ANN).await;
    for _ in 0..2 {
        it.settle(&it.engine()).await;
        it.drain().await;
    }
    assert_eq!(it.enrolments().await, "done");
    let enrolled = async |days| {
        let from = (it.now().await + TimeDelta::days(days)).to_rfc3339();
        let (_, told) = plan(&it, &source, &["--from", &from]).await;
        (told["people"]["enrolled"].clone(), told["people"]["excluded"].clone())
    };
    assert_eq!(enrolled(5).await, (json!(0), json!({"already_enrolled": 1})));
    assert_eq!(enrolled(7).await, (json!(1), json!({})));
    assert_eq!(enrolled(-7).await.0, json!(0), "what is past is judged as of now");
}

/// What somebody may wait for is told from firing to firing, in a plan as in the firing itself.
#[tokio::test]
async fn a_firing_enrols_again_whom_the_one_so_long_before_it_enrolled() {
    let it = Harness::start().await;
    let audience =
        format!("schedule: {{ manual: true }}\naudience: {{ sql: \"select '{ANN}' as phone\", again: after 7d }}");
    let source = file(&audience, "[{ send: { body: Hi } }]");
    it.apply(&source).await;
    let fires = async || {
        it.run(&["campaign", "run", "drip"]).await;
        for _ in 0..2 {
            it.settle(&it.engine()).await;
            it.drain().await;
        }
    };
    fires().await;
    for (fired, enrolled, again) in [
        ("7 days", "7 days -20 seconds", 1),
        ("6 days 23 hours", "6 days 22 hours", 1),
        ("6 days 22 hours", "6 days 22 hours", 0),
        // The one before was made up for.
        ("7 days", "3 days", 0),
    ] {
        let shifted = format!(
            "update outbox.ticks set at = now() - interval '{fired}' where id = (select max(id) from outbox.ticks where enrolled > 0);
             update outbox.ticks set at = now() - interval '30 days' - id * interval '1 day'
              where id < (select max(id) from outbox.ticks where enrolled > 0);
             update outbox.enrolments set created_at = now() - interval '{enrolled}' where id = (select max(id) from outbox.enrolments)"
        );
        sqlx::raw_sql(AssertSqlSafe(shifted)).execute(it.pool()).await.expect("shifted");
        let (_, told) = plan(&it, &source, &[]).await;
        assert_eq!(told["people"]["enrolled"], json!(again), "planned, {fired} and {enrolled}");
        let before = it.scalar("select count(*) from outbox.enrolments").await;
        fires().await;
        assert_eq!(it.scalar("select count(*) from outbox.enrolments").await - before, again, "{fired} and {enrolled}");
    }
    // Firings are purged by an age of their own.
    it.execute(
        "update outbox.enrolments set created_at = now() - interval '7 days -20 seconds' where id = (select max(id) from outbox.enrolments);
         delete from outbox.ticks",
    )
    .await;
    let (_, told) = plan(&it, &source, &[]).await;
    assert_eq!(told["people"]["enrolled"], json!(1));
    let before = it.scalar("select count(*) from outbox.enrolments").await;
    fires().await;
    assert_eq!(it.scalar("select count(*) from outbox.enrolments").await - before, 1);
}

#[tokio::test]
async fn who_is_on_the_way_now_and_may_be_through_by_the_firing_is_counted_apart() {
    let it = Harness::start().await;
    let source = |again: &str| {
        let audience =
            format!("schedule: {{ manual: true }}\naudience: {{ sql: \"select '{ANN}' as phone\", again: {again} }}");
        file(&audience, "[{ send: { body: Hi } }]")
    };
    let always = source("always");
    it.apply(&always).await;
    it.enrol(ANN).await;
    let from = (it.now().await + TimeDelta::days(7)).to_rfc3339();
    let (code, told) = plan(&it, &always, &["--strict", "--from", &from]).await;
    let people = &told["people"];
    assert_eq!((code, &people["enrolled"], &people["may_be_through"]), (0, &0.into(), &1.into()), "{people}");
    let (_, text) = shown(&it, &always, &["--from", &from]).await;
    assert!(text.contains("1 person is on the way now, and counted as already_active: who is through by "), "{text}");
    assert!(text.contains("first message  not known: to who is through by then") && !text.contains("never"), "{text}");
    for (source, args) in [(&always, vec!["--strict"]), (&source("never"), vec!["--strict", "--from", &from])] {
        let (code, told) = plan(&it, source, &args).await;
        assert_eq!((code, &told["people"]["may_be_through"]), (3, &0.into()), "it is for nobody: {told}");
    }
    let (_, text) = shown(&it, &always, &[]).await;
    assert!(text.contains("first message  never") && !text.contains("on the way now"), "{text}");
}

#[tokio::test]
async fn whom_a_mended_row_lets_go_is_in_the_plan_as_they_are_in_the_firing() {
    let it = Harness::start().await;
    it.execute(
        "create table people (phone text, name text, city text);
         insert into people values ('+15550142200', null, 'Rome'), ('+15550142201', null, 'Rome'), ('+15550142202', null, null)",
    )
    .await;
    let more = "schedule: { manual: true }\naudience: { sql: 'select phone, name from people' }
variables: { name: { missing: hold }, city: { missing: hold } }";
    let source = file(more, "[{ send: { body: '{{ name }} of {{ city }}' }, name: hello }]");
    it.apply(&source.replace("phone, name", "phone, city")).await;
    it.run(&["campaign", "run", "drip"]).await;
    it.settle(&it.engine()).await;
    it.apply(&source).await;
    it.execute("update people set name = 'Ann' where phone <> '+15550142201'").await;
    let (code, told) = plan(&it, &source, &["--preview", "9"]).await;
    let people = &told["people"];
    assert_eq!((code, &people["enrolled"], &people["let_go"]), (0, &0.into(), &1.into()), "{people}");
    assert_eq!(people["excluded"], json!({"already_active": 3}));
    assert_eq!((&told["steps"][0]["messages"], &told["preview"][0]["text"]), (&json!([1, 1]), &json!("Ann of Rome")));
    let (_, text) = shown(&it, &source, &[]).await;
    assert!(text.contains("let go: held until now, and their row has something new  1"), "{text}");

    it.run(&["campaign", "run", "drip"]).await;
    it.settle(&it.engine()).await;
    it.drain().await;
    assert_eq!(it.texts().into_values().collect::<Vec<_>>(), [["Ann of Rome"]]);
}

#[tokio::test]
async fn a_row_with_another_value_lets_go_of_who_is_held_for_theirs_and_one_with_the_same_does_not() {
    let it = Harness::start().await;
    it.execute(
        "create table people (phone text, age text, city text);
         insert into people values ('+15550142200', 'three', 'Rome'), ('+15550142201', 'four', 'Rome')",
    )
    .await;
    let more = "schedule: { manual: true }\naudience: { sql: 'select phone, age, city from people' }
variables: { age: { missing: hold }, city: { missing: hold } }";
    let source = file(more, "[{ send: { body: '{{ age | int }} in {{ city }}' } }]");
    it.apply(&source).await;
    it.run(&["campaign", "run", "drip"]).await;
    it.settle(&it.engine()).await;
    assert_eq!(it.enrolments().await, "held/unreadable held/unreadable");
    // What the row leaves blank is as it was.
    it.execute("update people set age = '3', city = ' ' where phone = '+15550142200'").await;
    let (_, told) = plan(&it, &source, &["--preview", "9"]).await;
    assert_eq!((&told["people"]["let_go"], &told["preview"][0]["text"]), (&1.into(), &json!("3 in Rome")), "{told}");
    it.run(&["campaign", "run", "drip"]).await;
    it.settle(&it.engine()).await;
    it.drain().await;
    assert_eq!(it.texts().into_values().collect::<Vec<_>>(), [["3 in Rome"]]);
}

/// Who wrote to us first is no new contact, also before their message has been looked at.
#[tokio::test]
async fn the_backlog_of_a_plan_counts_who_wrote_first_as_a_follow_up() {
    let it = Harness::start().await;
    it.insert(ANN, "Hi").await;
    it.insert(BOB, "Hi").await;
    it.execute("insert into outbox.recipients (phone, last_inbound_at) values ('+15550142200', now())").await;
    let ours = Ours { at: it.now().await, priority: 0, campaign: "drip", from_where_they_stand: false };
    let backlog = known::backlog(it.pool(), ours).await.expect("read");
    let load = backlog.queued["*"];
    assert_eq!((load.first_touches, load.follow_ups), (1, 1));
}

#[tokio::test]
async fn a_link_that_comes_by_a_variable_in_a_first_message_is_told_and_fails_a_strict_plan() {
    let it = Harness::start().await;
    let more = "schedule: { manual: true }\naudience: { sql: \"select '+15550142200' as phone, 'acme.example/tour' as url\" }\nvariables: { url: { missing: hold } }";
    let source = file(more, "[{ send: { body: 'Look: {{ url }}' }, name: hello }]");
    let (code, told) = shown(&it, &source, &["--strict"]).await;
    let words = "1 new contact gets a link in their first message, at hello, which Chert refuses";
    assert!(code == 3 && told.contains(words), "{told}");
    let (code, told) = plan(&it, &source, &[]).await;
    assert_eq!((code, &told["steps"][0]["links_to_new"]), (0, &1.into()));
    it.insert(ANN, "Hi").await;
    it.drain().await;
    assert_eq!(shown(&it, &source, &["--strict"]).await.0, 0, "they know us");
}
