//! The directories of the sites, and the files that the configuration names in them.

use tidegate_config::{self as config, Place};
use tidegate_site::Probe;

use crate::host::diagnose::diagnostic::Diagnostic;

/// Whether `/` of the site is not found because it has no index file. Blocking.
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

/// Whether an item of try-files finds a file for `/`.
fn is_found(probes: &Probes<'_>, site: &config::Site, item: &str) -> bool {
    let path = item.replace("$path", "/").replace("//", "/");
    if !path.ends_with('/') {
        return probes.file(&path).is_ok();
    }
    let mut index = site.index.iter();
    index.any(|name| probes.file(&format!("{path}{name}")).is_ok())
}

/// Faults of the directories of the site at `place`, and of the files that it names in them.
pub(super) fn files(site: &config::Site, place: &Place) -> Vec<Diagnostic> {
    let (probes, mut faults) = Probes::open(site, place);
    if faults.is_empty() {
        let named = named_files(site, place).into_iter();
        faults.extend(named.filter_map(|(place, path)| {
            Some(Diagnostic::warning(
                "files",
                place,
                probes.file(path).err()?,
            ))
        }));
    }
    faults
}

/// The directories of a site, each with the path that it is mounted at, the longest first.
struct Probes<'a> {
    site: &'a config::Site,
    all: Vec<(&'a str, Probe)>,
}

impl<'a> Probes<'a> {
    /// Opens all of them; returns a diagnostic for each that cannot be opened. Blocking.
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

    /// As [`Probe::file`], for a path of the site. A file that exists only compressed counts if
    /// such files are served.
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

    /// The names of the compressed variants of the file at `path`.
    fn compressed_names(&self, path: &str) -> impl Iterator<Item = String> {
        let codings = match self.site.compressed_only {
            config::CompressedOnly::Off => &[],
            _ => &self.site.precompressed[..],
        };
        let codings = codings.iter();
        codings.map(move |coding| format!("{path}.{}", coding.extension()))
    }
}

/// The files that are named without the path of the request.
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

#[cfg(test)]
mod tests {
    use std::fs;

    use tidegate_config::Site;

    use super::*;

    #[test]
    fn an_index_is_found_as_for_a_request() {
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
