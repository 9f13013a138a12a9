//! An upgrade: starts the new binary, passes what this process has to it, and waits until it can
//! serve. The other end of the conversation is in `handover`.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{
    AddressFamily, Shutdown, SocketFlags, SocketType, shutdown, socketpair, sockopt,
};
use zeroize::Zeroizing;

use crate::accept::unix_socket::{FileId, SocketFile};
use crate::event::Event;
use crate::launcher::{self, Successor};
use crate::observe::admin::AdminListener;
use crate::supervisor::handover::{
    ADMIN, CONTROL, END, GO, LISTENER, LISTENER_WITH_FILE, READY, RELOAD, TICKET_KEYS,
    control_message, receive, send, wait_readable,
};

/// What the new process gets.
struct Estate {
    listeners: Vec<(OwnedFd, Option<FileId>)>,
    admin: Option<OwnedFd>,
    /// The content of a message.
    control: Option<Vec<u8>>,
    ticket_keys: Zeroizing<Vec<u8>>,
}

impl Estate {
    fn send(&self, socket: &OwnedFd) -> io::Result<()> {
        for (listener, file) in &self.listeners {
            let message = match file {
                Some(id) => [&[LISTENER_WITH_FILE], &id.to_bytes()[..]].concat(),
                None => vec![LISTENER],
            };
            send(socket, &message, Some(listener.as_fd()))?;
        }
        if let Some(admin) = &self.admin {
            send(socket, &[ADMIN], Some(admin.as_fd()))?;
        }
        if let Some(control) = &self.control {
            send(socket, &[&[CONTROL], &control[..]].concat(), None)?;
        }
        let mut keys = Zeroizing::new(vec![TICKET_KEYS]);
        keys.extend_from_slice(&self.ticket_keys);
        send(socket, &keys, None)?;
        send(socket, &[END], None)
    }
}

/// What this process passes on, and the upgrade that is under way, if one is.
pub(super) struct Succession {
    admin: Option<AdminListener>,
    under_way: Option<Upgrade>,
    /// The process that has taken over.
    successor: Option<u32>,
}

impl Succession {
    /// Nothing is under way.
    pub(super) fn new(admin: Option<AdminListener>) -> Self {
        Self {
            admin,
            under_way: None,
            successor: None,
        }
    }

    pub(super) fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// Starts the new binary, and passes `listeners` to it: each with the file of a Unix socket if
    /// that is removed with it; and the control socket. An [`Event::Upgraded`] follows within
    /// `timeout`.
    pub(super) fn begin(
        &mut self,
        listeners: Vec<(OwnedFd, Option<FileId>)>,
        control: Option<&SocketFile>,
        ticket_keys: Zeroizing<Vec<u8>>,
        timeout: Duration,
        events: Sender<Event>,
    ) -> io::Result<()> {
        let estate = Estate {
            listeners,
            admin: self.admin.as_ref().map(AdminListener::socket).transpose()?,
            control: control.map(control_message),
            ticket_keys,
        };
        let upgrade = Upgrade::start(estate, timeout, events)?;
        self.under_way = Some(upgrade);
        Ok(())
    }

    /// The upgrade that has ended.
    pub(super) fn take(&mut self) -> Option<Upgrade> {
        self.under_way.take()
    }

    /// Cancels an upgrade: the server stops.
    pub(super) fn end(&self) {
        if let Some(upgrade) = &self.under_way {
            upgrade.cancel();
        }
    }

    /// The process that has taken over.
    pub(super) fn successor(&self) -> Option<u32> {
        self.successor
    }

    /// Process `id` has taken over: the admin listener accepts no more.
    pub(super) fn hand_over(&mut self, id: u32) {
        self.successor = Some(id);
        self.admin = None;
    }
}

/// An upgrade that is under way.
pub(super) struct Upgrade {
    socket: OwnedFd,
    is_cancelled: Arc<AtomicBool>,
}

impl Upgrade {
    /// Has the new binary started by a thread, which sends an [`Event::Upgraded`] within `timeout`.
    fn start(estate: Estate, timeout: Duration, events: Sender<Event>) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let (socket, other) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(timeout))?;
        let upgrade = Self {
            socket: socket.try_clone()?,
            is_cancelled: Arc::default(),
        };
        let is_cancelled = Arc::clone(&upgrade.is_cancelled);
        let run = move || {
            let child = match launcher::start_successor(other.as_fd(), timeout) {
                Ok(child) => child,
                Err(error) => return drop(events.send(Event::Upgraded(Err(error.to_string())))),
            };
            drop(other);
            let prepared = prepare(&socket, estate, timeout);
            let failed = |error| end(&child, &error, is_cancelled.load(Ordering::Relaxed));
            let outcome = prepared.map_err(failed);
            let has_succeeded = outcome.is_ok();
            let outcome = outcome.map(|()| child.id());
            // Fails only while the main thread ends the process.
            let _ = events.send(Event::Upgraded(outcome));
            outlive(&child, has_succeeded);
        };
        let thread = thread::Builder::new().name("upgrade".to_owned());
        thread.spawn(run)?;
        Ok(upgrade)
    }

    /// Lets the new process accept connections, and then reload if that waits.
    pub(super) fn go(&self, reload_waits: bool) -> io::Result<()> {
        let message: &[u8] = if reload_waits { &[GO, RELOAD] } else { &[GO] };
        send(&self.socket, message, None)
    }

    /// Has the new process ended. An [`Event::Upgraded`] follows.
    fn cancel(&self) {
        self.is_cancelled.store(true, Ordering::Relaxed);
        // The thread sees the end of the conversation.
        let _ = shutdown(&self.socket, Shutdown::Both);
    }
}

/// Passes `estate` to the new process, and waits until it can serve.
fn prepare(socket: &OwnedFd, estate: Estate, timeout: Duration) -> io::Result<()> {
    let until = Instant::now() + timeout;
    estate.send(socket)?;
    drop(estate);
    wait_readable(socket, until)?;
    match receive(socket)?.0[..] {
        [READY] => Ok(()),
        _ => Err(io::Error::other("it did not answer as tidegate does")),
    }
}

/// Ends the new process after `error`. Returns why it failed.
fn end(child: &Successor, error: &io::Error, is_cancelled: bool) -> String {
    let id = child.id();
    let is_late = matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock);
    // If it has ended by itself, its end of the socket was closed a little earlier.
    let ended = if is_cancelled || is_late {
        None
    } else {
        child.wait_for(Duration::from_secs(1))
    };
    if let Some(status) = ended {
        return format!("process {id} has ended ({status}); its lines are above");
    }
    child.kill();
    match (is_cancelled, is_late) {
        (true, _) => format!("process {id} was killed, since this one stops"),
        (_, true) => {
            format!("process {id} did not serve in time (server.upgrade-timeout), and was killed")
        }
        _ => format!("process {id} was killed: {error}"),
    }
}

/// Waits for the end of `child`: it may end before this process.
fn outlive(child: &Successor, has_succeeded: bool) {
    if let Some(status) = child.wait()
        && has_succeeded
    {
        let id = child.id();
        tracing::warn!("process {id}, which took over, has ended: {status}");
    }
}
