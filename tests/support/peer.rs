//! Other servers with the configuration that one of tidegate's examples was made from.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};

use super::{Tree, eventually, installed};

/// What nginx needs around a configuration of sites. It keeps to the directory that it is given.
const NGINX: &str = "
daemon off;
master_process off;
pid nginx.pid;
error_log stderr;
events {}
http {
access_log off;
client_body_temp_path tmp;
proxy_temp_path tmp;
fastcgi_temp_path tmp;
uwsgi_temp_path tmp;
scgi_temp_path tmp;
types {
    application/atom+xml atom;
    application/json json;
    application/manifest+json webmanifest;
    application/xml xml;
    font/woff2 woff2;
    image/png png;
    image/svg+xml svg;
    image/x-icon ico;
    text/css css;
    text/html html;
    text/javascript js;
    text/plain txt;
}
";

/// What Caddy needs in front of a configuration of sites.
const CADDY: &str = "
{
	admin off
	auto_https off
}
";

/// A server that runs until this is dropped.
pub(crate) struct Peer {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Peer {
    /// nginx with the servers of `config`, whose `/srv` is the root of `tree`; says so when there
    /// is none.
    pub(crate) fn nginx(tree: &Tree, config: &str) -> Option<Self> {
        if !installed("nginx") {
            return None;
        }
        let address = free_address();
        let config = config
            .replace("listen 80", &format!("listen {address}"))
            .replace("listen 9000", &format!("listen {address}"));
        let file = write(tree, "nginx.conf", &format!("{NGINX}\n{config}\n}}\n"));
        let mut command = Command::new("nginx");
        command.arg("-p").arg(tree.base()).arg("-c").arg(file);
        Some(Self::start(command, tree, address))
    }

    /// Caddy with the sites of `config`, as [`Peer::nginx`].
    pub(crate) fn caddy(tree: &Tree, config: &str) -> Option<Self> {
        if !installed("caddy") {
            return None;
        }
        let address = free_address();
        let bind = format!("{} {{\n\tbind {}\n", address.port(), address.ip());
        let config = config.replace("8080 {\n", &bind);
        let file = write(tree, "Caddyfile", &format!("{CADDY}\n{config}"));
        let mut command = Command::new("caddy");
        command
            .args(["run", "--adapter", "caddyfile", "--config"])
            .arg(file)
            .env("HOME", tree.base())
            .env("XDG_DATA_HOME", tree.base())
            .env("XDG_CONFIG_HOME", tree.base());
        Some(Self::start(command, tree, address))
    }

    fn start(mut command: Command, tree: &Tree, address: SocketAddr) -> Self {
        let log = tree.base().join("log");
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).expect("a log"))
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut peer = Self { child, address };
        eventually("the other server listens", || {
            let status = peer.child.try_wait().expect("its status");
            assert_eq!(
                status,
                None,
                "{}",
                fs::read_to_string(&log).expect("its log")
            );
            TcpStream::connect(address).is_ok()
        });
        peer
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes a configuration beside the root of `tree`, which it has for `/srv`.
fn write(tree: &Tree, name: &str, text: &str) -> PathBuf {
    let path = tree.base().join(name);
    let root = format!("{}/", tree.root().display());
    fs::write(&path, text.replace("/srv/", &root)).expect("a configuration");
    path
}

/// An address of the loopback network that is this call's alone, so that no other socket gets its
/// port between now and the start of a server that cannot pick one.
pub(crate) fn free_address() -> SocketAddr {
    static COUNT: AtomicU8 = AtomicU8::new(64);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let ip = Ipv4Addr::new(127, COUNT.fetch_add(1, Ordering::Relaxed), high, low.max(1));
    let listener = TcpListener::bind((ip, 0)).expect("a free port");
    listener.local_addr().expect("its address")
}
