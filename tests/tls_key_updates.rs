//! Clients that change their keys in the midst of a connection (KeyUpdate, RFC 8446, section 4.6.3), with
//! and without asking the server to change its own as well.
//!
//! rustls as a client always asks; so this one makes its records itself once the handshake is done.

use std::io::{ErrorKind, Read, Write};
use std::mem;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::crypto::cipher::{
    InboundOpaqueMessage, MessageDecrypter, MessageEncrypter, OutboundChunks, OutboundPlainMessage,
};
use rustls::kernel::KernelConnection;
use rustls::unbuffered::ConnectionState;
use rustls::{
    AlertDescription, ClientConfig, ConnectionTrafficSecrets, ContentType, ProtocolVersion,
    Tls13CipherSuite,
};

use crate::support::{
    Authority, Launch, Server, Tree, WATCHDOG, get, kernel_sessions, noise, release,
};

/// A KeyUpdate but for its last byte, which is 1 if the other side shall change its keys too.
const KEY_UPDATE: [u8; 4] = [24, 0, 0, 1];

/// The first byte of a ticket.
const NEW_SESSION_TICKET: u8 = 4;

const FATAL: u8 = 2;

/// Bytes of a file that leaves in many records.
const LARGE: usize = 3_000_001;

/// A client of TLS 1.3 after its handshake.
struct ByHand {
    stream: TcpStream,
    /// The end of the handshake, which is sent with the first record.
    held_back: Vec<u8>,
    suite: &'static Tls13CipherSuite,
    secrets: KernelConnection<ClientConnectionData>,
    encrypter: Box<dyn MessageEncrypter>,
    /// Records that were sent with these keys.
    sent: u64,
    decrypter: Box<dyn MessageDecrypter>,
    /// Records that were received with these keys.
    received: u64,
    /// How often the server has changed its keys.
    server_updates: usize,
    /// What was received of responses that were not looked at yet.
    unread: Vec<u8>,
}

/// What a server sends.
enum Record {
    Data(Vec<u8>),
    /// Its description.
    FatalAlert(u8),
    KeyUpdate,
    Ticket,
    /// The end of the connection.
    End,
}

impl ByHand {
    fn connect(address: SocketAddr, config: &Arc<ClientConfig>) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(WATCHDOG)).unwrap();
        stream.set_write_timeout(Some(WATCHDOG)).unwrap();
        let (connection, held_back) = shake(&mut stream, config);
        let (keys, secrets) = connection.dangerous_into_kernel_connection().unwrap();
        let suite = secrets.negotiated_cipher_suite().tls13().unwrap();
        Self {
            stream,
            held_back,
            suite,
            secrets,
            sent: keys.tx.0,
            encrypter: encrypter(suite, keys.tx.1),
            received: keys.rx.0,
            decrypter: decrypter(suite, keys.rx.1),
            server_updates: 0,
            unread: Vec::new(),
        }
    }

    fn send(&mut self, typ: ContentType, payload: &[u8]) {
        let message = OutboundPlainMessage {
            typ,
            version: ProtocolVersion::TLSv1_3,
            payload: OutboundChunks::Single(payload),
        };
        let record = self.encrypter.encrypt(message, self.sent).unwrap();
        self.sent += 1;
        let mut out = mem::take(&mut self.held_back);
        out.extend(record.encode());
        self.stream.write_all(&out).unwrap();
    }

    fn ask(&mut self, target: &str) {
        self.send(ContentType::ApplicationData, get(target).as_bytes());
    }

    /// Changes the keys; the server shall change its own if it is `asked` to.
    fn change_keys(&mut self, asked: bool) {
        let [kind, a, b, c] = KEY_UPDATE;
        self.send(ContentType::Handshake, &[kind, a, b, c, asked.into()]);
        let (sequence, keys) = self.secrets.update_tx_secret().unwrap();
        self.sent = sequence;
        self.encrypter = encrypter(self.suite, keys);
    }

    fn receive(&mut self) -> Record {
        let Some(mut record) = record(&mut self.stream) else {
            return Record::End;
        };
        let (typ, version) = (ContentType::ApplicationData, ProtocolVersion::TLSv1_2);
        let sealed = InboundOpaqueMessage::new(typ, version, &mut record[5..]);
        let opened = self.decrypter.decrypt(sealed, self.received).unwrap();
        self.received += 1;
        match (opened.typ, opened.payload) {
            (ContentType::ApplicationData, data) => Record::Data(data.to_vec()),
            (ContentType::Alert, &[FATAL, description]) => Record::FatalAlert(description),
            (ContentType::Handshake, [NEW_SESSION_TICKET, ..]) => Record::Ticket,
            (ContentType::Handshake, [start @ .., 0]) if start == KEY_UPDATE => {
                let (sequence, keys) = self.secrets.update_rx_secret().unwrap();
                self.received = sequence;
                self.decrypter = decrypter(self.suite, keys);
                self.server_updates += 1;
                Record::KeyUpdate
            }
            (typ, payload) => panic!("{typ:?}: {payload:?}"),
        }
    }

    /// Receives a response with the body `content`.
    #[track_caller]
    fn response(&mut self, content: &[u8]) {
        const HEAD_END: &[u8] = b"\r\n\r\n";
        let head_length = loop {
            let mut windows = self.unread.windows(HEAD_END.len());
            match windows.position(|window| window == HEAD_END) {
                Some(position) => break position + HEAD_END.len(),
                None => self.receive_data(),
            }
        };
        while self.unread.len() < head_length + content.len() {
            self.receive_data();
        }
        let rest = self.unread.split_off(head_length + content.len());
        let response = mem::replace(&mut self.unread, rest);
        assert!(response.starts_with(b"HTTP/1.1 200 OK\r\n"));
        assert!(response.ends_with(content));
    }

    #[track_caller]
    fn receive_data(&mut self) {
        match self.receive() {
            Record::Data(data) => self.unread.extend(data),
            Record::KeyUpdate | Record::Ticket => {}
            Record::FatalAlert(description) => panic!("alert {description}"),
            Record::End => panic!("closed after {} bytes", self.unread.len()),
        }
    }

    /// Checks that the connection is ended by an alert.
    #[track_caller]
    fn ends_by(&mut self, alert: AlertDescription) {
        let told = loop {
            match self.receive() {
                Record::Ticket => {}
                Record::FatalAlert(description) => break description,
                Record::Data(data) => panic!("{} bytes of data", data.len()),
                Record::KeyUpdate => panic!("the server has changed its keys"),
                Record::End => panic!("closed without an alert"),
            }
        };
        assert_eq!(told, u8::from(alert));
        assert!(matches!(self.receive(), Record::End));
    }
}

/// The client's side of a handshake, and what is still to be sent of it. Nothing is received that comes after
/// it.
fn shake(
    stream: &mut TcpStream,
    config: &Arc<ClientConfig>,
) -> (UnbufferedClientConnection, Vec<u8>) {
    let name = "localhost".try_into().unwrap();
    let mut connection = UnbufferedClientConnection::new(Arc::clone(config), name).unwrap();
    let (mut incoming, mut outgoing) = (Vec::new(), Vec::new());
    loop {
        let mut is_blocked = false;
        let status = connection.process_tls_records(&mut incoming);
        let discard = status.discard;
        match status.state.unwrap() {
            ConnectionState::EncodeTlsData(mut state) => {
                let start = outgoing.len();
                outgoing.resize(start + (1 << 14), 0);
                let length = state.encode(&mut outgoing[start..]).unwrap();
                outgoing.truncate(start + length);
            }
            ConnectionState::TransmitTlsData(state) => state.done(),
            ConnectionState::BlockedHandshake => is_blocked = true,
            ConnectionState::WriteTraffic(_) => return (connection, outgoing),
            state => panic!("{state:?}"),
        }
        incoming.drain(..discard);
        if is_blocked {
            stream.write_all(&mem::take(&mut outgoing)).unwrap();
            incoming.extend(record(stream).expect("more of the handshake"));
        }
    }
}

/// The next record with its header; `None` once the connection is closed.
fn record(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut record = vec![0; 5];
    match stream.read_exact(&mut record) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return None,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
        Err(error) => panic!("neither a record nor the connection's end: {error}"),
    }
    let length = u16::from_be_bytes([record[3], record[4]]);
    record.resize(5 + usize::from(length), 0);
    stream.read_exact(&mut record[5..]).unwrap();
    Some(record)
}

fn encrypter(
    suite: &Tls13CipherSuite,
    secrets: ConnectionTrafficSecrets,
) -> Box<dyn MessageEncrypter> {
    match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv }
        | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
        | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => {
            suite.aead_alg.encrypter(key, iv)
        }
        _ => panic!("keys of another kind"),
    }
}

fn decrypter(
    suite: &Tls13CipherSuite,
    secrets: ConnectionTrafficSecrets,
) -> Box<dyn MessageDecrypter> {
    match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv }
        | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
        | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => {
            suite.aead_alg.decrypter(key, iv)
        }
        _ => panic!("keys of another kind"),
    }
}

/// A server with `tls` in its `[tls]` table, and what a client of it is set to; its tree is there as long as
/// it is held.
fn start(tls: &str) -> (Server, Arc<ClientConfig>, Tree) {
    let tree = Tree::with("small", &noise(1000, 1000));
    tree.write("large", &noise(LARGE, 1));
    let authority = Authority::new();
    let files = authority.issue("server", &["localhost"]);
    let server = Launch::secure(&tree, "", tls, &[&files]).start();
    let mut config = Arc::unwrap_or_clone(authority.client());
    config.enable_secret_extraction = true;
    (server, Arc::new(config), tree)
}

/// A client whose keys the server follows; `None` where it can't, since the connection is in the hands of a
/// kernel that is too old, and that the server ends such a connection was checked.
fn client_to_be_followed(server: &Server, config: &Arc<ClientConfig>) -> Option<ByHand> {
    let (sockets, sessions) = (server.sockets(), kernel_sessions());
    let mut client = ByHand::connect(server.address, config);
    client.ask("/small");
    client.response(&noise(1000, 1000));
    if kernel_sessions() == sessions || release() >= (6, 14) {
        return Some(client);
    }
    for asked in [false, true] {
        let mut client = ByHand::connect(server.address, config);
        client.ask("/large");
        client.response(&noise(LARGE, 1));
        client.change_keys(asked);
        client.ends_by(AlertDescription::InternalError);
    }
    drop(client);
    server.wait_for_sockets(sockets);
    println!("ended: this kernel is too old to change the keys of a connection");
    None
}

#[track_caller]
fn check_changes(client: &mut ByHand, asked: bool) {
    for round in 1..=3 {
        client.change_keys(asked);
        client.ask("/large");
        client.response(&noise(LARGE, 1));
        client.ask("/small");
        client.response(&noise(1000, 1000));
        let expected = if asked { round } else { 0 };
        assert_eq!(client.server_updates, expected);
    }
}

#[test]
fn the_client_changes_its_keys() {
    let (server, config, _tree) = start("");
    if let Some(mut client) = client_to_be_followed(&server, &config) {
        check_changes(&mut client, false);
    }
}

#[test]
fn the_client_changes_its_keys_and_asks_the_server_to() {
    let (server, config, _tree) = start("");
    if let Some(mut client) = client_to_be_followed(&server, &config) {
        check_changes(&mut client, true);
    }
}

/// No kernel has the connection yet, so any does.
#[test]
fn keys_are_changed_with_the_end_of_the_handshake() {
    for tls in ["", "ktls = \"off\""] {
        let (server, config, _tree) = start(tls);
        for asked in [false, true] {
            let mut client = ByHand::connect(server.address, &config);
            client.change_keys(asked);
            client.ask("/large");
            client.response(&noise(LARGE, 1));
            assert_eq!(client.server_updates, usize::from(asked));
        }
    }
}

#[test]
fn keys_are_changed_in_user_space() {
    let (server, config, _tree) = start("ktls = \"off\"");
    for asked in [false, true] {
        check_changes(&mut ByHand::connect(server.address, &config), asked);
    }
}

#[test]
fn keys_are_changed_while_responses_are_under_way() {
    let (server, config, _tree) = start("");
    let Some(mut client) = client_to_be_followed(&server, &config) else {
        return;
    };
    for _ in 0..3 {
        client.ask("/large");
        client.change_keys(true);
        client.ask("/small");
        client.change_keys(false);
        client.ask("/large");
    }
    for _ in 0..3 {
        client.response(&noise(LARGE, 1));
        client.response(&noise(1000, 1000));
        client.response(&noise(LARGE, 1));
    }
    // One answers all that were asked for meanwhile.
    assert!((1..=3).contains(&client.server_updates));
}
