//! What `explain` tells, against what then happens: real jobs in each state, and the instants foretold for them.

use std::time::Duration;

use chert_outbox::database::connect;
use chert_outbox::outbox::explain::{self, Rules};
use chert_outbox::outbox::lines::Paces;
use chert_outbox::outbox::marks::Marks;
use chert_outbox::outbox::upcoming::upcoming;
use chert_outbox::simulate::Fault;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use crate::campaign::{ANN, BOB, CID, file};
use crate::claim::{admit_all, claimed, claimer};
use crate::database::Database;
use crate::harness::{Harness, until};
use crate::plans::fill;

/// A message may leave so much later than foretold: claims, polls and a busy machine.
const LATE: TimeDelta = TimeDelta::milliseconds(1_500);

impl Harness {
    async fn explain(&self, subject: &str) -> Value {
        let (code, told, error) = self.run(&["explain", subject, "--json"]).await;
        assert_eq!(code, 0, "{error}");
        serde_json::from_str(&told).expect("JSON")
    }

    /// What comes next of a job.
    async fn next_of(&self, job: i64) -> Value {
        self.explain(&job.to_string()).await["job"]["next"].take()
    }

    /// When a job's last call began.
    async fn called_at(&self, job: i64) -> DateTime<Utc> {
        let calls = "select max(started_at) from outbox.attempts where job_id = $1";
        sqlx::query_scalar(calls).bind(job).fetch_one(self.pool()).await.expect("it was called")
    }

    /// The job is sent, and not before this instant nor much later.
    async fn is_sent_at(&self, job: i64, foretold: DateTime<Utc>) {
        self.until("it is sent", || async { self.state(job).await == "sent" }).await;
        let late = self.called_at(job).await - foretold;
        assert!(late >= TimeDelta::milliseconds(-5) && late < LATE, "job {job} left {late} after it was foretold");
    }

    /// How much time has to pass until three seconds before that: it is made to pass, so that nothing happens while it is foretold.
    async fn three_seconds_before(&self, next: &Value) -> TimeDelta {
        at(next) - self.now().await - TimeDelta::seconds(3)
    }

    /// A recipient of the first line, who was written to before.
    async fn knows(&self, phone: &str) {
        let known = "insert into outbox.recipients (phone, line_id, first_touched_at) values ($1, 'pl_1', now())";
        sqlx::query(known).bind(phone).execute(self.pool()).await.expect("inserted");
    }
}

fn at(next: &Value) -> DateTime<Utc> {
    serde_json::from_value(next["at"].clone()).unwrap_or_else(|_| panic!("an instant in {next}"))
}

fn binds(next: &Value) -> Vec<&str> {
    next["binds"].as_array().expect("a list").iter().map(|bind| bind["what"].as_str().expect("a word")).collect()
}

#[tokio::test]
async fn a_job_behind_others_of_its_line_leaves_when_it_is_foretold() {
    let it = Harness::with(|options| options.lines = 1).await;
    it.pace(Paces { gap: Some(Duration::from_secs(4)), ..Paces::default() }).await;
    // A longer gap counts from the last message, of which there is none.
    it.execute("update outbox.lines set next_at = now()").await;
    let mut jobs = Vec::new();
    for phone in ["+15550142200", "+15550142201", "+15550142202"] {
        it.knows(phone).await;
        jobs.push(it.insert(phone, "Hi").await);
    }
    admit_all(&it).await;
    assert_eq!(claimed(&it, "one", 10).await, jobs[..1], "the line's first slot is taken");
    // So far away that the next one does not open while it is foretold, however busy the machine is.
    it.execute("update outbox.lines set next_at = next_at + interval '10 minutes'").await;
    let (second, third) = (it.next_of(jobs[1]).await, it.next_of(jobs[2]).await);
    assert_eq!(binds(&second), ["no_worker", "line_slot"]);
    assert_eq!(binds(&third), ["no_worker", "line_slot", "queue"]);
    assert_eq!(third["binds"][2]["count"], 1);
    // A gap of four seconds is kept with a guard of a tenth.
    assert_eq!(at(&third) - at(&second), TimeDelta::milliseconds(4_400));
    let passed = it.three_seconds_before(&second).await;
    sqlx::query("update outbox.lines set next_at = next_at - $1")
        .bind(passed)
        .execute(it.pool())
        .await
        .expect("passes");
    let worker = it.worker(&[]).await;
    it.is_sent_at(jobs[1], at(&second) - passed).await;
    it.is_sent_at(jobs[2], at(&third) - passed).await;
    worker.stop().await;
}

#[tokio::test]
async fn who_comes_later_is_told_nothing_of_who_stands_in_the_queue_now() {
    let it = Harness::with(|options| options.lines = 1).await;
    it.pace(Paces { gap: Some(Duration::from_secs(4)), ..Paces::default() }).await;
    for phone in ["+15550142201", "+15550142202", ANN] {
        it.knows(phone).await;
        it.insert(phone, "Hi").await;
    }
    it.execute("update outbox.jobs set reason = 'retrying', wake_at = now() + interval '1 hour' where id = 3").await;
    admit_all(&it).await;
    assert_eq!(binds(&it.next_of(3).await), ["retrying", "no_worker"]);
}

#[tokio::test]
async fn a_first_touch_leaves_when_its_gap_is_foretold_to_end() {
    let it = Harness::with(|options| options.lines = 1).await;
    // So long that the slot is not taken before it is foretold, however busy the machine is.
    it.pace(Paces { first_touch_gap: Some(Duration::from_secs(600)), ..Paces::default() }).await;
    let (first, second) = (it.insert(ANN, "Hi").await, it.insert(BOB, "Hi").await);
    let worker = it.worker(&[]).await;
    it.until("the first is sent", || async { it.state(first).await == "sent" }).await;
    it.until("the second stands ready", || async { it.count("ready").await == 1 }).await;
    let next = it.next_of(second).await;
    assert_eq!((binds(&next), &next["certain"]), (vec!["first_touch_gap"], &Value::Bool(true)));
    let passed = it.three_seconds_before(&next).await;
    sqlx::query("update outbox.lines set next_first_touch_at = next_first_touch_at - $1")
        .bind(passed)
        .execute(it.pool())
        .await
        .expect("passes");
    it.is_sent_at(second, at(&next) - passed).await;
    worker.stop().await;
}

#[tokio::test]
async fn a_full_day_is_foretold_to_turn_when_the_claims_own_look_says_so() {
    let it = Harness::with(|options| options.lines = 1).await;
    let zone = Some("Asia/Kathmandu".to_owned());
    it.pace(Paces { first_touch_cap: Some(Some(1)), time_zone: zone, ..Paces::default() }).await;
    let (_, second, third) =
        (it.insert(ANN, "Hi").await, it.insert(BOB, "Hi").await, it.insert("+15550142209", "Hi").await);
    admit_all(&it).await;
    assert_eq!(claimed(&it, "one", 10).await.len(), 1);
    let next = it.next_of(second).await;
    assert_eq!(binds(&next), ["no_worker", "first_touch_cap"]);
    assert_eq!(next["binds"][1]["zone"], "Asia/Kathmandu");
    let opens = upcoming(it.pool(), &Marks::default(), false).await.expect("looks ahead").next_in.expect("it opens");
    let opens = it.now().await + opens + chert_outbox::pace::slots::HORIZON - chert_outbox::pace::slots::REFILL;
    assert!((at(&next) - opens).abs() < TimeDelta::seconds(1), "{next} and {opens}");
    let later = it.next_of(third).await;
    assert_eq!(at(&later) - at(&next), TimeDelta::days(1), "one a day");
}

#[tokio::test]
async fn a_retry_and_a_deferral_come_when_they_are_foretold() {
    let it = Harness::start().await;
    let worker = it.worker(&[]).await;
    for (code, word, phone) in [(3001, "retrying", ANN), (4002, "recipient_saturated", BOB)] {
        it.next_faults([Fault::Error { code, status: None, retryable: None, retry_after: Some(5) }]);
        let job = it.insert(phone, "Hi").await;
        it.until("it waits", || async { it.state(job).await == format!("queued/{word}") }).await;
        let next = it.next_of(job).await;
        assert_eq!((binds(&next)[0], &next["certain"]), (word, &Value::Bool(true)), "{next}");
        it.is_sent_at(job, at(&next)).await;
    }
    worker.stop().await;
    let told = it.explain("1").await;
    let past: Vec<_> = told["past"].as_array().expect("a list").iter().map(|past| past["what"].as_str()).collect();
    assert_eq!(past, ["inserted", "admitted", "attempt", "attempt", "sent"].map(Some));
    assert_eq!((&told["past"][2]["of"], &told["past"][3]["of"]), (&"retry".into(), &"sent".into()));
}

#[tokio::test]
async fn what_is_due_later_leaves_then_and_what_follows_it_not_before() {
    let it = Harness::start().await;
    it.execute(
        "insert into outbox.jobs (phone, body, due_at) values ('+15550142200', 'Hi', now() + interval '4 seconds')",
    )
    .await;
    let worker = it.worker(&[]).await;
    it.until("the worker is known", || async { binds(&it.next_of(1).await) == ["not_due"] }).await;
    let next = it.next_of(1).await;
    it.is_sent_at(1, at(&next)).await;
    worker.stop().await;
    let ended = it.next_of(1).await;
    assert_eq!(ended["what"], "look", "of its delivery");
}

#[tokio::test]
async fn what_admission_holds_or_ends_is_told_by_the_same_word() {
    let it = Harness::start().await;
    it.execute("update outbox.cursors set proved_at = now(); insert into outbox.campaigns (name, version, state) values ('spring', 1, 'paused')").await;
    let cases = [
        ("in_review", "update outbox.recipients set review_since = now(), review_reason = 'it' where phone = $1"),
        ("unanswered", "update outbox.recipients set unanswered = 3 where phone = $1"),
        ("campaign_paused", "update outbox.jobs set campaign = 'spring' where phone = $1"),
        ("suppressed", "insert into outbox.suppressions (phone, reason) values ($1, 'it')"),
        (
            "expired",
            "update outbox.jobs set due_at = now() - interval '2 hours', expires_at = now() - interval '1 hour' where phone = $1",
        ),
        ("inbound_stale", "update outbox.cursors set proved_at = now() - interval '1 day' where $1 <> ''"),
    ];
    for (n, (word, change)) in cases.into_iter().enumerate() {
        let phone = format!("+1555014220{n}");
        it.knows(&phone).await;
        let insert = "insert into outbox.jobs (phone, body, class) values ($1, 'Hi', 'marketing') returning id";
        let job: i64 = sqlx::query_scalar(insert).bind(&phone).fetch_one(it.pool()).await.expect("inserted");
        sqlx::query(change).bind(&phone).execute(it.pool()).await.expect(word);
        for when in ["before", "after"] {
            let next = it.next_of(job).await;
            let ended = it.count(&format!("id = {job} and finished_at is not null")).await == 1;
            assert!(ended || binds(&next).contains(&word), "{word} {when} its admission: {next}");
            assert!(ended || next["certain"] == false, "{word}: {next}");
            admit_all(&it).await;
        }
        let reason = it.field(job, "reason").await;
        assert_eq!(reason.as_deref(), Some(word), "what admission says");
    }
}

#[tokio::test]
async fn what_stops_lines_and_account_is_told() {
    let it = Harness::with(|options| options.lines = 1).await;
    let job = it.insert(ANN, "Hi").await;
    admit_all(&it).await;
    it.execute("update outbox.lines set paused_at = now()").await;
    assert_eq!(binds(&it.next_of(job).await), ["no_worker", "line_paused"]);
    it.execute("update outbox.lines set paused_at = null, active = false").await;
    assert_eq!(binds(&it.next_of(job).await), ["no_worker", "line_inactive"]);
    it.execute(
        "update outbox.lines set active = true;
         update outbox.account set block_kind = 'rate_limited', block_reason = 'x', blocked_at = now(), blocked_until = now() + interval '1 hour'",
    )
    .await;
    let next = it.next_of(job).await;
    assert_eq!(binds(&next), ["rate_limit", "no_worker"]);
    assert!((at(&next) - it.now().await) > TimeDelta::minutes(59));
    it.execute(
        "update outbox.account set block_kind = null, block_reason = null, blocked_at = null, blocked_until = null",
    )
    .await;
    let claim = claimer("one").claim(it.pool(), 1, false, &mut Marks::default()).await.expect("claims");
    assert_eq!(claim.claims.len(), 1);
    let next = it.next_of(job).await;
    assert_eq!(binds(&next), ["lease", "no_worker"], "nobody has heard of its worker");
    let lease = it.field(job, "floor(extract(epoch from lease_until))::bigint").await;
    assert_eq!(lease, Some(at(&next).timestamp().to_string()));
}

#[tokio::test]
async fn a_person_is_told_whole_and_masked() {
    let it = Harness::start().await;
    it.knows(ANN).await;
    it.execute(
        "insert into outbox.jobs (phone, body, priority) select '+15550142200', 'secret text', n from generate_series(1, 14) n;
         insert into outbox.suppressions (phone, scope, reason) values ('+15550142200', 'campaign=spring', 'asked');
         update outbox.jobs set state = 'failed', reason = 'rejected', error_code = 1003, finished_at = now() where id = 1",
    )
    .await;
    admit_all(&it).await;
    let told = it.explain(ANN).await;
    assert_eq!((&told["phone"], &told["first_touch"]), (&"+1******2200".into(), &Value::Bool(false)));
    assert_eq!((&told["ended"][0]["id"], &told["suppressions"][0]["scope"]), (&1.into(), &"campaign=spring".into()));
    let waiting = told["waiting"].as_array().expect("a list");
    assert_eq!((waiting.len(), &told["more_waiting"]), (10, &3.into()));
    assert_eq!(binds(&waiting[0]["next"]), ["no_worker"], "the first one could go");
    assert_eq!(binds(&waiting[1]["next"])[0], "behind_earlier");
    assert_eq!(waiting[1]["next"]["binds"][0]["of"], "2");
    for args in [vec!["explain", ANN], vec!["explain", "2"], vec!["explain", ANN, "--json"]] {
        let (code, told, error) = it.run(&args).await;
        assert_eq!(code, 0, "{error}");
        assert!(!told.contains("0142200") && !told.contains("secret"), "{told}");
    }
    let (code, _, error) = it.run(&["explain", "99"]).await;
    assert!(code == 1 && error.contains("there is no job 99"), "{error}");
    let (code, _, error) = it.run(&["explain", "nothing"]).await;
    assert!(code == 1 && error.contains("there is no campaign named nothing"), "{error}");
}

#[tokio::test]
async fn a_way_through_a_campaign_goes_on_when_it_is_foretold() {
    let it = Harness::start().await;
    let engine = it.engine();
    it.apply(&file("", "[{ send: { body: one }, name: first }, { wait: 1d }, { send: { body: two }, name: second }]"))
        .await;
    it.enrol(ANN).await;
    it.settle(&engine).await;
    let told = it.explain(ANN).await;
    let enrolment = &told["enrolments"][0];
    assert_eq!((&enrolment["step"], binds(&enrolment["next"])), (&"first".into(), vec!["job"]));
    it.drain().await;
    it.settle(&engine).await;
    let told = it.explain(ANN).await;
    let enrolment = &told["enrolments"][0];
    assert_eq!((&enrolment["step"], binds(&enrolment["next"])), (&"second".into(), vec!["wait"]));
    let shares = it.explain("drip").await;
    assert_eq!(shares["people"].as_array().map(Vec::len), Some(1));
    assert_eq!((&shares["people"][0]["what"], &shares["people"][0]["count"]), (&"wait".into(), &1.into()), "{shares}");
    assert_eq!(shares["people"][0]["earliest_at"], enrolment["next"]["at"]);
    assert_eq!(shares["people"][0]["next"], enrolment["next"]);
    let passed = it.three_seconds_before(&enrolment["next"]).await;
    sqlx::query("update outbox.enrolments set due_at = due_at - $1, reached_at = reached_at - $1")
        .bind(passed)
        .execute(it.pool())
        .await
        .expect("passes");
    let foretold = at(&enrolment["next"]) - passed;
    it.until("the second job is made", || async {
        engine.pass().await.expect("works");
        it.count("true").await == 2
    })
    .await;
    let made: DateTime<Utc> =
        sqlx::query_scalar("select max(created_at) from outbox.jobs").fetch_one(it.pool()).await.expect("made");
    assert!(made >= foretold && made - foretold < LATE, "made {} after it was foretold", made - foretold);
}

#[tokio::test]
async fn what_holds_the_first_people_of_a_campaign_is_told_and_no_time_that_is_none() {
    let it = Harness::start().await;
    it.apply(&file("", "[{ send: { body: one }, name: first }, { wait: 1d }, { send: { body: two } }]")).await;
    it.enrol(ANN).await;
    it.enrol(BOB).await;
    it.settle(&it.engine_with(1)).await;
    let turn = async |args: &[&str]| {
        let (code, told, error) = it.run(&[&["explain", "drip"], args].concat()).await;
        assert_eq!(code, 0, "{error}");
        let row = told.lines().find(|line| line.trim_start().starts_with("turn")).expect("one waits").to_owned();
        let (_, json, _) = it.run(&[&["explain", "drip", "--json"], args].concat()).await;
        let shares: Value = serde_json::from_str(&json).expect("JSON");
        let shares = shares["people"].as_array().expect("a list").clone();
        let mut turn = shares.into_iter().find(|share| share["what"] == "turn").expect("one waits");
        (turn["next"].take(), row, told)
    };
    let (next, row, _) = turn(&[]).await;
    assert!(binds(&next).is_empty() && row.contains("  now  "), "{row}");
    let (next, row, told) = turn(&["--campaign-look-ahead", "1"]).await;
    assert_eq!((binds(&next), &next["at"]), (vec!["look_ahead"], &Value::Null));
    assert!(
        row.contains("not known") && told.contains("as many messages of drip as may stand in the queue do"),
        "{told}"
    );
    it.run(&["campaign", "pause", "drip"]).await;
    let (next, row, told) = turn(&[]).await;
    assert_eq!((binds(&next), &next["at"]), (vec!["campaign_paused"], &Value::Null));
    assert!(row.contains("not known") && told.contains("the campaign drip is paused: campaign resume drip"), "{told}");
}

#[tokio::test]
async fn who_stands_before_somebody_is_counted_while_there_is_room_for_fewer() {
    let it = Harness::start().await;
    it.apply(&file("", "[{ send: { body: one }, name: first }]")).await;
    for phone in [ANN, BOB, CID] {
        it.enrol(phone).await;
    }
    it.execute("update outbox.enrolments set ready = true").await;
    let next = async |phone: &str, look_ahead: &str| {
        let (code, told, error) = it.run(&["explain", phone, "--json", "--campaign-look-ahead", look_ahead]).await;
        assert_eq!(code, 0, "{error}");
        serde_json::from_str::<Value>(&told).expect("JSON")["enrolments"][0]["next"].take()
    };
    assert!(binds(&next(ANN, "1").await).is_empty(), "she is the first");
    for (phone, before) in [(BOB, 1), (CID, 2)] {
        let next = next(phone, "1").await;
        assert_eq!((binds(&next), &next["binds"][0]["count"]), (vec!["look_ahead"], &before.into()), "{next}");
        assert_eq!((&next["at"], &next["certain"]), (&Value::Null, &Value::Bool(false)));
    }
    assert!(binds(&next(CID, "3").await).is_empty(), "there is room for all three");
    let (_, told, _) = it.run(&["explain", CID, "--campaign-look-ahead", "1"]).await;
    assert!(told.contains("2 stand before this person, and only so many messages of drip are made ahead"), "{told}");
}

#[tokio::test]
async fn who_rests_before_a_message_is_told_apart_from_who_waits_for_their_turn() {
    let it = Harness::start().await;
    it.apply(&file("", "[{ send: { body: one } }, { wait: 1d }, { send: { body: two } }]")).await;
    for phone in [ANN, BOB, CID] {
        it.enrol(phone).await;
    }
    it.settle(&it.engine()).await;
    it.drain().await;
    it.settle(&it.engine()).await;
    // Whose hours have not come is looked at later, and rests no more.
    it.execute(
        "update outbox.enrolments set reached_at = now(), due_at = now() where phone = '+15550142200';
         update outbox.enrolments set reached_at = now(), due_at = now() + interval '1 hour' where phone = '+15550142201'",
    )
    .await;
    let told = it.explain("drip").await;
    let people: Vec<_> = told["people"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|share| (share["what"].as_str(), share["count"].as_i64()))
        .collect();
    assert_eq!(people, [(Some("wait"), Some(1)), (Some("turn"), Some(2))]);
    assert_eq!(binds(&told["people"][0]["next"]), ["wait"]);
    assert!(binds(&told["people"][1]["next"]).is_empty(), "{told}");
}

#[tokio::test]
async fn a_job_that_expires_with_its_window_is_told_to_be_made_anew_and_one_that_is_too_late_is_not() {
    let it = Harness::start().await;
    let clock = |hours: i64| format!("select to_char(now() at time zone 'UTC' + interval '{hours} hours', 'HH24:00')");
    let windows = format!("windows: [{{ from: '{}', to: '{}' }}]", it.text(&clock(-1)).await, it.text(&clock(3)).await);
    it.execute(
        "insert into outbox.recipients (phone, time_zone) values ('+15550142200', 'UTC'), ('+15550142201', 'UTC')",
    )
    .await;
    for (job, phone, steps, word) in [
        (1, ANN, "[{ send: { body: Hi } }]", "hours_end"),
        (2, BOB, "[{ send: { body: Hi }, expires_after: 1h }]", "expires"),
    ] {
        it.apply(&file(&windows, steps)).await;
        it.enrol(phone).await;
        it.settle(&it.engine()).await;
        it.execute("update outbox.jobs set reason = 'retrying', wake_at = now() + interval '5 hours'").await;
        let next = it.next_of(job).await;
        assert_eq!((&next["what"], binds(&next).last()), (&"end".into(), Some(&word)), "{next}");
        let (_, told, _) = it.run(&["explain", &job.to_string()]).await;
        assert_eq!(told.contains("the campaign drip makes the message anew"), word == "hours_end", "{told}");
    }
    for over in [
        "update outbox.jobs set unknown_since = now() where id = 1",
        "update outbox.jobs set unknown_since = null, due_at = now() - interval '1 hour', expires_at = now() - interval '1 second' where id = 1;
         update outbox.campaigns set state = 'stopped'",
    ] {
        it.execute(over).await;
        assert_ne!(binds(&it.next_of(1).await).last(), Some(&"hours_end"), "nothing follows it: {over}");
    }
}

#[tokio::test]
async fn who_is_held_for_a_field_is_told_which_one_it_is_and_what_to_do() {
    let it = Harness::start().await;
    let steps = "[{ name: ask, branch: { if: var.orders | int >= 3, then: [{ send: { body: many } }] } }]";
    it.apply(&file("variables: { orders: { missing: hold } }", steps)).await;
    it.enrol_with(ANN, r#"{"orders": "several"}"#).await;
    for _ in 0..2 {
        let told = it.explain(ANN).await;
        let bind = &told["enrolments"][0]["next"]["binds"][0];
        assert_eq!((&bind["what"], &bind["of"]), (&"held".into(), &"`if` of the step ask".into()), "{told}");
        it.settle(&it.engine()).await;
    }
    for (args, says) in [
        (&["explain", ANN][..], "held (`if` cannot be used) at ask"),
        (&["explain", ANN], "`if` of the step ask cannot be used with what is known of this person: mend the file"),
        (&["explain", "drip"], "cannot be used in a field of their step; explain PHONE says which"),
        (&["campaign", "people", "drip"], "unreadable: what they have cannot be used in this field of their step"),
    ] {
        let (_, told, _) = it.run(args).await;
        assert!(told.contains(says), "{told}");
    }
}

#[tokio::test]
async fn whose_lines_are_the_accounts_no_more_are_told_so_everywhere_until_one_is() {
    let it = Harness::start().await;
    let steps = "[{ name: hello, send: { body: Hi } }]";
    it.apply(&file("lines: { pool: [pl_1, pl_2] }", steps)).await;
    it.execute("update outbox.lines set removed_at = now() where id in ('pl_1', 'pl_2')").await;
    it.enrol(ANN).await;
    it.settle(&it.engine()).await;
    let told = it.explain(ANN).await;
    assert_eq!(binds(&told["enrolments"][0]["next"]), ["no_line", "looked_at_again"], "{told}");
    for (args, says) in [
        (&["explain", ANN][..], "the account has none of the lines in the campaign's pool"),
        (&["explain", "drip"], "the account has none of the lines in the campaign's pool"),
        (&["campaign", "people", "drip", "--reason", "no_line"], "due (no_line)"),
        (&["campaign", "status", "drip"], "1 (1 no_line)"),
    ] {
        let (code, told, error) = it.run(args).await;
        assert!(code == 0 && told.contains(says), "{told}{error}");
    }
    it.execute("update outbox.lines set removed_at = null").await;
    it.time_passes().await;
    it.settle(&it.engine()).await;
    assert_eq!(it.text("select coalesce(detail, 'none') from outbox.enrolments").await, "none");
    assert_eq!(it.count("state = 'queued'").await, 1);
}

#[tokio::test]
async fn what_is_left_of_a_stopped_campaign_is_told_to_end_and_not_to_be_resumed() {
    let it = Harness::start().await;
    it.apply(&file("", "[{ send: { body: one }, name: first }]")).await;
    it.enrol(ANN).await;
    it.settle(&it.engine()).await;
    for (state, what, word) in [("paused", "send", "campaign_paused"), ("stopped", "end", "campaign_stopped")] {
        let change = "update outbox.campaigns set state = $1";
        sqlx::query(change).bind(state).execute(it.pool()).await.expect("set");
        admit_all(&it).await;
        let person = it.explain(ANN).await;
        for next in [&it.next_of(1).await, &person["waiting"][0]["next"]] {
            assert_eq!((&next["what"], binds(next)[0]), (&what.into(), word), "{next}");
        }
        assert_eq!(binds(&person["enrolments"][0]["next"])[0], word);
        assert_eq!(it.explain("drip").await["queued"][0]["what"], word);
        for subject in ["1", ANN, "drip"] {
            let (_, told, _) = it.run(&["explain", subject]).await;
            assert_eq!(told.contains("campaign resume"), state == "paused", "{told}");
            assert_eq!(told.contains("was stopped: the next pass of an engine"), state == "stopped", "{told}");
        }
    }
    it.settle(&it.engine()).await;
    assert_eq!(
        (it.state(1).await.as_str(), it.enrolments().await.as_str()),
        ("canceled/canceled", "stopped/campaign_stopped")
    );
}

#[tokio::test]
async fn a_window_and_a_cap_are_told_with_what_closes_and_when_it_opens() {
    let it = Harness::start().await;
    let engine = it.engine();
    // The day after tomorrow in UTC, whatever day it is: closed now, and for a day to come.
    let day = (it.now().await + TimeDelta::days(2)).format("%a").to_string().to_lowercase();
    let windows =
        format!("caps: {{ per_recipient: 1 in 7d }}\nwindows: [{{ days: {day}, from: '09:00', to: '18:00' }}]");
    it.apply(&file(&windows, "[{ send: { body: one }, name: first }]")).await;
    it.execute("insert into outbox.recipients (phone, time_zone) values ('+15550142200', 'UTC')").await;
    it.enrol(ANN).await;
    it.settle(&engine).await;
    let next = it.explain(ANN).await["enrolments"][0]["next"].take();
    assert_eq!((binds(&next)[0], &next["binds"][0]["of"]), ("window", &"windows".into()));
    let due = it
        .text("select to_char(due_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') from outbox.enrolments")
        .await;
    assert_eq!(at(&next), due.parse::<DateTime<Utc>>().expect("an instant"), "when the engine looks again");
    it.execute(
        "insert into outbox.jobs (phone, body, campaign, state, sent_at, finished_at)
         values ('+15550142200', 'x', 'other', 'sent', now() - interval '1 day', now())",
    )
    .await;
    let next = it.explain(ANN).await["enrolments"][0]["next"].take();
    assert!(binds(&next).contains(&"frequency_cap"), "{next}");
    assert!(
        (at(&next) - it.now().await - TimeDelta::days(6)).abs() < TimeDelta::minutes(1),
        "six days are left: {next}"
    );
}

#[tokio::test]
async fn whose_way_has_ended_is_told_when_they_may_be_enrolled_again() {
    let it = Harness::start().await;
    let again = async |again: &str, told: &str| {
        let audience = format!("audience: {{ enrolled: true, again: {again} }}");
        it.apply(&file(&audience, "[{ send: { body: one } }]")).await;
        let (_, shown, _) = it.run(&["explain", ANN]).await;
        assert!(shown.contains(told), "{again}: {shown}");
    };
    again("always", "").await;
    it.enrol(ANN).await;
    it.settle(&it.engine()).await;
    assert_eq!(it.explain(ANN).await["enrolments"][0]["again"], Value::Null, "they are on their way");
    it.drain().await;
    it.settle(&it.engine()).await;
    again("never", "; nobody enrols them again (again: never)\n").await;
    again("always", "; they may be enrolled again\n").await;
    again("after 30d", "; they may be enrolled again from ").await;
    let ended = it.explain(ANN).await["enrolments"][0].take();
    let instant = |value: &Value| serde_json::from_value::<DateTime<Utc>>(value.clone()).expect("an instant");
    assert_eq!(instant(&ended["again"]["from"]), instant(&ended["created_at"]) + TimeDelta::days(30));
    it.run(&["campaign", "stop", "drip", "--yes"]).await;
    assert_eq!(it.explain(ANN).await["enrolments"][0]["again"], Value::Null, "nobody is enrolled any more");
}

#[tokio::test]
async fn a_message_that_is_held_counts_under_a_cap_and_is_named() {
    let it = Harness::start().await;
    let engine = it.engine();
    let steps = "[{ send: { body: one }, name: first }]";
    it.apply(&file("", steps).replace("name: drip", "name: other")).await;
    it.execute("select outbox.enrol('other', '+15550142200', '{}')").await;
    it.settle(&engine).await;
    it.run(&["campaign", "pause", "other"]).await;
    admit_all(&it).await;
    it.apply(&file("caps: { per_recipient: 1 in 1d }", steps)).await;
    it.enrol(ANN).await;
    it.settle(&engine).await;
    assert_eq!(it.count("campaign = 'drip'").await, 0, "resumed, the other one would break the cap");
    let told = it.explain(ANN).await;
    let next = &told["enrolments"][0]["next"];
    assert_eq!(
        (binds(next)[0], &next["binds"][0]["of"]),
        ("frequency_cap", &"job 1 (campaign_paused)".into()),
        "{told}"
    );
    let (_, told, _) = it.run(&["explain", ANN]).await;
    assert!(
        told.contains("job 1 (campaign_paused) has not gone out to this person yet, and counts until it has ended"),
        "{told}"
    );
    it.run(&["jobs", "cancel", "1"]).await;
    it.time_passes().await;
    it.settle(&engine).await;
    assert_eq!(it.count("campaign = 'drip'").await, 1);
}

#[tokio::test]
async fn whose_deadline_comes_before_their_hours_is_told_to_end_then_and_does() {
    let it = Harness::start().await;
    let engine = it.engine();
    // The day after tomorrow in UTC: closed for longer than the step is worth its message.
    let day = (it.now().await + TimeDelta::days(2)).format("%a").to_string().to_lowercase();
    let windows = format!("windows: [{{ days: {day}, from: '09:00', to: '18:00' }}]");
    it.apply(&file(&windows, "[{ send: { body: one }, name: first, expires_after: 1h }]")).await;
    it.execute("insert into outbox.recipients (phone, time_zone) values ('+15550142200', 'UTC')").await;
    it.enrol(ANN).await;
    it.settle(&engine).await;
    let next = it.explain(ANN).await["enrolments"][0]["next"].take();
    assert_eq!((&next["what"], &next["certain"]), (&"end".into(), &Value::Bool(true)), "{next}");
    assert_eq!(binds(&next), ["window", "deadline"]);
    let reached = it
        .text(
            "select to_char(reached_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') from outbox.enrolments",
        )
        .await;
    assert_eq!(at(&next), reached.parse::<DateTime<Utc>>().expect("an instant") + TimeDelta::hours(1));
    let shares = it.explain("drip").await;
    assert_eq!(shares["people"][0]["next"], next);
    let (_, told, _) = it.run(&["explain", "drip"]).await;
    assert!(told.contains(&format!("ends {}", at(&next).format("%F %T UTC"))), "{told}");
    it.execute(
        "update outbox.enrolments set reached_at = reached_at - interval '1 hour', due_at = due_at - interval '1 hour'",
    )
    .await;
    it.settle(&engine).await;
    assert_eq!(it.enrolments().await, "stopped/expired");
}

#[tokio::test]
async fn i11_explaining_reads_no_more_than_its_rows_of_a_large_table() {
    let database = Database::create().await;
    let watching = connect(database.url(), 2).await.expect("connects");
    fill(&watching).await;
    // Whoever reads a queue to its end reads all of these.
    let long_queue = "
        insert into outbox.jobs (phone, body, ready, line_id, first_touch)
        select '+1' || (8000000000 + n), 'new', true, '*', true from generate_series(1, 100000) n;
        analyze";
    sqlx::raw_sql(long_queue).execute(&watching).await.expect("fills");
    let read = || async {
        sqlx::query_as::<_, (i64, i64)>(
            "select seq_scan, (select sum(idx_tup_read)::bigint from pg_stat_user_indexes where relname = 'jobs')
               from pg_stat_user_tables where relname = 'jobs'",
        )
        .fetch_one(&watching)
        .await
        .expect("readable")
    };
    let pool = connect(database.url(), 1).await.expect("connects");
    let rules = Rules::default();
    // A backend tells what it has read when it ends.
    let before = read().await;
    for id in [1, 50_000, 100_001, 110_001, 120_001] {
        explain::job(&pool, id, &rules).await.expect("explains");
    }
    for phone in ["+12000000001", "+15000000001", "+16000000001", "+17000000001", "+18000000001", "+18000099999"] {
        explain::person(&pool, &phone.parse().expect("valid"), false, &rules).await.expect("explains");
    }
    pool.close().await;
    until("what was read is known", || async { read().await.1 > before.1 }).await;
    let after = read().await;
    assert_eq!(after.0, before.0, "no job was looked for in the whole table");
    assert!(after.1 - before.1 < 60_000, "{} entries were read for eleven readings", after.1 - before.1);
}

#[tokio::test]
async fn i11_explaining_a_campaign_reads_no_more_the_more_people_it_has() {
    let database = Database::create().await;
    let watching = connect(database.url(), 2).await.expect("connects");
    // Most wait for their turn, some rest, a few have a message on its way, and a few are held.
    let people = "
        insert into outbox.campaigns (name, version) values ('drip', 1);
        insert into outbox.enrolments (campaign, version, phone, ready, first_touch, sent_at, due_at)
        select 'drip', 1, '+1' || (2000000000 + n), n % 4 <> 0, n % 3 <> 0, case when n % 3 = 0 then now() end, now() + n % 977 * interval '1 minute'
          from generate_series(1, 100000) n;
        insert into outbox.enrolments (campaign, version, phone, waiting, job_id, due_at)
        select 'drip', 1, '+1' || (3000000000 + n), true, n, now() + interval '2 minutes' from generate_series(1, 500) n;
        insert into outbox.jobs (phone, body, campaign, enrolment) select phone, 'Hi', campaign, id from outbox.enrolments where waiting;
        insert into outbox.enrolments (campaign, version, phone, state, reason, due_at)
        select 'drip', 1, '+1' || (4000000000 + n), 'held', 'missing_variable', null from generate_series(1, 20) n;
        update outbox.enrolments set due_at = '2020-01-01' where phone in ('+12000000003', '+12000000008');
        analyze";
    sqlx::raw_sql(people).execute(&watching).await.expect("fills");
    let source = file("caps: { per_recipient: 1 in 1h }", "[{ send: { body: one } }]");
    let campaign = chert_outbox::campaign::file::read(&source).expect("a campaign").campaign;
    sqlx::query(
        "insert into outbox.campaign_versions (campaign, version, definition, stop_on) values ('drip', 1, $1, '{}')",
    )
    .bind(serde_json::to_value(&campaign).expect("JSON"))
    .execute(&watching)
    .await
    .expect("inserted");
    let read = || async {
        sqlx::query_as::<_, (i64, i64, i64)>(
            "select sum(n_tup_ins)::bigint, sum(seq_scan)::bigint, (select sum(idx_tup_read)::bigint from pg_stat_user_indexes where relname in ('enrolments', 'jobs'))
               from pg_stat_user_tables where relname in ('enrolments', 'jobs')",
        )
        .fetch_one(&watching)
        .await
        .expect("readable")
    };
    let pool = connect(database.url(), 1).await.expect("connects");
    until("what was filled in is known", || async { read().await.0 == 101_020 }).await;
    let before = read().await;
    let told = explain::campaign(&pool, "drip", &Rules::default()).await.expect("explains");
    pool.close().await;
    until("what was read is known", || async { read().await.2 > before.2 }).await;
    let after = read().await;
    let mut people: Vec<_> = told.people.iter().map(|share| (share.what.as_str(), share.count)).collect();
    people.sort_unstable();
    assert_eq!(people, [("job", 500), ("missing_variable", 20), ("turn", 10_000), ("wait", 10_000)]);
    for share in told.people.iter().filter(|share| ["turn", "wait"].contains(&share.what.as_str())) {
        assert!(share.earliest_at.is_some_and(|at| at < told.now - TimeDelta::days(1000)), "{share:?}");
        // There is no room for a first touch; follow-ups have theirs.
        assert!(share.next.as_ref().is_some_and(|next| next.at == Some(told.now)), "{share:?}");
    }
    assert_eq!(after.1, before.1, "nobody was looked for in a whole table");
    assert!(after.2 - before.2 < 30_000, "{} entries were read", after.2 - before.2);
}
