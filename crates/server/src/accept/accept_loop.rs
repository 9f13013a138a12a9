//! Accepting connections, within the limits of a core.

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future::or;
use rustix::event::PollFlags;
use rustix::io::{Errno, ioctl_fionbio};
use rustix::net::{SocketFlags, accept_with};
use tidegate_uring::executor::coarse_sleep;
use tidegate_uring::{Accept, Fd, Ring};

use crate::accept::admission::Admission;
use crate::accept::listener::{bound_unsent, listen_with};
use crate::accept::listener_state::ListenerState;
use crate::connection::ConnectionTask;

/// How long to pause when the system has no descriptor or memory for a connection.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// How often a listener that cannot listen tries again, or looks whether there is a certificate.
const LISTEN_WAIT: Duration = Duration::from_millis(200);

/// Accepts the connections of one socket of a listener.
pub(crate) struct AcceptLoop {
    admission: Rc<Admission>,
    socket: Fd,
    state: Rc<ListenerState>,
    /// Accepts all waiting connections at once, whatever the room.
    multishot: Accept,
}

impl AcceptLoop {
    /// Adds the listener to those of `admission`.
    pub(crate) fn new(admission: Rc<Admission>, socket: Fd, state: Rc<ListenerState>) -> Self {
        admission.add(socket.clone(), Rc::clone(&state));
        Self {
            multishot: admission.context.io.ring.accept(&socket),
            admission,
            socket,
            state,
        }
    }

    /// Accepts connections from when the listener opens until accepting ends.
    pub(crate) async fn run(mut self) {
        if self.open().await {
            self.accept_until_ended().await;
            self.drain().await;
        }
        if self.state.is_removed() {
            self.admission.end_unserved();
        }
    }

    fn has_ended(&self) -> bool {
        self.admission.stopping() || self.state.is_removed()
    }

    /// Waits for a certificate if the listener needs one, then listens, however often it takes: the
    /// kernel may have clients for a socket that nobody accepts from. False: accepting ends.
    async fn open(&self) -> bool {
        let mut is_told = false;
        loop {
            if self.state.is_ready() {
                bound_unsent(&self.socket, self.admission.context.memory.send_bytes());
                // This changes nothing if the socket listens already.
                match listen_with(&self.socket, self.state.backlog()) {
                    Ok(()) => return true,
                    Err(error) if !is_told => {
                        is_told = true;
                        tracing::error!(%error, "cannot listen: trying again and again");
                    }
                    Err(_) => {}
                }
            }
            coarse_sleep(LISTEN_WAIT).await;
            if self.has_ended() {
                return false;
            }
        }
    }

    /// Uses the multishot accept while a full backlog would fit. Nearer to the limit connections
    /// are accepted one by one, and at the limit they wait in the backlog.
    async fn accept_until_ended(&mut self) {
        loop {
            let fits = (self.admission).has_room_for_backlog(self.multishot.is_armed());
            if !fits {
                self.disarm().await;
            }
            // No await from here to the accept: the end cancels one that is queued.
            if self.has_ended() {
                return;
            }
            let accepted = if fits {
                let next = async { Some(self.multishot.next().await) };
                let crowded = async {
                    self.admission.until_crowded().await;
                    None
                };
                match or(next, crowded).await {
                    Some(accepted) => accepted,
                    None => continue,
                }
            } else if self.admission.room() > 0 {
                self.ring().accept_one(&self.socket).await
            } else if self.admission.is_paced() {
                self.admission.until_read(|| self.has_ended()).await;
                continue;
            } else {
                self.wait_for_room().await;
                continue;
            };
            match accepted {
                Ok(socket) => self.serve(socket),
                Err(error) => self.rest(&error).await,
            }
        }
    }

    /// Ends the multishot accept and serves the connections that it had accepted. The listeners
    /// share one limit, so the accepts of the others are cancelled too.
    async fn disarm(&mut self) {
        if !self.multishot.is_armed() {
            return;
        }
        self.admission.cancel_accepts().await;
        // One that was removed is not among them any more.
        let _ = self.ring().cancel(&self.socket).await;
        // Ends with ECANCELED, even if the accept had ended by itself.
        while let Ok(socket) = self.multishot.next().await {
            self.serve(socket);
        }
        self.multishot = self.ring().accept(&self.socket);
    }

    /// At the limit: makes room as soon as a client waits in the backlog.
    async fn wait_for_room(&self) {
        let has_room = async {
            self.admission.room_or(|| self.has_ended()).await;
            false
        };
        // An error means that another listener's accept was cancelled: no client waits here.
        let client_waits = async {
            let readable = self.ring().poll(&self.socket, PollFlags::IN).await;
            readable.is_ok()
        };
        if or(has_room, client_waits).await {
            self.admission.make_room(|| self.has_ended()).await;
        }
    }

    /// Serves all clients that have connected: close(2) of a listener resets those in its backlog.
    /// No more than have room there: more may come, and another process may have the listener, too.
    async fn drain(&mut self) {
        self.disarm().await;
        // It holds for other processes that have the listener, too. io_uring waits all the same.
        if ioctl_fionbio(&self.socket, true).is_err() {
            return;
        }
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let waiting =
            (0..=self.state.backlog()).map_while(|_| accept_with(&self.socket, flags).ok());
        waiting.for_each(|socket| self.serve(socket));
    }

    fn serve(&self, socket: OwnedFd) {
        let context = Rc::clone(&self.admission.context);
        context.memory.accepted();
        let protocol = self.state.protocol();
        let task = ConnectionTask::new(context, Fd::from(socket), &protocol);
        drop(protocol);
        self.ring().spawn(task).detach();
    }

    /// Pauses after an error of accept(2) that is not about one connection: a lack of descriptors
    /// or memory must not become a busy loop.
    async fn rest(&self, error: &io::Error) {
        // ECANCELED: accepting ends. The rest are per-connection errors.
        let passing = [
            Errno::CANCELED,
            Errno::CONNABORTED,
            Errno::PROTO,
            Errno::AGAIN,
            Errno::INTR,
        ];
        if Errno::from_io_error(error).is_some_and(|errno| passing.contains(&errno)) {
            return;
        }
        self.admission.warn(error);
        coarse_sleep(ACCEPT_REST).await;
    }

    fn ring(&self) -> &Ring {
        &self.admission.context.io.ring
    }
}
