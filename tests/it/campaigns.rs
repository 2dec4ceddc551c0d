//! `campaign check` and `campaign schema` as pipelines hold them: neither needs a database.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

const JOBS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/jobs");

/// Exit code and output of `chert-outbox campaign …` in a directory, without a database.
fn campaign(directory: &Path, args: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chert-outbox"));
    let output = command.arg("campaign").args(args).current_dir(directory).env_remove("DATABASE_URL").output();
    let output = output.expect("the binary is there");
    (output.status.code().expect("it ends by itself"), String::from_utf8(output.stdout).expect("UTF-8"))
}

#[test]
fn the_examples_pass_and_say_when_they_fire() {
    let files = ["welcome.yaml", "weekly-check-in.yaml", "win-back.yaml", "announcement.yaml"];
    let from = ["check", "--strict", "--from", "2027-02-20T00:00:00Z"];
    let (code, out) = campaign(JOBS.as_ref(), &[&from[..], &files[..]].concat());
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("4 files: 4 good, 0 with errors; 0 warnings"), "{out}");
    assert!(out.contains("weekly-check-in: next 10 fires (America/Chicago)"), "{out}");
    for line in [
        "Mon 2027-03-08 08:30:00 CST   2027-03-08T14:30:00Z",
        "Mon 2027-03-15 08:30:00 CDT   2027-03-15T13:30:00Z",
        "Tue 2027-06-01 10:00:00 PDT   2027-06-01T17:00:00Z",
    ] {
        assert!(out.contains(line), "{line} in {out}");
    }
}

/// The announcement has a date: a check as of now would fail from then on.
#[test]
fn the_pipeline_checks_the_examples_as_of_an_instant() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pipeline = std::fs::read_to_string(root.join(".ci/run")).expect("it is there");
    let checks = |line: &&str| line.starts_with("\"$binary\" campaign check");
    let check = pipeline.lines().find(checks).expect("it checks them");
    let (flags, files) = check.split_once(" --strict ").expect("warnings fail").1.rsplit_once(' ').expect("flags");
    assert!(flags.starts_with("--from ") && files == "jobs/*.yaml", "{check}");
    let names = ["welcome.yaml", "weekly-check-in.yaml", "win-back.yaml", "announcement.yaml"];
    let args: Vec<&str> = ["check", "--strict"].into_iter().chain(flags.split(' ')).chain(names).collect();
    let (code, out) = campaign(JOBS.as_ref(), &args);
    assert_eq!(code, 0, "{out}");
}

#[test]
fn the_schema_beside_the_examples_is_the_one_that_is_printed() {
    let (code, out) = campaign(JOBS.as_ref(), &["schema"]);
    let beside = std::fs::read_to_string(format!("{JOBS}/campaign.schema.json")).expect("it is there");
    assert_eq!((code, out), (0, beside));
}

#[test]
fn what_is_wrong_is_told_by_file_line_and_column_and_fails() {
    let directory = tempfile::tempdir().expect("made");
    let good = std::fs::read_to_string(format!("{JOBS}/announcement.yaml")).expect("it is there");
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).expect("written");
    write("good.yaml", &good);
    write("bad.yaml", &good.replace("zone: America", "zone: Amerika").replace("{{ first_name |", "{{ firstname |"));
    write("twin.yaml", &good);
    write("warned.yaml", &good.replace("summer-opening", "warned").replace("  pinned_only: true\n", ""));
    std::fs::write(directory.path().join("latin.yaml"), b"name: a\nzone: \xe9\n").expect("written");
    let run =
        |args: &[&str]| campaign(directory.path(), &[&["check", "--from", "2027-01-01T00:00:00Z"], args].concat());

    let (code, out) = run(&["good.yaml", "bad.yaml", "absent.yaml", "latin.yaml"]);
    assert_eq!(code, 1);
    for line in [
        "bad.yaml:19:7: zone: the time zone `Amerika/Los_Angeles` is unknown — did you mean America/Los_Angeles?",
        "bad.yaml:30:19: steps[0].send.body: the variable `firstname` is not declared — did you mean `first_name`?",
        "absent.yaml:1:1: the file cannot be read",
        "latin.yaml:2:1: the file is not UTF-8",
        "4 files: 1 good, 3 with errors",
    ] {
        assert!(out.contains(line), "{line} in {out}");
    }
    let (code, out) = run(&["good.yaml", "twin.yaml"]);
    assert!(code == 1 && out.contains("twin.yaml:1:1: the campaign `summer-opening` is in good.yaml already"), "{out}");
    let (code, out) = run(&["warned.yaml"]);
    assert!(code == 0 && out.contains("looks like spam") && out.contains("(warning)"), "{out}");
    assert_eq!(run(&["warned.yaml", "--strict"]).0, 1);
    let (code, out) = campaign(directory.path(), &["check", "--from", "2028-01-01T00:00:00Z", "good.yaml"]);
    assert!(code == 0 && out.contains("good.yaml:10:7: schedule.at: this time has passed"), "{out}");
    assert_eq!(campaign(directory.path(), &["check"]).0, 2, "no file is a mistake of usage");
}

#[test]
fn what_never_happens_is_told() {
    let directory = tempfile::tempdir().expect("made");
    std::fs::write(directory.path().join("a.csv"), "phone\n+15550142200\n").expect("written");
    let told = |name: &str, hours: &str, cron: &str| {
        let steps = "audience: { csv: a.csv, again: always }\nsteps: [{ send: { body: Hi } }]\n";
        let source = format!("name: {name}\nzone: Europe/Berlin\n{hours}\nschedule: {{ cron: \"{cron}\" }}\n{steps}");
        std::fs::write(directory.path().join("a.yaml"), source).expect("written");
        let (code, out) = campaign(directory.path(), &["check", "--from", "2027-01-01T00:00:00Z", "a.yaml"]);
        assert_eq!(code, 0, "{out}");
        let warnings: Vec<String> =
            out.lines().filter_map(|line| Some(line.strip_suffix(" (warning)")?.to_owned())).collect();
        warnings.join("\n")
    };
    let (daily, nine) = ("0 9 * * *", "windows: [{ from: \"09:00\", to: \"18:00\" }]");
    let sunday = "windows: [{ days: sun, from: \"09:00\", to: \"18:00\" }]";
    assert_eq!(told("good", nine, daily), "");
    assert_eq!(
        told("past", nine, "0 0 9 * * * 2025"),
        "a.yaml:4:19: schedule.cron: this fires no more — write a later year, or leave it out"
    );
    let never = "a.yaml:3:10: windows: `windows` and `quiet_hours` never leave time for a message";
    let hint = " — let them leave some minutes a week";
    for (hours, whom) in [
        (format!("{sunday}\nquiet_hours: germany"), ""),
        ("windows: [{ from: \"09:00\", to: \"09:01\" }]".to_owned(), ""),
        (format!("{sunday}\nquiet_hours: [germany, uk, us-federal]"), " for people in DE, other countries"),
        (
            format!("{sunday}\nquiet_hours: us-states"),
            " for people in US (state not known), US-AL, US-LA, US-ME, US-MS, US-PA, US-RI, US-SD, US-UT",
        ),
    ] {
        assert_eq!(told("never", &hours, daily), format!("{never}{whom}{hint}"), "{hours}");
    }
    assert_eq!(told("short", "windows: [{ from: \"09:00\", to: \"09:02\" }]", daily), "");
}

#[test]
fn a_calendar_may_lie_beside_the_file() {
    let directory = tempfile::tempdir().expect("made");
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).expect("written");
    let steps = "steps: [{ send: { body: Hi } }, { wait: next business day }, { send: { body: Bye } }]";
    let file = |calendar: &str| {
        format!("name: drip\nzone: UTC\nclass: transactional\naudience: {{ enrolled: true }}\n{calendar}\n{steps}\n")
    };
    let check = |from: &str| campaign(directory.path(), &["check", "--strict", "--from", from, "drip.yaml"]);
    let at = "drip.yaml:5:11: calendar: ";
    write("drip.yaml", &file("calendar: holidays.txt"));
    for (text, told) in [
        (None, "holidays.txt: the file cannot be read"),
        (Some("# ours\n4 May, our day\n"), "line 2 of the calendar holidays.txt: write the date as in 2026-12-25"),
        (Some("# none\n"), "there is no day in holidays.txt"),
    ] {
        text.inspect(|text| write("holidays.txt", text));
        let (code, out) = check("2026-05-01T00:00:00Z");
        assert!(code == 1 && out.contains(&format!("{at}{told}")), "{told} in {out}");
    }
    write("holidays.txt", "2026-05-04 Founders' Day\n");
    assert_eq!(check("2026-05-01T00:00:00Z").0, 0);
    let (code, out) = check("2026-11-01T00:00:00Z");
    assert!(
        code == 1 && out.contains(&format!("{at}holidays are known until the end of 2026, and none after it")),
        "{out}"
    );
    write("drip.yaml", &file("calendar: weekdays"));
    assert_eq!(check("2050-01-01T00:00:00Z").0, 0, "it needs no days");
    write("drip.yaml", &file("calendar: weekdays\nquiet_hours: france"));
    assert_eq!(check("2035-09-01T00:00:00Z").0, 0);
    let (code, out) = check("2035-12-01T00:00:00Z");
    assert!(
        code == 1 && out.contains("drip.yaml:6:14: quiet_hours: holidays are known until the end of 2035"),
        "{out}"
    );
}

#[test]
fn the_csv_of_an_audience_is_looked_at_where_it_lies() {
    let directory = tempfile::tempdir().expect("made");
    let write = |name: &str, text: &[u8]| std::fs::write(directory.path().join(name), text).expect("written");
    write(
        "drip.yaml",
        b"name: drip\nzone: UTC\nclass: transactional\nschedule: { manual: true }\naudience:\n  csv: people.csv\n\
          variables: { first_name: { missing: hold }, city: { missing: skip }, plan: { default: basic } }\n\
          steps: [{ send: { body: 'Hi {{ first_name }} {{ city }} {{ plan }}' } }]\n",
    );
    let check = |args: &[&str]| campaign(directory.path(), &[&["check", "drip.yaml"], args].concat());
    let at = "drip.yaml:6:8: audience.csv: ";
    let absent = format!(
        "{at}there is no file people.csv — put it there: campaign plan and campaign apply fail without it (warning)"
    );
    let (code, out) = check(&[]);
    assert!(code == 0 && out.lines().any(|line| line == absent), "{out}");
    assert_eq!(check(&["--strict"]).0, 1);
    write("people.csv", b"phone,first_name,city,plan\n+15550142200,Ann,Rome,pro\n");
    let (code, out) = check(&["--strict"]);
    assert!(code == 0 && out.contains("1 file: 1 good, 0 with errors; 0 warnings"), "{out}");

    write("people.csv", b"phone,frist_name\n+15550142200,Ann\n555,Bob\n");
    let (code, out) = check(&[]);
    assert_eq!(code, 0, "{out}");
    for line in [
        "1 of 2 lines is bad, the first is line 3: phone is not E.164",
        "the file has no column `first_name`, so that everybody is held — \
         add it to the file, whose columns are phone, frist_name, or take the variable out (warning)",
        "the file has no column `city`, so that everybody is left out",
        "the file has no column `plan`, so that everybody gets its default",
    ] {
        assert!(out.contains(&format!("{at}{line}")), "{line} in {out}");
    }
    assert!(!out.contains("Bob") && !out.contains("Ann"), "nothing of what stands there: {out}");

    for (text, told) in [
        (&b"first_name\nAnn\n"[..], "people.csv: line 1: the column `phone` is missing"),
        (b"phone,phone\n", "people.csv: line 1: the column `phone` stands there twice"),
        (b"", "people.csv: the file is empty"),
        (b"phone,\xff\n", "people.csv: line 1: the file is not UTF-8"),
    ] {
        write("people.csv", text);
        let (code, out) = check(&[]);
        assert!(code == 1 && out.contains(&format!("{at}{told}")) && !out.contains("(warning)"), "{told} in {out}");
    }
    std::fs::remove_file(directory.path().join("people.csv")).expect("removed");
    std::fs::create_dir(directory.path().join("people.csv")).expect("made");
    let (code, out) = check(&["--json"]);
    let out: Value = serde_json::from_str(&out).expect("JSON");
    let error = &out[0]["errors"][0];
    assert_eq!((code, &error["path"], &error["line"]), (1, &"audience.csv".into(), &6.into()), "{out}");
}

#[test]
fn programs_read_the_same() {
    let directory = tempfile::tempdir().expect("made");
    std::fs::write(directory.path().join("bad.yaml"), "name: a\n").expect("written");
    let bad = directory.path().join("bad.yaml").display().to_string();
    let args = ["check", "--json", "--from", "2027-02-20T00:00:00Z", "win-back.yaml", &bad];
    let (code, out) = campaign(JOBS.as_ref(), &args);
    let out: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(code, 1);
    assert_eq!((&out[0]["ok"], &out[0]["campaign"]["name"]), (&true.into(), &"win-back".into()));
    assert_eq!(out[0]["next_fires"].as_array().map(Vec::len), Some(10));
    assert_eq!(out[0]["steps"][0], serde_json::json!({"index": 0, "name": "miss-you", "kind": "send"}));
    let error = &out[1]["errors"][0];
    assert_eq!((&out[1]["ok"], &error["line"], &error["column"]), (&false.into(), &1.into(), &1.into()));
    assert!(error["message"].is_string() && error["hint"].is_string() && out[1]["campaign"].is_null());
}
