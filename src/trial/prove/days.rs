//! Clocks that are changed about the midnight at which lines begin a new day, with a new cap of first touches.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use chrono_tz::{America, Tz};
use serde_json::Value;

use crate::outbox::lines::{self, Paces, Which};
use crate::simulate::{Fault, Faults, LedgerEntry};
use crate::trial::prove::setup::zone_where;
use crate::trial::prove::world::phone;
use crate::trial::prove::{Machine, ProveError, Scenario, Setup, World};

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "midnight-skipped",
        breaks: "clocks put forward from midnight to 01:00, with which the lines' day begins",
        quick: false,
        setup: || SKIPPED.setup(),
        play: |world| Box::pin(SKIPPED.play(world)),
    },
    Scenario {
        name: "midnight-first",
        breaks: "a midnight that will come again in an hour: the lines' day begins with the first",
        quick: false,
        setup: || FIRST.setup(),
        play: |world| Box::pin(FIRST.play(world)),
    },
    Scenario {
        name: "midnight-again",
        breaks: "clocks put back from 01:00 to a second midnight, with which no day begins",
        quick: false,
        setup: || AGAIN.setup(),
        play: |world| Box::pin(AGAIN.play(world)),
    },
    Scenario {
        name: "evening-again",
        breaks: "clocks put back from midnight to 23:00: the lines' day has another hour",
        quick: false,
        setup: || EVENING.setup(),
        play: |world| Box::pin(EVENING.play(world)),
    },
];

const SKIPPED: Change = Change { zone: America::Havana, at: "2026-03-08T05:00:00Z" };
const FIRST: Change = Change { zone: America::Havana, at: "2026-11-01T04:00:00Z" };
const AGAIN: Change = Change { zone: America::Havana, at: "2026-11-01T05:00:00Z" };
const EVENING: Change = Change { zone: America::Santiago, at: "2026-04-05T03:00:00Z" };

/// It begins so long before the change: late enough for lines to use up their cap, and for whoever asks when they go on.
const LEAD: TimeDelta = TimeDelta::seconds(18);
/// Other lines begin so long before it, with two or three slots that may be used on their old day.
const LATE_LEAD: TimeDelta = TimeDelta::seconds(3);
/// What ought not to come after it is waited for so long.
const AFTER: TimeDelta = TimeDelta::seconds(5);
const CAP: usize = 4;
/// Of each line: more than two days let it send, and one that is refused.
const JOBS: u32 = 3 * CAP as u32;

/// Clocks that are changed at this instant or an hour after it. It is in the past, where no law moves it any more.
#[derive(Debug, Clone, Copy)]
struct Change {
    zone: Tz,
    at: &'static str,
}

impl Change {
    fn at(self) -> DateTime<Utc> {
        self.at.parse().expect("an instant")
    }

    fn setup(self) -> Setup {
        let first_touch_cap = Some(CAP as u32);
        Setup {
            machine: Machine::Before { instant: self.at(), lead: LEAD },
            lines: 6,
            first_touch_cap,
            ..Setup::default()
        }
    }

    /// Two lines where clocks are changed, two where it is an ordinary midnight and two where it is noon: of each two, one has used up its
    /// cap by then, although somebody was refused and left a place free, and one is about to use it.
    async fn play(self, world: &mut World) -> Result<(), ProveError> {
        let at = self.at();
        let zone = |hour| zone_where(hour, at).parse::<Tz>().expect("it names a zone");
        let (mut early, mut late) = (Vec::new(), Vec::new());
        for (index, zone) in (0..).zip([self.zone, zone(0), zone(12)]) {
            early.push(Line::prepare(world, 2 * index, zone, at - LEAD).await?);
            late.push(Line::prepare(world, 2 * index + 1, zone, at - LATE_LEAD).await?);
        }
        let refused = early.iter().map(|line| (phone(line.first_phone()), Fault::error(1003))).collect();
        world.faults(Faults { phones: refused, ..Faults::default() })?;
        world.start_worker()?;
        world.start_worker()?;
        let phones = world.simulator.handle();
        let used_up = || early.iter().all(|line| line.touches(&phones.ledger(), at).0 >= CAP);
        world.until("caps were used up before the change", || async { Ok(used_up()) }).await?;
        for line in &early {
            line.check_foretold(world, at).await?;
        }
        let pool = world.pool.clone();
        let over = || async {
            let is_over = sqlx::query_scalar("select clock_timestamp() > $1").bind(at + AFTER).fetch_one(&pool).await?;
            Ok(is_over && early.iter().chain(&late).all(|line| line.has_its_days(&phones.ledger(), at)))
        };
        world.until("every line had sent what its days let it send", over).await?;
        sqlx::query("select outbox.cancel_all(array(select id from outbox.jobs where state = 'queued'))")
            .execute(&world.pool)
            .await?;
        let ledger = world.simulator.ledger();
        for line in late {
            let (before, _) = line.touches(&ledger, at);
            if !(1..CAP).contains(&before) {
                world
                    .findings
                    .push(format!("{} sent {before} before the change: a cap in use was not tried", line.id()));
            }
        }
        let before = ledger.iter().filter(|entry| entry.at < at).count();
        let after = ledger.len() - before;
        let (zone, at) = (self.zone, at.format("%F %H:%M UTC"));
        world.notes.push(format!("{zone} at {at}, {before} first touches before and {after} after it"));
        Ok(())
    }
}

/// A line for which more waits than its days let it send.
struct Line {
    index: u32,
    zone: Tz,
}

impl Line {
    async fn prepare(world: &mut World, index: u32, zone: Tz, due_at: DateTime<Utc>) -> Result<Line, ProveError> {
        let line = Line { index, zone };
        let paces = Paces { time_zone: Some(zone.name().to_owned()), ..Paces::default() };
        lines::set(&world.pool, &Which::One(line.id()), &paces).await?;
        let recipients = line.first_phone()..line.first_phone() + JOBS;
        let taken = sqlx::query(
            "insert into outbox.jobs (phone, body, phone_line_id, due_at)
             select phone, 'Hi ' || n, $2, $3 from unnest($1::text[]) with ordinality as u (phone, n)",
        )
        .bind(recipients.map(phone).collect::<Vec<_>>())
        .bind(line.id())
        .bind(due_at)
        .execute(&world.pool)
        .await?;
        world.inserted += taken.rows_affected();
        Ok(line)
    }

    fn id(&self) -> String {
        format!("pl_{}", self.index + 1)
    }

    fn first_phone(&self) -> u32 {
        self.index * JOBS
    }

    fn day(&self, at: DateTime<Utc>) -> NaiveDate {
        at.with_timezone(&self.zone).date_naive()
    }

    /// Its day just before an instant.
    fn day_before(&self, at: DateTime<Utc>) -> NaiveDate {
        self.day(at - TimeDelta::microseconds(1))
    }

    /// How many it sent before and after the change.
    fn touches(&self, ledger: &[LedgerEntry], at: DateTime<Utc>) -> (usize, usize) {
        let id = self.id();
        let of_line = ledger.iter().filter(|entry| entry.line_id == id);
        let (before, after): (Vec<_>, Vec<_>) = of_line.partition(|entry| entry.at < at);
        (before.len(), after.len())
    }

    /// Whether it has sent what the days before and after the change let it send, which may be one and the same.
    fn has_its_days(&self, ledger: &[LedgerEntry], at: DateTime<Utc>) -> bool {
        let (before, after) = self.touches(ledger, at);
        let of_last_day = if self.day_before(at) == self.day(at) { before + after } else { after };
        of_last_day >= CAP
    }

    /// Whoever asks when its next first touch can go is told the beginning of its next day. Days begin at full hours here.
    async fn check_foretold(&self, world: &mut World, at: DateTime<Utc>) -> Result<(), ProveError> {
        let next: i64 = sqlx::query_scalar(
            "select id from outbox.jobs where phone_line_id = $1 and state = 'queued' order by id limit 1",
        )
        .bind(self.id())
        .fetch_one(&world.pool)
        .await?;
        let told = world.asked(&["explain", &next.to_string(), "--json"]).await?;
        let told: Value = serde_json::from_str(&told).unwrap_or_default();
        let instant = |value: &Value| serde_json::from_value::<DateTime<Utc>>(value.clone()).ok();
        if instant(&told["now"]).is_none_or(|now| now >= at) {
            world.findings.push("nobody was told anything before the change: it was not tried".to_owned());
            return Ok(());
        }
        let mut hours = (0..=25).map(|hours| at + TimeDelta::hours(hours));
        let tomorrow = hours.find(|hour| self.day(*hour) > self.day_before(at));
        let told = instant(&told["job"]["next"]["at"]);
        if told != tomorrow {
            let time = |at: Option<DateTime<Utc>>| at.map_or("never".to_owned(), |at| at.to_string());
            let (id, told, tomorrow) = (self.id(), time(told), time(tomorrow));
            world.findings.push(format!("{id} is foretold to go on at {told}, its day begins at {tomorrow}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_changed_as_each_scenario_says() {
        let changes = [
            (SKIPPED, "03-07 23:59", "03-08 01:00"),
            (FIRST, "10-31 23:59", "11-01 00:00"),
            (AGAIN, "11-01 00:59", "11-01 00:00"),
            (EVENING, "04-04 23:59", "04-04 23:00"),
        ];
        for (change, before, then) in changes {
            let shown = |at: DateTime<Utc>| at.with_timezone(&change.zone).format("%m-%d %H:%M").to_string();
            let at = change.at();
            assert_eq!([shown(at - TimeDelta::minutes(1)), shown(at)], [before, then]);
        }
    }
}
