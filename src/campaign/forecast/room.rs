//! Of people's first messages, and of all later ones, only so many stand in the queue at once, as the engine makes no more: everybody else
//! waits to have theirs made.

use chrono::{DateTime, Utc};

use crate::campaign::forecast::waiting::Waiting;
use crate::config::CampaignOptions;

/// Room in the queue, and who waits for it.
pub(super) struct Room {
    size: usize,
    /// How many stand in the queue.
    pub standing: usize,
    pub waiting: Waiting,
    /// When it is looked again, since by then hours of somebody are open.
    pub next: Option<DateTime<Utc>>,
}

impl Room {
    /// As many as workers look ahead unless they are told otherwise.
    pub fn new() -> Room {
        let size = CampaignOptions::default().look_ahead.into();
        Room { size, standing: 0, waiting: Waiting::default(), next: None }
    }

    pub fn is_full(&self) -> bool {
        self.standing >= self.size
    }
}
