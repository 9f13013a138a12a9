//! A hash table of positions, 4 bytes each: the names are where the positions lead.
//!
//! Open addressing with linear probing; a removal shifts back what follows, so there are no
//! tombstones. A `HashMap` with its keys in it would take 24 to 48 bytes per name.

use std::hash::{BuildHasher, RandomState};

const EMPTY: u32 = u32::MAX;

const MIN: usize = 1024;

/// Positions by name. All functions take one that gives the name at a position.
#[derive(Debug)]
pub(super) struct Table {
    /// A power of two; at most three quarters are in use.
    places: Vec<u32>,
    used: usize,
    /// With keys of this process, as names may follow from what clients send.
    hasher: RandomState,
}

impl Table {
    pub(super) fn new() -> Self {
        Self {
            places: vec![EMPTY; MIN],
            used: 0,
            hasher: RandomState::new(),
        }
    }

    /// The position of `name`.
    pub(super) fn find(&self, name: u128, name_of: impl Fn(u32) -> u128) -> Option<u32> {
        let place = self.place_of(name, name_of);
        (self.places[place] != EMPTY).then_some(self.places[place])
    }

    /// Adds a name that is not there.
    pub(super) fn insert(&mut self, name: u128, at: u32, name_of: impl Fn(u32) -> u128) {
        if (self.used + 1) * 4 > self.places.len() * 3 {
            self.grow(&name_of);
        }
        let place = self.place_of(name, name_of);
        self.places[place] = at;
        self.used += 1;
    }

    /// Removes a name, and returns its position.
    pub(super) fn remove(&mut self, name: u128, name_of: impl Fn(u32) -> u128) -> Option<u32> {
        let mut gap = self.place_of(name, &name_of);
        let removed = self.places[gap];
        if removed == EMPTY {
            return None;
        }
        let mut place = gap;
        loop {
            place = self.after(place);
            let at = self.places[place];
            if at == EMPTY {
                break;
            }
            // It may move into the gap unless its home lies behind the gap.
            let home = self.home(name_of(at));
            if self.distance(home, place) >= self.distance(gap, place) {
                self.places[gap] = at;
                gap = place;
            }
        }
        self.places[gap] = EMPTY;
        self.used -= 1;
        Some(removed)
    }

    /// In bytes.
    pub(super) fn memory(&self) -> usize {
        self.places.capacity() * size_of::<u32>()
    }

    /// Where `name` is, or would be.
    fn place_of(&self, name: u128, name_of: impl Fn(u32) -> u128) -> usize {
        let mut place = self.home(name);
        while self.places[place] != EMPTY && name_of(self.places[place]) != name {
            place = self.after(place);
        }
        place
    }

    fn grow(&mut self, name_of: impl Fn(u32) -> u128) {
        let doubled = vec![EMPTY; self.places.len() * 2];
        for at in std::mem::replace(&mut self.places, doubled) {
            if at != EMPTY {
                let place = self.place_of(name_of(at), &name_of);
                self.places[place] = at;
            }
        }
    }

    fn home(&self, name: u128) -> usize {
        self.hasher.hash_one(name) as usize & (self.places.len() - 1)
    }

    fn after(&self, place: usize) -> usize {
        (place + 1) & (self.places.len() - 1)
    }

    /// How many places forward, around the end.
    fn distance(&self, from: usize, to: usize) -> usize {
        to.wrapping_sub(from) & (self.places.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn it_does_as_a_map_does() {
        let seed = fastrand::u64(..);
        eprintln!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let mut table = Table::new();
        let mut map = HashMap::new();
        // The name is the position.
        let name_of = u128::from;
        for _ in 0..100_000 {
            let at = random.u32(..6000);
            let name = name_of(at);
            assert_eq!(table.find(name, name_of), map.get(&name).copied());
            if random.bool() {
                assert_eq!(table.remove(name, name_of), map.remove(&name));
            } else if map.insert(name, at).is_none() {
                table.insert(name, at, name_of);
            }
            assert_eq!(table.used, map.len());
        }
    }
}
