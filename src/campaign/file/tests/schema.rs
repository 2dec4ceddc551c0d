//! Values that editors and reading take alike, or alike refuse.

use regex::Regex;
use serde_json::{Value, json};

use super::*;

/// A file of which the tests replace whole lines.
const FILE: &str = "name: welcome
zone: UTC
calendar: us
quiet_hours: us-federal
schedule: { manual: true }
audience: { csv: people.csv }
steps: [{ send: { body: Hi } }]
";

/// The file with each line put for the one of the same key; a key alone takes its line out.
fn with(lines: &str) -> String {
    let key = |line: &str| line.split(':').next().unwrap_or_default().to_owned();
    let keys: Vec<String> = lines.lines().map(key).collect();
    let kept = FILE.lines().filter(|line| !keys.contains(&key(line)));
    let put = lines.lines().filter(|line| line.contains(':'));
    kept.chain(put).map(|line| format!("{line}\n")).collect()
}

#[test]
fn the_schema_and_reading_take_the_same() {
    let schema = schema();
    let mut apart = Vec::new();
    let mut hold = |lines: &str, is_good: bool| {
        let source = with(lines);
        let (tree, _) = node::parse(&source).unwrap_or_else(|finding| panic!("{lines}: {finding}"));
        let by_schema = fits(&json_of(&tree), &schema, &schema);
        let by_reading = read(&source);
        if (by_schema, by_reading.is_ok()) != (is_good, is_good) {
            apart.push(format!("{lines}: {by_schema} by the schema, {:?} by reading", by_reading.err()));
        }
    };
    let hours = "from: \"9:00\", to: \"18:00\"";
    let two = "[{ name: a, body: Hi }, { name: b, body: Ho }]";
    for good in [
        "name: 2027-sale",
        "stop_on: reply",
        "stop_on: [reply, goal]",
        "quiet_hours: [us-federal, { from: \"21:00\", to: \"8:00\" }]",
        "calendar: { days: { 2026-12-25: Christmas, 2027-1-1: New Year } }",
        "schedule\naudience: { enrolled: true }",
        "schedule: { at: 2027-06-01T10:00, jitter: 10m }",
        "schedule: { at: \"2027-06-01 10:00:00\" }",
        "steps: [{ name: 2, send: { body: Hi } }]",
        "steps: [{ name: a, send: { body: Hi, bubbles: 1 }, expires_after: 1h 30m }]",
    ] {
        hold(good, true);
    }
    for days in ["mon-fri", "\"mon,sat\"", "[mon, wed-fri]"] {
        hold(&format!("windows: [{{ days: {days}, {hours} }}]"), true);
    }
    for send in ["null", "{}", "{ effect: celebration }"] {
        hold(&format!("steps: [{{ send: {send}, variants: {two} }}]"), true);
        hold(&format!("steps: [{{ send: {send} }}]"), false);
    }
    for bad in [
        "name: Sale",
        "name: -sale",
        "name: 2027",
        "name: \"2027\"",
        "stop_on: goals",
        "schedule",
        "calendar: { days: { christmas: Christmas } }",
        "steps: [{ send: { body: Hi }, variants: [{ name: a }] }]",
        "steps: [{ name: Hello, send: { body: Hi } }]",
        // Keys with nothing behind them.
        "description:",
        "labels:",
        "class:",
        "schedule:",
        "variables:",
        "calendar:",
        "windows:",
        "quiet_hours:",
        "stop_on:",
        "caps:",
        "lines:",
        "caps: { per_recipient: null }",
        "schedule: { at: 2027-06-01T10:00, jitter: null }",
        "schedule: { at: 2027-06-01T10:00, zone: null }",
        "audience: { sql: select 1, role: null }",
        "steps: [{ send: { body: Hi }, name: null }]",
        "steps: [{ send: { body: Hi }, expires_after: null }]",
        "steps: [{ send: { body: null } }]",
        "steps: [{ send: { body: Hi, bubbles: null } }]",
        "steps: [{ send: { body: Hi, external_id: null } }]",
        "windows: [{ days: null, from: \"09:00\", to: \"18:00\" }]",
    ] {
        hold(bad, false);
    }
    let lengths = [
        ("10m", true),
        ("1h 30m", true),
        ("1h30m", true),
        ("90 secs", true),
        ("1.5h", true),
        ("2 weeks", true),
        ("5M", false),
        ("2 months", false),
        ("1y", false),
        ("10x", false),
        ("10", false),
        ("soon", false),
        ("2d and a bit", false),
    ];
    for (length, is_good) in lengths {
        hold(&format!("steps: [{{ send: {{ body: Hi }}, expires_after: {length} }}]"), is_good);
        hold(&format!("steps: [{{ send: {{ body: Hi }} }}, {{ wait: {length} }}]"), is_good);
        hold(&format!("audience: {{ csv: people.csv, again: after {length} }}"), is_good);
        hold(&format!("caps: {{ per_recipient: 3 in {length} }}"), is_good);
    }
    for (wait, is_good) in [
        ("until 9:00", true),
        ("until 09:00 local", true),
        ("next business day", true),
        ("next  business day 9:00", true),
        ("until noon", false),
        ("until 24:00", false),
        ("until 9:00 UTC", false),
        ("next business day soon", false),
        ("next day", false),
    ] {
        hold(&format!("steps: [{{ send: {{ body: Hi }} }}, {{ wait: {wait} }}]"), is_good);
    }
    for (at, is_good) in [
        ("2027-06-01T10:00:30", true),
        ("2027-6-1T9:00", true),
        ("2027-06-01", false),
        ("2027-13-01T10:00", false),
        ("2027-06-01T24:00", false),
        ("2027-06-01T10:00Z", false),
        ("tomorrow", false),
    ] {
        hold(&format!("schedule: {{ at: {at} }}"), is_good);
    }
    for (cap, is_good) in [
        ("3  in 7d", true),
        ("1000 in 7d", true),
        ("5000 in 7d", false),
        ("0 in 7d", false),
        ("3", false),
        ("three in 7d", false),
    ] {
        hold(&format!("caps: {{ per_recipient: {cap} }}"), is_good);
    }
    for (again, is_good) in [("never", true), ("always", true), ("sometimes", false), ("after", false)] {
        hold(&format!("audience: {{ csv: people.csv, again: {again} }}"), is_good);
    }
    assert!(apart.is_empty(), "{}", apart.join("\n"));
}

/// A file as editors see it.
fn json_of(node: &Node) -> Value {
    match &node.value {
        node::Value::Null => Value::Null,
        node::Value::Bool(value) => json!(value),
        node::Value::Number(written) => serde_json::from_str(written).expect("a number as in JSON"),
        node::Value::Text(text) => json!(text.text),
        node::Value::List(items) => items.iter().map(json_of).collect(),
        node::Value::Map(entries) => {
            Value::Object(entries.iter().map(|(key, node)| (key.name.clone(), json_of(node))).collect())
        }
    }
}

/// Whether a value is as a part of the schema says. Knows the words that stand in this schema, and no others.
fn fits(value: &Value, part: &Value, schema: &Value) -> bool {
    let all = |parts: &Value, fit: &dyn Fn(&Value) -> bool| parts.as_array().expect("a list").iter().all(fit);
    let any = |parts: &Value, fit: &dyn Fn(&Value) -> bool| parts.as_array().expect("a list").iter().any(fit);
    let is = |part: &Value| fits(value, part, schema);
    let number = |bound: &Value| bound.as_f64().expect("a number");
    let fulfils = |(word, of): (&String, &Value)| match word.as_str() {
        "$schema" | "title" | "description" | "definitions" | "default" | "examples" | "format" => true,
        "$ref" => is(schema.pointer(&of.as_str().expect("a way")[1..]).expect("it leads somewhere")),
        "allOf" => all(of, &is),
        "anyOf" => any(of, &is),
        "oneOf" => of.as_array().expect("a list").iter().filter(|part| is(part)).count() == 1,
        "if" => is(of) || is(&part["else"]),
        "else" => true,
        "const" => value == of,
        "enum" => any(of, &|one| value == one),
        "type" if of.is_array() => any(of, &|one| is(&json!({ "type": one }))),
        "type" => match of.as_str().expect("a word") {
            "null" => value.is_null(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_i64(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            other => panic!("the type {other}"),
        },
        "pattern" => {
            let pattern = Regex::new(of.as_str().expect("a pattern")).expect("a pattern");
            value.as_str().is_none_or(|text| pattern.is_match(text))
        }
        "maxLength" => value.as_str().is_none_or(|text| text.chars().count() as f64 <= number(of)),
        "minimum" => value.as_f64().is_none_or(|value| value >= number(of)),
        "maximum" => value.as_f64().is_none_or(|value| value <= number(of)),
        "minItems" => value.as_array().is_none_or(|items| items.len() as f64 >= number(of)),
        "maxItems" => value.as_array().is_none_or(|items| items.len() as f64 <= number(of)),
        "items" => value.as_array().is_none_or(|items| items.iter().all(|item| fits(item, of, schema))),
        "required" => {
            value.as_object().is_none_or(|keys| all(of, &|key| keys.contains_key(key.as_str().expect("a key"))))
        }
        "propertyNames" => value.as_object().is_none_or(|keys| keys.keys().all(|key| fits(&json!(key), of, schema))),
        "properties" => value.as_object().is_none_or(|keys| {
            keys.iter().all(|(key, value)| of.get(key).is_none_or(|part| fits(value, part, schema)))
        }),
        "additionalProperties" => value.as_object().is_none_or(|keys| {
            let more = keys.iter().filter(|(key, _)| part["properties"].get(key).is_none());
            more.into_iter().all(|(_, value)| *of != false && (*of == true || fits(value, of, schema)))
        }),
        other => panic!("the word {other}"),
    };
    part.as_object().expect("a part").iter().all(fulfils)
}
