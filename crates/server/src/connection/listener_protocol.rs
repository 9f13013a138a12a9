//! The protocol of a listener's connections.

use std::num::NonZeroU16;

use tidegate_config::{Listen, Protocols, ProxyProtocol};

use crate::transport::certificates::Tls;

/// The protocol of a listener's connections.
#[derive(Clone)]
pub(crate) struct ListenerProtocol {
    /// Whether a header of the PROXY protocol comes first.
    pub(crate) proxy_protocol: ProxyProtocol,
    /// The versions of HTTP.
    pub(crate) protocols: Protocols,
    pub(crate) spoken: Spoken,
}

/// What is spoken on a connection, after that header.
#[derive(Clone)]
pub(crate) enum Spoken {
    Http,
    /// HTTP, with every request redirected to HTTPS on this port.
    Redirect(NonZeroU16),
    Https(Tls),
}

impl ListenerProtocol {
    /// The protocol of the configured listener. `tls` is `Some` if any listener uses TLS.
    pub(crate) fn new(configured: &Listen, tls: Option<&Tls>) -> Self {
        let spoken = match (tls, NonZeroU16::new(configured.https_redirect)) {
            (Some(tls), _) if configured.tls => Spoken::Https(tls.for_listener(configured)),
            (_, Some(port)) => Spoken::Redirect(port),
            (_, None) => Spoken::Http,
        };
        Self {
            proxy_protocol: configured.proxy_protocol,
            protocols: configured.protocols,
            spoken,
        }
    }
}
