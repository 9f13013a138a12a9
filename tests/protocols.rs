//! Which version of HTTP is spoken on a connection: `listen.protocols`, ALPN, the preface.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::{AlertDescription, ClientConfig, Error};

use crate::support::{Authority, Launch, Server, Tree, secure};

/// A server of `tree` with one listener that speaks TLS, to which `listen` adds keys.
fn start(tree: &Tree, authority: &Authority, listen: &str) -> Server {
    let entry = authority.issue("server", &["localhost"]).entry();
    let root = tree.root();
    let site = format!("[[site]]\nroot = \"{}\"\n", root.display());
    Launch::run_sites(tree, "", &format!("tls = true\n{listen}\n{entry}\n{site}")).start()
}

/// What a client that offers these protocols agrees on with the server.
fn agreed(
    address: SocketAddr,
    config: &ClientConfig,
    offered: &[&str],
) -> Result<Option<String>, Error> {
    let mut config = config.clone();
    let offered = offered.iter();
    config.alpn_protocols = offered.map(|name| name.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(address).expect("a connection");
    let mut stream = secure(stream, &Arc::new(config), "localhost");
    if let Err(error) = stream.conn.complete_io(&mut stream.sock) {
        let error = error.into_inner().expect("an error of TLS");
        return Err(*error.downcast().expect("an error of TLS"));
    }
    let agreed = stream.conn.alpn_protocol();
    Ok(agreed.map(|name| String::from_utf8_lossy(name).into_owned()))
}

#[test]
fn a_listener_offers_its_protocols_by_alpn() {
    let (tree, authority) = (Tree::with("file", b"content"), Authority::new());
    let config = authority.client();
    let browser = &["h2", "http/1.1"][..];
    // Those that the listener speaks; what is agreed with a browser, with a client of HTTP/1.1, and
    // with one of HTTP/2 alone.
    let rows = [
        ("", [Some("http/1.1"), Some("http/1.1"), None]),
        (
            "protocols = [\"http/1.1\"]",
            [Some("http/1.1"), Some("http/1.1"), None],
        ),
        (
            "protocols = [\"h2\", \"http/1.1\"]",
            [Some("h2"), Some("http/1.1"), Some("h2")],
        ),
        (
            "protocols = [\"http/1.1\", \"h2\"]",
            [Some("h2"), Some("http/1.1"), Some("h2")],
        ),
        ("protocols = [\"h2\"]", [Some("h2"), None, Some("h2")]),
    ];
    let refused = Error::AlertReceived(AlertDescription::NoApplicationProtocol);
    for (listen, expected) in rows {
        let server = start(&tree, &authority, listen);
        let offers = [browser, &["http/1.1"], &["h2"]];
        for (offered, expected) in offers.into_iter().zip(expected) {
            let agreed = agreed(server.address, &config, offered);
            let expected = expected.map(|name| Some(name.to_owned()));
            assert_eq!(
                agreed,
                expected.ok_or(refused.clone()),
                "{listen}: {offered:?}"
            );
        }
        assert_eq!(
            agreed(server.address, &config, &["spdy/3"]),
            Err(refused.clone())
        );
        assert_eq!(agreed(server.address, &config, &[]), Ok(None));
    }
}
