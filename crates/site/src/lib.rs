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
mod bodies;
mod cache;
mod candidates;
mod config;
mod content_tag;
mod decompress;
mod describe;
mod disk;
mod error;
mod file;
mod listing;
mod looks;
mod lookup;
mod mime;
mod names;
mod pinned;
mod probe;
mod recent;
mod redirects;
mod release;
mod resource;
mod root;
mod roots;
mod rules;
mod rulings;
mod site;
mod sites;
mod stalls;
mod sweep;
mod template;
mod variants;
mod watch;

pub use config::CacheConfig;
pub use decompress::{Compressed, Decompression};
pub use error::{Error, RootError};
pub use file::{Content, File};
pub use listing::{Listing, Order, READERS};
pub use probe::Probe;
pub use recent::Recent;
pub use rulings::Ruling;
pub use site::{Cached, Found, Site, Wanted};
pub use sites::Sites;
pub use stalls::Stalls;
