//! From a Host and a decoded path to what is sent: a file, a listing, a redirect or an error.
//!
//! ```text
//!  Host --> Sites --> Site
//!                      |
//!  decoded path -------+--> cached: the root and the entry are fresh --------> File, or a 404
//!                      |      | miss
//!                      |      v
//!                      |    match_rules ---------> a status, a redirect
//!                      |      | no rule
//!                      |      v
//!                      `--> find: check the root, if that is due
//!                             | revalidate: one statx for each dependency, unchanged --> File
//!                             | changed, or not cached
//!                             v
//!                           lookup: try-files, index --> variants, type, header rules --> File
//!                             |                              (on the op ring)
//!                             `--> directory, listing, fallback, error page
//! ```
//!
//! A [`Sites`] belongs to one core. Only the bytes of small files and the hashes of contents are
//! shared by all cores. Nothing here blocks its executor: what may wait for a disk is an op of the
//! ring, on a worker that its root may occupy, or runs on another thread (listings, hashes of large
//! files, decompression).
//!
//! No response is older than `valid` of [`CacheConfig`]: a request waits for the revalidation of
//! its path and its root, which one request does for all. Only while the disk does not answer is a
//! stale entry used, for up to [`CacheConfig::stale`].
//!
//! # Order of calls
//!
//! [`Site::cached`] first, whose answer is final unless it is a miss. Then [`Site::match_rules`],
//! and [`Site::find`] for paths without a rule. So a path that a rule answers is never cached.
//!
//! # The modules, from top to bottom
//!
//! A module imports only modules below it.
//!
//! 1. `sites`: the site of a Host. `sweep`: closes unused and deleted files.
//! 2. `site`: cached answers, revalidation, error pages. `warm`: objects that are fetched ahead.
//! 3. `lookup`: `try-files`, variants, validators, header fields.
//! 4. `roots`: which root a path lies in, and which directory that is now.
//! 5. `shared`: what the sites of a core share.
//! 6. `listing`: directories as HTML and JSON.
//! 7. `cache`: the tables, their keys, and a file with its variants.
//! 8. `decompress`: variants for clients that accept no coding.
//! 9. `rules`: statuses, redirects and header fields for patterns of paths. `probe`: whether the
//!    files of a configuration exist.
//! 10. `root_dir`: an open root. `single_flight`: one request works for all.
//! 11. `file`: a file, its content, hash, fingerprint and file operations.
//! 12. `config`, `mime`, `paths`, `coarse_timer`, `stalls`, `error`.

mod cache;
mod coarse_timer;
mod config;
mod decompress;
mod error;
mod file;
mod listing;
mod lookup;
mod mime;
mod paths;
mod probe;
mod root_dir;
mod roots;
mod rules;
mod shared;
mod single_flight;
mod site;
mod sites;
mod stalls;
mod sweep;
mod warm;

pub use cache::{CacheStats, TableStats};
pub use config::CacheConfig;
pub use decompress::{Compressed, Decompression};
pub use error::{Error, RootError};
pub use file::memory::FileBytes;
pub use file::residency_hint::ResidencyHint;
pub use file::{Content, File, OtherPaths, Provenance, SlicePiece, SliceReader, Sliced};
pub use listing::{Listing, READER_THREADS, SortOrder};
pub use mime::{content_type, is_compressible};
pub use probe::Probe;
pub use rules::paths::RuleMatch;
pub use site::{Cached, Found, Site, SiteRequest};
pub use sites::{OpenedSites, Sites};
pub use stalls::Stalls;
pub use warm::{WarmError, warm};
