//! `[cache.disk]`: where objects of origins are kept.

use std::ops::Range;
use std::path::PathBuf;

use super::bounds::{KIB, MIB};
use super::report::Report;
use crate::rules::{path, power_of_two, size};
use crate::{DiskCache, Settings, Site, ValueError, raw};

/// The most bytes: a pebibyte.
const SIZE_MAX: u64 = 1 << 50;

/// With fewer, slices would be evicted while they are sent.
const SLICES_MIN: u64 = 16;

/// The cache; `None` without a path.
pub(super) fn disk(raw: raw::DiskCache, report: &mut Report<'_>) -> Option<DiskCache> {
    let default = DiskCache::for_directory(PathBuf::new());
    let directory = report.directory_of(raw.path.as_ref());
    let slice = report.checked(
        raw.slice,
        default.slice,
        power_of_two(
            size(
                64 * KIB..=64 * MIB,
                "smaller is many requests, larger waits for bytes that nobody wants",
            ),
            "an offset in an object has to tell its slice",
        ),
    );
    let size = report.checked(
        raw.size,
        default.size,
        size(SLICES_MIN * slice..=SIZE_MAX, "it has to hold 16 slices"),
    );
    let path = report.checked(raw.path, None, |text| {
        path::path_or_empty(&text, &directory)
    })?;
    Some(DiskCache { path, size, slice })
}

/// Refuses the first origin if there is no directory for its objects.
pub(super) fn refuse_without(raw: &raw::Config, report: &mut Report<'_>) {
    let path = raw.cache.disk.path.as_ref();
    let has_path = path.is_some_and(|path| !path.get_ref().is_empty());
    let is_refused = ["cache", "cache.disk", "cache.disk.path"]
        .iter()
        .any(|key| report.was_refused_anywhere(key));
    if has_path || is_refused {
        return;
    }
    let mut origins = raw.site.iter().flat_map(|site| &site.get_ref().origin);
    if let Some(first) = origins.next() {
        let reason = "there is no place to keep its objects: set cache.disk.path";
        report.missing(first.span().start, "site.origin", reason);
    }
}

/// Refuses a directory, whose path is at `place`, that is not the server's own: in one of a site its
/// files would be served, and files of a site in it would be deleted.
pub(super) fn refuse_in_directories(
    place: Option<Range<usize>>,
    settings: &Settings,
    report: &mut Report<'_>,
) {
    let (Some(place), Some(disk)) = (place, &settings.cache.disk) else {
        return;
    };
    let mut directories = settings.sites.iter().flat_map(Site::directories);
    let shared = directories
        .find(|(_, served)| disk.path.starts_with(served) || served.starts_with(&disk.path));
    if let Some((_, served)) = shared {
        let reason = format!(
            "it is not a directory of the server's own: a site serves `{}`",
            served.display()
        );
        report.refuse(&place, &ValueError::new(reason));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::DiskCache;
    use crate::check::tests::{parse, refused};

    #[test]
    #[rustfmt::skip] // a row a line
    fn impossible_caches() {
        let rows = [
            ("slice = '32k'", "2: cache.disk.slice: 32k is outside 64k to 64m: "),
            ("slice = '128m'", "2: cache.disk.slice: 128m is outside 64k to 64m: "),
            ("slice = '3m'", "2: cache.disk.slice: 3m is not a power of two: "),
            ("size = '63m'", "2: cache.disk.size: 63m is outside 64m to 1048576g: it has to hold 16 slices"),
            ("slice = '64k'\nsize = 1048575", "3: cache.disk.size: 1048575 is outside 1m to "),
            ("size = '1t'", "2: cache.disk.size: `1t` is not a size"),
            ("path = 1", "2: cache.disk.path: expected a string, found 1"),
            ("path = \"a\\u0000\"", "2: cache.disk.path: a path cannot hold a NUL byte"),
            ("path = 'x'", "2: cache.disk.path: it is not a directory of the server's own: a site serves `etc/x`"),
            ("path = 'x/cache'", "2: cache.disk.path: it is not a directory of the server's own"),
            ("path = '.'", "2: cache.disk.path: it is not a directory of the server's own"),
            ("dir = 'x'", "2: cache.disk.dir: unknown key; write it as path"),
        ];
        for (text, expected) in rows {
            refused(&[(&format!("[cache.disk]\n{text}\n[[site]]\nroot = 'x'"), expected)]);
        }
        let origin = "[[site]]\norigin = { http = 'http://a' }";
        refused(&[
            (origin, "2: site.origin: there is no place to keep its objects: set cache.disk.path"),
            (&format!("[cache.disk]\npath = ''\n{origin}"), "4: site.origin: there is no place to keep its objects"),
            (&format!("[cache.disk]\npath = 1\n{origin}"), "2: cache.disk.path: expected a string"),
            (&format!("[cache]\ndisk = 'x'\n{origin}"), "2: cache.disk: a section: write [cache.disk]"),
        ]);
    }

    #[test]
    fn a_cache_needs_a_path() {
        let site = "[[site]]\nroot = 'x'";
        let settings = parse(&format!("[cache.disk]\nsize = '1g'\n{site}")).unwrap();
        assert_eq!(settings.cache.disk, None);
        assert_eq!(parse(&settings.to_toml()).unwrap().cache.disk, None);
        let text = format!("[cache.disk]\npath = 'y'\nslice = '64k'\nsize = '1m'\n{site}");
        let disk = parse(&text).unwrap().cache.disk;
        let expected = DiskCache {
            path: Path::new("etc/y").to_owned(),
            size: 1 << 20,
            slice: 64 << 10,
        };
        assert_eq!(disk, Some(expected));
        let text = format!("[cache.disk]\npath = '/y'\n{site}");
        let settings = parse(&text).unwrap();
        let expected = DiskCache::for_directory("/y".into());
        assert_eq!(settings.cache.disk, Some(expected));
        assert_eq!(parse(&settings.to_toml()).unwrap().cache, settings.cache);
    }
}
