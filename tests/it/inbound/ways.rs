//! Three ways in, one effect: each event is stored once, whichever ways bring it, whoever is killed.

use std::process::Stdio;
use std::time::Duration;

use chert_outbox::chert::client::wall_clock;
use chert_outbox::inbound::InboundError;
use chert_outbox::inbound::event::Incoming;
use chert_outbox::inbound::reader::elect;
use chert_outbox::inbound::store::Source;
use chert_outbox::simulate::{Inbound, WebhookFaults};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Child;

use super::Receiver;
use crate::harness::Harness;

const STREAM_ONLY: [&str; 2] = ["--events-list", "off"];
const LIST_ONLY: [&str; 2] = ["--events-stream", "off"];

/// This many people write, one message each.
fn receive(it: &Harness, messages: u32) {
    let handle = it.simulator.handle();
    for n in 0..messages {
        let inbound = Inbound { phone: format!("+1555014{n:04}"), text: Some("yes".into()), ..Inbound::default() };
        handle.receive(&inbound).expect("a good number");
    }
}

async fn stored(it: &Harness, events: i64) {
    it.until(&format!("{events} events are stored"), || async { it.events("true").await >= events }).await;
    assert_eq!(it.events("true").await, events);
}

/// A worker process that only receives.
fn process(it: &Harness, args: &[&str]) -> Child {
    let mut command = it.binary();
    command
        .args(["worker", "--roles", "inbound", "--events-every", "1s", "--http-timeout", "2s"])
        .args(args)
        .stdin(Stdio::null());
    command.spawn().expect("the binary starts")
}

async fn position(it: &Harness, way: &str) -> Option<String> {
    let position = sqlx::query_scalar("select position from outbox.cursors where name = $1").bind(way);
    position.fetch_one(it.pool()).await.expect("readable")
}

#[tokio::test]
async fn i10_each_way_alone_stores_each_event_once() {
    let it = Harness::start().await;
    let stream = Receiver::start(&it, &STREAM_ONLY).await;
    it.until("the stream is heard", || async { it.simulator.handle().calls().requests >= 2 }).await;
    receive(&it, 50);
    stored(&it, 50).await;
    stream.stop().await;
    assert_eq!(it.events("source = 'stream' and phone is not null").await, 50);
    // More than one page, and those from before once more.
    receive(&it, 250);
    let list = Receiver::start(&it, &LIST_ONLY).await;
    stored(&it, 300).await;
    list.stop().await;
    assert_eq!(it.events("source = 'list'").await, 250);
    assert!(position(&it, "list").await > position(&it, "stream").await, "the list has come further");
}

#[tokio::test]
async fn i10_all_ways_at_once_store_each_event_once() {
    let it = Harness::start().await;
    let all = Receiver::subscribed(&it, &[]).await;
    it.simulator.handle().webhook_faults(WebhookFaults { double: 0.5, ..WebhookFaults::default() }).expect("possible");
    receive(&it, 500);
    let proved = || async {
        let all = "select count(*) = 3 from outbox.cursors where proved_at is not null";
        sqlx::query_scalar(all).fetch_one(it.pool()).await.expect("readable")
    };
    it.until("every way has proved itself", proved).await;
    stored(&it, 500).await;
    let told = || async {
        let events = it.simulator.handle().events();
        events.iter().all(|event| event.delivery.delivered_at.is_some())
    };
    it.until("every webhook is answered", told).await;
    all.stop().await;
    assert_eq!(it.events("true").await, 500);
    let webhooks = it.simulator.handle().events().iter().map(|event| event.delivery.attempts.len()).sum::<usize>();
    assert!(webhooks > 550, "{webhooks} webhooks for 500 events: half are sent twice");
}

#[tokio::test]
async fn i10_a_reader_that_lost_its_election_moves_nothing() {
    let it = Harness::start().await;
    let event = Incoming::read(r#"{"event_id": "late"}"#, wall_clock()).expect("an event");
    let elected = |holder: &'static str, lease| elect(it.pool(), Source::List, holder, lease);
    let hour = Duration::from_secs(3_600);
    let lost = elected("one", Duration::ZERO).await.expect("asks").expect("nobody reads");
    let reader = elected("two", hour).await.expect("asks").expect("the lease is over");
    assert!(elected("three", hour).await.expect("asks").is_none());
    let late = lost.advance(it.pool(), std::slice::from_ref(&event), Some("1999")).await;
    assert!(matches!(late, Err(InboundError::LostElection)), "{late:?}");
    lost.resign(it.pool()).await.expect("asks");
    assert!(elected("three", hour).await.expect("asks").is_none(), "the lease is another one's");
    assert_eq!((it.events("true").await, position(&it, "list").await), (0, None));
    assert_eq!(reader.advance(it.pool(), &[event], Some("2026")).await.expect("stores"), 1);
    assert_eq!(position(&it, "list").await.as_deref(), Some("2026"));
    reader.resign(it.pool()).await.expect("asks");
    assert_eq!(elected("three", hour).await.expect("asks").expect("nobody reads").position.as_deref(), Some("2026"));
}

#[tokio::test]
async fn i10_what_stands_a_little_behind_the_position_is_read_all_the_same() {
    for (way, args) in [("stream", STREAM_ONLY), ("list", LIST_ONLY)] {
        let it = Harness::start().await;
        receive(&it, 10);
        // As if an event with this time had been read, and these had become visible only then.
        sqlx::query("update outbox.cursors set position = $1 where name = $2")
            .bind(wall_clock().to_rfc3339())
            .bind(way)
            .execute(it.pool())
            .await
            .expect("moves");
        let receiver = Receiver::start(&it, &args).await;
        stored(&it, 10).await;
        receiver.stop().await;
    }
}

#[tokio::test]
async fn i10_the_stream_survives_that_chert_ends_it_over_and_over() {
    let it = Harness::with(|options| options.events.stream_life = Duration::from_millis(300)).await;
    let receiver = Receiver::start(&it, &STREAM_ONLY).await;
    for round in 1..=4 {
        let before = it.simulator.handle().calls().requests;
        it.until("there is another connection", || async { it.simulator.handle().calls().requests > before }).await;
        receive(&it, 20);
        stored(&it, 20 * round).await;
    }
    receiver.stop().await;
    assert_eq!(it.events("source <> 'stream'").await, 0);
}

#[tokio::test]
async fn i10_the_list_closes_the_gap_that_a_killed_process_leaves() {
    let it = Harness::start().await;
    let mut killed = process(&it, &[]);
    receive(&it, 10);
    stored(&it, 10).await;
    killed.kill().await.expect("SIGKILL");
    receive(&it, 450);
    let mut next = process(&it, &LIST_ONLY);
    stored(&it, 460).await;
    kill(Pid::from_raw(next.id().expect("it runs") as i32), Signal::SIGTERM).expect("it is ours");
    let status = tokio::time::timeout(crate::harness::PATIENCE, next.wait()).await.expect("it stops").expect("it ran");
    assert_eq!(status.code(), Some(0));
    assert!(it.events("source = 'list'").await >= 450, "what came in between");
}

#[tokio::test]
async fn i10_the_list_moves_on_only_with_its_last_page() {
    let it = Harness::start().await;
    receive(&it, 450);
    // The oldest event stands on the last of three pages, and cannot be stored while another transaction holds its id.
    let oldest = it.simulator.handle().events()[0].event_id.clone();
    let mut lock = it.pool().begin().await.expect("begins");
    sqlx::query("insert into outbox.events (event_id, type, source, occurred_at) values ($1, 'x', 'list', now())")
        .bind(oldest)
        .execute(&mut *lock)
        .await
        .expect("held");
    let receiver = Receiver::start(&it, &LIST_ONLY).await;
    it.until("two pages are stored", || async { it.events("true").await == 400 }).await;
    assert_eq!(position(&it, "list").await, None, "there is a gap below what was read");
    let has_proved = async || {
        let proved =
            sqlx::query_scalar::<_, bool>("select proved_at is not null from outbox.cursors where name = 'list'");
        proved.fetch_one(it.pool()).await.expect("readable")
    };
    assert!(!has_proved().await, "a stop may stand in the gap");
    lock.rollback().await.expect("let go");
    stored(&it, 450).await;
    it.until("it has moved", || async { position(&it, "list").await.is_some() }).await;
    assert!(has_proved().await);
    receiver.stop().await;
}

#[tokio::test]
async fn i10_one_process_of_three_reads_the_stream_and_another_one_after_it() {
    let it = Harness::start().await;
    let before = it.simulator.handle().calls().requests;
    let mut processes: Vec<Child> = (0..3).map(|_| process(&it, &STREAM_ONLY)).collect();
    it.until("the stream is heard", || async { it.simulator.handle().calls().requests > before }).await;
    receive(&it, 10);
    stored(&it, 10).await;
    let began = std::time::Instant::now();
    it.until("all of them have asked for the lease", || async { began.elapsed() > Duration::from_secs(7) }).await;
    assert_eq!(it.simulator.handle().calls().requests - before, 1, "one connection to Chert");
    for process in &mut processes[..2] {
        process.kill().await.expect("SIGKILL");
    }
    receive(&it, 10);
    stored(&it, 20).await;
    assert_eq!(it.events("source <> 'stream'").await, 0);
}

#[tokio::test]
async fn a_chert_that_does_not_answer_is_one_warning_and_one_word_when_it_does() {
    let mut it = Harness::start().await;
    it.simulator.close().await.expect("closes");
    let log = tempfile::NamedTempFile::new().expect("made");
    let mut command = it.binary();
    command.env("RUST_LOG", "info").args([
        "worker",
        "--roles",
        "inbound",
        "--events-every",
        "1s",
        "--http-timeout",
        "1s",
        "--lease",
        "5s",
    ]);
    command.stderr(log.reopen().expect("opens"));
    let _process = command.spawn().expect("the binary starts");
    let lines = |word: &str| {
        let log = std::fs::read_to_string(log.path()).expect("readable");
        log.lines().filter(|line| line.contains(word)).count()
    };
    let began = std::time::Instant::now();
    it.until("it was tried several times", || async { began.elapsed() > Duration::from_secs(5) }).await;
    assert_eq!((lines("The event list fails"), lines("The stream of events fails")), (1, 1));
    it.simulator.open().expect("opens");
    it.until("both work again", || async { lines("works again") == 2 }).await;
    assert_eq!(lines("fails"), 2);
}
