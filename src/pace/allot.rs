//! Deals the open slots of the locked lines out to the jobs that were found for them: earliest slot first, and within a
//! slot the job whose turn it is.

use chrono::{DateTime, Utc};

use crate::pace::slots::{Schedule, Touch};

/// Whose turn it is in a queue: priority, due time, insertion.
pub type Turn = (i16, DateTime<Utc>, i64);

/// A job that could go, in one of the queues that the lines draw from.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Index of the one line that may take it; `None` for any line.
    pub line: Option<usize>,
    pub touch: Touch,
    pub turn: Turn,
    /// It must have left before this; `None` for any time.
    pub expires_at: Option<DateTime<Utc>>,
}

/// One dealt slot: candidate and line by index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allotment {
    pub candidate: usize,
    pub line: usize,
    pub slot: DateTime<Utc>,
}

/// Deals at most `limit` slots between `now` and `horizon_end`, and moves the schedules on. Candidates must be sorted by
/// turn; each gets at most one slot, and none that comes after its time is over. Lines that are tied share evenly.
pub fn allot(
    lines: &mut [Schedule],
    candidates: &[Candidate],
    limit: usize,
    now: DateTime<Utc>,
    horizon_end: DateTime<Utc>,
) -> Vec<Allotment> {
    let mut queues = Queues::new(lines.len(), candidates);
    let mut dealt = vec![0usize; lines.len()];
    let mut allotments = Vec::new();
    while allotments.len() < limit {
        let best = (0..lines.len())
            .filter_map(|line| {
                let offer = queues
                    .heads(line)
                    .filter_map(|head| {
                        let slot = lines[line].peek(candidates[head].touch, now, horizon_end)?;
                        Some((slot, candidates[head].turn, head))
                    })
                    .min()?;
                Some((offer.0, dealt[line], offer.1, line, offer.2))
            })
            .min();
        let Some((slot, _, _, line, candidate)) = best else { break };
        queues.pop(candidate, candidates);
        // There is no earlier slot for it.
        if candidates[candidate].expires_at.is_some_and(|at| at <= slot) {
            continue;
        }
        lines[line].take(slot, candidates[candidate].touch);
        dealt[line] += 1;
        allotments.push(Allotment { candidate, line, slot });
    }
    allotments
}

/// Candidate indices by (line or any, class), next one last.
struct Queues {
    /// Two a line, then two for any line.
    waiting: Vec<Vec<usize>>,
}

impl Queues {
    fn new(lines: usize, candidates: &[Candidate]) -> Queues {
        let mut waiting = vec![Vec::new(); 2 * (lines + 1)];
        for (index, candidate) in candidates.iter().enumerate().rev() {
            waiting[Queues::of(candidate, lines)].push(index);
        }
        Queues { waiting }
    }

    fn of(candidate: &Candidate, lines: usize) -> usize {
        2 * candidate.line.unwrap_or(lines) + usize::from(candidate.touch.is_first())
    }

    fn heads(&self, line: usize) -> impl Iterator<Item = usize> {
        let any = self.waiting.len() - 2;
        [2 * line, 2 * line + 1, any, any + 1].into_iter().filter_map(|queue| self.waiting[queue].last().copied())
    }

    fn pop(&mut self, index: usize, candidates: &[Candidate]) {
        let lines = self.waiting.len() / 2 - 1;
        self.waiting[Queues::of(&candidates[index], lines)].pop();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn at(ms: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(1_780_000_000_000 + ms).expect("in range")
    }

    fn line(gap_ms: u64, first_gap_ms: u64) -> Schedule {
        Schedule {
            gap: Duration::from_millis(gap_ms),
            lead: Duration::ZERO,
            first_touch_gap: Duration::from_millis(first_gap_ms),
            next_at: at(0),
            next_first_touch_at: at(0),
            first_touches_left: None,
            day_ends_at: at(86_400_000),
        }
    }

    fn job(line: Option<usize>, touch: Touch, id: i64) -> Candidate {
        Candidate { line, touch, turn: (0, at(0), id), expires_at: None }
    }

    #[test]
    fn i05_a_scarce_first_touch_slot_does_not_hold_up_follow_ups() {
        let mut lines = [line(100, 600_000)];
        let jobs = [
            job(None, Touch::First, 1),
            job(None, Touch::First, 2),
            job(Some(0), Touch::FollowUp, 3),
            job(Some(0), Touch::FollowUp, 4),
        ];
        let dealt = allot(&mut lines, &jobs, 10, at(0), at(2_000));
        let order: Vec<usize> = dealt.iter().map(|allotment| allotment.candidate).collect();
        assert_eq!(order, [0, 2, 3], "one first touch, then the follow-ups; the second first touch waits ten minutes");
    }

    #[test]
    fn jobs_for_any_line_spread_over_the_lines() {
        let mut lines = [line(0, 0), line(0, 0), line(0, 0)];
        let jobs: Vec<Candidate> = (0..9).map(|id| job(None, Touch::First, id)).collect();
        let dealt = allot(&mut lines, &jobs, 9, at(0), at(2_000));
        for line in 0..3 {
            assert_eq!(dealt.iter().filter(|allotment| allotment.line == line).count(), 3);
        }
    }

    #[test]
    fn who_expires_before_any_slot_gets_none_and_holds_up_nobody() {
        let mut lines = [line(500, 0), line(500, 0)];
        lines[0].next_at = at(1_000);
        lines[1].next_at = at(800);
        let until = |ms, job| Candidate { expires_at: Some(at(ms)), ..job };
        let jobs = [
            until(1_000, job(Some(0), Touch::FollowUp, 1)),
            until(900, job(None, Touch::FollowUp, 2)),
            until(1_001, job(Some(0), Touch::FollowUp, 3)),
        ];
        let dealt = allot(&mut lines, &jobs, 10, at(0), at(2_000));
        let dealt: Vec<_> = dealt.iter().map(|one| (one.candidate, one.line, one.slot)).collect();
        assert_eq!(dealt, [(1, 1, at(800)), (2, 0, at(1_000))]);
    }

    #[test]
    fn an_unpaced_line_with_a_backlog_leaves_room_for_the_others() {
        let mut lines = [line(0, 0), line(50, 0)];
        let mut jobs: Vec<Candidate> = (0..50).map(|id| job(Some(0), Touch::FollowUp, id)).collect();
        jobs.push(job(Some(1), Touch::FollowUp, 50));
        let dealt = allot(&mut lines, &jobs, 10, at(0), at(2_000));
        assert!(dealt.iter().any(|allotment| allotment.line == 1));
    }

    proptest! {
        #[test]
        fn i03_dealt_slots_are_apart_on_each_line_and_no_job_gets_two(
            gaps in proptest::collection::vec((prop_oneof![Just(0u64), 1u64..500], prop_oneof![Just(0u64), 1u64..2_000]), 1..6),
            jobs in proptest::collection::vec((proptest::option::of(0usize..6), any::<bool>(), -3i16..3), 0..80),
            limit in 0usize..60,
        ) {
            let mut lines: Vec<Schedule> = gaps.iter().map(|(gap, first)| line(*gap, *first)).collect();
            let mut candidates: Vec<Candidate> = jobs.iter().enumerate().map(|(id, (of, first_touch, priority))| Candidate {
                line: of.map(|line| line % gaps.len()), touch: if *first_touch { Touch::First } else { Touch::FollowUp }, turn: (*priority, at(0), id as i64), expires_at: None,
            }).collect();
            candidates.sort_by_key(|candidate| candidate.turn);
            let dealt = allot(&mut lines, &candidates, limit, at(0), at(2_000));
            prop_assert!(dealt.len() <= limit);
            let once: HashSet<usize> = dealt.iter().map(|allotment| allotment.candidate).collect();
            prop_assert_eq!(once.len(), dealt.len());
            for (index, (gap, first_gap)) in gaps.iter().enumerate() {
                let of_line: Vec<&Allotment> = dealt.iter().filter(|allotment| allotment.line == index).collect();
                prop_assert!(of_line.iter().all(|allotment| candidates[allotment.candidate].line.is_none_or(|line| line == index)));
                prop_assert!(of_line.windows(2).all(|pair| (pair[1].slot - pair[0].slot).num_milliseconds() >= *gap as i64));
                let firsts: Vec<_> = of_line.iter().filter(|allotment| candidates[allotment.candidate].touch.is_first()).collect();
                prop_assert!(firsts.windows(2).all(|pair| (pair[1].slot - pair[0].slot).num_milliseconds() >= *first_gap as i64));
            }
        }
    }
}
