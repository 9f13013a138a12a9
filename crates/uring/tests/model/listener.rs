//! A listener, and the clients that connect to it.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::{Errno, FdFlags, fcntl_getfd};
use tidegate_uring::{Accept, Fd, Ring};

use crate::connection::Connection;
use crate::live::Check;

/// Clients that are not accepted, at most: fewer than the backlog takes.
const CLIENTS_MAX: usize = 32;

pub(crate) struct Listener {
    fd: Fd,
    address: SocketAddr,
    /// Those that were not accepted. An accept that was dropped may have accepted and closed some.
    clients: RefCell<HashMap<SocketAddr, TcpStream>>,
    /// Those that did not wait any longer. They may be accepted all the same.
    left: RefCell<HashSet<SocketAddr>>,
    accept: RefCell<Option<Accept>>,
    is_accepting: Cell<bool>,
    cancels: Cell<usize>,
    accept_cancels: Cell<usize>,
    /// What was accepted.
    accepted: RefCell<Vec<(OwnedFd, TcpStream)>>,
}

impl Listener {
    pub(crate) fn new() -> Rc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Rc::new(Self {
            address: listener.local_addr().unwrap(),
            fd: Fd::from(OwnedFd::from(listener)),
            clients: RefCell::default(),
            left: RefCell::default(),
            accept: RefCell::default(),
            is_accepting: Cell::new(false),
            cancels: Cell::new(0),
            accept_cancels: Cell::new(0),
            accepted: RefCell::default(),
        })
    }

    /// A client connects. When too many wait, they leave.
    pub(crate) fn connect(&self) {
        let mut clients = self.clients.borrow_mut();
        if clients.len() == CLIENTS_MAX {
            let left = clients.drain().map(|(address, _)| address);
            self.left.borrow_mut().extend(left);
        }
        let client = TcpStream::connect(self.address).unwrap();
        clients.insert(client.local_addr().unwrap(), client);
    }

    /// Accepts the next connection of the stream.
    pub(crate) fn accept(self: &Rc<Self>, ring: &Ring) -> Option<Check> {
        let mut lent = LentAccept::of(self, ring)?;
        Some(Box::pin(async move {
            let result = lent.accept.as_mut().unwrap().next().await;
            let cancels = &lent.listener.accept_cancels;
            match result {
                Err(error) if Errno::from_io_error(&error) == Some(Errno::CANCELED) => {
                    cancels.set(cancels.get().checked_sub(1).expect("a cancellation"));
                }
                result => lent.listener.check(result),
            }
        }))
    }

    /// Accepts one connection.
    pub(crate) fn accept_one(self: &Rc<Self>, ring: &Ring) -> Check {
        let cancels = self.cancels.get();
        let op = ring.accept_one(&self.fd);
        let this = Rc::clone(self);
        Box::pin(async move {
            match op.await {
                Err(error) if Errno::from_io_error(&error) == Some(Errno::CANCELED) => {
                    assert!(cancels < this.cancels.get());
                }
                result => this.check(result),
            }
        })
    }

    fn check(&self, result: io::Result<OwnedFd>) {
        let socket = result.expect("nothing is short");
        assert!(fcntl_getfl(&socket).unwrap().contains(OFlags::NONBLOCK));
        assert!(fcntl_getfd(&socket).unwrap().contains(FdFlags::CLOEXEC));
        let socket = std::net::TcpStream::from(socket);
        let address = socket.peer_addr().expect("no client resets");
        let client = self.clients.borrow_mut().remove(&address);
        let Some(client) = client else {
            let has_left = self.left.borrow_mut().remove(&address);
            assert!(has_left, "a client that was accepted before");
            return;
        };
        self.accepted.borrow_mut().push((socket.into(), client));
    }

    /// The connection that was accepted last.
    pub(crate) fn take(&self, source: u64) -> Option<Rc<Connection>> {
        let (socket, client) = self.accepted.borrow_mut().pop()?;
        Some(Connection::accepted(socket, client, source))
    }

    /// Drops the stream of connections, if no op uses it.
    pub(crate) fn drop_accept(&self) {
        self.accept.take();
    }

    pub(crate) fn cancel(&self, ring: &Ring) -> Check {
        self.cancels.set(self.cancels.get() + 1);
        self.accept_cancels.set(self.accept_cancels.get() + 1);
        let op = ring.cancel(&self.fd);
        Box::pin(async move {
            op.await.expect("a cancellation finds some or none");
        })
    }
}

/// The stream of connections, which returns to the listener when the op ends or is dropped.
struct LentAccept {
    listener: Rc<Listener>,
    accept: Option<Accept>,
}

impl LentAccept {
    fn of(listener: &Rc<Listener>, ring: &Ring) -> Option<Self> {
        if listener.is_accepting.replace(true) {
            return None;
        }
        let accept = listener.accept.take().unwrap_or_else(|| {
            listener.accept_cancels.set(0);
            ring.accept(&listener.fd)
        });
        Some(Self {
            listener: Rc::clone(listener),
            accept: Some(accept),
        })
    }
}

impl Drop for LentAccept {
    fn drop(&mut self) {
        self.listener.is_accepting.set(false);
        *self.listener.accept.borrow_mut() = self.accept.take();
    }
}
