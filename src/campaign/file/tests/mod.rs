//! Each mistake, with the line and the column at which it is told.

use super::*;

mod examples;
mod schedule;
mod schema;
mod steps;
mod variants;
mod warnings;
mod whole;
mod yaml;

/// A campaign without faults, of which the tests spoil one line.
const GOOD: &str = r#"name: welcome
zone: America/New_York
schedule:
  cron: "0 9 * * mon-fri"
audience: { again: always,
  csv: people.csv }
variables:
  first_name: { missing: hold }
  plan: { default: "basic" }
quiet_hours: us-federal
steps:
  - name: hello
    send:
      body: Hi {{ first_name }}!
  - wait: 2d
  - name: more
    branch:
      if: var.plan == 'pro'
      then:
        - send:
            body: |
              More for you,
              {{ first_name }}.
            attachments: [att_1]
"#;

/// What is said of the campaign with one text put for another.
fn told(from: &str, to: &str) -> Vec<String> {
    assert_eq!(GOOD.matches(from).count(), 1, "{from}");
    told_of(&GOOD.replacen(from, to, 1))
}

fn told_of(source: &str) -> Vec<String> {
    match read(source) {
        Ok(checked) => checked.warnings.iter().map(|warning| format!("warning {warning}")).collect(),
        Err(findings) => findings.iter().map(Finding::to_string).collect(),
    }
}

/// Puts each text for another, and finds what it is told.
fn each_is_told(table: &[(&str, &str, &str)]) {
    let mut wrong = Vec::new();
    for (from, to, wanted) in table {
        let told = told(from, to);
        if !told.iter().any(|line| line == wanted) {
            wrong.push(format!("{to}\n  wanted {wanted}\n  told   {}", told.join("\n         ")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn several_mistakes_are_told_at_once_in_the_order_of_the_file() {
    let source = GOOD
        .replace("New_York", "York")
        .replace("0 9 *", "0 9 32")
        .replace("2d", "2")
        .replace("first_name }}!", "nme }}!");
    let told = told_of(&source);
    let begins = ["2:7: zone:", "4:14: schedule.cron:", "14:19: steps[0].send.body:", "15:11: steps[1].wait:"];
    assert_eq!(told.len(), begins.len(), "{told:#?}");
    assert!(told.iter().zip(begins).all(|(line, begin)| line.starts_with(begin)), "{told:#?}");
}

#[test]
fn a_mistake_is_told_once() {
    for (from, to) in [
        ("{ missing: hold }", "hold"),
        ("name: welcome", "name: Spring Sale"),
        ("  - wait: 2d", "  - wait: 2"),
        ("cron: \"0 9 * * mon-fri\"", "crn: x"),
        ("quiet_hours: us-federal", "quiet_hours: moon"),
    ] {
        assert_eq!(told(from, to).len(), 1, "{:#?}", told(from, to));
    }
}
