//! The launcher's own process: one thread that does what it is asked for, if it was permitted to.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{SocketType, sockopt};
use rustix::process::{DumpableBehavior, Pid, PidfdFlags, pidfd_open, set_dumpable_behavior};
use rustix::stdio::{dup2_stdin, stdin};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};

use crate::accept::listener::bound_socket;
use crate::accept::unix_socket::{Access, FileId, SocketFile, bind_file};
use crate::launcher::{
    Answer, Conversation, Permit, Program, Request, SocketAccess, receive, send,
};
use crate::observe::access_log::open_file;
use crate::supervisor::handover::{VARIABLE, is_socket_of};

/// The name of the process in lists: 15 bytes at most.
const NAME: &std::ffi::CStr = c"tidegate-launch";

/// Signals that are sent to all processes of a terminal, a container or a service. The server
/// answers them, and this process ends with it.
const LEFT_TO_THE_SERVER: [i32; 6] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2];

/// The variables of the environment that are meant for one process only.
const OF_ONE_PROCESS: [&str; 5] = [
    "LISTEN_PID",
    "LISTEN_PIDFDID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "WATCHDOG_PID",
];

/// Runs the launcher until the server ends, whose socket is standard input.
///
/// # Errors
///
/// If it is none: only the server starts a launcher.
pub fn launcher() -> io::Result<()> {
    let is_socket = sockopt::socket_type(stdin()).is_ok_and(|kind| kind == SocketType::SEQPACKET);
    if !is_socket {
        return Err(io::Error::other("only the server starts a launcher"));
    }
    let socket = stdin().try_clone_to_owned()?;
    // Without /dev/null it stays, and does no harm.
    let _ = File::open("/dev/null").map(dup2_stdin);
    for signal in LEFT_TO_THE_SERVER {
        // Not ignored, since the successor would inherit that.
        signal_hook::flag::register(signal, Arc::default())?;
    }
    // Process 1 passes signals on to what has the name of the server.
    let _ = rustix::thread::set_name(NAME);
    // A server of the same user cannot write its memory, even where landlock does not keep it from
    // that. What it starts is not bound by this.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let permits = Permits::receive(&socket)?;
    let mut children = Vec::new();
    loop {
        wait_for_news(&socket, &mut children)?;
        match receive(&socket) {
            Ok((request, descriptors)) => permits.serve(request, descriptors, &mut children),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            // It is no request: the server is not what it was.
            Err(error) => return Err(error),
        }
    }
}

/// What it may do.
#[derive(Default)]
struct Permits {
    program: Option<Program>,
    read: HashSet<OsString>,
    append: HashSet<OsString>,
    unix: HashMap<OsString, SocketAccess>,
    ports: HashSet<u16>,
}

impl Permits {
    fn receive(socket: &OwnedFd) -> io::Result<Self> {
        let mut all = Self::default();
        loop {
            match receive(socket)?.0 {
                Permit::Start(program) => all.program = Some(program),
                Permit::Read(path) => drop(all.read.insert(path)),
                Permit::Append(path) => drop(all.append.insert(path)),
                Permit::Unix(path, access) => drop(all.unix.insert(path, access)),
                Permit::Port(port) => drop(all.ports.insert(port)),
                Permit::NothingElse => return Ok(all),
            }
        }
    }

    /// Whether it was told that it may do this.
    fn allow(&self, request: &Request) -> bool {
        match request {
            Request::Successor => self.program.is_some(),
            Request::Read(path) => self.read.contains(path),
            Request::Append(path) => self.append.contains(path),
            Request::Bind { address, .. } => self.ports.contains(&address.port()),
            Request::BindUnix { path }
            | Request::SetAccess { path, .. }
            | Request::RemoveUnix { path, .. } => self.unix.contains_key(path),
        }
    }

    /// Answers a request on the first of `descriptors`. One without is dropped.
    fn serve(&self, request: Request, descriptors: Vec<OwnedFd>, children: &mut Vec<Started>) {
        let mut descriptors = descriptors.into_iter();
        let (Some(conversation), other) = (descriptors.next(), descriptors.next()) else {
            return;
        };
        let answered = match (request, &self.program, other) {
            (Request::Successor, Some(program), Some(standard_input)) => {
                match start_checked(program, standard_input, children) {
                    Ok(child) => {
                        let answered = send(&conversation, &Answer::Started(child.id()), &[]);
                        children.extend(Started::new(child, conversation));
                        answered
                    }
                    Err(error) => send(&conversation, &Answer::Said(error.to_string()), &[]),
                }
            }
            (request, ..) if !self.allow(&request) => send(&conversation, &Answer::Refused, &[]),
            (request, ..) => match self.fulfil(request) {
                Ok((answer, descriptor)) => {
                    let descriptors: Vec<_> = descriptor.iter().map(AsFd::as_fd).collect();
                    send(&conversation, &answer, &descriptors)
                }
                Err(error) => {
                    let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
                    send(&conversation, &Answer::Failed(errno.raw_os_error()), &[])
                }
            },
        };
        // The server has given up waiting.
        drop(answered);
    }

    /// Does what is permitted. Blocking.
    fn fulfil(&self, request: Request) -> io::Result<(Answer, Option<OwnedFd>)> {
        let done = |descriptor| (Answer::Done, Some(descriptor));
        match request {
            Request::Read(path) => {
                let mut options = File::options();
                let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
                let file = options.read(true).custom_flags(flags).open(path)?;
                // No pipe and no device, which the server would get the rights of.
                if !file.metadata()?.is_file() {
                    return Err(Errno::ACCESS.into());
                }
                Ok(done(file.into()))
            }
            // A link may lead where the server may not write.
            Request::Append(path) => Ok(done(open_file(path.as_ref(), libc::O_NOFOLLOW)?.into())),
            Request::Bind {
                address,
                shared,
                only_v6,
            } => Ok(done(bound_socket(address, shared, only_v6)?)),
            Request::BindUnix { path } => {
                let (socket, file) = bind_file(Path::new(&path), self.access(&path)?)?;
                let id = file.id();
                // The server has it removed.
                file.leave();
                Ok((Answer::Bound(id.to_bytes()), Some(socket)))
            }
            Request::SetAccess { path, id } => {
                let file = SocketFile::of_another(Path::new(&path), FileId::from_bytes(id));
                file.set_access(self.access(&path)?)?;
                Ok((Answer::Done, None))
            }
            Request::RemoveUnix { path, id } => {
                let mut file = SocketFile::of_another(Path::new(&path), FileId::from_bytes(id));
                file.open()?;
                file.own();
                Ok((Answer::Done, None))
            }
            Request::Successor => Err(Errno::INVAL.into()),
        }
    }

    /// The mode and the owner of a Unix socket: as it was told, whatever a request says.
    fn access(&self, path: &OsString) -> io::Result<Access> {
        let access = self.unix.get(path).copied();
        access.map(Access::from).ok_or(Errno::ACCESS.into())
    }
}

/// As [`start`], for a server that may be somebody else's by now: its socket and nothing else is
/// standard input, which could be read as a configuration, and one successor at a time is started.
fn start_checked(
    program: &Program,
    standard_input: OwnedFd,
    children: &[Started],
) -> io::Result<Child> {
    if children.iter().any(|child| !child.is_killed) {
        return Err(io::Error::other("one is under way"));
    }
    if !is_socket_of(&standard_input, program.predecessor.cast_signed()) {
        return Err(io::Error::other(
            "its standard input is no socket of the server",
        ));
    }
    start(program, standard_input)
}

fn start(program: &Program, standard_input: OwnedFd) -> io::Result<Child> {
    let mut command = Command::new(&program.path);
    for name in OF_ONE_PROCESS {
        command.env_remove(name);
    }
    command
        .arg0(&program.path)
        .args(&program.arguments)
        .env(VARIABLE, program.predecessor.to_string())
        .stdin(Stdio::from(standard_input))
        .spawn()
}

/// A successor that runs.
struct Started {
    child: Child,
    end: OwnedFd,
    /// `None` once the server has closed it.
    conversation: Option<OwnedFd>,
    /// It may take a moment to end.
    is_killed: bool,
}

impl Started {
    /// `None`: it has ended already, or cannot be watched and is killed.
    fn new(mut child: Child, conversation: OwnedFd) -> Option<Self> {
        let id = Pid::from_child(&child);
        if let Ok(end) = pidfd_open(id, PidfdFlags::empty()) {
            return Some(Self {
                child,
                end,
                conversation: Some(conversation),
                is_killed: false,
            });
        }
        let _ = child.kill();
        let _ = child.wait();
        None
    }

    /// Whether it runs on, after the server has written or closed its end, or the process has
    /// ended.
    fn look(&mut self) -> bool {
        if let Ok(Some(status)) = self.child.try_wait() {
            self.tell(status);
            return false;
        }
        true
    }

    fn tell(&self, status: ExitStatus) {
        if let Some(conversation) = &self.conversation {
            // An error means that the server has closed it.
            let _ = send(conversation, &Answer::Said(status.to_string()), &[]);
        }
    }

    /// Reads what the server says about it.
    fn hear(&mut self) {
        let Some(conversation) = &self.conversation else {
            return;
        };
        match receive(conversation) {
            Ok((Conversation::Kill, _)) => self.is_killed = self.child.kill().is_ok(),
            Err(_) => self.conversation = None,
        }
    }
}

/// Waits until the server has a request or has ended, and meanwhile looks after `children`.
fn wait_for_news(socket: &OwnedFd, children: &mut Vec<Started>) -> io::Result<()> {
    loop {
        let mut all = vec![PollFd::new(socket, PollFlags::IN)];
        for child in &*children {
            all.push(PollFd::new(&child.end, PollFlags::IN));
            let conversation = child.conversation.as_ref().unwrap_or(&child.end);
            all.push(PollFd::new(conversation, PollFlags::IN));
        }
        match poll(&mut all, None) {
            Err(Errno::INTR) => continue,
            other => drop(other?),
        }
        let news: Vec<bool> = all.iter().map(|one| !one.revents().is_empty()).collect();
        for (child, news) in children.iter_mut().zip(news[1..].chunks(2)) {
            if news[1] && child.conversation.is_some() {
                child.hear();
            }
        }
        children.retain_mut(Started::look);
        if news[0] {
            return Ok(());
        }
    }
}
