//! Webhooks out, after Standard Webhooks: what happened to the producer's messages is posted, signed, until the receiver has taken
//! it or three days are over.

pub mod payload;
pub mod receiver;
pub mod sign;

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use rand::{Rng, RngExt as _};
use reqwest::StatusCode;
use sqlx::PgPool;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::config::Notify;
use crate::notify::receiver::Receiver;
use crate::outbox::OutboxError;
use crate::outbox::notifications::{self, Fate, Notification, Told};
use crate::retry::stretched;

/// Posts at once.
const IN_FLIGHT: usize = 16;
/// The most that are taken at once.
const BATCH: i64 = 64;
/// As long as a batch takes whose every post gets no answer, and time to record it.
const LEASE: Duration = Duration::from_secs(60);
/// An idle notifier looks for work this often.
const POLL: Duration = Duration::from_secs(1);
/// While the database is away.
const DATABASE_AWAY: Duration = Duration::from_secs(5);
/// Old notifications are deleted this often, in so many pieces of so many at most.
const FORGET_EVERY: Duration = Duration::from_secs(60);
const FORGET_PIECES: u32 = 20;
const FORGET_LIMIT: i64 = 1_000;

/// The waits between attempts, of which there is one more. Source: Standard Webhooks, deliverability.
pub const WAITS: [Duration; 9] = [
    Duration::from_secs(5),
    Duration::from_secs(5 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(2 * 60 * 60),
    Duration::from_secs(5 * 60 * 60),
    Duration::from_secs(10 * 60 * 60),
    Duration::from_secs(14 * 60 * 60),
    Duration::from_secs(20 * 60 * 60),
    Duration::from_secs(24 * 60 * 60),
];
/// A wait is stretched by up to this share of itself, never shortened.
const JITTER: f64 = 0.1;

/// Tells the receiver until `stopping` turns true; what it has in hand then is posted by others, once its lease is over. Where the
/// options name none, nothing is done, or notifications are switched off.
pub async fn run(pool: PgPool, notify: Notify, mut stopping: watch::Receiver<bool>) {
    let working = async {
        match notify {
            Notify::Unsaid => {}
            Notify::Off => switch(&pool, false).await,
            Notify::To(receiver) => {
                switch(&pool, true).await;
                work(&Notifier { pool, receiver }).await;
            }
        }
    };
    tokio::select! {
        biased;
        _ = stopping.wait_for(|stop| *stop) => {}
        () = working => {}
    }
}

/// Switches notifications on or off for the whole deployment, however long the database is away.
async fn switch(pool: &PgPool, on: bool) {
    loop {
        match notifications::switch(pool, on).await {
            Ok(true) => return info!("Notifications are switched {} for all workers", if on { "on" } else { "off" }),
            Ok(false) => return,
            Err(error) => debug!(%error, "Notifications could not be switched yet"),
        }
        tokio::time::sleep(DATABASE_AWAY).await;
    }
}

async fn work(notifier: &Notifier) {
    let mut forget_at = Instant::now();
    loop {
        let mut pass = notifier.pass().await;
        if Instant::now() >= forget_at && pass.is_ok() {
            forget_at = Instant::now() + FORGET_EVERY;
            pass = notifier.forget().await.and(pass);
        }
        let sleep = match pass {
            Ok(0) => POLL,
            Ok(_) => continue,
            Err(error) => {
                debug!(%error, "No notifications");
                DATABASE_AWAY
            }
        };
        // Jittered, so that idle notifiers do not all ask at once.
        let sleep = sleep.mul_f64(rand::rng().random_range(1.0..1.2));
        tokio::time::sleep(sleep).await;
    }
}

/// Posts notifications to one receiver, in batches.
pub struct Notifier {
    pub pool: PgPool,
    pub receiver: Receiver,
}

impl Notifier {
    /// Takes a batch that is due, begins to post it in the order of its ids, and records what became of it. Returns how many it
    /// took. A receiver that is gone (410) ends notifications for the whole deployment.
    /// Errors: `OutboxError::Notifications`.
    pub async fn pass(&self) -> Result<usize, OutboxError> {
        let taken = notifications::take(&self.pool, BATCH, LEASE).await?;
        let posts: Vec<_> = taken.iter().map(|notification| self.tell(notification)).collect();
        let told: Vec<Told> = stream::iter(posts).buffer_unordered(IN_FLIGHT).collect().await;
        if told.is_empty() {
            return Ok(0);
        }
        notifications::note(&self.pool, &told).await?;
        let gone = told.iter().any(|told| told.http_status == Some(StatusCode::GONE.as_u16()));
        if gone && notifications::switch(&self.pool, false).await? {
            warn!(
                "The receiver of notifications is gone (410): they are switched off until a worker starts with --notify-url"
            );
        }
        for dead in told.iter().filter(|told| told.fate == Fate::Dead && !gone) {
            let (id, error) = (dead.id, dead.error.as_deref().unwrap_or_default());
            warn!(notification.id = id, error, "Notification {id} is given up: see chert-outbox notifications list");
        }
        Ok(told.len())
    }

    async fn tell(&self, notification: &Notification) -> Told {
        let payload = payload::payload(notification, self.receiver.with_phone);
        let answer = self.receiver.post(&notification.webhook_id, payload).await;
        let status = answer.as_ref().ok().copied();
        Told {
            id: notification.id,
            attempts: notification.attempts,
            fate: fate(status, notification.attempts, &mut rand::rng()),
            http_status: status.map(|status| status.as_u16()),
            error: match answer {
                Ok(status) if status.is_success() => None,
                Ok(status) => Some(format!("HTTP {}", status.as_u16())),
                Err(error) => Some(error),
            },
        }
    }

    async fn forget(&self) -> Result<(), OutboxError> {
        for _ in 0..FORGET_PIECES {
            if notifications::forget(&self.pool, FORGET_LIMIT).await? < FORGET_LIMIT as u64 {
                break;
            }
        }
        Ok(())
    }
}

/// What becomes of a notification whose attempt number `attempts` was answered like this, or not at all.
fn fate(answer: Option<StatusCode>, attempts: i32, rng: &mut impl Rng) -> Fate {
    match answer {
        Some(status) if status.is_success() => Fate::Delivered,
        Some(StatusCode::GONE) => Fate::Dead,
        _ => match WAITS.get(usize::try_from(attempts).unwrap_or(1).saturating_sub(1)) {
            Some(wait) => Fate::Again { wait: stretched(*wait, JITTER, rng) },
            None => Fate::Dead,
        },
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;

    fn after(status: Option<u16>, attempts: i32) -> Fate {
        let status = status.map(|status| StatusCode::from_u16(status).expect("a status"));
        fate(status, attempts, &mut StdRng::seed_from_u64(1))
    }

    #[test]
    fn whatever_is_no_yes_is_tried_again_on_the_schedule_and_then_given_up() {
        for status in [None, Some(302), Some(400), Some(429), Some(500)] {
            for (attempts, least) in (1..).zip(WAITS) {
                let Fate::Again { wait } = after(status, attempts) else { panic!("{status:?} after {attempts}") };
                assert!(wait >= least && wait <= least.mul_f64(1.0 + JITTER), "{wait:?} after {attempts}");
            }
            assert_eq!(after(status, 10), Fate::Dead);
            assert_eq!(after(status, 11), Fate::Dead, "one that somebody tried again by hand");
        }
    }

    #[test]
    fn a_yes_ends_it_and_so_does_gone() {
        assert_eq!((after(Some(204), 3), after(Some(410), 1)), (Fate::Delivered, Fate::Dead));
    }
}
