//! The claim: locks the lines that have an open slot, finds the jobs whose turn it is, deals the slots out, and leases
//! the jobs. Four short statements in one transaction, because the jobs must be read after the lines are locked: in one
//! statement both are read as of its start, and two claims of one line can hand out the same recipient twice.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use sqlx::{PgPool, PgTransaction};

use crate::chert::request::{SendRequest, identity};
use crate::claim::{Claim, ClaimedLine};
use crate::clock::Anchor;
use crate::database;
use crate::line::{ANY_LINE, LineChoice};
use crate::outbox::OutboxError;
use crate::outbox::admit::{interval, wake_after_commit, wake_next};
use crate::pace::allot::{Candidate, allot};
use crate::pace::slots::{HORIZON, REFILL, Schedule};
use crate::phone::Phone;
use crate::retry::Standing;

/// The most lines that one claim looks at.
const MAX_LINES: i64 = 256;
/// A claim that lost a race for a recipient is tried again at once, this often.
const MAX_RACES: usize = 5;

/// The lead of a first claim, and the most that a slow database can make of it.
const LEAST_LEAD: Duration = Duration::from_millis(20);
const MOST_LEAD: Duration = Duration::from_secs(1);

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
    /// What the last claim took from reading the clock to its commit.
    last_took_ms: AtomicU64,
}

impl Claimer {
    /// A claimer for `worker`, whose claims last for `lease`; `namespace` goes into every key, and a job whose outcome has
    /// been unknown for longer than `key_horizon` is not handed out.
    pub fn new(
        worker: String,
        namespace: String,
        lease: Duration,
        key_horizon: Duration,
        line_choice: LineChoice,
    ) -> Claimer {
        Claimer { worker, namespace, lease, key_horizon, line_choice, last_took_ms: AtomicU64::new(0) }
    }

    /// Claims at most `limit` due jobs, one a recipient, each with a slot within the horizon, oldest slot first. With
    /// `probe` it claims although the account is halted (never while it is rate-limited).
    /// Errors: `OutboxError::Claim` if Postgres fails, nothing claimed. Source: design 5; invariants 3, 4, 5 and 6.
    pub async fn claim(&self, pool: &PgPool, limit: usize, probe: bool) -> Result<Claimed, OutboxError> {
        let mut races = 0;
        loop {
            match self.try_claim(pool, limit, probe).await {
                Err(error) if races < MAX_RACES && lost_race(&error) => races += 1,
                outcome => return outcome.map_err(OutboxError::Claim),
            }
        }
    }

    async fn try_claim(&self, pool: &PgPool, limit: usize, probe: bool) -> Result<Claimed, sqlx::Error> {
        let mut tx = database::begin(pool).await?;
        let lines = lock_lines(&mut tx, probe).await?;
        let Some(now) = lines.first().map(|line| line.now) else {
            return Ok(Claimed::default());
        };
        let anchor = Anchor::now(now);
        let lead = (2 * Duration::from_millis(self.last_took_ms.load(Ordering::Relaxed))).clamp(LEAST_LEAD, MOST_LEAD);
        let before: Vec<Schedule> = lines.iter().map(|line| line.schedule(lead)).collect();
        let mut schedules = before.clone();

        let found = find_jobs(&mut tx, &lines, &schedules, limit, now, self.key_horizon).await?;
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
                first_touch: job.first_touch,
                turn: (job.priority, job.due_at, job.id),
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
                let counted = job.first_touch && !line.has_counted(&job);
                first_touches[allotment.line] += i32::from(counted);
                self.prepare(job, line.claimed(before[allotment.line].clone(), allotment.slot), counted, now, anchor)
            })
            .collect();
        lease(&mut tx, &prepared, &self.worker, now + self.lease).await?;
        move_on(&mut tx, &lines, &before, &schedules, &first_touches).await?;
        tx.commit().await?;
        let took = anchor.time_of(tokio::time::Instant::now()) - now;
        self.last_took_ms.store(took.num_milliseconds().unsigned_abs(), Ordering::Relaxed);
        wake_after_commit(pool, &refused).await;
        let claims = prepared.into_iter().map(|prepared| prepared.claim).collect();
        Ok(Claimed { claims, refused: refused.len() })
    }

    /// Freezes what the job will say: its line, its key, its bytes.
    fn prepare(&self, job: FoundJob, line: ClaimedLine, counted: bool, now: DateTime<Utc>, anchor: Anchor) -> Prepared {
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
            counted,
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
        Prepared { claim, key, named_line_id }
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
}

/// A line that this claim holds, as it stands now that it is locked.
struct LockedLine {
    id: String,
    gap_us: i64,
    first_touch_gap_us: i64,
    next_at: DateTime<Utc>,
    /// The later of its own gap and of Chert's "full"; its cap is `first_touches_left`.
    next_first_touch_at: DateTime<Utc>,
    slowdown: f32,
    saturations: i32,
    first_touches_left: Option<i32>,
    day: NaiveDate,
    day_ends_at: DateTime<Utc>,
    now: DateTime<Utc>,
}

impl LockedLine {
    fn schedule(&self, lead: Duration) -> Schedule {
        // Whole microseconds, as the database keeps them.
        let slowed = |gap_us: i64| Duration::from_micros((gap_us as f64 * f64::from(self.slowdown)).ceil() as u64);
        Schedule {
            gap: slowed(self.gap_us),
            lead,
            first_touch_gap: slowed(self.first_touch_gap_us),
            next_at: self.next_at,
            next_first_touch_at: self.next_first_touch_at,
            first_touches_left: self.first_touches_left.map(i32::unsigned_abs),
            day_ends_at: self.day_ends_at,
        }
    }

    /// Whether an earlier call of this job, which may be on the phone, was counted as a first touch of today already.
    fn has_counted(&self, job: &FoundJob) -> bool {
        let day_began_at = self.day_ends_at - TimeDelta::days(1);
        job.unknown_since.is_some_and(|at| at >= day_began_at)
    }

    fn claimed(&self, mut after: Schedule, slot_at: DateTime<Utc>) -> ClaimedLine {
        after.take(slot_at, true);
        ClaimedLine {
            id: self.id.clone(),
            gap: after.gap,
            first_touch_gap: after.first_touch_gap,
            slot_at,
            first_touch_until: after.next_first_touch_at,
            day: self.day,
            slowdown: self.slowdown,
            saturations: self.saturations,
        }
    }
}

/// A job at the head of a queue, with the last look at what may forbid it.
struct FoundJob {
    id: i64,
    phone: String,
    body: String,
    /// As text: numbers that Postgres takes and Rust does not are one job's fault, not the whole claim's.
    payload: String,
    phone_line_id: Option<String>,
    named_line_id: Option<String>,
    dedupe_key: Option<String>,
    idempotency_key: Option<String>,
    priority: i16,
    due_at: DateTime<Utc>,
    attempt: i32,
    max_attempts: i32,
    claims: i32,
    line_id: String,
    first_touch: bool,
    unknown_since: Option<DateTime<Utc>>,
    /// Something has changed since its admission: it must be admitted anew.
    again: bool,
}

impl FoundJob {
    fn named_line(&self) -> Option<String> {
        self.phone_line_id.clone().or_else(|| self.named_line_id.clone())
    }

    /// `None` if the payload cannot be read.
    fn request(&self, named_line_id: Option<String>) -> Option<(Phone, SendRequest)> {
        let phone: Phone = self.phone.parse().expect("the constraint on phone admits only what Phone does");
        let payload = serde_json::from_str(&self.payload).ok()?;
        Some((phone.clone(), SendRequest::new(phone, self.body.clone(), named_line_id, payload)))
    }
}

/// Whether another claim took the same recipient, or the two waited for each other; nothing was claimed.
fn lost_race(error: &sqlx::Error) -> bool {
    let Some(refused) = error.as_database_error() else { return false };
    refused.constraint() == Some("one_in_flight_per_recipient") || refused.code().as_deref() == Some("40P01")
}

async fn lock_lines(tx: &mut PgTransaction<'_>, probe: bool) -> Result<Vec<LockedLine>, sqlx::Error> {
    sqlx::query_as!(
        LockedLine,
        r#"
        with anyone as materialized (
            select exists (select from outbox.jobs where state = 'queued' and ready and line_id = '*' and not first_touch) as follow_up,
                   exists (select from outbox.jobs where state = 'queued' and ready and line_id = '*' and first_touch) as first_touch
        )
        select o.id as "id!", o.gap_us as "gap_us!", o.first_touch_gap_us as "first_touch_gap_us!", o.next_at as "next_at!",
               greatest(o.next_first_touch_at, o.saturated_until) as "next_first_touch_at!",
               o.slowdown as "slowdown!", o.saturations as "saturations!", o.first_touches_left,
               o.day as "day!", o.day_ends_at as "day_ends_at!", clock_timestamp() as "now!"
          from outbox.openings o, anyone
         where o.next_at <= clock_timestamp() + $1::interval
           and (anyone.follow_up
                or exists (select from outbox.jobs j where j.state = 'queued' and j.ready and j.line_id = o.id and not j.first_touch)
                or o.first_touch_at <= clock_timestamp() + $1::interval
                   and (anyone.first_touch
                        or exists (select from outbox.jobs j where j.state = 'queued' and j.ready and j.line_id = o.id and j.first_touch)))
           and not exists (select from outbox.account a
                            where a.block_kind = 'halted' and not $2
                               or a.block_kind = 'rate_limited' and a.blocked_until > clock_timestamp())
         order by o.next_at
         limit $3
           for update of o skip locked
        "#,
        interval(HORIZON - REFILL),
        probe,
        MAX_LINES,
    )
    .fetch_all(&mut **tx)
    .await
}

/// The heads of every queue that the locked lines draw from, in the order of their turn. Each line brings no more than
/// its slots and its share of `limit`, so that rows are not locked in vain.
async fn find_jobs(
    tx: &mut PgTransaction<'_>,
    lines: &[LockedLine],
    schedules: &[Schedule],
    limit: usize,
    now: DateTime<Utc>,
    key_horizon: Duration,
) -> Result<Vec<FoundJob>, sqlx::Error> {
    let share = limit.div_ceil(lines.len().max(1));
    let (mut line_ids, mut classes, mut limits): (Vec<String>, Vec<bool>, Vec<i64>) = Default::default();
    let mut queue = |line_id: &str, first_touch: bool, most: usize| {
        line_ids.push(line_id.to_owned());
        classes.push(first_touch);
        limits.push(i64::try_from(most).unwrap_or(i64::MAX));
    };
    for first_touch in [false, true] {
        let mut for_anyone = 0;
        for (line, schedule) in lines.iter().zip(schedules) {
            let open = schedule.count_open(first_touch, share, now, now + HORIZON);
            for_anyone += open;
            if line.id != ANY_LINE && open > 0 {
                queue(&line.id, first_touch, open);
            }
        }
        queue(ANY_LINE, first_touch, for_anyone.min(limit));
    }
    sqlx::query_as!(
        FoundJob,
        r#"
        select c.id as "id!", c.phone as "phone!", c.body as "body!", c.payload::text as "payload!", c.phone_line_id, c.named_line_id,
               c.dedupe_key, c.idempotency_key, c.priority as "priority!", c.due_at as "due_at!", c.attempt as "attempt!",
               c.max_attempts as "max_attempts!", c.claims as "claims!", c.line_id as "line_id!", c.first_touch as "first_touch!",
               c.unknown_since,
               (c.expires_at <= $4
                or c.unknown_since < $4 - $5::interval
                or c.line_id is distinct from coalesce((select l.id from outbox.lines l
                                                         where l.id = coalesce(c.named_line_id, c.phone_line_id, r.line_id)
                                                           and l.removed_at is null), '*')
                or c.first_touch is distinct from (r.first_touched_at is null and r.last_inbound_at is null)
                -- `offset 0` keeps these two to one look at the index a job: without it the planner, who expects thousands of
                -- jobs here, reads all suppressions and all of what is in flight into a hash table at every claim.
                or exists (select from outbox.suppressions s where s.phone = c.phone offset 0)
                or exists (select from outbox.jobs flying where flying.phone = c.phone and flying.state = 'sending' offset 0)
                or exists (select from outbox.jobs earlier
                            where earlier.phone = c.phone and earlier.state in ('queued', 'sending') and earlier.due_at <= $4
                              and (earlier.priority, earlier.due_at, earlier.id) < (c.priority, c.due_at, c.id))) is true as "again!"
          from unnest($1::text[], $2::bool[], $3::bigint[]) as q (line_id, first_touch, most)
         cross join lateral (
               select j.*
                 from outbox.jobs j
                where j.state = 'queued' and j.ready and j.line_id = q.line_id and j.first_touch = q.first_touch
                order by j.priority, j.due_at, j.id
                limit q.most
                  for update skip locked) c
          left join outbox.recipients r on r.phone = c.phone
         order by c.priority, c.due_at, c.id
        "#,
        &line_ids,
        &classes,
        &limits,
        now,
        interval(key_horizon),
    )
    .fetch_all(&mut **tx)
    .await
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
    let phones = sqlx::query_scalar!(
        r#"
        update outbox.jobs j
           set state = case when j.unknown_since is null then 'failed' else 'parked' end, reason = u.reason,
               ready = false, finished_at = now()
          from unnest($1::bigint[], $2::text[]) as u (id, reason)
         where j.id = u.id
        returning j.phone
        "#,
        &faults.iter().map(|(id, _)| *id).collect::<Vec<_>>(),
        &faults.iter().map(|(_, reason)| (*reason).to_owned()).collect::<Vec<_>>(),
    )
    .fetch_all(&mut **tx)
    .await?;
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
    sqlx::query!(
        r#"
        update outbox.jobs j
           set state = 'sending', reason = null, ready = false, wake_at = null, claims = j.claims + 1, worker = $5,
               lease_until = $6, line_id = u.line_id, idempotency_key = u.key, named_line_id = u.named_line_id
          from unnest($1::bigint[], $2::text[], $3::text[], $4::text[]) as u (id, line_id, key, named_line_id)
         where j.id = u.id
        "#,
        &ids,
        &lines,
        &keys,
        &named as &[Option<String>],
        worker,
        lease_until,
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
    let moved = |index: &usize| schedules[*index] != before[*index];
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
