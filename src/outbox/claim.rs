//! The claim: locks the lines that have an open slot, finds the jobs whose turn it is, deals the slots out, and leases
//! the jobs. Four short statements in one transaction, because the jobs must be read after the lines are locked: in one
//! statement both are read as of its start, and two claims of one line can hand out the same recipient twice.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use sqlx::{PgPool, PgTransaction};
use tokio::time::Instant;

use crate::chert::request::{SendRequest, identity};
use crate::claim::{Claim, ClaimedLine};
use crate::clock::Anchor;
use crate::config::HoldOptions;
use crate::database;
use crate::line::{ANY_LINE, LineChoice};
use crate::outbox::OutboxError;
use crate::outbox::admit::{wake_after_commit, wake_next};
use crate::outbox::lines::follow_clock;
use crate::outbox::marks::Marks;
use crate::outbox::progress::announce_each;
use crate::outbox::queues::{Bars, FoundJob, LockedLine, find_jobs, lock_lines};
use crate::pace::allot::{Candidate, allot};
use crate::pace::slots::{HORIZON, Schedule, Touch, stagger};
use crate::retry::Standing;

/// A claim that lost a race for a recipient is tried again at once, this often.
const MAX_RACES: usize = 5;

/// The lead of a first claim, and the most that a slow database can make of it.
const LEAST_LEAD: Duration = Duration::from_millis(20);
const MOST_LEAD: Duration = Duration::from_secs(1);

/// A clock that was set by less than this breaks no gap: slots lie further apart than that.
const LEAST_JUMP: TimeDelta = TimeDelta::milliseconds(10);

/// What a claim brought.
#[derive(Debug, Default)]
pub struct Claimed {
    pub claims: Vec<Claim>,
    /// Jobs that ended here, as `failed` or `parked`, because they must not be sent as they are.
    pub refused: usize,
}

/// What a worker brings to every claim.
#[derive(Debug)]
pub struct Claimer {
    worker: String,
    namespace: String,
    lease: Duration,
    key_horizon: Duration,
    line_choice: LineChoice,
    holds: HoldOptions,
    /// What the last claim took from reading the clock to its commit.
    last_took_ms: AtomicU64,
    clock: Mutex<DatabaseClock>,
}

/// What is known of the database's clock.
#[derive(Debug, Default, Clone, Copy)]
struct DatabaseClock {
    anchor: Option<Anchor>,
    /// When it was set last, as far as this worker knows.
    set_at: Option<DateTime<Utc>>,
}

impl Claimer {
    /// A claimer for `worker`, whose claims last for `lease`; `namespace` goes into every key, and a job whose outcome has
    /// been unknown for longer than `key_horizon`, or that `holds` names, is not handed out.
    pub fn new(
        worker: String,
        namespace: String,
        lease: Duration,
        key_horizon: Duration,
        line_choice: LineChoice,
        holds: HoldOptions,
    ) -> Claimer {
        Claimer {
            worker,
            namespace,
            lease,
            key_horizon,
            line_choice,
            holds,
            last_took_ms: AtomicU64::new(0),
            clock: Mutex::default(),
        }
    }

    /// Claims at most `limit` due jobs, one a recipient, each with a slot within the horizon, oldest slot first. With
    /// `probe` it claims although the account is halted (never while it is rate-limited). Queues are read from `marks` on,
    /// which are moved up.
    /// Errors: `OutboxError::Claim` if Postgres fails, nothing claimed. Source: design 5; invariants 3, 4, 5 and 6.
    pub async fn claim(
        &self,
        pool: &PgPool,
        limit: usize,
        probe: bool,
        marks: &mut Marks,
    ) -> Result<Claimed, OutboxError> {
        let mut races = 0;
        loop {
            match self.try_claim(pool, limit, probe, marks).await {
                Err(error) if races < MAX_RACES && lost_race(&error) => races += 1,
                outcome => return outcome.map_err(OutboxError::Claim),
            }
        }
    }

    async fn try_claim(
        &self,
        pool: &PgPool,
        limit: usize,
        probe: bool,
        marks: &mut Marks,
    ) -> Result<Claimed, sqlx::Error> {
        let mut tx = database::begin(pool).await?;
        let asked = Instant::now();
        let lines = lock_lines(&mut tx, probe, marks).await?;
        let Some(now) = lines.first().map(|line| line.now) else {
            return Ok(Claimed::default());
        };
        let clock = *self.clock();
        let (anchor, jump) = Anchor::new(clock.anchor, asked, now);
        if jump.abs() > LEAST_JUMP {
            tx.rollback().await?;
            // If this fails, the jump is found again, against the anchor from before it.
            let set_at = follow_clock(pool, jump, clock.set_at).await?;
            *self.clock() = DatabaseClock { anchor: Some(anchor), set_at };
            return Ok(Claimed::default());
        }
        *self.clock() = DatabaseClock { anchor: Some(anchor), ..clock };
        let lead = (2 * Duration::from_millis(self.last_took_ms.load(Ordering::Relaxed))).clamp(LEAST_LEAD, MOST_LEAD);
        let schedule = |(place, line): (usize, &LockedLine)| {
            let schedule = line.schedule(lead);
            Schedule { lead: lead + stagger(place, lines.len(), schedule.gap), ..schedule }
        };
        let before: Vec<Schedule> = lines.iter().enumerate().map(schedule).collect();
        let mut schedules = before.clone();

        let bars = Bars { key_horizon: self.key_horizon, holds: &self.holds };
        let found = find_jobs(&mut tx, &lines, &schedules, limit, now, bars, marks).await?;
        let (again, found): (Vec<FoundJob>, Vec<FoundJob>) = found.into_iter().partition(|job| job.again);
        let faults: Vec<(i64, &'static str)> =
            found.iter().filter_map(|job| Some((job.id, self.fault_of(job)?))).collect();
        let found: Vec<FoundJob> = found.into_iter().filter(|job| faults.iter().all(|(id, _)| *id != job.id)).collect();
        look_again(&mut tx, &again).await?;
        let refused = refuse(&mut tx, &faults).await?;

        let index: HashMap<&str, usize> =
            lines.iter().enumerate().map(|(index, line)| (line.id.as_str(), index)).collect();
        let candidates: Vec<Candidate> = found
            .iter()
            .map(|job| Candidate {
                line: index.get(job.line_id.as_str()).copied().filter(|_| job.line_id != ANY_LINE),
                touch: job.touch(&lines),
                turn: job.turn(),
                expires_at: job.expires_at,
            })
            .collect();
        let allotments = allot(&mut schedules, &candidates, limit, now, now + HORIZON);

        let mut first_touches = vec![0; lines.len()];
        let mut found: Vec<Option<FoundJob>> = found.into_iter().map(Some).collect();
        let prepared: Vec<Prepared> = allotments
            .iter()
            .map(|allotment| {
                let job = found[allotment.candidate].take().expect("allot deals each candidate once");
                let line = &lines[allotment.line];
                let counted = candidates[allotment.candidate].touch == Touch::First;
                first_touches[allotment.line] += i32::from(counted);
                let claimed = line.claimed(before[allotment.line].clone(), allotment.slot);
                let counted_until = counted.then_some(line.day_ends_at);
                self.prepare(job, claimed, counted_until, now, anchor)
            })
            .collect();
        lease(&mut tx, &prepared, &self.worker, now + self.lease).await?;
        move_on(&mut tx, &lines, &before, &schedules, &first_touches).await?;
        tx.commit().await?;
        let took = anchor.time_of(Instant::now()) - now;
        self.last_took_ms.store(took.num_milliseconds().unsigned_abs(), Ordering::Relaxed);
        wake_after_commit(pool, &refused).await;
        let claims = prepared.into_iter().map(|prepared| prepared.claim).collect();
        Ok(Claimed { claims, refused: refused.len() })
    }

    fn clock(&self) -> MutexGuard<'_, DatabaseClock> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Freezes what the job will say: its line, its key, its bytes.
    fn prepare(
        &self,
        job: FoundJob,
        line: ClaimedLine,
        counted_until: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
        anchor: Anchor,
    ) -> Prepared {
        let untried = job.idempotency_key.is_none();
        let by_name = untried && job.first_touch && self.line_choice == LineChoice::Name && line.id != ANY_LINE;
        let named_line_id = job.named_line().or_else(|| by_name.then(|| line.id.clone()));
        let (phone, request) = job.request(named_line_id.clone()).expect("unreadable jobs were put aside");
        let key = job.idempotency_key.clone().unwrap_or_else(|| self.key(&job, &request));
        let claim = Claim {
            job_id: job.id,
            claim: job.claims + 1,
            phone,
            request: request.to_bytes(&key),
            first_touch: job.first_touch,
            counted: counted_until.is_some(),
            standing: Standing {
                attempt: job.attempt.unsigned_abs(),
                max_attempts: job.max_attempts.unsigned_abs(),
                unknown: job.unknown_since.is_some(),
            },
            slot: anchor.instant_of(line.slot_at),
            line,
            lease_ends: anchor.instant_of(now + self.lease),
            untried,
            anchor,
        };
        Prepared { claim, key, named_line_id, counted_until }
    }

    /// Why a job must not be sent: it cannot be read, or it was tried before and no longer says what its key was made from.
    fn fault_of(&self, job: &FoundJob) -> Option<&'static str> {
        let Some((_, request)) = job.request(job.named_line()) else {
            return Some("payload_unreadable");
        };
        let frozen = job.idempotency_key.as_ref()?;
        (*frozen != self.key(job, &request)).then_some("payload_changed")
    }

    fn key(&self, job: &FoundJob, request: &SendRequest) -> String {
        request.idempotency_key(&self.namespace, &identity(job.dedupe_key.as_deref(), job.id))
    }
}

/// A claim with what the database keeps of it.
struct Prepared {
    claim: Claim,
    key: String,
    named_line_id: Option<String>,
    counted_until: Option<DateTime<Utc>>,
}

/// Whether another claim took the same recipient, or the two waited for each other; nothing was claimed.
fn lost_race(error: &sqlx::Error) -> bool {
    let Some(refused) = error.as_database_error() else { return false };
    refused.constraint() == Some("one_in_flight_per_recipient") || refused.code().as_deref() == Some("40P01")
}

/// Sends jobs back to admission, which knows what to do with them.
async fn look_again(tx: &mut PgTransaction<'_>, jobs: &[FoundJob]) -> Result<(), sqlx::Error> {
    if jobs.is_empty() {
        return Ok(());
    }
    let ids: Vec<i64> = jobs.iter().map(|job| job.id).collect();
    sqlx::query!("update outbox.jobs set ready = false, wake_at = now() where id = any ($1)", &ids)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Ends jobs that must not be sent as they are, and returns their recipients.
async fn refuse(tx: &mut PgTransaction<'_>, faults: &[(i64, &'static str)]) -> Result<Vec<String>, sqlx::Error> {
    if faults.is_empty() {
        return Ok(Vec::new());
    }
    let refused = sqlx::query!(
        r#"
        update outbox.jobs j
           set state = case when j.unknown_since is null then 'failed' else 'parked' end, reason = u.reason,
               ready = false, finished_at = now()
          from unnest($1::bigint[], $2::text[]) as u (id, reason)
         where j.id = u.id
        returning j.id, j.phone, j.state
        "#,
        &faults.iter().map(|(id, _)| *id).collect::<Vec<_>>(),
        &faults.iter().map(|(_, reason)| (*reason).to_owned()).collect::<Vec<_>>(),
    )
    .fetch_all(&mut **tx)
    .await?;
    let news: Vec<_> = refused.iter().map(|row| (row.id, row.state.as_str())).collect();
    announce_each(tx, &news).await?;
    let phones: Vec<String> = refused.into_iter().map(|row| row.phone).collect();
    wake_next(tx, &phones).await?;
    Ok(phones)
}

async fn lease(
    tx: &mut PgTransaction<'_>,
    prepared: &[Prepared],
    worker: &str,
    lease_until: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    if prepared.is_empty() {
        return Ok(());
    }
    let ids: Vec<i64> = prepared.iter().map(|prepared| prepared.claim.job_id).collect();
    let lines: Vec<String> = prepared.iter().map(|prepared| prepared.claim.line.id.clone()).collect();
    let keys: Vec<String> = prepared.iter().map(|prepared| prepared.key.clone()).collect();
    let named: Vec<Option<String>> = prepared.iter().map(|prepared| prepared.named_line_id.clone()).collect();
    let counted_until: Vec<Option<DateTime<Utc>>> = prepared.iter().map(|prepared| prepared.counted_until).collect();
    sqlx::query!(
        r#"
        update outbox.jobs j
           set state = 'sending', reason = null, ready = false, wake_at = null, claims = j.claims + 1, worker = $5,
               lease_until = $6, line_id = u.line_id, idempotency_key = u.key, named_line_id = u.named_line_id,
               counted_until = coalesce(u.counted_until, j.counted_until)
          from unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $7::timestamptz[])
            as u (id, line_id, key, named_line_id, counted_until)
         where j.id = u.id
        "#,
        &ids,
        &lines,
        &keys,
        &named as &[Option<String>],
        worker,
        lease_until,
        &counted_until as &[Option<DateTime<Utc>>],
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn move_on(
    tx: &mut PgTransaction<'_>,
    lines: &[LockedLine],
    before: &[Schedule],
    schedules: &[Schedule],
    first_touches: &[i32],
) -> Result<(), sqlx::Error> {
    let moved = |index: &usize| schedules[*index] != before[*index] || first_touches[*index] > 0;
    let moved: Vec<usize> = (0..lines.len()).filter(moved).collect();
    let ids: Vec<String> = moved.iter().map(|&line| lines[line].id.clone()).collect();
    let next: Vec<DateTime<Utc>> = moved.iter().map(|&line| schedules[line].next_at).collect();
    let next_first: Vec<DateTime<Utc>> = moved.iter().map(|&line| schedules[line].next_first_touch_at).collect();
    let days: Vec<NaiveDate> = moved.iter().map(|&line| lines[line].day).collect();
    let counts: Vec<i32> = moved.iter().map(|&line| first_touches[line]).collect();
    sqlx::query!(
        r#"
        update outbox.lines l
           set next_at = u.next_at, next_first_touch_at = u.next_first_touch_at, first_touch_day = u.day,
               first_touches = u.count + case when l.first_touch_day = u.day then l.first_touches else 0 end
          from unnest($1::text[], $2::timestamptz[], $3::timestamptz[], $4::date[], $5::int[]) as u (id, next_at, next_first_touch_at, day, count)
         where l.id = u.id
        "#,
        &ids,
        &next,
        &next_first,
        &days,
        &counts,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
