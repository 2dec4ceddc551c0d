//! Whom the firings of a campaign found and did not enrol, row by row.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgPool;

use crate::database;
use crate::outbox::campaigns::{CampaignsError, versions};

/// A row of an audience that is nobody to enrol.
#[derive(Debug, Clone, Serialize)]
pub struct LeftOut {
    /// The firing's id, and when it was due.
    pub firing: i64,
    pub at: DateTime<Utc>,
    /// Of a file the line, of a query the number of the row.
    pub row: i64,
    pub reason: String,
    /// Masked; none where there was no number.
    pub phone: Option<String>,
}

/// The first `limit` rows that were left out by this firing, or by any, the newest first. Those who were enrolled already are none of
/// them: a firing counts them. Errors: `NoSuchCampaign`, `Read`.
pub async fn left_out(
    pool: &PgPool,
    campaign: &str,
    firing: Option<i64>,
    limit: i64,
) -> Result<Vec<LeftOut>, CampaignsError> {
    let mut tx = database::begin(pool).await.map_err(CampaignsError::Read)?;
    if versions::all(&mut tx, campaign).await?.is_empty() {
        return Err(CampaignsError::NoSuchCampaign(campaign.to_owned()));
    }
    sqlx::query_as!(
        LeftOut,
        r#"
        select t.id as firing, t.at, x.n as row, x.reason, x.phone
          from outbox.ticks t
         cross join lateral (
               select x.n, x.reason, x.phone
                 from outbox.exclusions x
                where x.tick_id = t.id
                order by x.n
                limit $3) x
         where t.campaign = $1 and ($2::bigint is null or t.id = $2)
         order by t.at desc, t.id desc, x.n
         limit $3
        "#,
        campaign,
        firing,
        limit,
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(CampaignsError::Read)
}
