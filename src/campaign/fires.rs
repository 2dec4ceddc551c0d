//! Which firings of a schedule have come, and which of them still count. Pure: the instants are those of the database's clock.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;

use crate::campaign::file::shape::{CatchUp, Schedule};
use crate::campaign::zone::first_instant;

/// A firing that is noticed within this is on time.
pub const ON_TIME: Duration = Duration::from_secs(60);
/// So long a firing may wait until its people are looked for: behind the queries of other campaigns, of which one may take an hour, and
/// while its own is tried again.
const FINDING: Duration = Duration::from_secs(2 * 60 * 60);
/// The most firings that are told at once.
pub const MOST: usize = 500;

/// One firing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fire {
    pub at: DateTime<Utc>,
    pub fate: Fate,
    /// Noticed later than [`ON_TIME`].
    pub late: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// People are enrolled.
    Run,
    /// It is too late for that.
    TooLate,
    /// A later one stands for it.
    CaughtUp,
}

/// The first firing after an instant; none if there is none any more.
pub fn next_after(schedule: &Schedule, campaign: Tz, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let zone = schedule.zone(campaign);
    match schedule {
        Schedule::Cron { cron, .. } => cron.next_after(after, zone),
        Schedule::At { at, .. } => first_instant(at.0, zone).filter(|at| *at > after),
        Schedule::Manual { .. } => None,
    }
}

/// How late a firing is made up for.
fn late_within(schedule: &Schedule) -> Duration {
    match schedule {
        Schedule::Cron { catch_up: CatchUp::Skip, .. } | Schedule::Manual { .. } => Duration::ZERO,
        Schedule::Cron { catch_up_within, .. } | Schedule::At { catch_up_within, .. } => catch_up_within.0,
    }
}

/// Whether a firing that was recorded, and whose turn it was `at` this instant, finds nobody any more: it is later than it would be made
/// up for, and than looking for its people takes.
pub fn is_too_late(schedule: &Schedule, at: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    (now - at).to_std().is_ok_and(|age| age > late_within(schedule).saturating_add(FINDING))
}

/// Until when it is worth trying to find the people of a firing: as late as it would be made up for, and not once the next one has come.
pub fn worth_trying_until(schedule: &Schedule, campaign: Tz, at: DateTime<Utc>) -> DateTime<Utc> {
    let within = late_within(schedule);
    let until = TimeDelta::from_std(within).ok().and_then(|within| at.checked_add_signed(within)).unwrap_or(at);
    next_after(schedule, campaign, at).map_or(until, |next| next.min(until))
}

/// The firings from `first`, which is one, up to `now`, at most [`MOST`]; and the first one after them, which may have come too.
pub fn due(
    schedule: &Schedule,
    campaign: Tz,
    first: DateTime<Utc>,
    now: DateTime<Utc>,
) -> (Vec<Fire>, Option<DateTime<Utc>>) {
    let (catch_up, within) = match schedule {
        Schedule::Cron { catch_up, catch_up_within, .. } => (*catch_up, catch_up_within.0),
        Schedule::At { catch_up_within, .. } => (CatchUp::Last, catch_up_within.0),
        Schedule::Manual { .. } => return (Vec::new(), None),
    };
    let (mut times, mut next) = (Vec::new(), Some(first));
    while let Some(at) = next.filter(|at| *at <= now && times.len() < MOST) {
        times.push(at);
        next = next_after(schedule, campaign, at);
    }
    let newest = times.last().copied().filter(|_| next.is_none_or(|next| next > now));
    let judge = |at: DateTime<Utc>| {
        let age = (now - at).to_std().unwrap_or_default();
        let late = age > ON_TIME;
        let fate = match catch_up {
            _ if !late => Fate::Run,
            CatchUp::Skip => Fate::TooLate,
            _ if age > within => Fate::TooLate,
            CatchUp::Last if Some(at) != newest => Fate::CaughtUp,
            CatchUp::Last | CatchUp::All => Fate::Run,
        };
        Fire { at, fate, late }
    };
    (times.into_iter().map(judge).collect(), next)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::campaign::file;

    fn schedule(text: &str) -> Schedule {
        let source = format!(
            "name: a\nzone: UTC\nschedule: {{ {text} }}\naudience: {{ csv: a.csv }}\nsteps: [{{ send: {{ body: Hi }} }}]\n"
        );
        file::read(&source).unwrap_or_else(|findings| panic!("{findings:?}")).campaign.schedule
    }

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().expect("a time")
    }

    fn fates(text: &str, first: &str, now: &str) -> Vec<Fate> {
        due(&schedule(text), Tz::UTC, at(first), at(now)).0.iter().map(|fire| fire.fate).collect()
    }

    #[test]
    fn what_nothing_ran_at_is_made_up_for_as_the_policy_says() {
        let (first, now) = ("2026-12-01T01:00:00Z", "2026-12-01T09:30:00Z");
        let hourly = |policy: &str| fates(&format!("cron: '0 * * * *', {policy}"), first, now);
        let (late, run, caught) = (Fate::TooLate, Fate::Run, Fate::CaughtUp);
        assert_eq!(hourly("catch_up: skip"), [late; 9]);
        assert_eq!(hourly("catch_up: all"), [late, late, late, run, run, run, run, run, run], "six hours unless given");
        assert_eq!(hourly("catch_up: last"), [late, late, late, caught, caught, caught, caught, caught, run]);
        assert_eq!(hourly("catch_up: last, catch_up_within: 10m"), [late; 9]);
    }

    #[test]
    fn what_is_noticed_in_time_runs_whatever_the_policy() {
        let every_minute = |policy: &str| {
            fates(&format!("cron: '* * * * *', {policy}"), "2026-12-01T09:00:00Z", "2026-12-01T09:02:30Z")
        };
        assert_eq!(every_minute("catch_up: skip"), [Fate::TooLate, Fate::TooLate, Fate::Run]);
        assert_eq!(every_minute("catch_up: last"), [Fate::CaughtUp, Fate::CaughtUp, Fate::Run], "a later one is there");
    }

    #[test]
    fn a_firing_is_tried_as_long_as_it_would_be_made_up_for_and_no_other_has_come() {
        let until = |text: &str| worth_trying_until(&schedule(text), Tz::UTC, at("2026-12-01T09:00:00Z"));
        let (nine, ten, three) = (at("2026-12-01T09:00:00Z"), at("2026-12-01T10:00:00Z"), at("2026-12-01T15:00:00Z"));
        assert_eq!(until("cron: '0 9 * * *'"), three);
        assert_eq!(until("cron: '0 * * * *'"), ten);
        assert_eq!(until("at: 2026-12-01T09:00, catch_up_within: 1h"), ten);
        assert_eq!((until("cron: '0 9 * * *', catch_up: skip"), until("manual: true")), (nine, nine));
    }

    #[test]
    fn one_that_is_said_by_its_time_fires_once() {
        let once = schedule("at: 2026-12-01T09:00");
        let nine = at("2026-12-01T09:00:00Z");
        assert_eq!(next_after(&once, Tz::UTC, at("2026-12-01T08:00:00Z")), Some(nine));
        assert_eq!(next_after(&once, Tz::UTC, nine), None);
        assert_eq!(due(&once, Tz::UTC, nine, at("2026-12-01T14:00:00Z")).0[0].fate, Fate::Run);
        let (fires, next) = due(&once, Tz::UTC, nine, at("2026-12-01T16:00:00Z"));
        assert_eq!((fires[0].fate, fires.len(), next), (Fate::TooLate, 1, None));
    }

    proptest! {
        #[test]
        fn every_firing_is_told_once_however_long_nothing_ran(minutes in 0_i64..3_000, looks in proptest::collection::vec(1_i64..900, 1..20)) {
            let every_minute = schedule("cron: '* * * * *', catch_up: last");
            let first = at("2026-12-01T00:00:00Z");
            let end = first + TimeDelta::minutes(minutes);
            let (mut next, mut told, mut now, mut looks) = (first, Vec::new(), first, looks.into_iter().cycle());
            while now < end || next <= end {
                now = (now + TimeDelta::minutes(looks.next().unwrap_or(1))).min(end);
                let (fires, after) = due(&every_minute, Tz::UTC, next, now);
                prop_assert!(fires.len() <= MOST);
                told.extend(fires.into_iter().map(|fire| fire.at));
                next = after.expect("it fires for ever");
            }
            let all: Vec<_> = (0..=minutes).map(|minute| first + TimeDelta::minutes(minute)).collect();
            prop_assert_eq!(told, all);
        }
    }
}
