//! How many people of a campaign stand where, by step and wording, out of counts of single places. Pure.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::campaign::program::{Op, Program, Step as Place};

/// Enrolments at one place whose step has no message in the queue or sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    pub version: i32,
    /// The index in the program of the version.
    pub step: i32,
    /// `active`, `held`, `done` or `stopped`.
    pub state: String,
    pub reason: Option<String>,
    /// The variable that is missing, and what else was given; or the field that does not fit; of who is active, what holds them back.
    pub detail: Option<String>,
    /// The time of the step had come before this one, or before their enrolment ended.
    pub arrived: bool,
    pub people: i64,
}

/// People for whom a step made a message that waits in the queue or was sent, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Messages {
    /// The step's name.
    pub step: String,
    pub variant: Option<String>,
    pub counts: Counts,
}

/// What became of messages, in people.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// It waits for its line, or is being sent.
    pub queued: i64,
    /// Chert took it, or had it already.
    pub sent: i64,
    /// Of those: it is known to have arrived.
    pub delivered: i64,
    /// Of those who got it: it is the message that they answered, with anything but a stop.
    pub replied: i64,
    /// Of those who got it: it is the message that they answered with a stop.
    pub opted_out: i64,
}

/// A step that sends, or at which somebody stands. `reached` is the sum of `due`, `queued`, `sent`, `held` and `ended`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Step {
    pub name: String,
    /// It is the next step of people who wait for its time.
    pub coming: i64,
    /// People whose time at the step had come, each once, whatever became of it.
    pub reached: i64,
    /// Of those: nothing is queued for them yet. They wait for their hours, their cap, or room in the queue, or are held back.
    pub due: i64,
    /// Of those: who are held back until they reply, somebody has looked at what they wrote, or the account has a line for them, by reason.
    pub held_back: BTreeMap<String, i64>,
    #[serde(flatten)]
    pub messages: Counts,
    /// Who stand there until somebody mends what is missing, by reason.
    pub held: BTreeMap<String, i64>,
    /// Whose enrolment ended there before its message was sent, by reason.
    pub ended: BTreeMap<String, i64>,
    /// Whose enrolment ended before the time of the step, by reason: not counted in `reached`.
    pub left_before: BTreeMap<String, i64>,
    /// What was made of it, by wording; none where there is only one.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub variants: BTreeMap<String, Counts>,
}

/// All steps, in the order of the program, and who have come to its end. Somebody who goes through a campaign twice counts twice.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Funnel {
    pub steps: Vec<Step>,
    pub done: i64,
}

/// The name of a step of a program; its index where the program has none or cannot be read.
pub fn name_of(program: Option<&Program>, step: i32) -> String {
    let found = program.and_then(|program| program.get(usize::try_from(step).ok()?));
    found.map_or_else(|| step.to_string(), |step| step.name.to_string())
}

/// Makes it of counts. Steps of one name are one step, in whatever version; `programs` by version.
pub fn funnel(programs: &BTreeMap<i32, Program>, standings: &[Standing], messages: &[Messages]) -> Funnel {
    let mut funnel = Funnel { steps: in_order(programs), done: 0 };
    for standing in standings {
        let people = standing.people;
        if standing.state == "done" {
            funnel.done += people;
            continue;
        }
        let step = funnel.step(name_of(programs.get(&standing.version), standing.step));
        let reasons = match (standing.state.as_str(), standing.arrived) {
            ("held", _) => Some(&mut step.held),
            ("stopped", true) => Some(&mut step.ended),
            ("stopped", false) => Some(&mut step.left_before),
            (_, true) => {
                step.due += people;
                standing.detail.as_ref().map(|_| &mut step.held_back)
            }
            (_, false) => {
                step.coming += people;
                None
            }
        };
        if let Some(reasons) = reasons {
            *reasons.entry(reason(standing)).or_default() += people;
        }
    }
    for made in messages {
        let step = funnel.step(made.step.clone());
        step.messages.add(made.counts);
        if let Some(variant) = &made.variant {
            step.variants.entry(variant.clone()).or_default().add(made.counts);
        }
    }
    for step in &mut funnel.steps {
        let (held, ended): (i64, i64) = (step.held.values().sum(), step.ended.values().sum());
        step.reached = step.due + step.messages.queued + step.messages.sent + held + ended;
    }
    funnel.steps.retain(|step| step.sends(programs) || step.reached + step.coming > 0 || !step.left_before.is_empty());
    funnel
}

impl Funnel {
    fn step(&mut self, name: String) -> &mut Step {
        let place = self.steps.iter().position(|step| step.name == name).unwrap_or_else(|| {
            self.steps.push(Step { name, ..Step::default() });
            self.steps.len() - 1
        });
        &mut self.steps[place]
    }
}

impl Step {
    fn sends(&self, programs: &BTreeMap<i32, Program>) -> bool {
        let sends = |place: &Place| place.name.as_str() == self.name && matches!(place.op, Op::Send(_));
        programs.values().any(|program| program.steps().iter().any(sends))
    }
}

impl Counts {
    fn add(&mut self, other: Counts) {
        self.queued += other.queued;
        self.sent += other.sent;
        self.delivered += other.delivered;
        self.replied += other.replied;
        self.opted_out += other.opted_out;
    }
}

/// The newest program's steps in its order; a step that only older ones have stands behind the one that it followed there.
fn in_order(programs: &BTreeMap<i32, Program>) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for program in programs.values().rev() {
        let mut next = 0;
        for place in program.steps().iter().filter(|place| !matches!(place.op, Op::Jump(_))) {
            let name = place.name.as_str();
            next = match steps.iter().position(|step| step.name == name) {
                Some(found) => found + 1,
                None => {
                    steps.insert(next, Step { name: name.to_owned(), ..Step::default() });
                    next + 1
                }
            };
        }
    }
    steps
}

fn reason(standing: &Standing) -> String {
    // Without the keys that were given in its place: people of one reason are one number.
    let what = standing.detail.as_deref().and_then(|detail| detail.split(' ').next());
    standing.reason.as_deref().into_iter().chain(what).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::campaign::file;

    fn programs(versions: &[&str]) -> BTreeMap<i32, Program> {
        let program = |steps: &&str| {
            let source = format!(
                "name: a\nzone: UTC\nschedule: {{ manual: true }}\naudience: {{ csv: a.csv }}\nsteps: {steps}\n"
            );
            file::read(&source).unwrap_or_else(|findings| panic!("{findings:?} in {source}")).program
        };
        (1..).zip(versions.iter().map(program)).collect()
    }

    fn standing(version: i32, step: i32, state: &str, reason: Option<&str>, arrived: bool, people: i64) -> Standing {
        let reason = reason.map(str::to_owned);
        Standing { version, step, state: state.to_owned(), reason, detail: None, arrived, people }
    }

    fn names(funnel: &Funnel) -> Vec<&str> {
        funnel.steps.iter().map(|step| step.name.as_str()).collect()
    }

    const OLD: &str = "[{ name: hello, send: { body: A } }, { wait: 1d }, { name: help, send: { body: B } }, { name: bye, send: { body: C } }]";
    const NEW: &str = "[{ name: hello, send: { body: A } }, { wait: 2d }, { name: bye, send: { body: C } }]";

    #[test]
    fn steps_of_one_name_are_one_and_stand_in_the_order_of_the_newest_program() {
        let programs = programs(&[OLD, NEW]);
        let at_bye = [standing(1, 3, "active", None, true, 2), standing(2, 2, "active", None, false, 5)];
        let funnel = funnel(&programs, &at_bye, &[]);
        assert_eq!(names(&funnel), ["hello", "help", "bye"], "a wait at which nobody stands is no row");
        let bye = &funnel.steps[2];
        assert_eq!((bye.due, bye.coming, bye.reached), (2, 5, 2));
    }

    #[test]
    fn reasons_are_told_apart_by_where_they_came_up_and_by_what_is_missing() {
        let held =
            Standing { detail: Some("city".to_owned()), ..standing(1, 2, "held", Some("missing_variable"), true, 3) };
        let standings = [
            held,
            standing(1, 2, "stopped", Some("failed"), true, 2),
            standing(1, 2, "stopped", Some("replied"), false, 4),
            standing(1, 4, "done", None, true, 9),
        ];
        let funnel = funnel(&programs(&[OLD]), &standings, &[]);
        let help = &funnel.steps[1];
        assert_eq!(help.held, BTreeMap::from([("missing_variable: city".to_owned(), 3)]));
        assert_eq!(help.ended, BTreeMap::from([("failed".to_owned(), 2)]));
        assert_eq!(help.left_before, BTreeMap::from([("replied".to_owned(), 4)]));
        assert_eq!((help.reached, funnel.done), (5, 9));
    }

    #[test]
    fn who_is_held_back_is_due_and_told_apart_by_the_reason() {
        let held_back = Standing { detail: Some("unanswered".to_owned()), ..standing(1, 2, "active", None, true, 3) };
        let funnel = funnel(&programs(&[OLD]), &[held_back, standing(1, 2, "active", None, true, 2)], &[]);
        let help = &funnel.steps[1];
        assert_eq!((help.due, help.reached, &help.held_back), (5, 5, &BTreeMap::from([("unanswered".to_owned(), 3)])));
    }

    #[test]
    fn people_of_one_reason_are_one_number_whatever_they_were_given_instead() {
        let held = |detail: &str| Standing {
            detail: Some(detail.to_owned()),
            ..standing(1, 2, "held", Some("missing_variable"), true, 3)
        };
        let standings = [held("city"), held("city (given, but not declared: ctiy)")];
        let funnel = funnel(&programs(&[OLD]), &standings, &[]);
        assert_eq!(funnel.steps[1].held, BTreeMap::from([("missing_variable: city".to_owned(), 6)]));
    }

    #[test]
    fn a_step_is_the_sum_of_its_wordings() {
        let made = |variant: Option<&str>, sent, replied| Messages {
            step: "hello".to_owned(),
            variant: variant.map(str::to_owned),
            counts: Counts { sent, replied, queued: 1, ..Counts::default() },
        };
        let funnel = funnel(&programs(&[OLD]), &[], &[made(Some("a"), 5, 2), made(Some("b"), 7, 1), made(None, 1, 0)]);
        let hello = &funnel.steps[0];
        assert_eq!((hello.messages.sent, hello.messages.replied, hello.messages.queued, hello.reached), (13, 3, 3, 16));
        assert_eq!((hello.variants["a"].sent, hello.variants["b"].sent, hello.variants.len()), (5, 7, 2));
    }

    #[test]
    fn what_no_program_knows_is_shown_by_its_number_and_behind_the_others() {
        let funnel = funnel(&programs(&[OLD]), &[standing(7, 12, "active", None, true, 1)], &[]);
        assert_eq!(names(&funnel), ["hello", "help", "bye", "12"]);
    }

    proptest! {
        #[test]
        fn everybody_is_counted_at_one_place(
            places in proptest::collection::vec((1i32..3, 0i32..6, 0usize..4, any::<bool>(), 0i64..100), 0..40),
        ) {
            let states = ["active", "held", "stopped", "done"];
            let standings: Vec<Standing> = places
                .into_iter()
                .map(|(version, step, state, arrived, people)| {
                    let reason = matches!(states[state], "held" | "stopped").then_some("failed");
                    standing(version, step, states[state], reason, arrived, people)
                })
                .collect();
            let funnel = funnel(&programs(&[OLD, NEW]), &standings, &[]);
            let left: i64 = funnel.steps.iter().flat_map(|step| step.left_before.values()).sum();
            let counted: i64 = funnel.steps.iter().map(|step| step.reached + step.coming).sum();
            prop_assert_eq!(counted + left + funnel.done, standings.iter().map(|standing| standing.people).sum::<i64>());
        }
    }
}
