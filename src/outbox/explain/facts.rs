//! What is read to explain something: the same columns, functions and views that admission and claims decide on, in one snapshot.

use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::PgTransaction;

use crate::config::HoldOptions;
use crate::outbox::OutboxError;
use crate::outbox::account::{self, Account};
use crate::outbox::admit::interval;
use crate::outbox::explain::ExplainError;
use crate::outbox::queues::LockedLine;
use crate::outbox::workers::{self, Worker};

/// The most lines that are read.
const MAX_LINES: i64 = 1_000;

/// What binds everybody.
#[derive(Debug, Clone)]
pub(super) struct World {
    pub now: DateTime<Utc>,
    /// A reply or a stop may have been missed.
    pub deaf: bool,
    pub account: Account,
    pub workers: Vec<Worker>,
    pub lines: Vec<Line>,
}

/// A line with its columns, and, where it may be dealt slots, what follows from the hour.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub id: String,
    pub active: bool,
    pub gap_us: i64,
    pub first_touch_gap_us: i64,
    pub first_touch_cap: Option<i32>,
    pub next_at: DateTime<Utc>,
    pub next_first_touch_at: DateTime<Utc>,
    pub saturated_until: Option<DateTime<Utc>>,
    pub slowdown: f32,
    pub time_zone: String,
    pub first_touches_left: Option<i32>,
    pub day: Option<NaiveDate>,
    pub day_ends_at: Option<DateTime<Utc>>,
}

impl Line {
    /// The line as a claim would find it; none if it may not be dealt slots.
    pub fn open(&self, now: DateTime<Utc>) -> Option<LockedLine> {
        Some(LockedLine {
            id: self.id.clone(),
            gap_us: self.gap_us,
            first_touch_gap_us: self.first_touch_gap_us,
            next_at: self.next_at,
            next_first_touch_at: self.next_first_touch_at.max(self.saturated_until.unwrap_or(self.next_first_touch_at)),
            slowdown: self.slowdown,
            saturations: 0,
            first_touches_left: self.first_touches_left,
            day: self.day?,
            day_ends_at: self.day_ends_at?,
            has_counted: false,
            now,
        })
    }
}

/// Reads what binds everybody.
pub(super) async fn world(tx: &mut PgTransaction<'_>, stale_after: Duration) -> Result<World, ExplainError> {
    let here =
        sqlx::query!(r#"select clock_timestamp() as "now!", outbox.is_deaf($1) as "deaf!""#, interval(stale_after))
            .fetch_one(&mut **tx)
            .await
            .map_err(ExplainError::Read)?;
    let lines = sqlx::query_as!(
        Line,
        r#"
        select l.id, l.active, l.gap_us, l.first_touch_gap_us, l.first_touch_cap, l.next_at,
               l.next_first_touch_at, l.saturated_until, l.slowdown, l.time_zone, o.first_touches_left as "first_touches_left?",
               o.day as "day?", o.day_ends_at as "day_ends_at?"
          from outbox.lines l
          left join outbox.openings o on o.id = l.id
         where l.removed_at is null
           and (l.id <> '*' or not exists (select from outbox.lines known where known.id <> '*' and known.removed_at is null))
         order by l.id
         limit $1
        "#,
        MAX_LINES,
    )
    .fetch_all(&mut **tx)
    .await
    .map_err(ExplainError::Read)?;
    let account = account::read_in(tx).await.map_err(outbox)?;
    let workers = workers::list_in(tx).await.map_err(outbox)?;
    Ok(World { now: here.now, deaf: here.deaf, account, workers, lines })
}

fn outbox(error: OutboxError) -> ExplainError {
    ExplainError::Outbox(error)
}

/// A job as it stands, with all that admission and claims would look at.
#[derive(Debug, Clone, serde::Serialize)]
pub struct JobFacts {
    pub id: i64,
    /// Masked.
    pub phone: String,
    pub state: String,
    pub reason: Option<String>,
    pub class: String,
    pub campaign: Option<String>,
    pub enrolment: Option<i64>,
    pub step: Option<i32>,
    pub priority: i16,
    pub due_at: DateTime<Utc>,
    pub wake_at: Option<DateTime<Utc>>,
    pub expires_at: Option<DateTime<Utc>>,
    pub attempt: i32,
    pub max_attempts: i32,
    pub deferrals: i32,
    /// The queue that it stands or would stand in: its line, or `*` for any.
    pub line_id: String,
    pub first_touch: bool,
    /// The end of the line's day that has counted it as a first touch, because a call is under way or may be on the phone.
    pub counted_until: Option<DateTime<Utc>>,
    pub producer: String,
    pub created_at: DateTime<Utc>,
    pub sent_at: Option<DateTime<Utc>>,
    pub finished_at: Option<DateTime<Utc>>,
    pub sent_line_id: Option<String>,
    pub message_id: Option<String>,
    pub error_code: Option<i32>,
    pub error_message: Option<String>,
    pub trace_id: Option<String>,
    pub delivery_state: Option<String>,
    pub delivered_at: Option<DateTime<Utc>>,
    pub read_at: Option<DateTime<Utc>>,
    pub replied_at: Option<DateTime<Utc>>,
    #[serde(skip)]
    pub ready: bool,
    #[serde(skip)]
    pub looked_at: bool,
    #[serde(skip)]
    pub past_suppression: bool,
    /// A call may have put it on the phone.
    #[serde(skip)]
    pub unknown: bool,
    #[serde(skip)]
    pub lease_until: Option<DateTime<Utc>>,
    #[serde(skip)]
    pub worker: Option<String>,
    #[serde(skip)]
    pub worker_name: Option<String>,
    /// The scope of a suppression that covers it.
    #[serde(skip)]
    pub suppressed: Option<String>,
    /// Why its enrolment was ended, where that ends it too.
    #[serde(skip)]
    pub enrolment_ended: Option<String>,
    #[serde(skip)]
    pub campaign_state: Option<String>,
    #[serde(skip)]
    pub in_review: bool,
    #[serde(skip)]
    pub unanswered: i32,
    /// The recipient's job in flight, if it is another one.
    #[serde(skip)]
    pub flying: Option<i64>,
    #[serde(skip)]
    pub flying_until: Option<DateTime<Utc>>,
    /// The first of the recipient's earlier messages that are due and not held.
    #[serde(skip)]
    pub head: Option<i64>,
    /// When its delivery is looked at next.
    #[serde(skip)]
    pub look_at: Option<DateTime<Utc>>,
}

impl JobFacts {
    /// What `hold_on_stale` and the limit of unanswered messages hold, as admission has it; the strongest first.
    pub(super) fn holds(&self, deaf: bool, holds: &HoldOptions) -> Vec<&'static str> {
        if self.past_suppression {
            return Vec::new();
        }
        let (marketing, others) = holds.hold_on_stale.holds();
        let is_marketing = self.class == "marketing";
        let limit = holds.unanswered.limit.0.map_or(i32::MAX, i32::from);
        [
            ("campaign_paused", self.campaign_state.as_deref() == Some("paused")),
            ("in_review", self.in_review),
            ("inbound_stale", deaf && if is_marketing { marketing } else { others }),
            ("unanswered", is_marketing && self.unanswered >= limit),
        ]
        .into_iter()
        .filter_map(|(what, holds)| holds.then_some(what))
        .collect()
    }
}

/// Reads these jobs, in their order. What forbids them is asked as in `admit` and `queues`.
pub(super) async fn jobs(tx: &mut PgTransaction<'_>, ids: &[i64]) -> Result<Vec<JobFacts>, ExplainError> {
    sqlx::query_as!(
        JobFacts,
        r#"
        select j.id, outbox.masked(j.phone) as "phone!", j.state, j.reason, j.class, j.campaign, j.enrolment, j.step, j.priority,
               j.due_at, j.wake_at, j.expires_at, j.attempt, j.max_attempts, j.deferrals,
               case when j.state = 'queued' then coalesce(l.id, '*') else coalesce(j.line_id, l.id, '*') end as "line_id!",
               case when j.state = 'queued' then r.first_touched_at is null and r.last_inbound_at is null
                    else coalesce(j.first_touch, false) end as "first_touch!",
               j.counted_until, j.producer, j.created_at, j.sent_at, j.finished_at, j.sent_line_id, j.message_id, j.error_code, j.error_message, j.trace_id,
               j.delivery_state, j.delivered_at, j.read_at, j.replied_at, j.ready, j.line_id is not null as "looked_at!",
               j.past_suppression, j.unknown_since is not null as "unknown!", j.lease_until, j.worker, w.name as "worker_name?",
               coalesce(stop.scope, gone.scope) as suppressed,
               case when e.state = 'stopped' and e.reason in ('replied', 'opted_out', 'goal', 'campaign_stopped') then e.reason
                end as enrolment_ended,
               c.state as "campaign_state?", r.review_since is not null as "in_review!", coalesce(r.unanswered, 0) as "unanswered!",
               flying.id as "flying?", flying.lease_until as "flying_until?", head.id as "head?", look.due_at as "look_at?"
          from unnest($1::bigint[]) with ordinality as u (id, place)
          join outbox.jobs j on j.id = u.id
          left join outbox.workers w on w.id = j.worker
          left join outbox.recipients r on r.phone = j.phone
          left join outbox.lines l on l.id = coalesce(j.named_line_id, j.phone_line_id, r.line_id) and l.removed_at is null
          left join outbox.enrolments e on e.id = j.enrolment
          left join outbox.campaigns c on c.name = j.campaign
          left join outbox.lookups look on look.job_id = j.id
          left join lateral (
               select s.scope from outbox.suppressions s
                where s.phone = j.phone and not j.past_suppression and outbox.in_scope(s.scope, j.campaign, j.labels)
                order by s.created_at
                limit 1) stop on true
          left join lateral (
               select p.scope from outbox.erased p
                where p.phone_hash = outbox.phone_hash(j.phone) and not j.past_suppression
                  and outbox.in_scope(p.scope, j.campaign, j.labels)
                limit 1) gone on true
          left join lateral (
               select f.id, f.lease_until from outbox.jobs f
                where f.phone = j.phone and f.state = 'sending' and f.id <> j.id
                limit 1) flying on true
          left join lateral (
               -- Compared outside: within, all that comes after the job would be read in vain.
               select first.id
                 from (select f.id, f.priority, f.due_at
                         from outbox.jobs f
                        where f.phone = j.phone and f.state in ('queued', 'sending') and f.state = 'queued' and f.due_at <= now()
                          and not outbox.is_held(f.reason)
                        order by f.priority, f.due_at, f.id
                        limit 1) first
                where (first.priority, first.due_at, first.id) < (j.priority, j.due_at, j.id)) head on true
         order by u.place
        "#,
        ids,
    )
    .fetch_all(&mut **tx)
    .await
    .map_err(ExplainError::Read)
}

/// A job that stands ready, as `JobFacts` has it.
pub(super) struct Queued {
    pub line_id: String,
    pub first_touch: bool,
    pub counted_until: Option<DateTime<Utc>>,
    pub priority: i16,
    pub due_at: DateTime<Utc>,
    pub id: i64,
}

/// Those of the first jobs of these queues, so many of each, whose turn comes before this job's.
pub(super) async fn before(
    tx: &mut PgTransaction<'_>,
    job: &JobFacts,
    queues: &[(String, bool, i64)],
) -> Result<Vec<Queued>, ExplainError> {
    sqlx::query_as!(
        Queued,
        r#"
        select q.line_id as "line_id!", q.first_touch as "first_touch!", b.counted_until as "counted_until?", b.priority as "priority!", b.due_at as "due_at!", b.id as "id!"
          from unnest($1::text[], $2::bool[], $3::bigint[]) as q (line_id, first_touch, most)
         cross join lateral (
               select j.counted_until, j.priority, j.due_at, j.id
                 from outbox.jobs j
                where j.state = 'queued' and j.ready and j.line_id = q.line_id and j.first_touch = q.first_touch
                order by j.priority, j.due_at, j.id
                limit q.most) b
         where (b.priority, b.due_at, b.id) < ($4::smallint, $5::timestamptz, $6::bigint)
         order by b.priority, b.due_at, b.id
        "#,
        &queues.iter().map(|(line_id, ..)| line_id.clone()).collect::<Vec<_>>(),
        &queues.iter().map(|(_, first_touch, _)| *first_touch).collect::<Vec<_>>(),
        &queues.iter().map(|(.., most)| *most).collect::<Vec<_>>(),
        job.priority,
        job.due_at,
        job.id,
    )
    .fetch_all(&mut **tx)
    .await
    .map_err(ExplainError::Read)
}
