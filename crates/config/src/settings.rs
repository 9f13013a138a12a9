//! The checked configuration, with every default filled in.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::units::{self, Cores};
use crate::{AccessLog, Clients, Fleet, Http2, Protocols, Site, fleet};

/// A configuration that has passed every check of this crate.
///
/// The fields are public: code that changes one must keep it in its range. `Serialize` writes the
/// notation of the file.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Settings {
    /// `[server]`: the process.
    pub server: Server,
    /// `[sandbox]`: what the kernel keeps the process from.
    pub sandbox: Sandbox,
    /// `[[listen]]`: the addresses; at least one.
    pub listen: Vec<Listen>,
    /// `[timeouts]`: how long a connection may take.
    pub timeouts: Timeouts,
    /// `[limits]`: how much a client may use.
    pub limits: Limits,
    /// `[http2]`: how much a client may use of a connection of HTTP/2.
    pub http2: Http2,
    /// `[io]`: how bytes move.
    pub io: Io,
    /// `[cache]`: what is kept of files.
    pub cache: Cache,
    /// `[fleet]`: other nodes with the same sites; `None`: there are none.
    #[serde(serialize_with = "fleet::fleet_or_none")]
    pub fleet: Option<Fleet>,
    /// `[access-log]`: the log of requests, for sites that say nothing else.
    pub access_log: AccessLog,
    /// `[admin]`: where health and metrics are served.
    pub admin: Admin,
    /// `[tls]`: certificates and policy of every listener with `tls = true`.
    pub tls: Tls,
    /// `[proxies]`: the proxies in front of this server.
    pub proxies: Proxies,
    /// `[[site]]`: what is served; at least one.
    #[serde(rename = "site")]
    pub sites: Vec<Site>,
}

/// All cores share one `Settings`.
const _: () = {
    const fn assert_shared<T: Send + Sync + 'static>() {}
    assert_shared::<Settings>();
};

/// `[server]`
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Server {
    /// The cores to run on.
    pub cores: Cores,
    /// Which core a new connection goes to.
    pub steering: Steering,
    /// How long the listeners stay open after the first stop signal, while the server reports that
    /// it is not ready.
    #[serde(serialize_with = "units::duration")]
    pub drain_delay: Duration,
    /// How long a graceful stop waits for responses in progress; zero cuts them off.
    #[serde(serialize_with = "units::duration")]
    pub graceful_timeout: Duration,
    /// The path of the socket by which `tidegate reload` finds the server; `None`: there is none.
    #[serde(serialize_with = "path_or_empty")]
    pub control: Option<PathBuf>,
    /// How long the new process of an upgrade may take until it can serve.
    #[serde(serialize_with = "units::duration")]
    pub upgrade_timeout: Duration,
    /// How long a shard may make no progress before the process aborts; `None`: no limit.
    #[serde(serialize_with = "units::duration_or_off")]
    pub watchdog: Option<Duration>,
    /// The user to become once it listens, a name or a number; empty: the one that started it.
    pub user: String,
    /// The group, a name or a number; empty: that of the user.
    pub group: String,
}

/// `[sandbox]`
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Sandbox {
    /// Whether files beside those that the configuration names are out of reach, where the kernel
    /// has landlock.
    pub landlock: bool,
    /// Whether system calls that serving does not need are refused, where the kernel has seccomp.
    pub seccomp: bool,
    /// Whether a crash may leave the memory of the process, which has keys, on the disk.
    pub core_dumps: bool,
}

/// Which core a new connection goes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Steering {
    /// The core that a hash of the addresses and ports selects.
    #[default]
    Hash,
    /// The core that handles its packets, if the server runs there; else as `Hash`.
    Cpu,
}

/// `[[listen]]`
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Listen {
    /// `HOST:PORT`, an IPv6 address in brackets; port 0 lets the system pick one. Host names are
    /// not resolved here. Or `unix:PATH`, an absolute path.
    pub address: String,
    /// Connections the kernel queues until they are accepted, 1 to 65535.
    pub backlog: u32,
    /// Whether it speaks TLS; requires a certificate.
    pub tls: bool,
    /// The versions of HTTP that it speaks.
    pub protocols: Protocols,
    /// Redirects every request to this port by HTTPS, on the host that it names; zero: requests are
    /// served. Excludes `tls`.
    pub https_redirect: u16,
    /// Whether an IPv6 address takes IPv6 clients only; else `[::]` takes IPv4 clients too.
    pub only_v6: bool,
    /// Whether connections start with a header of the PROXY protocol.
    pub proxy_protocol: ProxyProtocol,
    /// The permissions of a Unix socket, at most 0o777.
    #[serde(serialize_with = "octal")]
    pub mode: u32,
    /// The owner of a Unix socket, a name or a number; empty: the user of the process.
    pub owner: String,
    /// The group of a Unix socket, a name or a number; empty: that of the process.
    pub group: String,
}

/// Whether connections start with a header of the PROXY protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProxyProtocol {
    /// They do not.
    #[default]
    Off,
    /// Those of trusted proxies may.
    Accept,
    /// All do: others are closed.
    Require,
}

/// `[proxies]`
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Proxies {
    /// The proxies that are believed what they say of their clients.
    pub trusted: Vec<Clients>,
    /// Where they name the client of a request.
    pub header: ForwardedHeader,
}

/// The field in which proxies name the client of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardedHeader {
    /// None.
    #[default]
    Off,
    /// `X-Forwarded-For`.
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

impl Proxies {
    /// Whether the peer with this address is a trusted proxy; `None`: it came by a Unix socket.
    pub fn trust(&self, address: Option<IpAddr>) -> bool {
        self.trusted.iter().any(|clients| clients.has(address))
    }
}

/// `[timeouts]`
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Timeouts {
    /// From the first byte of a request to the end of its head; not zero.
    #[serde(serialize_with = "units::duration")]
    pub header: Duration,
    /// From the end of a response to the first byte of the next request; not zero.
    #[serde(serialize_with = "units::duration")]
    pub keep_alive: Duration,
    /// How long a response may make no progress; not zero.
    #[serde(serialize_with = "units::duration")]
    pub send_stall: Duration,
    /// How long to keep reading from a client after the last response; zero closes at once.
    #[serde(serialize_with = "units::duration")]
    pub linger: Duration,
    /// How long the lookup of a path may take; not zero.
    #[serde(serialize_with = "units::duration")]
    pub lookup: Duration,
}

/// `[limits]`
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Limits {
    /// Bytes of memory that the process may take; `None`: those of its cgroup, or half of the
    /// host's.
    #[serde(serialize_with = "units::size_or_auto")]
    pub memory: Option<u64>,
    /// Open connections on each core, at least 1.
    pub connections_per_core: usize,
    /// Open connections of one client, on all cores together; zero: no limit.
    pub connections_per_ip: usize,
    /// Requests of one client in a second, on all cores together, 0.001 to 100000; zero: no limit.
    pub request_rate_per_ip: f64,
    /// Requests of one client at once, at least 1, and at most those of a day.
    pub request_burst_per_ip: u32,
    /// The prefix by which IPv6 clients are told apart, 32 to 128.
    pub ipv6_prefix: u8,
    /// Bytes of responses that a client takes in a second, at most 1 MiB; zero: any.
    #[serde(serialize_with = "units::size")]
    pub send_rate_min: u64,
    /// The time over which that is averaged, 1 s to an hour.
    #[serde(serialize_with = "units::duration")]
    pub send_rate_grace: Duration,
    /// Bytes of a request that a client sends in a second, at most 1 MiB; zero: any.
    #[serde(serialize_with = "units::size")]
    pub receive_rate_min: u64,
    /// The time over which that is averaged, 1 s to an hour.
    #[serde(serialize_with = "units::duration")]
    pub receive_rate_grace: Duration,
    /// Bytes in a second below which connections make room for new ones, at most 1 MiB; zero: none
    /// does.
    #[serde(serialize_with = "units::size")]
    pub crowded_rate_min: u64,
    /// Requests on a connection before it is closed, at least 1.
    pub requests_per_connection: u32,
    /// Bytes of a request head, 1 KiB to 1 MiB.
    #[serde(serialize_with = "units::size")]
    pub header_bytes: usize,
    /// Header fields of a request, 1 to 100.
    pub headers: usize,
    /// Bytes of a request body that are read and discarded to keep the connection; zero: none.
    #[serde(serialize_with = "units::size")]
    pub body_discard: u64,
    /// Ranges of a request, 1 to 1024; a request for more gets the whole file.
    pub ranges: usize,
    /// Ranges of a request that overlap or go back, 1 to 1024; with more it gets the whole file.
    pub ranges_unordered: usize,
}

/// `[io]`
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Io {
    /// Bodies up to and including this many bytes are sent from memory, 0 to 1 MiB.
    #[serde(serialize_with = "units::size")]
    pub inline_max: usize,
    /// Bytes of each pipe, a power of two from 4 KiB to 1 MiB.
    #[serde(serialize_with = "units::size")]
    pub pipe_size: usize,
    /// Pipes on each core, at least 1.
    pub pipes_per_core: usize,
    /// Receive buffers on each core, a power of two from 1 to 32768.
    pub recv_buffers: u16,
    /// Bytes of each receive buffer, 512 to 64 KiB.
    #[serde(serialize_with = "units::size")]
    pub recv_buffer_size: usize,
    /// Kernel threads on each core for reads that wait for a disk, at least 1.
    pub cold_workers: u32,
    /// For files of at least this many bytes, pages read from the disk are dropped from the page
    /// cache behind the transfer; `None`: they stay.
    #[serde(serialize_with = "units::size_or_off")]
    pub drop_behind: Option<u64>,
}

/// `[cache]`
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Cache {
    /// Bytes of small files kept in memory on each core; zero keeps none.
    #[serde(serialize_with = "units::size")]
    pub hot_bytes_per_core: u64,
    /// Bytes of a popular file, above `io.inline-max`, that is kept in memory as well.
    #[serde(serialize_with = "units::size")]
    pub popular_max: usize,
    /// Files kept open on each core, at least 1.
    pub open_files_per_core: usize,
    /// How long a looked-up file is trusted; zero checks again for each request.
    #[serde(serialize_with = "units::duration")]
    pub valid: Duration,
    /// How long an unused file is kept open, 1 s or more.
    #[serde(serialize_with = "units::duration")]
    pub idle: Duration,
    /// How long after `valid` a file may still be sent while the file system does not respond.
    #[serde(serialize_with = "units::duration")]
    pub stale: Duration,
    /// `[cache.disk]`: where objects of origins are kept. `Some` if a site has an origin.
    #[serde(serialize_with = "disk")]
    pub disk: Option<DiskCache>,
}

/// `[cache.disk]`
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct DiskCache {
    /// The directory, which nothing else uses; not empty. Whether it exists is not checked here.
    #[serde(serialize_with = "path")]
    pub path: PathBuf,
    /// Bytes of objects, at least 16 slices.
    #[serde(serialize_with = "units::size")]
    pub size: u64,
    /// Bytes of an object that are requested and stored as one, a power of two from 64 KiB to
    /// 64 MiB.
    #[serde(serialize_with = "units::size")]
    pub slice: u64,
}

/// `[admin]`
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Admin {
    /// `HOST:PORT` of health, readiness and metrics, as in `listen.address`; empty: off.
    pub listen: String,
    /// The file with the secret for requests that purge or warm what is kept of origins; `None`:
    /// they are refused.
    #[serde(serialize_with = "path_or_empty")]
    pub token: Option<PathBuf>,
}

/// `[tls]`
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Tls {
    /// The oldest accepted version.
    pub min_version: TlsVersion,
    /// Whether the kernel encrypts and decrypts.
    pub ktls: Ktls,
    /// The value of `Strict-Transport-Security` in responses over TLS; empty: not sent.
    pub hsts: String,
    /// Whether clients are asked for a certificate.
    pub client_auth: ClientAuth,
    /// PEM file of the authorities that client certificates are checked against. `Some` where
    /// clients are asked for one.
    #[serde(serialize_with = "path_or_empty")]
    pub client_ca: Option<PathBuf>,
    /// What happens at the start if a certificate cannot be used.
    pub missing: MissingCertificates,
    /// Certificates with their keys; the first is for clients that name no host or an unknown one.
    pub certificates: Vec<CertificateFiles>,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub enum TlsVersion {
    /// TLS 1.2 and 1.3: Mozilla's intermediate profile.
    #[default]
    #[serde(rename = "1.2")]
    Tls12,
    /// TLS 1.3 only: Mozilla's modern profile.
    #[serde(rename = "1.3")]
    Tls13,
}

/// Whether the kernel encrypts and decrypts (kTLS).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ktls {
    /// On connections of TLS 1.3, where the kernel supports it.
    #[default]
    Auto,
    /// Never.
    Off,
}

/// What happens at the start if a certificate is missing or cannot be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MissingCertificates {
    /// The server does not start.
    #[default]
    Refuse,
    /// The server starts with the others. TLS listeners wait until there is one.
    ServeHttp,
}

/// Whether clients are asked for a certificate (mutual TLS).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientAuth {
    /// Not asked.
    #[default]
    Off,
    /// Asked; a client without a certificate is served, one with an invalid one is refused.
    Request,
    /// Asked; a client without a valid certificate is refused.
    Require,
}

/// An entry of `tls.certificates`: two PEM files, or one that holds both.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct CertificateFiles {
    /// The chain, the server's own certificate first.
    #[serde(serialize_with = "path")]
    pub cert: PathBuf,
    /// Its private key.
    #[serde(serialize_with = "path")]
    pub key: PathBuf,
}

impl Listen {
    /// The path of a Unix socket.
    pub fn unix_path(&self) -> Option<&Path> {
        self.address.strip_prefix("unix:").map(Path::new)
    }
}

impl Settings {
    /// The defaults, serving `root`.
    #[must_use]
    pub fn for_directory(root: PathBuf) -> Self {
        Self {
            server: Server::default(),
            sandbox: Sandbox::default(),
            listen: vec![Listen::default()],
            timeouts: Timeouts::default(),
            limits: Limits::default(),
            http2: Http2::default(),
            io: Io::default(),
            cache: Cache::default(),
            fleet: None,
            access_log: AccessLog::default(),
            admin: Admin::default(),
            tls: Tls::default(),
            proxies: Proxies::default(),
            sites: vec![Site::for_directory(root)],
        }
    }

    /// The effective configuration as a file: every key, in the order of the sections above.
    ///
    /// It parses back to the same settings, with two exceptions: TOML cannot hold a root that is
    /// not UTF-8, and a relative root is relative to the directory of the file.
    #[must_use]
    pub fn to_toml(&self) -> String {
        // Fails only for map keys that are not strings and for values without a TOML type.
        toml::to_string(self).expect("settings are plain tables")
    }
}

impl Default for Server {
    fn default() -> Self {
        Self {
            cores: Cores::Auto,
            steering: Steering::Hash,
            drain_delay: Duration::ZERO,
            graceful_timeout: Duration::from_secs(30),
            control: None,
            upgrade_timeout: Duration::from_mins(1),
            watchdog: Some(Duration::from_secs(30)),
            user: String::new(),
            group: String::new(),
        }
    }
}

impl Default for Sandbox {
    fn default() -> Self {
        Self {
            landlock: true,
            seccomp: true,
            core_dumps: false,
        }
    }
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            address: "127.0.0.1:8080".to_owned(),
            backlog: 4096,
            tls: false,
            protocols: Protocols::default(),
            https_redirect: 0,
            only_v6: false,
            proxy_protocol: ProxyProtocol::Off,
            mode: 0o660,
            owner: String::new(),
            group: String::new(),
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            header: Duration::from_secs(10),
            keep_alive: Duration::from_secs(75),
            send_stall: Duration::from_mins(1),
            linger: Duration::from_secs(5),
            lookup: Duration::from_secs(10),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: None,
            connections_per_core: 65_536,
            connections_per_ip: 0,
            request_rate_per_ip: 0.0,
            request_burst_per_ip: 100,
            ipv6_prefix: 64,
            send_rate_min: 100,
            send_rate_grace: Duration::from_mins(1),
            receive_rate_min: 0,
            receive_rate_grace: Duration::from_secs(5),
            crowded_rate_min: 1 << 10,
            requests_per_connection: 10_000,
            header_bytes: 16 << 10,
            headers: 100,
            body_discard: 64 << 10,
            ranges: 1024,
            ranges_unordered: 16,
        }
    }
}

impl Default for Io {
    fn default() -> Self {
        Self {
            inline_max: 16 << 10,
            pipe_size: 512 << 10,
            pipes_per_core: 128,
            recv_buffers: 1024,
            recv_buffer_size: 4 << 10,
            cold_workers: 16,
            drop_behind: None,
        }
    }
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            hot_bytes_per_core: 64 << 20,
            popular_max: 1 << 20,
            open_files_per_core: 8192,
            valid: Duration::from_secs(1),
            idle: Duration::from_mins(1),
            stale: Duration::from_secs(30),
            disk: None,
        }
    }
}

impl DiskCache {
    /// The defaults, in the directory `path`.
    #[must_use]
    pub fn for_directory(path: PathBuf) -> Self {
        Self {
            path,
            size: 64 << 30,
            slice: 4 << 20,
        }
    }
}

/// Writes permissions as chmod(1) takes them.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference to the field"
)]
fn octal<S: serde::Serializer>(mode: &u32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format!("{mode:04o}"))
}

/// Writes a path as text; bytes that are not UTF-8, which TOML cannot hold, are replaced.
fn path<S: serde::Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

/// Writes a cache on the disk; `None` is an empty path.
#[expect(
    clippy::ref_option,
    reason = "serde calls it with a reference to the field"
)]
fn disk<S: serde::Serializer>(disk: &Option<DiskCache>, to: S) -> Result<S::Ok, S::Error> {
    match disk {
        Some(disk) => disk.serialize(to),
        None => DiskCache::for_directory(PathBuf::new()).serialize(to),
    }
}

#[expect(
    clippy::ref_option,
    reason = "serde calls it with a reference to the field"
)]
fn path_or_empty<S: serde::Serializer>(
    file: &Option<PathBuf>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    path(file.as_deref().unwrap_or(Path::new("")), serializer)
}
