//! `[[site]]` and the sections below it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use tidegate_http::{Coding, Status};
use toml::Spanned;

use super::access;
use super::access_log::access_log;
use super::limits::site_limits;
use super::origins;
use super::places::{Places, places};
use super::report::{Report, every, glob};
use crate::raw::{self, List};
use crate::rules::{DAY, duration, header, path, web};
use crate::units::Period;
use crate::{
    AccessLog, Cors, Glob, HeaderRule, Redirect, Respond, Site, ValueError, redirect_loop, target,
};

/// Statuses with Retry-After (RFC 9110, section 15.6.4; RFC 6585, section 4).
const FOR_NOW: [Status; 2] = [Status::TOO_MANY_REQUESTS, Status::SERVICE_UNAVAILABLE];

/// The longest Retry-After: a year.
const RETRY_AFTER_MAX: Duration = Duration::from_hours(366 * 24);

pub(super) fn sites(
    raw: Vec<Spanned<raw::Site>>,
    log: &AccessLog,
    report: &mut Report<'_>,
) -> Vec<Site> {
    if raw.is_empty() && !report.was_refused(0, "site") {
        report.missing(
            0,
            "site.root",
            "required: write [[site]] and the directory to serve",
        );
    }
    let mut seen = Seen::default();
    raw.into_iter()
        .map(|entry| site(entry, log, &mut seen, report))
        .collect()
}

/// The names of the sites so far, each with its line.
#[derive(Default)]
struct Seen {
    names: BTreeMap<String, String>,
    default: Option<String>,
}

fn site(
    raw: Spanned<raw::Site>,
    log: &AccessLog,
    seen: &mut Seen,
    report: &mut Report<'_>,
) -> Site {
    let default = Site::default();
    let offset = raw.span().start;
    let mut raw = raw.into_inner();
    let directory = report.directory(offset);
    let places = places(&mut raw, offset, report);
    let stored = origins::stored(&mut raw, offset, report);
    let cors = cors(raw.cors, report);
    let (respond, redirects) = answers(raw.respond, raw.redirects, &places, report);
    Site {
        names: names(raw.names, offset, seen, report),
        root: report.checked(raw.root, None, |root| {
            Ok(Some(directory.join(path::root(root)?)))
        }),
        index: report.list(raw.index, default.index, |name, _| path::index(name)),
        directory_listing: report.checked(raw.directory_listing, default.directory_listing, Ok),
        hidden_files: report.checked(raw.hidden_files, default.hidden_files, web::hidden_files),
        encoded_slash: report.checked(raw.encoded_slash, default.encoded_slash, |name| {
            web::encoded_slash(&name)
        }),
        symlinks: report.checked(raw.symlinks, default.symlinks, |name| web::symlinks(&name)),
        etag: report.checked(raw.etag, default.etag, |name| web::etag(&name)),
        precompressed: precompressed(raw.precompressed, default.precompressed, report),
        compressed_only: report.checked(raw.compressed_only, default.compressed_only, |name| {
            web::compressed_only(&name)
        }),
        content_encoded: report.list(raw.content_encoded, Vec::new(), |text, _| text.parse()),
        try_files: try_files(raw.try_files, default.try_files, &places, report),
        spa_fallback: report.checked(raw.spa_fallback, default.spa_fallback, |path| {
            places.file_or_empty(path)
        }),
        charset: report.checked(raw.charset, default.charset, web::charset),
        default_type: report.checked(raw.default_type, default.default_type, web::mime_type),
        error_pages: report.map(raw.error_pages, |status, page| {
            Ok((web::error_status(status)?, places.file(page)?))
        }),
        mime_types: report.map(raw.mime_types, |extension, text| {
            web::extension(extension)?;
            Ok((extension.to_owned(), web::mime_type(text)?))
        }),
        headers: every(raw.headers, |rule| {
            header_rule(rule, !cors.origins.is_empty(), report)
        }),
        access: every(raw.access, |rule| access::access(rule, report)),
        signed: every(raw.signed, |rule| access::signed(rule, report)),
        pace: every(raw.pace, |rule| access::pace(rule, report)),
        auth: every(raw.auth, |rule| access::auth(rule, report)),
        respond,
        origins: stored.origins,
        cache_key: stored.cache_key,
        cache_rules: stored.rules,
        mounts: places.mounts,
        redirects,
        cors,
        limits: site_limits(raw.limits, report),
        access_log: access_log(raw.access_log, log, report),
    }
}

/// The names of the site at `offset`. Refuses names of another site, and a second site without
/// names.
fn names(raw: List, offset: usize, seen: &mut Seen, report: &mut Report<'_>) -> Vec<String> {
    let named = raw.as_ref().is_some_and(|list| !list.get_ref().is_empty());
    if !named {
        let offset = raw.map_or(offset, |list| list.span().start);
        only_default(offset, seen, report);
        return Vec::new();
    }
    report.list(raw, Vec::new(), |name, line| {
        let name = web::site_name(&name)?;
        match seen.names.insert(name.clone(), line) {
            None => Ok(name),
            Some(first) => Err(ValueError::new(format!(
                "`{name}` names a site already, by line {first}"
            ))),
        }
    })
}

fn only_default(offset: usize, seen: &mut Seen, report: &mut Report<'_>) {
    if report.was_refused(offset, "site.names") {
        return;
    }
    let line = report.line(offset);
    if let Some(first) = seen.default.replace(line) {
        let reason =
            format!("a second site without names: the one of line {first} answers for all others");
        report.missing(offset, "site.names", &reason);
    }
}

fn precompressed(raw: List, default: Vec<Coding>, report: &mut Report<'_>) -> Vec<Coding> {
    let mut seen = Vec::new();
    report.list(raw, default, |name, _| {
        let coding = web::coding(&name)?;
        if seen.contains(&coding) {
            return Err(ValueError::new(format!("`{name}` is named twice")));
        }
        seen.push(coding);
        Ok(coding)
    })
}

fn try_files(
    raw: List,
    default: Vec<String>,
    places: &Places,
    report: &mut Report<'_>,
) -> Vec<String> {
    if let Some(list) = raw.as_ref().filter(|list| list.get_ref().is_empty()) {
        let reason = "empty: nothing would ever be found; the default is [\"$path\", \"$path/\"]";
        report.missing(list.span().start, "site.try-files", reason);
    }
    report.list(raw, default, |item, _| places.try_file(item))
}

fn cors(raw: raw::Cors, report: &mut Report<'_>) -> Cors {
    let default = Cors::default();
    let several = raw
        .origins
        .as_ref()
        .is_some_and(|list| list.get_ref().len() > 1);
    Cors {
        origins: report.list(raw.origins, default.origins, |text, _| {
            if text == "*" && several {
                return Err(ValueError::new("`*` is every origin: write it alone"));
            }
            web::origin(text)
        }),
        max_age: report.checked(
            raw.max_age,
            default.max_age,
            duration(Duration::ZERO..=DAY, "no browser remembers for longer"),
        ),
    }
}

/// The rule; `None` if it has no pattern. `with_cors`: see [`header::name`].
fn header_rule(
    raw: Spanned<raw::HeaderRule>,
    with_cors: bool,
    report: &mut Report<'_>,
) -> Option<HeaderRule> {
    let offset = raw.span().start;
    let raw = raw.into_inner();
    let preset = raw
        .cache
        .as_ref()
        .is_some_and(|name| !name.get_ref().is_empty());
    if !preset && raw.set.is_empty() {
        let reason = "nothing is set: write fields and values, or cache = \"immutable\"";
        report.missing(offset, "site.headers.set", reason);
    }
    let reason = "required: the paths, such as \"/assets/**\"";
    let ignore_case = report.checked(raw.ignore_case, false, Ok);
    let missing = (offset, "site.headers.match", reason);
    let pattern = glob(raw.pattern, ignore_case, missing, report);
    let cache = report.checked(raw.cache, None, |name| web::cache_preset(&name));
    let mut seen = BTreeSet::new();
    let set = report.map(raw.set, |name, text| {
        header::name(name, with_cors)?;
        not_set(name, preset, &mut seen)?;
        Ok((
            name.to_owned(),
            header::value(name, &text, pattern.as_ref())?,
        ))
    });
    Some(HeaderRule {
        pattern: pattern?,
        ignore_case,
        cache,
        set,
    })
}

/// Adds the name to `seen`; refuses one that is there already, or that the preset sets.
fn not_set(name: &str, preset: bool, seen: &mut BTreeSet<String>) -> Result<(), ValueError> {
    let lower = name.to_ascii_lowercase();
    if preset && lower == "cache-control" {
        let reason = "`cache` of this rule says what it is: keep one of the two";
        return Err(ValueError::new(reason));
    }
    if !seen.insert(lower) {
        let reason = format!("{name} is set twice by this rule; names differ by more than case");
        return Err(ValueError::new(reason));
    }
    Ok(())
}

/// The rule; `None` if it has no pattern or no status.
fn respond(
    raw: Spanned<raw::Respond>,
    places: &Places,
    report: &mut Report<'_>,
) -> Option<Respond> {
    let offset = raw.span().start;
    let raw = raw.into_inner();
    let reason = "required: the paths, such as \"/db/**\"";
    let ignore_case = report.checked(raw.ignore_case, false, Ok);
    let missing = (offset, "site.respond.match", reason);
    let pattern = glob(raw.pattern, ignore_case, missing, report);
    let except = report.list(raw.except, Vec::new(), |text, _| {
        Glob::new(&text, ignore_case)
    });
    if raw.status.is_none() {
        let reason = "required: the answer, such as 403";
        report.missing(offset, "site.respond.status", reason);
    }
    let status = raw
        .status
        .and_then(|status| report.required(status, web::rule_status));
    let retry_after = report.checked(raw.retry_after, None, |after| retry_after(after, status));
    let page = report.checked(raw.page, None, |page| {
        let page = places.file_or_empty(page)?;
        if page.is_some() && status == Some(Status::NO_CONTENT) {
            return Err(ValueError::new("204 has no body: set status = 200"));
        }
        Ok(page)
    });
    Some(Respond {
        pattern: pattern?,
        except,
        ignore_case,
        status: status?,
        retry_after,
        page,
    })
}

/// Retry-After of a rule with `status`, which is `None` if it was refused.
fn retry_after(after: Period, status: Option<Status>) -> Result<Option<Duration>, ValueError> {
    if status.is_some_and(|status| !FOR_NOW.contains(&status)) {
        return Err(ValueError::new(
            "only 429 and 503 are answers for now: take it out",
        ));
    }
    let why = "it is when to come again";
    let after = duration(Duration::from_secs(1)..=RETRY_AFTER_MAX, why)(after)?;
    if after.subsec_nanos() != 0 {
        return Err(ValueError::new("it is told in whole seconds"));
    }
    Ok(Some(after))
}

/// The rules that apply before the lookup of files.
fn answers(
    raw_respond: Vec<Spanned<raw::Respond>>,
    raw_redirects: Vec<Spanned<raw::Redirect>>,
    places: &Places,
    report: &mut Report<'_>,
) -> (Vec<Respond>, Vec<Redirect>) {
    let count = raw_respond.len() + raw_redirects.len();
    let respond = every(raw_respond, |rule| respond(rule, places, report));
    let redirects = every(raw_redirects, |rule| redirect(rule, report));
    let (redirects, targets): (Vec<_>, Vec<_>) = redirects.into_iter().unzip();
    // A rule that was refused might end a loop.
    if respond.len() + redirects.len() == count {
        for (number, reason) in redirect_loop::find(&redirects, &respond) {
            report.refuse(&targets[number], &reason);
        }
    }
    (respond, redirects)
}

/// The rule, with the span of its target.
fn redirect(
    raw: Spanned<raw::Redirect>,
    report: &mut Report<'_>,
) -> Option<(Redirect, Range<usize>)> {
    let offset = raw.span().start;
    let raw = raw.into_inner();
    let reason = "required: the paths that moved, such as \"/old/*\"";
    let ignore_case = report.checked(raw.ignore_case, false, Ok);
    let missing = (offset, "site.redirects.from", reason);
    let from = glob(raw.from, ignore_case, missing, report);
    if raw.to.is_none() {
        let reason = "required: where they are now, such as \"/new/$1\"";
        report.missing(offset, "site.redirects.to", reason);
    }
    let status = report.checked(raw.status, Status::MOVED_PERMANENTLY, web::redirect_status);
    let from = from?;
    let to = raw.to?;
    let place = to.span();
    let to = report.required(to, |to| target::target(to, &from))?;
    let rule = Redirect {
        from,
        ignore_case,
        to,
        status,
    };
    Some((rule, place))
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use proptest::prelude::*;

    use super::*;
    use crate::check::tests::{parse, refused};
    use crate::{CachePreset, CompressedOnly, EtagSource, HiddenFiles, Mount, Settings, Symlinks};

    /// Rows of text after the root of a site, which is line 2.
    fn refused_in_a_site(rows: &[(&str, &str)]) {
        for (text, expected) in rows {
            refused(&[(&format!("[[site]]\nroot = 'x'\n{text}"), expected)]);
        }
    }

    fn site(text: &str) -> Site {
        let settings = parse(&format!("[[site]]\nroot = '/x'\n{text}"));
        settings.expect(text).sites.remove(0)
    }

    #[test]
    #[rustfmt::skip] // a row a line
    fn impossible_sites() {
        refused(&[
            ("", "1: site.root: required: write [[site]]"),
            ("# nothing\n[server]\n", "1: site.root: required: write [[site]]"),
            ("\n[[site]]\nindex = []", "2: site.root: required: the directory to serve"),
            ("[[site]]\n[[site.headers]]\nmatch = '/'\ncache = 'none'", "1: site.root: required: the directory"),
            ("[[site]]\nspa-fallback = '/a.html'\n[[site.redirects]]\nfrom = '/b'\nto = '/c'", "2: site.spa-fallback: `/a.html` would never be found: the site has no root"),
            ("[[site]]\nerror-pages = { 404 = '/a.html' }\n[[site.redirects]]\nfrom = '/b'\nto = '/c'", "2: site.error-pages.404: `/a.html` would never"),
            ("[[site]]\ntry-files = ['$path', '/a']\n[[site.redirects]]\nfrom = '/b'\nto = '/c'", "2: site.try-files: `/a` would never"),
            ("[[site]]\n[[site.respond]]\nmatch = '/b'\nstatus = 404\npage = '/a'", "5: site.respond.page: `/a` would never"),
            ("[[site]]\nroot = ''", "2: site.root: empty: "),
            ("[[site]]\nroot = \"a\\u0000\"", "2: site.root: a path cannot hold a NUL byte"),
            ("[[site]]\nroot = 'x'\nindex = ['']", "3: site.index: `` is not a file name"),
            ("[[site]]\nroot = 'x'\nindex = ['..']", "3: site.index: `..` is not a file name"),
            ("[[site]]\nroot = 'x'\nindex = [\n'a',\n'b/c']", "5: site.index: `b/c` is not a plain file name"),
            ("[[site]]\nroot = 'x'\ncharset = 'utf 8'", "3: site.charset: `utf 8` is not a charset name"),
            ("[[site]]\nroot = 'x'\ndefault-type = ''", "3: site.default-type: `` is not a MIME type"),
            ("[[site]]\nroot = 'x'\ndefault-type = 'text'", "3: site.default-type: `text` is not a MIME type"),
            ("[[site]]\nroot = 'x'\ndefault-type = 'text/'", "3: site.default-type: `text/` is not a MIME type"),
            ("[[site]]\nroot = 'x'\ndefault-type = \"a/b\\r\\nX: y\"", "3: site.default-type: `a/b\\r\\nX: y` is not a MIME type"),
            ("[[site]]\nroot = 'x'\ndefault-type = \"a/b; c=\\n\"", "3: site.default-type: `a/b; c=\\n` is not a MIME type"),
            ("[[site]]\nroot = 'x'\nmime-types = { wasm = 'wasm' }", "3: site.mime-types.wasm: `wasm` is not a MIME type"),
            ("[[site]]\nroot = 'x'\n[site.mime-types]\nWasm = 'a/b'", "4: site.mime-types.Wasm: `Wasm` is not an extension: "),
            ("[[site]]\nroot = 'x'\n[site.mime-types]\n'.wasm' = 'a/b'", "4: site.mime-types..wasm: `.wasm` is not an extension: "),
        ]);
    }

    /// What was refused may be what else would be missing.
    #[test]
    #[rustfmt::skip] // a row a line
    fn a_mistake_is_told_once() {
        let mount = "[[site.mount]]\nat = '/m'\nroot = 'x'";
        refused(&[
            ("[[site]]\n[[site.redirect]]\nfrom = '/a'\nto = '/b'", "2: site.redirect: unknown key; did you mean `site.redirects`?"),
            ("[[site]]\n[[site.mounts]]\nat = '/a'", "2: site.mounts: unknown key; write [[site.mount]]"),
            ("[[site]]\n[[site.denied]]\nmatch = '/a'", "2: site.denied: unknown key; write [[site.respond]]"),
            ("[[site]]\nredirects = 'x'", "2: site.redirects: a section: "),
            (&format!("[[site]]\nroot = 5\nspa-fallback = '/a'\n{mount}"), "2: site.root: expected a string"),
            ("[[site]]\nspa-fallback = '/m/a'\n[[site.mount]]\nat = 'm'\nroot = 'x'", "4: site.mount.at: `m` is not a path"),
            ("[[site]]\nspa-fallback = '/m/a'\n[[site.mount]]\nat = '/m'\nroot = 1", "5: site.mount.root: expected a string"),
            ("[[site]]\n[[site.redirects]]\nfrom = '/**'\nto = '/a'\n[[site.respond]]\nmatch = 'a'\nstatus = 403", "6: site.respond.match: `a` is not a pattern"),
        ]);
    }

    #[test]
    #[rustfmt::skip] // a row a line
    fn impossible_names() {
        refused(&[
            ("[[site]]\nroot = 'a'\n[[site]]\nroot = 'b'", "3: site.names: a second site without names: the one of line 1 answers for all others"),
            ("[[site]]\nroot = 'a'\n[[site]]\nroot = 'b'\nnames = []", "5: site.names: a second site without names: the one of line 1"),
            ("[[site]]\nroot = 'a'\nnames = ['a']\n[[site]]\nroot = 'b'\nnames = ['b', 'A.']", "6: site.names: `a` names a site already, by line 3"),
            ("[[site]]\nroot = 'a'\nnames = [\n'*.a',\n'b',\n'*.a']", "6: site.names: `*.a` names a site already, by line 4"),
        ]);
        refused_in_a_site(&[
            ("names = ['']", "3: site.names: `` is not the name of a host: write a name such as"),
            ("names = ['*']", "3: site.names: `*` is not the name of a host: the site without names answers"),
            ("names = ['*.']", "3: site.names: `*.` is not the name of a host"),
            ("names = ['a.*']", "3: site.names: `a.*` is not the name of a host: a `*` is for the first label"),
            ("names = ['*.*.a']", "3: site.names: `*.*.a` is not the name of a host: a `*` is"),
            ("names = ['*a.b']", "3: site.names: `*a.b` is not the name of a host: a `*` is"),
            ("names = ['a..b']", "3: site.names: `a..b` is not the name of a host"),
            ("names = ['-a']", "3: site.names: `-a` is not the name of a host"),
            ("names = ['.A.test']", "3: site.names: `.a.test` is not the name of a host: write \"a.test\" and, for all below it, \"*.a.test\""),
            ("names = ['~^www']", "3: site.names: `~^www` is not the name of a host: there are no regular expressions"),
            ("spa-fallback = 'app/index.html'", "3: site.spa-fallback: `app/index.html` is not the path of a file from the root: write it with a leading slash, such as \"/app/index.html\""),
            ("spa-fallback = 'https://a.test/x'", "3: site.spa-fallback: `https://a.test/x` is not the path of a file from the root: write it with a leading slash, such as \"/404.html\""),
            ("names = ['a:80']", "3: site.names: `a:80` is not the name of a host: it has no scheme, no port"),
            ("names = ['http://a']", "3: site.names: `http://a` is not the name of a host: it has no scheme"),
            ("names = ['::1']", "3: site.names: `::1` is not the name of a host: it has no scheme, no port, and IPv6"),
            ("names = ['[::g]']", "3: site.names: `[::g]` is not the name of a host"),
            ("names = ['1.2.3.4.5']", "3: site.names: `1.2.3.4.5` is not the name of a host"),
            ("names = ['bücher.example']", "3: site.names: `bücher.example` is not the name of a host: write it as it is in DNS"),
            ("names = ['*.127.0.0.1']", "3: site.names: `*.127.0.0.1` is not the name of a host: an address has no names below it"),
            ("names = ['*.[::1]']", "3: site.names: `*.[::1]` is not the name of a host: an address has no names below it"),
            ("names = ['a/b']", "3: site.names: `a/b` is not the name of a host"),
            ("names = [\"a\\n\"]", "3: site.names: `a\\n` is not the name of a host"),
        ]);
    }

    #[test]
    #[rustfmt::skip] // a row a line
    fn impossible_files() {
        refused_in_a_site(&[
            ("symlinks = 'yes'", "3: site.symlinks: `yes` is none of \"beneath\", \"never\", \"follow\""),
            ("symlinks = ''", "3: site.symlinks: `` is none of"),
            ("etag = 'inode'", "3: site.etag: `inode` is none of \"mtime\", \"content\""),
            ("precompressed = ['br', 'deflate']", "3: site.precompressed: `deflate` is none of \"br\", \"zstd\", \"gzip\""),
            ("precompressed = ['br', 'gzip', 'br']", "3: site.precompressed: `br` is named twice"),
            ("compressed-only = 'on'", "3: site.compressed-only: `on` is none of \"off\", \"decompress\", \"refuse\""),
            ("content-encoded = true", "3: site.content-encoded: expected a list, found true"),
            ("content-encoded = ['/a', '*.gz']", "3: site.content-encoded: `*.gz` is not a pattern for paths: every path begins with `/`"),
            ("try-files = []", "3: site.try-files: empty: nothing would ever be found"),
            ("try-files = ['']", "3: site.try-files: `` begins with neither `$path` nor `/`"),
            ("try-files = ['index.html']", "3: site.try-files: `index.html` begins with neither"),
            ("try-files = [\n'$path',\n'$uri']", "5: site.try-files: `$uri` begins with neither"),
            ("try-files = ['$path', '=404']", "3: site.try-files: `=404`: what is not found is answered with 404 by itself"),
            ("try-files = ['/$path']", "3: site.try-files: `/$path`: `$path` has a leading slash already"),
            ("try-files = ['$path$x']", "3: site.try-files: `$path$x`: `$path` is all that can follow a `$`"),
            ("try-files = ['$path/../a']", "3: site.try-files: `/path/../a` has a segment `.` or `..`"),
            ("try-files = ['$path./a']", "3: site.try-files: `$path./a`: a path that ends in a slash would make it `/path/./a`"),
            ("try-files = ['$path', '$path../a']", "3: site.try-files: `$path../a`: a path that ends in a slash would make it `/path/../a`"),
            ("try-files = ['$path..']", "3: site.try-files: `$path..`: a path that ends in a slash"),
            ("try-files = ['/a$path..$path']", "3: site.try-files: `/a$path..$path`: a path that ends in a slash"),
            ("try-files = ['/a//b']", "3: site.try-files: `/a//b` has two slashes in a row"),
            ("try-files = [\"/a\\u0000\"]", "3: site.try-files: a path cannot hold a NUL byte"),
            ("spa-fallback = 'index.html'", "3: site.spa-fallback: `index.html` is not the path of a file from the root"),
            ("spa-fallback = '/'", "3: site.spa-fallback: `/` is a directory: name a file"),
            ("spa-fallback = '/../index.html'", "3: site.spa-fallback: `/../index.html` has a segment"),
            ("hidden-files = 'yes'", "3: site.hidden-files: expected true, false or a list of names"),
            ("hidden-files = [1]", "3: site.hidden-files: expected a string, found 1"),
            ("hidden-files = ['a']", "3: site.hidden-files: `a` does not begin with a dot"),
            ("hidden-files = ['*']", "3: site.hidden-files: `*` does not begin with a dot"),
            ("hidden-files = ['.a', '.a/b']", "3: site.hidden-files: `.a/b` is no name of one file"),
            ("hidden-files = ['..']", "3: site.hidden-files: `..` is no name of one file"),
            ("hidden-files = ['.[a']", "3: site.hidden-files: `/.[a` is not a pattern for paths: a `[` without its `]`"),
            ("encoded-slash = 'on'", "3: site.encoded-slash: `on` is none of \"literal\", \"decode\""),
            ("error-pages = { 404 = '404.html' }", "3: site.error-pages.404: `404.html` is not the path of a file"),
            ("error-pages = { 404 = '' }", "3: site.error-pages.404: `` is not the path of a file"),
            ("error-pages = { 404 = '/errors/' }", "3: site.error-pages.404: `/errors/` is a directory"),
            ("error-pages = { 200 = '/a' }", "3: site.error-pages.200: `200` is none of the errors that can have a page: 400, 401, 403"),
            ("[site.error-pages]\n404 = '/a'\n419 = '/b'", "5: site.error-pages.419: `419` is none of the errors"),
            ("error-pages = { 4xx = '/a' }", "3: site.error-pages.4xx: `4xx` is none of the errors"),
            ("error-pages = { '+404' = '/a' }", "3: site.error-pages.+404: `+404` is none of"),
            ("error-pages = { 0404 = '/a' }", "3: site.error-pages.0404: `0404` is none of"),
        ]);
    }

    #[test]
    #[rustfmt::skip] // a row a line
    fn impossible_headers() {
        refused_in_a_site(&[
            ("[[site.headers]]\nset = { a = 'b' }", "3: site.headers.match: required: the paths, such as"),
            ("[[site.headers]]\nmatch = '/'", "3: site.headers.set: nothing is set: "),
            ("[[site.headers]]\nmatch = '/'\nset = {}\ncache = ''", "3: site.headers.set: nothing is set: "),
            ("[[site.headers]]\nset = { a = 'b' }\nmatch = '/[a'", "5: site.headers.match: `/[a` is not a pattern for paths: a `[` without its `]`"),
            ("[[site.headers]]\ncache = 'none'\nmatch = '*.js'", "5: site.headers.match: `*.js` is not a pattern for paths: every path begins with `/`"),
            ("[[site.headers]]\nmatch = '/'\ncache = '1h'", "5: site.headers.cache: `1h` is none of \"\", \"immutable\", \"revalidate\", \"none\""),
            ("[[site.headers]]\nmatch = '/'\ncache = 'none'\nset = { Cache-Control = 'private' }", "6: site.headers.set.Cache-Control: `cache` of this rule says what it is"),
            ("[[site.headers]]\nmatch = '/'\nset = { X-A = '1', x-a = '2' }", "5: site.headers.set.x-a: x-a is set twice by this rule"),
            ("[[site.headers]]\nmatch = '/'\nset = { '' = '1' }", "5: site.headers.set.: `` is not the name of a header field"),
            ("[[site.headers]]\nmatch = '/'\nset = { 'a b' = '1' }", "5: site.headers.set.a b: `a b` is not the name of a header field"),
            ("[[site.headers]]\nmatch = '/'\nset = { 'a:' = '1' }", "5: site.headers.set.a:: `a:` is not the name of a header field"),
            ("[[site.headers]]\nmatch = '/'\nset = { Content-Type = 'garbage' }", "5: site.headers.set.Content-Type: `garbage` is not a MIME type"),
            ("[[site.headers]]\nmatch = '/'\nset = { vary = 'a, *' }", "5: site.headers.set.vary: `*` cannot be beside the names"),
            ("[[site.headers]]\ncache = 'none'\nmatch = '\\.(js|css)$'", "5: site.headers.match: `\\\\.(js|css)$` is not a pattern for paths: `|` is of"),
            ("[[site.headers]]\nmatch = '/a/*/**'\nset = { a = '$1 $3' }", "5: site.headers.set.a: `$3` captures nothing: `/a/*/**` has 2 captures"),
            ("[[site.headers]]\nmatch = '/'\nset = { a = '$$$1' }", "5: site.headers.set.a: `$1` captures nothing: `/` has no captures"),
            ("[[site.headers]]\nmatch = '/[a'\nset = { a = '$9' }", "4: site.headers.match: `/[a` is not a pattern"),
            ("[[site.headers]]\nmatch = '/*'\nset = { content-type = '$1/x' }", "5: site.headers.set.content-type: `$1`: what a client asks for cannot say content-type; a dollar itself is $$"),
            ("[[site.headers]]\nmatch = '/*'\nset = { Vary = 'X-$1' }", "5: site.headers.set.Vary: `$1`: what a client"),
            ("[[site.headers]]\nmatch = '/'\nset = { a = 'é' }", "5: site.headers.set.a: a header field cannot hold `é`"),
            ("[[site.headers]]\nmatch = '/'\n[site.headers.set]\na = \"b\\r\\nc: d\"", "6: site.headers.set.a: a header field cannot hold `\\r`"),
            ("[[site.headers]]\nmatch = '/'\nset = { a = \"\\u0000\" }", "5: site.headers.set.a: a header field cannot hold `\\0`"),
            ("[[site.headers]]\nmatch = '/'\nset = { a = \"\\u007f\" }", "5: site.headers.set.a: a header field cannot hold `\\u{7f}`"),
        ]);
        let owned = [
            "Accept-Ranges", "Age", "allow", "Connection", "content-encoding", "CONTENT-LENGTH", "Content-Range", "Date", "ETag", "Keep-Alive",
            "Last-Modified", "Location", "Proxy-Connection", "TE", "Trailer", "Transfer-Encoding", "Upgrade",
        ];
        for name in owned {
            let text = format!("[[site.headers]]\nmatch = '/'\nset = {{ {name} = '' }}");
            refused_in_a_site(&[(&text, &format!("5: site.headers.set.{name}: the server sets {name} itself: "))]);
        }
    }

    #[test]
    #[rustfmt::skip] // a row a line
    fn impossible_redirects() {
        refused_in_a_site(&[
            ("[[site.redirects]]\nto = '/b'", "3: site.redirects.from: required: the paths that moved"),
            ("[[site.redirects]]\nfrom = '/a'", "3: site.redirects.to: required: where they are now"),
            ("[[site.redirects]]\nfrom = 'a'\nto = '/b'", "4: site.redirects.from: `a` is not a pattern for paths: every path begins"),
            ("[[site.redirects]]\nfrom = '/a/*'\nto = '/b/$2'", "5: site.redirects.to: `$2` captures nothing: `/a/*` has one capture"),
            ("[[site.redirects]]\nfrom = '/a/*'\nto = '//b/$1'", "5: site.redirects.to: `//b/$1` is another host"),
            ("[[site.redirects]]\nfrom = '/**'\nto = '/b/$1'", "5: site.redirects.to: without end: "),
            ("[[site.redirects]]\nfrom = '/a'\nto = '/b'\n[[site.redirects]]\nfrom = '/b'\nto = '/a'",
             "5: site.redirects.to: without end: `/b` is sent on to `/a`, that to `/b`, and so on"),
            ("[[site.redirects]]\nfrom = '^/old/(.*)$'\nto = '/new/$1'",
             "4: site.redirects.from: `^/old/(.*)$` is not a pattern for paths: `^` is of regular expressions, and this is a glob, which fits the whole path: write `/old/**`."),
            ("[[site.redirects]]\nfrom = '/a%20b'\nto = '/b'", "4: site.redirects.from: `/a%20b` is not a pattern for paths: paths are compared decoded"),
            ("[[site.redirects]]\nfrom = '/a'\nto = 'https://a:99999/'", "5: site.redirects.to: `https://a:99999/`: after the scheme"),
            ("[[site.redirects]]\nfrom = '/a'\nto = '/b'\nstatus = 200", "6: site.redirects.status: 200 is none of 301, 302, 303, 307, 308"),
            ("[[site.redirects]]\nfrom = '/a'\nto = '/b'\nstatus = 304", "6: site.redirects.status: 304 is none of"),
            ("[[site.redirects]]\nfrom = '/a'\nto = '/b'\nstatus = -1", "6: site.redirects.status: -1 is none of"),
        ]);
    }

    #[test]
    #[rustfmt::skip] // a row a line
    fn impossible_mounts() {
        refused_in_a_site(&[
            ("[[site.mount]]\nroot = 'a'", "3: site.mount.at: required: the path that leads there"),
            ("[[site.mount]]\nat = '/a'", "3: site.mount.root: required: the directory to serve"),
            ("[[site.mount]]\nat = '/'\nroot = 'a'", "4: site.mount.at: `/` is all of the site: set site.root"),
            ("[[site.mount]]\nat = ''\nroot = 'a'", "4: site.mount.at: `` is all of the site"),
            ("[[site.mount]]\nat = 'a'\nroot = 'a'", "4: site.mount.at: `a` is not a path from the root"),
            ("[[site.mount]]\nat = '/a/**'\nroot = 'a'", "4: site.mount.at: `/a/**` is a pattern: a path, such as `/a`, has all"),
            ("[[site.mount]]\nat = '/a%20b'\nroot = 'a'", "4: site.mount.at: `/a%20b`: paths are compared decoded: write the character that `%20`"),
            ("[[site.mount]]\nat = '/a/../b'\nroot = 'a'", "4: site.mount.at: `/a/../b` has a segment `.` or `..`"),
            ("[[site.mount]]\nat = '/a//b'\nroot = 'a'", "4: site.mount.at: `/a//b` has two slashes"),
            ("[[site.mount]]\nat = '//'\nroot = 'a'", "4: site.mount.at: `//` has two slashes"),
            ("[[site.mount]]\nat = \"/\\u0000\"\nroot = 'a'", "4: site.mount.at: a path cannot hold a NUL byte"),
            ("[[site.mount]]\nat = '/a'\nroot = ''", "5: site.mount.root: empty: name the directory to serve"),
            ("[[site.mount]]\nat = '/a'\nroot = 'a'\n[[site.mount]]\nat = '/a/'\nroot = 'b'", "7: site.mount.at: `/a` is mounted already, by line 4"),
        ]);
        refused(&[
            ("[[site]]\nspa-fallback = '/ab/c'\n[[site.mount]]\nat = '/a'\nroot = 'a'", "2: site.spa-fallback: `/ab/c` would never be found: the site has no root, and it lies in no mount"),
            ("[[site]]\nspa-fallback = '/a'\n[[site.mount]]\nat = '/a'\nroot = 'a'", "2: site.spa-fallback: `/a` would never be found"),
        ]);
    }

    #[test]
    fn mounts_take_the_place_of_a_root() {
        let text = "[[site]]\nspa-fallback = '/a/b/c'\n[[site.mount]]\nat = '/a/'\nroot = 'a'\n\
                    [[site.mount]]\nat = '/a/b c%'\nroot = '/b'";
        let settings = parse(text).unwrap();
        let mounts = settings.sites[0].mounts.iter();
        let mounts: Vec<_> = mounts.map(|mount| (&*mount.at, &*mount.root)).collect();
        let expected = [("/a", Path::new("etc/a")), ("/a/b c%", Path::new("/b"))];
        assert_eq!(mounts, expected);
        assert_eq!(settings.sites[0].root, None);
        let again = Settings::parse(&settings.to_toml(), Path::new("t"));
        assert_eq!(again.unwrap(), settings);
    }

    #[test]
    #[rustfmt::skip] // a row a line
    fn impossible_answers() {
        refused_in_a_site(&[
            ("[[site.respond]]\nstatus = 403", "3: site.respond.match: required: the paths, such as"),
            ("[[site.respond]]\nmatch = '/a'", "3: site.respond.status: required: the answer, such as 403"),
            ("[[site.respond]]\nmatch = 'a'\nstatus = 403", "4: site.respond.match: `a` is not a pattern for paths"),
            ("[[site.respond]]\nmatch = '/**'\nexcept = ['/a', 'b']\nstatus = 403", "5: site.respond.except: `b` is not a pattern for paths"),
            ("[[site.respond]]\nmatch = '/a'\nstatus = 301", "5: site.respond.status: 301 is none of 200, 204, 400, 403, 404, 410, 418, 421, 429, 451, 500, 503: [[site.redirects]] sends"),
            ("[[site.respond]]\nmatch = '/a'\nstatus = 401", "5: site.respond.status: 401 is none of 200, 204, 400, 403, 404, 410, 418, 421, 429, 451, 500, 503: [[site.auth]] asks for passwords"),
            ("[[site.respond]]\nmatch = '/a'\nstatus = 405", "5: site.respond.status: 405 is none of 200, 204, 400, 403, 404, 410, 418, 421, 429, 451, 500, 503: that a method is not allowed"),
            ("[[site.respond]]\nmatch = '/a'\nstatus = 444", "5: site.respond.status: 444 is none of 200, 204, 400, 403, 404, 410, 418, 421, 429, 451, 500, 503: every request gets an answer"),
            ("[[site.respond]]\nmatch = '/a'\nstatus = 502", "5: site.respond.status: 502 is none of 200, 204, 400, 403, 404, 410, 418, 421, 429, 451, 500, 503: it is about a server behind"),
            ("[[site.respond]]\nmatch = '/a'\nstatus = -403", "5: site.respond.status: -403 is none of 200, 204, 400, 403, 404, 410, 418, 421, 429, 451, 500, 503: write one"),
            ("[[site.respond]]\nmatch = '/a'\nstatus = 403\nretry-after = '5s'", "6: site.respond.retry-after: only 429 and 503 are answers for now"),
            ("[[site.respond]]\nmatch = '/a'\nstatus = 503\nretry-after = '1500ms'", "6: site.respond.retry-after: it is told in whole seconds"),
            ("[[site.respond]]\nmatch = '/a'\nstatus = 503\nretry-after = '0s'", "6: site.respond.retry-after: 0s is outside 1s to 8784h: "),
            ("[[site.respond]]\nmatch = '/a'\nstatus = 503\npage = 'a.html'", "6: site.respond.page: `a.html` is not the path of a file"),
            ("[[site.respond]]\nmatch = '/a'\nstatus = 204\npage = '/a.html'", "6: site.respond.page: 204 has no body"),
        ]);
    }

    #[test]
    #[rustfmt::skip] // a row a line
    fn impossible_cors() {
        refused_in_a_site(&[
            ("cors = { origins = ['*', 'https://a'] }", "3: site.cors.origins: `*` is every origin: write it alone"),
            ("[site.cors]\norigins = ['null']", "4: site.cors.origins: `null` is not an origin"),
            ("[site.cors]\norigins = ['']", "4: site.cors.origins: `` is not an origin"),
            ("[site.cors]\norigins = ['example.org']", "4: site.cors.origins: `example.org` is not an origin: write it as browsers do"),
            ("[site.cors]\norigins = ['https://']", "4: site.cors.origins: `https://` is not an origin"),
            ("[site.cors]\norigins = ['https://a/']", "4: site.cors.origins: `https://a/` is not an origin"),
            ("[site.cors]\norigins = ['https://A']", "4: site.cors.origins: `https://A` is not an origin"),
            ("[site.cors]\norigins = ['HTTPS://a']", "4: site.cors.origins: `HTTPS://a` is not an origin"),
            ("[site.cors]\norigins = ['https://*.a']", "4: site.cors.origins: `https://*.a` is not an origin"),
            ("[site.cors]\norigins = ['https://a:443']", "4: site.cors.origins: `https://a:443` is not an origin"),
            ("[site.cors]\norigins = ['https://a:0443']", "4: site.cors.origins: `https://a:0443` is not an origin"),
            ("[site.cors]\norigins = ['https://a:0']", "4: site.cors.origins: `https://a:0` is not an origin"),
            ("[site.cors]\norigins = ['https://[0:0::1]']", "4: site.cors.origins: `https://[0:0::1]` is not an origin"),
            ("[site.cors]\norigins = ['-://a']", "4: site.cors.origins: `-://a` is not an origin"),
            ("[site.cors]\norigins = ['1a://a']", "4: site.cors.origins: `1a://a` is not an origin"),
            ("[site.cors]\norigins = ['https://a:+1']", "4: site.cors.origins: `https://a:+1` is not an origin"),
            ("[site.cors]\nmax-age = '25h'", "4: site.cors.max-age: 25h is outside 0s to 24h: "),
            ("[site.cors]\norigins = ['*']\n[[site.headers]]\nmatch = '/'\nset = { access-control-allow-origin = '*' }",
             "7: site.headers.set.access-control-allow-origin: site.cors sets access-control-allow-origin itself: "),
        ]);
    }

    #[test]
    fn names_are_taken() {
        let names = "names = ['Example.ORG.', '*.example.org', 'localhost', 'a_b', '127.0.0.1', '[::1]', '[2001:DB8:0:0::0:1]', 'xn--bcher-kva.example']";
        let settings = parse(&format!(
            "[[site]]\nroot = 'a'\n{names}\n[[site]]\nroot = 'b'\n"
        ));
        let sites = settings.unwrap().sites;
        let expected = [
            "example.org",
            "*.example.org",
            "localhost",
            "a_b",
            "127.0.0.1",
            "[::1]",
            "[2001:db8::1]",
            "xn--bcher-kva.example",
        ];
        assert_eq!(sites[0].names, expected);
        assert_eq!(sites[0].root.as_deref(), Some(Path::new("etc/a")));
        assert!(sites[1].names.is_empty());
        assert_eq!(sites[1].root.as_deref(), Some(Path::new("etc/b")));
    }

    #[test]
    fn every_key_of_a_site_is_taken() {
        let site = site(
            "directory-listing = true\nsymlinks = 'follow'\netag = 'content'\nprecompressed = ['gzip', 'br']\n\
             compressed-only = 'refuse'\ncontent-encoded = ['/Build/**', '/a.svgz']\n\
             try-files = ['$path', '$path.html', '/en$path/', '/fallback.html']\nspa-fallback = '/app.html'\n\
             error-pages = { 404 = '/404.html', 503 = '/e/busy page.html' }\n\
             [[site.headers]]\nmatch = '/a/**'\ncache = 'immutable'\nset = { X-A = ' b\tc ', X-B = '' }\n\
             [[site.headers]]\nmatch = '**.{js,css}'\nset = { cache-control = 'private' }\n\
             [[site.respond]]\nmatch = '/db/**'\nstatus = 403\n\
             [[site.respond]]\nmatch = '/**'\nexcept = ['/a', '/b/*']\nstatus = 503\nretry-after = '2m'\npage = '/e.html'\n\
             [[site.redirects]]\nfrom = '/old/*'\nto = '/new/$1'\n\
             [[site.redirects]]\nfrom = '/b'\nto = 'https://example.org'\nstatus = 307\n\
             [site.cors]\norigins = ['https://a.example', 'http://localhost:3000', 'http://[::1]']\nmax-age = '0s'\n",
        );
        assert!(site.directory_listing);
        assert_eq!(site.symlinks, Symlinks::Follow);
        assert_eq!(site.etag, EtagSource::Content);
        assert_eq!(site.precompressed, [Coding::Gzip, Coding::Brotli]);
        assert_eq!(site.compressed_only, CompressedOnly::Refuse);
        let encoded = site.content_encoded.iter().map(Glob::as_str);
        assert!(encoded.eq(["/Build/**", "/a.svgz"]));
        assert_eq!(site.try_files[2], "/en$path/");
        assert_eq!(site.spa_fallback.as_deref(), Some("/app.html"));
        assert_eq!(
            site.error_pages[&Status::SERVICE_UNAVAILABLE],
            "/e/busy page.html"
        );
        let expected = [
            ("Cache-Control", "public, max-age=31536000, immutable"),
            ("X-A", "b\tc"),
            ("X-B", ""),
        ];
        assert!(site.headers[0].fields().eq(expected));
        let expected = [("cache-control", "private")];
        assert!(site.headers[1].fields().eq(expected));
        assert!(site.headers[1].pattern.regex().is_match(b"/x/y.css"));
        let [deny, later] = &site.respond[..] else {
            panic!("{:?}", site.respond);
        };
        assert_eq!((deny.status, deny.retry_after), (Status::FORBIDDEN, None));
        assert_eq!((&deny.page, deny.except.len()), (&None, 0));
        assert_eq!(later.retry_after, Some(Duration::from_mins(2)));
        assert_eq!(later.page.as_deref(), Some("/e.html"));
        assert!(later.except[1].regex().is_match(b"/b/x"));
        let statuses = site.redirects.iter().map(|rule| rule.status.code());
        assert!(statuses.eq([301, 307]));
        assert_eq!(site.cors.origins.len(), 3);
        assert_eq!(site.cors.max_age, Duration::ZERO);
    }

    #[test]
    fn dollars_in_values_are_taken_as_typed() {
        for value in ["$1$2", "$$9", "a$$$1", "$", "5$", "$0 ${9} $x", "$12"] {
            let site = site(&format!(
                "[[site.headers]]\nmatch = '/*/?'\nset = {{ a = '{value}' }}"
            ));
            assert!(site.headers[0].fields().eq([("a", value)]), "{value}");
        }
    }

    #[test]
    fn presets_say_what_they_are_called() {
        let rows = [
            ("immutable", "public, max-age=31536000, immutable"),
            ("revalidate", "no-cache"),
            ("none", "no-store"),
        ];
        for (name, value) in rows {
            let site = site(&format!("[[site.headers]]\nmatch = '/'\ncache = '{name}'"));
            let expected = [("Cache-Control", value)];
            assert!(site.headers[0].fields().eq(expected), "{name}");
        }
    }

    #[test]
    fn all_that_is_wrong_with_a_site_is_reported() {
        let text = "[[site]]\nsymlinks = 'x'\ntry-files = ['', '=404']\n\
                    [[site.headers]]\nset = { Date = '', 'b ' = '' }\n[[site.redirects]]\nfrom = '/['\n";
        let error = parse(text).unwrap_err();
        let places: Vec<&str> = error
            .lines()
            .filter_map(|line| line.strip_prefix("etc/t.toml:")?.split(": ").next())
            .collect();
        assert_eq!(places, ["2", "3", "3", "4", "5", "5", "6", "7"], "{error}");
    }

    #[test]
    fn a_site_needs_no_root_where_rules_answer() {
        let rules = [
            "[[site.redirects]]\nfrom = '/**'\nto = 'https://a.example/$1'",
            "[[site.respond]]\nmatch = '/**'\nstatus = 410",
        ];
        for rule in rules {
            let settings = parse(&format!("[[site]]\n{rule}")).expect(rule);
            assert_eq!(settings.sites[0].root, None);
            let text = settings.to_toml();
            assert!(!text.contains("root"), "{text}");
            assert_eq!(parse(&text), Ok(settings), "{text}");
        }
    }

    fn any_site() -> impl Strategy<Value = Site> {
        let text = "[ -~\u{e9}\n]{0,8}";
        let file = "(/[a-z é\"\\\\]{1,4}){1,2}";
        let codings = Coding::ALL.to_vec();
        let patterns = prop_oneof![
            Just("/**"),
            Just("/[a\"\\\\]"),
            Just("{/é,/'}"),
            Just("**.js")
        ];
        let rule = (
            patterns.clone(),
            any::<bool>(),
            "x-[a-z]{0,4}",
            "[!-#%-~]{0,4}",
        );
        let fallback = proptest::option::of(file);
        let answer = (patterns.clone(), 1..999_u64, proptest::option::of(file)).prop_map(
            |(pattern, seconds, page)| Respond {
                pattern: Glob::new(pattern, seconds > 500).unwrap(),
                except: vec![Glob::new(pattern, seconds > 500).unwrap()],
                ignore_case: seconds > 500,
                status: Status::SERVICE_UNAVAILABLE,
                retry_after: Some(Duration::from_secs(seconds)).filter(|_| seconds > 99),
                page,
            },
        );
        let pages = proptest::collection::btree_map(Just(Status::NOT_FOUND), file, 0..2);
        let symlinks = prop_oneof![Just(Symlinks::Never), Just(Symlinks::Follow)];
        (
            (text, any::<bool>(), symlinks, fallback, pages),
            proptest::sample::subsequence(codings, 0..=3).prop_shuffle(),
            proptest::collection::vec(rule, 0..3),
            proptest::collection::vec(answer, 0..3),
            proptest::collection::vec(patterns, 0..3),
            0..86_400_000_u64,
        )
            .prop_map(
                |(
                    (root, listing, symlinks, fallback, pages),
                    codings,
                    rules,
                    respond,
                    from,
                    age,
                )| Site {
                    root: Some(PathBuf::from(format!("/{root}"))),
                    directory_listing: listing,
                    hidden_files: if listing {
                        HiddenFiles::Named(vec![".z*".parse().unwrap()])
                    } else {
                        HiddenFiles::All
                    },
                    symlinks,
                    precompressed: codings,
                    compressed_only: if listing {
                        CompressedOnly::Decompress
                    } else {
                        CompressedOnly::Refuse
                    },
                    content_encoded: from.iter().map(|from| from.parse().unwrap()).collect(),
                    spa_fallback: fallback,
                    error_pages: pages,
                    headers: rules
                        .into_iter()
                        .map(|(pattern, preset, name, value)| HeaderRule {
                            pattern: Glob::new(pattern, !preset).unwrap(),
                            ignore_case: !preset,
                            cache: preset.then_some(CachePreset::None),
                            set: vec![(name, value)],
                        })
                        .collect(),
                    mounts: (0..respond.len())
                        .map(|number| Mount {
                            at: format!("/é \"{number}"),
                            root: PathBuf::from(format!("/{number}")),
                        })
                        .collect(),
                    respond,
                    redirects: from
                        .into_iter()
                        .map(|from| Redirect {
                            from: Glob::new(from, listing).unwrap(),
                            ignore_case: listing,
                            to: "https://a/%24?b".to_owned(),
                            status: Status::PERMANENT_REDIRECT,
                        })
                        .collect(),
                    cors: Cors {
                        origins: vec!["*".to_owned()],
                        max_age: Duration::from_millis(age),
                    },
                    ..Site::default()
                },
            )
    }

    proptest! {
        #[test]
        fn sites_come_back(first in any_site(), second in any_site()) {
            let mut settings = Settings::for_directory(PathBuf::from("/srv"));
            settings.sites = vec![first, second];
            settings.sites[0].names = vec!["a".to_owned(), "*.b".to_owned()];
            let text = settings.to_toml();
            prop_assert_eq!(parse(&text), Ok(settings), "{}", text);
        }

        #[test]
        fn names_come_back_as_they_are(name in "(\\*\\.)?[A-Za-z0-9._\\[\\]:-]{0,12}\\.?") {
            if let Ok(once) = web::site_name(&name) {
                prop_assert!(!once.ends_with('.'), "{}", once);
                prop_assert_eq!(web::site_name(&once), Ok(once));
            }
        }
    }
}
