//! What a claim hands out, and what it does not.

use std::time::Duration;

use chert_outbox::config::HoldOptions;
use chert_outbox::line::LineChoice;
use chert_outbox::outbox::admit::admit;
use chert_outbox::outbox::claim::Claimer;
use chert_outbox::outbox::lines::{self, Paces};
use chert_outbox::outbox::marks::Marks;
use chert_outbox::outbox::rescue::{expire, rescue};
use chert_outbox::outbox::upcoming::upcoming;
use chert_outbox::simulate::{Cap, Fault};
use chrono::TimeDelta;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::Harness;

pub const DAY: Duration = Duration::from_secs(86_400);

pub fn claimer(worker: &str) -> Claimer {
    Claimer::new(
        worker.to_owned(),
        "test".to_owned(),
        Duration::from_secs(60),
        DAY,
        LineChoice::Name,
        HoldOptions::default(),
    )
}

pub async fn admit_all(it: &Harness) {
    while admit(it.pool(), 10_000, DAY, &HoldOptions::default(), &mut Marks::default()).await.expect("admits") > 0 {}
}

pub async fn claimed(it: &Harness, worker: &str, limit: usize) -> Vec<i64> {
    let claims = claimer(worker).claim(it.pool(), limit, false, &mut Marks::default()).await.expect("claims");
    claims.claims.iter().map(|claim| claim.job_id).collect()
}

#[tokio::test]
async fn i04_one_recipient_has_one_job_in_flight_and_the_next_follows_in_order() {
    let it = Harness::start().await;
    it.execute(
        "insert into outbox.jobs (phone, body, priority, due_at) values
         ('+15550142200', 'third', 0, now() - interval '1 minute'),
         ('+15550142200', 'second', 0, now() - interval '2 minutes'),
         ('+15550142200', 'first', -1, now()),
         ('+15550142201', 'another', 5, now())",
    )
    .await;
    admit_all(&it).await;
    assert_eq!(claimed(&it, "one", 10).await, [3, 4]);
    admit_all(&it).await;
    assert_eq!(claimed(&it, "two", 10).await, [0i64; 0], "the recipient is busy");
    assert_eq!(it.count("state = 'queued' and reason = 'behind_earlier'").await, 2);
    let it = Harness::start().await;
    it.execute(
        "insert into outbox.jobs (phone, body, priority, due_at) values
         ('+15550142200', 'message 2', 0, now() - interval '1 minute'),
         ('+15550142200', 'message 1', 0, now() - interval '2 minutes'),
         ('+15550142200', 'message 0', -1, now())",
    )
    .await;
    it.drain().await;
    it.each_sent_once(3).await;
    it.in_order();
}

#[tokio::test]
async fn i04_the_database_refuses_a_second_job_in_flight_to_one_recipient() {
    let it = Harness::start().await;
    it.insert("+15550142200", "one").await;
    it.insert("+15550142200", "two").await;
    let forced =
        "update outbox.jobs set state = 'sending', worker = 'w', lease_until = now(), idempotency_key = id::text";
    let error = sqlx::raw_sql(forced).execute(it.pool()).await.expect_err("refused");
    assert_eq!(error.as_database_error().and_then(|refused| refused.constraint()), Some("one_in_flight_per_recipient"));
}

#[tokio::test]
async fn i04_a_deferred_message_is_not_overtaken_by_the_next_one() {
    let it = Harness::start().await;
    let (first, second) = (it.insert("+15550142200", "message 0").await, it.insert("+15550142200", "message 1").await);
    it.next_faults([Fault::Error { code: 4002, status: None, retryable: None, retry_after: Some(1) }]);
    it.drain().await;
    it.each_sent_once(2).await;
    it.in_order();
    assert_eq!(it.field(first, "deferrals").await.as_deref(), Some("1"));
    assert_eq!(it.field(second, "attempt").await.as_deref(), Some("1"));
}

#[tokio::test]
async fn i05_a_hundred_jobs_behind_a_busy_recipient_are_looked_at_once_and_others_go() {
    let it = Harness::start().await;
    it.execute("insert into outbox.jobs (phone, body) select '+15550142200', 'n' from generate_series(1, 100)").await;
    it.execute(
        "insert into outbox.jobs (phone, body) select '+1555014' || 3000 + n, 'n' from generate_series(1, 20) n",
    )
    .await;
    admit_all(&it).await;
    assert_eq!(it.count("ready").await, 21, "one of the busy recipient, and all others");
    assert_eq!(claimed(&it, "one", 100).await.len(), 21);
    let before: i64 = it.count("reason = 'behind_earlier' and wake_at > now() + interval '1 minute'").await;
    assert_eq!(before, 99, "they are called, not looked for");
}

#[tokio::test]
async fn i06_a_recipient_suppressed_after_admission_is_not_sent_to() {
    let it = Harness::start().await;
    let (ready, waiting, free) = (
        it.insert("+15550142200", "Hi").await,
        it.insert("+15550142200", "again").await,
        it.insert("+15550142201", "Hi").await,
    );
    admit_all(&it).await;
    it.execute("insert into outbox.suppressions (phone, reason) values ('+15550142200', 'said stop')").await;
    it.drain().await;
    assert_eq!(it.state(ready).await, "suppressed/suppressed");
    assert_eq!(it.state(waiting).await, "suppressed/suppressed");
    assert_eq!(it.state(free).await, "sent");
    assert_eq!(it.ledger().len(), 1);
}

#[tokio::test]
async fn i06_a_recipient_suppressed_between_claim_and_slot_is_not_sent_to() {
    let it = Harness::start().await;
    it.pace(Paces { gap: Some(Duration::from_millis(1_500)), ..Paces::default() }).await;
    let worker = it.worker(&[]).await;
    // The first answer opens the gate: from then on a claim takes more than one.
    it.execute("insert into outbox.jobs (phone, body, phone_line_id) values ('+15550142200', 'Hi', 'pl_1')").await;
    it.until("the gate is open", || async { it.count("state = 'sent'").await == 1 }).await;
    it.execute(
        "insert into outbox.jobs (phone, body, phone_line_id)
         select '+1555014220' || n, 'Hi', 'pl_2' from generate_series(1, 2) n",
    )
    .await;
    it.until("the first one left", || async { it.ledger().len() == 2 }).await;
    assert_eq!(it.count("phone = '+15550142202' and state = 'sending'").await, 1, "it waits for its slot");
    it.execute("insert into outbox.suppressions (phone, reason) values ('+15550142202', 'said stop')").await;
    it.until("nothing waits", || async { it.count("state in ('queued', 'sending')").await == 0 }).await;
    assert_eq!(it.count("state = 'suppressed'").await, 1);
    assert_eq!(it.ledger().len(), 2);
    worker.stop().await;
}

#[tokio::test]
async fn i05_a_message_that_missed_its_slot_costs_its_line_no_other_one() {
    let it = Harness::alone(|_| {}).await;
    it.pace(Paces { gap: Some(Duration::from_secs(1)), ..Paces::default() }).await;
    let worker = it.spawn_worker(&[]);
    it.execute("insert into outbox.jobs (phone, body, phone_line_id) values ('+15550142200', 'Hi', 'pl_1')").await;
    it.until("the gate is open", || async { it.count("state = 'sent'").await == 1 }).await;
    // Two slots within the horizon, and time to stop the worker before the first, but none for a last look at suppressions.
    it.execute("update outbox.lines set next_at = now() + interval '450 milliseconds' where id = 'pl_2'").await;
    let slot = it.now().await + TimeDelta::milliseconds(450);
    it.execute(
        "insert into outbox.jobs (phone, body, phone_line_id)
         select '+1555014220' || n, 'Hi', 'pl_2' from generate_series(1, 2) n",
    )
    .await;
    it.until("both are claimed", || async { it.count("state = 'sending'").await == 2 }).await;
    let pid = Pid::from_raw(worker.id().expect("it runs").cast_signed());
    kill(pid, Signal::SIGSTOP).expect("stands still");
    it.until("the first slot has passed", || async { it.now().await > slot + TimeDelta::milliseconds(100) }).await;
    kill(pid, Signal::SIGCONT).expect("goes on");
    it.until("both were sent", || async { it.count("state = 'sent'").await == 3 }).await;
    assert_eq!(it.field(2, "claims").await.as_deref(), Some("2"), "it came too late for its first slot");
    assert_eq!(it.field(3, "claims").await.as_deref(), Some("1"), "its own slot was there");
}

#[tokio::test]
async fn who_expires_before_the_slot_is_not_claimed_for_it_and_ends_by_itself() {
    let it = Harness::with(|options| options.lines = 1).await;
    it.pace(Paces { gap: Some(Duration::from_secs(600)), ..Paces::default() }).await;
    it.execute(
        "update outbox.lines set next_at = now() + interval '900 ms';
         insert into outbox.jobs (phone, body, expires_at) values
         ('+15550142200', 'too late', now() + interval '600 ms'), ('+15550142201', 'in time', now() + interval '1 hour')",
    )
    .await;
    admit_all(&it).await;
    assert_eq!(claimed(&it, "one", 10).await, [0i64; 0], "the only slot in sight comes after its end");
    it.execute("update outbox.jobs set expires_at = now() where id = 1").await;
    expire(it.pool(), 10).await.expect("looks");
    admit_all(&it).await;
    assert_eq!(claimed(&it, "one", 10).await, [2], "the slot was not lost");
    assert_eq!(it.state(1).await, "expired/expired");
}

#[tokio::test]
async fn i03_workers_that_race_share_one_schedule() {
    let it = Harness::start().await;
    it.pace(Paces { gap: Some(Duration::from_millis(100)), ..Paces::default() }).await;
    it.insert_many(500, 500).await;
    admit_all(&it).await;
    let mut tasks = tokio::task::JoinSet::new();
    for worker in 0..8 {
        let pool = it.pool().clone();
        tasks.spawn(async move {
            claimer(&worker.to_string()).claim(&pool, 500, false, &mut Marks::default()).await.expect("claims").claims
        });
    }
    let mut slots: std::collections::BTreeMap<String, Vec<_>> = Default::default();
    for claim in tasks.join_all().await.into_iter().flatten() {
        slots.entry(claim.line.id).or_default().push(claim.line.slot_at);
    }
    assert_eq!(slots.len(), 5);
    for (line, mut slots) in slots {
        slots.sort();
        assert!(slots.len() > 10, "{line} gave {} slots", slots.len());
        assert!(slots.windows(2).all(|pair| pair[1] - pair[0] >= TimeDelta::milliseconds(100)), "{line}: {slots:?}");
        assert!(*slots.last().expect("some") - slots[0] <= TimeDelta::milliseconds(2_000), "within the horizon");
    }
}

#[tokio::test]
async fn i03_first_touches_keep_their_gap_and_their_daily_cap() {
    let it = Harness::start().await;
    it.pace(Paces {
        first_touch_gap: Some(Duration::from_millis(300)),
        first_touch_cap: Some(Some(3)),
        ..Paces::default()
    })
    .await;
    it.insert_many(40, 40).await;
    let worker = it.worker(&["--line-choice", "name"]).await;
    it.until("the day's budget is used", || async { it.simulator.ledger().len() >= 15 }).await;
    it.until("nothing is in flight", || async { it.count("state = 'sending'").await == 0 }).await;
    let (_, status, _) = it.run(&["status", "--json"]).await;
    let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    assert_eq!(status["waiting"]["first_touch_slot"], 25, "{status}");
    worker.stop().await;
    assert_eq!(it.ledger().len(), 15, "three a line, and five lines");
    it.gaps_kept(Duration::from_millis(300));
}

#[tokio::test]
async fn i05_follow_ups_go_while_first_touches_wait_for_tomorrow() {
    let it = Harness::start().await;
    it.pace(Paces { first_touch_cap: Some(Some(0)), ..Paces::default() }).await;
    it.execute(
        "insert into outbox.recipients (phone, line_id, first_touched_at)
         select '+1555014' || 3000 + n, 'pl_' || 1 + n % 5, now() from generate_series(1, 20) n;
         insert into outbox.jobs (phone, body) select '+1555014' || 5000 + n, 'first' from generate_series(1, 200) n;
         insert into outbox.jobs (phone, body) select '+1555014' || 3000 + n, 'follow-up' from generate_series(1, 20) n",
    )
    .await;
    it.drain_with(&["--drain-wait", "1s"]).await;
    assert_eq!(it.count("state = 'sent' and body = 'follow-up'").await, 20);
    assert_eq!(it.count("state = 'queued' and body = 'first'").await, 200);
}

#[tokio::test]
async fn the_first_success_pins_the_recipient_and_its_next_message_is_a_follow_up() {
    let it = Harness::with(|options| {
        (options.first_touch_gap, options.first_touch_cap) = (Duration::from_secs(600), Cap(Some(30)));
    })
    .await;
    it.pace(Paces { first_touch_gap: Some(Duration::from_secs(600)), ..Paces::default() }).await;
    for body in ["message 0", "message 1", "message 2"] {
        it.insert("+15550142200", body).await;
    }
    it.drain_with(&["--line-choice", "name"]).await;
    it.each_sent_once(3).await;
    it.in_order();
    let ledger = it.ledger();
    assert!(ledger[0].first_touch && !ledger[1].first_touch && !ledger[2].first_touch);
    assert!(ledger.iter().all(|entry| entry.line_id == ledger[0].line_id));
    assert_eq!(it.count("first_touch").await, 1);
}

#[tokio::test]
async fn a_borrowed_slot_is_settled_on_the_line_that_chert_chose() {
    let it = Harness::start().await;
    it.pace(Paces {
        first_touch_gap: Some(Duration::from_secs(600)),
        first_touch_cap: Some(Some(30)),
        ..Paces::default()
    })
    .await;
    it.insert_many(5, 5).await;
    it.drain_with(&["--line-choice", "chert", "--drain-wait", "1s"]).await;
    it.each_sent_once(5).await;
    let counted: Vec<(String, i32)> =
        sqlx::query_as("select id, first_touches from outbox.lines where id <> '*' order by id")
            .fetch_all(it.pool())
            .await
            .expect("readable");
    let mut sent: std::collections::BTreeMap<String, i32> = counted.iter().map(|(id, _)| (id.clone(), 0)).collect();
    it.ledger().iter().for_each(|entry| *sent.get_mut(&entry.line_id).expect("a known line") += 1);
    assert_eq!(counted, sent.into_iter().collect::<Vec<_>>());
}

#[tokio::test]
async fn i03_the_lines_together_keep_their_budget_although_chert_sends_all_from_one() {
    let it = Harness::start().await;
    let gap = Some(Duration::from_secs(600));
    it.pace(Paces { first_touch_gap: gap, first_touch_cap: Some(Some(30)), ..Paces::default() }).await;
    for line in 2..=5 {
        let url = format!("{}/lines/pl_{line}", it.simulator.admin_url());
        let put = reqwest::Client::new().put(url).json(&serde_json::json!({"is_active": false}));
        assert!(put.send().await.expect("answers").status().is_success());
    }
    it.insert_many(100, 100).await;
    it.drain_with(&["--line-choice", "chert", "--drain-wait", "1s"]).await;
    let ledger = it.ledger();
    assert!(ledger.iter().all(|entry| entry.line_id == "pl_1"));
    assert_eq!(ledger.len(), 5, "one for each line's slot");
}

#[tokio::test]
async fn a_first_touch_that_was_refused_gives_its_slot_back() {
    let it = Harness::start().await;
    it.execute("update outbox.lines set paused_at = now() where id not in ('*', 'pl_1')").await;
    it.pace(Paces {
        first_touch_gap: Some(Duration::from_secs(600)),
        first_touch_cap: Some(Some(30)),
        ..Paces::default()
    })
    .await;
    let refused = it.insert("+15550001234", "no such phone").await;
    let good = it.insert("+15550142200", "Hi").await;
    it.drain_with(&["--line-choice", "name", "--drain-wait", "2s"]).await;
    assert_eq!((it.state(refused).await.as_str(), it.state(good).await.as_str()), ("failed/rejected", "sent"));
    let touches: i32 = sqlx::query_scalar("select first_touches from outbox.lines where id = 'pl_1'")
        .fetch_one(it.pool())
        .await
        .expect("there");
    assert_eq!(touches, 1);
}

/// Lets the leases of all that is claimed run out, as if their workers had died, and admits those jobs again.
async fn die(it: &Harness) {
    it.execute("update outbox.jobs set lease_until = now() - interval '1 second' where state = 'sending'").await;
    rescue(it.pool(), "heir").await.expect("rescues");
    admit_all(it).await;
}

async fn first_touches(it: &Harness) -> i64 {
    sqlx::query_scalar("select sum(first_touches) from outbox.lines").fetch_one(it.pool()).await.expect("readable")
}

async fn next_in(it: &Harness) -> Duration {
    let ahead = upcoming(it.pool(), &Marks::default(), false).await.expect("reads");
    ahead.next_in.expect("something is ahead")
}

#[tokio::test]
async fn a_first_touch_whose_worker_died_is_asked_again_though_the_day_that_counted_it_is_used_up() {
    let it = Harness::start().await;
    it.pace(Paces { first_touch_cap: Some(Some(2)), ..Paces::default() }).await;
    it.execute(
        "update outbox.lines set paused_at = now() where id not in ('*', 'pl_1');
         insert into outbox.jobs (phone, body, phone_line_id) select '+1555014220' || n, 'Hi', 'pl_1' from generate_series(1, 4) n",
    )
    .await;
    admit_all(&it).await;
    assert_eq!(claimed(&it, "one", 10).await, [1, 2], "two a day");
    it.execute(
        "insert into outbox.jobs (phone, body, priority, phone_line_id) values ('+15550142205', 'urgent', -1, 'pl_1')",
    )
    .await;
    die(&it).await;
    assert_eq!(next_in(&it).await, Duration::ZERO, "nobody sleeps over it");
    let mut marks = Marks::default();
    let again = claimer("two").claim(it.pool(), 10, false, &mut marks).await.expect("claims").claims;
    assert_eq!(
        again.iter().map(|claim| claim.job_id).collect::<Vec<_>>(),
        [1, 2],
        "past those that the cap holds back"
    );
    assert!(again.iter().all(|claim| claim.first_touch && !claim.counted));
    assert_eq!(first_touches(&it).await, 2);
    assert!(next_in(&it).await > Duration::from_millis(1_500), "the others wait for tomorrow");

    it.pace(Paces { first_touch_cap: Some(Some(3)), ..Paces::default() }).await;
    let next = claimer("two").claim(it.pool(), 10, false, &mut marks).await.expect("claims").claims;
    assert_eq!(next.iter().map(|claim| claim.job_id).collect::<Vec<_>>(), [5], "who was passed is still seen");

    it.pace(Paces { first_touch_gap: Some(Duration::from_secs(600)), ..Paces::default() }).await;
    die(&it).await;
    assert_eq!(claimed(&it, "three", 10).await, [5], "they keep the gap of first touches");
    it.pace(Paces { first_touch_gap: Some(Duration::ZERO), ..Paces::default() }).await;
    it.execute(
        "update outbox.lines set next_first_touch_at = now(); update outbox.jobs set counted_until = counted_until - interval '1 day'",
    )
    .await;
    die(&it).await;
    assert_eq!(claimed(&it, "four", 10).await, [0i64; 0], "today has not counted what yesterday did");
    assert!(next_in(&it).await > Duration::from_millis(1_500));
    it.pace(Paces { first_touch_cap: Some(Some(30)), ..Paces::default() }).await;
    let anew = claimer("five").claim(it.pool(), 10, false, &mut Marks::default()).await.expect("claims").claims;
    assert_eq!((anew.len(), anew.iter().filter(|claim| claim.counted).count()), (5, 5), "and counts it anew");
}

#[tokio::test]
async fn where_chert_chooses_the_line_any_of_them_asks_again_for_what_their_day_has_counted() {
    let it = Harness::start().await;
    let cap = |cap| it.pace(Paces { first_touch_cap: Some(Some(cap)), ..Paces::default() });
    let claimer = Claimer::new(
        "one".to_owned(),
        "test".to_owned(),
        Duration::from_secs(60),
        DAY,
        LineChoice::Chert,
        HoldOptions::default(),
    );
    let claim = async || {
        let claims = claimer.claim(it.pool(), 10, false, &mut Marks::default()).await.expect("claims").claims;
        let mut ids: Vec<i64> = claims.iter().map(|claim| claim.job_id).collect();
        ids.sort_unstable();
        ids
    };
    cap(1).await;
    it.execute(
        "update outbox.lines set paused_at = now() where id not in ('*', 'pl_1', 'pl_2');
         insert into outbox.jobs (phone, body) select '+1555014220' || n, 'Hi' from generate_series(1, 4) n",
    )
    .await;
    admit_all(&it).await;
    assert_eq!(claim().await, [1, 2]);
    die(&it).await;
    assert_eq!(claim().await, [1, 2]);
    assert_eq!(first_touches(&it).await, 2);
    die(&it).await;
    it.execute("update outbox.lines set first_touch_cap = 2 where id = 'pl_2'").await;
    assert_eq!(claim().await, [1, 2], "each is found once, though one line has room for one more");
    assert_eq!(claim().await, [3]);
    assert_eq!(claim().await, [0i64; 0]);
    assert_eq!(first_touches(&it).await, 3);

    die(&it).await;
    it.execute("update outbox.jobs set counted_until = counted_until + interval '3 hours' where id <> 3").await;
    assert_eq!(claim().await, [3], "a day of another zone is another line's");
}

#[tokio::test]
async fn a_paused_line_holds_its_recipients_and_resumes_at_its_pace() {
    let it = Harness::start().await;
    it.execute(
        "insert into outbox.recipients (phone, line_id, first_touched_at)
         select '+1555014' || lpad(n::text, 4, '0'), 'pl_' || 1 + n % 2, now() from generate_series(0, 19) n",
    )
    .await;
    it.insert_many(20, 20).await;
    assert_eq!(it.run(&["lines", "pause", "pl_1", "--reason", "flagged"]).await.0, 0);
    it.drain_with(&["--drain-wait", "1s"]).await;
    assert_eq!(it.count("state = 'sent'").await, 10);
    let (_, status, _) = it.run(&["status"]).await;
    assert!(status.contains("line_paused") && status.contains("paused: flagged"), "{status}");
    let gap = Duration::from_millis(100);
    it.pace(Paces { gap: Some(gap), ..Paces::default() }).await;
    assert_eq!(it.run(&["lines", "resume", "--all"]).await.0, 0);
    it.drain().await;
    it.each_sent_once(20).await;
}

#[tokio::test]
async fn without_lines_there_is_one_at_the_default_pace_and_chert_chooses() {
    let it = Harness::start().await;
    it.execute("delete from outbox.lines where id <> '*'; update outbox.lines set gap_us = 100000").await;
    it.insert_many(10, 10).await;
    it.drain_with(&["--line-choice", "name"]).await;
    it.each_sent_once(10).await;
    let mut at: Vec<i64> = it.ledger().iter().map(|entry| entry.at_us).collect();
    at.sort_unstable();
    assert!(at.windows(2).all(|pair| pair[1] - pair[0] >= 98_000), "{at:?}");
}

#[tokio::test]
async fn jobs_of_a_line_that_was_removed_go_out_unnamed() {
    let it = Harness::start().await;
    it.execute(
        "insert into outbox.lines (id) values ('pl_gone');
         insert into outbox.recipients (phone, line_id, first_touched_at) values ('+15550142200', 'pl_gone', now())",
    )
    .await;
    it.insert("+15550142200", "Hi").await;
    it.execute("update outbox.lines set paused_at = now() where id = 'pl_gone'").await;
    admit_all(&it).await;
    assert_eq!(it.count("ready and line_id = 'pl_gone'").await, 1);
    let (code, told, _) = it.run(&["lines", "sync"]).await;
    assert!(code == 0 && told.contains("1 gone"), "{told}");
    it.drain().await;
    it.each_sent_once(1).await;
}

#[tokio::test]
async fn a_line_that_is_new_takes_over_the_pause_of_all() {
    let it = Harness::start().await;
    it.execute("delete from outbox.lines where id = 'pl_5'").await;
    assert_eq!(it.run(&["lines", "pause", "--all", "--reason", "flagged"]).await.0, 0);
    let (code, told, _) = it.run(&["lines", "sync"]).await;
    assert!(code == 0 && told.contains("1 new"), "{told}");
    it.insert_many(20, 20).await;
    it.drain_with(&["--drain-wait", "1s"]).await;
    assert_eq!(it.ledger().len(), 0);
}

#[tokio::test]
async fn i03_an_empty_list_of_lines_changes_nothing() {
    let it = Harness::start().await;
    let error = lines::sync(it.pool(), &[]).await.expect_err("refused");
    assert!(error.to_string().contains("nothing was changed"), "{error}");
    assert_eq!(lines::list(it.pool()).await.expect("readable").len(), 6, "five, and the default");
}

#[tokio::test]
async fn i02_a_job_that_stood_ready_past_the_key_horizon_is_parked_by_the_last_look() {
    let it = Harness::start().await;
    let job = it.insert("+15550142200", "Hi").await;
    it.execute("update outbox.jobs set unknown_since = now() - interval '2 hours', idempotency_key = 'k'").await;
    admit_all(&it).await;
    assert_eq!(it.count("ready").await, 1);
    it.drain_with(&["--key-horizon", "1h"]).await;
    assert_eq!(it.state(job).await, "parked/outcome_unknown");
    assert_eq!(it.simulator.handle().calls().sends, 0);
}

#[tokio::test]
async fn i02_a_job_whose_call_could_arrive_past_the_key_horizon_is_parked() {
    let it = Harness::start().await;
    let job = it.insert("+15550142200", "Hi").await;
    it.execute("update outbox.jobs set unknown_since = now() - interval '59 minutes'").await;
    it.drain_with(&["--key-horizon", "1h", "--lease", "60s"]).await;
    assert_eq!(it.state(job).await, "parked/outcome_unknown");
    assert_eq!(it.simulator.handle().calls().sends, 0);
}

#[tokio::test]
async fn i01_what_may_be_on_the_phone_is_parked_when_it_is_canceled_or_suppressed() {
    let it = Harness::start().await;
    let (canceled, suppressed) = (it.insert("+15550142200", "Hi").await, it.insert("+15550142201", "Hi").await);
    it.execute("update outbox.jobs set unknown_since = now(), idempotency_key = 'k', reason = 'outcome_unknown'").await;
    let (_, said, _) = it.run(&["jobs", "cancel", &canceled.to_string()]).await;
    assert!(said.contains("may be on the phone already"), "{said}");
    it.execute("insert into outbox.suppressions (phone, reason) values ('+15550142201', 'said stop')").await;
    it.drain().await;
    assert_eq!(it.state(canceled).await, "parked/outcome_unknown");
    assert_eq!(it.state(suppressed).await, "parked/outcome_unknown");
    assert_eq!(it.simulator.handle().calls().sends, 0);
}

#[tokio::test]
async fn i05_a_payload_that_cannot_be_read_ends_its_own_job_and_no_other() {
    let it = Harness::start().await;
    it.execute(
        r#"insert into outbox.jobs (phone, body, payload) values ('+15550142200', 'Hi', '{"attachments":[1e400]}');
           insert into outbox.jobs (phone, body) values ('+15550142200', 'next'), ('+15550142201', 'Hi')"#,
    )
    .await;
    assert_eq!(it.drain().await.failed, 1);
    assert_eq!(it.state(1).await, "failed/payload_unreadable");
    assert_eq!(it.count("state = 'sent'").await, 2, "also the next one to the same recipient");
}

#[tokio::test]
async fn i03_jobs_admitted_before_their_line_was_known_go_at_its_pace() {
    let it = Harness::start().await;
    it.execute("update outbox.lines set removed_at = now() where id <> '*'").await;
    it.execute("insert into outbox.jobs (phone, body, phone_line_id) select '+1555014' || 3000 + n, 'Hi', 'pl_1' from generate_series(1, 20) n").await;
    admit_all(&it).await;
    assert_eq!(it.count("ready and line_id = '*'").await, 20);
    it.execute("update outbox.lines set removed_at = null").await;
    let gap = Duration::from_millis(100);
    it.pace(Paces { gap: Some(gap), ..Paces::default() }).await;
    it.drain().await;
    it.each_sent_once(20).await;
    it.gaps_kept(gap);
}

#[tokio::test]
async fn a_line_without_first_touches_is_left_alone_until_tomorrow() {
    let it = Harness::start().await;
    it.pace(Paces { first_touch_cap: Some(Some(0)), ..Paces::default() }).await;
    it.insert("+15550142200", "Hi").await;
    it.drain_with(&["--drain-wait", "1s"]).await;
    assert_eq!(it.count("ready").await, 1);
}

#[tokio::test]
async fn a_gap_that_is_lowered_and_raised_again_gives_no_slot_away() {
    let it = Harness::start().await;
    let next = || {
        sqlx::query_as::<_, (chrono::DateTime<chrono::Utc>, chrono::DateTime<chrono::Utc>)>(
            "select next_at, next_first_touch_at from outbox.lines where id = 'pl_1'",
        )
        .fetch_one(it.pool())
    };
    let before = next().await.expect("there");
    for (rate, gap) in [("6/h", "10m"), ("1/m", "1m"), ("6/h", "10m"), ("none", "0s")] {
        assert_eq!(it.run(&["lines", "set", "pl_1", "--rate", rate, "--first-touch-gap", gap]).await.0, 0);
    }
    assert_eq!(next().await.expect("there"), before);
}
