//! The directory that a root's path leads to. A release that is deployed by switching a symbolic
//! link is served as a whole, and a root that vanished is served again once it is back.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{self, Path, PathBuf};
use std::rc::Rc;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Statx, open, statx};
use tidegate_uring::{Fd, Owner, Ring};

use crate::error::{Error, RootError};
use crate::file::ops::FileOps;
use crate::file::stat::FIELDS;
use crate::file::stat::device;
use crate::root_dir::RootDir;
use crate::shared::{RootNumbers, Shared};
use crate::single_flight::{FlightFuture, MaybeStale, SingleFlight};

/// A root's path, and the directory that it led to at the last check.
pub(crate) struct RootPath {
    /// Of `current`, or of the last one.
    ops: RefCell<FileOps>,
    numbers: RootNumbers,
    at: Rc<[u8]>,
    path: Rc<Path>,
    /// `/`, from which the path is resolved.
    base: Fd,
    resolve: ResolveFlags,
    valid: Duration,
    stale: Duration,
    /// `None` while the root has vanished.
    current: RefCell<Option<Current>>,
    /// The number of `current`; 0: none.
    number: Cell<u32>,
    fresh_until: Cell<Instant>,
    flight: Rc<SingleFlight<(), ()>>,
}

struct Current {
    root: RootDir,
    /// Unique: the open directory keeps its inode from being reused.
    device_inode: (u32, u32, u64),
}

/// How a [`RootPath`] is served.
pub(crate) struct RootPathConfig<'a> {
    /// As [`RootDir`] has it.
    pub(crate) at: &'a [u8],
    pub(crate) resolve: ResolveFlags,
    /// `/`, from which the path is resolved.
    pub(crate) base: &'a Fd,
    pub(crate) shared: &'a Shared,
}

/// An open root on its way to a core.
pub(crate) struct OpenedRoot {
    path: PathBuf,
    root: OwnedFd,
    seen: Statx,
}

impl OpenedRoot {
    /// Opens the root. Blocking.
    pub(crate) fn open(path: &Path) -> Result<Self, RootError> {
        let opened = path::absolute(path).and_then(|path| {
            let (root, seen) = open_root(&path)?;
            Ok(Self { path, root, seen })
        });
        opened.map_err(|source| RootError {
            path: path.to_owned(),
            source,
        })
    }

    /// The same directory for another core.
    pub(crate) fn try_clone(&self) -> Result<Self, RootError> {
        let root = self.root.try_clone().map_err(|source| RootError {
            path: self.path.clone(),
            source,
        })?;
        Ok(Self {
            path: self.path.clone(),
            root,
            seen: self.seen,
        })
    }
}

/// Opens `/`. Blocking.
pub(crate) fn open_base() -> Result<OwnedFd, RootError> {
    let path = Path::new("/");
    open_now(path, OFlags::PATH).map_err(|source| RootError {
        path: path.to_owned(),
        source,
    })
}

impl RootPath {
    /// Serves an open root.
    pub(crate) fn new(opened: OpenedRoot, ring: &Ring, config: &RootPathConfig<'_>) -> Rc<Self> {
        let Shared {
            numbers,
            workers,
            timer,
            config: cache,
            ..
        } = config.shared;
        // The first number of this root identifies it to the shares of workers.
        let owner = Owner {
            device: device(&opened.seen),
            user: numbers.get() + 1,
        };
        let root_path = Self {
            ops: RefCell::new(FileOps::new(ring, workers, owner)),
            numbers: Rc::clone(numbers),
            at: config.at.into(),
            path: opened.path.into(),
            base: config.base.clone(),
            resolve: config.resolve,
            valid: cache.valid,
            stale: cache.stale,
            current: RefCell::new(None),
            number: Cell::new(0),
            fresh_until: Cell::new(Instant::now() + cache.valid),
            flight: SingleFlight::new(cache.times(), timer),
        };
        root_path.install(Fd::from(opened.root), &opened.seen);
        Rc::new(root_path)
    }

    /// The number of the root, if it needs no check at `now`; else 0. Makes no syscall.
    pub(crate) fn fresh_number(&self, now: Instant) -> u32 {
        if now < self.fresh_until.get() {
            self.number.get()
        } else {
            0
        }
    }

    /// The time of the next check.
    pub(crate) fn fresh_until(&self) -> Instant {
        self.fresh_until.get()
    }

    /// Makes it due for a check from `now` on.
    pub(crate) fn expire(&self, now: Instant) {
        // Never later: `cache.stale` counts from here.
        self.fresh_until.set(now.min(self.fresh_until.get()));
    }

    /// The root as of the last check.
    pub(crate) fn current(&self) -> Result<RootDir, Error> {
        let current = self.current.borrow();
        let current = current.as_ref().ok_or(Error::NotFound)?;
        Ok(current.root.clone())
    }

    /// The number of the root as of the last check; 0: it had vanished.
    pub(crate) fn number(&self) -> u32 {
        self.number.get()
    }

    /// The root, checked first if that is due. While the check hangs, the root as of the last one.
    ///
    /// One request checks for all ([`SingleFlight`]).
    pub(crate) async fn look(self: &Rc<Self>, now: Instant) -> Result<MaybeStale<RootDir>, Error> {
        if now < self.fresh_until.get() {
            return self.current().map(MaybeStale::Fresh);
        }
        let root = Rc::clone(self);
        let check = move || -> FlightFuture<()> {
            Box::pin(async move {
                root.check().await?;
                root.fresh_until.set(now + root.valid);
                Ok(())
            })
        };
        let is_known = self.number.get() != 0 && now < self.fresh_until.get() + self.stale;
        match self
            .flight
            .run_or_stale((), now, is_known.then_some(()), check)
            .await?
        {
            MaybeStale::Fresh(()) => self.current().map(MaybeStale::Fresh),
            MaybeStale::Stale(()) => self.current().map(MaybeStale::Stale),
        }
    }

    async fn check(&self) -> Result<(), Error> {
        let ops = self.ops.borrow().clone();
        ops.admit()?;
        let outcome = match ops.stat(&self.base, self.name()).await {
            Ok(seen) if self.is_current(&seen) => return Ok(()),
            Ok(_) => self.reopen(&ops).await,
            Err(error) => Err(error),
        };
        match outcome.map_err(Error::from) {
            Err(Error::NotFound) => {
                self.vanish();
                Ok(())
            }
            other => other,
        }
    }

    fn is_current(&self, seen: &Statx) -> bool {
        let current = self.current.borrow();
        current
            .as_ref()
            .is_some_and(|current| current.device_inode == device_inode(seen))
    }

    async fn reopen(&self, ops: &FileOps) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let opened = ops.open(&self.base, self.name(), flags, ResolveFlags::empty());
        let root = opened.await?.into_fd();
        let seen = ops.stat(&root, CString::default()).await?;
        let path = self.path.display();
        if self.number.get() != 0 {
            tracing::debug!(%path, "the root is another directory now");
        } else if missing().remove(&*self.path) {
            tracing::info!(%path, "the root is back");
        }
        self.install(root, &seen);
        Ok(())
    }

    fn install(&self, fd: Fd, seen: &Statx) {
        self.numbers.set(self.numbers.get() + 1);
        let ops = self.ops.borrow().on_device(device(seen));
        self.ops.replace(ops.clone());
        let root = RootDir {
            ops,
            fd,
            resolve: self.resolve,
            number: self.numbers.get(),
            at: Rc::clone(&self.at),
            path: Rc::clone(&self.path),
        };
        self.number.set(root.number);
        let device_inode = device_inode(seen);
        *self.current.borrow_mut() = Some(Current { root, device_inode });
    }

    /// Closes the directory, so that its file system can be unmounted.
    fn vanish(&self) {
        if self.current.take().is_some() && missing().insert(self.path.to_path_buf()) {
            tracing::error!(path = %self.path.display(), "the root has vanished: answering 404");
        }
        self.number.set(0);
    }

    fn name(&self) -> CString {
        // A path that was opened has no NUL.
        CString::new(self.path.as_os_str().as_bytes()).unwrap_or_default()
    }
}

/// The vanished roots of all cores: each is logged once.
fn missing() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    static MISSING: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    MISSING.lock().unwrap_or_else(PoisonError::into_inner)
}

fn device_inode(seen: &Statx) -> (u32, u32, u64) {
    (seen.stx_dev_major, seen.stx_dev_minor, seen.stx_ino)
}

/// Opens a directory to serve, and checks that it can be both read and searched. Blocking.
pub(crate) fn open_root(path: &Path) -> io::Result<(OwnedFd, Statx)> {
    let root = open_now(path, OFlags::RDONLY)?;
    let seen = statx(&root, c".", AtFlags::empty(), FIELDS)?;
    Ok((root, seen))
}

fn open_now(path: &Path, access: OFlags) -> io::Result<OwnedFd> {
    let flags = access | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(open(path, flags, Mode::empty())?)
}
