//! The JSON Schema of campaign files, for editors.

use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use crate::campaign::file::Campaign;

/// The schema, in draft 7, which editors know for YAML.
pub fn schema() -> Value {
    let mut schema = SchemaSettings::draft07().into_generator().into_root_schema_for::<Campaign>().to_value();
    drop_null(&mut schema);
    // As reading has it: only where the application enrols people is the schedule left out.
    schema["if"] = json!({"properties": {"audience": {"required": ["enrolled"]}}});
    schema["else"] = json!({"required": ["schedule"]});
    schema
}

/// Drops null as a type: a key that is optional is left out, and is not written with nothing behind it.
fn drop_null(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(drop_null),
        Value::Object(of) => {
            of.values_mut().for_each(drop_null);
            if let Some(Value::Array(types)) = of.get_mut("type") {
                types.retain(|kind| kind != "null");
                if let [one] = types.as_slice() {
                    let one = one.clone();
                    of.insert("type".to_owned(), one);
                }
            }
            if let Some(Value::Array(kinds)) = of.get_mut("anyOf") {
                kinds.retain(|kind| kind["type"] != "null");
                // A `$ref` alone would hide what stands beside it.
                if let [one] = kinds.as_slice() {
                    let one = json!([one]);
                    of.remove("anyOf");
                    of.insert("allOf".to_owned(), one);
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::campaign::file;

    /// The keys of an object of the schema, with the names of the definitions on the way to it.
    fn keys<'s>(schema: &'s Value, definition: &str) -> Vec<BTreeSet<&'s str>> {
        let of = &schema["definitions"][definition];
        let objects: Vec<&Value> = match of["anyOf"].as_array() {
            Some(kinds) => kinds.iter().filter(|kind| kind["properties"].is_object()).collect(),
            None => vec![of],
        };
        let names = |object: &'s Value| {
            assert_eq!(object["additionalProperties"], false, "{definition} is closed");
            object["properties"].as_object().expect(definition).keys().map(String::as_str).collect()
        };
        objects.into_iter().map(names).collect()
    }

    #[test]
    fn it_is_closed_and_says_what_is_needed() {
        let schema = schema();
        assert_eq!(schema["$schema"], "http://json-schema.org/draft-07/schema#");
        assert_eq!(schema["additionalProperties"], false);
        assert_eq!(schema["required"], json!(["name", "audience", "zone", "steps"]));
        assert_eq!(schema["properties"]["class"]["default"], "marketing");
        let set = |names: &[&'static str]| names.iter().copied().collect::<BTreeSet<_>>();
        assert_eq!(
            keys(&schema, "Schedule"),
            [
                set(&["cron", "zone", "catch_up", "catch_up_within", "overlap", "jitter"]),
                set(&["at", "zone", "catch_up_within", "jitter"]),
                set(&["manual"]),
            ]
        );
        assert_eq!(keys(&schema, "WaitStep"), [set(&["wait", "name"])]);
        assert_eq!(keys(&schema, "Branch"), [set(&["if", "then", "else"])]);
        assert!(schema["definitions"]["Window"]["properties"].get("span").is_none());
    }

    #[test]
    fn the_schema_beside_the_examples_is_this_one() {
        let beside: Value = serde_json::from_str(include_str!("../../../jobs/campaign.schema.json")).expect("JSON");
        assert_eq!(beside, schema(), "write it again: chert-outbox campaign schema > jobs/campaign.schema.json");
    }

    #[test]
    fn what_reading_knows_and_what_the_schema_knows_is_the_same() {
        let schema = schema();
        // An unknown key without likeness to any is answered with all that are known.
        let known = |source: &str| -> BTreeSet<String> {
            let told = file::read(source).expect_err("a key is unknown");
            let hint = told.iter().find_map(|finding| finding.hint.strip_prefix("known here: "));
            hint.unwrap_or_else(|| panic!("{told:?}")).split(", ").map(str::to_owned).collect()
        };
        let top: BTreeSet<String> = schema["properties"].as_object().expect("keys").keys().cloned().collect();
        assert_eq!(known("zzzzzzzzzzzzz: 1"), top);
        for (definition, kind, source) in [
            ("Schedule", 0, "schedule: { cron: '@daily', zzzzzzzzzzzzz: 1 }"),
            ("Schedule", 1, "schedule: { at: 2026-12-01T09:00, zzzzzzzzzzzzz: 1 }"),
            ("Schedule", 2, "schedule: { manual: true, zzzzzzzzzzzzz: 1 }"),
            ("Audience", 0, "audience: { sql: select, zzzzzzzzzzzzz: 1 }"),
            ("Audience", 1, "audience: { csv: x, zzzzzzzzzzzzz: 1 }"),
            ("Audience", 2, "audience: { enrolled: true, zzzzzzzzzzzzz: 1 }"),
            ("Window", 0, "windows: [{ from: '09:00', to: '10:00', zzzzzzzzzzzzz: 1 }]"),
            ("QuietHours", 0, "quiet_hours: { from: '09:00', to: '10:00', zzzzzzzzzzzzz: 1 }"),
            ("Caps", 0, "caps: { zzzzzzzzzzzzz: 1 }"),
            ("Lines", 0, "lines: { zzzzzzzzzzzzz: 1 }"),
            ("SendStep", 0, "steps: [{ send: { body: x }, zzzzzzzzzzzzz: 1 }]"),
            ("Send", 0, "steps: [{ send: { body: x, zzzzzzzzzzzzz: 1 } }]"),
            (
                "Variant",
                0,
                "steps: [{ send: {}, variants: [{ name: a, body: x, zzzzzzzzzzzzz: 1 }, { name: b, body: x }] }]",
            ),
            ("Attachment", 0, "steps: [{ send: { body: x, attachments: [{ id: a, zzzzzzzzzzzzz: 1 }] } }]"),
            ("WaitStep", 0, "steps: [{ send: { body: x } }, { wait: 1d, zzzzzzzzzzzzz: 1 }]"),
            ("BranchStep", 0, "steps: [{ branch: { if: replied, then: [{ send: { body: x } }] }, zzzzzzzzzzzzz: 1 }]"),
            ("Branch", 0, "steps: [{ branch: { if: replied, then: [{ send: { body: x } }], zzzzzzzzzzzzz: 1 } }]"),
        ] {
            let source = format!("name: a\nzone: UTC\n{source}\n");
            let wanted: BTreeSet<String> =
                keys(&schema, definition)[kind].iter().map(|key| (*key).to_owned()).collect();
            assert_eq!(known(&source), wanted, "{definition}: {source}");
        }
    }
}
