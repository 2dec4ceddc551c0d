//! Every way in makes the same row, and a bad row gets in by none.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use chert_outbox::job::InvalidJob;
use chert_outbox::{EnqueueError, Enqueued, NewJob, enqueue, enqueue_many};
use serde_json::{Value, json};
use sqlx::PgPool;
use tempfile::TempDir;

use crate::database::Database;

fn plain(body: &str) -> NewJob {
    NewJob::new("+15550142200".parse().expect("valid"), body)
}

fn keyed(body: &str, key: &str) -> NewJob {
    NewJob { dedupe_key: Some(key.to_owned()), ..plain(body) }
}

/// A job with every field that is not a key.
fn full() -> NewJob {
    let json = json!({
        "phone": "+15550142200", "body": "Line one,\n\"line two\"", "name": "Ann; \\ Łukasz", "external_id": "crm-7",
        "phone_line_id": "pl_1", "attachments": ["att_1", {"id": "att_2", "live_photo": true}], "effect": "celebration",
        "priority": -5, "class": "marketing", "due_at": "2030-01-01T10:00:00Z", "expires_at": "2030-01-02T10:00:00Z", "max_attempts": 3,
        "labels": {"order": "1001", "city": "Bonn"}, "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    });
    serde_json::from_value(json).expect("valid")
}

/// The rows in the order of insertion, without what must differ between two of them.
async fn rows(database: &Database) -> Vec<Value> {
    sqlx::query_scalar("select to_jsonb(j) - '{id,created_at,producer}'::text[] from outbox.jobs j order by id")
        .fetch_all(database.pool())
        .await
        .expect("rows")
}

async fn bodies(database: &Database) -> Vec<String> {
    let sql = "select body from outbox.jobs order by id";
    sqlx::query_scalar(sql).fetch_all(database.pool()).await.expect("rows")
}

fn cli(database: &Database, args: &[&str]) -> Output {
    cli_with_input(database, args, "")
}

fn cli_with_input(database: &Database, args: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chert-outbox"));
    command.arg("enqueue").args(args).env("DATABASE_URL", database.url());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary runs");
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("it reads its input");
    child.wait_with_output().expect("it ends")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn complained(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim().to_owned()
}

/// A file in a directory of its own.
fn file(name: &str, content: &str) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join(name);
    std::fs::write(&path, content).expect("written");
    (dir, path)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

async fn copy(pool: &PgPool, columns: &str, rows: &str) {
    let mut conn = pool.acquire().await.expect("a connection");
    let statement = format!("copy outbox.jobs ({columns}) from stdin (format csv)");
    let mut copy = conn.copy_in_raw(&statement).await.expect("copy begins");
    copy.send(rows.as_bytes()).await.expect("copy takes rows");
    copy.finish().await.expect("copy ends");
}

#[tokio::test]
async fn a_full_job_is_the_same_row_by_every_way() {
    let it = Database::create().await;
    let job = full();
    let (labels, payload) = (Value::Object(job.labels.clone()), job.payload());
    let columns =
        "phone, body, payload, phone_line_id, priority, due_at, expires_at, max_attempts, labels, traceparent, class";

    // 1. An insert, as one writes it in psql.
    sqlx::raw_sql(
        r#"insert into outbox.jobs (phone, body, payload, phone_line_id, priority, due_at, expires_at, max_attempts, labels, traceparent, class)
           values ('+15550142200', e'Line one,\n"line two"',
                   '{"name": "Ann; \\ Łukasz", "external_id": "crm-7", "effect": "celebration",
                     "attachments": ["att_1", {"id": "att_2", "live_photo": true}]}',
                   'pl_1', -5, '2030-01-01 10:00:00+00', '2030-01-02 10:00:00+00', 3, '{"order": "1001", "city": "Bonn"}',
                   '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', 'marketing')"#,
    )
    .execute(it.pool())
    .await
    .expect("inserts");

    // 2. COPY.
    let cell = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let due = "2030-01-01T10:00:00Z,2030-01-02T10:00:00Z,3";
    let trace = job.traceparent.clone().expect("given");
    let (body, payload_cell, labels_cell) = (cell(&job.body), cell(&payload.to_string()), cell(&labels.to_string()));
    copy(
        it.pool(),
        columns,
        &format!("+15550142200,{body},{payload_cell},pl_1,-5,{due},{labels_cell},{trace},marketing\n"),
    )
    .await;

    // 3. The SQL function.
    sqlx::query(
        "select outbox.enqueue($1, $2, $3, phone_line_id => 'pl_1', priority => -5, due_at => $4, expires_at => $5,
                               max_attempts => 3, labels => $6, traceparent => $7, class => 'marketing')",
    )
    .bind(job.phone.as_str())
    .bind(&job.body)
    .bind(&payload)
    .bind(job.due_at)
    .bind(job.expires_at)
    .bind(&labels)
    .bind(&trace)
    .execute(it.pool())
    .await
    .expect("enqueues");

    // 4 and 5. Rust, one and many.
    let mut tx = it.pool().begin().await.expect("begins");
    enqueue(&mut tx, &job).await.expect("enqueues");
    enqueue_many(&mut tx, std::slice::from_ref(&job)).await.expect("enqueues");
    tx.commit().await.expect("commits");

    // 6. The command line.
    let name = job.name.clone().expect("given");
    let flags = [
        ["--phone", "+15550142200", "--body", &job.body, "--name", &name, "--external-id", "crm-7"],
        ["--phone-line-id", "pl_1", "--effect", "celebration", "--priority", "-5", "--max-attempts", "3"],
        [
            "--due-at",
            "2030-01-01T11:00:00+01:00",
            "--expires-in",
            "1d",
            "--label",
            "order=1001",
            "--label",
            "city=Bonn",
        ],
    ];
    let mut flags = flags.concat();
    flags.extend([
        "--attachment",
        "att_1",
        "--attachment",
        r#"{"id":"att_2","live_photo":true}"#,
        "--traceparent",
        &trace,
        "--class",
        "marketing",
    ]);
    let output = cli(&it, &flags);
    assert!(output.status.success(), "{}", complained(&output));

    // 7 and 8. Files.
    let attachments = cell(&Value::Array(job.attachments.clone()).to_string());
    let csv = format!(
        "phone,body,name,external_id,effect,attachments,phone_line_id,priority,due_at,expires_at,max_attempts,label.order,\
         label.city,traceparent,class\n+15550142200,{body},{},crm-7,celebration,{attachments},pl_1,-5,{due},1001,Bonn,{trace},marketing\n",
        cell(&name)
    );
    let jsonl = serde_json::to_string(&job).expect("serialisable");
    for (name, content) in [("people.csv", &csv), ("people.jsonl", &jsonl)] {
        let (_dir, path) = file(name, content);
        let output = cli(&it, &["--file", text(&path)]);
        assert_eq!(said(&output), "enqueued 1 · already there 0 · rejected 0", "{}", complained(&output));
    }

    let rows = rows(&it).await;
    assert_eq!(rows.len(), 8);
    for (way, row) in rows.iter().enumerate() {
        assert_eq!(row, &rows[0], "way {}", way + 1);
    }
}

#[tokio::test]
async fn a_plain_job_is_the_same_row_by_every_way() {
    let it = Database::create().await;
    sqlx::raw_sql("insert into outbox.jobs (phone, body) values ('+15550142200', 'Hi')")
        .execute(it.pool())
        .await
        .expect("inserts");
    copy(it.pool(), "phone, body", "+15550142200,Hi\n").await;
    sqlx::raw_sql("select outbox.enqueue('+15550142200', 'Hi')").execute(it.pool()).await.expect("enqueues");
    let mut tx = it.pool().begin().await.expect("begins");
    enqueue(&mut tx, &plain("Hi")).await.expect("enqueues");
    enqueue_many(&mut tx, &[plain("Hi")]).await.expect("enqueues");
    tx.commit().await.expect("commits");
    assert!(cli(&it, &["--phone", "+15550142200", "--body", "Hi"]).status.success());
    let (_dir, path) =
        file("people.csv", "phone,body,name,labels,attachments,due_at,max_attempts\n+15550142200,Hi,,,,,\n");
    assert!(cli(&it, &["--file", text(&path)]).status.success());
    assert!(
        cli_with_input(&it, &["--file", "-", "--format", "jsonl"], r#"{"phone":"+15550142200","body":"Hi"}"#)
            .status
            .success()
    );

    let mut rows = rows(&it).await;
    assert_eq!(rows.len(), 8);
    for row in &mut rows {
        assert!(row["due_at"].take().is_string(), "due at its insertion");
    }
    assert!(rows.iter().all(|row| row == &rows[0]), "{rows:#?}");
}

#[tokio::test]
async fn i01_a_job_commits_or_vanishes_with_the_callers_transaction() {
    let it = Database::create().await;
    let mut tx = it.pool().begin().await.expect("begins");
    enqueue(&mut tx, &plain("rolled back")).await.expect("enqueues");
    enqueue_many(&mut tx, &[plain("rolled back, too")]).await.expect("enqueues");
    tx.rollback().await.expect("rolls back");
    assert!(bodies(&it).await.is_empty());

    let mut tx = it.pool().begin().await.expect("begins");
    let id = enqueue(&mut tx, &plain("kept")).await.expect("enqueues");
    assert!(bodies(&it).await.is_empty(), "nobody sees it before the commit");
    tx.commit().await.expect("commits");
    assert_eq!(bodies(&it).await, ["kept"]);
    assert!(id > 0);
}

#[tokio::test]
async fn a_repeated_dedupe_key_gives_the_existing_job() {
    let it = Database::create().await;
    let mut conn = it.pool().acquire().await.expect("a connection");
    let first = enqueue(&mut conn, &keyed("first", "k")).await.expect("enqueues");
    assert_eq!(enqueue(&mut conn, &keyed("second", "k")).await.expect("enqueues"), first);
    assert_eq!(bodies(&it).await, ["first"]);

    let flags = ["--phone", "+15550142200", "--body", "third", "--dedupe-key", "k"];
    assert_eq!(said(&cli(&it, &flags)), format!("job {first} is there already (dedupe_key)"));
    let output = cli(&it, &[&flags[..], &["--json"]].concat());
    assert_eq!(serde_json::from_str::<Value>(&said(&output)).expect("JSON"), json!({"id": first, "inserted": false}));
    assert!(output.status.success());
    let output = cli(&it, &["--phone", "+15550142200", "--body", "fourth"]);
    assert!(said(&output).starts_with("queued job "), "{}", said(&output));
}

#[tokio::test]
async fn a_batch_tells_of_each_job_in_the_order_given() {
    let it = Database::create().await;
    let mut conn = it.pool().acquire().await.expect("a connection");
    let there = enqueue(&mut conn, &keyed("there", "old")).await.expect("enqueues");
    let batch = [
        plain("a"),
        keyed("b", "new"),
        keyed("c", "old"),
        plain("d"),
        keyed("e", "new"),
        keyed("f", "other"),
        plain("g"),
    ];
    let told = enqueue_many(&mut conn, &batch).await.expect("enqueues");

    assert_eq!(told.iter().map(|job| job.inserted).collect::<Vec<_>>(), [true, true, false, true, false, true, true]);
    assert_eq!((told[2].id, told[4].id), (there, told[1].id));
    let inserted: Vec<&Enqueued> = told.iter().filter(|job| job.inserted).collect();
    assert!(inserted.is_sorted_by(|a, b| a.id < b.id), "ids grow in the order given");
    for (job, told) in batch.iter().zip(&told).filter(|(_, told)| told.inserted) {
        let body: String = sqlx::query_scalar("select body from outbox.jobs where id = $1")
            .bind(told.id)
            .fetch_one(&mut *conn)
            .await
            .expect("the job is there");
        assert_eq!(body, job.body);
    }
    assert!(enqueue_many(&mut conn, &[]).await.expect("nothing to do").is_empty());
}

#[tokio::test]
async fn a_key_that_another_transaction_is_inserting_is_waited_for() {
    let it = Database::create().await;
    let mut first = it.pool().begin().await.expect("begins");
    let id = enqueue(&mut first, &keyed("first", "k")).await.expect("enqueues");
    let mut second = it.pool().begin().await.expect("begins");
    let batch = [keyed("second", "k")];
    let (told, committed) = tokio::join!(enqueue_many(&mut second, &batch), first.commit());
    committed.expect("commits");
    assert_eq!(told.expect("enqueues"), [Enqueued { id, inserted: false }]);
}

#[tokio::test]
async fn every_check_of_the_table_refuses_by_its_name() {
    let it = Database::create().await;
    // The constraint, then the columns that break it and no other.
    let table: Vec<(&str, &[(&str, &str)])> = vec![
        ("kind_is_send", &[("kind", "'recall'")]),
        ("phone_is_e164_like_plus15550142200", &[("phone", "'15550142200'")]),
        ("phone_is_e164_like_plus15550142200", &[("phone", "e'+15550142200\\n'")]),
        ("body_is_not_blank", &[("body", "e' \\n\\t'")]),
        ("body_is_at_most_20000_characters", &[("body", "repeat('é', 20001)")]),
        (
            "payload_is_an_object_of_name_external_id_attachments_effect",
            &[("payload", "'{\"idempotency_key\": \"x\"}'")],
        ),
        ("payload_name_is_text", &[("payload", "'{\"name\": 7}'")]),
        ("payload_external_id_is_text", &[("payload", "'{\"external_id\": 7}'")]),
        ("payload_effect_is_text", &[("payload", "'{\"effect\": {}}'")]),
        ("payload_attachments_is_a_list", &[("payload", "'{\"attachments\": \"att_1\"}'")]),
        ("payload_is_at_most_64_kilobytes", &[("payload", "jsonb_build_object('name', repeat('x', 65536))")]),
        ("dedupe_key_is_1_to_200_characters", &[("dedupe_key", "''")]),
        ("dedupe_key_is_1_to_200_characters", &[("dedupe_key", "repeat('é', 201)")]),
        ("phone_line_id_is_1_to_200_characters", &[("phone_line_id", "repeat('é', 201)")]),
        ("due_at_is_from_2000_to_2199", &[("due_at", "'-infinity'")]),
        ("due_at_is_from_2000_to_2199", &[("due_at", "'2200-01-01 00:00+00'")]),
        ("expires_at_is_before_2200", &[("expires_at", "'infinity'")]),
        ("expires_at_is_after_due_at", &[("expires_at", "now()")]),
        ("class_is_transactional_or_marketing", &[("class", "'newsletter'")]),
        ("max_attempts_is_1_to_100", &[("max_attempts", "0")]),
        ("max_attempts_is_1_to_100", &[("max_attempts", "101")]),
        ("labels_is_an_object", &[("labels", "'[]'")]),
        ("state_is_known", &[("state", "'lost'"), ("finished_at", "now()")]),
        ("reason_is_known", &[("reason", "'because'")]),
        ("lease_iff_sending", &[("lease_until", "now()")]),
        ("worker_iff_sending", &[("worker", "'w'")]),
        ("key_while_sending", &[("state", "'sending'"), ("lease_until", "now()"), ("worker", "'w'")]),
        ("finished_iff_terminal", &[("state", "'sent'")]),
        ("ready_only_while_queued", &[("ready", "true")]),
    ];
    for (constraint, broken) in &table {
        let sound = [("phone", "'+15550142200'"), ("body", "'Hi'")];
        let sound = sound.into_iter().filter(|(column, _)| !broken.iter().any(|(other, _)| other == column));
        let (columns, values): (Vec<&str>, Vec<&str>) = sound.chain(broken.iter().copied()).unzip();
        let sql = format!("insert into outbox.jobs ({}) values ({})", columns.join(", "), values.join(", "));
        let error = sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(it.pool()).await.expect_err(constraint);
        assert_eq!(error.as_database_error().and_then(|error| error.constraint()), Some(*constraint), "{broken:?}");
    }
    let sql = "select conname::text from pg_constraint where conrelid = 'outbox.jobs'::regclass and contype = 'c'";
    let constraints: Vec<String> = sqlx::query_scalar(sql).fetch_all(it.pool()).await.expect("constraints");
    let untried = constraints.iter().find(|name| !table.iter().any(|(constraint, _)| constraint == name));
    assert_eq!(untried, None, "a constraint without a case here");
    for (name, _) in InvalidJob::CONSTRAINTS {
        assert!(constraints.iter().any(|constraint| constraint == name), "{name} is no constraint of outbox.jobs");
    }
}

#[tokio::test]
async fn i12_a_refused_job_is_told_by_its_rule_and_by_nothing_it_holds() {
    let it = Database::create().await;
    let mut conn = it.pool().acquire().await.expect("a connection");
    let early = NewJob { expires_at: Some("2001-01-01T00:00:00Z".parse().expect("valid")), ..plain("private words") };
    let one = enqueue(&mut conn, &early).await.expect_err("the database refuses it");
    assert!(matches!(one, EnqueueError::Invalid(InvalidJob::ExpiresBeforeDue)), "{one}");
    assert!(enqueue_many(&mut conn, std::slice::from_ref(&early)).await.expect_err("refused").is_about_a_job());

    let own = "alter table outbox.jobs add constraint no_private_words check (body not like 'private%')";
    sqlx::raw_sql(own).execute(&mut *conn).await.expect("alters");
    let own = enqueue(&mut conn, &plain("private words")).await.expect_err("the database refuses it");
    assert_eq!(own.to_string(), "the job cannot be queued: it breaks the rule no_private_words of outbox.jobs");
    sqlx::raw_sql("alter table outbox.jobs add column needed int not null").execute(&mut *conn).await.expect("alters");
    let null = enqueue(&mut conn, &plain("Hi")).await.expect_err("the database refuses it");

    let blank = enqueue_many(&mut conn, &[plain("ok"), plain(" ")]).await.expect_err("refused");
    assert_eq!(blank.to_string(), "job 2 of the batch cannot be queued: body is blank: write the text to send");
    for error in [one, own, null, blank] {
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("private words") && !shown.contains("+15550142200,"), "{shown}");
    }
}

#[tokio::test]
async fn a_file_with_bad_lines_is_in_but_for_those() {
    let it = Database::create().await;
    let csv = "\u{feff}phone,body,dedupe_key,expires_at\r\n\
               +15550142200,one,k1,\r\n\
               15550142299,secret words,,\r\n\
               +15550142201,\"two\r\nlines\",k2,\r\n\
               +15550142202,again,k1,\r\n\
               +15550142203,too late,,2001-01-01T00:00:00Z\r\n\
               +15550142204,\"open,,\r\n\
               +15550142205,last,,\r\n";
    let (dir, path) = file("people.csv", csv);
    let output = cli(&it, &["--file", text(&path)]);
    let rejects = dir.path().join("people.csv.rejects.csv");
    assert_eq!(said(&output), format!("enqueued 3 · already there 1 · rejected 3 (see {})", rejects.display()));
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(bodies(&it).await, ["one", "two\r\nlines", "last"]);
    let listed = std::fs::read_to_string(&rejects).expect("listed");
    assert_eq!(
        listed,
        "line,field,reason\n\
         3,phone,\"phone is not E.164: write + and the country code, then only digits, 7 to 15 in all, e.g. +15550142200\"\n\
         7,expires_at,\"expires_at is not after due_at: let the job expire later, or leave expires_at out\"\n\
         8,line,has a quote that is not closed: write a quote inside quotes twice\n"
    );
    assert!(!complained(&output).contains("secret words"));

    let mine = dir.path().join("mine.csv");
    let output = cli(
        &it,
        &["--file", text(&path), "--rejects", text(&mine), "--rejects-with-rows", "--skip-lines", "2", "--json"],
    );
    let summary: Value = serde_json::from_str(&said(&output)).expect("JSON");
    let expected =
        json!({"enqueued": 1, "already_there": 2, "rejected": 3, "rejects": text(&mine), "complete": true, "lines": 9});
    assert_eq!(summary, expected);
    let listed = std::fs::read_to_string(&mine).expect("listed");
    assert!(
        listed.starts_with("line,field,reason,row\n3,") && listed.contains("\"15550142299,secret words,,\""),
        "{listed}"
    );
}

#[tokio::test]
async fn json_lines_with_bad_lines_are_in_but_for_those() {
    let it = Database::create().await;
    let lines = "{\"phone\":\"+15550142200\",\"body\":\"one\",\"labels\":{\"n\":1}}\n\
                 {\"phone\":\"+15550142200\",\"body\":\"nul \\u0000\"}\n\
                 {\"phone\":\"+15550142200\",\n\
                 {\"phone\":\"+15550142200\",\"body\":\"two\"}\n";
    let (dir, path) = file("people.ndjson", lines);
    let output = cli(&it, &["--file", text(&path)]);
    assert!(said(&output).starts_with("enqueued 2 · already there 0 · rejected 2"), "{}", said(&output));
    assert_eq!(bodies(&it).await, ["one", "two"]);
    let listed = std::fs::read_to_string(dir.path().join("people.ndjson.rejects.csv")).expect("listed");
    assert!(listed.contains("\n2,body,") && listed.contains("\n3,line,"), "{listed}");
}

#[tokio::test]
async fn a_file_that_is_not_ours_is_refused_whole_and_a_good_one_leaves_no_rejects() {
    let it = Database::create().await;
    let (_dir, path) = file("people.csv", "phone,body,nmae\n+15550142200,Hi,Ann\n");
    let output = cli(&it, &["--file", text(&path)]);
    assert_eq!(output.status.code(), Some(1));
    assert!(complained(&output).contains("`nmae`") && complained(&output).contains("nothing was enqueued"));
    assert!(bodies(&it).await.is_empty());

    let (dir, path) = file("people.csv", "phone,body\n+15550142200,Hi\n");
    let output = cli(&it, &["--file", text(&path)]);
    assert_eq!((said(&output).as_str(), output.status.code()), ("enqueued 1 · already there 0 · rejected 0", Some(0)));
    assert_eq!(std::fs::read_dir(dir.path()).expect("listed").count(), 1);
    assert_eq!(cli(&it, &["--file", "people.txt"]).status.code(), Some(1));
    assert_eq!(cli(&it, &["--file", "a.csv", "--phone", "+15550142200"]).status.code(), Some(2));
    let blank = cli(&it, &["--phone", "+15550142200", "--body", " "]);
    assert_eq!(complained(&blank), "error: body is blank: write the text to send");
    let bad = cli(&it, &["--phone", "0123456", "--body", "Hi"]);
    assert!(bad.status.code() == Some(1) && !complained(&bad).contains("0123456"), "{}", complained(&bad));
}

/// A trigger plays the fault, so that it strikes at a row of our choice.
async fn when_body_is_bad(database: &Database, fault: &str) {
    let sql = format!(
        "create function bad() returns trigger language plpgsql as $$
         begin if new.body = 'bad' then {fault}; end if; return new; end $$;
         create trigger bad before insert on outbox.jobs for each row execute function bad();"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(database.pool()).await.expect("creates");
}

fn numbered_lines(count: usize, bad: usize) -> String {
    let body = |n: usize| if n == bad { "bad".to_owned() } else { format!("job {n}") };
    let lines = (1..=count).map(|n| format!("+15550142200,{}\n", body(n)));
    std::iter::once("phone,body\n".to_owned()).chain(lines).collect()
}

#[tokio::test]
async fn a_row_that_only_the_database_refuses_costs_no_other() {
    let it = Database::create().await;
    when_body_is_bad(&it, "raise exception 'not this one'").await;
    let (dir, path) = file("people.csv", &numbered_lines(1_500, 700));
    let output = cli(&it, &["--file", text(&path)]);
    assert!(said(&output).starts_with("enqueued 1,499 · already there 0 · rejected 1"), "{}", complained(&output));
    let listed = std::fs::read_to_string(dir.path().join("people.csv.rejects.csv")).expect("listed");
    assert_eq!(listed, "line,field,reason\n701,line,inserting into outbox.jobs: not this one\n");
    let in_order: Vec<String> = (1..=1_500).filter(|n| *n != 700).map(|n| format!("job {n}")).collect();
    assert_eq!(bodies(&it).await, in_order);
}

#[tokio::test]
async fn i01_an_import_that_lost_the_database_goes_on_where_it_stopped() {
    let it = Database::create().await;
    when_body_is_bad(&it, "perform pg_terminate_backend(pg_backend_pid())").await;
    let (_dir, path) = file("people.csv", &numbered_lines(2_500, 1_700));
    let output = cli(&it, &["--file", text(&path), "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let summary: Value = serde_json::from_str(&said(&output)).expect("JSON");
    assert_eq!(
        (&summary["enqueued"], &summary["lines"], &summary["complete"]),
        (&json!(1_000), &json!(1_001), &json!(false))
    );
    assert!(complained(&output).contains("--skip-lines 1001"), "{}", complained(&output));
    assert_eq!(bodies(&it).await.len(), 1_000);

    sqlx::raw_sql("drop trigger bad on outbox.jobs").execute(it.pool()).await.expect("drops");
    let output = cli(&it, &["--file", text(&path), "--skip-lines", "1001"]);
    assert_eq!(said(&output), "enqueued 1,500 · already there 0 · rejected 0", "{}", complained(&output));
    assert_eq!(bodies(&it).await.len(), 2_500);
}

/// Runs a command and gives why it did not work, if it did not.
fn try_run(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    if output.status.success() { Ok(said(&output)) } else { Err(complained(&output)) }
}

/// A folder that stays between runs, for the drivers of other languages.
fn drivers(language: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(language);
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

async fn has_the_jobs_of_the_examples(database: &Database, printed: &str) {
    assert_eq!(bodies(database).await, ["Thank you for your order!", "Order 1001 is on its way."]);
    let id: i64 = sqlx::query_scalar(
        "select id from outbox.jobs where dedupe_key = 'order-1001-shipped' and payload = '{\"name\": \"Ann\"}'",
    )
    .fetch_one(database.pool())
    .await
    .expect("the keyed job is there");
    assert_eq!(printed, format!("queued job {id}"));
}

#[tokio::test]
async fn the_python_example_works() {
    let folder = drivers("python");
    let python = folder.join("bin/python");
    let has_driver = || try_run(Command::new(&python).args(["-c", "import psycopg"]));
    let had = has_driver().or_else(|_| {
        try_run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
        try_run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "psycopg[binary]"]))?;
        has_driver()
    });
    if let Err(why) = had {
        return eprintln!("skipped, python3 or psycopg cannot be had: {why}");
    }
    let it = Database::create().await;
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/examples/insert.py");
    let printed = try_run(Command::new(&python).arg(example).env("DATABASE_URL", it.url())).expect("the example runs");
    has_the_jobs_of_the_examples(&it, &printed).await;
}

#[tokio::test]
async fn the_node_example_works() {
    let folder = drivers("node");
    let had = if folder.join("node_modules/pg").is_dir() {
        try_run(Command::new("node").arg("--version"))
    } else {
        try_run(
            Command::new("npm")
                .args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"])
                .arg(&folder)
                .arg("pg"),
        )
    };
    if let Err(why) = had {
        return eprintln!("skipped, node or pg cannot be had: {why}");
    }
    let it = Database::create().await;
    // Node looks for packages beside the script and above; another run may be at the same example.
    let beside = tempfile::tempdir_in(&folder).expect("a directory");
    let script = beside.path().join("insert.mjs");
    std::fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/examples/insert.mjs"), &script).expect("copied");
    let printed = try_run(Command::new("node").arg(&script).env("DATABASE_URL", it.url())).expect("the example runs");
    has_the_jobs_of_the_examples(&it, &printed).await;
}
