//! A version of a campaign as it runs: read once, with all that follows from it. Pure.

use std::borrow::Cow;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::campaign::calendar::Calendar;
use crate::campaign::file::shape::{Campaign, Holidays, Missing, Schedule, Variable};
use crate::campaign::file::{self, Finding};
use crate::campaign::program::{Op, Program};
use crate::campaign::template::{Vars, is_missing};
use crate::campaign::window::Windows;
use crate::job::Class;

/// A version that people go through.
#[derive(Debug, Clone, PartialEq)]
pub struct Running {
    pub campaign: Campaign,
    pub program: Program,
    /// When its recipients may be written to, anywhere.
    pub hours: Windows,
    pub calendar: Option<Cow<'static, Calendar>>,
}

/// Why a version cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunningError {
    #[error("its definition is none: {0}")]
    Definition(String),
    #[error("its hours are none: {0}")]
    Hours(String),
}

/// A variable that a person lacks, and what happens then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lacking {
    pub variable: String,
    pub missing: Missing,
}

impl Running {
    /// Reads a definition, which is a campaign file in JSON. It may be one that this release would refuse as a file.
    pub fn read(definition: &Value) -> Result<Running, RunningError> {
        let (campaign, program) = file::read_stored(definition).map_err(|faults| {
            let told = |fault: Finding| match fault.path.as_str() {
                "" => fault.message,
                path => format!("{path}: {}", fault.message),
            };
            RunningError::Definition(faults.into_iter().next().map_or_else(String::new, told))
        })?;
        let hours = campaign.hours().map_err(|error| RunningError::Hours(error.to_string()))?;
        let calendar = campaign.calendar.as_ref().and_then(Holidays::calendar);
        Ok(Running { campaign, program, hours, calendar })
    }

    /// Whether whoever is enrolled gets a message before anything else.
    pub fn begins_with_a_send(&self) -> bool {
        self.program.get(0).is_some_and(|step| matches!(step.op, Op::Send(_)))
    }

    /// What is known of a person, with the defaults for what is not. A text of blanks says nothing.
    /// Errors: the first variable, by name, that has none.
    pub fn vars(&self, given: Map<String, Value>) -> Result<Vars, Lacking> {
        let mut vars: Vars = given.into_iter().filter(|(_, value)| !is_missing(value)).collect();
        for (name, variable) in &self.campaign.variables {
            if vars.contains_key(name) {
                continue;
            }
            match variable {
                Variable::Default { default } => drop(vars.insert(name.clone(), Value::String(default.clone()))),
                Variable::Needed { missing } => {
                    return Err(Lacking { variable: name.clone(), missing: *missing });
                }
            }
        }
        Ok(vars)
    }

    /// After how many messages without a reply its people wait for one: the `limit` that workers are told is for marketing.
    pub fn unanswered_limit(&self, limit: Option<u16>) -> Option<u16> {
        limit.filter(|_| self.campaign.class == Class::Marketing)
    }

    /// Over how long a time the people of one firing are spread.
    pub fn jitter(&self) -> Duration {
        match &self.campaign.schedule {
            Schedule::Cron { jitter, .. } | Schedule::At { jitter, .. } => {
                jitter.map_or_else(Default::default, |it| it.0)
            }
            Schedule::Manual { .. } => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_definition_reads_back_as_what_it_was_made_of() {
        for file in ["welcome", "weekly-check-in", "win-back", "announcement"] {
            let source = std::fs::read_to_string(format!("jobs/{file}.yaml")).expect("there");
            let checked = file::read(&source).unwrap_or_else(|findings| panic!("{file}: {findings:?}"));
            let definition = serde_json::to_value(&checked.campaign).expect("serialisable");
            let running = Running::read(&definition).unwrap_or_else(|error| panic!("{file}: {error}"));
            assert_eq!((running.campaign, running.program), (checked.campaign, checked.program), "{file}");
        }
    }

    #[test]
    fn what_this_release_refuses_in_a_file_is_run_where_it_is_stored() {
        let source = "name: a\nzone: UTC\naudience: { enrolled: true }\nvariables: { orders: { missing: hold } }\n\
             steps: [{ name: one, send: { body: 'Hi {{ orders }}' } }, { branch: { if: replied, then: [{ wait: 1d }] } }]\n";
        let checked = file::read(source).unwrap_or_else(|findings| panic!("{findings:?}"));
        let stored = serde_json::to_value(&checked.campaign).expect("serialisable");
        let with = |place: &str, value: &Value| {
            let mut definition = stored.clone();
            *definition.pointer_mut(place).expect(place) = value.clone();
            assert!(file::read(&definition.to_string()).is_err(), "{place}: {value}");
            Running::read(&definition)
        };
        for (place, value) in [
            ("/steps/1/branch/if", json!("var.orders >= 3")),
            ("/steps/1/branch/if", json!("var.nobody == label.nothing")),
            ("/steps/0/send/body", json!("{{ nobody }} {{ orders + orders }}")),
            ("/steps/0/send/body", json!("x".repeat(30_000))),
            ("/steps/0/name", json!("end")),
            ("/steps/1/branch/then/0/wait", json!("next business day")),
            ("/steps/1/branch/then", json!([])),
            ("/schedule", json!({"cron": "@daily"})),
        ] {
            if let Err(error) = with(place, &value) {
                panic!("{place}: {value}: {error}");
            }
        }
        // What it does not know, it does not guess.
        for (place, value, told) in [
            ("/steps/1/branch/if", json!("opened"), "steps[1].branch.if: a condition does not know `opened`"),
            ("/steps/0/send/body", json!("{{ orders | shout }}"), "steps[0].send.body: the filter `shout` is unknown"),
            ("/steps/0", json!({"call": {}}), "steps[0]: none of send, wait, branch is here"),
            ("/caps", json!({"per_line": 1}), "caps.per_line: the key `per_line` is unknown here"),
            ("/zone", json!("Mars"), "zone: the time zone `Mars` is unknown"),
        ] {
            let error = with(place, &value).expect_err(place);
            assert_eq!(error.to_string(), format!("its definition is none: {told}"));
        }
    }

    #[test]
    fn a_file_of_any_size_reads_back() {
        let step = format!("- send: {{ body: '{}' }}\n", "\"\\".repeat(9_000));
        let source = format!("name: a\nzone: UTC\naudience: {{ enrolled: true }}\nsteps:\n{}", step.repeat(14));
        let checked = file::read(&source).unwrap_or_else(|findings| panic!("{findings:?}"));
        let definition = serde_json::to_value(&checked.campaign).expect("serialisable");
        assert!(definition.to_string().len() > file::node::MAX_BYTES, "longer than a file may be");
        assert_eq!(Running::read(&definition).map(|running| running.campaign), Ok(checked.campaign));
    }

    #[test]
    fn who_lacks_a_variable_is_told_by_its_policy() {
        let source = "name: a\nzone: UTC\nschedule: { manual: true }\naudience: { csv: a.csv }\n\
             variables: { a: { default: there }, b: { missing: skip }, c: { missing: hold } }\nsteps: [{ send: { body: '{{ a }}{{ b }}{{ c }}' } }]\n";
        let checked = file::read(source).unwrap_or_else(|findings| panic!("{findings:?}"));
        let running =
            Running::read(&serde_json::to_value(&checked.campaign).expect("serialisable")).expect("it reads back");
        let vars = |given: Value| running.vars(given.as_object().cloned().expect("an object"));
        assert_eq!(vars(json!({"b": 1, "c": null})), Err(Lacking { variable: "c".into(), missing: Missing::Hold }));
        assert_eq!(vars(json!({})), Err(Lacking { variable: "b".into(), missing: Missing::Skip }));
        let whole = vars(json!({"b": 1, "c": "x"})).expect("whole");
        assert_eq!(whole, serde_json::from_value(json!({"a": "there", "b": 1, "c": "x"})).expect("vars"));
        for blank in ["", "  ", "\t\n", "\u{a0}"] {
            let lacking = |variable: &str, missing| Err(Lacking { variable: variable.into(), missing });
            assert_eq!(vars(json!({"b": blank, "c": "x"})), lacking("b", Missing::Skip), "{blank:?}");
            assert_eq!(vars(json!({"b": false, "c": blank})), lacking("c", Missing::Hold), "{blank:?}");
            assert_eq!(vars(json!({"a": blank, "b": 1, "c": "x"})), Ok(whole.clone()), "{blank:?}");
        }
    }
}
