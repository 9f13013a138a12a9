//! Listening sockets: for every address of the network, one for each core; Unix sockets are shared.

use std::cell::RefCell;
use std::io;
use std::net::{SocketAddr, SocketAddrV4, ToSocketAddrs};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, getsockname, listen, socket_with, sockopt,
};
use socket2::SockRef;
use tidegate_config::{Listen, Settings, Steering};

use crate::accept::address::{Address, SocketAddress};
use crate::accept::inherited::Inherited;
use crate::accept::unix_socket::{Access, SocketFile, bind_file, bind_or_ask};
use crate::connection::listener_protocol::ListenerProtocol;
use crate::error::Error;
use crate::launcher;
use crate::transport::certificates::Tls;

/// Names a listener for as long as the process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ListenerId(u64);

impl ListenerId {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// What the configuration says of a listener, and where that led.
#[derive(Clone, Debug)]
pub(crate) struct BoundSection {
    pub(crate) id: ListenerId,
    pub(crate) section: Listen,
    /// How many sections before it have the same address: with port 0 each has a port of its own.
    rank: usize,
    pub(crate) address: Address,
    /// Of the file of a Unix socket.
    pub(crate) access: Option<Access>,
    /// Accept no IPv4 on an IPv6 address.
    only_v6: bool,
    /// False if TLS has no certificate yet: the port is bound, but does not listen.
    pub(crate) is_open: bool,
}

/// A listener with its sockets, as the main thread holds it: they stay open until it is dropped.
pub(crate) struct OpenListener {
    pub(crate) bound: BoundSection,
    /// Of a Unix socket. It comes first, since it is to be dropped before its sockets.
    pub(crate) file: Option<SocketFile>,
    /// In the order of the cores, one for each at least.
    pub(crate) sockets: Vec<OwnedFd>,
}

/// A listener of the next configuration.
pub(crate) enum NextListener {
    /// It is open already, by this identifier.
    Kept(BoundSection),
    New(OpenListener),
}

/// A listener of one core.
pub(crate) struct Listener {
    pub(crate) id: ListenerId,
    pub(crate) address: SocketAddress,
    /// Empty for one that the core has already.
    pub(crate) sockets: Vec<OwnedFd>,
    /// The backlog of listen(2).
    pub(crate) backlog: u32,
    pub(crate) protocol: ListenerProtocol,
}

/// How addresses are bound.
pub(crate) struct Binder<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) cores: &'a [usize],
    pub(crate) inherited: RefCell<Inherited>,
    pub(crate) tls: Option<&'a Tls>,
    /// The listeners that are open.
    pub(crate) open: &'a [BoundSection],
}

/// How the addresses of one section are bound.
struct Binding<'a> {
    /// `None`: the port is closed to clients.
    backlog: Option<u32>,
    only_v6: bool,
    binder: &'a Binder<'a>,
}

/// A bound address.
enum Bound {
    /// By a listener that is open.
    Before(ListenerId),
    Now(Vec<OwnedFd>),
}

impl Binder<'_> {
    /// Binds every address of every `[[listen]]` section, once for each core, in their order
    /// (`SO_REUSEPORT`): the kernel spreads connections as `server.steering` says. Inherited
    /// sockets are taken instead where they have the address. Listeners that are open are kept.
    pub(crate) fn bind_all(&self) -> Result<Vec<NextListener>, Error> {
        let mut all = Vec::new();
        let sections = &self.settings.listen;
        for (number, section) in sections.iter().enumerate() {
            let is_same = |other: &&Listen| other.address == section.address;
            let rank = sections[..number].iter().filter(is_same).count();
            let bound = self.bind_section(section, rank);
            let bound = bound.map_err(|error| error.at(section));
            all.extend(bound?);
        }
        Ok(all)
    }

    fn bind_section(&self, section: &Listen, rank: usize) -> Result<Vec<NextListener>, BindError> {
        let is_open = !section.tls || self.tls.is_none_or(|tls| tls.acceptor.is_ready());
        let backlog = is_open.then_some(section.backlog);
        let unix = section.unix_path();
        let unix = unix.map(|path| Ok::<_, io::Error>((path, Access::of(section)?)));
        let unix = unix.transpose()?;
        let bound = |id, socket, only_v6| BoundSection {
            id,
            section: section.clone(),
            rank,
            address: Address {
                socket,
                secure: section.tls,
            },
            access: unix.map(|(_, access)| access),
            only_v6,
            is_open,
        };
        let of_rank = self.open.iter().filter(|open| open.rank == rank);
        let kept = of_rank.filter(|open| self.keeps(open, section));
        let kept = kept.map(|open| bound(open.id, open.address.socket.clone(), open.only_v6));
        let kept: Vec<_> = kept.map(NextListener::Kept).collect();
        if !kept.is_empty() {
            return Ok(kept);
        }
        if let Some((path, access)) = unix {
            let inherited = self.inherited.borrow_mut().take_unix(path);
            let bind = || bind_or_ask(path, access).map(|(socket, file)| (socket, Some(file)));
            let (socket, file) = inherited.map_or_else(bind, Ok)?;
            let sockets = shared(socket, backlog, self.cores.len())?;
            return Ok(vec![NextListener::New(OpenListener {
                bound: bound(
                    ListenerId::new(),
                    SocketAddress::Unix(path.to_owned()),
                    false,
                ),
                file,
                sockets,
            })]);
        }
        let wanted = resolve(&section.address).map_err(BindError::Resolve)?;
        let binding = Binding {
            backlog,
            only_v6: self.only_v6(section, &wanted),
            binder: self,
        };
        let all = bind_same_port(&wanted, |address| binding.bind(address))?;
        let all = all.into_iter().map(|(address, how)| {
            let bound = |id| bound(id, SocketAddress::Tcp(address), binding.only_v6);
            match how {
                Bound::Before(id) => NextListener::Kept(bound(id)),
                Bound::Now(sockets) => NextListener::New(OpenListener {
                    bound: bound(ListenerId::new()),
                    file: None,
                    sockets,
                }),
            }
        });
        Ok(all.collect())
    }

    /// Whether `open` has the address of `section`, as it is written: a name is not resolved again,
    /// nor another port picked.
    fn keeps(&self, open: &BoundSection, section: &Listen) -> bool {
        let literal: Vec<_> = section.address.parse().into_iter().collect();
        let is_unix = matches!(open.address.socket, SocketAddress::Unix(_));
        open.section.address == section.address
            && (is_unix || open.only_v6 == self.only_v6(section, &literal))
    }

    fn only_v6(&self, section: &Listen, wanted: &[SocketAddr]) -> bool {
        only_v6(section, wanted, self.settings)
    }

    /// Whether this server listens on the port.
    fn has_port(&self, port: u16) -> bool {
        self.open.iter().any(|open| match &open.address.socket {
            SocketAddress::Tcp(address) => address.port() == port,
            SocketAddress::Unix(_) => false,
        })
    }
}

/// Why the addresses of a section are not bound.
enum BindError {
    Resolve(io::Error),
    Listen(io::Error),
}

impl From<io::Error> for BindError {
    fn from(error: io::Error) -> Self {
        Self::Listen(error)
    }
}

impl BindError {
    fn at(self, section: &Listen) -> Error {
        let address = section.address.clone();
        match self {
            Self::Resolve(source) => Error::Resolve { address, source },
            Self::Listen(source) => Error::Listen { address, source },
        }
    }
}

/// The error with which [`Binder::bind_all`], or the listener at `admin`, would fail now. Nothing
/// listens.
pub(crate) fn refused(settings: &Settings, admin: Option<&str>) -> Option<Error> {
    let admin = admin.map(|address| Listen {
        address: address.to_owned(),
        ..Listen::default()
    });
    let mut sections = settings.listen.iter().chain(&admin);
    sections.find_map(|section| {
        let tried = try_section(section, settings);
        tried.err().map(|error| error.at(section))
    })
}

fn try_section(section: &Listen, settings: &Settings) -> Result<(), BindError> {
    if let Some(path) = section.unix_path() {
        let (socket, file) = bind_file(path, Access::of(section)?)?;
        drop(file);
        drop(socket);
        return Ok(());
    }
    let wanted = resolve(&section.address).map_err(BindError::Resolve)?;
    let only_v6 = only_v6(section, &wanted, settings);
    bind_same_port(&wanted, |address| {
        Ok((address, bind_network(address, false, only_v6)?))
    })?;
    Ok(())
}

/// Whether `section` takes IPv6 clients only, there or since another one has the IPv4 address.
fn only_v6(section: &Listen, wanted: &[SocketAddr], settings: &Settings) -> bool {
    let takes_v4 = |address| has_v4_beside(address, &settings.listen);
    section.only_v6 || wanted.iter().any(takes_v4)
}

impl OpenListener {
    /// Its listeners, dealt to `cores` cores in turn.
    fn deal(&self, tls: Option<&Tls>, cores: usize) -> io::Result<Vec<Listener>> {
        let mut dealt: Vec<_> = (0..cores).map(|_| self.bound.listener(tls)).collect();
        for (number, socket) in self.sockets.iter().enumerate() {
            dealt[number % cores].sockets.push(socket.try_clone()?);
        }
        Ok(dealt)
    }
}

impl BoundSection {
    /// A listener without a socket.
    fn listener(&self, tls: Option<&Tls>) -> Listener {
        Listener {
            id: self.id,
            address: self.address.socket.clone(),
            sockets: Vec::new(),
            backlog: self.section.backlog,
            protocol: ListenerProtocol::new(&self.section, tls),
        }
    }
}

impl NextListener {
    pub(crate) fn bound(&self) -> &BoundSection {
        match self {
            Self::Kept(bound) | Self::New(OpenListener { bound, .. }) => bound,
        }
    }
}

/// The listeners of each of `cores` cores. New ones have copies of the sockets.
pub(crate) fn by_core(
    all: &[NextListener],
    tls: Option<&Tls>,
    cores: usize,
) -> Result<Vec<Vec<Listener>>, Error> {
    let mut listeners: Vec<Vec<Listener>> = (0..cores).map(|_| Vec::new()).collect();
    for one in all {
        let dealt = match one {
            NextListener::New(open) => open.deal(tls, cores),
            NextListener::Kept(bound) => Ok((0..cores).map(|_| bound.listener(tls)).collect()),
        };
        let dealt = dealt.map_err(|source| Error::Listen {
            address: one.bound().section.address.clone(),
            source,
        })?;
        for (core, listener) in listeners.iter_mut().zip(dealt) {
            core.push(listener);
        }
    }
    Ok(listeners)
}

impl Binding<'_> {
    /// Keeps, takes or binds a socket for each core.
    fn bind(&self, wanted: SocketAddr) -> io::Result<(SocketAddr, Bound)> {
        let is_same = |open: &&BoundSection| {
            open.address.socket == SocketAddress::Tcp(wanted) && open.only_v6 == self.only_v6
        };
        if let Some(open) = self.binder.open.iter().find(is_same) {
            return Ok((wanted, Bound::Before(open.id)));
        }
        let (address, sockets) = bind_address(wanted, self)?;
        Ok((address, Bound::Now(sockets)))
    }
}

/// Listens with one Unix socket for all of `cores` cores: with `SO_REUSEPORT` the last one bound
/// would get all connections.
fn shared(socket: OwnedFd, backlog: Option<u32>, cores: usize) -> io::Result<Vec<OwnedFd>> {
    if let Some(backlog) = backlog {
        listen_with(&socket, backlog)?;
    }
    let mut sockets = vec![socket];
    while sockets.len() < cores {
        sockets.push(sockets[0].try_clone()?);
    }
    Ok(sockets)
}

/// Whether another section has an IPv4 address with the port of `address`: an IPv6 socket for all
/// addresses would take it as well.
fn has_v4_beside(address: &SocketAddr, all: &[Listen]) -> bool {
    all.iter()
        .filter_map(|listen| listen.address.parse::<SocketAddrV4>().ok())
        .any(|other| other.port() == address.port() && other.port() != 0)
}

/// Every address of the name, none twice.
pub(crate) fn resolve(address: &str) -> io::Result<Vec<SocketAddr>> {
    let mut all: Vec<SocketAddr> = Vec::new();
    for found in address.to_socket_addrs()? {
        if !all.contains(&found) {
            all.push(found);
        }
    }
    if all.is_empty() {
        return Err(io::Error::other("the name has no address"));
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
    let inherited = binding.binder.inherited.borrow_mut().take(wanted);
    let cores = binding.binder.cores.len();
    let (address, sockets) = match inherited {
        Some((address, sockets)) => (address, for_all_cores(address, sockets, cores)?),
        None => bind_for_all_cores(wanted, binding)?,
    };
    for (number, socket) in sockets.iter().enumerate() {
        if binding.binder.settings.server.steering == Steering::Cpu {
            // SO_INCOMING_CPU: the socket for connections that arrive on this core. Those of a core
            // without a listener are spread over all by hash.
            let core = binding.binder.cores[number % binding.binder.cores.len()];
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
        if let Ok(sibling) = bind_network(address, true, only_v6) {
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
    // connections. Without it bind(2) fails where another process listens, or this one by another
    // address.
    if wanted.port() != 0 && !binding.binder.has_port(wanted.port()) {
        drop(bind_network(wanted, false, only_v6)?);
    }
    let first = bind_network(wanted, true, only_v6)?;
    let address = SocketAddr::try_from(getsockname(&first)?)?;
    let mut sockets = vec![first];
    for _ in 1..binding.binder.cores.len() {
        sockets.push(bind_network(address, true, only_v6)?);
    }
    Ok((address, sockets))
}

/// Lets each connection of a listener hold so many bytes beyond those that are on their way: what
/// it holds for a client that takes nothing (`TCP_NOTSENT_LOWAT`, tcp(7)).
pub(crate) fn bound_unsent(listener: &impl AsFd, bytes: u64) {
    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
    // A socket that is not of TCP has no such option.
    let _ = SockRef::from(listener).set_tcp_notsent_lowat(bytes);
}

pub(crate) fn listen_with(socket: impl AsFd, backlog: u32) -> io::Result<()> {
    Ok(listen(socket, i32::try_from(backlog).unwrap_or(i32::MAX))?)
}

/// As [`bound_socket`], by the launcher if this process may not bind it.
fn bind_network(address: SocketAddr, shared: bool, only_v6: bool) -> io::Result<OwnedFd> {
    let direct = || bound_socket(address, shared, only_v6);
    launcher::or_bind(address, shared, only_v6, direct)
}

/// A socket that is bound to `address`, which others may be bound to as well if it is `shared`.
pub(crate) fn bound_socket(
    address: SocketAddr,
    shared: bool,
    only_v6: bool,
) -> io::Result<OwnedFd> {
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
