//! Turns values as typed into [`Settings`]: fills in defaults and checks ranges.
//!
//! A refused value is replaced by its default, so that one run reports every problem.

use std::collections::BTreeMap;
use std::time::Duration;

use toml::Spanned;

use crate::document::Document;
use crate::raw;
use crate::rules::{self, DAY, count, duration, power_of_two, size};
use crate::shape::{self, Shape};
use crate::units::{Count, Period, Size};
use crate::{
    AccessLog, Admin, Cache, Error, Io, Listen, Sandbox, Server, Settings, Timeouts, ValueError,
};

mod access;
mod access_log;
mod bounds;
mod disk;
mod fleet;
mod http2;
mod limits;
mod origins;
mod places;
mod proxies;
mod report;
mod sites;
mod tls;

use bounds::{GIB, KIB, MIB, MILLISECOND, new_address};
use report::Report;

/// Two rounds of the watchdog, which asks each shard for a sign of life every two seconds.
const WATCHDOG_MIN: Duration = Duration::from_secs(4);

/// Checks all of `document`.
pub(crate) fn settings(document: &Document<'_>) -> Result<Settings, Error> {
    let Shape {
        raw,
        mistakes,
        refused,
    } = shape::compare(document);
    let mut report = Report::new(document, mistakes, refused);
    disk::refuse_without(&raw, &mut report);
    let with_certificates =
        !raw.tls.certificates.is_empty() || report.was_refused_anywhere("tls.certificates");
    let mut addresses = BTreeMap::new();
    let proxies = proxies::proxies(raw.proxies, &raw.listen, &mut report);
    let access_log = access_log::access_log(raw.access_log, &AccessLog::default(), &mut report);
    let place = raw.cache.disk.path.as_ref().map(Spanned::span);
    let settings = Settings {
        server: server(raw.server, &mut report),
        sandbox: sandbox(raw.sandbox, &mut report),
        listen: listen(raw.listen, with_certificates, &mut addresses, &mut report),
        timeouts: timeouts(raw.timeouts, &mut report),
        limits: limits::limits(raw.limits, &mut report),
        http2: http2::http2(raw.http2, &mut report),
        io: io(raw.io, &mut report),
        cache: cache(raw.cache, &mut report),
        admin: admin(raw.admin, &mut addresses, &mut report),
        fleet: fleet::fleet(raw.fleet, &mut addresses, &mut report),
        tls: tls::tls(raw.tls, &mut report),
        proxies,
        sites: sites::sites(raw.site, &access_log, &mut report),
        access_log,
    };
    disk::refuse_in_directories(place, &settings, &mut report);
    report.end()?;
    Ok(settings)
}

fn server(raw: raw::Server, report: &mut Report<'_>) -> Server {
    let default = Server::default();
    let directory = report.directory_of(raw.control.as_ref());
    let has_user = raw
        .user
        .as_ref()
        .is_some_and(|user| !user.get_ref().is_empty());
    Server {
        cores: report.checked(raw.cores, default.cores, Ok),
        steering: report.checked(raw.steering, default.steering, |name| {
            rules::steering(&name)
        }),
        drain_delay: report.checked(
            raw.drain_delay,
            default.drain_delay,
            duration(Duration::ZERO..=DAY, "a stop that waits longer is no stop"),
        ),
        graceful_timeout: report.checked(
            raw.graceful_timeout,
            default.graceful_timeout,
            duration(Duration::ZERO..=DAY, "a stop that waits longer is no stop"),
        ),
        control: report.checked(raw.control, None, |text| {
            Ok((!text.is_empty()).then(|| directory.join(text)))
        }),
        upgrade_timeout: report.checked(
            raw.upgrade_timeout,
            default.upgrade_timeout,
            duration(
                Duration::from_secs(1)..=DAY,
                "a new process needs time, and one that hangs keeps others from being started",
            ),
        ),
        watchdog: report.checked(raw.watchdog, default.watchdog, |typed| {
            let within = duration(
                WATCHDOG_MIN..=DAY,
                "each core is asked every two seconds, and may miss one; \"off\" waits for ever",
            );
            typed.0.map(|time| within(Period(time))).transpose()
        }),
        user: report.checked(raw.user, default.user, Ok),
        group: report.checked(raw.group, default.group, |group| {
            if has_user || group.is_empty() {
                return Ok(group);
            }
            Err(ValueError::new(
                "without server.user it has no meaning: set that, too",
            ))
        }),
    }
}

fn sandbox(raw: raw::Sandbox, report: &mut Report<'_>) -> Sandbox {
    let default = Sandbox::default();
    Sandbox {
        landlock: report.checked(raw.landlock, default.landlock, Ok),
        seccomp: report.checked(raw.seccomp, default.seccomp, Ok),
        core_dumps: report.checked(raw.core_dumps, default.core_dumps, Ok),
    }
}

fn listen(
    raw: Vec<raw::Listen>,
    with_certificates: bool,
    seen: &mut BTreeMap<String, String>,
    report: &mut Report<'_>,
) -> Vec<Listen> {
    if raw.is_empty() {
        return vec![Listen::default()];
    }
    raw.into_iter()
        .map(|entry| listen_one(entry, with_certificates, seen, report))
        .collect()
}

fn listen_one(
    raw: raw::Listen,
    with_certificates: bool,
    seen: &mut BTreeMap<String, String>,
    report: &mut Report<'_>,
) -> Listen {
    let default = Listen::default();
    let offset = raw.address.as_ref().map(|typed| typed.span().start);
    let line = report.line(offset.unwrap_or_default());
    let speaks_tls = raw.tls.as_ref().is_some_and(|tls| *tls.get_ref());
    let address = raw.address.as_ref().map(|typed| typed.get_ref().trim());
    let is_unix = address.is_some_and(|address| address.starts_with("unix:"));
    Listen {
        address: report.checked(raw.address, default.address, |text| {
            new_address(&text, line, seen)
        }),
        backlog: report.checked(
            raw.backlog,
            default.backlog,
            count(1..=65_535, "the kernel needs a queue to accept from"),
        ),
        tls: report.checked(raw.tls, default.tls, |tls| {
            if tls && !with_certificates {
                return Err(ValueError::new(
                    "there is no certificate to show: set tls.certificates",
                ));
            }
            Ok(tls)
        }),
        protocols: http2::protocols(raw.protocols, report),
        https_redirect: https_redirect(raw.https_redirect, speaks_tls, report),
        only_v6: report.checked(raw.only_v6, default.only_v6, Ok),
        proxy_protocol: proxies::proxy_protocol(raw.proxy_protocol, report),
        mode: report.checked(raw.mode, default.mode, |text| {
            rules::mode(&text).and_then(|mode| of_unix(mode, &default.mode, is_unix))
        }),
        owner: report.checked(raw.owner, String::new(), |name| {
            of_unix(name, &default.owner, is_unix)
        }),
        group: report.checked(raw.group, String::new(), |name| {
            of_unix(name, &default.group, is_unix)
        }),
    }
}

/// Checks that only a Unix socket has a value other than the default.
fn of_unix<T: PartialEq>(value: T, default: &T, is_unix: bool) -> Result<T, ValueError> {
    if is_unix || value == *default {
        return Ok(value);
    }
    let reason = "only a Unix socket has it: leave it out, or write address = \"unix:PATH\"";
    Err(ValueError::new(reason))
}

fn admin(raw: raw::Admin, seen: &mut BTreeMap<String, String>, report: &mut Report<'_>) -> Admin {
    let offset = raw.listen.as_ref().map(|typed| typed.span().start);
    let line = report.line(offset.unwrap_or_default());
    let directory = report.directory_of(raw.token.as_ref());
    Admin {
        listen: report.checked(raw.listen, Admin::default().listen, |text| {
            if text.is_empty() {
                return Ok(text);
            }
            rules::tcp_address(&text).and_then(|()| new_address(&text, line, seen))
        }),
        token: report.checked(raw.token, None, |text| {
            rules::path::path_or_empty(&text, &directory)
        }),
    }
}

fn https_redirect(typed: raw::Field<Count>, speaks_tls: bool, report: &mut Report<'_>) -> u16 {
    report.checked(typed, Listen::default().https_redirect, |port| {
        let port = count(0..=65_535, "it is a port, or 0 for none")(port)?;
        if port != 0 && speaks_tls {
            return Err(ValueError::new(
                "requests are here by HTTPS already: leave it out, or set tls = false",
            ));
        }
        Ok(port)
    })
}

fn timeouts(raw: raw::Timeouts, report: &mut Report<'_>) -> Timeouts {
    let default = Timeouts::default();
    Timeouts {
        header: report.checked(
            raw.header,
            default.header,
            duration(MILLISECOND..=DAY, "no head can arrive in no time"),
        ),
        keep_alive: report.checked(
            raw.keep_alive,
            default.keep_alive,
            duration(
                MILLISECOND..=DAY,
                "to close after each response set limits.requests-per-connection = 1",
            ),
        ),
        send_stall: report.checked(
            raw.send_stall,
            default.send_stall,
            duration(MILLISECOND..=DAY, "every response waits for its client"),
        ),
        linger: report.checked(
            raw.linger,
            default.linger,
            duration(
                Duration::ZERO..=DAY,
                "a lingering connection holds its place",
            ),
        ),
        lookup: report.checked(
            raw.lookup,
            default.lookup,
            duration(MILLISECOND..=DAY, "every path has to be looked up once"),
        ),
    }
}

fn io(raw: raw::Io, report: &mut Report<'_>) -> Io {
    let default = Io::default();
    Io {
        inline_max: report.checked(
            raw.inline_max,
            default.inline_max,
            size(0..=MIB, "larger bodies are cheaper to splice than to copy"),
        ),
        pipe_size: report.checked(
            raw.pipe_size,
            default.pipe_size,
            power_of_two(
                size(
                    4 * KIB..=MIB,
                    "a pipe holds at least one page, and 1m is the default of fs.pipe-max-size",
                ),
                "the kernel rounds a pipe up to one",
            ),
        ),
        pipes_per_core: report.checked(
            raw.pipes_per_core,
            default.pipes_per_core,
            count(1..=65_536, "files above io.inline-max move through a pipe"),
        ),
        recv_buffers: report.checked(
            raw.recv_buffers,
            default.recv_buffers,
            power_of_two(
                count(
                    1..=32_768,
                    "this is what a ring of provided buffers can hold",
                ),
                "a ring of provided buffers is indexed by a mask",
            ),
        ),
        recv_buffer_size: report.checked(
            raw.recv_buffer_size,
            default.recv_buffer_size,
            size(
                512..=64 * KIB,
                "smaller splits every head, larger is never filled",
            ),
        ),
        cold_workers: report.checked(
            raw.cold_workers,
            default.cold_workers,
            count(
                1..=1024,
                "files that are not in memory are read by a worker",
            ),
        ),
        drop_behind: report.checked(raw.drop_behind, default.drop_behind, |typed| {
            let within = size(
                MIB..=1024 * GIB,
                "of smaller files too little is given back to be worth it",
            );
            typed.0.map(|bytes| within(Size(bytes))).transpose()
        }),
    }
}

fn cache(raw: raw::Cache, report: &mut Report<'_>) -> Cache {
    let default = Cache::default();
    Cache {
        disk: disk::disk(raw.disk, report),
        hot_bytes_per_core: report.checked(
            raw.hot_bytes_per_core,
            default.hot_bytes_per_core,
            size(0..=1024 * GIB, "no host has that much memory for each core"),
        ),
        popular_max: report.checked(
            raw.popular_max,
            default.popular_max,
            size(0..=MIB, "larger files are read from the page cache"),
        ),
        open_files_per_core: report.checked(
            raw.open_files_per_core,
            default.open_files_per_core,
            count(
                1..=1_048_576,
                "to look at files anew each time set cache.valid = \"0s\"",
            ),
        ),
        valid: report.checked(
            raw.valid,
            default.valid,
            duration(Duration::ZERO..=DAY, "a changed file would never be seen"),
        ),
        stale: report.checked(
            raw.stale,
            default.stale,
            duration(
                Duration::ZERO..=DAY,
                "a file system that does not answer would go unnoticed",
            ),
        ),
        idle: report.checked(
            raw.idle,
            default.idle,
            duration(
                Duration::from_secs(1)..=DAY,
                "to look at files anew each time set cache.valid = \"0s\"",
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use proptest::prelude::*;

    use super::*;
    use crate::{
        CachePreset, CertificateFiles, ClientAuth, Cores, Ktls, MissingCertificates, Steering, Tls,
        TlsVersion,
    };

    /// The one required section. It comes last, so that lines count from the start of a row's text.
    const SITE: &str = "\n[[site]]\nroot = 'www'\n";

    pub(super) fn parse(text: &str) -> Result<Settings, String> {
        Settings::parse(text, Path::new("etc/t.toml")).map_err(|error| error.to_string())
    }

    /// Rows of text and the start of `LINE: KEY: REASON`.
    pub(super) fn refused(rows: &[(&str, &str)]) {
        for (text, expected) in rows {
            let error = parse(text).expect_err(text);
            let line = format!("etc/t.toml:{expected}");
            assert!(
                error.starts_with(&line),
                "{text}\n   got {error}\nwanted {line}"
            );
            assert_eq!(error.lines().count(), 1, "{text}\n{error}");
        }
    }

    /// Rows of text before [`SITE`].
    pub(super) fn refused_beside_a_site(rows: &[(&str, &str)]) {
        for (text, expected) in rows {
            refused(&[(&format!("{text}{SITE}"), expected)]);
        }
    }

    #[test]
    #[rustfmt::skip] // a row a line
    fn not_toml() {
        refused(&[
            ("a = ", "1: "),
            ("[server]\ncores = 'auto\n", "2: "),
            ("[server]\n[server]\n", "2: duplicate key"),
            ("[limits]\nheaders = 1\nheaders = 2\n", "3: duplicate key"),
            ("[server\n", "1: "),
            ("\n\n=\n", "3: "),
            ("[site]\nroot = 'x'\u{0}\n", "2: "),
            ("[[site]]\nroot = /srv/www\n", "2: string values must be quoted, expected literal string; write root = \"/srv/www\""),
            ("[[listen]]\ntls = True\n", "2: invalid boolean, expected `true`; write tls = true"),
            ("[[site]]\nroot: 'x'", "2: key with no value, expected `=`; write root = 'x'"),
            ("server {\n listen 80;\n}\n", "1: key with no value, expected `=`; this looks like a file for another server"),
        ]);
    }

    #[test]
    #[rustfmt::skip] // a row a line
    fn unknown_keys() {
        refused_beside_a_site(&[
            ("[limits]\nheader-byte = '1k'", "2: limits.header-byte: unknown key; did you mean `limits.header-bytes`?"),
            ("[limits]\nheader_bytes = '1k'", "2: limits.header_bytes: unknown key; did you mean `limits.header-bytes`?"),
            ("[limits]\nHeaderBytes = '1k'", "2: limits.HeaderBytes: unknown key; did you mean `limits.header-bytes`?"),
            ("[server]\nkeep-alive = '1s'", "2: server.keep-alive: unknown key; did you mean `timeouts.keep-alive`?"),
            ("backlog = 1", "1: backlog: unknown key; did you mean `listen.backlog`?"),
            ("\n[timeout]\nheader = '1s'", "2: timeout: unknown key; did you mean `timeouts`?"),
            ("[[listen]]\naddress = 'a:1'\n[[listen]]\nadress = 'b:1'", "4: listen.adress: unknown key; did you mean `listen.address`?"),
            ("[limits]\nflux = 0", "2: limits.flux: unknown key; config/tidegate.toml documents all there are"),
            ("[server]\nlo = 0", "2: server.lo: unknown key; config/tidegate.toml documents all there are"),
        ]);
        refused(&[
            ("[[site]]\nroot = 'x'\nname = []", "3: site.name: unknown key; did you mean `site.names`?"),
            ("[[site]]\nroot = 'x'\ntryfiles = []", "3: site.tryfiles: unknown key; did you mean `site.try-files`?"),
            ("[[site]]\nroot = 'x'\n[site.cors]\norigin = []", "4: site.cors.origin: unknown key; did you mean `site.cors.origins`?"),
            ("[[site]]\nrot = 'x'", "2: site.rot: unknown key; did you mean `site.root`?"),
            ("[[sit]]\nroot = 'x'", "1: sit: unknown key; did you mean `site`?"),
        ]);
    }

    /// Each is one mistake, and one line.
    #[test]
    #[rustfmt::skip] // a row a line
    fn keys_of_other_servers() {
        refused_beside_a_site(&[
            ("[admin]\nport = 9900", "2: admin.port: unknown key; write host and port into listen"),
            ("[admin]\npassword = 'x'", "2: admin.password: unknown key; it has no passwords and no TLS"),
            ("[[tls.certificates]]\ncert = 'a'\nkey = 'a'\npassword = 'x'", "4: tls.certificates.password: unknown key; a key has none here"),
            ("[[listen]]\nport = 80", "2: listen.port: unknown key; write host and port into address = \"0.0.0.0:8080\""),
            ("[[listen]]\nbind = '::'", "2: listen.bind: unknown key; write host and port into address"),
            ("[[listen]]\naccept_proxy = true", "2: listen.accept_proxy: unknown key; write proxy-protocol = \"accept\" below [[listen]], and trusted"),
            ("[server]\nreal_ip_header = 'x'", "2: server.real_ip_header: unknown key; write [proxies], with trusted"),
            ("[[listen]]\nhttp2 = true", "2: listen.http2: unknown key; write protocols = [\"h2\", \"http/1.1\"] below [[listen]]"),
            ("[[listen]]\nssl = true", "2: listen.ssl: unknown key; write tls = true"),
            ("port = 80", "1: port: unknown key; write [[listen]], and address"),
            ("[server]\nport = 80", "2: server.port: unknown key; write [[listen]], and address"),
            ("[general]\nhost = '::'", "1: general: unknown key; write [server] for the process"),
            ("user = 'www'", "1: user: unknown key; write user = \"www-data\" below [server]"),
            ("pid-file = '/run/x'", "1: pid-file: unknown key; tidegate has no pid file"),
            ("pidfile = '/run/x'", "1: pidfile: unknown key; tidegate has no pid file"),
            ("import = 'sites/*'", "1: import: unknown key; write include = [\"sites/*.toml\"], above all sections"),
            ("include = 'sites/*'", "1: include: expected a list, found 'sites/*': write ['sites/*']"),
            ("include = ['a', 5]", "1: include: expected a string, found 5"),
            ("expand-environment = 1", "1: expand-environment: expected true or false, found 1"),
            ("[server]\ninclude = ['a']", "2: server.include: unknown key; did you mean `include`?"),
            ("[log]\nlevel = 'debug'", "1: log: unknown key; logs go to standard error, and RUST_LOG chooses them"),
            ("[logging]\nlevel = 'debug'", "1: logging: unknown key; logs go to standard error"),
            ("[server]\nlog_level = 'debug'", "2: server.log_level: unknown key; logs go to standard error"),
            ("[access-log]\ndestination = 'x'", "2: access-log.destination: unknown key; write it as path"),
            ("[server]\naccess_log = 'x'", "2: server.access_log: unknown key; write [access-log], and path below it"),
            ("[server]\nworker_processes = 4", "2: server.worker_processes: unknown key; write cores = 4"),
            ("threads = 4", "1: threads: unknown key; write cores = 4 below [server]"),
            ("[limits]\nmax-connections = 4", "2: limits.max-connections: unknown key; write connections-per-core"),
            ("[limits]\nlimit_conn = 0", "2: limits.limit_conn: unknown key; write connections-per-ip"),
            ("[limits]\nlimit_req = 0", "2: limits.limit_req: unknown key; write request-rate-per-ip"),
            ("[tls]\nciphers = 'all'", "2: tls.ciphers: unknown key; tidegate has no choice of ciphers"),
            ("[tls]\ncert = 'a'", "2: tls.cert: unknown key; write cert and key below [[tls.certificates]]"),
            ("[tls]\nssl_protocols = 'a'", "2: tls.ssl_protocols: unknown key; write min-version = \"1.3\""),
            ("[tls]\nacme = true", "2: tls.acme: unknown key; tidegate gets no certificates itself"),
            ("[[headers]]\nmatch = '/'", "1: headers: unknown key; write [[site.headers]] below the [[site]]"),
            ("[headers]\nX-A = 'b'", "1: headers: unknown key; write [[site.headers]] below the [[site]]"),
            ("[[redirects]]\nfrom = '/'", "1: redirects: unknown key; write [[site.redirects]] below the [[site]]"),
            ("[cors]\norigins = []", "1: cors: unknown key; write [site.cors] below the [[site]]"),
            ("[[rewrites]]\nsource = '/'", "1: rewrites: unknown key; tidegate rewrites no paths"),
            ("[server]\ntimeout = '1s'", "2: server.timeout: unknown key; [timeouts] has them"),
            ("origin = 's3://a'", "1: origin: unknown key; write origin = { http = \"https://HOST/PATH\" } below a [[site]]"),
            ("metrics = true", "1: metrics: unknown key; write listen = \"127.0.0.1:9900\" below [admin]"),
            ("[admin]\naddress = 'a:1'", "2: admin.address: unknown key; write host and port into listen"),
            ("[admin]\nallow = []", "2: admin.allow: unknown key; it has no passwords and no TLS"),
            ("[tls]\nversion = '1.3'", "2: tls.version: unknown key; write min-version = \"1.3\""),
            ("[tls]\nca = 'a'\nclient-auth = 'require'", "2: tls.ca: unknown key; write client-ca = "),
            ("[timeouts]\nidle = '75s'", "2: timeouts.idle: unknown key; write keep-alive = \"75s\""),
            ("[timeouts]\nread = '10s'", "2: timeouts.read: unknown key; write header = \"10s\""),
            ("[[tls.certificates]]\ncert = 'a'\npassword = 'b'\nkey = 'c'", "3: tls.certificates.password: unknown key; a key has none here"),
        ]);
        refused(&[
            ("root = '/srv'", "1: root: unknown key; write [[site]], and root"),
            ("[server]\nroot = '/srv'\n[[site]]\nroot = 'x'", "2: server.root: unknown key; write [[site]], and root"),
            ("[[site]]\nDocumentRoot = 'x'", "2: site.DocumentRoot: unknown key; write it as root"),
        ]);
        let in_a_site = [
            ("server_name = 'a'", "server_name: unknown key; write names = [\"example.org\"]"),
            ("hostname = 'a'", "hostname: unknown key; write names"),
            ("gzip = 'on'", "gzip: unknown key; files are not compressed while they are served: `tidegate compress DIR`"),
            ("gzip_static = 'on'", "gzip_static: unknown key; write precompressed = [\"br\", \"zstd\", \"gzip\"]"),
            ("brotli = true", "brotli: unknown key; files are not compressed"),
            ("compression = true", "compression: unknown key; files are not compressed"),
            ("autoindex = 'on'", "autoindex: unknown key; write directory-listing = true"),
            ("browse = true", "browse: unknown key; write directory-listing = true"),
            ("dirlist = true", "dirlist: unknown key; write directory-listing = true"),
            ("error_page = '/404.html'", "error_page: unknown key; write error-pages = { 404 = \"/404.html\" }"),
            ("expires = '1y'", "expires: unknown key; write [[site.headers]]"),
            ("cache-control = '1y'", "cache-control: unknown key; write [[site.headers]]"),
            ("mounts = []", "mounts: unknown key; write [[site.mount]]"),
            ("alias = '/a'", "alias: unknown key; write names = [\"example.org\", \"www.example.org\"] for other hosts, [[site.mount]]"),
            ("deny = '/a'", "deny: unknown key; write [[site.access]]"),
            ("allow = '10.0.0.0/8'", "allow: unknown key; write [[site.access]]"),
            ("basic_auth = 'a'", "basic_auth: unknown key; write [[site.auth]]"),
            ("[site.location]\npath = '/'", "location: unknown key; there are no sections for paths"),
            ("ssl_certificate = 'a'", "ssl_certificate: unknown key; write cert and key below [[tls.certificates]]"),
            ("trailing-slash = true", "trailing-slash: unknown key; directories are redirected to their slash anyway"),
            ("proxy_pass = 'http://a'", "proxy_pass: unknown key; write origin = { http = \"https://HOST/PATH\" }"),
            ("bucket = 'a'", "bucket: unknown key; write origin = { s3 = \"https://HOST/BUCKET\""),
            ("origins = []", "origins: unknown key; write origin = { http"),
            ("[[site.headers]]\npath = '/'\nset = { a = 'b' }", "headers.path: unknown key; write it as match"),
            ("[[site.headers]]\nmatch = '/'\nheaders = { a = 'b' }", "headers.headers: unknown key; write set = "),
            ("[[site.redirects]]\nsource = '/a'\nto = '/b'", "redirects.source: unknown key; write it as from"),
            ("[[site.redirects]]\nfrom = '/a'\ndestination = '/b'", "redirects.destination: unknown key; write it as to"),
            ("[[site.redirects]]\nfrom = '/a'\nto = '/b'\ncode = 301", "redirects.code: unknown key; write status = 301"),
            ("[site.cors]\nmethods = []", "cors.methods: unknown key; it is decided by tidegate"),
            ("status = 404", "status: unknown key; [[site.respond]] and [[site.redirects]] have it"),
            ("[[site.mount]]\nat = '/a'\ndirectory = 'b'", "mount.directory: unknown key; write it as root"),
            ("[[site.respond]]\nmatch = '/a'\nstatus = 403\nunless = '/b'", "respond.unless: unknown key; write except"),
            ("[[site.respond]]\nmatch = '/a'\nstatus = 403\nallow = ['::1']", "respond.allow: unknown key; [[site.access]] tells clients apart"),
        ];
        for (text, expected) in in_a_site {
            let error = parse(&format!("[[site]]\nroot = 'x'\n{text}")).expect_err(text);
            assert!(error.contains(&format!(": site.{expected}")), "{text}\n{error}");
            assert_eq!(error.lines().count(), 1, "{text}\n{error}");
        }
    }

    #[test]
    #[rustfmt::skip] // a row a line
    fn sections_in_a_wrong_place() {
        refused(&[
            ("[[site.redirects]]\nfrom = '/a'\nto = '/b'\n[[site]]\nroot = 'x'",
             "1: site.redirects: [[site]] has to come first: move this below the [[site]] of line 4"),
            ("[server]\n[[site.headers]]\nmatch = '/'\n[[site]]\nroot = 'x'",
             "2: site.headers: [[site]] has to come first: move this below the [[site]] of line 4"),
            ("[site.cors]\norigins = []\n[[site]]\nroot = 'x'", "1: site.cors: [[site]] has to come first"),
            ("[[site.redirects]]\nfrom = '/a'\nto = '/b'", "1: site.redirects: [[site]] has to come first: write it above"),
            ("[site]\nroot = 'x'\n[[site]]\nroot = 'y'", "3: site: write [[site]] each time, with two brackets"),
            ("[[site]]\nroot = 'x'\n[site]\nroot = 'y'", "3: site: write [[site]] each time, with two brackets"),
            ("[[site]]\nroot = 'x'\n[site.headers]\nmatch = '/'\n[site.headers]\nmatch = '/a'",
             "5: site.headers: write [[site.headers]] each time, with two brackets"),
            ("[listen]\naddress = 'a:1'\n[listen]\naddress = 'b:1'", "3: listen: write [[listen]] each time"),
        ]);
    }

    #[test]
    #[rustfmt::skip] // a row a line
    fn wrong_types() {
        refused_beside_a_site(&[
            ("server = 1", "1: server: a section: write [server], and its keys below it"),
            ("listen = '127.0.0.1:80'", "1: listen: a section: write [[listen]] each time, and its keys below it"),
            ("[listen]\naddress = '127.0.0.1:80'", "1: listen: write [[listen]], with two brackets"),
            ("[[limits]]\nheaders = 1", "1: limits: there is one: write [limits], with one bracket"),
            ("listen = [1]", "1: listen: a section: write [[listen]]"),
            ("[server]\ncores = true", "2: server.cores: expected \"auto\", a count or a list such as \"0-15,32\", found true"),
            ("[server]\ncores = 1.5", "2: server.cores: expected \"auto\", a count or a list such as \"0-15,32\", found 1.5"),
            ("[server]\ncores = [0, 1]", "2: server.cores: expected \"auto\", a count or a list such as \"0-15,32\", found a list"),
            ("[server]\ncores = 2026-01-01", "2: server.cores: expected \"auto\", a count or a list such as \"0-15,32\", found 2026-01-01"),
            ("[server]\ncores = { a = 1 }", "2: server.cores: expected \"auto\", a count or a list such as \"0-15,32\", found a table"),
            ("[timeouts]\nheader = 10", "2: timeouts.header: expected a duration with its unit, such as \"75s\", found 10: write \"10s\""),
            ("[limits]\nheaders = '100'", "2: limits.headers: expected a whole number, found '100': write 100"),
            ("[limits]\nheaders = 'many'", "2: limits.headers: expected a whole number, found 'many'"),
            ("[limits]\nheader-bytes = 16.0", "2: limits.header-bytes: expected a size such as \"16k\", found 16.0"),
            ("[limits]\nheaders = 99999999999999999999", "2: limits.headers: expected a whole number, found 99999999999999999999"),
            ("[[listen]]\ntls = 'yes'", "2: listen.tls: expected true or false, found 'yes': write true"),
            ("[[listen]]\naddress = 8080", "2: listen.address: expected a string, found 8080: write \"127.0.0.1:8080\""),
            ("[tls]\nmin-version = 1.3", "2: tls.min-version: expected a string, found 1.3: write \"1.3\""),
            ("[tls]\ncertificates = 'a.pem'\n[[listen]]\ntls = true", "2: tls.certificates: a section: write [[tls.certificates]]"),
            ("[tls]\n[tls.certificates]\ncert = 'a'\nkey = 'b'", "2: tls.certificates: write [[tls.certificates]], with two brackets"),
            ("[tls]\nclient-auth = 'require'\nclient-ca = true", "3: tls.client-ca: expected a string, found true"),
        ]);
        refused(&[
            ("[site]\nroot = 'x'", "1: site: write [[site]], with two brackets"),
            ("site = 'x'", "1: site: a section: write [[site]]"),
            ("[[site]]\nroot = 1", "2: site.root: expected a string, found 1: write \"1\""),
            ("[[site]]\nroot = ['x']", "2: site.root: expected a string, found a list"),
            ("[[site]]\nroot = { path = 'x' }", "2: site.root: expected a string, found a table"),
            ("[[site]]\nroot = 'x'\nindex = 'index.html'", "3: site.index: expected a list, found 'index.html': write ['index.html']"),
            ("[[site]]\nroot = 'x'\nindex = [1]", "3: site.index: expected a string, found 1: write \"1\""),
            ("[[site]]\nroot = 'x'\nindex = [\n'a',\n{}]", "5: site.index: expected a string, found a table"),
            ("[[site]]\nroot = 'x'\nhidden-files = 'no'", "3: site.hidden-files: expected true, false or a list of names such as [\".treeinfo\"], found 'no'"),
            ("[[site]]\nroot = 'x'\nmime-types = []", "3: site.mime-types: expected a table of names and values, found a list"),
            ("[[site]]\nroot = 'x'\nnames = 'a'", "3: site.names: expected a list, found 'a': write ['a']"),
            ("[[site]]\nroot = 'x'\nnames = 'a'\n[[site]]\nroot = 'y'", "3: site.names: expected a list, found 'a'"),
            ("[[site]]\nroot = 'x'\nsymlinks = false", "3: site.symlinks: expected a string, found false"),
            ("[[site]]\nroot = 'x'\ndirectory-listing = 'on'", "3: site.directory-listing: expected true or false, found 'on': write true"),
            ("[[site]]\nroot = 'x'\nprecompressed = true", "3: site.precompressed: expected a list, found true"),
            ("[[site]]\nroot = 'x'\nspa-fallback = true", "3: site.spa-fallback: expected a string, found true"),
            ("[[site]]\nroot = 'x'\nerror-pages = ['/404.html']", "3: site.error-pages: expected a table of names and values, found a list"),
            ("[[site]]\nroot = 'x'\nerror-pages = { 404 = 404 }", "3: site.error-pages.404: expected a string, found 404"),
            ("[[site]]\nroot = 'x'\nheaders = {}", "3: site.headers: a section: write [[site.headers]] each time, and its keys below it"),
            ("[[site]]\nroot = 'x'\nheaders = 'a: b'", "3: site.headers: a section: write [[site.headers]]"),
            ("[[site]]\nroot = 'x'\n[site.headers]\nmatch = '/'\nset = { a = 'b' }", "3: site.headers: write [[site.headers]], with two brackets"),
            ("[[site]]\nroot = 'x'\n[site.redirects]\nfrom = '/'\nto = '/a'", "3: site.redirects: write [[site.redirects]], with two brackets"),
            ("[[site]]\nroot = 'x'\n[[site.headers]]\nmatch = '/'\nset = { age = 1 }", "5: site.headers.set.age: expected a string, found 1: write \"1\""),
            ("[[site]]\nroot = 'x'\n[[site.headers]]\nmatch = '/'\nset = 'age: 1'", "5: site.headers.set: expected a table of names and values, found 'age: 1'"),
            ("[[site]]\nroot = 'x'\n[[site.redirects]]\nfrom = '/a'\nto = '/b'\nstatus = '301'", "6: site.redirects.status: expected a whole number, found '301': write 301"),
            ("[[site]]\nroot = 'x'\n[[site.cors]]\norigins = []", "3: site.cors: there is one: write [site.cors], with one bracket"),
            ("[[site]]\nroot = 'x'\nmime-types = { a = 1 }", "3: site.mime-types.a: expected a string, found 1"),
        ]);
    }

    #[test]
    fn every_element_of_a_list_is_looked_at() {
        let text = "[[site]]\nroot = 'x'\nnames = [\n1,\n'a',\n2]\nindex = [[]]\n";
        let error = parse(text).unwrap_err();
        let places: Vec<&str> = error
            .lines()
            .map(|line| line.split(": exp").next().unwrap())
            .collect();
        let places = places.join(" ").replace("etc/t.toml:", "");
        assert_eq!(places, "4: site.names 6: site.names 7: site.index");
    }

    #[test]
    #[rustfmt::skip] // a row a line
    fn impossible_values() {
        refused_beside_a_site(&[
            ("[server]\ncores = 0", "2: server.cores: 0 is outside 1 to 8191: "),
            ("[server]\ncores = -1", "2: server.cores: a count of cores is 1 or more"),
            ("[server]\ncores = ''", "2: server.cores: `` is not a core"),
            ("[server]\ncores = '0,0'", "2: server.cores: core 0 is named twice"),
            ("[server]\ncores = '3-1'", "2: server.cores: the range 3-1 is inverted"),
            ("[server]\nsteering = 'rss'", "2: server.steering: `rss` is none of \"hash\", \"cpu\""),
            ("[server]\ngraceful-timeout = '25h'", "2: server.graceful-timeout: 25h is outside 0s to 24h: "),
            ("[server]\ndrain-delay = '25h'", "2: server.drain-delay: 25h is outside 0s to 24h: "),
            ("[server]\ngroup = 'www'", "2: server.group: without server.user it has no meaning: set that, too"),
            ("[sandbox]\nlandlock = 'no'", "2: sandbox.landlock: expected true or false, found 'no'"),
            ("[server]\nupgrade-timeout = '0s'", "2: server.upgrade-timeout: 0s is outside 1s to 24h: "),
            ("[server]\nwatchdog = '3s'", "2: server.watchdog: 3s is outside 4s to 24h: "),
            ("[server]\nwatchdog = false", "2: server.watchdog: expected \"off\" or a duration with its unit, such as \"75s\", found false"),
            ("[server]\nwatchdog = 'on'", "2: server.watchdog: `on` is not a duration: "),
            ("[server]\ngraceful-timeout = 'soon'", "2: server.graceful-timeout: `soon` is not a duration: "),
            ("[admin]\nlisten = '9900'", "2: admin.listen: `9900` has no address: write 127.0.0.1:9900 for this host alone, or [::]:9900"),
            ("[admin]\ntoken = \"a\\u0000\"", "2: admin.token: a path cannot hold a NUL byte"),
            ("[admin]\ntoken = ['a']", "2: admin.token: expected a string, found a list"),
            ("[[listen]]\naddress = 'h:1'\n[admin]\nlisten = 'h:1'", "4: admin.listen: h:1 is listened on already, by line 2"),
            ("[[listen]]\nbacklog = 0", "2: listen.backlog: 0 is outside 1 to 65535: "),
            ("[[listen]]\nbacklog = 65536", "2: listen.backlog: 65536 is outside 1 to 65535: "),
            ("[[listen]]\ntls = true", "2: listen.tls: there is no certificate to show: set tls.certificates"),
            ("[[listen]]\nhttps-redirect = 70000", "2: listen.https-redirect: 70000 is outside 0 to 65535: "),
            ("[tls]\ncertificates = [{ cert = 'a', key = 'a' }]\n[[listen]]\ntls = true\nhttps-redirect = 443", "5: listen.https-redirect: requests are here by HTTPS already"),
            ("[tls]\nmin-version = '1.1'", "2: tls.min-version: `1.1` is none of \"1.2\", \"1.3\""),
            ("[tls]\nktls = 'on'", "2: tls.ktls: `on` is none of \"auto\", \"off\""),
            ("[tls]\nhsts = 'always'", "2: tls.hsts: `always` is no policy: "),
            ("[tls]\nhsts = 'max-age=1; max-age=2'", "2: tls.hsts: `max-age=1; max-age=2` is no policy: "),
            ("[tls]\nmissing = 'ignore'", "2: tls.missing: `ignore` is none of \"refuse\", \"serve-http\""),
            ("[tls]\nclient-auth = 'ask'", "2: tls.client-auth: `ask` is none of \"off\", \"request\", \"require\""),
            ("[tls]\nclient-auth = 'request'", "2: tls.client-auth: what clients show is checked against authorities: set tls.client-ca"),
            ("[tls]\nclient-auth = 'require'\nclient-ca = ''", "2: tls.client-auth: what clients show is checked"),
            ("[tls]\ncertificates = [{ cert = 'a' }]", "2: tls.certificates.key: required: a PEM file"),
            ("[tls]\n[[tls.certificates]]\nkey = 'a'", "2: tls.certificates.cert: required: a PEM file"),
            ("[tls]\n[[tls.certificates]]\ncert = ''\nkey = 'a'", "3: tls.certificates.cert: empty: name a PEM file"),
            ("[timeouts]\nheader = '0s'", "2: timeouts.header: 0s is outside 1ms to 24h: "),
            ("[timeouts]\nkeep-alive = '0s'", "2: timeouts.keep-alive: 0s is outside 1ms to 24h: "),
            ("[timeouts]\nsend-stall = '0ms'", "2: timeouts.send-stall: 0s is outside 1ms to 24h: "),
            ("[timeouts]\nlinger = '1441m'", "2: timeouts.linger: 86460s is outside 0s to 24h: "),
            ("[limits]\nconnections-per-core = 0", "2: limits.connections-per-core: 0 is outside 1 to 1048576: "),
            ("[limits]\nrequests-per-connection = 0", "2: limits.requests-per-connection: 0 is outside 1 to 4294967295: "),
            ("[limits]\nheader-bytes = 1023", "2: limits.header-bytes: 1023 is outside 1k to 1m: "),
            ("[limits]\nheader-bytes = '2m'", "2: limits.header-bytes: 2m is outside 1k to 1m: "),
            ("[limits]\nheader-bytes = -1", "2: limits.header-bytes: -1 is not a size"),
            ("[limits]\nheaders = 0", "2: limits.headers: 0 is outside 1 to 100: "),
            ("[limits]\nheaders = 101", "2: limits.headers: 101 is outside 1 to 100: "),
            ("[limits]\nbody-discard = '2g'", "2: limits.body-discard: 2g is outside 0 to 1g: "),
            ("[io]\ninline-max = '2m'", "2: io.inline-max: 2m is outside 0 to 1m: "),
            ("[io]\npipe-size = '2k'", "2: io.pipe-size: 2k is outside 4k to 1m: "),
            ("[io]\npipe-size = '2m'", "2: io.pipe-size: 2m is outside 4k to 1m: "),
            ("[io]\npipe-size = '100k'", "2: io.pipe-size: 100k is not a power of two: "),
            ("[io]\npipes-per-core = 0", "2: io.pipes-per-core: 0 is outside 1 to 65536: "),
            ("[io]\nrecv-buffers = 0", "2: io.recv-buffers: 0 is outside 1 to 32768: "),
            ("[io]\nrecv-buffers = 1000", "2: io.recv-buffers: 1000 is not a power of two: "),
            ("[io]\nrecv-buffers = 65536", "2: io.recv-buffers: 65536 is outside 1 to 32768: "),
            ("[io]\nrecv-buffer-size = 511", "2: io.recv-buffer-size: 511 is outside 512 to 64k: "),
            ("[io]\nrecv-buffer-size = '65k'", "2: io.recv-buffer-size: 65k is outside 512 to 64k: "),
            ("[io]\ncold-workers = 0", "2: io.cold-workers: 0 is outside 1 to 1024: "),
            ("[io]\ndrop-behind = '4k'", "2: io.drop-behind: 4k is outside 1m to 1024g: "),
            ("[io]\ndrop-behind = 'on'", "2: io.drop-behind: `on` is not a size: "),
            ("[io]\ndrop-behind = -1", "2: io.drop-behind: -1 is not a size"),
            ("[io]\ndrop-behind = true", "2: io.drop-behind: expected \"off\" or a size such as \"16m\", found true"),
            ("[cache]\npopular-max = '2m'", "2: cache.popular-max: 2m is outside 0 to 1m: "),
            ("[cache]\nhot-bytes-per-core = '1025g'", "2: cache.hot-bytes-per-core: 1025g is outside 0 to 1024g: "),
            ("[cache]\nopen-files-per-core = 0", "2: cache.open-files-per-core: 0 is outside 1 to 1048576: "),
            ("[limits]\nranges = 0", "2: limits.ranges: 0 is outside 1 to 1024: "),
            ("[limits]\nranges = 1025", "2: limits.ranges: 1025 is outside 1 to 1024: "),
            ("[timeouts]\nlookup = '0s'", "2: timeouts.lookup: 0s is outside 1ms to 24h: "),
            ("[cache]\nstale = '48h'", "2: cache.stale: 48h is outside 0s to 24h: "),
            ("[limits]\nranges-unordered = 0", "2: limits.ranges-unordered: 0 is outside 1 to 1024: "),
            ("[limits]\nranges-unordered = 1025", "2: limits.ranges-unordered: 1025 is outside 1 to 1024: "),
            ("[cache]\nvalid = '48h'", "2: cache.valid: 48h is outside 0s to 24h: "),
            ("[cache]\nidle = '0s'", "2: cache.idle: 0s is outside 1s to 24h: "),
            ("[limits]\nconnections-per-ip = -1", "2: limits.connections-per-ip: -1 is outside 0 to 1048576: "),
            ("[[listen]]\nproxy-protocol = 'v2'", "2: listen.proxy-protocol: `v2` is none of \"off\", \"accept\", \"require\""),
            ("[[listen]]\nproxy-protocol = 'require'", "2: listen.proxy-protocol: nobody is trusted: set proxies.trusted"),
            ("[proxies]\nheader = 'x-forwarded-for'", "2: proxies.header: nobody is trusted: set proxies.trusted"),
            ("[proxies]\nheader = 'x-real-ip'\ntrusted = ['::1']", "2: proxies.header: `x-real-ip` is none of \"off\", \"x-forwarded-for\", \"forwarded\""),
            ("[proxies]\ntrusted = ['all']", "2: proxies.trusted: every client could choose its address"),
            ("[proxies]\nheader = 'forwarded'\ntrusted = ['10.0.0.1/8']", "3: proxies.trusted: `10.0.0.1/8` has bits behind its prefix"),
        ]);
    }

    #[test]
    #[rustfmt::skip] // a row a line
    fn addresses_that_are_refused() {
        refused_beside_a_site(&[
            ("[[listen]]\naddress = ''", "2: listen.address: `` has no port: "),
            ("[[listen]]\naddress = 'localhost'", "2: listen.address: `localhost` has no port: write HOST:PORT, such as localhost:8080"),
            ("[[listen]]\naddress = ':x'", "2: listen.address: `x` is not a port"),
            ("[[listen]]\naddress = '*:99999'", "2: listen.address: `99999` is not a port: write 0 to 65535"),
            ("[[listen]]\naddress = '*'", "2: listen.address: `*` has no port"),
            ("[[listen]]\naddress = '8080'", "2: listen.address: `8080` has no address: write 127.0.0.1:8080 for this host alone, or [::]:8080"),
            ("[[listen]]\naddress = 'unix:x.sock'", "2: listen.address: `x.sock` is not an absolute path: write unix:/run/tidegate.sock"),
            ("[[listen]]\naddress = 'unix:'", "2: listen.address: `` is not an absolute path: write unix:"),
            ("[[listen]]\naddress = 'unix:@x'", "2: listen.address: `@x` is an abstract socket, which any user may connect to: write unix:"),
            ("[[listen]]\naddress = 'unix:/x/'", "2: listen.address: `/x/` is a directory: write unix:"),
            ("[[listen]]\naddress = 'unix:/x\0'", "2: "),
            ("[[listen]]\naddress = \"unix:/x\\u0000\"", "2: listen.address: a path has no NUL"),
            ("[[listen]]\naddress = 'unix:/a'\n[[listen]]\naddress = 'unix:/a'", "4: listen.address: unix:/a is listened on already, by line 2"),
            ("[[listen]]\naddress = '/run/x.sock'", "2: listen.address: `/run/x.sock` is a path: write unix:/run/x.sock"),
            ("[[listen]]\naddress = 'unix//run/x.sock|0222'", "2: listen.address: `unix//run/x.sock|0222` is a Unix socket of another server: write unix:/run/x.sock"),
            ("[[listen]]\naddress = '@x'", "2: listen.address: `@x` is a Unix socket of another server: write unix:"),
            ("[admin]\nlisten = 'unix:/run/x.sock'", "2: admin.listen: `unix:/run/x.sock`: no Unix socket can be here: write HOST:PORT"),
            ("[[listen]]\naddress = 'a:1'\nmode = '0600'", "3: listen.mode: only a Unix socket has it: "),
            ("[[listen]]\naddress = 'a:1'\nowner = 'www'", "3: listen.owner: only a Unix socket has it: "),
            ("[[listen]]\naddress = 'a:1'\ngroup = 'www'", "3: listen.group: only a Unix socket has it: "),
            ("[[listen]]\naddress = 'unix:/a'\nmode = 660", "3: listen.mode: "),
            ("[[listen]]\naddress = 'unix:/a'\nmode = '0888'", "3: listen.mode: `0888` is no mode: write octal digits such as \"0660\""),
            ("[[listen]]\naddress = 'unix:/a'\nmode = '1777'", "3: listen.mode: `1777` is no mode: "),
            ("[[listen]]\naddress = 'unix:/a'\nmode = '+77'", "3: listen.mode: `+77` is no mode: "),
            ("[[listen]]\naddress = 'a:80/x'", "2: listen.address: `a:80/x` has a path: write a:80"),
            ("[[listen]]\naddress = 'https://a:80/x'", "2: listen.address: `https://a:80/x` has a scheme: write a:80, and tls = true"),
            ("[[listen]]\naddress = '0.0.0.0'", "2: listen.address: `0.0.0.0` has no port: write HOST:PORT, such as 0.0.0.0:8080"),
            ("[[listen]]\naddress = '::'", "2: listen.address: `::` has no port: write [::]:8080"),
            ("[[listen]]\naddress = '::1'", "2: listen.address: `::1` has no port: write [::1]:8080"),
            ("[[listen]]\naddress = '1.2.3.4:99999'", "2: listen.address: `99999` is not a port"),
            ("[[listen]]\naddress = 'a:http'", "2: listen.address: `http` is not a port: write 80"),
            ("[[listen]]\naddress = ':80'\n[[listen]]\naddress = '*:80'", "4: listen.address: [::]:80 is listened on already, by line 2"),
            ("[[listen]]\naddress = 'a:'", "2: listen.address: `a:` has no port: write a:8080"),
            ("[[listen]]\naddress = '[::1]:'", "2: listen.address: `[::1]:` has no port: write [::1]:8080"),
            ("[[listen]]\naddress = ':'", "2: listen.address: `:` has no port: write [::]:8080"),
            ("[[listen]]\naddress = '0.0.0.0:80:80'", "2: listen.address: `0.0.0.0:80:80` has more than one colon: "),
            ("[[listen]]\naddress = 'ssl:0.0.0.0:443'", "2: listen.address: `ssl:0.0.0.0:443` has more than one colon: "),
            ("[[listen]]\naddress = '0.0.0.0:443 ssl'", "2: listen.address: `0.0.0.0:443 ssl` has more than an address: write 0.0.0.0:443, and what `ssl` is for as a key"),
            ("[[listen]]\naddress = '127.0.0.1 8080'", "2: listen.address: `127.0.0.1 8080` has no port: write HOST:PORT"),
            ("[[listen]]\naddress = 'tcp/0.0.0.0:80'", "2: listen.address: `tcp/0.0.0.0:80` has a network: write 0.0.0.0:80"),
            ("[[listen]]\naddress = 'fd://3'", "2: listen.address: `fd://3`: no open sockets are taken over"),
            ("[[listen]]\naddress = '[127.0.0.1]:80'", "2: listen.address: `[127.0.0.1]` is not a host name or an IP address: only IPv6 addresses are in brackets: write 127.0.0.1:80"),
            ("[[listen]]\naddress = '[fe80::1%eth0]:80'", "2: listen.address: `[fe80::1%eth0]` is not a host name or an IP address: there are no zones here"),
            ("[[listen]]\naddress = 'a:+1'", "2: listen.address: `+1` is not a port"),
            ("[[listen]]\naddress = 'a:65536'", "2: listen.address: `65536` is not a port: write 0 to 65535"),
            ("[[listen]]\naddress = '::1:80'", "2: listen.address: `::1:80` is ambiguous"),
            ("[[listen]]\naddress = '[::1]'", "2: listen.address: `[::1]` has no port"),
            ("[[listen]]\naddress = '[::g]:80'", "2: listen.address: `[::g]` is not a host name"),
            ("[[listen]]\naddress = '1.2.3:80'", "2: listen.address: `1.2.3` is not a host name"),
            ("[[listen]]\naddress = 'a b:80'", "2: listen.address: `a b` is not a host name"),
            ("[[listen]]\naddress = 'http://a:80'", "2: listen.address: `http://a:80` has a scheme: write a:80, and tls = false"),
            ("[[listen]]\naddress = 'a:1'\n[[listen]]\naddress = 'a:1'", "4: listen.address: a:1 is listened on already, by line 2"),
        ]);
    }

    #[test]
    fn every_problem_with_a_value_is_reported_in_order() {
        let error = parse("[[site]]\nindex = ['/']\n[limits]\nheaders = 0\n[io]\npipe-size = 1\n");
        let error = error.unwrap_err();
        let keys = ["site.root", "site.index", "limits.headers", "io.pipe-size"];
        assert_eq!(keys_of(&error), keys);
    }

    fn keys_of(error: &str) -> Vec<&str> {
        let lines = error.lines();
        lines.filter_map(|line| line.split(": ").nth(1)).collect()
    }

    /// Keys, types, values and what is missing, in one run and in the order of lines.
    #[test]
    fn every_mistake_of_a_file_is_reported_at_once() {
        let text = "[limits]\nheaders = true\nflux = 1\nranges = 0\n\
             [[listen]]\nport = 80\ntls = 'no'\nbacklog = 0\n\
             [[site]]\nindex = 'a'\nsymlinks = 'x'\nautoindex = 'on'\n\
             [[site.redirects]]\nfrom = 1\nto = 'x'\n[[site.headers]]\nmatch = '/['\ncache = 3\n";
        let error = parse(text).unwrap_err();
        let expected = [
            "limits.headers",
            "limits.flux",
            "limits.ranges",
            "listen.port",
            "listen.tls",
            "listen.backlog",
            "site.index",
            "site.symlinks",
            "site.autoindex",
            "site.redirects.from",
            "site.headers.set",
            "site.headers.match",
            "site.headers.cache",
        ];
        assert_eq!(keys_of(&error), expected, "{error}");
    }

    #[test]
    fn of_many_mistakes_the_first_are_told() {
        let keys = (0..1000).map(|number| format!("x{number} = 1\n"));
        let text = keys.collect::<Vec<_>>().concat() + SITE;
        let error = parse(&text).unwrap_err();
        let lines: Vec<&str> = error.lines().collect();
        assert_eq!(lines.len(), 51);
        assert!(
            lines[49].starts_with("etc/t.toml:50: x49: unknown key; "),
            "{}",
            lines[49]
        );
        assert_eq!(lines[50], "etc/t.toml:51: and 950 more from here on");
    }

    /// Values, keys and the text of TOML's own errors.
    #[test]
    fn what_is_echoed_is_safe_to_print() {
        let long = "x".repeat(20_000);
        let texts = [
            "[[site]]\nroot = 'x'\ncharset = \"\\u001b[31m\\u202e\"".to_owned(),
            "[[site]]\nroot = 'x'\nnames = ['\u{202e}a\u{200b}']".to_owned(),
            "[[site]]\nroot = 'x'\n\"\\u001b[31m\" = 1".to_owned(),
            "[[site]]\nroot = 'x'\n\u{202e} = 1".to_owned(),
            "[[site]]\nroot = 'x'\nmime-types = { \"\u{2066}\" = 'a' }".to_owned(),
            "[[listen]]\naddress = \"\\u001b[2J:80\"".to_owned(),
            "[server]\ncores = \"\\u009b\"\nsteering = \"\u{200e}\"".to_owned(),
            "[server]\nwatchdog = \"\u{61c}\"".to_owned(),
            "[[site]]\nroot = 'x'\nindex = '\u{feff}'".to_owned(),
            format!("[[site]]\nroot = 'x'\ncharset = ' {long}'"),
            format!("[[site]]\nroot = 'x'\n{long} = 1"),
            format!("[[site]]\nroot = 'x'\nnames = '{long}'"),
            format!("[[site]]\nroot = 'x'\n[[site.redirects]]\nfrom = '/['\nto = '{long}'"),
            format!("[[listen]]\naddress = '{long}'"),
            format!("a = {long}"),
        ];
        for text in texts {
            let error = parse(&text).unwrap_err();
            let is_safe = |char: char| {
                char == '\n' || crate::shown(&char.to_string()).len() == char.len_utf8()
            };
            assert!(error.chars().all(is_safe), "{error:?}");
            assert!(
                error.lines().all(|line| line.len() < 1200),
                "{} bytes",
                error.len()
            );
        }
    }

    #[test]
    fn every_address_that_has_one_meaning_is_taken() {
        let rows = [
            ("127.0.0.1:0", "127.0.0.1:0"),
            (" 127.0.0.1:80\t", "127.0.0.1:80"),
            (":8080", "[::]:8080"),
            ("*:8080", "[::]:8080"),
            ("[::]:8080", "[::]:8080"),
            ("localhost:8080", "localhost:8080"),
        ];
        for (typed, expected) in rows {
            let listen: Listen = typed.parse().unwrap();
            assert_eq!(listen.address, expected, "{typed:?}");
        }
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let mut expected = Settings::for_directory(PathBuf::from("etc/www"));
        assert_eq!(parse(SITE), Ok(expected.clone()));
        expected.limits.headers = 7;
        assert_eq!(parse(&format!("[limits]\nheaders = 7{SITE}")), Ok(expected));
    }

    #[test]
    fn values_are_taken() {
        let settings = parse(
            "[server]\ncores = '0-1,4'\nsteering = 'cpu'\ndrain-delay = '5s'\ngraceful-timeout = '0s'\nwatchdog = 'off'\ncontrol = 'c.sock'\n\
             [[listen]]\naddress = 'localhost:0'\n[[listen]]\naddress = '[::1]:443'\nbacklog = 1\n\
             [timeouts]\nheader = '500ms'\n[limits]\nbody-discard = 0\nheader-bytes = 2000\n\
             [io]\ndrop-behind = '16m'\n\
             [cache]\nhot-bytes-per-core = '1g'\n\
             [[site]]\nroot = '/srv'\nindex = []\nhidden-files = true\ncharset = ''\n\
             default-type = 'text/plain; charset=utf-8'\nmime-types = { wasm = 'application/wasm' }\n",
        );
        let settings = settings.unwrap();
        assert_eq!(settings.server.cores, Cores::List(vec![0, 1, 4]));
        assert_eq!(settings.server.steering, Steering::Cpu);
        assert_eq!(settings.server.drain_delay, Duration::from_secs(5));
        assert_eq!(settings.server.graceful_timeout, Duration::ZERO);
        assert_eq!(settings.server.watchdog, None);
        assert_eq!(settings.server.control, Some("etc/c.sock".into()));
        assert_eq!(settings.listen[0].address, "localhost:0");
        assert_eq!(settings.listen[1].address, "[::1]:443");
        assert_eq!(settings.listen[1].backlog, 1);
        assert_eq!(settings.timeouts.header, Duration::from_millis(500));
        assert_eq!(settings.limits.header_bytes, 2000);
        assert_eq!(settings.limits.body_discard, 0);
        assert_eq!(settings.cache.hot_bytes_per_core, 1 << 30);
        assert_eq!(settings.sites[0].root.as_deref(), Some(Path::new("/srv")));
        assert!(settings.sites[0].index.is_empty());
        assert_eq!(settings.sites[0].hidden_files, crate::HiddenFiles::All);
        assert_eq!(settings.sites[0].mime_types["wasm"], "application/wasm");
    }

    #[test]
    fn files_of_tls_start_at_the_file() {
        let text = "[[listen]]\ntls = true\n[tls]\nmin-version = '1.3'\nktls = 'off'\n\
             hsts = 'max-age=60; preload'\nclient-auth = 'require'\nclient-ca = 'ca'\n\
             missing = 'serve-http'\n\
             certificates = [{ cert = 'a', key = '/b' }, { cert = 'c', key = 'c' }]\n";
        let settings = parse(&format!("{text}{SITE}")).unwrap();
        assert!(settings.listen[0].tls);
        let files = |cert: &str, key: &str| CertificateFiles {
            cert: cert.into(),
            key: key.into(),
        };
        let expected = Tls {
            min_version: TlsVersion::Tls13,
            ktls: Ktls::Off,
            hsts: "max-age=60; preload".to_owned(),
            client_auth: ClientAuth::Require,
            client_ca: Some("etc/ca".into()),
            missing: MissingCertificates::ServeHttp,
            certificates: vec![files("etc/a", "/b"), files("etc/c", "etc/c")],
        };
        assert_eq!(settings.tls, expected);
        let again = Settings::parse(&settings.to_toml(), Path::new("t.toml"));
        assert_eq!(again.unwrap(), settings);
    }

    #[test]
    fn a_relative_root_starts_at_the_file() {
        let rows = [
            ("t.toml", "www", "www"),
            ("etc/t.toml", "www", "etc/www"),
            ("/etc/t.toml", "../srv", "/etc/../srv"),
            ("/etc/t.toml", "/srv", "/srv"),
        ];
        for (file, root, expected) in rows {
            let text = format!("[[site]]\nroot = '{root}'");
            let settings = Settings::parse(&text, Path::new(file)).unwrap();
            let expected = Some(Path::new(expected));
            assert_eq!(settings.sites[0].root.as_deref(), expected, "{file} {root}");
        }
    }

    #[test]
    fn shipped_files_load_and_hold_the_defaults() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config");
        let mut expected = Settings::for_directory(PathBuf::from("/srv/www"));
        expected.listen[0].address = "0.0.0.0:8080".to_owned();
        for name in ["tidegate.toml", "minimal.toml"] {
            let settings = Settings::load(&directory.join(name));
            assert_eq!(settings.unwrap(), expected, "{name}");
        }
    }

    #[test]
    fn the_example_for_a_cdn_loads() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config");
        let settings = Settings::load(&directory.join("cdn.toml")).unwrap();
        let cached = |path: &str| {
            let rules = settings.sites[0].headers.iter();
            let mut matching = rules.filter(|rule| rule.pattern.regex().is_match(path.as_bytes()));
            matching.next_back().and_then(|rule| rule.cache)
        };
        assert_eq!(
            cached("/assets/app-3f9ac1d2.js"),
            Some(CachePreset::Immutable)
        );
        assert_eq!(cached("/index.html"), Some(CachePreset::Revalidate));
        assert_eq!(parse(&settings.to_toml()), Ok(settings));
    }

    #[test]
    fn the_effective_config_comes_back() {
        let defaults = Settings::for_directory(PathBuf::from("."));
        let mut changed = Settings::for_directory(PathBuf::from("/a \"b\"\\\u{e9}"));
        changed.server.cores = Cores::List(vec![4]);
        changed.server.steering = Steering::Cpu;
        changed.server.user = "www".to_owned();
        changed.server.group = "7".to_owned();
        changed.sandbox.seccomp = false;
        changed.listen.push("[::1]:0".parse().unwrap());
        changed.admin.listen = "127.0.0.1:9900".to_owned();
        changed.admin.token = Some(PathBuf::from("/run/token"));
        changed.timeouts.linger = Duration::from_millis(1);
        changed.sites[0].index.clear();
        changed.sites[0]
            .mime_types
            .insert("a b\"".to_owned(), "a/b".to_owned());
        for settings in [defaults, changed] {
            let text = settings.to_toml();
            let again = Settings::parse(&text, Path::new("t.toml"));
            assert_eq!(again.unwrap(), settings, "{text}");
        }
    }

    proptest! {
        #[test]
        fn sizes_and_counts_come_back(
            cores in prop_oneof![Just(Cores::Auto), (1..8192_usize).prop_map(Cores::Count)],
            keep_alive in 1..86_400_000_u64,
            header_bytes in 1024..1_048_577_usize,
            buffers in 0..16_u32,
            hot in 0..1_u64 << 40,
        ) {
            let mut settings = Settings::for_directory(PathBuf::from("/srv"));
            settings.server.cores = cores;
            settings.timeouts.keep_alive = Duration::from_millis(keep_alive);
            settings.limits.header_bytes = header_bytes;
            settings.io.recv_buffers = 1 << buffers;
            settings.cache.hot_bytes_per_core = hot;
            prop_assert_eq!(parse(&settings.to_toml()), Ok(settings));
        }

        #[test]
        fn a_file_cut_anywhere_is_an_error_with_a_line_or_a_config(cut in 0..4096_usize) {
            let text = Settings::for_directory(PathBuf::from("/srv")).to_toml();
            let cut = cut.min(text.len());
            if let Err(error) = parse(&text[..cut]) {
                for line in error.lines() {
                    let number = line.strip_prefix("etc/t.toml:").and_then(|rest| rest.split_once(": "));
                    prop_assert!(number.is_some_and(|(number, _)| number.parse::<usize>().is_ok()), "{}", line);
                }
            }
        }
    }
}
