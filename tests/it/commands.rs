//! The commands as scripts hold them: these exact calls, their output and their exit codes.

use serde_json::Value;

use crate::harness::Harness;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[tokio::test]
async fn the_calls_that_scripts_hold_work() {
    let it = Harness::start().await;
    it.execute("delete from outbox.lines where id <> '*'").await;
    let directory = tempfile::tempdir().expect("made");
    let people = directory.path().join("people.csv");
    std::fs::write(&people, "phone,body,name\n+15550142201,Hello Ann,Ann\n+15550142202,\"Hello, Bob\",Bob\n")
        .expect("written");
    for (args, told) in [
        (vec!["migrate"], "the outbox is up to date"),
        (vec!["lines", "sync"], "5 lines: 5 new, 0 gone"),
        (
            vec!["lines", "set", "--all", "--rate", "20/s", "--first-touch-gap", "0s", "--first-touch-cap", "none"],
            "set 5 lines",
        ),
        (vec!["enqueue", "--phone", "+15550142200", "--body", "Hi"], "queued job 1"),
        (vec!["enqueue", "--file", people.to_str().expect("UTF-8")], "enqueued 2"),
        (vec!["worker", "--drain"], "3 sent, 0 failed\nnothing remains"),
        (vec!["status"], "sent  3"),
    ] {
        let (code, out, error) = it.run(&args).await;
        let text: String = out
            .split_inclusive('\n')
            .map(|line| {
                line.split("  ").map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("  ") + "\n"
            })
            .collect();
        assert!(code == 0 && (out.contains(told) || text.contains(told)), "{args:?}: {code} {out} {error}");
    }
    let (_, status, _) = it.run(&["status", "--json"]).await;
    let status = json(&status);
    assert_eq!((&status["jobs"]["sent"], &status["jobs"]["queued"]), (&3.into(), &0.into()));
    assert_eq!(status["account"]["blocked"], false);
    assert_eq!(status["lines"].as_array().map(Vec::len), Some(6), "five, and the one for lines to come");
    assert!(status["workers"].as_array().is_some_and(Vec::is_empty), "a drained worker takes itself off the list");
    let (_, failed, _) = it.run(&["jobs", "list", "--state", "failed", "--json"]).await;
    assert_eq!(json(&failed), Value::Array(Vec::new()));
}

#[tokio::test]
async fn a_drain_with_failed_jobs_ends_with_3_and_says_what_remains_and_why() {
    let it = Harness::start().await;
    it.execute(
        "insert into outbox.jobs (phone, body, due_at) values
         ('+15550001234', 'no such phone', now()), ('+15550142200', 'tomorrow', now() + interval '1 day')",
    )
    .await;
    let (code, out, _) = it.run(&["worker", "--drain"]).await;
    assert_eq!(code, 3);
    assert!(
        out.contains("0 sent, 1 failed") && out.contains("1 remains for later") && out.contains("not_due: due later"),
        "{out}"
    );
    let (_, failed, _) = it.run(&["jobs", "list", "--state", "failed", "--json"]).await;
    let failed = json(&failed);
    assert_eq!((&failed[0]["error_code"], &failed[0]["phone"]), (&1003.into(), &"+1******1234".into()));
}

#[tokio::test]
async fn a_job_can_be_shown_tried_again_and_canceled() {
    let it = Harness::start().await;
    it.execute(
        "insert into outbox.jobs (phone, body, payload) values ('+15550142200', 'Hi', '{\"effect\":\"unheard-of\"}')",
    )
    .await;
    let later = it.insert("+15550142201", "later").await;
    it.execute("update outbox.lines set paused_at = now(), paused_reason = 'flagged'").await;
    let worker = it.worker(&[]).await;
    it.until("both stand ready", || async { it.count("ready").await == 2 }).await;
    worker.stop().await;
    let (_, shown, _) = it.run(&["jobs", "show", &later.to_string()]).await;
    assert!(shown.contains("line_paused: its line is paused") && shown.contains("no attempt yet"), "{shown}");
    assert_eq!(it.run(&["jobs", "cancel", &later.to_string()]).await.1, "job 2 is canceled\n");
    let (code, _, error) = it.run(&["jobs", "cancel", &later.to_string()]).await;
    assert_eq!((code, error.as_str()), (1, "error: job 2 is canceled: only a queued job can be canceled\n"));
    assert_eq!(it.run(&["lines", "resume", "--all"]).await.0, 0);

    it.drain().await;
    let (_, shown, _) = it.run(&["jobs", "show", "1"]).await;
    assert!(shown.contains("4098") && shown.contains("allowed_effects") && shown.contains("rejected"), "{shown}");
    it.execute("update outbox.jobs set payload = '{}', idempotency_key = null where id = 1").await;
    assert_eq!(it.run(&["jobs", "retry", "1", "2"]).await.1, "job 1 is queued again\njob 2 is queued again\n");
    it.drain().await;
    it.each_sent_once(2).await;
    let (code, _, error) = it.run(&["jobs", "show", "99"]).await;
    assert_eq!((code, error.as_str()), (1, "error: there is no job 99\n"));
}

#[tokio::test]
async fn errors_are_one_sentence_that_says_what_to_do() {
    let it = Harness::start().await;
    for (args, env, told) in [
        (
            vec!["status"],
            ("DATABASE_URL", ""),
            "error: DATABASE_URL is not set: put the address of your database there",
        ),
        (vec!["status"], ("DATABASE_URL", "mysql://x"), "error: DATABASE_URL does not look like postgres://"),
        (vec!["worker"], ("CHERT_SIGNING_SECRET", ""), "error: CHERT_SIGNING_SECRET is not set"),
        (vec!["worker"], ("CHERT_AUTH", "hmac"), "error: CHERT_TENANT is not set"),
        (vec!["worker"], ("OUTBOX_LEASE", "10s"), "error: OUTBOX_LEASE must be at least 32s 500ms"),
        (vec!["worker"], ("CHERT_BASE_URL", "nowhere"), "error: CHERT_BASE_URL: the base URL must look like https://"),
        (
            vec!["lines", "pause", "pl_99"],
            ("X", ""),
            "error: there is no line 'pl_99': chert-outbox lines list shows those there are",
        ),
        (vec!["lines", "set", "pl_1", "--time-zone", "Mars"], ("X", ""), "error: 'Mars' is not a time zone"),
        (vec!["enqueue", "--phone", "555", "--body", "Hi"], ("X", ""), "error: phone is not E.164"),
    ] {
        let output = it.binary().env(env.0, env.1).args(&args).output().await.expect("runs");
        let error = String::from_utf8(output.stderr).expect("UTF-8");
        assert!(error.starts_with(told) && error.trim().lines().count() == 1, "{args:?} {env:?}: {error}");
        assert_eq!(output.status.code(), Some(1));
    }
    for usage in [
        vec!["lines", "set", "--all"],
        vec!["lines", "set", "--all", "--rate", "fast"],
        vec!["send"],
        vec!["jobs", "list", "--state", "lost"],
    ] {
        assert_eq!(it.run(&usage).await.0, 2, "{usage:?}");
    }
}

#[tokio::test]
async fn i12_no_secret_number_or_body_reaches_a_log() {
    let it = Harness::start().await;
    it.next_faults([
        chert_outbox::simulate::Fault::DropAfter,
        chert_outbox::simulate::Fault::Raw {
            status: 400,
            body: r#"{"code":1003,"retryable":false,"message":"+15550142200 is bad"}"#.into(),
        },
    ]);
    it.insert("+15550142200", "a very private text").await;
    let mut command = it.binary();
    command.env("RUST_LOG", "trace,hyper_util=info,sqlx=info").args(["worker", "--drain"]);
    let output = command.output().await.expect("runs");
    let (_, shown, _) = it.run(&["jobs", "show", "1"]).await;
    let log = format!("{}{}{shown}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(log.contains("Job 1"), "it does log: {log}");
    for secret in ["5550142200", "private text", chert_outbox::simulate::DEFAULT_SECRET] {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
}
