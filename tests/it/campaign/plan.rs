//! Plans by the real command, over people and lines as the database has them.

use std::time::Duration;

use chert_outbox::outbox::lines::Paces;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

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
    let (code, told) = shown(it, source, &[&["--json"], args].concat()).await;
    (code, serde_json::from_str(&told).unwrap_or_else(|_| panic!("{told}")))
}

/// The exit code of a plan and what it says.
async fn shown(it: &Harness, source: &str, args: &[&str]) -> (i32, String) {
    let directory = tempfile::tempdir().expect("made");
    let path = directory.path().join("campaign.yaml");
    std::fs::write(&path, source).expect("written");
    let (code, told, error) = it.run(&[&["campaign", "plan", path.to_str().expect("UTF-8")], args].concat()).await;
    (code, told + &error)
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
    assert_eq!((&counts["rows"], &counts["enrolled"], &counts["new"]), (&6.into(), &2.into(), &1.into()), "{counts}");
    assert_eq!(counts["left_out"], serde_json::json!({"bad_number": 1, "duplicate": 1, "suppressed": 1}));
    assert_eq!(counts["held"], serde_json::json!({"name is missing": 1}));
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
    it.insert(DOT, "held").await;
    it.execute("update outbox.jobs set reason = 'in_review' where body = 'held'").await;
    it.insert(CID, "for next week").await;
    it.execute("update outbox.jobs set due_at = now() + interval '7d' where body = 'for next week'").await;
    assert_eq!(waits().await, TimeDelta::seconds(3), "neither of them takes a line's time");
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
