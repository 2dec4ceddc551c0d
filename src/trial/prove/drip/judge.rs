//! What became of a drip: the phones' ledger held against enrolments, replies, caps and the plan.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::simulate::LedgerEntry;
use crate::trial::prove::drip::foretold::Foretold;
use crate::trial::prove::drip::{WAIT_SECS, WOOED};
use crate::trial::prove::world::{LEASE, Suppression};
use crate::trial::prove::{ProveError, World};

/// The steps that send, by their order.
pub const STEPS: [&str; 4] = ["first", "second", "third", "last"];
/// Each has a wait behind it in the program, but for the last one.
const STRIDE: i32 = 2;
/// A call's start is told by a clock that is tied to the database's, and the wait behind it is over by that one.
const SLACK: Duration = Duration::from_millis(5);

/// The job of a step.
#[derive(Debug, Clone, sqlx::FromRow)]
struct StepJob {
    key: Option<String>,
    campaign: String,
    enrolment: i64,
    step: i32,
    /// How long the call took that brought its message, or heard that it was there.
    took_ms: i32,
}

/// A message on a phone, and the job that it is of.
type Arrival<'a> = (&'a LedgerEntry, &'a StepJob);

/// Judges the drip and its rivals once they are over.
pub async fn drip(world: &mut World, foretold: &Foretold) -> Result<(), ProveError> {
    let jobs: Vec<StepJob> = sqlx::query_as(
        "select j.idempotency_key as key, j.campaign, j.enrolment, j.step,
                coalesce((select max(a.duration_ms) from outbox.attempts a
                           where a.job_id = j.id and a.outcome in ('sent', 'duplicate')), 0) as took_ms
           from outbox.jobs j
          where j.campaign is not null",
    )
    .fetch_all(&world.pool)
    .await?;
    let ledger = world.simulator.ledger();
    let by_key: HashMap<&str, &StepJob> = jobs.iter().filter_map(|job| Some((job.key.as_deref()?, job))).collect();
    let of = |entry: &LedgerEntry| by_key.get(entry.idempotency_key.as_deref()?).copied();
    let dripped: Vec<Arrival<'_>> =
        ledger.iter().filter_map(|entry| Some((entry, of(entry)?))).filter(|(_, job)| job.campaign == "drip").collect();
    let ways = ways(&dripped);
    let in_order = (0..).step_by(STRIDE as usize);
    let astray = ways.values().filter(|way| !way.iter().map(|(_, job)| job.step).eq(in_order.clone().take(way.len())));
    let (astray, people) = (astray.count(), ways.len());
    if astray > 0 {
        world.findings.push(format!("{astray} of {people} people had a step twice, out of order or left out"));
    }
    let hasty = ways.values().flat_map(|way| way.windows(2)).filter(|pair| is_hasty(pair[0], pair[1])).count();
    if hasty > 0 {
        world.findings.push(format!("{hasty} messages before the wait behind the step before was over"));
    }
    let rivals = ledger.len() - dripped.len();
    if rivals != WOOED as usize {
        world.findings.push(format!("{WOOED} people under a cap of one message got {rivals}"));
    }
    ends(world, &ways).await?;
    words(world).await?;
    let end = dripped.iter().map(|(entry, _)| entry.at).max();
    held_against_the_plan(world, foretold, end, dripped.len()).await
}

/// The messages of each enrolment, in the order of their arrival.
fn ways<'a>(dripped: &[Arrival<'a>]) -> BTreeMap<i64, Vec<Arrival<'a>>> {
    let mut arrived = dripped.to_vec();
    arrived.sort_by_key(|(entry, _)| (entry.at_us, entry.seq));
    let mut ways: BTreeMap<i64, Vec<Arrival<'a>>> = BTreeMap::new();
    for (entry, job) in arrived {
        ways.entry(job.enrolment).or_default().push((entry, job));
    }
    ways
}

/// Whether a message came sooner than its wait after the one before it. The wait is counted from the start of that one's call, which was
/// at most as long before its arrival as the call took; one that was asked again began later still.
fn is_hasty((before, its_job): Arrival<'_>, (message, _): Arrival<'_>) -> bool {
    let since_call = Duration::from_micros((message.at_us - before.at_us).unsigned_abs())
        + Duration::from_millis(its_job.took_ms.unsigned_abs().into());
    since_call + SLACK < Duration::from_secs(WAIT_SECS)
}

/// Everybody is through, or has said something; who is through has had it all.
async fn ends(world: &mut World, ways: &BTreeMap<i64, Vec<Arrival<'_>>>) -> Result<(), ProveError> {
    let ends: Vec<(i64, String, Option<String>)> =
        sqlx::query_as("select id, state, reason from outbox.enrolments where campaign = 'drip'")
            .fetch_all(&world.pool)
            .await?;
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut short = 0;
    for (id, state, reason) in &ends {
        *counts.entry(reason.as_deref().unwrap_or(state)).or_default() += 1;
        short += usize::from(state == "done" && ways.get(id).map_or(0, Vec::len) < STEPS.len());
    }
    if short > 0 {
        world.findings.push(format!("{short} people are through without all steps"));
    }
    // Whoever was killed with a call in hand left it unknown what came of that, and its hours ended before it could be asked again. It is
    // known to be unknown when the lease has run out, which is that much later than the call.
    let unknown: i64 = sqlx::query_scalar(
        "select count(*)
           from outbox.enrolments e
           join outbox.jobs j on j.enrolment = e.id and j.state = 'parked'
          where e.campaign = 'drip' and e.reason = 'parked' and j.unknown_since < j.expires_at + make_interval(secs => $1) and j.finished_at >= j.expires_at",
    )
    .bind(LEASE.as_secs_f64())
    .fetch_one(&world.pool)
    .await?;
    if counts.get("parked") == Some(&(unknown as usize)) {
        world.notes.push(format!("{unknown} of unknown outcome when their hours ended"));
        counts.remove("parked");
    }
    for (why, count) in &counts {
        if !["done", "replied", "opted_out"].contains(why) {
            world.findings.push(format!("{count} enrolments ended as {why}"));
        }
    }
    let count = |why| counts.get(why).copied().unwrap_or(0);
    if count("replied") == 0 || count("opted_out") == 0 {
        world.findings.push("nobody replied, or nobody said stop: nothing was tried".to_owned());
    }
    let (done, replied, opted_out) = (count("done"), count("replied"), count("opted_out"));
    world.notes.push(format!("{done} through, {replied} replied, {opted_out} said stop"));
    Ok(())
}

/// From the first word of theirs that was applied on, nobody may be written to.
pub async fn words(world: &mut World) -> Result<(), ProveError> {
    let words: Vec<(String, f64)> = sqlx::query_as(
        "select phone, extract(epoch from clock_timestamp() - min(applied_at))::float8
           from outbox.events
          where effect in ('reply', 'opt_out', 'review')
          group by phone",
    )
    .fetch_all(&world.pool)
    .await?;
    let now_us = world.simulator.handle().now_us();
    let word = |(phone, age): (String, f64)| Suppression { phone, committed_us: now_us - (age * 1e6) as i64 };
    world.suppressions.extend(words.into_iter().map(word));
    Ok(())
}

/// The real end lies in the plan's range. Near which of its ends depends on who answers, and on what the killed had in hand.
async fn held_against_the_plan(
    world: &mut World,
    foretold: &Foretold,
    end: Option<DateTime<Utc>>,
    messages: usize,
) -> Result<(), ProveError> {
    let began: DateTime<Utc> =
        sqlx::query_scalar("select at from outbox.ticks where campaign = 'drip'").fetch_one(&world.pool).await?;
    let took = end.map_or(0.0, |end| (end - began).as_seconds_f64());
    let (from, by) = foretold.range();
    world.notes.push(format!("{messages} messages in {took:.1} s, foretold {from:.1} to {by:.1} s"));
    if !(from..=by).contains(&took) {
        world.findings.push(format!("it took {took:.1} s, which is not from {from:.1} to {by:.1} s"));
    }
    Ok(())
}
