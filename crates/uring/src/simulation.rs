//! A kernel made up by a test, which decides when an op completes, and how.
//!
//! Sockets, pipes and files are real, and each op is a call that does not wait. But the call is made
//! when the test says so, or not at all. So every order of completions, cancellations and closes can be
//! driven, as often as one likes, and every op can fail, or move fewer bytes than it was asked to.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::{io, mem, ptr};

use io_uring::{opcode, squeue};

use crate::buffers::Buffers;
use crate::slot::{Completion, Key};

/// What a test decides.
pub trait Decide {
    /// The index of the op that completes next, of those that the kernel has in the order in which
    /// they came, and how it does. `None`: none for now. An op that is not ready can only fail.
    fn next(&mut self, ops: &[Op]) -> Option<(usize, Fate)>;

    /// Whether `op`, which is ready, took effect just before it is cancelled.
    fn is_late(&mut self, op: &Op) -> bool;
}

/// An op that the kernel has.
#[derive(Clone, Copy, Debug)]
pub struct Op {
    /// What it does.
    pub kind: Kind,
    /// How many ops came before, on this ring.
    pub number: u64,
    /// Whether it waits for nothing.
    pub is_ready: bool,
}

/// How an op completes.
#[derive(Clone, Copy, Debug)]
pub enum Fate {
    /// It is carried out.
    Done,
    /// It is carried out, for so many bytes at most.
    Short(u32),
    /// It fails with this number, and has no effect. A close closes all the same.
    Failed(i32),
}

/// What an op does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names are those of the methods of a ring")]
pub enum Kind {
    Accept,
    Advise,
    Close,
    Nop,
    Open,
    Pipe,
    Poll,
    Read,
    Recv,
    Send,
    Splice,
    Stat,
}

thread_local! {
    static NEXT: RefCell<Option<Box<dyn Decide>>> = const { RefCell::new(None) };
}

/// The next ring that this thread starts has a kernel of which `decide` decides.
pub fn install(decide: impl Decide + 'static) {
    NEXT.set(Some(Box::new(decide)));
}

/// The kernel of one ring.
pub(crate) struct Kernel {
    decide: Box<dyn Decide>,
    /// Where received bytes go, and how many buffers were taken.
    buffers: Rc<Buffers>,
    taken: u16,
    submitted: Vec<Entry>,
    pending: Vec<Pending>,
    completions: VecDeque<(u64, Completion)>,
    /// Ops that came.
    count: u64,
}

#[derive(Clone, Copy)]
struct Pending {
    entry: Entry,
    op: Op,
}

/// A submission entry: `struct io_uring_sqe`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Entry {
    opcode: u8,
    flags: u8,
    ioprio: u16,
    fd: i32,
    /// An offset, or an address.
    off: u64,
    /// An address, or the offset in the file from which a splice reads.
    addr: u64,
    len: u32,
    op_flags: u32,
    user_data: u64,
    buffer: u16,
    personality: u16,
    /// The file from which a splice reads, or the bytes that a multishot recv may receive.
    fd_in: i32,
    rest: [u64; 2],
}

const _: () = assert!(size_of::<Entry>() == size_of::<squeue::Entry>());

/// Flags of `ioprio` (`io_uring_enter(2)`).
const RECV_MULTISHOT: u16 = 2;
const ACCEPT_MULTISHOT: u16 = 1;

/// The flag of a cancellation of all ops on a descriptor.
const CANCEL_FD: u32 = 2;

impl Entry {
    fn of(entry: &squeue::Entry) -> Self {
        // SAFETY: both are the kernel's `struct io_uring_sqe` (`repr(C)`, 64 bytes), in which each
        // pattern of bits is a value.
        unsafe { mem::transmute_copy(entry) }
    }

    /// What it does; `None`: it cancels, or watches the doorbell.
    fn kind(&self) -> Option<Kind> {
        if self.user_data == Key::DOORBELL {
            return None;
        }
        Some(match self.opcode {
            opcode::Accept::CODE => Kind::Accept,
            opcode::Fadvise::CODE => Kind::Advise,
            opcode::Close::CODE => Kind::Close,
            opcode::Nop::CODE => Kind::Nop,
            opcode::OpenAt2::CODE => Kind::Open,
            opcode::Pipe::CODE => Kind::Pipe,
            opcode::PollAdd::CODE => Kind::Poll,
            opcode::Read::CODE => Kind::Read,
            opcode::Recv::CODE => Kind::Recv,
            opcode::Send::CODE => Kind::Send,
            opcode::Splice::CODE => Kind::Splice,
            opcode::Statx::CODE => Kind::Stat,
            opcode::AsyncCancel::CODE => return None,
            code => panic!("an op that the simulation lacks: {code}"),
        })
    }

    fn is_multishot_recv(&self) -> bool {
        self.opcode == opcode::Recv::CODE && self.ioprio & RECV_MULTISHOT != 0
    }

    /// Whether it would wait for nothing.
    fn is_ready(&self, kind: Kind) -> bool {
        match kind {
            // A file is always ready.
            Kind::Accept | Kind::Recv | Kind::Read => has_events(self.fd, libc::POLLIN),
            Kind::Send => has_events(self.fd, libc::POLLOUT),
            Kind::Splice => {
                let is_waiting = self.op_flags & libc::SPLICE_F_NONBLOCK == 0;
                let is_ready =
                    has_events(self.fd_in, libc::POLLIN) && has_events(self.fd, libc::POLLOUT);
                !is_waiting || is_ready
            }
            Kind::Poll => self.events() != 0,
            Kind::Advise | Kind::Close | Kind::Nop | Kind::Open | Kind::Pipe | Kind::Stat => true,
        }
    }

    /// The events of a poll that have occurred. The kernel adds those of a hang-up.
    fn events(&self) -> i16 {
        events(self.fd, self.op_flags as i16 | libc::POLLRDHUP)
    }

    /// Makes the call. The result is as that of an op: negative for an error.
    fn call(&self, kind: Kind) -> i32 {
        let (address, len) = (self.addr as *mut libc::c_void, self.len as usize);
        let flags = self.op_flags as i32;
        // SAFETY: the addresses in the entry are those of the op's resources, which live until its
        // completion is reaped, and the descriptors are open as long.
        let result = unsafe {
            match kind {
                Kind::Accept => {
                    let result = libc::accept4(self.fd, ptr::null_mut(), ptr::null_mut(), flags);
                    result as isize
                }
                Kind::Advise => {
                    let (offset, len) = (self.off as i64, i64::from(self.len));
                    return -libc::posix_fadvise(self.fd, offset, len, flags);
                }
                Kind::Close => libc::close(self.fd) as isize,
                Kind::Nop => 0,
                Kind::Open => {
                    let how = self.off as *const libc::c_void;
                    libc::syscall(libc::SYS_openat2, self.fd, address, how, len) as isize
                }
                Kind::Pipe => libc::pipe2(address.cast(), flags) as isize,
                Kind::Poll => isize::from(self.events()),
                Kind::Read if self.off == u64::MAX => libc::read(self.fd, address, len),
                Kind::Read => libc::pread(self.fd, address, len, self.off as i64),
                Kind::Recv => libc::recv(self.fd, address, len, flags | libc::MSG_DONTWAIT),
                Kind::Send => libc::send(self.fd, address, len, flags | libc::MSG_DONTWAIT),
                Kind::Splice => self.splice(),
                Kind::Stat => {
                    let (mask, answer) = (self.len, self.off as *mut libc::statx);
                    libc::statx(self.fd, address.cast(), flags, mask, answer) as isize
                }
            }
        };
        if result < 0 {
            -io::Error::last_os_error()
                .raw_os_error()
                .unwrap_or(libc::EIO)
        } else {
            result as i32
        }
    }

    fn splice(&self) -> isize {
        let offset = |offset: u64| (offset != u64::MAX).then_some(offset as i64);
        let (mut from, mut to) = (offset(self.addr), offset(self.off));
        let pointer =
            |offset: &mut Option<i64>| offset.as_mut().map_or(ptr::null_mut(), ptr::from_mut);
        let flags = self.op_flags | libc::SPLICE_F_NONBLOCK;
        let len = self.len as usize;
        // SAFETY: the offsets live during the call, and the descriptors are open.
        unsafe {
            libc::splice(
                self.fd_in,
                pointer(&mut from),
                self.fd,
                pointer(&mut to),
                len,
                flags,
            )
        }
    }

    /// Whether `EAGAIN` is an answer, not a reason to wait.
    fn takes_again(&self, kind: Kind) -> bool {
        match kind {
            Kind::Splice => self.op_flags & libc::SPLICE_F_NONBLOCK != 0,
            Kind::Send => self.op_flags as i32 & libc::MSG_DONTWAIT != 0,
            _ => false,
        }
    }
}

impl Kernel {
    /// The one that a test has installed for the next ring of this thread.
    pub(crate) fn of_this_thread(buffers: &Rc<Buffers>) -> Option<Self> {
        Some(Self {
            decide: NEXT.take()?,
            buffers: Rc::clone(buffers),
            taken: 0,
            submitted: Vec::new(),
            pending: Vec::new(),
            completions: VecDeque::new(),
            count: 0,
        })
    }

    pub(crate) fn push(&mut self, entry: &squeue::Entry) {
        self.submitted.push(Entry::of(entry));
    }

    /// Whether nothing was pushed since the last run.
    pub(crate) fn is_idle(&self) -> bool {
        self.submitted.is_empty()
    }

    /// Whether something may complete, so that the driver does not sleep.
    pub(crate) fn has_completions(&self) -> bool {
        let mut kinds = self.pending.iter().map(|pending| pending.entry.kind());
        !self.completions.is_empty() || kinds.any(|kind| kind.is_some())
    }

    /// Takes what was pushed, and completes ops as is decided.
    pub(crate) fn run(&mut self) {
        for entry in mem::take(&mut self.submitted) {
            if entry.opcode == opcode::AsyncCancel::CODE {
                self.cancel(&entry);
            } else {
                self.take(entry);
            }
        }
        self.watch_doorbell();
        loop {
            let ops = self.look();
            let Some((index, fate)) = self.decide.next(&ops) else {
                return;
            };
            let number = ops[index].number;
            let index = self
                .pending
                .iter()
                .position(|pending| pending.op.number == number);
            self.complete(index.expect("an op that the kernel has"), fate);
        }
    }

    /// Calls `each` with each completion, which leaves the queue.
    pub(crate) fn reap(&mut self, mut each: impl FnMut(u64, Completion)) -> usize {
        let completions = mem::take(&mut self.completions);
        let count = completions.len();
        for (data, completion) in completions {
            each(data, completion);
        }
        count
    }

    fn take(&mut self, entry: Entry) {
        let kind = entry.kind();
        let op = Op {
            kind: kind.unwrap_or(Kind::Poll),
            // The doorbell is no op.
            number: kind.map_or(u64::MAX, |_| self.count),
            is_ready: false,
        };
        self.count += u64::from(kind.is_some());
        self.pending.push(Pending { entry, op });
    }

    /// The ops, but for the poll of the doorbell.
    fn look(&mut self) -> Vec<Op> {
        let ops = self.pending.iter_mut();
        let ops = ops.filter(|pending| pending.entry.kind().is_some());
        ops.map(|pending| {
            pending.op.is_ready = pending.entry.is_ready(pending.op.kind);
            pending.op
        })
        .collect()
    }

    /// The multishot poll of the doorbell completes when it is rung.
    fn watch_doorbell(&mut self) {
        for pending in &self.pending {
            let entry = &pending.entry;
            if entry.kind().is_none() && has_events(entry.fd, libc::POLLIN) {
                let completion = Completion {
                    result: libc::POLLIN.into(),
                    more: true,
                    buffer: None,
                };
                self.completions.push_back((entry.user_data, completion));
            }
        }
    }

    fn complete(&mut self, index: usize, fate: Fate) {
        let Pending { mut entry, op } = self.pending[index];
        let result = match fate {
            Fate::Failed(errno) => {
                if op.kind == Kind::Close {
                    entry.call(op.kind);
                }
                -errno
            }
            _ if entry.is_multishot_recv() => return self.receive(index, fate),
            Fate::Short(len) => {
                if matches!(op.kind, Kind::Read | Kind::Send | Kind::Splice) {
                    entry.len = entry.len.min(len);
                }
                entry.call(op.kind)
            }
            Fate::Done => entry.call(op.kind),
        };
        if result == -libc::EAGAIN
            && !matches!(fate, Fate::Failed(_))
            && !entry.takes_again(op.kind)
        {
            return;
        }
        let is_accept = op.kind == Kind::Accept && entry.ioprio & ACCEPT_MULTISHOT != 0;
        self.end(index, result, is_accept && result >= 0, None);
    }

    /// A multishot recv receives what fits the next buffer.
    fn receive(&mut self, index: usize, fate: Fate) {
        let Pending { mut entry, op } = self.pending[index];
        let Some((id, address, len)) = self.buffers.published(self.taken) else {
            return self.end(index, -libc::ENOBUFS, false, None);
        };
        let short = if let Fate::Short(len) = fate {
            len
        } else {
            u32::MAX
        };
        // No limit is 0.
        let limit = entry.fd_in as u32;
        let most = if limit == 0 { u32::MAX } else { limit };
        entry.addr = address as u64;
        entry.len = (len as u32).min(short).min(most);
        let result = entry.call(op.kind);
        if result == -libc::EAGAIN {
            return;
        }
        if result <= 0 {
            return self.end(index, result, false, None);
        }
        self.taken = self.taken.wrapping_add(1);
        let left = most - result as u32;
        self.pending[index].entry.fd_in = if limit == 0 { 0 } else { left as i32 };
        self.end(index, result, left > 0, Some(id));
    }

    fn end(&mut self, index: usize, result: i32, more: bool, buffer: Option<u16>) {
        let data = self.pending[index].entry.user_data;
        if !more {
            self.pending.remove(index);
        }
        let completion = Completion {
            result,
            more,
            buffer,
        };
        self.completions.push_back((data, completion));
    }

    /// Cancels the ops that `cancellation` names.
    fn cancel(&mut self, cancellation: &Entry) {
        let by_fd = cancellation.op_flags & CANCEL_FD != 0;
        let is_named = |entry: &Entry| {
            if by_fd {
                entry.fd == cancellation.fd
            } else {
                entry.user_data == cancellation.addr
            }
        };
        let mut count = 0;
        let mut index = 0;
        while index < self.pending.len() {
            let Pending { entry, mut op } = self.pending[index];
            if !is_named(&entry) {
                index += 1;
                continue;
            }
            let before = self.pending.len();
            op.is_ready = entry.is_ready(op.kind);
            if op.is_ready && self.decide.is_late(&op) {
                self.complete(index, Fate::Done);
            }
            if self.pending.len() == before {
                self.end(index, -libc::ECANCELED, false, None);
                count += 1;
            }
        }
        if cancellation.user_data != Key::IGNORED {
            let completion = Completion {
                result: count,
                more: false,
                buffer: None,
            };
            self.completions
                .push_back((cancellation.user_data, completion));
        }
    }
}

/// Which of `wanted`, or of an error, have occurred on `fd`.
fn events(fd: i32, wanted: i16) -> i16 {
    let mut poll = libc::pollfd {
        fd,
        events: wanted,
        revents: 0,
    };
    // SAFETY: one structure, which lives during the call.
    unsafe { libc::poll(&raw mut poll, 1, 0) };
    poll.revents
}

fn has_events(fd: i32, wanted: i16) -> bool {
    events(fd, wanted) != 0
}
