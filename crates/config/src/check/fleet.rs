//! `[fleet]`: the nodes, and how they reach each other.

use std::collections::BTreeMap;

use toml::Spanned;

use super::bounds::new_address;
use super::report::Report;
use crate::raw::Field;
use crate::{Fleet, ValueError, raw, rules};

/// The fleet; `None` without peers. `seen`: the addresses that are listened on so far.
pub(super) fn fleet(
    raw: raw::Fleet,
    seen: &mut BTreeMap<String, String>,
    report: &mut Report<'_>,
) -> Option<Fleet> {
    let place = raw.peers.as_ref().map(Spanned::span);
    let is_refused = report.was_refused_anywhere("fleet.peers");
    let has_peers = raw
        .peers
        .as_ref()
        .is_some_and(|list| !list.get_ref().is_empty());
    if !has_peers && !is_refused {
        refuse_without_peers(&raw, report);
    }
    let has_listen = raw
        .listen
        .as_ref()
        .is_some_and(|text| !text.get_ref().is_empty());
    let mut named = BTreeMap::new();
    let peers = report.list(raw.peers, Vec::new(), |text, line| {
        new_peer(&text, line, &mut named)
    });
    if let Some(place) =
        place.filter(|_| has_peers && !has_listen && !report.was_refused_anywhere("fleet.listen"))
    {
        let reason = "peers ask this node, too: set fleet.listen";
        report.refuse(&place, &ValueError::new(reason));
    }
    let offset = raw.listen.as_ref().map(|typed| typed.span().start);
    let line = report.line(offset.unwrap_or_default());
    let directory = report.directory_of(raw.token.as_ref());
    let fleet = Fleet {
        peers,
        listen: report.checked(raw.listen, String::new(), |text| {
            if text.is_empty() {
                return Ok(text);
            }
            rules::tcp_address(&text).and_then(|()| new_address(&text, line, seen))
        }),
        self_address: report.checked(raw.own, None, |text| {
            (!text.is_empty()).then(|| rules::peer(&text)).transpose()
        }),
        token: report.checked(raw.token, None, |text| {
            rules::path::path_or_empty(&text, &directory)
        }),
    };
    has_peers.then_some(fleet)
}

/// Refuses the first key that has no effect.
fn refuse_without_peers(raw: &raw::Fleet, report: &mut Report<'_>) {
    let is_set = |typed: &&Field<String>| {
        let typed = typed.as_ref();
        typed.is_some_and(|text| !text.get_ref().is_empty())
    };
    let first = [&raw.listen, &raw.own, &raw.token].into_iter().find(is_set);
    if let Some(typed) = first.and_then(Option::as_ref) {
        let reason = "there are no other nodes: set fleet.peers, or leave it out";
        report.refuse(&typed.span(), &ValueError::new(reason));
    }
}

/// Checks the address of a peer that is not in `named`, and adds it there.
fn new_peer(
    text: &str,
    line: String,
    named: &mut BTreeMap<String, String>,
) -> Result<String, ValueError> {
    let peer = rules::peer(text)?;
    match named.insert(peer.clone(), line) {
        None => Ok(peer),
        Some(first) => Err(ValueError::new(format!(
            "`{peer}` is named already, by line {first}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::check::tests::{parse, refused};

    const SITE: &str = "[[site]]\nroot = 'x'\n";

    #[test]
    #[rustfmt::skip] // a row a line
    fn impossible_fleets() {
        let rows = [
            ("peers = ['a:1']", "4: fleet.peers: peers ask this node, too: set fleet.listen"),
            ("peers = ['a:1']\nlisten = ''", "4: fleet.peers: peers ask this node, too"),
            ("peers = ['a:1']\nlisten = 1", "5: fleet.listen: expected a string, found 1: write \"127.0.0.1:8080\""),
            ("peers = 'a:1'\nlisten = 'b:1'", "4: fleet.peers: expected a list, found 'a:1'"),
            ("listen = 'a:1'", "4: fleet.listen: there are no other nodes: set fleet.peers"),
            ("peers = []\nself = 'a:1'", "5: fleet.self: there are no other nodes: set fleet.peers"),
            ("token = 'a'", "4: fleet.token: there are no other nodes: "),
            ("listen = 'b:1'\npeers = ['a']", "5: fleet.peers: `a` has no port: "),
            ("listen = 'b:1'\npeers = ['a:0']", "5: fleet.peers: `a:0` has port 0, which no node listens on: "),
            ("listen = 'b:1'\npeers = [':80']", "5: fleet.peers: `:80` is no address of one node: "),
            ("listen = 'b:1'\npeers = ['0.0.0.0:80']", "5: fleet.peers: `0.0.0.0:80` is no address of one node: "),
            ("listen = 'b:1'\npeers = ['unix:/a']", "5: fleet.peers: `unix:/a`: no Unix socket can be here"),
            ("listen = 'b:1'\npeers = ['http://a:80']", "5: fleet.peers: `http://a:80` has a scheme"),
            ("listen = 'b:1'\npeers = [\n'a:1',\n'A:1']", "7: fleet.peers: `a:1` is named already, by line 6"),
            ("listen = 'b'\npeers = ['a:1']", "4: fleet.listen: `b` has no port: "),
            ("listen = 'unix:/a'\npeers = ['a:1']", "4: fleet.listen: `unix:/a`: no Unix socket can be here"),
            ("listen = 'b:1'\npeers = ['a:1']\nself = '[::]:1'", "6: fleet.self: `[::]:1` is no address of one node: "),
            ("listen = 'b:1'\npeers = ['a:1']\ntoken = \"a\\u0000\"", "6: fleet.token: a path cannot hold a NUL byte"),
            ("nodes = ['a:1']", "4: fleet.nodes: unknown key; write it as peers"),
            ("secret = 'a'", "4: fleet.secret: unknown key; write token = "),
        ];
        for (text, expected) in rows {
            refused(&[(&format!("{SITE}[fleet]\n{text}"), expected)]);
        }
        refused(&[
            (&format!("[admin]\nlisten = 'b:1'\n[fleet]\nlisten = 'b:1'\npeers = ['a:1']\n{SITE}"), "4: fleet.listen: b:1 is listened on already, by line 2"),
        ]);
    }

    #[test]
    fn a_fleet_is_taken_and_written() {
        let settings = parse(&format!("{SITE}[fleet]\npeers = []\nlisten = ''")).unwrap();
        assert_eq!(settings.fleet, None);
        assert_eq!(parse(&settings.to_toml()).unwrap().fleet, None);
        let settings = parse(&format!(
            "{SITE}[fleet]\npeers = ['10.0.0.5:8081', 'Peers.default.svc:8081', '[::1]:1']\n\
             listen = ':8081'\nself = '10.0.0.6:8081'\ntoken = 'token'"
        ))
        .unwrap();
        let fleet = settings.fleet.clone().unwrap();
        let peers = ["10.0.0.5:8081", "peers.default.svc:8081", "[::1]:1"];
        assert_eq!(fleet.peers, peers);
        assert_eq!(fleet.listen, "[::]:8081");
        assert_eq!(fleet.self_address.as_deref(), Some("10.0.0.6:8081"));
        assert_eq!(fleet.token.as_deref(), Some(Path::new("etc/token")));
        let text = settings.to_toml().replace("etc/token", "token");
        assert_eq!(parse(&text).unwrap().fleet, settings.fleet);
    }
}
