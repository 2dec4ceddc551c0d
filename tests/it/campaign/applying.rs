//! Applying: planned first, and asked about; in a pipeline by --yes alone.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::campaign::{ANN, BOB, CID, file};
use crate::harness::Harness;

const HI: &str = "[{ send: { body: Hi } }]";
const TWO: &str = "schedule: { manual: true }\n\
     audience: { sql: \"select '+1555014220' || n as phone from generate_series(0, 1) n\" }";

async fn campaigns(it: &Harness) -> String {
    it.text("select name || version from outbox.campaigns order by name").await
}

#[tokio::test]
async fn where_nobody_can_be_asked_only_yes_applies_what_is_new() {
    let it = Harness::start().await;
    let directory = tempfile::tempdir().expect("made");
    let path = directory.path().join("drip.yaml");
    std::fs::write(&path, file(TWO, HI)).expect("written");
    let path = path.to_str().expect("UTF-8");
    for args in [&["campaign", "apply", path] as &[&str], &["campaign", "apply", path, "--json"]] {
        let (code, _, error) = it.run(args).await;
        assert!(
            code == 1 && error.contains("1 of 1 file would change something, and there is nobody to ask"),
            "{error}"
        );
    }
    assert_eq!(campaigns(&it).await, "");
    let (code, told, error) = it.run(&["campaign", "apply", path, "--yes", "--json"]).await;
    assert!(code == 0 && told.contains("\"version\": 1"), "{told} {error}");
    let (code, told, error) = it.run(&["campaign", "apply", path]).await;
    assert!(
        code == 0 && told.contains("version 1 is as it was"),
        "nothing is asked where nothing is new: {told} {error}"
    );
}

#[tokio::test]
async fn the_days_of_a_calendar_beside_the_file_go_with_the_version() {
    let it = Harness::start().await;
    let directory = tempfile::tempdir().expect("made");
    let at = |name: &str| directory.path().join(name);
    let day = "to_char(now() at time zone 'UTC' + n * interval '1 day', 'YYYY-MM-DD')";
    let days = it.text(&format!("select string_agg({day} || ' ours', E'\\n') from generate_series(0, 6) n")).await;
    std::fs::write(at("holidays.txt"), &days).expect("written");
    let steps = "[{ send: { body: Hi } }, { wait: next business day }, { send: { body: Bye } }]";
    std::fs::write(at("drip.yaml"), file("calendar: holidays.txt", steps)).expect("written");
    let path = at("drip.yaml");
    let path = path.to_str().expect("UTF-8");
    let apply = async || it.run(&["campaign", "apply", path, "--yes"]).await;
    assert_eq!(apply().await.0, 0);
    std::fs::write(at("holidays.txt"), format!("{days}\n2020-01-01 and another\n")).expect("written");
    let (code, told, error) = apply().await;
    assert!(code == 0 && told.contains("version 2 is applied"), "another day is another version: {told} {error}");
    std::fs::remove_file(at("holidays.txt")).expect("removed");
    let (code, _, error) = apply().await;
    assert!(code == 1 && error.contains("calendar: ") && error.contains("holidays.txt"), "{error}");
    it.enrol(ANN).await;
    it.settle(&it.engine()).await;
    it.drain().await;
    it.settle(&it.engine()).await;
    let waits = "select (reached_at > now() + interval '6 days')::text from outbox.enrolments";
    assert_eq!(it.text(waits).await, "true", "whoever works needs no file");
}

#[tokio::test]
async fn at_a_terminal_the_plan_is_shown_and_the_answer_counts() {
    let it = Harness::start().await;
    let directory = tempfile::tempdir().expect("made");
    let write = |name: &str, source: String| {
        let path = directory.path().join(name);
        std::fs::write(&path, source).expect("written");
        path.to_str().expect("UTF-8").to_owned()
    };
    let drip = write("drip.yaml", file(TWO, HI));
    let other = write("other.yaml", file("", HI).replace("name: drip", "name: other"));
    for (answer, code, applied) in [("n\n", 1, ""), ("\n", 1, ""), ("y\n", 0, "drip1 other1")] {
        let (exit, told) = at_terminal(&it, &["campaign", "apply", &drip, &other], answer).await;
        assert_eq!((exit, campaigns(&it).await.as_str()), (code, applied), "{told}");
        for shown in
            ["new contacts", "last message", "other: the application enrols its people", "apply 2 files [y/N]?"]
        {
            assert!(told.contains(shown), "{shown}: {told}");
        }
    }
    let drip = write("drip.yaml", file(TWO, "[{ send: { body: Hello } }]"));
    let (exit, told) = at_terminal(&it, &["campaign", "apply", &drip, &other], "yes\n").await;
    assert_eq!((exit, campaigns(&it).await.as_str()), (0, "drip2 other1"), "{told}");
    assert!(told.contains("apply 1 file [y/N]?") && !told.contains("other: the application"), "{told}");
}

#[tokio::test]
async fn the_short_plan_tells_who_is_lost_and_warnings_are_told_by_plan_and_apply() {
    let it = Harness::start().await;
    let directory = tempfile::tempdir().expect("made");
    let path = directory.path().join("drip.yaml");
    let twice = "[{ send: { body: Hi }, name: hello }, { wait: 1d }, { send: { body: Hi } }]";
    let write = |more: &str| {
        let source = file(&format!("{TWO}{more}"), twice).replace("transactional", "marketing");
        std::fs::write(&path, source).expect("written");
        path.to_str().expect("UTF-8")
    };
    let warning = format!("{}:1:1: messages go out at night as well — ", path.display());
    for (more, lost) in [
        ("", "2 people would get the very same text twice"),
        ("\nlines: { pinned_only: true }", "no text at hello: 2 not_pinned"),
    ] {
        let (_, told) = at_terminal(&it, &["campaign", "apply", write(more)], "n\n").await;
        assert!(told.contains(lost) && told.contains(&warning) && told.contains("(warning)"), "{lost}: {told}");
    }
    let path = write("");
    for args in [&["campaign", "plan", path][..], &["campaign", "apply", path, "--yes", "--json"]] {
        let (code, told, error) = it.run(args).await;
        assert!(code == 0 && error.contains(&warning) && !told.contains("at night"), "{told} {error}");
    }
}

#[tokio::test]
async fn a_query_that_postgres_does_not_plan_is_refused_with_its_place_and_what_was_meant() {
    let it = Harness::start().await;
    it.execute("create table people (phone text, name text)").await;
    let directory = tempfile::tempdir().expect("made");
    let path = directory.path().join("drip.yaml").display().to_string();
    let meant = "Perhaps you meant to reference the column \"people.phone\".";
    for (query, told) in [
        ("select phon, name", format!(":6:12: audience.sql: column \"phon\" does not exist — {meant}")),
        ("select name, phone, from people --", ":6:25: audience.sql: syntax error at or near \"from\" — ".to_owned()),
        ("select name", ":6:5: audience.sql: the query brings no column named phone — ".to_owned()),
        ("select people.*, phone", ":6:5: audience.sql: the query brings two columns named phone — ".to_owned()),
        ("select phone, nobody(name)", ":6:19: audience.sql: function nobody(text) does not exist — ".to_owned()),
    ] {
        let audience = format!("audience:\n  sql: |\n    {query}\n      from people;\nschedule: {{ manual: true }}");
        std::fs::write(&path, file(&audience, HI)).expect("written");
        for args in [&["campaign", "plan", &path][..], &["campaign", "apply", &path, "--yes"]] {
            let (code, _, error) = it.run(args).await;
            assert!(code == 1 && error.contains(&format!("{path}{told}")), "{query}: {error}");
        }
        assert_eq!(campaigns(&it).await, "");
    }
}

#[tokio::test]
async fn what_looks_wrong_by_its_time_or_with_its_csv_is_told_by_plan_and_apply_too() {
    let it = Harness::start().await;
    let directory = tempfile::tempdir().expect("made");
    let at = |name: &str| directory.path().join(name).display().to_string();
    let (path, csv) = (at("drip.yaml"), at("people.csv"));
    let more =
        "audience: { csv: people.csv }\nschedule: { at: 2020-01-01T10:00 }\nvariables: { coach: { missing: skip } }";
    std::fs::write(&path, file(more, "[{ send: { body: 'Hi from {{ coach }}' } }]")).expect("written");
    let passed = "schedule.at: this time has passed — write a later time (warning)";
    let lacks = "audience.csv: the file has no column `coach`, so that everybody is left out";
    let nobody = "audience.csv: the file has no people — ";
    for (people, warnings) in
        [(format!("phone\n{ANN}\n"), [passed, lacks]), ("phone,coach\n".to_owned(), [passed, nobody])]
    {
        std::fs::write(&csv, people).expect("written");
        for (args, code) in [
            (&["campaign", "plan", &path][..], 0),
            (&["campaign", "plan", &path, "--strict"], 3),
            (&["campaign", "apply", &path, "--yes"], 0),
        ] {
            let (exit, told, error) = it.run(args).await;
            assert!(exit == code && warnings.iter().all(|warning| error.contains(warning)), "{args:?}: {told}{error}");
            let says = "Its time has passed, and it fires no more by itself";
            assert_eq!(told.contains(says), args[1] == "plan", "{told}");
        }
    }
    std::fs::write(&csv, format!("phone,coach\n{ANN},Bob\n")).expect("written");
    let strict = async |args: &[&str]| it.run(&[&["campaign", "plan", &path, "--strict"], args].concat()).await.0;
    assert_eq!((strict(&[]).await, strict(&["--from", "2020-01-01T10:00:00Z"]).await), (3, 0));
}

#[tokio::test]
async fn what_is_wrong_with_any_of_the_files_is_told_at_once() {
    let it = Harness::start().await;
    let directory = tempfile::tempdir().expect("made");
    let write = |name: &str, source: String| {
        let path = directory.path().join(name).display().to_string();
        std::fs::write(&path, source.replace("name: drip", &format!("name: {name}"))).expect("written");
        path
    };
    let all = async |paths: [String; 3], told: [&str; 2]| {
        let (code, _, error) = it.run(&["campaign", "apply", &paths[0], &paths[1], &paths[2], "--yes"]).await;
        assert!(code == 1 && told.iter().all(|told| error.contains(told)), "{error}");
        assert_eq!(campaigns(&it).await, "");
    };
    let good = write("good", file(TWO, HI));
    let csv = file("audience: { csv: nowhere.csv }\nschedule: { manual: true }", HI);
    let paths = [write("one", file(TWO, "[{ sned: { body: Hi } }]")), good.clone(), write("two", csv)];
    all(paths, ["steps[0]", "nowhere.csv"]).await;
    let sql = |sql: &str| file(&format!("schedule: {{ manual: true }}\naudience: {{ sql: {sql} }}"), HI);
    let pool = file(&format!("{TWO}\nlines: {{ pool: [pl_99] }}"), HI);
    all(
        [write("three", sql("select phon")), good, write("four", pool)],
        ["\"phon\" does not exist", "no line `pl_99`"],
    )
    .await;
}

#[tokio::test]
async fn of_a_campaign_that_does_not_run_that_is_said_before_its_plan() {
    let it = Harness::start().await;
    let directory = tempfile::tempdir().expect("made");
    let path = directory.path().join("drip.yaml").display().to_string();
    it.apply(&file(TWO, HI)).await;
    std::fs::write(&path, file(TWO, "[{ send: { body: Hello } }]")).expect("written");
    let says = "drip is paused, and stays so: nothing of this comes about before campaign resume drip";
    for paused in [false, true] {
        let (_, told) = at_terminal(&it, &["campaign", "apply", &path], "n\n").await;
        assert!(told.contains(says) == paused && told.contains("first message"), "{told}");
        it.run(&["campaign", "pause", "drip"]).await;
    }
}

#[tokio::test]
async fn a_file_that_is_being_stored_holds_up_no_pause_and_applies_at_once_come_one_after_the_other() {
    let it = Harness::start().await;
    let directory = tempfile::tempdir().expect("made");
    let write = |name: &str, number: &str| {
        let at = directory.path().join(name);
        std::fs::create_dir_all(&at).expect("made");
        std::fs::write(at.join("people.csv"), format!("phone\n{number}\n")).expect("written");
        let source = file("audience: { csv: people.csv }\nschedule: { manual: true }", HI);
        std::fs::write(at.join("drip.yaml"), source).expect("written");
        at.join("drip.yaml").to_str().expect("UTF-8").to_owned()
    };
    let (a, b, c) = (write("a", ANN), write("b", BOB), write("c", CID));
    let apply = async |path: &str| {
        let (code, told, error) = it.run(&["campaign", "apply", path, "--yes"]).await;
        assert_eq!(code, 0, "{error}");
        told
    };
    apply(&a).await;
    let mut holder = it.pool().begin().await.expect("begins");
    sqlx::query("lock table outbox.audience_rows in share mode").execute(&mut *holder).await.expect("locked");
    let pausing = async {
        let waits = "select count(*) from pg_locks where not granted and relation = 'outbox.audience_rows'::regclass";
        it.until("both store their people", || async { it.scalar(waits).await == 2 }).await;
        let pause = it.run(&["campaign", "pause", "drip"]);
        let paused = tokio::time::timeout(Duration::from_secs(10), pause).await.expect("it waits for no file");
        assert_eq!(paused.0, 0, "{}", paused.2);
        // The second finds what the first has put in, also where both wait for the campaign already.
        let mut first = it.pool().begin().await.expect("begins");
        sqlx::query("select * from outbox.campaigns for update").execute(&mut *first).await.expect("locked");
        holder.rollback().await.expect("let go");
        let waits =
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
        it.until("both wait for the campaign", || async { it.scalar(waits).await == 2 }).await;
        first.rollback().await.expect("let go");
    };
    let (one, other, ()) = tokio::join!(apply(&b), apply(&b), pausing);
    let told = [one, other].concat();
    assert!(told.contains("version 2 is applied, paused") && told.contains("version 2 is as it was, paused"), "{told}");
    assert_eq!(it.text("select phone from outbox.audience_rows order by phone").await, format!("{ANN} {BOB}"));
    tokio::join!(apply(&a), apply(&c));
    let versions = "select string_agg(r.phone, ' ' order by r.phone) from outbox.campaign_versions v join outbox.audience_rows r using (audience)";
    assert_eq!(it.text(versions).await, format!("{ANN} {ANN} {BOB} {CID}"), "each has its own people");
    assert_eq!(it.scalar("select version::bigint from outbox.campaigns").await, 4);
}

#[tokio::test]
async fn two_files_of_one_name_are_no_two_versions() {
    let it = Harness::start().await;
    let directory = tempfile::tempdir().expect("made");
    let paths = ["first.yaml", "second.yaml"].map(|name| directory.path().join(name).display().to_string());
    for (path, text) in paths.iter().zip(["one", "two"]) {
        std::fs::write(path, file("", &format!("[{{ send: {{ body: {text} }} }}]"))).expect("written");
    }
    let (code, _, error) = it.run(&["campaign", "apply", &paths[0], &paths[1], "--yes"]).await;
    let told = format!("{}:1:1: the campaign `drip` is in {} already — give it a name of its own", paths[1], paths[0]);
    assert!(code == 1 && error.contains(&told), "{error}");
    assert_eq!(campaigns(&it).await, "");
}

/// Runs the binary at a terminal of its own, and answers.
pub async fn at_terminal(it: &Harness, args: &[&str], answer: &str) -> (i32, String) {
    at_terminal_of(it, 150, args, answer).await
}

/// The same, at one that says that it has so many columns.
pub async fn at_terminal_of(it: &Harness, columns: u16, args: &[&str], answer: &str) -> (i32, String) {
    let binary = it.binary();
    let program = binary.as_std().get_program().to_str().expect("UTF-8");
    let line = [&[program], args].concat().iter().map(|arg| format!("'{arg}'")).collect::<Vec<_>>().join(" ");
    let line = format!("stty columns {columns}; exec {line}");
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    for (name, value) in binary.as_std().get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("script, of util-linux, gives a terminal");
    let mut input = child.stdin.take().expect("piped");
    input.write_all(answer.as_bytes()).await.expect("answered");
    let waiting = child.wait_with_output();
    let output = tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("it ends").expect("it ran");
    drop(input);
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stdout).into_owned())
}
