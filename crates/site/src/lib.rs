//! What a URL means on disk: from a decoded path to a file that can be sent.
//!
//! ```text
//!  decoded path --> cache ----------------------------> File
//!                     | unknown, or trusted too long       ^
//!                     v                                    |
//!                  lookup: hidden? index? --> root: openat2 beneath, statx, read (on the op ring)
//! ```
//!
//! Nothing here blocks the executor: every call that may wait for a disk is an op of the ring.

mod cache;
mod error;
mod file;
mod lookup;
mod mime;
mod root;

pub use error::{Error, RootError};
pub use file::{Content, File};
pub use lookup::{Config, Found, Site};
pub use mime::Types;
