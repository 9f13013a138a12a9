//! A table of fixed size: one word for each client, the least used of which make room.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};
use std::sync::atomic::{AtomicU64, Ordering};

/// Words of a set: a cache line of them.
const WAYS: usize = 8;

/// Sets of a table, a power of two: with 8 words of 8 bytes each, 1 MiB.
const SETS: usize = 16 * 1024;

/// Bits of a value. The others of its word are the client's tag.
pub(super) const VALUE_BITS: u32 = 40;

/// The largest value.
pub(super) const VALUE_MAX: u64 = (1 << VALUE_BITS) - 1;

/// The words of the clients that have the same hash, but for their tags.
#[derive(Default)]
#[repr(align(64))]
struct Set([AtomicU64; WAYS]);

/// One word for each client: a tag, which tells it from others of its set, and a value. Zero: the
/// word is free.
///
/// A client is a keyed hash, so nobody can choose addresses that share a set or a tag. Two that do
/// by chance, once in a million, are counted as one.
pub(super) struct Table {
    seed: RandomState,
    sets: Box<[Set]>,
    /// Clients that were in use and made room.
    forgotten: AtomicU64,
}

/// The word of a client, as long as it is not forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    set: u32,
    way: u8,
    tag: u32,
}

impl Default for Table {
    fn default() -> Self {
        Self::with_sets(SETS)
    }
}

impl Table {
    /// A table with so many sets, a power of two.
    pub(super) fn with_sets(sets: usize) -> Self {
        Self {
            seed: RandomState::new(),
            sets: (0..sets).map(|_| Set::default()).collect(),
            forgotten: AtomicU64::new(0),
        }
    }

    /// Replaces the value of `client` by what `change` makes of it; of `None` if it has none. The
    /// one of its set whose value weighs least then makes room.
    ///
    /// # Errors
    ///
    /// That of `change`. Nothing is changed then.
    pub(super) fn update<E>(
        &self,
        client: impl Hash,
        weight: impl Fn(u64) -> u64,
        change: impl Fn(Option<u64>) -> Result<u64, E>,
    ) -> Result<Entry, E> {
        let (set, tag) = self.place(client);
        let words = &self.sets[set].0;
        loop {
            // Loaded once: so two cores that add the same client at once choose the same word.
            let loaded = words.each_ref().map(|word| word.load(Ordering::Relaxed));
            let found = find(loaded, tag);
            let (way, word) = found.unwrap_or_else(|| lightest(loaded, tag, &weight));
            let value = change(found.map(|(_, word)| value_of(word)))?;
            if !replace(&words[way], word, pack(tag, value)) {
                continue;
            }
            if found.is_none() && word != 0 && weight(value_of(word)) > 0 {
                self.forgotten.fetch_add(1, Ordering::Relaxed);
            }
            return Ok(Entry {
                set: set as u32,
                way: way as u8,
                tag,
            });
        }
    }

    /// Replaces the value of an entry, unless its client was forgotten.
    pub(super) fn change(&self, entry: Entry, change: impl Fn(u64) -> u64) {
        let word = &self.sets[entry.set as usize].0[entry.way as usize];
        let next = |found| {
            let value = (tag_of(found) == entry.tag).then(|| change(value_of(found)));
            value.map(|value| pack(entry.tag, value))
        };
        // It fails if the client was forgotten.
        let _ = word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }

    /// How often a client that was in use made room for another one.
    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten.load(Ordering::Relaxed)
    }

    /// The set of a client, and its tag, which is not zero.
    fn place(&self, client: impl Hash) -> (usize, u32) {
        let hash = self.seed.hash_one(client);
        let set = hash as usize & (self.sets.len() - 1);
        (set, tag_of(hash).max(1))
    }
}

/// The word with this tag.
fn find(words: [u64; WAYS], tag: u32) -> Option<(usize, u64)> {
    let mut words = words.into_iter().enumerate();
    words.find(|(_, word)| tag_of(*word) == tag)
}

/// The word whose value weighs least. Of several it is one that depends on the tag, so that it is
/// not always the same that makes room.
fn lightest(words: [u64; WAYS], tag: u32, weight: impl Fn(u64) -> u64) -> (usize, u64) {
    let weight_of = |way: usize| match words[way] {
        0 => 0,
        word => weight(value_of(word)),
    };
    let first = tag as usize % WAYS;
    let others = (1..WAYS).map(|way| (first + way) % WAYS);
    let mut lightest = (first, weight_of(first));
    for way in others {
        let weight = weight_of(way);
        if weight < lightest.1 {
            lightest = (way, weight);
        }
    }
    (lightest.0, words[lightest.0])
}

fn replace(word: &AtomicU64, found: u64, next: u64) -> bool {
    let order = Ordering::Relaxed;
    word.compare_exchange(found, next, order, order).is_ok()
}

fn pack(tag: u32, value: u64) -> u64 {
    (u64::from(tag) << VALUE_BITS) | (value & VALUE_MAX)
}

fn tag_of(word: u64) -> u32 {
    (word >> VALUE_BITS) as u32
}

fn value_of(word: u64) -> u64 {
    word & VALUE_MAX
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::Barrier;
    use std::thread;

    use super::*;

    fn client(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(number).into()
    }

    /// Adds one to the value of a client, which is returned with its entry.
    fn add(table: &Table, number: u32) -> (Entry, u64) {
        let next = |value: Option<u64>| Ok::<_, Infallible>(value.unwrap_or_default() + 1);
        let Ok(entry) = table.update(client(number), |value| value, next);
        (entry, value(table, number).unwrap())
    }

    /// The value of a client that is known.
    fn value(table: &Table, number: u32) -> Option<u64> {
        let (set, tag) = table.place(client(number));
        let words = table.sets[set].0.each_ref();
        let words = words.map(|word| word.load(Ordering::Relaxed));
        find(words, tag).map(|(_, word)| value_of(word))
    }

    #[test]
    fn each_client_has_a_value_of_its_own() {
        let table = Table::default();
        for round in 1..=3 {
            for number in 0..1000 {
                assert_eq!(add(&table, number).1, round, "{number}");
            }
        }
        assert_eq!(table.forgotten(), 0);
    }

    #[test]
    fn a_value_that_is_refused_stays_as_it_is() {
        let table = Table::with_sets(1);
        add(&table, 1);
        let refused = table.update(client(1), |value| value, Err::<u64, _>);
        assert_eq!(refused, Err(Some(1)));
        let refused = table.update(client(2), |value| value, Err::<u64, _>);
        assert_eq!(refused, Err(None));
        assert_eq!((value(&table, 1), value(&table, 2)), (Some(1), None));
    }

    #[test]
    fn the_least_used_makes_room() {
        let table = Table::with_sets(1);
        // The client 3 has the least, and 5 nothing any more.
        for number in 0..8 {
            for _ in 0..if number == 3 { 1 } else { 2 + number } {
                add(&table, number);
            }
        }
        table.change(add(&table, 5).0, |_| 0);
        assert_eq!(table.forgotten(), 0);
        add(&table, 100);
        assert_eq!(value(&table, 5), None);
        assert_eq!(table.forgotten(), 0, "nothing is lost with it");
        assert_eq!(add(&table, 100).1, 2);
        add(&table, 101);
        assert_eq!(value(&table, 3), None);
        assert_eq!(table.forgotten(), 1);
        // Newcomers make room for each other, and those with more stay.
        for newcomer in 200..300 {
            add(&table, newcomer);
        }
        let kept = [1, 2, 4, 6, 7].map(|number| value(&table, number));
        assert_eq!(kept, [3, 4, 6, 8, 9].map(Some));
        assert_eq!(value(&table, 298), None);
    }

    #[test]
    fn an_entry_of_a_client_that_was_forgotten_changes_nothing() {
        let table = Table::with_sets(1);
        let (entry, _) = add(&table, 1);
        for number in 2..=8 {
            add(&table, number);
            add(&table, number);
        }
        let (taken, _) = add(&table, 9);
        assert_eq!((taken.set, taken.way), (entry.set, entry.way));
        table.change(entry, |_| 77);
        assert_eq!(value(&table, 9), Some(1));
        table.change(taken, |value| value + 1);
        assert_eq!(value(&table, 9), Some(2));
    }

    #[test]
    fn each_table_has_a_seed_of_its_own() {
        let places = || {
            let table = Table::default();
            let places = (0..100).map(|number| table.place(client(number)));
            places.collect::<Vec<_>>()
        };
        assert_ne!(places(), places());
    }

    #[test]
    fn clients_are_spread_over_the_sets() {
        let table = Table::with_sets(64);
        let mut clients = [0; 64];
        for number in 0..64 * 100 {
            clients[table.place(client(number)).0] += 1;
        }
        // A hundred each, with a deviation of ten: eight times that is never seen.
        assert!(
            clients.iter().all(|count| (20..=180).contains(count)),
            "{clients:?}"
        );
    }

    #[test]
    fn no_word_looks_free_that_is_not() {
        for word in [pack(1, 0), pack(1, VALUE_MAX), pack((1 << 24) - 1, 0)] {
            assert_ne!(word, 0);
            assert_eq!(pack(tag_of(word), value_of(word)), word);
        }
        let table = Table::with_sets(1);
        assert!((0..1000).all(|number| table.place(client(number)).1 != 0));
    }

    #[test]
    fn cores_that_add_at_once_lose_nothing() {
        const THREADS: u64 = 4;
        const EACH: u64 = 20_000;
        let table = Table::with_sets(1);
        let start = Barrier::new(THREADS as usize);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    start.wait();
                    for number in 0..EACH {
                        add(&table, (number % 4) as u32);
                    }
                });
            }
        });
        let sum: u64 = (0..4).filter_map(|number| value(&table, number)).sum();
        assert_eq!(sum, THREADS * EACH);
    }
}
