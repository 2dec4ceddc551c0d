//! The third way in: the event log itself, read from time to time. Whatever webhooks and the stream lost, it brings.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use crate::chert::ask::AskError;
use crate::chert::events::PAGE_LIMIT;
use crate::inbound::position::{Batch, Position};
use crate::inbound::reader::{Reader, elect};
use crate::inbound::store::Source;
use crate::inbound::trouble::Trouble;
use crate::inbound::{InboundError, Shared, WayError, stopped};

/// Beyond the longest call, so that a reader which waits for an answer keeps its lease.
const LEASE_MARGIN: Duration = Duration::from_secs(15);
/// `since` is strictly after, and an event can become visible after a later one: so much is read again.
const OVERLAP: Duration = Duration::from_secs(60);
/// An outbox that has read nothing yet begins here: a reply to what was sent just before it took over still counts, and
/// what is older was answered or forgotten by whatever sent it.
const FIRST_LOOK_BACK: Duration = Duration::from_secs(24 * 3_600);
/// The most pages of one round; a longer log is read on in the next one, which follows soon.
const ROUND_PAGES: u32 = 50;
const SOON: Duration = Duration::from_secs(1);

/// Reads the log now and then every so often, until it is told to stop. Of several processes one reads at a time.
pub async fn run(shared: Arc<Shared>, every: Duration, mut stopping: watch::Receiver<bool>) {
    let lease = shared.client.timeout() + LEASE_MARGIN;
    let mut trouble = Trouble::new("The event list");
    let mut walk: Option<Walk> = None;
    let mut has_read = false;
    loop {
        let mut wait = every.mul_f64(rand::rng().random_range(0.9..1.1));
        match elect(&shared.pool, Source::List, &shared.holder, lease).await {
            Ok(Some(reader)) => {
                // Another process has read it meanwhile.
                let is_fresh = reader.proved_ago.is_some_and(|ago| ago < every / 2);
                if !has_read || walk.is_some() || !is_fresh {
                    let round = tokio::select! {
                        () = stopped(&mut stopping) => None,
                        round = round(&shared, &reader, lease, &mut walk) => Some(round),
                    };
                    match round {
                        Some(Ok(())) => {
                            trouble.ends();
                            has_read = true;
                        }
                        Some(Err(error)) => after(error, &mut trouble, &mut walk),
                        None => {}
                    }
                    if walk.as_ref().is_some_and(Walk::is_long) {
                        wait = wait.min(SOON);
                    }
                }
                shared.resign(&reader).await;
            }
            Ok(None) => {}
            Err(error) => trouble.begins(&error),
        }
        tokio::select! {
            () = stopped(&mut stopping) => return,
            () = sleep(wait) => {}
        }
    }
}

/// A reading of the log from its newest event down to where the last one began; it may take several rounds.
#[derive(Debug)]
struct Walk {
    since: Position,
    newest: Position,
    /// Where it goes on; none at its beginning.
    cursor: Option<String>,
    limit: u16,
}

impl Walk {
    fn new(reader: &Reader) -> Walk {
        let begun = reader.position.as_deref().and_then(Position::read);
        let newest = begun.unwrap_or_else(|| Position::at(reader.now()).back(FIRST_LOOK_BACK));
        Walk { since: newest.back(OVERLAP), newest, cursor: None, limit: PAGE_LIMIT }
    }

    fn is_long(&self) -> bool {
        self.cursor.is_some()
    }
}

/// Walks on, by at most [`ROUND_PAGES`] pages. The position moves with the last page of the walk alone: pages come from the
/// newest on, so before that there is a gap below what was read.
async fn round(shared: &Shared, reader: &Reader, lease: Duration, walking: &mut Option<Walk>) -> Result<(), WayError> {
    for _ in 0..ROUND_PAGES {
        let walk = walking.get_or_insert_with(|| Walk::new(reader));
        let page = shared.client.events(&walk.since.to_string(), walk.cursor.as_deref(), walk.limit).await?;
        let batch = Batch::read(&page.events, reader.now());
        if batch.unreadable > 0 {
            warn!("{} events of the list are no JSON objects", batch.unreadable);
        }
        // Whether `since` holds together with a cursor is not documented (API contract 8, question 45).
        let is_past = walk.cursor.is_some() && batch.newest.is_some_and(|newest| newest <= walk.since);
        let is_last = page.next_cursor.is_none() || is_past;
        walk.newest = walk.newest.max(batch.newest.unwrap_or(walk.newest));
        let position = is_last.then(|| walk.newest.to_string());
        let stored = timeout(lease, reader.advance(&shared.pool, &batch.events, position.as_deref())).await;
        let new = stored.map_err(|_| WayError::SlowDatabase)??;
        shared.stored(new, "list");
        if is_last {
            *walking = None;
            return Ok(());
        }
        if page.next_cursor == walk.cursor {
            return Err(AskError::Unreadable("a page with another cursor than the one before").into());
        }
        walk.cursor = page.next_cursor;
        let kept = elect(&shared.pool, Source::List, &shared.holder, lease).await?;
        kept.ok_or(InboundError::LostElection)?;
    }
    Ok(())
}

/// What becomes of a walk that failed.
fn after(error: WayError, trouble: &mut Trouble, walking: &mut Option<Walk>) {
    match (&error, walking.as_mut()) {
        (WayError::Inbound(InboundError::LostElection), _) => {
            debug!("Somebody else reads the event list now");
            *walking = None;
            return;
        }
        // A page may be larger than an answer may be.
        (WayError::Ask(AskError::Unreadable(_)), Some(walk)) if walk.limit > 1 => walk.limit /= 2,
        // Its cursor may be forgotten there.
        (WayError::Ask(AskError::Refused(_)), _) => *walking = None,
        _ => {}
    }
    trouble.begins(&error);
}
