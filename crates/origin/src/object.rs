//! An object of an origin, as cores see it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use http::HeaderName;

use crate::fill::{Growing, Stream};
use crate::key::Key;
use crate::record::Record;

/// An object: what is known of it. Its bytes come by slices.
#[derive(Debug)]
pub struct Object {
    pub(crate) key: Key,
    pub(crate) record: Record,
    /// Whether it may be stored.
    pub(crate) is_stored: bool,
    /// Whether its origin sends ranges of it.
    pub(crate) has_ranges: bool,
    /// The body of the response that it was made of, if that is not stored.
    pub(crate) first: Mutex<Option<Stream>>,
}

impl Object {
    /// Bytes of all of it.
    pub fn len(&self) -> u64 {
        self.record.len
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.record.len == 0
    }

    /// Its entity tag as it came, with quotes and `W/`.
    pub fn etag(&self) -> Option<&str> {
        self.record.etag.as_deref()
    }

    /// Its date as it came.
    pub fn last_modified(&self) -> Option<&str> {
        self.record.last_modified.as_deref()
    }

    /// The fields that go on to clients besides the validators: names in lower case, and values.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        let fields = self.record.fields.iter();
        fields.map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The value of one of them.
    pub fn field(&self, name: &HeaderName) -> Option<&str> {
        self.record.field(name)
    }

    /// Its age at `now`, in seconds (RFC 9111, section 4.2.3).
    pub fn age(&self, now: SystemTime) -> u64 {
        self.record.freshness.age(self.record.since(now))
    }

    /// How long it is fresh from `now` on; zero if it is stale, or must not be stored.
    pub fn fresh_for(&self, now: SystemTime) -> Duration {
        if !self.is_stored {
            return Duration::ZERO;
        }
        let fresh = self.record.freshness.fresh_for();
        fresh.saturating_sub(self.record.since(now))
    }

    /// Whether it may be stored.
    pub fn is_stored(&self) -> bool {
        self.is_stored
    }

    /// The stream of its own response, for the first that asks.
    pub(crate) fn take_first(&self, position: u64) -> Option<Stream> {
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        first.take_if(|stream| stream.position() <= position)
    }
}

/// What is known of a name.
#[derive(Clone, Debug)]
pub(crate) enum Known {
    Object(Arc<Object>),
    /// The origin has none, or refuses it.
    Absent {
        is_forbidden: bool,
        /// When it was asked, and until when that is believed.
        asked: SystemTime,
        until: SystemTime,
    },
}

impl Known {
    /// Bytes of memory.
    pub(crate) fn memory(&self) -> u64 {
        const ENTRY: usize = 128;
        let content = match self {
            Self::Absent { .. } => 0,
            Self::Object(object) => {
                let record = &object.record;
                let fields = record.fields.iter();
                let fields: usize = fields
                    .map(|(name, value)| name.len() + value.len() + 48)
                    .sum();
                let tags: usize = record.tags.iter().map(|tag| tag.len() + 24).sum();
                size_of::<Object>() + 2 * record.path.len() + fields + tags + 128
            }
        };
        (ENTRY + content) as u64
    }
}

/// What the origin answered.
#[derive(Clone, Debug)]
pub(crate) enum Answered {
    /// The object, which did not come anew if that is said.
    Object(Arc<Object>, CacheState),
    /// Another place, as it came: status and Location.
    Redirect(u16, Arc<str>),
}

/// What is at a path.
#[derive(Clone, Debug)]
pub enum Found {
    /// An object.
    Object(Arc<Object>, CacheState),
    /// The origin sends clients elsewhere.
    Redirect {
        /// 301, 302, 307 or 308.
        status: u16,
        /// The value of Location.
        location: Arc<str>,
    },
}

/// How a response came about, for Cache-Status (RFC 9211).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheState {
    /// It was there and fresh.
    Hit,
    /// It was there, and is used though it is stale: it is revalidated now, or the origin fails.
    Stale,
    /// It was there, and the origin said that it is unchanged.
    Revalidated,
    /// The origin was asked for it.
    Miss {
        /// Whether by another request, for which this one waited.
        is_collapsed: bool,
        /// Whether a stale one was there, which it replaces.
        was_stale: bool,
    },
}

/// A slice of an object, or what comes instead of it.
#[derive(Debug)]
pub enum Slice {
    /// All of it, from the start of the file on.
    Stored(std::os::fd::OwnedFd),
    /// It grows while it is read.
    Growing(Growing),
    /// Bytes that are not stored.
    Streamed(Stream),
}
