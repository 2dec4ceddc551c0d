//! The plans of every hot statement, read from Postgres itself: the very texts that a worker's connection has prepared,
//! as its transactions plan them.

use std::time::Duration;

use chert_outbox::campaign::engine::Engine;
use chert_outbox::campaign::moving::Standing;
use chert_outbox::chert::messages::Message;
use chert_outbox::chert::reply::{Answer, Ids, Reply};
use chert_outbox::claim::Claim;
use chert_outbox::config::{CampaignOptions, HoldOptions};
use chert_outbox::database::{begin, connect};
use chert_outbox::delivery::Look;
use chert_outbox::inbound::store::{Source, store};
use chert_outbox::line::LineChoice;
use chert_outbox::outbox::admit::admit;
use chert_outbox::outbox::campaigns::audience::Person;
use chert_outbox::outbox::campaigns::manage;
use chert_outbox::outbox::campaigns::moving;
use chert_outbox::outbox::campaigns::versions::{self, NewVersion};
use chert_outbox::outbox::claim::Claimer;
use chert_outbox::outbox::erase::erase;
use chert_outbox::outbox::hearing;
use chert_outbox::outbox::lookups;
use chert_outbox::outbox::marks::Marks;
use chert_outbox::outbox::notifications::{self, Fate, Told};
use chert_outbox::outbox::prune::{self, Kind, Mark};
use chert_outbox::outbox::record::record;
use chert_outbox::outbox::rescue::{expire, rescue};
use chert_outbox::outbox::suppressions::stopped;
use chert_outbox::outbox::upcoming::upcoming;
use chert_outbox::outcome::{Outcome, classify};
use chert_outbox::retry::next;
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection, PgPool};

use crate::claim::{DAY, claimer};
use crate::database::Database;
use crate::harness::until;
use crate::replies::{applier, message};

/// What grows with the backlog, with history and with the list of those who must not be written to.
const BIG: [&str; 11] = [
    "jobs",
    "recipients",
    "attempts",
    "suppressions",
    "events",
    "lookups",
    "notifications",
    "enrolments",
    "audience_rows",
    "goals",
    "exclusions",
];

/// What each index finds its rows by; a condition on a later column alone reads all of it.
const LEADS: [(&str, &str); 39] = [
    ("jobs_pkey", "id"),
    ("jobs_to_admit", "COALESCE(wake_at, due_at)"),
    ("jobs_ready", "line_id"),
    ("jobs_of_recipient", "phone"),
    ("one_in_flight_per_recipient", "phone"),
    ("jobs_leased", "lease_until"),
    ("jobs_expiring", "expires_at"),
    ("jobs_dedupe_key_key", "dedupe_key"),
    ("attempts_pkey", "job_id"),
    ("recipients_pkey", "phone"),
    ("suppressions_pkey", "phone"),
    ("lookups_pkey", "job_id"),
    ("lookups_due", "due_at"),
    ("lookups_of_message", "message_id"),
    ("notifications_pkey", "id"),
    ("notifications_due", "due_at"),
    ("jobs_sent_to", "phone"),
    ("events_pkey", "id"),
    ("events_to_apply", "id"),
    ("jobs_ended_unsent", "phone"),
    ("jobs_finished", "finished_at"),
    ("attempts_started", "started_at"),
    ("events_received", "received_at"),
    ("events_with_text", "received_at"),
    ("jobs_of_campaign", "campaign"),
    ("jobs_held_paused", "campaign"),
    ("enrolments_pkey", "id"),
    ("enrolments_in_turn", "campaign"),
    ("enrolments_of_line", "campaign"),
    ("enrolments_live", "campaign"),
    ("enrolments_of_phone", "phone"),
    ("enrolments_of_job", "job_id"),
    ("one_enrolment_a_round", "campaign"),
    ("audience_rows_pkey", "audience"),
    ("enrolments_finished", "finished_at"),
    ("goals_reached", "reached_at"),
    ("goals_pkey", "id"),
    ("goals_of_phone", "phone"),
    ("exclusions_pkey", "tick_id"),
];

/// Words of a hot statement alone, and the indexes that it must be read by.
type Hot = (&'static str, &'static [&'static str]);

const HOT: [Hot; 45] = [
    ("with due as", &["jobs_to_admit", "recipients_pkey", "one_in_flight_per_recipient", "jobs_of_recipient"]),
    ("for update of o skip locked", &["jobs_ready"]),
    ("select c.id", &["jobs_ready", "recipients_pkey", "suppressions_pkey", "jobs_of_recipient"]),
    ("update outbox.jobs j set state = 'sending'", &["jobs_pkey"]),
    ("update outbox.lines l set next_at", &[]),
    ("select j.id from outbox.jobs j where j.id = any ($1)", &["jobs_pkey", "suppressions_pkey", "recipients_pkey"]),
    ("A row of somebody else", &["attempts_pkey"]),
    ("update outbox.jobs j set state = u.state", &["jobs_pkey"]),
    ("insert into outbox.recipients as r (phone, line_id, first_touched_at", &[]),
    (
        "update outbox.jobs set wake_at = now() where id = any (array( select head.id",
        &["jobs_of_recipient", "jobs_pkey"],
    ),
    ("select least(", &["jobs_to_admit", "jobs_leased", "jobs_ready"]),
    ("with dead as materialized", &["jobs_leased"]),
    ("update outbox.jobs set ready = false, wake_at = now() where id = any (array(", &["jobs_expiring", "jobs_pkey"]),
    ("reason = 'inbound_stale' and not", &["jobs_held_stale"]),
    ("update outbox.jobs set wake_at = now(), reason = null where id = any ($1)", &["jobs_pkey"]),
    ("select id, event_id, type as kind", &["events_to_apply"]),
    ("select answered.id", &["jobs_sent_to"]),
    ("then 'suppressed' else 'parked' end", &["jobs_of_recipient", "jobs_pkey"]),
    ("set ready = false, wake_at = now(), reason = null", &["jobs_of_recipient"]),
    ("insert into outbox.recipients as r (phone, line_id, last_inbound_at", &["jobs_sent_to"]),
    ("update outbox.events e", &["events_pkey"]),
    ("select id from outbox.enrolments where phone = $1 order by id for update", &["enrolments_of_phone"]),
    ("and id <> all ($2)", &["enrolments_of_phone"]),
    ("as flies_until", &["jobs_of_recipient", "jobs_sent_to", "jobs_ended_unsent", "jobs_pkey"]),
    ("where finished_at < $1 and (finished_at, id)", &["jobs_finished", "enrolments_pkey"]),
    ("and (finished_at < $2 and state <> 'parked') is true", &["jobs_pkey"]),
    ("delete from outbox.attempts where job_id", &["attempts_pkey"]),
    ("delete from outbox.jobs where id", &["jobs_pkey"]),
    ("delete from outbox.attempts a using old", &["attempts_started", "jobs_pkey", "attempts_pkey"]),
    ("and body is not null and applied_at is not null", &["events_with_text"]),
    ("> ($2, $3) and applied_at is not null", &["events_received"]),
    ("delete from outbox.events where id", &["events_pkey"]),
    ("insert into outbox.lookups", &[]),
    ("update outbox.lookups set looks = looks + 1", &["lookups_due", "lookups_pkey"]),
    ("select extract(epoch from due_at - clock_timestamp())", &["lookups_due"]),
    ("for update of l skip locked", &["lookups_pkey"]),
    ("update outbox.lookups l set due_at = clock_timestamp()", &["lookups_pkey"]),
    ("where message_id = $1", &["lookups_of_message"]),
    ("update outbox.lookups l set looks = l.looks + 1", &["lookups_pkey"]),
    ("delete from outbox.lookups", &["lookups_pkey"]),
    ("update outbox.jobs j set delivery_state", &["jobs_pkey"]),
    ("update outbox.notifications set attempts", &["notifications_due", "notifications_pkey"]),
    ("select id, dedupe_key, labels", &["jobs_pkey"]),
    ("update outbox.notifications n set due_at", &["notifications_pkey"]),
    ("delete from outbox.notifications", &["notifications_pkey"]),
];

/// The same of campaigns: more statements than one connection keeps prepared.
const HOT_OF_CAMPAIGNS: [Hot; 23] = [
    ("select c.name from outbox.campaigns c where c.state = 'running'", &["enrolments_in_turn"]),
    ("select id, version, phone, vars, step", &["enrolments_in_turn"]),
    ("select j.state as", &["jobs_pkey", "recipients_pkey"]),
    ("select recent.messages", &["jobs_sent_to", "jobs_of_recipient", "enrolments_of_phone"]),
    ("with recursive standing as", &["enrolments_of_line"]),
    ("group by e.line_id, e.first_touch", &["jobs_of_campaign", "enrolments_pkey"]),
    ("as q (line_id, first_touch, most)", &["enrolments_of_line"]),
    ("j.dedupe_key = u.dedupe_key", &["jobs_dedupe_key_key"]),
    ("update outbox.enrolments e set state = u.state", &["enrolments_pkey"]),
    ("with rows as materialized", &["audience_rows_pkey", "one_enrolment_a_round", "suppressions_pkey"]),
    ("delete from outbox.audience_rows where", &["audience_rows_pkey"]),
    ("as u (phone, replied_at, scope)", &["enrolments_of_phone"]),
    ("'campaign_stopped') as", &["enrolments_live"]),
    ("where c.state = 'stopped'", &["enrolments_live", "jobs_of_campaign"]),
    ("j.reason = 'campaign_paused' order by j.id", &["jobs_held_paused"]),
    ("where w.job_id = any", &["enrolments_of_job", "enrolments_pkey"]),
    ("where id >= $2 and id < $3 and campaign = $1", &[]),
    ("and (e.finished_at, e.id) > ($2, $3)", &["enrolments_finished", "jobs_pkey"]),
    ("delete from outbox.enrolments where id", &["enrolments_pkey"]),
    ("and (reached_at, id) > ($2, $3)", &["goals_reached"]),
    ("delete from outbox.goals where id", &["goals_pkey"]),
    ("delete from outbox.exclusions x", &["exclusions_pkey"]),
    ("delete from outbox.audience_rows r", &["audience_rows_pkey"]),
];

#[tokio::test]
async fn i11_no_hot_statement_reads_more_than_its_index() {
    let database = Database::create().await;
    // One connection, so that all that was prepared is seen; opened as a worker opens its own.
    let pool = connect(database.url(), 1).await.expect("connects");
    fill(&pool).await;
    use_each_statement_once(&pool).await;
    prepare_what_wake_next_runs(&pool).await;

    let indexes =
        ["jobs_ready", "jobs_to_admit", "jobs_of_recipient", "lookups_due", "lookups_of_message", "notifications_due"];
    every_plan_is_bound(&pool, &HOT, &indexes).await;
}

#[tokio::test]
async fn i11_no_statement_of_a_campaign_reads_more_than_its_index() {
    let database = Database::create().await;
    let pool = connect(database.url(), 1).await.expect("connects");
    fill(&pool).await;
    work_on_a_campaign(&pool).await;
    store(&pool, Source::List, &[message("e1", "+12000000001", "stop"), message("e2", "+12000000002", "yes")])
        .await
        .expect("stores");
    assert_eq!(applier(&[]).apply(&pool).await.expect("applies").opted_out, 1);
    prepare_what_wake_enrolments_runs(&pool).await;
    let indexes = [
        "enrolments_in_turn",
        "enrolments_of_line",
        "enrolments_of_job",
        "enrolments_of_phone",
        "enrolments_live",
        "jobs_of_campaign",
        "jobs_held_paused",
        "enrolments_finished",
        "goals_reached",
    ];
    every_plan_is_bound(&pool, &HOT_OF_CAMPAIGNS, &indexes).await;
}

/// Without and with statistics; and each of these indexes is missed when it is not there.
async fn every_plan_is_bound(pool: &PgPool, hot: &[Hot], indexes: &[&str]) {
    assert_eq!(faults(pool, hot, None).await, [""; 0], "as the worker's connection first planned them");
    sqlx::raw_sql("analyze").execute(pool).await.expect("statistics are read");
    assert_eq!(faults(pool, hot, None).await, [""; 0], "with fresh statistics");
    for index in indexes {
        let found = faults(pool, hot, Some(index)).await;
        assert!(found.iter().any(|fault| fault.contains(index)), "{index} is missing, and found was only {found:?}");
    }
}

#[tokio::test]
async fn i11_a_held_snapshot_makes_no_pass_read_over_what_the_passes_before_it_took() {
    const JOBS: i64 = 3_000;
    const BATCH: usize = 50;
    let database = Database::create().await;
    let watching = connect(database.url(), 2).await.expect("connects");
    let mut holder = watching.begin().await.expect("begins");
    sqlx::raw_sql("set transaction isolation level repeatable read; select * from outbox.account")
        .execute(&mut *holder)
        .await
        .expect("a snapshot");
    let pool = connect(database.url(), 1).await.expect("connects");
    sqlx::query(
        "insert into outbox.jobs (phone, body) select '+1' || (2000000000 + n), 'Hi' from generate_series(1, $1) n",
    )
    .bind(JOBS)
    .execute(&pool)
    .await
    .expect("inserts");
    sqlx::raw_sql("update outbox.lines set gap_us = 0, first_touch_gap_us = 0, first_touch_cap = null")
        .execute(&pool)
        .await
        .expect("sets");
    let claimer = claimer("one");
    let (mut marks, mut claimed) = (Marks::default(), 0);
    while claimed < JOBS {
        admit(&pool, BATCH as i64, DAY, &HoldOptions::default(), &mut marks).await.expect("admits");
        let claims = claimer.claim(&pool, BATCH, false, &mut marks).await.expect("claims").claims;
        assert_eq!(claims.len(), BATCH);
        claimed += claims.len() as i64;
        upcoming(&pool, &marks, false).await.expect("looks ahead");
    }
    // A backend tells what it has read when it ends.
    pool.close().await;
    let read = || async {
        sqlx::query_as::<_, (i64, i64)>(
            "select (select idx_tup_read from pg_stat_user_indexes where indexrelname = 'jobs_to_admit'),
                    (select idx_tup_read from pg_stat_user_indexes where indexrelname = 'jobs_ready')",
        )
        .fetch_one(&watching)
        .await
        .expect("readable")
    };
    until("the statistics are there", || async { read().await.1 >= JOBS }).await;
    let (to_admit, ready) = read().await;
    // From the head, each of the sixty passes would read all of what those before it took: some thirty entries a job.
    assert!(to_admit < 5 * JOBS && ready < 8 * JOBS, "{to_admit} and {ready} index entries were read for {JOBS} jobs");
}

/// A backlog on fifty lines, with history: ready, new, waiting, in flight, expiring and sent jobs.
pub async fn fill(pool: &PgPool) {
    let fill = "
        insert into outbox.lines (id, gap_us, first_touch_gap_us, first_touch_cap)
        select 'pl_' || n, 0, 0, null from generate_series(1, 50) n;
        insert into outbox.recipients (phone, line_id, first_touched_at)
        select '+1' || (2000000000 + n), 'pl_' || (n % 50 + 1), now() from generate_series(1, 100000) n;
        insert into outbox.suppressions (phone, reason)
        select '+1' || (9000000000 + n), 'stop' from generate_series(1, 20000) n;
        insert into outbox.jobs (phone, body, due_at, ready, line_id, first_touch)
        select '+1' || (2000000000 + n), 'ready', now() - interval '1 minute', true, 'pl_' || (n % 50 + 1), false
          from generate_series(1, 100000) n;
        insert into outbox.jobs (phone, body, due_at, expires_at)
        select '+1' || (3000000000 + n), 'new', now() - interval '1 minute', now() + interval '1 day' from generate_series(1, 10000) n;
        insert into outbox.jobs (phone, body, reason, wake_at)
        select '+1' || (4000000000 + n), 'waits', 'retrying', now() + interval '1 hour' from generate_series(1, 10000) n;
        insert into outbox.jobs (phone, body, state, lease_until, worker, idempotency_key)
        select '+1' || (5000000000 + n), 'flies', 'sending', now() + interval '1 minute', 'other', 'k' from generate_series(1, 2000) n;
        insert into outbox.jobs (phone, body, state, finished_at)
        select '+1' || (6000000000 + n), 'history', 'sent', now() from generate_series(1, 50000) n;
        update outbox.jobs set sent_at = now() where state = 'sent';
        insert into outbox.jobs (phone, body, class, reason, wake_at)
        select '+1' || (7000000000 + n), 'held', 'marketing', 'inbound_stale', now() + interval '1 hour' from generate_series(1, 10000) n;
        insert into outbox.events (event_id, type, source, body, occurred_at, applied_at, effect)
        select 'old' || n, 'message.received', 'list', '{}', now(), now(), 'reply' from generate_series(1, 20000) n;
        insert into outbox.attempts (job_id, claim, outcome, started_at, worker)
        select n, 1, 'sent', now(), 'other' from generate_series(1000001, 1050000) n;
        insert into outbox.lookups (job_id, message_id, sent_at, due_at)
        select n, 'm_' || n, now() - interval '1 hour', now() + (n - 1000) * interval '1 second' from generate_series(1000001, 1100000) n;
        insert into outbox.notifications (job_id, what, due_at)
        select n, 'sent', now() + (n - 1000) * interval '1 second' from generate_series(1, 100000) n;
        update outbox.account set notifications = true;
        insert into outbox.enrolments (campaign, version, phone, ready, due_at)
        select 'plan' || n % 20, 1, '+1' || (2000000000 + n), n % 2 = 0, now() + (n - 1000) * interval '1 second'
          from generate_series(1, 100000) n;
        insert into outbox.enrolments (campaign, version, phone, job_id, waiting, due_at)
        select 'plan' || n % 20, 1, '+1' || (4000000000 + n), n, true, now() + interval '1 minute' from generate_series(1, 10000) n;
        insert into outbox.enrolments (campaign, version, phone, state, due_at, finished_at)
        select 'plan' || n % 20, 1, '+1' || (6000000000 + n), 'done', null, now() from generate_series(1, 50000) n;
        insert into outbox.audience_rows (audience, n, phone)
        select n % 10 + 100, n, '+1' || (2000000000 + n) from generate_series(1, 50000) n;
        insert into outbox.goals (campaign, phone, reached_at)
        select 'plan', '+1' || (2000000000 + n), now() from generate_series(1, 20000) n;
        insert into outbox.exclusions (tick_id, n, reason) select n % 20 + 1000, n, 'suppressed' from generate_series(1, 50000) n;
        update outbox.jobs set campaign = 'plan' || id % 20 where state = 'queued' and id % 3 = 0;";
    sqlx::raw_sql(fill).execute(pool).await.expect("fills");
}

async fn use_each_statement_once(pool: &PgPool) {
    let minute = Duration::from_secs(60);
    let claimer =
        Claimer::new("it".to_owned(), "it".to_owned(), minute, 60 * minute, LineChoice::Chert, HoldOptions::default());
    admit(pool, 2_000, minute, &HoldOptions::default(), &mut Marks::default()).await.expect("admits");
    let mut claims = claimer.claim(pool, 500, false, &mut Marks::default()).await.expect("claims").claims;
    assert_eq!(claims.len(), 500);
    let first = claims.pop().expect("there are 500");
    assert!(stopped(pool, &[first.job_id]).await.expect("looks").is_empty());
    let finished: Vec<_> =
        claims.into_iter().map(|claim| answer(claim, sent())).chain([answer(first, saturated())]).collect();
    let recorded = record(pool, "it", &finished, minute).await.expect("records");
    assert_eq!((recorded.sent, recorded.lost_claims), (499, 0));
    upcoming(pool, &Marks::default(), true).await.expect("looks ahead");
    rescue(pool, "it").await.expect("rescues");
    expire(pool, 2_000).await.expect("expires");
    hearing::release(pool, minute, 2_000).await.expect("releases");
    store(pool, Source::List, &[message("e1", "+12000000001", "stop"), message("e2", "+12000000002", "yes")])
        .await
        .expect("stores");
    assert_eq!(applier(&[]).apply(pool).await.expect("applies").opted_out, 1);
    follow_and_tell(pool, minute).await;
    erase(pool, &"+16000000001".parse().expect("valid"), None, false, |_| {}).await.expect("erases");
    let now = prune::before(pool, Duration::ZERO).await.expect("answers");
    for kind in [Kind::FinishedJobs, Kind::Attempts, Kind::Texts, Kind::Events] {
        let deleted = prune::prune(pool, kind, now, &mut Mark::default()).await.expect("prunes");
        assert_eq!(deleted, 1_000, "{kind:?}");
    }
}

async fn work_on_a_campaign(pool: &PgPool) {
    let source = "name: plan\nzone: UTC\nschedule: { manual: true }\naudience: { csv: a.csv }\nclass: transactional\n\
         caps: { per_recipient: 3 in 7d }\nsteps: [{ send: { body: Hi } }]\n";
    let definition = chert_outbox::campaign::file::read(source).expect("a campaign").campaign;
    let person = |n: i64| {
        let row = serde_json::json!({"phone": format!("+1{}", 8_000_000_000 + n)});
        Person::of(n, row.as_object().cloned().expect("an object"))
    };
    let new = NewVersion {
        name: "plan".to_owned(),
        definition: serde_json::to_value(definition).expect("serialisable"),
        again_after: None,
        stop_on: vec!["reply".to_owned()],
        labels: serde_json::json!({}),
        priority: 0,
        people: Some(((1..=600).map(person).collect(), "digest".to_owned())),
    };
    versions::apply(pool, &new, |_| None).await.expect("applies");
    manage::fire(pool, "plan").await.expect("fires");
    let engine = Engine::new(pool.clone(), CampaignOptions { look_ahead: 500 }, Some(3));
    while engine.pass().await.expect("works") {}
    // Rows as a query brings them: they go as their people are enrolled.
    sqlx::raw_sql(
        "insert into outbox.ticks (campaign, at, version, state, audience) values ('plan', now(), 1, 'enrolling', 100)",
    )
    .execute(pool)
    .await
    .expect("a firing by query");
    while engine.pass().await.expect("works") {}
    manage::pause(pool, "plan").await.expect("pauses");
    manage::resume(pool, "plan", |_| None).await.expect("resumes");
    manage::stop(pool, "plan").await.expect("stops");
    while !manage::end(pool, "plan").await.expect("ends").is_nothing() {}
    move_and_prune(pool).await;
}

async fn move_and_prune(pool: &PgPool) {
    let nobody = |_: &Standing| None;
    moving::move_some(pool, "plan", (None, 1), &nobody, 0).await.expect("moves");
    sqlx::raw_sql(
        "insert into outbox.campaigns (name, version) select 'plan' || n, 2 from generate_series(1, 9) n;
         insert into outbox.campaign_versions (campaign, version, definition, stop_on, again_after, audience)
         select 'plan' || n, v, '{}', '{}', '0', 100 + n from generate_series(1, 9) n, generate_series(1, 2) v;
         insert into outbox.ticks (campaign, at, version, state, audience, finished_at)
         overriding system value select 'gone', now() - n * interval '1 hour', 1, 'done', 100, now() - n * interval '1 hour'
           from generate_series(1, 10) n;
         update outbox.exclusions set tick_id = (select min(id) from outbox.ticks where campaign = 'gone') where tick_id = 1001",
    )
    .execute(pool)
    .await
    .expect("something old");
    let now = prune::before(pool, Duration::ZERO).await.expect("answers");
    for kind in [Kind::Enrolments, Kind::Goals, Kind::Firings, Kind::Files] {
        prune::look(pool, kind, now).await.expect("looks");
        assert!(prune::prune(pool, kind, now, &mut Mark::default()).await.expect("prunes") > 0, "{kind:?}");
    }
}

async fn follow_and_tell(pool: &PgPool, lease: Duration) {
    lookups::next_in(pool).await.expect("looks ahead").expect("some are followed");
    sqlx::raw_sql("update outbox.lookups set due_at = now() where message_id = 'm'").execute(pool).await.expect("ages");
    let taken = lookups::take(pool, 50, lease).await.expect("takes");
    let (looked, unlooked) = taken.split_at(25);
    lookups::put_back(pool, unlooked, lease).await.expect("gives back");
    let seen = Look::Seen(Message { status: Some("delivered".to_owned()), ..Message::default() });
    let looks: Vec<_> = looked.iter().map(|lookup| (lookup.clone(), seen.clone())).collect();
    assert_eq!(lookups::note(pool, &looks).await.expect("notes"), 25);
    let mut tx = begin(pool).await.expect("begins");
    lookups::told(&mut tx, "m_1000001", "read", chrono::DateTime::UNIX_EPOCH).await.expect("is told");
    tx.commit().await.expect("commits");
    let told: Vec<Told> = notifications::take(pool, 50, lease)
        .await
        .expect("takes")
        .into_iter()
        .map(|taken| Told {
            id: taken.id,
            attempts: taken.attempts,
            fate: Fate::Delivered,
            http_status: None,
            error: None,
        })
        .collect();
    assert_eq!(told.len(), 50);
    notifications::note(pool, &told).await.expect("notes");
    notifications::forget(pool, 1_000).await.expect("forgets");
}

fn sent() -> Answer {
    let ids = Ids { message_id: Some("m".into()), line_id: Some("pl_1".into()), ..Ids::default() };
    Answer { http_status: 200, status: Some("sent".into()), ids, ..Answer::default() }
}

fn saturated() -> Answer {
    let retry_after_secs = Some(60);
    Answer { http_status: 503, code: Some(4002), retryable: Some(true), retry_after_secs, ..Answer::default() }
}

fn answer(claim: Claim, answer: Answer) -> chert_outbox::claim::Finished {
    let reply = Reply::Answered(Box::new(answer));
    let outcome = classify(&reply);
    assert!(matches!(outcome, Outcome::Sent { .. } | Outcome::Deferred { .. }), "{outcome:?}");
    let next = next(&outcome, claim.standing, &mut rand::rng());
    claim.finish(tokio::time::Instant::now(), reply, outcome, next)
}

/// A function's statement is not seen from outside: its text is taken from the function.
async fn prepare_what_wake_next_runs(pool: &PgPool) {
    let source: String = sqlx::query_scalar("select prosrc from pg_proc where proname = 'wake_next'")
        .persistent(false)
        .fetch_one(pool)
        .await
        .expect("the function is there");
    let body = source.split_once("begin").expect("a block").1.split_once(';').expect("a statement").0;
    let statement = body.replace("unnest(phones)", "unnest($1)");
    sqlx::raw_sql(AssertSqlSafe(format!("prepare wake_next (text[]) as {statement}")))
        .execute(pool)
        .await
        .expect("prepares");
}

async fn prepare_what_wake_enrolments_runs(pool: &PgPool) {
    let source: String = sqlx::query_scalar("select prosrc from pg_proc where proname = 'wake_enrolments'")
        .persistent(false)
        .fetch_one(pool)
        .await
        .expect("the function is there");
    let update = source.find("update").expect("a statement");
    let statement = source[update..].split_once(';').expect("its end").0.replace("wake_enrolments.job_ids", "$1");
    sqlx::raw_sql(AssertSqlSafe(format!("prepare wake_enrolments (bigint[]) as {statement}")))
        .execute(pool)
        .await
        .expect("prepares");
}

/// What is wrong with the hot statements' plans, with one index taken away or with all of them.
async fn faults(pool: &PgPool, hot: &[Hot], without: Option<&str>) -> Vec<String> {
    let mut tx = begin(pool).await.expect("begins");
    if let Some(index) = without {
        sqlx::raw_sql(AssertSqlSafe(format!("drop index outbox.{index}"))).execute(&mut *tx).await.expect("drops");
    }
    let prepared: Vec<(String, String, i32)> =
        sqlx::query_as("select name, statement, cardinality(parameter_types) from pg_prepared_statements")
            .persistent(false)
            .fetch_all(&mut *tx)
            .await
            .expect("lists");
    let mut faults = Vec::new();
    for (words, indexes) in hot {
        let plain =
            |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ").replacen(&format!("{HEAD} "), "", 1);
        const HEAD: &str = "prepare wake_next (text[]) as";
        let found: Vec<_> = prepared.iter().filter(|(_, text, _)| plain(text).contains(*words)).collect();
        let [(name, _, parameters)] = found[..] else { panic!("{} statements say {words}", found.len()) };
        let plan = explain(&mut tx, name, *parameters).await;
        let mut reader = Reader::default();
        reader.read(&plan[0]["Plan"], Above::default());
        let missing = indexes.iter().filter(|index| !reader.used.iter().any(|used| used == *index));
        faults.extend(missing.map(|index| format!("`{words}` does not use {index}: {:?}", reader.used)));
        faults.extend(reader.faults.iter().map(|fault| format!("`{words}`: {fault}")));
    }
    tx.rollback().await.expect("rolls back");
    faults
}

/// The plan for any arguments, which is what `begin` asks for: so none need to be given.
async fn explain(conn: &mut PgConnection, name: &str, parameters: i32) -> Value {
    let arguments = vec!["null"; usize::try_from(parameters).expect("a count")].join(", ");
    let arguments = if parameters > 0 { format!("({arguments})") } else { arguments };
    sqlx::query_scalar(AssertSqlSafe(format!("explain (format json) execute {name}{arguments}")))
        .persistent(false)
        .fetch_one(conn)
        .await
        .expect("explains")
}

#[derive(Default)]
struct Reader {
    used: Vec<String>,
    faults: Vec<String>,
}

/// What lies between a node and the root.
#[derive(Default, Clone, Copy)]
struct Above {
    /// A limit, with nothing between that needs all rows.
    limit: bool,
    /// A sort, with no limit between.
    sort: bool,
}

impl Reader {
    fn read(&mut self, node: &Value, above: Above) {
        let text = |field: &str| node[field].as_str().unwrap_or_default();
        let (kind, relation, index) = (text("Node Type"), text("Relation Name"), text("Index Name"));
        if !index.is_empty() {
            self.used.push(index.to_owned());
        }
        if kind.starts_with("Bitmap") || (kind == "Seq Scan" && BIG.contains(&relation)) {
            self.faults.push(format!("{kind} on {relation}{index}"));
        }
        if kind.starts_with("Index") && BIG.contains(&relation) && node["Index Cond"].is_null() && !above.limit {
            self.faults.push(format!("all of {index} is read"));
        }
        if let Some(condition) = node["Index Cond"].as_str()
            && let Some((_, lead)) = LEADS.iter().find(|(name, _)| *name == index)
            && ![format!("({lead} "), format!("ROW({lead},")].iter().any(|led| condition.contains(led))
        {
            self.faults.push(format!("all of {index} is read for {condition}"));
        }
        if BIG.contains(&relation) && text("Filter").contains("<= clock_timestamp()") {
            self.faults.push(format!("{index} is read on to what is not due: clock_timestamp() bounds no scan"));
        }
        let from = match index {
            "jobs_ready" => "ROW(",
            "jobs_to_admit" => "ROW(",
            _ => "",
        };
        if node["Index Cond"].as_str().is_some_and(|condition| !condition.contains(from)) {
            self.faults.push(format!("{index} is read from its head, not from a mark"));
        }
        if above.sort && ["jobs_ready", "jobs_to_admit"].contains(&index) {
            self.faults.push(format!("the rows of {index} are sorted"));
        }
        let above = match kind {
            "Limit" => Above { limit: true, sort: false },
            "Sort" | "Incremental Sort" => Above { limit: false, sort: true },
            "LockRows" | "Subquery Scan" | "Result" => above,
            _ => Above { limit: false, sort: above.sort },
        };
        for child in node["Plans"].as_array().into_iter().flatten() {
            // What is computed beside a node runs by itself, and brings its own limit.
            let beside = matches!(child["Parent Relationship"].as_str(), Some("InitPlan" | "SubPlan"));
            self.read(child, if beside { Above::default() } else { above });
        }
    }
}
