//! Campaigns as people look at them.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use sqlx::types::Json;

use crate::database;
use crate::outbox::campaigns::CampaignsError;

/// One campaign in a list.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Listed {
    pub name: String,
    pub version: i32,
    pub state: String,
    pub changed_at: DateTime<Utc>,
    pub next_at: Option<DateTime<Utc>>,
    pub active: i64,
    pub held: i64,
    pub done: i64,
    pub stopped: i64,
    /// Its jobs that wait in the queue.
    pub queued: i64,
}

/// All campaigns, or the one of this name. It counts enrolments, so its cost grows with them: it is for people.
pub async fn list(pool: &PgPool, name: Option<&str>) -> Result<Vec<Listed>, CampaignsError> {
    let mut tx = database::begin_plain(pool).await.map_err(CampaignsError::Read)?;
    sqlx::query_as!(
        Listed,
        r#"
        select c.name, c.version, c.state, c.changed_at, c.next_at,
               coalesce(e.active, 0) as "active!", coalesce(e.held, 0) as "held!", coalesce(e.done, 0) as "done!",
               coalesce(e.stopped, 0) as "stopped!",
               (select count(*) from outbox.jobs j where j.campaign = c.name and j.state = 'queued') as "queued!"
          from outbox.campaigns c
          left join (select campaign, count(*) filter (where state = 'active') as active, count(*) filter (where state = 'held') as held,
                            count(*) filter (where state = 'done') as done, count(*) filter (where state = 'stopped') as stopped
                       from outbox.enrolments
                      where $1::text is null or campaign = $1
                      group by campaign) e on e.campaign = c.name
         where $1::text is null or c.name = $1
         order by c.name
        "#,
        name,
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(CampaignsError::Read)
}

/// How many enrolments of a version stand where.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Standing {
    pub version: i32,
    pub step: i32,
    pub state: String,
    pub reason: Option<String>,
    pub people: i64,
}

/// One firing.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Tick {
    pub id: i64,
    pub at: DateTime<Utc>,
    pub version: i32,
    pub state: String,
    pub reason: Option<String>,
    pub error: Option<String>,
    pub manual: bool,
    pub late: bool,
    pub people: i64,
    pub enrolled: i64,
    pub excluded: Json<BTreeMap<String, i64>>,
}

/// Where everybody of a campaign stands, and its newest firings.
pub async fn standing(pool: &PgPool, name: &str) -> Result<(Vec<Standing>, Vec<Tick>), CampaignsError> {
    let mut tx = database::begin_plain(pool).await.map_err(CampaignsError::Read)?;
    let standing = sqlx::query_as!(
        Standing,
        r#"
        select version, step, state, reason, count(*) as "people!"
          from outbox.enrolments
         where campaign = $1
         group by version, step, state, reason
         order by version desc, step, state, reason
        "#,
        name,
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(CampaignsError::Read)?;
    let ticks = sqlx::query_as!(
        Tick,
        r#"
        select id, at, version, state, reason, error, manual, late, people, enrolled, excluded as "excluded: Json<BTreeMap<String, i64>>"
          from outbox.ticks
         where campaign = $1
         order by at desc
         limit 10
        "#,
        name,
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(CampaignsError::Read)?;
    Ok((standing, ticks))
}
