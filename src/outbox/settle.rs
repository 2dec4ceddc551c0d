//! Settlement: a claim counts slots and first touches before the call; what came of the call may change a line's budget and
//! its pace. Most batches settle nothing, since most slots are used as planned.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use sqlx::PgTransaction;

use crate::chert::reply::Ids;
use crate::claim::{Ending, Finished};
use crate::outcome::Outcome;
use crate::pace::slots::recovered;

/// A line is slowed down to a sixty-fourth of its pace at most.
const MOST_SLOWDOWN: f32 = 64.0;

/// Writes what a batch changes in the budgets and paces of its lines.
pub(crate) async fn settle_lines(tx: &mut PgTransaction<'_>, batch: &[&Finished]) -> Result<(), sqlx::Error> {
    let settling: Vec<&Finished> = batch.iter().copied().filter(|finished| settles(finished)).collect();
    if settling.is_empty() {
        return Ok(());
    }
    let ids = settling.iter().flat_map(|finished| [Some(&finished.line.id), elsewhere(finished)]).flatten();
    let mut lines = lock(tx, ids.collect()).await?;
    for finished in settling {
        settle(&mut lines, finished);
    }
    write(tx, &lines).await
}

/// A line's budget and pace, as it stands now that it is locked.
#[derive(Debug, Clone, PartialEq)]
struct Line {
    id: String,
    /// First touches of today, and which day that is.
    first_touches: i32,
    today: NaiveDate,
    first_touch_cap: Option<i32>,
    next_first_touch_at: DateTime<Utc>,
    saturations: i32,
    slowdown: f32,
    saturated_until: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
}

type Lines = BTreeMap<String, Line>;

/// Whether this outcome changes anything but its own job.
fn settles(finished: &Finished) -> bool {
    match outcome_of(finished) {
        Some(Outcome::Deferred { .. }) => true,
        Some(Outcome::Sent { ids, .. }) => {
            was_slowed(finished) || finished.first_touch && (known_before(ids) || elsewhere(finished).is_some())
        }
        // It may be on the phone: it stays counted, and is not counted again when it is asked again.
        Some(Outcome::Unknown { .. }) => false,
        _ => finished.first_touch,
    }
}

fn settle(lines: &mut Lines, finished: &Finished) {
    match outcome_of(finished) {
        Some(Outcome::Sent { ids, .. }) => {
            if was_slowed(finished) {
                speed_up(lines, finished);
            }
            match elsewhere(finished) {
                _ if !finished.first_touch => {}
                _ if known_before(ids) => give_back(lines, finished),
                Some(other) => trade(lines, finished, other),
                None => {}
            }
        }
        Some(Outcome::Unknown { .. }) => {}
        // Chert had the call in its slot; that it was no first touch in the end frees the count alone.
        Some(Outcome::Retry { .. }) => refund(lines, finished),
        Some(Outcome::Deferred { wait }) => {
            slow_down(lines, finished, TimeDelta::from_std(*wait).unwrap_or(TimeDelta::MAX));
            give_back(lines, finished);
        }
        _ => give_back(lines, finished),
    }
}

/// The first touch did not happen: its count and, if nothing was dealt after it, its slot are free again.
fn give_back(lines: &mut Lines, finished: &Finished) {
    refund(lines, finished);
    if let Some(line) = lines.get_mut(&finished.line.id)
        && finished.first_touch
        && line.next_first_touch_at == finished.line.first_touch_until
    {
        line.next_first_touch_at = finished.line.slot_at;
    }
}

fn refund(lines: &mut Lines, finished: &Finished) {
    if let Some(line) = lines.get_mut(&finished.line.id)
        && finished.counted
        && finished.line.day == line.today
    {
        line.first_touches = (line.first_touches - 1).max(0);
    }
}

/// Chert made the first touch from another line than the one whose slot was borrowed: the two trade places, as if the
/// other's slot had been dealt. Nothing is ever given away by that, or the lines together would exceed their budget: a
/// later slot is not traded for a sooner one, and a line whose day is full takes over no count.
fn trade(lines: &mut Lines, finished: &Finished, other: &str) {
    let (Some(borrowed), Some(sent)) = (lines.get(&finished.line.id), lines.get(other)) else { return };
    let (mut borrowed, mut sent) = (borrowed.clone(), sent.clone());
    if sent.next_first_touch_at < borrowed.next_first_touch_at {
        std::mem::swap(&mut sent.next_first_touch_at, &mut borrowed.next_first_touch_at);
    }
    let has_room = sent.first_touch_cap.is_none_or(|cap| sent.first_touches < cap);
    let counted_today = finished.counted && finished.line.day == borrowed.today && sent.today == borrowed.today;
    if has_room && counted_today && borrowed.first_touches > 0 {
        borrowed.first_touches -= 1;
        sent.first_touches += 1;
    }
    lines.insert(finished.line.id.clone(), borrowed);
    lines.insert(other.to_owned(), sent);
}

/// 4002 twice in a row halves a line's pace, and again each time that the slower pace meets it too; answers to slots that
/// were dealt before the last halving halve nothing.
fn slow_down(lines: &mut Lines, finished: &Finished, wait: TimeDelta) {
    let Some(line) = lines.get_mut(&finished.line.id) else { return };
    line.saturations += 1;
    if line.saturations >= 2 && finished.line.slowdown >= line.slowdown {
        line.slowdown = (line.slowdown * 2.0).min(MOST_SLOWDOWN);
    }
    if finished.first_touch {
        line.saturated_until = line.saturated_until.max(line.now.checked_add_signed(wait));
    }
}

fn speed_up(lines: &mut Lines, finished: &Finished) {
    let Some(line) = lines.get_mut(&finished.line.id) else { return };
    line.saturations = 0;
    line.slowdown = recovered(line.slowdown);
}

fn outcome_of(finished: &Finished) -> Option<&Outcome> {
    match &finished.ending {
        Ending::Attempted(attempt) => Some(&attempt.outcome),
        Ending::HandedBack { .. } => None,
    }
}

/// The line that Chert sent from, if it is not the one whose slot was used.
fn elsewhere(finished: &Finished) -> Option<&String> {
    match outcome_of(finished) {
        Some(Outcome::Sent { ids, .. }) => ids.line_id.as_ref().filter(|id| **id != finished.line.id),
        _ => None,
    }
}

/// Whether Chert knew the recipient already, so that the message was no first touch.
fn known_before(ids: &Ids) -> bool {
    ids.lead_created == Some(false)
}

fn was_slowed(finished: &Finished) -> bool {
    finished.line.slowdown > 1.0 || finished.line.saturations > 0
}

/// In the order of their ids, so that two batches cannot wait for each other.
async fn lock(tx: &mut PgTransaction<'_>, ids: BTreeSet<&String>) -> Result<Lines, sqlx::Error> {
    let ids: Vec<String> = ids.into_iter().cloned().collect();
    let rows = sqlx::query_as!(
        Line,
        r#"
        select id, case when first_touch_day = today then first_touches else 0 end as "first_touches!", today as "today!",
               first_touch_cap, next_first_touch_at, saturations, slowdown, saturated_until, clock_timestamp() as "now!"
          from outbox.lines l
         cross join lateral (select (clock_timestamp() at time zone l.time_zone)::date as today) d
         where id = any ($1)
         order by id
           for update of l
        "#,
        &ids,
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows.into_iter().map(|line| (line.id.clone(), line)).collect())
}

async fn write(tx: &mut PgTransaction<'_>, lines: &Lines) -> Result<(), sqlx::Error> {
    let of = |value: fn(&Line) -> i32| lines.values().map(value).collect::<Vec<i32>>();
    sqlx::query!(
        r#"
        update outbox.lines l
           set first_touches = u.first_touches, first_touch_day = u.today, next_first_touch_at = u.next_first_touch_at,
               saturations = u.saturations, slowdown = u.slowdown, saturated_until = u.saturated_until
          from unnest($1::text[], $2::int[], $3::date[], $4::timestamptz[], $5::int[], $6::real[], $7::timestamptz[])
            as u (id, first_touches, today, next_first_touch_at, saturations, slowdown, saturated_until)
         where l.id = u.id
        "#,
        &lines.keys().cloned().collect::<Vec<_>>(),
        &of(|line| line.first_touches),
        &lines.values().map(|line| line.today).collect::<Vec<_>>(),
        &lines.values().map(|line| line.next_first_touch_at).collect::<Vec<_>>(),
        &of(|line| line.saturations),
        &lines.values().map(|line| line.slowdown).collect::<Vec<_>>(),
        &lines.values().map(|line| line.saturated_until).collect::<Vec<_>>() as &[Option<DateTime<Utc>>],
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::claim::{Attempt, ClaimedLine};
    use crate::retry::Next;

    fn at(secs: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_780_000_000 + secs, 0).expect("in range")
    }

    fn line(id: &str, first_touches: i32, next_secs: i64) -> Line {
        Line {
            id: id.to_owned(),
            first_touches,
            today: at(0).date_naive(),
            first_touch_cap: Some(3),
            next_first_touch_at: at(next_secs),
            saturations: 0,
            slowdown: 1.0,
            saturated_until: None,
            now: at(0),
        }
    }

    fn lines(all: impl IntoIterator<Item = Line>) -> Lines {
        all.into_iter().map(|line| (line.id.clone(), line)).collect()
    }

    /// A first touch in this line's slot at 0 s, which closed it until `until`.
    fn first_touch(line_id: &str, until_secs: i64, outcome: Outcome) -> Finished {
        let line = ClaimedLine {
            id: line_id.to_owned(),
            gap: Duration::ZERO,
            first_touch_gap: Duration::from_secs(600),
            slot_at: at(0),
            first_touch_until: at(until_secs),
            day: at(0).date_naive(),
            slowdown: 1.0,
            saturations: 0,
        };
        let next = Next::End { state: "sent", reason: None, spent: true };
        let attempt = Attempt { started_at: at(0), duration: Duration::ZERO, answer: None, outcome, next };
        Finished {
            job_id: 1,
            claim: 1,
            phone: "+15550142200".parse().expect("a number"),
            line,
            first_touch: true,
            counted: true,
            ending: Ending::Attempted(Box::new(attempt)),
        }
    }

    fn sent_from(line_id: &str) -> Outcome {
        let ids = Ids { line_id: Some(line_id.to_owned()), lead_created: Some(true), ..Ids::default() };
        Outcome::Sent { ids, status: "sent".to_owned() }
    }

    #[test]
    fn i03_lines_trade_places_when_chert_chose_another_one() {
        let mut lines = lines([line("a", 1, 600), line("b", 0, 60)]);
        settle(&mut lines, &first_touch("a", 600, sent_from("b")));
        assert_eq!((lines["a"].next_first_touch_at, lines["b"].next_first_touch_at), (at(60), at(600)));
        assert_eq!((lines["a"].first_touches, lines["b"].first_touches), (0, 1));
    }

    #[test]
    fn i03_a_line_that_is_full_takes_no_count_and_frees_no_slot() {
        let mut lines = lines([line("a", 1, 600), line("b", 3, 900)]);
        let before = lines.clone();
        settle(&mut lines, &first_touch("a", 600, sent_from("b")));
        assert_eq!(lines, before);
    }

    #[test]
    fn a_first_touch_that_was_none_gives_slot_and_count_back() {
        let mut lines = lines([line("a", 1, 600), line("b", 0, 60)]);
        let ids = Ids { line_id: Some("b".to_owned()), lead_created: Some(false), ..Ids::default() };
        settle(&mut lines, &first_touch("a", 600, Outcome::Sent { ids, status: "sent".to_owned() }));
        assert_eq!((lines["a"].next_first_touch_at, lines["a"].first_touches), (at(0), 0));
        assert_eq!((lines["b"].next_first_touch_at, lines["b"].first_touches), (at(60), 0));
    }

    #[test]
    fn two_saturations_in_a_row_halve_the_pace_once_a_pace() {
        let mut lines = lines([line("a", 0, 0)]);
        let full = || first_touch("a", 600, Outcome::Deferred { wait: Duration::from_secs(60) });
        (0..4).for_each(|_| settle(&mut lines, &full()));
        assert_eq!((lines["a"].slowdown, lines["a"].saturated_until), (2.0, Some(at(60))));
    }

    proptest! {
        /// Wherever Chert sends from: what all lines together may still send stays what it was.
        #[test]
        fn i03_the_pool_keeps_its_budget(
            states in proptest::collection::vec((0i32..=3, 0i64..2_000), 2..6),
            sends in proptest::collection::vec((0usize..6, 0usize..6), 0..20),
        ) {
            let id = |index: usize| format!("pl_{}", index % states.len());
            let all = states.iter().enumerate().map(|(index, (count, next))| line(&id(index), *count, *next));
            let mut lines = lines(all);
            let budget = |lines: &Lines| {
                let mut next: Vec<_> = lines.values().map(|line| line.next_first_touch_at).collect();
                next.sort();
                (next, lines.values().map(|line| line.first_touches).sum::<i32>())
            };
            let before = budget(&lines);
            for (borrowed, sent) in sends {
                settle(&mut lines, &first_touch(&id(borrowed), 600, sent_from(&id(sent))));
                prop_assert_eq!(budget(&lines), before.clone());
                prop_assert!(lines.values().all(|line| line.first_touches <= 3));
            }
        }
    }
}
