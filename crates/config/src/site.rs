//! The checked configuration of a site, with every default filled in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::ser::{Serialize, Serializer};
use tidegate_http::{Coding, EncodedSlash, Status};

use crate::{
    Access, AccessLog, Auth, CacheKey, CacheRule, Glob, Origin, Pace, Signed, ValueError, units,
};

/// `[[site]]`
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Site {
    /// Host names in lower case, without port and final dot: exact names, `*.example.org` for all
    /// names below it, IPv6 addresses in brackets. Unique among the sites. At most one site has
    /// none: the default.
    pub names: Vec<String>,
    /// The directory that is served. Not empty; whether it exists is not checked here. A site
    /// without a root has origins, mounts, respond rules or redirects.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "lossy_path_or_none"
    )]
    pub root: Option<PathBuf>,
    /// File names tried in this order for a directory.
    pub index: Vec<String>,
    /// Whether a directory without an index file is listed.
    pub directory_listing: bool,
    /// Which names that begin with a dot are served. `.well-known` always is (RFC 8615).
    pub hidden_files: HiddenFiles,
    /// How `%2F` in a path is read.
    #[serde(serialize_with = "encoded_slash")]
    pub encoded_slash: EncodedSlash,
    /// Which symbolic links are followed.
    pub symlinks: Symlinks,
    /// What entity tags are derived from.
    pub etag: EtagSource,
    /// Codings of the precompressed variants to look for, the preferred one first; none twice.
    #[serde(serialize_with = "codings")]
    pub precompressed: Vec<Coding>,
    /// How a file is served that exists only as a precompressed variant.
    pub compressed_only: CompressedOnly,
    /// Files that are sent with the content coding of their extension, such as `a.svgz`.
    pub content_encoded: Vec<Glob>,
    /// Paths to try in this order; at least one. Each begins with `/` or with `$path`, the
    /// requested path. One that ends in `/` names a directory.
    pub try_files: Vec<String>,
    /// The file that is sent for navigations to a path where nothing is found; begins with `/`.
    #[serde(serialize_with = "empty_if_none")]
    pub spa_fallback: Option<String>,
    /// The charset parameter that text types get; empty: none.
    pub charset: String,
    /// The MIME type of files without a known extension.
    pub default_type: String,
    /// The body files of errors, by status; each begins with `/`.
    #[serde(serialize_with = "text_keys")]
    pub error_pages: BTreeMap<Status, String>,
    /// MIME types by extension (lower case, without a dot). They override the built-in ones.
    pub mime_types: BTreeMap<String, String>,
    /// `site.origin`: the hosts that are asked for what no directory has; the first is the primary,
    /// the others are asked if it fails.
    #[serde(rename = "origin")]
    pub origins: Vec<Origin>,
    /// What of a request names an object of the origins, besides the path.
    pub cache_key: CacheKey,
    /// `[[site.cache]]`: the first rule that matches overrides what the origin says. None without
    /// origins.
    #[serde(rename = "cache")]
    pub cache_rules: Vec<CacheRule>,
    /// `[[site.mount]]`: further directories. The longest `at` that contains a path wins; no two
    /// are equal.
    #[serde(rename = "mount")]
    pub mounts: Vec<Mount>,
    /// `[[site.headers]]`: all rules that match apply; later ones win.
    pub headers: Vec<HeaderRule>,
    /// `[[site.access]]`: the first rule for a path that names the client decides.
    pub access: Vec<Access>,
    /// `[[site.auth]]`: the first rule that matches demands a password.
    pub auth: Vec<Auth>,
    /// `[[site.signed]]`: the first rule that matches demands a signature.
    pub signed: Vec<Signed>,
    /// `[[site.pace]]`: the first rule that matches limits the rate.
    pub pace: Vec<Pace>,
    /// `[[site.respond]]`: the first rule that matches answers, before the redirects.
    pub respond: Vec<Respond>,
    /// `[[site.redirects]]`: the first rule that matches applies.
    pub redirects: Vec<Redirect>,
    /// `[site.cors]`: other origins whose scripts may read this site.
    pub cors: Cors,
    /// `[site.limits]`: how much clients may ask of it, beside `[limits]`.
    pub limits: SiteLimits,
    /// `[site.access-log]`: the log of its requests.
    pub access_log: AccessLog,
}

/// `[site.limits]`: requests of a site, on all cores together.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct SiteLimits {
    /// Those of one client in a second, 0.001 to 100000; zero: no limit.
    pub request_rate_per_ip: f64,
    /// Those of one client at once, at least 1, and at most those of a day.
    pub request_burst_per_ip: u32,
    /// Those of all clients in a second, 0.001 to 100000; zero: no limit.
    pub request_rate: f64,
    /// Those of all clients at once, at most those of a day; zero: as many as in a second.
    pub request_burst: u32,
}

impl SiteLimits {
    /// Whether there is none.
    pub fn are_off(&self) -> bool {
        self.request_rate_per_ip <= 0.0 && self.request_rate <= 0.0
    }
}

impl Default for SiteLimits {
    fn default() -> Self {
        Self {
            request_rate_per_ip: 0.0,
            request_burst_per_ip: 100,
            request_rate: 0.0,
            request_burst: 0,
        }
    }
}

/// Which names that begin with a dot are served.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum HiddenFiles {
    /// `false`, or no names.
    #[default]
    None,
    /// `true`
    All,
    /// Names that one of these patterns matches; at least one. Files in such a directory are
    /// served, too, unless they are hidden themselves.
    Named(Vec<HiddenName>),
}

/// A pattern for names that begin with a dot: `.treeinfo`, `.z*`.
#[derive(Clone, Debug, PartialEq)]
pub struct HiddenName(
    /// For a slash and the name.
    Glob,
);

impl FromStr for HiddenName {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let shown = text.escape_debug();
        if !text.starts_with('.') {
            return Err(ValueError::new(format!(
                "`{shown}` does not begin with a dot: names that do not are served anyway"
            )));
        }
        if text.contains('/') || matches!(text, "." | "..") {
            return Err(ValueError::new(format!(
                "`{shown}` is no name of one file or directory: write it without its directory"
            )));
        }
        // Not `Glob::new`, which takes `.*` for a regular expression: here it is any hidden name.
        Ok(Self(Glob::translate(&format!("/{text}"), false)?))
    }
}

impl HiddenFiles {
    /// Whether the file or directory `name`, which begins with a dot, is served.
    pub fn serves(&self, name: &[u8]) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Named(patterns) => {
                let path = [b"/", name].concat();
                patterns.iter().any(|pattern| pattern.0.is_match(&path))
            }
        }
    }
}

impl Serialize for HiddenFiles {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::None => to.serialize_bool(false),
            Self::All => to.serialize_bool(true),
            Self::Named(names) => to.collect_seq(names.iter().map(|name| &name.0.as_str()[1..])),
        }
    }
}

/// Which symbolic links are followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Symlinks {
    /// Links whose target lies below the root.
    #[default]
    Beneath,
    /// None.
    Never,
    /// All, wherever they point.
    Follow,
}

/// What entity tags are derived from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EtagSource {
    /// The modification time and the length; the content where a tool may have set that time.
    #[default]
    Mtime,
    /// The content of every file. No Last-Modified is sent.
    Content,
}

/// How a file is served that exists only as a precompressed variant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CompressedOnly {
    /// Not at all: 404.
    #[default]
    Off,
    /// Decompressed, for clients that accept none of its codings.
    Decompress,
    /// With 406, for clients that accept none of its codings.
    Refuse,
}

/// `[[site.mount]]`: a directory that serves the paths below `at`.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Mount {
    /// The path, percent-decoded: `/static` covers itself and all paths below it. Begins with `/`,
    /// is not `/` alone and does not end in one.
    pub at: String,
    /// The directory; see [`Site::root`].
    #[serde(serialize_with = "lossy_path")]
    pub root: PathBuf,
}

/// `[[site.headers]]`: header fields for some paths.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct HeaderRule {
    /// The paths.
    #[serde(rename = "match")]
    pub pattern: Glob,
    /// Whether the pattern ignores case.
    pub ignore_case: bool,
    /// A preset for Cache-Control; excludes Cache-Control in `set`.
    #[serde(serialize_with = "empty_if_none")]
    pub cache: Option<CachePreset>,
    /// Names, as typed, and values; an empty value removes the field that an earlier rule set. `$1`
    /// to `$9` stand for captures of the pattern, percent-encoded, and `$$` for a dollar sign. No
    /// name is there twice, and none that the server sets itself, such as Date.
    #[serde(serialize_with = "pairs")]
    pub set: Vec<(String, String)>,
}

/// How long caches may keep a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CachePreset {
    /// For a year without revalidation: for names that change with the content.
    Immutable,
    /// With revalidation before each use.
    Revalidate,
    /// Not at all.
    None,
}

/// `[[site.respond]]`: answers some paths with a status.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Respond {
    /// The paths.
    #[serde(rename = "match")]
    pub pattern: Glob,
    /// Exceptions from `pattern`.
    pub except: Vec<Glob>,
    /// Whether all these patterns ignore case.
    pub ignore_case: bool,
    /// 200, 204 or one of the errors that a rule may answer.
    #[serde(serialize_with = "status")]
    pub status: Status,
    /// Retry-After in whole seconds; only with 429 and 503.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "period")]
    pub retry_after: Option<Duration>,
    /// The body file; begins with `/`. `None`: the page of `error_pages`, or else a line of text.
    /// Always `None` with 204.
    #[serde(serialize_with = "empty_if_none")]
    pub page: Option<String>,
}

/// `[[site.redirects]]`: sends some paths to another address.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Redirect {
    /// The paths.
    pub from: Glob,
    /// Whether `from` ignores case.
    pub ignore_case: bool,
    /// A path or an http(s) URL, percent-encoded. `$1` to `$9` stand for captures of `from`, after
    /// the host only; it has no other `$`.
    pub to: String,
    /// 301, 302, 303, 307 or 308.
    #[serde(serialize_with = "status")]
    pub status: Status,
}

/// `[site.cors]`
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Cors {
    /// The origins, as browsers write them, or `*` alone; none turns CORS off.
    pub origins: Vec<String>,
    /// How long a browser may cache the response to a preflight; zero: not at all.
    #[serde(serialize_with = "units::duration")]
    pub max_age: Duration,
}

impl HeaderRule {
    /// Names and values of all fields: Cache-Control if `cache` sets it, then those of `set`.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        let preset = self.cache.map(|preset| ("Cache-Control", preset.value()));
        let set = self.set.iter();
        let set = set.map(|(name, value)| (name.as_str(), value.as_str()));
        preset.into_iter().chain(set)
    }
}

impl Respond {
    /// Whether the rule answers `path`, percent-decoded: `pattern` matches and no exception does.
    pub fn applies_to(&self, path: &[u8]) -> bool {
        self.pattern.is_match(path) && !self.except.iter().any(|except| except.is_match(path))
    }
}

impl Site {
    /// The defaults, serving `root`.
    #[must_use]
    pub fn for_directory(root: PathBuf) -> Self {
        Self {
            root: Some(root),
            ..Self::default()
        }
    }

    /// Whether some client may not have some path. The same file may not be sent for another path
    /// then, either.
    pub fn is_restricted(&self) -> bool {
        !(self.access.is_empty() && self.auth.is_empty() && self.signed.is_empty())
    }

    /// Every directory of the site, with the path that it is mounted at: empty for the root.
    pub fn directories(&self) -> impl Iterator<Item = (&str, &Path)> {
        let mounts = self.mounts.iter();
        let mounts = mounts.map(|mount| (mount.at.as_str(), mount.root.as_path()));
        mounts.chain(self.root.iter().map(|root| ("", root.as_path())))
    }
}

impl CachePreset {
    /// The value of Cache-Control (RFC 9111, section 5.2.2; RFC 8246).
    pub fn value(self) -> &'static str {
        match self {
            Self::Immutable => "public, max-age=31536000, immutable",
            Self::Revalidate => "no-cache",
            Self::None => "no-store",
        }
    }
}

impl Default for Site {
    /// Serves the working directory.
    fn default() -> Self {
        Self {
            names: Vec::new(),
            root: Some(PathBuf::from(".")),
            index: vec!["index.html".to_owned()],
            directory_listing: false,
            hidden_files: HiddenFiles::None,
            encoded_slash: EncodedSlash::default(),
            symlinks: Symlinks::default(),
            etag: EtagSource::default(),
            precompressed: Coding::ALL.to_vec(),
            compressed_only: CompressedOnly::default(),
            content_encoded: Vec::new(),
            try_files: vec!["$path".to_owned(), "$path/".to_owned()],
            spa_fallback: None,
            charset: "utf-8".to_owned(),
            default_type: "application/octet-stream".to_owned(),
            error_pages: BTreeMap::new(),
            mime_types: BTreeMap::new(),
            origins: Vec::new(),
            cache_key: CacheKey::default(),
            cache_rules: Vec::new(),
            mounts: Vec::new(),
            headers: Vec::new(),
            access: Vec::new(),
            auth: Vec::new(),
            signed: Vec::new(),
            pace: Vec::new(),
            respond: Vec::new(),
            redirects: Vec::new(),
            cors: Cors::default(),
            limits: SiteLimits::default(),
            access_log: AccessLog::default(),
        }
    }
}

impl Default for Cors {
    fn default() -> Self {
        Self {
            origins: Vec::new(),
            max_age: Duration::from_hours(1),
        }
    }
}

fn lossy_path<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&path.to_string_lossy())
}

#[expect(
    clippy::ref_option,
    reason = "serde calls it with a reference to the field"
)]
fn lossy_path_or_none<S: Serializer>(path: &Option<PathBuf>, to: S) -> Result<S::Ok, S::Error> {
    lossy_path(path.as_deref().unwrap_or(Path::new("")), to)
}

#[expect(
    clippy::ref_option,
    reason = "serde calls it with a reference to the field"
)]
fn empty_if_none<T: Serialize, S: Serializer>(value: &Option<T>, to: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => value.serialize(to),
        None => to.serialize_str(""),
    }
}

#[expect(
    clippy::ref_option,
    reason = "serde calls it with a reference to the field"
)]
fn period<S: Serializer>(value: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    units::duration(&value.unwrap_or_default(), to)
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference to the field"
)]
fn encoded_slash<S: Serializer>(slash: &EncodedSlash, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(match slash {
        EncodedSlash::Literal => "literal",
        EncodedSlash::Decode => "decode",
    })
}

fn codings<S: Serializer>(codings: &[Coding], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(codings.iter().map(|coding| coding.token()))
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference to the field"
)]
fn status<S: Serializer>(status: &Status, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u16(status.code())
}

/// TOML keys are strings.
fn text_keys<S: Serializer>(pages: &BTreeMap<Status, String>, to: S) -> Result<S::Ok, S::Error> {
    let pages = pages.iter();
    to.collect_map(pages.map(|(status, page)| (status.code().to_string(), page)))
}

fn pairs<S: Serializer>(pairs: &[(String, String)], to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(pairs.iter().map(|(name, value)| (name, value)))
}
