//! The entries of a directory, and the memory that all of them may take.

use std::cell::Cell;
use std::ops::Deref;
use std::rc::Rc;

use crate::listing::order::{self, SortBy, SortOrder};
use crate::listing::variants;

/// Entries of a listing, at most; one that has more says so.
pub(crate) const ENTRIES_MAX: usize = 100_000;

/// Bytes of the entries of one core, cached or being sent.
pub(crate) const BYTES_MAX: usize = 32 * 1024 * 1024;

/// Bytes of a name, at most (`NAME_MAX`).
const NAME_BYTES_MAX: usize = 255;

/// Bytes of an [`Entries`] without its items and names.
const ENTRIES_BYTES: usize = 256;

/// Bytes of the indexes by size and by time, for each item.
const INDEX_BYTES: usize = 2 * size_of::<u32>();

// Any directory can be listed if it is the only one.
const _: () = assert!(
    ENTRIES_BYTES + ENTRIES_MAX * (size_of::<Item>() + INDEX_BYTES + NAME_BYTES_MAX) <= BYTES_MAX
);

/// An entry of a directory, without its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    /// Bytes.
    pub(crate) len: u64,
    /// Seconds since 1970.
    pub(crate) modified: i64,
    /// The offset of its name in `Entries::names`.
    name_start: u32,
    name_bytes: u8,
    pub(crate) is_directory: bool,
}

/// The entries of a directory.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    /// After [`Entries::finish`] directories, then files, each sorted by name.
    items: Vec<Item>,
    /// How many of them are directories.
    directories: usize,
    /// Indexes of the items in the order of their sizes.
    by_size: Vec<u32>,
    /// Indexes of the items in the order of their times.
    by_date: Vec<u32>,
    /// All names, concatenated.
    names: Vec<u8>,
    /// Whether the directory has more.
    pub(crate) truncated: bool,
}

impl Entries {
    /// Adds an entry. A name longer than `NAME_MAX` is left out.
    pub(crate) fn push(&mut self, name: &[u8], is_directory: bool, len: u64, modified: i64) {
        let start = u32::try_from(self.names.len());
        if let (Ok(name_start), Ok(name_bytes)) = (start, u8::try_from(name.len())) {
            self.names.extend_from_slice(name);
            self.items.push(Item {
                len,
                modified,
                name_start,
                name_bytes,
                is_directory,
            });
        }
    }

    /// Removes the variants of listed files, named with one of `extensions`, sorts the rest in
    /// every order, and frees spare capacity.
    pub(crate) fn finish(&mut self, extensions: &[&str]) {
        self.drop_variants(extensions);
        let names = &self.names;
        self.items.sort_unstable_by(|a, b| {
            let (name, other) = (name_of(names, a), name_of(names, b));
            order::compare((a.is_directory, name), (b.is_directory, other))
        });
        self.directories = self.items.partition_point(|item| item.is_directory);
        self.by_size = self.sorted_by(|item| item.len);
        self.by_date = self.sorted_by(|item| item.modified);
        self.items.shrink_to_fit();
        self.names.shrink_to_fit();
    }

    fn drop_variants(&mut self, extensions: &[&str]) {
        let names = &self.names;
        let files = self.items.iter().filter(|item| !item.is_directory);
        let variants = variants::among(files.map(|item| name_of(names, item)), extensions);
        self.items
            .retain(|item| item.is_directory || !variants.contains(name_of(names, item)));
    }

    /// The indexes of directories, then files, each sorted by `key`, then by name.
    fn sorted_by<K: Ord>(&self, key: impl Fn(&Item) -> K) -> Vec<u32> {
        // There are no more than ENTRIES_MAX.
        let mut indexes: Vec<u32> = (0..self.items.len() as u32).collect();
        indexes.sort_by_key(|index| {
            let item = &self.items[*index as usize];
            (!item.is_directory, key(item))
        });
        indexes
    }

    /// The item at `position` in `order`.
    pub(crate) fn at(&self, position: usize, order: SortOrder) -> &Item {
        let is_directory = position < self.directories;
        let (first, end) = if is_directory {
            (0, self.directories)
        } else {
            (self.directories, self.items.len())
        };
        let by = if is_directory && order.by == SortBy::Size {
            SortBy::Name
        } else {
            order.by
        };
        let position = if order.descending {
            first + (end - 1 - position)
        } else {
            position
        };
        let index = match by {
            SortBy::Name => position,
            SortBy::Size => self.by_size[position] as usize,
            SortBy::Date => self.by_date[position] as usize,
        };
        &self.items[index]
    }

    pub(crate) fn items(&self) -> &[Item] {
        &self.items
    }

    pub(crate) fn name(&self, item: &Item) -> &[u8] {
        name_of(&self.names, item)
    }

    /// Bytes of memory.
    pub(crate) fn memory(&self) -> usize {
        ENTRIES_BYTES + self.items.len() * (size_of::<Item>() + INDEX_BYTES) + self.names.len()
    }
}

fn name_of<'a>(names: &'a [u8], item: &Item) -> &'a [u8] {
    let start = item.name_start as usize;
    &names[start..start + usize::from(item.name_bytes)]
}

/// The memory budget of the entries of one core.
#[derive(Clone, Default)]
pub(crate) struct Budget(Rc<Cell<usize>>);

impl Budget {
    /// Bytes that are left.
    pub(crate) fn left(&self) -> usize {
        BYTES_MAX.saturating_sub(self.0.get())
    }

    /// Charges `entries` to the budget until the last reference is dropped.
    pub(crate) fn charge(&self, entries: Entries) -> Rc<ChargedEntries> {
        self.0.set(self.0.get() + entries.memory());
        Rc::new(ChargedEntries {
            entries,
            budget: self.clone(),
        })
    }
}

/// Entries that are charged to a budget.
pub(crate) struct ChargedEntries {
    entries: Entries,
    budget: Budget,
}

impl Deref for ChargedEntries {
    type Target = Entries;

    fn deref(&self) -> &Entries {
        &self.entries
    }
}

impl Drop for ChargedEntries {
    fn drop(&mut self) {
        let Budget(used) = &self.budget;
        used.set(used.get() - self.entries.memory());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_entry_keeps_its_name() {
        let mut entries = Entries::default();
        for (name, is_directory) in [("b10", false), ("b9", false), ("", false), ("z", true)] {
            entries.push(name.as_bytes(), is_directory, 0, 0);
        }
        entries.push(&[b'x'; NAME_BYTES_MAX + 1], false, 0, 0);
        entries.finish(&[]);
        let names = entries.items().iter().map(|item| entries.name(item));
        let expected: [&[u8]; 4] = [b"z", b"", b"b9", b"b10"];
        assert!(names.eq(expected));
    }

    #[test]
    fn each_order_has_directories_first() {
        let mut entries = Entries::default();
        for (name, is_directory, len, modified) in [
            ("b", false, 1, 30),
            ("a", false, 3, 20),
            ("c", false, 3, 10),
            ("y", true, 4096, 1),
            ("x", true, 9, 2),
        ] {
            entries.push(name.as_bytes(), is_directory, len, modified);
        }
        entries.finish(&[]);
        for (by, descending, expected) in [
            (SortBy::Name, false, "xyabc"),
            (SortBy::Name, true, "yxcba"),
            (SortBy::Size, false, "xybac"),
            (SortBy::Size, true, "yxcab"),
            (SortBy::Date, false, "yxcab"),
            (SortBy::Date, true, "xybac"),
        ] {
            let order = SortOrder { by, descending };
            let names = (0..5).map(|place| entries.name(entries.at(place, order)));
            let names: Vec<u8> = names.flatten().copied().collect();
            assert_eq!(names, expected.as_bytes(), "{order:?}");
        }
    }

    #[test]
    fn entries_count_until_the_last_has_let_go_of_them() {
        let budget = Budget::default();
        let mut entries = Entries::default();
        entries.push(b"name", false, 0, 0);
        let held = budget.charge(entries);
        let other = Rc::clone(&held);
        assert_eq!(
            budget.left(),
            BYTES_MAX - ENTRIES_BYTES - size_of::<Item>() - INDEX_BYTES - 4
        );
        drop(held);
        assert!(budget.left() < BYTES_MAX);
        drop(other);
        assert_eq!(budget.left(), BYTES_MAX);
    }
}
