//! When a job gets its slot: the allotment of the claims itself, played over the queues that it stands in, until it is its turn. Pure.

use chrono::{DateTime, NaiveTime, Utc};
use chrono_tz::Tz;

use crate::campaign::zone::first_instant;
use crate::pace::allot::{Allotment, Candidate, allot};
use crate::pace::slots::Schedule;

/// Days of lines are turned at most so often: who waits for longer is told that it is not known.
const MOST_TURNS: usize = 400;

/// A line and what it gets anew with each of its days.
#[derive(Debug, Clone)]
pub struct Ahead {
    pub schedule: Schedule,
    /// First touches a day; none for no cap.
    pub cap: Option<u32>,
    pub zone: Tz,
}

/// The slot that the last of these candidates gets, if nothing else comes from `from` on. Candidates are in the order of their turn.
/// None if it gets none within the turns that are looked ahead, as where the day's cap is 0.
pub fn foresee(mut lines: Vec<Ahead>, candidates: &[Candidate], from: DateTime<Utc>) -> Option<Allotment> {
    let last = candidates.len().checked_sub(1)?;
    let mut left: Vec<usize> = (0..candidates.len()).collect();
    let mut now = from;
    for _ in 0..MOST_TURNS {
        lines.iter_mut().for_each(|line| line.turn_day(now));
        // Beyond the next end of a day, its line has other first touches to give.
        let horizon_end = lines.iter().map(|line| line.schedule.day_ends_at).min()?;
        let mut schedules: Vec<Schedule> = lines.iter().map(|line| line.schedule.clone()).collect();
        let waiting: Vec<Candidate> = left.iter().map(|&index| candidates[index].clone()).collect();
        let dealt = allot(&mut schedules, &waiting, waiting.len(), now, horizon_end);
        if let Some(mine) = dealt.iter().find(|allotment| left[allotment.candidate] == last) {
            return Some(Allotment { candidate: last, ..mine.clone() });
        }
        for (line, schedule) in lines.iter_mut().zip(schedules) {
            line.schedule = schedule;
        }
        let gone: Vec<usize> = dealt.iter().map(|allotment| left[allotment.candidate]).collect();
        left.retain(|index| !gone.contains(index));
        now = horizon_end;
    }
    None
}

impl Ahead {
    fn turn_day(&mut self, now: DateTime<Utc>) {
        if self.schedule.day_ends_at > now {
            return;
        }
        let tomorrow = now.with_timezone(&self.zone).date_naive().succ_opt();
        let ends_at = tomorrow.and_then(|day| first_instant(day.and_time(NaiveTime::MIN), self.zone));
        self.schedule.day_ends_at = ends_at.unwrap_or(DateTime::<Utc>::MAX_UTC);
        self.schedule.first_touches_left = self.cap;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::TimeDelta;
    use chrono_tz::America;

    use super::*;
    use crate::pace::slots::Touch;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().expect("a time")
    }

    const NOW: &str = "2026-12-01T12:00:00Z";

    fn line(gap: u64, first_touch_gap: u64, left: Option<u32>) -> Ahead {
        let schedule = Schedule {
            gap: Duration::from_secs(gap),
            lead: Duration::ZERO,
            first_touch_gap: Duration::from_secs(first_touch_gap),
            next_at: at(NOW),
            next_first_touch_at: at(NOW),
            first_touches_left: left,
            day_ends_at: at("2026-12-02T05:00:00Z"),
        };
        Ahead { schedule, cap: left.map(|_| 2), zone: America::New_York }
    }

    fn jobs(count: i64, line: Option<usize>, touch: Touch) -> Vec<Candidate> {
        (0..count).map(|id| Candidate { line, touch, turn: (0, at(NOW), id), expires_at: None }).collect()
    }

    fn slot(lines: Vec<Ahead>, candidates: &[Candidate]) -> Option<DateTime<Utc>> {
        foresee(lines, candidates, at(NOW)).map(|allotment| allotment.slot)
    }

    #[test]
    fn who_stands_behind_others_waits_a_gap_for_each() {
        // A gap of ten seconds is kept as eleven.
        let fourth = slot(vec![line(10, 0, None)], &jobs(4, Some(0), Touch::FollowUp));
        assert_eq!(fourth, Some(at(NOW) + TimeDelta::seconds(33)));
        let two_lines = slot(vec![line(10, 0, None), line(10, 0, None)], &jobs(4, None, Touch::FollowUp));
        assert_eq!(two_lines, Some(at(NOW) + TimeDelta::seconds(11)));
    }

    #[test]
    fn a_full_day_turns_at_the_lines_own_midnight() {
        let midnight = at("2026-12-02T05:00:00Z");
        assert_eq!(slot(vec![line(0, 0, Some(0))], &jobs(1, None, Touch::First)), Some(midnight));
        assert_eq!(
            slot(vec![line(0, 600, Some(1))], &jobs(3, None, Touch::First)),
            Some(midnight + TimeDelta::seconds(601))
        );
        assert_eq!(slot(vec![line(0, 0, Some(0))], &jobs(3, None, Touch::First)), Some(at("2026-12-03T05:00:00Z")));
        assert_eq!(
            slot(vec![line(0, 0, Some(0))], &jobs(1, None, Touch::FollowUp)),
            Some(at(NOW)),
            "a follow-up needs no day"
        );
    }

    #[test]
    fn a_cap_of_none_a_day_is_never_told_a_day() {
        let closed = Ahead { cap: Some(0), ..line(0, 0, Some(0)) };
        assert_eq!(slot(vec![closed], &jobs(1, None, Touch::First)), None);
        assert_eq!(slot(Vec::new(), &jobs(1, None, Touch::First)), None, "no line, no slot");
    }
}
