//! The recorder: writes outcomes in batches. While one batch is written the next one gathers, so batches grow with the
//! load and a lone outcome waits for nobody. While the database is away outcomes wait here, and nothing is dropped.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;
use tracing::{error, info, warn};

use crate::claim::Finished;
use crate::database;
use crate::outbox::record::{Recorded, record};
use crate::worker::Shared;

/// The most outcomes that one transaction records.
const MAX_BATCH: usize = 500;
/// Between two tries of a batch.
const RETRY_WAIT: Duration = Duration::from_millis(250);

/// Records until the channel closes.
pub async fn run(shared: Arc<Shared>, mut outcomes: mpsc::Receiver<Finished>) {
    let mut batch = Vec::with_capacity(MAX_BATCH);
    while outcomes.recv_many(&mut batch, MAX_BATCH).await > 0 {
        let recorded = persist(&shared, &batch).await;
        shared.sent.fetch_add(recorded.sent, Ordering::Relaxed);
        shared.failed.fetch_add(recorded.failed, Ordering::Relaxed);
        if recorded.lost_claims > 0 {
            info!("{} outcomes came after their claim had been taken over", recorded.lost_claims);
        }
        shared.held.fetch_sub(batch.len(), Ordering::SeqCst);
        shared.bell.notify_one();
        batch.clear();
    }
}

/// Records a batch, however long the database is away. What the database refuses is looked for by halves, so that one bad
/// outcome holds up no other.
async fn persist(shared: &Shared, batch: &[Finished]) -> Recorded {
    let mut recorded = Recorded::default();
    let mut parts = vec![batch];
    while let Some(part) = parts.pop() {
        let attempt = record(&shared.pool, &shared.id, part, shared.options.probe_wait);
        match tokio::time::timeout(database::TIMEOUT, attempt).await {
            Ok(Ok(more)) => recorded += more,
            Ok(Err(refusal)) if refusal.is_refusal() => match part {
                [finished] => {
                    let id = finished.job_id;
                    error!(job.id = id, %refusal, "The outcome of job {id} is refused; its lease runs out and it is asked again");
                }
                _ => {
                    let (left, right) = part.split_at(part.len() / 2);
                    parts.extend([left, right]);
                }
            },
            Ok(Err(error)) => {
                warn!(%error, "{} outcomes could not be recorded yet", part.len());
                parts.push(part);
                tokio::time::sleep(RETRY_WAIT).await;
            }
            Err(_) => {
                warn!("{} outcomes could not be recorded yet: no answer from the database in time", part.len());
                parts.push(part);
            }
        }
    }
    recorded
}
