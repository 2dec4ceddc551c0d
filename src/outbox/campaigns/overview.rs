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
    /// Messages of its enrolments that wait for their line, or are being sent: as the funnel counts them.
    pub queued: i64,
}

/// The first `limit` campaigns by name, or the one of this name. It counts enrolments, so its cost grows with them: it is for people.
/// Errors: `CampaignsError::Read`.
pub async fn list(pool: &PgPool, name: Option<&str>, limit: i64) -> Result<Vec<Listed>, CampaignsError> {
    let mut tx = database::begin_plain(pool).await.map_err(CampaignsError::Read)?;
    sqlx::query_as!(
        Listed,
        r#"
        select c.name, c.version, c.state, c.changed_at, c.next_at,
               coalesce(e.active, 0) as "active!", coalesce(e.held, 0) as "held!", coalesce(e.done, 0) as "done!",
               coalesce(e.stopped, 0) as "stopped!",
               -- Each by its own index.
               (select count(*) from outbox.jobs j where j.campaign = c.name and j.state = 'queued' and j.enrolment is not null)
               + (select count(*) from outbox.jobs j where j.campaign = c.name and j.state = 'sending' and j.enrolment is not null)
                   as "queued!"
          from outbox.campaigns c
          left join (select campaign, count(*) filter (where state = 'active') as active, count(*) filter (where state = 'held') as held,
                            count(*) filter (where state = 'done') as done, count(*) filter (where state = 'stopped') as stopped
                       from outbox.enrolments
                      where $1::text is null or campaign = $1
                      group by campaign) e on e.campaign = c.name
         where $1::text is null or c.name = $1
         order by c.name
         limit $2
        "#,
        name,
        limit,
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(CampaignsError::Read)
}

/// The campaign of this name, as in a list. Errors: `NoSuchCampaign`, `Read`.
pub async fn one(pool: &PgPool, name: &str) -> Result<Listed, CampaignsError> {
    list(pool, Some(name), 1).await?.pop().ok_or_else(|| CampaignsError::NoSuchCampaign(name.to_owned()))
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
    /// When its people are looked for again, if that failed.
    pub again_at: Option<DateTime<Utc>>,
    /// The firing that it waits for.
    pub behind: Option<i64>,
    pub manual: bool,
    pub late: bool,
    pub people: i64,
    pub enrolled: i64,
    pub excluded: Json<BTreeMap<String, i64>>,
}

/// The newest firings of a campaign. Errors: `CampaignsError::Read`.
pub async fn firings(pool: &PgPool, name: &str) -> Result<Vec<Tick>, CampaignsError> {
    let mut tx = database::begin_plain(pool).await.map_err(CampaignsError::Read)?;
    sqlx::query_as!(
        Tick,
        r#"
        select t.id, t.at, t.version, t.state, t.reason, t.error, t.again_at,
               case when t.finished_at is null and not t.beside
                    then (select e.id
                            from outbox.ticks e
                           where e.campaign = t.campaign and e.finished_at is null and e.at < t.at
                           order by e.at
                           limit 1)
               end as behind,
               t.manual, t.late, t.people, t.enrolled, t.excluded as "excluded: Json<BTreeMap<String, i64>>"
          from outbox.ticks t
         where t.campaign = $1
         order by t.at desc
         limit 10
        "#,
        name,
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(CampaignsError::Read)
}
