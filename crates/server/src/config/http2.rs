//! The bounds on connections of HTTP/2.

use tidegate_config::Settings;
use tidegate_h2::{Limits, Rate};

use super::LINGER_BYTES_MAX;

/// Those of `[http2]`, and those of `[limits]` and `[timeouts]` that hold for every version.
pub(crate) fn limits(settings: &Settings) -> Limits {
    let (http2, limits) = (&settings.http2, &settings.limits);
    // At most 1 MiB.
    let header_bytes = limits.header_bytes as u32;
    Limits {
        concurrent_streams: http2.concurrent_streams,
        stream_window: http2.stream_window,
        connection_window: http2.connection_window,
        header_list: header_bytes,
        headers: limits.headers,
        body_discard: limits.body_discard,
        linger_bytes: LINGER_BYTES_MAX as u64,
        linger: settings.timeouts.linger,
        continuations: http2.continuations,
        continuation_bytes: header_bytes,
        resets: Rate {
            burst: http2.reset_burst,
            per_second: http2.reset_rate,
        },
        idle_frames: Rate {
            burst: http2.idle_frame_burst,
            per_second: http2.idle_frame_rate,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Those of the crate are tested there.
    #[test]
    fn the_defaults_are_those_of_the_protocol() {
        let settings = Settings::for_directory(".".into());
        assert_eq!(limits(&settings), Limits::default());
    }
}
