//! A file system that another process answers for (FUSE), and that is told what to hold back, and what
//! to do wrong.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyOpen, Request, spawn_mount,
};

use super::eventually;

/// Bytes of a small file, and of a large one.
pub(crate) const SIZES: [u64; 2] = [100, 1 << 20];
/// Bytes of an old one.
const OLD_BYTES: u64 = 3 << 20;
/// How long after 1970 other files are made.
const YEARS: u64 = 20;
/// Nothing is remembered of files: the kernel asks for all of it again.
const FORGOTTEN: Duration = Duration::ZERO;
/// Requests that can be held back while others are answered.
const THREADS: usize = 4;

/// What the kernel asks of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Question {
    Lookup,
    Attributes,
    Open,
    Read,
    Flush,
    Directory,
}

/// What happens to a large file when it is read at some place or beyond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mishap {
    /// The read fails with EIO.
    Fails,
    /// It gets fewer bytes than it asked for, and none beyond that place.
    IsShort,
    /// The file ends there from now on.
    Shrinks,
    /// The file is twice as long from now on.
    Grows,
    /// The file is newer from now on.
    IsTouched,
}

/// A mounted file system of files `small-N`, `large-N` and `old-N` (of 1970), for each number, full of `x`,
/// and empty directories `dir-N`. It answers
/// everything when it is dropped, and is unmounted.
pub(crate) struct Remote {
    gate: Arc<Gate>,
    session: Option<BackgroundSession>,
}

#[derive(Default)]
struct Gate {
    state: Mutex<State>,
    opened: Condvar,
}

#[derive(Default)]
struct State {
    held: Option<Question>,
    /// What has waited.
    came: HashSet<Question>,
    /// With the file and the offset at which it happens.
    mishap: Option<(INodeNo, u64, Mishap)>,
    large: Large,
}

/// What the large files are like.
#[derive(Clone, Copy)]
struct Large {
    bytes: u64,
    years: u64,
}

impl Default for Large {
    fn default() -> Self {
        Self {
            bytes: SIZES[1],
            years: YEARS,
        }
    }
}

impl Remote {
    /// Mounts one on a directory; the reason where that is not possible here.
    pub(crate) fn mount(directory: &Path) -> Result<Self, String> {
        let gate = Arc::new(Gate::default());
        let mut config = Config::default();
        config.n_threads = Some(THREADS);
        let files = Files(Arc::clone(&gate));
        match spawn_mount(files, directory, &config) {
            Ok(session) => Ok(Self {
                gate,
                session: Some(session),
            }),
            Err(error) => Err(format!("no FUSE here: {error}")),
        }
    }

    /// Holds back what answers `question`, until [`Remote::answer`].
    pub(crate) fn hold(&self, question: Question) {
        let mut state = self.gate.lock();
        state.came.clear();
        state.held = Some(question);
    }

    /// Waits until the question that is held back was asked.
    #[track_caller]
    pub(crate) fn asked(&self, question: Question) {
        eventually(&format!("{question:?}"), || {
            self.gate.lock().came.contains(&question)
        });
    }

    /// Answers.
    pub(crate) fn answer(&self) {
        self.gate.open();
    }

    /// Gives the large files `bytes`, without a mishap.
    pub(crate) fn restore(&self, bytes: u64) {
        let mut state = self.gate.lock();
        state.large = Large {
            bytes,
            years: YEARS,
        };
        state.mishap = None;
    }

    /// The same, and has `mishap` happen at `offset` of one of them: what the kernel still reads ahead of
    /// others is no matter.
    #[track_caller]
    pub(crate) fn mishap(&self, bytes: u64, file: &str, offset: u64, mishap: Mishap) {
        let file = inode(OsStr::new(file)).expect("the name of a file");
        self.restore(bytes);
        self.gate.lock().mishap = Some((file, offset, mishap));
    }

    /// Aborts the connection of the kernel to this file system, as the death of its process would, and
    /// unmounts it.
    pub(crate) fn abort(&self, directory: &Path) {
        let mut umount = Command::new("umount");
        let status = umount.args(["--force", "--lazy"]).arg(directory).status();
        assert!(status.expect("umount").success());
        self.answer();
    }

    /// Answers when it is dropped, which lets a server end that waits for it.
    pub(crate) fn answer_at_last(&self) -> AnswerAtLast {
        AnswerAtLast(Arc::clone(&self.gate))
    }
}

pub(crate) struct AnswerAtLast(Arc<Gate>);

impl Drop for AnswerAtLast {
    fn drop(&mut self) {
        self.0.open();
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.answer();
        if let Some(session) = self.session.take() {
            // A server that was killed may still be closing its files.
            let _ = session.umount_and_join();
        }
    }
}

impl Gate {
    fn pass(&self, question: Question) {
        let mut state = self.lock();
        if state.held == Some(question) {
            state.came.insert(question);
        }
        while state.held == Some(question) {
            let waited = self.opened.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn large(&self) -> Large {
        self.lock().large
    }

    /// How many bytes a read gets; `None`: it fails.
    fn bytes_of(&self, ino: INodeNo, offset: u64, wanted: u64) -> Option<u64> {
        let mut state = self.lock();
        let due = (state.mishap).filter(|(file, from, _)| ino == *file && offset + wanted > *from);
        let mut end = attributes(ino, state.large).size;
        if let Some((_, from, mishap)) = due {
            match mishap {
                Mishap::Fails => return None,
                Mishap::IsShort => end = from,
                Mishap::Shrinks => {
                    state.large.bytes = from;
                    end = from;
                }
                Mishap::Grows => {
                    state.large.bytes = 2 * end;
                    state.mishap = None;
                }
                Mishap::IsTouched => state.large.years = YEARS + 1,
            }
        }
        Some(end.saturating_sub(offset).min(wanted))
    }

    fn open(&self) {
        self.lock().held = None;
        self.opened.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Files(Arc<Gate>);

/// What names begin with.
const KINDS: [&str; 4] = ["small", "large", "dir", "old"];

/// Which file a name is, if there is one of it.
fn inode(name: &OsStr) -> Option<INodeNo> {
    let (kind, number) = name.to_str()?.split_once('-')?;
    let kind = KINDS.iter().position(|known| *known == kind)?;
    let number: u64 = number.parse().ok()?;
    Some(INodeNo(4 * number + 16 + kind as u64))
}

/// Which of [`KINDS`] it is; `None` for the root.
fn kind(ino: INodeNo) -> Option<u64> {
    Some(ino.0 % 4).filter(|_| ino != INodeNo::ROOT)
}

fn attributes(ino: INodeNo, large: Large) -> FileAttr {
    let (size, years) = match kind(ino) {
        Some(0) => (SIZES[0], YEARS),
        Some(1) => (large.bytes, large.years),
        Some(3) => (OLD_BYTES, 0),
        _ => (0, YEARS),
    };
    let is_directory = size == 0;
    FileAttr {
        ino,
        size,
        blocks: size.div_ceil(512),
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH + Duration::from_hours(years * 365 * 24),
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: if is_directory {
            FileType::Directory
        } else {
            FileType::RegularFile
        },
        perm: 0o755,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

impl Filesystem for Files {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.0.pass(Question::Lookup);
        let Some(ino) = inode(name) else {
            return reply.error(Errno::ENOENT);
        };
        reply.entry(&FORGOTTEN, &attributes(ino, self.0.large()), Generation(0));
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        self.0.pass(Question::Attributes);
        reply.attr(&FORGOTTEN, &attributes(ino, self.0.large()));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        self.0.pass(Question::Open);
        reply.opened(FileHandle(0), FopenFlags::empty());
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.0.pass(Question::Read);
        match self.0.bytes_of(ino, offset, size.into()) {
            Some(bytes) => reply.data(&vec![b'x'; bytes as usize]),
            None => reply.error(Errno::EIO),
        }
    }

    fn readdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: u64, reply: ReplyDirectory) {
        self.0.pass(Question::Directory);
        reply.ok();
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        self.0.pass(Question::Flush);
        reply.ok();
    }
}
