//! Where those stand whose step makes a job, by line and class, and how many more jobs may be made there.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::PgTransaction;

use crate::config::CampaignOptions;
use crate::line::ANY_LINE;

/// Where those stand whose step makes a job: behind each other, and behind nobody whose message waits for another line or class.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Queue {
    /// `*` for whichever line comes first.
    pub line_id: String,
    pub first_touch: bool,
}

/// A queue of a campaign in which somebody stands.
#[derive(Debug, Clone)]
pub struct Standing {
    pub line_id: String,
    pub first_touch: bool,
    /// The first who stands there, with which version, and whether they are due.
    pub first: i64,
    pub version: i32,
    pub is_due: bool,
}

impl Standing {
    pub fn queue(&self) -> Queue {
        Queue { line_id: self.line_id.clone(), first_touch: self.first_touch }
    }
}

/// The queues of a campaign in which people stand, found by going from one to the next in the index.
pub async fn standing(tx: &mut PgTransaction<'_>, campaign: &str) -> Result<Vec<Standing>, sqlx::Error> {
    sqlx::query_as!(
        Standing,
        r#"
        with recursive standing as (
            (select e.line_id, e.first_touch, e.due_at, e.id, e.version
               from outbox.enrolments e
              where e.campaign = $1 and e.state = 'active' and e.ready
              order by e.line_id, e.first_touch, e.due_at, e.id
              limit 1)
             union all
            select next.line_id, next.first_touch, next.due_at, next.id, next.version
              from standing s
             cross join lateral (
                   select e.line_id, e.first_touch, e.due_at, e.id, e.version
                     from outbox.enrolments e
                    where e.campaign = $1 and e.state = 'active' and e.ready and (e.line_id, e.first_touch) > (s.line_id, s.first_touch)
                    order by e.line_id, e.first_touch, e.due_at, e.id
                    limit 1) next
        )
        select line_id as "line_id!", first_touch as "first_touch!", id as "first!", version as "version!", due_at <= now() as "is_due!"
          from standing
        "#,
        campaign,
    )
    .fetch_all(&mut **tx)
    .await
}

/// How many stand in its queue before an enrolment that is due since then, counted to `most`.
pub async fn before(
    tx: &mut PgTransaction<'_>,
    campaign: &str,
    queue: &Queue,
    (due_at, id): (DateTime<Utc>, i64),
    most: i64,
) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        select count(*) as "people!"
          from (select from outbox.enrolments e
                 where e.campaign = $1 and e.state = 'active' and e.ready and e.line_id = $2 and e.first_touch = $3 and (e.due_at, e.id) < ($4, $5)
                 limit $6) counted
        "#,
        campaign,
        queue.line_id,
        queue.first_touch,
        due_at,
        id,
        most,
    )
    .fetch_one(&mut **tx)
    .await
}

/// How many jobs of a campaign may stand in each of its queues, and how many do.
#[derive(Debug, Clone)]
pub struct Rooms {
    pub look_ahead: u16,
    pub look_ahead_of_a_line: u16,
    pub waiting: BTreeMap<Queue, i64>,
}

impl Rooms {
    /// How many more may be made there.
    pub fn left(&self, queue: &Queue) -> i64 {
        let most = if queue.line_id == ANY_LINE { self.look_ahead } else { self.look_ahead_of_a_line };
        i64::from(most) - self.waiting.get(queue).unwrap_or(&0)
    }
}

/// Jobs stand where their enrolment stood: whom a line has first touches for only next week, or whose line sends nothing, must not take
/// the room of messages that could go now. Those that wait for their own person alone do not count: they would hold up everybody else for
/// ever.
pub async fn rooms(tx: &mut PgTransaction<'_>, campaign: &str, options: CampaignOptions) -> Result<Rooms, sqlx::Error> {
    let lines =
        sqlx::query_scalar!(r#"select count(*) as "lines!" from outbox.lines where id <> '*' and removed_at is null"#)
            .fetch_one(&mut **tx)
            .await?;
    let rows = sqlx::query!(
        r#"
        select e.line_id, e.first_touch, count(*) as "jobs!"
          from outbox.jobs j
          join outbox.enrolments e on e.id = j.enrolment
         where j.campaign = $1 and j.state = 'queued' and (j.reason is null or j.reason not in ('unanswered', 'in_review'))
         group by e.line_id, e.first_touch
        "#,
        campaign,
    )
    .fetch_all(&mut **tx)
    .await?;
    let waiting = rows.into_iter().map(|row| (Queue { line_id: row.line_id, first_touch: row.first_touch }, row.jobs));
    Ok(Rooms {
        look_ahead: options.look_ahead,
        look_ahead_of_a_line: options.look_ahead_of_a_line(usize::try_from(lines).unwrap_or(0)),
        waiting: waiting.collect(),
    })
}
