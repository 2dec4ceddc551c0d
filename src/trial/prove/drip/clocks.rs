//! Replicas whose clocks are an hour apart: a campaign that fires every few seconds, people who reply to it, and plain jobs beside it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use rand::RngExt as _;

use crate::trial::postgres::fake_clock;
use crate::trial::prove::drip::{apply, count_jobs, replica, scripted};
use crate::trial::prove::world::phone;
use crate::trial::prove::{ProveError, Setup, World};

/// One of them is killed about so often, in milliseconds.
const KILL_MS: std::ops::Range<u64> = 2_000..3_000;
/// How far the replicas' clocks are off, as libfaketime takes it, and what each does: only those that are off receive.
const CLOCKS: [(&str, &str); 3] =
    [("-3600", "send,inbound,campaigns"), ("+3600", "send,inbound,campaigns"), ("+0", "send,campaigns")];
/// The campaign fires so often, and is watched over so many firings.
const EVERY_SECS: u32 = 3;
const FIRINGS: i64 = 8;
/// The second step comes so long after the first.
const WAIT_SECS: u32 = 8;
/// Its people: the numbers' ends say that five are silent, and that five reply to every message.
const FIRST: u32 = 800_000;
const SILENT: std::ops::Range<u32> = 0..5;
const REPLYING: std::ops::Range<u32> = 95..100;
/// Plain jobs to others, all of them silent; some of them for later.
const JOBS: usize = 150;
const RECIPIENTS: u32 = 40;
const LATER: std::ops::Range<i32> = 1..15;
/// The two clocks of a message and of its job are read at different times.
const SLACK: TimeDelta = TimeDelta::milliseconds(5);

pub fn setup() -> Setup {
    let first_touch_gap = Duration::from_secs(2);
    Setup { lines: 40, first_touch_gap, simulator: scripted(), worker_env: replica(), ..Setup::default() }
}

/// Three replicas by three clocks, each of which is killed now and then and comes back by the same one.
pub async fn fire(world: &mut World) -> Result<(), ProveError> {
    let library = fake_clock()?.display().to_string();
    let by = |(clock, roles)| {
        let env = [
            ("LD_PRELOAD", library.as_str()),
            ("FAKETIME", clock),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("OUTBOX_ROLES", roles),
        ];
        env.map(|(name, value)| (name, value.to_owned()))
    };
    let phones: Vec<String> = SILENT.chain(REPLYING).map(|n| phone(FIRST + n)).collect();
    let steps = format!(
        "  - {{ name: one, send: {{ body: 'Hi {{{{ name }}}}' }} }}\n  - wait: {WAIT_SECS}s\n  \
         - {{ name: two, send: {{ body: 'Still there, {{{{ name }}}}?' }} }}\n"
    );
    let schedule = format!("{{ cron: '*/{EVERY_SECS} * * * * *', overlap: queue }}");
    let rest = format!("zone: UTC\nschedule: {schedule}\nsteps:\n{steps}");
    insert(world).await?;
    let mut clocks = CLOCKS.to_vec();
    for clock in CLOCKS {
        world.start_worker_with(&by(clock))?;
    }
    apply(world, "pulse", "always", &rest, &phones).await?;
    let (limit, mut dies_at, mut kills) =
        (Instant::now() + Duration::from_secs(90), Instant::now() + Duration::from_millis(KILL_MS.end), 0);
    while finished(world).await? < FIRINGS {
        if Instant::now() > limit {
            world.findings.push(format!("it had not fired {FIRINGS} times in time"));
            break;
        }
        if Instant::now() > dies_at {
            let victim = world.rng.random_range(0..clocks.len());
            world.kill_worker(victim).await?;
            let clock = clocks.remove(victim);
            world.start_worker_with(&by(clock))?;
            clocks.push(clock);
            kills += 1;
            dies_at = Instant::now() + Duration::from_millis(world.rng.random_range(KILL_MS));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    world.command(&["campaign", "stop", "pulse", "--yes"]).await?;
    let pool = world.pool.clone();
    let over = "select not exists (select from outbox.enrolments where state in ('active', 'held'))
                   and not exists (select from outbox.jobs where state in ('queued', 'sending'))";
    world.until("all has ended", || async { Ok(sqlx::query_scalar(over).fetch_one(&pool).await?) }).await?;
    count_jobs(world).await?;
    judge(world).await?;
    world.notes.push(format!("{kills} kills"));
    Ok(())
}

/// Plain jobs, half of them due at once.
async fn insert(world: &mut World) -> Result<(), ProveError> {
    let phones: Vec<String> = (0..JOBS).map(|_| phone(world.rng.random_range(0..RECIPIENTS))).collect();
    let delays: Vec<i32> =
        phones.iter().map(|_| if world.rng.random() { 0 } else { world.rng.random_range(LATER) }).collect();
    sqlx::query(
        "insert into outbox.jobs (phone, body, due_at)
         select phone, 'message ' || n, now() + delay * interval '1 second'
           from unnest($1::text[], $2::int[]) with ordinality as u (phone, delay, n)",
    )
    .bind(phones)
    .bind(delays)
    .execute(&world.pool)
    .await?;
    Ok(())
}

async fn finished(world: &World) -> Result<i64, ProveError> {
    let finished = "select count(*) from outbox.ticks where state = 'done'";
    Ok(sqlx::query_scalar(finished).fetch_one(&world.pool).await?)
}

/// Every firing once, at its time, and nothing before its own.
async fn judge(world: &mut World) -> Result<(), ProveError> {
    let (ticks, firings, span): (i64, i64, f64) = sqlx::query_as(
        "select count(*), count(distinct at), extract(epoch from max(at) - min(at))::float8 from outbox.ticks",
    )
    .fetch_one(&world.pool)
    .await?;
    let due = (span / f64::from(EVERY_SECS)).round() as i64 + 1;
    if ticks != firings || firings != due {
        world.findings.push(format!("{ticks} rows for {firings} firings, of {due} that were due"));
    }
    let (odd, unseen): (i64, i64) = sqlx::query_as(
        "select count(*) filter (where late or state not in ('done', 'skipped')),
                count(*) filter (where state = 'done' and people <> 10)
           from outbox.ticks",
    )
    .fetch_one(&world.pool)
    .await?;
    if odd > 0 || unseen > 0 {
        world.findings.push(format!("{odd} firings late, missed or failed, {unseen} not for everybody"));
    }
    let (rounds, unheard): (i64, i64) = sqlx::query_as(
        "select count(*), count(*) filter (where step > 0 and right(phone, 2) >= '95' and reason is distinct from 'replied'
                                             and finished_at > sent_at + interval '6 seconds')
           from outbox.enrolments",
    )
    .fetch_one(&world.pool)
    .await?;
    if unheard > 0 {
        world.findings.push(format!("{unheard} replies ended nothing"));
    }
    let early = early(world).await?;
    if early > 0 {
        world.findings.push(format!("{early} messages before their time"));
    }
    world.notes.push(format!("{firings} firings, {rounds} enrolments"));
    Ok(())
}

/// How many messages came before their job was due, before their firing, or too soon after the step before.
async fn early(world: &World) -> Result<usize, ProveError> {
    let due: Vec<(String, DateTime<Utc>)> = sqlx::query_as(
        "select j.idempotency_key,
                greatest(j.due_at, t.at, (select b.sent_at + $1 * interval '1 second' from outbox.jobs b
                                           where b.enrolment = j.enrolment and b.step < j.step))
           from outbox.jobs j
           left join outbox.enrolments e on e.id = j.enrolment
           left join outbox.ticks t on t.id = e.tick_id
          where j.idempotency_key is not null",
    )
    .bind(f64::from(WAIT_SECS))
    .fetch_all(&world.pool)
    .await?;
    let due: HashMap<String, DateTime<Utc>> = due.into_iter().collect();
    let ledger = world.simulator.ledger();
    let soonest = |key: &Option<String>| due.get(key.as_deref()?).copied();
    Ok(ledger.iter().filter(|entry| soonest(&entry.idempotency_key).is_some_and(|due| entry.at + SLACK < due)).count())
}
