//! A connection: one end for the ring, the other for the program, and what may pass between them.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use bytes::Bytes;
use fastrand::Rng;
use rustix::event::PollFlags;
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_linger;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use rustix::pipe::SpliceFlags;
use tidegate_uring::{Fd, Received, Recv, Ring, Shares};

use crate::WORKER;
use crate::expected::{Expected, content};
use crate::file::File;
use crate::live::Check;

/// What the peer has sent and nobody has received, at most.
const UNREAD_MAX: u64 = 8 * 1024;

/// The most that one call of the peer takes.
const TAKE_MAX: usize = 32 * 1024;

pub(crate) struct Connection {
    socket: Fd,
    peer: RefCell<Option<OwnedFd>>,
    /// From the peer.
    incoming: RefCell<Expected>,
    /// To the peer.
    outgoing: RefCell<Expected>,
    /// The stream of received bytes, while no op uses it.
    recv: RefCell<Option<Recv>>,
    /// How many of the cancellations since it was made it has not reported.
    recv_cancels: Cell<usize>,
    is_receiving: Cell<bool>,
    /// One op at a time sends, and holds this until the kernel is done with it.
    sending: Rc<Shares>,
    /// The peer said that it will send no more.
    is_shut: Cell<bool>,
    /// The peer is gone, or has sent a reset.
    is_broken: Cell<bool>,
    is_nonblocking: bool,
    /// Cancellations that were queued.
    cancels: Cell<usize>,
    /// Received bytes, which the program keeps for a while, and a copy.
    held: RefCell<Vec<(Received, Vec<u8>)>>,
    next_source: Cell<u64>,
}

impl Connection {
    pub(crate) fn new(socket: OwnedFd, peer: OwnedFd, source: u64) -> Rc<Self> {
        let flags = fcntl_getfl(&socket).unwrap();
        Rc::new(Self {
            socket: socket.into(),
            peer: RefCell::new(Some(peer)),
            incoming: RefCell::new(Expected::new()),
            outgoing: RefCell::new(Expected::new()),
            recv: RefCell::default(),
            recv_cancels: Cell::new(0),
            is_receiving: Cell::new(false),
            sending: Shares::new(1),
            is_shut: Cell::new(false),
            is_broken: Cell::new(false),
            is_nonblocking: flags.contains(OFlags::NONBLOCK),
            cancels: Cell::new(0),
            held: RefCell::default(),
            next_source: Cell::new(source << 32),
        })
    }

    /// A pair of Unix sockets, which may wait or not.
    pub(crate) fn unix(source: u64, is_nonblocking: bool) -> Rc<Self> {
        let (socket, peer) = UnixStream::pair().unwrap();
        socket.set_nonblocking(is_nonblocking).unwrap();
        Self::new(socket.into(), peer.into(), source)
    }

    /// A connection of TCP.
    pub(crate) fn tcp(source: u64) -> Rc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, _) = listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        Self::accepted(socket.into(), peer, source)
    }

    /// An accepted connection, and the client. Both ends close with a reset, as a rule: there are
    /// fewer ports than a long run needs.
    pub(crate) fn accepted(socket: OwnedFd, peer: TcpStream, source: u64) -> Rc<Self> {
        for end in [socket.as_fd(), peer.as_fd()] {
            set_socket_linger(end, Some(std::time::Duration::ZERO)).unwrap();
        }
        Self::new(socket, peer.into(), source)
    }

    fn source(&self) -> u64 {
        self.next_source.set(self.next_source.get() + 1);
        self.next_source.get()
    }

    /// Checks an error of an op that was queued when there were `cancels` cancellations.
    fn check_error(&self, error: &io::Error, cancels: usize) {
        let is_allowed = match Errno::from_io_error(error).unwrap() {
            // The latter is that of a worker of the kernel, which has the op where polling was not
            // possible.
            Errno::CANCELED | Errno::INTR => cancels < self.cancels.get(),
            Errno::CONNRESET | Errno::PIPE => self.is_broken.get(),
            _ => false,
        };
        assert!(is_allowed, "a socket fails without a cause: {error}");
    }

    /// Receives the next bytes, or drops those that are there if `is_discard`.
    pub(crate) fn receive(self: &Rc<Self>, ring: &Ring, is_discard: bool) -> Option<Check> {
        let mut lent = LentRecv::of(self, ring)?;
        Some(Box::pin(async move {
            let this = Rc::clone(&lent.connection);
            let recv = lent.recv.as_mut().unwrap();
            if is_discard {
                // What the stream has received is lost, too.
                this.incoming.borrow_mut().lose();
                let cancels = this.cancels.get();
                match recv.discard().await {
                    Ok(Some(count)) => assert!(count > 0),
                    Ok(None) => assert!(this.may_end()),
                    Err(error) => this.check_error(&error, cancels),
                }
            } else {
                let result = recv.next().await;
                this.received(result);
            }
        }))
    }

    fn received(&self, result: io::Result<Option<Received>>) {
        match result {
            Ok(Some(received)) => {
                self.incoming.borrow_mut().take(&received);
                let copy = received.to_vec();
                self.held.borrow_mut().push((received, copy));
            }
            Ok(None) => assert!(self.may_end(), "an end that the peer did not send"),
            Err(error) if Errno::from_io_error(&error) == Some(Errno::CANCELED) => {
                let cancels = self.recv_cancels.get();
                self.recv_cancels
                    .set(cancels.checked_sub(1).expect("a cancellation"));
            }
            Err(error) => self.check_error(&error, 0),
        }
    }

    /// Whether the peer may have sent all, and it was received.
    fn may_end(&self) -> bool {
        self.is_broken.get() || self.is_shut.get() && self.incoming.borrow().may_be_complete()
    }

    /// Drops the stream of received bytes, if no op uses it.
    pub(crate) fn drop_recv(&self) {
        if self.recv.take().is_some() {
            self.incoming.borrow_mut().lose();
        }
    }

    /// Gives the first `count` buffers back, which nobody may have written to.
    pub(crate) fn give_back(&self, count: usize) {
        let mut held = self.held.borrow_mut();
        let count = count.min(held.len());
        for (mut received, copy) in held.drain(..count) {
            assert_eq!(*received, *copy, "a buffer changed while it was held");
            received.fill(0);
        }
    }

    /// Sends `len` bytes.
    pub(crate) fn send(self: &Rc<Self>, ring: &Ring, len: usize) -> Option<Check> {
        let permit = self.sending.try_take(WORKER)?;
        let source = self.source();
        let piece = self.outgoing.borrow_mut().open(source, 0, len);
        let cancels = self.cancels.get();
        let data = Bytes::from(content(source, 0, len));
        let op = ring.send(&self.socket, data, SendFlags::empty());
        let op = op.holding(permit);
        let this = Rc::clone(self);
        Some(Box::pin(async move {
            let moved = match op.await {
                Ok(count) => {
                    assert!(
                        count > 0 && count <= len,
                        "{count} of {len} bytes were sent"
                    );
                    count
                }
                Err(error) => {
                    this.check_error(&error, cancels);
                    0
                }
            };
            this.outgoing.borrow_mut().settle(piece, moved);
        }))
    }

    /// Waits for room, or for bytes.
    pub(crate) fn poll(self: &Rc<Self>, ring: &Ring, events: PollFlags) -> Check {
        let cancels = self.cancels.get();
        let op = ring.poll(&self.socket, events);
        let this = Rc::clone(self);
        Box::pin(async move {
            match op.await {
                Ok(found) => {
                    let always = PollFlags::ERR | PollFlags::HUP | PollFlags::RDHUP;
                    let is_asked = !found.is_empty() && (events | always).contains(found);
                    assert!(is_asked, "{found:?}, not {events:?}");
                    let is_over = this.is_broken.get() || this.is_shut.get();
                    assert!(is_over || found.intersects(events), "{found:?}");
                }
                Err(error) => this.check_error(&error, cancels),
            }
        })
    }

    /// Sends `len` bytes of `file` from `offset` by way of a pipe.
    pub(crate) fn transfer(
        self: &Rc<Self>,
        ring: &Ring,
        file: &Rc<File>,
        offset: u64,
        len: u32,
    ) -> Check {
        let (this, ring, file) = (Rc::clone(self), ring.clone(), Rc::clone(file));
        Box::pin(async move {
            let (reader, writer) = ring.pipe().await.unwrap();
            let (reader, writer) = (Fd::from(reader), Fd::from(writer));
            let flags = SpliceFlags::NONBLOCK;
            let staged = ring
                .splice(file.fd(), Some(offset), &writer, None, len, flags)
                .await
                .expect("the pipe is empty, and nobody cancels");
            file.check_count(staged, offset, len as usize);
            let mut left = staged;
            while left > 0 {
                let from = offset + (staged - left) as u64;
                match this.send_staged(&ring, &reader, &file, from, left).await {
                    Some(count) => left -= count,
                    None => return,
                }
            }
        })
    }

    /// Moves some of the `len` bytes in the pipe `reader` to the socket. `None`: not now.
    async fn send_staged(
        &self,
        ring: &Ring,
        reader: &Fd,
        file: &File,
        from: u64,
        len: usize,
    ) -> Option<usize> {
        let permit = self.sending.try_take(WORKER)?;
        let piece = self.outgoing.borrow_mut().open(file.source(), from, len);
        let cancels = self.cancels.get();
        let splice = ring.splice(
            reader,
            None,
            &self.socket,
            None,
            len as u32,
            SpliceFlags::empty(),
        );
        let result = splice.holding(permit).await;
        match result {
            Ok(count) => {
                assert!(count > 0 && count <= len, "{count} of {len} were moved");
                self.outgoing.borrow_mut().settle(piece, count);
                Some(count)
            }
            Err(error) => {
                self.outgoing.borrow_mut().settle(piece, 0);
                match Errno::from_io_error(&error).unwrap() {
                    Errno::AGAIN => assert!(self.is_nonblocking),
                    _ => self.check_error(&error, cancels),
                }
                None
            }
        }
    }

    /// What an op that sends holds.
    pub(crate) fn permits(&self) -> [Rc<Shares>; 1] {
        [Rc::clone(&self.sending)]
    }

    /// Cancels every op on the socket.
    pub(crate) fn cancel(&self, ring: &Ring) -> Check {
        self.cancels.set(self.cancels.get() + 1);
        self.recv_cancels.set(self.recv_cancels.get() + 1);
        let op = ring.cancel(&self.socket);
        Box::pin(async move {
            op.await.expect("a cancellation finds some or none");
        })
    }

    /// The peer does something, or nothing.
    pub(crate) fn act(&self, rng: &mut Rng) {
        let guard = self.peer.borrow();
        let Some(peer) = &*guard else { return };
        match rng.u32(0..100) {
            0..=44 => self.peer_sends(peer, rng.usize(1..=1500)),
            45..=94 => self.peer_takes(peer, rng.usize(1..=TAKE_MAX)),
            95..=96 => {
                let _ = shutdown(peer, Shutdown::Write);
                self.is_shut.set(true);
            }
            97 => {
                // It takes no more, and what comes is answered by a reset.
                let _ = shutdown(peer, Shutdown::Read);
                self.is_broken.set(true);
            }
            _ => {
                drop(guard);
                self.close_peer();
            }
        }
    }

    fn close_peer(&self) {
        self.is_broken.set(true);
        self.peer.take();
    }

    fn peer_sends(&self, peer: &OwnedFd, len: usize) {
        if self.is_shut.get() || self.incoming.borrow().left() > UNREAD_MAX {
            return;
        }
        let source = self.source();
        let data = content(source, 0, len);
        match send(peer, &data, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(count) => self.incoming.borrow_mut().push(source, count),
            Err(Errno::AGAIN) => {}
            // The other end is never shut nor closed while the connection is there.
            Err(Errno::PIPE | Errno::CONNRESET) if self.is_broken.get() => {}
            Err(error) => panic!("the peer cannot send: {error}"),
        }
    }

    fn peer_takes(&self, peer: &OwnedFd, len: usize) {
        let mut buffer = vec![0; len];
        match recv(peer, &mut buffer, RecvFlags::DONTWAIT) {
            Ok((count, _)) => self.outgoing.borrow_mut().take(&buffer[..count]),
            Err(Errno::AGAIN) => {}
            Err(Errno::CONNRESET) if self.is_broken.get() => {}
            Err(error) => panic!("the peer cannot receive: {error}"),
        }
    }
}

/// The stream of received bytes, which returns to its connection when the op ends or is dropped.
struct LentRecv {
    connection: Rc<Connection>,
    recv: Option<Recv>,
}

impl LentRecv {
    fn of(connection: &Rc<Connection>, ring: &Ring) -> Option<Self> {
        if connection.is_receiving.replace(true) {
            return None;
        }
        let recv = connection.recv.take().unwrap_or_else(|| {
            connection.recv_cancels.set(0);
            ring.recv(&connection.socket)
        });
        Some(Self {
            connection: Rc::clone(connection),
            recv: Some(recv),
        })
    }
}

impl Drop for LentRecv {
    fn drop(&mut self) {
        self.connection.is_receiving.set(false);
        *self.connection.recv.borrow_mut() = self.recv.take();
    }
}
