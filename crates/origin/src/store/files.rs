//! The directory of a store: `00` to `ff` with the blobs, `tmp`, and `lock`.

use std::fs::DirBuilder;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use rustix::fs::{
    Advice, AtFlags, CWD, Dir, FallocateFlags, FlockOperation, Mode, OFlags, fadvise, fallocate,
    flock, fstat, linkat, mkdirat, openat, renameat, statat, unlinkat,
};
use rustix::io::{Errno, pread, pwrite};
use xxhash_rust::xxh3::Xxh3;

use super::error::StoreError;
use super::footer::{FOOTER_LEN, Footer};

const TMP: &str = "tmp";

/// How often a successor looks whether its predecessor has ended.
const LOCK_RETRY: Duration = Duration::from_secs(1);

/// Bytes that are read at once to verify a blob.
const CHUNK: usize = 128 * 1024;

/// The open and locked directory of a store. Paths are relative to it.
#[derive(Debug)]
pub(super) struct Files {
    path: PathBuf,
    root: OwnedFd,
    /// Locked until it is closed, whatever ends the process.
    _lock: Arc<OwnedFd>,
    /// Whether files can be made without a name (`O_TMPFILE`) and get one later.
    unnamed: bool,
    next: AtomicU64,
}

/// A file that is no blob yet.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) file: OwnedFd,
    /// Its path in `tmp`, if it has a name.
    tmp: Option<String>,
}

/// An entry of one of the 256 directories.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) inode: u64,
    pub(super) name: u128,
}

impl Files {
    /// Makes what is missing, locks it, and empties `tmp`. Files get a name at once unless
    /// `unnamed`, and unless the file system has files without one.
    ///
    /// `succeeds`: a predecessor may have the lock, which is then waited for beside. Both may write
    /// until then: a blob gets its name whole, and one that the other removed is a miss.
    pub(super) fn open(path: PathBuf, unnamed: bool, succeeds: bool) -> Result<Self, StoreError> {
        let failed = |operation, source| StoreError::Open {
            operation,
            path: path.clone(),
            source,
        };
        let root = make_root(&path).map_err(|error| failed("make", error))?;
        let lock = open_lock(&root).map_err(|error| failed("lock", error.into()))?;
        let lock = Arc::new(lock);
        make_directories(&root).map_err(|error| failed("make directories in", error.into()))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) if succeeds => {
                wait_for_lock(&lock).map_err(|error| failed("lock", error))?;
            }
            Err(Errno::WOULDBLOCK) => return Err(StoreError::Locked { path }),
            // What a predecessor writes there stays.
            Ok(()) => {
                empty_tmp(&root).map_err(|error| failed("empty tmp of", error.into()))?;
            }
            Err(error) => return Err(failed("lock", error.into())),
        }
        let mut files = Self {
            path,
            root,
            _lock: lock,
            unnamed: false,
            next: AtomicU64::new(0),
        };
        files.unnamed = unnamed && files.can_name_later();
        Ok(files)
    }

    /// That of the store.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A file for the blob `name`, with room for `len` bytes where the file system can say so.
    pub(super) fn draft(&self, name: u128, len: u64) -> rustix::io::Result<Draft> {
        let draft = match self.make_draft(name) {
            // Somebody removed what is in the directory of the store.
            Err(Errno::NOENT) => {
                make_directories(&self.root)?;
                self.make_draft(name)?
            }
            made => made?,
        };
        // The size stays what was written: a reader of the draft sees no zeros behind it.
        match fallocate(&draft.file, FallocateFlags::KEEP_SIZE, 0, len) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::INTR) => Ok(draft),
            Err(error) => {
                self.discard(&draft);
                Err(error)
            }
        }
    }

    /// Gives the draft the name of the blob, whole, in place of what had it.
    pub(super) fn publish(&self, name: u128, draft: &Draft) -> rustix::io::Result<()> {
        let path = blob_path(name);
        let Some(tmp) = &draft.tmp else {
            return match self.link(&draft.file, &path) {
                // Only a rename replaces, and it needs a name.
                Err(Errno::EXIST) => {
                    self.unlink(&path)?;
                    self.link(&draft.file, &path)
                }
                linked => linked,
            };
        };
        renameat(&self.root, tmp.as_str(), &self.root, path)
    }

    /// Ends a draft that was not published.
    pub(super) fn discard(&self, draft: &Draft) {
        if let Some(tmp) = &draft.tmp {
            // Left there, it is removed by the next start.
            let _ = self.unlink(tmp);
        }
    }

    pub(super) fn open_blob(&self, name: u128) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        openat(&self.root, blob_path(name), flags, Mode::empty())
    }

    /// Bytes of the file of a blob, with the footer.
    pub(super) fn size_of_blob(&self, name: u128) -> rustix::io::Result<u64> {
        let stat = statat(&self.root, blob_path(name), AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(stat.st_size as u64)
    }

    /// It is no error if there is none.
    pub(super) fn remove_blob(&self, name: u128) -> rustix::io::Result<()> {
        self.unlink(&blob_path(name))
    }

    /// The blobs of one of the 256 directories, in the order of their inodes, which is about that
    /// on disk. Files with other names are none of the store.
    pub(super) fn list(&self, directory: u8) -> rustix::io::Result<Vec<Found>> {
        let path = format!("{directory:02x}");
        let mut blobs = Vec::new();
        for entry in Dir::new(open_directory(&self.root, &path)?)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if let Some(name) = parse_name(directory, name) {
                let inode = entry.ino();
                blobs.push(Found { inode, name });
            }
        }
        blobs.sort_unstable_by_key(|found| found.inode);
        Ok(blobs)
    }

    fn make_draft(&self, name: u128) -> rustix::io::Result<Draft> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        if self.unnamed {
            // In the directory where it will be: file systems put it near the others.
            let file = openat(
                &self.root,
                directory_of(name),
                flags | OFlags::TMPFILE,
                mode,
            )?;
            return Ok(Draft { file, tmp: None });
        }
        let tmp = format!("{TMP}/{}", self.next.fetch_add(1, Ordering::Relaxed));
        let flags = flags | OFlags::CREATE | OFlags::EXCL;
        let file = openat(&self.root, &tmp, flags, mode)?;
        Ok(Draft {
            file,
            tmp: Some(tmp),
        })
    }

    /// Not all file systems have `O_TMPFILE`, and without `/proc` a file cannot be linked.
    fn can_name_later(&self) -> bool {
        let path = format!("{TMP}/probe");
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::TMPFILE;
        let linked = openat(&self.root, TMP, flags, Mode::RUSR | Mode::WUSR)
            .and_then(|file| self.link(&file, &path))
            .and_then(|()| self.unlink(&path));
        linked.is_ok()
    }

    fn link(&self, file: &OwnedFd, path: &str) -> rustix::io::Result<()> {
        // As in open(2): AT_EMPTY_PATH needs a capability.
        let from = format!("/proc/self/fd/{}", file.as_raw_fd());
        linkat(CWD, from, &self.root, path, AtFlags::SYMLINK_FOLLOW)
    }

    fn unlink(&self, path: &str) -> rustix::io::Result<()> {
        match unlinkat(&self.root, path, AtFlags::empty()) {
            Err(Errno::NOENT) => Ok(()),
            done => done,
        }
    }
}

/// The footer of a blob, if the file has one and the size that is in it.
pub(super) fn read_footer(file: &OwnedFd) -> io::Result<Option<Footer>> {
    let size = fstat(file)?.st_size as u64;
    let Some(len) = size.checked_sub(FOOTER_LEN) else {
        return Ok(None);
    };
    let mut bytes = [0; FOOTER_LEN as usize];
    if pread_full(file, &mut bytes, len)? < bytes.len() {
        return Ok(None);
    }
    Ok(Footer::decode(&bytes).filter(|footer| footer.len == len))
}

/// Reads the whole blob. Whether it has the checksum of its footer.
pub(super) fn verify(file: &OwnedFd, footer: &Footer) -> io::Result<bool> {
    // Only a hint.
    let _ = fadvise(file, 0, None, Advice::Sequential);
    let mut hash = Xxh3::new();
    let mut buffer = vec![0; CHUNK];
    let mut offset = 0;
    while offset < footer.len {
        let want = (footer.len - offset).min(CHUNK as u64) as usize;
        let count = pread_full(file, &mut buffer[..want], offset)?;
        if count < want {
            return Ok(false);
        }
        hash.update(&buffer[..count]);
        offset += count as u64;
    }
    let _ = fadvise(file, 0, None, Advice::Normal);
    Ok(hash.digest() == footer.checksum)
}

/// Writes all of `bytes`.
pub(super) fn pwrite_all(file: &OwnedFd, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match pwrite(file, bytes, offset) {
            Ok(0) => return Err(Errno::IO.into()),
            Ok(count) => {
                bytes = &bytes[count..];
                offset += count as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Reads until the end of the file or of the buffer.
fn pread_full(file: &OwnedFd, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match pread(file, &mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(filled)
}

fn directory_of(name: u128) -> String {
    format!("{:02x}", name >> 120)
}

fn blob_path(name: u128) -> String {
    let name = format!("{name:032x}");
    format!("{}/{}", &name[..2], &name[2..])
}

fn parse_name(directory: u8, name: &[u8]) -> Option<u128> {
    let text = str::from_utf8(name).ok()?;
    let low = u128::from_str_radix(text, 16).ok()?;
    // Only as it is written: no capitals, no sign.
    let name = u128::from(directory) << 120 | low;
    (low >> 120 == 0 && blob_path(name)[3..] == *text).then_some(name)
}

fn make_root(path: &Path) -> io::Result<OwnedFd> {
    DirBuilder::new().mode(0o700).recursive(true).create(path)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat(CWD, path, flags, Mode::empty())?)
}

fn open_lock(root: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    openat(root, "lock", flags, Mode::RUSR | Mode::WUSR)
}

/// Takes the lock as soon as the predecessor ends, unless the store is closed before.
fn wait_for_lock(lock: &Arc<OwnedFd>) -> io::Result<()> {
    let lock = Arc::downgrade(lock);
    let waits = move || {
        while let Some(lock) = lock.upgrade() {
            if flock(&*lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
                return;
            }
            drop(lock);
            thread::sleep(LOCK_RETRY);
        }
    };
    let thread = thread::Builder::new().name("tidegate-lock".to_owned());
    thread.spawn(waits).map(|_| ())
}

fn make_directories(root: &OwnedFd) -> rustix::io::Result<()> {
    for directory in 0..=u8::MAX {
        make_directory(root, &format!("{directory:02x}"))?;
    }
    make_directory(root, TMP)
}

fn make_directory(root: &OwnedFd, path: &str) -> rustix::io::Result<()> {
    match mkdirat(root, path, Mode::RWXU) {
        Err(Errno::EXIST) => Ok(()),
        made => made,
    }
}

/// Removes what a process left that was killed.
fn empty_tmp(root: &OwnedFd) -> rustix::io::Result<()> {
    let tmp = open_directory(root, TMP)?;
    for entry in Dir::read_from(&tmp)? {
        let entry = entry?;
        if entry.file_name() != c"." && entry.file_name() != c".." {
            unlinkat(&tmp, entry.file_name(), AtFlags::empty())?;
        }
    }
    Ok(())
}

fn open_directory(root: &OwnedFd, path: &str) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    openat(root, path, flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_32_digits_in_256_directories() {
        let name = 0x0a00_0000_0000_0000_0000_0000_0000_00ff;
        assert_eq!(directory_of(name), "0a");
        assert_eq!(blob_path(name), "0a/0000000000000000000000000000ff");
        let cases: [(&[u8], Option<u128>); 6] = [
            (b"0000000000000000000000000000ff", Some(name)),
            (b"000000000000000000000000000000", Some(10 << 120)),
            (b"00000000000000000000000000000000", None),
            (b"+00000000000000000000000000000", None),
            (b"0000000000000000000000000000FF", None),
            (b"ff", None),
        ];
        for (text, expected) in cases {
            let found = parse_name(10, text);
            assert_eq!(found, expected, "{}", text.escape_ascii());
        }
    }
}
