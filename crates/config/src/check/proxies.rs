//! `[proxies]`, and the keys that need it.

use toml::Spanned;

use super::report::Report;
use crate::{Clients, ForwardedHeader, Proxies, ProxyProtocol, ValueError, raw, rules};

/// Checks the section. `listeners` believe proxies, too: their keys are refused if none is trusted.
pub(super) fn proxies(
    raw: raw::Proxies,
    listeners: &[raw::Listen],
    report: &mut Report<'_>,
) -> Proxies {
    let is_empty = |list: &raw::List| list.as_ref().is_none_or(|list| list.get_ref().is_empty());
    let is_nobody = is_empty(&raw.trusted) && !report.was_refused_anywhere("proxies.trusted");
    let mut needy: Vec<_> = listeners
        .iter()
        .filter_map(|listen| listen.proxy_protocol.as_ref())
        .filter(|mode| matches!(mode.get_ref().as_str(), "accept" | "require"))
        .map(Spanned::span)
        .collect();
    let asked = raw.header.as_ref().map(Spanned::span);
    let header = report.checked(raw.header, ForwardedHeader::Off, |name| {
        rules::forwarded_header(&name)
    });
    needy.extend(asked.filter(|_| header != ForwardedHeader::Off));
    let trusted = report.list(raw.trusted, Vec::new(), |text, _| trusted(&text));
    if is_nobody {
        let reason = "nobody is trusted: set proxies.trusted to the addresses of the proxies";
        for span in needy {
            report.refuse(&span, &ValueError::new(reason));
        }
    }
    Proxies { trusted, header }
}

fn trusted(text: &str) -> Result<Clients, ValueError> {
    match text.parse()? {
        Clients::All => Err(ValueError::new(
            "every client could choose its address: name the networks of the proxies",
        )),
        clients => Ok(clients),
    }
}

/// Checks `listen.proxy-protocol`.
pub(super) fn proxy_protocol(typed: raw::Field<String>, report: &mut Report<'_>) -> ProxyProtocol {
    report.checked(typed, ProxyProtocol::Off, |name| {
        rules::proxy_protocol(&name)
    })
}
