//! Chooses the certificate for each handshake, and records the name that the client sent.
//!
//! rustls' unbuffered connection does not expose the server name, but passes it to its resolver.
//! The resolver is called on the thread that feeds the handshake, before `feed` returns, so a
//! thread-local passes the name on.

use std::cell::Cell;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::certificates::Certificates;

thread_local! {
    static SERVER_NAME: Cell<Option<Box<str>>> = const { Cell::new(None) };
}

/// Chooses among `Certificates`.
#[derive(Debug)]
pub(crate) struct Resolver(pub(crate) Arc<Certificates>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let key = self
            .0
            .key_for(hello.server_name(), hello.signature_schemes());
        SERVER_NAME.set(hello.server_name().map(Box::from));
        key
    }
}

/// The server name of the ClientHello that this thread handled last, if any since the last call.
pub(crate) fn take_server_name() -> Option<Box<str>> {
    SERVER_NAME.take()
}
