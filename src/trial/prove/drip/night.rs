//! A night falls in the middle of it: hours of some recipients end, those of others begin, and the lines begin a new day, with a new
//! cap of first touches, while workers are killed.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::outbox::lines::{self, Paces, Which};
use crate::trial::prove::drip::hours::{self, Group, windows};
use crate::trial::prove::drip::{BY_HAND, Kills, REPLICAS, apply, count_jobs, replica};
use crate::trial::prove::setup::zone_where;
use crate::trial::prove::world::phone;
use crate::trial::prove::{Machine, ProveError, Setup, World};

/// It begins so long before midnight: late enough that lines use up their cap, and more than 90 s before the first hours end, also
/// where it takes a while until workers run.
const LEAD: TimeDelta = TimeDelta::seconds(45);
/// Of the first campaign hours end a minute after the lines' midnight, and not everybody can be written to until then. Of the second one
/// they begin at it, for two minutes, and its messages go before those of the other.
const NOON: &[(&str, &str)] = &[("11:00", "12:01")];
const EVENING: &[(&str, &str)] = &[("18:00", "18:02")];
/// Half of the lines have a cap, which they use up on both days; the others could go on for ever.
const LINES: u32 = 10;
const CAP: u32 = 3;

pub fn setup() -> Setup {
    let (gap, first_touch_gap) = (Duration::from_secs(1), Duration::from_secs(4));
    Setup {
        machine: Machine::before_the_hour(LEAD),
        lines: LINES,
        gap,
        first_touch_gap,
        worker_env: replica(),
        ..Setup::default()
    }
}

pub async fn fall(world: &mut World) -> Result<(), ProveError> {
    let midnight = world.begins_before.unwrap_or_default();
    for line in 1..=LINES {
        let cap = (line <= LINES / 2).then_some(CAP.cast_signed());
        let zone = zone_where(0, midnight);
        let paces = Paces { first_touch_cap: Some(cap), time_zone: Some(zone), ..Paces::default() };
        lines::set(&world.pool, &Which::One(format!("pl_{line}")), &paces).await?;
    }
    let noon = Group { phones: (0..150).map(phone).collect(), hour: 12, windows: NOON };
    let evening = Group { phones: (1_000..1_020).map(phone).collect(), hour: 18, windows: EVENING };
    for (name, group, priority) in [("noon", &noon, 5), ("evening", &evening, 1)] {
        group.place(world, midnight).await?;
        let rest = format!(
            "zone: UTC\nschedule: {BY_HAND}\n{}caps: {{ priority: {priority} }}\nsteps:\n  \
             - {{ name: first, send: {{ body: 'Hi {{{{ name }}}}' }} }}\n  - wait: 2s\n  \
             - {{ name: second, send: {{ body: 'Hi again, {{{{ name }}}}' }} }}\n",
            windows(group.windows)
        );
        apply(world, name, "never", &rest, &group.phones).await?;
    }
    for name in ["noon", "evening"] {
        world.command(&["campaign", "run", name]).await?;
    }
    for _ in 0..REPLICAS {
        world.start_worker()?;
    }
    let mut kills = Kills::every(2_000..3_000);
    let over = "select coalesce(bool_and(expires_at < clock_timestamp() - interval '8 seconds'), false)
                  from outbox.jobs where campaign = 'noon'";
    kills.until(world, "the first hours have ended", Duration::from_secs(120), over).await?;
    for name in ["noon", "evening"] {
        world.command(&["campaign", "stop", name, "--yes"]).await?;
    }
    let ended = "select not exists (select from outbox.enrolments where state in ('active', 'held'))";
    kills.until(world, "the campaigns have stopped", Duration::from_secs(30), ended).await?;
    world.notes.push(format!("{} kills", kills.count));
    was_tried(world, midnight).await?;
    hours::judge(world, &[noon, evening], midnight).await?;
    count_jobs(world).await
}

/// Lines have used up their cap on both days, jobs were over before their turn, and people came whose hours began.
async fn was_tried(world: &mut World, midnight: DateTime<Utc>) -> Result<(), ProveError> {
    let (expired, came): (i64, i64) = sqlx::query_as(
        "select count(*) filter (where state = 'expired'), count(*) filter (where state = 'sent' and campaign = 'evening') from outbox.jobs",
    )
    .fetch_one(&world.pool)
    .await?;
    let mut touches: BTreeMap<(String, bool), u32> = BTreeMap::new();
    for entry in world.simulator.ledger().into_iter().filter(|entry| entry.first_touch) {
        *touches.entry((entry.line_id, entry.at < midnight)).or_default() += 1;
    }
    let has_used_up = |line: u32, day| touches.get(&(format!("pl_{line}"), day)) == Some(&CAP);
    let full = (1..=LINES / 2).filter(|line| has_used_up(*line, true) && has_used_up(*line, false)).count();
    if full == 0 || expired == 0 || came == 0 {
        world.findings.push(
            "no line used up its cap twice, nothing expired, or nobody's hours began: nothing was tried".to_owned(),
        );
    }
    let touched = |day| touches.iter().filter(|((_, of), _)| *of == day).map(|(_, count)| count).sum::<u32>();
    world.notes.push(format!(
        "{} first touches before midnight and {} after it, {full} of {} caps used up on both days, {expired} jobs over before their turn, \
         {came} messages to those who came",
        touched(true),
        touched(false),
        LINES / 2
    ));
    Ok(())
}
