//! The schema by itself: migrating, roles, and what plain SQL may and may not do.

use chert_outbox::database;
use sqlx::migrate::{Migration, MigrationType};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, SqlSafeStr as _};

use crate::harness::{Harness, PATIENCE, until};

#[tokio::test]
async fn migrate_is_idempotent_and_safe_from_many_places_at_once() {
    let it = Harness::start().await;
    let name = format!("many_{}", uuid::Uuid::new_v4().simple());
    it.pool().execute(AssertSqlSafe(format!("create database {name}"))).await.expect("made");
    let url =
        it.database.url().rsplit_once('/').map(|(server, _)| format!("{server}/{name}")).expect("a URL with a path");
    let migrate = || {
        let mut command = it.binary();
        command.env("DATABASE_URL", &url).arg("migrate");
        async move { command.output().await.expect("runs") }
    };
    let (one, two, three) = tokio::join!(migrate(), migrate(), migrate());
    for output in [&one, &two, &three] {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let again = String::from_utf8(migrate().await.stdout).expect("UTF-8");
    assert!(again.starts_with("the outbox is up to date, at version"), "{again}");
    it.pool().execute(AssertSqlSafe(format!("drop database {name} with (force)"))).await.expect("dropped");
}

#[tokio::test]
async fn migrate_leaves_what_a_later_release_has_applied() {
    let it = Harness::start().await;
    it.execute(
        "insert into outbox._sqlx_migrations (version, description, success, checksum, execution_time)
         values (999, 'of a later release', true, '', 0)",
    )
    .await;
    let (code, told, error) = it.run(&["migrate"]).await;
    assert_eq!((code, told.as_str()), (0, "the outbox is up to date, at version 999\n"), "{error}");
}

#[tokio::test]
async fn a_migration_gives_way_to_those_who_wait_behind_it() {
    let it = Harness::start().await;
    let job = it.insert("+15550142200", "Hi").await;
    let mut reader = it.pool().begin().await.expect("begins");
    sqlx::query("select from outbox.jobs").execute(&mut *reader).await.expect("reads");
    let next = Migration::new(
        database::newest() + 1,
        "of the next release".into(),
        MigrationType::Simple,
        "alter table outbox.jobs add column next int".into_sql_str(),
        false,
    );
    let migrator = database::migrator([next]);
    let migrating = async {
        let mut connection = it.pool().acquire().await.expect("a connection");
        database::apply(&mut connection, &migrator).await.expect("it migrates");
    };
    let waits = "select exists (select from pg_locks where relation = 'outbox.jobs'::regclass and not granted)";
    let producing = async {
        let is_waiting = || async { sqlx::query_scalar(waits).fetch_one(it.pool()).await.expect("readable") };
        until("the migration waits", is_waiting).await;
        // It would wait behind the migration for as long as the reader stays.
        it.execute("update outbox.jobs set labels = '{\"a\": 1}'").await;
        reader.rollback().await.expect("ends");
    };
    let both = async { tokio::join!(migrating, producing) };
    tokio::time::timeout(PATIENCE, both).await.expect("nobody waits for the reader");
    assert_eq!(it.field(job, "next::text").await, None);
}

#[tokio::test]
async fn commands_say_what_to_do_about_a_schema_that_is_missing_or_old() {
    let it = Harness::start().await;
    it.execute(
        "delete from outbox._sqlx_migrations where version = (select max(version) from outbox._sqlx_migrations)",
    )
    .await;
    let (code, _, error) = it.run(&["status"]).await;
    let version: i64 = sqlx::query_scalar("select max(version) from outbox._sqlx_migrations")
        .fetch_one(it.pool())
        .await
        .expect("there");
    assert_eq!(
        (code, error.trim()),
        (
            1,
            format!(
                "error: the outbox schema is at version {version}, this binary needs {}: run chert-outbox migrate",
                database::newest()
            )
            .as_str()
        )
    );
    it.execute("drop schema outbox cascade").await;
    let (code, _, error) = it.run(&["worker", "--drain"]).await;
    assert_eq!((code, error.trim()), (1, "error: the database has no outbox yet: run chert-outbox migrate"));
}

#[tokio::test]
async fn a_producer_may_insert_and_see_its_own_jobs_and_nothing_else() {
    let it = Harness::start().await;
    let user = format!("shop_{}", uuid::Uuid::new_v4().simple());
    it.pool()
        .execute(AssertSqlSafe(format!("create role {user} login password 'pw'; grant outbox_producer to {user}")))
        .await
        .expect("made");
    it.insert("+15550142299", "somebody else's").await;
    let options = it.pool().connect_options();
    let mut shop =
        PgConnection::connect_with(&(*options).clone().username(&user).password("pw")).await.expect("connects");

    let id: i64 =
        sqlx::query_scalar("insert into outbox.jobs (phone, body) values ('+15550142200', 'Hi') returning id")
            .fetch_one(&mut shop)
            .await
            .expect("inserts");
    let same: i64 = sqlx::query_scalar("select outbox.enqueue('+15550142201', 'Hi', dedupe_key => 'k')")
        .fetch_one(&mut shop)
        .await
        .expect("enqueues");
    let again: i64 = sqlx::query_scalar("select outbox.enqueue('+15550142201', 'Hi', dedupe_key => 'k')")
        .fetch_one(&mut shop)
        .await
        .expect("enqueues");
    assert_eq!(same, again);
    let own: Vec<i64> =
        sqlx::query_scalar("select id from outbox.my_jobs order by id").fetch_all(&mut shop).await.expect("reads");
    assert_eq!(own, [id, same]);
    let canceled: i64 = sqlx::query_scalar("select outbox.cancel_all(array[1, $1])")
        .bind(same)
        .fetch_one(&mut shop)
        .await
        .expect("cancels its own");
    assert_eq!(canceled, 1, "not somebody else's");
    assert!(
        sqlx::query_scalar::<_, bool>("select outbox.cancel($1)")
            .bind(id)
            .fetch_one(&mut shop)
            .await
            .expect("cancels its own")
    );
    assert!(
        !sqlx::query_scalar::<_, bool>("select outbox.cancel(1)").fetch_one(&mut shop).await.expect("answers"),
        "not somebody else's"
    );
    for forbidden in [
        "select phone from outbox.jobs",
        "select * from outbox.recipients",
        "update outbox.jobs set body = 'x'",
        "insert into outbox.jobs (phone, body, state) values ('+15550142200', 'Hi', 'sent')",
        "delete from outbox.jobs",
        "update outbox.lines set gap_us = 0",
    ] {
        let error = sqlx::raw_sql(forbidden).execute(&mut shop).await.expect_err(forbidden);
        assert_eq!(
            error.as_database_error().and_then(|refused| refused.code()).as_deref(),
            Some("42501"),
            "{forbidden}"
        );
    }
    shop.close().await.expect("closes");
    it.pool().execute(AssertSqlSafe(format!("drop role {user}"))).await.expect("dropped");
}

#[tokio::test]
async fn a_worker_needs_no_more_than_its_role() {
    let it = Harness::start().await;
    let user = format!("runner_{}", uuid::Uuid::new_v4().simple());
    it.pool()
        .execute(AssertSqlSafe(format!("create role {user} login password 'pw'; grant outbox_worker to {user}")))
        .await
        .expect("made");
    it.insert_many(20, 10).await;
    let (_, host) = it.database.url().rsplit_once('@').expect("a URL with a user");
    let url = format!("postgres://{user}:pw@{host}");
    let output = it.binary().env("DATABASE_URL", &url).args(["worker", "--drain"]).output().await.expect("runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    it.each_sent_once(20).await;
    it.pool().execute(AssertSqlSafe(format!("drop role {user}"))).await.expect("dropped");
}

#[tokio::test]
async fn i12_a_viewer_sees_no_number_and_no_body() {
    let it = Harness::start().await;
    it.insert("+15550142200", "private").await;
    let mut conn = it.pool().acquire().await.expect("connects");
    sqlx::raw_sql("set role outbox_viewer").execute(&mut *conn).await.expect("a role");
    let phone: String =
        sqlx::query_scalar("select phone from outbox.masked_jobs").fetch_one(&mut *conn).await.expect("reads");
    assert_eq!(phone, "+1******2200");
    let error = sqlx::raw_sql("select * from outbox.jobs").execute(&mut *conn).await.expect_err("refused");
    assert_eq!(error.as_database_error().and_then(|refused| refused.code()).as_deref(), Some("42501"));
    sqlx::raw_sql("reset role").execute(&mut *conn).await.expect("back");
}

#[tokio::test]
async fn i03_a_day_begins_at_its_first_instant_wherever_clocks_are_changed() {
    let it = Harness::start().await;
    // Days around each change of a clock in ten years: of every zone that changes one near midnight, and of some others.
    let wrong: Vec<(String, String)> = sqlx::query_as(
        "select name, day::text
           from (values ('UTC'), ('America/New_York'), ('America/Havana'), ('Atlantic/Azores'), ('Asia/Beirut'), ('Africa/Cairo'),
                        ('America/Santiago'), ('America/Asuncion'), ('Australia/Lord_Howe'), ('Asia/Gaza'), ('Europe/Berlin'),
                        ('America/Nuuk'), ('Pacific/Apia'), ('Asia/Kathmandu')) z (name)
          cross join lateral (select d::date as day from generate_series('2026-01-01'::timestamp, '2035-12-31', '1 day') d) days
          cross join lateral (select outbox.day_begins(day, name) as at) b
         where (at at time zone name)::date <> day or ((at - interval '1 microsecond') at time zone name)::date >= day",
    )
    .fetch_all(it.pool())
    .await
    .expect("readable");
    assert_eq!(wrong, []);
}

#[tokio::test]
async fn a_restored_copy_is_refused_until_it_is_adopted() {
    let it = Harness::start().await;
    let (waiting, tried) = (it.insert("+15550142200", "Hi").await, it.insert("+15550142201", "Hi").await);
    let deferred = it.insert("+15550142202", "Hi").await;
    it.execute(
        "update outbox.jobs set unknown_since = now(), idempotency_key = 'k', reason = 'outcome_unknown' where id = 2;
         update outbox.jobs set idempotency_key = 'of the original', reason = 'recipient_saturated', wake_at = now() where id = 3",
    )
    .await;
    let staging = ["worker", "--drain", "--deployment", "staging"];
    let (code, _, error) = it.run(&staging).await;
    assert!(code == 1 && error.contains("belongs to deployment 'default', this worker serves 'staging'"), "{error}");
    assert_eq!(it.simulator.handle().calls().sends, 0);
    let (code, told, _) = it.run(&["adopt", "--deployment", "staging"]).await;
    assert!(code == 0 && told.contains("1 job in flight or of unknown outcome was parked"), "{told}");
    let (code, ..) = it.run(&staging).await;
    assert_eq!(
        (code, it.state(waiting).await.as_str(), it.state(tried).await.as_str()),
        (0, "sent", "parked/outcome_unknown")
    );
    assert_eq!(it.state(deferred).await, "sent", "with a key of its own");
}
