//! Why a message has not gone out: past, present and next instant of a job, a person or a campaign, with what binds it and when that
//! lifts. It reads in one snapshot and writes nothing; the rules are those of admission, claims and the engine.
//!
//! ```text
//! facts, reading ─▶ job, enrolment (what binds) ─▶ next (the instant)        foresee: the allotment of the claims, played ahead
//! ```

mod campaign;
mod enrolment;
mod facts;
mod foresee;
mod job;
mod next;
mod past;
mod person;
mod reading;

use chrono::{DateTime, Utc};
use sqlx::{PgPool, PgTransaction};

pub use crate::outbox::explain::campaign::{COUNTED, CampaignExplained, QueueView, Share, campaign};
pub use crate::outbox::explain::enrolment::{Again, EnrolmentView};
pub use crate::outbox::explain::facts::JobFacts;
pub use crate::outbox::explain::next::{Bind, Lifts, Next};
pub use crate::outbox::explain::past::Past;
pub use crate::outbox::explain::person::{Ended, PersonExplained, person};

use crate::config::{CampaignOptions, HoldOptions};
use crate::database::{self, describe};
use crate::outbox::OutboxError;
use crate::outbox::explain::facts::World;
use crate::outbox::jobs::{AttemptRow, JobsError};
use crate::outbox::recipients::RecipientsError;

/// The most attempts of a job that are told, the newest.
const MOST_ATTEMPTS: i64 = 50;

/// Why something could not be explained.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    #[error("reading what to explain: {}", describe(.0))]
    Read(#[source] sqlx::Error),
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    #[error(transparent)]
    Recipients(#[from] RecipientsError),
    #[error(transparent)]
    Jobs(#[from] JobsError),
    #[error("there is no campaign named {0}: chert-outbox campaign list shows what there is")]
    NoSuchCampaign(String),
}

/// The options of the workers, which decide what is held.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    pub holds: HoldOptions,
    pub campaigns: CampaignOptions,
}

/// A job and what comes next of it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct JobView {
    #[serde(flatten)]
    pub job: JobFacts,
    pub next: Next,
}

/// One job.
#[derive(Debug, Clone, serde::Serialize)]
pub struct JobExplained {
    pub now: DateTime<Utc>,
    pub job: JobView,
    /// The oldest first.
    pub past: Vec<Past>,
}

/// Explains one job.
/// Errors: `JobsError::NoSuchJob`; `ExplainError::Read`.
pub async fn job(pool: &PgPool, id: i64, rules: &Rules) -> Result<JobExplained, ExplainError> {
    let mut tx = database::begin_reading(pool).await.map_err(ExplainError::Read)?;
    let world = facts::world(&mut tx, rules.holds.stale_after).await?;
    let job = jobs(&mut tx, &[id], &world, rules).await?.pop().ok_or(JobsError::NoSuchJob(id))?;
    let mut attempts = sqlx::query_as!(
        AttemptRow,
        r#"
        select claim, late, outcome, started_at, duration_ms, line_id, http_status, code, message, retryable, retry_after_s, trace_id
          from outbox.attempts
         where job_id = $1
         order by claim desc, late desc
         limit $2
        "#,
        id,
        MOST_ATTEMPTS,
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(ExplainError::Read)?;
    attempts.reverse();
    let past = past::past(&job.job, &attempts);
    Ok(JobExplained { now: world.now, job, past })
}

/// Jobs with what comes next of each, in the order of their ids given.
async fn jobs(
    tx: &mut PgTransaction<'_>,
    ids: &[i64],
    world: &World,
    rules: &Rules,
) -> Result<Vec<JobView>, ExplainError> {
    let mut views: Vec<JobView> = Vec::new();
    for job in facts::jobs(tx, ids).await? {
        let head = match job.head {
            // The first message has none before it, so that this ends.
            Some(first) => match views.iter().find(|view| view.job.id == first) {
                Some(view) => Some(view.next.clone()),
                None => match facts::jobs(tx, &[first]).await?.pop() {
                    Some(first) => Some(job::next(tx, &first, world, &rules.holds, None).await?),
                    None => None,
                },
            },
            None => None,
        };
        let next = job::next(tx, &job, world, &rules.holds, head.as_ref()).await?;
        views.push(JobView { job, next });
    }
    Ok(views)
}
