//! The versions of HTTP that a listener speaks, and `[http2]`.

use serde::{Serialize, Serializer};

use crate::units;

/// The versions of HTTP that a listener speaks; at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocols {
    /// HTTP/1.1 and 1.0.
    pub http1: bool,
    /// HTTP/2: by ALPN on TLS, else by prior knowledge (RFC 9113, section 3).
    pub http2: bool,
}

impl Protocols {
    /// Each with its name in ALPN (RFC 7301), the best first.
    pub(crate) fn names(self) -> impl Iterator<Item = &'static str> {
        let all = [(self.http2, "h2"), (self.http1, "http/1.1")];
        let spoken = all.into_iter().filter(|(is_spoken, _)| *is_spoken);
        spoken.map(|(_, name)| name)
    }
}

impl Default for Protocols {
    fn default() -> Self {
        Self {
            http1: true,
            http2: true,
        }
    }
}

impl Serialize for Protocols {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.names())
    }
}

/// `[http2]`: what a client may use of one connection. `limits.header-bytes`, `limits.headers` and
/// `limits.body-discard` hold for HTTP/2, too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Http2 {
    /// Requests at a time, 1 to 1024 (`SETTINGS_MAX_CONCURRENT_STREAMS`).
    pub concurrent_streams: u32,
    /// Bytes of a body on one stream before more is granted, 65,535 to 16 MiB
    /// (`SETTINGS_INITIAL_WINDOW_SIZE`).
    #[serde(serialize_with = "units::size")]
    pub stream_window: u32,
    /// Bytes of all bodies before more is granted, 65,535 to 16 MiB.
    #[serde(serialize_with = "units::size")]
    pub connection_window: u32,
    /// CONTINUATION frames of one header block, 0 to 64.
    pub continuations: u8,
    /// Streams that the client resets, or makes the server reset, at once; at least 1.
    pub reset_burst: u32,
    /// The same in a second after that, at least 1.
    pub reset_rate: u32,
    /// Frames without work at once, at least 1.
    pub idle_frame_burst: u32,
    /// The same in a second after that, at least 1.
    pub idle_frame_rate: u32,
    /// Bytes of responses to frames (not to requests) that wait for the client before nothing more
    /// is read from it, 4 KiB to 1 MiB.
    #[serde(serialize_with = "units::size")]
    pub control_bytes: usize,
}

impl Default for Http2 {
    fn default() -> Self {
        Self {
            concurrent_streams: 128,
            stream_window: 65_535,
            connection_window: 65_535,
            continuations: 8,
            reset_burst: 1000,
            reset_rate: 33,
            idle_frame_burst: 1000,
            idle_frame_rate: 100,
            control_bytes: 4 << 10,
        }
    }
}
