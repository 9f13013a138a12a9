//! The dynamic table (RFC 7541, section 2.3.2).

use std::collections::VecDeque;
use std::ops::Range;

use super::{FIELD_OVERHEAD, TABLE_BYTES_MAX};

/// Bytes of names and values for which memory is taken at first.
const CAPACITY_MIN: usize = 64;

/// Names and values, oldest first. An empty table holds no memory.
#[derive(Debug)]
pub(super) struct DynamicTable {
    /// Names and values of `entries`, one behind the other, and those of evicted ones before them.
    bytes: Vec<u8>,
    entries: VecDeque<Entry>,
    /// The size of all entries (RFC 7541, section 4.1).
    size: u16,
    size_max: u16,
}

/// Where an entry is: each of them less than [`TABLE_BYTES_MAX`].
#[derive(Clone, Copy, Debug)]
struct Entry {
    start: u16,
    name_len: u16,
    value_len: u16,
}

const _: () = assert!(TABLE_BYTES_MAX <= u16::MAX as usize);

impl Entry {
    const fn len(self) -> usize {
        self.name_len as usize + self.value_len as usize
    }

    const fn name(self) -> Range<usize> {
        let start = self.start as usize;
        start..start + self.name_len as usize
    }

    const fn value(self) -> Range<usize> {
        let start = self.name().end;
        start..start + self.value_len as usize
    }
}

impl DynamicTable {
    /// Bytes of memory that it takes.
    pub(super) fn memory(&self) -> usize {
        self.bytes.capacity() + self.entries.capacity() * size_of::<Entry>()
    }

    /// An empty table of at most `size_max` bytes, [`TABLE_BYTES_MAX`] at most.
    pub(super) const fn new(size_max: usize) -> Self {
        assert!(size_max <= TABLE_BYTES_MAX);
        Self {
            bytes: Vec::new(),
            entries: VecDeque::new(),
            size: 0,
            size_max: size_max as u16,
        }
    }

    /// The name and the value of the entry that was inserted `age` insertions before the newest.
    #[inline]
    pub(super) fn get(&self, age: usize) -> Option<(&[u8], &[u8])> {
        let position = self.entries.len().checked_sub(age + 1)?;
        let entry = self.entries[position];
        Some((&self.bytes[entry.name()], &self.bytes[entry.value()]))
    }

    /// How many insertions ago this field was inserted, with a name in the same case.
    #[inline]
    pub(super) fn age_of(&self, name: &[u8], value: &[u8]) -> Option<usize> {
        let mut entries = self.entries.iter().rev();
        entries.position(|entry| {
            usize::from(entry.value_len) == value.len()
                && usize::from(entry.name_len) == name.len()
                && self.bytes[entry.value()] == *value
                && self.bytes[entry.name()] == *name
        })
    }

    /// Inserts a field, and evicts old ones for it. One that is larger than the table empties it
    /// (RFC 7541, section 4.4).
    pub(super) fn insert(&mut self, name: &[u8], value: &[u8]) {
        let len = name.len() + value.len();
        let size = len + FIELD_OVERHEAD;
        let Some(others_max) = usize::from(self.size_max).checked_sub(size) else {
            self.evict_to(0);
            return;
        };
        self.evict_to(others_max);
        self.make_room(len);
        self.entries.push_back(Entry {
            start: self.bytes.len() as u16,
            name_len: name.len() as u16,
            value_len: value.len() as u16,
        });
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(value);
        self.size += size as u16;
    }

    /// The size of all entries (RFC 7541, section 4.1).
    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        usize::from(self.size)
    }

    /// Changes the size, [`TABLE_BYTES_MAX`] at most (RFC 7541, section 4.3).
    pub(super) fn set_size_max(&mut self, size_max: usize) {
        debug_assert!(size_max <= TABLE_BYTES_MAX);
        self.evict_to(size_max);
        self.size_max = size_max as u16;
    }

    fn evict_to(&mut self, size: usize) {
        while usize::from(self.size) > size {
            let Some(entry) = self.entries.pop_front() else {
                break;
            };
            self.size -= (entry.len() + FIELD_OVERHEAD) as u16;
        }
        if self.entries.is_empty() {
            self.bytes.clear();
        }
    }

    /// Makes room for `len` bytes: in place of evicted ones if they are half of all, or if there is
    /// as much memory as the table needs.
    fn make_room(&mut self, len: usize) {
        let size_max = usize::from(self.size_max);
        if self.bytes.len() + len <= self.bytes.capacity() {
            return;
        }
        let evicted = self.entries.front().map_or(0, |oldest| oldest.start);
        if usize::from(evicted) >= self.bytes.len() / 2 || self.bytes.len() + len > size_max {
            self.bytes.drain(..usize::from(evicted));
            for entry in &mut self.entries {
                entry.start -= evicted;
            }
        }
        let needed = self.bytes.len() + len;
        let doubled = (self.bytes.capacity() * 2).max(CAPACITY_MIN).min(size_max);
        if needed > self.bytes.capacity() {
            self.bytes
                .reserve_exact(doubled.max(needed) - self.bytes.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_newest_entry_is_the_first() {
        let mut table = DynamicTable::new(3 * 34);
        assert_eq!(table.get(0), None);
        for (name, value) in [(b"a", b"1"), (b"b", b"2"), (b"c", b"3"), (b"d", b"4")] {
            table.insert(name, value);
        }
        let entries = [0, 1, 2].map(|age| table.get(age).unwrap());
        let expected: [(&[u8], &[u8]); 3] = [(b"d", b"4"), (b"c", b"3"), (b"b", b"2")];
        assert_eq!(entries, expected);
        assert_eq!(table.get(3), None);
        assert_eq!(table.age_of(b"c", b"3"), Some(1));
        assert_eq!(table.age_of(b"c", b"4"), None);
        table.set_size_max(33);
        assert_eq!((table.size(), table.get(0)), (0, None));
    }

    #[test]
    fn memory_is_taken_for_what_is_inserted() {
        let mut table = DynamicTable::new(TABLE_BYTES_MAX);
        assert_eq!(table.bytes.capacity() + table.entries.capacity(), 0);
        table.insert(b"a", b"b");
        assert!(table.bytes.capacity() <= 64);
        for index in 0..10_000_usize {
            table.insert(b"name", &b"value".repeat(index % 100));
        }
        assert!(table.bytes.capacity() <= TABLE_BYTES_MAX);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(usize, usize),
        Resize(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => (0..40_usize, 0..200_usize).prop_map(|(name, value)| Step::Insert(name, value)),
            1 => (0..2100_usize, 0..2100_usize)
                .prop_map(|(name, value)| Step::Insert(name, value)),
            1 => (0..=TABLE_BYTES_MAX).prop_map(Step::Resize),
        ]
    }

    proptest! {
        /// The same as a list of owned fields.
        #[test]
        fn entries_are_evicted_in_order(steps in vec(step(), 0..80)) {
            let mut table = DynamicTable::new(TABLE_BYTES_MAX);
            let mut model: VecDeque<(Vec<u8>, Vec<u8>)> = VecDeque::new();
            let mut size_max = TABLE_BYTES_MAX;
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Insert(name, value) => {
                        let (name, value) = (vec![number as u8; name], vec![!number as u8; value]);
                        table.insert(&name, &value);
                        model.push_front((name, value));
                    }
                    Step::Resize(size) => {
                        table.set_size_max(size);
                        size_max = size;
                    }
                }
                let size = |model: &VecDeque<(Vec<u8>, Vec<u8>)>| -> usize {
                    model.iter().map(|(name, value)| name.len() + value.len() + 32).sum()
                };
                while size(&model) > size_max {
                    model.pop_back();
                }
                prop_assert_eq!(table.size(), size(&model));
                prop_assert_eq!(table.entries.len(), model.len());
                for (age, (name, value)) in model.iter().enumerate() {
                    prop_assert_eq!(table.get(age), Some((&name[..], &value[..])));
                }
            }
        }
    }
}
