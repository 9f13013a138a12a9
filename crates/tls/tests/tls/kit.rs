//! Certificates in temporary directories, and a client that talks to a handshake in memory.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256,
    PKCS_RSA_SHA256, RsaKeySize,
};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedCipherSuite};
use tidegate_tls::{
    Acceptor, CertificateFiles, Connected, Failed, Handshake, Incoming, Progress, Settings,
    UserSession,
};

pub(crate) struct Authority {
    pub(crate) directory: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Ecdsa,
    Rsa,
}

pub(crate) fn key_pair(kind: Kind) -> KeyPair {
    match kind {
        Kind::Ecdsa => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap(),
        Kind::Rsa => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap(),
    }
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = key_pair(Kind::Ecdsa);
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "test authority");
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            directory: tempfile::tempdir().unwrap(),
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// The authority's own certificate as a file.
    pub(crate) fn file(&self) -> PathBuf {
        self.write("authority.pem", &self.pem)
    }

    pub(crate) fn sign(&self, names: &[&str], key: &KeyPair) -> String {
        self.sign_with(names, key, |_| ())
    }

    pub(crate) fn sign_with(
        &self,
        names: &[&str],
        key: &KeyPair,
        change: impl FnOnce(&mut CertificateParams),
    ) -> String {
        let names: Vec<String> = names.iter().map(|&name| name.into()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        params.signed_by(key, &self.issuer).unwrap().pem()
    }

    /// A certificate for `names` and its key, as `FILE.pem` and `FILE.key`.
    pub(crate) fn issue(&self, file: &str, names: &[&str], kind: Kind) -> CertificateFiles {
        let key = key_pair(kind);
        CertificateFiles {
            certificate: self.write(&format!("{file}.pem"), &self.sign(names, &key)),
            key: self.write(&format!("{file}.key"), &key.serialize_pem()),
        }
    }

    pub(crate) fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap())
            .unwrap();
        roots
    }
}

/// An acceptor with one ECDSA certificate for `localhost`.
pub(crate) fn simple() -> (Authority, Acceptor) {
    let authority = Authority::new();
    let files = authority.issue("server", &["localhost"], Kind::Ecdsa);
    let acceptor = Acceptor::new(Settings::new(vec![files])).unwrap();
    (authority, acceptor)
}

/// What a client is set to.
pub(crate) struct ClientSettings {
    pub(crate) suites: Vec<SupportedCipherSuite>,
    pub(crate) identity: Option<CertificateFiles>,
    pub(crate) alpn: Vec<Vec<u8>>,
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self {
            suites: aws_lc_rs::DEFAULT_CIPHER_SUITES.to_vec(),
            identity: None,
            alpn: vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        }
    }
}

pub(crate) fn client_config(authority: &Authority, settings: ClientSettings) -> Arc<ClientConfig> {
    let provider = CryptoProvider {
        cipher_suites: settings.suites.clone(),
        ..aws_lc_rs::default_provider()
    };
    let versions: Vec<_> = [&rustls::version::TLS13, &rustls::version::TLS12]
        .into_iter()
        .filter(|version| {
            let has = |suite: &SupportedCipherSuite| suite.version().version == version.version;
            settings.suites.iter().any(has)
        })
        .collect();
    let builder = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&versions)
        .unwrap()
        .with_root_certificates(authority.roots());
    let mut config = match &settings.identity {
        None => builder.with_no_client_auth(),
        Some(files) => builder
            .with_client_auth_cert(read_certificates(&files.certificate), read_key(&files.key))
            .unwrap(),
    };
    config.alpn_protocols = settings.alpn;
    config.enable_secret_extraction = true;
    config.resumption = Resumption::in_memory_sessions(8);
    Arc::new(config)
}

pub(crate) fn read_certificates(path: &Path) -> Vec<CertificateDer<'static>> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).unwrap().collect();
    certificates.unwrap()
}

pub(crate) fn read_key(path: &Path) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_file(path).unwrap()
}

pub(crate) fn connect(config: &Arc<ClientConfig>, name: &str) -> ClientConnection {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    ClientConnection::new(Arc::clone(config), name).unwrap()
}

/// All that the client wants to send now.
pub(crate) fn client_output(client: &mut ClientConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).unwrap();
    }
    bytes
}

/// Feeds the bytes of the server to the client.
pub(crate) fn client_input(
    client: &mut ClientConnection,
    mut bytes: &[u8],
) -> Result<(), rustls::Error> {
    while !bytes.is_empty() {
        client.read_tls(&mut bytes).unwrap();
        client.process_new_packets()?;
    }
    Ok(())
}

/// A handshake to its end on both sides, the client's bytes in pieces of `piece`.
pub(crate) fn shake_in_pieces(
    acceptor: &Acceptor,
    client: &mut ClientConnection,
    piece: usize,
) -> Result<Handshake, Failed> {
    let mut handshake = Handshake::new(acceptor)?;
    let mut progress = Progress::More;
    for _ in 0..10 {
        let sent = client_output(client);
        for piece in sent.chunks(piece) {
            let mut out = Vec::new();
            let fed = handshake.feed(piece, &mut out);
            let taken = client_input(client, &out);
            progress = fed?;
            taken?;
        }
        if progress == Progress::Finished && !client.is_handshaking() && !client.wants_write() {
            return Ok(handshake);
        }
    }
    panic!("the handshake does not end");
}

pub(crate) fn shake(
    acceptor: &Acceptor,
    client: &mut ClientConnection,
) -> Result<Handshake, Failed> {
    shake_in_pieces(acceptor, client, usize::MAX)
}

/// A session in user space, its client, and the result of the handshake.
pub(crate) fn session(
    acceptor: &Acceptor,
    config: &Arc<ClientConfig>,
) -> (UserSession, ClientConnection, Connected) {
    let mut client = connect(config, "localhost");
    let handshake = shake(acceptor, &mut client).unwrap();
    let connected = handshake.connected().unwrap();
    (handshake.into_user().unwrap(), client, connected)
}

/// `bytes` to the client and back, each way in one call; panics if they come out different.
pub(crate) fn exchange(session: &mut UserSession, client: &mut ClientConnection, bytes: &[u8]) {
    let mut out = Vec::new();
    session.encrypt(bytes, &mut out).unwrap();
    assert_eq!(client_read(client, &out), bytes);
    client.writer().write_all(b"and back").unwrap();
    let mut sent = client_output(client);
    let (mut plaintext, mut out) = (Vec::new(), Vec::new());
    let incoming = session
        .decrypt(&mut sent, &mut plaintext, &mut out)
        .unwrap();
    assert_eq!(incoming, Incoming::Data);
    assert_eq!(plaintext, b"and back");
    assert!(out.is_empty());
}

/// The data in `bytes`, as the client decrypts it.
pub(crate) fn client_read(client: &mut ClientConnection, mut bytes: &[u8]) -> Vec<u8> {
    let mut data = Vec::new();
    while !bytes.is_empty() {
        client.read_tls(&mut bytes).unwrap();
        let state = client.process_new_packets().unwrap();
        let start = data.len();
        data.resize(start + state.plaintext_bytes_to_read(), 0);
        client.reader().read_exact(&mut data[start..]).unwrap();
    }
    data
}
