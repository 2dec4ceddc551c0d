//! Who waits for their message, by the hours that they share: whose hours are closed are passed over together, however many they are.

use std::collections::{BTreeMap, VecDeque};

use chrono::{DateTime, Utc};

use crate::campaign::forecast::group::Group;
use crate::campaign::opening::Opening;

/// People in the order in which they came.
#[derive(Default)]
pub(super) struct Waiting {
    /// By group, each with their place among all. No group is empty.
    groups: BTreeMap<usize, VecDeque<(u64, usize)>>,
    places: u64,
}

impl Waiting {
    /// Puts somebody at the end.
    pub fn push(&mut self, group: usize, person: usize) {
        self.places += 1;
        self.groups.entry(group).or_default().push_back((self.places, person));
    }

    /// Takes the first one whose hours are open.
    pub fn pop(&mut self, hours: &mut [Group], at: DateTime<Utc>) -> Option<usize> {
        let mut first: Option<(u64, usize)> = None;
        for (group, queue) in &self.groups {
            let place = queue.front().map(|(place, _)| *place)?;
            let is_earlier = first.is_none_or(|(first, _)| place < first);
            if is_earlier && matches!(hours[*group].opening(at), Opening::Open { .. }) {
                first = Some((place, *group));
            }
        }
        let (_, group) = first?;
        let queue = self.groups.get_mut(&group)?;
        let (_, person) = queue.pop_front()?;
        if queue.is_empty() {
            self.groups.remove(&group);
        }
        Some(person)
    }

    /// The first instant from `at` on at which hours of somebody are open; none if nobody waits.
    pub fn opens_at(&self, hours: &mut [Group], at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let opens = |group: &usize| match hours[*group].opening(at) {
            Opening::Open { .. } => Some(at),
            Opening::Later { at, .. } => Some(at),
            Opening::Never => None,
        };
        self.groups.keys().filter_map(opens).min()
    }

    pub fn len(&self) -> usize {
        self.groups.values().map(VecDeque::len).sum()
    }
}
