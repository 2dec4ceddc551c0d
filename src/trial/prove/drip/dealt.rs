//! What `campaign plan` foretells of each line and day, held against what the phones got: new contacts drawn among a pool, caps that are
//! used up before a midnight and begin anew with it, hours that open then, a branch, and a cap of what one person gets.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{NaiveDate, TimeDelta};
use chrono_tz::Tz;

use crate::outbox::lines::{self, Paces, Which};
use crate::trial::prove::drip::foretold::{Foretold, Sent};
use crate::trial::prove::drip::hours::{self, Group, windows};
use crate::trial::prove::drip::{BY_HAND, OVER, apply, count_jobs, quick, replica};
use crate::trial::prove::setup::zone_where;
use crate::trial::prove::world::phone;
use crate::trial::prove::{Machine, ProveError, Setup, World};

/// It begins so long before midnight: the lines have used up their caps by then, and those who got a message have got both.
const LEAD: TimeDelta = TimeDelta::seconds(45);
const LINES: u32 = 8;
/// The first lines, of which the last one is paused.
const POOL: u32 = 7;
const PAUSED: &str = "pl_7";
/// More people are drawn for most lines than that, and on neither day more than twice as many.
const CAP: u32 = 10;
/// Of those who may be written to at once, and of those whose hours begin at the lines' midnight.
const AWAKE: u32 = 72;
const ASLEEP: u32 = 24;
const HOURS: &[(&str, &str)] = &[("11:00", "12:30"), ("18:00", "18:02")];
/// What has a 1 in the name takes the longer way; everybody's second message waits until they may get another one.
const STEPS: &str = "steps:
  - { name: first, send: { body: 'Hi {{ name }}' } }
  - branch:
      if: \"'1' in var.name\"
      then: [{ wait: 2s }, { name: longer, send: { body: 'Hi again, {{ name }}' } }]
      else: [{ name: shorter, send: { body: 'And hi, {{ name }}' } }]
";

pub fn setup() -> Setup {
    let (gap, first_touch_gap) = (Duration::from_millis(500), Duration::from_secs(1));
    Setup {
        machine: Machine::before_the_hour(LEAD),
        lines: LINES,
        gap,
        first_touch_gap,
        simulator: quick(),
        worker_env: replica(),
        ..Setup::default()
    }
}

/// Nobody answers and nothing is killed.
pub async fn hold(world: &mut World) -> Result<(), ProveError> {
    let midnight = world.begins_before.unwrap_or_default();
    let zone = zone_where(0, midnight);
    let paces =
        Paces { first_touch_cap: Some(Some(CAP.cast_signed())), time_zone: Some(zone.clone()), ..Paces::default() };
    lines::set(&world.pool, &Which::All, &paces).await?;
    world.command(&["lines", "pause", PAUSED]).await?;
    let group =
        |phones: std::ops::Range<u32>, hour| Group { phones: phones.map(phone).collect(), hour, windows: HOURS };
    let groups = [group(0..AWAKE, 12), group(AWAKE..AWAKE + ASLEEP, 18)];
    for group in &groups {
        group.place(world, midnight).await?;
    }
    let pool: Vec<String> = (1..=POOL).map(|line| format!("pl_{line}")).collect();
    let rest = format!(
        "zone: UTC\nschedule: {BY_HAND}\nstop_on: [goal]\n{}caps: {{ per_recipient: 1 in 4s }}\nlines: {{ pool: [{}] }}\n{STEPS}",
        windows(HOURS),
        pool.join(", ")
    );
    let phones = groups.iter().flat_map(|group| group.phones.clone()).collect::<Vec<_>>();
    let file = apply(world, "drip", "never", &rest, &phones).await?;
    world.start_worker()?;
    world.start_worker()?;
    let foretold = Foretold::ask(world, &file).await?;
    world.command(&["campaign", "run", "drip"]).await?;
    let database = world.pool.clone();
    world.until("the drip is over", || async { Ok(sqlx::query_scalar(OVER).fetch_one(&database).await?) }).await?;
    // What a midnight holds up ends no later for having begun later, and no pace that lines lose makes it end later: both ends of the range
    // are one.
    foretold.judge_the_end(world, foretold.starts_at);
    judge_the_loads(world, &foretold, zone.parse().unwrap_or(Tz::UTC));
    hours::judge(world, &groups, midnight).await?;
    count_jobs(world).await
}

/// Each line's first touches and follow-ups of each day.
fn judge_the_loads(world: &mut World, foretold: &Foretold, zone: Tz) {
    let mut sent: BTreeMap<(String, NaiveDate), Sent> = BTreeMap::new();
    for entry in world.simulator.ledger() {
        let load = sent.entry((entry.line_id, entry.at.with_timezone(&zone).date_naive())).or_default();
        *if entry.first_touch { &mut load.first_touches } else { &mut load.follow_ups } += 1;
    }
    let full = sent.values().filter(|load| load.first_touches == CAP).count();
    world.notes.push(format!("{full} of {} caps used up", sent.len()));
    if full == 0 {
        world.findings.push("no line used up its cap: caps were not tried".to_owned());
    }
    let foretold = foretold.loads();
    let days: BTreeSet<&(String, NaiveDate)> = sent.keys().chain(foretold.keys()).collect();
    for day in days {
        let [sent, foretold] = [&sent, &foretold].map(|loads| loads.get(day).copied().unwrap_or_default());
        if sent != foretold {
            let (line, date) = day;
            world.findings.push(format!("{line} sent {sent} on {date}, where {foretold} were foretold"));
        }
    }
}
