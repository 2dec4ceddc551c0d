//! Versions of campaigns: put in once, and never changed.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::postgres::types::PgInterval;
use sqlx::{PgPool, PgTransaction};

use crate::campaign::fires;
use crate::campaign::running::Running;
use crate::database;
use crate::outbox::admit::interval;
use crate::outbox::campaigns::CampaignsError;
use crate::outbox::campaigns::audience::{self, Person};
use crate::outbox::campaigns::ticks;

/// A version that is to be put in.
#[derive(Debug, Clone)]
pub struct NewVersion {
    pub name: String,
    pub definition: Value,
    /// When somebody may be enrolled again; never if there is none.
    pub again_after: Option<Duration>,
    /// `reply`, `opt_out`, `goal`.
    pub stop_on: Vec<String>,
    pub labels: Value,
    pub priority: i16,
    /// The people of its file, and what the file was.
    pub people: Option<(Vec<Person>, String)>,
}

impl NewVersion {
    fn says_the_same(&self, definition: &Value, digest: Option<&String>) -> bool {
        *definition == self.definition && digest == self.people.as_ref().map(|(_, digest)| digest)
    }
}

/// What applying came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    pub version: i32,
    /// Nothing of it was new.
    pub unchanged: bool,
    /// `running`, `paused` or `stopped`.
    pub state: String,
    pub next_at: Option<DateTime<Utc>>,
}

/// Whether applying this would change anything. Errors: `CampaignsError::Read`.
pub async fn is_news(pool: &PgPool, new: &NewVersion) -> Result<bool, CampaignsError> {
    let mut tx = database::begin(pool).await.map_err(CampaignsError::Read)?;
    Ok(unchanged(&mut tx, new).await.map_err(CampaignsError::Read)?.is_none())
}

/// Puts a version in, if it says anything new, and lets new enrolments start with it, also those of a firing that has not found its
/// people yet; those that run keep theirs. A campaign that
/// nobody knew begins to run; one that was paused or stopped stays so. `next_after` tells the first firing after an instant: where
/// the times are as they were, what has not fired yet still will; where they are not, what has come is recorded as missed.
/// Errors: `CampaignsError::Change`, nothing changed.
pub async fn apply(
    pool: &PgPool,
    new: &NewVersion,
    next_after: impl Fn(DateTime<Utc>) -> Option<DateTime<Utc>>,
) -> Result<Applied, CampaignsError> {
    let mut tx = database::begin(pool).await.map_err(CampaignsError::Change)?;
    let applied = apply_in(&mut tx, new, next_after).await.map_err(CampaignsError::Change)?;
    // Where somebody else was quicker with the same, the people that were stored here go again.
    let ended = if applied.unchanged { tx.rollback().await } else { tx.commit().await };
    ended.map_err(CampaignsError::Change)?;
    Ok(applied)
}

/// The campaign as it stands, if its newest version says the same. Nothing is locked.
async fn unchanged(tx: &mut PgTransaction<'_>, new: &NewVersion) -> Result<Option<Applied>, sqlx::Error> {
    let newest = sqlx::query!(
        r#"
        select c.version, c.state, c.next_at, v.definition, v.digest
          from outbox.campaigns c
          join outbox.campaign_versions v on v.campaign = c.name and v.version = c.version
         where c.name = $1
        "#,
        new.name,
    )
    .fetch_optional(&mut **tx)
    .await?;
    let same = newest.filter(|newest| new.says_the_same(&newest.definition, newest.digest.as_ref()));
    Ok(same.map(|it| Applied { version: it.version, unchanged: true, state: it.state, next_at: it.next_at }))
}

async fn apply_in(
    tx: &mut PgTransaction<'_>,
    new: &NewVersion,
    next_after: impl Fn(DateTime<Utc>) -> Option<DateTime<Utc>>,
) -> Result<Applied, sqlx::Error> {
    if let Some(applied) = unchanged(tx, new).await? {
        return Ok(applied);
    }
    // Before the campaign is locked: a pause, a stop and a firing wait for no file, however large.
    let audience = match &new.people {
        Some((people, _)) => Some(audience::store(tx, people).await?),
        None => None,
    };
    sqlx::query!("insert into outbox.campaigns (name, version) values ($1, 0) on conflict (name) do nothing", new.name)
        .execute(&mut **tx)
        .await?;
    sqlx::query!("select name from outbox.campaigns where name = $1 for update", new.name).fetch_one(&mut **tx).await?;
    // In a statement of its own: one that had to wait for the lock would not find the version that came meanwhile.
    let before = sqlx::query!(
        r#"
        select c.version, c.state, c.next_at, v.definition as "definition?", v.digest, clock_timestamp() as "now!"
          from outbox.campaigns c
          left join outbox.campaign_versions v on v.campaign = c.name and v.version = c.version
         where c.name = $1
        "#,
        new.name,
    )
    .fetch_one(&mut **tx)
    .await?;
    let digest = new.people.as_ref().map(|(_, digest)| digest.clone());
    if before.definition.as_ref().is_some_and(|old| new.says_the_same(old, before.digest.as_ref())) {
        return Ok(Applied { version: before.version, unchanged: true, state: before.state, next_at: before.next_at });
    }
    let is_as_it_was = before.definition.as_ref().is_some_and(|old| times(old) == times(&new.definition));
    let next_at = if is_as_it_was { before.next_at } else { next_after(before.now) };
    if let Some(old) = before.definition.filter(|_| !is_as_it_was && before.state != "stopped") {
        let come = come(&old, before.next_at, before.now);
        ticks::rescheduled(tx, &new.name, before.version, &come).await?;
    }
    let version = before.version + 1;
    sqlx::query!(
        r#"
        insert into outbox.campaign_versions
               (campaign, version, definition, again_after, stop_on, labels, priority, audience, digest)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
        "#,
        new.name,
        version,
        new.definition,
        new.again_after.map(interval) as Option<PgInterval>,
        &new.stop_on,
        new.labels,
        new.priority,
        audience,
        digest,
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!("update outbox.campaigns set version = $2, next_at = $3 where name = $1", new.name, version, next_at)
        .execute(&mut **tx)
        .await?;
    // A firing that could not find its people tries at once with this version, which may have been made for that.
    sqlx::query!(
        r#"
        update outbox.ticks
           set again_at = null
         where id = any (array(
               select id
                 from outbox.ticks
                where campaign = $1 and state = 'new' and finished_at is null and again_at is not null
                  for update skip locked))
        "#,
        new.name
    )
    .execute(&mut **tx)
    .await?;
    Ok(Applied { version, unchanged: false, state: before.state, next_at })
}

/// What says when a campaign fires; what becomes of a firing that is late goes by the version that is there when it is noticed.
fn times(definition: &Value) -> [&Value; 4] {
    let schedule = &definition["schedule"];
    [&schedule["cron"], &schedule["at"], &schedule["zone"], &definition["zone"]]
}

/// The firings of a version that have come and are not recorded; of one that cannot be read, the first.
fn come(definition: &Value, next_at: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Vec<DateTime<Utc>> {
    let Some(first) = next_at.filter(|at| *at <= now) else { return Vec::new() };
    let Ok(running) = Running::read(definition) else { return vec![first] };
    let (fires, _) = fires::due(&running.campaign.schedule, running.campaign.zone, first, now);
    fires.into_iter().map(|fire| fire.at).collect()
}

/// What a version says, read in a transaction that goes on. Errors: `CampaignsError::Read`.
pub async fn definition(tx: &mut PgTransaction<'_>, name: &str, version: i32) -> Result<Option<Value>, CampaignsError> {
    sqlx::query_scalar!(
        "select definition from outbox.campaign_versions where campaign = $1 and version = $2",
        name,
        version
    )
    .fetch_optional(&mut **tx)
    .await
    .map_err(CampaignsError::Read)
}

/// All versions of a campaign, the oldest first; none of one that is not there. Errors: `CampaignsError::Read`.
pub async fn all(tx: &mut PgTransaction<'_>, name: &str) -> Result<Vec<i32>, CampaignsError> {
    sqlx::query_scalar!("select version from outbox.campaign_versions where campaign = $1 order by version", name)
        .fetch_all(&mut **tx)
        .await
        .map_err(CampaignsError::Read)
}

/// A version as it runs, read in a transaction that goes on. Errors: `CampaignsError::Read`, `Unreadable`.
pub async fn running(tx: &mut PgTransaction<'_>, name: &str, version: i32) -> Result<Running, CampaignsError> {
    let unreadable = |why: String| CampaignsError::Unreadable { name: name.to_owned(), version, why };
    let definition = definition(tx, name, version).await?;
    let definition = definition.ok_or_else(|| unreadable("it is not there".to_owned()))?;
    Running::read(&definition).map_err(|error| unreadable(error.to_string()))
}
