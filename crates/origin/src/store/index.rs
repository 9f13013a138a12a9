//! Which blobs there are, and which of them go first. No I/O.
//!
//! S3-FIFO (Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023), by bytes:
//! new blobs pass a small queue, from which only those used at least twice come to the main queue.
//! So blobs that are asked for once never push out the popular ones. Names that left the small
//! queue are remembered in a ghost queue, and come to the main queue if they are stored again.
//!
//! `quick_cache` has S3-FIFO as well, but evicts one by one as it inserts: it has no low mark, no
//! reservation of bytes for a blob that is not there yet, and a scan at the start cannot say which
//! queue a blob belongs to. And it takes more than 100 bytes for a key of 128 bits with its ghosts.
//!
//! An entry takes 32 bytes and a place in the table 4, of which at least three eighths are in use:
//! 43 bytes, and as much for the ghost that there may be for each blob.

use super::table::Table;

/// The unit in which space is counted.
pub(super) const BLOCK: u64 = 4096;

/// Uses are counted up to here.
const USES_MAX: u8 = 3;

/// Uses with which a blob comes from the small to the main queue, as in the paper. The one that
/// sends a blob for which it was stored may be a use, so one says nothing.
const USES_TO_STAY: u8 = 2;

/// Entries that are allocated at once. A vector that doubles would double the memory per blob.
const CHUNK: usize = 4096;

const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Free,
    Small,
    Main,
    Ghost,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    name: u128,
    blocks: u32,
    newer: u32,
    /// Of a free entry: the next free one.
    older: u32,
    place: Place,
    uses: u8,
    /// Its checksum was found right since the start.
    verified: bool,
}

const _: () = assert!(size_of::<Entry>() == 32);

#[derive(Debug)]
struct Queue {
    newest: u32,
    oldest: u32,
    count: usize,
    blocks: u64,
}

impl Queue {
    const EMPTY: Self = Self {
        newest: NONE,
        oldest: NONE,
        count: 0,
        blocks: 0,
    };
}

/// The blobs of a store by name, in the order in which they are evicted.
#[derive(Debug)]
pub(super) struct Index {
    chunks: Vec<Box<[Entry]>>,
    free: u32,
    table: Table,
    small: Queue,
    main: Queue,
    ghost: Queue,
    reserved: u64,
    evicted: u64,
    evicted_blocks: u64,
    /// In blocks, as all sizes here.
    size: u64,
}

/// Counts of blobs and blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) blobs: usize,
    pub(super) blocks: u64,
    pub(super) reserved: u64,
    pub(super) evicted: u64,
    pub(super) evicted_blocks: u64,
}

impl Index {
    /// An empty one for `size` blocks.
    pub(super) fn new(size: u64) -> Self {
        Self {
            chunks: Vec::new(),
            free: NONE,
            table: Table::new(),
            small: Queue::EMPTY,
            main: Queue::EMPTY,
            ghost: Queue::EMPTY,
            reserved: 0,
            evicted: 0,
            evicted_blocks: 0,
            size,
        }
    }

    pub(super) fn contains(&self, name: u128) -> bool {
        self.find_blob(name).is_some()
    }

    /// Counts a use. Whether the blob is verified; `None` if there is none.
    pub(super) fn count_use(&mut self, name: u128) -> Option<bool> {
        let at = self.find_blob(name)?;
        let entry = self.entry_mut(at);
        entry.uses = (entry.uses + 1).min(USES_MAX);
        Some(entry.verified)
    }

    pub(super) fn set_verified(&mut self, name: u128) {
        if let Some(at) = self.find_blob(name) {
            self.entry_mut(at).verified = true;
        }
    }

    /// Adds a blob that was found on disk, unless it is known. It outlived a restart, so it is no
    /// new one: it comes to the main queue.
    pub(super) fn insert_found(&mut self, name: u128, blocks: u32) {
        if !self.contains(name) {
            self.remove_entry(name);
            self.insert(name, blocks, Place::Main, 0);
        }
    }

    /// Takes `blocks` for a blob that is to come. The names of blobs that must go for it are added
    /// to `victims`. `false`, and nothing is evicted, if other reservations leave too little.
    pub(super) fn reserve(&mut self, blocks: u32, victims: &mut Vec<u128>) -> bool {
        if self.reserved + u64::from(blocks) > self.size {
            return false;
        }
        self.reserved += u64::from(blocks);
        self.evict(self.size, usize::MAX, victims);
        true
    }

    /// Gives back what [`Index::reserve`] took.
    pub(super) fn release(&mut self, blocks: u32) {
        self.reserved -= u64::from(blocks);
    }

    /// Makes a reservation the blob `name`, or the new size of that blob if it is known.
    pub(super) fn publish(&mut self, name: u128, blocks: u32) {
        self.release(blocks);
        let known = self.table.find(name, |at| self.name(at));
        let (place, uses) = match known.map(|at| self.entry(at)) {
            None => (Place::Small, 0),
            Some(entry) if entry.place == Place::Ghost => (Place::Main, 0),
            Some(entry) => (entry.place, entry.uses),
        };
        self.remove_entry(name);
        self.insert(name, blocks, place, uses);
    }

    /// Whether there was such a blob.
    pub(super) fn remove(&mut self, name: u128) -> bool {
        let found = self.contains(name);
        if found {
            self.remove_entry(name);
        }
        found
    }

    /// Evicts until at most `mark` blocks are taken, but at most `count` blobs, and adds their
    /// names to `victims`.
    pub(super) fn evict(&mut self, mark: u64, count: usize, victims: &mut Vec<u128>) {
        let enough = victims.len().saturating_add(count);
        while self.taken() > mark && victims.len() < enough {
            let Some(name) = self.evict_one() else { break };
            victims.push(name);
        }
    }

    /// Blocks of blobs and of reservations.
    pub(super) fn taken(&self) -> u64 {
        self.small.blocks + self.main.blocks + self.reserved
    }

    pub(super) fn usage(&self) -> Usage {
        Usage {
            blobs: self.small.count + self.main.count,
            blocks: self.small.blocks + self.main.blocks,
            reserved: self.reserved,
            evicted: self.evicted,
            evicted_blocks: self.evicted_blocks,
        }
    }

    /// In bytes.
    pub(super) fn memory(&self) -> usize {
        self.chunks.len() * CHUNK * size_of::<Entry>() + self.table.memory()
    }

    /// Each turn evicts, or takes a use or a blob of the small queue away: O(1) amortised.
    fn evict_one(&mut self) -> Option<u128> {
        loop {
            let from_small = self.small.blocks > self.size / 10 || self.main.count == 0;
            let queue = if from_small { &self.small } else { &self.main };
            let at = queue.oldest;
            if at == NONE {
                return None;
            }
            let entry = *self.entry(at);
            if from_small && entry.uses >= USES_TO_STAY {
                self.move_to(at, Place::Main, 0);
            } else if !from_small && entry.uses > 0 {
                self.move_to(at, Place::Main, entry.uses - 1);
            } else {
                self.evicted += 1;
                self.evicted_blocks += u64::from(entry.blocks);
                if from_small {
                    self.move_to(at, Place::Ghost, 0);
                } else {
                    self.remove_entry(entry.name);
                }
                self.trim_ghosts();
                return Some(entry.name);
            }
        }
    }

    fn move_to(&mut self, at: u32, place: Place, uses: u8) {
        self.unlink(at);
        self.push(at, place, uses);
    }

    /// As many ghosts as blobs, as in the paper.
    fn trim_ghosts(&mut self) {
        while self.ghost.count > self.small.count + self.main.count {
            let name = self.name(self.ghost.oldest);
            self.remove_entry(name);
        }
    }

    fn find_blob(&self, name: u128) -> Option<u32> {
        let at = self.table.find(name, |at| self.name(at))?;
        (self.entry(at).place != Place::Ghost).then_some(at)
    }

    fn insert(&mut self, name: u128, blocks: u32, place: Place, uses: u8) {
        let at = self.allocate();
        let entry = self.entry_mut(at);
        entry.name = name;
        entry.blocks = blocks;
        entry.verified = false;
        self.push(at, place, uses);
        let Self { table, chunks, .. } = self;
        table.insert(name, at, |at| entry_of(chunks, at).name);
    }

    /// Removes a blob or a ghost.
    fn remove_entry(&mut self, name: u128) {
        let Self { table, chunks, .. } = self;
        if let Some(at) = table.remove(name, |at| entry_of(chunks, at).name) {
            self.unlink(at);
            let next = self.free;
            let entry = self.entry_mut(at);
            entry.place = Place::Free;
            entry.older = next;
            self.free = at;
        }
    }

    fn allocate(&mut self) -> u32 {
        if self.free == NONE {
            let first = self.chunks.len() * CHUNK;
            let entry = |offset: usize| Entry {
                name: 0,
                blocks: 0,
                newer: NONE,
                older: if offset + 1 == CHUNK {
                    NONE
                } else {
                    (first + offset + 1) as u32
                },
                place: Place::Free,
                uses: 0,
                verified: false,
            };
            self.chunks.push((0..CHUNK).map(entry).collect());
            self.free = first as u32;
        }
        let at = self.free;
        self.free = self.entry(at).older;
        at
    }

    /// Makes it the newest of a queue.
    fn push(&mut self, at: u32, place: Place, uses: u8) {
        let newest = self.queue(place).newest;
        let entry = self.entry_mut(at);
        entry.place = place;
        entry.uses = uses;
        entry.newer = NONE;
        entry.older = newest;
        let blocks = u64::from(entry.blocks);
        if newest != NONE {
            self.entry_mut(newest).newer = at;
        }
        let queue = self.queue(place);
        queue.newest = at;
        if queue.oldest == NONE {
            queue.oldest = at;
        }
        queue.count += 1;
        queue.blocks += blocks;
    }

    /// Takes it out of its queue.
    fn unlink(&mut self, at: u32) {
        let entry = *self.entry(at);
        if entry.newer != NONE {
            self.entry_mut(entry.newer).older = entry.older;
        }
        if entry.older != NONE {
            self.entry_mut(entry.older).newer = entry.newer;
        }
        let queue = self.queue(entry.place);
        if queue.newest == at {
            queue.newest = entry.older;
        }
        if queue.oldest == at {
            queue.oldest = entry.newer;
        }
        queue.count -= 1;
        queue.blocks -= u64::from(entry.blocks);
    }

    fn queue(&mut self, place: Place) -> &mut Queue {
        match place {
            Place::Small => &mut self.small,
            Place::Main => &mut self.main,
            Place::Ghost | Place::Free => &mut self.ghost,
        }
    }

    fn name(&self, at: u32) -> u128 {
        self.entry(at).name
    }

    fn entry(&self, at: u32) -> &Entry {
        entry_of(&self.chunks, at)
    }

    fn entry_mut(&mut self, at: u32) -> &mut Entry {
        let at = at as usize;
        &mut self.chunks[at / CHUNK][at % CHUNK]
    }
}

fn entry_of(chunks: &[Box<[Entry]>], at: u32) -> &Entry {
    let at = at as usize;
    &chunks[at / CHUNK][at % CHUNK]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(index: &mut Index, name: u128, blocks: u32) -> Vec<u128> {
        let mut victims = Vec::new();
        assert!(index.reserve(blocks, &mut victims));
        index.publish(name, blocks);
        victims
    }

    #[test]
    fn blobs_that_are_used_once_do_not_push_out_popular_ones() {
        let mut index = Index::new(100);
        for name in 0..50 {
            store(&mut index, name, 1);
            index.count_use(name);
            index.count_use(name);
        }
        for name in 1000..3000 {
            store(&mut index, name, 1);
            index.count_use(name);
            assert!(index.taken() <= 100);
        }
        let kept = (0..50).filter(|name| index.contains(*name)).count();
        assert_eq!(kept, 50);
    }

    #[test]
    fn a_blob_that_comes_back_stays() {
        let mut index = Index::new(10);
        let mut victims = Vec::new();
        for name in 0..11 {
            victims.extend(store(&mut index, name, 1));
        }
        assert_eq!(victims, [0]);
        store(&mut index, 0, 1);
        for name in 100..105 {
            store(&mut index, name, 1);
        }
        assert!(index.contains(0));
        assert_eq!(index.main.count, 1);
    }

    #[test]
    fn reservations_count_and_are_not_evicted() {
        let mut index = Index::new(10);
        let mut victims = Vec::new();
        assert!(index.reserve(6, &mut victims));
        assert!(!index.reserve(5, &mut victims));
        assert!(index.reserve(4, &mut victims));
        index.evict(0, usize::MAX, &mut victims);
        assert!(victims.is_empty());
        index.publish(1, 6);
        index.release(4);
        assert_eq!(index.usage().reserved, 0);
        assert_eq!(index.usage().blocks, 6);
        assert!(index.reserve(5, &mut victims));
        assert_eq!(victims, [1]);
    }

    #[test]
    fn eviction_stops_at_its_mark_and_count() {
        // Mark and count; how many go of ten.
        for (mark, count, expected) in [(10, 99, 0), (7, 99, 3), (7, 2, 2), (0, 99, 10)] {
            let mut index = Index::new(10);
            for name in 0..10 {
                store(&mut index, name, 1);
            }
            let mut victims = Vec::new();
            index.evict(mark, count, &mut victims);
            assert_eq!(victims.len(), expected, "{mark} {count}");
            assert_eq!(index.usage().evicted, expected as u64);
        }
    }

    #[test]
    fn a_blob_published_twice_counts_once() {
        let mut index = Index::new(10);
        store(&mut index, 1, 2);
        store(&mut index, 1, 3);
        assert_eq!((index.usage().blobs, index.usage().blocks), (1, 3));
        index.insert_found(1, 5);
        assert_eq!((index.usage().blobs, index.usage().blocks), (1, 3));
        assert!(index.remove(1));
        assert!(!index.remove(1));
        assert_eq!(index.taken(), 0);
    }

    #[test]
    fn a_blob_takes_at_most_100_bytes() {
        // The table has just doubled.
        let count = (1 << 18) * 3 / 4 + 1;
        let mut index = Index::new(count);
        // As many ghosts as blobs.
        for name in 0..2 * u128::from(count) {
            store(&mut index, name, 1);
        }
        assert_eq!(index.usage().blobs as u64, count);
        assert!(index.ghost.count as u64 >= count - 1);
        let bytes = index.memory();
        assert!(bytes <= 100 * index.usage().blobs, "{bytes}");
    }
}
