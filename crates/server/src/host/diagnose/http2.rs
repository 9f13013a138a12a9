//! Listeners that speak HTTP/2.

use tidegate_config::{Listen, Place, Settings};

use crate::host::diagnose::diagnostic::Diagnostic;

/// The largest frame of a header block.
const FRAME_BYTES: usize = 16 << 10;

/// Listeners that no browser can use, and heads that no client of HTTP/2 can send.
pub(super) fn http2(settings: &Settings) -> Vec<Diagnostic> {
    let listeners = settings.listen.iter().enumerate();
    let unused = listeners.filter(|(_, listen)| lacks_browsers(listen, settings));
    let unused = unused.map(|(number, _)| {
        let place = Place::of("listen").item(number).key("protocols");
        let reason = "browsers speak HTTP/2 with TLS only: without it, [\"h2\"] is for proxies \
                      (proxies.trusted names them); add \"http/1.1\"";
        Diagnostic::warning("listen", place, reason)
    });
    unused.chain(head_in_too_many_frames(settings)).collect()
}

fn lacks_browsers(listen: &Listen, settings: &Settings) -> bool {
    let is_for_proxies = listen.unix_path().is_some() || !settings.proxies.trusted.is_empty();
    !listen.tls && !listen.protocols.http1 && !is_for_proxies
}

fn head_in_too_many_frames(settings: &Settings) -> Option<Diagnostic> {
    let frames = 1 + usize::from(settings.http2.continuations);
    let is_spoken = settings.listen.iter().any(|listen| listen.protocols.http2);
    let place = Place::of("limits").key("header-bytes");
    let reason =
        format!("by HTTP/2 a head has at most {frames} frames of 16k: raise http2.continuations");
    let is_too_long = settings.limits.header_bytes > frames * FRAME_BYTES;
    (is_spoken && is_too_long).then(|| Diagnostic::warning("limits", place, reason))
}

#[cfg(test)]
mod tests {
    use tidegate_config::{Clients, Protocols};

    use super::*;

    fn settings(address: &str, tls: bool, http1: bool) -> Settings {
        let mut settings = Settings::for_directory(".".into());
        settings.listen = vec![Listen {
            address: address.to_owned(),
            tls,
            protocols: Protocols { http1, http2: true },
            ..Listen::default()
        }];
        settings
    }

    #[test]
    fn http2_alone_without_tls_is_for_proxies() {
        let rows = [
            ("[::]:80", false, false, 1),
            ("[::]:80", false, true, 0),
            ("[::]:443", true, false, 0),
            ("unix:/run/t.sock", false, false, 0),
        ];
        for (address, tls, http1, expected) in rows {
            let settings = settings(address, tls, http1);
            assert_eq!(http2(&settings).len(), expected, "{address} {http1}");
        }
        let mut behind = settings("[::]:80", false, false);
        behind.proxies.trusted = vec!["10.0.0.0/8".parse::<Clients>().unwrap()];
        assert_eq!(http2(&behind), []);
    }

    #[test]
    fn a_long_head_needs_frames() {
        let mut settings = settings("[::]:80", false, true);
        for (header_bytes, continuations, expected) in [
            (144 << 10, 8, 0),
            ((144 << 10) + 1, 8, 1),
            ((144 << 10) + 1, 9, 0),
        ] {
            settings.limits.header_bytes = header_bytes;
            settings.http2.continuations = continuations;
            assert_eq!(http2(&settings).len(), expected, "{header_bytes}");
        }
        settings.http2.continuations = 0;
        settings.listen[0].protocols.http2 = false;
        assert_eq!(http2(&settings), []);
    }
}
