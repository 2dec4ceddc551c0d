//! Every row of the outcome table, from the insert to the record, over real HTTP.

use std::time::Duration;

use chert_outbox::simulate::{Fault, Faults};
use chert_outbox::worker::Summary;

use crate::harness::Harness;

const PHONE: &str = "+15550142200";

#[tokio::test]
async fn an_inserted_row_becomes_one_message() {
    let it = Harness::start().await;
    let job = it.insert(PHONE, "Hi").await;
    assert_eq!(it.drain().await, Summary { sent: 1, ..Summary::default() });
    assert_eq!(it.state(job).await, "sent");
    it.each_sent_once(1).await;
    let entry = &it.ledger()[0];
    assert_eq!((entry.phone.as_str(), entry.body.as_str()), (PHONE, "Hi"));
    assert_eq!(it.field(job, "message_id").await.as_deref(), Some(entry.message_id.as_str()));
    assert_eq!(it.field(job, "sent_line_id").await.as_deref(), Some(entry.line_id.as_str()));
    assert_eq!(it.field(job, "attempt || ' ' || claims || ' ' || lead_created").await.as_deref(), Some("1 1 true"));
}

#[tokio::test]
async fn all_fields_of_send_pass_through() {
    let it = Harness::start().await;
    it.execute(
        r#"insert into outbox.jobs (phone, body, phone_line_id, payload) values ('+15550142200', 'Hi', 'pl_3',
           '{"name":"Dana","external_id":"crm-7","effect":"celebration",
             "attachments":["att_1",{"id":"att_2"},{"attachment_id":"att_3","live_photo":true}]}')"#,
    )
    .await;
    it.drain().await;
    it.each_sent_once(1).await;
    let entry = it.ledger().remove(0);
    let attachments: Vec<_> = entry.attachments.iter().map(|file| (file.id.as_str(), file.live_photo)).collect();
    assert_eq!(attachments, [("att_1", false), ("att_2", false), ("att_3", true)]);
    assert_eq!((entry.line_id.as_str(), entry.effect.as_deref()), ("pl_3", Some("celebration")));
}

#[tokio::test]
async fn hmac_signs_every_call() {
    let it = Harness::start().await;
    it.insert(PHONE, "Hi").await;
    it.drain_with(&["--auth", "hmac", "--tenant", "acme"]).await;
    it.each_sent_once(1).await;
}

#[tokio::test]
async fn a_duplicate_is_terminal_and_is_not_called_sent() {
    let it = Harness::with(|options| options.dedup_window = Some(Duration::from_secs(3_600))).await;
    let (first, second) = (it.insert(PHONE, "Hi").await, it.insert(PHONE, "Hi").await);
    it.drain().await;
    assert_eq!((it.state(first).await.as_str(), it.state(second).await.as_str()), ("sent", "duplicate"));
    assert_eq!(it.ledger().len(), 1);
}

#[tokio::test]
async fn i05_a_saturated_recipient_waits_without_spending_an_attempt_and_others_go() {
    let it = Harness::start().await;
    let full = Fault::Error { code: 4002, status: None, retryable: None, retry_after: Some(1) };
    let job = it.insert(PHONE, "Hi").await;
    it.next_faults([full.clone(), full]);
    let other = it.insert("+15550142201", "Hello").await;
    it.drain().await;
    assert_eq!((it.state(job).await.as_str(), it.state(other).await.as_str()), ("sent", "sent"));
    let deferred: i64 = it.count("deferrals > 0").await;
    assert!(deferred >= 1);
    assert_eq!(it.count("attempt <> 1").await, 0, "a deferral spends no attempt");
}

#[tokio::test]
async fn repeated_saturation_slows_the_line_and_clean_sends_bring_it_back() {
    let it = Harness::start().await;
    it.execute(
        "insert into outbox.recipients (phone, line_id, first_touched_at) values ('+15550142200', 'pl_1', now())",
    )
    .await;
    it.insert(PHONE, "one").await;
    let full = Fault::Error { code: 4002, status: None, retryable: None, retry_after: Some(1) };
    it.next_faults([full.clone(), full.clone(), full]);
    it.drain().await;
    let slowdown =
        || sqlx::query_scalar::<_, f32>("select slowdown from outbox.lines where id = 'pl_1'").fetch_one(it.pool());
    let slowed = slowdown().await.expect("there");
    assert!(slowed > 2.8 && slowed < 2.9, "a quarter of its pace, and a tenth back: {slowed}");
    it.insert(PHONE, "two").await;
    it.drain().await;
    assert!(slowdown().await.expect("there") < slowed);
}

#[tokio::test]
async fn i07_a_rate_limit_stops_everybody_until_its_time_and_spends_no_attempt() {
    let it = Harness::start().await;
    it.insert_many(20, 20).await;
    it.next_faults([Fault::Error { code: 1007, status: None, retryable: None, retry_after: Some(2) }]);
    let worker = it.worker(&[]).await;
    it.until("the account is blocked", || async {
        sqlx::query_scalar("select blocked_until > now() is true from outbox.account")
            .fetch_one(it.pool())
            .await
            .expect("one row")
    })
    .await;
    assert!(it.ledger().len() <= 1);
    it.until("all are sent", || async { it.count("state = 'sent'").await == 20 }).await;
    worker.stop().await;
    it.each_sent_once(20).await;
    assert_eq!(it.count("attempt <> 1").await, 0);
}

#[tokio::test]
async fn i07_a_wrong_secret_costs_one_call_a_worker_and_the_right_one_resumes() {
    let it = Harness::start().await;
    it.insert_many(50, 50).await;
    let wrong = ["--signing-secret", "wrong", "--probe-wait", "1h"];
    let (one, two) = (it.worker(&wrong).await, it.worker(&wrong).await);
    it.until("the account is halted", || async {
        sqlx::query_scalar("select block_kind is not distinct from 'halted' from outbox.account")
            .fetch_one(it.pool())
            .await
            .expect("one row")
    })
    .await;
    // A fresh worker may still make its own first call; neither makes a second.
    it.until("nothing is in flight", || async { it.count("state = 'sending'").await == 0 }).await;
    assert!(one.is_running() && two.is_running());
    one.stop().await;
    two.stop().await;
    assert!(it.simulator.handle().calls().codes[&2004] <= 2, "{:?}", it.simulator.handle().calls());
    let (_, status, _) = it.run(&["status"]).await;
    assert!(status.contains("STOPPED  Chert refuses the secret: check CHERT_SIGNING_SECRET"), "{status}");
    assert_eq!(it.count("attempt > 0").await, 0, "no attempt is spent");

    it.drain().await;
    it.each_sent_once(50).await;
    let (_, status, _) = it.run(&["status"]).await;
    assert!(status.contains("WAITING  no worker runs"), "{status}");
}

#[tokio::test]
async fn status_says_that_chert_cannot_be_reached() {
    let it = Harness::start().await;
    it.insert(PHONE, "Hi").await;
    let worker = it.worker(&["--base-url", "http://127.0.0.1:1/api/v1"]).await;
    let told =
        || async { it.run(&["status"]).await.1.contains("WAITING  Chert cannot be reached: Connection refused") };
    it.until("a heartbeat has told it", told).await;
    worker.stop().await;
}

#[tokio::test]
async fn i07_a_halt_that_passes_is_found_by_one_probe_without_a_restart() {
    let it = Harness::start().await;
    it.insert_many(30, 30).await;
    let refused = Fault::Error { code: 2005, status: None, retryable: None, retry_after: None };
    it.next_faults([refused.clone(), refused]);
    let worker = it.worker(&["--probe-wait", "100ms"]).await;
    it.until("all are sent", || async { it.count("state = 'sent'").await == 30 }).await;
    worker.stop().await;
    assert_eq!(it.simulator.handle().calls().codes[&2005], 2);
    assert_eq!(it.count("attempt <> 1").await, 0);
}

#[tokio::test]
async fn i08_what_is_retryable_is_tried_again_and_what_is_not_is_failed() {
    let it = Harness::start().await;
    let job = it.insert(PHONE, "Hi").await;
    it.next_faults([
        Fault::Error { code: 3001, status: None, retryable: None, retry_after: None },
        Fault::Html,
        Fault::Error { code: 1001, status: Some(400), retryable: Some(true), retry_after: None },
    ]);
    it.drain().await;
    assert_eq!(it.outcomes(job).await, ["retry", "retry", "retry", "sent"]);

    let job = it.insert(PHONE, "Hi again").await;
    it.next_faults([Fault::Error { code: 3001, status: Some(503), retryable: Some(false), retry_after: None }]);
    assert_eq!(it.drain().await.failed, 1);
    assert_eq!(it.state(job).await, "failed/rejected");
    assert_eq!(it.outcomes(job).await, ["rejected"]);
}

#[tokio::test]
async fn a_refusal_keeps_what_helps_to_mend_the_job() {
    let it = Harness::start().await;
    it.execute(
        r#"insert into outbox.jobs (phone, body, payload) values
           ('+15550142200', 'Hi', '{"effect":"unheard-of"}'),
           ('+15550142201', 'Hi', '{"attachments":["att_1",{"url":"https://example.com/a.png"}]}'),
           ('+15550142202', 'Hi', '{"attachments":[7]}'),
           ('+15550001234', 'Hi', '{}')"#,
    )
    .await;
    assert_eq!(it.drain().await, Summary { failed: 4, ..Summary::default() });
    let codes: Vec<(i32, Option<String>)> =
        sqlx::query_as("select error_code, error_detail ->> 'attachment_index' from outbox.jobs order by id")
            .fetch_all(it.pool())
            .await
            .expect("jobs can be read");
    assert_eq!(codes, [(4098, None), (1011, Some("1".into())), (1002, Some("0".into())), (1003, None)]);
    assert_eq!(it.count("jsonb_array_length(error_detail -> 'allowed_effects') > 3").await, 1);
    assert_eq!(it.ledger().len(), 0);
}

#[tokio::test]
async fn a_delivery_failure_is_tried_three_times_at_most() {
    let it = Harness::start().await;
    let job = it.insert(PHONE, "Hi").await;
    it.faults(Faults { phones: [(PHONE.to_owned(), Fault::error(4001))].into(), ..Faults::default() });
    it.drain().await;
    assert_eq!(it.state(job).await, "failed/attempts_exhausted");
    assert_eq!(it.outcomes(job).await, ["retry", "retry", "retry"]);
}

#[tokio::test]
async fn i07_an_unreachable_api_spends_no_attempt_and_dispatch_resumes_when_it_is_back() {
    let it = Harness::start().await;
    it.insert_many(20, 20).await;
    // A port that was free a moment ago, and where nobody listens.
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("free").port();
    let worker = it.worker(&["--base-url", &format!("http://127.0.0.1:{port}/api/v1")]).await;
    it.until("dispatch has paused", || async {
        sqlx::query_scalar("select exists (select from outbox.attempts where outcome = 'unreachable')")
            .fetch_one(it.pool())
            .await
            .expect("readable")
    })
    .await;
    worker.stop().await;
    assert_eq!(it.count("attempt > 0 or state <> 'queued'").await, 0);
    it.drain().await;
    it.each_sent_once(20).await;
}

#[tokio::test]
async fn i02_an_unknown_outcome_is_asked_again_with_the_same_key_and_body() {
    let it = Harness::start().await;
    let job = it.insert(PHONE, "Hi").await;
    it.next_faults([Fault::DropAfter, Fault::SlowBody, Fault::DropBefore]);
    it.drain().await;
    assert_eq!(it.outcomes(job).await, ["unknown", "unknown", "unknown", "sent"]);
    it.each_sent_once(1).await;
    assert_eq!(it.simulator.handle().calls().replays, 2, "the simulator refuses a key with another body");
    assert_eq!(it.field(job, "attempt").await.as_deref(), Some("4"));
}

#[tokio::test]
async fn i02_past_the_key_horizon_an_unknown_outcome_is_parked_for_a_person() {
    let it = Harness::start().await;
    let job = it.insert(PHONE, "Hi").await;
    it.next_faults([Fault::DropAfter]);
    it.drain_with(&["--key-horizon", "1ms"]).await;
    assert_eq!(it.state(job).await, "parked/outcome_unknown");
    assert_eq!(it.simulator.handle().calls().sends, 1);
    let (code, _, error) = it.run(&["jobs", "retry", &job.to_string()]).await;
    assert!(code == 1 && error.contains("may be on the phone already"), "{error}");
    let (code, ..) = it.run(&["jobs", "retry", &job.to_string(), "--may-double"]).await;
    assert_eq!(code, 0);
    it.drain().await;
    it.each_sent_once(1).await;
}

#[tokio::test]
async fn i01_attempts_that_run_out_on_unknown_outcomes_park_the_job() {
    let it = Harness::start().await;
    it.execute("insert into outbox.jobs (phone, body, max_attempts) values ('+15550142200', 'Hi', 2)").await;
    it.faults(Faults { phones: [(PHONE.to_owned(), Fault::DropBefore)].into(), ..Faults::default() });
    assert_eq!(it.drain().await.failed, 1);
    assert_eq!(it.state(1).await, "parked/outcome_unknown");
}

#[tokio::test]
async fn i02_a_text_that_was_altered_after_a_call_is_never_sent_again() {
    let it = Harness::start().await;
    let job = it.insert(PHONE, "Hi").await;
    it.next_faults([Fault::DropBefore]);
    let worker = it.worker(&[]).await;
    it.until("the outcome is unknown", || async { it.state(job).await == "queued/outcome_unknown" }).await;
    it.execute("update outbox.jobs set body = 'Something else'").await;
    it.until("the job has ended", || async { it.state(job).await == "parked/payload_changed" }).await;
    worker.stop().await;
    assert_eq!(it.ledger().len(), 0);
}

#[tokio::test]
async fn an_expired_job_is_not_sent_also_when_it_stands_ready_on_a_paused_line() {
    let it = Harness::start().await;
    it.execute(
        "insert into outbox.jobs (phone, body, due_at, expires_at) values ('+15550142200', 'Hi', now() - interval '2 h', now() - interval '1 h');
         update outbox.lines set paused_at = now();
         insert into outbox.jobs (phone, body, expires_at) values ('+15550142201', 'Hi', now() + interval '1 second')",
    )
    .await;
    let worker = it.worker(&[]).await;
    it.until("both have expired", || async { it.count("state = 'expired'").await == 2 }).await;
    worker.stop().await;
    assert_eq!(it.simulator.handle().calls().sends, 0);
}

#[tokio::test]
async fn a_drain_that_cannot_send_ends_and_says_why() {
    let it = Harness::start().await;
    it.insert_many(3, 3).await;
    let (code, out, error) = it.run(&["worker", "--drain", "--signing-secret", "wrong"]).await;
    assert!(code == 1 && out.contains("3 remain for later"), "{code} {out}");
    assert!(
        error.ends_with("error: dispatch is stopped: Chert refuses the secret: check CHERT_SIGNING_SECRET\n"),
        "{error}"
    );
    it.execute("update outbox.account set block_kind = null, block_reason = null, blocked_until = null").await;
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("free").port();
    let nowhere = format!("http://127.0.0.1:{port}/api/v1");
    let (code, _, error) = it.run(&["worker", "--drain", "--drain-wait", "1s", "--base-url", &nowhere]).await;
    assert!(code == 1 && error.contains("error: dispatch is stopped: Chert cannot be reached"), "{error}");
}

#[tokio::test]
async fn a_first_touch_that_is_asked_again_is_counted_once() {
    // Whether it may be on the phone by then, or never was.
    for faults in [vec![Fault::DropAfter, Fault::DropBefore, Fault::error(3001)], vec![Fault::error(3001)]] {
        let it = Harness::start().await;
        it.execute("update outbox.lines set paused_at = now() where id not in ('*', 'pl_1')").await;
        it.insert(PHONE, "Hi").await;
        it.next_faults(faults);
        it.drain_with(&["--line-choice", "name"]).await;
        it.each_sent_once(1).await;
        let touches: i32 = sqlx::query_scalar("select first_touches from outbox.lines where id = 'pl_1'")
            .fetch_one(it.pool())
            .await
            .expect("there");
        assert_eq!(touches, 1);
    }
}
