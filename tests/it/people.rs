//! The people who are written to: suppressed, shown, released, erased, and what is kept of them for how long.

use std::time::Duration;

use chert_outbox::inbound::store::{Source, store};
use chert_outbox::outbox::erase::{Counts, erase, look};
use chert_outbox::outbox::marks::Marks;
use chert_outbox::outbox::record::record;
use chert_outbox::outbox::suppress;
use chert_outbox::phone::Phone;
use chert_outbox::simulate::{Fault, Faults};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgPool};

use crate::claim::{admit_all, claimer};
use crate::guards::answered;
use crate::harness::Harness;
use crate::replies::{applier, message};

const ANN: &str = "+15550142200";
const BOB: &str = "+15550142201";

fn ann() -> Phone {
    ANN.parse().expect("valid")
}

/// A command that works, and what it says, with runs of spaces made one.
async fn says(it: &Harness, args: &[&str]) -> String {
    let (code, out, error) = it.run(args).await;
    assert_eq!((code, error.as_str()), (0, ""), "{args:?}: {out}");
    let line = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    out.lines().map(line).collect::<Vec<_>>().join("\n")
}

async fn says_json(it: &Harness, args: &[&str]) -> Value {
    let said = says(it, args).await;
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
}

async fn refuses(it: &Harness, args: &[&str]) -> String {
    let (code, _, error) = it.run(args).await;
    assert_eq!(code, 1, "{args:?}");
    error.trim().to_owned()
}

/// Where in the outbox these digits stand: every column of every table, and one entry for each row.
async fn places_of(pool: &PgPool, digits: &str) -> Vec<String> {
    let columns: Vec<(String, String)> = sqlx::query_as(
        "select table_name::text, column_name::text
           from information_schema.columns join information_schema.tables using (table_schema, table_name)
          where table_schema = 'outbox' and table_type = 'BASE TABLE' and data_type in ('text', 'jsonb', 'json', 'character varying', 'ARRAY')
          order by 1, 2",
    )
    .fetch_all(pool)
    .await
    .expect("columns can be listed");
    assert!(columns.len() > 60, "only {} columns are searched", columns.len());
    let mut places = Vec::new();
    for (table, column) in columns {
        let sql = format!("select count(*) from outbox.{table} where strpos({column}::text, $1) > 0");
        let rows: i64 =
            sqlx::query_scalar(AssertSqlSafe(sql)).bind(digits).fetch_one(pool).await.expect("it can be searched");
        places.extend((0..rows).map(|_| format!("{table}.{column}")));
    }
    places
}

#[tokio::test]
async fn i06_a_suppression_ends_what_waits_in_its_scope_and_lets_the_rest_go() {
    let it = Harness::start().await;
    it.execute(
        "insert into outbox.jobs (phone, body, campaign, labels, unknown_since, past_suppression, due_at) values
         ('+15550142200', 'a', 'spring', '{}', null, false, now()), ('+15550142200', 'b', 'autumn', '{}', null, false, now()),
         ('+15550142200', 'c', null, '{\"topic\": \"offers\"}', null, false, now()),
         ('+15550142200', 'd', 'spring', '{}', now(), false, now()), ('+15550142200', 'e', 'spring', '{}', null, true, now()),
         ('+15550142201', 'f', 'spring', '{}', null, false, now());
         update outbox.jobs set reason = 'behind_earlier', wake_at = now() + interval '1 hour' where id = 2",
    )
    .await;
    let said =
        says(&it, &["suppress", "add", ANN, "--scope", "campaign=spring", "--reason", "asked on the phone"]).await;
    assert_eq!(
        said,
        "+1******2200 is suppressed (campaign=spring): 1 job will not be sent, 1 may be on the phone already and is parked"
    );
    assert_eq!(
        (it.state(1).await.as_str(), it.state(4).await.as_str()),
        ("suppressed/suppressed", "parked/outcome_unknown")
    );
    assert_eq!(it.count("id in (2, 3, 5, 6) and state = 'queued'").await, 4, "{:?}", it.states().await);
    assert_eq!(it.count("id = 2 and wake_at <= now()").await, 1, "what was behind is looked at now");

    let told = says_json(&it, &["suppress", "add", ANN, BOB, "--scope", "topic=offers", "--json"]).await;
    assert_eq!(
        told[0],
        json!({"phone": "+1******2200", "scope": "topic=offers", "new": true, "jobs_suppressed": 1, "jobs_parked": 0})
    );
    assert_eq!(it.state(3).await, "suppressed/suppressed");
    let again = says(&it, &["suppress", "add", ANN, "--scope", "topic=offers"]).await;
    assert_eq!(again, "+1******2200 was suppressed already (topic=offers): 0 jobs will not be sent");
    it.drain().await;
    assert_eq!(
        (it.state(2).await.as_str(), it.state(5).await.as_str(), it.state(6).await.as_str()),
        ("sent", "sent", "sent")
    );
    for (scope, code) in [("everything", 2), ("=x", 2), ("all", 0)] {
        assert_eq!(it.run(&["suppress", "add", ANN, "--scope", scope]).await.0, code, "{scope}");
    }
}

#[tokio::test]
async fn i01_a_crash_after_a_suppression_leaves_nobody_behind_a_job_that_ended() {
    let it = Harness::start().await;
    it.execute(
        "insert into outbox.jobs (phone, body, labels) values ('+15550142200', 'ends', '{\"topic\": \"offers\"}'), ('+15550142200', 'goes', '{}');
         update outbox.jobs set reason = 'behind_earlier', wake_at = now() + interval '1 hour' where id = 2",
    )
    .await;
    let mut tx = chert_outbox::database::begin(it.pool()).await.expect("begins");
    let scope = "topic=offers".parse().expect("valid");
    let done = suppress::suppress(&mut tx, &ann(), &scope, "stop", "test", None).await.expect("suppresses");
    tx.commit().await.expect("commits");
    assert_eq!((done.new.as_slice(), done.jobs, done.parked), (&[true][..], 1, 0));
    assert_eq!(it.count("id = 2 and wake_at <= now()").await, 1);
}

#[tokio::test]
async fn the_list_is_shown_masked_taken_back_and_carried_to_another_database() {
    let it = Harness::start().await;
    let dir = tempfile::tempdir().expect("a directory");
    let (file, out) = (dir.path().join("stops.csv"), dir.path().join("out.csv"));
    it.insert(ANN, "waits").await;
    std::fs::write(
        &file,
        "phone,scope,reason,source,created_at\n\
         +15550142200,,asked,crm,2026-06-03T09:15:00Z\n\
         5550142299,all,private words,crm,\n\
         +15550142201,topic=offers,,,\n\
         +15550142201,offers,,,\n\
         +15550142201,topic=offers,twice,,\n\
         +15550142202,,,,yesterday\n",
    )
    .expect("written");
    let path = |path: &std::path::Path| path.to_str().expect("UTF-8").to_owned();
    let (code, said, error) = it.run(&["suppress", "import", &path(&file)]).await;
    let rejects = dir.path().join("stops.csv.rejects.csv");
    assert_eq!(
        (code, said.trim(), error.as_str()),
        (1, format!("suppressed 2 · already there 1 · rejected 3 (see {})", rejects.display()).as_str(), "")
    );
    let listed = std::fs::read_to_string(rejects).expect("listed");
    let lines: Vec<&str> = listed.lines().map(|line| line.split(' ').next().unwrap_or_default()).collect();
    assert_eq!(
        lines,
        ["line,field,reason", "3,phone,\"phone", "5,scope,\"scope", "7,created_at,\"created_at"],
        "{listed}"
    );
    assert!(!listed.contains("private words") && !listed.contains("5550142299"), "{listed}");
    assert_eq!(it.state(1).await, "suppressed/suppressed");

    let list = says_json(&it, &["suppress", "list", "--json"]).await;
    assert_eq!(
        list[1],
        json!({"phone": "+1******2200", "scope": "all", "reason": "asked", "source": "crm", "created_at": "2026-06-03T09:15:00Z",
            "event_id": null})
    );
    assert_eq!(
        says_json(&it, &["suppress", "list", "--json", "--phone", BOB, "--show-numbers"]).await[0]["phone"],
        BOB
    );
    let said = says(&it, &["suppress", "export", "--file", &path(&out)]).await;
    assert_eq!(said, format!("2 suppressions written to {}", out.display()));
    let exported = std::fs::read_to_string(&out).expect("written");
    assert!(exported.starts_with("phone,scope,reason,source,created_at\n+15550142200,all,asked,crm,2026-06-03T09:15:00+00:00\n+15550142201,topic=offers,imported,import,"), "{exported}");

    assert_eq!(
        refuses(&it, &["suppress", "remove", ANN, "--scope", "topic=x"]).await,
        "error: +1******2200 is not suppressed (topic=x)"
    );
    assert_eq!(says(&it, &["suppress", "remove", ANN]).await, "+1******2200: 1 suppression removed");
    assert_eq!(refuses(&it, &["suppress", "remove", ANN]).await, "error: +1******2200 is not suppressed");
    assert_eq!(says(&it, &["suppress", "import", &path(&out)]).await, "suppressed 1 · already there 1 · rejected 0");
    assert_eq!(says(&it, &["suppress", "export"]).await, exported.trim());
    assert_eq!(it.run_unread(&["suppress", "export"]).await, (0, String::new()), "as by head");
}

#[tokio::test]
async fn a_person_is_shown_released_and_their_consents_are_kept() {
    let it = Harness::start().await;
    assert_eq!(
        says(&it, &["recipients", "show", ANN]).await,
        "+1******2200: nothing was sent to or received from this number"
    );
    assert_eq!(
        refuses(&it, &["recipients", "release", ANN]).await,
        "error: there is no recipient +1******2200: nothing was ever sent to or received from that number"
    );
    it.execute(
        "insert into outbox.recipients (phone, line_id, unanswered, review_since, review_reason) values
         ('+15550142200', 'pl_1', 3, now(), 'may mean a stop'), ('+15550142201', 'pl_2', 0, null, null);
         insert into outbox.events (event_id, type, source, body, phone, occurred_at, applied_at, effect)
         values ('e1', 'message.received', 'list', '{\"data\": {\"message\": {\"sender_handle\": {\"handle\": \"+15550142200\"},
                 \"parts\": [{\"value\": \"who is this\"}]}}}', '+15550142200', now(), now(), 'review');
         insert into outbox.jobs (phone, body, class, reason, wake_at) values
         ('+15550142200', 'one', 'marketing', 'in_review', now() + interval '1 hour'),
         ('+15550142200', 'two', 'marketing', 'unanswered', now() + interval '1 hour')",
    )
    .await;
    let said = says(
        &it,
        &[
            "recipients",
            "consent",
            ANN,
            "--text-version",
            "2026-05",
            "--source",
            "form",
            "--at",
            "2026-06-03T09:15:00Z",
        ],
    )
    .await;
    assert_eq!(said, "recorded that +1******2200 agreed to text 2026-05");
    let said =
        says(&it, &["recipients", "consent", ANN, "--text-version", "2026-05", "--source", "call", "--withdrawn"])
            .await;
    assert_eq!(said, "recorded that +1******2200 withdrew text 2026-05");

    let known = says_json(&it, &["recipients", "show", ANN, "--json"]).await;
    assert_eq!(
        (&known["recipient"]["phone"], &known["recipient"]["line_id"], &known["recipient"]["unanswered"]),
        (&json!("+1******2200"), &json!("pl_1"), &json!(3))
    );
    let kinds = |list: &Value, field: &str| {
        list.as_array().expect("a list").iter().map(|row| row[field].clone()).collect::<Vec<_>>()
    };
    assert_eq!(kinds(&known["consents"], "kind"), ["withdrawn", "given"]);
    assert_eq!(kinds(&known["jobs"], "id"), [2, 1]);
    assert_eq!((&known["events"][0]["effect"], &known["events"][0]["text"]), (&json!("review"), &Value::Null));
    let shown = says(&it, &["recipients", "show", ANN]).await;
    assert!(shown.starts_with("+1******2200 waits for a person to look") && !shown.contains("who is this"), "{shown}");
    assert!(!shown.contains("5550142200"), "{shown}");
    let shown = says(&it, &["recipients", "show", ANN, "--show-text"]).await;
    assert!(shown.contains("who is this"), "{shown}");

    let review = says_json(&it, &["recipients", "list", "--review", "--json"]).await;
    assert_eq!((review.as_array().map(Vec::len), &review[0]["review_reason"]), (Some(1), &json!("may mean a stop")));
    assert_eq!(says(&it, &["recipients", "release", ANN]).await, "+1******2200 is released: 1 job is looked at now");
    assert_eq!(it.count("id = 1 and wake_at <= now()").await, 1);
    assert_eq!(it.count("id = 2 and wake_at > now()").await, 1, "it is held for another reason");
    assert_eq!(says_json(&it, &["recipients", "list", "--review", "--json"]).await, json!([]));
    let said = says(&it, &["recipients", "release", ANN, "--unanswered"]).await;
    assert_eq!(said, "+1******2200 is released: 1 job is looked at now");
    assert_eq!(says_json(&it, &["recipients", "show", ANN, "--json"]).await["recipient"]["unanswered"], 0);
}

/// Ann in every table, and a number that begins as hers.
async fn with_ann_everywhere(it: &Harness) {
    it.insert(ANN, "one").await;
    it.insert(ANN, "two").await;
    it.insert("+155501422009", "a longer number").await;
    it.drain().await;
    it.execute(
        "insert into outbox.jobs (phone, body, payload, labels, dedupe_key, state, reason, error_message, finished_at) values
         ('+15550142200', 'for +15550142200', '{\"name\": \"15550142200\"}', '{\"to\": \"+15550142200\"}', 'to-15550142200',
          'failed', 'rejected', '+15550142200 is bad', now());
         insert into outbox.jobs (phone, body, due_at) values ('+15550142200', 'later', now() + interval '1 day');
         insert into outbox.events (event_id, type, source, body, phone, occurred_at, applied_at, effect) values
         ('e1', 'message.received', 'list', '{\"from\": \"+15550142200\", \"text\": \"hi\"}', '+15550142200', now(), now(), 'reply'),
         ('e2', 'message.received', 'list', '{\"from\": \"+15550142200\", \"text\": \"stop\"}', '+15550142200', now(), null, null),
         ('e3', 'message.sent', 'list', '{\"to\": \"+15550142200\"}', null, now(), now(), 'ignored'),
         ('e4', 'message.sent', 'list', '{\"to\": \"+155501422009\"}', null, now(), now(), 'ignored');
         insert into outbox.consents (phone, kind, given_at, text_version, source, note)
         values ('+15550142200', 'given', now(), 'v1', 'form', 'said so from +15550142200');
         insert into outbox.suppressions (phone, scope, reason, source)
         values ('+15550142200', 'topic=offers', 'asked from +15550142200', 'operator');
         insert into outbox.enrolments (campaign, version, phone, vars) values ('drip', 1, '+15550142200', '{\"number\": \"15550142200\"}');
         insert into outbox.goals (campaign, phone) values ('drip', '+15550142200');
         insert into outbox.audience_rows (audience, n, phone, vars) values (1, 1, '+15550142200', '{\"number\": \"15550142200\"}')",
    )
    .await;
}

#[tokio::test]
async fn nothing_of_an_erased_number_is_left_but_a_receipt_and_a_hash() {
    let it = Harness::start().await;
    with_ann_everywhere(&it).await;
    let counts = json!({
        "jobs": 4, "attempts": 2, "events": 3, "enrolments": 3, "recipients": 1, "consents": 1, "suppressions": 2
    });
    let before = places_of(it.pool(), "15550142200").await;
    let would = says_json(&it, &["purge", "--phone", ANN, "--json"]).await;
    assert_eq!(would, json!([{"phone": "+1******2200", "erased": false, "counts": counts}]));
    let said = says(&it, &["purge", "--phone", ANN]).await;
    assert!(
        said.contains("4 jobs, 2 attempts, 3 events") && said.ends_with("nothing was erased: add --yes to do it"),
        "{said}"
    );
    assert_eq!(places_of(it.pool(), "15550142200").await, before, "a dry run changes nothing");

    let named = refuses(&it, &["purge", "--phone", ANN, "--yes", "--reason", "for 15550142200"]).await;
    assert_eq!(named, "error: the reason names the number, and would be kept: write it without");
    let receipt = says_json(&it, &["purge", "--phone", ANN, "--yes", "--reason", "request of 3 June", "--json"]).await;
    assert_eq!(
        (&receipt[0]["counts"], &receipt[0]["erased"], &receipt[0]["reason"], &receipt[0]["receipt"]),
        (&counts, &json!(true), &json!("request of 3 June"), &json!(1))
    );
    assert!(!receipt.to_string().contains("2200"), "{receipt}");
    let kept: Vec<(Value, Option<String>)> =
        sqlx::query_as("select counts, reason from outbox.erasures").fetch_all(it.pool()).await.expect("readable");
    assert_eq!(kept, [(counts, Some("request of 3 June".to_owned()))]);

    let left = places_of(it.pool(), "15550142200").await;
    let longer = ["events.body", "jobs.phone", "recipients.phone"];
    assert_eq!(left, longer, "the longer number, and nothing else");
    assert_eq!(places_of(it.pool(), "155501422009").await, longer);
    let events: Vec<(String, bool)> = sqlx::query_as("select event_id, body is null from outbox.events order by id")
        .fetch_all(it.pool())
        .await
        .expect("readable");
    assert_eq!(
        events,
        [("e1", true), ("e2", true), ("e3", true), ("e4", false)].map(|(id, gone)| (id.to_owned(), gone))
    );

    let known = says_json(&it, &["recipients", "show", ANN, "--json"]).await;
    let scopes: Vec<&Value> =
        known["suppressions"].as_array().expect("a list").iter().map(|row| &row["scope"]).collect();
    assert_eq!(
        (scopes, &known["suppressions"][0]["phone"]),
        (vec![&json!("all"), &json!("topic=offers")], &Value::Null)
    );
    let again = erase(it.pool(), &ann(), None, false, |_| {}).await.expect("there is nothing to do");
    assert_eq!(again.counts, Counts::default());
}

#[tokio::test]
async fn i06_somebody_who_was_erased_stays_blocked_when_a_file_brings_them_back() {
    let it = Harness::start().await;
    it.insert(ANN, "one").await;
    it.drain().await;
    erase(it.pool(), &ann(), None, false, |_| {}).await.expect("erases");
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("people.csv");
    std::fs::write(&file, "phone,body\n+15550142200,again\n+15550142201,hello\n").expect("written");
    assert_eq!(
        says(&it, &["enqueue", "--file", file.to_str().expect("UTF-8")]).await,
        "enqueued 2 · already there 0 · rejected 0"
    );
    it.drain().await;
    assert_eq!((it.state(2).await.as_str(), it.state(3).await.as_str()), ("suppressed/suppressed", "sent"));
    assert_eq!(it.ledger().iter().filter(|entry| entry.phone == ANN).count(), 1);

    // Whoever asks to come back can.
    assert_eq!(says(&it, &["suppress", "remove", ANN]).await, "+1******2200: 1 suppression removed");
    it.insert(ANN, "welcome back").await;
    it.drain().await;
    assert_eq!(it.ledger().iter().filter(|entry| entry.phone == ANN).count(), 2);

    let counts = look(it.pool(), &ann(), true).await.expect("looks");
    let receipt = erase(it.pool(), &ann(), None, true, |_| {}).await.expect("erases");
    assert_eq!((&receipt.counts, receipt.counts.suppressions), (&counts, 0), "who may return is not suppressed");
    it.insert(ANN, "welcome again").await;
    it.drain().await;
    assert_eq!(it.ledger().iter().filter(|entry| entry.phone == ANN).count(), 3);
}

#[tokio::test]
async fn i06_an_erasure_waits_for_what_is_on_its_way_and_lets_nothing_follow() {
    let it = Harness::start().await;
    it.faults(Faults { next: [Fault::Delay { ms: 1_500 }].into(), ..Faults::default() });
    it.insert(ANN, "on its way").await;
    it.insert(ANN, "behind it").await;
    let worker = it.worker(&[]).await;
    it.until("the first is being sent", || async { it.count("state = 'sending'").await == 1 }).await;
    let mut waited = 0;
    let receipt = erase(it.pool(), &ann(), None, false, |flying| {
        assert_eq!(flying.jobs, 1);
        waited += 1;
    })
    .await
    .expect("erases");
    worker.stop().await;
    assert!(waited > 0, "it was not there when it was looked for");
    assert_eq!(
        (receipt.counts.jobs, receipt.counts.attempts, receipt.counts.recipients),
        (2, 1, 1),
        "it was recorded before it went"
    );
    let bodies: Vec<String> = it.ledger().into_iter().map(|entry| entry.body).collect();
    assert_eq!(bodies, ["on its way"]);
    assert_eq!(places_of(it.pool(), "15550142200").await, [""; 0]);
}

#[tokio::test]
async fn an_erasure_waits_for_no_dead_worker_and_its_late_answer_brings_nothing_back() {
    let it = Harness::start().await;
    it.insert(ANN, "Hi").await;
    admit_all(&it).await;
    let late = claimer("one").claim(it.pool(), 1, false, &mut Marks::default()).await.expect("claims").claims.remove(0);
    it.execute("update outbox.jobs set lease_until = now() - interval '1 second'").await;
    let receipt = erase(it.pool(), &ann(), None, false, |_| panic!("its lease is over")).await.expect("erases");
    assert_eq!(receipt.counts.jobs, 1);
    let sent = answered(late, 200, r#"{"status": "sent", "message_id": "m1"}"#);
    let recorded = record(it.pool(), "one", &[sent], Duration::from_secs(60)).await.expect("records");
    assert_eq!((recorded.sent, recorded.lost_claims), (0, 1));
    assert_eq!(places_of(it.pool(), "15550142200").await, [""; 0]);
}

#[tokio::test]
async fn an_erasure_waits_for_whoever_applies_events_and_takes_out_what_they_wrote() {
    let it = Harness::start().await;
    let mut applier = it.pool().begin().await.expect("begins");
    sqlx::raw_sql(
        "select pg_advisory_xact_lock(hashtext('chert-outbox'), hashtext('apply'));
         insert into outbox.recipients (phone, last_inbound_at) values ('+15550142200', now())",
    )
    .execute(&mut *applier)
    .await
    .expect("applies");
    let pool = it.pool().clone();
    let erasure = tokio::spawn(async move { erase(&pool, &ann(), None, false, |_| {}).await.expect("erases") });
    let waits = "select exists (select from pg_locks join pg_database d on d.oid = database
                                where locktype = 'advisory' and not granted and datname = current_database())";
    it.until("the erasure waits, or is over", || async {
        let waits: bool = sqlx::query_scalar(waits).fetch_one(it.pool()).await.expect("locks can be listed");
        waits || erasure.is_finished()
    })
    .await;
    applier.commit().await.expect("commits");
    assert_eq!(erasure.await.expect("it ends").counts.recipients, 1);
    assert_eq!(places_of(it.pool(), "15550142200").await, [""; 0]);
}

#[tokio::test]
async fn an_erasure_takes_out_what_an_engine_makes_while_it_waits() {
    let it = Harness::start().await;
    it.execute("insert into outbox.enrolments (campaign, version, phone) values ('drip', 1, '+15550142200')").await;
    it.insert(ANN, "first").await;
    let mut engine = it.pool().begin().await.expect("begins");
    sqlx::raw_sql(
        "select from outbox.enrolments for update;
         insert into outbox.jobs (phone, body, campaign, enrolment, step) values ('+15550142200', 'second', 'drip', 1, 0)",
    )
    .execute(&mut *engine)
    .await
    .expect("makes a job");
    let pool = it.pool().clone();
    let erasure = tokio::spawn(async move { erase(&pool, &ann(), None, true, |_| {}).await.expect("erases") });
    it.until("it waits for the engine", || waits_for_a_lock(&it)).await;
    // Whoever holds the enrolment may take its jobs: the erasure has none of them yet.
    sqlx::raw_sql("set local lock_timeout = '300ms'; select outbox.cancel(1)")
        .execute(&mut *engine)
        .await
        .expect("it holds no job");
    engine.commit().await.expect("commits");
    let receipt = erasure.await.expect("it ends");
    assert_eq!((receipt.counts.jobs, receipt.counts.enrolments), (2, 1));
    assert_eq!(places_of(it.pool(), "15550142200").await, [""; 0]);
}

#[tokio::test]
async fn an_erasure_takes_out_whoever_was_enrolled_while_it_waited() {
    let it = Harness::start().await;
    it.insert(ANN, "first").await;
    let mut holder = it.pool().begin().await.expect("begins");
    sqlx::raw_sql("select from outbox.jobs for update").execute(&mut *holder).await.expect("held");
    let pool = it.pool().clone();
    let erasure = tokio::spawn(async move { erase(&pool, &ann(), None, true, |_| {}).await.expect("erases") });
    it.until("it waits for the job", || waits_for_a_lock(&it)).await;
    it.execute("insert into outbox.enrolments (campaign, version, phone) values ('drip', 1, '+15550142200')").await;
    holder.rollback().await.expect("let go");
    assert_eq!(erasure.await.expect("it ends").counts.enrolments, 1);
    assert_eq!(places_of(it.pool(), "15550142200").await, [""; 0]);
}

async fn waits_for_a_lock(it: &Harness) -> bool {
    let waits =
        "select exists (select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock')";
    sqlx::query_scalar(waits).fetch_one(it.pool()).await.expect("a superuser")
}

#[tokio::test]
async fn i06_while_an_erasure_reads_all_texts_others_say_stop() {
    let it = Harness::start().await;
    it.execute(
        "insert into outbox.events (event_id, type, source, body, occurred_at, applied_at, effect)
         values ('e1', 'message.sent', 'list', '{\"to\": \"+15550142200\"}', now(), now(), 'ignored')",
    )
    .await;
    let mut text = it.pool().begin().await.expect("begins");
    sqlx::query("select from outbox.events for update").execute(&mut *text).await.expect("held");
    let pool = it.pool().clone();
    let erasure = tokio::spawn(async move { erase(&pool, &ann(), None, false, |_| {}).await.expect("erases") });
    it.until("it has come to the text", || waits_for_a_lock(&it)).await;
    store(it.pool(), Source::List, &[message("e2", BOB, "stop")]).await.expect("stores");
    assert_eq!(applier(&[]).apply(it.pool()).await.expect("applies").opted_out, 1);
    text.rollback().await.expect("let go");
    assert_eq!(erasure.await.expect("it ends").counts.events, 1);
}

#[tokio::test]
async fn i06_nobody_may_return_before_their_last_words_were_read() {
    let it = Harness::start().await;
    it.execute(
        "insert into outbox.events (event_id, type, source, body, phone, occurred_at)
         values ('e1', 'message.received', 'list', '{\"from\": \"+15550142200\", \"text\": \"stop\"}', '+15550142200', now())",
    )
    .await;
    let error = refuses(&it, &["purge", "--phone", ANN, "--yes", "--may-return"]).await;
    assert!(error.starts_with("error: 1 events of this person were not applied yet"), "{error}");
    assert!(suppress::list(it.pool(), Some(&ann()), false, 10).await.expect("reads").is_empty(), "all is as before");
    says(&it, &["purge", "--phone", ANN, "--yes"]).await;
    assert_eq!(places_of(it.pool(), "15550142200").await, [""; 0]);
}

/// Old and new of each kind, finished and not: the old ones have ids of three digits, of which the last tells what is to happen.
async fn with_history(it: &Harness) {
    it.execute(
        "insert into outbox.jobs (id, phone, body, state, reason, created_at, finished_at, sent_at, due_at)
         select n, '+1555014' || n, 'old', s.state, s.reason, now() - interval '200 days', case when s.ended then now() - interval '100 days' end,
                case when s.state = 'sent' then now() - interval '100 days' end, now() + interval '1 day'
           from (values (1001, 'sent', null, true), (1002, 'failed', 'rejected', true), (1003, 'suppressed', 'suppressed', true),
                        (1007, 'parked', 'outcome_unknown', true), (1008, 'queued', null, false)) s (n, state, reason, ended);
         insert into outbox.jobs (id, phone, body, state, created_at, finished_at, sent_at)
         values (1009, '+15550141009', 'new', 'sent', now() - interval '200 days', now() - interval '80 days', now() - interval '80 days');
         insert into outbox.attempts (job_id, claim, outcome, started_at, worker)
         select n, 1, 'sent', now() - interval '100 days', 'w' from unnest('{77,1001,1002,1007,1008,1009}'::int[]) n;
         insert into outbox.attempts (job_id, claim, outcome, started_at, worker) values (1009, 2, 'sent', now() - interval '80 days', 'w');
         insert into outbox.events (event_id, type, source, body, phone, occurred_at, received_at, applied_at, effect)
         select n, 'message.received', 'list', 'text', '+15550142200', now(), now() - a.age, case when a.applied then now() end,
                case when a.applied then 'reply' end
           from (values ('old', interval '40 days', true), ('older', interval '50 days', true), ('unread', interval '40 days', false),
                        ('new', interval '20 days', true)) a (n, age, applied)",
    )
    .await;
}

async fn strings(it: &Harness, sql: &'static str) -> Vec<String> {
    sqlx::query_scalar(sql).fetch_all(it.pool()).await.expect("readable")
}

#[tokio::test]
async fn retention_says_what_it_would_delete_and_deletes_that() {
    let it = Harness::start().await;
    with_history(&it).await;
    let all = ["purge", "--texts", "30d", "--events", "45d", "--attempts", "90d", "--finished-jobs", "90d"];
    let dry = says_json(&it, &[&all[..], &["--json"]].concat()).await;
    let rows = |told: &Value, field: &str| {
        told.as_array().expect("a list").iter().map(|kind| kind[field].clone()).collect::<Vec<_>>()
    };
    assert_eq!(rows(&dry, "what"), ["texts", "events", "attempts", "finished jobs"]);
    assert_eq!(
        (rows(&dry, "rows"), rows(&dry, "kept")),
        (vec![json!(2), json!(1), json!(4), json!(3)], vec![json!(1), json!(0), json!(2), json!(1)])
    );
    assert_eq!(rows(&dry, "deleted"), [Value::Null, Value::Null, Value::Null, Value::Null]);
    let said = says(&it, &all).await;
    assert!(said.contains("finished jobs 90d 3 ") && said.contains("events 45d 1 "), "{said}");
    assert_eq!(
        (it.count("true").await, strings(&it, "select event_id from outbox.events").await.len()),
        (6, 4),
        "a dry run"
    );

    let done = says_json(&it, &[&all[..], &["--yes", "--json"]].concat()).await;
    assert_eq!(rows(&done, "deleted"), [2, 1, 4, 3]);
    assert_eq!(strings(&it, "select id::text from outbox.jobs order by id").await, ["1007", "1008", "1009"]);
    assert_eq!(
        strings(&it, "select job_id || '/' || claim from outbox.attempts order by 1").await,
        ["1007/1", "1008/1", "1009/2"]
    );
    assert_eq!(
        strings(&it, "select event_id || coalesce(' ' || body, '') from outbox.events order by 1").await,
        ["new text", "old", "unread text"]
    );
    let again = says_json(&it, &[&all[..], &["--yes", "--json"]].concat()).await;
    assert_eq!(rows(&again, "deleted"), [0, 0, 0, 0]);
    for usage in [
        vec!["purge"],
        vec!["purge", "--yes"],
        vec!["purge", "--phone", ANN, "--events", "1d"],
        vec!["purge", "--events", "soon"],
    ] {
        assert_eq!(it.run(&usage).await.0, 2, "{usage:?}");
    }
}

#[tokio::test]
async fn i01_retention_beside_workers_loses_nothing_and_ends_what_several_batches_hold() {
    let it = Harness::start().await;
    it.execute(
        "insert into outbox.jobs (phone, body, state, sent_at, finished_at)
         select '+1555014' || lpad((n % 50)::text, 4, '0'), 'old', 'sent', now() - interval '1 day', now() - interval '1 day'
           from generate_series(1, 2500) n",
    )
    .await;
    it.insert_many(200, 50).await;
    let worker = it.worker(&[]).await;
    let said = says(&it, &["purge", "--finished-jobs", "12h", "--yes"]).await;
    assert!(said.contains("finished jobs 12h 2500 "), "{said}");
    it.until("all are sent", || async { it.count("state = 'sent'").await == 200 }).await;
    worker.stop().await;
    it.each_sent_once(200).await;
    let said =
        tokio::time::timeout(Duration::from_secs(30), says(&it, &["purge", "--finished-jobs", "0", "--yes"])).await;
    assert!(said.expect("it ends").contains(" 200 "));
    assert_eq!(it.count("true").await, 0);
}
