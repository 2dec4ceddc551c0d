//! A person: what is known of them, where they stand in campaigns, and their messages in order.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::{PgPool, PgTransaction};

use crate::database;
use crate::outbox::explain::enrolment::{self, EnrolmentView};
use crate::outbox::explain::facts::{self, World};
use crate::outbox::explain::next::Next;
use crate::outbox::explain::{ExplainError, JobView, Rules, jobs, reading};
use crate::outbox::recipients::{self, Consent, Recipient, RecipientsError};
use crate::outbox::suppress::{self, Listed};
use crate::phone::Phone;

/// So many jobs, enrolments and suppressions are told.
const SHOWN: i64 = 10;
/// What is not told is counted up to this.
const COUNTED: i64 = 10_000;

/// All that bears on the next message to a person.
#[derive(Debug, Clone, serde::Serialize)]
pub struct PersonExplained {
    pub now: DateTime<Utc>,
    /// Masked, unless it was asked for whole.
    pub phone: String,
    /// None where nothing was sent to or received from them.
    pub recipient: Option<Recipient>,
    /// Whether the next message is a first touch.
    pub first_touch: bool,
    pub suppressions: Vec<Listed>,
    pub consents: Vec<Consent>,
    /// Those that go on first, at most ten.
    pub enrolments: Vec<EnrolmentView>,
    /// The newest ten that have ended, the newest first.
    pub ended: Vec<Ended>,
    pub under_way: Option<JobView>,
    /// The first ten that wait, in order.
    pub waiting: Vec<JobView>,
    /// How many more wait, counted to 10,000.
    pub more_waiting: i64,
}

/// A job that has ended.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Ended {
    pub id: i64,
    pub state: String,
    pub reason: Option<String>,
    pub campaign: Option<String>,
    pub finished_at: Option<DateTime<Utc>>,
    pub sent_at: Option<DateTime<Utc>>,
    pub line_id: Option<String>,
    pub error_code: Option<i32>,
    pub error_message: Option<String>,
    pub delivery_state: Option<String>,
    pub delivered_at: Option<DateTime<Utc>>,
    pub read_at: Option<DateTime<Utc>>,
    pub replied_at: Option<DateTime<Utc>>,
}

/// Explains a person. Errors: `ExplainError::Read`, `ExplainError::Recipients`.
pub async fn person(pool: &PgPool, phone: &Phone, whole: bool, rules: &Rules) -> Result<PersonExplained, ExplainError> {
    let mut tx = database::begin_reading(pool).await.map_err(ExplainError::Read)?;
    let world = facts::world(&mut tx, rules.holds.stale_after).await?;
    let recipient = recipients::recipient_in(&mut tx, phone, whole).await?;
    let suppressions = suppress::list_in(&mut tx, Some(phone), whole, SHOWN).await.map_err(RecipientsError::from)?;
    let consents = recipients::consents_in(&mut tx, phone).await?;
    let (waiting, more_waiting) = waiting(&mut tx, phone).await?;
    let under_way =
        sqlx::query_scalar!("select id from outbox.jobs where phone = $1 and state = 'sending'", phone.as_str())
            .fetch_all(&mut *tx)
            .await
            .map_err(ExplainError::Read)?;
    let under_way = jobs(&mut tx, &under_way, &world, rules).await?.pop();
    let waiting = jobs(&mut tx, &waiting, &world, rules).await?;
    let known = under_way.iter().chain(&waiting).map(|view| (view.job.id, view.next.clone())).collect();
    let enrolments = enrolments(&mut tx, phone, &world, rules, known).await?;
    let ended = ended(&mut tx, phone).await?;
    let first_touch =
        recipient.as_ref().is_none_or(|known| known.first_touched_at.is_none() && known.last_inbound_at.is_none());
    let shown = if whole { phone.as_str().to_owned() } else { phone.to_string() };
    Ok(PersonExplained {
        now: world.now,
        phone: shown,
        recipient,
        first_touch,
        suppressions,
        consents,
        enrolments,
        ended,
        under_way,
        waiting,
        more_waiting,
    })
}

/// The first jobs that wait for this person, in order, and how many more there are.
async fn waiting(tx: &mut PgTransaction<'_>, phone: &Phone) -> Result<(Vec<i64>, i64), ExplainError> {
    let ids = sqlx::query_scalar!(
        r#"
        select id
          from outbox.jobs
         where phone = $1 and state in ('queued', 'sending')
         order by priority, due_at, id
         limit $2
        "#,
        phone.as_str(),
        SHOWN + 1,
    )
    .fetch_all(&mut **tx)
    .await
    .map_err(ExplainError::Read)?;
    let counted = sqlx::query!(
        r#"
        select count(*) as "all!", count(*) filter (where state = 'sending') as "sending!", min(id) filter (where state = 'sending') as sending_id
          from (select id, state from outbox.jobs where phone = $1 and state in ('queued', 'sending') limit $2) counted
        "#,
        phone.as_str(),
        COUNTED,
    )
    .fetch_one(&mut **tx)
    .await
    .map_err(ExplainError::Read)?;
    let shown: Vec<i64> = ids.into_iter().filter(|id| Some(*id) != counted.sending_id).take(SHOWN as usize).collect();
    let more = counted.all - counted.sending - shown.len() as i64;
    Ok((shown, more.max(0)))
}

async fn enrolments(
    tx: &mut PgTransaction<'_>,
    phone: &Phone,
    world: &World,
    rules: &Rules,
    mut known_jobs: HashMap<i64, Next>,
) -> Result<Vec<EnrolmentView>, ExplainError> {
    let mut views = Vec::new();
    for row in reading::of_phone(tx, phone, SHOWN).await? {
        if let Some(id) = row.job_id.filter(|id| row.waiting && !known_jobs.contains_key(id)) {
            known_jobs.extend(jobs(tx, &[id], world, rules).await?.into_iter().map(|view| (view.job.id, view.next)));
        }
        let job = row.job_id.and_then(|id| known_jobs.get(&id));
        let (running, next) = enrolment::explained(tx, &row, world, rules, job).await?;
        views.push(row.view(running.as_ref(), next));
    }
    Ok(views)
}

async fn ended(tx: &mut PgTransaction<'_>, phone: &Phone) -> Result<Vec<Ended>, ExplainError> {
    sqlx::query_as!(
        Ended,
        r#"
        select id as "id!", state as "state!", reason, campaign, finished_at, sent_at, coalesce(sent_line_id, line_id) as line_id, error_code,
               error_message, delivery_state, delivered_at, read_at, replied_at
          from (select * from (select * from outbox.jobs
                                where phone = $1 and sent_at is not null
                                order by sent_at desc
                                limit $2) sent
                 union all
                select * from (select * from outbox.jobs
                                where phone = $1 and sent_at is null and finished_at is not null
                                order by id desc
                                limit $2) unsent) ended
         where finished_at is not null
         order by finished_at desc, id desc
         limit $2
        "#,
        phone.as_str(),
        SHOWN,
    )
    .fetch_all(&mut **tx)
    .await
    .map_err(ExplainError::Read)
}
