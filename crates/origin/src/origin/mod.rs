//! The origins of one site, and the objects there.

mod fetch;
mod owner;
mod ranges;
mod route;
mod transfer;
mod writing;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use tidegate_config::{CacheKey, CacheRule, Ttl};
use xxhash_rust::xxh3::xxh3_64;

use self::route::Route;
use crate::cache::{Begun, Cache};
use crate::client::{Endpoint, Origins};
use crate::error::Error;
use crate::fill::Stream;
use crate::fleet::Fleet;
use crate::freshness::Override;
use crate::key::{Key, selected};
use crate::object::{Answered, CacheState, Found, Known, Object, Slice};
use crate::purge::Manner;
use crate::record::millis;

/// How a site uses its origins.
#[derive(Clone, Debug)]
pub struct OriginConfig {
    /// The first name of the site; empty: it is the default. With `name` it tells peers which site
    /// is meant.
    pub host: String,
    /// Tells the objects of sites apart: those of the same name are the same. The URL of the
    /// primary.
    pub name: String,
    /// Which part of the query belongs to the key.
    pub cache_key: CacheKey,
    /// The first that matches is stronger than the origin.
    pub rules: Vec<CacheRule>,
    /// How long a 403, a 404 or a 410 is believed.
    pub negative: Duration,
    /// Whether the origin is S3, whose 403 may be about the credentials.
    pub is_s3: bool,
}

/// The origins of one site.
pub struct Origin {
    cache: Arc<Cache>,
    origins: Origins,
    fleet: Option<Arc<Fleet>>,
    config: OriginConfig,
    /// A hash of its name and of the length of slices: slices of another length are others.
    number: u64,
}

/// What is wanted of a site.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Decoded, with a leading slash and without dot segments.
    pub path: &'a [u8],
    /// As it came.
    pub query: Option<&'a str>,
    /// The first byte that is likely to be read: its slice is asked for first.
    pub first_byte: u64,
}

/// What [`Origin::fetch_all`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// All slices are in the cache.
    Stored,
    /// They are not.
    Unstored,
}

impl Origin {
    /// The origins `endpoints` of a site: the primary, and those to fall back to.
    ///
    /// # Panics
    ///
    /// Without any.
    pub fn new(cache: &Arc<Cache>, endpoints: Vec<Arc<Endpoint>>, config: OriginConfig) -> Self {
        assert!(!endpoints.is_empty(), "at least one origin");
        Self {
            cache: Arc::clone(cache),
            origins: Origins::new(endpoints),
            fleet: None,
            number: xxh3_64(config.name.as_bytes()) ^ cache.slice,
            config,
        }
    }

    /// The same, with the owners of objects among the nodes of `fleet` asked first.
    #[must_use]
    pub fn among(mut self, fleet: Option<Arc<Fleet>>) -> Self {
        self.fleet = fleet;
        self
    }

    /// The cache that it uses.
    pub fn cache(&self) -> &Arc<Cache> {
        &self.cache
    }

    /// Its endpoints, the primary first.
    pub fn endpoints(&self) -> &[Arc<Endpoint>] {
        self.origins.endpoints()
    }

    /// The part of a query that tells objects apart.
    pub fn key_query(&self, query: Option<&str>) -> Option<String> {
        selected(query, &self.config.cache_key)
    }

    /// How long it is believed that there is no object.
    pub fn negative(&self) -> Duration {
        self.config.negative
    }

    /// How long [`Origin::find`] takes at most.
    pub fn patience(&self) -> Duration {
        let longest = self.endpoints().iter().map(|one| one.patience()).max();
        longest.unwrap_or_default() * 2 + Duration::from_secs(1)
    }

    /// Finds an object: in memory, on disk, or at the origin, which is asked once for all that
    /// want it at the same time.
    ///
    /// Dropped: the request to the origin goes on, and its answer is stored.
    ///
    /// # Errors
    ///
    /// [`Error`], unless a stale object may be used instead.
    pub async fn find(self: &Arc<Self>, wanted: Wanted<'_>) -> Result<Found, Error> {
        self.find_by(wanted, Route::Fleet).await
    }

    async fn find_by(self: &Arc<Self>, wanted: Wanted<'_>, route: Route) -> Result<Found, Error> {
        let key = Key::new(
            self.number,
            wanted.path,
            wanted.query,
            &self.config.cache_key,
        );
        let key = key.ok_or(Error::NotFound)?;
        let now = SystemTime::now();
        match self.known(&key, now) {
            Some(Usable::Fresh(object)) => {
                self.touch(&object);
                return Ok(Found::Object(object, CacheState::Hit));
            }
            Some(Usable::WhileRevalidated(object)) => {
                // It goes on by itself.
                drop(self.ask(&key, wanted.first_byte, route));
                return Ok(Found::Object(object, CacheState::Stale));
            }
            Some(Usable::Absent(error)) => return Err(error),
            None => {}
        }
        let (flight, is_collapsed) = self.ask(&key, wanted.first_byte, route);
        if is_collapsed {
            self.cache
                .counters()
                .collapsed
                .fetch_add(1, Ordering::Relaxed);
        }
        let mut answered = flight.await?;
        if is_collapsed && self.is_purged_meanwhile(&answered) {
            // The flight began before the purge, and this request perhaps after it.
            answered = self.ask(&key, wanted.first_byte, route).0.await?;
        }
        match answered {
            Answered::Redirect(status, location) => Ok(Found::Redirect { status, location }),
            Answered::Object(object, CacheState::Miss { was_stale, .. }) => {
                let state = CacheState::Miss {
                    is_collapsed,
                    was_stale,
                };
                Ok(Found::Object(object, state))
            }
            Answered::Object(object, state) => Ok(Found::Object(object, state)),
        }
    }

    fn is_purged_meanwhile(&self, answered: &Answered) -> bool {
        match answered {
            // A stale one stands in for that of an origin which fails.
            Answered::Redirect(..) | Answered::Object(_, CacheState::Stale) => false,
            Answered::Object(object, _) => self.cache.purges.verdict(&object.record).is_some(),
        }
    }

    /// Has all slices of an object in the cache, one after the other.
    ///
    /// Dropped: the fill of one slice goes on.
    ///
    /// # Errors
    ///
    /// As [`Origin::slice`]. [`Fetched::Unstored`]: the object is not to be stored, or the disk
    /// takes no more.
    pub async fn fetch_all(self: &Arc<Self>, object: &Arc<Object>) -> Result<Fetched, Error> {
        if !object.is_stored {
            return Ok(Fetched::Unstored);
        }
        for number in 0..self.slices(object) {
            let range = self.slice_range(object, number);
            let mut growing = match self.slice(object, number).await? {
                Slice::Stored(_) => continue,
                Slice::Growing(growing) => growing,
                Slice::Streamed(_) => return Ok(Fetched::Unstored),
            };
            let mut written = 0;
            while written < range.end - range.start {
                match growing.more_than(written).await? {
                    Some(more) => written = more,
                    None => return Ok(Fetched::Unstored),
                }
            }
        }
        Ok(Fetched::Stored)
    }

    /// The slice number `number` of an object, as soon as its first byte is there.
    ///
    /// Dropped: the fill goes on.
    ///
    /// # Errors
    ///
    /// [`Error`]; with [`Error::Changed`] the object is forgotten, and the next
    /// [`Origin::find`] gets the new one.
    pub async fn slice(
        self: &Arc<Self>,
        object: &Arc<Object>,
        number: u64,
    ) -> Result<Slice, Error> {
        let range = self.slice_range(object, number);
        if let Some(stream) = object.take_first(range.start) {
            return Ok(Slice::Streamed(stream));
        }
        if !object.is_stored {
            return Ok(Slice::Streamed(self.stream(object, range, Route::Fleet)));
        }
        let name = Key::slice(object.record.version, number);
        loop {
            if self.cache.filling(name).is_none()
                && let Some(stored) = self.stored(name).await
            {
                return Ok(Slice::Stored(stored));
            }
            let fill = match self.cache.begin_fill(name) {
                Begun::Stored => continue,
                Begun::Others(fill) => fill,
                Begun::Mine(fill) => {
                    let (origin, object) = (Arc::clone(self), Arc::clone(object));
                    let filled = Arc::clone(&fill);
                    let work = async move { origin.fill_slice(object, number, filled, None).await };
                    self.cache.runtime().spawn(work);
                    fill
                }
            };
            return Ok(match fill.growing().await? {
                Some(growing) => Slice::Growing(growing),
                None => Slice::Streamed(self.stream(object, range, Route::Fleet)),
            });
        }
    }

    /// Whether a slice is on its way into the cache.
    pub fn is_filling(&self, object: &Object, number: u64) -> bool {
        let name = Key::slice(object.record.version, number);
        self.cache.filling(name).is_some()
    }

    /// The bytes of an object from `position` to the end of its slice, past the cache: what
    /// [`Growing::more_than`](crate::Growing::more_than) says is not stored.
    pub fn rest(self: &Arc<Self>, object: &Arc<Object>, position: u64) -> Stream {
        let range = self.slice_range(object, position / self.cache.slice);
        self.stream(object, position..range.end, Route::Fleet)
    }

    /// Begins to fill a slice that is wanted soon, unless it is there.
    pub fn prefetch(self: &Arc<Self>, object: &Arc<Object>, number: u64) {
        if !object.is_stored || !object.has_ranges || number >= self.slices(object) {
            return;
        }
        let name = Key::slice(object.record.version, number);
        if let Begun::Mine(fill) = self.cache.begin_fill(name) {
            let (origin, object) = (Arc::clone(self), Arc::clone(object));
            let work = async move { origin.fill_slice(object, number, fill, None).await };
            self.cache.runtime().spawn(work);
        }
    }

    /// A use of an object, and of one of its slices, without opening them: it is not to be evicted.
    pub fn touch_slice(&self, object: &Object, number: u64) {
        self.cache
            .store
            .touch(Key::slice(object.record.version, number));
    }

    /// A slice on disk cannot be read: it is removed, and fetched again when it is wanted.
    pub async fn forget_slice(&self, object: &Object, number: u64) {
        let name = Key::slice(object.record.version, number);
        self.cache.blocking(move |store| store.remove(name)).await;
    }

    /// Bytes of a slice.
    pub fn slice_len(&self) -> u64 {
        self.cache.slice
    }

    fn touch(&self, object: &Object) {
        self.cache.store.touch(record_name(object.key.hash));
        if object.record.len <= self.cache.slice {
            self.touch_slice(object, 0);
        }
    }

    fn slices(&self, object: &Object) -> u64 {
        object.record.len.div_ceil(self.cache.slice)
    }

    /// The bytes of a slice within its object.
    fn slice_range(&self, object: &Object, number: u64) -> Range<u64> {
        let start = (number * self.cache.slice).min(object.record.len);
        start..(start + self.cache.slice).min(object.record.len)
    }

    /// Whether it is known without the disk that something is not there.
    fn is_absent(&self, name: u128) -> bool {
        !self.cache.store.contains(name) && self.cache.store.is_indexed()
    }

    async fn stored(&self, name: u128) -> Option<std::os::fd::OwnedFd> {
        if self.is_absent(name) {
            return None;
        }
        let blob = self.cache.blocking(move |store| store.get(name)).await??;
        Some(blob.file)
    }

    fn known(&self, key: &Key, now: SystemTime) -> Option<Usable> {
        match self.cache.known.get(&key.hash)? {
            Known::Object(object) => self.usable(object, now),
            Known::Absent {
                is_forbidden,
                asked,
                until,
            } => {
                let is_purged = self
                    .cache
                    .purges
                    .since(&key.path, &[], millis(asked))
                    .is_some();
                let is_believed = now < until && asked <= now && !is_purged;
                let error = if is_forbidden {
                    Error::Forbidden
                } else {
                    Error::NotFound
                };
                is_believed.then_some(Usable::Absent(error))
            }
        }
    }

    /// What an object may be used for without asking first.
    fn usable(&self, object: Arc<Object>, now: SystemTime) -> Option<Usable> {
        let (since, freshness) = (object.record.since(now), object.record.freshness);
        if !object.is_stored {
            return None;
        }
        let may_be_revalidated = match self.cache.purges.verdict(&object.record) {
            Some(Manner::Hard) => false,
            // It was used until now, and an origin that is asked by all at once may fail.
            Some(Manner::Soft) => {
                freshness.stale_while_revalidate > 0 && since < freshness.revalidated_for()
            }
            None if since < freshness.fresh_for() => return Some(Usable::Fresh(object)),
            None => since < freshness.revalidated_for(),
        };
        may_be_revalidated.then_some(Usable::WhileRevalidated(object))
    }

    /// Whether an object may be used because the origin fails.
    fn may_stand_in(&self, object: &Object, now: SystemTime) -> bool {
        self.cache.purges.verdict(&object.record) != Some(Manner::Hard)
            && object.record.since(now) < object.record.freshness.kept_for()
    }

    /// What the first rule for a path says; `None`: nothing may be stored.
    fn rule(&self, path: &[u8]) -> Option<Override> {
        let mut rules = self.config.rules.iter();
        let Some(rule) = rules.find(|rule| rule.paths.contain(path)) else {
            return Some(Override::default());
        };
        Some(Override {
            lifetime: match rule.ttl {
                Some(Ttl::Off) => return None,
                Some(Ttl::For(time)) => Some(time),
                None => None,
            },
            stale_while_revalidate: rule.stale_while_revalidate,
            stale_if_error: rule.stale_if_error,
            is_of_peer: false,
        })
    }

    /// A stream of a range for one client.
    fn stream(self: &Arc<Self>, object: &Arc<Object>, range: Range<u64>, route: Route) -> Stream {
        self.cache.counters().passed.fetch_add(1, Ordering::Relaxed);
        let range = if object.has_ranges {
            range
        } else {
            0..object.record.len
        };
        let (sender, stream) = Stream::new(range.start);
        let (origin, object) = (Arc::clone(self), Arc::clone(object));
        let work = async move {
            match origin.ask_for(&object, &range, route).await {
                Ok(body) => origin.pass(object, range, body, sender).await,
                Err(error) => origin.pass_error(&object, error, &sender).await,
            }
        };
        self.cache.runtime().spawn(work);
        stream
    }
}

/// What is known of an object that may be used without asking first.
enum Usable {
    Fresh(Arc<Object>),
    WhileRevalidated(Arc<Object>),
    Absent(Error),
}

/// The name of the record of an object in the store.
fn record_name(hash: u128) -> u128 {
    !hash
}
