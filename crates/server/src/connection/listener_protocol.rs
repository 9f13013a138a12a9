//! What a listener's connections speak.

use std::num::NonZeroU16;

use tidegate_config::Listen;

use crate::transport::certificates::Tls;

/// What the connections of a listener speak.
#[derive(Clone)]
pub(crate) enum ListenerProtocol {
    Http,
    /// HTTP; each request is redirected to HTTPS on this port.
    Redirect(NonZeroU16),
    Https(Tls),
}

impl ListenerProtocol {
    /// The protocol of the configured listener. `tls` is there if any listener has it.
    pub(crate) fn new(configured: &Listen, tls: Option<&Tls>) -> Self {
        match (tls, NonZeroU16::new(configured.https_redirect)) {
            (Some(tls), _) if configured.tls => Self::Https(tls.clone()),
            (_, Some(port)) => Self::Redirect(port),
            (_, None) => Self::Http,
        }
    }
}
