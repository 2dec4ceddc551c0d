//! What becomes of messages after they were sent: looked up at the simulator, told by events, and told to whoever listens.

use std::time::Duration;

use axum::Router;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use chert_outbox::chert::auth::Credentials;
use chert_outbox::chert::client::Client;
use chert_outbox::chert::messages::Message;
use chert_outbox::config::DeliveryOptions;
use chert_outbox::delivery::Look;
use chert_outbox::inbound::delivery::Looker;
use chert_outbox::outbox::lookups::{self, Lookup};
use chert_outbox::simulate::{AccountChange, MessageShape, MessageState};
use chert_outbox::units::Rate;
use sqlx::postgres::PgListener;
use tokio::net::TcpListener;

use crate::harness::{Harness, PATIENCE};

const PHONE: &str = "+15550142200";
const LEASE: Duration = Duration::from_secs(60);

/// A simulator in which a message is delivered at once.
async fn quick() -> Harness {
    Harness::with(|options| options.messages.delivery_after = Duration::ZERO).await
}

/// One in which nothing is delivered by itself.
async fn silent() -> Harness {
    Harness::with(|options| options.messages.undelivered_share = 1.0).await
}

fn looker(it: &Harness) -> Looker {
    Looker::new(it.pool().clone(), it.client(), &DeliveryOptions { lookup_rate: Rate::every(Duration::ZERO) })
}

async fn sent(it: &Harness) -> i64 {
    let job = it.insert(PHONE, "Hi").await;
    it.drain().await;
    assert_eq!(it.state(job).await, "sent");
    job
}

/// As if all that is followed had been sent so long ago, and its look were due.
async fn age(it: &Harness, age: &str) {
    sqlx::query("update outbox.lookups set sent_at = now() - $1::text::interval, due_at = now()")
        .bind(age)
        .execute(it.pool())
        .await
        .expect("ages");
}

/// Makes one pass; what it looked at counts.
async fn look(it: &Harness) -> u64 {
    let pass = looker(it).pass(0).await.expect("looks");
    assert!(pass.stood_back.is_none(), "{:?}", pass.stood_back);
    pass.noted
}

async fn delivery(it: &Harness, job: i64) -> String {
    let told = "delivery_state || case when delivered_at is not null then ', delivered' else '' end
                || case when read_at is not null then ', read' else '' end";
    it.field(job, told).await.unwrap_or_default()
}

/// When a job's message is looked at next, in seconds after its sending.
async fn next_look(it: &Harness, job: i64) -> Option<i32> {
    sqlx::query_scalar("select extract(epoch from due_at - sent_at)::int from outbox.lookups where job_id = $1")
        .bind(job)
        .fetch_optional(it.pool())
        .await
        .expect("readable")
}

#[tokio::test]
async fn a_sent_message_is_looked_up_and_its_job_stays_sent() {
    let it = quick().await;
    let job = sent(&it).await;
    assert_eq!((delivery(&it, job).await.as_str(), next_look(&it, job).await), ("sent", Some(5)));
    age(&it, "6 seconds").await;
    assert_eq!(look(&it).await, 1);
    assert_eq!((delivery(&it, job).await.as_str(), next_look(&it, job).await), ("delivered, delivered", Some(30)));
    assert_eq!(look(&it).await, 0, "the next look is not due");
    assert_eq!(it.state(job).await, "sent");

    let (_, shown, _) = it.run(&["jobs", "show", &job.to_string()]).await;
    assert!(shown.lines().any(|line| line.split_whitespace().eq(["delivery", "delivered"])), "{shown}");

    age(&it, "1 day").await;
    assert_eq!(look(&it).await, 1);
    assert_eq!((delivery(&it, job).await.as_str(), next_look(&it, job).await), ("delivered, delivered", None));
}

#[tokio::test]
async fn what_is_not_delivered_within_a_day_is_unconfirmed() {
    let it = silent().await;
    let job = sent(&it).await;
    for (then, next) in
        [("6 seconds", 30), ("31 seconds", 120), ("3 minutes", 600), ("2 hours", 21_600), ("7 hours", 86_400)]
    {
        age(&it, then).await;
        assert_eq!(look(&it).await, 1, "{then}");
        assert_eq!((delivery(&it, job).await.as_str(), next_look(&it, job).await), ("sent", Some(next)), "{then}");
    }
    age(&it, "1 day").await;
    assert_eq!(look(&it).await, 1);
    assert_eq!((delivery(&it, job).await.as_str(), next_look(&it, job).await), ("unconfirmed", None));
    assert_eq!(it.state(job).await, "sent");
}

#[tokio::test]
async fn what_chert_says_is_kept_wrapped_and_bare() {
    for shape in [MessageShape::Wrapped, MessageShape::Bare] {
        let it = Harness::with(|options| {
            options.messages.undelivered_share = 1.0;
            options.messages.message_shape = shape;
        })
        .await;
        let (read, failed) = (sent(&it).await, sent(&it).await);
        for (job, state) in [(read, MessageState::Read), (failed, MessageState::Failed)] {
            let message = it.field(job, "message_id").await.expect("a message");
            assert!(it.simulator.handle().set_message(&message, state));
        }
        age(&it, "6 seconds").await;
        assert_eq!(look(&it).await, 2);
        assert_eq!(
            (delivery(&it, read).await.as_str(), next_look(&it, read).await),
            ("delivered, delivered, read", None)
        );
        assert_eq!((delivery(&it, failed).await.as_str(), next_look(&it, failed).await), ("failed", None));
        assert_eq!(it.state(failed).await, "sent", "a job stays what it is");
    }
}

#[tokio::test]
async fn what_could_not_be_looked_at_for_two_days_is_settled_without_a_look() {
    let it = silent().await;
    let job = sent(&it).await;
    it.simulator.handle().change_account(AccountChange { suspended: Some(true), ..AccountChange::default() });
    age(&it, "2 days").await;
    assert_eq!(look(&it).await, 1);
    assert_eq!((delivery(&it, job).await.as_str(), next_look(&it, job).await), ("unconfirmed", None));
}

#[tokio::test]
async fn a_message_that_chert_does_not_know_is_given_a_minute() {
    let it = Harness::with(|options| options.messages.message_lag = Duration::from_secs(3_600)).await;
    let job = sent(&it).await;
    age(&it, "59 seconds").await;
    assert_eq!(look(&it).await, 1);
    assert_eq!((delivery(&it, job).await.as_str(), next_look(&it, job).await), ("sent", Some(120)));
    age(&it, "61 seconds").await;
    assert_eq!(look(&it).await, 1);
    assert_eq!((delivery(&it, job).await.as_str(), next_look(&it, job).await), ("not_found", None));
}

#[tokio::test]
async fn a_duplicate_is_not_followed() {
    let it = Harness::with(|options| options.dedup_window = Some(Duration::from_secs(3_600))).await;
    let (first, second) = (it.insert(PHONE, "Hi").await, it.insert(PHONE, "Hi").await);
    it.drain().await;
    assert_eq!(it.state(second).await, "duplicate");
    assert_eq!((next_look(&it, first).await, next_look(&it, second).await), (Some(5), None));
    assert_eq!(delivery(&it, second).await, "");
}

#[tokio::test]
async fn no_look_is_made_while_the_account_is_blocked() {
    let it = quick().await;
    sent(&it).await;
    age(&it, "1 minute").await;
    let before = it.simulator.handle().calls().requests;
    it.execute("update outbox.account set block_kind = 'halted', block_reason = 'it', blocked_until = now()").await;
    assert_eq!(look(&it).await, 0);
    it.execute("update outbox.account set block_kind = 'rate_limited', blocked_until = now() + interval '1 hour'")
        .await;
    assert_eq!(look(&it).await, 0);
    assert_eq!(it.simulator.handle().calls().requests, before);
    it.execute("update outbox.account set blocked_until = now() - interval '1 second'").await;
    assert_eq!(look(&it).await, 1);
}

#[tokio::test]
async fn a_refusal_makes_the_looker_stand_back_and_costs_no_look() {
    let it = quick().await;
    let job = sent(&it).await;
    age(&it, "1 day").await;
    let suspend = |is_suspended| {
        it.simulator
            .handle()
            .change_account(AccountChange { suspended: Some(is_suspended), ..AccountChange::default() })
    };
    suspend(true);
    let pass = looker(&it).pass(3).await.expect("passes");
    let (wait, why) = pass.stood_back.expect("it stands back");
    assert!(pass.noted == 0 && wait >= Duration::from_secs(8), "{wait:?} after three failures before");
    assert!(why.contains("HTTP 403"), "{why}");
    assert_eq!(delivery(&it, job).await, "sent", "its last look is still to come");
    suspend(false);
    assert_eq!(look(&it).await, 0, "it is not due yet");
    age(&it, "1 day").await;
    assert_eq!(look(&it).await, 1);
    assert_eq!(delivery(&it, job).await, "delivered, delivered");
}

#[tokio::test]
async fn a_message_at_which_chert_fails_holds_up_no_other() {
    let it = quick().await;
    it.insert_many(8, 8).await;
    it.drain().await;
    it.execute("update outbox.lookups set message_id = case job_id when 1 then 'poison' else 'fine' end").await;
    let answer = |Path(id): Path<String>| async move {
        match id.as_str() {
            "fine" => r#"{"status":"on its way","delivered_at":"2026-06-03T09:15:02Z"}"#.into_response(),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "").into_response(),
        }
    };
    let chert = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", chert.local_addr().expect("bound"));
    let routes = Router::new().route("/messages/{id}", get(answer));
    tokio::spawn(async { axum::serve(chert, routes).await });
    let credentials = Credentials::Bearer { secret: "it".into(), tenant: None };
    let client = Client::new(&url, credentials, Duration::from_secs(5)).expect("a client");
    // One at a time, as under a budget: the poison comes first.
    let options = DeliveryOptions { lookup_rate: Rate::every(Duration::from_millis(20)) };
    let looker = Looker::new(it.pool().clone(), client, &options);
    it.execute(
        "update outbox.lookups set sent_at = now() - interval '1 hour', due_at = now() - interval '1 hour' / job_id",
    )
    .await;
    let first = looker.pass(0).await.expect("passes");
    let (wait, _) = first.stood_back.expect("it stands back");
    // From the head, it would be met first by every pass, and end it. It comes back behind those that were not asked, by a whole wait.
    let is_behind = "select coalesce(min(due_at) filter (where message_id = 'poison')
                                  >= min(due_at) filter (where message_id = 'fine') + make_interval(secs => $1), true)
                    from outbox.lookups where looks = 1";
    let is_behind: bool =
        sqlx::query_scalar(is_behind).bind(wait.as_secs_f64()).fetch_one(it.pool()).await.expect("readable");
    assert!(is_behind, "it is put off for longer than the others");
    // The wait of the others has passed, and its own has not.
    it.execute(
        "update outbox.lookups set due_at = now() + case message_id when 'poison' then interval '1 hour' else interval '0' end where looks = 1",
    )
    .await;
    let next = looker.pass(0).await.expect("passes");
    assert_eq!((first.noted + next.noted, next.stood_back), (7, None));
}

#[tokio::test]
async fn many_lookers_look_once_at_each() {
    let it = quick().await;
    it.insert_many(60, 60).await;
    it.drain().await;
    age(&it, "1 minute").await;
    let before = it.simulator.handle().calls().requests;
    let all = || async {
        let looker = looker(&it);
        while looker.pass(0).await.expect("looks").noted > 0 {}
    };
    tokio::join!(all(), all(), all());
    assert_eq!(it.count("delivery_state = 'delivered'").await, 60);
    assert_eq!(it.simulator.handle().calls().requests - before, 60);
}

#[tokio::test]
async fn what_a_dead_looker_took_is_looked_at_after_its_lease_and_a_late_look_changes_nothing() {
    let it = silent().await;
    let job = sent(&it).await;
    age(&it, "1 minute").await;
    let late = take(&it).await;
    assert_eq!(take(&it).await.len(), 0, "somebody has it");
    it.execute("update outbox.lookups set due_at = now()").await;
    let winner = take(&it).await;
    let seen = |status: &str| Look::Seen(Message { status: Some(status.to_owned()), ..Message::default() });
    assert_eq!(note(&it, late, seen("failed")).await, 0);
    assert_eq!(note(&it, winner, seen("delivered")).await, 1);
    assert_eq!(delivery(&it, job).await, "delivered, delivered");
}

#[tokio::test]
async fn an_event_short_cuts_the_looks() {
    let it = silent().await;
    let job = sent(&it).await;
    let message = it.field(job, "message_id").await.expect("a message");
    age(&it, "1 minute").await;
    let under_way = take(&it).await;
    assert_eq!(told(&it, &message, "delivered").await, [job]);
    let seen = Look::Seen(Message { status: Some("sent".to_owned()), ..Message::default() });
    assert_eq!(note(&it, under_way, seen).await, 0, "the event is newer than the look");
    assert_eq!((delivery(&it, job).await.as_str(), next_look(&it, job).await), ("delivered, delivered", Some(120)));
    assert_eq!(told(&it, &message, "read").await, [job]);
    assert_eq!((delivery(&it, job).await.as_str(), next_look(&it, job).await), ("delivered, delivered, read", None));
    assert_eq!(told(&it, &message, "failed").await, [0; 0], "it is settled");
}

#[tokio::test]
async fn listeners_hear_of_each_change_with_its_commit() {
    let it = quick().await;
    let mut listener = PgListener::connect_with(it.pool()).await.expect("connects");
    listener.listen("outbox_progress").await.expect("listens");
    let job = sent(&it).await;
    assert_eq!(heard(&mut listener).await, ("sent".to_owned(), vec![job]));
    age(&it, "1 minute").await;
    look(&it).await;
    assert_eq!(heard(&mut listener).await, ("delivered".to_owned(), vec![job]));

    // The largest batch of the longest ids comes in pieces that fit.
    let most: Vec<i64> = (i64::MAX - 999..=i64::MAX).collect();
    sqlx::query("select outbox.announce($1, 'sent')").bind(&most).execute(it.pool()).await.expect("announces");
    let mut all = Vec::new();
    while all.len() < most.len() {
        all.extend(heard(&mut listener).await.1);
    }
    all.sort_unstable();
    assert_eq!(all, most);

    it.execute("update outbox.account set progress = false; select outbox.announce('{1}', 'sent')").await;
    it.execute("update outbox.account set progress = true; select outbox.announce('{2}', 'sent')").await;
    assert_eq!(heard(&mut listener).await.1, [2]);
}

#[tokio::test]
async fn a_producer_sees_its_own_deliveries() {
    let it = quick().await;
    let job = sent(&it).await;
    age(&it, "1 minute").await;
    look(&it).await;
    let seen: (i64, String, bool) =
        sqlx::query_as("select id, delivery_state, delivered_at is not null from outbox.deliveries")
            .fetch_one(it.pool())
            .await
            .expect("readable");
    assert_eq!(seen, (job, "delivered".to_owned(), true));
    it.execute("update outbox.jobs set producer = 'somebody else'").await;
    let others: i64 =
        sqlx::query_scalar("select count(*) from outbox.deliveries").fetch_one(it.pool()).await.expect("readable");
    assert_eq!(others, 0);
}

async fn take(it: &Harness) -> Vec<Lookup> {
    lookups::take(it.pool(), 10, LEASE).await.expect("takes")
}

async fn note(it: &Harness, taken: Vec<Lookup>, look: Look) -> u64 {
    let looks: Vec<_> = taken.into_iter().map(|lookup| (lookup, look.clone())).collect();
    assert_eq!(looks.len(), 1);
    lookups::note(it.pool(), &looks).await.expect("notes")
}

async fn told(it: &Harness, message: &str, state: &str) -> Vec<i64> {
    let at = it.now().await;
    let mut tx = chert_outbox::database::begin(it.pool()).await.expect("begins");
    let jobs = lookups::told(&mut tx, message, state, at).await.expect("is told");
    tx.commit().await.expect("commits");
    jobs
}

async fn heard(listener: &mut PgListener) -> (String, Vec<i64>) {
    let heard = tokio::time::timeout(PATIENCE, listener.recv()).await.expect("something is heard").expect("connected");
    #[derive(serde::Deserialize)]
    struct Progress {
        what: String,
        jobs: Vec<i64>,
    }
    let progress: Progress = serde_json::from_str(heard.payload()).expect("JSON");
    (progress.what, progress.jobs)
}
