//! `events` and `webhooks` as scripts hold them, and the worker's options for what comes back.

use std::os::unix::fs::PermissionsExt as _;

use chert_outbox::inbound::event::Incoming;
use chert_outbox::inbound::store::{Source, store};
use chert_outbox::simulate::Inbound;
use serde_json::Value;

use super::Receiver;
use crate::harness::{Harness, PATIENCE};

const BODY: &str = r#"{"id":"evt_1","created_at":"2026-06-03T09:20:12Z","payload":{"event":"message.received","event_id":"chert:msg:1",
    "timestamp":"2026-06-03T09:20:11Z","data":{"message":{"direction":"inbound","sender_handle":{"handle":"+15550142200"},
    "parts":[{"type":"text","value":"a very private text"}]}}}}"#;

fn inbound() -> Inbound {
    Inbound { phone: "+15550142200".into(), text: Some("yes".into()), ..Inbound::default() }
}

#[tokio::test]
async fn stored_events_are_shown_without_numbers_and_without_texts_unless_they_are_asked_for() {
    let it = Harness::start().await;
    let now = it.now().await;
    let events = [BODY, r#"{"event_id":"chert:odd:1","event":"odd.thing"}"#]
        .map(|body| Incoming::read(body, now).expect("an event"));
    store(it.pool(), Source::List, &events).await.expect("stored");
    let (code, out, _) = it.run(&["events", "tail"]).await;
    assert!(
        code == 0 && out.contains("2026-06-03 09:20:11.000  message.received  +1******2200") && out.contains("list"),
        "{out}"
    );
    assert!(out.contains("evt_1") && out.contains("chert:odd:1") && out.contains("waiting"), "{out}");
    assert!(!out.contains("5550142200") && !out.contains("private"), "{out}");
    let (_, out, _) = it.run(&["events", "tail", "--json", "--type", "message.received", "--show-text"]).await;
    let row: Value = serde_json::from_str(out.trim()).expect("one line");
    assert_eq!(
        (&row["text"], &row["log_id"], &row["event_id"]),
        (&"a very private text".into(), &"evt_1".into(), &"chert:msg:1".into())
    );
    assert_eq!((&row["phone"], &row["effect"], &row["source"]), (&"+1******2200".into(), &Value::Null, &"list".into()));
    let (_, out, _) = it.run(&["events", "tail", "--limit", "1", "--json"]).await;
    assert!(out.lines().count() == 1 && out.contains("chert:odd:1") && !out.contains("\"text\""), "{out}");
}

#[tokio::test]
async fn what_comes_is_followed_also_when_it_is_committed_late() {
    use tokio::io::{AsyncBufReadExt as _, BufReader};
    let it = Harness::start().await;
    let insert = "insert into outbox.events (event_id, type, source, occurred_at) values ($1, 'x', 'list', now())";
    let mut late = it.pool().begin().await.expect("begins");
    sqlx::query(insert).bind("late").execute(&mut *late).await.expect("inserted");
    let mut command = it.binary();
    command.args(["events", "tail", "--follow", "--json"]).stdout(std::process::Stdio::piped());
    let mut child = command.spawn().expect("the binary starts");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let mut next = async || {
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("something comes");
        line.expect("readable").expect("a line")
    };
    sqlx::query(insert).bind("one").execute(it.pool()).await.expect("inserted");
    assert!(next().await.contains("\"one\""));
    late.commit().await.expect("commits");
    assert!(next().await.contains("\"late\""));
    sqlx::query(insert).bind("two").execute(it.pool()).await.expect("inserted");
    assert!(next().await.contains("\"two\""), "and nothing twice");
}

#[tokio::test]
async fn subscriptions_are_created_listed_changed_and_deleted_and_their_secret_is_kept() {
    let it = Harness::start().await;
    let directory = tempfile::tempdir().expect("made");
    let path = directory.path().join("webhook.secret");
    let file = path.to_str().expect("UTF-8");
    let url = "https://outbox.example.com/webhooks/chert";
    assert_eq!(it.run(&["webhooks", "create", "--url", url]).await.0, 2, "its secret would be lost");
    let (code, out, error) =
        it.run(&["webhooks", "create", "--url", url, "--event", "message.received", "--secret-file", file]).await;
    assert!(code == 0 && out.starts_with("created subscription "), "{out} {error}");
    let secret = std::fs::read_to_string(&path).expect("written");
    assert!(secret.trim().len() == 64 && !out.contains(secret.trim()), "it is in the file alone");
    assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    let (code, _, error) = it.run(&["webhooks", "create", "--url", url, "--secret-file", file]).await;
    assert!(code == 1 && error.contains("creating the secret's file"), "{error}");
    let (code, _, _) = it.run(&["webhooks", "create", "--url", "ftp://x", "--secret-file", &format!("{file}.2")]).await;
    assert!(code == 1 && !directory.path().join("webhook.secret.2").exists(), "no file is left without a secret");

    let (_, out, _) = it.run(&["webhooks", "list", "--json"]).await;
    let listed: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "the refused ones were never asked for");
    assert!(!out.contains("secret"));
    let id = listed[0]["id"].as_str().expect("an id").to_owned();
    let (code, out, error) = it.run(&["webhooks", "update", &id, "--all-events", "--active", "false"]).await;
    assert_eq!((code, out.as_str()), (0, format!("subscription {id} is off: all to {url}\n").as_str()), "{error}");
    assert_eq!(it.run(&["webhooks", "update", &id]).await.0, 2, "nothing to change");
    let (_, out, _) = it.run(&["webhooks", "list"]).await;
    assert!(out.contains(&id) && out.contains("off"), "{out}");
    assert_eq!(it.run(&["webhooks", "delete", &id]).await.1, format!("deleted subscription {id}\n"));
    let (_, out, _) = it.run(&["webhooks", "create", "--url", url, "--show-secret"]).await;
    assert!(out.contains("CHERT_WEBHOOK_SECRET="), "{out}");
}

#[tokio::test]
async fn an_event_is_told_again() {
    let it = Harness::start().await;
    let receiver = Receiver::subscribed(&it, &["--events-stream", "off", "--events-list", "off"]).await;
    it.simulator.handle().receive(&inbound()).expect("a good number");
    let told = async |times| {
        let attempts = || async { it.simulator.handle().events()[0].delivery.attempts.len() == times };
        it.until("it is told", attempts).await;
    };
    told(1).await;
    let id = it.simulator.handle().events()[0].id.clone();
    let (code, out, error) = it.run(&["events", "replay", &id]).await;
    assert_eq!((code, out.as_str()), (0, format!("Chert delivers {id} again\n").as_str()), "{error}");
    told(2).await;
    // By its own id it is looked for in the log, where it stands on the second page by now.
    (0..200).for_each(|_| drop(it.simulator.handle().receive(&inbound()).expect("a good number")));
    let event_id = it.simulator.handle().events()[0].event_id.clone();
    let (code, out, error) = it.run(&["events", "replay", &event_id]).await;
    assert_eq!((code, out.as_str()), (0, format!("Chert delivers {event_id} again\n").as_str()), "{error}");
    told(3).await;
    it.until("all are stored", || async { it.events("true").await == 201 }).await;
    receiver.stop().await;
    assert_eq!(it.events("true").await, 201, "each is stored once");
    let (code, _, error) = it.run(&["events", "replay", "chert:msg:none"]).await;
    assert!(code == 1 && error.contains("do not hold chert:msg:none"), "{error}");
    let (code, _, error) = it.run(&["events", "replay", "evt_../send"]).await;
    assert!(code == 1 && error.starts_with("error: the Chert API refuses: HTTP 404"), "{error}");
}

#[tokio::test]
async fn options_that_do_not_fit_are_one_sentence() {
    let it = Harness::start().await;
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let taken = taken.local_addr().expect("bound").to_string();
    for (args, env, told) in [
        (vec!["worker", "--webhook-listen", "127.0.0.1:0"], ("X", ""), "error: CHERT_WEBHOOK_SECRET is not set"),
        (
            vec!["worker", "--webhook-listen", "127.0.0.1:0"],
            ("CHERT_WEBHOOK_SECRET", " ,"),
            "error: CHERT_WEBHOOK_SECRET is not set",
        ),
        (
            vec!["worker", "--webhook-listen", &taken, "--webhook-secret", "a", "--roles", "send,inbound"],
            ("X", ""),
            "error: OUTBOX_WEBHOOK_LISTEN: cannot listen on",
        ),
        (vec!["worker", "--events-every", "0"], ("X", ""), "error: OUTBOX_EVENTS_EVERY must be at least 1s"),
        (vec!["worker", "--drain"], ("OUTBOX_ROLES", "inbound"), "error: --drain needs the role send"),
        (
            vec!["worker", "--roles", "inbound", "--deployment", "staging"],
            ("X", ""),
            "error: this database belongs to deployment 'default'",
        ),
    ] {
        let output = it.binary().env(env.0, env.1).args(&args).output().await.expect("runs");
        let error = String::from_utf8(output.stderr).expect("UTF-8");
        assert!(error.starts_with(told) && error.trim().lines().count() == 1, "{args:?} {env:?}: {error}");
        assert_eq!(output.status.code(), Some(1));
    }
}

#[tokio::test]
async fn a_drain_receives_until_it_is_done() {
    let it = Harness::with(|options| options.latency = std::time::Duration::from_secs(1)).await;
    it.insert_many(3, 3).await;
    it.simulator.handle().receive(&inbound()).expect("a good number");
    let (code, out, error) = it.run(&["worker", "--drain", "--roles", "send,inbound"]).await;
    assert!(code == 0 && out.contains("3 sent, 0 failed"), "{out} {error}");
    let (held, proved): (i64, i64) =
        sqlx::query_as("select count(holder), count(proved_at) from outbox.cursors where name in ('stream', 'list')")
            .fetch_one(it.pool())
            .await
            .expect("readable");
    assert!(held == 0 && proved > 0 && it.events("true").await == 1, "{held} leases left, {proved} ways proved");
}
