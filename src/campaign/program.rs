//! A campaign's steps as a flat list, so that where an enrolment stands is one number. Pure.

use sha2::{Digest as _, Sha256};

use crate::campaign::file::step::{BranchStep, Send, SendStep, Step as Written, Variant};
use crate::campaign::file::words::{Length, Name, Wait};
use crate::campaign::template::Condition;
use crate::phone::Phone;

/// The steps in order. The last one is the end, and every step leads to later ones only, so that each enrolment ends.
#[derive(Debug, Clone, PartialEq)]
pub struct Program {
    steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Of the step of the file that it came from: the name given there, else its place, such as `step-3.then.1`.
    /// The end of a branch's first way carries the branch's name.
    pub name: Name,
    pub op: Op,
}

/// What happens at a step, and where it goes on: at the next index unless it says otherwise.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// A job is made.
    Send(Box<Message>),
    /// Nothing, for a while.
    Wait(Wait),
    /// Goes on at the next index when this holds, else at `otherwise`.
    Branch {
        when: Condition,
        otherwise: usize,
    },
    /// Goes on elsewhere.
    Jump(usize),
    End,
}

/// A job to make: one of its wordings for each person.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    pub expires_after: Option<Length>,
    /// At least one; weights are at least 1.
    pub wordings: Vec<Wording>,
}

/// The fields of a job, as templates.
#[derive(Debug, Clone, PartialEq)]
pub struct Wording {
    /// The variant's name; none where there is only one wording.
    pub variant: Option<Name>,
    pub weight: u32,
    pub send: Send,
}

impl Program {
    /// The program of a campaign's steps.
    pub fn of(written: &[Written]) -> Program {
        let mut program = Program { steps: Vec::new() };
        program.add_all(written, "step-");
        program.add(Name::made("end".to_owned()), Op::End);
        program
    }

    /// All steps; an enrolment's place is an index of these.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    pub fn get(&self, index: usize) -> Option<&Step> {
        self.steps.get(index)
    }

    /// The index of the step of a name.
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.steps.iter().position(|step| step.name.as_str() == name && !matches!(step.op, Op::Jump(_)))
    }

    /// Of every step, whether some way leads there from this one; to itself one does.
    pub fn leads_to(&self, from: usize) -> Vec<bool> {
        let mut reached = vec![false; self.steps.len()];
        if let Some(from) = reached.get_mut(from) {
            *from = true;
        }
        for (index, step) in self.steps.iter().enumerate().filter(|(_, step)| !matches!(step.op, Op::End)) {
            if reached[index] {
                match step.op {
                    Op::Jump(to) => reached[to] = true,
                    Op::Branch { otherwise, .. } => (reached[index + 1], reached[otherwise]) = (true, true),
                    _ => reached[index + 1] = true,
                }
            }
        }
        reached
    }

    fn add(&mut self, name: Name, op: Op) -> usize {
        self.steps.push(Step { name, op });
        self.steps.len() - 1
    }

    fn add_all(&mut self, written: &[Written], prefix: &str) {
        for (index, step) in written.iter().enumerate() {
            let place = format!("{prefix}{}", index + 1);
            let name = |given: &Option<Name>| given.clone().unwrap_or_else(|| Name::made(place.clone()));
            match step {
                Written::Send(step) => drop(self.add(name(&step.name), Op::Send(Box::new(Message::of(step))))),
                Written::Wait(step) => drop(self.add(name(&step.name), Op::Wait(step.wait))),
                Written::Branch(step) => self.add_branch(step, name(&step.name), &place),
            }
        }
    }

    fn add_branch(&mut self, BranchStep { branch, .. }: &BranchStep, name: Name, place: &str) {
        let begin = self.add(name.clone(), Op::Branch { when: branch.when.clone(), otherwise: 0 });
        self.add_all(&branch.then, &format!("{place}.then."));
        let jump = (!branch.otherwise.is_empty()).then(|| self.add(name, Op::Jump(0)));
        let first_of_else = self.steps.len();
        self.add_all(&branch.otherwise, &format!("{place}.else."));
        let after = self.steps.len();
        if let Op::Branch { otherwise, .. } = &mut self.steps[begin].op {
            *otherwise = first_of_else;
        }
        if let Some(jump) = jump {
            self.steps[jump].op = Op::Jump(after);
        }
    }
}

impl Message {
    fn of(step: &SendStep) -> Message {
        let wordings = match step.variants.as_slice() {
            [] => vec![Wording { variant: None, weight: 1, send: step.send.clone() }],
            variants => variants.iter().map(|variant| Wording::of(&step.send, variant)).collect(),
        };
        Message { expires_after: step.expires_after, wordings }
    }

    /// The wording for a person: always the same of one step, and as often as the weights say over many people.
    pub fn wording(&self, campaign: &Name, step: &Name, phone: &Phone) -> &Wording {
        let mut hash = Sha256::new();
        for part in [campaign.as_str(), step.as_str(), phone.as_str()] {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        let hash: [u8; 32] = hash.finalize().into();
        let drawn = u64::from_be_bytes([hash[0], hash[1], hash[2], hash[3], hash[4], hash[5], hash[6], hash[7]]);
        let total: u64 = self.wordings.iter().map(|wording| u64::from(wording.weight)).sum();
        let mut left = drawn % total.max(1);
        let mut chosen = self.wordings.iter();
        let found = chosen.find(|wording| {
            let hit = left < u64::from(wording.weight);
            left = left.saturating_sub(u64::from(wording.weight));
            hit
        });
        found.unwrap_or(&self.wordings[0])
    }
}

impl Wording {
    /// What a variant says, and for the rest what is under `send`.
    fn of(send: &Send, variant: &Variant) -> Wording {
        let content = variant.content.clone().or(send.content.clone());
        let send = Send { content, ..send.clone() };
        Wording { variant: Some(variant.name.clone()), weight: variant.weight, send }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;
    use crate::campaign::file;

    fn program(steps: &str) -> Program {
        let source =
            format!("name: a\nzone: UTC\nschedule: {{ manual: true }}\naudience: {{ csv: a.csv }}\nsteps: {steps}\n");
        file::read(&source).unwrap_or_else(|findings| panic!("{findings:?} in {source}")).program
    }

    /// Name and operation of each step, in short.
    fn shown(program: &Program) -> Vec<String> {
        let op = |op: &Op| match op {
            Op::Send(_) => "send".to_owned(),
            Op::Wait(wait) => format!("wait {wait}"),
            Op::Branch { when, otherwise } => format!("if not {when} go to {otherwise}"),
            Op::Jump(to) => format!("go to {to}"),
            Op::End => "end".to_owned(),
        };
        program.steps().iter().map(|step| format!("{}: {}", step.name, op(&step.op))).collect()
    }

    #[test]
    fn branches_become_jumps_forward() {
        let program = program(
            "[{ name: hello, send: { body: Hi } },
              { branch: { if: replied, then: [{ wait: 1d }, { name: b, send: { body: B } }], else: [{ send: { body: C } }] } },
              { name: d, branch: { if: delivered, then: [{ send: { body: D } }] } },
              { branch: { if: delivered, else: [{ send: { body: E } }] } }]",
        );
        assert_eq!(
            shown(&program),
            [
                "hello: send",
                "step-2: if not replied go to 5",
                "step-2.then.1: wait 1d",
                "b: send",
                "step-2: go to 6",
                "step-2.else.1: send",
                "d: if not delivered go to 8",
                "step-3.then.1: send",
                "step-4: if not delivered go to 10",
                "step-4: go to 11",
                "step-4.else.1: send",
                "end: end",
            ]
        );
        assert_eq!(
            (program.index_of("step-2"), program.index_of("b"), program.index_of("none")),
            (Some(1), Some(3), None)
        );
    }

    #[test]
    fn a_person_gets_one_wording_and_all_people_get_them_by_weight() {
        let program = program(
            "[{ name: hello, send: { effect: celebration, bubbles: 2 }, variants: [{ name: a, weight: 1, body: A },
               { name: b, weight: 3, body: B, effect: lasers, bubbles: 3 }] }]",
        );
        let Op::Send(message) = &program.steps()[0].op else { panic!("a send") };
        let name = |text: &str| text.parse::<Name>().expect("valid");
        let drawn = |phone: u32, step: &str| {
            let phone = format!("+1555{phone:07}").parse().expect("valid");
            message.wording(&name("welcome"), &name(step), &phone)
        };
        let mut counts = BTreeMap::new();
        for phone in 0..4_000 {
            let wording = drawn(phone, "hello");
            assert_eq!(wording, drawn(phone, "hello"));
            *counts.entry(wording.variant.clone().expect("named").to_string()).or_insert(0) += 1;
        }
        assert!((900..1_100).contains(&counts["a"]) && counts["a"] + counts["b"] == 4_000, "{counts:?}");
        let same = (0..1_000).filter(|phone| drawn(*phone, "hello") == drawn(*phone, "other")).count();
        assert!(same < 750, "each step draws anew: {same}");
        let effect = |wording: &Wording| wording.send.content.effect.clone().expect("given").to_string();
        assert_eq!(message.wordings.iter().map(effect).collect::<Vec<_>>(), ["celebration", "lasers"]);
        let bubbles = message.wordings.iter().map(|wording| wording.send.content.bubbles);
        assert_eq!(bubbles.collect::<Vec<_>>(), [Some(2), Some(3)]);
    }

    /// The first draw must not change between releases: people in the middle of a campaign would change their wording.
    #[test]
    fn the_wording_of_a_known_person_never_changes() {
        let program = program("[{ send: {}, variants: [{ name: a, body: A }, { name: b, body: B }] }]");
        let Op::Send(message) = &program.steps()[0].op else { panic!("a send") };
        let drawn = |digit: u8| {
            let phone: Phone = format!("+1555014220{digit}").parse().expect("valid");
            let wording = message.wording(&Name::made("welcome".into()), &program.steps()[0].name, &phone);
            wording.variant.clone().expect("named").to_string()
        };
        assert_eq!((0..8).map(drawn).collect::<String>(), "aabbaaab");
    }

    fn any_steps() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![Just("{ send: { body: Hi } }".to_owned()), Just("{ wait: 1d }".to_owned())];
        let step = leaf.prop_recursive(4, 40, 4, |inner| {
            let arm = || proptest::collection::vec(inner.clone(), 0..4);
            (arm(), arm())
                .prop_filter("it leads somewhere", |(then, other)| !then.is_empty() || !other.is_empty())
                .prop_map(|(then, other)| {
                    format!(
                        "{{ branch: {{ if: replied, then: [{}], else: [{}] }} }}",
                        then.join(", "),
                        other.join(", ")
                    )
                })
        });
        proptest::collection::vec(step, 0..6).prop_map(|steps| {
            let first = "{ send: { body: First } }".to_owned();
            format!("[{}]", std::iter::once(first).chain(steps).collect::<Vec<_>>().join(", "))
        })
    }

    proptest! {
        #[test]
        fn every_program_ends_whatever_its_conditions_say(steps in any_steps(), answers in proptest::collection::vec(any::<bool>(), 64)) {
            let program = program(&steps);
            let mut answers = answers.into_iter().cycle();
            let (mut index, mut visited) = (0, BTreeSet::new());
            while let Some(Step { op, .. }) = program.get(index) {
                prop_assert!(visited.insert(index), "no step comes twice");
                let next = match op {
                    Op::Send(_) | Op::Wait(_) => index + 1,
                    Op::Branch { otherwise, .. } => if answers.next() == Some(true) { index + 1 } else { *otherwise },
                    Op::Jump(to) => *to,
                    Op::End => break,
                };
                prop_assert!(next > index && next < program.steps().len());
                index = next;
            }
            prop_assert_eq!(index, program.steps().len() - 1, "it ends at the end");
        }

        #[test]
        fn names_and_indices_are_one_to_one_and_every_step_is_reached(steps in any_steps()) {
            let again = program(&steps);
            let program = program(&steps);
            prop_assert_eq!(&program, &again, "the same file, the same program");
            let own = |step: &&Step| !matches!(step.op, Op::Jump(_));
            let names: BTreeSet<&str> = program.steps().iter().filter(own).map(|step| step.name.as_str()).collect();
            prop_assert_eq!(names.len(), program.steps().iter().filter(own).count());
            for (index, step) in program.steps().iter().enumerate().filter(|(_, step)| own(step)) {
                prop_assert_eq!(program.index_of(step.name.as_str()), Some(index));
            }
            prop_assert!(program.leads_to(0).iter().all(|reached| *reached));
        }
    }
}
