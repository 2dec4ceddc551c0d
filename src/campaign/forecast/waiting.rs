//! Who waits for a line, by the hours that they share: whose hours are closed are passed over together, however many they are.

use std::collections::{BTreeMap, VecDeque};

use chrono::{DateTime, Utc};

use crate::campaign::forecast::group::Group;
use crate::campaign::opening::Opening;

/// People in the order in which they came.
#[derive(Default)]
pub(super) struct Waiting {
    /// By group, each with their turn. No group is empty.
    groups: BTreeMap<usize, VecDeque<(Turn, usize)>>,
    places: u64,
}

/// Since when somebody waits, and their place among all.
pub(super) type Turn = (DateTime<Utc>, u64);

impl Waiting {
    /// Puts somebody at the end, and tells whether they are the first of their group.
    pub fn push(&mut self, group: usize, person: usize, at: DateTime<Utc>) -> bool {
        self.places += 1;
        let queue = self.groups.entry(group).or_default();
        queue.push_back(((at, self.places), person));
        queue.len() == 1
    }

    /// The first one whose hours are open: their turn, and their group.
    pub fn first(&self, hours: &mut [Group], at: DateTime<Utc>) -> Option<(Turn, usize)> {
        let mut first: Option<(Turn, usize)> = None;
        for (group, queue) in &self.groups {
            let turn = queue.front().map(|(turn, _)| *turn)?;
            let is_earlier = first.is_none_or(|(first, _)| turn < first);
            if is_earlier && matches!(hours[*group].opening(at), Opening::Open { .. }) {
                first = Some((turn, *group));
            }
        }
        first
    }

    /// Takes the first one of a group.
    pub fn pop(&mut self, group: usize) -> Option<usize> {
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
