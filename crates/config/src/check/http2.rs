//! `listen.protocols` and `[http2]`.

use super::report::Report;
use crate::rules::{count, size};
use crate::{Http2, Protocols, ValueError, raw, rules};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
/// A client may rely on it before it knows the settings (RFC 9113, section 6.9.2).
const WINDOW_MIN: u64 = 65_535;
/// Far above what clients do, and far below what would matter to a 32-bit count.
const BUCKET_MAX: i64 = 1_000_000;

/// Checks `listen.protocols`.
pub(super) fn protocols(typed: raw::List, report: &mut Report<'_>) -> Protocols {
    let Some(span) = typed.as_ref().map(toml::Spanned::span) else {
        return Protocols::default();
    };
    let mut refused = false;
    let mut spoken = Protocols {
        http1: false,
        http2: false,
    };
    report.list(typed, Vec::new(), |name, _| {
        let added = add(&mut spoken, &name);
        refused |= added.is_err();
        added
    });
    if spoken.names().next().is_some() {
        return spoken;
    }
    if !refused {
        let reason = "nothing could be spoken: name \"h2\", \"http/1.1\" or both";
        report.refuse(&span, &ValueError::new(reason));
    }
    Protocols::default()
}

/// Adds the protocol with this name.
fn add(spoken: &mut Protocols, name: &str) -> Result<(), ValueError> {
    let is_spoken = match name {
        "h2" => &mut spoken.http2,
        "http/1.1" => &mut spoken.http1,
        "h2c" => return Err(ValueError::new("write \"h2\": without TLS it is h2c")),
        _ => return Err(rules::none_of(name, &["h2", "http/1.1"])),
    };
    if std::mem::replace(is_spoken, true) {
        return Err(ValueError::new(format!("`{name}` is in the list already")));
    }
    Ok(())
}

/// Checks the section.
pub(super) fn http2(raw: raw::Http2, report: &mut Report<'_>) -> Http2 {
    let default = Http2::default();
    let bucket = || {
        count(
            1..=BUCKET_MAX,
            "browsers need a few, and only attacks need more",
        )
    };
    Http2 {
        concurrent_streams: report.checked(
            raw.concurrent_streams,
            default.concurrent_streams,
            count(1..=1024, "each may hold a file open"),
        ),
        stream_window: report.checked(
            raw.stream_window,
            default.stream_window,
            size(
                WINDOW_MIN..=16 * MIB,
                "bodies are discarded: nothing is won by more",
            ),
        ),
        connection_window: report.checked(
            raw.connection_window,
            default.connection_window,
            size(
                WINDOW_MIN..=16 * MIB,
                "bodies are discarded: nothing is won by more",
            ),
        ),
        continuations: report.checked(
            raw.continuations,
            default.continuations,
            count(
                0..=64,
                "limits.header-bytes is at most 1m, in frames of 16k",
            ),
        ),
        reset_burst: report.checked(raw.reset_burst, default.reset_burst, bucket()),
        reset_rate: report.checked(raw.reset_rate, default.reset_rate, bucket()),
        idle_frame_burst: report.checked(raw.idle_frame_burst, default.idle_frame_burst, bucket()),
        idle_frame_rate: report.checked(raw.idle_frame_rate, default.idle_frame_rate, bucket()),
        control_bytes: report.checked(
            raw.control_bytes,
            default.control_bytes,
            size(
                4 * KIB..=MIB,
                "a client that reads nothing is not read from either",
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::Settings;

    fn parse(text: &str) -> Result<Settings, String> {
        let text = format!("{text}\n[[site]]\nroot = 'www'\n");
        Settings::parse(&text, Path::new("t.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn a_listener_speaks_what_is_named() {
        let rows = [
            ("['h2']", (true, false)),
            ("['http/1.1']", (false, true)),
            ("['h2', 'http/1.1']", (true, true)),
            ("['http/1.1', 'h2']", (true, true)),
        ];
        for (list, (http2, http1)) in rows {
            let settings = parse(&format!("[[listen]]\nprotocols = {list}")).unwrap();
            let spoken = settings.listen[0].protocols;
            assert_eq!(spoken, Protocols { http1, http2 }, "{list}");
        }
    }

    #[test]
    #[rustfmt::skip] // a row a line
    fn impossible_values_are_refused() {
        let rows = [
            ("[[listen]]\nprotocols = []", "2: listen.protocols: nothing could be spoken: name \"h2\", \"http/1.1\" or both"),
            ("[[listen]]\nprotocols = ['h3']", "2: listen.protocols: `h3` is none of \"h2\", \"http/1.1\""),
            ("[[listen]]\nprotocols = ['h2c']", "2: listen.protocols: write \"h2\": without TLS it is h2c"),
            ("[[listen]]\nprotocols = [\n'h2',\n'h2']", "4: listen.protocols: `h2` is in the list already"),
            ("[[listen]]\nprotocols = 'h2'", "2: listen.protocols: expected a list"),
            ("[[listen]]\nhttp2 = true", "2: listen.http2: unknown key; write protocols = [\"h2\", \"http/1.1\"] below [[listen]]"),
            ("[http2]\nconcurrent-streams = 0", "2: http2.concurrent-streams: 0 is outside 1 to 1024: "),
            ("[http2]\nstream-window = '17m'", "2: http2.stream-window: 17m is outside 65535 to 16m: "),
            ("[http2]\nconnection-window = '1k'", "2: http2.connection-window: 1k is outside 65535 to 16m: "),
            ("[http2]\ncontinuations = 65", "2: http2.continuations: 65 is outside 0 to 64: "),
            ("[http2]\nreset-burst = 0", "2: http2.reset-burst: 0 is outside 1 to 1000000: "),
            ("[http2]\nreset-rate = 0", "2: http2.reset-rate: 0 is outside 1 to 1000000: "),
            ("[http2]\nidle-frame-burst = 0", "2: http2.idle-frame-burst: 0 is outside 1 to 1000000: "),
            ("[http2]\nidle-frame-rate = 0", "2: http2.idle-frame-rate: 0 is outside 1 to 1000000: "),
            ("[http2]\ncontrol-bytes = '1k'", "2: http2.control-bytes: 1k is outside 4k to 1m: "),
            ("[http2]\nmax-concurrent-streams = 3", "2: http2.max-concurrent-streams: unknown key; write concurrent-streams = 128"),
        ];
        for (text, expected) in rows {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(&format!("t.toml:{expected}")), "{text}: {error}");
        }
    }

    #[test]
    fn values_are_taken_and_written() {
        let text = "[[listen]]\nprotocols = ['h2']\n[http2]\nconcurrent-streams = 1\nstream-window = '128k'\n\
             connection-window = '1m'\ncontinuations = 0\nreset-burst = 2\n\
             reset-rate = 3\nidle-frame-burst = 4\nidle-frame-rate = 5\ncontrol-bytes = '8k'";
        let settings = parse(text).unwrap();
        let expected = Http2 {
            concurrent_streams: 1,
            stream_window: 128 << 10,
            connection_window: 1 << 20,
            continuations: 0,
            reset_burst: 2,
            reset_rate: 3,
            idle_frame_burst: 4,
            idle_frame_rate: 5,
            control_bytes: 8 << 10,
        };
        assert_eq!(settings.http2, expected);
        let again = Settings::parse(&settings.to_toml(), Path::new("t.toml"));
        assert_eq!(again.unwrap(), settings);
    }
}
