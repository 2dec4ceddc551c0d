//! The listener of webhooks: what it takes, what it refuses, and when it answers.

use std::io;
use std::time::Duration;

use chert_outbox::chert::auth::sign;
use chert_outbox::chert::client::wall_clock;
use reqwest::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Receiver, SECRET};
use crate::harness::Harness;

const WEBHOOKS_ONLY: [&str; 4] = ["--events-stream", "off", "--events-list", "off"];

fn now() -> i64 {
    wall_clock().timestamp()
}

fn event(n: u32) -> String {
    format!(r#"{{"event":"message.received","event_id":"chert:msg:{n}","data":{{}}}}"#)
}

/// As Chert signs today.
fn modern(secret: &str, at: i64, body: &[u8]) -> (&'static str, String) {
    ("x-webhook-signature", format!("t={at},v1={}", sign(secret, at, body)))
}

/// As Chert signed before.
fn legacy(secret: &str, at: i64, body: &[u8]) -> (&'static str, String) {
    ("x-chert-signature", format!("v1,{at},{}", sign(secret, at, body)))
}

async fn post(url: &str, headers: &[(&'static str, String)], body: impl Into<Vec<u8>>) -> (u16, String) {
    let mut request = reqwest::Client::new().post(url).body(body.into());
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let answer = request.send().await.expect("it answers");
    (answer.status().as_u16(), answer.text().await.expect("text"))
}

#[tokio::test]
async fn i10_what_is_signed_is_stored_and_everything_else_is_refused_with_a_reason() {
    let it = Harness::start().await;
    let receiver = Receiver::with_secret(&it, &format!("{},{SECRET}", "b1".repeat(32)), &WEBHOOKS_ONLY).await;
    let (body, at) = (event(1), now());
    let other = event(2);
    let cut = &body.as_bytes()[..body.len() - 1];
    let large = format!(r#"{{"event_id":"large","text":"{}"}}"#, "a".repeat(1024 * 1024));
    let largest = format!(r#"{{"event_id":"largest","text":"{}"}}"#, "a".repeat(1024 * 1024 - 32));
    assert_eq!(largest.len(), 1024 * 1024);
    let swapped = ("x-chert-signature", modern(SECRET, at, body.as_bytes()).1);
    for (what, header, sent, status, reason) in [
        ("modern", Some(modern(SECRET, at, body.as_bytes())), body.as_bytes(), 200, ""),
        ("legacy, the same event", Some(legacy(SECRET, at, body.as_bytes())), body.as_bytes(), 200, ""),
        ("a format in the other header", Some(swapped), body.as_bytes(), 200, ""),
        ("the next secret", Some(modern(&"b1".repeat(32), at, other.as_bytes())), other.as_bytes(), 200, ""),
        ("as large as can be", Some(modern(SECRET, at, largest.as_bytes())), largest.as_bytes(), 200, ""),
        ("unsigned", None, body.as_bytes(), 401, "has no signature"),
        ("wrong secret", Some(modern("another", at, body.as_bytes())), body.as_bytes(), 401, "does not fit"),
        ("forged", Some(modern(SECRET, at, other.as_bytes())), body.as_bytes(), 401, "does not fit"),
        ("truncated", Some(modern(SECRET, at, body.as_bytes())), cut, 401, "does not fit"),
        (
            "another time",
            Some((
                "x-webhook-signature",
                modern(SECRET, at, body.as_bytes()).1.replace(&format!("t={at}"), &format!("t={}", at + 1)),
            )),
            body.as_bytes(),
            401,
            "does not fit",
        ),
        ("replayed later", Some(modern(SECRET, at - 302, body.as_bytes())), body.as_bytes(), 401, "300 s"),
        ("from the future", Some(legacy(SECRET, at + 330, body.as_bytes())), body.as_bytes(), 401, "300 s"),
        ("unreadable", Some(("x-webhook-signature", "sha256=00".to_owned())), body.as_bytes(), 401, "reads neither"),
        ("oversized", Some(modern(SECRET, at, large.as_bytes())), large.as_bytes(), 413, "1 MiB"),
        ("no JSON", Some(modern(SECRET, at, b"hello")), b"hello", 400, "JSON object"),
        ("no object", Some(modern(SECRET, at, b"[]")), b"[]", 400, "JSON object"),
        ("no text", Some(modern(SECRET, at, b"\xff")), b"\xff", 400, "JSON object"),
        ("nothing", Some(modern(SECRET, at, b"")), b"", 400, "JSON object"),
    ] {
        let headers: Vec<_> = header.into_iter().collect();
        let (answered, text) = post(&receiver.url(), &headers, sent).await;
        assert_eq!(answered, status, "{what}: {text}");
        assert!(text.contains(reason) && text.lines().count() <= 1, "{what}: {text}");
    }
    let signed = [modern(SECRET, at, body.as_bytes())];
    for (method, path) in [
        ("GET", "/webhooks/chert"),
        ("PUT", "/webhooks/chert"),
        ("POST", "/"),
        ("POST", "/webhooks/chert/"),
        ("GET", "/metrics"),
    ] {
        let url = format!("http://{}{path}", receiver.addr);
        let request = reqwest::Client::new().request(Method::from_bytes(method.as_bytes()).expect("a method"), url);
        let answer = request.header(signed[0].0, &signed[0].1).body(body.clone()).send().await.expect("it answers");
        assert_eq!(answer.status().as_u16(), 404, "{method} {path}");
    }
    receiver.stop().await;
    assert_eq!(it.events("true").await, 3, "what was taken, once each");
    assert_eq!(
        it.events(
            "source = 'webhook' and body = '{\"event\":\"message.received\",\"event_id\":\"chert:msg:1\",\"data\":{}}'"
        )
        .await,
        1
    );
}

#[tokio::test]
async fn i10_no_yes_before_the_commit_and_what_was_not_stored_may_come_again() {
    let it = Harness::start().await;
    let receiver = Receiver::start(&it, &WEBHOOKS_ONLY).await;
    let mut lock = it.pool().begin().await.expect("begins");
    sqlx::query("lock table outbox.events in exclusive mode").execute(&mut *lock).await.expect("held");
    let signed = [modern(SECRET, now(), event(1).as_bytes())];
    let (status, text) = post(&receiver.url(), &signed, event(1)).await;
    assert_eq!((status, text.as_str()), (503, "the event could not be stored: try again later\n"));
    lock.commit().await.expect("let go");
    assert_eq!(post(&receiver.url(), &signed, event(1)).await.0, 200);
    assert_eq!(it.events("true").await, 1);
    receiver.stop().await;
}

#[tokio::test]
async fn more_webhooks_than_there_is_room_for_are_sent_away() {
    let it = Harness::start().await;
    let receiver = Receiver::start(&it, &WEBHOOKS_ONLY).await;
    let mut lock = it.pool().begin().await.expect("begins");
    sqlx::query("lock table outbox.events in exclusive mode").execute(&mut *lock).await.expect("held");
    let url = receiver.url();
    let posts = (0..100).map(|n| {
        let (url, body) = (url.clone(), event(n));
        async move { post(&url, &[modern(SECRET, now(), body.as_bytes())], body).await }
    });
    let answers = futures_util::future::join_all(posts).await;
    assert!(answers.iter().all(|(status, _)| *status == 503), "{answers:?}");
    assert!(answers.iter().any(|(_, text)| text.contains("too many requests")), "{answers:?}");
    lock.commit().await.expect("let go");
    receiver.stop().await;
}

#[tokio::test]
async fn whoever_is_slow_is_cut_off() {
    let it = Harness::start().await;
    let receiver = Receiver::start(&it, &WEBHOOKS_ONLY).await;
    let (name, value) = modern(SECRET, now(), event(1).as_bytes());
    let post = "POST /webhooks/chert HTTP/1.1\r\nhost: a\r\n";
    for (sent, answer) in [
        (format!("{post}{name}: {value}\r\ncontent-length: 99\r\n\r\nhalf"), "HTTP/1.1 503"),
        (post.to_owned(), ""),
        // What will be refused anyway is not waited for.
        (format!("{post}content-length: 99\r\n\r\n"), "HTTP/1.1 401"),
        (format!("{post}{name}: {value}\r\ncontent-length: {}\r\n\r\n", 8 * 1024 * 1024 + 1), "HTTP/1.1 413"),
    ] {
        let mut stream = TcpStream::connect(receiver.addr).await.expect("it listens");
        stream.write_all(sent.as_bytes()).await.expect("taken");
        let mut said = Vec::new();
        let read: io::Result<_> =
            tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut said)).await.expect("it hangs up");
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(read.is_ok() && said.starts_with(answer), "{said}");
    }
    receiver.stop().await;
}

#[tokio::test]
async fn a_listener_that_stops_answers_what_is_in_flight() {
    let it = Harness::start().await;
    let receiver = Receiver::start(&it, &WEBHOOKS_ONLY).await;
    let mut lock = it.pool().begin().await.expect("begins");
    sqlx::query("lock table outbox.events in exclusive mode").execute(&mut *lock).await.expect("held");
    let (url, body) = (receiver.url(), event(1));
    let in_flight = tokio::spawn(async move { post(&url, &[modern(SECRET, now(), body.as_bytes())], body).await });
    let waits = || async {
        let waiting = "select exists (select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock')";
        sqlx::query_scalar(waiting).fetch_one(it.pool()).await.expect("a superuser")
    };
    it.until("it is being stored", waits).await;
    receiver.stop.send_replace(true);
    lock.commit().await.expect("let go");
    assert_eq!(in_flight.await.expect("answered").0, 200);
    receiver.stop().await;
    assert_eq!(it.events("true").await, 1);
}
