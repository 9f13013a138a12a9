//! A relay in front of a server: the network between the two, which is slow, cuts, and goes silent.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::{WATCHDOG, eventually, free_address};

/// Bytes that go on at once.
const PIECE: usize = 16 * 1024;

/// What the relay does with connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    /// Passes on what comes.
    Open,
    /// The same, each piece so much later.
    Slow(Duration),
    /// Ends each connection after so many bytes of the server.
    Cut(u64),
    /// The same with the next connection alone.
    CutOne(u64),
    /// Nothing goes on until it is something else, and nothing is lost.
    Silent,
    /// Connections are refused, and those that are open end.
    Closed,
}

/// The relay. Its drop ends it.
pub(crate) struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Mutex<Option<Accepting>>,
}

/// A listener, and the thread that accepts from it.
struct Accepting(Arc<TcpListener>, JoinHandle<()>);

struct Shared {
    server: SocketAddr,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    wire: Wire,
    /// Both sides of all that were accepted since it was closed.
    streams: Vec<TcpStream>,
}

impl Relay {
    /// One in front of `server`, open.
    pub(crate) fn start(server: SocketAddr) -> Self {
        let state = State {
            wire: Wire::Closed,
            streams: Vec::new(),
        };
        let relay = Self {
            address: free_address(),
            shared: Arc::new(Shared {
                server,
                state: Mutex::new(state),
                changed: Condvar::new(),
            }),
            accepting: Mutex::default(),
        };
        relay.set(Wire::Open);
        relay
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Behaves like that from now on, to connections that are open as well.
    pub(crate) fn set(&self, wire: Wire) {
        self.shared.lock().wire = wire;
        self.shared.changed.notify_all();
        let mut accepting = self.accepting.lock().expect("a listener");
        if wire == Wire::Closed {
            if let Some(accepting) = accepting.take() {
                self.close(accepting);
            }
        } else if accepting.is_none() {
            *accepting = Some(self.listen());
        }
    }

    fn close(&self, Accepting(listener, thread): Accepting) {
        // It wakes the thread up.
        rustix::net::shutdown(&listener, rustix::net::Shutdown::Both).expect("an end");
        drop(listener);
        thread.join().expect("the thread that accepts");
        for stream in self.shared.lock().streams.drain(..) {
            end(&stream);
        }
    }

    fn listen(&self) -> Accepting {
        // A connection of another test may have the port for a moment.
        let mut listener = None;
        eventually("the port", || {
            listener = TcpListener::bind(self.address).ok();
            listener.is_some()
        });
        let listener = Arc::new(listener.expect("a listener"));
        let (shared, accepting) = (Arc::clone(&self.shared), Arc::clone(&listener));
        let thread = thread::spawn(move || {
            while let Ok((client, _)) = accepting.accept() {
                shared.connect(client);
            }
        });
        Accepting(listener, thread)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.set(Wire::Closed);
    }
}

impl Shared {
    /// Relays a connection, on two threads of its own.
    fn connect(self: &Arc<Self>, client: TcpStream) {
        let Ok(server) = TcpStream::connect(self.server) else {
            return;
        };
        let copies = (client.try_clone(), server.try_clone());
        let (Ok(to_client), Ok(to_server)) = copies else {
            return;
        };
        let copies = [&client, &server].map(TcpStream::try_clone);
        let mut state = self.lock();
        state.streams.extend(copies.into_iter().flatten());
        let cut = match state.wire {
            Wire::CutOne(bytes) => {
                state.wire = Wire::Open;
                Some(bytes)
            }
            _ => None,
        };
        drop(state);
        for (from, to, cut, is_response) in [
            (client, to_server, None, false),
            (server, to_client, cut, true),
        ] {
            let shared = Arc::clone(self);
            thread::spawn(move || shared.relay(from, to, cut, is_response));
        }
    }

    /// Passes on what `from` sends, at most `cut` bytes. Both end with either.
    fn relay(&self, mut from: TcpStream, mut to: TcpStream, cut: Option<u64>, is_response: bool) {
        // Pieces arrive as they are sent.
        let _ = to.set_nodelay(true);
        let mut buffer = vec![0; PIECE];
        let mut passed = 0;
        loop {
            let count = match from.read(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Ok(0) | Err(_) => break,
                Ok(count) => count,
            };
            let limit = match self.pass() {
                Wire::Cut(bytes) if is_response => Some(bytes),
                Wire::Closed => break,
                _ => cut,
            };
            let left = limit.map_or(u64::MAX, |limit| limit.saturating_sub(passed));
            let count = left.min(count as u64) as usize;
            passed += count as u64;
            if to.write_all(&buffer[..count]).is_err() || count as u64 == left {
                break;
            }
        }
        end(&from);
        end(&to);
    }

    /// Holds a piece back as long as it has to be; how the wire is then.
    fn pass(&self) -> Wire {
        let state = self.lock();
        let is_silent = |state: &mut State| state.wire == Wire::Silent;
        let waited = self.changed.wait_timeout_while(state, WATCHDOG, is_silent);
        let wire = waited.unwrap_or_else(PoisonError::into_inner).0.wire;
        if let Wire::Slow(time) = wire {
            thread::sleep(time);
        }
        wire
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn end(stream: &TcpStream) {
    // It may have ended already.
    let _ = stream.shutdown(Shutdown::Both);
}
