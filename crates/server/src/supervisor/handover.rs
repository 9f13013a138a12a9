//! What a process passes to the new binary that takes its place, and how the new one receives it.
//!
//! Standard input of the new process is a socket to the old one, which sends one message for each
//! listening socket, for the admin listener, the file of the control socket and the keys of session
//! tickets, and then waits for [`READY`]. Nothing else is inherited, and no secret is in the
//! environment or on a disk. The new process accepts no connection before the old one has answered
//! [`GO`]: until then it may still fail, and would take them with it.

use std::env;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketType, recvmsg, sendmsg, sockopt,
};
use rustix::stdio::{dup2_stdin, stdin};
use zeroize::Zeroizing;

use crate::accept::inherited::Inherited;
use crate::accept::unix_socket::{FileId, SocketFile};
use crate::error::Error;
use crate::event::Event;

/// The environment variable with the id of the process that is to be replaced. It counts only if
/// standard input is a socket of that process.
pub(super) const VARIABLE: &str = "TIDEGATE_PREDECESSOR";

/// The kinds of messages: their first byte.
pub(super) const LISTENER: u8 = b'L';
/// A Unix socket whose file is removed with it: its [`FileId`] follows.
pub(super) const LISTENER_WITH_FILE: u8 = b'F';
pub(super) const ADMIN: u8 = b'A';
/// The file of the control socket: its [`FileId`] and its path follow.
pub(super) const CONTROL: u8 = b'C';
pub(super) const TICKET_KEYS: u8 = b'T';
/// The last message to the new process before it has answered.
pub(super) const END: u8 = b'E';
/// The new process can serve.
pub(super) const READY: u8 = b'R';
/// The old process accepts no more. [`RELOAD`] may follow in the same message.
pub(super) const GO: u8 = b'G';
/// A reload was demanded while the new process started.
pub(super) const RELOAD: u8 = b'H';

/// Longer than any message.
const MESSAGE_BYTES: usize = 1024;

/// More messages than any server has sockets: as many as a process has descriptors.
const MESSAGES_MAX: usize = 1 << 20;

/// How long the predecessor may take to pass everything: it has it at hand.
const RECEIVE_TIME: Duration = Duration::from_secs(30);

/// What a process was started with.
#[derive(Default)]
pub struct Inheritance {
    pub(crate) listeners: Inherited,
    pub(crate) admin: Option<TcpListener>,
    /// The control socket of the predecessor.
    pub(crate) control: Option<SocketFile>,
    pub(crate) ticket_keys: Zeroizing<Vec<u8>>,
    /// The process that this one takes the place of.
    pub(crate) predecessor: Option<Predecessor>,
}

impl Inheritance {
    /// Takes what the predecessor or the service manager passed to this process, if any. Call it
    /// before the process starts a thread or opens a file, and once.
    pub fn of_process() -> Result<Self, Error> {
        match Predecessor::at_stdin() {
            Some(predecessor) => predecessor.receive().map_err(Error::Predecessor),
            None => Ok(Self {
                listeners: Inherited::from_service_manager()?,
                ..Self::default()
            }),
        }
    }

    /// An error if a socket of the service manager was not wanted. What a predecessor listened on
    /// and this process does not is closed.
    pub(crate) fn check_left_over(&self) -> Result<(), Error> {
        match self.listeners.left_over() {
            Some(address) if self.predecessor.is_none() => Err(Error::UnclaimedSocket {
                address: address.clone(),
            }),
            _ => Ok(()),
        }
    }
}

/// The way to the process that this one takes the place of.
pub(crate) struct Predecessor(OwnedFd);

impl Predecessor {
    /// The predecessor whose socket is standard input, which is /dev/null from now on.
    fn at_stdin() -> Option<Self> {
        let announced: i32 = env::var(VARIABLE).ok()?.parse().ok()?;
        is_socket_of(stdin(), announced).then_some(())?;
        let socket = stdin().try_clone_to_owned().ok()?;
        // Without /dev/null it stays, and does no harm.
        let _ = File::open("/dev/null").map(dup2_stdin);
        Some(Self(socket))
    }

    fn receive(self) -> io::Result<Inheritance> {
        let until = Instant::now() + RECEIVE_TIME;
        let mut all = Inheritance::default();
        for _ in 0..MESSAGES_MAX {
            wait_readable(&self.0, until)?;
            let (message, descriptor) = receive(&self.0)?;
            match (message.split_first(), descriptor) {
                (Some((&LISTENER, _)), Some(socket)) => all.listeners.add(socket, None)?,
                (Some((&LISTENER_WITH_FILE, id)), Some(socket)) => {
                    all.listeners.add(socket, Some(file_id(id)?))?;
                }
                (Some((&ADMIN, _)), Some(socket)) => all.admin = Some(socket.into()),
                (Some((&CONTROL, file)), None) => all.control = Some(control_file(file)?),
                (Some((&TICKET_KEYS, keys)), None) => all.ticket_keys = keys.to_vec().into(),
                (Some((&END, _)), None) => {
                    all.predecessor = Some(self);
                    return Ok(all);
                }
                // A later version may pass more.
                _ => {}
            }
        }
        Err(io::Error::other("it passes more than a server has"))
    }

    /// Reports that this process can serve, and has an [`Event::HandedOver`] sent once the old one
    /// has answered, and an [`Event::Reload`] after it if one waits.
    pub(super) fn report_ready(self, events: Sender<Event>) -> io::Result<()> {
        send(&self.0, &[READY], None)?;
        let wait = move || {
            let answer = receive(&self.0);
            let answer = answer.and_then(|(message, _)| match message[..] {
                [GO] => Ok(false),
                [GO, RELOAD] => Ok(true),
                _ => Err(ErrorKind::InvalidData.into()),
            });
            let reload_waits = matches!(answer, Ok(true));
            // These fail only while the main thread ends the process.
            let _ = events.send(Event::HandedOver(answer.map(drop)));
            if reload_waits {
                let _ = events.send(Event::Reload(None));
            }
        };
        let thread = thread::Builder::new().name("handover".to_owned());
        thread.spawn(wait).map(drop)
    }
}

/// Whether `socket` is one for messages whose other end process `id` has made.
pub(super) fn is_socket_of(socket: impl AsFd, id: i32) -> bool {
    let is_local = sockopt::socket_domain(&socket).is_ok_and(|is| is == AddressFamily::UNIX);
    let is_of_messages = sockopt::socket_type(&socket).is_ok_and(|is| is == SocketType::SEQPACKET);
    is_local
        && is_of_messages
        && sockopt::socket_peercred(&socket).is_ok_and(|peer| peer.pid.as_raw_nonzero().get() == id)
}

fn file_id(bytes: &[u8]) -> io::Result<FileId> {
    let bytes = bytes.try_into().map_err(io::Error::other)?;
    Ok(FileId::from_bytes(bytes))
}

/// The content of a [`CONTROL`] message.
pub(super) fn control_message(file: &SocketFile) -> Vec<u8> {
    let path = file.path().as_os_str().as_bytes();
    [&file.id().to_bytes()[..], path].concat()
}

fn control_file(message: &[u8]) -> io::Result<SocketFile> {
    let (id, path) = message.split_at_checked(16).ok_or(ErrorKind::InvalidData)?;
    let path = Path::new(OsStr::from_bytes(path));
    Ok(SocketFile::of_another(path, file_id(id)?))
}

/// Sends a message, with a descriptor if there is one.
pub(super) fn send(
    socket: impl AsFd,
    message: &[u8],
    descriptor: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = descriptor.as_slice();
    if !descriptors.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    sendmsg(
        socket,
        &[IoSlice::new(message)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// Waits for a message, at most until `until`.
pub(super) fn wait_readable(socket: &OwnedFd, until: Instant) -> io::Result<()> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return Err(ErrorKind::TimedOut.into()),
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Waits for the next message and its descriptor. The end of the other process is an error.
pub(super) fn receive(socket: impl AsFd) -> io::Result<(Vec<u8>, Option<OwnedFd>)> {
    let mut message = vec![0; MESSAGE_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut message)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    if received.bytes == 0 {
        return Err(io::Error::new(ErrorKind::UnexpectedEof, "it has ended"));
    }
    message.truncate(received.bytes);
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    Ok((message, descriptor))
}

#[cfg(test)]
mod tests {
    use rustix::net::{SocketFlags, socketpair};

    use super::*;

    #[test]
    fn a_successor_receives_what_was_sent() {
        let (old, new) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        send(&old, &[LISTENER], Some(listener.as_fd())).unwrap();
        send(&old, &[ADMIN], Some(listener.as_fd())).unwrap();
        send(&old, &[TICKET_KEYS, 1, 2], None).unwrap();
        send(&old, b"?unknown", None).unwrap();
        send(&old, &[END], None).unwrap();
        let mut all = Predecessor(new).receive().unwrap();
        assert_eq!(all.listeners.take(address).unwrap().1.len(), 1);
        assert_eq!(all.admin.unwrap().local_addr().unwrap(), address);
        assert_eq!(*all.ticket_keys, [1, 2]);
        drop(old);
        let predecessor = all.predecessor.unwrap();
        assert!(receive(&predecessor.0).is_err());
    }

    #[test]
    fn only_a_socket_for_messages_of_that_process_is_one() {
        let own = std::process::id().cast_signed();
        let pair = |kind| {
            let pair = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None);
            pair.unwrap().0
        };
        let socket = pair(SocketType::SEQPACKET);
        assert!(is_socket_of(&socket, own));
        assert!(!is_socket_of(&socket, 1));
        assert!(!is_socket_of(pair(SocketType::STREAM), own));
        assert!(!is_socket_of(File::open("/dev/null").unwrap(), own));
        let network = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(!is_socket_of(network, own));
    }
}
