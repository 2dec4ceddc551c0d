//! When somebody may be written to, asked once for all who share their hours.

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;

use crate::campaign::opening::Opening;
use crate::campaign::window::Windows;

/// Hours of people who share them, and what the last look at them found.
pub(super) struct Group {
    hours: Windows,
    zones: Vec<Tz>,
    /// What holds from here to there.
    known: Option<(DateTime<Utc>, DateTime<Utc>, Opening)>,
    /// How often somebody asked.
    #[cfg(test)]
    pub looks: usize,
}

impl Group {
    pub fn new(hours: Windows, zones: Vec<Tz>) -> Group {
        Group {
            hours,
            zones,
            known: None,
            #[cfg(test)]
            looks: 0,
        }
    }

    /// Whether a message that is made now may go.
    pub fn opening(&mut self, at: DateTime<Utc>) -> Opening {
        #[cfg(test)]
        {
            self.looks += 1;
        }
        if let Some((from, to, opening)) = self.known
            && (from..to).contains(&at)
        {
            return opening;
        }
        let opening = Opening::of(&self.hours, &self.zones, at);
        let to = opening.holds_until().unwrap_or(at + TimeDelta::days(21));
        self.known = Some((at, to, opening));
        opening
    }
}
