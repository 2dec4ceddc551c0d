//! What replies, stops and starts do, from the stored event on; and what holds jobs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chert_outbox::config::ReplyOptions;
use chert_outbox::inbound::apply::{Applied, Applier};
use chert_outbox::inbound::event::Incoming;
use chert_outbox::inbound::store::{Source, store};
use chert_outbox::simulate::Inbound;
use chrono::{DateTime, TimeDelta, Utc};
use clap::Parser;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use sqlx::PgPool;
use tokio::sync::{Notify, watch};

use crate::claim::{admit_all, claimed};
use crate::harness::{Harness, until};

const ANN: &str = "+15550142200";
const BOB: &str = "+15550142201";

#[derive(Parser)]
struct Options {
    #[command(flatten)]
    replies: ReplyOptions,
}

/// An applier with options as from its command line.
pub fn applier(args: &[&str]) -> Applier {
    let options = Options::try_parse_from([&["it"], args].concat()).unwrap_or_else(|error| panic!("{error}")).replies;
    Applier::new(options.words().expect("the lists are readable"), options)
}

/// What `phone` wrote just now.
pub fn message(event_id: &str, phone: &str, text: &str) -> Incoming {
    message_at(event_id, phone, text, now())
}

#[expect(clippy::disallowed_methods, reason = "the far end has a clock of its own")]
fn now() -> DateTime<Utc> {
    Utc::now()
}

/// What `phone` wrote then, by the far end's clock.
pub fn message_at(event_id: &str, phone: &str, text: &str, at: DateTime<Utc>) -> Incoming {
    let envelope = json!({
        "event": "message.received", "event_id": event_id, "timestamp": at.to_rfc3339(),
        "data": {"chat": {"owner_handle": {"handle": "+15550100002"}},
                 "message": {"direction": "inbound", "sender_handle": {"handle": phone, "is_me": false},
                             "parts": [{"type": "text", "value": text}]}},
    });
    Incoming::read(&envelope.to_string(), now()).expect("an event")
}

impl Harness {
    /// Stores these events by one way and applies all that wait.
    async fn hears(&self, applier: &Applier, events: &[Incoming]) -> Applied {
        store(self.pool(), Source::List, events).await.expect("stores");
        applier.apply(self.pool()).await.expect("applies")
    }

    async fn insert_marketing(&self, phone: &str, body: &str) -> i64 {
        sqlx::query_scalar("insert into outbox.jobs (phone, body, class) values ($1, $2, 'marketing') returning id")
            .bind(phone)
            .bind(body)
            .fetch_one(self.pool())
            .await
            .expect("a good row is taken")
    }

    async fn is_deaf(&self) -> bool {
        let deaf = sqlx::query_scalar("select outbox.is_deaf(interval '5 minutes')");
        deaf.fetch_one(self.pool()).await.expect("answers")
    }

    fn texts_to(&self, phone: &str) -> Vec<String> {
        self.ledger().into_iter().filter(|entry| entry.phone == phone).map(|entry| entry.body).collect()
    }
}

async fn effects(pool: &PgPool) -> Vec<(String, Option<String>)> {
    sqlx::query_as("select event_id, effect from outbox.events order by id").fetch_all(pool).await.expect("readable")
}

#[tokio::test]
async fn i06_a_stop_ends_what_waits_and_is_answered_once() {
    let it = Harness::start().await;
    let (first, second) = (it.insert(ANN, "one").await, it.insert(ANN, "two").await);
    it.insert(BOB, "Hi Bob").await;
    let applier = applier(&["--opt-out-text", "Bye"]);
    let applied = it.hears(&applier, &[message("e1", ANN, " Stop! ")]).await;
    assert_eq!(applied, Applied { events: 1, opted_out: 1, suppressed_jobs: 2, stopped_enrolments: 0 });
    for job in [first, second] {
        assert_eq!(it.state(job).await, "suppressed/suppressed");
    }
    assert_eq!(it.count("body = 'Bye' and expires_at = created_at + interval '5 minutes'").await, 1);
    it.hears(&applier, &[message("e2", ANN, "STOP")]).await;
    let later = it.insert(ANN, "three").await;
    it.drain().await;
    assert_eq!(it.state(later).await, "suppressed/suppressed");
    assert_eq!((it.texts_to(ANN), it.texts_to(BOB)), (vec!["Bye".to_owned()], vec!["Hi Bob".to_owned()]));
    assert_eq!(it.field(first, "reason").await.as_deref(), Some("suppressed"));
    let opt_out = Some("opt_out".to_owned());
    assert_eq!(effects(it.pool()).await, [("e1".to_owned(), opt_out.clone()), ("e2".to_owned(), opt_out)]);
}

#[tokio::test]
async fn i06_many_stops_of_one_batch_end_what_waits_for_each() {
    let it = Harness::start().await;
    let mut jobs = Vec::new();
    for phone in [ANN, BOB] {
        jobs.extend([it.insert(phone, "one").await, it.insert(phone, "two").await]);
    }
    let applier = applier(&["--opt-out-text", "Bye"]);
    let stops = [message("e1", BOB, "stop"), message("e2", ANN, "quit"), message("e3", BOB, "STOP")];
    let applied = it.hears(&applier, &stops).await;
    assert_eq!(applied, Applied { events: 3, opted_out: 2, suppressed_jobs: 4, stopped_enrolments: 0 });
    for job in jobs {
        assert_eq!(it.state(job).await, "suppressed/suppressed");
    }
    it.drain().await;
    assert_eq!((it.texts_to(ANN), it.texts_to(BOB)), (vec!["Bye".to_owned()], vec!["Bye".to_owned()]));
}

#[tokio::test]
async fn a_stop_from_an_address_that_is_no_number_is_put_before_a_person() {
    let it = Harness::start().await;
    it.hears(&applier(&[]), &[message("e1", "ann@icloud.com", "Stop"), message("e2", "ann@icloud.com", "ok")]).await;
    let effect = |id: &str, effect: &str| (id.to_owned(), Some(effect.to_owned()));
    assert_eq!(effects(it.pool()).await, [effect("e1", "unreadable"), effect("e2", "ignored")]);
    let (_, shown, _) = it.run(&["events", "tail", "--show-text"]).await;
    assert!(shown.contains("\"Stop\""), "{shown}");
}

#[tokio::test]
async fn i02_a_stop_does_not_call_unsent_what_may_be_on_the_phone() {
    let it = Harness::start().await;
    let job = it.insert(ANN, "one").await;
    it.execute(
        "update outbox.jobs set unknown_since = now(), reason = 'outcome_unknown', wake_at = now() + interval '1 hour'",
    )
    .await;
    it.hears(&applier(&[]), &[message("e1", ANN, "stop")]).await;
    assert_eq!(it.state(job).await, "parked/outcome_unknown");
}

#[tokio::test]
async fn an_answer_to_a_stop_that_comes_too_late_is_not_sent() {
    let it = Harness::start().await;
    it.hears(&applier(&["--opt-out-within", "1ms"]), &[message("e1", ANN, "stop")]).await;
    it.drain().await;
    assert_eq!((it.texts_to(ANN).len(), it.count("state = 'expired'").await), (0, 1));
}

#[tokio::test]
async fn i10_an_event_is_stored_once_and_applied_once_however_often_it_comes() {
    let it = Harness::start().await;
    let job = it.insert(ANN, "How are you?").await;
    it.drain().await;
    let event = message("e1", ANN, "fine");
    let mut new = 0;
    for source in [Source::Webhook, Source::Stream, Source::List, Source::Webhook] {
        new += store(it.pool(), source, &[event.clone(), event.clone()]).await.expect("stores");
    }
    let applier = applier(&[]);
    let applied = applier.apply(it.pool()).await.expect("applies");
    assert_eq!((new, applied.events), (1, 1));
    store(it.pool(), Source::List, &[event]).await.expect("stores");
    assert_eq!(applier.apply(it.pool()).await.expect("applies").events, 0);
    assert!(it.field(job, "replied_at").await.is_some());
    let answered: Option<i64> =
        sqlx::query_scalar("select job_id from outbox.events").fetch_one(it.pool()).await.expect("readable");
    assert_eq!(answered, Some(job));
}

#[tokio::test]
async fn a_start_takes_back_a_stop_and_nothing_that_an_operator_decided() {
    let it = Harness::start().await;
    let applier = applier(&["--opt-out-text", ""]);
    let at = now() - TimeDelta::minutes(10);
    let minutes = TimeDelta::minutes;
    it.hears(&applier, &[message_at("stop", ANN, "stop", at), message_at("start", ANN, "START", at + minutes(1))])
        .await;
    // The same two, the later word first; and one that an operator decided.
    it.hears(&applier, &[message_at("start2", BOB, "unstop", at + minutes(1))]).await;
    it.hears(&applier, &[message_at("stop2", BOB, "stop", at)]).await;
    it.execute("insert into outbox.suppressions (phone, reason) values ('+15550142209', 'asked by mail')").await;
    it.hears(&applier, &[message("start3", "+15550142209", "start")]).await;
    // What an operator asks for as well is theirs from then on.
    it.hears(&applier, &[message("stop4", "+15550142208", "stop")]).await;
    let (code, ..) = it.run(&["suppress", "add", "+15550142208", "--reason", "complained"]).await;
    assert_eq!(code, 0);
    it.hears(&applier, &[message("start4", "+15550142208", "start")]).await;
    let left: Vec<String> = sqlx::query_scalar("select phone from outbox.suppressions order by phone")
        .fetch_all(it.pool())
        .await
        .expect("readable");
    assert_eq!(left, ["+15550142208", "+15550142209"]);
}

#[tokio::test]
async fn a_stop_may_cover_the_campaign_that_it_answers_alone() {
    let it = Harness::start().await;
    it.execute("insert into outbox.jobs (phone, body, campaign) values ('+15550142200', 'Buy now', 'sale')").await;
    it.drain().await;
    it.execute(
        "insert into outbox.jobs (phone, body, campaign) values ('+15550142200', 'Buy more', 'sale'), ('+15550142200', 'Your order', 'orders')",
    )
    .await;
    it.hears(&applier(&["--opt-out-scope", "campaign", "--opt-out-text", ""]), &[message("e1", ANN, "stop")]).await;
    it.drain().await;
    assert_eq!(it.texts_to(ANN), ["Buy now", "Your order"]);
    assert_eq!(it.count("state = 'suppressed' and campaign = 'sale'").await, 1);
}

#[tokio::test]
async fn stops_that_came_together_each_cover_the_campaign_that_they_answer() {
    let it = Harness::start().await;
    let mut stops = Vec::new();
    for campaign in ["sale", "news"] {
        sqlx::query("insert into outbox.jobs (phone, body, campaign) values ($1, 'Hi', $2)")
            .bind(ANN)
            .bind(campaign)
            .execute(it.pool())
            .await
            .expect("inserts");
        it.drain().await;
        stops.push(message(campaign, ANN, "stop"));
    }
    // As if each had been written right after the message that it answers.
    it.execute("update outbox.jobs set sent_at = now() - interval '1 hour' where campaign = 'sale'").await;
    stops[0].occurred_at = now() - TimeDelta::minutes(30);
    it.hears(&applier(&["--opt-out-scope", "campaign"]), &stops).await;
    let scopes: Vec<String> = sqlx::query_scalar("select scope from outbox.suppressions order by scope")
        .fetch_all(it.pool())
        .await
        .expect("readable");
    assert_eq!(scopes, ["campaign=news", "campaign=sale"]);
    assert_eq!(it.count("past_suppression").await, 1, "one answer for both");
}

#[tokio::test]
async fn a_reply_answers_the_newest_message_that_its_writer_can_have_seen() {
    let it = Harness::start().await;
    let mut jobs = Vec::new();
    for body in ["one", "two", "three"] {
        jobs.push(it.insert(ANN, body).await);
        it.drain().await;
    }
    it.execute("update outbox.jobs set sent_at = now() - interval '1 hour' * (3 - id)").await;
    let (applier, ago) = (applier(&[]), |minutes| now() - TimeDelta::minutes(minutes));
    let late = [message_at("before", ANN, "who?", ago(150)), message_at("between", ANN, "yes", ago(90))];
    it.hears(&applier, &late).await;
    // Chert's clock may be a little behind ours.
    it.hears(&applier, &[message_at("after", ANN, "ok", ago(60) - TimeDelta::seconds(20))]).await;
    // Sent after the reply had arrived, and before it was applied.
    store(it.pool(), Source::List, &[message("newest", ANN, "fine")]).await.expect("stores");
    it.execute("update outbox.jobs set sent_at = clock_timestamp() where id = 3").await;
    it.hears(&applier, &[]).await;
    let answered: Vec<(String, Option<i64>)> = sqlx::query_as("select event_id, job_id from outbox.events order by id")
        .fetch_all(it.pool())
        .await
        .expect("readable");
    let expected = [("before", None), ("between", Some(jobs[0])), ("after", Some(jobs[1])), ("newest", Some(jobs[1]))];
    assert_eq!(answered, expected.map(|(event, job)| (event.to_owned(), job)));
    assert_eq!(it.count("replied_at is not null").await, 2);
}

#[tokio::test]
async fn a_row_that_somebody_holds_keeps_nobody_elses_stop_waiting() {
    let it = Harness::start().await;
    it.insert(ANN, "Hi").await;
    let bobs = it.insert(BOB, "Hi").await;
    let mut holder = it.pool().begin().await.expect("begins");
    sqlx::query("select from outbox.jobs where phone = $1 for update")
        .bind(ANN)
        .execute(&mut *holder)
        .await
        .expect("holds");
    let applier = applier(&[]);
    // More than one look brings, and more than can be waited for one by one.
    let mut stops: Vec<Incoming> = (0..250).map(|n| message(&format!("a{n:03}"), ANN, "stop")).collect();
    stops.push(message("b", BOB, "stop"));
    let heard = tokio::time::timeout(Duration::from_secs(10), it.hears(&applier, &stops)).await;
    assert_eq!(heard.expect("it waits for nobody long").opted_out, 1);
    assert_eq!(it.state(bobs).await, "suppressed/suppressed");
    assert_eq!(effects(it.pool()).await[0], ("a000".to_owned(), None), "it waits, and is not lost");
    holder.rollback().await.expect("lets go");
    assert_eq!(applier.apply(it.pool()).await.expect("applies").opted_out, 1);
}

#[tokio::test]
async fn i10_a_process_that_is_frozen_while_it_applies_loses_its_turn_to_another() {
    let it = Harness::start().await;
    it.insert(ANN, "Hi").await;
    let mut holder = it.pool().begin().await.expect("begins");
    sqlx::query("select from outbox.jobs for update").execute(&mut *holder).await.expect("holds");
    store(it.pool(), Source::List, &[message("e1", ANN, "stop")]).await.expect("stores");
    let process = it.spawn_worker(&["--roles", "inbound", "--events-stream", "off", "--events-list", "off"]);
    let pid = Pid::from_raw(process.id().expect("it runs").cast_signed());
    let turn = "select exists (select from pg_locks join pg_database d on d.oid = database
                                where locktype = 'advisory' and granted and datname = current_database())";
    it.until("it stands still with the turn in its hands", || async {
        kill(pid, Signal::SIGSTOP).expect("it is ours");
        let has_turn = sqlx::query_scalar::<_, bool>(turn).fetch_one(it.pool()).await.expect("locks can be listed");
        if !has_turn {
            kill(pid, Signal::SIGCONT).expect("it is ours");
        }
        has_turn
    })
    .await;
    holder.rollback().await.expect("lets go");
    let applier = applier(&[]);
    it.until("another one applies", || async { applier.apply(it.pool()).await.expect("applies").opted_out == 1 }).await;
}

#[tokio::test]
async fn marketing_waits_while_what_was_heard_is_not_applied() {
    let it = Harness::start().await;
    store(it.pool(), Source::List, &[message("e1", BOB, "stop")]).await.expect("stores");
    it.execute("update outbox.events set received_at = now() - interval '20 seconds'").await;
    assert!(!it.is_deaf().await, "it may be applied at any moment");
    it.execute("update outbox.events set received_at = now() - interval '1 minute'").await;
    let offer = it.insert_marketing(ANN, "offer").await;
    it.drain_with(&["--drain-wait", "1s"]).await;
    assert_eq!(it.state(offer).await, "queued/inbound_stale");
    it.hears(&applier(&[]), &[]).await;
    it.drain().await;
    assert_eq!(it.state(offer).await, "sent");
}

#[tokio::test]
async fn a_webhook_does_not_end_a_silence_of_stream_and_list() {
    let it = Harness::start().await;
    it.execute("update outbox.cursors set proved_at = now() - interval '1 hour' where name = 'list'").await;
    store(it.pool(), Source::Webhook, &[message("e1", BOB, "hello")]).await.expect("stores");
    assert!(it.is_deaf().await);
    store(it.pool(), Source::List, &[]).await.expect("stores");
    assert!(!it.is_deaf().await);
}

#[tokio::test]
async fn a_drain_hears_first_and_then_sends_its_marketing() {
    let it = Harness::start().await;
    let offer = it.insert_marketing(ANN, "offer").await;
    // Nobody can be elected to read before the offer was looked at, and held.
    let mut cursors = it.pool().begin().await.expect("begins");
    sqlx::query("select from outbox.cursors for update").execute(&mut *cursors).await.expect("held");
    let drain = it.run(&["worker", "--drain", "--roles", "send,inbound"]);
    let let_go = async {
        it.until("it is held", || async { it.state(offer).await == "queued/inbound_stale" }).await;
        cursors.rollback().await.expect("let go");
    };
    let ((code, out, error), ()) = tokio::join!(drain, let_go);
    assert_eq!((code, it.state(offer).await.as_str()), (0, "sent"), "{out} {error}");
}

#[tokio::test]
async fn i06_what_was_said_while_nobody_listened_is_heard_before_the_first_claim() {
    let it = Harness::start().await;
    let stop = Inbound { phone: ANN.into(), text: Some("STOP".into()), ..Inbound::default() };
    it.simulator.handle().receive(&stop).expect("a good number");
    let job = it.insert(ANN, "your code").await;
    // Nobody can be elected to read for a while.
    let mut cursors = it.pool().begin().await.expect("begins");
    sqlx::query("select from outbox.cursors for update").execute(&mut *cursors).await.expect("held");
    let drain = it.run(&["worker", "--drain", "--roles", "send,inbound"]);
    let let_go = async {
        let waiting = "select count(*) > 0 from pg_locks where not granted and pid <> pg_backend_pid()";
        let waits = || async { sqlx::query_scalar::<_, bool>(waiting).fetch_one(it.pool()).await.expect("counted") };
        it.until("the readers wait", waits).await;
        let claimed = it.until("it is claimed", || async { it.state(job).await != "queued" });
        assert!(tokio::time::timeout(Duration::from_secs(1), claimed).await.is_err(), "{}", it.state(job).await);
        cursors.rollback().await.expect("let go");
    };
    let ((code, out, error), ()) = tokio::join!(drain, let_go);
    assert_eq!((code, it.state(job).await.as_str()), (0, "suppressed/suppressed"), "{out} {error}");
    assert!(it.ledger().iter().all(|entry| entry.body != "your code"));
}

#[tokio::test]
async fn what_may_mean_a_stop_holds_the_recipient_until_a_person_has_looked() {
    let it = Harness::start().await;
    it.hears(&applier(&[]), &[message("e1", ANN, "I think you have the wrong number")]).await;
    let job = it.insert(ANN, "Hi").await;
    it.drain_with(&["--drain-wait", "1s"]).await;
    assert_eq!(it.state(job).await, "queued/in_review");
    it.execute("update outbox.recipients set review_since = null, review_reason = null").await;
    it.execute("select outbox.release('+15550142200', 'in_review')").await;
    it.drain().await;
    assert_eq!(it.state(job).await, "sent");
}

#[tokio::test]
async fn who_does_not_answer_gets_no_more_marketing_and_everything_else() {
    let it = Harness::start().await;
    it.hears(&applier(&[]), &[]).await;
    let mut jobs = Vec::new();
    for n in 0..5 {
        jobs.push(it.insert_marketing(ANN, &format!("offer {n}")).await);
    }
    let order = it.insert(ANN, "Your order is here").await;
    it.drain_with(&["--drain-wait", "1s"]).await;
    assert_eq!(it.texts_to(ANN), ["offer 0", "offer 1", "offer 2", "Your order is here"]);
    assert_eq!((it.state(jobs[3]).await.as_str(), it.state(order).await.as_str()), ("queued/unanswered", "sent"));
    it.hears(&applier(&[]), &[message("e1", ANN, "thanks")]).await;
    it.drain().await;
    assert_eq!(it.texts_to(ANN)[4..], ["offer 3", "offer 4"]);
}

#[tokio::test]
async fn who_answers_late_has_left_the_later_messages_unanswered() {
    let it = Harness::start().await;
    for body in ["one", "two", "three"] {
        it.insert(ANN, body).await;
    }
    it.drain().await;
    it.execute("update outbox.jobs set sent_at = now() - interval '1 hour' where id = 1").await;
    it.hears(&applier(&[]), &[message_at("e1", ANN, "thanks", now() - TimeDelta::minutes(30))]).await;
    let unanswered = || async {
        let unanswered = sqlx::query_scalar::<_, i32>("select unanswered from outbox.recipients");
        unanswered.fetch_one(it.pool()).await.expect("readable")
    };
    assert_eq!(unanswered().await, 2);
    it.hears(&applier(&[]), &[message("e2", ANN, "and thanks again")]).await;
    assert_eq!(unanswered().await, 0);
}

#[tokio::test]
async fn what_holds_or_ends_a_job_that_stands_ready_is_seen_by_the_claim_and_said_by_admission() {
    for (change, state) in [
        ("update outbox.recipients set unanswered = 3", "queued/unanswered"),
        ("update outbox.recipients set review_since = now(), review_reason = 'it'", "queued/in_review"),
        ("update outbox.cursors set proved_at = now() - interval '1 hour'", "queued/inbound_stale"),
        (
            "insert into outbox.erased (phone_hash, scope, reason, source) values (outbox.phone_hash('+15550142200'), 'all', 'it', 'it')",
            "suppressed/suppressed",
        ),
        ("insert into outbox.suppressions (phone, reason) values ('+15550142200', 'it')", "suppressed/suppressed"),
    ] {
        let it = Harness::start().await;
        it.hears(&applier(&[]), &[message("e1", ANN, "hello")]).await;
        let job = it.insert_marketing(ANN, "offer").await;
        admit_all(&it).await;
        assert_eq!(it.count("ready").await, 1);
        it.execute(change).await;
        assert_eq!(claimed(&it, "one", 1).await, [0i64; 0], "{change}");
        admit_all(&it).await;
        assert_eq!(it.state(job).await, state, "{change}");
    }
}

#[tokio::test]
async fn marketing_waits_while_nothing_proves_that_replies_arrive() {
    let it = Harness::start().await;
    let (offer, order) = (it.insert_marketing(ANN, "offer").await, it.insert(ANN, "order").await);
    it.drain_with(&["--drain-wait", "1s"]).await;
    assert_eq!((it.state(offer).await.as_str(), it.state(order).await.as_str()), ("queued/inbound_stale", "sent"));
    let unaffected = it.insert_marketing(BOB, "offer").await;
    it.drain_with(&["--hold-on-stale", "none"]).await;
    assert_eq!(it.state(unaffected).await, "sent");
    let worker = it.worker(&[]).await;
    it.hears(&applier(&[]), &[]).await;
    it.until("the held job has gone", || async { it.state(offer).await == "sent" }).await;
    worker.stop().await;
    // An old proof is none; and what had been admitted before is looked at once more.
    let (late, order) = (it.insert_marketing(ANN, "offer two").await, it.insert(BOB, "order two").await);
    it.execute("update outbox.cursors set proved_at = now() - interval '1 hour'").await;
    it.execute(
        "update outbox.jobs j set ready = true, line_id = r.line_id, first_touch = false
           from outbox.recipients r where r.phone = j.phone and j.state = 'queued'",
    )
    .await;
    it.drain_with(&["--drain-wait", "1s", "--hold-on-stale", "all"]).await;
    for held in [late, order] {
        assert_eq!(it.state(held).await, "queued/inbound_stale");
    }
}

#[tokio::test]
async fn who_writes_first_is_no_first_touch_and_has_the_line_they_wrote_to() {
    let it = Harness::start().await;
    it.hears(&applier(&[]), &[message("e1", ANN, "Do you deliver?")]).await;
    let line: Option<String> =
        sqlx::query_scalar("select line_id from outbox.recipients").fetch_one(it.pool()).await.expect("readable");
    assert_eq!(line.as_deref(), Some("pl_2"));
    let job = it.insert(ANN, "Yes").await;
    it.drain().await;
    assert_eq!(it.field(job, "first_touch").await.as_deref(), Some("false"));
}

#[tokio::test]
async fn an_event_that_the_database_refuses_holds_up_no_other() {
    let it = Harness::start().await;
    it.execute("alter table outbox.recipients add constraint not_ann check (phone <> '+15550142200')").await;
    let events = [message("e1", ANN, "hello"), message("e2", BOB, "stop")];
    store(it.pool(), Source::List, &events).await.expect("stores");
    let applier = applier(&[]);
    while applier.apply(it.pool()).await.expect("applies").events > 0 {}
    let effects: BTreeMap<String, Option<String>> = effects(it.pool()).await.into_iter().collect();
    assert_eq!((effects["e1"].as_deref(), effects["e2"].as_deref()), (Some("unreadable"), Some("opt_out")));
}

/// Eight workers send as fast as they can while recipients say stop: whatever reaches a phone later than a second after the stop was
/// committed is one too many, and what was on the wire just then is counted.
#[tokio::test]
async fn i06_a_stop_is_honoured_within_a_second_by_eight_racing_workers() {
    const RECIPIENTS: i32 = 60;
    let it = Harness::with(|options| options.latency = Duration::from_millis(15)).await;
    it.insert_many(3_000, RECIPIENTS).await;
    let mut workers = Vec::new();
    for _ in 0..8 {
        workers.push(it.worker(&["--concurrency", "16"]).await);
    }
    let applier = Arc::new(applier(&["--opt-out-text", ""]));
    it.until("they are at it", || async { it.simulator.handle().ledger_len() > 200 }).await;
    let mut stops = Vec::new();
    for n in 0..RECIPIENTS / 2 {
        let phone = format!("+1555014{n:04}");
        store(it.pool(), Source::Webhook, &[message(&format!("e{n}"), &phone, "stop")]).await.expect("stores");
        assert_eq!(applier.apply(it.pool()).await.expect("applies").opted_out, 1);
        stops.push((phone, it.simulator.handle().now_us()));
    }
    it.until("nothing waits", || async { it.count("state in ('queued', 'sending')").await == 0 }).await;
    for worker in workers {
        worker.stop().await;
    }
    let ledger = it.ledger();
    let after = |bound_us: i64| {
        let late = |(phone, at): &(String, i64)| {
            ledger.iter().filter(|e| e.phone == *phone && e.at_us > at + bound_us).count()
        };
        stops.iter().map(late).sum::<usize>()
    };
    let (on_the_wire, late) = (after(0), after(1_000_000));
    let suppressed = it.count("state = 'suppressed'").await;
    assert!(suppressed > 300, "the stops came in the middle: {suppressed} were suppressed");
    assert_eq!(late, 0, "later than a second after the stop; {on_the_wire} were on the wire");
    // One call a recipient can be under way, and no second one follows it.
    assert!(on_the_wire <= stops.len(), "{on_the_wire} after {} stops", stops.len());
    assert_eq!(it.count("state = 'sent'").await + suppressed, 3_000);
}

#[tokio::test]
async fn the_applier_looks_by_itself_and_at_the_bell_and_stops_when_told() {
    let it = Harness::start().await;
    let (stop, stopping) = watch::channel(false);
    let (pool, bell) = (it.pool().clone(), Arc::new(Notify::new()));
    let running = tokio::spawn(async move { applier(&[]).run(&pool, &bell, stopping).await });
    store(it.pool(), Source::Webhook, &[message("e1", ANN, "stop")]).await.expect("stores");
    until("it is applied", || async { effects(it.pool()).await[0].1.is_some() }).await;
    stop.send_replace(true);
    tokio::time::timeout(Duration::from_secs(10), running).await.expect("it stops").expect("it does not panic");
}
