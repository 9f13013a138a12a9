//! Listeners that redirect to HTTPS.

use tidegate_config::{Place, Settings};

use crate::host::diagnose::diagnostic::Diagnostic;

/// The port of HTTPS. Another program may pass it on to the port of a listener.
const HTTPS_PORT: u16 = 443;

/// Listeners that redirect to a port without a TLS listener. Not those that redirect to port 443,
/// nor any if no listener speaks TLS: a proxy in front of the server may.
pub(super) fn redirects_to_nowhere(settings: &Settings) -> Vec<Diagnostic> {
    let secure = settings.listen.iter().filter(|listen| listen.tls);
    let ports: Vec<u16> = secure.filter_map(|listen| port(&listen.address)).collect();
    let is_nowhere = |to| !matches!(to, 0 | HTTPS_PORT) && !ports.contains(&to);
    // The port of a listener on port 0 is known only once it is bound.
    if ports.is_empty() || ports.contains(&0) {
        return Vec::new();
    }
    let listeners = settings.listen.iter().enumerate();
    listeners
        .filter(|(_, listen)| is_nowhere(listen.https_redirect))
        .map(|(number, listen)| {
            let place = Place::of("listen").item(number).key("https-redirect");
            let to = listen.https_redirect;
            Diagnostic::warning(
                "listen",
                place,
                format!("no listener with tls = true has port {to}"),
            )
        })
        .collect()
}

fn port(address: &str) -> Option<u16> {
    address.rsplit_once(':')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use tidegate_config::Listen;

    use super::*;

    #[test]
    fn a_redirect_to_a_port_without_tls_is_a_mistake_if_another_port_has_it() {
        let listen = |address: &str, tls, https_redirect| Listen {
            address: address.to_owned(),
            tls,
            https_redirect,
            ..Listen::default()
        };
        let told = |secure: &[&str], port| {
            let secure = secure.iter().map(|address| listen(address, true, 0));
            let mut settings = Settings::for_directory(".".into());
            settings.listen = secure.chain([listen("[::]:80", false, port)]).collect();
            redirects_to_nowhere(&settings).len()
        };
        let rows: [(&[&str], u16, usize); 7] = [
            (&["[::]:8443"], 8444, 1),
            (&["[::]:8443", "0.0.0.0:8444"], 8444, 0),
            (&["[::]:8443"], 0, 0),
            // Behind a proxy that passes port 443 on.
            (&["[::]:8443"], 443, 0),
            // Behind a proxy that speaks TLS.
            (&[], 8444, 0),
            // Known once it is bound.
            (&["127.0.0.1:0"], 8444, 0),
            (&["localhost:443"], 8443, 1),
        ];
        for (secure, port, expected) in rows {
            assert_eq!(told(secure, port), expected, "{secure:?} {port}");
        }
    }
}
