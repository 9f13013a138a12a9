//! The protocol of a listener's connections.

use std::num::NonZeroU16;

use tidegate_config::Listen;

use crate::transport::certificates::Tls;

/// The protocol of a listener's connections.
#[derive(Clone)]
pub(crate) enum ListenerProtocol {
    Http,
    /// HTTP, with every request redirected to HTTPS on this port.
    Redirect(NonZeroU16),
    Https(Tls),
}

impl ListenerProtocol {
    /// The protocol of the configured listener. `tls` is `Some` if any listener uses TLS.
    pub(crate) fn new(configured: &Listen, tls: Option<&Tls>) -> Self {
        match (tls, NonZeroU16::new(configured.https_redirect)) {
            (Some(tls), _) if configured.tls => Self::Https(tls.for_listener(configured)),
            (_, Some(port)) => Self::Redirect(port),
            (_, None) => Self::Http,
        }
    }
}
