//! The count: what the outbox says of its jobs, held against what the phones received. Pure, so that its own tests can
//! show that each count is able to be something else than 0.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;
use serde::Serialize;

use crate::simulate::LedgerEntry;

/// How much closer than its gap a message may arrive before it counts as over pace: the clock is read twice.
pub const PACE_SLACK: Duration = Duration::from_millis(2);
/// A message is chosen this long before it arrives, at most: one that fell due within this time could not come first.
pub const CHOSEN_AHEAD: Duration = Duration::from_secs(3);

/// A job as the database has it. It shows itself to nobody: it holds a number and a text.
#[derive(Clone)]
pub struct JobFact {
    pub id: i64,
    pub phone: String,
    pub body: String,
    pub priority: i16,
    pub due_at: DateTime<Utc>,
    pub created_at: DateTime<Utc>,
    pub state: String,
    pub reason: Option<String>,
    pub idempotency_key: Option<String>,
}

/// What a line may do, as the outbox was told.
#[derive(Debug, Clone)]
pub struct LinePace {
    pub id: String,
    pub gap: Duration,
    pub first_touch_gap: Duration,
    pub first_touch_cap: Option<u32>,
    pub time_zone: Tz,
}

/// What went wrong, how often. All of it must be 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Jobs that have not ended, that are called sent and are on no phone, or whose row has gone; and rows that nobody inserted.
    pub lost: u64,
    /// Messages that nobody asked for, or that were on a phone already.
    pub doubled: u64,
    /// Messages that arrived before one of the same recipient whose turn was earlier.
    pub out_of_order: u64,
    /// Messages closer to the one before them on their line than its gap, and first touches beyond a day's cap.
    pub over_pace: u64,
    /// Jobs that are called failed, expired, canceled or suppressed, and are on a phone.
    pub misreported: u64,
}

impl Tally {
    /// Whether nothing went wrong.
    pub fn is_clean(&self) -> bool {
        *self == Tally::default()
    }
}

/// Counts. `inserted`: how many jobs the database said it had taken. Of lines that are not in `lines` no pace is known, and
/// none is judged. `created_at` is taken for the instant at which a job could be seen, so the producers' transactions must
/// be short; a job that a person tried again is out of order by that person's wish.
pub fn tally(inserted: u64, jobs: &[JobFact], ledger: &[LedgerEntry], lines: &[LinePace]) -> Tally {
    let phones = Phones::new(jobs, ledger);
    Tally {
        lost: phones.lost() + inserted.abs_diff(jobs.len() as u64),
        doubled: phones.doubled(),
        out_of_order: phones.out_of_order(),
        over_pace: lines.iter().map(|line| over_pace(line, ledger)).sum(),
        misreported: phones.misreported(),
    }
}

/// Jobs and messages, joined by idempotency key.
struct Phones<'a> {
    jobs: &'a [JobFact],
    ledger: &'a [LedgerEntry],
    by_key: HashMap<&'a str, &'a JobFact>,
    /// The first message of each key.
    arrived: HashMap<&'a str, &'a LedgerEntry>,
}

impl<'a> Phones<'a> {
    fn new(jobs: &'a [JobFact], ledger: &'a [LedgerEntry]) -> Phones<'a> {
        let by_key = jobs.iter().filter_map(|job| Some((job.idempotency_key.as_deref()?, job))).collect();
        let mut arrived = HashMap::new();
        for entry in ledger {
            if let Some(key) = entry.idempotency_key.as_deref() {
                arrived.entry(key).or_insert(entry);
            }
        }
        Phones { jobs, ledger, by_key, arrived }
    }

    fn message_of(&self, job: &JobFact) -> Option<&'a LedgerEntry> {
        self.arrived.get(job.idempotency_key.as_deref()?).copied()
    }

    fn lost(&self) -> u64 {
        let texts: HashSet<(&str, &str)> = self.ledger.iter().map(text).collect();
        count(self.jobs, |job| match job.state.as_str() {
            "queued" | "sending" => true,
            "sent" => self.message_of(job).is_none_or(|entry| text(entry) != (&job.phone, &job.body)),
            // Chert said that the recipient has this text: another job may have brought it.
            "duplicate" => !texts.contains(&(job.phone.as_str(), job.body.as_str())),
            _ => false,
        })
    }

    fn doubled(&self) -> u64 {
        let mut left: HashMap<(&str, &str), u64> = HashMap::new();
        for job in self.jobs {
            *left.entry((&job.phone, &job.body)).or_default() += 1;
        }
        let mut keys = HashSet::new();
        count(self.ledger, |entry| {
            let wanted = entry.idempotency_key.as_deref().is_some_and(|key| self.by_key.contains_key(key));
            let again = !keys.insert(entry.idempotency_key.as_deref());
            let room = left.get_mut(&text(entry)).filter(|left| **left > 0);
            let unread = room.map(|left| *left -= 1).is_some();
            !wanted || again || !unread
        })
    }

    /// Every message is held against all later ones of its phone: a phone has few.
    fn out_of_order(&self) -> u64 {
        let mut phones: BTreeMap<&str, Vec<(&LedgerEntry, &JobFact)>> = BTreeMap::new();
        for (key, &entry) in &self.arrived {
            if let Some(&job) = self.by_key.get(key) {
                phones.entry(&job.phone).or_default().push((entry, job));
            }
        }
        let turn = |job: &JobFact| (job.priority, job.due_at, job.id);
        let can_go = |job: &JobFact| job.due_at.max(job.created_at);
        let mut too_early = 0;
        for messages in phones.values_mut() {
            messages.sort_by_key(|(entry, _)| (entry.at_us, entry.seq));
            for (index, (entry, job)) in messages.iter().enumerate() {
                let overtook = messages[index + 1..].iter().any(|(_, later)| {
                    let ready = can_go(later) <= can_go(job) || can_go(later) + CHOSEN_AHEAD < entry.at;
                    ready && turn(later) < turn(job)
                });
                too_early += u64::from(overtook);
            }
        }
        too_early
    }

    fn misreported(&self) -> u64 {
        let not_sent = ["failed", "expired", "canceled", "suppressed"];
        count(self.jobs, |job| not_sent.contains(&job.state.as_str()) && self.message_of(job).is_some())
    }
}

fn over_pace(line: &LinePace, ledger: &[LedgerEntry]) -> u64 {
    let mut of_line: Vec<&LedgerEntry> = ledger.iter().filter(|entry| entry.line_id == line.id).collect();
    of_line.sort_by_key(|entry| (entry.at_us, entry.seq));
    let first_touches: Vec<&LedgerEntry> = of_line.iter().copied().filter(|entry| entry.first_touch).collect();
    let mut days: BTreeMap<NaiveDate, u64> = BTreeMap::new();
    for entry in &first_touches {
        *days.entry(entry.at.with_timezone(&line.time_zone).date_naive()).or_default() += 1;
    }
    let over_cap = |cap: u32| days.values().map(|touched| touched.saturating_sub(u64::from(cap))).sum();
    too_close(&of_line, line.gap)
        + too_close(&first_touches, line.first_touch_gap)
        + line.first_touch_cap.map_or(0, over_cap)
}

fn too_close(entries: &[&LedgerEntry], gap: Duration) -> u64 {
    let least_us = i64::try_from(gap.saturating_sub(PACE_SLACK).as_micros()).unwrap_or(i64::MAX);
    entries.windows(2).filter(|pair| pair[1].at_us - pair[0].at_us < least_us).count() as u64
}

fn text(entry: &LedgerEntry) -> (&str, &str) {
    (&entry.phone, &entry.body)
}

fn count<'a, T>(all: &'a [T], mut is_meant: impl FnMut(&'a T) -> bool) -> u64 {
    all.iter().filter(|one| is_meant(one)).count() as u64
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    const PHONE: &str = "+15550142200";

    fn at(ms: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(1_780_000_000_000 + ms).expect("in range")
    }

    /// A job that was sent, inserted at 0 ms.
    fn job(id: i64) -> JobFact {
        JobFact {
            id,
            phone: PHONE.into(),
            body: format!("text {id}"),
            priority: 0,
            due_at: at(0),
            created_at: at(0),
            state: "sent".into(),
            reason: None,
            idempotency_key: Some(format!("key {id}")),
        }
    }

    /// Its message, which arrived `ms` later.
    fn message(id: i64, ms: i64) -> LedgerEntry {
        LedgerEntry {
            seq: u64::try_from(ms).expect("positive"),
            at: at(ms),
            at_us: ms * 1000,
            simulated_at: at(ms),
            phone: PHONE.into(),
            line_id: "pl_1".into(),
            first_touch: false,
            idempotency_key: Some(format!("key {id}")),
            message_id: format!("{id:032x}"),
            body: format!("text {id}"),
            effect: None,
            attachments: Vec::new(),
        }
    }

    fn line() -> LinePace {
        LinePace {
            id: "pl_1".into(),
            gap: Duration::from_millis(100),
            first_touch_gap: Duration::from_secs(1),
            first_touch_cap: Some(2),
            time_zone: Tz::UTC,
        }
    }

    fn count_of(jobs: &[JobFact], ledger: &[LedgerEntry]) -> Tally {
        tally(jobs.len() as u64, jobs, ledger, &[line()])
    }

    fn first_touch(id: i64, ms: i64) -> LedgerEntry {
        LedgerEntry { first_touch: true, ..message(id, ms) }
    }

    #[test]
    fn one_message_a_job_in_order_and_in_its_slot_is_clean() {
        let clean = count_of(&[job(1), job(2)], &[message(1, 100), message(2, 200)]);
        assert!(clean.is_clean(), "{clean:?}");
    }

    #[test]
    fn i01_a_sent_job_on_no_phone_an_unfinished_one_and_a_missing_row_are_lost() {
        assert_eq!(count_of(&[job(1)], &[]), Tally { lost: 1, ..Tally::default() });
        for state in ["queued", "sending"] {
            let waiting = JobFact { state: state.into(), ..job(1) };
            assert_eq!(count_of(&[waiting], &[]).lost, 1);
        }
        assert_eq!(tally(3, &[job(1)], &[message(1, 100)], &[]), Tally { lost: 2, ..Tally::default() });
        assert_eq!(tally(0, &[job(1)], &[message(1, 100)], &[]), Tally { lost: 1, ..Tally::default() }, "of nobody");
    }

    #[test]
    fn i01_a_message_on_the_wrong_phone_or_with_another_text_is_no_message() {
        let wrong_phone = LedgerEntry { phone: "+15550142201".into(), ..message(1, 100) };
        let wrong_text = LedgerEntry { body: "text".into(), ..message(1, 100) };
        for wrong in [wrong_phone, wrong_text] {
            assert_eq!(count_of(&[job(1)], &[wrong]), Tally { lost: 1, doubled: 1, ..Tally::default() });
        }
    }

    #[test]
    fn i01_a_duplicate_must_be_on_the_phone_by_another_job() {
        let duplicate = JobFact { state: "duplicate".into(), body: "text 1".into(), ..job(2) };
        assert!(count_of(&[job(1), duplicate.clone()], &[message(1, 100)]).is_clean());
        assert_eq!(count_of(&[duplicate], &[]).lost, 1);
    }

    #[test]
    fn i01_jobs_that_ended_without_a_message_are_not_lost() {
        for state in ["failed", "expired", "canceled", "suppressed", "parked"] {
            assert!(count_of(&[JobFact { state: state.into(), ..job(1) }], &[]).is_clean(), "{state}");
        }
    }

    #[test]
    fn i02_a_key_twice_an_unknown_key_no_key_and_a_text_twice_are_doubled() {
        let twice = |second: LedgerEntry| count_of(&[job(1)], &[message(1, 100), second]);
        let doubled = Tally { doubled: 1, ..Tally::default() };
        assert_eq!(twice(message(1, 500)), doubled);
        assert_eq!(twice(message(9, 500)), doubled);
        assert_eq!(twice(LedgerEntry { idempotency_key: None, body: "text 9".into(), ..message(1, 500) }), doubled);
        let rekeyed = LedgerEntry { body: "text 1".into(), ..message(2, 500) };
        let failed = JobFact { state: "parked".into(), ..job(2) };
        assert_eq!(count_of(&[job(1), failed], &[message(1, 100), rekeyed]), doubled);
    }

    #[test]
    fn i02_two_jobs_may_say_the_same() {
        let same = JobFact { body: "text 1".into(), ..job(2) };
        let message_of_same = LedgerEntry { body: "text 1".into(), ..message(2, 200) };
        assert!(count_of(&[job(1), same], &[message(1, 100), message_of_same]).is_clean());
    }

    #[test]
    fn i04_a_message_that_overtook_one_whose_turn_was_earlier_is_out_of_order() {
        let ledger = [message(2, 100), message(3, 200), message(1, 300)];
        assert_eq!(count_of(&[job(1), job(2), job(3)], &ledger), Tally { out_of_order: 2, ..Tally::default() });
        let urgent = JobFact { priority: -1, ..job(2) };
        assert!(count_of(&[job(1), urgent], &[message(2, 100), message(1, 200)]).is_clean());
        let other = JobFact { phone: "+15550142201".into(), ..job(2) };
        let to_other = LedgerEntry { phone: "+15550142201".into(), ..message(2, 100) };
        assert!(count_of(&[job(1), other], &[to_other, message(1, 200)]).is_clean());
    }

    #[test]
    fn i04_a_message_may_overtake_one_that_was_not_due_when_it_was_chosen() {
        let urgent_later = JobFact { priority: -1, due_at: at(1_000), ..job(2) };
        let jobs = [job(1), urgent_later];
        assert!(count_of(&jobs, &[message(1, 100), message(2, 1_100)]).is_clean());
        assert!(count_of(&jobs, &[message(1, 3_900), message(2, 4_100)]).is_clean());
        assert_eq!(count_of(&jobs, &[message(1, 4_100), message(2, 4_300)]).out_of_order, 1);
    }

    #[test]
    fn i03_messages_closer_than_their_gap_are_over_pace() {
        let close = |ms| count_of(&[job(1), job(2)], &[message(1, 100), message(2, ms)]).over_pace;
        assert_eq!([197, 198, 200].map(close), [1, 0, 0]);
        let elsewhere = LedgerEntry { line_id: "pl_2".into(), ..message(2, 110) };
        assert!(count_of(&[job(1), job(2)], &[message(1, 100), elsewhere]).is_clean(), "another line, of unknown pace");
    }

    #[test]
    fn i03_first_touches_keep_their_own_gap_and_the_days_cap() {
        let jobs = [job(1), job(2), job(3)];
        let over_pace = |times: [i64; 3]| {
            let ledger: Vec<LedgerEntry> = (1..).zip(times).map(|(id, ms)| first_touch(id, ms)).collect();
            count_of(&jobs, &ledger).over_pace
        };
        let midnight = TimeDelta::days(1).num_milliseconds();
        assert_eq!(over_pace([100, 1_100, midnight]), 0);
        assert_eq!(over_pace([100, 600, midnight]), 1, "the second is too close");
        assert_eq!(over_pace([100, 1_100, 2_100]), 1, "the third is beyond the cap");
    }

    #[test]
    fn a_job_that_is_called_failed_and_is_on_a_phone_is_misreported() {
        let failed = JobFact { state: "failed".into(), ..job(1) };
        assert_eq!(count_of(&[failed], &[message(1, 100)]), Tally { misreported: 1, ..Tally::default() });
    }
}
