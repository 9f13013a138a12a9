//! What is known of an object: its fields, its version, and how long it may be used.

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_TYPE, ETAG,
    EXPIRES, HeaderName, LAST_MODIFIED, LINK,
};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use crate::freshness::Freshness;

/// From how many milliseconds on the clock was set back, and not just corrected.
const SET_BACK_LEAST: u64 = 5000;

/// The fields that go on to clients, besides the validators, which are kept apart.
const PASSED_ON: [HeaderName; 7] = [
    CONTENT_TYPE,
    CONTENT_ENCODING,
    CONTENT_LANGUAGE,
    CONTENT_DISPOSITION,
    CACHE_CONTROL,
    EXPIRES,
    LINK,
];

/// The fields with tags for purges: Fastly's name, and that of Cloudflare and Akamai.
const TAGS: [HeaderName; 2] = [
    HeaderName::from_static("surrogate-key"),
    HeaderName::from_static("cache-tag"),
];

/// The most tags of one object, and the most bytes of the fields that are kept.
const TAGS_MAX: usize = 64;
const FIELDS_BYTES_MAX: usize = 16 * 1024;

/// An object as of one response. Stored as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The path of the site: what purges compare.
    pub(crate) path: Vec<u8>,
    /// Bytes of the whole object.
    pub(crate) len: u64,
    /// As it came, with quotes and `W/`.
    pub(crate) etag: Option<String>,
    /// As it came.
    pub(crate) last_modified: Option<String>,
    /// Names in lower case and values, in the order of [`PASSED_ON`].
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) tags: Vec<String>,
    /// When the response was asked for, in milliseconds since 1970: a purge after that concerns it.
    pub(crate) asked: u64,
    /// When it came.
    pub(crate) came: u64,
    pub(crate) freshness: Freshness,
    /// Names its slices: another version has another one.
    pub(crate) version: u128,
}

impl Record {
    /// The record of a response with the fields `fields` for an object of `len` bytes. `salt` tells
    /// versions apart that have no validator.
    pub(crate) fn new(
        (path, hash): (&[u8], u128),
        len: u64,
        fields: &HeaderMap,
        freshness: Freshness,
        (asked, came): (SystemTime, SystemTime),
        salt: u64,
    ) -> Self {
        let text = |name: &HeaderName| {
            let value = fields.get(name)?.to_str().ok()?;
            (value.len() <= FIELDS_BYTES_MAX).then(|| value.trim().to_owned())
        };
        let mut record = Self {
            path: path.into(),
            len,
            etag: text(&ETAG),
            last_modified: text(&LAST_MODIFIED),
            fields: passed_on(fields),
            tags: tags(fields),
            asked: millis(asked),
            came: millis(came),
            freshness,
            version: 0,
        };
        record.version = record.version_of(hash, salt);
        record
    }

    fn version_of(&self, hash: u128, salt: u64) -> u128 {
        let salt = if self.has_validator() { 0 } else { salt };
        let (etag, date) = (self.etag.as_deref(), self.last_modified.as_deref());
        let parts: [&[u8]; 6] = [
            &hash.to_le_bytes(),
            &self.len.to_le_bytes(),
            &salt.to_le_bytes(),
            etag.unwrap_or_default().as_bytes(),
            b"\0",
            date.unwrap_or_default().as_bytes(),
        ];
        xxh3_128(&parts.concat())
    }

    /// Whether a later response can be told to be of the same version.
    pub(crate) fn has_validator(&self) -> bool {
        self.etag.is_some() || self.last_modified.is_some()
    }

    /// The entity tag for If-Match, which compares strongly (RFC 9110, section 13.1.1).
    pub(crate) fn strong_etag(&self) -> Option<&str> {
        let etag = self.etag.as_deref()?;
        (etag.starts_with('"') && etag.len() > 1 && etag.ends_with('"')).then_some(etag)
    }

    /// Whether a response with these fields is of the same version: what it says of it agrees.
    /// RGW's 304 and others leave some out.
    pub(crate) fn agrees(&self, fields: &HeaderMap) -> bool {
        let same = |name: &HeaderName, known: Option<&str>| match (fields.get(name), known) {
            (Some(value), Some(known)) => value.as_bytes().trim_ascii() == known.as_bytes(),
            _ => true,
        };
        same(&ETAG, self.etag.as_deref()) && same(&LAST_MODIFIED, self.last_modified.as_deref())
    }

    /// After a 304 with these fields: what it says anew replaces what was known (RFC 9111, section
    /// 4.3.4).
    pub(crate) fn freshen(
        &self,
        fields: &HeaderMap,
        freshness: Freshness,
        (asked, came): (SystemTime, SystemTime),
    ) -> Self {
        let mut record = self.clone();
        for (name, value) in passed_on(fields) {
            // They describe the content, which did not come.
            if !name.starts_with("content-") {
                record.fields.retain(|(known, _)| *known != name);
                record.fields.push((name, value));
            }
        }
        let tags = tags(fields);
        if !tags.is_empty() {
            record.tags = tags;
        }
        (record.asked, record.came) = (millis(asked), millis(came));
        record.freshness = freshness;
        record
    }

    /// How long ago it came. If it comes from the future, the clock was set back, and nobody knows: it
    /// counts as just stale, since it would be trusted for as much longer otherwise.
    pub(crate) fn since(&self, now: SystemTime) -> Duration {
        let now = millis(now);
        if self.came > now + SET_BACK_LEAST {
            return self.freshness.fresh_for();
        }
        Duration::from_millis(now.saturating_sub(self.came))
    }

    /// The value of a field that goes on to clients.
    pub(crate) fn field(&self, name: &HeaderName) -> Option<&str> {
        let mut fields = self.fields.iter();
        let (_, value) = fields.find(|(known, _)| known == name.as_str())?;
        Some(value)
    }

    /// As stored.
    pub(crate) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// What [`Record::encode`] made; `None` for anything else, such as a record of another version
    /// of the server.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

fn passed_on(fields: &HeaderMap) -> Vec<(String, String)> {
    let mut room = FIELDS_BYTES_MAX;
    let mut kept = Vec::new();
    for name in &PASSED_ON {
        let values = fields.get_all(name).into_iter();
        let values: Vec<&str> = values.filter_map(|value| value.to_str().ok()).collect();
        let value = values.join(", ");
        if !values.is_empty() && value.len() <= room {
            room -= value.len();
            kept.push((name.as_str().to_owned(), value));
        }
    }
    kept
}

/// The tags that a response has for purges.
pub(crate) fn tags(fields: &HeaderMap) -> Vec<String> {
    let mut tags = Vec::new();
    for name in &TAGS {
        let values = fields.get_all(name).into_iter();
        let values = values.filter_map(|value| value.to_str().ok());
        let values = values.flat_map(|value| value.split([' ', ',']));
        let values = values.filter(|tag| !tag.is_empty() && tag.len() <= 1024);
        tags.extend(values.map(str::to_owned));
    }
    tags.truncate(TAGS_MAX);
    tags
}

/// Milliseconds since 1970.
pub(crate) fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(lines: &[(&str, &str)]) -> HeaderMap {
        let parse = |(name, value): &(&str, &str)| {
            let name: HeaderName = name.parse().unwrap();
            (name, value.parse().unwrap())
        };
        lines.iter().map(parse).collect()
    }

    fn record(lines: &[(&str, &str)], salt: u64) -> Record {
        let times = (SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH);
        Record::new(
            (b"/a", 7),
            10,
            &fields(lines),
            Freshness::default(),
            times,
            salt,
        )
    }

    #[test]
    fn what_is_stored_comes_back() {
        let lines = [
            ("etag", "\"x\""),
            ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
            ("content-type", "text/css"),
            ("set-cookie", "secret"),
            ("surrogate-key", "a b"),
            ("cache-tag", "c,d"),
        ];
        let record = record(&lines, 1);
        assert_eq!(Record::decode(&record.encode()), Some(record.clone()));
        assert_eq!(
            record.fields,
            [("content-type".to_owned(), "text/css".to_owned())]
        );
        assert_eq!(record.tags, ["a", "b", "c", "d"]);
        assert_eq!(Record::decode(b"{}"), None);
        assert_eq!(Record::decode(b""), None);
    }

    #[test]
    fn a_version_is_told_by_its_validators() {
        let tag = |tag| record(&[("etag", tag)], 1).version;
        assert_eq!(tag("\"x\""), record(&[("etag", "\"x\"")], 2).version);
        assert_ne!(tag("\"x\""), tag("\"y\""));
        assert_ne!(
            record(&[], 1).version,
            record(&[], 2).version,
            "without one it is told by none"
        );
        let table = [
            ("\"x\"", Some("\"x\"")),
            ("W/\"x\"", None),
            ("x", None),
            ("\"", None),
        ];
        for (tag, strong) in table {
            assert_eq!(record(&[("etag", tag)], 1).strong_etag(), strong, "{tag}");
        }
    }

    #[test]
    fn a_response_agrees_unless_it_says_otherwise() {
        let record = record(&[("etag", "\"x\""), ("last-modified", "then")], 1);
        assert!(record.agrees(&fields(&[("etag", "\"x\"")])));
        assert!(record.agrees(&fields(&[])));
        assert!(!record.agrees(&fields(&[("etag", "\"y\"")])));
        assert!(!record.agrees(&fields(&[("etag", "\"x\""), ("last-modified", "now")])));
    }

    #[test]
    fn a_clock_that_is_set_back_makes_nothing_fresh_for_longer() {
        let mut record = record(&[], 1);
        record.came = 100_000_000;
        record.freshness.lifetime = 60;
        let since = |at: u64| record.since(SystemTime::UNIX_EPOCH + Duration::from_millis(at));
        assert_eq!(since(100_007_000), Duration::from_secs(7));
        assert_eq!(since(99_999_000), Duration::ZERO, "a correction");
        assert_eq!(since(90_000_000), Duration::from_mins(1), "just stale");
    }

    #[test]
    fn a_304_updates_what_it_says() {
        let known = record(
            &[
                ("etag", "\"x\""),
                ("cache-control", "max-age=1"),
                ("link", "l"),
            ],
            1,
        );
        let lines = [
            ("cache-control", "max-age=2"),
            ("content-type", "text/plain"),
        ];
        let later = SystemTime::UNIX_EPOCH + Duration::from_secs(5);
        let next = known.freshen(&fields(&lines), Freshness::default(), (later, later));
        assert_eq!(next.field(&CACHE_CONTROL), Some("max-age=2"));
        assert_eq!(next.field(&LINK), Some("l"));
        assert_eq!(
            next.field(&CONTENT_TYPE),
            None,
            "it describes content that did not come"
        );
        assert_eq!((next.version, next.came), (known.version, 5000));
    }
}
