//! An enrolment as it is read, and what is read beside it.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgTransaction;

use crate::campaign::running::Running;
use crate::config::CampaignOptions;
use crate::outbox::campaigns::rooms;
use crate::outbox::campaigns::steps::{self, Cap, Capped, Enrolment, Known};
use crate::outbox::explain::{COUNTED, ExplainError};
use crate::phone::Phone;

/// An enrolment as it was read.
#[derive(Clone)]
pub(super) struct Row {
    pub id: i64,
    pub campaign: String,
    pub version: i32,
    pub phone: String,
    pub round: i32,
    pub vars: Value,
    pub state: String,
    pub reason: Option<String>,
    pub detail: Option<String>,
    pub step: i32,
    pub reached_at: DateTime<Utc>,
    pub ready: bool,
    pub line_id: String,
    pub first_touch: bool,
    pub due_at: Option<DateTime<Utc>>,
    pub job_id: Option<i64>,
    pub made: i32,
    pub waiting: bool,
    pub moved: bool,
    pub sent_at: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
    pub finished_at: Option<DateTime<Utc>>,
    /// It is the newest one of its person and campaign.
    pub is_last: bool,
    pub again_from: Option<DateTime<Utc>>,
    pub campaign_state: String,
    pub definition: Value,
}

/// The newest enrolments of a person, those that go on first; at most `limit`.
pub(super) async fn of_phone(tx: &mut PgTransaction<'_>, phone: &Phone, limit: i64) -> Result<Vec<Row>, ExplainError> {
    let ids = sqlx::query_scalar!(
        r#"
        select id
          from outbox.enrolments
         where phone = $1
         order by finished_at is null desc, id desc
         limit $2
        "#,
        phone.as_str(),
        limit,
    )
    .fetch_all(&mut **tx)
    .await
    .map_err(ExplainError::Read)?;
    rows(tx, &ids).await
}

/// Reads these enrolments, in their order.
pub(super) async fn rows(tx: &mut PgTransaction<'_>, ids: &[i64]) -> Result<Vec<Row>, ExplainError> {
    sqlx::query_as!(
        Row,
        r#"
        select e.id, e.campaign, e.version, e.phone, e.round, e.vars, e.state, e.reason, e.detail, e.step, e.reached_at, e.ready, e.line_id,
               e.first_touch, e.due_at, e.job_id, e.made, e.waiting, e.had is not null as "moved!", e.sent_at, e.created_at, e.finished_at, c.state as campaign_state, v.definition,
               not exists (select from outbox.enrolments l
                            where l.campaign = e.campaign and l.phone = e.phone and l.round > e.round) as "is_last!",
               outbox.again_from(e.created_at, coalesce(fired.at, case when e.tick_id is not null then e.created_at end),
                                 newest.again_after) as again_from
          from unnest($1::bigint[]) with ordinality as u (id, place)
          join outbox.enrolments e on e.id = u.id
          join outbox.campaigns c on c.name = e.campaign
          join outbox.campaign_versions v on v.campaign = e.campaign and v.version = e.version
          left join outbox.ticks fired on fired.id = e.tick_id
          left join outbox.campaign_versions newest on newest.campaign = c.name and newest.version = c.version
         order by u.place
        "#,
        ids,
    )
    .fetch_all(&mut **tx)
    .await
    .map_err(ExplainError::Read)
}

/// What is known of a person, how far their cap is used up, and how many jobs may still be made where they stand.
pub(super) async fn beside(
    tx: &mut PgTransaction<'_>,
    row: &Row,
    running: &Running,
    options: CampaignOptions,
) -> Result<(Known, Capped, i64), ExplainError> {
    let enrolments = [row.enrolment()];
    let known = steps::know(tx, &enrolments).await.map_err(ExplainError::Read)?;
    let capped = match Cap::of(running) {
        Some(cap) => steps::capped(tx, &row.campaign, &enrolments, cap).await.map_err(ExplainError::Read)?,
        None => Vec::new(),
    };
    let rooms = rooms::rooms(tx, &row.campaign, options).await.map_err(ExplainError::Read)?;
    let room = rooms.left(&enrolments[0].queue());
    let known = known.into_iter().next().ok_or(ExplainError::Read(sqlx::Error::RowNotFound))?;
    Ok((known, capped.into_iter().next().unwrap_or_default(), room))
}

/// A message of a campaign to this person that has not ended, with what it waits for: one that is held, if there is one.
pub(super) async fn on_the_way(tx: &mut PgTransaction<'_>, phone: &str) -> Result<Option<String>, ExplainError> {
    let job = sqlx::query!(
        r#"
        select id as "id!", reason
          from (select id, reason from outbox.jobs where phone = $1 and state in ('queued', 'sending') and campaign is not null limit 100) open
         order by outbox.is_held(reason) is true desc, id
         limit 1
        "#,
        phone,
    )
    .fetch_optional(&mut **tx)
    .await
    .map_err(ExplainError::Read)?;
    Ok(job
        .map(|job| job.reason.map_or_else(|| format!("job {}", job.id), |reason| format!("job {} ({reason})", job.id))))
}

/// Who comes later finds the queue as it will be then: nothing is known of who stands there.
pub(super) async fn before(tx: &mut PgTransaction<'_>, row: &Row, now: DateTime<Utc>) -> Result<i64, ExplainError> {
    match row.due_at {
        Some(due_at) if row.state == "active" && row.ready && due_at <= now => {
            let (queue, place) = (row.enrolment().queue(), (due_at, row.id));
            rooms::before(tx, &row.campaign, &queue, place, COUNTED).await.map_err(ExplainError::Read)
        }
        _ => Ok(0),
    }
}

impl Row {
    fn enrolment(&self) -> Enrolment {
        Enrolment {
            id: self.id,
            version: self.version,
            phone: self.phone.clone(),
            vars: self.vars.clone(),
            step: self.step,
            reached_at: self.reached_at,
            job_id: self.job_id,
            made: self.made,
            ready: self.ready,
            line_id: self.line_id.clone(),
            first_touch: self.first_touch,
            waiting: self.waiting,
            moved: self.moved,
            sent_at: self.sent_at,
        }
    }
}
