//! Settlement: a claim counts slots and first touches before the call; what came of the call may change a line's budget and
//! its pace. Most batches settle nothing, since most slots are used as planned.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::PgTransaction;
use sqlx::postgres::types::PgInterval;

use crate::claim::{Ending, Finished};
use crate::outbox::admit::interval;
use crate::outcome::Outcome;

/// 4002 twice in a row halves a line's pace, and again each time that the slower pace meets it too, down to a sixty-fourth;
/// answers to slots that were dealt before the last halving halve nothing. Each message that goes through brings a tenth of
/// the full pace back.
pub(crate) async fn settle_lines(tx: &mut PgTransaction<'_>, batch: &[&Finished]) -> Result<(), sqlx::Error> {
    let lines = settlements(batch);
    if lines.is_empty() {
        return Ok(());
    }
    let of = |value: fn(&Settlement) -> i32| lines.values().map(value).collect::<Vec<i32>>();
    sqlx::query!(
        r#"
        update outbox.lines l
           -- All of it from `l` itself: a line that a claim has just moved on is read again once it is unlocked.
           set first_touches = greatest(0, case when l.first_touch_day = (clock_timestamp() at time zone l.time_zone)::date
                                                then l.first_touches else 0 end + u.charges
                                           - case when u.refund_day = (clock_timestamp() at time zone l.time_zone)::date
                                                  then u.refunds else 0 end),
               first_touch_day = (clock_timestamp() at time zone l.time_zone)::date,
               next_first_touch_at = case
                    when u.charges > 0
                    then greatest(l.next_first_touch_at, clock_timestamp() + l.first_touch_gap_us * interval '1 microsecond')
                    -- The slot was the line's latest, and nothing went out in it: the next first touch may have it.
                    when l.next_first_touch_at = u.given_until then u.given_slot
                    else l.next_first_touch_at end,
               saturations = case when u.saturations > 0 then l.saturations + u.saturations
                                  when u.clean > 0 then 0 else l.saturations end,
               slowdown = case when u.saturations > 0 and l.saturations + u.saturations >= 2 and u.saturated_at >= l.slowdown
                                    then least(64, l.slowdown * 2)
                               when u.clean > 0 then 1 / least(1, 1 / l.slowdown + 0.1 * u.clean)
                               else l.slowdown end,
               saturated_until = case when u.full_for is null then l.saturated_until
                                      else greatest(l.saturated_until, clock_timestamp() + u.full_for) end
          from unnest($1::text[], $2::int[], $3::date[], $4::int[], $5::int[], $6::interval[], $7::int[],
                      $8::timestamptz[], $9::timestamptz[], $10::real[])
            as u (id, refunds, refund_day, charges, saturations, full_for, clean, given_slot, given_until, saturated_at)
         where l.id = u.id
        "#,
        &lines.keys().cloned().collect::<Vec<_>>(),
        &of(|settlement| settlement.refunds),
        &lines.values().map(|settlement| settlement.refund_day).collect::<Vec<_>>() as &[Option<NaiveDate>],
        &of(|settlement| settlement.charges),
        &of(|settlement| settlement.saturations),
        &lines.values().map(|settlement| settlement.full_for.map(interval)).collect::<Vec<_>>() as &[Option<PgInterval>],
        &of(|settlement| settlement.clean),
        &lines.values().map(|settlement| settlement.given_back.map(|(slot, _)| slot)).collect::<Vec<_>>() as &[Option<DateTime<Utc>>],
        &lines.values().map(|settlement| settlement.given_back.map(|(_, until)| until)).collect::<Vec<_>>() as &[Option<DateTime<Utc>>],
        &lines.values().map(|settlement| settlement.saturated_at).collect::<Vec<_>>(),
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// What a batch changes in one line's budget.
#[derive(Debug, Default, PartialEq)]
struct Settlement {
    /// First touches that were counted at the claim and did not happen on this line, and the day they were counted on.
    refunds: i32,
    refund_day: Option<NaiveDate>,
    /// The latest slot among them, and what it made of the line's next one.
    given_back: Option<(DateTime<Utc>, DateTime<Utc>)>,
    /// First touches that Chert made from this line although another one's slot was borrowed.
    charges: i32,
    /// Answers 4002 on slots that were dealt at this slowdown, and how long Chert said that the line is full for first
    /// touches.
    saturations: i32,
    saturated_at: f32,
    full_for: Option<Duration>,
    /// Messages that went through on a line that had been slowed down.
    clean: i32,
}

fn settlements(batch: &[&Finished]) -> BTreeMap<String, Settlement> {
    let mut lines: BTreeMap<String, Settlement> = BTreeMap::new();
    for finished in batch {
        let line = &finished.line;
        let outcome = outcome_of(finished);
        // Whether nothing can have reached a phone from this line, and whether the slot itself was left unused.
        let (mut refund, mut unused) = (false, false);
        match outcome {
            Some(Outcome::Sent { ids, .. }) => {
                if line.slowdown > 1.0 || line.saturations > 0 {
                    lines.entry(line.id.clone()).or_default().clean += 1;
                }
                let elsewhere = ids.line_id.as_ref().filter(|id| **id != line.id);
                let known_to_chert = ids.lead_created == Some(false);
                (refund, unused) = (known_to_chert || elsewhere.is_some(), known_to_chert || elsewhere.is_some());
                if let Some(id) = elsewhere.filter(|_| finished.counted && !known_to_chert) {
                    lines.entry(id.clone()).or_default().charges += 1;
                }
            }
            // It may be on the phone: it stays counted, and is not counted again when it is asked again.
            Some(Outcome::Unknown { .. }) => {}
            Some(Outcome::Retry { .. }) => refund = true,
            Some(Outcome::Deferred { wait }) => {
                let settlement = lines.entry(line.id.clone()).or_default();
                settlement.saturations += 1;
                settlement.saturated_at = settlement.saturated_at.max(line.slowdown);
                if finished.first_touch {
                    settlement.full_for = settlement.full_for.max(Some(*wait));
                }
                (refund, unused) = (true, true);
            }
            _ => (refund, unused) = (true, true),
        }
        if unused && finished.first_touch {
            let settlement = lines.entry(line.id.clone()).or_default();
            settlement.given_back = settlement.given_back.max(Some((line.slot_at, line.first_touch_until)));
        }
        if refund && finished.counted {
            let settlement = lines.entry(line.id.clone()).or_default();
            // All of a batch's first touches of a line were counted on one day, but around midnight; then the older ones
            // stay counted, which errs on the safe side.
            let day = settlement.refund_day.max(Some(line.day));
            settlement.refunds = if settlement.refund_day == day { settlement.refunds + 1 } else { 1 };
            settlement.refund_day = day;
        }
    }
    lines
}

fn outcome_of(finished: &Finished) -> Option<&Outcome> {
    match &finished.ending {
        Ending::Attempted(attempt) => Some(&attempt.outcome),
        Ending::HandedBack { .. } => None,
    }
}
