//! With a service manager: the sockets that it passes, and the messages that it gets.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::id;
use std::time::Duration;

use rustix::process::Signal;

use crate::lifecycle::listeners;
use crate::support::{
    Client, Launch, Server, Strace, Tree, WATCHDOG, eventually, get, installed, noise, two_cores,
};

/// Passes `COUNT` sockets of `KIND` as systemd does, and becomes the command that follows. They
/// become descriptors 3 and up in the place of any that this process inherited.
const PASS: &str = "
import fcntl, os, socket, sys
kind, count, command = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
type = socket.SOCK_DGRAM if kind == 'udp' else socket.SOCK_STREAM
sockets, port = [], 0
for number in range(count):
    one = socket.socket(socket.AF_INET, type)
    if kind == 'reuseport':
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    one.bind(('127.0.0.1', port))
    port = one.getsockname()[1]
    kind == 'udp' or one.listen(100)
    one.setblocking(False)
    sockets.append(fcntl.fcntl(one, fcntl.F_DUPFD, 100))
    one.close()
for number, one in enumerate(sockets):
    os.dup2(one, 3 + number)
    os.close(one)
pid = os.getppid() if kind == 'other' else os.getpid()
os.environ.update(LISTEN_PID=str(pid), LISTEN_FDS=str(count), LISTEN_FDNAMES='')
os.execvp(command[0], command)
";

/// Starts the server with `count` sockets of a service manager.
pub(crate) fn passing(kind: &str, count: usize, launch: Launch) -> Launch {
    launch.through(["python3", "-c", PASS, kind, &count.to_string()])
}

/// Checks that whatever core and socket a connection meets, it is served.
#[track_caller]
fn serves(server: &Server) {
    let mut clients: Vec<_> = (0..60).map(|_| server.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/file").body, b"content");
    }
}

#[test]
fn the_sockets_of_the_manager_are_listened_on() {
    if two_cores().is_none() || !installed("python3") {
        return;
    }
    let tree = Tree::with("file", b"content");
    // With SO_REUSEPORT each core gets one of its own, and none that was passed is left out.
    for (kind, passed, expected) in [("reuseport", 1, 2), ("reuseport", 3, 3), ("plain", 1, 1)] {
        let server = passing(kind, passed, Launch::serve_on("2", tree.root())).start();
        let port = server.address.port();
        assert_eq!(listeners(port), expected, "{passed} of {kind}");
        serves(&server);
        server.stop();
    }
}

#[test]
fn the_sockets_of_another_process_are_left_alone() {
    if !installed("python3") {
        return;
    }
    let tree = Tree::with("file", b"content");
    let server = passing("other", 1, Launch::serve(tree.root())).start();
    assert_eq!(listeners(server.address.port()), 1);
    serves(&server);
    server.stop();
}

#[test]
fn a_socket_that_nobody_wants_is_refused() {
    if !installed("python3") {
        return;
    }
    let tree = Tree::new();
    let launch = || Launch::with(["serve", "--cores", "1", "--listen", "127.0.0.2:0"]);
    for (kind, words) in [
        ("plain", ["for 127.0.0.1:", "write address = \"127.0.0.1:"]),
        (
            "udp",
            ["socket 0 of those", "is no stream socket that listens"],
        ),
    ] {
        let refused = passing(kind, 1, launch().argument(tree.root())).output();
        refused.refusal(1, &words);
    }
}

/// A service manager that listens to messages.
pub(crate) struct Manager(UnixDatagram);

impl Manager {
    /// At a path below `tree`, which is returned too.
    pub(crate) fn new(tree: &Tree) -> (Self, String) {
        let path = tree.base().join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        (Self::over(socket), path.display().to_string())
    }

    fn over(socket: UnixDatagram) -> Self {
        let timeout = Some(WATCHDOG);
        socket.set_read_timeout(timeout).expect("a timeout");
        Self(socket)
    }

    /// The next message.
    #[track_caller]
    pub(crate) fn message(&self) -> String {
        let mut buffer = [0; 1024];
        let count = self.0.recv(&mut buffer).expect("a message");
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    }

    /// The next message but for signs of life, up to the `=`.
    #[track_caller]
    fn state(&self) -> String {
        loop {
            let message = self.message();
            if message != "WATCHDOG=1" {
                return message.split('=').next().unwrap_or_default().to_owned();
            }
        }
    }
}

pub(crate) fn notifying(launch: Launch, socket: &str) -> Launch {
    launch.through(["env", &format!("NOTIFY_SOCKET={socket}")])
}

#[test]
fn the_manager_is_told_of_each_change() {
    let tree = Tree::with("big", &noise(32 << 20, 1));
    let (manager, path) = Manager::new(&tree);
    let mut server = notifying(Launch::serve(tree.root()), &path).start();
    assert_eq!(manager.message(), "READY=1\nSTATUS=Serving");
    server.signal(Signal::HUP);
    let reloading = manager.message();
    let rest = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
    let (time, _) = rest.and_then(|rest| rest.split_once('\n')).expect("a time");
    assert!(time.parse::<u64>().is_ok_and(|time| time > 0), "{time}");
    assert_eq!(manager.state(), "READY");
    let mut client = Client::connect_narrow(server.address);
    client.send(get("/big"));
    client.head();
    server.signal(Signal::TERM);
    assert_eq!(
        manager.message(),
        "STOPPING=1\nSTATUS=Letting responses finish"
    );
    server.signal(Signal::TERM);
    assert_eq!(manager.state(), "STOPPING");
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_manager_with_an_abstract_name_is_told() {
    let name = format!("tidegate-test-{}", id());
    let address = SocketAddr::from_abstract_name(&name).expect("a name");
    let manager = Manager::over(UnixDatagram::bind_addr(&address).expect("a socket"));
    let tree = Tree::new();
    let server = notifying(Launch::serve(tree.root()), &format!("@{name}")).start();
    assert_eq!(manager.state(), "READY");
    server.stop();
    assert_eq!(manager.state(), "STOPPING");
}

#[test]
fn a_manager_that_is_gone_changes_nothing() {
    let tree = Tree::with("file", b"content");
    let server = notifying(Launch::serve(tree.root()), "/nonexistent/notify").start();
    serves(&server);
    eventually("a line", || server.log().contains("was not told"));
    server.stop();
}

#[test]
fn signs_of_life_end_when_a_shard_hangs() {
    if !installed("strace") {
        return;
    }
    let tree = Tree::with("large", &noise(300_000, 1));
    let (manager, path) = Manager::new(&tree);
    let launch = Launch::run(&tree, "watchdog = \"off\"", "");
    let launch = notifying(launch, &path).through(["env", "WATCHDOG_USEC=10000000"]);
    let server = launch.start();
    assert_eq!(manager.state(), "READY");
    for _ in 0..2 {
        assert_eq!(manager.message(), "WATCHDOG=1");
    }
    let Some(strace) = Strace::inject(&server, "splice", "delay_enter=600s:when=1") else {
        return;
    };
    server.connect().send(get("/large"));
    // A last one or two may be on their way.
    let quiet = Some(Duration::from_secs(5));
    manager.0.set_read_timeout(quiet).expect("a timeout");
    let mut buffer = [0; 1024];
    eventually("no sign of life", || manager.0.recv(&mut buffer).is_err());
    drop(strace);
    manager
        .0
        .set_read_timeout(Some(WATCHDOG))
        .expect("a timeout");
    assert_eq!(manager.message(), "WATCHDOG=1");
}
