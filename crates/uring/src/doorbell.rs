//! How other threads wake the futures of an executor at once.
//!
//! glommio takes note of a wake-up from another thread when it next looks at its own events, which
//! it does late while the driver waits on the op ring. So the other thread leaves the waker here,
//! and rings: the op ring polls a socket, and its turn wakes the task on the executor's own thread.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};
use std::thread::{self, ThreadId};
use std::{io, mem};

use futures_util::task::AtomicWaker;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, recv, socketpair};

use crate::tell::tell;

/// The executor's side.
pub(crate) struct Doorbell {
    /// Becomes readable when it is rung.
    socket: OwnedFd,
    button: Arc<Button>,
}

/// The side of the other threads.
struct Button {
    owner: ThreadId,
    socket: OwnedFd,
    /// Something was sent that is not yet received.
    is_rung: AtomicBool,
    /// Each that waits is in here once at most.
    woken: Mutex<Vec<Arc<Waiter>>>,
}

impl Doorbell {
    pub(crate) fn new() -> io::Result<Self> {
        // Not an eventfd: see `Ring::read`. Not a pipe: their number is limited for each user, and
        // splices need them.
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (socket, other) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        let button = Button {
            owner: thread::current().id(),
            socket: other,
            is_rung: AtomicBool::new(false),
            woken: Mutex::default(),
        };
        Ok(Self {
            socket,
            button: Arc::new(button),
        })
    }

    /// For a new future.
    pub(crate) fn waiter(&self) -> Arc<Waiter> {
        Arc::new(Waiter {
            button: Arc::clone(&self.button),
            is_set: AtomicBool::new(true),
            task: AtomicWaker::new(),
        })
    }

    /// What the op ring polls.
    pub(crate) fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Wakes the futures for which it was rung.
    pub(crate) fn answer(&self) {
        // One byte at most is in there, and none after a poll that was begun anew.
        let _ = recv(&self.socket, &mut [0; 1], RecvFlags::DONTWAIT);
        // Before the wakers are taken: who comes later rings again.
        self.button.is_rung.store(false, Ordering::SeqCst);
        let woken = mem::take(&mut *self.button.lock());
        for waiter in woken {
            waiter.task.wake();
        }
    }
}

impl Button {
    fn ring_for(&self, waiter: Arc<Waiter>) {
        self.lock().push(waiter);
        if !self.is_rung.swap(true, Ordering::SeqCst) && tell(&self.socket).is_err() {
            // Who comes next tries again.
            self.is_rung.store(false, Ordering::SeqCst);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Waiter>>> {
        self.woken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The waker of a future that waits for another thread.
pub(crate) struct Waiter {
    button: Arc<Button>,
    /// The future needs a poll.
    is_set: AtomicBool,
    task: AtomicWaker,
}

impl Waiter {
    /// Whether the future needs a poll. If not, `task` is woken when it does.
    pub(crate) fn is_due(&self, task: &Waker) -> bool {
        // Registered before the check: a wake-up between the two wakes the task.
        self.task.register(task);
        self.is_set.swap(false, Ordering::AcqRel)
    }
}

impl Wake for Waiter {
    fn wake(self: Arc<Self>) {
        if self.is_set.swap(true, Ordering::AcqRel) {
            return;
        }
        if thread::current().id() == self.button.owner {
            self.task.wake();
        } else {
            Arc::clone(&self.button).ring_for(self);
        }
    }
}
