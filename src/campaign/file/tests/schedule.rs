//! Mistakes in when it fires, whom it is for and what it knows of them.

use super::*;

#[test]
fn every_mistake_is_told_where_it_is_with_what_to_write() {
    each_is_told(&[
        (
            "cron: \"0 9 * * mon-fri\"",
            "cron: \"0 25 * * mon-fri\"",
            "4:12: schedule.cron: \"25\" is no hour (field 2, column 3 of the spec) — write 0 to 23, a range such as 9-17, a step such as */4, several with commas, or *",
        ),
        (
            "cron: \"0 9 * * mon-fri\"",
            "cron: 0 0 30 2 *",
            "4:9: schedule.cron: this cron spec never fires — no such day exists up to the year 2100; check the day of month against the month and the year",
        ),
        (
            "cron: \"0 9 * * mon-fri\"",
            "crn: \"0 9 * * mon-fri\"",
            "4:3: schedule.crn: the key `crn` is unknown here — did you mean `cron`?",
        ),
        (
            "cron: \"0 9 * * mon-fri\"",
            "zone: UTC",
            "4:3: schedule: none of cron, at, manual is here — write `cron: \"0 9 * * mon-fri\"`",
        ),
        (
            "cron: \"0 9 * * mon-fri\"",
            "cron: '@daily'\n  at: 2026-12-01T09:00",
            "5:7: schedule.at: `cron` and `at` exclude each other — keep one of them",
        ),
        (
            "cron: \"0 9 * * mon-fri\"",
            "at: tomorrow",
            "4:7: schedule.at: \"tomorrow\" is no local time — write it like 2026-12-01T09:00",
        ),
        (
            "cron: \"0 9 * * mon-fri\"",
            "cron: '@daily'\n  catch_up: frist",
            "5:13: schedule.catch_up: `frist` is not a choice here — known here: skip, last, all",
        ),
        (
            "cron: \"0 9 * * mon-fri\"",
            "cron: '@daily'\n  jitter: 10",
            "5:11: schedule.jitter: \"10\" is no length of time — write a number and its unit, such as 30m, 6h or 2d, at most a year",
        ),
        (
            "cron: \"0 9 * * mon-fri\"",
            "cron: '@daily'\n  jitter: 5M",
            "5:11: schedule.jitter: \"5M\" counts months or years, which have no fixed length — write days, such as 30d, and minutes as in 5m",
        ),
        (
            "cron: \"0 9 * * mon-fri\"",
            "manual: false",
            "4:11: schedule.manual: false says nothing here — write true, or another key",
        ),
        (
            "csv: people.csv",
            "sql: delete from people",
            "6:8: audience.sql: this is no query that only reads — begin with select or with; name a column phone",
        ),
        (
            "csv: people.csv",
            "sql: /* select */ (delete from people)",
            "6:8: audience.sql: this is no query that only reads — begin with select or with; name a column phone",
        ),
        (
            "csv: people.csv",
            "csv: people.csv,\n  row_limit: 5",
            "7:3: audience.row_limit: the key `row_limit` is unknown here — known here: csv, again",
        ),
        (
            "csv: people.csv",
            "enrolled: true",
            "4:3: schedule: the application enrols people, so nothing is enrolled by the clock — leave `schedule` out",
        ),
        (
            "{ missing: hold }",
            "{ missing: wait }",
            "8:26: variables.first_name.missing: `wait` is not a choice here — known here: hold, skip",
        ),
        (
            "{ missing: hold }",
            "hold",
            "8:15: variables.first_name: this does not say what happens where the variable is missing — write { missing: hold }, { missing: skip } or { default: \"there\" }",
        ),
        (
            "{ default: \"basic\" }",
            "{ default: \"\" }",
            "9:20: variables.plan.default: this is blank — write a text, or leave the key out",
        ),
        (
            "  plan: {",
            "  plan: { missing: skip, ",
            "9:36: variables.plan.default: a variable with a default is never missing — keep one of the two",
        ),
    ]);
}

#[test]
fn a_query_may_begin_with_comments_and_parentheses() {
    for sql in [
        "select phone from people",
        "-- all\n\n-- of them\nSELECT phone from people",
        "/* all */ select phone from people",
        "/* all /* of\n */ them */\n-- them\n/**/with x as (select 1) table people",
        "(select phone from people) union (select phone from others)",
        "( -- first\n (/* x */ values ('+15550142200')))",
    ] {
        let source = GOOD.replace("csv: people.csv", &format!("sql: {}", serde_json::json!(sql)));
        assert_eq!(told_of(&source), [""; 0], "{sql}");
    }
    for sql in ["/* select", "-- select", "(", "/* */ insert into people", "((delete from people))", "selective"] {
        let source = GOOD.replace("csv: people.csv", &format!("sql: {}", serde_json::json!(sql)));
        assert!(told_of(&source)[0].contains("no query that only reads"), "{sql}");
    }
}
