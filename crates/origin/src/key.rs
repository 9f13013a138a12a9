//! What an object is called: its path, and the part of the query that belongs to the key.

use std::sync::Arc;

use tidegate_config::CacheKey;
use tidegate_http::ENCODED_SLASH;
use xxhash_rust::xxh3::xxh3_128;

/// The name of an object of one site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Decoded, with a leading slash.
    pub(crate) path: Arc<[u8]>,
    /// What is sent and told apart of the query.
    pub(crate) query: Option<Arc<str>>,
    /// Names it in the cache, with the site's origins.
    pub(crate) hash: u128,
}

impl Key {
    /// The key for `path`, decoded and without dot segments, and `query`. `site` tells the origins
    /// of sites apart.
    ///
    /// `None`: an origin might take the path for another one. Some decode `%2F` and resolve dot
    /// segments after that, and so would leave the prefix.
    pub fn new(site: u64, path: &[u8], query: Option<&str>, mode: &CacheKey) -> Option<Self> {
        let is_odd = |segment: &[u8]| matches!(segment, b"." | b"..");
        let has_odd = path.split(|byte| matches!(byte, b'/' | b'\\')).any(is_odd);
        if has_odd || path.contains(&0) || path.contains(&ENCODED_SLASH) {
            return None;
        }
        let query = selected(query, mode);
        // No path and no query has a zero byte.
        let text = [
            &site.to_le_bytes(),
            path,
            b"\0",
            query.as_deref().unwrap_or("\0").as_bytes(),
        ];
        Some(Self {
            hash: xxh3_128(&text.concat()),
            path: path.into(),
            query: query.map(Into::into),
        })
    }

    /// The name of the slice `number` of the version `version` of this object.
    pub(crate) fn slice(version: u128, number: u64) -> u128 {
        let mut text = [0; 24];
        text[..16].copy_from_slice(&version.to_le_bytes());
        text[16..].copy_from_slice(&number.to_le_bytes());
        xxh3_128(&text)
    }
}

/// The part of a query that belongs to the key, as it is sent.
pub(crate) fn selected(query: Option<&str>, mode: &CacheKey) -> Option<String> {
    let query = query.filter(|query| !query.is_empty())?;
    match mode {
        CacheKey::Query => Some(query.to_owned()),
        CacheKey::Path => None,
        CacheKey::Parameters(names) => {
            let name = |pair: &str| pair.split('=').next().unwrap_or(pair).to_owned();
            let pairs = query.split('&');
            let mut pairs: Vec<&str> = pairs.filter(|pair| names.contains(&name(pair))).collect();
            // Their order means nothing; that of equal names does.
            pairs.sort_by_key(|pair| name(pair));
            (!pairs.is_empty()).then(|| pairs.join("&"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_belongs_to_the_key_as_the_site_says() {
        let some = CacheKey::Parameters(vec!["v".into(), "lang".into()]);
        let table = [
            (Some("v=1&u=2"), &CacheKey::Query, Some("v=1&u=2")),
            (Some(""), &CacheKey::Query, None),
            (Some("v=1"), &CacheKey::Path, None),
            (Some("u=2&v=1"), &some, Some("v=1")),
            (Some("v=1&lang=de&u=3&v=2"), &some, Some("lang=de&v=1&v=2")),
            (Some("v"), &some, Some("v")),
            (Some("vv=1"), &some, None),
            (None, &some, None),
        ];
        for (query, mode, expected) in table {
            assert_eq!(selected(query, mode).as_deref(), expected, "{query:?}");
        }
    }

    #[test]
    fn another_object_has_another_key() {
        let key = |site, path: &[u8], query| Key::new(site, path, query, &CacheKey::Query);
        let hash = |site, path, query| key(site, path, query).unwrap().hash;
        let all = [
            hash(1, b"/a", None),
            hash(2, b"/a", None),
            hash(1, b"/b", None),
            hash(1, b"/a", Some("v")),
            hash(1, b"/av", None),
        ];
        for (index, one) in all.iter().enumerate() {
            assert!(!all[..index].contains(one), "{index}");
        }
        assert_ne!(Key::slice(all[0], 0), Key::slice(all[0], 1));
        assert_ne!(Key::slice(all[0], 0), Key::slice(all[1], 0));
    }

    #[test]
    fn no_path_leaves_the_prefix() {
        let paths: [&[u8]; 6] = [
            b"/../a",
            b"/a/..",
            b"/./a",
            b"/a\\..\\b",
            b"/a\0",
            b"/a/../b",
        ];
        for path in paths {
            assert_eq!(Key::new(1, path, None, &CacheKey::Query), None, "{path:?}");
        }
        let slash = [b"/a", &[ENCODED_SLASH][..], b"b"].concat();
        assert_eq!(Key::new(1, &slash, None, &CacheKey::Query), None);
        for path in [&b"//a"[..], b"/a//b", b"/...", b"/a..b"] {
            assert!(
                Key::new(1, path, None, &CacheKey::Query).is_some(),
                "{path:?}"
            );
        }
    }
}
