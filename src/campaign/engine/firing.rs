//! Recording firings: whoever is first to see that one has come.

use tracing::info;

use crate::campaign::engine::{Engine, bounded};
use crate::campaign::file::shape::{Audience, Overlap, Schedule};
use crate::campaign::fires::{self, Fate};
use crate::database;
use crate::outbox::campaigns::CampaignsError;
use crate::outbox::campaigns::ticks::{self, Rules};

impl Engine {
    /// Records firings that have come; true if there were any, and so people to be found, or more firings.
    pub(super) async fn fire(&self) -> Result<bool, CampaignsError> {
        let mut any = false;
        for name in bounded(ticks::firing(&self.pool)).await? {
            match self.fire_one(&name).await {
                // It holds up no other campaign.
                Err(error @ CampaignsError::Unreadable { .. }) => self.tell(&error, "does not fire"),
                fired => any |= fired?,
            }
        }
        Ok(any)
    }

    /// In one transaction: the firings become rows, and the campaign knows the next one.
    async fn fire_one(&self, name: &str) -> Result<bool, CampaignsError> {
        let mut tx = database::begin(&self.pool).await.map_err(CampaignsError::Fire)?;
        let Some(firing) = ticks::lock(&mut tx, name).await.map_err(CampaignsError::Fire)? else { return Ok(false) };
        let running = self.version(&mut tx, name, firing.version).await?;
        let campaign = &running.campaign;
        let (fires, next_at) = fires::due(&campaign.schedule, campaign.zone, firing.next_at, firing.now);
        let rules = Rules {
            overlap: match &campaign.schedule {
                Schedule::Cron { overlap, .. } => *overlap,
                Schedule::At { .. } | Schedule::Manual { .. } => Overlap::Queue,
            },
            jitter: running.jitter(),
            has_audience: !matches!(campaign.audience, Audience::Enrolled { .. }),
        };
        ticks::record(&mut tx, name, firing.version, &fires, rules, next_at).await.map_err(CampaignsError::Fire)?;
        tx.commit().await.map_err(CampaignsError::Fire)?;
        let run = fires.iter().filter(|fire| fire.fate == Fate::Run).count();
        info!("The campaign {name} fires: {run} firings of {} that have come", fires.len());
        Ok(!fires.is_empty())
    }
}
