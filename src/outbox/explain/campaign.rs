//! A campaign: its next firing, what its look-ahead leaves, and what holds its people and its messages. `campaign status` tells the rest.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use sqlx::{PgPool, PgTransaction};

use crate::campaign::running::Running;
use crate::database;
use crate::outbox::campaigns::rooms::{self, Queue, Rooms, Standing};
use crate::outbox::campaigns::{CampaignsError, versions};
use crate::outbox::explain::facts::World;
use crate::outbox::explain::next::Next;
use crate::outbox::explain::reading::{self, Row};
use crate::outbox::explain::{ExplainError, Rules, enrolment, facts, jobs};

/// What is counted is counted up to this.
pub const COUNTED: i64 = 10_000;
/// Of so many queues the first is explained.
const LOOKED_AT: usize = 10;

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
    /// Its people: who rests at a `wait`, whether a message follows it or not; who waits for a `job`, or, their step having come, for their
    /// `turn` to have one made; and who is held for what.
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
    /// There may be more of them.
    pub or_more: bool,
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
    let standing = rooms::standing(&mut tx, name).await.map_err(ExplainError::Read)?;
    let rooms = rooms::rooms(&mut tx, name, rules.campaigns).await.map_err(ExplainError::Read)?;
    let definition = versions::definition(&mut tx, name, row.version).await.map_err(|error| match error {
        CampaignsError::Read(error) => ExplainError::Read(error),
        _ => ExplainError::NoSuchCampaign(name.to_owned()),
    })?;
    let campaign = definition.and_then(|definition| Running::read(&definition).ok()).map(|running| running.campaign);
    let zone = campaign.map(|campaign| campaign.schedule.zone(campaign.zone).to_string());
    let people = people(&mut tx, name, (&standing, &rooms), &world, rules).await?;
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

/// Each of these is read from its end of an index, so that a campaign of a million costs what one of a thousand does. Of whose step makes
/// a job, only reading them tells who still rests: so many are read of those who were written to and of all others, and of those who are
/// due and who are not. The first who is to be written to is looked for in each queue. Who waits for a job is counted by the jobs, since
/// among all who rest only reading each of them would tell; those that are passed over for that are no more than the look-ahead lets be made.
async fn people(
    tx: &mut PgTransaction<'_>,
    name: &str,
    (standing, rooms): (&[Standing], &Rooms),
    world: &World,
    rules: &Rules,
) -> Result<Vec<Share>, ExplainError> {
    let rows = sqlx::query_as!(
        Found,
        r#"
        select 'wait' as "what!", c.people as "people!", c.people = $2 as "or_more!", f.due_at, coalesce(f.ids, '{}') as "firsts!"
          from (select count(*) as people
                  from (select from outbox.enrolments e
                         where e.campaign = $1 and e.state = 'active' and not e.ready and not e.waiting
                         limit $2) counted) c
         cross join (select min(first.due_at) as due_at, array_agg(first.id) as ids
                       from (values (false), (true)) as w (written)
                      cross join lateral (
                            select e.id, e.due_at
                              from outbox.enrolments e
                             where e.campaign = $1 and e.state = 'active' and not e.ready and (e.sent_at is not null) = w.written and not e.waiting
                             order by e.due_at, e.id
                             limit 1) first) f
         where c.people > 0
         union all
        select case when e.rests then 'wait' else 'turn' end, count(*), bool_or(e.is_full), min(e.due_at), array[min(e.first)]
          from (select r.rests, r.due_at, count(*) over (partition by w.written, w.after) = $2 / 2 as is_full,
                       first_value(r.id) over (partition by r.rests order by r.due_at, r.id) as first
                  from (values (false, '-infinity'::timestamptz, now()), (true, '-infinity', now()), (false, now(), 'infinity'),
                               (true, now(), 'infinity')) as w (written, after, until)
                 cross join lateral (
                       select e.id, e.due_at, e.reached_at > now() as rests
                         from outbox.enrolments e
                        where e.campaign = $1 and e.state = 'active' and e.ready and (e.sent_at is not null) = w.written and not e.waiting
                          and e.due_at > w.after and e.due_at <= w.until
                        order by e.due_at, e.id
                        limit $2 / 2) r) e
         group by e.rests
         union all
        select 'job', count(*), count(*) = $2, null, '{}'
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
        select h.reason, count(*), count(*) = $2, null, '{}'
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
    for mut found in together(rows) {
        if found.what == "turn" {
            // Those of queues that have room come first.
            let (roomy, full): (Vec<_>, Vec<_>) = standing.iter().partition(|queue| rooms.left(&queue.queue()) > 0);
            found.firsts.extend(roomy.into_iter().chain(full).take(LOOKED_AT).map(|queue| queue.first));
            found.firsts.sort_unstable();
            found.firsts.dedup();
        }
        let mut firsts = reading::rows(tx, &found.firsts).await?;
        // Of a queue in which all rest, so does the first.
        firsts.retain(|row| found.what != "turn" || row.reached_at <= world.now);
        let next = first_of(tx, &firsts, world, rules).await?;
        let Found { what, people, or_more, due_at, .. } = found;
        shares.push(Share { what, count: people, or_more, earliest_at: due_at, next });
    }
    Ok(shares)
}

/// Some people, with those of them who may go on first.
struct Found {
    what: String,
    people: i64,
    or_more: bool,
    due_at: Option<DateTime<Utc>>,
    firsts: Vec<i64>,
}

/// Each word once: who rests, stands in two places of the index.
fn together(rows: Vec<Found>) -> Vec<Found> {
    let mut all: Vec<Found> = Vec::new();
    for row in rows {
        match all.iter_mut().find(|found| found.what == row.what) {
            Some(found) => {
                found.people = (found.people + row.people).min(COUNTED);
                found.or_more |= row.or_more;
                found.due_at = [found.due_at, row.due_at].into_iter().flatten().min();
                found.firsts.extend(row.firsts);
            }
            None => all.push(Found { people: row.people.min(COUNTED), ..row }),
        }
    }
    all.sort_by_key(|found| ["wait", "turn", "job"].iter().position(|word| *word == found.what).unwrap_or(usize::MAX));
    all
}

/// What comes next of whoever of these goes on first.
async fn first_of(
    tx: &mut PgTransaction<'_>,
    rows: &[Row],
    world: &World,
    rules: &Rules,
) -> Result<Option<Next>, ExplainError> {
    let mut all: Vec<Next> = Vec::new();
    for row in rows {
        all.push(enrolment::explained(tx, row, world, rules, None).await?.1);
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
    let share = |what, count| Share { what, count, or_more: count == COUNTED, earliest_at: None, next: None };
    Ok(rows.into_iter().map(|row| (row.first, share(row.what, row.jobs))).collect())
}
