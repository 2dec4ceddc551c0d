//! What comes next of something that waits: all that binds it, and the earliest instant that this leaves.

use chrono::{DateTime, Utc};

/// What is known of when something lifts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Lifts {
    /// At `until`.
    At,
    /// Not before `until`: it depends on what others do.
    NotBefore,
    /// Somebody has to do something, or something has to happen.
    Unknown,
}

/// One thing that something waits for.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Bind {
    /// A word of a closed list, such as `not_due` or `line_slot`.
    pub what: &'static str,
    pub lifts: Lifts,
    pub until: Option<DateTime<Utc>>,
    /// Whose clocks it goes by, where that is not UTC.
    pub zone: Option<String>,
    /// The job, line, worker, campaign, variable or rule that binds.
    pub of: Option<String>,
    /// How many stand before it.
    pub count: Option<i64>,
    /// When it is looked at again, whatever has happened by then.
    pub again_at: Option<DateTime<Utc>>,
}

impl Bind {
    pub fn at(what: &'static str, until: DateTime<Utc>) -> Bind {
        Bind { lifts: Lifts::At, until: Some(until), ..Bind::unknown(what) }
    }

    pub fn not_before(what: &'static str, until: Option<DateTime<Utc>>) -> Bind {
        Bind { lifts: Lifts::NotBefore, until, ..Bind::unknown(what) }
    }

    pub fn unknown(what: &'static str) -> Bind {
        Bind { what, lifts: Lifts::Unknown, until: None, zone: None, of: None, count: None, again_at: None }
    }

    pub fn of(self, of: impl ToString) -> Bind {
        Bind { of: Some(of.to_string()), ..self }
    }

    pub fn in_zone(self, zone: impl ToString) -> Bind {
        Bind { zone: Some(zone.to_string()), ..self }
    }

    pub fn again_at(self, again_at: Option<DateTime<Utc>>) -> Bind {
        Bind { again_at, ..self }
    }
}

/// What comes next.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Next {
    /// `send`, `end`, `answer` (a call is under way), `look` (at its delivery), `step` (of a campaign) or `nothing`.
    pub what: &'static str,
    /// The earliest instant at which it can be: the latest of those that are known, none where none is.
    pub at: Option<DateTime<Utc>>,
    /// All that binds has an instant of its own, or it ends at one before it can go; and `at` is when, unless something else comes in
    /// between.
    pub certain: bool,
    pub binds: Vec<Bind>,
}

impl Next {
    pub fn nothing() -> Next {
        Next { what: "nothing", at: None, certain: true, binds: Vec::new() }
    }

    /// The latest of the instants that are known, and `now` where nothing is in the way.
    pub fn of(what: &'static str, now: DateTime<Utc>, binds: Vec<Bind>) -> Next {
        let at = binds.iter().filter_map(|bind| bind.until).max().map(|at| at.max(now));
        let certain = binds.iter().all(|bind| bind.lifts == Lifts::At);
        Next { what, at: if binds.is_empty() { Some(now) } else { at }, certain, binds }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_780_000_000 + secs, 0).expect("in range")
    }

    #[test]
    fn the_next_instant_is_the_latest_of_those_that_are_known() {
        let next = |binds: Vec<Bind>| {
            let next = Next::of("send", at(10), binds);
            (next.at, next.certain)
        };
        assert_eq!(next(vec![]), (Some(at(10)), true), "at once");
        assert_eq!(next(vec![Bind::at("a", at(30)), Bind::at("b", at(20))]), (Some(at(30)), true));
        assert_eq!(next(vec![Bind::at("a", at(30)), Bind::unknown("b")]), (Some(at(30)), false));
        assert_eq!(next(vec![Bind::not_before("a", Some(at(30)))]), (Some(at(30)), false));
        assert_eq!(next(vec![Bind::unknown("a")]), (None, false), "nothing is guessed");
        assert_eq!(next(vec![Bind::at("a", at(5))]), (Some(at(10)), true), "never in the past");
    }
}
