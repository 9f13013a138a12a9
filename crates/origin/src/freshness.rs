//! How long a response may be used: RFC 9111 for a shared cache, and RFC 5861. Pure: fields and
//! times go in, decisions come out.

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::{AGE, CACHE_CONTROL, DATE, EXPIRES, HeaderName, LAST_MODIFIED, PRAGMA, VARY};
use serde::{Deserialize, Serialize};

/// The most that a heuristic gives (RFC 9111, section 4.2.2).
const HEURISTIC_MAX: u64 = 3600;

/// A year: longer times mean the same, and cannot overflow.
const SECONDS_MAX: u64 = 365 * 24 * 3600;

/// How long one response may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Freshness {
    /// Its age when it came, in seconds (RFC 9111, section 4.2.3).
    pub(crate) initial_age: u64,
    /// From which age on it is stale, in seconds.
    pub(crate) lifetime: u64,
    /// For how long after that it is used while it is revalidated, in seconds.
    pub(crate) stale_while_revalidate: u64,
    /// For how long after that it is used if the origin fails, in seconds.
    pub(crate) stale_if_error: u64,
}

/// What a site's rule says instead of the origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Override {
    pub(crate) lifetime: Option<Duration>,
    pub(crate) stale_while_revalidate: Option<Duration>,
    pub(crate) stale_if_error: Option<Duration>,
    /// Whether the lifetime counts from when a peer got the response, not from when it came.
    pub(crate) is_of_peer: bool,
}

/// What a response may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Storing {
    /// Stored, and used as long as this says.
    Stored(Freshness),
    /// Sent to those who asked, and forgotten.
    Passed,
}

/// Decides about the response with these `fields`, which was asked for at `asked` and came at
/// `now`.
pub(crate) fn decide(
    fields: &HeaderMap,
    asked: SystemTime,
    now: SystemTime,
    rule: Override,
) -> Storing {
    let said = CacheControl::of(fields);
    // A rule of the site is about files that all may see.
    let is_forbidden = said.no_store || said.private;
    if !varies_by_coding_alone(fields) || (is_forbidden && rule.lifetime.is_none()) {
        return Storing::Passed;
    }
    let seconds = |duration: Duration| duration.as_secs().min(SECONDS_MAX);
    let lifetime = rule.lifetime.map(seconds);
    Storing::Stored(Freshness {
        // With a time of its own the site counts from when it got the response.
        initial_age: if lifetime.is_some() && !rule.is_of_peer {
            0
        } else {
            initial_age(fields, asked, now)
        },
        lifetime: lifetime.unwrap_or_else(|| said.lifetime(fields, now)),
        stale_while_revalidate: rule
            .stale_while_revalidate
            .map_or_else(|| said.stale(said.stale_while_revalidate), seconds),
        stale_if_error: rule
            .stale_if_error
            .map_or_else(|| said.stale(said.stale_if_error), seconds),
    })
}

impl Freshness {
    /// The age `since` the response came, in seconds.
    pub(crate) fn age(&self, since: Duration) -> u64 {
        self.initial_age.saturating_add(since.as_secs())
    }

    /// How long after it came it is fresh.
    pub(crate) fn fresh_for(&self) -> Duration {
        Duration::from_secs(self.lifetime.saturating_sub(self.initial_age))
    }

    /// How long after it came it is used while it is revalidated.
    pub(crate) fn revalidated_for(&self) -> Duration {
        self.until(self.stale_while_revalidate)
    }

    /// How long after it came it is used if the origin fails.
    pub(crate) fn kept_for(&self) -> Duration {
        self.until(self.stale_if_error)
    }

    /// How long after it came it is stale for `stale` seconds. It may have come stale.
    fn until(&self, stale: u64) -> Duration {
        let all = self.lifetime.saturating_add(stale);
        Duration::from_secs(all.saturating_sub(self.initial_age))
    }
}

/// The directives of Cache-Control that concern a shared cache (RFC 9111, section 5.2.2).
#[expect(clippy::struct_excessive_bools, reason = "each is a directive")]
#[derive(Debug, Default, PartialEq, Eq)]
struct CacheControl {
    is_there: bool,
    no_store: bool,
    no_cache: bool,
    private: bool,
    must_revalidate: bool,
    max_age: Option<u64>,
    shared_max_age: Option<u64>,
    stale_while_revalidate: Option<u64>,
    stale_if_error: Option<u64>,
}

impl CacheControl {
    fn of(fields: &HeaderMap) -> Self {
        let mut said = Self::default();
        for value in texts(fields, &CACHE_CONTROL) {
            said.is_there = true;
            for directive in split_list(value) {
                said.take(directive);
            }
        }
        if !said.is_there && texts(fields, &PRAGMA).any(|value| value.contains("no-cache")) {
            said.no_cache = true;
        }
        said
    }

    fn take(&mut self, directive: &str) {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        let value = value.trim().trim_matches('"');
        // A time that is no number is stale at once (section 4.2.1).
        let seconds = || {
            Some(
                value
                    .parse::<u64>()
                    .unwrap_or(overflow(value))
                    .min(SECONDS_MAX),
            )
        };
        match name.trim().to_ascii_lowercase().as_str() {
            "no-store" => self.no_store = true,
            // Both with names of fields concern these alone, which are few: the whole is meant to
            // be safe.
            "no-cache" => self.no_cache = true,
            "private" => self.private = true,
            "must-revalidate" | "proxy-revalidate" => self.must_revalidate = true,
            "max-age" => self.max_age = self.max_age.or_else(seconds),
            "s-maxage" => self.shared_max_age = self.shared_max_age.or_else(seconds),
            "stale-while-revalidate" => self.stale_while_revalidate = seconds(),
            "stale-if-error" => self.stale_if_error = seconds(),
            _ => {}
        }
    }

    /// Section 4.2.1.
    fn lifetime(&self, fields: &HeaderMap, now: SystemTime) -> u64 {
        if self.no_cache {
            return 0;
        }
        if let Some(seconds) = self.shared_max_age.or(self.max_age) {
            return seconds;
        }
        let date = date(fields, &DATE).unwrap_or(now);
        if fields.contains_key(EXPIRES) {
            let expires = date_seconds(fields, &EXPIRES);
            return expires.saturating_sub(seconds_of(date)).min(SECONDS_MAX);
        }
        // A tenth of the time since the last change (section 4.2.2).
        let modified = date_seconds(fields, &LAST_MODIFIED);
        match modified {
            0 => 0,
            modified => (seconds_of(date).saturating_sub(modified) / 10).min(HEURISTIC_MAX),
        }
    }

    /// What the origin allows after that, unless it forbids any stale use (section 5.2.2.2).
    fn stale(&self, seconds: Option<u64>) -> u64 {
        match seconds {
            Some(seconds) if !self.must_revalidate && !self.no_cache => seconds,
            _ => 0,
        }
    }
}

/// A number too large for 64 bits is the longest time; anything else is none.
fn overflow(value: &str) -> u64 {
    let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { SECONDS_MAX } else { 0 }
}

/// Section 4.2.3.
fn initial_age(fields: &HeaderMap, asked: SystemTime, now: SystemTime) -> u64 {
    let said = texts(fields, &AGE).next();
    let said = said.map_or(0, |value| {
        value.trim().parse().unwrap_or(overflow(value.trim()))
    });
    let delay = now.duration_since(asked).unwrap_or_default().as_secs();
    let apparent = date(fields, &DATE)
        .and_then(|date| now.duration_since(date).ok())
        .map_or(0, |age| age.as_secs());
    apparent.max(said.saturating_add(delay)).min(SECONDS_MAX)
}

/// Whether the only field that selects is Accept-Encoding, with which nothing is asked for but the
/// identity (section 4.1).
fn varies_by_coding_alone(fields: &HeaderMap) -> bool {
    let mut names = texts(fields, &VARY).flat_map(split_list);
    // Origins that answer scripts of other sites vary by Origin, which is never sent to them.
    names.all(|name| {
        name.eq_ignore_ascii_case("accept-encoding") || name.eq_ignore_ascii_case("origin")
    })
}

fn texts<'f>(fields: &'f HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'f str> {
    let values = fields.get_all(name).into_iter();
    values.filter_map(|value| value.to_str().ok())
}

/// The items of a list, without those that are empty. Commas in quotes do not separate.
fn split_list(value: &str) -> impl Iterator<Item = &str> {
    let mut is_quoted = false;
    let items = value.split(move |character| {
        is_quoted ^= character == '"';
        character == ',' && !is_quoted
    });
    items.map(str::trim).filter(|item| !item.is_empty())
}

fn date(fields: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    let value = texts(fields, name).next()?;
    httpdate::parse_http_date(value).ok()
}

/// A date in seconds since 1970; 0 if there is none or it is none.
fn date_seconds(fields: &HeaderMap, name: &HeaderName) -> u64 {
    date(fields, name).map_or(0, seconds_of)
}

fn seconds_of(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names and values.
    type Lines<'a> = &'a [(&'a str, &'a str)];

    const NOW: u64 = 784_111_777; // Sun, 06 Nov 1994 08:49:37 GMT

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)
    }

    fn at(seconds: i64) -> String {
        let time = now() + Duration::from_secs(1_000_000);
        httpdate::fmt_http_date(time - Duration::from_secs((1_000_000 - seconds) as u64))
    }

    fn fields(lines: &[(&str, &str)]) -> HeaderMap {
        let parse = |(name, value): &(&str, &str)| {
            let name: HeaderName = name.parse().unwrap();
            (name, value.parse().unwrap())
        };
        lines.iter().map(parse).collect()
    }

    fn of(lines: &[(&str, &str)]) -> Storing {
        decide(&fields(lines), now(), now(), Override::default())
    }

    #[test]
    fn a_lifetime_is_what_a_shared_cache_may_use() {
        let (later, before) = (at(100), at(-100));
        let old = at(-100_000);
        let table: [(Lines<'_>, u64); 16] = [
            (&[("cache-control", "max-age=60")], 60),
            (&[("cache-control", "max-age=60, s-maxage=5")], 5),
            (
                &[
                    ("cache-control", "S-MaxAge=5"),
                    ("cache-control", "max-age=60"),
                ],
                5,
            ),
            (&[("cache-control", "max-age=\"60\"")], 60),
            (&[("cache-control", "max-age=60, max-age=70")], 60),
            (&[("cache-control", "max-age=x")], 0),
            (
                &[("cache-control", "max-age=99999999999999999999999")],
                SECONDS_MAX,
            ),
            (&[("cache-control", "max-age=60, no-cache")], 0),
            (
                &[
                    ("cache-control", "public, max-age=60"),
                    ("expires", &before),
                ],
                60,
            ),
            (&[("expires", &later)], 100),
            (&[("expires", &later), ("date", &before)], 200),
            (&[("expires", "0")], 0),
            (&[("last-modified", &before)], 10),
            (&[("last-modified", &old)], HEURISTIC_MAX),
            (&[("pragma", "no-cache"), ("last-modified", &old)], 0),
            (&[], 0),
        ];
        for (lines, expected) in table {
            let Storing::Stored(freshness) = of(lines) else {
                panic!("{lines:?} is not stored");
            };
            assert_eq!(freshness.lifetime, expected, "{lines:?}");
        }
    }

    #[test]
    fn what_is_for_one_client_is_not_stored() {
        for lines in [
            [("cache-control", "no-store")],
            [("cache-control", "max-age=60, private")],
            [("cache-control", "private=\"set-cookie\"")],
            [("vary", "*")],
            [("vary", "accept-encoding, cookie")],
        ] {
            assert_eq!(of(&lines), Storing::Passed, "{lines:?}");
        }
        let lines = [("vary", "Accept-Encoding, Origin")];
        assert!(matches!(of(&lines), Storing::Stored(_)));
    }

    #[test]
    fn an_age_adds_up_across_tiers() {
        let before = at(-100);
        let table: [(Lines<'_>, u64, u64); 5] = [
            (&[], 0, 0),
            (&[("age", "7")], 0, 7),
            (&[("age", "7")], 3, 10),
            (&[("age", "7"), ("date", &before)], 3, 100),
            (&[("age", "x")], 3, 3),
        ];
        for (lines, delay, expected) in table {
            let asked = now() - Duration::from_secs(delay);
            assert_eq!(
                initial_age(&fields(lines), asked, now()),
                expected,
                "{lines:?}"
            );
        }
        // A tier behind never makes it fresh again.
        let Storing::Stored(freshness) = of(&[("cache-control", "max-age=60"), ("age", "50")])
        else {
            panic!("not stored");
        };
        assert_eq!(freshness.fresh_for(), Duration::from_secs(10));
        assert_eq!(freshness.age(Duration::from_secs(4)), 54);
    }

    #[test]
    fn stale_use_is_what_was_allowed() {
        let allowed = "max-age=1, stale-while-revalidate=2, stale-if-error=3";
        let table = [
            (allowed.to_owned(), (3, 4)),
            (format!("{allowed}, must-revalidate"), (1, 1)),
            (format!("{allowed}, proxy-revalidate"), (1, 1)),
            ("max-age=1".to_owned(), (1, 1)),
        ];
        for (value, (revalidated, kept)) in table {
            let Storing::Stored(freshness) = of(&[("cache-control", &value)]) else {
                panic!("not stored");
            };
            assert_eq!(
                freshness.revalidated_for().as_secs(),
                revalidated,
                "{value}"
            );
            assert_eq!(freshness.kept_for().as_secs(), kept, "{value}");
        }
    }

    #[test]
    fn a_rule_of_the_site_is_stronger() {
        let rule = Override {
            lifetime: Some(Duration::from_secs(9)),
            stale_while_revalidate: Some(Duration::from_secs(8)),
            stale_if_error: None,
            is_of_peer: false,
        };
        let lines = [
            ("cache-control", "no-store, stale-if-error=7"),
            ("age", "100"),
        ];
        let Storing::Stored(freshness) = decide(&fields(&lines), now(), now(), rule) else {
            panic!("not stored");
        };
        let expected = Freshness {
            initial_age: 0,
            lifetime: 9,
            stale_while_revalidate: 8,
            stale_if_error: 7,
        };
        assert_eq!(freshness, expected);
        // But nothing makes a response for one client one for all.
        let lines = [("vary", "cookie")];
        assert_eq!(decide(&fields(&lines), now(), now(), rule), Storing::Passed);
    }
}
