//! The second way in: a connection on which Chert tells events as they happen. One process of all reads it.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep, sleep_until, timeout};
use tracing::{debug, warn};

use crate::inbound::position::{Batch, Position};
use crate::inbound::reader::{Reader, elect};
use crate::inbound::sse::{Parser, Said};
use crate::inbound::store::Source;
use crate::inbound::trouble::Trouble;
use crate::inbound::{InboundError, Shared, WayError, stopped};
use crate::retry::backoff;

/// How long a reader that died keeps others from reading.
const LEASE: Duration = Duration::from_secs(6);
/// How often the lease is kept, and how often the others ask for it.
const KEEP_EVERY: Duration = Duration::from_secs(2);
/// `since` is strictly after, and events can share a time or come late: so much is read again at each connection.
const OVERLAP: Duration = Duration::from_secs(10);
/// A heartbeat proves that replies are being received; it is written at most this often.
const PROVE_EVERY: Duration = Duration::from_secs(1);
/// Chert ends a connection after 60 s and the next one follows at once, but never sooner than this after the one before.
const LEAST_LIFE: Duration = Duration::from_secs(1);
/// The longest pause after failures in a row.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Reads until it is told to stop, whenever this process is the one that is elected.
pub async fn run(shared: Arc<Shared>, mut stopping: watch::Receiver<bool>) {
    let mut trouble = Trouble::new("The stream of events");
    let mut failures = 0;
    loop {
        let wait = match elect(&shared.pool, Source::Stream, &shared.holder, LEASE).await {
            Ok(Some(reader)) => {
                let mut reading = Reading::new(&shared, reader, &mut trouble);
                let error = tokio::select! {
                    () = stopped(&mut stopping) => None,
                    error = reading.read() => Some(error),
                };
                let heard = reading.heard;
                // Another process may reach Chert where this one does not, and need not wait for the lease's end.
                shared.resign(&reading.reader).await;
                let Some(error) = error else { return };
                failures = if heard { 1 } else { failures + 1 };
                match error {
                    WayError::Inbound(InboundError::LostElection) => debug!("Somebody else reads the stream now"),
                    error => trouble.begins(&error),
                }
                backoff(failures, &mut rand::rng()).min(LONGEST_PAUSE)
            }
            // Jittered, so that those who wait do not all ask at once.
            Ok(None) => KEEP_EVERY.mul_f64(rand::rng().random_range(0.8..1.2)),
            Err(error) => {
                trouble.begins(&error);
                KEEP_EVERY
            }
        };
        tokio::select! {
            () = stopped(&mut stopping) => return,
            () = sleep(wait) => {}
        }
    }
}

/// What an elected reader holds.
struct Reading<'a> {
    shared: &'a Shared,
    reader: Reader,
    trouble: &'a mut Trouble,
    position: Position,
    keep: Interval,
    proved: Option<Instant>,
    /// Chert has said something.
    heard: bool,
}

impl<'a> Reading<'a> {
    fn new(shared: &'a Shared, reader: Reader, trouble: &'a mut Trouble) -> Reading<'a> {
        // What was before the first connection of all is the list's to bring.
        let position = reader.position.as_deref().and_then(Position::read);
        let position = position.unwrap_or_else(|| Position::at(reader.now()));
        let mut keep = interval(KEEP_EVERY);
        keep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Reading { shared, reader, trouble, position, keep, proved: None, heard: false }
    }

    /// Reads one connection after the other until something fails.
    async fn read(&mut self) -> WayError {
        let Err(error) = self.connections().await;
        error
    }

    async fn connections(&mut self) -> Result<Infallible, WayError> {
        loop {
            let began = Instant::now();
            let since = self.position.back(OVERLAP).to_string();
            let client = self.shared.client.clone();
            let mut stream = self.while_kept(client.event_stream(&since)).await??;
            let mut parser = Parser::default();
            while let Some(chunk) = self.while_kept(stream.chunk()).await?? {
                self.heard = true;
                self.trouble.ends();
                self.take(parser.feed(chunk.as_ref())).await?;
            }
            debug!("Chert has ended a connection of the stream");
            self.while_kept(sleep_until(began + LEAST_LIFE)).await?;
        }
    }

    /// Stores what was said. That anything was said, if only a heartbeat, proves that replies are being received.
    async fn take(&mut self, said: Vec<Said>) -> Result<(), WayError> {
        let mut rows = Vec::new();
        for said in said {
            match said {
                Said::Data(row) => rows.push(row),
                Said::Close => {}
                Said::TooLong => warn!("An event of the stream is too long to be read; the list will bring it"),
            }
        }
        let batch = Batch::read(&rows, self.reader.now());
        if batch.unreadable > 0 {
            warn!("{} events of the stream are no JSON objects", batch.unreadable);
        }
        if batch.events.is_empty() && self.proved.is_some_and(|proved| proved.elapsed() < PROVE_EVERY) {
            return Ok(());
        }
        let position = batch.newest.filter(|newest| *newest > self.position);
        let text = position.map(|position| position.to_string());
        let stored = timeout(LEASE, self.reader.advance(&self.shared.pool, &batch.events, text.as_deref())).await;
        let new = stored.map_err(|_| WayError::SlowDatabase)??;
        self.shared.stored(new, "stream");
        self.position = position.unwrap_or(self.position);
        self.proved = Some(Instant::now());
        Ok(())
    }

    /// Waits for something, and keeps the lease meanwhile. Errors: the lease was lost, or could not be kept.
    async fn while_kept<T>(&mut self, future: impl Future<Output = T>) -> Result<T, WayError> {
        let mut future = pin!(future);
        loop {
            tokio::select! {
                done = &mut future => return Ok(done),
                _ = self.keep.tick() => {
                    let kept = timeout(LEASE, elect(&self.shared.pool, Source::Stream, &self.shared.holder, LEASE)).await;
                    let kept = kept.map_err(|_| WayError::SlowDatabase)??;
                    self.reader = kept.ok_or(InboundError::LostElection)?;
                }
            }
        }
    }
}
