//! Steps: each once and in order, whatever dies; in their windows and under their caps; and ended by what their people say.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

use chert_outbox::campaign::eta::Member;
use chert_outbox::campaign::running::Running;
use chert_outbox::failpoint::{self, Point};
use chert_outbox::inbound::store::{Source, store};
use chert_outbox::outbox::campaigns::{steps, under_way};
use chrono::TimeDelta;
use serde_json::json;

use crate::campaign::{ANN, BOB, CID, DOT, THREE, file};
use crate::harness::{Harness, PATIENCE};
use crate::replies::{applier, message, message_at};

#[tokio::test]
async fn i09_each_step_once_and_in_order_with_engines_dropped_at_every_transaction() {
    let it = Harness::start().await;
    it.apply(&file(
        "audience: { sql: \"select '+1555014' || lpad(n::text, 4, '0') as phone from generate_series(1, 60) n\" }\nschedule: { manual: true }",
        "[{ send: { body: message 0 } }, { wait: 1s }, { send: { body: message 1 } }, { branch: { if: replied, then: [{ send: { body: never } }], \
           else: [{ send: { body: message 2 } }] } }, { wait: 1s }, { send: { body: message 3 } }]",
    ))
    .await;
    it.run(&["campaign", "run", "drip"]).await;
    let worker = it.worker(&[]).await;
    let done = || async { it.scalar("select count(*) from outbox.enrolments where state = 'done'").await == 60 };
    let engines = [it.engine(), it.engine(), it.engine()];
    let (mut drops, mut patience) = (0, 0_u64);
    while !done().await {
        patience += 1;
        assert!(patience < 20_000, "{}", it.text("select state || step || coalesce(reason, '') || count(*) from outbox.enrolments group by state, step, reason").await);
        // Whatever a pass is at after so long a time is dropped, with its transaction. On a busy machine it takes longer to come anywhere.
        let after = |n: u64| Duration::from_micros(300 + (patience * 977 + n * 4_001) % (25_000 + patience * 100));
        let passes = engines.iter().zip(0..).map(|(engine, n)| tokio::time::timeout(after(n), engine.pass()));
        drops += futures_util::future::join_all(passes).await.iter().filter(|pass| pass.is_err()).count();
    }
    assert!(drops > 20, "{drops} drops");
    worker.stop().await;
    it.each_sent_once(4 * 60).await;
    it.in_order();
    let steps = "select count(*) from (select enrolment, step from outbox.jobs group by enrolment, step having count(*) > 1) twice";
    assert_eq!(it.scalar(steps).await, 0);
}

#[tokio::test]
async fn i09_an_enrolment_that_somebody_holds_is_passed_over() {
    let it = Harness::start().await;
    it.apply(&file("", THREE)).await;
    it.enrol(ANN).await;
    let engine = it.engine();
    for (jobs, other) in [(0, BOB), (1, CID)] {
        let mut holder = it.pool().begin().await.expect("begins");
        sqlx::query("select * from outbox.enrolments where phone = '+15550142200' for update")
            .execute(&mut *holder)
            .await
            .expect("held");
        it.enrol(other).await;
        tokio::time::timeout(Duration::from_secs(10), it.settle(&engine)).await.expect("it waits for nobody");
        assert_eq!(it.count("phone = '+15550142200'").await, jobs);
        assert_eq!(it.count("phone <> '+15550142200'").await, jobs + 1, "others go on");
        holder.rollback().await.expect("let go");
        it.settle(&engine).await;
        assert_eq!(it.count("phone = '+15550142200'").await, 1);
    }
}

#[tokio::test]
async fn who_replies_stops_or_reaches_the_goal_hears_no_more() {
    let it = Harness::start().await;
    it.apply(&file("stop_on: [reply, opt_out, goal]", THREE)).await;
    for phone in [ANN, BOB, CID, DOT] {
        it.enrol(phone).await;
    }
    let engine = it.engine();
    it.settle(&engine).await;
    it.drain().await;
    it.settle(&engine).await;
    // The second message stands in the queue already.
    it.time_passes().await;
    it.settle(&engine).await;
    assert_eq!(it.count("state = 'queued'").await, 4);
    store(it.pool(), Source::List, &[message("e1", ANN, "Thanks!"), message("e2", BOB, "STOP")]).await.expect("stores");
    let applied = applier(&["--opt-out-text", ""]).apply(it.pool()).await.expect("applies");
    assert_eq!((applied.opted_out, applied.stopped_enrolments), (1, 2));
    assert_eq!(it.text("select outbox.goal('drip', '+15550142202')::text").await, "true");
    assert_eq!(it.text("select outbox.goal('drip', '+15550142202')::text").await, "false", "it is ended already");
    assert_eq!(it.enrolments().await, "stopped/replied stopped/opted_out stopped/goal active");
    assert_eq!(
        it.text("select state from outbox.jobs where body = 'two' order by id").await,
        "canceled suppressed canceled queued"
    );
    for _ in 0..3 {
        it.drain().await;
        it.settle(&engine).await;
        it.time_passes().await;
        it.settle(&engine).await;
    }
    let texts = it.texts();
    assert!([ANN, BOB, CID].iter().all(|phone| texts[*phone] == ["one"]), "{texts:?}");
    assert_eq!(texts[DOT], ["one", "two", "three"]);
    assert_eq!(it.scalar("select count(*) from outbox.goals where phone = '+15550142202'").await, 2);
}

#[tokio::test]
async fn a_job_that_is_on_its_way_when_its_enrolment_ends_ends_when_it_comes_back() {
    let it = Harness::start().await;
    it.apply(&file("", THREE)).await;
    it.enrol(ANN).await;
    it.settle(&it.engine()).await;
    it.execute("update outbox.enrolments set state = 'stopped', reason = 'replied', due_at = null, waiting = false, finished_at = now()").await;
    it.drain().await;
    assert_eq!((it.text("select state from outbox.jobs").await.as_str(), it.ledger().len()), ("canceled", 0));
}

#[tokio::test]
async fn what_was_said_before_the_enrolment_is_no_reply_to_it() {
    let it = Harness::start().await;
    it.apply(&file("", THREE)).await;
    it.execute(
        "insert into outbox.events (event_id, type, source, body, occurred_at) select 'old', 'x', 'list', '{}', now()",
    )
    .await;
    it.enrol(ANN).await;
    store(it.pool(), Source::List, &[message("e1", ANN, "Hello?")]).await.expect("stores");
    applier(&[]).apply(it.pool()).await.expect("applies");
    assert_eq!(it.enrolments().await, "active", "nothing was sent yet");
}

#[tokio::test]
async fn a_job_that_fails_ends_its_enrolment_and_no_other() {
    let it = Harness::start().await;
    it.apply(&file("", THREE)).await;
    it.enrol("+15550001234").await;
    it.enrol(ANN).await;
    let engine = it.engine();
    it.settle(&engine).await;
    it.drain().await;
    it.settle(&engine).await;
    assert_eq!(it.enrolments().await, "stopped/failed active");
    it.execute("select outbox.cancel(id) from outbox.jobs").await;
    it.time_passes().await;
    it.settle(&engine).await;
    it.execute("select outbox.cancel_all(array(select id from outbox.jobs where state = 'queued'))").await;
    it.settle(&engine).await;
    assert_eq!(it.enrolments().await, "stopped/failed stopped/canceled");
}

#[tokio::test]
async fn an_enrolment_goes_on_as_soon_as_its_job_has_ended() {
    let it = Harness::start().await;
    it.apply(&file("", THREE)).await;
    it.enrol(ANN).await;
    let engine = it.engine();
    it.settle(&engine).await;
    let waits = "select (waiting and due_at > now() + interval '1 minute')::text from outbox.enrolments";
    assert_eq!(it.text(waits).await, "true");
    it.drain().await;
    assert_eq!(it.text("select (waiting and due_at <= now())::text from outbox.enrolments").await, "true");
    it.settle(&engine).await;
    let rests = "select (not waiting and ready and step = 2 and sent_at is not null and reached_at = sent_at + interval '1 day')::text from outbox.enrolments";
    assert_eq!(it.text(rests).await, "true", "a wait is counted from the message");
}

#[tokio::test]
async fn who_is_let_go_while_an_engine_has_them_in_hand_goes_on_at_once() {
    let it = Harness::start().await;
    it.apply(&file("", "[{ send: { body: Hi } }]").replace("class: transactional", "class: marketing")).await;
    it.execute("insert into outbox.recipients (phone, unanswered) values ('+15550142200', 3)").await;
    it.enrol(ANN).await;
    // An engine that has read how many are unanswered takes its time to hold her back.
    it.execute(
        "create function public.take_time() returns trigger language plpgsql as
         $$ begin perform pg_advisory_xact_lock(1); return new; end $$;
         create trigger take_time before update on outbox.enrolments for each row
         when (new.detail = 'unanswered' and old.detail is null) execute function public.take_time()",
    )
    .await;
    let mut holder = it.pool().begin().await.expect("begins");
    sqlx::query("select pg_advisory_xact_lock(1)").execute(&mut *holder).await.expect("held");
    let engine = it.engine();
    let waits = async |event: &str| {
        let waits = format!(
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event = '{event}'"
        );
        it.until("somebody waits", || async { it.scalar(&waits).await == 1 }).await;
    };
    let releasing = async {
        waits("advisory").await;
        let let_go = async {
            waits("transactionid").await;
            holder.rollback().await.expect("let go");
        };
        let ((code, _, error), ()) = tokio::join!(it.run(&["recipients", "release", ANN, "--unanswered"]), let_go);
        assert_eq!(code, 0, "{error}");
    };
    let (advanced, ()) = tokio::join!(engine.pass(), releasing);
    advanced.expect("the engine works");
    it.settle(&engine).await;
    assert_eq!(it.count("true").await, 1, "she is written to now, and not in six hours");
}

#[tokio::test]
async fn a_closed_window_makes_no_job_and_an_open_one_ends_with_it() {
    let it = Harness::start().await;
    let clock = |hours: i64| format!("select to_char(now() at time zone 'UTC' + interval '{hours} hours', 'HH24:00')");
    let (soon, later) = (it.text(&clock(2)).await, it.text(&clock(6)).await);
    it.execute("insert into outbox.recipients (phone, time_zone) values ('+15550142200', 'UTC')").await;
    it.apply(&file(&format!("windows: [{{ from: '{soon}', to: '{later}' }}]"), "[{ send: { body: Hi } }]")).await;
    it.enrol(ANN).await;
    let engine = it.engine();
    it.settle(&engine).await;
    assert_eq!(it.count("true").await, 0);
    let waits = "select (ready and due_at > now() + interval '55 minutes' and due_at < now() + interval '2 hours 11 minutes')::text from outbox.enrolments";
    assert_eq!(it.text(waits).await, "true");

    // Open from two hours ago, for four hours; a job that is not sent then is over, and another one follows at the next opening.
    let (began, ends) = (it.text(&clock(-1)).await, it.text(&clock(3)).await);
    it.apply(&file(&format!("windows: [{{ from: '{began}', to: '{ends}' }}]"), "[{ send: { body: Hi } }]")).await;
    it.execute("update outbox.enrolments set version = 2, due_at = now()").await;
    it.settle(&engine).await;
    let until = "select (expires_at > now() + interval '1 hour' and expires_at < now() + interval '3 hours'
                         and extract(second from expires_at) = 30)::text from outbox.jobs";
    assert_eq!(it.text(until).await, "true", "half a minute before it closes");
    it.execute(
        "update outbox.jobs set due_at = now() - interval '2 seconds', expires_at = now() - interval '1 second'",
    )
    .await;
    it.drain().await;
    assert_eq!(it.text("select state from outbox.jobs").await, "expired");
    it.settle(&engine).await;
    assert_eq!(
        it.text("select dedupe_key from outbox.jobs order by id").await,
        "campaign/drip/1/0 campaign/drip/1/0/2"
    );
    it.drain().await;
    it.settle(&engine).await;
    assert_eq!((it.ledger().len(), it.enrolments().await.as_str()), (1, "done"));
}

#[tokio::test]
async fn the_zone_that_somebody_is_enrolled_with_is_theirs() {
    let it = Harness::start().await;
    let clock = |hours: i64| format!("select to_char(now() at time zone 'UTC' + interval '{hours} hours', 'HH24:00')");
    let (began, ends) = (it.text(&clock(-1)).await, it.text(&clock(3)).await);
    it.apply(&file(&format!("windows: [{{ from: '{began}', to: '{ends}' }}]"), "[{ send: { body: Hi } }]")).await;
    it.execute("insert into outbox.recipients (phone, time_zone) values ('+15550142203', 'America/New_York')").await;
    let engine = it.engine();
    it.enrol_with(ANN, r#"{"time_zone": "UTC"}"#).await;
    it.enrol(BOB).await;
    it.enrol_with(CID, r#"{"time_zone": "Mars/Base"}"#).await;
    it.enrol_with(DOT, r#"{"time_zone": "UTC"}"#).await;
    it.settle(&engine).await;
    assert_eq!(it.text("select phone from outbox.jobs").await, ANN);
    // The number alone tells a country whose zones are never all inside; and what is known of somebody goes first.
    assert_eq!(it.enrolments().await, "active stopped/never_open held/missing_variable active");
    let (_, told, _) = it.run(&["explain", CID]).await;
    assert!(told.contains("time_zone (given, but no zone is called so)") && !told.contains("Mars"), "{told}");
    it.enrol_with(CID, r#"{"time_zone": "UTC"}"#).await;
    it.settle(&engine).await;
    assert_eq!(it.text("select phone from outbox.jobs order by phone").await, format!("{ANN} {CID}"));
    let zones: Vec<String> = on_the_way(&it).await.iter().filter_map(|member| Some(member.zone?.to_string())).collect();
    assert_eq!(zones, ["UTC", "UTC", "America/New_York"], "and the end is foretold by it");
}

#[tokio::test]
async fn a_job_is_tried_again_only_while_its_enrolment_waits_for_it() {
    let it = Harness::start().await;
    it.apply(&file("", THREE)).await;
    it.enrol(ANN).await;
    let engine = it.engine();
    it.settle(&engine).await;
    let retry = async |job: &'static str| {
        let (code, told, error) = it.run(&["jobs", "retry", job]).await;
        (code, format!("{told}{error}"))
    };
    let over = "update outbox.jobs set due_at = now() - interval '2 seconds', expires_at = now() - interval '1 second' where state = 'queued'";
    it.execute(over).await;
    it.drain().await;
    assert_eq!(it.text("select state from outbox.jobs").await, "expired");
    let (code, told) = retry("1").await;
    assert!(code == 1 && told.contains("its window has closed"), "{told}");
    assert_eq!(it.text("select state from outbox.jobs").await, "expired", "it would go at any hour");
    it.settle(&engine).await;
    assert_eq!(it.text("select state from outbox.jobs order by id").await, "expired queued");
    it.execute(
        "update outbox.jobs set state = 'failed', reason = 'rejected', finished_at = now(), expires_at = now() + interval '1 hour' where id = 2",
    )
    .await;
    assert_eq!(retry("2").await.0, 0, "its window is open");
    let kept =
        "select (state = 'queued' and expires_at > now() + interval '50 minutes')::text from outbox.jobs where id = 2";
    assert_eq!(it.text(kept).await, "true", "and closes as it did");
    let (code, told) = retry("1").await;
    assert!(code == 1 && told.contains("its enrolment goes on without it"), "{told}");
    it.drain().await;
    assert_eq!(it.texts()[ANN], ["one"], "once");
    it.settle(&engine).await;
    assert_eq!(retry("1").await.0, 1, "it rests behind the step");
    it.execute("update outbox.enrolments set state = 'stopped', reason = 'goal', due_at = null, ready = false, finished_at = now()").await;
    let (code, told) = retry("1").await;
    assert!(code == 1 && told.contains("its enrolment is over (goal)"), "{told}");
    it.execute("delete from outbox.enrolments").await;
    let (code, told) = retry("1").await;
    assert!(code == 1 && told.contains("its enrolment is over (gone)"), "{told}");
    assert_eq!(it.text("select state from outbox.jobs order by id").await, "expired sent");
}

#[tokio::test]
async fn whoever_answers_or_is_let_go_gets_their_next_message_at_once() {
    let it = Harness::start().await;
    let source = file("stop_on: [opt_out]", "[{ send: { body: Hi } }]").replace("transactional", "marketing");
    it.apply(&source).await;
    it.execute(
        "insert into outbox.recipients (phone, first_touched_at, unanswered, review_since, review_reason) values
         ('+15550142200', now(), 3, null, null), ('+15550142201', now(), 3, null, null), ('+15550142202', now(), 0, now(), 'why')",
    )
    .await;
    for phone in [ANN, BOB, CID] {
        it.enrol(phone).await;
    }
    let engine = it.engine();
    let made = "select count(*) from outbox.jobs where campaign = 'drip'";
    it.settle(&engine).await;
    assert_eq!(it.scalar(made).await, 0, "nobody answers, or somebody has to look");
    store(it.pool(), Source::List, &[message("e1", ANN, "Thanks!")]).await.expect("stores");
    applier(&[]).apply(it.pool()).await.expect("applies");
    it.settle(&engine).await;
    assert_eq!(it.scalar(made).await, 1, "a reply");
    for (made_then, args) in
        [(2, &["recipients", "release", BOB, "--unanswered"][..]), (3, &["recipients", "release", CID])]
    {
        let (code, _, error) = it.run(args).await;
        assert_eq!(code, 0, "{error}");
        it.settle(&engine).await;
        assert_eq!(it.scalar(made).await, made_then, "{args:?}");
    }
}

#[tokio::test]
async fn neither_a_reply_nor_a_release_cuts_a_wait_short() {
    let it = Harness::start().await;
    it.apply(&file("stop_on: [opt_out]", THREE)).await;
    it.enrol(ANN).await;
    let engine = it.engine();
    it.settle(&engine).await;
    it.drain().await;
    it.settle(&engine).await;
    it.execute("update outbox.recipients set review_since = now(), review_reason = 'why'").await;
    let rests = "select (ready and reached_at = sent_at + interval '1 day' and due_at = reached_at)::text from outbox.enrolments";
    let check = async |why: &str| {
        assert_eq!(it.text(rests).await, "true", "{why}");
        it.settle(&engine).await;
        assert_eq!((it.text(rests).await.as_str(), it.count("state = 'queued'").await), ("true", 0), "{why}");
    };
    store(it.pool(), Source::List, &[message("e1", ANN, "Thanks!")]).await.expect("stores");
    assert_eq!(applier(&[]).apply(it.pool()).await.expect("applies").events, 1);
    check("a reply").await;
    assert_eq!(it.run(&["recipients", "release", ANN]).await.0, 0);
    check("a release").await;
    // Whoever else has them looked at.
    it.execute("update outbox.enrolments set due_at = now()").await;
    it.settle(&engine).await;
    check("a look").await;
}

#[tokio::test]
async fn a_reply_cuts_no_jitter_short() {
    let it = Harness::start().await;
    let audience =
        format!("audience: {{ sql: \"select '{ANN}' as phone\" }}\nschedule: {{ cron: '@daily', jitter: 6h }}");
    it.apply(&file(&audience, THREE)).await;
    it.execute("update outbox.campaigns set next_at = now()").await;
    let engine = it.engine();
    it.settle(&engine).await;
    // However little of it she has drawn.
    it.execute(
        "update outbox.enrolments set reached_at = now() + interval '3 hours', due_at = now() + interval '3 hours'",
    )
    .await;
    store(it.pool(), Source::List, &[message("e1", ANN, "Hello?")]).await.expect("stores");
    applier(&[]).apply(it.pool()).await.expect("applies");
    it.settle(&engine).await;
    let rests = "select (state = 'active' and ready and due_at = reached_at)::text from outbox.enrolments";
    assert_eq!((it.text(rests).await.as_str(), it.count("true").await), ("true", 0));
}

#[tokio::test]
async fn a_branch_calls_nobody_quiet_who_has_answered_and_nobody_an_answer_who_wrote_before() {
    let it = Harness::start().await;
    it.apply(&file(
        "stop_on: [opt_out]",
        "[{ send: { body: one } }, { wait: 1d }, { branch: { if: replied, then: [{ send: { body: thanks } }], else: [{ send: { body: quiet? } }] } }]",
    ))
    .await;
    let engine = it.engine();
    let hears = async |event| {
        store(it.pool(), Source::List, &[event]).await.expect("stores");
        applier(&[]).apply(it.pool()).await.expect("applies");
    };
    // Her message is on its phone, and the worker that sent it dies before it can say so.
    it.enrol(ANN).await;
    it.settle(&engine).await;
    let args = ["worker", "--roles", "send", "--http-timeout", "2s", "--lease", "5s", "--lines-refresh", "0"];
    let mut dying = it.binary();
    dying.args(args).env(failpoint::VARIABLE, format!("{}=1", Point::AfterAnswer.name()));
    let died = tokio::time::timeout(PATIENCE, dying.status()).await.expect("it dies").expect("it starts");
    assert_eq!((died.signal(), it.ledger().len(), it.count("state = 'sending'").await), (Some(9), 1, 1));
    hears(message("e1", ANN, "Thanks!")).await;
    it.execute("update outbox.jobs set lease_until = now() - interval '1 second' where state = 'sending'").await;
    // He wrote just before his.
    hears(message("e2", CID, "I am in")).await;
    it.enrol(BOB).await;
    it.enrol(CID).await;
    it.enrol(DOT).await;
    it.settle(&engine).await;
    let worker = it.worker(&[]).await;
    it.until("all are sent", || async { it.count("state = 'sent'").await == 4 }).await;
    worker.stop().await;
    it.settle(&engine).await;
    // The far end's clock is behind.
    hears(message_at("e3", BOB, "Yes", it.now().await - TimeDelta::seconds(20))).await;
    it.time_passes().await;
    it.settle(&engine).await;
    it.drain().await;
    let texts = it.texts();
    let second: Vec<&str> = [ANN, BOB, CID, DOT].iter().map(|phone| texts[*phone][1].as_str()).collect();
    assert_eq!(second, ["thanks", "thanks", "quiet?", "quiet?"]);
}

#[tokio::test]
async fn a_step_that_comes_too_late_ends_the_enrolment() {
    let it = Harness::start().await;
    it.apply(&file("", "[{ send: { body: Hi }, expires_after: 1h }]")).await;
    it.enrol(ANN).await;
    it.execute("update outbox.enrolments set reached_at = now() - interval '2 hours'").await;
    it.settle(&it.engine()).await;
    assert_eq!((it.enrolments().await.as_str(), it.count("true").await), ("stopped/expired", 0));
}

#[tokio::test]
async fn who_has_written_to_a_line_is_no_stranger_to_a_campaign_that_writes_to_none() {
    let it = Harness::start().await;
    it.apply(&file("lines: { pinned_only: true }", "[{ send: { body: Hi } }]")).await;
    it.execute("insert into outbox.recipients (phone, last_inbound_at) values ('+15550142200', now())").await;
    it.enrol(ANN).await;
    it.enrol(BOB).await;
    it.settle(&it.engine()).await;
    assert_eq!(
        (it.enrolments().await.as_str(), it.text("select phone from outbox.jobs").await.as_str()),
        ("active stopped/not_pinned", ANN)
    );
}

#[tokio::test]
async fn a_cap_counts_over_campaigns_defers_and_skips_no_step() {
    let it = Harness::start().await;
    it.apply(&file("caps: { per_recipient: 1 in 1h }", "[{ send: { body: one } }, { send: { body: two } }]")).await;
    let other =
        file("caps: { per_recipient: 1 in 1h, priority: 5 }", "[{ send: { body: other } }]").replace("drip", "other");
    it.apply(&other).await;
    it.enrol(ANN).await;
    it.scalar("select outbox.enrol('other', '+15550142200')").await;
    let engines = [it.engine(), it.engine()];
    for _ in 0..3 {
        futures_util::future::join_all(engines.iter().map(|engine| it.settle(engine))).await;
        it.drain().await;
    }
    assert_eq!(it.texts()[ANN], ["one"], "the lower number goes first");
    let waits = "select (due_at > now() + interval '40 seconds')::text from outbox.enrolments";
    assert_eq!(it.text(waits).await, "true true");
    let of_drip =
        "select (due_at > now() + interval '50 minutes')::text from outbox.enrolments where campaign = 'drip'";
    assert_eq!(it.text(of_drip).await, "true", "until its message counts no more");
    for expected in [vec!["one", "two"], vec!["one", "two", "other"]] {
        it.execute("update outbox.jobs set sent_at = sent_at - interval '2 hours'").await;
        it.execute("update outbox.enrolments set due_at = now() where state = 'active'").await;
        for _ in 0..2 {
            it.settle(&engines[0]).await;
            it.drain().await;
        }
        assert_eq!(it.texts()[ANN], expected);
    }
}

#[tokio::test]
async fn i05_what_somebody_else_is_about_to_make_for_a_person_counts_under_the_cap() {
    let it = Harness::start().await;
    it.apply(&file("caps: { per_recipient: 1 in 1h }", "[{ send: { body: one } }]")).await;
    it.enrol(ANN).await;
    // It has decided for another campaign, and has not committed yet.
    let mut elsewhere = it.pool().begin().await.expect("begun");
    let mine = steps::lock_people(&mut elsewhere, &[ANN.to_owned()]).await.expect("asked");
    assert!(mine.contains(ANN), "nobody else decides about her");
    sqlx::query("insert into outbox.jobs (phone, body, campaign) values ($1, 'other', 'other')")
        .bind(ANN)
        .execute(&mut *elsewhere)
        .await
        .expect("made");
    it.settle(&it.engine()).await;
    assert_eq!(it.count("true").await, 0, "she is left to whoever decides about her");
    elsewhere.commit().await.expect("committed");
    it.settle(&it.engine()).await;
    assert_eq!(it.text("select body from outbox.jobs").await, "other");
}

#[tokio::test]
async fn behind_a_message_on_its_way_a_cap_waits_for_that_and_not_for_its_whole_time() {
    let it = Harness::start().await;
    it.apply(&file("caps: { per_recipient: 2 in 7d }", "[{ send: { body: Hi } }]")).await;
    it.apply(&file("", "[{ send: { body: other } }]").replace("name: drip", "name: other")).await;
    it.execute("insert into outbox.jobs (phone, body, campaign) values ('+15550142200', 'first', 'other')").await;
    it.drain().await;
    it.execute("insert into outbox.jobs (phone, body, campaign, due_at) values ('+15550142200', 'second', 'other', now() + interval '1 day')").await;
    it.enrol(ANN).await;
    let engine = it.engine();
    it.settle(&engine).await;
    assert_eq!(it.count("campaign = 'drip'").await, 0);
    let soon = "select (due_at between now() + interval '5 minutes' and now() + interval '1 hour')::text from outbox.enrolments";
    assert_eq!(it.text(soon).await, "true");
    it.execute("select outbox.cancel(id) from outbox.jobs where body = 'second'").await;
    it.time_passes().await;
    it.settle(&engine).await;
    assert_eq!(it.count("campaign = 'drip'").await, 1);
}

#[tokio::test]
async fn no_more_jobs_are_made_than_may_stand_in_the_queue() {
    let it = Harness::start().await;
    it.apply(&file(
        "audience: { sql: \"select '+1555014' || lpad(n::text, 4, '0') as phone from generate_series(1, 50) n\" }\nschedule: { manual: true }",
        "[{ send: { body: message 0 } }]",
    ))
    .await;
    it.run(&["campaign", "run", "drip"]).await;
    let engine = it.engine_with(10);
    it.settle(&engine).await;
    assert_eq!(it.count("state = 'queued'").await, 10);
    // Who waits for a person to look keeps no place.
    it.execute("update outbox.jobs set reason = 'in_review', wake_at = now() + interval '1 hour' where id in (select id from outbox.jobs order by id limit 3)").await;
    it.settle(&engine).await;
    assert_eq!(it.count("state = 'queued'").await, 13);
    it.execute("update outbox.jobs set reason = null, wake_at = now()").await;
    for _ in 0..6 {
        it.drain().await;
        it.settle(&engine).await;
    }
    it.each_sent_once(50).await;
}

#[tokio::test]
async fn i05_who_waits_for_a_first_message_takes_no_room_of_those_who_have_had_one() {
    let it = Harness::start().await;
    it.apply(&file("", THREE)).await;
    let engine = it.engine_with(10);
    it.enrol(ANN).await;
    it.settle(&engine).await;
    it.drain().await;
    it.scalar("select count(outbox.enrol('drip', '+1555014' || lpad(n::text, 4, '0'))) from generate_series(1, 30) n")
        .await;
    it.settle(&engine).await;
    assert_eq!(it.count("state = 'queued'").await, 10, "all that may stand in the queue");
    it.time_passes().await;
    it.settle(&engine).await;
    assert_eq!(
        it.text(&format!("select body from outbox.jobs where state = 'queued' and phone = '{ANN}'")).await,
        "two"
    );
}

/// Who is on the way through the first version, as a forecast knows them.
async fn on_the_way(it: &Harness) -> Vec<Member> {
    let definition = it.text("select definition::text from outbox.campaign_versions").await;
    let running = Running::read(&serde_json::from_str(&definition).expect("JSON")).expect("it reads");
    let found = under_way::read(it.pool(), "drip", &BTreeMap::from([(1, running)]), None).await.expect("reads");
    found.expect("less than a million").members.remove(&1).expect("somebody")
}

#[tokio::test]
async fn who_was_moved_with_a_message_of_another_step_is_foretold_from_where_they_stand() {
    let it = Harness::start().await;
    it.apply(&file("", THREE)).await;
    it.enrol(ANN).await;
    it.settle(&it.engine()).await;
    it.drain().await;
    assert_eq!(on_the_way(&it).await[0].step, 1, "its message was sent, and nobody has noticed yet");
    it.execute("update outbox.enrolments set made = 0").await;
    assert_eq!(on_the_way(&it).await[0].step, 0, "the message was of another version's step");
}

#[tokio::test]
async fn who_runs_with_a_version_that_this_release_would_refuse_as_a_file_goes_on() {
    let it = Harness::start().await;
    let steps = "[{ send: { body: one } }, { wait: 1s }, { branch: { if: var.orders | int >= 3, then: [{ send: { body: many } }] } }]";
    it.apply(&file("variables: { orders: { missing: hold } }", steps)).await;
    // As an earlier release took it.
    it.execute(
        "update outbox.campaign_versions set definition = jsonb_set(definition, '{steps,2,branch,if}', '\"var.orders >= 3\"')",
    )
    .await;
    it.enrol_with(ANN, r#"{"orders": 4}"#).await;
    it.enrol_with(BOB, r#"{"orders": 2}"#).await;
    let engine = it.engine();
    for _ in 0..2 {
        it.settle(&engine).await;
        it.drain().await;
        it.settle(&engine).await;
        it.time_passes().await;
    }
    assert_eq!(it.enrolments().await, "done done");
    let (one, many) = ("one".to_owned(), "many".to_owned());
    let texts = [(ANN.to_owned(), vec![one.clone(), many]), (BOB.to_owned(), vec![one])];
    assert_eq!(it.texts().into_iter().collect::<Vec<_>>(), texts);
    let (code, told, _) = it.run(&["campaign", "status", "drip"]).await;
    assert!(code == 0 && !told.contains("cannot be read"), "{told}");
}

#[tokio::test]
async fn who_lacks_a_variable_is_told_with_what_was_given_instead() {
    let it = Harness::start().await;
    it.apply(&file("variables: { name: { missing: hold } }", "[{ send: { body: 'Hi {{ name }}' } }]")).await;
    it.enrol_with(ANN, r#"{"nmae": "Ann"}"#).await;
    it.enrol(BOB).await;
    it.settle(&it.engine()).await;
    let (_, told, _) = it.run(&["campaign", "people", "drip"]).await;
    for held in ["held (missing_variable: name (given, but not declared: nmae))", "held (missing_variable: name)"] {
        assert!(told.contains(held), "{told}");
    }
    let (_, told, _) = it.run(&["campaign", "status", "drip"]).await;
    assert!(told.contains("2 missing_variable: name") && !told.contains("nmae"), "one number of one reason: {told}");
    it.enrol_with(ANN, r#"{"name": "Ann"}"#).await;
    it.settle(&it.engine()).await;
    assert_eq!(it.text("select body from outbox.jobs").await, "Hi Ann");
}

#[tokio::test]
async fn a_forecast_reads_of_the_variables_what_conditions_ask() {
    let it = Harness::start().await;
    let branch = "[{ send: { body: 'Hi {{ name }} {{ city }}' } }, { branch: { if: \"var.plan == 'pro'\", then: [{ send: { body: Pro } }] } }]";
    let variables = "variables: { name: { missing: hold }, city: { missing: hold }, plan: { default: free }, note: { default: none } }";
    it.apply(&file(variables, branch)).await;
    it.enrol_with(ANN, r#"{"name": "Ann", "city": null, "plan": "pro", "note": "long"}"#).await;
    let vars = serde_json::Value::Object(on_the_way(&it).await[0].vars.clone());
    assert_eq!(vars, json!({"name": true, "plan": "pro"}), "of others that they are there, where one is needed");
}
