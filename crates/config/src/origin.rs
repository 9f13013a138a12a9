//! The origins of a site: other hosts that have its objects, and how long these are kept.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::{Paths, units};

/// `site.origin`: a host whose objects the site serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// How it is asked.
    pub kind: OriginKind,
    /// Where the paths of the site begin there.
    pub url: OriginUrl,
    /// PEM file of the authorities that its certificate is checked against; `None`: those of the
    /// system. Always `None` without https.
    pub ca: Option<PathBuf>,
    /// How long a connection may take, with its handshake; not zero.
    pub connect_timeout: Duration,
    /// From the end of a request to the first byte of its response; not zero.
    pub first_byte_timeout: Duration,
    /// How long a body may make no progress; not zero.
    pub stall_timeout: Duration,
    /// Requests in progress at a time, 1 to 4096.
    pub connections: usize,
    /// How long a 404 or 403 is remembered, at most an hour; zero: not at all.
    pub negative: Duration,
    /// A path below that of the URL, percent-encoded, which begins with `/`. It is asked for while
    /// the origin is down; `None`: only the requests of clients tell whether it is up again.
    pub health: Option<String>,
}

/// How an origin is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OriginKind {
    /// With requests of S3's API.
    S3 {
        /// The region that requests are signed for; not empty.
        region: String,
        /// Where the bucket is named.
        style: S3Style,
        /// The profile of the credentials in the shared files of AWS; `None`: the default one.
        /// Always `None` without credentials.
        profile: Option<String>,
        /// Whether requests are signed.
        credentials: Credentials,
    },
    /// With plain requests of HTTP.
    Http {
        /// The field Host, `HOST` or `HOST:PORT`; `None`: that of the URL.
        host: Option<String>,
    },
}

/// Where the URL of an S3 store names the bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum S3Style {
    /// In the first segment of the path.
    #[default]
    Path,
    /// In the host. All of the path is a prefix of keys.
    VirtualHost,
}

/// Whether requests to an S3 store are signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Credentials {
    /// With the credentials that AWS's tools would find.
    #[default]
    Auto,
    /// They are not: the bucket is public.
    None,
}

/// An absolute URL without user, query and fragment (RFC 3986, section 4.3). `Display` leaves the
/// default port out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OriginUrl {
    /// Whether it is https, not http.
    pub is_https: bool,
    /// A host name in lower case, an IPv4 address, or an IPv6 address in brackets.
    pub host: String,
    /// Not zero.
    pub port: u16,
    /// Percent-encoded; empty, or it begins with `/` and does not end in one. It has no dot
    /// segments. With [`S3Style::Path`] its first segment is the bucket.
    pub path: String,
}

/// `site.cache-key`: what of a request names an object of an origin, besides the path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CacheKey {
    /// The whole query.
    #[default]
    Query,
    /// Nothing. The origin gets no query.
    Path,
    /// These parameters of the query, percent-encoded; at least one, none twice. The origin gets
    /// no others.
    Parameters(Vec<String>),
}

/// `[[site.cache]]`: how long objects of an origin are kept, whatever it says itself.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct CacheRule {
    /// The paths.
    #[serde(flatten)]
    pub paths: Paths,
    /// `None`: as the origin says. At least one of these three is `Some`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Ttl>,
    /// How long after that an object is sent while it is validated (RFC 5861, section 3), at most
    /// 365 days; `None`: as the origin says. Always `None` with [`Ttl::Off`].
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "long_duration"
    )]
    pub stale_while_revalidate: Option<Duration>,
    /// How long after that an object is sent if the origin fails (RFC 5861, section 4), at most
    /// 365 days; `None`: as the origin says. Always `None` with [`Ttl::Off`].
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "long_duration"
    )]
    pub stale_if_error: Option<Duration>,
}

/// The freshness lifetime that a rule gives (RFC 9111, section 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    /// Objects are not stored.
    Off,
    /// At most 365 days; zero: objects are stored, and validated before each use.
    For(Duration),
}

impl OriginUrl {
    /// The port that is left out of a URL with this scheme.
    pub(crate) fn default_port(is_https: bool) -> u16 {
        if is_https { 443 } else { 80 }
    }
}

impl fmt::Display for OriginUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_https { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.host)?;
        if self.port != Self::default_port(self.is_https) {
            write!(f, ":{}", self.port)?;
        }
        f.write_str(&self.path)
    }
}

impl Serialize for OriginUrl {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl Serialize for Origin {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let period = |value: Duration| units::format_duration(value);
        let mut map = to.serialize_map(None)?;
        match &self.kind {
            OriginKind::S3 {
                region,
                style,
                profile,
                credentials,
            } => {
                map.serialize_entry("s3", &self.url)?;
                map.serialize_entry("region", region)?;
                map.serialize_entry("style", style)?;
                map.serialize_entry("profile", text(profile.as_ref()))?;
                map.serialize_entry("credentials", credentials)?;
            }
            OriginKind::Http { host } => {
                map.serialize_entry("http", &self.url)?;
                map.serialize_entry("host", text(host.as_ref()))?;
            }
        }
        let ca = self.ca.as_deref().unwrap_or(Path::new(""));
        map.serialize_entry("ca", &ca.to_string_lossy())?;
        map.serialize_entry("connect-timeout", &period(self.connect_timeout))?;
        map.serialize_entry("first-byte-timeout", &period(self.first_byte_timeout))?;
        map.serialize_entry("stall-timeout", &period(self.stall_timeout))?;
        map.serialize_entry("connections", &self.connections)?;
        map.serialize_entry("negative", &period(self.negative))?;
        map.serialize_entry("health", text(self.health.as_ref()))?;
        map.end()
    }
}

impl Serialize for CacheKey {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Query => to.serialize_str("query"),
            Self::Path => to.serialize_str("path"),
            Self::Parameters(names) => names.serialize(to),
        }
    }
}

impl Serialize for Ttl {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Off => to.serialize_str("off"),
            Self::For(time) => to.serialize_str(&units::format_long_duration(*time)),
        }
    }
}

/// As a file has it: empty for none.
fn text(value: Option<&String>) -> &str {
    value.map_or("", String::as_str)
}

#[expect(
    clippy::ref_option,
    reason = "serde calls it with a reference to the field"
)]
fn long_duration<S: Serializer>(value: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&units::format_long_duration(value.unwrap_or_default()))
}
