//! By which lines a campaign's messages go, and what is foretold of them.

use std::collections::BTreeMap;
use std::time::Duration;

use chert_outbox::outbox::lines::Paces;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::campaign::{ANN, BOB, CID, DOT, file};
use crate::harness::Harness;

const HI: &str = "[{ send: { body: Hi } }]";
const OF_TWO: &str = "lines: { pool: [pl_1, pl_2] }";

/// How many jobs of the campaign name which line.
async fn named(it: &Harness) -> String {
    it.text("select phone_line_id || ' ' || count(*) from outbox.jobs where campaign = 'drip' group by phone_line_id order by phone_line_id")
        .await
}

async fn enrol(it: &Harness, numbers: std::ops::Range<u32>) {
    for n in numbers {
        it.enrol(&format!("+155501424{n:02}")).await;
    }
}

/// How many messages each line has sent.
fn sent(it: &Harness) -> BTreeMap<String, usize> {
    let mut sent = BTreeMap::new();
    it.ledger().into_iter().for_each(|entry| *sent.entry(entry.line_id).or_default() += 1);
    sent
}

#[tokio::test]
async fn a_paused_line_of_the_pool_gets_no_new_contacts_and_nobody_is_lost() {
    let it = Harness::start().await;
    it.apply(&file(OF_TWO, HI)).await;
    it.execute(
        "update outbox.lines set paused_at = now() where id = 'pl_1';
         insert into outbox.recipients (phone, line_id, first_touched_at) values ('+15550142200', 'pl_1', now())",
    )
    .await;
    enrol(&it, 0..20).await;
    it.enrol(ANN).await;
    it.settle(&it.engine()).await;
    assert_eq!(named(&it).await, "pl_2 20 null", "whom a line has written to names none, and waits for it");
    it.drain_with(&["--drain-wait", "0s"]).await;
    assert_eq!(sent(&it), BTreeMap::from([("pl_2".to_owned(), 20)]));

    it.execute("update outbox.lines set paused_at = now() where id = 'pl_2'").await;
    enrol(&it, 20..40).await;
    it.settle(&it.engine()).await;
    assert_eq!(it.count("state = 'queued'").await, 21, "they wait for their lines");
    it.execute("update outbox.lines set paused_at = null, removed_at = now() where id in ('pl_1', 'pl_2')").await;
    enrol(&it, 40..42).await;
    it.settle(&it.engine()).await;
    assert_eq!(it.text("select state from outbox.enrolments order by id desc limit 2").await, "active active");
    assert_eq!(it.count("state = 'queued'").await, 21, "of them no job is made that would fail");
    it.execute("update outbox.lines set removed_at = null").await;
    it.time_passes().await;
    it.settle(&it.engine()).await;
    it.drain().await;
    let sent = sent(&it);
    assert_eq!((sent.values().sum::<usize>(), sent.len()), (43, 2), "{sent:?}");
}

/// Two people are pinned to each of two lines, of which one is paused.
async fn pinned(it: &Harness) -> String {
    it.execute(
        "create table people as select '+1555014220' || n as phone from generate_series(0, 3) n;
         insert into outbox.recipients (phone, line_id, first_touched_at)
         select phone, case when phone < '+15550142202' then 'pl_1' else 'pl_2' end, now() from people;
         update outbox.lines set paused_at = now() where id = 'pl_1'",
    )
    .await;
    file("schedule: { manual: true }\naudience: { sql: select phone from people order by phone }", HI)
}

async fn told(it: &Harness, args: &[&str]) -> Value {
    let (code, told, error) = it.run(&[args, &["--json"]].concat()).await;
    assert_eq!(code, 0, "{error}");
    serde_json::from_str(&told).unwrap_or_else(|_| panic!("{told}"))
}

/// What `campaign plan` says of a file.
async fn planned(it: &Harness, source: &str) -> Value {
    let directory = tempfile::tempdir().expect("made");
    let path = directory.path().join("campaign.yaml");
    std::fs::write(&path, source).expect("written");
    told(it, &["campaign", "plan", path.to_str().expect("UTF-8")]).await
}

#[tokio::test]
async fn who_is_pinned_to_a_paused_line_is_foretold_to_wait_and_does() {
    let it = Harness::start().await;
    let source = pinned(&it).await;
    let plan = planned(&it, &source).await;
    assert_eq!((&plan["stuck"], &plan["steps"][0]["messages"]), (&2.into(), &json!([2, 2])));
    it.apply(&source).await;
    it.run(&["campaign", "run", "drip"]).await;
    it.settle(&it.engine()).await;
    let status = told(&it, &["campaign", "status", "drip"]).await;
    assert_eq!((&status["eta"]["stuck"], &status["eta"]["messages"]), (&2.into(), &json!([2, 2])));
    it.drain_with(&["--drain-wait", "0s"]).await;
    assert_eq!(it.texts().into_keys().collect::<Vec<_>>(), [CID, DOT]);
}

#[tokio::test]
async fn a_message_that_names_a_line_is_foretold_to_go_by_it_whatever_is_drawn_now() {
    let it = Harness::start().await;
    it.apply(&file(OF_TWO, HI)).await;
    it.execute("update outbox.lines set paused_at = now() where id = 'pl_2'").await;
    it.enrol(ANN).await;
    it.settle(&it.engine()).await;
    it.execute("update outbox.lines set paused_at = case when id = 'pl_1' then now() end").await;
    it.enrol(BOB).await;
    let eta = told(&it, &["campaign", "status", "drip"]).await["eta"].clone();
    assert_eq!((&eta["stuck"], &eta["messages"]), (&1.into(), &json!([1, 1])), "{eta}");
    it.settle(&it.engine()).await;
    assert_eq!(named(&it).await, "pl_1 1 pl_2 1");
}

#[tokio::test]
async fn a_line_that_a_step_names_for_everybody_and_the_account_does_not_have_is_refused_with_its_place() {
    let it = Harness::start().await;
    let directory = tempfile::tempdir().expect("made");
    let path = directory.path().join("drip.yaml").display().to_string();
    let steps = "\n- send: { body: Hi, phone_line_id: '{{ line }}' }\n- branch:\n    if: replied\n    then:\n    - send:\n        body: Hi\n        phone_line_id: pl_9";
    let more = "schedule: { manual: true }\naudience: { sql: \"select '+15550142200' as phone, 'pl_1' as line\" }\nvariables: { line: { missing: hold } }";
    std::fs::write(&path, file(more, steps)).expect("written");
    let told = format!(
        "{path}:14:24: steps[1].branch.then[0].send.phone_line_id: there is no line `pl_9` — did you mean `pl_"
    );
    for args in [&["campaign", "plan", &path][..], &["campaign", "apply", &path, "--yes"]] {
        let (code, _, error) = it.run(args).await;
        assert!(code == 1 && error.contains(&told), "{args:?}: {error}");
    }
    std::fs::write(&path, file(more, &steps.replace("pl_9", "pl_1"))).expect("written");
    let (code, _, error) = it.run(&["campaign", "apply", &path, "--yes"]).await;
    assert_eq!(code, 0, "{error}");
}

#[tokio::test]
async fn a_line_of_the_pool_that_the_account_does_not_have_is_refused_with_its_place() {
    let it = Harness::start().await;
    let directory = tempfile::tempdir().expect("made");
    let path = directory.path().join("drip.yaml");
    std::fs::write(
        &path,
        file("schedule: { manual: true }\naudience: { sql: select 1 as phone }\nlines:\n  pool: [pl_1, pl_9]", HI),
    )
    .expect("written");
    let path = path.to_str().expect("UTF-8");
    let told = format!("{path}:7:16: lines.pool[1]: there is no line `pl_9` — did you mean `pl_");
    for args in [&["campaign", "plan", path][..], &["campaign", "apply", path], &["campaign", "apply", path, "--yes"]] {
        let (code, _, error) = it.run(args).await;
        assert!(code == 1 && error.contains(&told), "{args:?}: {error}");
    }
    assert_eq!(it.scalar("select count(*) from outbox.campaigns").await, 0);
    it.execute("delete from outbox.lines where id <> '*'").await;
    let (code, _, error) = it.run(&["campaign", "apply", path, "--yes"]).await;
    assert_eq!(code, 0, "no line is known yet: {error}");
}

#[tokio::test]
async fn of_what_any_line_may_take_a_pool_is_behind_its_own_part_alone() {
    let it = Harness::start().await;
    it.pace(Paces { first_touch_gap: Some(Duration::from_secs(600)), ..Paces::default() }).await;
    let lines = it.scalar("select count(*) from outbox.lines where id <> '*'").await;
    for n in 0..2 * lines {
        it.insert(&format!("+155501424{n:02}"), "of the application").await;
    }
    let source = file(
        "schedule: { manual: true }\naudience: { sql: \"select '+15550142200' as phone\" }\nlines: { pool: [pl_1] }",
        HI,
    );
    let plan = planned(&it, &source).await;
    let at = |key: &str| plan[key].as_str().and_then(|at| at.parse::<DateTime<Utc>>().ok()).expect("a time");
    assert!(lines > 1 && plan["lines"] == json!(1));
    assert_eq!((at("first_at") - at("starts_at")).num_seconds(), 2 * 601, "two of them are this line's");
}

#[tokio::test]
async fn a_plan_of_a_pool_foretells_each_lines_new_contacts_as_they_are_drawn() {
    let it = Harness::start().await;
    it.execute(
        "create table people as select '+155501425' || lpad(n::text, 2, '0') as phone from generate_series(0, 59) n",
    )
    .await;
    let audience = "schedule: { manual: true }\naudience: { sql: select phone from people }";
    let source = file(&format!("{audience}\nlines: {{ pool: [pl_1, pl_2, pl_3] }}"), HI);
    it.execute("update outbox.lines set active = false where id = 'pl_3'").await;
    let plan = planned(&it, &source).await;
    it.apply(&source).await;
    it.run(&["campaign", "run", "drip"]).await;
    it.settle(&it.engine()).await;
    it.drain().await;
    let foretold = plan["loads"].as_array().expect("a list").iter().map(|line| {
        let days = line["days"].as_array().expect("a list").iter();
        let messages: u64 = days.filter_map(|day| day["first_touches"].as_u64()).sum();
        (line["id"].as_str().expect("an id").to_owned(), messages as usize)
    });
    let foretold: BTreeMap<String, usize> = foretold.collect();
    assert_eq!((foretold.clone(), foretold.len()), (sent(&it), 2));
    assert_eq!(foretold.values().sum::<usize>(), 60);
}

#[tokio::test]
async fn i05_whose_line_sends_nothing_holds_up_nobody_of_another() {
    let it = Harness::start().await;
    it.apply(&file("", HI)).await;
    it.execute(
        "insert into outbox.recipients (phone, line_id, first_touched_at)
         select '+155501424' || lpad(n::text, 2, '0'), case when n < 30 then 'pl_1' else 'pl_2' end, now()
           from generate_series(0, 39) n;
         update outbox.lines set paused_at = now() where id = 'pl_1'",
    )
    .await;
    enrol(&it, 0..40).await;
    let engine = it.engine_with(2);
    for _ in 0..8 {
        it.settle(&engine).await;
        it.drain_with(&["--drain-wait", "0s"]).await;
    }
    assert_eq!(it.count("state = 'sent' and phone >= '+15550142430'").await, 10);
    assert_eq!(it.count("state = 'queued'").await, 2, "all that may stand in the queue of the line that is paused");

    it.execute("update outbox.lines set paused_at = null").await;
    for _ in 0..16 {
        it.settle(&engine).await;
        it.drain().await;
    }
    it.each_sent_once(40).await;
}

#[tokio::test]
async fn new_contacts_who_wait_for_a_line_that_is_paused_go_by_another_of_the_pool() {
    let it = Harness::start().await;
    it.apply(&file(OF_TWO, HI)).await;
    enrol(&it, 0..20).await;
    let engine = it.engine_with(2);
    it.settle(&engine).await;
    assert_eq!(named(&it).await, "pl_1 2 pl_2 2");

    it.execute("update outbox.lines set paused_at = now() where id = 'pl_1'").await;
    for _ in 0..10 {
        it.settle(&engine).await;
        it.drain_with(&["--drain-wait", "0s"]).await;
    }
    assert_eq!(named(&it).await, "pl_1 2 pl_2 18");
    assert_eq!(sent(&it), BTreeMap::from([("pl_2".to_owned(), 18)]));
}

#[tokio::test]
async fn people_of_a_pool_stand_with_the_line_that_is_drawn_for_them_before_there_is_room() {
    let it = Harness::start().await;
    let audience = "schedule: { manual: true }\naudience: { sql: \"select '+15550143' || lpad(n::text, 3, '0') as phone from generate_series(1, 300) n\" }";
    it.apply(&file(&format!("{audience}\n{OF_TWO}"), HI)).await;
    it.run(&["campaign", "run", "drip"]).await;
    let engine = it.engine_with(2);
    it.settle(&engine).await;
    assert_eq!(named(&it).await, "pl_1 2 pl_2 2");
    let standing = "select distinct line_id from outbox.enrolments where ready order by line_id";
    assert_eq!(it.text(standing).await, "pl_1 pl_2");
    assert_eq!(it.scalar("select count(*) from outbox.enrolments where ready").await, 296);
}
