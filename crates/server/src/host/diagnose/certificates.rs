//! Certificates, and whether their names are those of the sites.

use std::path::Path;

use tidegate_config::{self as config, Place, Settings};
use tidegate_tls::{Acceptor, Error as TlsError};

use crate::host::diagnose::diagnostic::{CERTIFICATE, Diagnostic};
use crate::host::diagnose::names::{NAMES, every_name};
use crate::transport::certificates::acceptor;

/// Faults of the certificates and of their names.
pub(super) fn certificates(settings: &Settings) -> Vec<Diagnostic> {
    let acceptor = match acceptor(&settings.tls) {
        Ok(None) => return Vec::new(),
        Ok(Some(acceptor)) => acceptor,
        Err(error) => return vec![refused(&error, &settings.tls)],
    };
    let problems = acceptor.problems();
    let problems = problems.iter().map(|problem| {
        let place = place_of(Some(&problem.path), &settings.tls);
        Diagnostic::warning(CERTIFICATE, place, problem.to_string())
    });
    let mut all: Vec<_> = problems.collect();
    if !settings.listen.iter().any(|listen| listen.tls) {
        let reason = "no listener has tls = true: no client is shown a certificate";
        all.push(Diagnostic::warning(
            NAMES,
            Place::of("tls").key("certificates"),
            reason,
        ));
    } else if let Some(certified) = certified(&acceptor, &settings.tls) {
        all.extend(names(settings, &certified));
    }
    all
}

/// The fault that keeps every listener from speaking TLS.
fn refused(error: &TlsError, tls: &config::Tls) -> Diagnostic {
    let (place, path) = if error.is_of_authorities() {
        (Place::of("tls").key("client-ca"), tls.client_ca.as_deref())
    } else {
        (place_of(error.path(), tls), error.path())
    };
    Diagnostic {
        topic: CERTIFICATE,
        place,
        is_error: true,
        reason: error.to_string(),
        path: path.map(Path::to_owned),
    }
}

/// The key that names `path`, a file with a certificate or a key.
fn place_of(path: Option<&Path>, tls: &config::Tls) -> Place {
    let all = Place::of("tls").key("certificates");
    let mut entries = tls.certificates.iter().enumerate();
    let found = entries.find_map(|(number, files)| match path {
        Some(path) if path == files.key => Some((number, "key")),
        Some(path) if path == files.cert => Some((number, "cert")),
        _ => None,
    });
    match found {
        Some((number, key)) => all.item(number).key(key),
        None => all,
    }
}

/// The names of each certificate, in the order of the configuration; `None` where one is left out.
fn certified(acceptor: &Acceptor, tls: &config::Tls) -> Option<Vec<Vec<String>>> {
    let loaded = acceptor.certificates();
    let names: Vec<_> = loaded
        .iter()
        .map(|loaded| loaded.names().to_vec())
        .collect();
    (names.len() == tls.certificates.len()).then_some(names)
}

/// Names without a certificate, and certificates without a name. A listener speaks TLS.
fn names(settings: &Settings, certified: &[Vec<String>]) -> Vec<Diagnostic> {
    if every_name(settings).next().is_none() {
        return no_names(certified).into_iter().collect();
    }
    let mut all: Vec<_> = every_name(settings)
        .filter(|(_, name)| is_public(name))
        .filter(|(_, name)| !certified.iter().flatten().any(|own| meet(own, name)))
        .map(|(place, name)| {
            let reason = format!(
                "no certificate is for `{name}`: clients that ask for it by TLS are shown the \
                 first one"
            );
            Diagnostic::warning(NAMES, place, reason)
        })
        .collect();
    // A site without names answers for all of them.
    if settings.sites.iter().all(|site| !site.names.is_empty()) {
        all.extend(unused(settings, certified));
    }
    all
}

/// No site has names: every host is answered. A certificate without a public name is for a trial.
fn no_names(certified: &[Vec<String>]) -> Option<Diagnostic> {
    let names: Vec<_> = certified
        .iter()
        .flatten()
        .filter(|name| is_public(name))
        .map(|name| format!("\"{name}\""))
        .collect();
    if names.is_empty() {
        return None;
    }
    let reason = format!(
        "a listener has tls = true, and no site has names: it answers for any host; set names = \
         [{}]",
        names.join(", ")
    );
    Some(Diagnostic::warning(
        NAMES,
        Place::of("site").item(0).key("names"),
        reason,
    ))
}

/// Certificates without a name of a site.
fn unused(settings: &Settings, certified: &[Vec<String>]) -> Vec<Diagnostic> {
    let is_used = |own: &String| every_name(settings).any(|(_, name)| meet(own, name));
    let numbered = certified.iter().enumerate();
    numbered
        .filter(|(_, own)| own.iter().any(|name| is_public(name)))
        .filter(|(_, own)| !own.iter().any(is_used))
        .map(|(number, own)| {
            let place = Place::of("tls")
                .key("certificates")
                .item(number)
                .key("cert");
            let reason = format!("no site has a name that it is for: {}", own.join(", "));
            Diagnostic::warning(NAMES, place, reason)
        })
        .collect()
}

/// Whether an authority issues certificates for such a name. Other names are for probes, and for
/// clients that send no server name.
fn is_public(name: &str) -> bool {
    let is_address =
        name.contains(':') || name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.'));
    name.contains('.') && !is_address
}

/// Whether a certificate for `own` is shown to some client of the site with `name`. A `*` is one
/// label of a certificate's name and any number of a site's.
fn meet(own: &str, name: &str) -> bool {
    let below = |name: &str, suffix: &str| name.ends_with(suffix) && name.len() > suffix.len();
    match (own.strip_prefix('*'), name.strip_prefix('*')) {
        (None, None) => own == name.trim_matches(['[', ']']),
        (Some(own), None) => name.find('.').is_some_and(|dot| name[dot..] == *own),
        (None, Some(name)) => below(own, name),
        (Some(own), Some(name)) => own == name || below(own, name),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use tidegate_config::{Listen, Site};

    use super::*;

    #[test]
    #[rustfmt::skip] // a row a line
    fn names_of_certificates_meet_those_of_sites() {
        let rows = [
            ("a.test", "a.test", true),
            ("a.test", "b.test", false),
            ("*.a.test", "www.a.test", true),
            ("*.a.test", "a.test", false),
            ("*.a.test", "x.www.a.test", false),
            ("*.a.test", "*.a.test", true),
            ("*.www.a.test", "*.a.test", true),
            ("*.a.test", "*.www.a.test", false),
            ("www.a.test", "*.a.test", true),
            ("a.test", "*.a.test", false),
            ("xa.test", "*.a.test", false),
            ("::1", "[::1]", true),
            ("192.0.2.1", "192.0.2.1", true),
        ];
        for (own, name, expected) in rows {
            assert_eq!(meet(own, name), expected, "{own} {name}");
        }
    }

    #[test]
    fn only_names_that_authorities_certify_are_public() {
        let rows = [
            ("a.test", true),
            ("*.a.test", true),
            ("localhost", false),
            ("_", false),
            ("127.0.0.1", false),
            ("[::1]", false),
            ("::ffff:1.2.3.4", false),
        ];
        for (name, expected) in rows {
            assert_eq!(is_public(name), expected, "{name}");
        }
    }

    /// The names of each site, or of each certificate.
    type Names = &'static [&'static [&'static str]];

    /// The reasons for sites and certificates with these names.
    fn told(sites: Names, certified: Names) -> Vec<String> {
        let owned = |names: &&[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let mut settings = Settings::for_directory(PathBuf::from("."));
        settings.listen = vec![Listen {
            tls: true,
            ..Listen::default()
        }];
        let sites = sites.iter().map(|names| Site {
            names: owned(names),
            ..Site::default()
        });
        settings.sites = sites.collect();
        let certified: Vec<_> = certified.iter().map(owned).collect();
        let told = names(&settings, &certified);
        told.into_iter().map(|told| told.reason).collect()
    }

    #[test]
    fn names_with_their_certificates_are_no_mistake() {
        let rows: [(Names, Names); 9] = [
            (&[&["a.test"]], &[&["a.test"]]),
            (&[&["a.test", "www.a.test"]], &[&["a.test", "*.a.test"]]),
            (&[&["*.a.test"]], &[&["www.a.test", "api.a.test"]]),
            (&[&["a.test"], &["b.test"]], &[&["a.test"], &["b.test"]]),
            // The site without names answers for the other names of the certificate.
            (&[&["a.test"], &[]], &[&["a.test"], &["c.test"]]),
            (&[&[]], &[&["localhost", "127.0.0.1"]]),
            // Names of probes.
            (&[&["a.test", "localhost", "127.0.0.1"]], &[&["a.test"]]),
            // A self-signed one, for clients that send no server name.
            (&[&["a.test"]], &[&["localhost"], &["a.test"]]),
            (&[&["a.test"]], &[&[], &["a.test"]]),
        ];
        for (sites, certified) in rows {
            assert_eq!(told(sites, certified), [""; 0], "{sites:?} {certified:?}");
        }
    }

    #[test]
    #[rustfmt::skip] // a row a line
    fn names_and_certificates_without_each_other_are_a_mistake() {
        let rows: [(Names, Names, &[&str]); 4] = [
            (&[&["a.test", "b.test"]], &[&["a.test"]], &["no certificate is for `b.test`: "]),
            (&[&["a.test"]], &[&["b.test", "c.test"]], &["no certificate is for `a.test`: ", "no site has a name that it is for: b.test, c.test"]),
            (&[&["a.test"]], &[&["a.test"], &["*.a.test"]], &["no site has a name that it is for: *.a.test"]),
            (&[&[]], &[&["a.test", "*.a.test"]], &["a listener has tls = true, and no site has names: it answers for any host; set names = [\"a.test\", \"*.a.test\"]"]),
        ];
        for (sites, certified, expected) in rows {
            let told = told(sites, certified);
            assert_eq!(told.len(), expected.len(), "{told:?}");
            for (told, expected) in told.iter().zip(expected) {
                assert!(told.starts_with(expected), "{told}");
            }
        }
    }
}
