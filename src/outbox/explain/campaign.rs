//! A campaign: its next firing, what its look-ahead leaves, and what holds its people and its messages. `campaign status` tells the rest.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use sqlx::{PgPool, PgTransaction};

use crate::campaign::running::Running;
use crate::database;
use crate::outbox::campaigns::steps::{self, Queue, Rooms, Standing};
use crate::outbox::campaigns::{CampaignsError, versions};
use crate::outbox::explain::facts::World;
use crate::outbox::explain::next::Next;
use crate::outbox::explain::{ExplainError, Rules, enrolment, facts, jobs};

/// What is counted is counted up to this.
pub const COUNTED: i64 = 10_000;

/// What bears on the next messages of a campaign.
#[derive(Debug, Clone, serde::Serialize)]
pub struct CampaignExplained {
    pub now: DateTime<Utc>,
    pub name: String,
    pub version: i32,
    pub state: String,
    pub changed_at: DateTime<Utc>,
    /// Its next firing; none if it never fires by itself (again).
    pub next_firing_at: Option<DateTime<Utc>>,
    /// Whose clocks it fires by; none where the version cannot be read.
    pub zone: Option<String>,
    /// Firings whose people are not all enrolled yet.
    pub open_firings: i64,
    /// How many messages may stand in the queue that any line may take, and that one line has to send; first touches and follow-ups apart.
    pub look_ahead: u16,
    pub look_ahead_of_a_line: u16,
    /// Where somebody or something stands in it.
    pub queues: Vec<QueueView>,
    /// Its people: who waits at a `wait`, for a `job`, for their `turn` to make one, or is held for what.
    pub people: Vec<Share>,
    /// Its messages that are queued, by what they wait for.
    pub queued: Vec<Share>,
}

/// Messages of a line and class.
#[derive(Debug, Clone, serde::Serialize)]
pub struct QueueView {
    /// `*` for whichever line comes first.
    pub line_id: String,
    pub first_touch: bool,
    /// How many stand in the queue, and how many more may.
    pub messages: i64,
    pub room: i64,
    /// Somebody is to be written to, when there is room.
    pub people_wait: bool,
}

/// Some people or messages that wait for the same.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Share {
    pub what: String,
    /// Counted to 10,000.
    pub count: i64,
    /// Of people when the first of them is looked at next, which need not be when they go on; of messages when the first may go. None where
    /// that is not known.
    pub earliest_at: Option<DateTime<Utc>>,
    /// What comes next of the first; none of those who wait for a job or are held.
    pub next: Option<Next>,
}

/// Explains a campaign. Errors: `ExplainError::NoSuchCampaign`, `ExplainError::Read`.
pub async fn campaign(pool: &PgPool, name: &str, rules: &Rules) -> Result<CampaignExplained, ExplainError> {
    let mut tx = database::begin_reading(pool).await.map_err(ExplainError::Read)?;
    let world = facts::world(&mut tx, rules.holds.stale_after).await?;
    let row = sqlx::query!(
        r#"
        select c.version, c.state, c.changed_at, c.next_at,
               (select count(*) from (select from outbox.ticks t where t.campaign = c.name and t.finished_at is null limit $2) open) as "open!"
          from outbox.campaigns c
         where c.name = $1
        "#,
        name,
        COUNTED,
    )
    .fetch_optional(&mut *tx)
    .await
    .map_err(ExplainError::Read)?
    .ok_or_else(|| ExplainError::NoSuchCampaign(name.to_owned()))?;
    let standing = steps::standing(&mut tx, name).await.map_err(ExplainError::Read)?;
    let rooms = steps::rooms(&mut tx, name, rules.campaigns).await.map_err(ExplainError::Read)?;
    let definition = versions::definition(&mut tx, name, row.version).await.map_err(|error| match error {
        CampaignsError::Read(error) => ExplainError::Read(error),
        _ => ExplainError::NoSuchCampaign(name.to_owned()),
    })?;
    let campaign = definition.and_then(|definition| Running::read(&definition).ok()).map(|running| running.campaign);
    let zone = campaign.map(|campaign| campaign.schedule.zone(campaign.zone).to_string());
    let people = people(&mut tx, name, &standing, &world, rules).await?;
    let mut queued = queued(&mut tx, name).await?;
    let firsts: Vec<i64> = queued.iter().map(|(first, _)| *first).collect();
    for view in jobs(&mut tx, &firsts, &world, rules).await? {
        if let Some((_, share)) = queued.iter_mut().find(|(first, _)| *first == view.job.id) {
            // Admission has one word for both.
            if row.state == "stopped" && share.what == "campaign_paused" {
                share.what = "campaign_stopped".to_owned();
            }
            (share.earliest_at, share.next) = (view.next.at, Some(view.next));
        }
    }
    Ok(CampaignExplained {
        now: world.now,
        name: name.to_owned(),
        version: row.version,
        state: row.state,
        changed_at: row.changed_at,
        next_firing_at: row.next_at,
        zone,
        open_firings: row.open,
        look_ahead: rooms.look_ahead,
        look_ahead_of_a_line: rooms.look_ahead_of_a_line,
        queues: queues(&rooms, &standing),
        people,
        queued: queued.into_iter().map(|(_, share)| share).collect(),
    })
}

/// Where messages stand, and where people wait to have one made.
fn queues(rooms: &Rooms, standing: &[Standing]) -> Vec<QueueView> {
    let people: BTreeSet<Queue> = standing.iter().map(Standing::queue).collect();
    let all: BTreeSet<&Queue> = people.iter().chain(rooms.waiting.keys()).collect();
    let view = |queue: &Queue| QueueView {
        line_id: queue.line_id.clone(),
        first_touch: queue.first_touch,
        messages: rooms.waiting.get(queue).copied().unwrap_or(0),
        room: rooms.left(queue).max(0),
        people_wait: people.contains(queue),
    };
    all.into_iter().map(view).collect()
}

/// Each of these is read from its end of an index, so that a campaign of a million costs what one of a thousand does: the first of those
/// who were written to and of all others stand apart there, and of those who are to be written to the first of each queue. Who waits for a job is counted by the jobs, since among all who rest only
/// reading each of them would tell; those that are passed over for that are no more than the look-ahead lets be made.
async fn people(
    tx: &mut PgTransaction<'_>,
    name: &str,
    standing: &[Standing],
    world: &World,
    rules: &Rules,
) -> Result<Vec<Share>, ExplainError> {
    let rows = sqlx::query!(
        r#"
        select k.what as "what!", c.people as "people!", f.due_at as "due_at?", f.ids as "firsts?"
          from (values ('wait', false), ('turn', true)) as k (what, ready)
         cross join lateral (
               select count(*) as people
                 from (select from outbox.enrolments e
                        where e.campaign = $1 and e.state = 'active' and e.ready = k.ready and not e.waiting
                        limit $2) counted) c
         cross join lateral (
               select min(first.due_at) as due_at, array_agg(first.id) as ids
                 from (values (false), (true)) as w (written)
                cross join lateral (
                      select e.id, e.due_at
                        from outbox.enrolments e
                       where e.campaign = $1 and e.state = 'active' and e.ready = k.ready and (e.sent_at is not null) = w.written
                         and not e.waiting
                       order by e.due_at, e.id
                       limit 1) first) f
         where c.people > 0
         union all
        select 'job', count(*), null, null
          from (select from (select from outbox.jobs j
                              where j.campaign = $1 and j.state = 'queued' and j.enrolment is not null
                              limit $2) queued
                 union all
                select from (select from outbox.jobs j
                              where j.state = 'sending' and j.campaign = $1 and j.enrolment is not null
                              limit $2) sending
                 limit $2) counted
        having count(*) > 0
         union all
        select h.reason, count(*), null, null
          from (select e.reason from outbox.enrolments e where e.campaign = $1 and e.state = 'held' limit $2) h
         group by h.reason
        "#,
        name,
        COUNTED,
    )
    .fetch_all(&mut **tx)
    .await
    .map_err(ExplainError::Read)?;
    let mut shares = Vec::new();
    for row in rows {
        let firsts = match row.what.as_str() {
            "turn" => standing.iter().map(|queue| queue.first).collect(),
            _ => row.firsts.unwrap_or_default(),
        };
        let next = first_of(tx, &firsts, world, rules).await?;
        shares.push(Share { what: row.what, count: row.people, earliest_at: row.due_at, next });
    }
    Ok(shares)
}

/// What comes next of whoever of these goes on first.
async fn first_of(
    tx: &mut PgTransaction<'_>,
    enrolments: &[i64],
    world: &World,
    rules: &Rules,
) -> Result<Option<Next>, ExplainError> {
    let mut all: Vec<Next> = Vec::new();
    for row in enrolment::rows(tx, enrolments).await? {
        all.push(enrolment::explained(tx, &row, world, rules, None).await?.1);
    }
    Ok(all.into_iter().min_by_key(|next| (next.at.is_none(), next.at, !next.certain)))
}

/// Its queued messages by what they wait for, each with the first of them.
async fn queued(tx: &mut PgTransaction<'_>, name: &str) -> Result<Vec<(i64, Share)>, ExplainError> {
    let rows = sqlx::query!(
        r#"
        select what as "what!", count(*) as "jobs!", (array_agg(id order by looked_at, priority, due_at, id))[1] as "first!"
          from (select case when ready then 'slot'
                            else coalesce(reason, case when coalesce(wake_at, due_at) > now() then 'not_due' else 'new' end)
                       end as what,
                       id, priority, due_at, coalesce(wake_at, due_at) as looked_at
                  from outbox.jobs
                 where campaign = $1 and state = 'queued'
                 order by id
                 limit $2) counted
         group by what
         order by what
        "#,
        name,
        COUNTED,
    )
    .fetch_all(&mut **tx)
    .await
    .map_err(ExplainError::Read)?;
    let share = |what, count| Share { what, count, earliest_at: None, next: None };
    Ok(rows.into_iter().map(|row| (row.first, share(row.what, row.jobs))).collect())
}
