//! tidegate's configuration: from TOML text to [`Settings`] every part can rely on.
//!
//! The text takes five steps, each with its own file:
//!
//! 1. `document` parses it;
//! 2. `shape` compares it with the known keys and their types, with `foreign` for keys of other
//!    servers and `wrong_type` for values;
//! 3. `raw` holds the values as typed, each with its place in the text;
//! 4. `check` turns them into [`Settings`], with the rules of `rules`;
//! 5. `error` says all that is wrong as `FILE:LINE: KEY: REASON`, in text that is safe to print
//!    (`shown`).
//!
//! `units` reads and writes durations, sizes and core lists, `glob` patterns for paths, `target`
//! where redirects lead, `example` makes paths that a pattern matches. Apart from [`Source::read`]
//! nothing here touches the system: a [`Settings`] is a plain value, and whether its roots exist is
//! for others to find out.
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

mod check;
mod document;
mod error;
mod example;
mod foreign;
mod glob;
mod mistaken_regex;
mod mistaken_syntax;
mod place;
mod raw;
mod rules;
mod settings;
mod shape;
mod shown;
mod site;
mod source;
mod target;
mod units;
mod wrong_type;

pub use error::{Error, Problem, ValueError};
pub use glob::Glob;
pub use place::Place;
pub use settings::{
    Admin, Cache, CertificateFiles, ClientAuth, Io, Ktls, Limits, Listen, MissingCertificates,
    Server, Settings, Steering, Timeouts, Tls, TlsVersion,
};
pub use shown::{shown, visible};
pub use site::{
    CachePreset, CompressedOnly, Cors, EtagSource, HeaderRule, HiddenFiles, HiddenName, Mount,
    Redirect, Respond, Site, Symlinks,
};
pub use source::Source;
pub use units::Cores;
