//! A map that forgets: idempotency keys and the dedup window are both "remembered for a while".

use std::borrow::Borrow;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// Remembers values for `lifetime_us` simulated microseconds, and at most `limit` of them.
pub struct Memory<K, V> {
    lifetime_us: i64,
    limit: usize,
    values: HashMap<K, Remembered<V>>,
    by_age: VecDeque<(i64, K)>,
}

struct Remembered<V> {
    until_us: i64,
    value: V,
}

impl<K: Hash + Eq + Clone, V> Memory<K, V> {
    /// An empty memory.
    pub fn new(lifetime_us: i64, limit: usize) -> Memory<K, V> {
        Memory { lifetime_us, limit, values: HashMap::new(), by_age: VecDeque::new() }
    }

    /// The value of `key`, unless its lifetime has passed by `now_us`.
    pub fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q, now_us: i64) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.values.get(key).filter(|remembered| now_us < remembered.until_us).map(|remembered| &remembered.value)
    }

    /// Remembers `value` from `now_us` on, in place of an older one. What is too old goes, then the oldest.
    pub fn insert(&mut self, key: K, value: V, now_us: i64) {
        while let Some((until_us, _)) = self.by_age.front()
            && (*until_us <= now_us || self.by_age.len() >= self.limit)
        {
            self.forget_oldest();
        }
        let until_us = now_us.saturating_add(self.lifetime_us);
        self.by_age.push_back((until_us, key.clone()));
        self.values.insert(key, Remembered { until_us, value });
    }

    fn forget_oldest(&mut self) {
        let Some((until_us, key)) = self.by_age.pop_front() else { return };
        // A key that was inserted again lives longer than its first place in the queue.
        if self.values.get(&key).is_some_and(|remembered| remembered.until_us == until_us) {
            self.values.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_gone_when_its_lifetime_ends() {
        let mut memory = Memory::new(10, 100);
        memory.insert("a", 1, 0);
        assert_eq!(memory.get("a", 9), Some(&1));
        assert_eq!(memory.get("a", 10), None);
    }

    #[test]
    fn a_value_inserted_again_lives_on() {
        let mut memory = Memory::new(10, 100);
        memory.insert("a", 1, 0);
        memory.insert("a", 2, 5);
        memory.insert("b", 3, 12);
        assert_eq!(memory.get("a", 12), Some(&2));
    }

    #[test]
    fn the_limit_pushes_out_the_oldest() {
        let mut memory = Memory::new(10, 2);
        for key in ["a", "b", "c"] {
            memory.insert(key, 0, 0);
        }
        assert_eq!((memory.get("a", 1), memory.get("c", 1)), (None, Some(&0)));
        assert_eq!((memory.values.len(), memory.by_age.len()), (2, 2));
    }
}
