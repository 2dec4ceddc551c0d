//! What everybody would read, step by step.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use serde::Serialize;

use crate::campaign::draft::{Fault, Person, draft};
use crate::campaign::file::words::Name;
use crate::campaign::forecast::Forecast;
use crate::campaign::lint::bubbles;
use crate::campaign::plan::people::Member;
use crate::campaign::program::{self, Op};
use crate::campaign::running::Running;

/// A step that sends, over everybody who may reach it.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    pub index: usize,
    pub name: Name,
    /// Messages that go out, of both ways the fewer and the more.
    pub messages: (u32, u32),
    /// Whose deadline comes before their turn.
    pub expired: u32,
    /// Renderings, by variant; one without a name where there are none.
    pub variants: BTreeMap<String, u32>,
    /// The fewest and the most bubbles that a text makes.
    pub bubbles: (usize, usize),
    pub longest_chars: usize,
    /// How many people get the text that most people get.
    pub same_text: u32,
    /// Who get none here, which ends or holds their enrolment.
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
    pub text: String,
}

/// What everybody would read.
pub(super) struct Texts {
    steps: Vec<Step>,
    /// How many people get a text, by step. Of texts their hashes: there may be one for each of a million people.
    counts: Vec<HashMap<u64, u32>>,
    pub twice: u32,
}

impl Texts {
    pub fn new(running: &Running) -> Texts {
        let sends = running.program.steps().iter().enumerate().filter(|(_, step)| matches!(step.op, Op::Send(_)));
        let step = |(index, step): (usize, &program::Step)| Step {
            index,
            name: step.name.clone(),
            messages: (0, 0),
            expired: 0,
            variants: BTreeMap::new(),
            bubbles: (usize::MAX, 0),
            longest_chars: 0,
            same_text: 0,
            faults: BTreeMap::new(),
        };
        let steps: Vec<Step> = sends.map(step).collect();
        let counts = vec![HashMap::new(); steps.len()];
        Texts { steps, counts, twice: 0 }
    }

    /// Renders what one person would read at each step, and returns the steps that have no text for them.
    pub fn render(
        &mut self,
        running: &Running,
        member: &Member<'_>,
        mut shown: Option<&mut Vec<Rendered>>,
    ) -> Vec<usize> {
        let touched = member.known.touched;
        let (mut own, mut no_text_at) = (Vec::new(), Vec::new());
        for (step, counts) in self.steps.iter_mut().zip(&mut self.counts) {
            let Some(Op::Send(message)) = running.program.get(step.index).map(|step| &step.op) else { continue };
            // Whoever gets a second message has had a first one.
            let touched = touched || !own.is_empty();
            let line_id = member.known.line_id.as_deref();
            let person = Person { phone: member.phone, vars: &member.vars, line_id, touched };
            let job = match draft(running, &step.name, message, person) {
                Ok(job) => job,
                Err(fault) => {
                    *step.faults.entry(sentence(&fault)).or_default() += 1;
                    no_text_at.push(step.index);
                    continue;
                }
            };
            let wording = message.wording(&running.campaign.name, &step.name, member.phone);
            let variant = wording.variant.clone();
            *step.variants.entry(variant.as_ref().map(Name::to_string).unwrap_or_default()).or_default() += 1;
            let made = bubbles(&job.body);
            step.bubbles = (step.bubbles.0.min(made), step.bubbles.1.max(made));
            step.longest_chars = step.longest_chars.max(job.body.chars().count());
            let text = hash_of(&job.body);
            let count = counts.entry(text).or_default();
            *count += 1;
            step.same_text = step.same_text.max(*count);
            if let Some(shown) = &mut shown {
                let (phone, text) = (member.phone.to_string(), job.body);
                shown.push(Rendered { row: member.row, phone, step: step.name.clone(), variant, text });
            }
            own.push(text);
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
            step.expired = long.expired;
            step.bubbles.0 = step.bubbles.0.min(step.bubbles.1);
            step
        };
        self.steps.into_iter().map(counted).collect()
    }
}

fn hash_of(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

fn sentence(fault: &Fault) -> String {
    match fault {
        Fault::NotPinned => "no line has written to them".to_owned(),
        Fault::NotInPool => "their line is not in the pool".to_owned(),
        Fault::Missing(variable) => format!("{variable} is missing"),
        Fault::Unreadable(field) => format!("{field} cannot be rendered"),
    }
}
