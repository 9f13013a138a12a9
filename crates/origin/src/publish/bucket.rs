//! Where objects go: a bucket, and the URL that requests for it have.

use std::str::FromStr;

use http::Uri;
use tidegate_config::{OriginUrl, S3Style};

use crate::s3::sign::encode_key;

/// `s3://BUCKET/PREFIX`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Letters, digits, dots, hyphens and underscores.
    pub bucket: String,
    /// What the keys begin with, without the slash that follows; empty: nothing. Not encoded.
    pub prefix: String,
}

impl FromStr for Destination {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix("s3://") else {
            return Err("write s3://BUCKET or s3://BUCKET/PREFIX".to_owned());
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        if bucket.is_empty() || !bucket.bytes().all(is_plain) {
            let reason = "a bucket has letters, digits, dots, hyphens and underscores";
            return Err(format!("{reason}: write s3://BUCKET/PREFIX"));
        }
        let prefix = prefix.trim_end_matches('/');
        let is_odd = |part| matches!(part, "" | "." | "..");
        if !prefix.is_empty() && prefix.split('/').any(is_odd) {
            return Err("a prefix has no empty part, and none that is . or ..".to_owned());
        }
        Ok(Self {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
        })
    }
}

impl Destination {
    /// What every key begins with.
    pub(super) fn key_prefix(&self) -> String {
        if self.prefix.is_empty() {
            String::new()
        } else {
            format!("{}/", self.prefix)
        }
    }
}

/// The URL of a bucket.
pub(super) struct Bucket(OriginUrl);

impl Bucket {
    pub(super) fn new(name: &str, endpoint: &OriginUrl, style: S3Style) -> Self {
        let mut url = endpoint.clone();
        match style {
            S3Style::Path => url.path = format!("{}/{name}", url.path),
            S3Style::VirtualHost => url.host = format!("{name}.{}", url.host),
        }
        Self(url)
    }

    /// The URL as it is shown.
    pub(super) fn url(&self) -> &OriginUrl {
        &self.0
    }

    /// The target of a request for a key, or for the bucket if that is empty.
    pub(super) fn target(&self, key: &str, query: &str) -> Result<Uri, http::uri::InvalidUri> {
        let mark = if query.is_empty() { "" } else { "?" };
        let key = encode_key(key.as_bytes());
        format!("{}/{key}{mark}{query}", self.0).parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_a_bucket_and_a_prefix() {
        for (text, expected) in [
            ("s3://b", Some(("b", ""))),
            ("s3://b/", Some(("b", ""))),
            ("s3://b-1.x_y/www/v1/", Some(("b-1.x_y", "www/v1"))),
            ("s3://b/a b%", Some(("b", "a b%"))),
            ("b/www", None),
            ("https://b/www", None),
            ("s3://", None),
            ("s3:///www", None),
            ("s3://b@c/www", None),
            ("s3://b//www", None),
            ("s3://b/../www", None),
        ] {
            let parsed = text.parse::<Destination>().ok();
            let parsed = parsed
                .as_ref()
                .map(|to| (to.bucket.as_str(), to.prefix.as_str()));
            assert_eq!(parsed, expected, "{text}");
        }
    }

    #[test]
    fn a_bucket_is_in_the_path_or_in_the_host() {
        for (style, expected) in [
            (S3Style::Path, "http://h:9000/x/b/a%20%25/%C3%A4?uploads="),
            (
                S3Style::VirtualHost,
                "http://b.h:9000/x/a%20%25/%C3%A4?uploads=",
            ),
        ] {
            let endpoint = "http://h:9000/x/".parse().unwrap();
            let bucket = Bucket::new("b", &endpoint, style);
            let target = bucket.target("a %/\u{e4}", "uploads=").unwrap();
            assert_eq!(target.to_string(), expected);
        }
    }
}
