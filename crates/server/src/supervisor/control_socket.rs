//! The socket of `server.control`, by which `tidegate reload` finds the server.
//!
//! A client sends one line, `reload`. The answer is a line, `applied` or `refused`, then lines for
//! the operator, and the end. Only the user of the server and root may connect: the mode of the
//! file is 0600.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, sync_channel};
use std::thread;
use std::time::Duration;

use crate::accept::listener::listen_with;
use crate::accept::unix_socket::{Access, SocketFile, bind_or_ask, check_place};
use crate::error::Error;
use crate::event::{Event, Outcome};
use crate::supervisor::preparations::PREPARE_TIME;

/// Clients that are served at a time; the others are told to try again.
const CLIENTS_MAX: usize = 8;

/// How long a client may take to send its line, and to take the answer.
const CLIENT_TIME: Duration = Duration::from_secs(5);

/// How long to wait for a reload: a little longer than one may take. It may wait for another.
const RELOAD_TIME: Duration = PREPARE_TIME.saturating_add(Duration::from_secs(5));

/// The longest line of a client, with its end.
const LINE_MAX: u64 = 64;

/// How long to pause when no client can be accepted, for lack of descriptors.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// The error with which [`start`] would fail now, had the file of the predecessor been removed.
pub(super) fn check(path: &Path, predecessors: Option<&SocketFile>) -> Result<(), Error> {
    let checked = check_place(path, predecessors.map(SocketFile::id));
    checked.map_err(|source| refused(path, source))
}

/// Makes the socket, and serves it in a thread. Returns its file, which is removed when dropped.
pub(super) fn start(path: &Path, events: Sender<Event>) -> Result<SocketFile, Error> {
    let failed = |source| refused(path, source);
    let (socket, file) = bind_or_ask(path, Access::for_own_user()).map_err(failed)?;
    listen_with(&socket, CLIENTS_MAX as u32).map_err(failed)?;
    let listener = UnixListener::from(socket);
    let thread = thread::Builder::new().name("control".to_owned());
    let served = thread.spawn(move || serve(&listener, &events));
    served.map(drop).map_err(failed)?;
    Ok(file)
}

fn refused(path: &Path, source: io::Error) -> Error {
    Error::Control {
        path: path.to_owned(),
        source,
    }
}

/// Serves clients until the process ends.
fn serve(listener: &UnixListener, events: &Sender<Event>) {
    // Each client holds a clone.
    let clients = Arc::new(());
    loop {
        let Ok((client, _)) = listener.accept() else {
            thread::sleep(ACCEPT_REST);
            continue;
        };
        if Arc::strong_count(&clients) > CLIENTS_MAX {
            refuse(client, "too many clients: try again");
            continue;
        }
        let (place, events) = (Arc::clone(&clients), events.clone());
        let thread = thread::Builder::new().name("control".to_owned());
        // Without a thread the client sees the end of its connection.
        let _ = thread.spawn(move || {
            let _ = answer(client, &events);
            drop(place);
        });
    }
}

fn refuse(mut client: UnixStream, reason: &str) {
    let _ = client.set_nonblocking(true);
    let _ = client.write_all(format!("refused\n{reason}\n").as_bytes());
}

fn answer(mut client: UnixStream, events: &Sender<Event>) -> io::Result<()> {
    client.set_read_timeout(Some(CLIENT_TIME))?;
    client.set_write_timeout(Some(CLIENT_TIME))?;
    let answer = match &*line(&client)? {
        "reload" => match reload(events) {
            Ok(warnings) => format!("applied\n{warnings}"),
            Err(reason) => format!("refused\n{reason}\n"),
        },
        _ => "refused\nunknown command: reload is the one that there is\n".to_owned(),
    };
    client.write_all(answer.as_bytes())?;
    client.shutdown(Shutdown::Write)
}

/// The line of a client without its end.
fn line(client: &UnixStream) -> io::Result<String> {
    let mut line = String::new();
    BufReader::new(client).take(LINE_MAX).read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}

/// Has the main thread reload, and waits for the outcome.
fn reload(events: &Sender<Event>) -> Outcome {
    const STOPS: &str = "the server stops";
    let (reply, outcome) = sync_channel(1);
    let sent = events.send(Event::Reload(Some(reply)));
    sent.map_err(|_| STOPS.to_owned())?;
    outcome.recv_timeout(RELOAD_TIME).unwrap_or_else(|error| {
        Err(match error {
            RecvTimeoutError::Disconnected => STOPS.to_owned(),
            RecvTimeoutError::Timeout => format!(
                "the reload goes on since {}s: does a file system not answer? Its outcome will be \
                 in the log",
                RELOAD_TIME.as_secs()
            ),
        })
    })
}
