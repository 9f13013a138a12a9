//! What is wrong with a configuration on this host, or looks like a mistake: for `check`, `doctor` and
//! `run` in the same words.
//!
//! The checks of `tidegate_config` have passed, and know neither files nor certificates.

mod tls;

use std::path::PathBuf;

use tidegate_config::{self as config, Place, Settings};
use tidegate_site::Probe;

/// The port of HTTPS, which is often passed on to another one.
const HTTPS_PORT: u16 = 443;

/// One thing that was found, in words for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// What it is about, in a word or two.
    pub topic: &'static str,
    /// The key.
    pub place: Place,
    /// Whether the server does not start.
    pub is_error: bool,
    /// What is wrong, in one line.
    pub reason: String,
    /// The file or directory that cannot be used, if it is one.
    pub path: Option<PathBuf>,
}

/// The topic of what is wrong with the files of certificates, which the server logs itself.
pub const CERTIFICATE: &str = "certificate";

/// Looks at the files, directories and certificates that `settings` name. Blocking, for as long as a
/// file system does not answer.
pub fn diagnose(settings: &Settings) -> Vec<Diagnostic> {
    let mut all: Vec<_> = settings
        .sites
        .iter()
        .enumerate()
        .flat_map(|(number, site)| files(site, &Place::of("site").item(number)))
        .collect();
    all.extend(catch_all_names(settings));
    all.extend(redirects_to_nowhere(settings));
    all.extend(tls::certificates(settings));
    all
}

/// Whether nothing answers `/` of the site, for want of an index file. Blocking.
pub fn lacks_index(site: &config::Site) -> bool {
    let answers = site.index.is_empty()
        || site.directory_listing
        || site.spa_fallback.is_some()
        || site
            .redirects
            .iter()
            .map(|rule| &rule.from)
            .chain(site.respond.iter().map(|rule| &rule.pattern))
            .any(|pattern| pattern.regex().is_match(b"/"));
    if answers {
        return false;
    }
    let (probes, faults) = Probes::open(site, &Place::of("site"));
    if !faults.is_empty() {
        return false;
    }
    !site
        .try_files
        .iter()
        .any(|item| is_found(&probes, site, item))
}

/// Whether an item of try-files leads to a file for `/`.
fn is_found(probes: &Probes<'_>, site: &config::Site, item: &str) -> bool {
    let path = item.replace("$path", "/").replace("//", "/");
    if !path.ends_with('/') {
        return probes.file(&path).is_ok();
    }
    let mut index = site.index.iter();
    index.any(|name| probes.file(&format!("{path}{name}")).is_ok())
}

fn warning(topic: &'static str, place: Place, reason: impl Into<String>) -> Diagnostic {
    Diagnostic {
        topic,
        place,
        is_error: false,
        reason: reason.into(),
        path: None,
    }
}

/// The directories of the site at `place`, and the files in them that are named.
fn files(site: &config::Site, place: &Place) -> Vec<Diagnostic> {
    let (probes, mut faults) = Probes::open(site, place);
    if faults.is_empty() {
        let named = named_files(site, place).into_iter();
        faults.extend(
            named.filter_map(|(place, path)| {
                Some(warning("files", place, probes.file(path).err()?))
            }),
        );
    }
    faults
}

/// The directories of a site, each with the path that it is mounted at, the longest first.
struct Probes<'a> {
    site: &'a config::Site,
    all: Vec<(&'a str, Probe)>,
}

impl<'a> Probes<'a> {
    /// Opens all of them; tells of those that cannot be. Blocking.
    fn open(site: &'a config::Site, place: &Place) -> (Self, Vec<Diagnostic>) {
        let root = site.root.iter().map(|root| ("", root, place.clone()));
        let mounts = site.mounts.iter().enumerate().map(|(number, mount)| {
            let place = place.clone().key("mount").item(number);
            (mount.at.as_str(), &mount.root, place)
        });
        let (mut probes, mut faults) = (Vec::new(), Vec::new());
        for (at, root, place) in root.chain(mounts) {
            match Probe::open(root, site.symlinks) {
                Ok(probe) => probes.push((at, probe)),
                Err(error) => faults.push(Diagnostic {
                    topic: "root",
                    place: place.key("root"),
                    is_error: true,
                    reason: format!("{error}: {}", error.source),
                    path: Some(root.clone()),
                }),
            }
        }
        probes.sort_by_key(|(at, _)| std::cmp::Reverse(at.len()));
        let all = probes;
        (Self { site, all }, faults)
    }

    /// As [`Probe::file`], for a path of the site. What is there compressed only is there, if such files
    /// are served.
    fn file(&self, path: &str) -> Result<(), String> {
        let found = self.all.iter().find_map(|(at, probe)| {
            let below = path.strip_prefix(at)?;
            below.starts_with('/').then_some((probe, below))
        });
        match found {
            Some((probe, below)) => probe.file(below).or_else(|reason| {
                let mut names = self.compressed_names(below);
                let is_there = names.any(|name| probe.file(&name).is_ok());
                if is_there { Ok(()) } else { Err(reason) }
            }),
            None => Err(format!("no directory of the site has {path}")),
        }
    }

    /// The names under which the file at `path` may be there compressed.
    fn compressed_names(&self, path: &str) -> impl Iterator<Item = String> {
        let codings = match self.site.compressed_only {
            config::CompressedOnly::Off => &[],
            _ => &self.site.precompressed[..],
        };
        let codings = codings.iter();
        codings.map(move |coding| format!("{path}.{}", coding.extension()))
    }
}

/// The files that are sent whatever is asked for.
fn named_files<'a>(site: &'a config::Site, place: &Place) -> Vec<(Place, &'a str)> {
    let tried = place.clone().key("try-files");
    let fixed = site.try_files.iter().enumerate();
    let fixed = fixed.filter(|(_, item)| !item.contains("$path") && !item.ends_with('/'));
    let mut files: Vec<_> = fixed
        .map(|(number, item)| (tried.clone().item(number), item.as_str()))
        .collect();
    if let Some(page) = &site.spa_fallback {
        files.push((place.clone().key("spa-fallback"), page));
    }
    let respond = place.clone().key("respond");
    let rules = site.respond.iter().enumerate();
    files.extend(rules.filter_map(|(number, rule)| {
        let place = respond.clone().item(number).key("page");
        Some((place, rule.page.as_deref()?))
    }));
    let pages = place.clone().key("error-pages");
    files.extend(
        site.error_pages
            .iter()
            .map(|(status, page)| (pages.clone().key(&status.code().to_string()), page.as_str())),
    );
    files
}

/// nginx's name for a server that no name fits.
fn catch_all_names(settings: &Settings) -> Vec<Diagnostic> {
    let reason = "`_` is a name like any other: the site that answers for all other hosts has no names; \
                  leave them out";
    every_name(settings)
        .filter(|(_, name)| *name == "_")
        .map(|(place, _)| warning("names", place, reason))
        .collect()
}

/// Each name of a site with its place.
fn every_name(settings: &Settings) -> impl Iterator<Item = (Place, &str)> {
    settings.sites.iter().enumerate().flat_map(|(site, entry)| {
        let place = Place::of("site").item(site).key("names");
        let names = entry.names.iter().enumerate();
        names.map(move |(number, name)| (place.clone().item(number), name.as_str()))
    })
}

/// Listeners that send clients to a port on which nothing here speaks TLS. Where none does, or the port
/// is the usual one, something in front of the server may.
fn redirects_to_nowhere(settings: &Settings) -> Vec<Diagnostic> {
    let secure = settings.listen.iter().filter(|listen| listen.tls);
    let ports: Vec<u16> = secure.filter_map(|listen| port(&listen.address)).collect();
    let is_nowhere = |to| !matches!(to, 0 | HTTPS_PORT) && !ports.contains(&to);
    // A port that the system picks is known later.
    if ports.is_empty() || ports.contains(&0) {
        return Vec::new();
    }
    let listeners = settings.listen.iter().enumerate();
    listeners
        .filter(|(_, listen)| is_nowhere(listen.https_redirect))
        .map(|(number, listen)| {
            let place = Place::of("listen").item(number).key("https-redirect");
            let to = listen.https_redirect;
            warning(
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
    use std::fs;

    use tidegate_config::{Listen, Site};

    use super::*;

    #[test]
    fn a_redirect_to_a_port_of_another_program_is_told_where_this_one_has_tls() {
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
            // Behind something that passes port 443 on.
            (&["[::]:8443"], 443, 0),
            // Behind something that speaks TLS.
            (&[], 8444, 0),
            // Whatever the system picks.
            (&["127.0.0.1:0"], 8444, 0),
            (&["localhost:443"], 8443, 1),
        ];
        for (secure, port, expected) in rows {
            assert_eq!(told(secure, port), expected, "{secure:?} {port}");
        }
    }

    #[test]
    fn an_index_is_looked_for_as_for_a_request() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::create_dir(root.join("en")).unwrap();
        fs::write(root.join("en/index.html"), "x").unwrap();
        fs::write(root.join("home.htm"), "x").unwrap();
        let rows: [(&[&str], &[&str], bool); 7] = [
            (&["index.html"], &["$path", "$path/"], true),
            (&["index.html", "home.htm"], &["$path", "$path/"], false),
            (&["index.html"], &["$path", "/home.htm"], false),
            (&["index.html"], &["/en$path/"], false),
            (&["index.html"], &["$path/home.htm"], false),
            (&["index.html"], &["$path", "/none"], true),
            (&[], &["$path", "$path/"], false),
        ];
        for (index, try_files, expected) in rows {
            let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect();
            let site = Site {
                root: Some(root.to_owned()),
                index: owned(index),
                try_files: owned(try_files),
                ..Site::default()
            };
            assert_eq!(lacks_index(&site), expected, "{index:?} {try_files:?}");
        }
    }
}
