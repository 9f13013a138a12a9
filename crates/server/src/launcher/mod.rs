//! The launcher: a small process that stays outside of the sandbox of this one, and does for it
//! what it may no longer do itself.
//!
//! It runs this program, with the user and the rights that this process was started with. It is
//! told once what it may do ([`Permit`]), and from then on takes requests for exactly that: start
//! the new binary of an upgrade, open a file that the configuration names, bind an address that it
//! names. It ends when this process does, since its end of the socket closes with that.
//!
//! Landlock stacks across exec and `no_new_privs` takes file capabilities away: so what starts a
//! new binary cannot be inside.

mod message;

pub(crate) use message::{
    Answer, Conversation, Permit, Program, Request, SocketAccess, receive, send,
};

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, Shutdown, SocketFlags, SocketType, shutdown, socketpair, sockopt,
};
use rustix::process::{Uid, geteuid};

/// The hidden command that `start` runs.
pub const COMMAND: &str = "launcher";

/// How long a file may take to be opened: its file system may not answer.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// The launcher of this process, once it has one.
static LAUNCHER: OnceLock<Launcher> = OnceLock::new();

/// Whether the launcher was told to end.
static IS_ENDED: AtomicBool = AtomicBool::new(false);

/// This process's end.
struct Launcher {
    socket: OwnedFd,
    path: String,
    permits: Vec<Permit>,
    /// The user that this process was when it started it.
    user: Uid,
}

/// Starts the launcher, which may do what `permits` say, and `program` is what this process runs. To
/// be called once, before this process gives any right up. The child is for [`watch`].
pub(crate) fn start(program: &Program, permits: Vec<Permit>) -> io::Result<Child> {
    let (socket, other) = seqpacket()?;
    let child = Command::new(own_binary(program))
        .arg0("tidegate")
        .arg(COMMAND)
        .stdin(Stdio::from(other))
        .spawn()?;
    for permit in &permits {
        send(&socket, permit, &[])?;
    }
    send(&socket, &Permit::NothingElse, &[])?;
    let path = program.path.to_string_lossy().into_owned();
    // Another one would be a mistake of the caller: the first one stays.
    let _ = LAUNCHER.set(Launcher {
        socket,
        path,
        permits,
        user: geteuid(),
    });
    Ok(child)
}

/// The running binary, even if its file has been replaced; without /proc its path.
fn own_binary(program: &Program) -> &Path {
    let running = Path::new("/proc/self/exe");
    match running.symlink_metadata() {
        Ok(_) => running,
        Err(_) => &program.path,
    }
}

/// Waits for the launcher's end in a thread, and tells of it.
pub(crate) fn watch(mut child: Child) -> io::Result<()> {
    let thread = thread::Builder::new().name("launcher".to_owned());
    let wait = move || {
        let status = child.wait();
        if !IS_ENDED.load(Ordering::Relaxed) {
            let status = status.map_or_else(|_| String::new(), |status| format!(" ({status})"));
            tracing::error!(
                "the launcher, process {}, has ended{status}: until a restart nothing is upgraded, \
                 and what only its user may read or bind stays as it is",
                child.id()
            );
        }
    };
    thread.spawn(wait).map(drop)
}

/// Has the launcher end. What it started goes on.
pub(crate) fn end() {
    IS_ENDED.store(true, Ordering::Relaxed);
    if let Some(launcher) = LAUNCHER.get() {
        let _ = shutdown(&launcher.socket, Shutdown::Both);
    }
}

/// Whether there is one.
pub(crate) fn is_there() -> bool {
    LAUNCHER.get().is_some()
}

/// What it was told that it may do, if it has another user than this process by now.
pub(crate) fn permits_of_another_user() -> Option<&'static [Permit]> {
    let launcher = LAUNCHER.get()?;
    (launcher.user != geteuid()).then_some(&launcher.permits)
}

/// Opens a file of the configuration to read it, by the launcher if this process may not. Never
/// waits for a writer.
pub(crate) fn open_to_read(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK);
    let direct = || options.read(true).open(path);
    or_ask(direct, || Request::Read(path.into()), into_file)
}

/// Runs `direct`; if that is not permitted, asks the launcher. Without one, or if that is not
/// allowed to, the error is that of `direct`.
pub(crate) fn or_ask<T>(
    direct: impl FnOnce() -> io::Result<T>,
    request: impl FnOnce() -> Request,
    result: impl FnOnce(Answer, Option<OwnedFd>) -> io::Result<T>,
) -> io::Result<T> {
    let error = match direct() {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => error,
        other => return other,
    };
    match ask(&request()) {
        Ok((Answer::Refused, _)) | Err(_) => Err(error),
        Ok((answer, descriptor)) => result(answer, descriptor),
    }
}

/// The descriptor of an answer.
pub(crate) fn into_descriptor(answer: Answer, descriptor: Option<OwnedFd>) -> io::Result<OwnedFd> {
    match (answer, descriptor) {
        (Answer::Done, Some(descriptor)) => Ok(descriptor),
        (Answer::Failed(errno), _) => Err(io::Error::from_raw_os_error(errno)),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

pub(crate) fn into_file(answer: Answer, descriptor: Option<OwnedFd>) -> io::Result<File> {
    into_descriptor(answer, descriptor).map(File::from)
}

/// Binds a socket of the network, by the launcher if this process may not.
pub(crate) fn or_bind(
    address: SocketAddr,
    shared: bool,
    only_v6: bool,
    direct: impl FnOnce() -> io::Result<OwnedFd>,
) -> io::Result<OwnedFd> {
    let request = || Request::Bind {
        address,
        shared,
        only_v6,
    };
    or_ask(direct, request, into_descriptor)
}

/// Asks the launcher, and waits for its answer.
pub(crate) fn ask(request: &Request) -> io::Result<(Answer, Option<OwnedFd>)> {
    let socket = begin(request, None)?;
    wait_readable(&socket, ANSWER_TIME)?;
    let (answer, mut descriptors) = receive(&socket)?;
    Ok((answer, descriptors.pop()))
}

/// Starts the new binary with this standard input, a socket for messages of this process. Waits for
/// it at most for `time`.
pub(crate) fn start_successor(
    standard_input: BorrowedFd<'_>,
    time: Duration,
) -> io::Result<Successor> {
    let failed = |error: &dyn std::fmt::Display| {
        let path = LAUNCHER.get().map_or("the new binary", |one| &one.path);
        io::Error::other(format!("cannot start {path}: {error}"))
    };
    let socket =
        begin(&Request::Successor, Some(standard_input)).map_err(|error| failed(&error))?;
    let answered = wait_readable(&socket, time).and_then(|()| receive(&socket));
    match answered.map_err(|error| failed(&error))?.0 {
        Answer::Started(id) => Ok(Successor { id, socket }),
        Answer::Said(reason) => Err(failed(&reason)),
        Answer::Refused => Err(failed(&"the launcher was not told that it may")),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Sends a request with the socket for its answer. Returns this end of it.
fn begin(request: &Request, descriptor: Option<BorrowedFd<'_>>) -> io::Result<OwnedFd> {
    let launcher = LAUNCHER.get();
    let launcher = launcher.ok_or_else(|| io::Error::other("there is no launcher"))?;
    let (socket, other) = seqpacket()?;
    let descriptors: Vec<_> = [Some(other.as_fd()), descriptor]
        .into_iter()
        .flatten()
        .collect();
    let sent = send(&launcher.socket, request, &descriptors);
    sent.map_err(|_| io::Error::other("the launcher has ended: restart the server"))?;
    Ok(socket)
}

/// A pair of sockets for messages. A send that does not go on for [`ANSWER_TIME`] fails.
fn seqpacket() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC;
    let pair = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    sockopt::set_socket_timeout(&pair.0, sockopt::Timeout::Send, Some(ANSWER_TIME))?;
    Ok(pair)
}

/// A process that the launcher started.
pub(crate) struct Successor {
    id: u32,
    socket: OwnedFd,
}

impl Successor {
    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    /// Has the launcher kill it.
    pub(crate) fn kill(&self) {
        // An error means that both have ended.
        let _ = send(&self.socket, &Conversation::Kill, &[]);
    }

    /// Waits for its end. Its status, as text; `None` if the launcher ends before it.
    pub(crate) fn wait(&self) -> Option<String> {
        match receive(&self.socket).ok()?.0 {
            Answer::Said(status) => Some(status),
            _ => None,
        }
    }

    /// Its status if it ends within `time`.
    pub(crate) fn wait_for(&self, time: Duration) -> Option<String> {
        wait_readable(&self.socket, time).ok()?;
        self.wait()
    }
}

/// Waits for a message, at most for `time`.
fn wait_readable(socket: &OwnedFd, time: Duration) -> io::Result<()> {
    let timeout = Timespec::try_from(time).map_err(io::Error::other)?;
    loop {
        match poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
