//! The settings of TLS listeners, as checked values; the config crate parses the configuration
//! file.

use std::path::PathBuf;

/// The settings of all of them.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its certificates; the first is served where the client names no host or an unknown one.
    pub certificates: Vec<CertificateFiles>,
    /// Whether clients show certificates of their own.
    pub client_authentication: ClientAuthentication,
    /// The oldest accepted version.
    pub least_version: LeastVersion,
    /// What to do about certificates that cannot be used.
    pub missing: Missing,
    /// Session tickets sent after a full TLS 1.3 handshake.
    pub tickets: usize,
}

impl Settings {
    /// The defaults: TLS 1.2 and 1.3, no client certificates, 2 tickets.
    pub fn new(certificates: Vec<CertificateFiles>) -> Self {
        Self {
            certificates,
            client_authentication: ClientAuthentication::Off,
            least_version: LeastVersion::Tls12,
            missing: Missing::Refuse,
            tickets: 2,
        }
    }
}

/// The files of a certificate chain and its key, both PEM; it may be one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, the server's own certificate first.
    pub certificate: PathBuf,
    /// Its private key: PKCS#8, PKCS#1 or SEC1, not encrypted.
    pub key: PathBuf,
}

/// What to do about certificates that cannot be used, such as those whose files do not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Missing {
    /// It is an error.
    #[default]
    Refuse,
    /// Serve the others and those loaded before, perhaps none.
    LeaveOut,
}

/// Whether clients are asked for a certificate (mutual TLS).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientAuthentication {
    /// Not asked.
    Off,
    /// Asked; a client without one is served, one with a bad one is not.
    Request {
        /// PEM file of the authorities that client certificates are checked against.
        authorities: PathBuf,
    },
    /// Asked; a client without a good one is refused.
    Require {
        /// PEM file of the authorities that client certificates are checked against.
        authorities: PathBuf,
    },
}

impl ClientAuthentication {
    /// The file of authorities, where clients are asked.
    pub fn authorities(&self) -> Option<&PathBuf> {
        match self {
            Self::Off => None,
            Self::Request { authorities } | Self::Require { authorities } => Some(authorities),
        }
    }
}

/// The oldest TLS version a listener speaks. Nothing older than 1.2 can be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LeastVersion {
    /// TLS 1.2 and 1.3: Mozilla's intermediate profile.
    #[default]
    Tls12,
    /// TLS 1.3 only: Mozilla's modern profile.
    Tls13,
}
