//! A table whose copy shares every value with it until one of the two changes it.
//!
//! A snapshot is written from a copy of the state over many turns, while commands go on: copying
//! the table costs a count for each value, and a value that is then changed is copied when that
//! happens, once a snapshot. For values that are few and know how to be copied cheaply themselves.
//! Absent on purpose: threads. A shard is on one core, so the counts are not atomic.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::ops::{Index, RangeBounds};
use std::rc::Rc;

/// See the header.
#[derive(Debug)]
pub struct Shared<K, V> {
    table: BTreeMap<K, Rc<V>>,
}

impl<K, V> Default for Shared<K, V> {
    fn default() -> Shared<K, V> {
        Shared { table: BTreeMap::new() }
    }
}

impl<K: Clone, V> Clone for Shared<K, V> {
    fn clone(&self) -> Shared<K, V> {
        Shared { table: self.table.clone() }
    }
}

impl<K: Ord, V: Clone> Shared<K, V> {
    /// The value of `key`.
    #[must_use]
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.table.get(key).map(Rc::as_ref)
    }

    /// The value of `key`, to be changed: it is this table's alone from now on.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.table.get_mut(key).map(Rc::make_mut)
    }

    /// The value of the greatest key, to be changed.
    pub fn last_mut(&mut self) -> Option<&mut V> {
        self.table.last_entry().map(|last| Rc::make_mut(last.into_mut()))
    }

    /// Whether `key` has a value.
    #[must_use]
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.table.contains_key(key)
    }

    /// Puts a value under `key` and returns what was there.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.table.insert(key, Rc::new(value)).map(Rc::unwrap_or_clone)
    }

    /// Takes the value of `key` out.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.table.remove(key).map(Rc::unwrap_or_clone)
    }

    /// Takes out everything from `key` on.
    #[must_use]
    pub fn split_off<Q: Ord + ?Sized>(&mut self, key: &Q) -> Shared<K, V>
    where
        K: Borrow<Q>,
    {
        Shared { table: self.table.split_off(key) }
    }

    /// The least key and its value.
    #[must_use]
    pub fn first_key_value(&self) -> Option<(&K, &V)> {
        self.table.first_key_value().map(|(key, value)| (key, value.as_ref()))
    }

    /// The greatest key and its value.
    #[must_use]
    pub fn last_key_value(&self) -> Option<(&K, &V)> {
        self.table.last_key_value().map(|(key, value)| (key, value.as_ref()))
    }

    /// Keys and values in the order of the keys.
    pub fn range<R: RangeBounds<K>>(&self, range: R) -> impl Iterator<Item = (&K, &V)> {
        self.table.range(range).map(|(key, value)| (key, value.as_ref()))
    }

    /// The keys in their order.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.table.keys()
    }

    /// The values in the order of their keys.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.table.values().map(Rc::as_ref)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// The table as it is, to be freed in parts.
    #[must_use]
    pub fn into_table(self) -> BTreeMap<K, Rc<V>> {
        self.table
    }

    /// The values that no copy of this table shares.
    pub fn into_own(self) -> impl Iterator<Item = V> {
        self.table.into_values().filter_map(Rc::into_inner)
    }
}

impl<K: Ord, V> Index<&K> for Shared<K, V> {
    type Output = V;

    fn index(&self, key: &K) -> &V {
        &self.table[key]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_stays_as_it_was() {
        let mut table = Shared::default();
        for key in 0..100u32 {
            assert_eq!(table.insert(key, vec![key]), None);
        }
        let copy = table.clone();
        table.get_mut(&7).expect("it is there").push(1);
        table.last_mut().expect("there are some").push(2);
        assert_eq!(table.remove(&8), Some(vec![8]));
        assert_eq!(table.insert(9, vec![]), Some(vec![9]));
        let late = table.split_off(&50);
        assert_eq!((table.len(), late.len(), copy.len()), (49, 50, 100));
        assert!(copy.range(..).all(|(key, value)| *value == [*key]), "the copy has changed");
        assert_eq!(table.get(&7), Some(&vec![7, 1]));
        assert_eq!(late.last_key_value(), Some((&99, &vec![99, 2])));
        assert_eq!(copy.into_own().count(), 4, "what changed or went is the copy's alone");
    }
}
