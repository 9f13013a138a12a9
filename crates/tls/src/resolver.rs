//! The certificate for each handshake, and the name the client asked for.
//!
//! rustls' unbuffered connection does not tell the server name, its resolver is told. The resolver
//! is called on the thread that feeds the handshake and before `feed` returns, so the name passes
//! through a thread-local from one to the other.

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
