//! Clients that change their keys in the midst of a connection (KeyUpdate, RFC 8446, section 4.6.3), with
//! and without asking the server to change its own as well.
//!
//! rustls as a client always asks; so this one makes its records itself once the handshake is done.

use std::io::{self, ErrorKind, Read, Write};
use std::mem;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;

use rustix::net::sockopt;
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
    Authority, Launch, Server, Tree, WATCHDOG, get, kernel_sessions, noise, release, skipped,
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
        self.try_send(typ, payload).unwrap();
    }

    fn try_send(&mut self, typ: ContentType, payload: &[u8]) -> io::Result<()> {
        let message = OutboundPlainMessage {
            typ,
            version: ProtocolVersion::TLSv1_3,
            payload: OutboundChunks::Single(payload),
        };
        let record = self.encrypter.encrypt(message, self.sent).unwrap();
        self.sent += 1;
        let mut out = mem::take(&mut self.held_back);
        out.extend(record.encode());
        self.stream.write_all(&out)
    }

    fn ask(&mut self, target: &str) {
        self.send(ContentType::ApplicationData, get(target).as_bytes());
    }

    /// Changes the keys; the server shall change its own if it is `asked` to.
    fn change_keys(&mut self, asked: bool) {
        let [kind, a, b, c] = KEY_UPDATE;
        self.send(ContentType::Handshake, &[kind, a, b, c, asked.into()]);
        self.use_next_keys();
    }

    /// Changes the keys of a server that may have ended the connection.
    fn try_change_keys(&mut self) -> io::Result<()> {
        let [kind, a, b, c] = KEY_UPDATE;
        self.try_send(ContentType::Handshake, &[kind, a, b, c, 0])?;
        self.use_next_keys();
        Ok(())
    }

    fn use_next_keys(&mut self) {
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

    /// Checks that the connection is ended, whether or not an alert gets through to a client that is
    /// still sending.
    #[track_caller]
    fn is_cut_off(&mut self) {
        loop {
            match self.receive() {
                Record::End => return,
                Record::FatalAlert(told) => {
                    assert_eq!(told, u8::from(AlertDescription::UnexpectedMessage));
                }
                Record::Ticket => {}
                Record::Data(_) | Record::KeyUpdate => panic!("the connection goes on"),
            }
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
    skipped("what follows: this kernel is too old to change the keys of a connection");
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

/// A KeyUpdate, split into records of this length.
fn split(request: u8, lengths: &[usize]) -> Vec<Vec<u8>> {
    let [kind, a, b, c] = KEY_UPDATE;
    let mut rest = &[kind, a, b, c, request][..];
    let mut records = Vec::new();
    for length in lengths {
        let (record, others) = rest.split_at(*length);
        records.push(record.to_vec());
        rest = others;
    }
    records
}

/// Section 5.1 lets messages be fragmented.
#[track_caller]
fn check_split(client: &mut ByHand) {
    let ways: [&[usize]; 4] = [&[1, 4], &[4, 1], &[2, 3], &[1, 1, 1, 1, 1]];
    for (round, lengths) in (1..).zip(ways) {
        for record in split(1, lengths) {
            client.send(ContentType::Handshake, &record);
        }
        client.use_next_keys();
        client.ask("/large");
        client.response(&noise(LARGE, 1));
        assert_eq!(client.server_updates, round, "{lengths:?}");
    }
}

#[test]
fn a_key_update_may_be_in_several_records() {
    let (server, config, _tree) = start("");
    if let Some(mut client) = client_to_be_followed(&server, &config) {
        check_split(&mut client);
    }
    let (server, config, _tree) = start("ktls = \"off\"");
    check_split(&mut ByHand::connect(server.address, &config));
}

/// The start of a KeyUpdate comes with the end of the handshake, and its rest later. No kernel has the
/// connection yet, so any does.
#[test]
fn a_key_update_begins_with_the_end_of_the_handshake() {
    for tls in ["", "ktls = \"off\""] {
        let (server, config, _tree) = start(tls);
        for lengths in [[1, 4], [4, 1]] {
            let mut client = ByHand::connect(server.address, &config);
            for record in split(1, &lengths) {
                client.send(ContentType::Handshake, &record);
                // It is served in any case; the parts are to be received one by one.
                std::thread::sleep(std::time::Duration::from_millis(100));
            }
            client.use_next_keys();
            client.ask("/large");
            client.response(&noise(LARGE, 1));
            assert_eq!(client.server_updates, 1);
        }
    }
}

/// Any kernel does, since none has to change keys.
#[test]
fn messages_that_are_not_allowed_get_the_alert_of_the_rfc() {
    use AlertDescription::{DecodeError, IllegalParameter, UnexpectedMessage};
    type Records = [(ContentType, &'static [u8])];
    const DATA: ContentType = ContentType::ApplicationData;
    const HANDSHAKE: ContentType = ContentType::Handshake;
    const ALERT: ContentType = ContentType::Alert;
    let rows: [(&Records, AlertDescription); 10] = [
        (&[(HANDSHAKE, &[24, 0, 0, 1, 2])], IllegalParameter),
        (&[(HANDSHAKE, &[24, 0, 0, 0])], DecodeError),
        (&[(HANDSHAKE, &[24, 0, 0, 2, 0, 0])], DecodeError),
        (
            &[(HANDSHAKE, &[24, 0, 0, 1, 0, 24, 0, 0, 1, 0])],
            UnexpectedMessage,
        ),
        (&[(HANDSHAKE, &[1, 0, 0, 0])], UnexpectedMessage),
        (&[(HANDSHAKE, &[])], UnexpectedMessage),
        (&[(HANDSHAKE, &[24, 0]), (DATA, b"G")], UnexpectedMessage),
        (&[(ALERT, &[])], UnexpectedMessage),
        (&[(ALERT, &[2])], DecodeError),
        (&[(ContentType::ChangeCipherSpec, &[1])], UnexpectedMessage),
    ];
    for tls in ["", "ktls = \"off\""] {
        let (server, config, _tree) = start(tls);
        for (records, alert) in rows {
            // With the end of the handshake, and later.
            for is_early in [true, false] {
                let mut client = ByHand::connect(server.address, &config);
                if !is_early {
                    client.ask("/small");
                    client.response(&noise(1000, 1000));
                }
                sockopt::set_tcp_cork(&client.stream, true).unwrap();
                for (kind, content) in records {
                    client.send(*kind, content);
                }
                sockopt::set_tcp_cork(&client.stream, false).unwrap();
                client.ends_by(alert);
            }
        }
    }
}

#[test]
fn padding_counts_as_a_part_of_a_record() {
    for tls in ["", "ktls = \"off\""] {
        check_padding(tls);
    }
}

fn check_padding(tls: &str) {
    const FULL: usize = 1 << 14;
    let (server, config, _tree) = start(tls);
    let sessions = kernel_sessions();
    // A request of its own, its type and zeros.
    let padded = |bytes: usize| {
        let mut inner = get("/small").into_bytes();
        inner.push(ContentType::ApplicationData.into());
        inner.resize(bytes, 0);
        inner
    };
    let mut client = ByHand::connect(server.address, &config);
    // The last byte is written in the place of the type.
    client.send(ContentType::Unknown(0), &padded(FULL));
    client.response(&noise(1000, 1000));
    let mut client = ByHand::connect(server.address, &config);
    client.ask("/small");
    client.response(&noise(1000, 1000));
    client.send(ContentType::Unknown(0), &padded(FULL + 1));
    client.ends_by(AlertDescription::RecordOverflow);
    let mut client = ByHand::connect(server.address, &config);
    client.ask("/small");
    client.response(&noise(1000, 1000));
    client.send(ContentType::Unknown(0), &[0; 100]);
    // The kernel does not tell nothing but padding from what it cannot decrypt.
    client.ends_by(if kernel_sessions() > sessions {
        AlertDescription::BadRecordMac
    } else {
        AlertDescription::UnexpectedMessage
    });
}

#[test]
fn keys_are_changed_more_often_than_once_and_not_without_end() {
    for tls in ["", "ktls = \"off\""] {
        let (server, config, _tree) = start(tls);
        let Some(mut client) = client_to_be_followed(&server, &config) else {
            continue;
        };
        for _ in 0..40 {
            std::thread::sleep(std::time::Duration::from_millis(110));
            client.change_keys(true);
            client.ask("/small");
            client.response(&noise(1000, 1000));
        }
        // The server may have closed before all of them are sent.
        while client.try_change_keys().is_ok() {}
        client.is_cut_off();
    }
}

#[test]
fn keys_are_changed_while_nothing_is_taken() {
    const ROUNDS: usize = 24;
    let (server, config, _tree) = start("");
    let Some(mut client) = client_to_be_followed(&server, &config) else {
        return;
    };
    // Each response leaves the socket as full as it may get.
    for _ in 0..ROUNDS {
        client.ask("/large");
        client.change_keys(true);
        client.ask("/small");
    }
    std::thread::sleep(std::time::Duration::from_millis(300));
    for _ in 0..ROUNDS {
        client.response(&noise(LARGE, 1));
        client.response(&noise(1000, 1000));
    }
    assert!((1..=ROUNDS).contains(&client.server_updates));
}

/// The kernel takes over only connections whose clients may send more.
#[test]
fn a_request_and_the_end_come_with_the_end_of_the_handshake() {
    for tls in ["", "ktls = \"off\""] {
        let (server, config, _tree) = start(tls);
        for _ in 0..20 {
            let mut client = ByHand::connect(server.address, &config);
            sockopt::set_tcp_cork(&client.stream, true).unwrap();
            client.ask("/large");
            client.stream.shutdown(Shutdown::Write).unwrap();
            client.response(&noise(LARGE, 1));
        }
        assert!(!server.log().contains("WARN"), "{}", server.log());
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
