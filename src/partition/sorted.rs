//! A sorted map whose copy costs next to nothing, for a state that is written while it changes.
//!
//! A clone shares everything below the top with what it was cloned from. A change copies the one
//! branch and the one leaf on its way that are still shared, so an entry is copied at most once for
//! a clone, and only if it or one of its neighbours changes while the clone lives:
//!
//! ```text
//! top      (bound, branch) (bound, branch) ..              one vector, never shared
//! branch   (bound, leaf) (bound, leaf) ..                  at most 128 leaves
//! leaf     (key, value) (key, value) ..                    at most 32 entries
//! ```
//!
//! The bound beside a part is a key that nothing in the part is below, so a search goes through
//! neighbouring memory and follows one pointer a level. It is not always a key of the part: when
//! the first entry goes, the bound stays. A part that is full is split in halves, at the end of the
//! map it stays full, because keys that ascend never come back to it; a part that is a quarter full
//! joins a neighbour if both together are no more than three quarters. So no two neighbouring
//! leaves of a branch, and no two neighbouring branches, are less than a quarter full.
//!
//! Keys are cloned with their leaf, and as bounds; so are values with their leaf. What is long in
//! them is to be an `Arc`, as texts here are, or a change copies more than a turn has time for.
//!
//! How parts are cut depends on the past, and who shares them on clones; neither shows in what the
//! map answers. Names and meanings are those of `BTreeMap`. Absent on purpose: what nobody asks
//! for, above all changes while iterating.

use std::borrow::Borrow;
use std::fmt;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

/// A sorted map whose clone shares what it holds until either changes.
#[derive(Clone)]
pub struct Sorted<K, V> {
    branches: Parts<K, Branch<K, V>>,
    len: usize,
}

/// A part, and a bound that nothing in it is below.
type Part<K, P> = (K, Arc<P>);
type Parts<K, P> = Vec<Part<K, P>>;
type Branch<K, V> = Parts<K, Leaf<K, V>>;
type Leaf<K, V> = Vec<(K, V)>;

/// Entries of a leaf: few enough to copy in about a microsecond.
const LEAF_MAX: usize = 32;
/// Leaves of a branch.
const BRANCH_MAX: usize = 128;

/// Where an entry is, or would be. That of the end is in the branch behind the last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Spot {
    branch: usize,
    leaf: usize,
    entry: usize,
}

/// Goes over a range of a map in order, from either end.
pub struct Range<'a, K, V> {
    map: &'a Sorted<K, V>,
    front: Spot,
    back: Spot,
}

impl<K: Ord + Clone, V: Clone> Sorted<K, V> {
    /// Puts a value at `key` and returns the one that was there.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.search(&key) {
            Ok(spot) => Some(std::mem::replace(&mut self.leaf_mut(spot)[spot.entry].1, value)),
            Err(spot) => {
                self.put(spot, key, value);
                None
            }
        }
    }

    /// The value at `key`, to be changed. Whoever asks for one that is there pays for its copy.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let spot = self.search(key).ok()?;
        Some(&mut self.leaf_mut(spot)[spot.entry].1)
    }

    /// Takes the value at `key` out.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.remove_entry(key).map(|(_, value)| value)
    }

    /// Takes the entry at `key` out.
    pub fn remove_entry<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<(K, V)>
    where
        K: Borrow<Q>,
    {
        let spot = self.search(key).ok()?;
        let branch = Arc::make_mut(&mut self.branches[spot.branch].1);
        let leaf = Arc::make_mut(&mut branch[spot.leaf].1);
        let entry = leaf.remove(spot.entry);
        if leaf.len() < LEAF_MAX / 4 {
            join(branch, spot.leaf, LEAF_MAX);
            let mut at = spot.branch;
            while let Some((joined, seam)) = join(&mut self.branches, at, BRANCH_MAX) {
                // The leaves that have become neighbours may both be small.
                join(Arc::make_mut(&mut self.branches[joined].1), seam, LEAF_MAX);
                at = joined;
            }
        }
        self.len -= 1;
        Some(entry)
    }

    fn leaf_mut(&mut self, spot: Spot) -> &mut Leaf<K, V> {
        let branch = Arc::make_mut(&mut self.branches[spot.branch].1);
        Arc::make_mut(&mut branch[spot.leaf].1)
    }

    /// Puts a new entry where a search for it ended.
    fn put(&mut self, spot: Spot, key: K, value: V) {
        self.len += 1;
        let in_last = spot.branch + 1 >= self.branches.len();
        let Some((bound, branch)) = self.branches.get_mut(spot.branch) else {
            // Maps of one entry are common. They get no more room than they need.
            let leaf = Arc::new(vec![(key.clone(), value)]);
            self.branches = vec![(key.clone(), Arc::new(vec![(key, leaf)]))];
            return;
        };
        lower(bound, &key);
        let branch = Arc::make_mut(branch);
        let at_end = in_last && spot.leaf + 1 == branch.len();
        let (bound, leaf) = &mut branch[spot.leaf];
        lower(bound, &key);
        let leaf = Arc::make_mut(leaf);
        if let Some(leaf) = put(leaf, spot.entry, (key, value), LEAF_MAX, at_end)
            && let Some(branch) = put(branch, spot.leaf + 1, leaf, BRANCH_MAX, in_last)
        {
            self.branches.insert(spot.branch + 1, branch);
        }
    }
}

impl<K: Ord, V> Sorted<K, V> {
    /// The value at `key`.
    #[must_use]
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let spot = self.search(key).ok()?;
        Some(&self.leaf(spot)[spot.entry].1)
    }

    /// Whether there is a value at `key`.
    #[must_use]
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.search(key).is_ok()
    }

    /// The entries whose keys are in `range`, in order; none if it ends before it starts.
    #[must_use]
    pub fn range<Q: Ord + ?Sized, R: RangeBounds<Q>>(&self, range: R) -> Range<'_, K, V>
    where
        K: Borrow<Q>,
    {
        let front = match range.start_bound() {
            Bound::Included(key) => self.not_below(key),
            Bound::Excluded(key) => self.above(key),
            Bound::Unbounded => Spot::default(),
        };
        let back = match range.end_bound() {
            Bound::Included(key) => self.above(key),
            Bound::Excluded(key) => self.not_below(key),
            Bound::Unbounded => self.end(),
        };
        Range { map: self, front, back }
    }

    /// Where the first entry is whose key is `key` or above.
    fn not_below<Q: Ord + ?Sized>(&self, key: &Q) -> Spot
    where
        K: Borrow<Q>,
    {
        match self.search(key) {
            Ok(spot) => spot,
            Err(spot) => self.settled(spot),
        }
    }

    /// Where the first entry is whose key is above `key`.
    fn above<Q: Ord + ?Sized>(&self, key: &Q) -> Spot
    where
        K: Borrow<Q>,
    {
        match self.search(key) {
            Ok(spot) => self.settled(Spot { entry: spot.entry + 1, ..spot }),
            Err(spot) => self.settled(spot),
        }
    }

    /// Where `key` is, or else in which leaf, and where there, it would be.
    fn search<Q: Ord + ?Sized>(&self, key: &Q) -> Result<Spot, Spot>
    where
        K: Borrow<Q>,
    {
        let branch = part_of(&self.branches, key);
        let Some((_, leaves)) = self.branches.get(branch) else {
            return Err(Spot::default());
        };
        let leaf = part_of(leaves, key);
        let entries = &leaves[leaf].1;
        let entry = count(entries, |held| held.borrow() < key);
        let spot = Spot { branch, leaf, entry };
        match entries.get(entry) {
            Some((held, _)) if held.borrow() == key => Ok(spot),
            _ => Err(spot),
        }
    }
}

impl<K, V> Sorted<K, V> {
    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.branches.is_empty()
    }

    /// All entries, in order.
    #[must_use]
    pub fn iter(&self) -> Range<'_, K, V> {
        Range { map: self, front: Spot::default(), back: self.end() }
    }

    /// The entry with the lowest key.
    #[must_use]
    pub fn first_key_value(&self) -> Option<(&K, &V)> {
        self.iter().next()
    }

    /// The entry with the highest key.
    #[must_use]
    pub fn last_key_value(&self) -> Option<(&K, &V)> {
        self.iter().next_back()
    }

    /// Frees at most so many parts of a map that nobody needs any more, and says how many are left
    /// to free of that number. Each entry is one, when `clear_some` has freed what its value holds
    /// in parts, in the same way; so is a leaf or a branch that a clone still has, for letting go
    /// of it frees nothing. What is left is no map any more.
    pub fn clear_some(
        &mut self,
        parts_max: usize,
        mut clear_some: impl FnMut(&mut V, usize) -> usize,
    ) -> usize {
        let mut left = parts_max;
        self.len = 0;
        while left > 0
            && let Some((_, branch)) = self.branches.last_mut()
        {
            let Some(leaves) = Arc::get_mut(branch) else {
                self.branches.pop();
                left -= 1;
                continue;
            };
            while left > 0
                && let Some((_, leaf)) = leaves.last_mut()
            {
                let Some(entries) = Arc::get_mut(leaf) else {
                    leaves.pop();
                    left -= 1;
                    continue;
                };
                while left > 0
                    && let Some((_, value)) = entries.last_mut()
                {
                    left = clear_some(value, left);
                    if left > 0 {
                        entries.pop();
                        left -= 1;
                    }
                }
                if entries.is_empty() {
                    leaves.pop();
                }
            }
            if leaves.is_empty() {
                self.branches.pop();
            }
        }
        left
    }

    fn leaf(&self, spot: Spot) -> &Leaf<K, V> {
        &self.branches[spot.branch].1[spot.leaf].1
    }

    fn end(&self) -> Spot {
        Spot { branch: self.branches.len(), ..Spot::default() }
    }

    /// The same place; where it is behind the last entry of a leaf, as the first of the next.
    fn settled(&self, spot: Spot) -> Spot {
        let Some((_, leaves)) = self.branches.get(spot.branch) else {
            return spot;
        };
        if spot.entry < leaves[spot.leaf].1.len() {
            spot
        } else if spot.leaf + 1 < leaves.len() {
            Spot { branch: spot.branch, leaf: spot.leaf + 1, entry: 0 }
        } else {
            Spot { branch: spot.branch + 1, ..Spot::default() }
        }
    }

    /// The place before one that is not the first.
    fn before(&self, spot: Spot) -> Spot {
        if let Some(entry) = spot.entry.checked_sub(1) {
            return Spot { entry, ..spot };
        }
        let (branch, leaf) = match spot.leaf.checked_sub(1) {
            Some(leaf) => (spot.branch, leaf),
            None => (spot.branch - 1, self.branches[spot.branch - 1].1.len() - 1),
        };
        Spot { branch, leaf, entry: self.branches[branch].1[leaf].1.len() - 1 }
    }
}

impl<K, V> Default for Sorted<K, V> {
    fn default() -> Sorted<K, V> {
        Sorted { branches: Vec::new(), len: 0 }
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for Sorted<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<'a, K, V> Iterator for Range<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<(&'a K, &'a V)> {
        if self.front >= self.back {
            return None;
        }
        let at = self.front;
        self.front = self.map.settled(Spot { entry: at.entry + 1, ..at });
        let (key, value) = &self.map.leaf(at)[at.entry];
        Some((key, value))
    }
}

impl<'a, K, V> DoubleEndedIterator for Range<'a, K, V> {
    fn next_back(&mut self) -> Option<(&'a K, &'a V)> {
        if self.front >= self.back {
            return None;
        }
        self.back = self.map.before(self.back);
        let (key, value) = &self.map.leaf(self.back)[self.back.entry];
        Some((key, value))
    }
}

/// Which part holds `key` if one does: the last whose bound is not above it. What is below all
/// bounds belongs to the first.
fn part_of<K: Borrow<Q>, Q: Ord + ?Sized, P>(parts: &[(K, P)], key: &Q) -> usize {
    count(parts, |bound| bound.borrow() <= key).saturating_sub(1)
}

/// How many of `items` have keys of which `is_before` holds: of all up to one, and of none behind.
///
/// The keys of a large map are far from each other in memory. A search in halves has to wait for
/// each before it knows which is the next. Eight in a row are guessed ahead and fetched together,
/// which takes half the time.
fn count<K, P>(items: &[(K, P)], is_before: impl Fn(&K) -> bool) -> usize {
    let (mut low, mut high) = (0, items.len());
    while low < high {
        let step = (high - low).div_ceil(8);
        let mut at = low + step - 1;
        while at < high && is_before(&items[at].0) {
            low = at + 1;
            at += step;
        }
        high = high.min(at);
    }
    low
}

/// Makes `bound` one of a part that gets `key`.
fn lower<K: Ord + Clone>(bound: &mut K, key: &K) {
    if *key < *bound {
        bound.clone_from(key);
    }
}

/// Puts `item` among `items`, which have room for `max`. Where they are full it returns the part
/// that has to stand behind them now, with its bound: half of them, or the item alone if it is
/// behind all others there are.
fn put<K: Clone, P>(
    items: &mut Vec<(K, P)>,
    place: usize,
    item: (K, P),
    max: usize,
    at_end: bool,
) -> Option<Part<K, Vec<(K, P)>>> {
    if items.len() < max {
        if items.len() == items.capacity() {
            // A copy has no room to spare, and doubled it would have more than can be used.
            items.reserve_exact((2 * items.len()).min(max) - items.len());
        }
        items.insert(place, item);
        return None;
    }
    if at_end && place == max {
        return Some((item.0.clone(), Arc::new(vec![item])));
    }
    let mut upper = items.split_off(max / 2);
    match place.checked_sub(max / 2) {
        Some(place) if place > 0 => upper.insert(place, item),
        _ => items.insert(place, item),
    }
    Some((upper[0].0.clone(), Arc::new(upper)))
}

/// Drops the part at `place` if it is empty. If it is small it joins a neighbour with room: then
/// this returns where both are now, and how many items the lower one had.
fn join<K: Clone, I: Clone>(
    parts: &mut Parts<K, Vec<I>>,
    place: usize,
    max: usize,
) -> Option<(usize, usize)> {
    let count = parts[place].1.len();
    if count == 0 {
        parts.remove(place);
    }
    if count == 0 || count >= max / 4 {
        return None;
    }
    let fit = |low: &usize| {
        let high = parts.get(low + 1);
        high.is_some_and(|(_, high)| parts[*low].1.len() + high.len() <= max / 4 * 3)
    };
    let low = [Some(place), place.checked_sub(1)].into_iter().flatten().find(fit)?;
    let (_, high) = parts.remove(low + 1);
    let items = Arc::make_mut(&mut parts[low].1);
    let seam = items.len();
    items.reserve_exact(high.len());
    items.append(&mut Arc::unwrap_or_clone(high));
    Some((low, seam))
}

#[cfg(test)]
mod tests;
