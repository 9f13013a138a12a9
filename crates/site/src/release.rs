//! Which directory a root's path leads to: a release that is deployed by changing a symbolic link
//! shows as a whole, and a root that vanishes comes back by itself.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{self, Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Statx, open, statx};
use tidegate_uring::{Fd, Ring};

use crate::error::{Error, RootError};
use crate::looks::Looks;
use crate::root::{FIELDS, Tree, stat_open};

/// Numbers of roots: no two that one core opens have the same.
pub(crate) type Numbers = Cell<u32>;

/// A root's path, and the directory it led to when it was last looked at.
pub(crate) struct Release {
    ring: Ring,
    path: PathBuf,
    /// What relative and absolute paths are resolved from.
    base: Fd,
    resolve: ResolveFlags,
    valid: Duration,
    /// `None` while the root has vanished.
    current: RefCell<Option<Current>>,
    /// The number of `current`; 0: none.
    number: Cell<u32>,
    trusted_until: Cell<Instant>,
    looks: Looks<(), Result<(), Error>>,
}

struct Current {
    tree: Tree,
    /// Device and inode. The open directory keeps its inode from being given to another.
    identity: (u32, u32, u64),
}

/// How a [`Release`] is opened.
pub(crate) struct ReleaseConfig<'a> {
    pub(crate) path: &'a Path,
    pub(crate) resolve: ResolveFlags,
    pub(crate) valid: Duration,
    pub(crate) numbers: &'a Numbers,
}

impl Release {
    /// Opens the root, waiting for it. Called once for each core, while starting.
    pub(crate) fn open(ring: &Ring, config: &ReleaseConfig<'_>) -> Result<Self, RootError> {
        let refused = |source| RootError {
            path: config.path.to_owned(),
            source,
        };
        let path = path::absolute(config.path).map_err(refused)?;
        let base = open_now(Path::new("/"), OFlags::PATH).map_err(refused)?;
        let root = open_now(&path, OFlags::RDONLY).map_err(refused)?;
        let seen = statx(&root, c"", AtFlags::EMPTY_PATH, FIELDS)
            .map_err(|errno| refused(errno.into()))?;
        let release = Self {
            ring: ring.clone(),
            path,
            base,
            resolve: config.resolve,
            valid: config.valid,
            current: RefCell::new(None),
            number: Cell::new(0),
            trusted_until: Cell::new(Instant::now() + config.valid),
            looks: Looks::new(config.valid),
        };
        release.install(root, &seen, config.numbers);
        Ok(release)
    }

    /// The number of the root, if it is trusted at `now` to be the one; 0 if not. Free of syscalls.
    pub(crate) fn trusted(&self, now: Instant) -> u32 {
        if now < self.trusted_until.get() {
            self.number.get()
        } else {
            0
        }
    }

    /// Has it looked at again from `now` on.
    pub(crate) fn distrust(&self, now: Instant) {
        self.trusted_until.set(now);
    }

    /// The root as it was last seen.
    pub(crate) fn current(&self) -> Result<Tree, Error> {
        let current = self.current.borrow();
        let current = current.as_ref().ok_or(Error::NotFound)?;
        Ok(current.tree.clone())
    }

    /// The number of the root that was last seen; 0: none.
    pub(crate) fn number(&self) -> u32 {
        self.number.get()
    }

    /// The root, looked at again if its time is over.
    ///
    /// One request looks, and the others wait for it. Dropped: the next looks.
    pub(crate) async fn look(&self, now: Instant, numbers: &Numbers) -> Result<Tree, Error> {
        if now >= self.trusted_until.get() {
            let look = async || {
                self.look_again(numbers).await?;
                self.trusted_until.set(now + self.valid);
                Ok(())
            };
            self.looks.share((), now, look).await?;
        }
        self.current()
    }

    async fn look_again(&self, numbers: &Numbers) -> Result<(), Error> {
        let seen = self
            .ring
            .statx(&self.base, self.name(), AtFlags::empty(), FIELDS);
        let outcome = match seen.await {
            Ok(seen) if self.is_current(&seen) => return Ok(()),
            Ok(_) => self.open_anew(numbers).await,
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

    async fn open_anew(&self, numbers: &Numbers) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let opened = self
            .ring
            .openat2(&self.base, self.name(), flags, ResolveFlags::empty());
        let root = Fd::from(opened.await?);
        let seen = stat_open(&self.ring, &root).await?;
        let path = self.path.display();
        if self.number.get() != 0 {
            tracing::debug!(%path, "the root is another directory now");
        } else if missing().remove(&self.path) {
            tracing::info!(%path, "the root is back");
        }
        self.install(root, &seen, numbers);
        Ok(())
    }

    fn install(&self, root: Fd, seen: &Statx, numbers: &Numbers) {
        numbers.set(numbers.get() + 1);
        let tree = Tree {
            ring: self.ring.clone(),
            root,
            resolve: self.resolve,
            number: numbers.get(),
        };
        self.number.set(tree.number);
        let identity = identity(seen);
        *self.current.borrow_mut() = Some(Current { tree, identity });
    }

    /// Lets go of the directory, so that what it lies on can be unmounted.
    fn vanish(&self) {
        if self.current.take().is_some() && missing().insert(self.path.clone()) {
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

fn open_now(path: &Path, access: OFlags) -> io::Result<Fd> {
    let flags = access | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(Fd::from(open(path, flags, Mode::empty())?))
}
