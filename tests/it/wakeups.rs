//! Who ends a job wakes the next one of its recipient: in the transaction, and once more behind its commit.

use std::time::Duration;

use chert_outbox::chert::reply::{Cause, Reply};
use chert_outbox::claim::Finished;
use chert_outbox::config::HoldOptions;
use chert_outbox::outbox::admit::admit;
use chert_outbox::outbox::jobs;
use chert_outbox::outbox::marks::Marks;
use chert_outbox::outbox::record::record;
use chert_outbox::outbox::rescue::rescue;
use chert_outbox::outcome::Outcome;
use chert_outbox::retry::Next;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::time::Instant;

use crate::claim::{DAY, admit_all, claimed, claimer};
use crate::harness::Harness;

/// A message to this recipient that waits behind the one before, and would for a minute at least.
async fn one_waits(it: &Harness) {
    it.insert("+15550142200", "next").await;
    admit_all(it).await;
    assert_eq!(it.count("body = 'next' and wake_at > now() + interval '50 seconds'").await, 1);
}

/// Claims the one job that stands ready, and ends it for good.
async fn rejected(it: &Harness) -> Finished {
    let claim =
        claimer("one").claim(it.pool(), 1, false, &mut Marks::default()).await.expect("claims").claims.remove(0);
    let next = Next::End { state: "failed", reason: Some("rejected"), spent: true };
    claim.finish(Instant::now(), Reply::NoAnswer(Cause(String::new())), Outcome::Rejected, next)
}

/// Lets `end` have one transaction, and dies: who is next in line for its only connection keeps it.
async fn and_die<T>(it: &Harness, end: impl AsyncFnOnce(PgPool) -> T) {
    let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(Duration::from_secs(2));
    let pool = pool.connect_lazy(it.database.url()).expect("a URL");
    let (_, taken) = tokio::join!(end(pool.clone()), pool.acquire());
    taken.expect("the transaction has ended");
    assert_eq!(it.count("id = 1 and finished_at is not null").await, 1);
    assert_eq!(it.count("body = 'next' and wake_at <= now()").await, 1, "it is woken");
}

#[tokio::test]
async fn i05_who_ends_a_job_wakes_the_next_one_although_it_dies_right_behind_its_commit() {
    let it = Harness::start().await;
    it.insert("+15550142200", "recorded").await;
    admit_all(&it).await;
    let batch = [rejected(&it).await];
    one_waits(&it).await;
    and_die(&it, async |pool| record(&pool, "one", &batch, DAY).await.expect("records")).await;

    let it = Harness::start().await;
    it.execute("insert into outbox.jobs (phone, body, max_attempts) values ('+15550142200', 'rescued', 1)").await;
    admit_all(&it).await;
    assert_eq!(claimed(&it, "one", 1).await, [1]);
    one_waits(&it).await;
    it.execute("update outbox.jobs set lease_until = now() - interval '1 second' where id = 1").await;
    and_die(&it, async |pool| rescue(&pool, "two").await.expect("rescues")).await;

    let it = Harness::start().await;
    it.insert("+15550142200", "expired").await;
    admit_all(&it).await;
    one_waits(&it).await;
    it.execute("update outbox.jobs set expires_at = now(), ready = false, wake_at = now() where id = 1").await;
    and_die(&it, async |pool| {
        admit(&pool, 10, DAY, &HoldOptions::default(), &mut Marks::default()).await.expect("admits")
    })
    .await;

    let it = Harness::start().await;
    it.execute(r#"insert into outbox.jobs (phone, body, payload) values ('+15550142200', 'refused', '{"attachments":[1e400]}')"#).await;
    admit_all(&it).await;
    one_waits(&it).await;
    and_die(&it, async |pool| {
        claimer("one").claim(&pool, 1, false, &mut Marks::default()).await.expect("claims").refused
    })
    .await;
}

/// Runs `end`, and while its commit is under way admits another message of the recipient whose job it ends.
async fn while_another_comes<T>(it: &Harness, end: impl Future<Output = T>) {
    it.execute(
        "create function outbox.hold() returns trigger language plpgsql as
                $$ begin perform pg_advisory_xact_lock(1); return null; end $$;
         create constraint trigger hold after update on outbox.jobs deferrable initially deferred
                for each row when (new.finished_at is not null) execute function outbox.hold()",
    )
    .await;
    let mut held = it.pool().begin().await.expect("begins");
    sqlx::query("select pg_advisory_xact_lock(1)").execute(&mut *held).await.expect("held");
    let held_up = || async {
        sqlx::query_scalar(
            "select exists (select from pg_stat_activity where datname = current_database() and wait_event = 'advisory')",
        )
        .fetch_one(it.pool())
        .await
        .expect("a superuser")
    };
    let another_comes = async {
        it.until("the commit is under way", held_up).await;
        one_waits(it).await;
        held.commit().await.expect("let go");
    };
    tokio::join!(end, another_comes);
    assert_eq!(it.count("id = 1 and finished_at is not null").await, 1);
    assert_eq!(it.count("body = 'next' and wake_at <= now()").await, 1, "it is woken");
}

#[tokio::test]
async fn i05_a_job_that_is_admitted_while_the_one_before_it_ends_is_woken_after_the_commit() {
    let it = Harness::start().await;
    it.insert("+15550142200", "recorded").await;
    admit_all(&it).await;
    let batch = [rejected(&it).await];
    while_another_comes(&it, record(it.pool(), "one", &batch, DAY)).await;

    let it = Harness::start().await;
    it.execute(
        "insert into outbox.jobs (phone, body, due_at, expires_at)
                values ('+15550142200', 'expired', now() - interval '1 minute', now())",
    )
    .await;
    while_another_comes(&it, admit(it.pool(), 10, DAY, &HoldOptions::default(), &mut Marks::default())).await;

    let it = Harness::start().await;
    it.execute(r#"insert into outbox.jobs (phone, body, payload) values ('+15550142200', 'refused', '{"attachments":[1e400]}')"#).await;
    admit_all(&it).await;
    while_another_comes(&it, claimer("one").claim(it.pool(), 1, false, &mut Marks::default())).await;

    let it = Harness::start().await;
    it.insert("+15550142200", "canceled").await;
    admit_all(&it).await;
    while_another_comes(&it, jobs::cancel(it.pool(), 1)).await;
}
