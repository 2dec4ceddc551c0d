//! Everybody who is on the way through a campaign, with what a forecast needs to know of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgPool;
use sqlx::postgres::types::PgInterval;

use crate::campaign::eta::Member;
use crate::campaign::file::shape::Variable;
use crate::campaign::program::Op;
use crate::campaign::running::Running;
use crate::database;
use crate::outbox::admit::interval;
use crate::outbox::campaigns::CampaignsError;

/// Enrolments of one statement, and the most of whom anything is foretold: each takes some hundred bytes, and what conditions ask of
/// its variables.
const PAGE: i64 = 10_000;
const MOST: usize = 1_000_000;

/// Who are on the way.
#[derive(Debug)]
pub struct UnderWay {
    /// By version; none of a version that cannot be read.
    pub members: BTreeMap<i32, Vec<Member>>,
    /// Who go on only when they reply, or when somebody has looked at what they wrote.
    pub wait_for_somebody: usize,
}

/// Reads who is on the way through these versions; none if they are more than a million. `unanswered_limit`: after how many messages without
/// a reply marketing waits for one. Errors: `CampaignsError::Read`.
pub async fn read(
    pool: &PgPool,
    name: &str,
    versions: &BTreeMap<i32, Running>,
    unanswered_limit: Option<u16>,
) -> Result<Option<UnderWay>, CampaignsError> {
    let mut found = UnderWay { members: BTreeMap::new(), wait_for_somebody: 0 };
    let (mut after, mut people) = (0, 0);
    loop {
        let page = page(pool, name, after, versions).await.map_err(CampaignsError::Read)?;
        let Some(last) = page.last() else { return Ok(Some(found)) };
        after = last.id;
        people += page.len();
        if people > MOST {
            return Ok(None);
        }
        for row in page {
            let running = versions.get(&row.version);
            if row.waits_for_somebody || running.is_some_and(|running| row.is_held_back(running, unanswered_limit)) {
                found.wait_for_somebody += 1;
            } else if running.is_some()
                && let Some(member) = row.member()
            {
                found.members.entry(member.0).or_default().push(member.1);
            }
        }
    }
}

struct Row {
    id: i64,
    version: i32,
    phone: String,
    vars: Value,
    step: i32,
    reached_at: DateTime<Utc>,
    due_at: DateTime<Utc>,
    ready: bool,
    waiting: bool,
    made: i32,
    job_sent: bool,
    job_sent_at: Option<DateTime<Utc>>,
    line_id: Option<String>,
    time_zone: Option<String>,
    touched: bool,
    waits_for_somebody: bool,
    sent: Vec<DateTime<Utc>>,
    unanswered: i32,
    now: DateTime<Utc>,
}

impl Row {
    /// The time of a step that sends has come, and the engine makes nothing of it before they reply: see `steps::Known::held_back`.
    fn is_held_back(&self, running: &Running, unanswered_limit: Option<u16>) -> bool {
        let limit = running.unanswered_limit(unanswered_limit).map(i32::from);
        self.ready && self.reached_at <= self.now && limit.is_some_and(|limit| self.unanswered >= limit)
    }

    /// With the version. Whose message was sent stands at the next step, even where that is not noticed yet; but who was moved while it
    /// was on its way stays: it was of a step of the version before, and theirs has made none.
    fn member(self) -> Option<(i32, Member)> {
        let (moved, reached_at) = match (self.job_sent, self.job_sent_at) {
            (true, sent_at) => (usize::from(self.made > 0), sent_at.unwrap_or(self.now)),
            (false, _) => (0, self.reached_at),
        };
        // While its job is under way, when an enrolment is looked at next is only a net.
        let at = if self.waiting { self.now } else { self.due_at.max(self.now) };
        let Value::Object(vars) = self.vars else { return None };
        let member = Member {
            phone: self.phone.parse().ok()?,
            vars,
            step: usize::try_from(self.step).ok()? + moved,
            at,
            made: self.waiting && !self.job_sent,
            reached_at,
            line_id: self.line_id,
            zone: self.time_zone.and_then(|zone| zone.parse().ok()),
            touched: self.touched,
            sent: self.sent,
            unanswered: self.unanswered.unsigned_abs(),
        };
        Some((self.version, member))
    }
}

async fn page(
    pool: &PgPool,
    name: &str,
    after: i64,
    versions: &BTreeMap<i32, Running>,
) -> Result<Vec<Row>, sqlx::Error> {
    let mut tx = database::begin(pool).await?;
    let asked = asked_variables(versions);
    let needed = needed_variables(versions);
    sqlx::query_as!(
        Row,
        r#"
        select e.id, e.version, e.phone,
               -- Of what conditions do not ask, only that it is there.
               case when $4::text[] = '{}' then '{}'
                    else coalesce((select jsonb_object_agg(v.key, case when v.key = any ($4) then v.value else 'true' end)
                                     from jsonb_each(e.vars) v
                                    where (v.key = any ($4) or v.key = any ($6::text[])) and v.value <> 'null'), '{}')
               end as "vars!",
               e.step, e.reached_at, e.due_at as "due_at!", e.ready, e.waiting, e.made, (e.waiting and q.state in ('sent', 'duplicate')) is true as "job_sent!", q.sent_at as "job_sent_at?",
               coalesce(q.named_line_id, q.phone_line_id, r.line_id) as "line_id?", coalesce(r.time_zone, e.vars ->> 'time_zone') as "time_zone?",
               (r.first_touched_at is not null or r.last_inbound_at is not null) is true as "touched!",
               (r.review_since is not null or e.waiting and q.state = 'queued' and q.reason in ('unanswered', 'in_review')) is true
                   as "waits_for_somebody!",
               case when $5::interval is null then '{}'
                    else array(select counted.at
                                 from ((select s.sent_at
                                          from outbox.jobs s
                                         where s.phone = e.phone and s.sent_at > now() - $5::interval and s.campaign is not null)
                                        union all
                                       -- As in a plan; whose own message is made waits for none that came later.
                                       (select now()
                                          from outbox.jobs s
                                         where s.phone = e.phone and s.state in ('queued', 'sending') and s.campaign <> e.campaign
                                           and not e.waiting)) counted (at)
                                order by counted.at)
               end as "sent!", coalesce(r.unanswered, 0) as "unanswered!", now() as "now!"
          from outbox.enrolments e
          left join outbox.jobs q on q.id = e.job_id and e.waiting
          left join outbox.recipients r on r.phone = e.phone
         where e.campaign = $1 and e.state = 'active' and e.id > $2
         order by e.id
         limit $3
        "#,
        name,
        after,
        PAGE,
        &asked,
        longest_cap(versions).map(interval) as Option<PgInterval>,
        &needed,
    )
    .fetch_all(&mut *tx)
    .await
}

/// What somebody's variables are, decides about nothing but branches.
fn asked_variables(versions: &BTreeMap<i32, Running>) -> Vec<String> {
    let steps = versions.values().flat_map(|running| running.program.steps());
    let asked = steps.filter_map(|step| match &step.op {
        Op::Branch { when, .. } => Some(when.variables()),
        _ => None,
    });
    asked.flatten().cloned().collect::<BTreeSet<_>>().into_iter().collect()
}

/// Without which nobody goes on.
fn needed_variables(versions: &BTreeMap<i32, Running>) -> Vec<String> {
    let variables = versions.values().flat_map(|running| &running.campaign.variables);
    let needed = variables.filter(|(_, variable)| matches!(variable, Variable::Needed { .. })).map(|(name, _)| name);
    needed.cloned().collect::<BTreeSet<_>>().into_iter().collect()
}

fn longest_cap(versions: &BTreeMap<i32, Running>) -> Option<Duration> {
    versions.values().filter_map(|running| Some(running.campaign.caps.per_recipient?.within.0)).max()
}
