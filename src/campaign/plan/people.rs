//! Who of an audience is enrolled, and what becomes of the others.

use std::collections::{BTreeMap, HashSet};

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::campaign::file::shape::Missing;
use crate::campaign::forecast::Entrant;
use crate::campaign::plan::{Audience, Known, PlanLine, Row};
use crate::campaign::running::Running;
use crate::campaign::template::Vars;
use crate::campaign::zone::{region_of, zones_of};
use crate::phone::Phone;

/// Rows that are shown of those who are left out or held.
const MOST_EXAMPLES: usize = 20;

#[derive(Debug, Clone, Default, Serialize)]
pub struct People {
    pub rows: usize,
    pub enrolled: usize,
    /// Of those: new contacts, of whom each costs a first touch.
    pub new: usize,
    /// They wait until somebody mends what is missing.
    pub held: BTreeMap<String, u32>,
    pub left_out: BTreeMap<String, u32>,
    /// The first of those who are held or left out.
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

/// Somebody who is enrolled.
pub(super) struct Member<'a> {
    pub row: i64,
    pub phone: &'a Phone,
    pub known: Known,
    pub vars: Vars,
}

impl Member<'_> {
    pub fn entrant(&self, running: &Running, lines: &[PlanLine], at: DateTime<Utc>, no_text_at: Vec<usize>) -> Entrant {
        let pin = self.known.line_id.as_ref().and_then(|id| lines.iter().position(|line| line.id == *id));
        let (zones, _) = zones_of(self.phone, self.known.zone, running.campaign.zone);
        let region = region_of(self.phone);
        let (vars, zones, is_new) = (self.vars.clone(), zones.into_owned(), !self.known.touched);
        Entrant { at, vars, zones, region, pin, is_new, no_text_at }
    }
}

/// Who of the audience is enrolled, and what becomes of the others.
pub(super) fn enrol<'a>(running: &Running, audience: &Audience<'a>) -> (Vec<Member<'a>>, People) {
    let mut people = People { rows: audience.rows.len(), ..People::default() };
    let mut members = Vec::new();
    let mut seen = HashSet::new();
    for row in audience.rows {
        let Some(phone) = row.phone.as_ref().filter(|_| row.problem.is_none()) else {
            people.leave_out(row, row.problem.clone().unwrap_or_else(|| "bad_number".to_owned()));
            continue;
        };
        if !seen.insert(phone) {
            people.leave_out(row, "duplicate".to_owned());
            continue;
        }
        let known = audience.known.get(phone.as_str()).cloned().unwrap_or_default();
        if let Some(bar) = known.bar {
            people.leave_out(row, bar);
            continue;
        }
        match running.vars(row.vars.clone()) {
            Ok(vars) => {
                people.enrolled += 1;
                people.new += usize::from(!known.touched);
                members.push(Member { row: row.n, phone, known, vars });
            }
            Err(lacking) => {
                let why = format!("{} is missing", lacking.variable);
                match lacking.missing {
                    Missing::Hold => people.hold(row, why),
                    Missing::Skip => people.leave_out(row, why),
                }
            }
        }
    }
    (members, people)
}

impl People {
    fn leave_out(&mut self, row: &Row, why: String) {
        self.example(row, &why);
        *self.left_out.entry(why).or_default() += 1;
    }

    fn hold(&mut self, row: &Row, why: String) {
        self.example(row, &why);
        *self.held.entry(why).or_default() += 1;
    }

    fn example(&mut self, row: &Row, why: &str) {
        if self.examples.len() < MOST_EXAMPLES {
            let phone = row.phone.as_ref().map(Phone::to_string);
            self.examples.push(Example { row: row.n, phone, why: why.to_owned() });
        }
    }
}
