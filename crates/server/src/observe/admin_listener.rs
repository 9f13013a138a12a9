//! The connections of the admin listener. One thread polls them all and blocks on none: a probe is
//! answered beside clients that stall, and when the system starts no more threads.

use std::io::{self, ErrorKind, PipeReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use tidegate_uring::catch_panic;

use crate::throttle::Throttle;

/// Connections at a time. One more replaces the oldest without a request.
const CONNECTIONS_MAX: usize = 32;

/// Requests at a time that have threads of their own.
const TASKS_MAX: usize = 8;

/// Descriptors in use: the listener, its connections, one that is about to replace another, and
/// those of tasks, one of which may be on its way to its thread.
pub(crate) const DESCRIPTORS: usize = CONNECTIONS_MAX + 2 + TASKS_MAX + 1;

/// Bytes of a body without use that are read before the connection ends: they would reset it, and
/// the client might lose the response.
const DISCARD_BYTES_MAX: usize = 64 * 1024;

/// How long a client may take to send the head of its request.
const HEAD_TIME: Duration = Duration::from_secs(2);

/// How long a client may take to receive the response.
const RESPONSE_TIME: Duration = Duration::from_secs(5);

/// How long accepting rests when the system has no descriptor or memory.
const REST: Duration = Duration::from_millis(100);

/// What becomes of a request.
pub(crate) enum Reaction {
    /// It is answered with this.
    Response(Vec<u8>),
    /// It takes longer, and a thread of its own answers it.
    Task(Task),
}

/// Answers a request on its connection, which blocks then.
pub(crate) type Task = Box<dyn FnOnce(TcpStream) + Send>;

/// The responses to clients. No method may block.
pub(crate) trait Service {
    /// What becomes of `received`; `None` while the head of the request is not complete.
    fn reaction(&self, received: &[u8]) -> Option<Reaction>;

    /// The response to a client whose request is not complete in time.
    fn too_slow(&self) -> Vec<u8>;

    /// The response to a client that is replaced by another.
    fn no_room(&self) -> Vec<u8>;
}

struct Client {
    socket: TcpStream,
    received: Vec<u8>,
    /// The bytes left to send; empty until the request is complete.
    response: Vec<u8>,
    until: Instant,
}

/// Answers one request on each connection to `listener`. Accepts no more once the other end of
/// `running` is closed, and returns when all that were accepted are answered.
pub(crate) fn serve(
    listener: TcpListener,
    running: &PipeReader,
    service: &impl Service,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let mut listener = Some(listener);
    // The oldest first.
    let mut clients: Vec<Client> = Vec::new();
    let warnings = Throttle::default();
    let tasks = Tasks::default();
    loop {
        if !wait(listener.as_ref(), running, &clients) {
            listener = None;
        }
        clients.retain_mut(|client| client.is_unfinished(service, &tasks));
        let Some(listener) = &listener else {
            if clients.is_empty() {
                return Ok(());
            }
            continue;
        };
        // One at a time: each client is served before another may replace it.
        if let Some(client) = accept(listener) {
            if clients.len() >= CONNECTIONS_MAX {
                make_room(&mut clients, service, &warnings);
            }
            clients.push(client);
        }
    }
}

/// Waits for a new connection, for a client that is ready, or for the end of a client's time. False
/// once `running` has ended; it is waited for as long as there is a listener.
fn wait(listener: Option<&TcpListener>, running: &PipeReader, clients: &[Client]) -> bool {
    let mut sources: Vec<_> = clients.iter().map(Client::source).collect();
    if let Some(listener) = listener {
        sources.push(PollFd::new(listener, PollFlags::IN));
        sources.push(PollFd::new(running, PollFlags::IN));
    }
    let until = clients.iter().map(|client| client.until).min();
    let wait = until.map(|until| until.saturating_duration_since(Instant::now()));
    // A client's time ends within 5 s, which fits.
    let wait = wait.and_then(|wait| Timespec::try_from(wait).ok());
    match poll(&mut sources, wait.as_ref()) {
        Ok(_) | Err(Errno::INTR) => {}
        // ENOMEM: memory may be free later.
        Err(error) => {
            tracing::debug!(%error, "the admin listener cannot wait");
            thread::sleep(REST);
        }
    }
    let last = sources.last().map(PollFd::revents);
    listener.is_some() && last.is_none_or(|events| events.is_empty())
}

/// The next connection in the backlog.
fn accept(listener: &TcpListener) -> Option<Client> {
    let accepted = listener.accept().and_then(|(socket, _)| {
        socket.set_nonblocking(true)?;
        Ok(Client {
            socket,
            received: Vec::new(),
            response: Vec::new(),
            until: Instant::now() + HEAD_TIME,
        })
    });
    match accepted {
        Ok(client) => return Some(client),
        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
        Err(error) => {
            tracing::debug!(%error, "no connection to the admin listener");
            thread::sleep(REST);
        }
    }
    None
}

/// Ends the oldest connection without a request, or else the oldest, whose client does not read.
fn make_room(clients: &mut Vec<Client>, service: &impl Service, warnings: &Throttle) {
    let idle = clients.iter().position(|client| client.response.is_empty());
    let mut client = clients.remove(idle.unwrap_or_default());
    client.refuse(service.no_room());
    if warnings.is_due() {
        tracing::warn!(
            "too many connections to the admin listener: the oldest without a request are closed"
        );
    }
}

/// The threads of requests that take longer.
#[derive(Default)]
struct Tasks(Arc<AtomicUsize>);

impl Tasks {
    /// Runs `task` in a thread of its own.
    fn start(&self, task: Task, socket: &TcpStream) -> io::Result<()> {
        let running = Running::new(&self.0).ok_or_else(|| {
            io::Error::other(format!("{TASKS_MAX} requests have threads already"))
        })?;
        let socket = socket.try_clone()?;
        socket.set_nonblocking(false)?;
        let thread = thread::Builder::new().name("admin-task".to_owned());
        let run = move || {
            let _running = running;
            task(socket);
        };
        thread.spawn(run).map(drop)
    }
}

/// A place among the tasks, until it is dropped.
struct Running(Arc<AtomicUsize>);

impl Running {
    fn new(count: &Arc<AtomicUsize>) -> Option<Self> {
        let before = count.fetch_add(1, Ordering::Relaxed);
        let running = Self(Arc::clone(count));
        (before < TASKS_MAX).then_some(running)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Client {
    /// The event that it waits for.
    fn source(&self) -> PollFd<'_> {
        let awaited = if self.response.is_empty() {
            PollFlags::IN
        } else {
            PollFlags::OUT
        };
        PollFd::new(&self.socket, awaited)
    }

    /// Makes progress without blocking; false once the connection is over.
    fn is_unfinished(&mut self, service: &impl Service, tasks: &Tasks) -> bool {
        match self.go_on(service, tasks) {
            Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < self.until => {
                return true;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.refuse(service.too_slow()),
            Err(error) => tracing::debug!(%error, "no answer from the admin listener"),
            Ok(()) => {}
        }
        false
    }

    fn go_on(&mut self, service: &impl Service, tasks: &Tasks) -> io::Result<()> {
        while self.response.is_empty() {
            self.receive()?;
            // A panic ends this connection, and not the listener.
            self.response = match catch_panic(|| service.reaction(&self.received))? {
                None => continue,
                Some(Reaction::Response(response)) => response,
                Some(Reaction::Task(task)) => match tasks.start(task, &self.socket) {
                    Ok(()) => return Ok(()),
                    Err(error) => {
                        tracing::warn!(%error, "no thread for a request to the admin listener");
                        service.no_room()
                    }
                },
            };
            self.until = Instant::now() + RESPONSE_TIME;
        }
        self.send()?;
        self.discard();
        Ok(())
    }

    /// Reads what is there of a body.
    fn discard(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Write);
        let mut piece = [0; 4096];
        let mut discarded = 0;
        while discarded < DISCARD_BYTES_MAX {
            match self.socket.read(&mut piece) {
                Ok(count @ 1..) => discarded += count,
                Ok(0) | Err(_) => return,
            }
        }
    }

    fn receive(&mut self) -> io::Result<()> {
        let mut piece = [0; 1024];
        match self.socket.read(&mut piece)? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            count => {
                self.received.extend_from_slice(&piece[..count]);
                Ok(())
            }
        }
    }

    fn send(&mut self) -> io::Result<()> {
        while !self.response.is_empty() {
            let count = self.socket.write(&self.response)?;
            self.response.drain(..count);
        }
        Ok(())
    }

    /// Sends `response`, unless another is under way. Bytes that do not fit into the socket are
    /// lost.
    fn refuse(&mut self, response: Vec<u8>) {
        if self.response.is_empty() {
            self.response = response;
            // A client that is gone needs no answer.
            let _ = self.send();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Panics at one request, repeats all others, and takes a thread for one of them.
    struct Fragile;

    impl Service for Fragile {
        fn reaction(&self, received: &[u8]) -> Option<Reaction> {
            assert_ne!(received, b"panic");
            if received == b"slow" {
                return Some(Reaction::Task(Box::new(|mut socket| {
                    socket.write_all(b"at last").unwrap();
                })));
            }
            Some(Reaction::Response(received.to_vec()))
        }

        fn too_slow(&self) -> Vec<u8> {
            Vec::new()
        }

        fn no_room(&self) -> Vec<u8> {
            Vec::new()
        }
    }

    #[test]
    fn a_panic_ends_one_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (running, end) = io::pipe().unwrap();
        thread::spawn(move || serve(listener, &running, &Fragile));
        for (request, expected) in [
            ("panic", ""),
            ("a request", "a request"),
            ("slow", "at last"),
        ] {
            let mut client = TcpStream::connect(address).unwrap();
            client.write_all(request.as_bytes()).unwrap();
            let mut response = String::new();
            client.read_to_string(&mut response).unwrap();
            assert_eq!(response, expected);
        }
        drop(end);
    }
}
