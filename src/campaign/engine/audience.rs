//! Finding the people of a firing: those of the version's file are there already, those of a query are read now, all or none.

use std::time::Duration;

use sqlx::{Connection as _, PgTransaction};
use tracing::{info, warn};

use crate::campaign::engine::{Engine, UNREADABLE};
use crate::campaign::file::shape::Audience;
use crate::campaign::fires;
use crate::campaign::running::Running;
use crate::database;
use crate::outbox::campaigns::CampaignsError;
use crate::outbox::campaigns::audience::{self, Query, QueryError};
use crate::outbox::campaigns::ticks::{self, Open};

/// The longest that a query may take, whatever its file says.
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// Why a firing finds nobody.
#[derive(Debug, thiserror::Error)]
enum FindError {
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error("the rows of its file are not there")]
    NoRows,
}

impl Engine {
    /// Finds the people of one firing, if there is one that nobody is at: in one transaction, beside which a query reads in its own. So
    /// its rows are a snapshot, whole or not at all.
    pub(super) async fn find_people(&self) -> Result<bool, CampaignsError> {
        let mut tx = database::begin(&self.pool).await.map_err(CampaignsError::Audience)?;
        let unread = ticks::lock_unread(&mut tx).await.map_err(CampaignsError::Audience)?;
        let Some(unread) = unread else { return Ok(false) };
        let running = match self.version(&mut tx, &unread.campaign, unread.version).await {
            Ok(running) => running,
            Err(error @ CampaignsError::Unreadable { .. }) => {
                self.tell(&error, "finds nobody");
                ticks::put_off(&mut tx, unread.id, UNREADABLE).await.map_err(CampaignsError::Audience)?;
                tx.commit().await.map_err(CampaignsError::Audience)?;
                return Ok(true);
            }
            Err(error) => return Err(error),
        };
        if self.is_too_late(&mut tx, &running, &unread).await.map_err(CampaignsError::Audience)? {
            ticks::missed(&mut tx, unread.id).await.map_err(CampaignsError::Audience)?;
            tx.commit().await.map_err(CampaignsError::Audience)?;
            warn!(tick.id = unread.id, "A firing of the campaign {} is missed: it is too late for it", unread.campaign);
            return Ok(true);
        }
        // The firing stays locked until it is written down that it failed: nobody else runs its query in between.
        let mut trying = tx.begin().await.map_err(CampaignsError::Audience)?;
        match self.find(&mut trying, &running, &unread).await {
            Ok(audience) => {
                trying.commit().await.map_err(CampaignsError::Audience)?;
                ticks::found(&mut tx, &unread, audience).await.map_err(CampaignsError::Audience)?;
                tx.commit().await.map_err(CampaignsError::Audience)?;
            }
            Err(error) => {
                trying.rollback().await.map_err(CampaignsError::Audience)?;
                let until = fires::worth_trying_until(&running.campaign.schedule, running.campaign.zone, unread.at);
                let given_up = ticks::failed(&mut tx, unread.id, &error.to_string(), until).await;
                let given_up = given_up.map_err(CampaignsError::Audience)?;
                tx.commit().await.map_err(CampaignsError::Audience)?;
                let next = if given_up { "it is given up" } else { "it is tried again" };
                warn!(
                    tick.id = unread.id,
                    "A firing of the campaign {} finds nobody, {next}: {error}", unread.campaign
                );
            }
        }
        Ok(true)
    }

    /// Whether a firing that nothing ran at since it was recorded, as in a pause, is made up for no more. One by hand has no time.
    async fn is_too_late(
        &self,
        tx: &mut PgTransaction<'_>,
        running: &Running,
        unread: &Open,
    ) -> Result<bool, sqlx::Error> {
        let is_too_late = |at| fires::is_too_late(&running.campaign.schedule, at, unread.now);
        if unread.manual || !is_too_late(unread.at) {
            return Ok(false);
        }
        Ok(ticks::earlier_ended(tx, unread).await?.is_none_or(is_too_late))
    }

    /// The audience of a firing, by number.
    async fn find(&self, tx: &mut PgTransaction<'_>, running: &Running, unread: &Open) -> Result<i64, FindError> {
        match (&running.campaign.audience, unread.file) {
            (Audience::Csv { .. }, rows) => rows.ok_or(FindError::NoRows),
            (Audience::Sql { sql, role, time_limit, row_limit, .. }, _) => {
                let time_limit = time_limit.0.min(LONGEST);
                let query = Query { sql, role: role.as_deref(), time_limit, row_limit: *row_limit };
                let (audience, people) = audience::snapshot(&self.pool, query, tx).await?;
                info!(tick.id = unread.id, "A firing of the campaign {} finds {people} people", unread.campaign);
                Ok(audience)
            }
            // By hand: whom the application enrols is not found by a firing.
            (Audience::Enrolled { .. }, _) => Ok(audience::begin(tx).await.map_err(QueryError::Database)?),
        }
    }
}
