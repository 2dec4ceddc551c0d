//! Reads from the outbox what a trial counts: its jobs, the paces of its lines, its attempts. Whole tables, so for trials
//! only.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono_tz::Tz;
use sqlx::{AssertSqlSafe, PgConnection, PgPool};

use crate::trial::tally::{JobFact, LinePace};

/// All jobs, in the order of their ids.
pub async fn jobs(pool: &PgPool) -> Result<Vec<JobFact>, sqlx::Error> {
    sqlx::query_as!(
        JobFact,
        r#"
        select id, phone, body, priority, due_at, created_at, state, reason, idempotency_key
          from outbox.jobs
         order by id
        "#
    )
    .fetch_all(pool)
    .await
}

/// The paces of the lines that Chert listed, without slowdowns: those make a line slower than it may be.
pub async fn lines(pool: &PgPool) -> Result<Vec<LinePace>, sqlx::Error> {
    let rows = sqlx::query!(
        "select id, gap_us, first_touch_gap_us, first_touch_cap, time_zone from outbox.lines where id <> '*' order by id"
    )
    .fetch_all(pool)
    .await?;
    let micros = |us: i64| Duration::from_micros(us.unsigned_abs());
    Ok(rows
        .into_iter()
        .map(|row| LinePace {
            id: row.id,
            gap: micros(row.gap_us),
            first_touch_gap: micros(row.first_touch_gap_us),
            first_touch_cap: row.first_touch_cap.map(i32::unsigned_abs),
            time_zone: row.time_zone.parse().unwrap_or(Tz::UTC),
        })
        .collect())
}

/// How many jobs there are of each state, with reason and code where there is one, e.g. `failed: rejected (1003)`.
pub async fn outcomes(pool: &PgPool) -> Result<BTreeMap<String, u64>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"select state, reason, error_code, count(*) as "count!" from outbox.jobs group by state, reason, error_code"#
    )
    .fetch_all(pool)
    .await?;
    let name = |state: String, reason: Option<String>, code: Option<i32>| {
        let reason = reason.map_or(String::new(), |reason| format!(": {reason}"));
        format!("{state}{reason}{}", code.map_or(String::new(), |code| format!(" ({code})")))
    };
    Ok(rows.into_iter().map(|row| (name(row.state, row.reason, row.error_code), row.count.unsigned_abs())).collect())
}

/// How many jobs keep the list of effects that came with a refusal.
pub async fn with_allowed_effects(pool: &PgPool) -> Result<u64, sqlx::Error> {
    sqlx::query_scalar!(r#"select count(*) as "count!" from outbox.jobs where error_detail ? 'allowed_effects'"#)
        .fetch_one(pool)
        .await
        .map(i64::unsigned_abs)
}

/// How far a trial is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    pub queued: u64,
    pub sending: u64,
    pub sent: u64,
    /// Ended in another way than sent.
    pub ended_otherwise: u64,
}

impl Progress {
    /// All jobs there are.
    pub fn total(&self) -> u64 {
        self.queued + self.sending + self.ended()
    }

    /// Those that wait for nothing any more.
    pub fn ended(&self) -> u64 {
        self.sent + self.ended_otherwise
    }
}

/// Counts the jobs by state.
pub async fn progress(pool: &PgPool) -> Result<Progress, sqlx::Error> {
    let row = sqlx::query!(
        r#"
        select count(*) filter (where state = 'queued') as "queued!", count(*) filter (where state = 'sending') as "sending!",
               count(*) filter (where state = 'sent') as "sent!",
               count(*) filter (where state not in ('queued', 'sending', 'sent')) as "ended_otherwise!"
          from outbox.jobs
        "#
    )
    .fetch_one(pool)
    .await?;
    Ok(Progress {
        queued: row.queued.unsigned_abs(),
        sending: row.sending.unsigned_abs(),
        sent: row.sent.unsigned_abs(),
        ended_otherwise: row.ended_otherwise.unsigned_abs(),
    })
}

/// The idempotency keys of the jobs that the worker of this name has claimed and not recorded.
pub async fn held_keys(pool: &PgPool, worker_name: &str) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        select j.idempotency_key as "key!"
          from outbox.jobs j
          join outbox.workers w on w.id = j.worker
         where w.name = $1 and j.state = 'sending'
        "#,
        worker_name,
    )
    .fetch_all(pool)
    .await
}

/// What the attempts came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attempts {
    /// How many there were of each outcome, and code if there is one, e.g. `deferred 4002`.
    pub by_outcome: BTreeMap<String, u64>,
    /// Those that were noted for a worker that had died.
    pub rescued: u64,
}

impl Attempts {
    /// How many there were.
    pub fn total(&self) -> u64 {
        self.by_outcome.values().sum()
    }
}

/// Counts the attempts.
pub async fn attempts(pool: &PgPool) -> Result<Attempts, sqlx::Error> {
    // Only a rescue does not know how long the call took.
    let rows = sqlx::query!(
        r#"
        select outcome, code, count(*) as "count!", count(*) filter (where outcome = 'unknown' and duration_ms is null) as "rescued!"
          from outbox.attempts
         group by outcome, code
        "#
    )
    .fetch_all(pool)
    .await?;
    let mut attempts = Attempts::default();
    for row in rows {
        let name = row.code.map_or(row.outcome.clone(), |code| format!("{} {code}", row.outcome));
        attempts.by_outcome.insert(name, row.count.unsigned_abs());
        attempts.rescued += row.rescued.unsigned_abs();
    }
    Ok(attempts)
}

/// How many jobs did not spend one attempt a claim whose outcome spends one, by the outcome table of the design. `retried`:
/// jobs that a person tried again, and their claims until then, which do not count any more.
pub async fn wrongly_spent(pool: &PgPool, retried: &BTreeMap<i64, i32>) -> Result<u64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        select count(*) as "count!"
          from outbox.jobs j
          left join unnest($1::bigint[], $2::int[]) as r (id, claims) on r.id = j.id
         where j.attempt <> (select count(distinct a.claim) from outbox.attempts a
                              where a.job_id = j.id and a.claim > coalesce(r.claims, 0)
                                and a.outcome in ('sent', 'duplicate', 'retry', 'rejected', 'unknown'))
        "#,
        &retried.keys().copied().collect::<Vec<_>>(),
        &retried.values().copied().collect::<Vec<_>>(),
    )
    .fetch_one(pool)
    .await
    .map(i64::unsigned_abs)
}

/// How many connections of workers there are.
pub async fn connections(conn: &mut PgConnection) -> Result<u64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select count(*) as "count!" from pg_stat_activity where application_name like 'chert-outbox%'"#
    )
    .fetch_one(conn)
    .await
    .map(i64::unsigned_abs)
}

/// A whole table as JSON, a row a line.
pub async fn dump(conn: &mut PgConnection, table: &str) -> Result<String, sqlx::Error> {
    let rows = format!("select coalesce(string_agg(to_jsonb(t)::text, E'\n'), '') from outbox.{table} t");
    sqlx::query_scalar(AssertSqlSafe(rows)).fetch_one(conn).await
}

/// How many jobs were taken over from workers that were dead or stood still, and how many answers came after that.
pub async fn taken_over(pool: &PgPool) -> Result<(u64, u64), sqlx::Error> {
    let row = sqlx::query!(
        r#"
        select count(*) filter (where outcome = 'unknown' and duration_ms is null) as "taken_over!", count(*) filter (where late) as "late!"
          from outbox.attempts
        "#
    )
    .fetch_one(pool)
    .await?;
    Ok((row.taken_over.unsigned_abs(), row.late.unsigned_abs()))
}
