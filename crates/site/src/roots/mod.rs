//! The directories of a site: its root and its mounts. Each is checked, vanishes and stalls
//! independently.

pub(crate) mod root_path;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

use tidegate_config::Site;
use tidegate_uring::{Fd, Ring};

use crate::error::{Error, RootError};
use crate::root_dir::{RootDir, resolve_flags};
use crate::roots::root_path::{OpenedRoot, RootPath, RootPathConfig};
use crate::shared::Shared;
use crate::single_flight::MaybeStale;

/// The directories of one site, as one core serves them.
pub(crate) struct Roots {
    /// The longest mount path first.
    all: Vec<Root>,
    /// The number for paths that lie in no root.
    nowhere: u32,
    shared: Rc<Shared>,
}

/// One directory of a site.
pub(crate) struct Root {
    /// The path that it is mounted at, without a slash at its end; empty for the root.
    at: Box<[u8]>,
    path: Rc<RootPath>,
    /// The number of the root that cached entries belong to; 0: there are none.
    cached: Cell<u32>,
}

/// The open directories of a site on their way to a core, in the order of
/// [`Site::directories`].
pub(crate) struct OpenedRoots(Vec<OpenedRoot>);

impl OpenedRoots {
    /// Opens the directories. Blocking.
    pub(crate) fn open(site: &Site) -> Result<Self, RootError> {
        let opened = site.directories().map(|(_, path)| OpenedRoot::open(path));
        opened.collect::<Result<_, _>>().map(Self)
    }

    /// The same directories for another core.
    pub(crate) fn try_clone(&self) -> Result<Self, RootError> {
        let cloned = self.0.iter().map(OpenedRoot::try_clone);
        cloned.collect::<Result<_, _>>().map(Self)
    }
}

impl Roots {
    /// Serves the open directories of `site`. `base` is `/`.
    pub(crate) fn new(
        opened: OpenedRoots,
        site: &Site,
        shared: &Rc<Shared>,
        ring: &Ring,
        base: &Fd,
    ) -> Self {
        let serve = |((at, _), opened): ((&str, _), _)| {
            let config = RootPathConfig {
                at: at.as_bytes(),
                resolve: resolve_flags(site.symlinks),
                base,
                shared,
            };
            Root::new(opened, ring, &config)
        };
        let mut all: Vec<_> = site.directories().zip(opened.0).map(serve).collect();
        all.sort_by_key(|root| std::cmp::Reverse(root.at.len()));
        shared.numbers.set(shared.numbers.get() + 1);
        Self {
            all,
            nowhere: shared.numbers.get(),
            shared: Rc::clone(shared),
        }
    }

    /// Makes all roots due for a check from `now` on.
    pub(crate) fn expire(&self, now: Instant) {
        for root in &self.all {
            root.path.expire(now);
        }
    }

    /// The numbers in the cache keys of its paths.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = u32> + '_ {
        let roots = self.all.iter().map(|root| root.cached.get());
        roots.chain([self.nowhere])
    }

    /// The root that `path` lies in.
    pub(crate) fn of(&self, path: &[u8]) -> Option<&Root> {
        self.all.iter().find(|root| root.has(path))
    }

    /// The number of the root that `path` lies in; 0 if that is due for a check at `now`. Makes no
    /// syscall.
    pub(crate) fn fresh_number(&self, path: &[u8], now: Instant) -> u32 {
        self.of(path)
            .map_or(self.nowhere, |root| root.path.fresh_number(now))
    }

    /// The number in the cache keys of paths that lie in `root`. `None`: in no root, or in one that
    /// has vanished.
    pub(crate) fn number(&self, root: Option<&RootDir>) -> u32 {
        root.map_or(self.nowhere, |root| root.number)
    }

    /// Whether two paths lie in the same root.
    pub(crate) fn is_same(&self, path: &[u8], other: &[u8]) -> bool {
        match (self.of(path), self.of(other)) {
            (Some(root), Some(other)) => std::ptr::eq(root, other),
            (None, None) => true,
            _ => false,
        }
    }

    /// The part of `path` below its root, with a leading slash; empty for the root itself.
    pub(crate) fn below<'p>(&self, path: &'p [u8]) -> &'p [u8] {
        self.of(path).map_or(path, |root| &path[root.at.len()..])
    }

    /// Whether a root with this number is still current, and not replaced.
    pub(crate) fn is_current(&self, number: u32) -> bool {
        let mut numbers = self.all.iter().map(|root| root.path.number());
        number == self.nowhere || numbers.any(|current| current == number)
    }

    /// The root that `path` lies in, checked first if that is due. If it was replaced,
    /// its cache entries are dropped at once.
    pub(crate) async fn look(
        &self,
        path: &[u8],
        now: Instant,
    ) -> Result<MaybeStale<RootDir>, Error> {
        let root = self.of(path).ok_or(Error::NotFound)?;
        root.look(now, &self.shared).await
    }

    /// Checks all roots, due or not, and closes those that were replaced. The next request
    /// reports errors.
    pub(crate) async fn revalidate_all(&self, now: Instant) {
        for root in &self.all {
            root.path.expire(now);
            let _ = root.look(now, &self.shared).await;
        }
    }
}

impl Root {
    fn new(opened: OpenedRoot, ring: &Ring, config: &RootPathConfig<'_>) -> Self {
        let path = RootPath::new(opened, ring, config);
        Self {
            at: config.at.into(),
            cached: Cell::new(path.number()),
            path,
        }
    }

    /// Whether `path` lies in it: it equals the mount path, or continues it with a slash.
    fn has(&self, path: &[u8]) -> bool {
        let rest = path.strip_prefix(&*self.at);
        rest.is_some_and(|rest| matches!(rest, [] | [b'/', ..]))
    }

    /// The directory as last seen.
    pub(crate) fn current(&self) -> Result<RootDir, Error> {
        self.path.current()
    }

    /// The number of the directory last seen; 0: none.
    pub(crate) fn number(&self) -> u32 {
        self.path.number()
    }

    /// The time of the next check.
    pub(crate) fn fresh_until(&self) -> Instant {
        self.path.fresh_until()
    }

    async fn look(&self, now: Instant, shared: &Shared) -> Result<MaybeStale<RootDir>, Error> {
        let mut looked = self.path.look(now).await;
        if let Err(Error::Busy(_)) = looked {
            shared.cache.borrow_mut().close_files();
            looked = self.path.look(now).await;
        }
        let number = self.path.number();
        let before = self.cached.replace(number);
        if before != 0 && before != number {
            shared.cache.borrow_mut().forget(|root| root == before);
            shared.directory_reader.forget(|root| root == before);
        }
        looked
    }
}
