//! What a URL means on disk: from a Host and a decoded path to what is to be sent.
//!
//! ```text
//!  Host --> Sites --> Site
//!                      |
//!  decoded path -------+--> cached: the root and the entry are trusted ------> File
//!                      |      | unknown, or trusted too long                     ^
//!                      |      v                                                  |
//!                      |    ruling: rules ----> a status, elsewhere              |
//!                      |      |                                                  |
//!                      |      v                                                  |
//!                      `--> find: is the root still the root?                    |
//!                             | one statx for each name that was seen: unchanged-+
//!                             | changed, or not seen yet                         |
//!                             v                                                  |
//!                           lookup: try-files, index --> variants, type, rules --+
//!                             |                              (on the op ring)
//!                             `--> directory, listing, fallback, error page
//! ```
//!
//! A [`Sites`] belongs to one core; what a process has once for all of them are the bytes of small files
//! and the hashes of contents. Nothing here blocks its executor: every call that may wait for
//! a disk is an op of the ring, on one of the workers that its root may have, or done on another thread
//! (listings, hashes of large files,
//! decompression).
//!
//! [`Sites::sweep`] closes what is cached and nobody asks for, or was deleted.
//!
//! Nothing is answered with what was seen longer than the cache's time ago: who comes while another
//! request looks at the same name, or at the root, waits for that look. Only while a look does not come
//! back ([`CacheConfig::stale`]) what was seen before is good for a while longer.
//!
//! # Order of calls
//!
//! [`Site::cached`] first; what it knows is final. Then [`Site::ruling`], and [`Site::find`] only
//! for paths it has nothing for: so no path that a rule answers ever gets into the cache.

mod background;
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

pub use config::CacheConfig;
pub use decompress::{Compressed, Decompression};
pub use error::{Error, RootError};
pub use file::residency_hint::ResidencyHint;
pub use file::{Content, File};
pub use listing::{Listing, READER_THREADS, SortOrder};
pub use probe::Probe;
pub use rules::paths::Ruling;
pub use site::{Cached, Found, Site, SiteRequest};
pub use sites::Sites;
pub use stalls::Stalls;
