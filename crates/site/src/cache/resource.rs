//! A file with its variants, and whether it still is what its path leads to.

use std::cell::Cell;
use std::ffi::CString;
use std::rc::Rc;

use futures_util::future::join_all;
use tidegate_http::{Accepted, Choice};

use crate::decompress::Compressed;
use crate::file::content_hash;
use crate::file::stat::Fingerprint;
use crate::file::{File, RC_BYTES, allocated};
use crate::root_dir::RootDir;

/// What a path leads to.
pub(crate) struct Resource {
    pub(crate) plain: Unencoded,
    /// The preferred first.
    pub(crate) variants: Vec<Rc<File>>,
    /// All that was seen on the way: while nothing of it changes, the path leads here.
    pub(crate) seen: Vec<Seen>,
    /// Whether a change after the look would show in what was seen.
    pub(crate) settled: bool,
    /// A content whose hash was not known yet.
    pub(crate) unhashed: Vec<Fingerprint>,
    /// Whether one of its files was found deleted.
    pub(crate) deleted: Cell<bool>,
}

/// What clients get that take no coding of a file.
pub(crate) enum Unencoded {
    /// The file, or what it is decompressed in memory.
    File(Rc<File>),
    /// What is decompressed while it is sent.
    Compressed(Rc<Compressed>),
    /// Nothing: it is there in codings alone.
    Nothing,
}

impl Unencoded {
    /// What can be sent at once.
    fn file(&self) -> Option<&Rc<File>> {
        match self {
            Self::File(file) => Some(file),
            Self::Compressed(_) | Self::Nothing => None,
        }
    }

    /// What says how it is sent.
    fn description(&self) -> Option<&File> {
        match self {
            Self::File(file) => Some(file),
            Self::Compressed(compressed) => Some(&compressed.description),
            Self::Nothing => None,
        }
    }
}

/// A name, and what was there; `None`: nothing.
pub(crate) struct Seen {
    pub(crate) name: CString,
    pub(crate) identity: Option<Fingerprint>,
}

impl Resource {
    /// What serves a client best that accepts `accepted`; `None`: [`Resource::plain`] says.
    pub(crate) fn choose(&self, accepted: Accepted) -> Option<&Rc<File>> {
        if self.variants.is_empty() {
            return self.plain.file();
        }
        let codings = self.variants.iter().filter_map(|file| file.coding);
        let coding = match (accepted.choose(codings.clone()), &self.plain) {
            (Choice::Coded(coding), _) => Some(coding),
            // Rather a coding than 406.
            (_, Unencoded::Nothing) => accepted.choose_coded(codings),
            // Not acceptable, and better than nothing (RFC 9110, section 12.5.3).
            (Choice::Identity | Choice::None, _) => None,
        };
        match coding {
            Some(coding) => self
                .variants
                .iter()
                .find(|file| file.coding == Some(coding)),
            None => self.plain.file(),
        }
    }

    /// Looks again: whether everything is as it was seen.
    pub(crate) async fn is_unchanged(&self, tree: &RootDir) -> bool {
        if !self.settled || !self.unhashed.iter().all(content_hash::is_waiting) {
            return false;
        }
        // All are queued before the first is waited for.
        let looks = self.seen.iter().map(|seen| tree.stat(&seen.name));
        for (look, seen) in join_all(looks).await.into_iter().zip(&self.seen) {
            let now = look.ok().map(|stat| Fingerprint::of(&stat));
            if now != seen.identity {
                return false;
            }
        }
        true
    }

    /// Looks whether one of its open files was deleted, and notes it. Waits for no disk.
    pub(crate) fn check_deleted(&self) -> bool {
        let deleted = self.files().any(File::is_deleted);
        self.deleted.set(deleted);
        deleted
    }

    /// Whether one of its open files was deleted when that was last looked at.
    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted.get()
    }

    /// Bytes of memory that it takes.
    pub(crate) fn memory(&self) -> u64 {
        let files: u64 = self.files().map(File::memory).sum();
        let names = self
            .seen
            .iter()
            .map(|seen| seen.name.as_bytes_with_nul().len());
        let names: u64 = names.map(allocated).sum();
        let variants = self.variants.len() * size_of::<Rc<File>>();
        files
            + names
            + allocated(size_of_val(&*self.seen))
            + allocated(variants)
            + allocated(size_of::<Self>() + RC_BYTES)
    }

    /// Descriptors that it keeps open.
    pub(crate) fn descriptors(&self) -> u64 {
        self.files().map(File::descriptors).sum()
    }

    fn files(&self) -> impl Iterator<Item = &File> {
        let variants = self.variants.iter().map(Rc::as_ref);
        variants.chain(self.plain.description())
    }
}
