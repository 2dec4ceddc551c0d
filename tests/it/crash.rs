//! Processes killed with real signals, a database that goes away, results that come too late.

use std::time::Duration;

use chert_outbox::outbox::lines::Paces;
use chert_outbox::simulate::{Fault, Faults};
use chert_outbox::trial::postgres::{Durability, Embedded, Stop};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Child;

use crate::harness::{Harness, PATIENCE, until};

fn signal(worker: &Child, signal: Signal) {
    let pid = worker.id().expect("it runs") as i32;
    kill(Pid::from_raw(pid), signal).expect("it is ours");
}

/// The promise in one test: two workers, one of them killed every second, one connection in twenty lost after the message
/// was taken, and at the end every message is on its phone once, in order, at its line's pace.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i01_i02_i03_i04_nothing_is_lost_doubled_or_too_early_while_workers_are_killed() {
    const JOBS: i32 = 2_000;
    let it = Harness::alone(|_| {}).await;
    let gap = Duration::from_millis(50);
    it.pace(Paces { gap: Some(gap), ..Paces::default() }).await;
    it.faults(Faults { drop_after: 0.05, ..Faults::default() });
    it.insert_many(JOBS, 250).await;

    let args = ["--line-choice", "name", "--concurrency", "64", "--http-timeout", "1s", "--lease", "4s"];
    let _steady = it.spawn_worker(&args);
    let mut killed = 0;
    let ended = || async { it.count("state not in ('queued', 'sending')").await };
    let deadline = tokio::time::Instant::now() + 3 * PATIENCE;
    while ended().await < i64::from(JOBS) {
        assert!(tokio::time::Instant::now() < deadline, "{:?}", it.states().await);
        let mut victim = it.spawn_worker(&args);
        // One second of work is what the scenario is made of: not a wait for something to happen.
        tokio::time::sleep(Duration::from_secs(1)).await;
        victim.kill().await.expect("SIGKILL");
        killed += 1;
    }

    assert!(killed >= 10, "only {killed} workers were killed");
    it.each_sent_once(i64::from(JOBS)).await;
    it.in_order();
    it.gaps_kept(gap);
    let calls = it.simulator.handle().calls();
    assert!(calls.replays > 0 && calls.faults["drop_after"] > 50, "the faults did happen: {calls:?}");
}

#[tokio::test]
async fn i01_sigterm_finishes_what_is_in_flight_and_hands_the_rest_back() {
    let it = Harness::with(|options| options.latency = Duration::from_millis(500)).await;
    it.pace(Paces { gap: Some(Duration::from_millis(200)), ..Paces::default() }).await;
    it.insert_many(100, 100).await;
    let mut worker = it.spawn_worker(&[]);
    it.until("several are in flight", || async { it.simulator.ledger().len() >= 5 }).await;
    signal(&worker, Signal::SIGTERM);
    let status = tokio::time::timeout(PATIENCE, worker.wait()).await.expect("it ends").expect("it ran");
    assert_eq!(status.code(), Some(0));
    assert_eq!(it.count("state = 'sending'").await, 0, "nothing is left in its hands");
    assert_eq!(it.count("state = 'sent'").await, it.ledger().len() as i64, "what was called is recorded");
    assert_eq!(
        it.count("state = 'queued' and (attempt > 0 or idempotency_key is not null)").await,
        0,
        "the rest is as it was"
    );
    assert_eq!(
        sqlx::query_scalar::<_, i64>("select count(*) from outbox.workers")
            .fetch_one(it.pool())
            .await
            .expect("readable"),
        0
    );
}

#[tokio::test]
async fn i01_jobs_of_a_killed_worker_are_asked_again_when_their_lease_runs_out() {
    let it = Harness::with(|options| options.latency = Duration::from_millis(300)).await;
    it.insert_many(10, 10).await;
    let mut worker = it.spawn_worker(&[]);
    it.until("all are in flight or sent", || async { it.simulator.ledger().len() == 10 }).await;
    worker.kill().await.expect("SIGKILL");
    let left = it.count("state = 'sending'").await;
    assert!(left > 0, "it was killed before it could record");
    it.drain().await;
    it.each_sent_once(10).await;
    assert_eq!(it.count("attempt = 2").await, left, "each of them cost an attempt with unknown outcome");
    assert_eq!(it.simulator.handle().calls().replays as i64, left);
}

#[tokio::test]
async fn i02_a_late_result_does_not_overwrite_the_winner_and_is_kept() {
    let it = Harness::start().await;
    let job = it.insert("+15550142200", "Hi").await;
    it.next_faults([Fault::Delay { ms: 1_500 }]);
    let frozen = it.spawn_worker(&["--lease", "4s", "--http-timeout", "1500ms"]);
    it.until("the call is under way", || async { it.simulator.ledger().len() == 1 }).await;
    // A worker that is stopped like this cannot know that its lease runs out meanwhile.
    signal(&frozen, Signal::SIGSTOP);
    it.drain().await;
    assert_eq!(it.state(job).await, "sent");
    let message = it.field(job, "message_id").await;
    signal(&frozen, Signal::SIGCONT);
    it.until("the late result is kept", || async { it.outcomes(job).await.len() == 3 }).await;
    let outcomes = it.outcomes(job).await;
    assert_eq!((outcomes[0].as_str(), outcomes[2].as_str()), ("unknown", "sent"), "{outcomes:?}");
    assert_eq!((it.state(job).await.as_str(), it.field(job, "message_id").await), ("sent", message));
    assert_eq!(it.ledger().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i01_a_restart_of_postgres_under_64_sends_loses_nothing_and_needs_no_restart_of_the_worker() {
    let it = Harness::with(|options| options.latency = Duration::from_millis(300)).await;
    // A server of its own: the others' must not restart.
    let server = Embedded::start(Durability::None).await.expect("this machine has Postgres");
    let url = server.url("postgres");
    let pool = chert_outbox::database::connect(&url, 3).await.expect("answers");
    chert_outbox::database::migrate(&pool, "default").await.expect("migrates");
    sqlx::raw_sql("update outbox.lines set gap_us = 0, first_touch_gap_us = 0, first_touch_cap = null")
        .execute(&pool)
        .await
        .expect("paces");
    sqlx::raw_sql("insert into outbox.jobs (phone, body) select '+1555014' || lpad(n::text, 4, '0'), 'message 0' from generate_series(1, 400) n")
        .execute(&pool)
        .await
        .expect("rows");

    let mut command = it.binary();
    command.env("DATABASE_URL", &url).args([
        "worker",
        "--concurrency",
        "64",
        "--lease",
        "10s",
        "--http-timeout",
        "2s",
        "--lines-refresh",
        "0",
    ]);
    let mut worker = command.spawn().expect("starts");
    it.until("64 are in flight", || async {
        let sending = sqlx::query_scalar::<_, i64>("select count(*) from outbox.jobs where state = 'sending'")
            .fetch_one(&pool)
            .await;
        sending.is_ok_and(|sending| sending >= 60) && it.simulator.ledger().len() > 64
    })
    .await;
    server.restart(Stop::Immediate).await.expect("restarts");
    until("all are sent", || async {
        let sent = sqlx::query_scalar::<_, i64>("select count(*) from outbox.jobs where state = 'sent'")
            .fetch_one(&pool)
            .await;
        sent.is_ok_and(|sent| sent == 400)
    })
    .await;
    assert!(worker.try_wait().expect("ours").is_none(), "the same worker carries on");
    assert_eq!(it.ledger().len(), 400, "one message each");
    signal(&worker, Signal::SIGTERM);
    assert!(worker.wait().await.expect("ours").success());
    let rescued: i64 = sqlx::query_scalar("select count(*) from outbox.attempts where outcome = 'unknown'")
        .fetch_one(&pool)
        .await
        .expect("readable");
    assert_eq!(rescued, 0, "outcomes waited in memory until the database was back");
}

#[tokio::test]
async fn a_deadlock_is_tried_again_and_is_not_called_a_failing_database() {
    let it = Harness::start().await;
    let job = it.insert("+15550142200", "Hi").await;
    it.execute(
        "create sequence outbox.collisions;
         create function outbox.collide() returns trigger language plpgsql as $$
         begin
             if nextval('outbox.collisions') <= 2 then raise 'deadlock detected' using errcode = '40P01'; end if;
             return new;
         end $$;
         create trigger collide before update on outbox.jobs for each row execute function outbox.collide()",
    )
    .await;
    let (code, _, log) = it.run(&["worker", "--drain"]).await;
    assert_eq!((code, it.state(job).await.as_str()), (0, "sent"));
    assert!(!log.contains("The database fails"), "{log}");
}
