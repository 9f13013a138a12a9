//! A certificate authority for one test: certificates in files, and clients that trust it.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256,
};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedCipherSuite};

use super::{Client, Launch, Tree};

/// An authority, and the directory of the files that it issues.
pub(crate) struct Authority {
    directory: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key, as files.
#[derive(Clone)]
pub(crate) struct Files {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

/// A key for a certificate.
pub(crate) fn key_pair() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key")
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = key_pair();
        let mut params = CertificateParams::new(Vec::<String>::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let name = params.distinguished_name;
        params.distinguished_name = named(name, "test authority");
        let pem = params.self_signed(&key).expect("an authority").pem();
        Self {
            directory: tempfile::tempdir().expect("a temporary directory"),
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// Where `name` is in the authority's directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Makes the file `name` in the authority's directory.
    pub(crate) fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).expect("a file");
        path
    }

    /// Makes a named pipe without a writer in the authority's directory.
    pub(crate) fn fifo(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR, 0).expect("a pipe");
        path
    }

    /// The authority's own certificate, as a file.
    pub(crate) fn file(&self) -> PathBuf {
        self.write("authority.pem", &self.pem)
    }

    /// A certificate for `names` and `key`, changed by `change` before it is signed.
    pub(crate) fn sign(
        &self,
        names: &[&str],
        key: &KeyPair,
        change: impl FnOnce(&mut CertificateParams),
    ) -> String {
        let names: Vec<String> = names.iter().map(|&name| name.into()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        change(&mut params);
        let signed = params.signed_by(key, &self.issuer);
        signed.expect("a certificate").pem()
    }

    /// A certificate for `names` and a new key, as `FILE.pem` and `FILE.key`.
    pub(crate) fn issue(&self, file: &str, names: &[&str]) -> Files {
        let key = key_pair();
        let subject = file.to_owned();
        let cert = self.sign(names, &key, |params| {
            let name = std::mem::take(&mut params.distinguished_name);
            params.distinguished_name = named(name, &subject);
        });
        let files = Files {
            cert: self.write(&format!("{file}.pem"), &cert),
            key: self.write(&format!("{file}.key"), &key.serialize_pem()),
        };
        // The server tells of keys that all users may read.
        fs::set_permissions(&files.key, Permissions::from_mode(0o600)).expect("a key");
        files
    }

    /// The TLS settings of a client that trusts this authority, for [`Client::secure`].
    pub(crate) fn client(&self) -> Arc<ClientConfig> {
        self.client_with(aws_lc_rs::DEFAULT_CIPHER_SUITES, None)
    }

    /// As [`Authority::client`], with only `suites` and with the client certificate `identity`.
    pub(crate) fn client_with(
        &self,
        suites: &[SupportedCipherSuite],
        identity: Option<&Files>,
    ) -> Arc<ClientConfig> {
        let provider = CryptoProvider {
            cipher_suites: suites.to_vec(),
            ..aws_lc_rs::default_provider()
        };
        let versions = [&rustls::version::TLS13, &rustls::version::TLS12];
        let versions: Vec<_> = versions
            .into_iter()
            .filter(|version| {
                let has = |suite: &SupportedCipherSuite| suite.version().version == version.version;
                suites.iter().any(has)
            })
            .collect();
        let builder = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&versions)
            .expect("versions")
            .with_root_certificates(self.roots());
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(files) => builder
                .with_client_auth_cert(chain(&files.cert), key(&files.key))
                .expect("an identity"),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = Resumption::in_memory_sessions(32);
        Arc::new(config)
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        let own = CertificateDer::from_pem_slice(self.pem.as_bytes()).expect("PEM");
        roots.add(own).expect("an authority");
        roots
    }
}

impl Files {
    /// An entry for a config file.
    pub(crate) fn entry(&self) -> String {
        let (cert, key) = (self.cert.display(), self.key.display());
        format!("[[tls.certificates]]\ncert = \"{cert}\"\nkey = \"{key}\"\n")
    }
}

impl Launch {
    /// `tidegate run` on a port that speaks TLS: `server` starts in the `[server]` table, `tls` in the
    /// `[tls]` table, then come the certificates.
    pub(crate) fn secure(tree: &Tree, server: &str, tls: &str, certificates: &[&Files]) -> Self {
        let entries: String = certificates.iter().map(|files| files.entry()).collect();
        let root = tree.root();
        let site = format!("[[site]]\nroot = \"{}\"\n", root.display());
        let sites = format!("tls = true\n\n[tls]\n{tls}\n\n{entries}\n{site}");
        Self::run_sites(tree, server, &sites)
    }
}

/// A TLS connection before its handshake.
pub(crate) type SecureStream = StreamOwned<ClientConnection, TcpStream>;

/// A connection to `name`. The first write or read performs the handshake.
pub(crate) fn secure<S: Read + Write>(
    stream: S,
    config: &Arc<ClientConfig>,
    name: &str,
) -> StreamOwned<ClientConnection, S> {
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let connection = ClientConnection::new(Arc::clone(config), name).expect("a client");
    StreamOwned::new(connection, stream)
}

impl Client {
    /// A client that speaks TLS with `localhost`.
    pub(crate) fn secure(address: std::net::SocketAddr, config: &Arc<ClientConfig>) -> Self {
        Self::secure_as(address, config, "localhost")
    }

    /// A client that speaks TLS with `name`.
    pub(crate) fn secure_as(
        address: std::net::SocketAddr,
        config: &Arc<ClientConfig>,
        name: &str,
    ) -> Self {
        Self::connect(address).with_tls(|stream| secure(stream, config, name))
    }
}

fn named(mut name: rcgen::DistinguishedName, common: &str) -> rcgen::DistinguishedName {
    name.push(DnType::CommonName, common);
    name
}

fn chain(path: &Path) -> Vec<CertificateDer<'static>> {
    let chain: Result<_, _> = CertificateDer::pem_file_iter(path)
        .expect("a file")
        .collect();
    chain.expect("PEM")
}

fn key(path: &Path) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_file(path).expect("PEM")
}
