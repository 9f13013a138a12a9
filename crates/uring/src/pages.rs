//! Bytes in pages of their own, which sockets take without a copy.

use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::{Deref, Range};
use std::os::fd::{AsFd, OwnedFd};
use std::slice;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::io::Errno;
use rustix::mm::Advice;
use rustix::param::page_size;
use rustix::pipe::{
    IoSliceRaw, PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice, vmsplice,
};

use crate::Fd;
use crate::mapping::Mapping;

/// The most [`Pages`] of a process. Each may cost two of the mappings that the kernel allows it
/// (`vm.max_map_count`, 65,530 by default), and the allocator and threads need some, too.
const PAGES_MAX: usize = 16_384;

/// The longest head that goes through a [`PagePipe`].
const HEAD_BYTES_MAX: usize = 4096;

/// Memory for heads, replaced when it is full: about a thousand of them.
const HEADS_BYTES: usize = 256 * 1024;

/// A line of the processor's cache.
const LINE_BYTES: usize = 64;

/// Room for the pages of 64 KiB, and for their head.
const PIPE_BYTES: usize = 128 * 1024;

static PAGES: AtomicUsize = AtomicUsize::new(0);

/// Fewer bytes take less than a quarter of a huge page.
const HUGE_LEN_MIN: usize = 512 * 1024;

const HUGE_PAGE_BYTES: usize = 2 * 1024 * 1024;

/// Bytes that never change, in pages that hold nothing else.
///
/// Dropped: the memory is unmapped. A socket that still has some of the pages to send keeps these,
/// and nothing else is ever written to them.
pub struct Pages {
    mapping: Mapping,
    /// Of the bytes within the mapping.
    start: usize,
    len: usize,
    /// Bytes of memory.
    memory: usize,
}

// SAFETY: a mapping belongs to the process, and nobody writes to it after `copy_to`.
unsafe impl Send for Pages {}
// SAFETY: as above.
unsafe impl Sync for Pages {}

impl Pages {
    /// A copy of `bytes`, of which there must be some.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, also when there are 16,384 of them in the process, and `EINVAL` without bytes.
    pub fn copy_of(bytes: &[u8]) -> io::Result<Self> {
        let memory = bytes.len().next_multiple_of(page_size());
        Self::copy_to(Mapping::new(bytes.len())?, 0, bytes, memory)
    }

    /// The same in as many huge pages as it takes, if the kernel has them, or else in small ones.
    /// Sockets then refer to the bytes 64 KiB at a time instead of page by page; and as long as one
    /// of them refers to a byte, the huge page around it is in memory.
    ///
    /// # Errors
    ///
    /// As for [`Pages::copy_of`].
    pub fn huge_copy_of(bytes: &[u8]) -> io::Result<Self> {
        let memory = bytes.len().next_multiple_of(HUGE_PAGE_BYTES);
        // The kernel aligns such mappings only since 6.7. What is not touched takes no memory.
        let mapping = Mapping::new(memory + HUGE_PAGE_BYTES)?;
        // Without huge pages these are small.
        let _ = mapping.advise(Advice::LinuxHugepage);
        let address = mapping.address() as usize;
        let start = address.next_multiple_of(HUGE_PAGE_BYTES) - address;
        Self::copy_to(mapping, start, bytes, memory)
    }

    /// The memory that [`Pages::huge_copy_of`] takes for `len` bytes. `None`: so few are better off
    /// in small pages.
    pub fn huge_bytes(len: usize) -> Option<usize> {
        (len > HUGE_LEN_MIN).then(|| len.next_multiple_of(HUGE_PAGE_BYTES))
    }

    /// `start + bytes.len()` is within the mapping, which is new.
    fn copy_to(mapping: Mapping, start: usize, bytes: &[u8], memory: usize) -> io::Result<Self> {
        if PAGES.load(Ordering::Relaxed) >= PAGES_MAX {
            return Err(Errno::NOMEM.into());
        }
        let len = bytes.len();
        assert!(start + len <= mapping.len());
        // SAFETY: the range is within the mapping, which is new, so nothing else refers to it.
        let place = unsafe { slice::from_raw_parts_mut(mapping.address().add(start), len) };
        place.copy_from_slice(bytes);
        mapping.protect()?;
        PAGES.fetch_add(1, Ordering::Relaxed);
        Ok(Self {
            mapping,
            start,
            len,
            memory,
        })
    }

    /// Refers to the first bytes of `range` from a pipe that does not wait, as many as it holds:
    /// vmsplice(2). Returns their number. The bytes outlive `self` there.
    ///
    /// # Errors
    ///
    /// Those of vmsplice(2): `EAGAIN` if the pipe is full.
    ///
    /// # Panics
    ///
    /// If `range` is not within the pages.
    pub fn stage(&self, range: Range<usize>, pipe: impl AsFd) -> Result<usize, Errno> {
        let bytes = IoSliceRaw::from_slice(&self[range]);
        // SAFETY: nobody writes to the memory while the kernel refers to its pages. Nor would the
        // kernel, if this were the end of a pipe that is read from: the mapping is read-only.
        unsafe { vmsplice(pipe, &[bytes], SpliceFlags::NONBLOCK) }
    }

    /// Bytes of memory that they take, if every page is whole.
    pub fn memory(&self) -> usize {
        self.memory
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        PAGES.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Deref for Pages {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `copy_to` wrote these bytes, nobody writes again, and the mapping lives as long as
        // `self`.
        unsafe { slice::from_raw_parts(self.mapping.address().add(self.start), self.len) }
    }
}

/// Heads on their way to sockets. Nothing is ever written to the place of one again, since a socket
/// may refer to it for as long as its client likes.
struct Heads {
    mapping: Mapping,
    /// Where the last one is.
    last: Range<usize>,
}

impl Heads {
    fn new() -> io::Result<Self> {
        Ok(Self {
            mapping: Mapping::new(HEADS_BYTES)?,
            last: 0..0,
        })
    }

    /// Keeps a copy of `head`, which is at most [`HEAD_BYTES_MAX`]. The next one is often the same:
    /// when many ask for one file within a second.
    fn keep(&mut self, head: &[u8]) -> io::Result<&[u8]> {
        if self.last() != head {
            let mut start = self.last.end.next_multiple_of(LINE_BYTES);
            if start + head.len() > HEADS_BYTES {
                *self = Self::new()?;
                start = 0;
            }
            self.last = start..start + head.len();
            // SAFETY: the range is within the mapping, and nobody refers to it: it is behind all
            // that was written.
            let place =
                unsafe { slice::from_raw_parts_mut(self.mapping.address().add(start), head.len()) };
            place.copy_from_slice(head);
        }
        Ok(self.last())
    }

    fn last(&self) -> &[u8] {
        let Range { start, end } = self.last;
        // SAFETY: `keep` wrote these bytes, within the mapping, and nobody writes to them again.
        unsafe { slice::from_raw_parts(self.mapping.address().add(start), end - start) }
    }
}

/// A pipe through which [`Pages`] go to sockets: vmsplice(2), splice(2). It is made when it is
/// first used, and empty between two calls.
#[derive(Default)]
pub struct PagePipe(Cell<Option<(Ends, Heads)>>);

impl PagePipe {
    /// Sends as many bytes of `head` and then of `range` as `socket` takes at once. Returns their
    /// number: less, even zero, also if the head is longer than 4 KiB, there is no pipe to be had,
    /// or vmsplice(2) is not allowed.
    ///
    /// # Errors
    ///
    /// Those of the socket: the connection is over.
    ///
    /// # Panics
    ///
    /// If `range` is not within the pages.
    pub fn send(
        &self,
        socket: &Fd,
        head: &[u8],
        pages: &Pages,
        range: Range<usize>,
    ) -> io::Result<usize> {
        if head.len() > HEAD_BYTES_MAX {
            return Ok(0);
        }
        let made = self.0.take().map_or_else(Self::make, Ok);
        let Ok((mut ends, mut heads)) = made else {
            return Ok(0);
        };
        let Ok(head) = heads.keep(head) else {
            return Ok(0);
        };
        let sent = ends.send(socket, head, &pages[range]);
        // One that is not empty would send its bytes to the next client.
        if ends.staged == 0 {
            self.0.set(Some((ends, heads)));
        }
        sent
    }

    fn make() -> io::Result<(Ends, Heads)> {
        Ok((Ends::new()?, Heads::new()?))
    }
}

struct Ends {
    reader: OwnedFd,
    writer: OwnedFd,
    /// Takes what a socket did not.
    null: File,
    /// Bytes in the pipe.
    staged: usize,
}

impl Ends {
    fn new() -> io::Result<Self> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // In a smaller one more bytes go in two parts.
        let _ = fcntl_setpipe_size(&writer, PIPE_BYTES);
        Ok(Self {
            reader,
            writer,
            null: OpenOptions::new().write(true).open("/dev/null")?,
            staged: 0,
        })
    }

    /// `head` is of [`Heads`], `body` of [`Pages`].
    fn send(&mut self, socket: &Fd, head: &[u8], body: &[u8]) -> io::Result<usize> {
        let (mut sent, all) = (0, head.len() + body.len());
        while sent < all && self.stage(head, body, sent) {
            let is_last = sent + self.staged == all;
            let flags = if is_last {
                SpliceFlags::NONBLOCK
            } else {
                SpliceFlags::NONBLOCK | SpliceFlags::MORE
            };
            while self.staged > 0 {
                match self.move_to(socket, flags) {
                    Ok(count) => sent += count,
                    Err(Errno::INTR) => {}
                    Err(error) => {
                        self.discard();
                        return match error {
                            Errno::AGAIN => Ok(sent),
                            error => Err(error.into()),
                        };
                    }
                }
            }
        }
        Ok(sent)
    }

    /// Refers from the pipe to what follows the first `sent` bytes of `head` and `body`, to as much
    /// as it holds. False if that is nothing.
    fn stage(&mut self, head: &[u8], body: &[u8], sent: usize) -> bool {
        let head_sent = sent.min(head.len());
        let parts = [&head[head_sent..], &body[sent - head_sent..]].map(IoSliceRaw::from_slice);
        // SAFETY: `writer` is the end of a pipe that is written to, so the memory is only read. It
        // is of `Heads` and `Pages`: nobody writes to it while the kernel refers to its pages.
        let staged = unsafe { vmsplice(&self.writer, &parts, SpliceFlags::NONBLOCK) };
        self.staged = staged.unwrap_or(0);
        self.staged > 0
    }

    fn move_to(&mut self, socket: &Fd, flags: SpliceFlags) -> Result<usize, Errno> {
        move_staged(&self.reader, socket, &mut self.staged, flags)
    }

    /// Empties the pipe, if the kernel lets it.
    fn discard(&mut self) {
        let (reader, null, staged) = (&self.reader, &self.null, &mut self.staged);
        while *staged > 0 && move_staged(reader, null, staged, SpliceFlags::NONBLOCK).is_ok() {}
    }
}

/// Moves bytes of the `staged` ones from a pipe to `end`. Returns their number.
fn move_staged(
    reader: &OwnedFd,
    end: impl AsFd,
    staged: &mut usize,
    flags: SpliceFlags,
) -> Result<usize, Errno> {
    let count = splice(reader, None, end, None, *staged, flags)?;
    if count == 0 {
        // Bytes are there and `end` takes none: it would be asked forever.
        return Err(Errno::PIPE);
    }
    *staged -= count;
    Ok(count)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};
    use std::sync::{Mutex, MutexGuard, PoisonError};
    use std::thread;

    use super::*;

    /// One test needs all of [`PAGES_MAX`].
    static ALONE: Mutex<()> = Mutex::new(());

    fn alone() -> MutexGuard<'static, ()> {
        ALONE.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bytes(len: usize) -> Vec<u8> {
        (0..len).map(|at| (at / 251 + at) as u8).collect()
    }

    /// The server's end, which does not wait, and the client's.
    fn connection() -> (Fd, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        server.set_nonblocking(true).unwrap();
        (Fd::from(OwnedFd::from(server)), client)
    }

    #[test]
    fn pages_arrive_though_they_are_unmapped_before() {
        let _alone = alone();
        let (pipe, body) = (PagePipe::default(), bytes(64 * 1024));
        for range in [
            0..body.len(),
            1..5000,
            4096..body.len(),
            65_535..65_536,
            7..7,
        ] {
            let (socket, mut client) = connection();
            let pages = Pages::copy_of(&body).unwrap();
            assert_eq!(pages[..], body[..]);
            assert_eq!(
                pipe.send(&socket, b"", &pages, range.clone()).unwrap(),
                range.len()
            );
            drop((pages, socket));
            let mut received = Vec::new();
            client.read_to_end(&mut received).unwrap();
            assert!(received == body[range.clone()], "{range:?}");
        }
    }

    #[test]
    fn what_a_full_socket_does_not_take_goes_to_nobody() {
        let _alone = alone();
        let (pipe, body) = (PagePipe::default(), bytes(1 << 20));
        let pages = Pages::copy_of(&body).unwrap();
        let (full, mut client) = connection();
        let mut expected = Vec::new();
        loop {
            let sent = pipe.send(&full, b"", &pages, 0..body.len()).unwrap();
            expected.extend_from_slice(&body[..sent]);
            if sent < body.len() {
                break;
            }
        }
        let (other, mut next) = connection();
        assert_eq!(pipe.send(&other, b"", &pages, 9..20).unwrap(), 11);
        drop((full, other));
        let reader = thread::spawn(move || {
            let mut received = Vec::new();
            client.read_to_end(&mut received).map(|_| received)
        });
        assert!(reader.join().unwrap().unwrap() == expected);
        let mut received = Vec::new();
        next.read_to_end(&mut received).unwrap();
        assert_eq!(received, &body[9..20]);
    }

    #[test]
    fn the_end_of_a_connection_is_an_error_and_harms_no_other() {
        let _alone = alone();
        let (pipe, pages) = (PagePipe::default(), Pages::copy_of(&bytes(9000)).unwrap());
        let (socket, client) = connection();
        rustix::net::shutdown(&socket, rustix::net::Shutdown::Write).unwrap();
        assert!(pipe.send(&socket, b"", &pages, 0..9000).is_err());
        drop(client);
        let (socket, mut client) = connection();
        assert_eq!(pipe.send(&socket, b"", &pages, 0..3).unwrap(), 3);
        drop(socket);
        let mut received = Vec::new();
        client.read_to_end(&mut received).unwrap();
        assert_eq!(received, &pages[..3]);
    }

    #[test]
    fn huge_ones_are_aligned_and_take_whole_huge_pages() {
        let _alone = alone();
        assert_eq!(Pages::huge_bytes(HUGE_LEN_MIN), None);
        for (len, memory) in [
            (HUGE_LEN_MIN + 1, HUGE_PAGE_BYTES),
            (HUGE_PAGE_BYTES + 1, 2 * HUGE_PAGE_BYTES),
        ] {
            let pages = Pages::huge_copy_of(&bytes(len)).unwrap();
            assert!(pages[..] == bytes(len));
            assert!(pages.as_ptr().addr().is_multiple_of(HUGE_PAGE_BYTES));
            assert_eq!(pages.memory(), memory);
            assert_eq!(Pages::huge_bytes(len), Some(memory));
        }
        assert_eq!(Pages::copy_of(b"a").unwrap().memory(), page_size());
    }

    #[test]
    fn a_head_is_not_written_to_before_the_client_has_it() {
        let _alone = alone();
        let (pipe, pages) = (PagePipe::default(), Pages::copy_of(b"body").unwrap());
        let mut connections = [(); 16].map(|()| (connection(), Vec::new()));
        let (mut number, mut partial) = (0_u32, 0);
        for ((socket, _), expected) in &mut connections {
            for _ in 0..16 {
                number += 1;
                let head = number.to_be_bytes().repeat(HEAD_BYTES_MAX / 4);
                let sent = pipe.send(socket, &head, &pages, 0..4).unwrap();
                expected.extend_from_slice(&[&head, &b"body"[..]].concat()[..sent]);
                if sent < head.len() + 4 {
                    partial += 1;
                    break;
                }
            }
        }
        let mappings = number as usize * HEAD_BYTES_MAX / HEADS_BYTES;
        assert!(mappings > 1, "{number} heads, {partial} of them in part");
        for ((socket, mut client), expected) in connections {
            drop(socket);
            let mut received = Vec::new();
            client.read_to_end(&mut received).unwrap();
            assert!(received == expected);
        }
    }

    #[test]
    fn nothing_comes_from_a_pipe_into_them() {
        let _alone = alone();
        let pages = Pages::copy_of(b"abc").unwrap();
        let (reader, writer) = pipe_with(PipeFlags::NONBLOCK).unwrap();
        rustix::io::write(&writer, b"xyz").unwrap();
        assert_eq!(pages.stage(0..3, &reader), Err(Errno::FAULT));
        assert_eq!(pages[..], *b"abc");
    }

    #[test]
    fn the_same_head_is_kept_once_and_a_long_one_is_left_to_the_caller() {
        let _alone = alone();
        let mut heads = Heads::new().unwrap();
        let first = heads.keep(b"first").unwrap().as_ptr();
        assert_eq!(heads.keep(b"first").unwrap().as_ptr(), first);
        assert_ne!(heads.keep(b"second").unwrap().as_ptr(), first);
        let (pipe, pages) = (PagePipe::default(), Pages::copy_of(b"body").unwrap());
        let (socket, _client) = connection();
        let long = vec![b'h'; HEAD_BYTES_MAX + 1];
        assert_eq!(pipe.send(&socket, &long, &pages, 0..4).unwrap(), 0);
    }

    #[test]
    fn they_are_bounded_in_number_and_never_empty() {
        let _alone = alone();
        assert!(Pages::copy_of(&[]).is_err());
        let many: Vec<_> = (0..=PAGES_MAX)
            .map_while(|_| Pages::copy_of(b"a").ok())
            .collect();
        assert!(
            many.len() <= PAGES_MAX && many.len() > PAGES_MAX / 2,
            "{}",
            many.len()
        );
    }
}
