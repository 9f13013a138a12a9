//! Which directory a root's path leads to: a release that is deployed by changing a symbolic link
//! shows as a whole, and a root that vanishes comes back by itself.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ffi::CString;
use std::io;
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

/// A root's path, and the directory it led to when it was last looked at.
pub(crate) struct RootPath {
    /// To the root as it was last seen.
    ops: RefCell<FileOps>,
    numbers: RootNumbers,
    at: Rc<[u8]>,
    path: Rc<Path>,
    /// What relative and absolute paths are resolved from.
    base: Fd,
    resolve: ResolveFlags,
    valid: Duration,
    stale: Duration,
    /// `None` while the root has vanished.
    current: RefCell<Option<Current>>,
    /// The number of `current`; 0: none.
    number: Cell<u32>,
    fresh_until: Cell<Instant>,
    looks: Rc<SingleFlight<(), ()>>,
}

struct Current {
    tree: RootDir,
    /// Device and inode. The open directory keeps its inode from being given to another.
    identity: (u32, u32, u64),
}

/// How a [`RootPath`] is opened.
pub(crate) struct RootPathConfig<'a> {
    /// As [`RootDir`] has it.
    pub(crate) at: &'a [u8],
    pub(crate) path: &'a Path,
    pub(crate) resolve: ResolveFlags,
    pub(crate) shared: &'a Shared,
}

impl RootPath {
    /// Opens the root, waiting for it. Called once for each core, while starting.
    pub(crate) fn open(ring: &Ring, config: &RootPathConfig<'_>) -> Result<Rc<Self>, RootError> {
        let refused = |source| RootError {
            path: config.path.to_owned(),
            source,
        };
        let path = path::absolute(config.path).map_err(refused)?;
        let base = open_now(Path::new("/"), OFlags::PATH).map_err(refused)?;
        let (root, seen) = open_root(&path).map_err(refused)?;
        let Shared {
            numbers,
            workers,
            watch,
            config: cache,
            ..
        } = config.shared;
        // Its own number, and that of no other root, names it for as long as it is served.
        let owner = Owner {
            device: device(&seen),
            user: numbers.get() + 1,
        };
        let release = Self {
            ops: RefCell::new(FileOps::new(ring, workers, owner)),
            numbers: Rc::clone(numbers),
            at: config.at.into(),
            path: path.into(),
            base,
            resolve: config.resolve,
            valid: cache.valid,
            stale: cache.stale,
            current: RefCell::new(None),
            number: Cell::new(0),
            fresh_until: Cell::new(Instant::now() + cache.valid),
            looks: SingleFlight::new(cache.times(), watch),
        };
        release.install(root, &seen);
        Ok(Rc::new(release))
    }

    /// The number of the root, if it is trusted at `now` to be the one; 0 if not. Free of syscalls.
    pub(crate) fn trusted(&self, now: Instant) -> u32 {
        if now < self.fresh_until.get() {
            self.number.get()
        } else {
            0
        }
    }

    /// Until when it is trusted to be the one.
    pub(crate) fn fresh_until(&self) -> Instant {
        self.fresh_until.get()
    }

    /// Has it looked at again from `now` on.
    pub(crate) fn distrust(&self, now: Instant) {
        // Never later: how long it may be stale counts from when its time was over.
        self.fresh_until.set(now.min(self.fresh_until.get()));
    }

    /// The root as it was last seen.
    pub(crate) fn current(&self) -> Result<RootDir, Error> {
        let current = self.current.borrow();
        let current = current.as_ref().ok_or(Error::NotFound)?;
        Ok(current.tree.clone())
    }

    /// The number of the root that was last seen; 0: none.
    pub(crate) fn number(&self) -> u32 {
        self.number.get()
    }

    /// The root, looked at again if its time is over; as it was before, while that does not come back.
    ///
    /// One request looks, and the others wait for it. Dropped: the next looks.
    pub(crate) async fn look(self: &Rc<Self>, now: Instant) -> Result<MaybeStale<RootDir>, Error> {
        if now < self.fresh_until.get() {
            return self.current().map(MaybeStale::Fresh);
        }
        let release = Rc::clone(self);
        let look = move || -> FlightFuture<()> {
            Box::pin(async move {
                release.look_again().await?;
                release.fresh_until.set(now + release.valid);
                Ok(())
            })
        };
        let known = self.number.get() != 0 && now < self.fresh_until.get() + self.stale;
        match self
            .looks
            .share_or((), now, known.then_some(()), look)
            .await?
        {
            MaybeStale::Fresh(()) => self.current().map(MaybeStale::Fresh),
            MaybeStale::Stale(()) => self.current().map(MaybeStale::Stale),
        }
    }

    async fn look_again(&self) -> Result<(), Error> {
        let ops = self.ops.borrow().clone();
        ops.admit()?;
        let outcome = match ops.stat(&self.base, self.name()).await {
            Ok(seen) if self.is_current(&seen) => return Ok(()),
            Ok(_) => self.open_anew(&ops).await,
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
            .is_some_and(|current| current.identity == identity(seen))
    }

    async fn open_anew(&self, ops: &FileOps) -> io::Result<()> {
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

    fn install(&self, root: Fd, seen: &Statx) {
        self.numbers.set(self.numbers.get() + 1);
        let ops = self.ops.borrow().on(device(seen));
        self.ops.replace(ops.clone());
        let tree = RootDir {
            ops,
            root,
            resolve: self.resolve,
            number: self.numbers.get(),
            at: Rc::clone(&self.at),
            path: Rc::clone(&self.path),
        };
        self.number.set(tree.number);
        let identity = identity(seen);
        *self.current.borrow_mut() = Some(Current { tree, identity });
    }

    /// Lets go of the directory, so that what it lies on can be unmounted.
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

/// The roots that have vanished, as seen by any core: it is told once.
fn missing() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    static MISSING: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    MISSING.lock().unwrap_or_else(PoisonError::into_inner)
}

fn identity(seen: &Statx) -> (u32, u32, u64) {
    (seen.stx_dev_major, seen.stx_dev_minor, seen.stx_ino)
}

/// A directory that can be served, and what it is: it can be read, and so can what is in it, which
/// are two permissions. Blocking.
pub(crate) fn open_root(path: &Path) -> io::Result<(Fd, Statx)> {
    let root = open_now(path, OFlags::RDONLY)?;
    let seen = statx(&root, c".", AtFlags::empty(), FIELDS)?;
    Ok((root, seen))
}

fn open_now(path: &Path, access: OFlags) -> io::Result<Fd> {
    let flags = access | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(Fd::from(open(path, flags, Mode::empty())?))
}
