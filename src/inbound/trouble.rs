//! One warning when something begins to fail and one line when it works again, however often it is tried in between.

use std::fmt::Display;

use tokio::time::Instant;
use tracing::{debug, info, warn};

/// What one way in has to complain about.
#[derive(Debug)]
pub struct Trouble {
    what: &'static str,
    since: Option<Instant>,
}

impl Trouble {
    /// None so far; `what` begins its sentences, e.g. `The stream of events`.
    pub fn new(what: &'static str) -> Trouble {
        Trouble { what, since: None }
    }

    /// It failed.
    pub fn begins(&mut self, error: &dyn Display) {
        match self.since {
            Some(_) => debug!("{} still fails: {error}", self.what),
            None => warn!("{} fails: {error}. It is tried again and again", self.what),
        }
        self.since.get_or_insert_with(Instant::now);
    }

    /// It worked.
    pub fn ends(&mut self) {
        if let Some(since) = self.since.take() {
            info!("{} works again after {} s", self.what, since.elapsed().as_secs());
        }
    }
}
