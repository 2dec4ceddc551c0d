//! What could go now: the lines that have an open slot, locked, and the heads of the queues that they draw from.

use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::PgTransaction;

use crate::chert::request::SendRequest;
use crate::claim::ClaimedLine;
use crate::config::HoldOptions;
use crate::line::ANY_LINE;
use crate::outbox::admit::interval;
use crate::outbox::marks::Marks;
use crate::pace::allot::Turn;
use crate::pace::slots::{HORIZON, REFILL, Schedule, Touch};
use crate::phone::Phone;

/// The most lines that one claim looks at.
const MAX_LINES: i64 = 256;

/// Locks the lines that have an open slot and a job that stands ready for it, oldest slot first; lines that another claim
/// holds are passed over. With `probe` also while the account is halted.
pub(crate) async fn lock_lines(
    tx: &mut PgTransaction<'_>,
    probe: bool,
    marks: &Marks,
) -> Result<Vec<LockedLine>, sqlx::Error> {
    let marks = marks.columns();
    sqlx::query_as!(
        LockedLine,
        r#"
        with marks as materialized (
            select * from unnest($4::text[], $5::smallint[], $6::timestamptz[], $7::bigint[], $8::smallint[], $9::timestamptz[], $10::bigint[])
                       as m (line_id, priority, due_at, id, touch_priority, touch_due_at, touch_id)
        ), anyone as materialized (
            select heads.follow_up, heads.first_touch
              from marks m
             cross join lateral outbox.heads(m.line_id, m.priority, m.due_at, m.id, m.touch_priority, m.touch_due_at, m.touch_id) heads
             where m.line_id = '*'
        )
        select o.id as "id!", o.gap_us as "gap_us!", o.first_touch_gap_us as "first_touch_gap_us!", o.next_at as "next_at!",
               greatest(o.next_first_touch_at, o.saturated_until) as "next_first_touch_at!",
               o.slowdown as "slowdown!", o.saturations as "saturations!", o.first_touches_left,
               o.day as "day!", o.day_ends_at as "day_ends_at!", o.has_counted as "has_counted!", clock_timestamp() as "now!"
          from outbox.openings o
         cross join anyone
          left join marks m on m.line_id = o.id
         cross join lateral outbox.heads(o.id, m.priority, m.due_at, m.id, m.touch_priority, m.touch_due_at, m.touch_id) heads
         where o.next_at <= clock_timestamp() + $1::interval
           and (anyone.follow_up or heads.follow_up
                or o.first_touch_at <= clock_timestamp() + $1::interval and (anyone.first_touch or heads.first_touch)
                -- A cap that is used up holds back no job that it has counted already.
                or greatest(o.next_first_touch_at, o.saturated_until) <= clock_timestamp() + $1::interval and o.has_counted)
           and not exists (select from outbox.account a
                            where a.block_kind = 'halted' and not $2
                               or a.block_kind = 'rate_limited' and a.blocked_until > clock_timestamp())
         -- Lines without a pace do not move on: they take turns by chance.
         order by case when o.gap_us = 0 then now() else o.next_at end, random()
         limit $3
           for update of o skip locked
        "#,
        interval(HORIZON - REFILL),
        probe,
        MAX_LINES,
        &marks.line_ids,
        &marks.priorities,
        &marks.dues,
        &marks.ids,
        &marks.touch_priorities,
        &marks.touch_dues,
        &marks.touch_ids,
    )
    .fetch_all(&mut **tx)
    .await
}

/// The heads of every queue that the locked lines draw from, in the order of their turn. Each line brings no more than
/// its slots and its share of `limit`, so that rows are not locked in vain.
pub(crate) async fn find_jobs(
    tx: &mut PgTransaction<'_>,
    lines: &[LockedLine],
    schedules: &[Schedule],
    limit: usize,
    now: DateTime<Utc>,
    bars: Bars<'_>,
    marks: &mut Marks,
) -> Result<Vec<FoundJob>, sqlx::Error> {
    let queues = queues(lines, schedules, limit, now);
    let from: Vec<Turn> = queues.iter().map(|queue| marks.of(queue.line_id, queue.touch.is_first())).collect();
    let Bars { key_horizon, holds } = bars;
    let (stale_holds_marketing, stale_holds_others) = holds.hold_on_stale.holds();
    let mut found = sqlx::query_as!(
        FoundJob,
        r#"
        select c.id as "id!", c.phone as "phone!", c.body as "body!", c.payload::text as "payload!", c.phone_line_id, c.named_line_id,
               c.dedupe_key, c.idempotency_key, c.priority as "priority!", c.due_at as "due_at!", c.attempt as "attempt!",
               c.max_attempts as "max_attempts!", c.claims as "claims!", c.line_id as "line_id!", c.first_touch as "first_touch!",
               c.counted_until, c.unknown_since, c.expires_at, c.out_of_turn as "out_of_turn!",
               (c.expires_at <= $4
                or c.unknown_since < $4 - $5::interval
                or c.line_id is distinct from coalesce((select l.id from outbox.lines l
                                                         where l.id = coalesce(c.named_line_id, c.phone_line_id, r.line_id)
                                                           and l.removed_at is null), '*')
                or c.first_touch is distinct from (r.first_touched_at is null and r.last_inbound_at is null)
                -- `offset 0` keeps these two to one look at the index a job: without it the planner, who expects thousands of
                -- jobs here, reads all suppressions and all of what is in flight into a hash table at every claim.
                or not c.past_suppression
                   and (exists (select from outbox.suppressions s
                                 where s.phone = c.phone and outbox.in_scope(s.scope, c.campaign, c.labels) offset 0)
                        or hearing.knows_erased
                           and exists (select from outbox.erased e
                                        where e.phone_hash = outbox.phone_hash(c.phone)
                                          and outbox.in_scope(e.scope, c.campaign, c.labels) offset 0)
                        or r.review_since is not null
                        or hearing.is_stale and case when c.class = 'marketing' then $10::bool else $11::bool end
                        or c.class = 'marketing' and r.unanswered >= $12
                        or c.campaign = any (hearing.paused_campaigns)
                        or exists (select from outbox.enrolments e
                                    where e.id = c.enrolment and e.state = 'stopped'
                                      and e.reason in ('replied', 'opted_out', 'goal', 'campaign_stopped') offset 0))
                or exists (select from outbox.jobs flying where flying.phone = c.phone and flying.state = 'sending' offset 0)
                or exists (select from outbox.jobs earlier
                            where earlier.phone = c.phone and earlier.state in ('queued', 'sending') and earlier.due_at <= $4
                              and not outbox.is_held(earlier.reason)
                              and (earlier.priority, earlier.due_at, earlier.id) < (c.priority, c.due_at, c.id))) is true as "again!"
          from unnest($1::text[], $2::bool[], $3::bigint[], $6::smallint[], $7::timestamptz[], $8::bigint[], $13::timestamptz[])
            as q (line_id, first_touch, most, priority, due_at, id, counted_until)
         cross join (select outbox.is_deaf($9) as is_stale, exists (select from outbox.erased) as knows_erased,
                            array(select name from outbox.campaigns where state <> 'running') as paused_campaigns offset 0) hearing
         cross join lateral (
               select head.*, false as out_of_turn
                 from (select j.*
                         from outbox.jobs j
                        where q.counted_until is null
                          and j.state = 'queued' and j.ready and j.line_id = q.line_id and j.first_touch = q.first_touch
                          and (j.priority, j.due_at, j.id) >= (q.priority, q.due_at, q.id)
                        order by j.priority, j.due_at, j.id
                        limit q.most
                          for update skip locked) head
               union all
               select counted.*, true
                 from (select j.*
                         from outbox.jobs j
                        where j.state = 'queued' and j.ready and j.line_id = q.line_id and j.first_touch
                          and j.counted_until = q.counted_until
                        order by j.priority, j.due_at, j.id
                        limit q.most
                          for update skip locked) counted) c
          left join outbox.recipients r on r.phone = c.phone
         order by c.priority, c.due_at, c.id
        "#,
        &queues.iter().map(|queue| queue.line_id.to_owned()).collect::<Vec<_>>(),
        &queues.iter().map(|queue| queue.touch.is_first()).collect::<Vec<_>>(),
        &queues.iter().map(|queue| i64::try_from(queue.most).unwrap_or(i64::MAX)).collect::<Vec<_>>(),
        now,
        interval(key_horizon),
        &from.iter().map(|(priority, ..)| *priority).collect::<Vec<_>>(),
        &from.iter().map(|(_, due_at, _)| *due_at).collect::<Vec<_>>(),
        &from.iter().map(|(.., id)| *id).collect::<Vec<_>>(),
        interval(holds.stale_after),
        stale_holds_marketing,
        stale_holds_others,
        holds.unanswered.limit.0.map_or(i32::MAX, i32::from),
        &queues.iter().map(|queue| queue.counted_until).collect::<Vec<_>>() as &[Option<DateTime<Utc>>],
    )
    .fetch_all(&mut **tx)
    .await?;
    // One that is counted already may stand at the head of its queue as well.
    found.dedup_by_key(|job| job.id);
    let in_turn = found.iter().filter(|job| !job.out_of_turn);
    marks.found(in_turn.map(|job| (job.line_id.as_str(), job.first_touch, job.turn())));
    Ok(found)
}

/// A queue that is drawn from, and how many of its jobs there may be slots for.
struct Queue<'a> {
    line_id: &'a str,
    touch: Touch,
    /// Of the first touches, only those that the day that ends then has counted already, out of their turn.
    counted_until: Option<DateTime<Utc>>,
    most: usize,
}

/// Each line's own queues and those of any line. First touches that are counted already stand in the queue of all others; where the cap
/// leaves nothing for these, they have one of their own.
fn queues<'a>(lines: &'a [LockedLine], schedules: &[Schedule], limit: usize, now: DateTime<Utc>) -> Vec<Queue<'a>> {
    let share = limit.div_ceil(lines.len().max(1));
    let mut queues = Vec::new();
    for touch in [Touch::FollowUp, Touch::First] {
        let mut for_anyone = 0;
        for (line, schedule) in lines.iter().zip(schedules) {
            let open = schedule.count_open(touch, share, now, now + HORIZON);
            for_anyone += open;
            if line.id != ANY_LINE && open > 0 {
                queues.push(Queue { line_id: &line.id, touch, counted_until: None, most: open });
            }
        }
        queues.push(Queue { line_id: ANY_LINE, touch, counted_until: None, most: for_anyone.min(limit) });
    }
    for (line, schedule) in lines.iter().zip(schedules).filter(|(line, _)| line.has_counted) {
        let (touch, counted_until) = (Touch::Counted, Some(line.day_ends_at));
        let most = schedule.count_open(touch, share, now, now + HORIZON);
        for line_id in [line.id.as_str(), ANY_LINE] {
            if most > 0 && !queues.iter().any(|queue| (queue.line_id, queue.counted_until) == (line_id, counted_until))
            {
                queues.push(Queue { line_id, touch, counted_until, most });
            }
        }
    }
    queues
}

/// What keeps a job at the head of a queue from being handed out.
#[derive(Clone, Copy)]
pub(crate) struct Bars<'a> {
    /// How long its outcome may have been unknown.
    pub key_horizon: Duration,
    pub holds: &'a HoldOptions,
}

/// A line that this claim holds, as it stands now that it is locked.
pub(crate) struct LockedLine {
    pub id: String,
    pub gap_us: i64,
    pub first_touch_gap_us: i64,
    pub next_at: DateTime<Utc>,
    /// The later of its own gap and of Chert's "full"; its cap is `first_touches_left`.
    pub next_first_touch_at: DateTime<Utc>,
    pub slowdown: f32,
    pub saturations: i32,
    pub first_touches_left: Option<i32>,
    pub day: NaiveDate,
    pub day_ends_at: DateTime<Utc>,
    /// Its cap is used up, and some first touch that stands ready for it is counted on this day already.
    pub has_counted: bool,
    pub now: DateTime<Utc>,
}

impl LockedLine {
    pub fn schedule(&self, lead: Duration) -> Schedule {
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

    /// Whether this line may send the job, and has counted it on this day already.
    fn counted(&self, job: &FoundJob) -> bool {
        (job.line_id == ANY_LINE || job.line_id == self.id) && job.counted_until == Some(self.day_ends_at)
    }

    pub fn claimed(&self, mut after: Schedule, slot_at: DateTime<Utc>) -> ClaimedLine {
        after.take(slot_at, Touch::First);
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
pub(crate) struct FoundJob {
    pub id: i64,
    pub phone: String,
    pub body: String,
    /// As text: numbers that Postgres takes and Rust does not are one job's fault, not the whole claim's.
    pub payload: String,
    pub phone_line_id: Option<String>,
    pub named_line_id: Option<String>,
    pub dedupe_key: Option<String>,
    pub idempotency_key: Option<String>,
    pub priority: i16,
    pub due_at: DateTime<Utc>,
    pub attempt: i32,
    pub max_attempts: i32,
    pub claims: i32,
    pub line_id: String,
    pub first_touch: bool,
    /// The end of the line's day that has counted it as a first touch, because an earlier call may be on the phone.
    pub counted_until: Option<DateTime<Utc>>,
    pub unknown_since: Option<DateTime<Utc>>,
    pub expires_at: Option<DateTime<Utc>>,
    /// It was found for being counted already, not at the head of its queue.
    pub out_of_turn: bool,
    /// Something has changed since its admission: it must be admitted anew.
    pub again: bool,
}

impl FoundJob {
    /// Its place in its queue.
    pub fn turn(&self) -> Turn {
        (self.priority, self.due_at, self.id)
    }

    /// What it asks of these lines.
    pub fn touch(&self, lines: &[LockedLine]) -> Touch {
        Touch::of(self.first_touch, self.counted_until.is_some() && lines.iter().any(|line| line.counted(self)))
    }

    pub fn named_line(&self) -> Option<String> {
        self.phone_line_id.clone().or_else(|| self.named_line_id.clone())
    }

    /// `None` if the payload cannot be read.
    pub fn request(&self, named_line_id: Option<String>) -> Option<(Phone, SendRequest)> {
        let phone: Phone = self.phone.parse().expect("the constraint on phone admits only what Phone does");
        let payload = serde_json::from_str(&self.payload).ok()?;
        Some((phone.clone(), SendRequest::new(phone, self.body.clone(), named_line_id, payload)))
    }
}
