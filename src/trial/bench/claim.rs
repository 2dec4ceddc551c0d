//! What a claim costs as the backlog grows, and with blocked jobs at the head of a line.

use std::time::{Duration, Instant};

use serde::Serialize;
use sqlx::PgPool;

use crate::config::HoldOptions;
use crate::line::LineChoice;
use crate::outbox::account;
use crate::outbox::admit::admit;
use crate::outbox::claim::Claimer;
use crate::outbox::marks::Marks;
use crate::trial::bench::{BenchError, Progress, Scratch};

/// Jobs a claim.
const BATCH: usize = 500;
/// Claims that are timed, after one that is not. 13 of them leave over a third of the smallest backlog.
const CLAIMS: usize = 12;
const SMALL: i64 = 10_000;
const LINES: i32 = 50;
/// As a worker admits.
const ADMIT_LIMIT: i64 = 2_000;
const KEY_HORIZON: Duration = Duration::from_secs(24 * 3_600);
/// Each blocked recipient has this many jobs.
const JOBS_A_BLOCKED_RECIPIENT: i64 = 100;

/// One backlog and its claims.
#[derive(Debug, Clone, Serialize)]
pub struct Measured {
    /// Jobs that stand ready, on 50 lines without pace.
    pub rows: i64,
    /// Jobs that wait behind saturated recipients at the head of one of these lines.
    pub blocked: i64,
    /// The median of the timed claims of 500.
    pub claim_ms: f64,
    pub slowest_ms: f64,
    /// To the claim at 10,000 rows.
    pub ratio: f64,
    /// For all blocked jobs together: each is looked at once.
    pub admit_blocked_ms: Option<f64>,
}

/// Measures claims at 10,000 and at `rows` rows, and at `rows` with a tenth of them more that are blocked. Without
/// `analyze` the planner knows nothing yet, as right after a bulk load.
pub async fn run(
    scratch: &Scratch,
    rows: i64,
    analyze: bool,
    progress: &Progress,
) -> Result<Vec<Measured>, BenchError> {
    let pool = scratch.connect(2).await?;
    let namespace = account::namespace(&pool, "default").await?;
    let worker = "bench".to_owned();
    let lease = Duration::from_secs(3_600);
    let claimer = Claimer::new(worker, namespace, lease, 24 * lease, LineChoice::Chert, HoldOptions::default());
    let mut all: Vec<Measured> = Vec::new();
    for (rows, blocked) in [(SMALL, 0), (rows, 0), (rows, rows / 10)] {
        progress.say(format!("{rows} jobs ready, {blocked} blocked: filling"));
        fill(&pool, rows).await?;
        let admit_blocked_ms = match blocked {
            0 => None,
            blocked => Some(block(&pool, blocked).await?),
        };
        if analyze {
            sqlx::raw_sql("vacuum (analyze) outbox.jobs").execute(&pool).await?;
            sqlx::raw_sql("vacuum (analyze) outbox.recipients").execute(&pool).await?;
        }
        progress.say(format!("{rows} jobs ready, {blocked} blocked: claiming"));
        let times = time_claims(&pool, &claimer).await?;
        let claim_ms = times[times.len() / 2];
        let base = all.first().map_or(claim_ms, |first| first.claim_ms);
        let slowest_ms = times[times.len() - 1];
        all.push(Measured { rows, blocked, claim_ms, slowest_ms, ratio: claim_ms / base, admit_blocked_ms });
    }
    pool.close().await;
    Ok(all)
}

/// In milliseconds, the fastest first.
async fn time_claims(pool: &PgPool, claimer: &Claimer) -> Result<Vec<f64>, BenchError> {
    let mut times = Vec::new();
    for turn in 0..=CLAIMS {
        let start = Instant::now();
        let claims = claimer.claim(pool, BATCH, false, &mut Marks::default()).await?.claims;
        if turn > 0 {
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
        if claims.len() != BATCH {
            return Err(BenchError::ShortClaim { found: claims.len(), wanted: BATCH });
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}

/// Jobs as they stand after admission, each for a recipient of its own who is known to one of the lines.
async fn fill(pool: &PgPool, rows: i64) -> Result<(), BenchError> {
    sqlx::raw_sql("truncate outbox.jobs, outbox.recipients; delete from outbox.lines where id <> '*'")
        .execute(pool)
        .await?;
    sqlx::query(
        "insert into outbox.lines (id, gap_us, first_touch_gap_us, first_touch_cap)
         select 'pl_' || n, 0, 0, null from generate_series(1, $1) n",
    )
    .bind(LINES)
    .execute(pool)
    .await?;
    sqlx::query(
        "insert into outbox.recipients (phone, line_id, first_touched_at)
         select '+1' || (2000000000 + n), 'pl_' || (n % $2 + 1), now() from generate_series(1, $1) n",
    )
    .bind(rows)
    .bind(LINES)
    .execute(pool)
    .await?;
    sqlx::query(
        "insert into outbox.jobs (phone, body, due_at, ready, line_id, first_touch)
         select '+1' || (2000000000 + n), 'Hello from the bench, number ' || n, now() - interval '1 minute', true,
                'pl_' || (n % $2 + 1), false
           from generate_series(1, $1) n",
    )
    .bind(rows)
    .bind(LINES)
    .execute(pool)
    .await?;
    Ok(())
}

/// Puts jobs due before all others on the first line: the first of each recipient was put off because Chert called the
/// recipient saturated, the rest are new, and are admitted as a worker does it. Returns how long that took, in ms.
async fn block(pool: &PgPool, blocked: i64) -> Result<f64, BenchError> {
    let recipients = (blocked / JOBS_A_BLOCKED_RECIPIENT).max(1);
    sqlx::query(
        "insert into outbox.recipients (phone, line_id, first_touched_at)
         select '+1' || (7000000000 + n), 'pl_1', now() from generate_series(1, $1) n",
    )
    .bind(recipients)
    .execute(pool)
    .await?;
    sqlx::query(
        "insert into outbox.jobs (phone, body, due_at, reason, wake_at, line_id, first_touch, deferrals, claims)
         select '+1' || (7000000000 + n), 'Put off', now() - interval '1 hour', 'recipient_saturated',
                now() + interval '1 hour', 'pl_1', false, 1, 1
           from generate_series(1, $1) n",
    )
    .bind(recipients)
    .execute(pool)
    .await?;
    sqlx::query(
        "insert into outbox.jobs (phone, body, due_at)
         select '+1' || (7000000001 + n % $2), 'Behind it', now() - interval '30 minutes'
           from generate_series(1, $1) n",
    )
    .bind(blocked - recipients)
    .bind(recipients)
    .execute(pool)
    .await?;
    let start = Instant::now();
    while admit(pool, ADMIT_LIMIT, KEY_HORIZON, &HoldOptions::default(), &mut Marks::default()).await? > 0 {}
    Ok(start.elapsed().as_secs_f64() * 1e3)
}
