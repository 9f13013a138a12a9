//! A pipe that ops read from and splice to, and the program writes to.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with};
use tidegate_uring::{Fd, Ring, Shares};

use crate::WORKER;
use crate::expected::{Expected, content};
use crate::file::File;
use crate::live::Check;

/// What is written to a pipe at once, so that it waits for nothing (`PIPE_BUF`).
const WRITE_MAX: usize = 4096;

pub(crate) struct Pipe {
    reader: Fd,
    /// `None`: closed.
    writer: RefCell<Option<Fd>>,
    content: RefCell<Expected>,
    /// One op at a time reads, and one writes. It holds this until the kernel is done with it.
    reading: Rc<Shares>,
    writing: Rc<Shares>,
    /// A read was dropped, with what it may have got.
    is_lost: Cell<bool>,
    /// Cancellations that were queued on either end.
    cancels: Cell<usize>,
    next_source: Cell<u64>,
}

/// A read that was not completed when it is dropped.
struct Unread(Rc<Pipe>);

impl Drop for Unread {
    fn drop(&mut self) {
        self.0.is_lost.set(true);
    }
}

impl Pipe {
    pub(crate) fn new(source: u64) -> Rc<Self> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        Rc::new(Self {
            reader: reader.into(),
            writer: RefCell::new(Some(writer.into())),
            content: RefCell::new(Expected::new()),
            reading: Shares::new(1),
            writing: Shares::new(1),
            is_lost: Cell::new(false),
            cancels: Cell::new(0),
            next_source: Cell::new(source << 32),
        })
    }

    /// An op that was queued when there were `cancels` cancellations was cancelled.
    fn check_cancelled(&self, error: &io::Error, cancels: usize) {
        let errno = Errno::from_io_error(error).unwrap();
        // The latter is that of a worker that is interrupted.
        let is_cancelled = matches!(errno, Errno::CANCELED | Errno::INTR);
        assert!(
            is_cancelled && cancels < self.cancels.get(),
            "a pipe fails without a cause: {error}"
        );
    }

    /// Reads up to `len` bytes.
    pub(crate) fn read(self: &Rc<Self>, ring: &Ring, len: usize) -> Option<Check> {
        let permit = self.reading.try_take(WORKER)?;
        if self.is_lost.take() {
            // The op that was dropped is over, since it has returned its permit.
            self.content.borrow_mut().skip();
        }
        let cancels = self.cancels.get();
        let op = ring.read(&self.reader, Vec::with_capacity(len), None);
        let op = op.holding(permit);
        let unread = Unread(Rc::clone(self));
        Some(Box::pin(async move {
            let (result, bytes) = op.await;
            let this = &unread.0;
            match result {
                Ok(count) => {
                    assert_eq!(count, bytes.len());
                    let is_end = count == 0;
                    assert!(!is_end || this.writer.borrow().is_none());
                    this.content.borrow_mut().take(&bytes);
                    assert!(!is_end || this.content.borrow().may_be_complete());
                }
                Err(error) => {
                    assert!(bytes.is_empty());
                    this.check_cancelled(&error, cancels);
                }
            }
            unread.complete();
        }))
    }

    /// Writes `len` bytes, by the program, if there is room.
    pub(crate) fn write(&self, len: usize) {
        let guard = self.writer.borrow();
        let (Some(writer), Some(_permit)) = (&*guard, self.writing.try_take(WORKER)) else {
            return;
        };
        let mut fds = [PollFd::new(writer, PollFlags::OUT)];
        poll(&mut fds, Some(&Timespec::default())).unwrap();
        if !fds[0].revents().contains(PollFlags::OUT) {
            return;
        }
        let len = len.min(WRITE_MAX);
        self.next_source.set(self.next_source.get() + 1);
        let source = self.next_source.get();
        let written = rustix::io::write(writer, &content(source, 0, len)).unwrap();
        self.content.borrow_mut().push(source, written);
    }

    /// Moves up to `len` bytes of `file` from `offset` into it; fails rather than waits for room.
    pub(crate) fn fill(
        self: &Rc<Self>,
        ring: &Ring,
        file: &Rc<File>,
        offset: u64,
        len: u32,
    ) -> Option<Check> {
        let writer = self.writer.borrow().clone()?;
        let permit = self.writing.try_take(WORKER)?;
        let most = file.size().saturating_sub(offset).min(len.into()) as usize;
        let piece = self.content.borrow_mut().open(file.source(), offset, most);
        let cancels = self.cancels.get();
        let flags = SpliceFlags::NONBLOCK;
        let op = ring.splice(file.fd(), Some(offset), &writer, None, len, flags);
        let op = op.holding(permit);
        let (this, file) = (Rc::clone(self), Rc::clone(file));
        drop(writer);
        Some(Box::pin(async move {
            let moved = match op.await {
                Ok(count) => {
                    file.check_count(count, offset, len as usize);
                    count
                }
                Err(error) if Errno::from_io_error(&error) == Some(Errno::AGAIN) => 0,
                Err(error) => {
                    this.check_cancelled(&error, cancels);
                    0
                }
            };
            this.content.borrow_mut().settle(piece, moved);
        }))
    }

    /// What ops that read and that write hold.
    pub(crate) fn permits(&self) -> [Rc<Shares>; 2] {
        [Rc::clone(&self.reading), Rc::clone(&self.writing)]
    }

    /// Waits for bytes or the end.
    pub(crate) fn poll(self: &Rc<Self>, ring: &Ring) -> Check {
        let cancels = self.cancels.get();
        let op = ring.poll(&self.reader, PollFlags::IN);
        let this = Rc::clone(self);
        Box::pin(async move {
            match op.await {
                Ok(found) => assert!(
                    found == PollFlags::IN && this.next_source.get() > 0
                        || found.contains(PollFlags::HUP) && this.writer.borrow().is_none()
                ),
                Err(error) => this.check_cancelled(&error, cancels),
            }
        })
    }

    /// Closes the end that is written to, by an op, if no op uses it.
    pub(crate) fn close(&self, ring: &Ring) -> Option<Check> {
        let permit = self.writing.try_take(WORKER)?;
        let writer = match self.writer.take()?.try_unwrap() {
            Ok(writer) => writer,
            // A cancellation holds it.
            Err(writer) => {
                self.writer.replace(Some(writer));
                return None;
            }
        };
        let op = ring.close(writer).holding(permit);
        Some(Box::pin(async move { op.await.expect("a pipe") }))
    }

    /// Cancels every op on the end that is read from, or on the other.
    pub(crate) fn cancel(&self, ring: &Ring, is_writer: bool) -> Option<Check> {
        let writer = self.writer.borrow().clone();
        let fd = if is_writer {
            writer?
        } else {
            self.reader.clone()
        };
        self.cancels.set(self.cancels.get() + 1);
        let op = ring.cancel(&fd);
        drop(fd);
        Some(Box::pin(async move {
            op.await.expect("a cancellation finds some or none");
        }))
    }
}

impl Unread {
    /// Nothing is lost.
    fn complete(self) {
        let was_lost = self.0.is_lost.get();
        let pipe = Rc::clone(&self.0);
        drop(self);
        pipe.is_lost.set(was_lost);
    }
}
