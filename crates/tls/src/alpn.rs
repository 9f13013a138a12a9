//! The application protocols that listeners offer by ALPN (RFC 7301).

use std::sync::Arc;

use rustls::ServerConfig;

/// The protocols that a listener offers. A client that offers only others is refused with the alert
/// `no_application_protocol`; one that does not use ALPN is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alpn {
    /// HTTP/1.1 and 1.0.
    Http1,
    /// HTTP/2.
    Http2,
    /// HTTP/2 for clients that offer it, else HTTP/1.1 or 1.0.
    Http2OrHttp1,
}

const HTTP1: [&[u8]; 2] = [b"http/1.1", b"http/1.0"];
const HTTP2: &[u8] = b"h2";

impl Alpn {
    /// Their names, the best first.
    fn names(self) -> Vec<Vec<u8>> {
        let names = match self {
            Self::Http1 => &HTTP1[..],
            Self::Http2 => &[HTTP2],
            Self::Http2OrHttp1 => &[HTTP2, HTTP1[0], HTTP1[1]],
        };
        names.iter().map(|name| name.to_vec()).collect()
    }
}

/// The configuration of rustls for each [`Alpn`].
#[derive(Debug)]
pub(crate) struct Configs {
    http1: Arc<ServerConfig>,
    http2: Arc<ServerConfig>,
    http2_or_http1: Arc<ServerConfig>,
}

impl Configs {
    /// Those that offer protocols, and else are as `config`.
    pub(crate) fn of_all(config: &ServerConfig) -> Self {
        let offering = |alpn: Alpn| {
            let mut config = config.clone();
            config.alpn_protocols = alpn.names();
            Arc::new(config)
        };
        Self {
            http1: offering(Alpn::Http1),
            http2: offering(Alpn::Http2),
            http2_or_http1: offering(Alpn::Http2OrHttp1),
        }
    }

    pub(crate) fn of(&self, alpn: Alpn) -> &Arc<ServerConfig> {
        match alpn {
            Alpn::Http1 => &self.http1,
            Alpn::Http2 => &self.http2,
            Alpn::Http2OrHttp1 => &self.http2_or_http1,
        }
    }
}
