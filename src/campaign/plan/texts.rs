//! What everybody would read, step by step.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use serde::Serialize;

use crate::campaign::draft::{Person, draft};
use crate::campaign::file::words::Name;
use crate::campaign::forecast::{Answers, Forecast, Lengths};
use crate::campaign::lint::{bubbles, has_link};
use crate::campaign::plan::course::{By, Coming, Course};
use crate::campaign::plan::people::Member;
use crate::campaign::program::{self, Message, Op};
use crate::campaign::running::Running;

/// A step that sends, over everybody who comes to it. What they have not answered yet decides at a branch is counted as the longer way.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    pub index: usize,
    pub name: Name,
    /// Messages that go out, of both ways the fewer and the more.
    pub messages: (u32, u32),
    /// Whose deadline comes before their turn.
    pub expired: u32,
    /// Who wait there for a reply, if nobody answers: so many messages to them are unanswered.
    pub unanswered: u32,
    /// Renderings, by variant; one without a name where there are none.
    pub variants: BTreeMap<String, u32>,
    /// The fewest and the most bubbles that a text makes, by whichever way.
    pub bubbles: (usize, usize),
    pub longest_chars: usize,
    /// How many people get the text that most people get.
    pub same_text: u32,
    /// Who would get one here as well, but only by another way than the one that is counted.
    pub another_way: u32,
    /// New contacts whose first message would be this one, by whichever way, and has a link: Chert refuses it.
    pub links_to_new: u32,
    /// Who get none here, which ends or holds their enrolment for this reason, by whichever way they come.
    pub faults: BTreeMap<String, u32>,
}

/// What one person would read.
#[derive(Debug, Clone, Serialize)]
pub struct Rendered {
    pub row: i64,
    /// Masked.
    pub phone: String,
    pub step: Name,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<Name>,
    /// They read it only if they take another way than the one that is counted.
    pub another_way: bool,
    pub text: String,
}

/// What everybody would read.
pub(super) struct Texts {
    steps: Vec<Step>,
    /// How many people get a text, by step. Of texts their hashes: there may be one for each of a million people.
    counts: Vec<HashMap<u64, u32>>,
    lengths: Lengths,
    pub twice: u32,
    pub held_at_branches: BTreeMap<Name, u32>,
}

impl Texts {
    pub fn new(running: &Running) -> Texts {
        let sends = running.program.steps().iter().enumerate().filter(|(_, step)| matches!(step.op, Op::Send(_)));
        let step = |(index, step): (usize, &program::Step)| Step {
            index,
            name: step.name.clone(),
            messages: (0, 0),
            expired: 0,
            unanswered: 0,
            variants: BTreeMap::new(),
            bubbles: (usize::MAX, 0),
            longest_chars: 0,
            same_text: 0,
            another_way: 0,
            links_to_new: 0,
            faults: BTreeMap::new(),
        };
        let steps: Vec<Step> = sends.map(step).collect();
        let (counts, lengths) = (vec![HashMap::new(); steps.len()], Lengths::of(&running.program));
        Texts { steps, counts, lengths, twice: 0, held_at_branches: BTreeMap::new() }
    }

    /// Renders what one person would read at each step that they may come to, and returns the steps that have no text for them.
    pub fn render(
        &mut self,
        running: &Running,
        open: &[String],
        member: &Member<'_>,
        mut shown: Option<&mut Vec<Rendered>>,
    ) -> Vec<usize> {
        let mut course = Course::of(&running.program);
        let (mut own, mut no_text_at) = (Vec::new(), Vec::new());
        let mut sends = self.steps.iter_mut().zip(&mut self.counts);
        for (index, step) in running.program.steps().iter().enumerate() {
            let send = if matches!(step.op, Op::Send(_)) { sends.next() } else { None };
            let Some(coming) = course.at(index) else { continue };
            match &step.op {
                Op::End => {}
                Op::Jump(to) => course.lead(*to, coming),
                Op::Wait(_) => course.lead(index + 1, coming),
                Op::Branch { when, otherwise } => {
                    let answers = Answers::of(when, &member.vars, &running.campaign.labels);
                    course.part(&self.lengths, &answers, (index + 1, *otherwise), coming);
                    if answers.may_fail() {
                        *self.held_at_branches.entry(step.name.clone()).or_default() += 1;
                    }
                }
                Op::Send(message) => {
                    let Some((step, counts)) = send else { continue };
                    let Some(rendered) = step.render(running, open, message, member, coming) else {
                        no_text_at.push(index);
                        continue;
                    };
                    course.lead(index + 1, Coming { unwritten: false, ..coming });
                    if coming.by == By::TheWay {
                        let text = hash_of(&rendered.text);
                        let count = counts.entry(text).or_default();
                        *count += 1;
                        step.same_text = step.same_text.max(*count);
                        own.push(text);
                    }
                    if let Some(shown) = &mut shown {
                        shown.push(rendered);
                    }
                }
            }
        }
        let all = own.len();
        own.sort_unstable();
        own.dedup();
        self.twice += u32::from(own.len() < all);
        no_text_at
    }

    pub fn steps(self, short: &Forecast, long: &Forecast) -> Vec<Step> {
        let fate = |forecast: &Forecast, index| forecast.steps.get(&index).copied().unwrap_or_default();
        let counted = |mut step: Step| {
            let (short, long) = (fate(short, step.index), fate(long, step.index));
            step.messages = (short.sent.min(long.sent), short.sent.max(long.sent));
            (step.expired, step.unanswered) = (long.expired, long.unanswered);
            step.bubbles.0 = step.bubbles.0.min(step.bubbles.1);
            step
        };
        self.steps.into_iter().map(counted).collect()
    }
}

impl Step {
    /// What somebody reads here, counted.
    fn render(
        &mut self,
        running: &Running,
        open: &[String],
        message: &Message,
        member: &Member<'_>,
        coming: Coming,
    ) -> Option<Rendered> {
        let (line_id, touched) = (member.known.line_id.as_deref(), member.known.touched);
        let person = Person { phone: member.phone, vars: &member.vars, line_id, touched, open };
        let text = match draft(running, &self.name, message, person) {
            Ok(job) => job.body,
            Err(fault) => {
                *self.faults.entry(fault.to_string()).or_default() += 1;
                return None;
            }
        };
        let variant = message.wording(&running.campaign.name, &self.name, member.phone).variant.clone();
        let made = bubbles(&text);
        self.bubbles = (self.bubbles.0.min(made), self.bubbles.1.max(made));
        self.longest_chars = self.longest_chars.max(text.chars().count());
        self.links_to_new += u32::from(coming.unwritten && !touched && has_link(&text));
        match coming.by {
            By::TheWay => {
                *self.variants.entry(variant.as_ref().map(Name::to_string).unwrap_or_default()).or_default() += 1
            }
            By::AnotherWay => self.another_way += 1,
        }
        let (phone, step, another_way) = (member.phone.to_string(), self.name.clone(), coming.by == By::AnotherWay);
        Some(Rendered { row: member.row, phone, step, variant, another_way, text })
    }
}

fn hash_of(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}
