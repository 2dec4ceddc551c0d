//! An enrolment's way through the program, up to the next thing that takes time or makes a job. Pure.

use chrono::{DateTime, NaiveTime, TimeDelta, Utc};
use chrono_tz::Tz;

use crate::campaign::calendar::Calendar;
use crate::campaign::file::words::Wait;
use crate::campaign::program::{Message, Op, Program};
use crate::campaign::template::{Facts, RenderError};
use crate::campaign::zone::first_instant;

/// Where a way leads.
#[derive(Debug, Clone, PartialEq)]
pub enum Way<'p> {
    /// The step is reached later.
    Rest {
        step: usize,
        until: DateTime<Utc>,
    },
    /// A job is to be made.
    Send {
        step: usize,
        message: &'p Message,
    },
    End {
        step: usize,
    },
    /// A condition cannot be answered.
    Fault {
        step: usize,
        error: RenderError,
    },
}

/// The clocks that waits are told by.
#[derive(Debug, Clone, Copy)]
pub struct Clocks<'c> {
    /// The recipient's.
    pub zone: Tz,
    pub calendar: Option<&'c Calendar>,
}

/// Goes on from a step that was reached `at` this instant.
pub fn walk<'p>(program: &'p Program, from: usize, at: DateTime<Utc>, facts: Facts<'_>, clocks: Clocks<'_>) -> Way<'p> {
    let mut step = from;
    // Every step leads to later ones only, so there are no more turns than steps.
    while let Some(found) = program.get(step) {
        step = match &found.op {
            Op::Send(message) => return Way::Send { step, message },
            Op::Wait(wait) => return Way::Rest { step: step + 1, until: until(*wait, at, clocks) },
            Op::Branch { when, otherwise } => match when.holds(facts) {
                Ok(true) => step + 1,
                Ok(false) => *otherwise,
                Err(error) => return Way::Fault { step, error },
            },
            Op::Jump(to) => *to,
            Op::End => break,
        };
    }
    Way::End { step }
}

/// When a wait is over that begins `at` this instant, always later.
pub fn until(wait: Wait, at: DateTime<Utc>, clocks: Clocks<'_>) -> DateTime<Utc> {
    let today = at.with_timezone(&clocks.zone).date_naive();
    let on = |date: chrono::NaiveDate, time: NaiveTime| first_instant(date.and_time(time), clocks.zone);
    let later = match wait {
        Wait::For(length) => TimeDelta::from_std(length.0).ok().and_then(|length| at.checked_add_signed(length)),
        Wait::Until(clock) => {
            // The day after may begin with the very gap in which today's time fell.
            let days = (0..3).filter_map(|days| today.checked_add_days(chrono::Days::new(days)));
            days.into_iter().filter_map(|day| on(day, clock.0)).find(|instant| *instant > at)
        }
        Wait::BusinessDay(clock) => {
            let day = match clocks.calendar {
                Some(calendar) => calendar.next_business_day(today),
                None => today.succ_opt(),
            };
            day.and_then(|day| on(day, clock.map_or(NaiveTime::MIN, |clock| clock.0)))
        }
    };
    later.unwrap_or(at + TimeDelta::days(1))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use chrono_tz::America;

    use super::*;
    use crate::campaign::file;
    use crate::campaign::template::Vars;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().expect("a time")
    }

    fn waits(wait: &str, from: &str) -> String {
        let clocks = Clocks { zone: America::New_York, calendar: Calendar::named("us") };
        let until = until(wait.parse().expect("a wait"), at(from), clocks);
        until.with_timezone(&America::New_York).format("%a %m-%d %H:%M").to_string()
    }

    #[test]
    fn waits_are_told_by_the_recipients_clock() {
        let friday_evening = "2026-12-04T23:30:00Z";
        assert_eq!(waits("2d", friday_evening), "Sun 12-06 18:30");
        assert_eq!(waits("until 09:00", friday_evening), "Sat 12-05 09:00");
        assert_eq!(waits("until 19:00", friday_evening), "Fri 12-04 19:00");
        assert_eq!(waits("until 18:30", friday_evening), "Sat 12-05 18:30", "the next time, not this one");
        assert_eq!(waits("next business day 10:00", friday_evening), "Mon 12-07 10:00");
        assert_eq!(waits("next business day", "2026-12-24T15:00:00Z"), "Mon 12-28 00:00", "after Christmas");
        assert_eq!(waits("until 02:30", "2027-03-14T05:00:00Z"), "Sun 03-14 03:00", "at the end of the gap");
        assert_eq!(waits("until 02:30", "2027-03-14T07:00:00Z"), "Mon 03-15 02:30");
    }

    #[test]
    fn a_way_leads_through_branches_to_what_takes_time() {
        let source = "name: a\nzone: UTC\nschedule: { manual: true }\naudience: { csv: a.csv }\nvariables: { plan: { missing: hold } }\n\
             steps: [{ send: { body: Hi } }, { branch: { if: replied, then: [{ wait: 1d }], \
             else: [{ branch: { if: \"var.plan == 'pro'\", then: [{ send: { body: B } }] } }] } }]\n";
        let program = file::read(source).unwrap_or_else(|findings| panic!("{findings:?}")).program;
        let labels = BTreeMap::new();
        let clocks = Clocks { zone: Tz::UTC, calendar: None };
        let noon = at("2026-12-01T12:00:00Z");
        let way = |from, replied, plan: Option<&str>| {
            let vars: Vars = plan.map(|plan| ("plan".to_owned(), plan.into())).into_iter().collect();
            match walk(&program, from, noon, Facts { replied, delivered: false, vars: &vars, labels: &labels }, clocks)
            {
                Way::Rest { step, until } => format!("rest until {until} for {step}"),
                Way::Send { step, .. } => format!("send {step}"),
                Way::End { step } => format!("end {step}"),
                Way::Fault { step, error } => format!("fault {step}: {error}"),
            }
        };
        let end = program.steps().len() - 1;
        assert_eq!(way(0, false, None), "send 0");
        assert_eq!(way(1, true, None), "rest until 2026-12-02 12:00:00 UTC for 3");
        assert_eq!(way(1, false, Some("pro")), "send 5");
        assert_eq!(way(1, false, Some("free")), format!("end {end}"));
        assert_eq!(way(1, false, None), "fault 4: the variable plan is missing");
        assert_eq!(way(end, true, None), format!("end {end}"));
        assert_eq!(way(99, true, None), "end 99", "a place that the program does not have is no message");
    }
}
