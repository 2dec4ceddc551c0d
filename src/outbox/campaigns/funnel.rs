//! A campaign counted: who stands where, and what became of its messages, as of one instant.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use sqlx::{PgPool, PgTransaction};

use crate::campaign::funnel::{Counts, Messages, Standing};
use crate::database;
use crate::outbox::campaigns::{CampaignsError, versions};

/// The counts, and the definitions by which their steps have names.
#[derive(Debug, Clone)]
pub struct Counted {
    pub standings: Vec<Standing>,
    pub messages: Vec<Messages>,
    /// By version: the campaign's own, and each that somebody stands in.
    pub definitions: BTreeMap<i32, Value>,
}

/// Counts a campaign that is at `version`. Everybody is counted once at each step: by the message that waits or was sent, else by where
/// their enrolment stands. What retention has deleted is not counted. It reads all enrolments and messages of the campaign: it is
/// for people. Errors: `CampaignsError::Read`.
pub async fn count(pool: &PgPool, name: &str, version: i32) -> Result<Counted, CampaignsError> {
    let mut tx = begin(pool).await.map_err(CampaignsError::Read)?;
    let places = places(&mut tx, name).await.map_err(CampaignsError::Read)?;
    let messages = messages(&mut tx, name).await.map_err(CampaignsError::Read)?;
    let versions: BTreeSet<i32> = places.iter().map(|(standing, _)| standing.version).chain([version]).collect();
    let mut definitions = BTreeMap::new();
    for version in versions {
        if let Some(definition) = versions::definition(&mut tx, name, version).await? {
            definitions.insert(version, definition);
        }
    }
    let standings = places.into_iter().filter(|(_, has_message)| !has_message).map(|(standing, _)| standing).collect();
    Ok(Counted { standings, messages, definitions })
}

/// Of two statements that saw different instants, one would count somebody whom the other has counted already. Compiling takes longer
/// than it saves: 0.6 s of 1.4 s, of 150,000 people.
async fn begin(pool: &PgPool) -> Result<PgTransaction<'static>, sqlx::Error> {
    let mut tx = database::begin_plain(pool).await?;
    let settings = "set transaction isolation level repeatable read, read only; set local jit = off";
    sqlx::raw_sql(settings).execute(&mut *tx).await?;
    Ok(tx)
}

/// Where all enrolments stand, and whether it is their message that tells.
async fn places(tx: &mut PgTransaction<'_>, name: &str) -> Result<Vec<(Standing, bool)>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"
        select e.version as "version!", e.step as "step!", e.state as "state!", e.reason, e.detail, e.arrived as "arrived!",
               (e.job_state in ('queued', 'sending', 'sent', 'duplicate')) is true as "has_message!", count(*) as "people!"
          from (select o.version, o.step, o.state, o.reason, o.detail, o.reached_at <= coalesce(o.finished_at, now()) as arrived,
                       -- Of those alone for whom the step has made one is the job looked up.
                       case when o.made > 0 then (select j.state from outbox.jobs j where j.id = o.job_id) end as job_state
                  from outbox.enrolments o
                 where o.campaign = $1) e
         group by 1, 2, 3, 4, 5, 6, 7
        "#,
        name,
    )
    .fetch_all(&mut **tx)
    .await?;
    let places = rows.into_iter().map(|row| {
        let standing = Standing {
            version: row.version,
            step: row.step,
            state: row.state,
            reason: row.reason,
            detail: row.detail,
            arrived: row.arrived,
            people: row.people,
        };
        (standing, row.has_message)
    });
    Ok(places.collect())
}

async fn messages(tx: &mut PgTransaction<'_>, name: &str) -> Result<Vec<Messages>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"
        select made.step as "step!", made.variant, count(*) filter (where not made.sent) as "queued!",
               count(*) filter (where made.sent) as "sent!", count(*) filter (where made.delivered) as "delivered!",
               count(*) filter (where made.replied) as "replied!", count(*) filter (where made.opted_out) as "opted_out!"
          from (select coalesce(j.step_name, j.step::text) as step, max(j.variant) as variant, bool_or(j.is_sent) as sent,
                       bool_or(j.delivered_at is not null or j.read_at is not null) as delivered,
                       -- A stop is no reply, what came before it is.
                       bool_or(j.replied_at is not null and (j.opted_out_at is null or j.replied_at < j.opted_out_at)) as replied,
                       bool_or(j.opted_out_at is not null) as opted_out
                  -- Each by its own index.
                  from (select step_name, step, variant, enrolment, delivered_at, read_at, replied_at, opted_out_at, true as is_sent
                          from outbox.jobs
                         where campaign = $1 and state in ('sent', 'duplicate')
                         union all
                        select step_name, step, variant, enrolment, delivered_at, read_at, replied_at, opted_out_at, false
                          from outbox.jobs
                         where campaign = $1 and state = 'queued'
                         union all
                        select step_name, step, variant, enrolment, delivered_at, read_at, replied_at, opted_out_at, false
                          from outbox.jobs
                         where campaign = $1 and state = 'sending') j
                 where j.enrolment is not null
                 -- A step that was made anew, after its window had closed, is the same one.
                 group by j.enrolment, coalesce(j.step_name, j.step::text)) made
         group by made.step, made.variant
         order by made.step, made.variant
        "#,
        name,
    )
    .fetch_all(&mut **tx)
    .await?;
    let messages = rows.into_iter().map(|row| Messages {
        step: row.step,
        variant: row.variant,
        counts: Counts {
            queued: row.queued,
            sent: row.sent,
            delivered: row.delivered,
            replied: row.replied,
            opted_out: row.opted_out,
        },
    });
    Ok(messages.collect())
}
