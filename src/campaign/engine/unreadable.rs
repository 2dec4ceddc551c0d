//! Versions that this release cannot read: the log tells of each, and not at every look. Pure.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// What stays as it is is told again this often.
const AGAIN: Duration = Duration::from_secs(10 * 60);
/// So many are remembered. Of more than that nothing is told: the log would be full of those.
const MOST: usize = 1_000;

/// A campaign, its version, and what does not happen for it.
type Key = (String, i32, &'static str);

/// What was told, and when.
#[derive(Debug, Default)]
pub(super) struct Told(HashMap<Key, Instant>);

impl Told {
    /// Whether this was not told lately; then it is told now.
    pub(super) fn is_news(&mut self, name: &str, version: i32, what: &'static str, now: Instant) -> bool {
        let lately = |at: &Instant| now.saturating_duration_since(*at) < AGAIN;
        let key = (name.to_owned(), version, what);
        if self.0.get(&key).is_some_and(lately) {
            return false;
        }
        if self.0.len() >= MOST {
            self.0.retain(|_, at| lately(at));
        }
        let is_room = self.0.len() < MOST;
        if is_room {
            self.0.insert(key, now);
        }
        is_room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_told_of_once_in_a_while_and_no_more_are_remembered_than_so_many() {
        let (mut told, now) = (Told::default(), Instant::now());
        let later = now + AGAIN;
        assert!(told.is_news("drip", 1, "fires", now) && !told.is_news("drip", 1, "fires", later - AGAIN / 9));
        assert!(told.is_news("drip", 2, "fires", now) && told.is_news("drip", 1, "enrols", now), "another thing");
        assert!(told.is_news("drip", 1, "fires", later) && !told.is_news("drip", 1, "fires", later));
        let mut told = Told::default();
        let mut tell = |name: usize, now| told.is_news(&name.to_string(), 1, "fires", now);
        assert_eq!((0..3 * MOST).filter(|name| tell(*name, now)).count(), MOST);
        assert_eq!((MOST..3 * MOST).filter(|name| tell(*name, later)).count(), MOST, "what is old makes room");
        assert_eq!(told.0.len(), MOST);
    }
}
