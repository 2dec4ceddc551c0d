//! The people of a campaign, one by one, in the order of their numbers.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{PgPool, PgTransaction};

use crate::campaign::funnel::name_of;
use crate::campaign::program::Program;
use crate::campaign::running::Running;
use crate::database;
use crate::outbox::campaigns::{CampaignsError, versions};
use crate::phone::masked;

/// Why an enrolment is held or was stopped: the words of its `reason`.
pub const REASONS: [&str; 15] = [
    "missing_variable",
    "unreadable",
    "not_pinned",
    "not_in_pool",
    "never_open",
    "replied",
    "opted_out",
    "goal",
    "campaign_stopped",
    "failed",
    "expired",
    "canceled",
    "suppressed",
    "parked",
    "job_missing",
];

/// What holds a message in the queue, as `outbox.is_held` has it, or keeps it from being made: its person is active, and held back.
pub const HELD_BACK: [&str; 4] = ["inbound_stale", "unanswered", "in_review", "campaign_paused"];
/// The account has none of the lines by which a message may go: it is not made before it has one.
pub const NO_LINE: &str = "no_line";

/// Which people of a campaign.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub state: Option<String>,
    /// Theirs, or what their message waits for.
    pub reason: Option<String>,
    /// The name of the step at which they stand, in whatever version.
    pub step: Option<String>,
}

/// One enrolment, and what came of it.
#[derive(Debug, Clone, Serialize)]
pub struct Person {
    pub enrolment: i64,
    /// Masked, unless it was asked for whole.
    pub phone: String,
    /// The how-many-eth time it is that they go through the campaign.
    pub round: i32,
    pub version: i32,
    /// `active`, `held`, `done` or `stopped`.
    pub state: String,
    pub reason: Option<String>,
    /// The variable that is missing, with keys that were given and that the campaign does not declare; or the field that does not fit.
    pub detail: Option<String>,
    /// The step at which they stand, or stood when it ended.
    pub step: String,
    #[serde(skip)]
    index: i32,
    /// Of whom is active: `coming`, `due`, `queued` or `sent`, as the columns of the funnel.
    pub standing: Option<String>,
    /// When they are looked at next; none while their message is on its way, and of who is not active.
    pub next_at: Option<DateTime<Utc>>,
    /// Why their message waits in the queue, or is not made: before they reply, somebody has looked at what they wrote, or there is a line.
    pub waits_for: Option<String>,
    /// The wordings that they got, as `step=wording`, with blanks between.
    pub variants: Option<String>,
    /// Messages of this enrolment that were sent, and of those, that are known to have arrived.
    pub sent: i64,
    pub delivered: i64,
    pub last_sent_at: Option<DateTime<Utc>>,
    /// When they first answered one of these messages with anything but a stop.
    pub replied_at: Option<DateTime<Utc>>,
    /// When they answered one of these messages with a stop.
    pub opted_out_at: Option<DateTime<Utc>>,
    pub enrolled_at: DateTime<Utc>,
    pub reached_at: DateTime<Utc>,
    pub finished_at: Option<DateTime<Utc>>,
}

/// Reads the people of a campaign page by page. What it holds is a page and the programs of the versions.
pub struct Reader<'a> {
    pool: &'a PgPool,
    campaign: &'a str,
    filter: Filter,
    programs: BTreeMap<i32, Option<Program>>,
    /// Number and round of who came last; none at the start.
    last: Option<(String, i32)>,
}

impl<'a> Reader<'a> {
    /// Errors: `NoSuchCampaign`, `NoSuchStep`, `Read`.
    pub async fn of(pool: &'a PgPool, campaign: &'a str, filter: Filter) -> Result<Reader<'a>, CampaignsError> {
        let mut tx = database::begin(pool).await.map_err(CampaignsError::Read)?;
        let versions = versions::all(&mut tx, campaign).await?;
        if versions.is_empty() {
            return Err(CampaignsError::NoSuchCampaign(campaign.to_owned()));
        }
        let mut reader = Reader { pool, campaign, filter, programs: BTreeMap::new(), last: None };
        if let Some(step) = reader.filter.step.clone() {
            for version in versions {
                reader.know(&mut tx, version).await?;
            }
            if reader.places().is_some_and(|(versions, _)| versions.is_empty()) {
                let steps = reader.steps(&mut tx).await?.join(", ");
                return Err(CampaignsError::NoSuchStep { campaign: campaign.to_owned(), step, steps });
            }
        }
        Ok(reader)
    }

    /// The next `limit` people, with whole numbers or masked ones; none when all have been read.
    /// Errors: `CampaignsError::Read`.
    pub async fn next(&mut self, limit: i64, whole: bool) -> Result<Vec<Person>, CampaignsError> {
        let mut tx = database::begin(self.pool).await.map_err(CampaignsError::Read)?;
        let places = self.places();
        let mut people = rows(&mut tx, self, &places, limit).await.map_err(CampaignsError::Read)?;
        if let Some(last) = people.last() {
            self.last = Some((last.phone.clone(), last.round));
        }
        for person in &mut people {
            self.know(&mut tx, person.version).await?;
            person.step = name_of(self.programs[&person.version].as_ref(), person.index);
            if !whole {
                person.phone = masked(&person.phone);
            }
        }
        Ok(people)
    }

    /// The names of the steps of the newest version, and of those that people are enrolled in.
    async fn steps(&self, tx: &mut PgTransaction<'_>) -> Result<Vec<String>, CampaignsError> {
        let entered =
            sqlx::query_scalar!("select distinct version from outbox.enrolments where campaign = $1", self.campaign)
                .fetch_all(&mut **tx)
                .await
                .map_err(CampaignsError::Read)?;
        let newest = self.programs.keys().next_back();
        let programs =
            self.programs.iter().rev().filter(|(version, _)| Some(*version) == newest || entered.contains(version));
        let mut names: Vec<String> = Vec::new();
        for step in programs.flat_map(|(_, program)| program).flat_map(Program::steps) {
            if !names.iter().any(|name| name == step.name.as_str()) {
                names.push(step.name.to_string());
            }
        }
        Ok(names)
    }

    /// How many people of the campaign are active and held back, by what their message waits for, in the queue or to be made.
    /// Errors: `CampaignsError::Read`.
    pub async fn held_back(&self) -> Result<BTreeMap<String, i64>, CampaignsError> {
        let mut tx = database::begin(self.pool).await.map_err(CampaignsError::Read)?;
        let rows = sqlx::query!(
            r#"
            select h.reason as "reason!", count(*) as "people!"
              from (select j.reason
                      from outbox.jobs j
                     where j.campaign = $1 and j.state = 'queued' and j.enrolment is not null and outbox.is_held(j.reason)
                     union all
                    select e.detail
                      from outbox.enrolments e
                     where e.campaign = $1 and e.state = 'active' and e.detail is not null) h
             group by h.reason
            "#,
            self.campaign,
        )
        .fetch_all(&mut *tx)
        .await
        .map_err(CampaignsError::Read)?;
        Ok(rows.into_iter().map(|row| (row.reason, row.people)).collect())
    }

    async fn know(&mut self, tx: &mut PgTransaction<'_>, version: i32) -> Result<(), CampaignsError> {
        if !self.programs.contains_key(&version) {
            let definition = versions::definition(tx, self.campaign, version).await?;
            let running = definition.and_then(|definition| Running::read(&definition).ok());
            self.programs.insert(version, running.map(|running| running.program));
        }
        Ok(())
    }

    /// Versions and indices of the step that was asked for.
    fn places(&self) -> Option<(Vec<i32>, Vec<i32>)> {
        let name = self.filter.step.as_deref()?;
        let of = |(version, program): (&i32, &Option<Program>)| {
            let steps = program.iter().flat_map(|program| program.steps().iter().zip(0..));
            let named = steps.filter(|(step, _)| step.name.as_str() == name);
            named.map(|(_, index)| (*version, index)).collect::<Vec<_>>()
        };
        Some(self.programs.iter().flat_map(of).unzip())
    }
}

async fn rows(
    tx: &mut PgTransaction<'_>,
    reader: &Reader<'_>,
    places: &Option<(Vec<i32>, Vec<i32>)>,
    limit: i64,
) -> Result<Vec<Person>, sqlx::Error> {
    sqlx::query_as!(
        Person,
        r#"
        select e.id as enrolment, e.phone, e.round, e.version, e.state, e.reason,
               case when e.state <> 'active' then e.detail end as detail,
               -- The name is of the program.
               '' as "step!", e.step as index, e.reached_at, e.created_at as enrolled_at, e.finished_at,
               case when e.state <> 'active' then null
                    when e.waiting and q.state in ('queued', 'sending') then 'queued'
                    when e.waiting and q.state in ('sent', 'duplicate') then 'sent'
                    when e.reached_at > now() then 'coming'
                    else 'due' end as standing,
               case when not e.waiting and e.due_at > now() then e.due_at end as next_at,
               case when e.waiting and q.state = 'queued' then q.reason when e.state = 'active' then e.detail end as waits_for,
               m.variants, m.sent as "sent!", m.delivered as "delivered!", m.last_sent_at, m.replied_at, m.opted_out_at
          from (select *
                  from outbox.enrolments o
                 where o.campaign = $1 and (o.phone, o.round) > ($2, $3)
                   and ($4::text is null or o.state = $4)
                   and ($5::text is null or o.reason = $5 or o.state = 'active' and o.detail = $5
                        or o.waiting and (select w.state = 'queued' and w.reason = $5 from outbox.jobs w where w.id = o.job_id))
                   and ($6::int[] is null
                        or exists (select from unnest($6::int[], $7::int[]) as u (version, step)
                                    where u.version = o.version and u.step = o.step))
                 order by o.phone, o.round
                 limit $8) e
          left join outbox.jobs q on q.id = e.job_id and e.waiting
         cross join lateral (
               select count(*) as sent, count(*) filter (where j.delivered_at is not null or j.read_at is not null) as delivered,
                      max(j.sent_at) as last_sent_at,
                      -- A stop is no reply, what came before it is.
                      min(j.replied_at) filter (where j.opted_out_at is null or j.replied_at < j.opted_out_at) as replied_at,
                      min(j.opted_out_at) as opted_out_at,
                      string_agg(j.step_name || '=' || j.variant, ' ' order by j.sent_at, j.id) as variants
                 from outbox.jobs j
                where j.phone = e.phone and j.sent_at is not null and j.enrolment = e.id) m
         order by e.phone, e.round
        "#,
        reader.campaign,
        reader.last.as_ref().map_or("", |(phone, _)| phone),
        reader.last.as_ref().map_or(0, |(_, round)| *round),
        reader.filter.state,
        reader.filter.reason,
        places.as_ref().map(|(versions, _)| versions.as_slice()),
        places.as_ref().map(|(_, steps)| steps.as_slice()),
        limit,
    )
    .fetch_all(&mut **tx)
    .await
}
