//! Chooses the certificate for each handshake, and records the choice.
//!
//! rustls' unbuffered connection exposes neither the server name nor the certificate, but passes
//! the name to its resolver. The resolver is called on the thread that feeds the handshake, before
//! `feed` returns, so a thread-local passes both on. It is called for a resumed session, too.

use std::cell::Cell;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::certificates::Certificates;
use crate::names::Names;

thread_local! {
    static CHOICE: Cell<Option<Choice>> = const { Cell::new(None) };
}

/// What a ClientHello named, and what it got.
#[derive(Default)]
pub(crate) struct Choice {
    /// The server name (SNI).
    pub(crate) server_name: Option<Box<str>>,
    /// The names of the chosen certificate.
    pub(crate) covered: Names,
}

/// Chooses among `Certificates`.
#[derive(Debug)]
pub(crate) struct Resolver(pub(crate) Arc<Certificates>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let server_name = hello.server_name();
        let certificate = self.0.choose(server_name, hello.signature_schemes())?;
        CHOICE.set(Some(Choice {
            server_name: server_name.map(Box::from),
            covered: certificate.names().clone(),
        }));
        Some(Arc::clone(certificate.key()))
    }
}

/// The choice for the ClientHello that this thread handled last, if any since the last call.
pub(crate) fn take_choice() -> Option<Choice> {
    CHOICE.take()
}
