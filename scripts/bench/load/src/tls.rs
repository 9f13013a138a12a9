//! TLS as every server is spoken to: the same version, cipher and key exchange, so that what is compared is
//! how they are served and not which were chosen.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs::{self, cipher_suite, kx_group};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    CipherSuite, ClientConfig, ClientConnection, HandshakeKind, ProtocolVersion, RootCertStore,
};

/// The name that the certificate is for.
const NAME: &str = "localhost";
/// Sessions that are kept to be resumed, more than a server gives out at once.
const SESSIONS_MAX: usize = 256;
const PIECE_BYTES: usize = 64 * 1024;

/// What connections are secured by. Cloning is cheap, and clones share sessions to resume.
#[derive(Clone)]
pub(crate) struct Tls {
    config: Arc<ClientConfig>,
    /// Handshakes must resume a session; else they must not.
    resumes: bool,
}

/// The client's side of a connection.
pub(crate) struct Session {
    connection: ClientConnection,
    piece: Vec<u8>,
}

impl Tls {
    /// Trusts the certificates of a PEM file, for TLS 1.3 with AES-128-GCM and X25519 alone.
    pub(crate) fn new(authorities: &Path, resumes: bool) -> io::Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(authorities).map_err(io::Error::other)? {
            let certificate = certificate.map_err(io::Error::other)?;
            roots.add(certificate).map_err(io::Error::other)?;
        }
        let provider = rustls::crypto::CryptoProvider {
            cipher_suites: vec![cipher_suite::TLS13_AES_128_GCM_SHA256],
            kx_groups: vec![kx_group::X25519],
            ..aws_lc_rs::default_provider()
        };
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = if resumes {
            Resumption::in_memory_sessions(SESSIONS_MAX)
        } else {
            Resumption::disabled()
        };
        Ok(Self {
            config: Arc::new(config),
            resumes,
        })
    }

    /// A handshake on a blocking `stream`, of the kind that is wanted.
    pub(crate) fn connect(&self, stream: &mut TcpStream) -> io::Result<Session> {
        let session = self.connect_anyhow(stream)?;
        let wanted = if self.resumes {
            HandshakeKind::Resumed
        } else {
            HandshakeKind::Full
        };
        match session.connection.handshake_kind() {
            Some(kind) if kind == wanted => Ok(session),
            kind => Err(other(format_args!(
                "a handshake that is {kind:?}, not {wanted:?}"
            ))),
        }
    }

    /// The same of any kind: the first of those that are to be resumed.
    pub(crate) fn connect_anyhow(&self, stream: &mut TcpStream) -> io::Result<Session> {
        let name = ServerName::try_from(NAME).map_err(io::Error::other)?;
        let connection = ClientConnection::new(Arc::clone(&self.config), name);
        let mut connection = connection.map_err(io::Error::other)?;
        while connection.is_handshaking() {
            connection.complete_io(stream)?;
        }
        let version = connection.protocol_version();
        let suite = connection
            .negotiated_cipher_suite()
            .map(|suite| suite.suite());
        if (version, suite)
            != (
                Some(ProtocolVersion::TLSv1_3),
                Some(CipherSuite::TLS13_AES_128_GCM_SHA256),
            )
        {
            return Err(other(format_args!("{version:?} with {suite:?}")));
        }
        Ok(Session {
            connection,
            piece: vec![0; PIECE_BYTES],
        })
    }

    pub(crate) fn resumes(&self) -> bool {
        self.resumes
    }
}

impl Session {
    /// The records for `plain`.
    pub(crate) fn seal(&mut self, plain: &[u8]) -> io::Result<Vec<u8>> {
        self.connection.writer().write_all(plain)?;
        let mut sealed = Vec::new();
        while self.connection.wants_write() {
            self.connection.write_tls(&mut sealed)?;
        }
        Ok(sealed)
    }

    /// Gives what `sealed` holds, received last, to `take` in pieces; true when the server has sent
    /// close_notify.
    pub(crate) fn open<E: From<io::Error>>(
        &mut self,
        mut sealed: &[u8],
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<bool, E> {
        while !sealed.is_empty() {
            self.connection.read_tls(&mut sealed)?;
            let state = self.connection.process_new_packets();
            let state = state.map_err(io::Error::other)?;
            let mut left = state.plaintext_bytes_to_read();
            while left > 0 {
                let count = self.connection.reader().read(&mut self.piece)?;
                take(&self.piece[..count])?;
                left -= count;
            }
            if state.peer_has_closed() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Reads and writes data on a blocking `stream`.
    pub(crate) fn stream<'s>(
        &'s mut self,
        stream: &'s mut TcpStream,
    ) -> rustls::Stream<'s, ClientConnection, TcpStream> {
        rustls::Stream::new(&mut self.connection, stream)
    }
}

fn other(what: fmt::Arguments<'_>) -> io::Error {
    io::Error::other(format!("the server made {what}"))
}
