//! What is known of people who may be enrolled, for a plan: nothing is written.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::postgres::types::PgInterval;
use sqlx::{PgPool, PgTransaction};

use crate::campaign::file::words::Cap;
use crate::campaign::forecast::Load;
use crate::campaign::plan::{Backlog, Known, Loads};
use crate::database;
use crate::outbox::admit::interval;
use crate::outbox::campaigns::CampaignsError;

/// Numbers of one statement.
const PIECE: usize = 5_000;

/// For whom it is asked.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'a> {
    pub campaign: &'a str,
    /// What each job of it carries.
    pub labels: &'a Value,
    /// When the firing is: whether somebody may be enrolled once more is asked as of then.
    pub at: DateTime<Utc>,
    /// After how long somebody may be enrolled once more; none for never.
    pub again_after: Option<Duration>,
    /// Under which messages of any campaign count.
    pub cap: Option<Cap>,
}

/// What is known of these numbers; who is not there is unknown. Who is barred, and what counts under the cap, is as in `enrolling` and in
/// `steps`: of what is on its way to somebody nobody knows when it is sent, so that it counts from now on. Errors: `CampaignsError::Read`.
pub async fn known(
    pool: &PgPool,
    asking: Asking<'_>,
    phones: &[String],
) -> Result<HashMap<String, Known>, CampaignsError> {
    let mut all = HashMap::new();
    let within = asking.cap.map(|cap| interval(cap.within.0));
    for piece in phones.chunks(PIECE) {
        let mut tx = database::begin(pool).await.map_err(CampaignsError::Read)?;
        let rows = sqlx::query!(
            r#"
            select u.phone as "phone!", r.line_id, r.time_zone,
                   (r.first_touched_at is not null or r.last_inbound_at is not null) is true as "touched!",
                   coalesce(r.unanswered, 0) as "unanswered!", r.review_since is not null as "in_review!",
                   case when $5::interval is null then '{}'
                        else array(select counted.at
                                     from ((select j.sent_at
                                              from outbox.jobs j
                                             where j.phone = u.phone and j.sent_at > now() - $5::interval and j.campaign is not null
                                             order by j.sent_at desc
                                             limit $6)
                                            union all
                                           (select now()
                                              from outbox.jobs j
                                             where j.phone = u.phone and j.state in ('queued', 'sending') and j.campaign is not null
                                             limit $6)) counted (at)
                                    order by counted.at)
                   end as "sent!",
                   case when latest.state in ('active', 'held') then 'already_active'
                        when latest.id is not null
                             and ($4::interval is null
                                  or outbox.again_from(latest.created_at, coalesce(fired.at, case when latest.tick_id is not null then latest.created_at end),
                                                       $4) > greatest($7, now()))
                             then 'already_enrolled'
                        when exists (select from outbox.suppressions s
                                      where s.phone = u.phone and outbox.in_scope(s.scope, $2, $3) offset 0)
                             or exists (select from outbox.erased e
                                         where e.phone_hash = outbox.phone_hash(u.phone) and outbox.in_scope(e.scope, $2, $3) offset 0)
                             then 'suppressed'
                   end as bar,
                   case when latest.state = 'held' then outbox.filled(latest.vars) end as held
              from unnest($1::text[]) as u (phone)
              left join outbox.recipients r on r.phone = u.phone
              left join lateral (
                   select e.id, e.state, e.vars, e.created_at, e.tick_id
                     from outbox.enrolments e
                    where e.campaign = $2 and e.phone = u.phone
                    order by e.round desc
                    limit 1) latest on true
              left join outbox.ticks fired on fired.id = latest.tick_id
            "#,
            piece,
            asking.campaign,
            asking.labels,
            asking.again_after.map(interval) as Option<PgInterval>,
            within as Option<PgInterval>,
            asking.cap.map(|cap| i64::from(cap.messages)),
            asking.at,
        )
        .fetch_all(&mut *tx)
        .await
        .map_err(CampaignsError::Read)?;
        let known = rows.into_iter().map(|row| {
            let known = Known {
                line_id: row.line_id,
                touched: row.touched,
                zone: row.time_zone.and_then(|zone| zone.parse().ok()),
                sent: row.sent,
                unanswered: row.unanswered.unsigned_abs(),
                in_review: row.in_review,
                bar: row.bar,
                held: row.held.and_then(|vars| if let Value::Object(vars) = vars { Some(vars) } else { None }),
            };
            (row.phone, known)
        });
        all.extend(known.filter(|(_, known)| *known != Known::default()));
    }
    Ok(all)
}

/// Beside which messages somebody wants to know what others have to send.
#[derive(Debug, Clone, Copy)]
pub struct Ours<'a> {
    /// When they begin: what falls due after that is not looked at.
    pub at: DateTime<Utc>,
    pub priority: i16,
    pub campaign: &'a str,
    /// Who are on the way through it are ours; else they come before ours.
    pub from_where_they_stand: bool,
}

/// What others have to send: what is queued, and what the people of other campaigns have still to be sent at the step at which they are,
/// once there is room in the queue. What has a later priority does not go before ours, and what waits for a person or a campaign takes no
/// line's time: neither counts. Errors: `CampaignsError::Read`.
pub async fn backlog(pool: &PgPool, ours: Ours<'_>) -> Result<Backlog, CampaignsError> {
    let mut tx = database::begin_plain(pool).await.map_err(CampaignsError::Read)?;
    let queued = queued(&mut tx, ours).await.map_err(CampaignsError::Read)?;
    let people = people(&mut tx, ours).await.map_err(CampaignsError::Read)?;
    let load = |of: &Waiting| {
        let count = |count: i64| u32::try_from(count).unwrap_or(u32::MAX);
        Load { first_touches: count(of.first_touches), follow_ups: count(of.follow_ups) }
    };
    let mut backlog = Backlog::default();
    for of in &queued {
        *backlog.queued.entry(of.line_id.clone()).or_default() += load(of);
    }
    let mut in_turn: BTreeMap<String, Loads> = BTreeMap::new();
    for (campaign, priority, of) in &people {
        let goes_first = *priority < ours.priority || campaign == ours.campaign;
        let loads = if goes_first { &mut backlog.queued } else { in_turn.entry(campaign.clone()).or_default() };
        *loads.entry(of.line_id.clone()).or_default() += load(of);
    }
    backlog.in_turn = in_turn.into_values().collect();
    Ok(backlog)
}

/// Messages of a line.
struct Waiting {
    line_id: String,
    first_touches: i64,
    follow_ups: i64,
}

async fn queued(tx: &mut PgTransaction<'_>, ours: Ours<'_>) -> Result<Vec<Waiting>, sqlx::Error> {
    sqlx::query_as!(
        Waiting,
        r#"
        select coalesce(j.line_id, j.phone_line_id, r.line_id, '*') as "line_id!",
               count(*) filter (where coalesce(j.first_touch, r.first_touched_at is null and r.last_inbound_at is null)) as "first_touches!",
               count(*) filter (where not coalesce(j.first_touch, r.first_touched_at is null and r.last_inbound_at is null)) as "follow_ups!"
          from outbox.jobs j
          left join outbox.recipients r on r.phone = j.phone
         where j.state = 'queued' and j.due_at <= $1 and j.priority <= $2 and not outbox.is_held(j.reason)
           and (j.campaign is distinct from $3 or not $4)
         group by 1
        "#,
        ours.at,
        ours.priority,
        ours.campaign,
        ours.from_where_they_stand,
    )
    .fetch_all(&mut **tx)
    .await
}

/// Of campaigns that run, with their priorities.
async fn people(tx: &mut PgTransaction<'_>, ours: Ours<'_>) -> Result<Vec<(String, i16, Waiting)>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"
        select c.name, v.priority, e.line_id, count(*) filter (where e.first_touch) as "first_touches!",
               count(*) filter (where not e.first_touch) as "follow_ups!"
          from outbox.campaigns c
          join outbox.campaign_versions v on v.campaign = c.name and v.version = c.version
          join outbox.enrolments e on e.campaign = c.name and e.state = 'active' and e.ready
         where c.state = 'running' and (c.name <> $3 or not $4) and v.priority <= $2
           and e.due_at <= $1 and e.detail is null
         group by c.name, v.priority, e.line_id
        "#,
        ours.at,
        ours.priority,
        ours.campaign,
        ours.from_where_they_stand,
    )
    .fetch_all(&mut **tx)
    .await?;
    let waiting = |line_id, first_touches, follow_ups| Waiting { line_id, first_touches, follow_ups };
    let rows = rows.into_iter();
    Ok(rows.map(|row| (row.name, row.priority, waiting(row.line_id, row.first_touches, row.follow_ups))).collect())
}
