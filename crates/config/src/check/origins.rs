//! `site.origin`, `site.cache-key` and `[[site.cache]]`.

use std::time::Duration;

use toml::Spanned;

use super::access::{RawPaths, paths};
use super::bounds::MILLISECOND;
use super::report::{Report, every};
use crate::raw::{self, Field};
use crate::rules::{DAY, count, duration, long_duration, origin as rules};
use crate::units::{LongPeriod, LongPeriodOrOff};
use crate::{
    CacheKey, CacheRule, Credentials, Origin, OriginKind, OriginUrl, S3Style, Ttl, ValueError,
};

/// The region that stores without regions take.
const DEFAULT_REGION: &str = "us-east-1";
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const DEFAULT_FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(10);
const DEFAULT_STALL_TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT_CONNECTIONS: usize = 64;
const DEFAULT_NEGATIVE: Duration = Duration::from_secs(1);

/// The longest time that an object is kept without asking.
const KEPT_MAX: Duration = Duration::from_hours(365 * 24);

/// What a site stores of other hosts.
pub(super) struct Stored {
    pub(super) origins: Vec<Origin>,
    pub(super) cache_key: CacheKey,
    pub(super) rules: Vec<CacheRule>,
}

/// The origins of the site at `offset`, and their rules, which a site without origins cannot have.
pub(super) fn stored(raw: &mut raw::Site, offset: usize, report: &mut Report<'_>) -> Stored {
    let has_origin = !raw.origin.is_empty() || report.was_refused(offset, "site.origin");
    let cache_key = raw.cache_key.take();
    Stored {
        origins: every(std::mem::take(&mut raw.origin), |entry| {
            origin(entry, report)
        }),
        cache_key: report.checked(cache_key, CacheKey::default(), |typed| {
            let key = rules::cache_key(typed)?;
            if key != CacheKey::default() && !has_origin {
                return Err(ValueError::new("the site has no origin: leave it out"));
            }
            Ok(key)
        }),
        rules: every(std::mem::take(&mut raw.cache), |rule| {
            cache_rule(rule, has_origin, report)
        }),
    }
}

/// The origin; `None` if it has no URL.
fn origin(raw: Spanned<raw::Origin>, report: &mut Report<'_>) -> Option<Origin> {
    let offset = raw.span().start;
    let mut raw = raw.into_inner();
    let directory = report.directory(offset);
    let is_s3 = raw.s3.is_some() || report.was_refused(offset, "site.origin.s3");
    let is_http = raw.http.is_some() || report.was_refused(offset, "site.origin.http");
    refuse_both_or_none(&raw, (is_s3, is_http), offset, report);
    let (s3, http) = (raw.s3.take(), raw.http.take());
    let (kind, url) = if is_s3 || !is_http {
        store(s3, &mut raw, report)
    } else {
        host(http, &mut raw, report)
    };
    // If both are there, that is told already.
    if is_s3 != is_http {
        refuse_foreign(&raw, report);
    }
    let ca = report.checked(raw.ca, None, |text| match &*text {
        "" => Ok(None),
        _ if url.as_ref().is_some_and(|url| !url.is_https) => Err(ValueError::new(
            "only https has certificates: leave it out, or write https://",
        )),
        text => Ok(Some(directory.join(text))),
    });
    let timeout = |why| duration(MILLISECOND..=DAY, why);
    Some(Origin {
        kind,
        url: url?,
        ca,
        connect_timeout: report.checked(
            raw.connect_timeout,
            DEFAULT_CONNECT_TIMEOUT,
            timeout("no host is reached in no time"),
        ),
        first_byte_timeout: report.checked(
            raw.first_byte_timeout,
            DEFAULT_FIRST_BYTE_TIMEOUT,
            timeout("no host answers in no time"),
        ),
        stall_timeout: report.checked(
            raw.stall_timeout,
            DEFAULT_STALL_TIMEOUT,
            timeout("bytes arrive with pauses"),
        ),
        connections: report.checked(
            raw.connections,
            DEFAULT_CONNECTIONS,
            count(
                1..=4096,
                "each request needs one, and too many harm the origin",
            ),
        ),
        negative: report.checked(
            raw.negative,
            DEFAULT_NEGATIVE,
            duration(
                Duration::ZERO..=Duration::from_hours(1),
                "an object that is there by now would not be seen",
            ),
        ),
        health: report.checked(raw.health, None, |path| rules::health(&path)),
    })
}

fn refuse_both_or_none(
    raw: &raw::Origin,
    (is_s3, is_http): (bool, bool),
    offset: usize,
    report: &mut Report<'_>,
) {
    if let (Some(_), Some(http)) = (&raw.s3, &raw.http) {
        let reason = "it has s3, too: leave one of them out; a second origin is a table of its own";
        report.refuse(&http.span(), &ValueError::new(reason));
    } else if !is_s3 && !is_http {
        let reason = "required: https://HOST/BUCKET/PREFIX of a store, or http and another URL";
        report.missing(offset, "site.origin.s3", reason);
    }
}

/// The kind of an S3 store, and its URL unless that is refused. Takes the keys that only it has.
fn store(
    typed: Field<String>,
    raw: &mut raw::Origin,
    report: &mut Report<'_>,
) -> (OriginKind, Option<OriginUrl>) {
    let style = report.checked(raw.style.take(), S3Style::default(), |name| {
        rules::style(&name)
    });
    let credentials = report.checked(raw.credentials.take(), Credentials::default(), |name| {
        rules::credentials(&name)
    });
    let region = DEFAULT_REGION.to_owned();
    let kind = OriginKind::S3 {
        region: report.checked(raw.region.take(), region, rules::region),
        style,
        profile: report.checked(raw.profile.take(), None, |name| {
            rules::profile(name, credentials)
        }),
        credentials,
    };
    let url = typed.and_then(|url| report.required(url, |text| rules::s3_url(&text, style)));
    (kind, url)
}

/// The kind of a host without S3's API, and its URL unless that is refused. Takes the key that only
/// it has.
fn host(
    typed: Field<String>,
    raw: &mut raw::Origin,
    report: &mut Report<'_>,
) -> (OriginKind, Option<OriginUrl>) {
    let kind = OriginKind::Http {
        host: report.checked(raw.host.take(), None, |text| rules::host(&text)),
    };
    let url = typed.and_then(|url| report.required(url, |text| rules::url(&text)));
    (kind, url)
}

/// Refuses keys that an origin of the other kind has: those of its own were taken.
fn refuse_foreign(raw: &raw::Origin, report: &mut Report<'_>) {
    let of_store = [&raw.region, &raw.style, &raw.profile, &raw.credentials];
    for typed in of_store.into_iter().flatten() {
        let reason = "only an S3 store has it: leave it out, or write s3 in place of http";
        report.refuse(&typed.span(), &ValueError::new(reason));
    }
    if let Some(typed) = &raw.host {
        let reason = "the signature of an S3 request names the host of the URL: leave it out";
        report.refuse(&typed.span(), &ValueError::new(reason));
    }
}

/// The rule; `None` if it has no pattern.
fn cache_rule(
    raw: Spanned<raw::CacheRule>,
    has_origin: bool,
    report: &mut Report<'_>,
) -> Option<CacheRule> {
    let offset = raw.span().start;
    let raw = raw.into_inner();
    if !has_origin {
        let reason =
            "the site has no origin: [[site.headers]] with cache tells clients what to keep";
        report.missing(offset, "site.cache", reason);
        return None;
    }
    let named = RawPaths {
        pattern: raw.pattern,
        except: raw.except,
        ignore_case: raw.ignore_case,
    };
    let paths = paths(named, "site.cache", offset, report);
    let times = [&raw.stale_while_revalidate, &raw.stale_if_error];
    let is_set = raw.ttl.is_some() || times.iter().any(|time| time.is_some());
    if !is_set && !was_any_time_refused(offset, report) {
        let reason = "nothing is set: write ttl = \"1h\", stale-while-revalidate or stale-if-error";
        report.missing(offset, "site.cache.ttl", reason);
    }
    let ttl = report.checked(raw.ttl, None, |typed| ttl(typed).map(Some));
    let stale = |typed| stale(typed, ttl).map(Some);
    Some(CacheRule {
        paths: paths?,
        ttl,
        stale_while_revalidate: report.checked(raw.stale_while_revalidate, None, stale),
        stale_if_error: report.checked(raw.stale_if_error, None, stale),
    })
}

fn was_any_time_refused(offset: usize, report: &Report<'_>) -> bool {
    let keys = ["ttl", "stale-while-revalidate", "stale-if-error"];
    keys.iter()
        .any(|key| report.was_refused(offset, &format!("site.cache.{key}")))
}

fn ttl(LongPeriodOrOff(typed): LongPeriodOrOff) -> Result<Ttl, ValueError> {
    match typed {
        None => Ok(Ttl::Off),
        Some(time) => kept(LongPeriod(time)).map(Ttl::For),
    }
}

fn stale(typed: LongPeriod, ttl: Option<Ttl>) -> Result<Duration, ValueError> {
    if ttl == Some(Ttl::Off) {
        return Err(ValueError::new(
            "with ttl = \"off\" there is nothing to send: leave it out",
        ));
    }
    kept(typed)
}

fn kept(typed: LongPeriod) -> Result<Duration, ValueError> {
    long_duration(
        Duration::ZERO..=KEPT_MAX,
        "what is not asked for in a year is evicted",
    )(typed)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::Site;
    use crate::check::tests::{parse, refused};

    const DISK: &str = "[cache.disk]\npath = '/y'\n";

    /// The site with these keys, and what it becomes once it is written and read again.
    fn site(text: &str) -> Site {
        let settings = parse(&format!("{DISK}[[site]]\n{text}")).expect(text);
        let written = settings.to_toml();
        let mut again = parse(&written).expect(&written);
        assert_eq!(again, settings, "{written}");
        again.sites.remove(0)
    }

    /// Rows of text below a site, whose first line is line 4.
    fn refused_in_a_site(rows: &[(&str, &str)]) {
        for (text, expected) in rows {
            refused(&[(&format!("{DISK}[[site]]\n{text}"), expected)]);
        }
    }

    #[test]
    #[rustfmt::skip] // a row a line
    fn impossible_origins() {
        let http = "http = 'http://a'";
        let s3 = "s3 = 'http://a/b'";
        refused_in_a_site(&[
            ("origin = 'http://a'", "4: site.origin: a table: write origin = { http = "),
            ("origin = ['http://a']", "4: site.origin: a table: write origin = "),
            ("origin = {}", "4: site.origin.s3: required: https://HOST/BUCKET/PREFIX of a store, or http"),
            ("[[site.origin]]\nregion = 'a'", "4: site.origin.s3: required: "),
            ("origin = { s3 = 5 }", "4: site.origin.s3: expected a string, found 5"),
            ("[site.origin]\ns3 = 'http://a/b'\nhttp = 'http://a'", "6: site.origin.http: it has s3, too: leave one of them out"),
            ("[site.origin]\ns3 = 'http://a'", "5: site.origin.s3: `http://a` has no bucket: "),
            ("[site.origin]\ns3 = 's3://a/b'", "5: site.origin.s3: `s3://a/b` does not name the host of the store: "),
            ("[site.origin]\nhttp = 'a'", "5: site.origin.http: `a` is no URL: "),
            ("[site.origin]\nhttp = 'http://n:p@a'", "5: site.origin.http: the URL has a user (`@`)"),
            ("[site.origin]\nhttp = 'http://a?b'", "5: site.origin.http: the URL has a query (`?`)"),
            ("[site.origin]\nurl = 'http://a'", "5: site.origin.url: unknown key; write s3 = "),
            ("[site.origin]\nbucket = 'b'", "5: site.origin.bucket: unknown key; write s3 = "),
        ]);
        let rows = [
            (s3, "host = 'b'", "host: the signature of an S3 request names the host of the URL"),
            (s3, "region = ''", "region: `` is no region: "),
            (s3, "region = 'eu/1'", "region: `eu/1` is no region: "),
            (s3, "style = 'auto'", "style: `auto` is none of \"path\", \"virtual-host\""),
            (s3, "credentials = 'env'", "credentials: `env` is none of \"auto\", \"none\""),
            (s3, "profile = 'a]'", "profile: `a]` is no name that a section of a file can have"),
            (s3, "profile = 'a', credentials = 'none'", "profile: credentials = \"none\" has no use for it"),
            (s3, "secret-key = 'a'", "secret-key: unknown key; no secrets are here: profile names"),
            (s3, "ca = 'a.pem'", "ca: only https has certificates: "),
            (http, "region = 'a'", "region: only an S3 store has it: "),
            (http, "style = 'path'", "style: only an S3 store has it: "),
            (http, "profile = 'a'", "profile: only an S3 store has it: "),
            (http, "credentials = 'none'", "credentials: only an S3 store has it: "),
            (http, "host = 'https://b'", "host: `https://b` is no host: "),
            (http, "host = 'b:x'", "host: `x` is not a port: "),
            (http, "connect-timeout = '0s'", "connect-timeout: 0s is outside 1ms to 24h: "),
            (http, "first-byte-timeout = 10", "first-byte-timeout: expected a duration with its unit"),
            (http, "stall-timeout = '25h'", "stall-timeout: 25h is outside 1ms to 24h: "),
            (http, "connections = 0", "connections: 0 is outside 1 to 4096: "),
            (http, "connections = 4097", "connections: 4097 is outside 1 to 4096: "),
            (http, "negative = '61m'", "negative: 3660s is outside 0s to 1h: "),
            (http, "health = 'up'", "health: `up` does not begin with a slash: "),
            (http, "health = '/a b'", "health: `/a b`: a URL has ` ` percent-encoded: write %20"),
        ];
        for (url, text, expected) in rows {
            let expected = format!("4: site.origin.{expected}");
            refused_in_a_site(&[(&format!("origin = {{ {url}, {text} }}"), &expected)]);
        }
    }

    #[test]
    #[rustfmt::skip] // a row a line
    fn impossible_keys_and_rules() {
        let origin = "origin = { http = 'http://a' }\n";
        let rows = [
            ("cache-key = 'none'", "5: site.cache-key: `none` is none of \"query\", \"path\": a parameter is in a list, such as [\"v\"]"),
            ("cache-key = []", "5: site.cache-key: no parameter is named: write \"path\""),
            ("cache-key = ['v', 'v']", "5: site.cache-key: `v` is named twice"),
            ("cache-key = ['v=1']", "5: site.cache-key: `v=1` is not the name of a parameter"),
            ("cache-key = ['']", "5: site.cache-key: `` is not the name of a parameter"),
            ("cache-key = true", "5: site.cache-key: expected a name or a list of names such as [\"v\"], found true"),
            ("cache-key = [1]", "5: site.cache-key: expected a string, found 1"),
            ("cache = '1h'", "5: site.cache: a section: write [[site.cache]]"),
            ("[[site.cache]]\nttl = '1h'", "5: site.cache.match: required: the paths"),
            ("[[site.cache]]\nmatch = '/a'", "5: site.cache.ttl: nothing is set: "),
            ("[[site.cache]]\nmatch = 'a'\nttl = '1h'", "6: site.cache.match: `a` is not a pattern"),
            ("[[site.cache]]\nmatch = '/a'\nttl = 60", "7: site.cache.ttl: expected \"off\" or a duration with its unit, such as \"1h\" or \"30d\", found 60: write \"60s\""),
            ("[[site.cache]]\nmatch = '/a'\nttl = '366d'", "7: site.cache.ttl: 366d is outside 0s to 365d: "),
            ("[[site.cache]]\nmatch = '/a'\nttl = '1y'", "7: site.cache.ttl: `1y` is not a duration: write digits and one of the units ms, s, m, h, d"),
            ("[[site.cache]]\nmatch = '/a'\nstale-if-error = '366d'", "7: site.cache.stale-if-error: 366d is outside 0s to 365d: "),
            ("[[site.cache]]\nmatch = '/a'\nstale-while-revalidate = 'off'", "7: site.cache.stale-while-revalidate: `off` is not a duration: "),
            ("[[site.cache]]\nmatch = '/a'\nttl = 'off'\nstale-if-error = '1d'", "8: site.cache.stale-if-error: with ttl = \"off\" there is nothing to send"),
            ("[[site.cache]]\nmatch = '/a'\nmax-age = '1h'", "7: site.cache.max-age: unknown key; write ttl = \"1h\""),
        ];
        for (text, expected) in rows {
            refused_in_a_site(&[(&format!("{origin}{text}"), expected)]);
        }
        refused_in_a_site(&[
            ("root = 'x'\ncache-key = 'path'", "5: site.cache-key: the site has no origin: "),
            ("root = 'x'\n[[site.cache]]\nmatch = '/a'\nttl = '1h'", "5: site.cache: the site has no origin: "),
            ("cache-key = 'path'\norigin = { http = 5 }", "5: site.origin.http: expected a string"),
        ]);
    }

    #[test]
    fn a_site_has_a_root_an_origin_or_both() {
        let default = Site::default();
        let one = site("origin = { http = 'http://a' }");
        assert_eq!((one.root, one.cache_key), (None, CacheKey::Query));
        let both = site("root = '/x'\norigin = { http = 'http://a' }");
        assert_eq!(both.root.as_deref(), Some(Path::new("/x")));
        assert_eq!(both.origins, one.origins);
        let page = site("spa-fallback = '/a.html'\norigin = { http = 'http://a' }");
        assert_eq!(page.spa_fallback.as_deref(), Some("/a.html"));
        assert_eq!(
            site("root = '/x'\ncache-key = 'query'").origins,
            default.origins
        );
        for text in [
            "origin = [{ http = 'http://a' }]",
            "[site.origin]\nhttp = 'http://a'",
            "[[site.origin]]\nhttp = 'http://a'",
        ] {
            assert_eq!(site(text).origins, one.origins, "{text}");
        }
    }

    #[test]
    fn origins_have_defaults() {
        let kind = OriginKind::S3 {
            region: "us-east-1".to_owned(),
            style: S3Style::Path,
            profile: None,
            credentials: Credentials::Auto,
        };
        let store = Origin {
            kind,
            url: rules::url("https://s3.example/b/p").unwrap(),
            ca: None,
            connect_timeout: Duration::from_secs(2),
            first_byte_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(30),
            connections: 64,
            negative: Duration::from_secs(1),
            health: None,
        };
        let host = Origin {
            kind: OriginKind::Http { host: None },
            url: rules::url("http://a").unwrap(),
            ..store.clone()
        };
        let text = "origin = [{ s3 = 'https://s3.example/b/p/' }, { http = 'http://a/' }]";
        assert_eq!(site(text).origins, [store, host]);
    }

    #[test]
    fn origins_are_taken_and_written() {
        let text = "[[site.origin]]\ns3 = 'https://b.s3.example:8443'\nregion = 'auto'\n\
             style = 'virtual-host'\nprofile = 'a b'\nca = 'ca.pem'\nconnect-timeout = '1ms'\n\
             first-byte-timeout = '2s'\nstall-timeout = '24h'\nconnections = 4096\n\
             negative = '0s'\nhealth = '/up'\n\
             [[site.origin]]\nhttp = 'https://[::1]/p'\nhost = 'A:8080'\n\
             [[site.origin]]\ns3 = 'http://a/b'\ncredentials = 'none'\nprofile = ''\nca = ''";
        let settings = parse(&format!("{DISK}[[site]]\n{text}")).unwrap();
        let [store, host, public] = &settings.sites[0].origins[..] else {
            panic!("{:?}", settings.sites[0].origins);
        };
        let kind = OriginKind::S3 {
            region: "auto".to_owned(),
            style: S3Style::VirtualHost,
            profile: Some("a b".to_owned()),
            credentials: Credentials::Auto,
        };
        assert_eq!(store.kind, kind);
        assert_eq!((store.url.port, &*store.url.path), (8443, ""));
        assert_eq!(store.ca.as_deref(), Some(Path::new("etc/ca.pem")));
        let timeouts = (store.connect_timeout, store.first_byte_timeout);
        assert_eq!(timeouts, (MILLISECOND, Duration::from_secs(2)));
        assert_eq!((store.stall_timeout, store.negative), (DAY, Duration::ZERO));
        assert_eq!(
            (store.connections, store.health.as_deref()),
            (4096, Some("/up"))
        );
        let kind = OriginKind::Http {
            host: Some("a:8080".to_owned()),
        };
        assert_eq!((&host.kind, &*host.url.host), (&kind, "[::1]"));
        assert!(matches!(
            public.kind,
            OriginKind::S3 {
                credentials: Credentials::None,
                ..
            }
        ));
        let text = settings.to_toml().replace("etc/ca.pem", "ca.pem");
        assert_eq!(parse(&text), Ok(settings));
    }

    #[test]
    fn keys_and_rules_are_taken_and_written() {
        let names = ["v".to_owned(), "a%20b[]".to_owned()];
        let rows = [
            ("'query'", CacheKey::Query),
            ("'path'", CacheKey::Path),
            ("['v', 'a%20b[]']", CacheKey::Parameters(names.to_vec())),
        ];
        let origin = "origin = { http = 'http://a' }";
        for (text, expected) in rows {
            let key = site(&format!("{origin}\ncache-key = {text}")).cache_key;
            assert_eq!(key, expected, "{text}");
        }
        let rules = site(&format!(
            "{origin}\n[[site.cache]]\nmatch = '/A/*'\nexcept = ['/a/b']\nignore-case = true\n\
             ttl = 'off'\n[[site.cache]]\nmatch = '/**'\nttl = '365d'\n\
             stale-while-revalidate = '1m'\nstale-if-error = '36h'\n\
             [[site.cache]]\nmatch = '/c'\nttl = '0s'"
        ))
        .cache_rules;
        assert!(rules[0].paths.contain(b"/a/c") && !rules[0].paths.contain(b"/A/B"));
        let times = rules
            .iter()
            .map(|rule| (rule.ttl, rule.stale_while_revalidate, rule.stale_if_error));
        let expected = [
            (Some(Ttl::Off), None, None),
            (
                Some(Ttl::For(KEPT_MAX)),
                Some(Duration::from_mins(1)),
                Some(Duration::from_hours(36)),
            ),
            (Some(Ttl::For(Duration::ZERO)), None, None),
        ];
        assert!(times.eq(expected), "{rules:?}");
    }
}
