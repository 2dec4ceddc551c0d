//! What is known of people who may be enrolled, for a plan: nothing is written.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::Value;
use sqlx::PgPool;

use crate::campaign::plan::Known;
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
    /// After how long somebody may be enrolled once more; none for never.
    pub again_after: Option<Duration>,
}

/// What is known of these numbers; who is not there is unknown. Errors: `CampaignsError::Read`.
pub async fn known(
    pool: &PgPool,
    asking: Asking<'_>,
    phones: &[String],
) -> Result<HashMap<String, Known>, CampaignsError> {
    let mut all = HashMap::new();
    for piece in phones.chunks(PIECE) {
        let mut tx = database::begin(pool).await.map_err(CampaignsError::Read)?;
        let rows = sqlx::query!(
            r#"
            select u.phone as "phone!", r.line_id, r.time_zone,
                   (r.first_touched_at is not null or r.last_inbound_at is not null) is true as "touched!",
                   case when exists (select from outbox.suppressions s
                                      where s.phone = u.phone and outbox.in_scope(s.scope, $2, $3) offset 0)
                             or exists (select from outbox.erased e
                                         where e.phone_hash = outbox.phone_hash(u.phone) and outbox.in_scope(e.scope, $2, $3) offset 0)
                             then 'suppressed'
                        when r.review_since is not null then 'in_review'
                        when latest.state in ('active', 'held') then 'already_active'
                        when latest.id is not null and ($4::interval is null or latest.created_at > now() - $4::interval)
                             then 'already_enrolled'
                   end as bar
              from unnest($1::text[]) as u (phone)
              left join outbox.recipients r on r.phone = u.phone
              left join lateral (
                   select e.id, e.state, e.created_at
                     from outbox.enrolments e
                    where e.campaign = $2 and e.phone = u.phone
                    order by e.round desc
                    limit 1) latest on true
            "#,
            piece,
            asking.campaign,
            asking.labels,
            asking.again_after.map(interval) as Option<sqlx::postgres::types::PgInterval>,
        )
        .fetch_all(&mut *tx)
        .await
        .map_err(CampaignsError::Read)?;
        let known = rows.into_iter().map(|row| {
            let zone = row.time_zone.and_then(|zone| zone.parse().ok());
            (row.phone, Known { line_id: row.line_id, touched: row.touched, zone, bar: row.bar })
        });
        all.extend(known);
    }
    Ok(all)
}
