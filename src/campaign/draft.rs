//! The job of a step for one person: by which line it goes, and what it says. Pure.

use std::time::Duration;

use chrono::TimeDelta;
use rand::{Rng, RngExt as _};
use serde_json::{Map, Value, json};

use crate::campaign::file::shape::Lines;
use crate::campaign::file::step::Attachment;
use crate::campaign::file::words::Name;
use crate::campaign::pool::drawn;
use crate::campaign::program::Message;
use crate::campaign::running::Running;
use crate::campaign::template::{RenderError, Template, Vars};
use crate::job::{InvalidJob, NewJob};
use crate::phone::Phone;

/// Why a person gets no job; shown as the reason of an enrolment, with its detail.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No line has written to them before.
    #[error("not_pinned")]
    NotPinned,
    /// The line that they know is not one of the campaign's.
    #[error("not_in_pool")]
    NotInPool,
    /// The account has none of the campaign's lines.
    #[error("no_line")]
    NoLine,
    /// A variable is missing.
    #[error("missing_variable: {0}")]
    Missing(String),
    /// The field, and what is wrong with it, without what it holds.
    #[error("unreadable: {0}")]
    Unreadable(String),
}

/// What is known of a person.
#[derive(Debug, Clone, Copy)]
pub struct Person<'a> {
    pub phone: &'a Phone,
    /// With the defaults.
    pub vars: &'a Vars,
    /// The line that they are pinned to.
    pub line_id: Option<&'a str>,
    /// One has written to them, or they to one.
    pub touched: bool,
    /// The lines of the campaign's pool that new contacts are drawn among.
    pub open: &'a [String],
}

/// The job of a step for a person, without key and times.
pub fn draft(running: &Running, step: &Name, message: &Message, person: Person<'_>) -> Result<NewJob, Fault> {
    let campaign = &running.campaign;
    let wording = message.wording(&campaign.name, step, person.phone);
    let send = &wording.send;
    let optional = |field: &'static str, template: &Option<Template>| match template {
        None => Ok(None),
        Some(template) => render(field, template, person.vars).map(|text| Some(text).filter(|text| !text.is_empty())),
    };
    let body = send.content.body.as_ref().ok_or_else(|| Fault::Unreadable("body".to_owned()))?;
    let attachment = |attachment: &Attachment| match attachment {
        Attachment::Id(id) => Ok(Value::String(render("attachments", id, person.vars)?)),
        Attachment::Shown { id, live_photo } => {
            Ok(json!({"id": render("attachments", id, person.vars)?, "live_photo": live_photo}))
        }
    };
    let line = line(&campaign.lines, person)?;
    let mut labels: Map<String, Value> =
        campaign.labels.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    labels.entry("step").or_insert_with(|| json!(step));
    if let Some(variant) = &wording.variant {
        labels.entry("variant").or_insert_with(|| json!(variant));
    }
    let job = NewJob {
        name: optional("name", &send.name)?,
        external_id: optional("external_id", &send.external_id)?,
        phone_line_id: optional("phone_line_id", &send.phone_line_id)?.or(line),
        attachments: send.content.attachments.iter().map(attachment).collect::<Result<_, Fault>>()?,
        effect: optional("effect", &send.content.effect)?,
        priority: campaign.caps.priority,
        class: campaign.class,
        labels,
        ..NewJob::new(person.phone.clone(), render("body", body, person.vars)?)
    };
    job.check().map_err(|rule: InvalidJob| Fault::Unreadable(rule.field().to_owned()))?;
    Ok(job)
}

fn render(field: &str, template: &Template, vars: &Vars) -> Result<String, Fault> {
    template.render(vars).map_err(|error| match error {
        RenderError::Missing(variable) => Fault::Missing(variable),
        RenderError::TooLong | RenderError::Mismatch(_) => Fault::Unreadable(field.to_owned()),
    })
}

/// The line to name, if one must be: who is pinned already goes by that.
pub fn line(lines: &Lines, person: Person<'_>) -> Result<Option<String>, Fault> {
    match (person.line_id, lines.pool.as_slice()) {
        (None, _) if lines.pinned_only && !person.touched => Err(Fault::NotPinned),
        (Some(line), pool) if !pool.is_empty() && !pool.iter().any(|one| one == line) => Err(Fault::NotInPool),
        (Some(_), _) | (None, []) => Ok(None),
        (None, _) => drawn(person.open, person.phone).map(|line| Some(line.to_owned())).ok_or(Fault::NoLine),
    }
}

/// A length of time stretched by chance by up to half of it, so that what waits does not come at once.
pub fn about(length: Duration, rng: &mut impl Rng) -> TimeDelta {
    TimeDelta::from_std(length.mul_f64(rng.random_range(1.0..1.5))).unwrap_or(TimeDelta::hours(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaign::file;
    use crate::campaign::program::Op;

    fn running(more: &str, send: &str) -> Running {
        let source = format!(
            "name: a\nzone: America/New_York\nschedule: {{ manual: true }}\naudience: {{ csv: a.csv }}\n\
             variables: {{ name: {{ missing: hold }} }}\n{more}\nsteps: [{{ send: {send}, name: hello }}]\n"
        );
        let checked = file::read(&source).unwrap_or_else(|findings| panic!("{findings:?}"));
        Running::read(&serde_json::to_value(&checked.campaign).expect("serialisable")).expect("it reads back")
    }

    fn drafted(running: &Running, vars: Value, line_id: Option<&str>) -> Result<NewJob, Fault> {
        drafted_by(running, vars, line_id, &running.campaign.lines.pool)
    }

    fn drafted_by(running: &Running, vars: Value, line_id: Option<&str>, open: &[String]) -> Result<NewJob, Fault> {
        let step = &running.program.steps()[0];
        let Op::Send(message) = &step.op else { panic!("a send") };
        let (phone, vars) = ("+12125550142".parse().expect("valid"), serde_json::from_value(vars).expect("vars"));
        let person = Person { phone: &phone, vars: &vars, line_id, touched: line_id.is_some(), open };
        draft(running, &step.name, message, person)
    }

    #[test]
    fn a_job_says_what_the_step_says() {
        let running = running(
            "labels: { team: growth }\ncaps: { priority: 7 }",
            "{ body: 'Hi {{ name }}', external_id: '{{ name | lower }}', attachments: [a, { id: b, live_photo: true }] }",
        );
        let job = drafted(&running, json!({"name": "Ann"}), None).expect("it is one");
        assert_eq!((job.body.as_str(), job.external_id.as_deref(), job.priority), ("Hi Ann", Some("ann"), 7));
        assert_eq!(job.attachments, [json!("a"), json!({"id": "b", "live_photo": true})]);
        assert_eq!(Value::Object(job.labels), json!({"team": "growth", "step": "hello"}));
        assert_eq!(drafted(&running, json!({}), None), Err(Fault::Missing("name".into())));
    }

    #[test]
    fn what_cannot_be_a_message_names_the_field_and_not_what_it_holds() {
        let running = running("", "{ body: '{{ name }}' }");
        assert_eq!(drafted(&running, json!({"name": "  "}), None), Err(Fault::Missing("name".into())));
        assert_eq!(drafted(&running, json!({"name": "x".repeat(30_000)}), None), Err(Fault::Unreadable("body".into())));
    }

    #[test]
    fn the_campaigns_lines_send_to_those_they_know_and_to_new_people() {
        let line = |lines: &str, pinned| {
            drafted(&running(&format!("lines: {lines}"), "{ body: Hi }"), json!({}), pinned)
                .map(|job| job.phone_line_id)
        };
        assert_eq!(line("{ pool: [pl_1] }", None), Ok(Some("pl_1".into())));
        assert_eq!(line("{ pool: [pl_1] }", Some("pl_1")), Ok(None), "pinned already");
        assert_eq!(line("{ pool: [pl_1] }", Some("pl_2")), Err(Fault::NotInPool));
        assert_eq!(line("{ pinned_only: true }", None), Err(Fault::NotPinned));
        assert_eq!(line("{ pinned_only: true }", Some("pl_2")), Ok(None));
        let three = running("lines: { pool: [pl_1, pl_2, pl_3] }", "{ body: Hi }");
        let by = |pinned, open: &[&str]| {
            let open: Vec<String> = open.iter().map(|line| (*line).to_owned()).collect();
            drafted_by(&three, json!({}), pinned, &open).map(|job| job.phone_line_id)
        };
        assert_eq!(by(None, &["pl_2"]), Ok(Some("pl_2".into())), "the others may not send");
        assert_eq!(by(Some("pl_1"), &["pl_2"]), Ok(None), "who is pinned stays");
        assert_eq!(by(None, &[]), Err(Fault::NoLine));
    }
}
