//! Listening sockets: for every address of the network, one for each core; Unix sockets are shared.

use std::cell::RefCell;
use std::io;
use std::net::{SocketAddr, SocketAddrV4, ToSocketAddrs};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, getsockname, listen, socket_with, sockopt,
};
use socket2::SockRef;
use tidegate_config::{Listen, Settings, Steering};

use crate::accept::address::{Address, SocketAddress};
use crate::accept::inherited::Inherited;
use crate::accept::unix_socket::{SocketFile, bind_file};
use crate::connection::listener_protocol::ListenerProtocol;
use crate::error::Error;
use crate::transport::certificates::Tls;

/// A bound address, and a listener on it for each core.
pub(crate) struct BoundAddress {
    pub(crate) address: Address,
    /// False if TLS has no certificate yet: the port is bound, but does not listen.
    pub(crate) is_open: bool,
    /// Of a Unix socket. It comes first, since it is to be dropped before its listeners.
    pub(crate) file: Option<SocketFile>,
    /// In the order of the cores, one for each at least.
    pub(crate) listeners: Vec<Listener>,
}

/// A bound socket.
pub(crate) struct Listener {
    pub(crate) socket: OwnedFd,
    /// The backlog of listen(2).
    pub(crate) backlog: u32,
    pub(crate) protocol: ListenerProtocol,
}

/// How the addresses of one section are bound.
struct Binding<'a> {
    /// `None`: the port is closed to clients.
    backlog: Option<u32>,
    cores: &'a [usize],
    inherited: &'a RefCell<Inherited>,
    steering: Steering,
    /// Accept no IPv4 on an IPv6 address.
    only_v6: bool,
}

/// Binds every address of every `[[listen]]` section, once for each of `cores`, in their order
/// (`SO_REUSEPORT`): the kernel spreads connections as `server.steering` says. Sockets of `inherited`
/// are taken instead where they have the address.
pub(crate) fn bind_all(
    settings: &Settings,
    cores: &[usize],
    inherited: &RefCell<Inherited>,
    tls: Option<&Tls>,
) -> Result<Vec<BoundAddress>, Error> {
    let mut bound = Vec::new();
    for section in &settings.listen {
        bound.extend(bind_section(section, settings, cores, inherited, tls)?);
    }
    Ok(bound)
}

/// The error with which [`bind_all`], or the listener at `admin`, would fail now. Nothing listens.
pub(crate) fn refused(settings: &Settings, admin: Option<&str>) -> Option<Error> {
    let admin = admin.map(|address| Listen {
        address: address.to_owned(),
        ..Listen::default()
    });
    let mut sections = settings.listen.iter().chain(&admin);
    sections.find_map(|section| try_section(section, settings).err())
}

fn try_section(section: &Listen, settings: &Settings) -> Result<(), Error> {
    let failed = |source| Error::Listen {
        address: section.address.clone(),
        source,
    };
    if let Some(path) = section.unix_path() {
        let (socket, file) = bind_file(path, section).map_err(failed)?;
        drop(file);
        drop(socket);
        return Ok(());
    }
    let wanted = resolve(&section.address)?;
    let takes_v4 = |address| has_v4_beside(address, &settings.listen);
    let only_v6 = section.only_v6 || wanted.iter().any(takes_v4);
    let bound = bind_same_port(&wanted, |address| {
        Ok((address, bound_socket(address, false, only_v6)?))
    });
    bound.map(drop).map_err(failed)
}

/// The listeners of every address, dealt to `cores` cores in turn.
pub(crate) fn by_core(bound: Vec<BoundAddress>, cores: usize) -> Vec<Vec<Listener>> {
    let mut listeners: Vec<Vec<Listener>> = (0..cores).map(|_| Vec::new()).collect();
    for bound in bound {
        for (number, listener) in bound.listeners.into_iter().enumerate() {
            listeners[number % cores].push(listener);
        }
    }
    listeners
}

fn bind_section(
    section: &Listen,
    settings: &Settings,
    cores: &[usize],
    inherited: &RefCell<Inherited>,
    tls: Option<&Tls>,
) -> Result<Vec<BoundAddress>, Error> {
    let is_open = !section.tls || tls.is_none_or(|tls| tls.acceptor.is_ready());
    let backlog = is_open.then_some(section.backlog);
    let failed = |source| Error::Listen {
        address: section.address.clone(),
        source,
    };
    let listener = |socket| Listener {
        socket,
        backlog: section.backlog,
        protocol: ListenerProtocol::new(section, tls),
    };
    let bound = |socket, sockets: Vec<OwnedFd>, file| BoundAddress {
        address: Address {
            socket,
            secure: section.tls,
        },
        is_open,
        file,
        listeners: sockets.into_iter().map(listener).collect(),
    };
    if let Some(path) = section.unix_path() {
        let (sockets, file) = bind_shared(path, section, backlog, cores.len()).map_err(failed)?;
        let address = SocketAddress::Unix(path.to_owned());
        return Ok(vec![bound(address, sockets, Some(file))]);
    }
    let wanted = resolve(&section.address)?;
    let takes_v4 = |address| has_v4_beside(address, &settings.listen);
    let binding = Binding {
        backlog,
        cores,
        inherited,
        steering: settings.server.steering,
        only_v6: section.only_v6 || wanted.iter().any(takes_v4),
    };
    let all = bind_same_port(&wanted, |address| bind_address(address, &binding));
    let all = all.map_err(failed)?.into_iter();
    let all = all.map(|(address, sockets)| bound(SocketAddress::Tcp(address), sockets, None));
    Ok(all.collect())
}

/// Binds one Unix socket for all of `cores` cores: with `SO_REUSEPORT` the last one bound would get
/// all connections.
fn bind_shared(
    path: &Path,
    section: &Listen,
    backlog: Option<u32>,
    cores: usize,
) -> io::Result<(Vec<OwnedFd>, SocketFile)> {
    let (socket, file) = bind_file(path, section)?;
    if let Some(backlog) = backlog {
        listen_with(&socket, backlog)?;
    }
    let mut sockets = vec![socket];
    while sockets.len() < cores {
        sockets.push(sockets[0].try_clone()?);
    }
    Ok((sockets, file))
}

/// Whether another section has an IPv4 address with the port of `address`: an IPv6 socket for all
/// addresses would take it as well.
fn has_v4_beside(address: &SocketAddr, all: &[Listen]) -> bool {
    all.iter()
        .filter_map(|listen| listen.address.parse::<SocketAddrV4>().ok())
        .any(|other| other.port() == address.port() && other.port() != 0)
}

/// Every address of the name, none twice.
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

/// How often to try another port if the one that the system picked for the first address is in use
/// on another.
const PORT_TRIES: u32 = 16;

/// Binds all of `wanted`, with the same port if the system picks it.
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

/// Binds all of `wanted` but those of a family that this host lacks: a name may have an IPv6
/// address on a host without IPv6.
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

/// Whether bind(2) failed because the host has no such address.
fn is_absent(error: &io::Error) -> bool {
    let absent = [Errno::ADDRNOTAVAIL, Errno::AFNOSUPPORT];
    Errno::from_io_error(error).is_some_and(|errno| absent.contains(&errno))
}

/// Takes or binds a socket for each core, and listens if there is a backlog.
fn bind_address(
    wanted: SocketAddr,
    binding: &Binding<'_>,
) -> io::Result<(SocketAddr, Vec<OwnedFd>)> {
    let inherited = binding.inherited.borrow_mut().take(wanted);
    let cores = binding.cores.len();
    let (address, sockets) = match inherited {
        Some((address, sockets)) => (address, for_all_cores(address, sockets, cores)?),
        None => bind_for_all_cores(wanted, binding)?,
    };
    for (number, socket) in sockets.iter().enumerate() {
        if binding.steering == Steering::Cpu {
            // SO_INCOMING_CPU: the socket for connections that arrive on this core. Those of a core
            // without a listener are spread over all by hash.
            let core = binding.cores[number % binding.cores.len()];
            SockRef::from(socket).set_cpu_affinity(core)?;
        }
        if let Some(backlog) = binding.backlog {
            listen_with(socket, backlog)?;
        }
    }
    Ok((address, sockets))
}

/// Adds to `inherited` what the cores lack: siblings where the sockets have `SO_REUSEPORT`, else the
/// same sockets again. More sockets than cores are kept, since connections wait in each.
fn for_all_cores(
    address: SocketAddr,
    mut inherited: Vec<OwnedFd>,
    cores: usize,
) -> io::Result<Vec<OwnedFd>> {
    let count = inherited.len();
    for number in count..cores {
        let socket = sibling(address, &inherited[number % count])?;
        inherited.push(socket);
    }
    for socket in &inherited {
        sockopt::set_tcp_nodelay(socket, true)?;
    }
    Ok(inherited)
}

/// Another socket of the same address if `one` has `SO_REUSEPORT`, else the same.
fn sibling(address: SocketAddr, one: &OwnedFd) -> io::Result<OwnedFd> {
    if sockopt::socket_reuseport(one)? {
        let only_v6 = address.is_ipv6() && sockopt::ipv6_v6only(one)?;
        // Fails if the port is privileged, or the socket another user's.
        if let Ok(sibling) = bound_socket(address, true, only_v6) {
            return Ok(sibling);
        }
    }
    one.try_clone()
}

/// Binds a socket for each core.
fn bind_for_all_cores(
    wanted: SocketAddr,
    binding: &Binding<'_>,
) -> io::Result<(SocketAddr, Vec<OwnedFd>)> {
    let only_v6 = binding.only_v6;
    // With SO_REUSEPORT a second server of the same user would get the port too, and half the
    // connections. Without it bind(2) fails where another process listens.
    if wanted.port() != 0 {
        drop(bound_socket(wanted, false, only_v6)?);
    }
    let first = bound_socket(wanted, true, only_v6)?;
    let address = SocketAddr::try_from(getsockname(&first)?)?;
    let mut sockets = vec![first];
    for _ in 1..binding.cores.len() {
        sockets.push(bound_socket(address, true, only_v6)?);
    }
    Ok((address, sockets))
}

pub(crate) fn listen_with(socket: impl AsFd, backlog: u32) -> io::Result<()> {
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
        // Independent of net.ipv6.bindv6only.
        sockopt::set_ipv6_v6only(&socket, only_v6)?;
    }
    // Accepted sockets inherit it: a response must not wait until an earlier one is acknowledged.
    sockopt::set_tcp_nodelay(&socket, true)?;
    bind(&socket, &address)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// Binds addresses in turn, with the given results; the system picks port 9.
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
