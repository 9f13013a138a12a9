//! A file with its variants, and whether its path still leads to it.

use std::cell::Cell;
use std::ffi::CString;
use std::rc::Rc;
use std::sync::Arc;

use futures_util::future::join_all;
use rustix::fs::Statx;
use tidegate_http::{Accepted, Choice, Coding};
use tidegate_origin::{CacheState, Object};

use crate::decompress::Compressed;
use crate::file::content_hash;
use crate::file::stat::Fingerprint;
use crate::file::{Content, File, RC_BYTES, allocated};
use crate::root_dir::RootDir;

/// A file with its variants.
pub(crate) struct Resource {
    pub(crate) unencoded: Unencoded,
    /// The preferred first.
    pub(crate) variants: Vec<Rc<File>>,
    /// While none of these changes, the path leads to this resource.
    pub(crate) dependencies: Vec<Dependency>,
    /// Whether any change since the lookup shows in the fingerprints.
    pub(crate) is_settled: bool,
    /// Contents that had no hash yet.
    pub(crate) unhashed: Vec<Fingerprint>,
    /// Whether one of its open files was found deleted.
    pub(crate) deleted: Cell<bool>,
    /// Those of an origin that it was made of, itself and its variants; none for files.
    pub(crate) objects: Vec<Arc<Object>>,
}

/// The representation without a content coding.
pub(crate) enum Unencoded {
    /// The file, or a variant decompressed into memory.
    File(Rc<File>),
    /// A variant that is decompressed while it is sent.
    Compressed(Rc<Compressed>),
    /// None: only variants are sent.
    NotAvailable,
}

impl Unencoded {
    /// The file, if there is one.
    fn file(&self) -> Option<&Rc<File>> {
        match self {
            Self::File(file) => Some(file),
            Self::Compressed(_) | Self::NotAvailable => None,
        }
    }

    /// The metadata, if there is a representation.
    fn description(&self) -> Option<&File> {
        match self {
            Self::File(file) => Some(file),
            Self::Compressed(compressed) => Some(&compressed.description),
            Self::NotAvailable => None,
        }
    }
}

/// A name that was looked at, relative to the root.
pub(crate) struct Dependency {
    pub(crate) name: CString,
    /// `None`: nothing had this name.
    pub(crate) fingerprint: Option<Fingerprint>,
}

impl Dependency {
    pub(crate) fn new(name: &CString, stat: Option<&Statx>) -> Self {
        Self {
            name: name.clone(),
            fingerprint: stat.map(Fingerprint::of),
        }
    }
}

impl Resource {
    /// The best representation for a client that accepts `accepted`. `None`: [`Self::unencoded`] is
    /// no file.
    pub(crate) fn choose(&self, accepted: Accepted) -> Option<&Rc<File>> {
        if self.variants.is_empty() {
            return self.unencoded.file();
        }
        let codings = self.variants.iter().filter_map(|file| file.coding);
        let coding = match (accepted.choose(codings.clone()), &self.unencoded) {
            (Choice::Coded(coding), _) => Some(coding),
            // A coding that is not accepted is better than 406.
            (_, Unencoded::NotAvailable) => accepted.choose_coded(codings),
            // The same, with the identity coding (RFC 9110, section 12.5.3).
            (Choice::Identity | Choice::None, _) => None,
        };
        match coding {
            Some(coding) => self
                .variants
                .iter()
                .find(|file| file.coding == Some(coding)),
            None => self.unencoded.file(),
        }
    }

    /// Whether it was made of these objects, and is as good as it can be.
    pub(crate) fn is_of(&self, objects: &[Arc<Object>]) -> bool {
        let is_same = |(one, other)| Arc::ptr_eq(one, other);
        self.objects.len() == objects.len()
            && self.objects.iter().zip(objects).all(is_same)
            && !self.is_deleted()
            && !self.files().any(File::is_incomplete)
    }

    /// Has the next response tell which of its files are stale, by the state of each as in
    /// [`Self::files`].
    pub(crate) fn note_stale(&self, states: &[CacheState]) {
        for (file, state) in self.files().zip(states) {
            if let Some(origin) = &file.origin
                && *state == CacheState::Stale
            {
                origin.note_stale();
            }
        }
    }

    /// Whether it comes from an origin, which tells how long it may be used.
    pub(crate) fn is_of_origin(&self) -> bool {
        !self.objects.is_empty()
    }

    /// Whether no dependency has changed, by one statx for each.
    pub(crate) async fn is_unchanged(&self, root: &RootDir) -> bool {
        if !self.is_settled || !self.unhashed.iter().all(content_hash::is_queued) {
            return false;
        }
        // All are submitted before the first is awaited.
        let stats = self
            .dependencies
            .iter()
            .map(|dependency| root.stat(&dependency.name));
        let stats = join_all(stats).await.into_iter();
        for (stat, dependency) in stats.zip(&self.dependencies) {
            let now = stat.ok().map(|stat| Fingerprint::of(&stat));
            if now != dependency.fingerprint {
                return false;
            }
        }
        true
    }

    /// Checks whether one of its open files was deleted, and remembers it. Never blocks.
    pub(crate) fn check_deleted(&self) -> bool {
        let deleted = self.files().any(File::is_deleted);
        self.deleted.set(deleted);
        deleted
    }

    /// The result of the last [`Self::check_deleted`].
    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted.get()
    }

    /// The codings of its files that are to be in memory: those that are popular, and those that
    /// are there already. Empty if none of them is new.
    pub(crate) fn popular(&self) -> Vec<Option<Coding>> {
        if !self.files().any(|file| file.popularity.is_popular()) {
            return Vec::new();
        }
        let is_wanted = |file: &&File| {
            file.popularity.is_popular() || matches!(file.content, Content::Memory(_))
        };
        self.files()
            .filter(is_wanted)
            .map(|file| file.coding)
            .collect()
    }

    /// Bytes of memory.
    pub(crate) fn memory(&self) -> u64 {
        let files: u64 = self.files().map(File::memory).sum();
        let names = self
            .dependencies
            .iter()
            .map(|dependency| dependency.name.as_bytes_with_nul().len());
        let names: u64 = names.map(allocated).sum();
        let variants = self.variants.len() * size_of::<Rc<File>>();
        files
            + names
            + allocated(size_of_val(&*self.dependencies))
            + allocated(variants)
            + allocated(size_of::<Self>() + RC_BYTES)
    }

    /// Descriptors that it holds open.
    pub(crate) fn descriptors(&self) -> u64 {
        self.files().map(File::descriptors).sum()
    }

    /// Its files, variants first.
    fn files(&self) -> impl Iterator<Item = &File> {
        let variants = self.variants.iter().map(Rc::as_ref);
        variants.chain(self.unencoded.description())
    }
}
