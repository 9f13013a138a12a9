//! Why a request failed: by kind for metrics, and in plain words.

use std::error::Error as StdError;
use std::{io, iter};

use rustls::CertificateError;

use crate::error::chain;

/// Kinds of failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// No connection.
    Connect,
    /// No TLS, or a certificate that is not trusted.
    Tls,
    /// The name has no address.
    Dns,
    /// No connection or no byte in time.
    Timeout,
    /// The connection broke, or the body is shorter than announced.
    Reset,
    /// A status of 5xx, or 429.
    Status,
    /// A response that breaks HTTP, contradicts an earlier one, or has a status that means nothing
    /// here.
    Response,
    /// S3 refuses the credentials, the clock or the bucket.
    Refused,
    /// There are no credentials to sign with.
    Credentials,
}

impl FailureKind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Connect,
        Self::Tls,
        Self::Dns,
        Self::Timeout,
        Self::Reset,
        Self::Status,
        Self::Response,
        Self::Refused,
        Self::Credentials,
    ];

    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Dns => "dns",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::Status => "status",
            Self::Response => "response",
            Self::Refused => "refused",
            Self::Credentials => "credentials",
        }
    }
}

/// The kind of an error of the HTTP client, and what it means.
pub(super) fn describe(error: &(dyn StdError + 'static)) -> (FailureKind, String) {
    let causes = causes(error);
    let innermost = causes.last().map(ToString::to_string).unwrap_or_default();
    let is_timeout = |cause: &&(dyn StdError + 'static)| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
    };
    if causes.iter().any(is_timeout) {
        let reason = "a connection did not come in time: check that a firewall lets it through";
        return (FailureKind::Timeout, reason.to_owned());
    }
    let tls = causes.iter().find_map(|cause| cause.downcast_ref());
    if let Some(error) = tls {
        return (FailureKind::Tls, tls_reason(error));
    }
    // The connector's error has a text alone.
    if causes.iter().any(|cause| cause.to_string() == "dns error") {
        let reason = format!(
            "DNS has no address for its name: {innermost}; check the host in its URL, and the \
             resolver of this host"
        );
        return (FailureKind::Dns, reason);
    }
    if causes.iter().any(|cause| is_of_connecting(*cause)) {
        let reason = format!("cannot connect: {innermost}; check that it runs, and its port");
        return (FailureKind::Connect, reason);
    }
    let is_parse = |cause: &&(dyn StdError + 'static)| {
        cause
            .downcast_ref::<hyper::Error>()
            .is_some_and(hyper::Error::is_parse)
    };
    if causes.iter().any(is_parse) {
        let reason = format!("its response is no HTTP: {}", chain(error));
        return (FailureKind::Response, reason);
    }
    (
        FailureKind::Reset,
        format!("the connection broke: {}", chain(error)),
    )
}

fn is_of_connecting(cause: &(dyn StdError + 'static)) -> bool {
    cause
        .downcast_ref::<hyper_util::client::legacy::Error>()
        .is_some_and(hyper_util::client::legacy::Error::is_connect)
}

fn tls_reason(error: &rustls::Error) -> String {
    use CertificateError as Bad;
    let reason = match error {
        rustls::Error::InvalidCertificate(bad) => match bad {
            Bad::Expired | Bad::ExpiredContext { .. } => {
                "its certificate has expired, or the clock of this host is off"
            }
            Bad::NotValidYet | Bad::NotValidYetContext { .. } => {
                "its certificate is not valid yet, or the clock of this host is off"
            }
            // An authority of the same name with another key gives a wrong signature.
            Bad::UnknownIssuer | Bad::BadSignature => {
                "its certificate is not trusted: no known authority issued it; name its authority \
                 with ca"
            }
            Bad::NotValidForName | Bad::NotValidForNameContext { .. } => {
                "its certificate is for another name: check the host in its URL"
            }
            other => return format!("its certificate is not valid: {other:?}"),
        },
        rustls::Error::InvalidMessage(_) => "it does not speak TLS: is its URL http, not https?",
        other => return format!("TLS fails: {other}"),
    };
    reason.to_owned()
}

/// An error and its causes, those within [`io::Error`] as well.
fn causes<'a>(error: &'a (dyn StdError + 'static)) -> Vec<&'a (dyn StdError + 'static)> {
    iter::successors(Some(error), |error| cause(*error)).collect()
}

fn cause<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    let wrapped = error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref);
    match wrapped {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_named_in_plain_words() {
        let of = |bad| rustls::Error::InvalidCertificate(bad);
        for (error, part) in [
            (of(CertificateError::Expired), "has expired"),
            (of(CertificateError::UnknownIssuer), "with ca"),
            (of(CertificateError::NotValidForName), "another name"),
            (of(CertificateError::BadSignature), "with ca"),
            (of(CertificateError::Revoked), "is not valid"),
            (rustls::Error::DecryptError, "TLS fails"),
        ] {
            // As connectors wrap it.
            let error = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, error));
            let (kind, reason) = describe(&error);
            assert_eq!(kind, FailureKind::Tls, "{reason}");
            assert!(reason.contains(part), "{reason}");
        }
    }

    #[test]
    fn what_says_nothing_is_a_broken_connection() {
        let error = io::Error::from(io::ErrorKind::ConnectionReset);
        assert_eq!(describe(&error).0, FailureKind::Reset);
        let error = io::Error::from(io::ErrorKind::TimedOut);
        assert_eq!(describe(&error).0, FailureKind::Timeout);
    }

    #[test]
    fn kinds_have_names_of_their_own() {
        let names: std::collections::BTreeSet<_> =
            FailureKind::ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(names.len(), FailureKind::ALL.len());
        for (index, kind) in FailureKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index);
        }
    }
}
