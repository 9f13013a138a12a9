//! The handshake of TLS: how the client's bytes are cut does not decide whether it fails.

use std::sync::{Arc, LazyLock};

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::kernel::KernelConnection;
use rustls::pki_types::ServerName;
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};
use rustls::{ClientConfig, ConnectionTrafficSecrets, RootCertStore, SupportedCipherSuite};
use tidegate_tls::{
    Acceptor, CertificateFiles, FailureKind, Handshake, Progress, Settings, UserSession,
};

use crate::cuts::pieces;

/// What each message of a client takes, at most.
const MESSAGE_BYTES_MAX: usize = 4096;

/// A server with a certificate for `localhost`, and a client that trusts it.
static ENDS: LazyLock<(Acceptor, Arc<ClientConfig>)> = LazyLock::new(ends);

/// `data` is what a client sends.
pub(crate) fn check(data: &[u8]) {
    let whole = feed([data]);
    assert_eq!(feed(data.chunks(1)), whole);
    assert_eq!(feed(pieces(data, 50)), whole);
}

/// How far a handshake comes.
fn feed<'d>(pieces: impl IntoIterator<Item = &'d [u8]>) -> Result<Progress, FailureKind> {
    let mut handshake = Handshake::new(&ENDS.0).expect("a handshake");
    let mut progress = Progress::More;
    let mut out = Vec::new();
    for piece in pieces {
        progress = handshake
            .feed(piece, &mut out)
            .map_err(|error| error.kind())?;
    }
    Ok(progress)
}

fn ends() -> (Acceptor, Arc<ClientConfig>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a key");
    let directory = tempfile::tempdir().expect("a directory");
    let files = CertificateFiles {
        certificate: directory.path().join("pem"),
        key: directory.path().join("key"),
    };
    std::fs::write(&files.certificate, made.cert.pem()).expect("a file");
    std::fs::write(&files.key, made.signing_key.serialize_pem()).expect("a file");
    let acceptor = Acceptor::new(Settings::new(vec![files])).expect("a certificate");
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("a certificate");
    let mut config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.enable_secret_extraction = true;
    (acceptor, Arc::new(config))
}

/// A client behind its handshake, which keeps the secrets that its next keys are made of.
pub(crate) struct Client {
    connection: KernelConnection<ClientConnectionData>,
    secrets: Option<(u64, ConnectionTrafficSecrets)>,
}

impl Client {
    /// The number of the next record, and the key for it.
    pub(crate) fn take_secrets(&mut self) -> (u64, ConnectionTrafficSecrets) {
        self.secrets.take().expect("secrets are taken once")
    }

    /// As [`Client::take_secrets`], behind a KeyUpdate.
    pub(crate) fn next_secrets(&mut self) -> (u64, ConnectionTrafficSecrets) {
        self.connection.update_tx_secret().expect("TLS 1.3")
    }

    pub(crate) fn suite(&self) -> SupportedCipherSuite {
        self.connection.negotiated_cipher_suite()
    }
}

/// Both ends of a session of TLS 1.3.
pub(crate) fn shake() -> (Client, UserSession) {
    let (acceptor, config) = &*ENDS;
    let name = ServerName::try_from("localhost").expect("a name");
    let client = UnbufferedClientConnection::new(Arc::clone(config), name);
    let mut client = client.expect("a client");
    let mut handshake = Handshake::new(acceptor).expect("a handshake");
    let (mut to_client, mut to_server) = (Vec::new(), Vec::new());
    loop {
        let is_done = step(&mut client, &mut to_client, &mut to_server);
        let progress = handshake.feed(&to_server, &mut to_client);
        to_server.clear();
        if is_done && progress.expect("a handshake") == Progress::Finished {
            break;
        }
    }
    let (secrets, connection) = client
        .dangerous_into_kernel_connection()
        .expect("the handshake is over");
    let client = Client {
        connection,
        secrets: Some(secrets.tx),
    };
    (
        client,
        handshake.into_user().expect("the handshake is over"),
    )
}

/// Takes what the server sent, and appends what the client sends. Whether its handshake is over.
fn step(client: &mut UnbufferedClientConnection, input: &mut Vec<u8>, out: &mut Vec<u8>) -> bool {
    loop {
        let UnbufferedStatus { discard, state } = client.process_tls_records(input);
        let done = match state.expect("a server that is right") {
            ConnectionState::EncodeTlsData(mut data) => {
                let start = out.len();
                out.resize(start + MESSAGE_BYTES_MAX, 0);
                let written = data.encode(&mut out[start..]).expect("there is room");
                out.truncate(start + written);
                None
            }
            ConnectionState::TransmitTlsData(data) => {
                data.done();
                None
            }
            ConnectionState::BlockedHandshake => Some(false),
            ConnectionState::WriteTraffic(_) => Some(true),
            other => panic!("{other:?}"),
        };
        input.drain(..discard);
        if let Some(done) = done {
            return done;
        }
    }
}
