//! Each guard by itself: in the larger tests another one often covers for it.

use std::time::Duration;

use chert_outbox::chert::reply::{Answer, Reply};
use chert_outbox::claim::{Claim, Finished};
use chert_outbox::database;
use chert_outbox::outbox::campaigns::audience::{self, Query};
use chert_outbox::outbox::lines::Paces;
use chert_outbox::outbox::marks::Marks;
use chert_outbox::outbox::record::record;
use chert_outbox::outbox::rescue::rescue;
use chert_outbox::outbox::suppressions::stopped;
use chert_outbox::{outcome, retry};
use tokio::time::Instant;

use crate::claim::{DAY, admit_all, claimed, claimer};
use crate::harness::Harness;

/// A claim of "one" whose lease ran out, and whose job was taken over.
async fn rescued_claim(it: &Harness) -> Claim {
    it.insert("+15550142200", "Hi").await;
    admit_all(it).await;
    let lost = claimer("one").claim(it.pool(), 1, false, &mut Marks::default()).await.expect("claims").claims.remove(0);
    it.execute("update outbox.jobs set lease_until = now() - interval '1 second'").await;
    rescue(it.pool(), "two").await.expect("rescues");
    lost
}

/// The claim, answered with this status and body.
pub fn answered(claim: Claim, http_status: u16, body: &str) -> Finished {
    let reply = Reply::Answered(Box::new(Answer::decode(http_status, None, None, body.as_bytes())));
    let outcome = outcome::classify(&reply);
    let next = retry::next(&outcome, claim.standing, &mut rand::rng());
    claim.finish(Instant::now(), reply, outcome, next)
}

#[tokio::test]
async fn i03_a_claim_waits_for_no_line_that_another_holds() {
    let it = Harness::start().await;
    it.pace(Paces { gap: Some(Duration::from_millis(100)), ..Paces::default() }).await;
    it.insert_many(50, 50).await;
    admit_all(&it).await;
    let mut other = it.pool().begin().await.expect("begins");
    sqlx::query("select from outbox.lines where id = 'pl_1' for update").execute(&mut *other).await.expect("held");
    let one = claimer("one");
    let claims =
        tokio::time::timeout(Duration::from_secs(5), one.claim(it.pool(), 100, false, &mut Marks::default())).await;
    let claims = claims.expect("it waits for nobody").expect("claims").claims;
    assert!(!claims.is_empty() && claims.iter().all(|claim| claim.line.id != "pl_1"));
}

#[tokio::test]
async fn i07_a_halted_account_is_claimed_from_by_a_probe_only() {
    let it = Harness::start().await;
    it.insert_many(3, 3).await;
    admit_all(&it).await;
    it.execute("update outbox.account set block_kind = 'halted', block_reason = 'x', blocked_at = now(), blocked_until = now() + interval '1 hour'").await;
    assert_eq!(claimed(&it, "one", 10).await, [0i64; 0]);
    assert_eq!(claimer("one").claim(it.pool(), 1, true, &mut Marks::default()).await.expect("claims").claims.len(), 1);
}

#[tokio::test]
async fn i07_of_all_that_a_batch_stops_the_account_for_the_strongest_counts() {
    let it = Harness::start().await;
    it.insert_many(5, 5).await;
    admit_all(&it).await;
    let mut claims =
        claimer("one").claim(it.pool(), 5, false, &mut Marks::default()).await.expect("claims").claims.into_iter();
    let mut next = || claims.next().expect("there are five");
    let wait = |claim, secs: u32| answered(claim, 429, &format!(r#"{{"code":1007,"retry_after":{secs}}}"#));
    let account = || async {
        let account = "select block_kind || ' ' || (blocked_until > now() + interval '30 seconds') from outbox.account";
        sqlx::query_scalar::<_, String>(account).fetch_one(it.pool()).await.expect("readable")
    };
    let waits = [wait(next(), 1), wait(next(), 60), wait(next(), 1)];
    record(it.pool(), "one", &waits, DAY).await.expect("records");
    assert_eq!(account().await, "rate_limited true");
    let halted = [wait(next(), 1), answered(next(), 401, r#"{"code":2004,"retryable":false}"#)];
    record(it.pool(), "one", &halted, DAY).await.expect("records");
    assert_eq!(account().await, "halted true");
}

#[tokio::test]
async fn i07_a_due_probe_is_reserved_by_one() {
    let it = Harness::start().await;
    it.execute("update outbox.account set block_kind = 'halted', block_reason = 'x', blocked_at = now(), blocked_until = now()").await;
    let reserve = || chert_outbox::outbox::account::reserve_probe(it.pool(), Duration::from_secs(60));
    let (one, two) = tokio::join!(reserve(), reserve());
    assert_ne!(one.expect("asks"), two.expect("asks"));
}

#[tokio::test]
async fn i01_an_outcome_survives_a_connection_that_broke_in_its_record() {
    let it = Harness::start().await;
    let job = it.insert("+15550142200", "Hi").await;
    let mut lock = it.pool().begin().await.expect("begins");
    sqlx::query("lock table outbox.attempts in access exclusive mode").execute(&mut *lock).await.expect("held");
    let worker = it.worker(&[]).await;
    let broken = || async {
        sqlx::query_scalar::<_, i64>(
            "select count(*) from (select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database()
              and wait_event_type = 'Lock' and query like '%A row of somebody else%' and pid <> pg_backend_pid()) t",
        )
        .fetch_one(it.pool())
        .await
        .expect("a superuser")
            > 0
    };
    it.until("the record is under way, and its connection breaks", broken).await;
    lock.commit().await.expect("let go");
    it.until("it is recorded", || async { it.state(job).await == "sent" }).await;
    worker.stop().await;
    assert_eq!(it.outcomes(job).await, ["sent"]);
}

#[tokio::test]
async fn i02_a_lost_claim_writes_nothing_while_the_next_one_is_under_way() {
    let it = Harness::start().await;
    let lost = rescued_claim(&it).await;
    let job = lost.job_id;
    admit_all(&it).await;
    assert_eq!(claimed(&it, "two", 1).await, [job]);
    let late = [lost.hand_back()];
    let recorded = record(it.pool(), "one", &late, DAY).await.expect("records");
    assert_eq!(recorded.lost_claims, 1);
    assert_eq!(it.field(job, "state || ' ' || worker || ' ' || claims").await.as_deref(), Some("sending two 2"));
}

#[tokio::test]
async fn i02_a_claim_that_took_long_is_not_sent_with_the_rest_of_its_lease() {
    let it = Harness::start().await;
    let job = it.insert("+15550142200", "Hi").await;
    // The claim holds its lease, and waits here for its lines.
    let mut other = it.pool().begin().await.expect("begins");
    sqlx::query("lock table outbox.lines in share mode").execute(&mut *other).await.expect("held");
    let worker = it.worker(&["--lease", "5s", "--http-timeout", "2s"]).await;
    let began = std::time::Instant::now();
    it.until("most of a lease has passed", || async { began.elapsed() > Duration::from_secs(4) }).await;
    other.commit().await.expect("let go");
    it.until("it is sent", || async { it.state(job).await == "sent" }).await;
    worker.stop().await;
    assert_eq!(it.field(job, "claims || ' ' || attempt").await.as_deref(), Some("2 1"));
}

#[tokio::test]
async fn i02_a_lost_claim_that_was_rescued_writes_nothing() {
    let it = Harness::start().await;
    let lost = rescued_claim(&it).await;
    let job = lost.job_id;
    let late = [lost.hand_back()];
    let recorded = record(it.pool(), "one", &late, DAY).await.expect("records");
    assert_eq!(recorded.lost_claims, 1);
    assert_eq!(it.state(job).await, "queued/outcome_unknown");
}

#[tokio::test]
async fn a_yes_that_comes_after_a_rescue_counts_and_spends_no_second_attempt() {
    let it = Harness::start().await;
    let lost = rescued_claim(&it).await;
    let job = lost.job_id;
    let late = [answered(lost, 200, r#"{"status":"sent","message_id":"m"}"#)];
    record(it.pool(), "one", &late, DAY).await.expect("records");
    assert_eq!((it.state(job).await.as_str(), it.field(job, "attempt").await.as_deref()), ("sent", Some("1")));
}

#[tokio::test]
async fn i06_the_look_before_a_call_knows_who_is_suppressed_erased_or_in_review() {
    let it = Harness::start().await;
    it.insert_many(6, 6).await;
    it.execute(
        "insert into outbox.suppressions (phone, scope, reason) values
         ('+15550140001', 'all', 'it'), ('+15550140002', 'campaign=spring', 'it'), ('+15550140005', 'all', 'it');
         insert into outbox.erased (phone_hash, scope, reason, source) values (outbox.phone_hash('+15550140003'), 'all', 'it', 'it');
         insert into outbox.recipients (phone, review_since, review_reason) values ('+15550140004', now(), 'it');
         update outbox.jobs set past_suppression = true where phone = '+15550140005'",
    )
    .await;
    let found = stopped(it.pool(), &[1, 2, 3, 4, 5, 6]).await.expect("looks");
    assert_eq!(found, [2, 4, 5].into());
}

#[tokio::test]
async fn i04_the_last_look_sees_an_earlier_message_that_came_after_admission() {
    let it = Harness::start().await;
    it.insert("+15550142200", "second").await;
    admit_all(&it).await;
    it.execute("insert into outbox.jobs (phone, body, priority) values ('+15550142200', 'first', -1)").await;
    assert_eq!(claimed(&it, "one", 10).await, [0i64; 0]);
    admit_all(&it).await;
    assert_eq!(claimed(&it, "one", 10).await, [2]);
}

#[tokio::test]
async fn i04_the_last_look_sees_a_later_message_in_flight() {
    let it = Harness::start().await;
    it.insert("+15550142200", "second").await;
    admit_all(&it).await;
    assert_eq!(claimed(&it, "one", 10).await, [1]);
    it.execute(
        "insert into outbox.jobs (phone, body, priority, ready, line_id, first_touch)
                values ('+15550142200', 'first', -1, true, '*', true)",
    )
    .await;
    assert_eq!(claimed(&it, "two", 10).await, [0i64; 0]);
}

#[tokio::test]
async fn i03_an_outcome_that_is_recorded_twice_settles_its_line_once() {
    let it = Harness::start().await;
    it.pace(Paces { first_touch_cap: Some(Some(30)), ..Paces::default() }).await;
    it.insert_many(2, 2).await;
    admit_all(&it).await;
    let claims = claimer("one").claim(it.pool(), 2, false, &mut Marks::default()).await.expect("claims").claims;
    let full = r#"{"code":4002,"retryable":true,"retry_after":60}"#;
    let finished: Vec<_> = claims.into_iter().map(|claim| answered(claim, 503, full)).collect();
    let lines = || async {
        sqlx::query_scalar::<_, String>(
            "select string_agg(id || ' ' || first_touches || ' ' || saturations || ' ' || slowdown || ' ' || next_first_touch_at, ',' order by id)
               from outbox.lines",
        )
        .fetch_one(it.pool())
        .await
        .expect("readable")
    };
    let recorded = record(it.pool(), "one", &finished, DAY).await.expect("records");
    assert_eq!(recorded.lost_claims, 0);
    let once = lines().await;
    let recorded = record(it.pool(), "one", &finished, DAY).await.expect("records");
    assert_eq!((recorded.lost_claims, lines().await), (finished.len() as u64, once));
}

#[tokio::test]
async fn a_worker_with_full_hands_does_not_ask_the_database_over_and_over() {
    let it = Harness::with(|options| options.latency = Duration::from_secs(1)).await;
    it.insert_many(20, 20).await;
    admit_all(&it).await;
    let transactions = || async {
        sqlx::query_scalar::<_, i64>("select xact_commit from pg_stat_database where datname = current_database()")
            .fetch_one(it.pool())
            .await
            .expect("readable")
    };
    let before = transactions().await;
    let worker = it.worker(&["--concurrency", "1"]).await;
    it.until("its fourth call is under way", || async { it.simulator.handle().calls().sends == 4 }).await;
    let busy = transactions().await - before;
    worker.stop().await;
    // A loop that comes round every 10 ms asks several hundred times.
    assert!(busy < 200, "{busy} transactions while three calls were waited for");
}

#[tokio::test]
async fn i03_a_slot_that_was_missed_is_given_back() {
    let it = Harness::start().await;
    it.execute("update outbox.lines set gap_us = 10000000").await;
    let job = it.insert("+15550142200", "Hi").await;
    // The claim has dealt its slot, and waits here for its line until the slot is over.
    let mut other = it.pool().begin().await.expect("begins");
    sqlx::query("lock table outbox.lines in share mode").execute(&mut *other).await.expect("held");
    let worker = it.worker(&["--lease", "1m"]).await;
    let missed = || async {
        sqlx::query_scalar(
            "select exists (select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'
                               and query_start < clock_timestamp() - interval '500 milliseconds')",
        )
        .fetch_one(it.pool())
        .await
        .expect("a superuser")
    };
    it.until("the slot is over", missed).await;
    other.commit().await.expect("let go");
    it.until("it is sent", || async { it.state(job).await == "sent" }).await;
    worker.stop().await;
    assert_eq!(it.field(job, "claims || ' ' || attempt").await.as_deref(), Some("2 1"));
}

#[tokio::test]
async fn i03_a_slot_too_soon_behind_the_last_message_is_given_back_and_not_waited_for() {
    let it = Harness::start().await;
    it.execute(
        "update outbox.lines set gap_us = 3600000000; update outbox.lines set paused_at = now() where id <> 'pl_1'",
    )
    .await;
    it.insert("+15550142200", "Hi").await;
    let worker = it.worker(&[]).await;
    it.until("it is sent", || async { it.count("state = 'sent'").await == 1 }).await;
    // As a schedule stands after a restore: this process alone knows of the last message.
    it.execute("update outbox.lines set next_at = now()").await;
    let job = it.insert("+15550142201", "Hi").await;
    it.until("it was claimed", || async { it.count("claims > 0 and state = 'queued'").await == 1 }).await;
    assert_eq!(it.outcomes(job).await, [""; 0], "its lease did not run out");
    worker.stop().await;
    assert_eq!(it.ledger().len(), 1);
}

/// A process that is frozen, or whose host is lost, closes no connection.
#[tokio::test]
async fn a_transaction_that_stands_still_loses_what_it_has_locked() {
    let it = Harness::start().await;
    let still_for = async |tx: &mut sqlx::PgTransaction<'_>| {
        let asked = sqlx::query_scalar::<_, String>("show idle_in_transaction_session_timeout");
        asked.fetch_one(&mut **tx).await.expect("told")
    };
    let mut tx = database::begin(it.pool()).await.expect("begins");
    assert_eq!(still_for(&mut tx).await, "30s");
    let query = Query { sql: "select '' as phone", role: None, time_limit: Duration::from_secs(90), row_limit: 9 };
    audience::snapshot(it.pool(), query, &mut tx).await.expect("read");
    assert_eq!(still_for(&mut tx).await, "150s", "as long as a query beside it may take, and a minute");
}

#[tokio::test]
async fn behind_a_pooler_no_transaction_meets_what_another_one_prepared_under_its_names() {
    let it = Harness::start().await;
    for (capacity, left) in [(100, 1), (0, 0)] {
        let url = format!("{}?statement-cache-capacity={capacity}", it.database.url());
        let pool = database::connect(&url, 1).await.expect("connects");
        let mut tx = database::begin(&pool).await.expect("begins");
        sqlx::query("select $1::int").bind(1).execute(&mut *tx).await.expect("is prepared");
        tx.commit().await.expect("commits");
        // Asked without preparing anything.
        let mut tx = database::begin(&pool).await.expect("begins");
        let prepared = sqlx::raw_sql("select name from pg_prepared_statements").fetch_all(&mut *tx).await;
        assert_eq!(prepared.expect("tells").len(), left, "with a capacity of {capacity}");
    }
}
