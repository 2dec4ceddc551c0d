//! Pausing, resuming and stopping, also what is queued already; and new versions.

use std::time::Duration;

use chert_outbox::config::HoldOptions;
use chert_outbox::outbox::admit::admit;
use chert_outbox::outbox::campaigns::manage;
use chert_outbox::outbox::lines::Paces;
use chert_outbox::outbox::marks::Marks;
use chert_outbox::outbox::suppressions::stopped;
use chrono::TimeDelta;

use crate::campaign::applying::at_terminal;
use crate::campaign::{ANN, BOB, THREE, file};
use crate::claim::{DAY, claimer};
use crate::harness::Harness;

const CROWD: &str = "audience: { sql: \"select '+1555014' || lpad(n::text, 4, '0') as phone from generate_series(1, 200) n\" }\nschedule: { manual: true }";

#[tokio::test]
async fn a_pause_holds_within_a_second_what_is_queued_and_a_resume_lets_it_go() {
    let it = Harness::start().await;
    it.pace(Paces {
        gap: Some(Duration::from_millis(100)),
        first_touch_gap: None,
        first_touch_cap: None,
        time_zone: None,
    })
    .await;
    it.apply(&file(CROWD, "[{ send: { body: message 0 } }]")).await;
    it.run(&["campaign", "run", "drip"]).await;
    let engine = it.engine();
    it.settle(&engine).await;
    assert_eq!(it.count("state = 'queued'").await, 200);
    let worker = it.worker(&[]).await;
    it.until("some are sent", || async { it.ledger().len() >= 10 }).await;
    manage::pause(it.pool(), "drip").await.expect("pauses");
    let paused_at = it.now().await;
    // With nothing else in the queue the workers come to rest.
    let other = it.insert(BOB, "of nobody's campaign").await;
    it.until("what is queued is held", || async {
        it.count("state in ('queued', 'sending') and reason is distinct from 'campaign_paused'").await == 0
    })
    .await;
    assert_eq!(it.state(other).await, "sent", "others go on");
    let late: Vec<_> = it
        .ledger()
        .into_iter()
        .filter(|entry| entry.body == "message 0" && entry.at > paused_at + TimeDelta::seconds(1))
        .collect();
    assert!(late.is_empty(), "{} messages came later than a second after the pause", late.len());
    let (held, sent) = (it.count("reason = 'campaign_paused'").await, it.ledger().len());
    assert!(held > 100 && sent < 100, "{held} are held, {sent} were sent");
    let (code, _, error) = it.run(&["campaign", "resume", "drip"]).await;
    assert_eq!(code, 0, "{error}");
    it.until("all are sent", || async { it.count("state = 'sent'").await == 201 }).await;
    worker.stop().await;
    it.each_sent_once(201).await;
}

#[tokio::test]
async fn what_is_admitted_while_a_resume_is_under_way_is_not_held_for_a_pause_that_is_over() {
    let it = Harness::start().await;
    it.apply(&file("", THREE)).await;
    it.enrol(ANN).await;
    it.settle(&it.engine()).await;
    // An admission that has seen the pause takes its time to hold the job.
    it.execute(
        "create function public.take_time() returns trigger language plpgsql as
         $$ begin perform pg_advisory_xact_lock(1); return new; end $$;
         create trigger take_time before update on outbox.jobs for each row when (new.reason = 'campaign_paused')
         execute function public.take_time()",
    )
    .await;
    let mut holder = it.pool().begin().await.expect("begins");
    sqlx::query("select pg_advisory_xact_lock(1)").execute(&mut *holder).await.expect("held");
    manage::pause(it.pool(), "drip").await.expect("pauses");
    let (holds, mut marks) = (HoldOptions::default(), Marks::default());
    let resuming = async {
        let waits =
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event = 'advisory'";
        it.until("it holds the job", || async { it.scalar(waits).await == 1 }).await;
        let (code, _, error) = it.run(&["campaign", "resume", "drip"]).await;
        assert_eq!(code, 0, "{error}");
        holder.rollback().await.expect("let go");
    };
    let (admitted, ()) = tokio::join!(admit(it.pool(), 10, DAY, &holds, &mut marks), resuming);
    assert_eq!((admitted.expect("admits"), it.count("reason = 'campaign_paused'").await), (1, 1));
    let worker = it.worker(&[]).await;
    it.until("it is sent", || async { it.count("state = 'sent'").await == 1 }).await;
    worker.stop().await;
}

#[tokio::test]
async fn a_paused_campaign_moves_nobody_and_goes_on_where_it_stood() {
    let it = Harness::start().await;
    it.apply(&file("", THREE)).await;
    let engine = it.engine();
    it.run(&["campaign", "pause", "drip"]).await;
    it.enrol(ANN).await;
    it.settle(&engine).await;
    assert_eq!((it.count("true").await, it.enrolments().await.as_str()), (0, "active"));
    it.run(&["campaign", "resume", "drip"]).await;
    it.settle(&engine).await;
    it.drain().await;
    assert_eq!(it.texts()[ANN], ["one"]);
}

#[tokio::test]
async fn a_stop_ends_enrolments_and_what_is_queued_and_somebody_else_can_finish_it() {
    let it = Harness::start().await;
    it.apply(&file(CROWD, "[{ send: { body: message 0 } }, { wait: 1d }, { send: { body: message 1 } }]")).await;
    it.run(&["campaign", "run", "drip"]).await;
    let engine = it.engine_with(50);
    it.settle(&engine).await;
    assert_eq!(it.count("state = 'queued'").await, 50);
    // The command was interrupted before anything had ended.
    manage::stop(it.pool(), "drip").await.expect("stops");
    let (code, _, error) = it.run(&["campaign", "resume", "drip"]).await;
    assert!(code == 1 && error.contains("some of its enrolments are not ended yet"), "{error}");
    it.drain().await;
    assert_eq!(it.ledger().len(), 0, "what is queued is held from the first moment");
    it.settle(&engine).await;
    assert_eq!(it.scalar("select count(*) from outbox.enrolments where reason = 'campaign_stopped'").await, 200);
    assert_eq!(it.count("state = 'canceled'").await, 50);
    assert_eq!(it.text("select coalesce(outbox.enrol('drip', '+15550142200')::text, 'nobody')").await, "nobody");
    let (code, told, error) = it.run(&["campaign", "stop", "drip", "--yes"]).await;
    assert_eq!((code, told.as_str()), (0, "drip is stopped, and 200 enrolments have ended\n"), "by whomever: {error}");
    let (code, ..) = it.run(&["campaign", "resume", "drip"]).await;
    assert_eq!(code, 0);
    it.drain().await;
    assert_eq!(it.ledger().len(), 0, "what has ended does not come back");
}

#[tokio::test]
async fn a_stop_counts_what_it_ends_and_tells_of_what_it_cannot_end_yet() {
    let it = Harness::start().await;
    it.apply(&file(CROWD, "[{ send: { body: message 0 } }]")).await;
    it.run(&["campaign", "run", "drip"]).await;
    it.settle(&it.engine_with(50)).await;
    it.execute("select outbox.stop_enrolments(array(select id from outbox.enrolments order by id limit 3), 'goal')")
        .await;
    let mut holder = it.pool().begin().await.expect("begins");
    let last = "select * from outbox.enrolments where id = (select max(id) from outbox.enrolments) for update";
    sqlx::query(last).execute(&mut *holder).await.expect("held");
    let stop = async || it.run(&["campaign", "stop", "drip", "--yes"]).await;
    let told = "drip is stopped, and 196 enrolments have ended; 1 more is locked at this moment, and left to workers\n";
    assert_eq!(stop().await, (0, told.to_owned(), String::new()));
    holder.rollback().await.expect("let go");
    assert_eq!(stop().await.1, "drip is stopped, and 197 enrolments have ended\n");
}

#[tokio::test]
async fn a_firing_that_a_stop_has_not_ended_yet_is_not_revived_by_a_resume() {
    let it = Harness::start().await;
    it.apply(&file(CROWD, "[{ send: { body: message 0 } }]")).await;
    it.run(&["campaign", "run", "drip"]).await;
    // Its query still runs somewhere.
    let mut reading = it.pool().begin().await.expect("begins");
    sqlx::query("select * from outbox.ticks for update").execute(&mut *reading).await.expect("held");
    assert_eq!(it.run(&["campaign", "stop", "drip", "--yes"]).await.0, 0);
    let (code, _, error) = it.run(&["campaign", "resume", "drip"]).await;
    assert!(code == 1 && error.contains("some of its enrolments are not ended yet"), "{error}");
    reading.rollback().await.expect("let go");
    it.settle(&it.engine()).await;
    assert_eq!(it.text("select state || '/' || reason from outbox.ticks").await, "skipped/stopped");
    let (code, _, error) = it.run(&["campaign", "resume", "drip"]).await;
    assert_eq!(code, 0, "{error}");
    it.settle(&it.engine()).await;
    assert_eq!(it.scalar("select count(*) from outbox.enrolments").await, 0);
}

#[tokio::test]
async fn a_stop_says_what_it_ends_and_asks_first() {
    let it = Harness::start().await;
    it.apply(&file("variables: { name: { missing: hold } }", "[{ send: { body: 'Hi {{ name }}' } }]")).await;
    it.enrol_with(ANN, r#"{"name": "Ann"}"#).await;
    it.enrol(BOB).await;
    it.settle(&it.engine()).await;
    let standing = async || it.text("select state from outbox.campaigns").await + " " + &it.enrolments().await;
    let (code, _, error) = it.run(&["campaign", "stop", "drip"]).await;
    let told =
        "a stop of drip ends 2 enrolments for good and cancels 1 queued job, and there is nobody to ask: add --yes";
    assert!(code == 1 && error.contains(told), "{error}");
    assert_eq!(standing().await, "running active held/missing_variable");
    for (answer, wanted, state) in [
        ("n\n", 1, "running active held/missing_variable"),
        ("y\n", 0, "stopped stopped/campaign_stopped stopped/campaign_stopped"),
    ] {
        let (code, told) = at_terminal(&it, &["campaign", "stop", "drip"], answer).await;
        let asked = "stop drip, which ends 2 enrolments for good and cancels 1 queued job [y/N]?";
        assert!(code == wanted && told.contains(asked), "{told}");
        assert_eq!(standing().await, state);
    }
    let (code, _, error) = it.run(&["campaign", "stop", "drop"]).await;
    assert!(code == 1 && error.contains("drop"), "{error}");
}

#[tokio::test]
async fn who_is_enrolled_finishes_on_the_version_that_they_began_with() {
    let it = Harness::start().await;
    let engine = it.engine();
    it.apply(&file("", "[{ send: { body: old one } }, { wait: 1d }, { send: { body: old two } }]")).await;
    it.enrol(ANN).await;
    it.settle(&engine).await;
    it.apply(&file("", "[{ send: { body: new one } }]")).await;
    it.enrol(BOB).await;
    for _ in 0..3 {
        it.settle(&engine).await;
        it.drain().await;
        it.settle(&engine).await;
        it.time_passes().await;
    }
    let texts = it.texts();
    assert_eq!(
        (texts[ANN].as_slice(), texts[BOB].as_slice()),
        (["old one".to_owned(), "old two".to_owned()].as_slice(), ["new one".to_owned()].as_slice())
    );
    let (code, told, error) = it.run(&["campaign", "status", "drip"]).await;
    assert!(code == 0 && told.contains("running") && told.contains("done"), "{told} {error}");
    let (code, told, _) = it.run(&["campaign", "list", "--json"]).await;
    let listed: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!((code, &listed[0]["done"], &listed[0]["version"]), (0, &2.into(), &2.into()));
}

#[tokio::test]
async fn a_worker_works_on_campaigns_unless_it_is_told_not_to() {
    let it = Harness::start().await;
    it.apply(&file("", &THREE.replace("1d", "1s"))).await;
    it.enrol(ANN).await;
    let mut command = it.binary();
    command.env_remove("OUTBOX_ROLES").args([
        "worker",
        "--roles",
        "send,campaigns",
        "--http-timeout",
        "2s",
        "--lease",
        "5s",
        "--lines-refresh",
        "0",
    ]);
    let mut worker = command.spawn().expect("starts");
    it.until("it is done", || async { it.enrolments().await == "done" }).await;
    worker.kill().await.expect("ends");
    assert_eq!(it.texts()[ANN], ["one", "two", "three"]);
}

#[tokio::test]
async fn a_person_is_erased_from_campaigns_too_and_a_copy_pauses_them() {
    let it = Harness::start().await;
    it.apply(&file("stop_on: [goal]", THREE)).await;
    it.enrol(ANN).await;
    it.execute("select outbox.goal('drip', '+15550142200')").await;
    let (code, told, error) = it.run(&["purge", "--phone", ANN, "--yes"]).await;
    assert!(code == 0 && told.contains("2 enrolments"), "{told} {error}");
    assert_eq!(
        it.scalar("select (select count(*) from outbox.enrolments) + (select count(*) from outbox.goals)").await,
        0
    );
    it.run(&["adopt", "--deployment", "staging"]).await;
    assert_eq!(it.text("select state from outbox.campaigns").await, "paused");
}

#[tokio::test]
async fn neither_claim_nor_last_look_lets_a_job_go_whose_campaign_is_paused_or_whose_enrolment_has_ended() {
    let it = Harness::start().await;
    it.apply(&file("", THREE)).await;
    let ended = "update outbox.enrolments set state = 'stopped', reason = 'goal', due_at = null, waiting = false, finished_at = now()";
    for ends_by in ["update outbox.campaigns set state = 'paused'", ended] {
        it.execute(
            "delete from outbox.jobs; delete from outbox.enrolments; update outbox.campaigns set state = 'running'",
        )
        .await;
        it.enrol(ANN).await;
        it.settle(&it.engine()).await;
        let job = it.scalar("select id from outbox.jobs").await;
        admit(it.pool(), 10, DAY, &HoldOptions::default(), &mut Marks::default()).await.expect("admits");
        assert_eq!(it.field(job, "ready").await.as_deref(), Some("true"));
        assert!(stopped(it.pool(), &[job]).await.expect("looks").is_empty());
        it.execute(ends_by).await;
        assert!(stopped(it.pool(), &[job]).await.expect("looks").contains(&job), "the last look finds it: {ends_by}");
        let claimed = claimer("one").claim(it.pool(), 10, false, &mut Marks::default()).await.expect("claims");
        assert!(claimed.claims.is_empty(), "it is not handed out: {ends_by}");
        assert_eq!(it.field(job, "ready").await.as_deref(), Some("false"), "admission looks at it again");
    }
}
