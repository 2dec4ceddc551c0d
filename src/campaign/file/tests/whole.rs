//! Mistakes in what is said of the campaign as a whole.

use super::*;
use crate::campaign::template::Template;

#[test]
fn every_mistake_is_told_where_it_is_with_what_to_write() {
    each_is_told(&[
        ("name: welcome", "nme: welcome", "1:1: nme: the key `nme` is unknown here — did you mean `name`?"),
        (
            "name: welcome",
            "name: Spring Sale",
            "1:7: name: this is no name — write 1 to 64 of a-z, 0-9, _ and -, such as spring-sale",
        ),
        (
            "name: welcome",
            "name: \"2027\"",
            "1:7: name: this is a name of digits alone — put a letter in it: `chert-outbox explain` takes digits for the id of a job",
        ),
        (
            "name: welcome\n",
            "name: welcome\nname: two\n",
            "2:1: name: the key `name` stands here twice — keep one of them",
        ),
        (
            "name: welcome\n",
            "name: welcome\ncron: '@daily'\n",
            "2:1: cron: the key `cron` is unknown here — `cron` belongs under `schedule:`, indented below it",
        ),
        (
            "zone: America/New_York",
            "zone: New York",
            "2:7: zone: the time zone `New York` is unknown — did you mean America/New_York?",
        ),
        (
            "zone: America/New_York",
            "zone: Amerika/New_York",
            "2:7: zone: the time zone `Amerika/New_York` is unknown — did you mean America/New_York?",
        ),
        (
            "zone: America/New_York",
            "zone: Mars",
            "2:7: zone: the time zone `Mars` is unknown — write a place such as America/New_York or Europe/Berlin, or UTC",
        ),
        (
            "zone: America/New_York",
            "zone: 5",
            "2:7: zone: this is the number 5, not a text — put it in quotes to make it a text: \"5\"",
        ),
        ("zone: America/New_York\n", "", "1:1: `zone` is missing — write `zone: America/New_York`"),
        (
            "quiet_hours: us-federal",
            "quiet_hours: us-fedral",
            "10:14: quiet_hours: the preset `us-fedral` is unknown — did you mean `us-federal`? (or write { from: \"21:00\", to: \"08:00\" })",
        ),
        (
            "quiet_hours: us-federal",
            "quiet_hours: { from: \"21\", to: \"08:00\" }",
            "10:22: quiet_hours.from: \"21\" is not a time of day — write it from 00:00 to 24:00, such as 09:00",
        ),
        (
            "quiet_hours: us-federal",
            "windows: [{ days: weekdays, from: \"09:00\", to: \"18:00\" }]",
            "10:19: windows[0].days: \"weekdays\" is not days of the week — write mon-fri, or mon,wed,sat, or daily",
        ),
        (
            "quiet_hours: us-federal",
            "windows: [{ days: [mon, tues, someday], from: \"09:00\", to: \"18:00\" }]",
            "10:31: windows[0].days[2]: \"someday\" is not days of the week — write mon-fri, or mon,wed,sat, or daily",
        ),
        (
            "quiet_hours: us-federal",
            "windows: [{ days: [], from: \"09:00\", to: \"18:00\" }]",
            "10:19: windows[0].days: no day is here — write days such as mon-fri, or leave `days` out for all of them",
        ),
        (
            "quiet_hours: us-federal",
            "windows: { from: \"09:00\", to: \"18:00\" }",
            "10:10: windows: this is a mapping of keys to values, not a list — write each item on a line of its own, after a dash",
        ),
        (
            "quiet_hours: us-federal",
            "windows: [{ from: \"21:00\", to: \"23:00\" }]\nquiet_hours: { from: \"20:00\", to: \"08:00\" }",
            "10:10: windows: no time of the week is inside the windows and outside the quiet hours — let them leave some hours in which messages may go out",
        ),
        (
            "quiet_hours: us-federal",
            "stop_on: [reply, optout]",
            "10:18: stop_on[1]: `optout` is not a choice here — did you mean `opt_out`?",
        ),
        (
            "quiet_hours: us-federal",
            "caps: { per_recipient: 3 }",
            "10:24: caps.per_recipient: \"3\" is no cap — write how many messages in what time, such as 3 in 7d",
        ),
        (
            "quiet_hours: us-federal",
            "caps: { priority: low }",
            "10:19: caps.priority: this is a text, not a number — write a whole number from 0 to 1000",
        ),
        (
            "quiet_hours: us-federal",
            "labels: { team: 7 }",
            "10:17: labels.team: this is the number 7, not a text — put it in quotes to make it a text: \"7\"",
        ),
        (
            "quiet_hours: us-federal",
            "lines: { pinned_only: yes }",
            "10:23: lines.pinned_only: this is a text, not a truth value — write true or false",
        ),
        (
            "quiet_hours: us-federal",
            "calendar: uk",
            "10:11: calendar: the calendar `uk` is unknown — known here: au, ca, de, fr, gb, us, weekdays; or name a file beside this one, such as holidays.txt",
        ),
        (
            "quiet_hours: us-federal",
            "class: marketng",
            "10:8: class: `marketng` is not a choice here — did you mean `marketing`?",
        ),
    ]);
}

#[test]
fn days_of_a_window_may_be_a_list() {
    let windows = |days: &str| {
        let windows = format!("windows: [{{ days: {days}, from: \"9:00\", to: \"18:00\" }}]");
        read(&GOOD.replace("quiet_hours: us-federal", &windows)).expect(days).campaign.windows
    };
    for days in ["[mon, wed, sat]", "[\"mon,wed\", sat]", "[mon, wed-wed, Saturday]"] {
        assert_eq!(windows(days), windows("\"mon,wed,sat\""), "{days}");
    }
    assert_eq!(windows("[mon-fri, sun]"), windows("sun-fri"));
}

#[test]
fn days_of_a_calendar_leave_business_days() {
    let calendar = |days: usize| {
        let first: chrono::NaiveDate = "2026-06-01".parse().expect("a day");
        let days: Vec<String> = first.iter_days().take(days).map(|day| format!("{day}: Summer")).collect();
        told(
            "quiet_hours: us-federal",
            &format!("quiet_hours: us-federal\ncalendar: {{ days: {{ {} }} }}", days.join(", ")),
        )
    };
    assert_eq!(calendar(45), [""; 0]);
    assert_eq!(
        calendar(400),
        [
            "11:19: calendar.days: from 2026-06-01 on there is no business day for more than a year — write holidays alone; Saturday and Sunday are none anyway"
        ]
    );
}

#[test]
fn a_name_of_digits_is_run_where_it_is_stored() {
    let campaign = read(GOOD).expect("no faults").campaign;
    let mut stored = serde_json::to_value(campaign).expect("plain data");
    stored["name"] = "2027".into();
    assert_eq!(read_stored(&stored).expect("it is run").0.name.as_str(), "2027");
}

#[test]
fn a_nul_is_told_where_it_stands() {
    for (from, to, line, path) in [
        ("zone: A", "description: \"a\\0b\"\nzone: A", 2, "description"),
        ("zone: A", "labels: { team: \"a\\0b\" }\nzone: A", 2, "labels.team"),
        ("\"basic\"", "\"a\\0b\"", 9, "variables.plan.default"),
        ("people.csv", "\"a\\0b.csv\"", 6, "audience.csv"),
        ("Hi {{ first_name }}!", "\"Hi\\0 {{ first_name }}!\"", 14, "steps[0].send.body"),
    ] {
        let told = told(from, to);
        let is_it = told.len() == 1
            && told[0].starts_with(&format!("{line}:"))
            && told[0].contains(&format!(": {path}: a NUL character cannot be stored"));
        assert!(is_it, "{told:?}");
    }
    let told = told("zone: A", "labels: { \"te\\0am\": a }\nzone: A");
    assert!(
        told.len() == 1 && told[0].starts_with("2:11: labels.") && told[0].contains("this cannot be a label"),
        "{told:?}"
    );
}

#[test]
fn a_variable_is_called_what_a_template_can_write() {
    let told = |name: &str| {
        let source = GOOD.replacen("  plan: {", &format!("  {name}: {{ missing: hold }}\n  plan: {{"), 1);
        told_of(&source).into_iter().find(|line| !line.starts_with("warning"))
    };
    for name in ["in", "True", "none", "self", "or", "elif"] {
        let wanted =
            format!("9:3: variables.{name}: `{name}` means something else in a template — choose another name");
        assert_eq!(told(&format!("\"{name}\"")), Some(wanted));
    }
    for name in ["inn", "int", "replied", "var", "Phone"] {
        assert_eq!(told(name), None);
        let written = Template::parse(&format!("{{% if {name} == 'a' %}}{{{{ {name} }}}}{{% endif %}}")).expect(name);
        assert!(written.check().is_ok() && written.variables().contains(name), "{name}");
    }
    let phone = "9:3: variables.phone: the column `phone` says who it is, and is no variable — \
                 bring it once more under another name, such as number";
    assert_eq!(told("phone").as_deref(), Some(phone));
    let enrolled =
        GOOD.replace("csv: people.csv", "enrolled: true").replace("  plan: {", "  phone: { missing: hold }\n  plan: {");
    let schedule = "schedule:\n  cron: \"0 9 * * mon-fri\"\n";
    let enrolled = enrolled.replace(schedule, "").replace("Hi {", "Hi {{ phone }} {");
    assert_eq!(told_of(&enrolled), [""; 0], "the application may bring one");
}
