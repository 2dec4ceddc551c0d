//! The drip at its full size: 20,000 people on 20 lines, over a midnight at which lines begin a new day, and quiet hours of every third
//! person about it.

use std::time::Duration;

use chrono::TimeDelta;

use crate::outbox::lines::{self, Paces, Which};
use crate::trial::prove::drip::LINES;
use crate::trial::prove::drip::hours::{self, Group, windows};
use crate::trial::prove::setup::zone_where;
use crate::trial::prove::world::phone;
use crate::trial::prove::{Machine, ProveError, Setup, World};

const PEOPLE: u32 = 20_000;
/// Its guard is 80 ms. On two processors that have nothing else to do, the slowest of 50,000 calls was 43 ms on its way.
const GAP: Duration = Duration::from_millis(800);
/// It begins so long before midnight.
const LEAD: TimeDelta = TimeDelta::minutes(16);
/// Of every second line; it comes to that on both days. The others take what these leave.
const CAP: u32 = 400;
/// Two minutes are quiet for those whose noon it is; the others' morning is never near an end.
const HOURS: &[(&str, &str)] = &[("00:00", "11:59"), ("12:01", "13:20")];

pub fn setup() -> Setup {
    Setup { machine: Machine::before_the_hour(LEAD), alone: true, only_named: true, ..super::setup(GAP, GAP) }
}

pub async fn drip(world: &mut World) -> Result<(), ProveError> {
    let midnight = world.begins_before.unwrap_or_default();
    for line in 1..=LINES {
        let cap = is_capped(line).then_some(CAP.cast_signed());
        let zone = zone_where(0, midnight);
        let paces = Paces { first_touch_cap: Some(cap), time_zone: Some(zone), ..Paces::default() };
        lines::set(&world.pool, &Which::One(format!("pl_{line}")), &paces).await?;
    }
    let (noon, morning): (Vec<u32>, Vec<u32>) = (0..PEOPLE).partition(|person| person % 3 == 0);
    let group =
        |people: Vec<u32>, hour| Group { phones: people.into_iter().map(phone).collect(), hour, windows: HOURS };
    let groups = [group(noon, 12), group(morning, 3)];
    for group in &groups {
        group.place(world, midnight).await?;
    }
    super::drip(world, PEOPLE, 4_000..6_000, &windows(HOURS)).await?;
    // By the lines' own counts, which are those of the second day: a place that a kill has lost is used up as well, and more than the cap
    // is seen on the phones.
    let full: i64 = sqlx::query_scalar("select count(*) from outbox.lines where first_touches = first_touch_cap")
        .fetch_one(&world.pool)
        .await?;
    world.notes.push(format!("{full} of {} caps used up", LINES / 2));
    if full == 0 {
        world.findings.push("no line used up its cap: caps were not tried".to_owned());
    }
    hours::judge(world, &groups, midnight).await
}

fn is_capped(line: u32) -> bool {
    line.is_multiple_of(2)
}
