//! How sites are served, as plain values: whoever reads a configuration makes these of it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use regex::bytes::Regex;
use tidegate_http::{Coding, Cors, EncodedSlash, Status};

use crate::mime::Types;
use crate::single_flight::Times;

/// One site.
#[derive(Clone, Debug)]
pub struct SiteConfig {
    /// Host names in lower case, without port: exact, or `*.suffix` for any name below a suffix.
    /// Empty: the default site.
    pub names: Vec<String>,
    /// The directories. A path is looked for in the one with the longest `at` that it lies in; in
    /// none it is 404.
    pub mounts: Vec<Mount>,
    /// File names tried in order for a directory.
    pub index: Vec<String>,
    /// Whether a directory without an index is listed.
    pub directory_listing: bool,
    /// Which names that begin with a dot are served.
    pub hidden_files: HiddenFiles,
    /// What an encoded slash in a path is.
    pub encoded_slash: EncodedSlash,
    /// Which symbolic links are followed.
    pub symlinks: Symlinks,
    /// What entity tags are made of.
    pub etag: EtagSource,
    /// Codings whose variants are looked for beside a file, the preferred first.
    pub precompressed: Vec<Coding>,
    /// What becomes of files that are there in these codings alone.
    pub compressed_only: CompressedOnly,
    /// Paths of files that are sent with the coding that their names end in; anchored at both ends.
    pub content_encoded: Vec<Regex>,
    /// What is tried for a path, in order: `$path` stands for the path, a slash at the end for a
    /// directory.
    pub try_files: Vec<String>,
    /// The path of the file that answers navigations to paths that lead to nothing.
    pub spa_fallback: Option<String>,
    /// Media types.
    pub types: Types,
    /// Paths of the files that are sent with a status.
    pub error_pages: BTreeMap<u16, String>,
    /// All whose pattern matches apply, in order.
    pub headers: Vec<HeaderRule>,
    /// The first that is for a path answers it, before any file is looked for. Those that respond
    /// come first.
    pub rules: Vec<PathRule>,
    /// Which other origins may read this site.
    pub cors: Cors,
}

impl SiteConfig {
    /// The default site: `root` with all defaults.
    pub fn of(root: PathBuf) -> Self {
        Self {
            names: Vec::new(),
            mounts: vec![Mount {
                at: String::new(),
                root,
            }],
            index: vec!["index.html".to_owned()],
            directory_listing: false,
            hidden_files: HiddenFiles::None,
            encoded_slash: EncodedSlash::Literal,
            symlinks: Symlinks::Beneath,
            etag: EtagSource::Mtime,
            precompressed: Coding::ALL.to_vec(),
            compressed_only: CompressedOnly::Off,
            content_encoded: Vec::new(),
            try_files: vec!["$path".to_owned(), "$path/".to_owned()],
            spa_fallback: None,
            types: Types::default(),
            error_pages: BTreeMap::new(),
            headers: Vec::new(),
            rules: Vec::new(),
            cors: Cors::default(),
        }
    }
}

/// A directory of a site, and the paths that are looked for in it.
#[derive(Clone, Debug)]
pub struct Mount {
    /// `/static` for this path and all below it, which are looked for in `root` without it. It ends
    /// in no slash; empty: for all paths. No two of a site have the same.
    pub at: String,
    /// The directory. It may be a symbolic link that is changed while it is served.
    pub root: PathBuf,
}

/// Which names that begin with a dot are served, beside `.well-known`, which always is (RFC 8615).
#[derive(Clone, Debug)]
pub enum HiddenFiles {
    /// None.
    None,
    /// All.
    All,
    /// Those that one of these matches: a slash and the name; anchored at both ends. What lies in
    /// a directory with such a name is served, too, unless it is hidden itself.
    Named(Arc<[Regex]>),
}

impl HiddenFiles {
    /// Whether `name` is one of them.
    pub(crate) fn has(&self, name: &[u8]) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Named(patterns) => {
                let name = [b"/", name].concat();
                patterns.iter().any(|pattern| pattern.is_match(&name))
            }
        }
    }
}

/// Which symbolic links below a root are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Symlinks {
    /// Those that stay below the root.
    Beneath,
    /// None.
    Never,
    /// All, wherever they lead.
    Follow,
}

/// What becomes of a file of which only precompressed variants are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompressedOnly {
    /// It is not there.
    Off,
    /// Clients that take none of its codings get it decompressed.
    Decompress,
    /// Clients that take none of its codings get 406.
    Refuse,
}

/// What entity tags are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EtagSource {
    /// The time of modification and the length; the content where a tool may have set that time.
    Mtime,
    /// The content of every file. No time is told.
    Content,
}

/// Header fields for the paths that a pattern matches.
#[derive(Clone, Debug)]
pub struct HeaderRule {
    /// Of the decoded path; anchored at both ends.
    pub pattern: Regex,
    /// Name and value, in which `$1` to `$9` stand for what the groups of `pattern` captured,
    /// percent-encoded, and `$$` for a dollar. An empty value takes back what a rule before it has set.
    pub set: Vec<(String, String)>,
}

/// Answers some paths, whatever is there.
#[derive(Clone, Debug)]
pub struct PathRule {
    /// Of the decoded path; anchored at both ends.
    pub pattern: Regex,
    /// Likewise: paths that it is not for.
    pub except: Vec<Regex>,
    /// The answer.
    pub answer: RuleAnswer,
}

/// What a rule answers.
#[derive(Clone, Debug)]
pub enum RuleAnswer {
    /// A status.
    Respond(Respond),
    /// That it is elsewhere.
    Redirect {
        /// One of the 3xx that have a Location.
        status: Status,
        /// A path or an absolute URI, in which `$1` to `$9` stand for what the groups of the
        /// pattern captured.
        to: String,
    },
}

/// An answer that is a status.
#[derive(Clone, Debug)]
pub struct Respond {
    /// The status.
    pub status: Status,
    /// In how many seconds to come again.
    pub retry_after: Option<u64>,
    /// The path of the file that is the body. `None`: that of the site's error pages.
    pub page: Option<String>,
}

/// What one core keeps of what it looked up, for all its sites.
#[derive(Clone, Copy, Debug)]
pub struct CacheConfig {
    /// Files of at most this many bytes are kept in memory.
    pub inline_max: usize,
    /// Bytes of such files.
    pub hot_bytes: u64,
    /// Descriptors of larger files.
    pub open_files: usize,
    /// How long what was looked up is trusted before it is looked at again.
    pub valid: Duration,
    /// How long a file that nobody asks for is kept open.
    pub idle: Duration,
    /// How long after that it may still be answered with, while the look does not come back.
    pub stale: Duration,
    /// How long a look may take.
    pub lookup: Duration,
    /// Workers of the ring that look-ups of one root may occupy, if they are alone; those of all roots
    /// twice as many.
    pub workers: usize,
}

impl CacheConfig {
    pub(crate) fn times(&self) -> Times {
        Times {
            valid: self.valid,
            lookup: self.lookup,
        }
    }
}
