//! Files that never change, and the ops on them.

use std::ffi::CString;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use fastrand::Rng;
use rustix::fs::{Advice, AtFlags, OFlags, ResolveFlags, StatxFlags};
use rustix::io::Errno;
use tempfile::TempDir;
use tidegate_uring::{Fd, Ring};

use crate::expected::{Source, content};
use crate::live::Check;

/// Their sizes: around those of pages, of buffers, of pipes.
const SIZES: [usize; 6] = [0, 1, 4095, 4097, 70_000, 300_000];

/// What a read has before the bytes that it appends.
const PREFIX: &[u8] = b"before";

pub(crate) struct File {
    name: CString,
    fd: Fd,
    source: Source,
    size: u64,
}

impl File {
    fn new(directory: &TempDir, index: usize, size: usize) -> Rc<Self> {
        let name = format!("file-{index}");
        let path = directory.path().join(&name);
        let source = index as Source;
        let mut file = std::fs::File::create_new(&path).unwrap();
        file.write_all(&content(source, 0, size)).unwrap();
        Rc::new(Self {
            name: CString::new(name).unwrap(),
            fd: Fd::from(OwnedFd::from(std::fs::File::open(path).unwrap())),
            source,
            size: size as u64,
        })
    }

    pub(crate) fn fd(&self) -> &Fd {
        &self.fd
    }

    pub(crate) fn source(&self) -> Source {
        self.source
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Checks what an op moved that wanted `len` bytes from `offset`.
    pub(crate) fn check_count(&self, moved: usize, offset: u64, len: usize) {
        let left = self.size.saturating_sub(offset).min(len as u64) as usize;
        assert!(moved <= left, "{moved} bytes where there are {left}");
        assert_eq!(moved == 0, left == 0, "the end of the file");
    }

    /// Reads up to `len` bytes from `offset`.
    pub(crate) fn read(
        self: &Rc<Self>,
        ring: &Ring,
        offset: u64,
        len: usize,
        by_worker: bool,
    ) -> Check {
        let mut buffer = Vec::with_capacity(PREFIX.len() + len);
        buffer.extend_from_slice(PREFIX);
        let op = if by_worker {
            ring.read_by_worker(&self.fd, buffer, offset)
        } else {
            ring.read(&self.fd, buffer, Some(offset))
        };
        let this = Rc::clone(self);
        Box::pin(async move {
            let (result, buffer) = op.await;
            let count = result.expect("a regular file");
            // A vector may have more room than it was asked for.
            this.check_count(count, offset, buffer.capacity() - PREFIX.len());
            let (before, read) = buffer.split_at(PREFIX.len());
            assert_eq!(before, PREFIX);
            assert!(read == content(this.source, offset, count), "wrong bytes");
        })
    }

    /// Advises the kernel, of a range or of all.
    pub(crate) fn advise(&self, ring: &Ring, offset: u64, len: u32, advice: Advice) -> Check {
        let op = ring.fadvise(&self.fd, offset, len, advice);
        Box::pin(async move { op.await.expect("an advice") })
    }

    /// Opens it by its name, asks for its size, reads it, and closes it.
    fn look_up(self: &Rc<Self>, ring: &Ring, directory: &Fd) -> Check {
        let (this, ring, directory) = (Rc::clone(self), ring.clone(), directory.clone());
        Box::pin(async move {
            let open = ring.openat2(
                &directory,
                this.name.clone(),
                OFlags::RDONLY,
                ResolveFlags::BENEATH,
            );
            let file = Fd::from(open.await.expect("it is there"));
            let mask = StatxFlags::BASIC_STATS;
            let stat = ring.statx(&file, CString::default(), AtFlags::EMPTY_PATH, mask);
            assert_eq!(stat.await.expect("an open file").stx_size, this.size);
            let len = this.size.min(5000) as usize;
            let (count, bytes) = ring.read(&file, Vec::with_capacity(len), Some(0)).await;
            let count = count.unwrap();
            this.check_count(count, 0, len);
            assert!(bytes == content(this.source, 0, count), "wrong bytes");
            let file = file.try_unwrap().expect("no op holds it any more");
            ring.close(file).await.expect("it was only read");
        })
    }
}

/// All files, in a directory with a link that leads out.
pub(crate) struct Files {
    directory: Fd,
    all: Vec<Rc<File>>,
    _temporary: TempDir,
}

impl Files {
    pub(crate) fn new() -> Self {
        let temporary = TempDir::new().unwrap();
        std::os::unix::fs::symlink("/etc", temporary.path().join("out")).unwrap();
        let files = SIZES.iter().enumerate();
        let files = files.map(|(index, size)| File::new(&temporary, index, *size));
        Self {
            all: files.collect(),
            directory: Fd::from(OwnedFd::from(
                std::fs::File::open(temporary.path()).unwrap(),
            )),
            _temporary: temporary,
        }
    }

    pub(crate) fn any(&self, rng: &mut Rng) -> &Rc<File> {
        &self.all[rng.usize(0..self.all.len())]
    }

    /// An op on a name.
    pub(crate) fn look_up(&self, ring: &Ring, rng: &mut Rng) -> Check {
        let file = self.any(rng);
        match rng.u32(0..5) {
            0 | 1 => file.look_up(ring, &self.directory),
            2 => self.stat(ring, file),
            3 => self.cannot_open(ring, c"absent", Errno::NOENT),
            _ => self.cannot_open(ring, c"out/passwd", Errno::XDEV),
        }
    }

    fn stat(&self, ring: &Ring, file: &Rc<File>) -> Check {
        let (name, size) = (file.name.clone(), file.size);
        let mask = StatxFlags::SIZE;
        let op = ring.statx(&self.directory, name, AtFlags::empty(), mask);
        Box::pin(async move { assert_eq!(op.await.expect("it is there").stx_size, size) })
    }

    fn cannot_open(&self, ring: &Ring, name: &std::ffi::CStr, expected: Errno) -> Check {
        let resolve = ResolveFlags::BENEATH;
        let op = ring.openat2(&self.directory, name.to_owned(), OFlags::RDONLY, resolve);
        Box::pin(async move {
            let error = op.await.expect_err("it cannot be opened");
            assert_eq!(Errno::from_io_error(&error), Some(expected));
        })
    }
}
