//! Enrolments as they advance: those that are due are locked, what is known of their people is read after that, and what becomes of
//! them is written, with the jobs that it makes, in the same transaction.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{PgPool, PgTransaction};

use crate::campaign::running::Running;
use crate::database;
use crate::job::{Class, MAX_ATTEMPTS_DEFAULT, NewJob};
use crate::outbox::admit::interval;
use crate::outbox::campaigns::CampaignsError;
use crate::outbox::campaigns::rooms::Queue;

/// Running campaigns with enrolments that are due: those that only move on, and those whose step makes a job.
pub async fn due(pool: &PgPool) -> Result<Vec<String>, CampaignsError> {
    let mut tx = database::begin(pool).await.map_err(CampaignsError::Advance)?;
    sqlx::query_scalar!(
        r#"
        select c.name
          from outbox.campaigns c
         where c.state = 'running'
           and exists (select
                         from (values (false, false), (false, true), (true, false), (true, true)) as turn (ready, written)
                        where exists (select
                                        from outbox.enrolments e
                                       where e.campaign = c.name and e.state = 'active' and e.ready = turn.ready
                                         and (e.sent_at is not null) = turn.written and e.due_at <= now()
                                      offset 0))
         order by random()
        "#
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(CampaignsError::Advance)
}

/// An enrolment that is due, locked.
#[derive(Debug, Clone)]
pub struct Enrolment {
    pub id: i64,
    pub version: i32,
    pub phone: String,
    pub vars: Value,
    pub step: i32,
    pub reached_at: DateTime<Utc>,
    pub job_id: Option<i64>,
    pub made: i32,
    pub ready: bool,
    pub line_id: String,
    pub first_touch: bool,
    pub waiting: bool,
    pub sent_at: Option<DateTime<Utc>>,
    /// It began with another version.
    pub moved: bool,
}

impl Enrolment {
    /// Where it stands, if it is ready.
    pub fn queue(&self) -> Queue {
        Queue { line_id: self.line_id.clone(), first_touch: self.first_touch }
    }
}

/// Locks at most `limit` due enrolments of a running campaign whose step makes no job, as far as is known, the longest due first: of those
/// who were `written` to, or of the others.
/// Those that somebody else holds are passed over. A campaign that is paused meanwhile holds what is made here like all its jobs.
pub async fn lock(
    tx: &mut PgTransaction<'_>,
    campaign: &str,
    written: bool,
    limit: i64,
) -> Result<Vec<Enrolment>, sqlx::Error> {
    sqlx::query_as!(
        Enrolment,
        r#"
        select id, version, phone, vars, step, reached_at, job_id, made, ready, line_id, first_touch, waiting, sent_at,
               had is not null as "moved!"
          from outbox.enrolments
         where campaign = $1 and state = 'active' and not ready and (sent_at is not null) = $3 and due_at <= now()
           and (select c.state from outbox.campaigns c where c.name = $1) = 'running'
         order by due_at, id
         limit $2
           for update skip locked
        "#,
        campaign,
        limit,
        written,
    )
    .fetch_all(&mut **tx)
    .await
}

/// Locks those whose step makes a job, of each queue at most as many as are named beside it; else as `lock` does.
pub async fn lock_ready(
    tx: &mut PgTransaction<'_>,
    campaign: &str,
    queues: &[(Queue, i64)],
) -> Result<Vec<Enrolment>, sqlx::Error> {
    sqlx::query_as!(
        Enrolment,
        r#"
        select e.id as "id!", e.version as "version!", e.phone as "phone!", e.vars as "vars!", e.step as "step!", e.reached_at as "reached_at!",
               e.job_id, e.made as "made!", e.ready as "ready!", e.line_id as "line_id!", e.first_touch as "first_touch!",
               e.waiting as "waiting!", e.sent_at, e.had is not null as "moved!"
          from unnest($2::text[], $3::bool[], $4::bigint[]) as q (line_id, first_touch, most)
         cross join lateral (
               select *
                 from outbox.enrolments e
                where e.campaign = $1 and e.state = 'active' and e.ready and e.line_id = q.line_id and e.first_touch = q.first_touch
                  and e.due_at <= now()
                  and (select c.state from outbox.campaigns c where c.name = $1) = 'running'
                order by e.due_at, e.id
                limit q.most
                  for update skip locked) e
         order by e.due_at, e.id
        "#,
        campaign,
        &queues.iter().map(|(queue, _)| queue.line_id.clone()).collect::<Vec<_>>(),
        &queues.iter().map(|(queue, _)| queue.first_touch).collect::<Vec<_>>(),
        &queues.iter().map(|(_, most)| *most).collect::<Vec<_>>(),
    )
    .fetch_all(&mut **tx)
    .await
}

/// Of these people, those about whom nobody else decides at this moment: of two campaigns that would write to one person, the second
/// shall see what the first has made. The others are left for later.
pub async fn lock_people(tx: &mut PgTransaction<'_>, phones: &[String]) -> Result<HashSet<String>, sqlx::Error> {
    let locked = sqlx::query!(
        r#"
        select u.phone as "phone!", pg_try_advisory_xact_lock(hashtextextended(u.phone, 7)) as "mine!"
          from unnest($1::text[]) as u (phone)
        "#,
        phones
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(locked.into_iter().filter(|row| row.mine).map(|row| row.phone).collect())
}

/// What is known of an enrolment's person and of its last job.
#[derive(Debug, Clone)]
pub struct Known {
    pub job_state: Option<String>,
    pub job_sent_at: Option<DateTime<Utc>>,
    pub delivered: bool,
    pub line_id: Option<String>,
    pub time_zone: Option<String>,
    pub touched: bool,
    pub last_inbound_at: Option<DateTime<Utc>>,
    /// What they wrote was taken for an answer to the last job's message.
    pub answered: bool,
    /// Since when the last job's message may have been on their phone, if its first call may have been earlier than the one that is
    /// recorded.
    pub maybe_since: Option<DateTime<Utc>>,
    pub unanswered: i32,
    pub in_review: bool,
    pub now: DateTime<Utc>,
}

impl Known {
    /// Whether they have replied to the last message of the campaign, which was `sent_at` then.
    pub fn has_replied(&self, sent_at: Option<DateTime<Utc>>) -> bool {
        let since = sent_at.map(|sent_at| self.maybe_since.map_or(sent_at, |maybe| maybe.min(sent_at)));
        since.is_some_and(|since| self.answered || self.last_inbound_at.is_some_and(|at| at > since))
    }

    /// Why nothing is made for this person, whatever the hour: `in_review`, or `unanswered` for marketing after so many messages.
    pub fn held_back(&self, class: Class, unanswered_limit: i32) -> Option<&'static str> {
        if self.in_review {
            return Some("in_review");
        }
        (class == Class::Marketing && self.unanswered >= unanswered_limit).then_some("unanswered")
    }
}

/// Reads what is known of each of these, in their order. In a statement of its own, after they were locked: in one, jobs and people
/// would be read as of its start.
pub async fn know(tx: &mut PgTransaction<'_>, enrolments: &[Enrolment]) -> Result<Vec<Known>, sqlx::Error> {
    sqlx::query_as!(
        Known,
        r#"
        select j.state as "job_state?", j.sent_at as "job_sent_at?",
               (j.delivered_at is not null or j.read_at is not null) is true as "delivered!",
               r.line_id as "line_id?", r.time_zone as "time_zone?",
               (r.first_touched_at is not null or r.last_inbound_at is not null) is true as "touched!",
               r.last_inbound_at as "last_inbound_at?", j.replied_at is not null as "answered!",
               -- Nobody knows when a call was made whose outcome is unknown, nor which one another answer means: not before its job.
               case when j.unknown_since is not null or j.state = 'duplicate' then j.created_at end as "maybe_since?",
               coalesce(r.unanswered, 0) as "unanswered!", r.review_since is not null as "in_review!", clock_timestamp() as "now!"
          from unnest($1::text[], $2::bigint[]) with ordinality as u (phone, job_id, place)
          left join outbox.jobs j on j.id = u.job_id
          left join outbox.recipients r on r.phone = u.phone
         order by u.place
        "#,
        &enrolments.iter().map(|enrolment| enrolment.phone.clone()).collect::<Vec<_>>(),
        &enrolments.iter().map(|enrolment| enrolment.job_id).collect::<Vec<_>>() as &[Option<i64>],
    )
    .fetch_all(&mut **tx)
    .await
}

/// A frequency cap, and who goes first under it.
#[derive(Debug, Clone, Copy)]
pub struct Cap {
    pub messages: i64,
    pub within: Duration,
    pub priority: i16,
}

impl Cap {
    /// The campaign's own cap, and whose turn it is under it.
    pub fn of(running: &Running) -> Option<Cap> {
        let caps = running.campaign.caps;
        let cap = caps.per_recipient?;
        Some(Cap { messages: i64::from(cap.messages), within: cap.within.0, priority: caps.priority })
    }
}

/// What a cap says of one person.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capped {
    /// Messages of campaigns within its time, sent or on their way, as far as it counts.
    pub messages: i64,
    /// When the first of those that were sent does not count any more; none while they leave room, were it not for those on their way.
    pub frees_at: Option<DateTime<Utc>>,
    /// A campaign that goes before this one waits to write to them.
    pub behind: bool,
}

/// Why a cap leaves no room for one more message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// As many were sent as it allows, and the oldest of them falls out then.
    Until(DateTime<Utc>),
    /// It is not full without those that are on their way to this person, and these may still come to nothing.
    OnTheWay,
    /// A campaign that goes before this one waits to write to them.
    Behind,
}

impl Capped {
    /// Whether the cap leaves no room now, and why.
    pub fn full(&self, cap: Cap, now: DateTime<Utc>) -> Option<Full> {
        match self.frees_at.filter(|at| *at > now) {
            Some(at) if self.messages >= cap.messages => Some(Full::Until(at)),
            None if self.messages >= cap.messages => Some(Full::OnTheWay),
            _ => self.behind.then_some(Full::Behind),
        }
    }
}

/// Reads what the cap says of each of these people, in their order. They are locked by `lock_people`.
pub async fn capped(
    tx: &mut PgTransaction<'_>,
    campaign: &str,
    enrolments: &[Enrolment],
    cap: Cap,
) -> Result<Vec<Capped>, sqlx::Error> {
    sqlx::query_as!(
        Capped,
        r#"
        select recent.messages + flying.messages as "messages!",
               case when recent.messages >= $2 then recent.first_at + $3::interval end as frees_at,
               exists (select
                         from (select o.campaign, o.version
                                 from outbox.enrolments o
                                where o.phone = u.phone and o.campaign <> $4 and (o.state = 'active') is true and not o.waiting
                                  and o.due_at <= now() + interval '10 minutes'
                               offset 0) e
                         join outbox.campaigns c on c.name = e.campaign and c.state = 'running'
                         join outbox.campaign_versions v on v.campaign = e.campaign and v.version = e.version
                        where v.priority < $5) as "behind!"
          from unnest($1::text[]) with ordinality as u (phone, place)
         cross join lateral (
               select count(*) as messages, min(newest.sent_at) as first_at
                 from (select j.sent_at
                         from outbox.jobs j
                        where j.phone = u.phone and j.sent_at > now() - $3::interval and j.campaign is not null
                        order by j.sent_at desc
                        limit $2) newest) recent
         cross join lateral (
               select count(*) as messages
                 from (select from outbox.jobs j
                        where j.phone = u.phone and j.state in ('queued', 'sending') and j.campaign is not null
                        limit $2) waiting) flying
         order by u.place
        "#,
        &enrolments.iter().map(|enrolment| enrolment.phone.clone()).collect::<Vec<_>>(),
        cap.messages,
        interval(cap.within),
        campaign,
        cap.priority,
    )
    .fetch_all(&mut **tx)
    .await
}

/// A job that a step makes.
#[derive(Debug, Clone)]
pub struct Made {
    pub enrolment: i64,
    pub step: i32,
    /// The step's name, which outlives its version, and the wording that was chosen.
    pub step_name: String,
    pub variant: Option<String>,
    pub job: NewJob,
}

/// Puts jobs in and returns their ids, in the order given: of one that is there already, under its own key, the id that it has.
pub async fn make(tx: &mut PgTransaction<'_>, campaign: &str, made: &[Made]) -> Result<Vec<i64>, sqlx::Error> {
    let keys: Vec<String> = made.iter().filter_map(|made| made.job.dedupe_key.clone()).collect();
    sqlx::query!(
        r#"
        insert into outbox.jobs
               (phone, body, payload, phone_line_id, dedupe_key, priority, expires_at, max_attempts, labels, class, campaign, enrolment, step,
                step_name, variant)
        select u.phone, u.body, u.payload, u.phone_line_id, u.dedupe_key, u.priority, u.expires_at, $11, u.labels, u.class, $12,
               u.enrolment, u.step, u.step_name, u.variant
          from unnest($1::text[], $2::text[], $3::jsonb[], $4::text[], $5::text[], $6::smallint[], $7::timestamptz[], $8::jsonb[],
                      $9::text[], $10::bigint[], $13::int[], $14::text[], $15::text[])
               with ordinality as u (phone, body, payload, phone_line_id, dedupe_key, priority, expires_at, labels, class, enrolment,
                                     step, step_name, variant, place)
         order by u.place
            on conflict on constraint jobs_dedupe_key_key do nothing
        "#,
        &made.iter().map(|made| made.job.phone.as_str().to_owned()).collect::<Vec<_>>(),
        &made.iter().map(|made| made.job.body.clone()).collect::<Vec<_>>(),
        &made.iter().map(|made| made.job.payload()).collect::<Vec<_>>(),
        &made.iter().map(|made| made.job.phone_line_id.clone()).collect::<Vec<_>>() as &[Option<String>],
        &keys,
        &made.iter().map(|made| made.job.priority).collect::<Vec<_>>(),
        &made.iter().map(|made| made.job.expires_at).collect::<Vec<_>>() as &[Option<DateTime<Utc>>],
        &made.iter().map(|made| Value::Object(made.job.labels.clone())).collect::<Vec<_>>(),
        &made.iter().map(|made| made.job.class.word().to_owned()).collect::<Vec<_>>(),
        &made.iter().map(|made| made.enrolment).collect::<Vec<_>>(),
        MAX_ATTEMPTS_DEFAULT,
        campaign,
        &made.iter().map(|made| made.step).collect::<Vec<_>>(),
        &made.iter().map(|made| made.step_name.clone()).collect::<Vec<_>>(),
        &made.iter().map(|made| made.variant.clone()).collect::<Vec<_>>() as &[Option<String>],
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query_scalar!(
        r#"
        select j.id
          from unnest($1::text[]) with ordinality as u (dedupe_key, place)
          join outbox.jobs j on j.dedupe_key = u.dedupe_key
         order by u.place
        "#,
        &keys,
    )
    .fetch_all(&mut **tx)
    .await
}

/// Where an enrolment stands afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub id: i64,
    /// `active`, `held`, `done` or `stopped`, with the reason of the second and the last.
    pub state: &'static str,
    pub reason: Option<&'static str>,
    /// What is missing or does not fit; of who is active, why no job is made whatever the hour.
    pub detail: Option<String>,
    pub step: i32,
    pub reached_at: DateTime<Utc>,
    pub due_at: Option<DateTime<Utc>>,
    pub ready: bool,
    pub queue: Queue,
    pub waiting: bool,
    pub job_id: Option<i64>,
    pub made: i32,
    pub sent_at: Option<DateTime<Utc>>,
}

/// Writes where locked enrolments stand.
pub async fn write(tx: &mut PgTransaction<'_>, changes: &[Change]) -> Result<(), sqlx::Error> {
    sqlx::query!(
        r#"
        update outbox.enrolments e
           set state = u.state, reason = u.reason, detail = u.detail, step = u.step, reached_at = u.reached_at, due_at = u.due_at,
               ready = u.ready, line_id = u.line_id, first_touch = u.first_touch, waiting = u.waiting, job_id = u.job_id, made = u.made,
               sent_at = u.sent_at,
               finished_at = case when u.state in ('done', 'stopped') then clock_timestamp() end
          from unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::int[], $6::timestamptz[], $7::timestamptz[], $8::bool[],
                      $9::bool[], $10::bigint[], $11::int[], $12::timestamptz[], $13::text[], $14::bool[])
            as u (id, state, reason, detail, step, reached_at, due_at, ready, waiting, job_id, made, sent_at, line_id, first_touch)
         where e.id = u.id
        "#,
        &changes.iter().map(|change| change.id).collect::<Vec<_>>(),
        &changes.iter().map(|change| change.state.to_owned()).collect::<Vec<_>>(),
        &changes.iter().map(|change| change.reason.map(str::to_owned)).collect::<Vec<_>>() as &[Option<String>],
        &changes.iter().map(|change| change.detail.clone()).collect::<Vec<_>>() as &[Option<String>],
        &changes.iter().map(|change| change.step).collect::<Vec<_>>(),
        &changes.iter().map(|change| change.reached_at).collect::<Vec<_>>(),
        &changes.iter().map(|change| change.due_at).collect::<Vec<_>>() as &[Option<DateTime<Utc>>],
        &changes.iter().map(|change| change.ready).collect::<Vec<_>>(),
        &changes.iter().map(|change| change.waiting).collect::<Vec<_>>(),
        &changes.iter().map(|change| change.job_id).collect::<Vec<_>>() as &[Option<i64>],
        &changes.iter().map(|change| change.made).collect::<Vec<_>>(),
        &changes.iter().map(|change| change.sent_at).collect::<Vec<_>>() as &[Option<DateTime<Utc>>],
        &changes.iter().map(|change| change.queue.line_id.clone()).collect::<Vec<_>>(),
        &changes.iter().map(|change| change.queue.first_touch).collect::<Vec<_>>(),
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
