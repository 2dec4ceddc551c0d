//! Of the first touches of a line, of its follow-ups, and of each that any line may take, only so many stand in the queue at once, as the
//! engine makes no more: everybody else waits to have theirs made.

use std::iter;

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
    /// Of what any line may take, then of each line: of follow-ups and of first touches. Each takes as many as workers look ahead unless
    /// they are told otherwise.
    pub fn of_lines(lines: usize) -> Vec<Room> {
        let options = CampaignOptions::default();
        let of_a_line = options.look_ahead_of_a_line(lines);
        let sizes = iter::repeat_n(options.look_ahead, 2).chain(iter::repeat_n(of_a_line, 2 * lines));
        let room = |size: u16| Room { size: size.into(), standing: 0, waiting: Waiting::default(), next: None };
        sizes.map(room).collect()
    }

    pub fn is_full(&self) -> bool {
        self.standing >= self.size
    }
}
