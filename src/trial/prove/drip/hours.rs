//! People whose hours end or begin about a midnight of the lines, and what came to them outside of their hours.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, NaiveTime, TimeDelta, Utc};

use crate::trial::prove::setup::zone_where;
use crate::trial::prove::{ProveError, World};

/// So much later than its job's end may a message be on a phone: it was on the wire.
const ON_THE_WIRE: TimeDelta = TimeDelta::seconds(1);

/// People who share their hours.
pub struct Group {
    pub phones: Vec<String>,
    /// What their clocks say at the lines' midnight.
    pub hour: u32,
    /// When they may be written to, by their clocks.
    pub windows: &'static [(&'static str, &'static str)],
}

impl Group {
    /// Lets the database know where they are.
    pub async fn place(&self, world: &World, midnight: DateTime<Utc>) -> Result<(), ProveError> {
        sqlx::query("insert into outbox.recipients (phone, time_zone) select phone, $2 from unnest($1::text[]) phone")
            .bind(&self.phones)
            .bind(zone_where(self.hour, midnight))
            .execute(&world.pool)
            .await?;
        Ok(())
    }

    fn is_open(&self, at: DateTime<Utc>, midnight: DateTime<Utc>) -> bool {
        let time = |text| NaiveTime::parse_from_str(text, "%H:%M").expect("a time of day");
        let local = NaiveTime::MIN + TimeDelta::hours(self.hour.into()) + (at - midnight);
        self.windows.iter().any(|(from, to)| (time(from)..time(to)).contains(&local))
    }
}

/// As a campaign's file has it.
pub fn windows(windows: &[(&str, &str)]) -> String {
    let window = |(from, to): &(&str, &str)| format!("{{ from: \"{from}\", to: \"{to}\" }}");
    format!("windows: [{}]\n", windows.iter().map(window).collect::<Vec<_>>().join(", "))
}

/// No message outside its recipient's hours, and none of a job that was over by then.
pub async fn judge(world: &mut World, groups: &[Group], midnight: DateTime<Utc>) -> Result<(), ProveError> {
    let ends: Vec<(String, DateTime<Utc>)> = sqlx::query_as(
        "select idempotency_key, expires_at from outbox.jobs where expires_at is not null and idempotency_key is not null",
    )
    .fetch_all(&world.pool)
    .await?;
    let ends: HashMap<String, DateTime<Utc>> = ends.into_iter().collect();
    let ledger = world.simulator.ledger();
    let mut closed = 0;
    for group in groups {
        let phones: HashSet<&str> = group.phones.iter().map(String::as_str).collect();
        let theirs = ledger.iter().filter(|entry| phones.contains(entry.phone.as_str()));
        closed += theirs.filter(|entry| !group.is_open(entry.at, midnight)).count();
    }
    let end = |key: &Option<String>| ends.get(key.as_deref()?).copied();
    let over =
        ledger.iter().filter(|entry| end(&entry.idempotency_key).is_some_and(|end| entry.at > end + ON_THE_WIRE));
    let over = over.count();
    if closed > 0 || over > 0 {
        world.findings.push(format!("{closed} messages outside of their hours, {over} after their job was over"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_go_by_what_the_clocks_say_at_midnight() {
        for utc in 0..24 {
            let midnight: DateTime<Utc> = format!("2026-12-01T{utc:02}:00:00Z").parse().expect("a time");
            let group = Group { phones: Vec::new(), hour: 12, windows: &[("11:00", "12:01")] };
            let open = |secs| group.is_open(midnight + TimeDelta::seconds(secs), midnight);
            assert_eq!([-3_601, -3_600, 0, 59, 60].map(open), [false, true, true, true, false]);
        }
    }
}
