//! A sorted map against a tree: what it answers, what its clones keep, how its parts are filled.

use std::collections::BTreeMap;

use super::*;
use crate::partition::kept::Rubble;
use crate::prng::Prng;

type Map = Sorted<Box<str>, u64>;

#[test]
fn it_agrees_with_a_tree_and_so_do_its_clones() {
    let (mut branches_max, mut agreed) = (0, 0);
    for seed in 0..24 {
        let mut prng = Prng::new(seed);
        let keys = *prng.pick(&[40, 2_000, 30_000]);
        let mut pair = Pair::default();
        let mut clones: Vec<Pair> = Vec::new();
        for _ in 0..150 {
            match prng.below(12) {
                0 | 1 => clones.push(pair.clone()),
                // A clone goes on, and what it was cloned from stays behind.
                2 if !clones.is_empty() => {
                    let at = prng.below(clones.len() as u64) as usize;
                    std::mem::swap(&mut clones[at], &mut pair);
                }
                3 if clones.len() > 3 => {
                    clones.swap_remove(prng.below(clones.len() as u64) as usize).agrees(seed);
                    agreed += 1;
                }
                4 | 5 => pair.write_run(&mut prng, keys),
                6 => pair.remove_run(&mut prng, keys),
                _ => {
                    let writes = *prng.pick(&[100, 500, 900]);
                    (0..prng.below(300)).for_each(|_| pair.step(&mut prng, keys, writes));
                }
            }
            pair.agrees_near(&name(prng.below(keys)), &name(prng.below(keys)));
            branches_max = branches_max.max(pair.map.branches.len());
        }
        pair.agrees(seed);
        clones.iter().for_each(|clone| clone.agrees(seed));
        agreed += clones.len();
    }
    assert!(branches_max > 3, "{branches_max} branches are few");
    assert!(agreed > 200, "{agreed} clones are few");
}

/// The past of a map does not show: neither in what it answers nor in how it is printed.
#[test]
fn it_prints_like_a_tree() {
    let mut pair = Pair::default();
    let mut prng = Prng::new(1);
    (0..200).for_each(|_| pair.step(&mut prng, 90, 700));
    assert_eq!(format!("{:?}", pair.map), format!("{:?}", pair.model));
    assert_eq!(format!("{:?}", Map::default()), "{}");
}

#[test]
fn keys_that_ascend_leave_full_parts() {
    let mut map = Sorted::default();
    let count = 3 * LEAF_MAX * BRANCH_MAX + 40;
    for index in 0..count as u64 {
        map.insert(index, ());
    }
    check(&map);
    assert_eq!(leaves(&map), count.div_ceil(LEAF_MAX));
    assert_eq!(map.branches.len(), 4);
    // Between two full branches there is room only in halves.
    for index in (0..count as u64).rev().step_by(1000) {
        map.insert(index, ());
        map.remove(&index);
        map.insert(index, ());
    }
    check(&map);
    assert_eq!(map.len(), count);
}

#[test]
fn keys_that_descend_keep_the_bounds_true() {
    let mut map = Sorted::default();
    for index in (0..10_000u64).rev() {
        map.insert(index, ());
    }
    check(&map);
    assert!(leaves(&map) <= 10_000 / (LEAF_MAX / 2) + 1, "{} leaves", leaves(&map));
}

#[test]
fn what_is_nearly_empty_has_few_parts() {
    let mut map = Sorted::default();
    let count = 200_000u64;
    for index in 0..count {
        map.insert(index, ());
    }
    let before = leaves(&map);
    for index in (0..count).filter(|index| index % 32 != 7) {
        map.remove(&index);
    }
    check(&map);
    assert_eq!(map.len() as u64, count / 32);
    assert!(leaves(&map) <= map.len() / 4 + 1, "{} leaves of {before} are left", leaves(&map));
    assert!(map.branches.len() <= leaves(&map) / 16 + 1, "{} branches", map.branches.len());
    for index in 0..count {
        map.remove(&index);
    }
    assert!(map.is_empty() && map.branches.is_empty());
}

#[test]
fn a_change_copies_one_leaf_of_a_clone() {
    let mut map = Sorted::default();
    for index in 0..100_000u64 {
        map.insert(index, index);
    }
    let clone = map.clone();
    assert_eq!((shared(&map, &clone), leaves(&map)), (3125, 3125));
    assert_eq!(map.get_mut(&100_000), None);
    assert_eq!(map.remove(&100_000), None);
    assert_eq!(shared(&map, &clone), 3125, "what changes nothing copies nothing");
    *map.get_mut(&5_000).expect("it is there") = 1;
    assert_eq!(map.insert(5_001, 2), Some(5_001));
    assert_eq!(map.remove(&5_002), Some(5_002));
    assert_eq!(shared(&map, &clone), 3124);
    assert_eq!((clone.get(&5_000), clone.get(&5_002)), (Some(&5_000), Some(&5_002)));
}

#[test]
fn rubble_frees_a_map_a_few_entries_at_a_time() {
    let mut map = Map::default();
    for index in 0..10_000 {
        map.insert(name(index), index);
    }
    let mut rubble = Rubble::default();
    rubble.take(map, 500);
    for _ in 0..10 {
        assert_eq!(rubble.bytes(), 500);
        rubble.clear_some(1000);
    }
    rubble.clear_some(1);
    assert_eq!(rubble.bytes(), 0);
    rubble.take(Map::default(), 5);
    assert_eq!(rubble.bytes(), 0, "nothing is not kept");
}

#[test]
fn what_a_clone_still_has_is_let_go_of_at_once() {
    let mut map = Map::default();
    for index in 0..100_000 {
        map.insert(name(index), index);
    }
    let clone = map.clone();
    let (branches, copied) = (map.branches.len(), 3);
    for key in [name(0), name(50_000), name(99_999)] {
        *map.get_mut(&*key).expect("it is there") = 7;
    }
    let own = map.branches.iter().filter(|(_, branch)| Arc::strong_count(branch) == 1).count();
    assert_eq!(own, copied);
    let parts = branches - own + own * (BRANCH_MAX - 1) + own * LEAF_MAX;
    let left = map.clear_some(parts + 9, |_, left| left);
    assert!((9..9 + own * BRANCH_MAX).contains(&left), "{left} of {parts} parts were left");
    assert!(map.is_empty());
    check(&clone);
    assert_eq!(clone.iter().map(|(_, value)| *value).sum::<u64>(), 99_999 * 50_000);
    drop(map);
    let mut clone = clone;
    let left = clone.clear_some(100_001, |_, left| left);
    assert_eq!((left, clone.is_empty()), (1, true), "the last one frees every entry");
}

#[test]
fn nested_maps_are_freed_in_parts_too() {
    let mut map: Sorted<u64, Map> = Sorted::default();
    for outer in 0..100 {
        let mut inner = Map::default();
        for index in 0..50 {
            inner.insert(name(index), index);
        }
        map.insert(outer, inner);
    }
    let mut rubble = Rubble::default();
    rubble.take_nested(map, 9);
    (0..100).for_each(|_| rubble.clear_some(51));
    assert_eq!(rubble.bytes(), 9);
    rubble.clear_some(1);
    assert_eq!(rubble.bytes(), 0);
}

/// A map and what it has to be.
#[derive(Clone, Default)]
struct Pair {
    map: Map,
    model: BTreeMap<Box<str>, u64>,
}

impl Pair {
    fn step(&mut self, prng: &mut Prng, keys: u64, writes_per_mille: u64) {
        let (key, value) = (name(prng.below(keys)), prng.next_u64());
        if prng.chance(writes_per_mille) {
            assert_eq!(self.map.insert(key.clone(), value), self.model.insert(key, value));
        } else if prng.chance(500) {
            assert_eq!(self.map.remove_entry(&*key), self.model.remove_entry(&*key));
        } else {
            let (here, there) = (self.map.get_mut(&*key), self.model.get_mut(&*key));
            assert_eq!(here, there);
            here.into_iter().chain(there).for_each(|held| *held = value);
        }
    }

    fn write_run(&mut self, prng: &mut Prng, keys: u64) {
        let from = prng.below(keys);
        let run: Vec<u64> = (from..keys.min(from + prng.below(9_000))).collect();
        let descends = prng.chance(300);
        for at in 0..run.len() {
            let number = if descends { run[run.len() - 1 - at] } else { run[at] };
            let old = self.model.insert(name(number), number);
            assert_eq!(self.map.insert(name(number), number), old);
        }
    }

    fn remove_run(&mut self, prng: &mut Prng, keys: u64) {
        let from = prng.below(keys);
        let spared = prng.between(2, 90);
        for number in from..keys.min(from + prng.below(9_000)) {
            if number % spared != 0 {
                let old = self.model.remove(&name(number));
                assert_eq!(self.map.remove(&name(number)), old);
            }
        }
    }

    /// What is at two keys and between them, from both ends.
    fn agrees_near(&self, one: &str, other: &str) {
        use Bound::{Excluded, Included, Unbounded};
        let (low, high) = if one < other { (one, other) } else { (other, one) };
        for key in [low, high] {
            assert_eq!(self.map.get(key), self.model.get(key));
            assert_eq!(self.map.contains_key(key), self.model.contains_key(key));
        }
        let mut ranges = vec![
            (Unbounded, Excluded(low)),
            (Unbounded, Included(low)),
            (Included(high), Unbounded),
            (Excluded(high), Unbounded),
            (Included(low), Included(high)),
        ];
        if low < high {
            ranges.push((Excluded(low), Excluded(high)));
            ranges.push((Excluded(low), Included(high)));
        }
        for range in ranges {
            let mut here = self.map.range::<str, _>(range);
            let mut there = self.model.range::<str, _>(range);
            for _ in 0..40 {
                assert_eq!(here.next(), there.next());
                assert_eq!(here.next_back(), there.next_back());
            }
        }
        assert_eq!(self.map.range::<str, _>((Excluded(high), Excluded(low))).next(), None);
        assert_eq!(self.map.first_key_value(), self.model.first_key_value());
        assert_eq!(self.map.last_key_value(), self.model.last_key_value());
        assert_eq!(self.map.len(), self.model.len());
        assert_eq!(self.map.is_empty(), self.model.is_empty());
    }

    fn agrees(&self, seed: u64) {
        check(&self.map);
        assert!(self.map.iter().eq(&self.model), "seed {seed}");
        assert!(self.map.iter().rev().eq(self.model.iter().rev()), "seed {seed}");
        assert_eq!(self.map.len(), self.model.len(), "seed {seed}");
    }
}

/// Not in the order of the numbers, and not of one length.
fn name(number: u64) -> Box<str> {
    format!("{}", number.reverse_bits() >> 44).into()
}

/// What the header says of parts.
fn check<K: Ord + Clone, V>(map: &Sorted<K, V>) {
    let mut len = 0;
    let mut last: Option<&K> = None;
    for (bound, branch) in &map.branches {
        assert!(last.is_none_or(|last| last < bound), "a branch's bound is too low");
        assert!((1..=BRANCH_MAX).contains(&branch.len()), "a branch of {} leaves", branch.len());
        assert!(branch.capacity() <= BRANCH_MAX);
        for (at, (low, leaf)) in branch.iter().enumerate() {
            assert!(last.is_none_or(|last| last < low), "a leaf's bound is too low");
            assert!(bound <= low && *low <= leaf[0].0, "a bound is too high");
            assert!((1..=LEAF_MAX).contains(&leaf.len()), "a leaf of {} entries", leaf.len());
            assert!(leaf.capacity() <= LEAF_MAX);
            assert!(leaf.is_sorted_by(|a, b| a.0 < b.0), "a leaf is out of order");
            let small = |at: usize| branch[at].1.len() < LEAF_MAX / 4;
            assert!(at == 0 || !small(at - 1) || !small(at), "two neighbours are small");
            len += leaf.len();
            last = leaf.last().map(|(key, _)| key);
        }
    }
    assert_eq!(map.len(), len);
    let small = |branch: &Branch<K, V>| branch.len() < BRANCH_MAX / 4;
    let neighbours = map.branches.windows(2);
    assert!(neighbours.into_iter().all(|two| !small(&two[0].1) || !small(&two[1].1)));
}

fn leaves<K, V>(map: &Sorted<K, V>) -> usize {
    map.branches.iter().map(|(_, branch)| branch.len()).sum()
}

/// How many leaves of the one are in the other.
fn shared<K, V>(one: &Sorted<K, V>, other: &Sorted<K, V>) -> usize {
    let leaves = |map: &Sorted<K, V>| -> Vec<*const Leaf<K, V>> {
        let all = map.branches.iter().flat_map(|(_, branch)| branch.iter());
        all.map(|(_, leaf)| Arc::as_ptr(leaf)).collect()
    };
    let others = leaves(other);
    leaves(one).iter().filter(|leaf| others.contains(leaf)).count()
}
