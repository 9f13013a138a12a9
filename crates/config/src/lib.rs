//! tidegate's configuration: TOML text is parsed and checked into [`Settings`].
//!
//! Five steps, each in its own module:
//!
//! 1. `include` adds the files that a file names, `text` lays them end to end, and `document` parses
//!    them; `environment` expands variables, `parts` joins the files.
//! 2. `shape` compares it with the known keys and their types. `foreign` knows keys of other
//!    servers, `wrong_type` explains values.
//! 3. `raw` holds the values as typed, each with its place in the text.
//! 4. `check` turns them into [`Settings`]; `rules` validates single values.
//! 5. `error` reports every problem as `FILE:LINE: KEY: REASON`, in text that is safe to print
//!    (`shown`).
//!
//! `access_log` compiles the formats of log lines.
//! `units` reads and writes durations, sizes and core lists. `glob` compiles path patterns and
//! `example` makes paths that match one. `target` checks where redirects lead, `redirect_loop` that
//! they end. `site_names` chooses the site for a host.
//!
//! Only [`Source`] touches the system: [`Source::read`] reads files, [`Source::settings`] variables of
//! the environment. A [`Settings`] is a plain value without interior
//! state: it can be compared, shared between threads and replaced as a whole. Whether its roots
//! exist is checked elsewhere.
//!
//! ```
//! use std::path::Path;
//! use tidegate_config::{Error, Settings};
//!
//! let text = "[[site]]\nroot = 'www'\n\n[limits]\nheader-byte = '16k'\n";
//! let error = Settings::parse(text, Path::new("/etc/tidegate.toml")).unwrap_err();
//! assert_eq!(
//!     error.to_string(),
//!     "/etc/tidegate.toml:5: limits.header-byte: \
//!      unknown key; did you mean `limits.header-bytes`?"
//! );
//! ```

mod access;
mod access_log;
mod check;
mod document;
mod environment;
mod error;
mod example;
mod fleet;
mod foreign;
mod glob;
mod http2;
mod include;
mod mistaken_regex;
mod mistaken_syntax;
mod origin;
mod parts;
mod place;
mod raw;
mod redirect_loop;
mod restart;
mod rules;
mod settings;
mod shape;
mod shown;
mod site;
mod site_names;
mod source;
mod target;
mod text;
mod units;
mod wrong_type;

pub use access::{Access, Auth, Clients, KeyPlace, Pace, Paths, Signed, network};
pub use access_log::{
    AccessLog, Escape, FormatPart, LogFormat, LogTarget, REQUEST_FIELDS_MAX, StatusPattern,
    Variable,
};
pub use error::{Error, Problem, ValueError};
pub use fleet::Fleet;
pub use glob::Glob;
pub use http2::{Http2, Protocols};
pub use origin::{CacheKey, CacheRule, Credentials, Origin, OriginKind, OriginUrl, S3Style, Ttl};
pub use place::Place;
pub use restart::NeedsRestart;
pub use settings::{
    Admin, Cache, CertificateFiles, ClientAuth, DiskCache, ForwardedHeader, Io, Ktls, Limits,
    Listen, MissingCertificates, Proxies, ProxyProtocol, Sandbox, Server, Settings, Steering,
    Timeouts, Tls, TlsVersion,
};
pub use shown::{shown, visible};
pub use site::{
    CachePreset, CompressedOnly, Cors, EtagSource, HeaderRule, HiddenFiles, HiddenName, Mount,
    Redirect, Respond, Site, SiteLimits, Symlinks,
};
pub use site_names::SiteNames;
pub use source::Source;
pub use units::Cores;
