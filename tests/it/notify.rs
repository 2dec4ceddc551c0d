//! Webhooks out, to a real receiver that takes them, refuses them, or is gone.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use chert_outbox::notify::Notifier;
use chert_outbox::notify::receiver::Receiver;
use chert_outbox::notify::sign::Key;
use chert_outbox::outbox::notifications;
use chert_outbox::outbox::rescue::rescue;
use serde_json::Value;
use tokio::net::TcpListener;

use crate::claim::{admit_all, claimed};
use crate::harness::Harness;

const PHONE: &str = "+15550142200";
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// The application that is told: it answers with these statuses, then 204, and keeps what came.
#[derive(Clone, Default)]
struct Application {
    answers: Arc<Mutex<VecDeque<u16>>>,
    posts: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
}

impl Application {
    async fn start(answers: &[u16]) -> (Application, String) {
        let application =
            Application { answers: Arc::new(Mutex::new(answers.iter().copied().collect())), ..Application::default() };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/hooks", listener.local_addr().expect("bound"));
        let routes = Router::new().route("/hooks", post(take)).with_state(application.clone());
        tokio::spawn(async { axum::serve(listener, routes).await });
        (application, url)
    }

    fn posts(&self) -> Vec<(HeaderMap, Value)> {
        let posts = self.posts.lock().expect("whole");
        posts.iter().map(|(headers, body)| (headers.clone(), serde_json::from_slice(body).expect("JSON"))).collect()
    }

    /// The types that were told of this job, in order.
    fn types(&self, job: i64) -> Vec<String> {
        let posts = self.posts().into_iter().filter(|(_, post)| post["data"]["job_id"] == job);
        posts.map(|(_, post)| post["type"].as_str().expect("a type").to_owned()).collect()
    }
}

async fn take(State(application): State<Application>, headers: HeaderMap, body: Bytes) -> StatusCode {
    application.posts.lock().expect("whole").push((headers, body));
    let answer = application.answers.lock().expect("whole").pop_front();
    StatusCode::from_u16(answer.unwrap_or(204)).expect("a status")
}

fn key() -> Key {
    Key::read(&SECRET.into()).expect("a secret")
}

/// A notifier for this address, with notifications switched on.
async fn notifier(it: &Harness, url: &str, with_phone: bool) -> Notifier {
    notifications::switch(it.pool(), true).await.expect("switches");
    let receiver = Receiver::new(url.parse().expect("a URL"), key(), with_phone).expect("a client");
    Notifier { pool: it.pool().clone(), receiver }
}

async fn due_now(it: &Harness) {
    it.execute("update outbox.notifications set due_at = now() where due_at is not null").await;
}

async fn count(it: &Harness, condition: &str) -> i64 {
    let sql = format!("select count(*) from outbox.notifications where {condition}");
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(it.pool()).await.expect("countable")
}

#[tokio::test]
async fn a_worker_tells_what_became_of_a_message() {
    let it = Harness::with(|options| options.messages.delivery_after = Duration::ZERO).await;
    let (application, url) = Application::start(&[]).await;
    let _worker = it.spawn_worker(&["--roles", "send,delivery", "--notify-url", &url, "--notify-secret", SECRET]);
    it.until("notifications are switched on", || async {
        sqlx::query_scalar("select notifications from outbox.account").fetch_one(it.pool()).await.expect("readable")
    })
    .await;
    it.execute(
        r#"insert into outbox.jobs (phone, body, dedupe_key, labels) values ('+15550142200', 'Hi', 'order-7', '{"shop":"a"}')"#,
    )
    .await;
    it.until("the application knows that it was delivered", || async { application.types(1).len() == 2 }).await;
    assert_eq!(application.types(1), ["message.sent", "message.delivered"]);
    let (_, post) = application.posts().remove(1);
    let data = &post["data"];
    assert_eq!((data["dedupe_key"].as_str(), data["labels"]["shop"].as_str()), (Some("order-7"), Some("a")));
    assert_eq!((data["state"].as_str(), data["delivery_state"].as_str()), (Some("sent"), Some("delivered")));
    assert_eq!(data["message_id"].as_str(), it.field(1, "message_id").await.as_deref());
    assert!(post["timestamp"].as_str().is_some_and(|at| at.parse::<chrono::DateTime<chrono::Utc>>().is_ok()), "{post}");
    let told = post.to_string();
    assert!(!told.contains(PHONE) && !told.contains("Hi"), "{told}");
}

#[tokio::test]
async fn jobs_that_end_without_a_call_are_told_of_as_well() {
    let it = Harness::start().await;
    notifications::switch(it.pool(), true).await.expect("switches");
    let told = async || {
        sqlx::query_scalar::<_, String>("delete from outbox.notifications returning job_id || ' ' || what")
            .fetch_all(it.pool())
            .await
            .expect("readable")
    };
    it.execute(
        "insert into outbox.suppressions (phone, reason) values ('+15550142200', 'it');
         insert into outbox.jobs (phone, body, expires_at, unknown_since, due_at) values
         ('+15550142200', 'Hi', null, null, now()),
         ('+15550142201', 'Hi', now() - interval '1 hour', null, now() - interval '2 hours'),
         ('+15550142202', 'Hi', now() - interval '1 hour', now(), now() - interval '2 hours')",
    )
    .await;
    admit_all(&it).await;
    let mut by_admission = told().await;
    by_admission.sort_unstable();
    assert_eq!(by_admission, ["1 suppressed", "2 expired", "3 parked"]);

    it.execute("insert into outbox.jobs (phone, body, max_attempts) values ('+15550142203', 'Hi', 1)").await;
    admit_all(&it).await;
    assert_eq!(claimed(&it, "one", 1).await, [4]);
    it.execute("update outbox.jobs set lease_until = now() - interval '1 second' where id = 4").await;
    rescue(it.pool(), "two").await.expect("rescues");
    assert_eq!(told().await, ["4 parked"], "by the rescue");

    // As if it had been tried, and altered since.
    it.execute("insert into outbox.jobs (phone, body, idempotency_key) values ('+15550142204', 'Hi', 'another')").await;
    admit_all(&it).await;
    assert_eq!(claimed(&it, "one", 1).await, [0i64; 0]);
    assert_eq!(told().await, ["5 failed"], "by the claim");

    it.insert("+15550142205", "Hi").await;
    let (code, ..) = it.run(&["suppress", "add", "+15550142205"]).await;
    assert_eq!((code, told().await), (0, vec!["6 suppressed".to_owned()]));
}

#[tokio::test]
async fn what_is_posted_is_what_is_signed() {
    let it = Harness::start().await;
    let (application, url) = Application::start(&[500]).await;
    let notifier = notifier(&it, &url, true).await;
    let job = it.insert(PHONE, "Hi").await;
    it.drain().await;
    assert_eq!(notifier.pass().await.expect("posts"), 1);
    due_now(&it).await;
    assert_eq!(notifier.pass().await.expect("posts"), 1);
    let posts = application.posts.lock().expect("whole").clone();
    let header = |headers: &HeaderMap, name: &str| headers[name].to_str().expect("text").to_owned();
    for (headers, body) in &posts {
        let secs = header(headers, "webhook-timestamp").parse().expect("seconds");
        let signature = key().sign(&header(headers, "webhook-id"), secs, body);
        assert_eq!(header(headers, "webhook-signature"), signature);
    }
    assert_eq!(posts[0].0["webhook-id"], posts[1].0["webhook-id"], "the receiver knows it again");
    assert_eq!(application.posts()[0].1["data"]["phone"], PHONE, "which --notify-phone asked for");
    assert_eq!(application.types(job), ["message.sent"; 2]);
}

#[tokio::test]
async fn a_receiver_that_fails_is_told_on_the_schedule_then_given_up_and_told_again_by_hand() {
    let it = Harness::start().await;
    let (application, url) = Application::start(&[500; 10]).await;
    let notifier = notifier(&it, &url, false).await;
    it.insert(PHONE, "Hi").await;
    it.drain().await;
    for (attempt, wait) in (1..).zip(chert_outbox::notify::WAITS) {
        assert_eq!(notifier.pass().await.expect("posts"), 1, "attempt {attempt}");
        let secs: f64 =
            sqlx::query_scalar("select extract(epoch from due_at - now())::float8 from outbox.notifications")
                .fetch_one(it.pool())
                .await
                .expect("it waits");
        assert!(
            (wait.as_secs_f64() - 2.0..wait.as_secs_f64() * 1.1).contains(&secs),
            "{secs} s after attempt {attempt}"
        );
        assert_eq!(notifier.pass().await.expect("looks"), 0, "it is not due");
        due_now(&it).await;
    }
    assert_eq!(notifier.pass().await.expect("posts"), 1);
    assert_eq!(count(&it, "failed_at is not null and http_status = 500 and attempts = 10").await, 1);

    let (_, listed, _) = it.run(&["notifications", "list", "--json"]).await;
    let listed: Value = serde_json::from_str(&listed).expect("JSON");
    assert_eq!((listed[0]["what"].as_str(), listed[0]["error"].as_str()), (Some("sent"), Some("HTTP 500")));
    let (code, told, _) = it.run(&["notifications", "retry", "1"]).await;
    assert_eq!((code, told.trim()), (0, "1 notification is posted again"));
    assert_eq!(notifier.pass().await.expect("posts"), 1);
    assert_eq!((count(&it, "delivered_at is not null").await, application.posts().len()), (1, 11));
    let (code, _, error) = it.run(&["notifications", "retry", "1"]).await;
    assert!(code == 1 && error.contains("were not given up"), "{error}");
}

#[tokio::test]
async fn a_receiver_that_is_gone_is_told_no_more() {
    let it = Harness::start().await;
    let (application, url) = Application::start(&[410]).await;
    let notifier = notifier(&it, &url, false).await;
    it.insert(PHONE, "Hi").await;
    it.drain().await;
    assert_eq!(notifier.pass().await.expect("posts"), 1);
    assert_eq!(count(&it, "failed_at is not null").await, 1);
    it.insert(PHONE, "Hi again").await;
    it.drain().await;
    assert_eq!(count(&it, "true").await, 1, "nothing more is written for it");
    it.execute("insert into outbox.notifications (job_id, what) values (2, 'sent')").await;
    assert_eq!(notifier.pass().await.expect("looks"), 0);
    assert_eq!(application.posts().len(), 1);
}

#[tokio::test]
async fn what_a_dead_notifier_took_is_posted_after_its_lease_and_its_late_word_changes_nothing() {
    let it = Harness::start().await;
    let (_application, url) = Application::start(&[]).await;
    let notifier = notifier(&it, &url, false).await;
    it.insert(PHONE, "Hi").await;
    it.drain().await;
    let taken = notifications::take(it.pool(), 10, Duration::from_secs(60)).await.expect("takes");
    assert_eq!((taken.len(), notifier.pass().await.expect("looks")), (1, 0), "somebody has it");
    due_now(&it).await;
    assert_eq!(notifier.pass().await.expect("posts"), 1);
    let late = notifications::Told {
        id: taken[0].id,
        attempts: taken[0].attempts,
        fate: notifications::Fate::Dead,
        http_status: None,
        error: Some("late".to_owned()),
    };
    notifications::note(it.pool(), &[late]).await.expect("notes");
    assert_eq!(count(&it, "delivered_at is not null and error is null").await, 1);
}

#[tokio::test]
async fn many_notifiers_tell_each_once() {
    let it = Harness::start().await;
    let (application, url) = Application::start(&[]).await;
    let notifier = notifier(&it, &url, false).await;
    it.insert_many(200, 200).await;
    it.drain().await;
    let all = || async { while notifier.pass().await.expect("posts") > 0 {} };
    tokio::join!(all(), all(), all());
    let mut ids: Vec<String> = application
        .posts()
        .iter()
        .map(|(headers, _)| headers["webhook-id"].to_str().expect("text").to_owned())
        .collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((application.posts().len(), ids.len()), (200, 200));
}

#[tokio::test]
async fn nothing_is_written_for_nobody_and_none_switches_it_off() {
    let it = Harness::start().await;
    it.insert(PHONE, "Hi").await;
    it.drain().await;
    assert_eq!(count(&it, "true").await, 0);
    notifications::switch(it.pool(), true).await.expect("switches");
    let _worker = it.spawn_worker(&["--roles", "send", "--notify-url", "none"]);
    it.until("notifications are switched off", || async {
        sqlx::query_scalar("select not notifications from outbox.account").fetch_one(it.pool()).await.expect("readable")
    })
    .await;
}

#[tokio::test]
async fn an_adopted_copy_tells_nobody_of_what_the_original_sent() {
    let it = Harness::start().await;
    notifications::switch(it.pool(), true).await.expect("switches");
    it.insert(PHONE, "Hi").await;
    it.drain().await;
    assert_eq!(count(&it, "due_at is not null").await, 1);
    let (code, ..) = it.run(&["adopt", "--deployment", "staging"]).await;
    assert_eq!((code, count(&it, "true").await), (0, 0));
    let (is_on, followed): (bool, bool) =
        sqlx::query_as("select notifications, exists (select from outbox.lookups) from outbox.account")
            .fetch_one(it.pool())
            .await
            .expect("readable");
    assert!(!is_on && !followed);
}

#[tokio::test]
async fn notifications_are_kept_for_a_week() {
    let it = Harness::start().await;
    it.execute(
        "insert into outbox.notifications (job_id, what, created_at)
         select n, 'sent', now() - n * interval '1 day' from generate_series(9, 5, -1) n",
    )
    .await;
    assert_eq!(notifications::forget(it.pool(), 2).await.expect("forgets"), 2);
    assert_eq!(notifications::forget(it.pool(), 2).await.expect("forgets"), 1, "the next one is younger");
    assert_eq!(count(&it, "created_at < now() - interval '7 days'").await, 0);
    assert_eq!(count(&it, "true").await, 2);
}

#[tokio::test]
async fn options_that_do_not_fit_are_refused_before_anything_is_sent() {
    let it = Harness::start().await;
    for (args, wanted) in [
        (&["--notify-url", "ftp://x"][..], "OUTBOX_NOTIFY_URL must look like"),
        (&["--notify-url", "http://127.0.0.1:1/"], "OUTBOX_NOTIFY_SECRET is not set"),
        (
            &["--notify-url", "http://127.0.0.1:1/", "--notify-secret", "hush"],
            "OUTBOX_NOTIFY_SECRET: it must be whsec_",
        ),
    ] {
        let args: Vec<&str> = ["worker", "--drain"].iter().chain(args).copied().collect();
        let (code, _, error) = it.run(&args).await;
        assert!(code == 1 && error.contains(wanted) && !error.contains("hush"), "{error}");
    }
}
