//! Listening sockets, and accepting from them within the limits.

pub(crate) mod admission;

use std::io;
use std::net::{SocketAddr, SocketAddrV4, ToSocketAddrs};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future::or;
use glommio::timer::Timer;
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, accept_with, bind, getsockname, listen, socket_with,
    sockopt,
};
use socket2::SockRef;
use tidegate_config::{Listen, Steering};
use tidegate_uring::{Accept, Fd};

use crate::accept::admission::Admission;
use crate::connection::ConnectionTask;
use crate::connection::listener_protocol::ListenerProtocol;
use crate::error::Error;
use crate::transport::certificates::Tls;

/// How long accepting rests when the system has no descriptor or memory for a connection.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// How often it is looked whether there is a certificate, where there was none at the start. What is
/// looked at is memory.
const CERTIFICATE_WAIT: Duration = Duration::from_millis(200);

/// An address, and a listener on it for each core.
pub(crate) struct Bound {
    pub(crate) address: SocketAddr,
    /// Whether it is listened on from the start: not where TLS has no certificate yet.
    pub(crate) is_open: bool,
    /// Whether TLS is spoken there.
    pub(crate) secure: bool,
    pub(crate) listeners: Vec<Listener>,
}

/// A listening socket.
pub(crate) struct Listener {
    pub(crate) socket: OwnedFd,
    /// How many connections may wait in it.
    pub(crate) backlog: usize,
    pub(crate) protocol: ListenerProtocol,
}

/// How the addresses of one section are listened on.
struct Binding<'a> {
    /// `None`: clients find the port closed.
    backlog: Option<u32>,
    cores: &'a [usize],
    steering: Steering,
    /// An IPv6 address is for IPv6 alone.
    only_v6: bool,
}

/// Listens on every address of one section of `all`, once for each of `cores`, in their order
/// (`SO_REUSEPORT`): the kernel spreads connections as `steering` says.
pub(crate) fn listen_on(
    configured: &Listen,
    all: &[Listen],
    cores: &[usize],
    steering: Steering,
    tls: Option<&Tls>,
) -> Result<Vec<Bound>, Error> {
    let wanted = resolve(&configured.address)?;
    let is_open = !configured.tls || tls.is_none_or(|tls| tls.acceptor.is_ready());
    let binding = Binding {
        backlog: is_open.then_some(configured.backlog),
        cores,
        steering,
        only_v6: configured.only_v6 || wanted.iter().any(|address| has_v4_beside(address, all)),
    };
    let bound = bind_same_port(&wanted, |address| bind_all(address, &binding));
    let bound = bound.map_err(|source| Error::Listen {
        address: configured.address.clone(),
        source,
    })?;
    let bound = bound.into_iter().map(|(address, sockets)| Bound {
        address,
        is_open,
        secure: configured.tls,
        listeners: sockets
            .into_iter()
            .map(|socket| Listener {
                socket,
                backlog: configured.backlog as usize,
                protocol: ListenerProtocol::new(configured, tls),
            })
            .collect(),
    });
    Ok(bound.collect())
}

/// Whether an IPv4 address with the port of `address` is listened on, which a socket for all
/// addresses would take as well.
fn has_v4_beside(address: &SocketAddr, all: &[Listen]) -> bool {
    all.iter()
        .filter_map(|listen| listen.address.parse::<SocketAddrV4>().ok())
        .any(|other| other.port() == address.port() && other.port() != 0)
}

/// Every address that the name has, none twice.
fn resolve(address: &str) -> Result<Vec<SocketAddr>, Error> {
    let unresolved = |source| Error::Resolve {
        address: address.to_owned(),
        source,
    };
    let mut all: Vec<SocketAddr> = Vec::new();
    for found in address.to_socket_addrs().map_err(unresolved)? {
        if !all.contains(&found) {
            all.push(found);
        }
    }
    if all.is_empty() {
        return Err(unresolved(io::Error::other("the name has no address")));
    }
    Ok(all)
}

/// How often another port is asked for where the one that the system picked for the first address is
/// taken on another.
const PORT_TRIES: u32 = 16;

/// Binds all of `wanted`, with the same port where the system picks it.
fn bind_same_port<T>(
    wanted: &[SocketAddr],
    bind: impl Fn(SocketAddr) -> io::Result<(SocketAddr, T)>,
) -> io::Result<Vec<(SocketAddr, T)>> {
    let mut tries = 1;
    loop {
        match bind_each(wanted, &bind) {
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse
                    && wanted[0].port() == 0
                    && tries < PORT_TRIES =>
            {
                tries += 1;
            }
            other => return other,
        }
    }
}

/// Binds all of `wanted` but those of a family that this host does not have: a name has an IPv6
/// address where nothing else does.
fn bind_each<T>(
    wanted: &[SocketAddr],
    bind: impl Fn(SocketAddr) -> io::Result<(SocketAddr, T)>,
) -> io::Result<Vec<(SocketAddr, T)>> {
    let mut bound: Vec<(SocketAddr, T)> = Vec::new();
    let mut absent = None;
    for address in wanted {
        let mut address = *address;
        if let Some((first, _)) = bound.first() {
            address.set_port(first.port());
        }
        match bind(address) {
            Ok(one) => bound.push(one),
            Err(error) if is_absent(&error) => absent = Some(error),
            Err(error) => return Err(error),
        }
    }
    match absent {
        Some(error) if bound.is_empty() => Err(error),
        _ => Ok(bound),
    }
}

/// Whether an address could not be bound since the host has no such address.
fn is_absent(error: &io::Error) -> bool {
    let absent = [Errno::ADDRNOTAVAIL, Errno::AFNOSUPPORT];
    Errno::from_io_error(error).is_some_and(|errno| absent.contains(&errno))
}

/// Binds a socket for each core, and listens with the backlog, if there is one: a port that is bound
/// only is closed to clients.
fn bind_all(wanted: SocketAddr, binding: &Binding<'_>) -> io::Result<(SocketAddr, Vec<OwnedFd>)> {
    let Binding {
        backlog,
        cores,
        steering,
        only_v6,
    } = *binding;
    // With SO_REUSEPORT a second server of the same user would get the port too, and half the
    // connections. Without it the port is refused where anybody listens.
    if wanted.port() != 0 {
        drop(bound_socket(wanted, false, only_v6)?);
    }
    let first = bound_socket(wanted, true, only_v6)?;
    let address = SocketAddr::try_from(getsockname(&first)?)?;
    let mut sockets = vec![first];
    for _ in 1..cores.len() {
        sockets.push(bound_socket(address, true, only_v6)?);
    }
    for (socket, core) in sockets.iter().zip(cores) {
        if steering == Steering::Cpu {
            // SO_INCOMING_CPU: chosen for what that core receives. What a core without a listener
            // receives is spread by hash over all.
            SockRef::from(socket).set_cpu_affinity(*core)?;
        }
        if let Some(backlog) = backlog {
            listen_with(socket, backlog)?;
        }
    }
    Ok((address, sockets))
}

fn listen_with(socket: impl AsFd, backlog: u32) -> io::Result<()> {
    Ok(listen(socket, i32::try_from(backlog).unwrap_or(i32::MAX))?)
}

fn bound_socket(address: SocketAddr, shared: bool, only_v6: bool) -> io::Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, shared)?;
    if address.is_ipv6() {
        // Whatever net.ipv6.bindv6only says.
        sockopt::set_ipv6_v6only(&socket, only_v6)?;
    }
    // Accepted sockets inherit it: a response must not wait for the acknowledgement of another.
    sockopt::set_tcp_nodelay(&socket, true)?;
    bind(&socket, &address)?;
    Ok(socket)
}

/// Accepts connections as soon as the listener is open.
pub(crate) async fn accept_when_open(
    admission: Rc<Admission>,
    listener: Fd,
    backlog: usize,
    protocol: ListenerProtocol,
) {
    if let ListenerProtocol::Https(tls) = &protocol {
        while !tls.acceptor.is_ready() {
            Timer::new(CERTIFICATE_WAIT).await;
            if admission.stopping() {
                return;
            }
        }
        // It may be open already, to which this changes nothing.
        let backlog = u32::try_from(backlog).unwrap_or(u32::MAX);
        if let Err(error) = listen_with(&listener, backlog) {
            tracing::error!(%error, "cannot listen where TLS is spoken: the port stays closed");
            return;
        }
    }
    accept(admission, listener, protocol).await;
}

/// Accepts connections until accepting ends, then those that wait already.
///
/// A multishot accept takes all that wait at once, so it is used while all that can wait fit.
/// Nearer to the limit they are accepted one by one, and at it they wait in the backlog.
async fn accept(admission: Rc<Admission>, listener: Fd, protocol: ListenerProtocol) {
    let mut accept = admission.context.io.ring.accept(&listener);
    loop {
        let many = admission.has_room_for_backlog(accept.is_armed());
        if !many {
            disarm(&admission, &listener, &mut accept, &protocol).await;
        }
        // From here to the accept nothing is awaited, so one that is queued is cancelled by the
        // stop.
        if admission.stopping() {
            break;
        }
        let accepted = if many {
            accept.next().await
        } else if admission.room() > 0 {
            admission.context.io.ring.accept_one(&listener).await
        } else {
            wait_for_room(&admission, &listener).await;
            continue;
        };
        match accepted {
            Ok(socket) => start(&admission, socket, &protocol),
            Err(error) => rest(&admission, &error).await,
        }
    }
    drain(&admission, &listener, &mut accept, &protocol).await;
}

/// Ends a multishot accept, and serves what it had accepted by then. So do the other listeners of
/// the core: they share its room.
async fn disarm(
    admission: &Rc<Admission>,
    listener: &Fd,
    accept: &mut Accept,
    protocol: &ListenerProtocol,
) {
    if !accept.is_armed() {
        return;
    }
    admission.cancel_accepts().await;
    // Ends with ECANCELED, also if the accept had ended by itself.
    while let Ok(socket) = accept.next().await {
        start(admission, socket, protocol);
    }
    *accept = admission.context.io.ring.accept(listener);
}

/// At the limit: once somebody waits to be accepted, others make room.
async fn wait_for_room(admission: &Admission, listener: &Fd) {
    let room = async {
        admission.room_or_stop().await;
        false
    };
    // An error is a cancellation on behalf of another listener, and nobody waiting here.
    let asked = async {
        admission
            .context
            .io
            .ring
            .poll(listener, PollFlags::IN)
            .await
            .is_ok()
    };
    if or(room, asked).await {
        admission.make_room().await;
    }
}

/// Serves all that have connected: to close a listener resets those in its backlog.
async fn drain(
    admission: &Rc<Admission>,
    listener: &Fd,
    accept: &mut Accept,
    protocol: &ListenerProtocol,
) {
    disarm(admission, listener, accept, protocol).await;
    if rustix::io::ioctl_fionbio(listener, true).is_err() {
        return;
    }
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    while let Ok(socket) = accept_with(listener, flags) {
        start(admission, socket, protocol);
    }
}

fn start(admission: &Rc<Admission>, socket: OwnedFd, protocol: &ListenerProtocol) {
    let task = ConnectionTask::new(Rc::clone(&admission.context), Fd::from(socket), protocol);
    admission.context.io.ring.spawn(task).detach();
}

/// What to do after accept(2) failed: nothing if only that connection did, else rest, so that a
/// lack of descriptors or memory does not become a busy loop.
async fn rest(admission: &Admission, error: &io::Error) {
    // Cancelled: accepting ends. The others befell that one connection.
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
    admission.warn(error);
    Timer::new(ACCEPT_REST).await;
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// Addresses that are bound in turn, each with how that ends; the system picks port 9.
    fn bound(wanted: &[&str], ends: &[Option<Errno>]) -> Result<Vec<String>, Errno> {
        let wanted: Vec<SocketAddr> = wanted.iter().map(|text| text.parse().unwrap()).collect();
        let ends = RefCell::new(ends.iter());
        let bound = bind_same_port(&wanted, |mut address| {
            if let Some(errno) = ends.borrow_mut().next().expect("a further try") {
                return Err((*errno).into());
            }
            if address.port() == 0 {
                address.set_port(9);
            }
            Ok((address, ()))
        });
        assert_eq!(ends.borrow().len(), 0, "all are tried");
        let bound = bound.map_err(|error| Errno::from_io_error(&error).unwrap())?;
        Ok(bound
            .iter()
            .map(|(address, ())| address.to_string())
            .collect())
    }

    #[test]
    fn all_addresses_of_a_name_are_bound_to_one_port() {
        let ok = None;
        let in_use = Some(Errno::ADDRINUSE);
        let absent = Some(Errno::ADDRNOTAVAIL);
        let no_v6 = Some(Errno::AFNOSUPPORT);
        let both = ["[::1]:0", "127.0.0.1:0"];
        let fixed = ["[::1]:80", "127.0.0.1:80"];
        let (v4, v6) = ("127.0.0.1:9", "[::1]:9");
        assert_eq!(bound(&both, &[ok, ok]).unwrap(), [v6, v4]);
        assert_eq!(bound(&both, &[ok, in_use, ok, ok]).unwrap(), [v6, v4]);
        assert_eq!(bound(&both, &[absent, ok]).unwrap(), [v4]);
        assert_eq!(bound(&both, &[no_v6, ok]).unwrap(), [v4]);
        assert_eq!(bound(&both, &[ok, absent]).unwrap(), [v6]);
        assert_eq!(bound(&both, &[no_v6, absent]), Err(Errno::ADDRNOTAVAIL));
        assert_eq!(bound(&fixed, &[ok, in_use]), Err(Errno::ADDRINUSE));
        assert_eq!(bound(&both[..1], &[no_v6]), Err(Errno::AFNOSUPPORT));
    }

    #[test]
    fn what_ipv4_takes_is_left_to_it() {
        let listen = |address: &str| Listen {
            address: address.to_owned(),
            ..Listen::default()
        };
        let all = [
            listen("0.0.0.0:80"),
            listen("127.0.0.1:0"),
            listen("[::]:443"),
        ];
        let table = [("[::]:80", true), ("[::]:443", false), ("[::]:0", false)];
        for (address, expected) in table {
            let address = address.parse().unwrap();
            assert_eq!(has_v4_beside(&address, &all), expected, "{address}");
        }
    }
}
