//! Who of an audience is enrolled, and what becomes of the others.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::campaign::draft::Fault;
use crate::campaign::file::shape::Missing;
use crate::campaign::forecast::Entrant;
use crate::campaign::plan::{Audience, Known, Lines, Row};
use crate::campaign::running::{Lacking, Running};
use crate::campaign::template::{Vars, is_missing};
use crate::campaign::zone::{self, region_of, zones_of};
use crate::phone::Phone;

/// Everybody, by the names and in the words that a firing has for them, and after it `campaign status`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct People {
    /// Rows of the audience, those that are nobody too.
    pub people: usize,
    pub enrolled: usize,
    /// Of those: new contacts, of whom each costs a first touch.
    pub new: usize,
    /// Of those, and of whom it lets go: nothing is sent to them before somebody has looked at what they wrote.
    pub in_review: u32,
    /// Of those: they wait until somebody mends what is missing, by reason.
    pub held: BTreeMap<String, u32>,
    /// Of those: their enrolment ends before its first message, by reason.
    pub ended: BTreeMap<String, u32>,
    /// All others, by reason.
    pub excluded: BTreeMap<String, u32>,
    /// Of those: on the way as of now, and not held. Who of them is through when a later firing comes, and may be enrolled again, is enrolled.
    pub may_be_through: u32,
    /// Of those: held until now, and their row has what they lacked, or another value, so that they go on. They are played from the first step, as the steps of a
    /// file may be others than those of the version that they stand in.
    pub let_go: u32,
    /// All who are held, ended or excluded, but for who has been enrolled before.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<Example>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Example {
    /// Of a file the line, of a query the number of the row.
    pub row: i64,
    /// Masked.
    pub phone: Option<String>,
    pub why: String,
}

/// Somebody who is enrolled, or who was, and is let go.
pub(super) struct Member<'a> {
    pub row: i64,
    pub phone: &'a Phone,
    pub known: Known,
    pub vars: Vars,
    pub is_let_go: bool,
}

impl Member<'_> {
    pub fn entrant(&self, running: &Running, lines: &Lines, at: DateTime<Utc>, no_text_at: Vec<usize>) -> Entrant {
        // Rows that name an unknown one are nobody.
        let given = zone::given(self.known.zone, self.vars.get(zone::VARIABLE)).unwrap_or_default();
        let zones = zones_of(self.phone, given, running.campaign.zone);
        Entrant {
            at,
            vars: self.vars.clone(),
            zones: zones.into_owned(),
            region: region_of(self.phone),
            pin: lines.pin(self.phone, self.known.line_id.as_deref()),
            is_new: !self.known.touched,
            sent: self.known.sent.clone(),
            unanswered: self.known.unanswered,
            no_text_at,
        }
    }
}

/// Who of the audience is enrolled or let go, and what becomes of the others.
pub(super) fn enrol<'a>(running: &Running, audience: &Audience<'a>) -> (Vec<Member<'a>>, People) {
    let mut people = People { people: audience.rows.len(), ..People::default() };
    let mut members = Vec::new();
    let mut seen = HashMap::new();
    let again = running.campaign.audience.again_after().is_some();
    for row in audience.rows {
        let Some(phone) = row.phone.as_ref().filter(|_| row.problem.is_none()) else {
            let reason = row.problem.as_deref().unwrap_or("bad_number");
            people.exclude(row, reason, row.told.as_deref().unwrap_or(reason));
            continue;
        };
        match seen.entry(phone) {
            Entry::Vacant(first) => {
                first.insert(row.n);
            }
            Entry::Occupied(first) => {
                people.exclude(row, "duplicate", &format!("the same number stands in row {}", first.get()));
                continue;
            }
        }
        let mut known = audience.known.get(phone.as_str()).cloned().unwrap_or_default();
        if let Some(bar) = &known.bar {
            people.exclude(row, bar, bar);
            people.may_be_through += u32::from(again && bar == "already_active" && known.held.is_none());
            if let Some(vars) =
                known.held.take().and_then(|had| mended(had, &row.vars)).and_then(|vars| running.vars(vars).ok())
            {
                people.let_go += 1;
                people.in_review += u32::from(known.in_review);
                members.push(Member { row: row.n, phone, known, vars, is_let_go: true });
            }
            continue;
        }
        people.enrolled += 1;
        people.new += usize::from(!known.touched);
        match running.vars(row.vars.clone()) {
            Ok(vars) => {
                people.in_review += u32::from(known.in_review);
                members.push(Member { row: row.n, phone, known, vars, is_let_go: false });
            }
            Err(Lacking { variable, missing }) => {
                let reason = Fault::Missing(variable).to_string();
                people.example(row, &reason);
                let counts = match missing {
                    Missing::Hold => &mut people.held,
                    Missing::Skip => &mut people.ended,
                };
                *counts.entry(reason).or_default() += 1;
            }
        }
    }
    (members, people)
}

/// What is known of somebody who is held, with what a row brings. None if that is nothing new.
fn mended(had: Map<String, Value>, row: &Map<String, Value>) -> Option<Map<String, Value>> {
    let brought = row.iter().filter(|(_, value)| !is_missing(value)).map(|(name, value)| (name.clone(), value.clone()));
    let mended: Map<String, Value> = had.clone().into_iter().chain(brought).collect();
    (mended != had).then_some(mended)
}

impl People {
    /// For a reason, of which `why` may tell more.
    fn exclude(&mut self, row: &Row, reason: &str, why: &str) {
        // Nothing is wrong with who has been enrolled before: of a list that is used again they may be most.
        if !reason.starts_with("already") {
            self.example(row, why);
        }
        *self.excluded.entry(reason.to_owned()).or_default() += 1;
    }

    fn example(&mut self, row: &Row, why: &str) {
        let phone = row.phone.as_ref().map(Phone::to_string);
        self.examples.push(Example { row: row.n, phone, why: why.to_owned() });
    }
}
