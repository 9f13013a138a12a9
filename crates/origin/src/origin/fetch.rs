//! One flight: what the origin says of an object, with the first bytes of it.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use futures_util::FutureExt;
use http::header::{CONTENT_LENGTH, ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, LOCATION, RANGE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::ranges::{content_range, range_value};
use super::route::Route;
use super::{Origin, record_name};
use crate::cache::{Begun, Flown};
use crate::client::{Answer, Request};
use crate::error::Error;
use crate::fill::Stream;
use crate::freshness::{Override, Storing, decide};
use crate::key::Key;
use crate::object::{Answered, CacheState, Known, Object};
use crate::purge::Manner;
use crate::record::{Record, millis, tags};
use crate::s3::errors::refusal;
use crate::store::{Store, StoreError};

impl Origin {
    /// The flight for an object, and whether it was under way already.
    pub(super) fn ask(
        self: &Arc<Self>,
        key: &Key,
        first_byte: u64,
        route: Route,
    ) -> (impl Future<Output = Flown> + use<>, bool) {
        self.cache.flight(self.flight_name(key.hash, route), || {
            let (origin, key) = (Arc::clone(self), key.clone());
            async move { origin.fly(&key, first_byte, route).await }.boxed()
        })
    }

    async fn fly(self: Arc<Self>, key: &Key, first_byte: u64, route: Route) -> Flown {
        let known = match self.cache.known.get(&key.hash) {
            Some(Known::Object(object)) => Some(object),
            Some(Known::Absent { .. }) => None,
            None => match self.load(key).await {
                Some(object) if self.is_fresh(&object) => {
                    return Ok(Answered::Object(object, CacheState::Hit));
                }
                other => other,
            },
        };
        let known = known.filter(|object| {
            object.is_stored && self.cache.purges.verdict(&object.record) != Some(Manner::Hard)
        });
        let fetched = self.fetch(key, first_byte, known.as_ref(), route).await;
        match (fetched, known) {
            (Err(error), Some(object))
                if error.allows_stale() && self.may_stand_in(&object, SystemTime::now()) =>
            {
                tracing::debug!(%error, "a stale object is used");
                Ok(Answered::Object(object, CacheState::Stale))
            }
            (Err(error), _) => {
                tracing::debug!(path = %key.path.escape_ascii(), %error, "no object");
                Err(error)
            }
            (fetched, _) => fetched,
        }
    }

    fn is_fresh(&self, object: &Object) -> bool {
        self.cache.purges.verdict(&object.record).is_none()
            && !object.fresh_for(SystemTime::now()).is_zero()
    }

    /// The record on disk.
    async fn load(&self, key: &Key) -> Option<Arc<Object>> {
        let name = record_name(key.hash);
        if self.is_absent(name) {
            return None;
        }
        let bytes = self
            .cache
            .blocking(move |store| read(store, name))
            .await??;
        let record = Record::decode(&bytes).filter(|record| *record.path == *key.path)?;
        let object = Arc::new(Object {
            key: key.clone(),
            record,
            is_stored: true,
            has_ranges: true,
            first: None.into(),
        });
        let known = Known::Object(Arc::clone(&object));
        self.cache.known.insert(key.hash, known);
        Some(object)
    }

    async fn fetch(
        self: &Arc<Self>,
        key: &Key,
        first_byte: u64,
        known: Option<&Arc<Object>>,
        route: Route,
    ) -> Flown {
        let slice = self.cache.slice;
        let start = first_byte / slice * slice;
        let range = start..start + slice;
        let request = request(key, Some(&range), known);
        let answer = self.send(key, &request, route, |answer| {
            self.is_news(key, Some(&range), known.is_some(), answer)
        });
        let answer = answer.await?;
        match answer.status {
            StatusCode::PARTIAL_CONTENT => self.partial(key, &range, answer, known, route).await,
            StatusCode::OK => self.whole(key, answer, known).await,
            StatusCode::NOT_MODIFIED => match known {
                Some(object) => Ok(self.unchanged(object, &answer)),
                None => Err(answer.bad("it answers 304 to a request without conditions")),
            },
            // The object is empty, or shorter than the range: some origins say so without a length.
            StatusCode::RANGE_NOT_SATISFIABLE => self.fetch_whole(key, start, known, route).await,
            // S3 says that a bucket is in another region by a 301 without Location.
            status
                if status.is_redirection()
                    && !(self.config.is_s3 && answer.field(&LOCATION).is_none()) =>
            {
                redirect(&answer)
            }
            _ => Err(self.refused(key, answer).await),
        }
    }

    /// Whether an answer of a peer says what there is, in place of the origin.
    fn is_news(
        &self,
        key: &Key,
        range: Option<&Range<u64>>,
        has_conditions: bool,
        answer: &Answer,
    ) -> bool {
        let asked = millis(answer.asked_origin);
        let tags = tags(&answer.fields);
        // The peer may not know yet that it is purged.
        if self.cache.purges.since(&key.path, &tags, asked).is_some() {
            return false;
        }
        match (answer.status, range) {
            (StatusCode::PARTIAL_CONTENT, Some(range)) => content_range(answer)
                .is_some_and(|(got, len)| got == (range.start..range.end.min(len))),
            (StatusCode::NOT_MODIFIED, _) => has_conditions,
            (StatusCode::RANGE_NOT_SATISFIABLE, range) => range.is_some(),
            (
                StatusCode::OK | StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::FORBIDDEN,
                _,
            ) => true,
            (status, _) => status.is_redirection() && answer.fields.contains_key(LOCATION),
        }
    }

    /// After a 416: the range of the first slice, or without any.
    async fn fetch_whole(
        self: &Arc<Self>,
        key: &Key,
        start: u64,
        known: Option<&Arc<Object>>,
        route: Route,
    ) -> Flown {
        if start > 0 {
            return Box::pin(self.fetch(key, 0, known, route)).await;
        }
        let request = request(key, None, known);
        let answer = self.send(key, &request, route, |answer| {
            self.is_news(key, None, known.is_some(), answer)
        });
        let answer = answer.await?;
        match (answer.status, known) {
            (StatusCode::OK, _) => self.whole(key, answer, known).await,
            (StatusCode::NOT_MODIFIED, Some(object)) => Ok(self.unchanged(object, &answer)),
            _ => Err(self.refused(key, answer).await),
        }
    }

    fn unchanged(&self, object: &Arc<Object>, answer: &Answer) -> Answered {
        self.cache
            .counters()
            .revalidated
            .fetch_add(1, Ordering::Relaxed);
        let times = (answer.asked_origin, answer.came);
        let fields = with_known(&answer.fields, object);
        let freshness = match self.storing(object.key.path.as_ref(), &fields, answer) {
            Storing::Stored(freshness) => freshness,
            // It is not to be kept any longer than for those who asked.
            Storing::Passed => crate::freshness::Freshness::default(),
        };
        let record = object.record.freshen(&answer.fields, freshness, times);
        let object = Arc::new(Object {
            key: object.key.clone(),
            record,
            is_stored: true,
            has_ranges: object.has_ranges,
            first: None.into(),
        });
        self.remember(&object);
        Answered::Object(object, CacheState::Revalidated)
    }

    async fn partial(
        self: &Arc<Self>,
        key: &Key,
        range: &Range<u64>,
        answer: Answer,
        known: Option<&Arc<Object>>,
        route: Route,
    ) -> Flown {
        let Some((got, len)) = content_range(&answer) else {
            return Err(answer.bad("its 206 has no valid Content-Range"));
        };
        let expected = range.start..range.end.min(len);
        if got != expected {
            let wrong = format!("it was asked for bytes {expected:?}, and sends {got:?}");
            return Err(answer.bad(&wrong));
        }
        if len > self.cache.slice && !has_validator(&answer.fields) {
            // Slices could be of several versions, but one body is not.
            return self.fetch_whole(key, 0, known, route).await;
        }
        self.begin(key, got.start, len, true, answer, known).await
    }

    async fn whole(
        self: &Arc<Self>,
        key: &Key,
        answer: Answer,
        known: Option<&Arc<Object>>,
    ) -> Flown {
        let Some(len) = answer
            .field(&CONTENT_LENGTH)
            .and_then(|len| len.parse().ok())
        else {
            return self.spooled(key, answer, known).await;
        };
        let has_ranges = len <= self.cache.slice;
        self.begin(key, 0, len, has_ranges, answer, known).await
    }

    /// The object of a response whose body starts at byte `start`, which is on its way into the
    /// cache from here on.
    pub(super) async fn begin(
        self: &Arc<Self>,
        key: &Key,
        start: u64,
        len: u64,
        has_ranges: bool,
        answer: Answer,
        known: Option<&Arc<Object>>,
    ) -> Flown {
        let times = (answer.asked_origin, answer.came);
        let storing = self.storing(&key.path, &answer.fields, &answer);
        let freshness = match storing {
            Storing::Stored(freshness) => freshness,
            Storing::Passed => crate::freshness::Freshness::default(),
        };
        let salt = fastrand::u64(..);
        let mut record = Record::new(
            (&key.path, key.hash),
            len,
            &answer.fields,
            freshness,
            times,
            salt,
        );
        let epoch = match self.cache.purges.verdict(&record) {
            // Purged on its way here: the slices are none of the version that comes next.
            Some(Manner::Hard) => salt,
            _ => self.cache.purges.epoch(&record.path, &record.tags),
        };
        record.version ^= u128::from(epoch);
        let is_stored = matches!(storing, Storing::Stored(_));
        let state = CacheState::Miss {
            is_collapsed: false,
            was_stale: known.is_some(),
        };
        let (object, sender) = {
            let (sender, first) = Stream::new(start);
            let object = Arc::new(Object {
                key: key.clone(),
                record,
                is_stored,
                has_ranges,
                first: (!is_stored).then_some(first).into(),
            });
            (object, sender)
        };
        if is_stored {
            self.fill_from(&object, start, answer.body).await;
            self.remember(&object);
        } else {
            self.forget_record(key.hash);
            self.cache.counters().passed.fetch_add(1, Ordering::Relaxed);
            let end = if has_ranges {
                (start + self.cache.slice).min(len)
            } else {
                len
            };
            let (origin, body) = (Arc::clone(self), answer.body);
            let passed = Arc::clone(&object);
            let work = async move { origin.pass(passed, start..end, body, sender).await };
            self.cache.runtime().spawn(work);
        }
        Ok(Answered::Object(object, state))
    }

    /// Begins to fill the slice at `start`, or all slices if the body is the whole object.
    async fn fill_from(
        self: &Arc<Self>,
        object: &Arc<Object>,
        start: u64,
        body: crate::client::Body,
    ) {
        if object.record.len == 0 {
            return;
        }
        let number = start / self.cache.slice;
        if !object.has_ranges && self.slices(object) > 1 {
            return self.fill_all(object, body);
        }
        let name = Key::slice(object.record.version, number);
        if self.stored(name).await.is_some() {
            return;
        }
        if let Begun::Mine(fill) = self.cache.begin_fill(name) {
            let (origin, object) = (Arc::clone(self), Arc::clone(object));
            let work = async move { origin.fill_slice(object, number, fill, Some(body)).await };
            self.cache.runtime().spawn(work);
        }
    }

    fn storing(&self, path: &[u8], fields: &HeaderMap, answer: &Answer) -> Storing {
        match self.rule(path) {
            Some(rule) => {
                let is_of_peer = answer.is_of_peer;
                let rule = Override { is_of_peer, ..rule };
                decide(fields, answer.asked, answer.came, rule)
            }
            None => Storing::Passed,
        }
    }

    /// Keeps what is known of an object, in memory and on disk. Nobody waits for the disk.
    pub(super) fn remember(&self, object: &Arc<Object>) {
        let known = Known::Object(Arc::clone(object));
        self.cache.known.insert(object.key.hash, known);
        let (name, bytes) = (record_name(object.key.hash), object.record.encode());
        self.on_disk(move |store| {
            if let Err(error) = replace(store, name, &bytes) {
                tracing::debug!(%error, "a record is not stored");
            }
        });
    }

    /// Forgets an object that is another one by now.
    pub(super) fn forget(&self, object: &Object) {
        let is_it = |known: &Known| match known {
            Known::Object(known) => known.record.version == object.record.version,
            Known::Absent { .. } => false,
        };
        let hash = object.key.hash;
        if self.cache.known.remove_if(&hash, is_it).is_some() {
            self.forget_record(hash);
        }
        self.cache.purges.count();
    }

    /// Forgets what is known of an object. On disk, too: it would come back after a restart.
    fn forget_record(&self, hash: u128) {
        self.cache.known.remove(&hash);
        self.on_disk(move |store| {
            store.remove(record_name(hash));
        });
    }

    fn on_disk(&self, work: impl FnOnce(&Store) + Send + 'static) {
        let store = Arc::clone(&self.cache.store);
        self.cache.runtime().spawn_blocking(move || work(&store));
    }

    /// What a status says that is no success.
    async fn refused(&self, key: &Key, answer: Answer) -> Error {
        let (status, asked) = (answer.status, answer.asked_origin);
        match status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => answer.busy(),
            StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::FORBIDDEN => {
                if self.config.is_s3
                    && let Err(error) = answer.admitted(refusal).await
                {
                    return error;
                }
                let is_forbidden = status == StatusCode::FORBIDDEN;
                self.absent(key, is_forbidden, asked);
                if is_forbidden {
                    Error::Forbidden
                } else {
                    Error::NotFound
                }
            }
            _ if self.config.is_s3 => match answer.admitted(refusal).await {
                Err(error) => error,
                Ok(answer) => answer.bad(&format!("it answers {status}")),
            },
            _ => answer.bad(&format!("it answers {status}")),
        }
    }

    fn absent(&self, key: &Key, is_forbidden: bool, asked: SystemTime) {
        self.forget_record(key.hash);
        let negative = self.config.negative;
        if !negative.is_zero() {
            let known = Known::Absent {
                is_forbidden,
                asked,
                until: asked + negative,
            };
            self.cache.known.insert(key.hash, known);
        }
    }
}

fn request(key: &Key, range: Option<&Range<u64>>, known: Option<&Arc<Object>>) -> Request {
    let mut fields = Vec::new();
    let mut push = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            fields.push((name, value));
        }
    };
    if let Some(range) = range {
        push(RANGE, &range_value(range));
    }
    if let Some(object) = known {
        if let Some(etag) = object.etag() {
            push(IF_NONE_MATCH, etag);
        } else if let Some(date) = object.last_modified() {
            push(IF_MODIFIED_SINCE, date);
        }
    }
    Request {
        method: Method::GET,
        path: Arc::clone(&key.path),
        query: key.query.clone(),
        fields,
        may_be_hedged: true,
    }
}

/// A blob, if it is there and no longer than a record is.
fn read(store: &Store, name: u128) -> Option<Vec<u8>> {
    const RECORD_MAX: u64 = 256 * 1024;
    let blob = store.get(name).filter(|blob| blob.len <= RECORD_MAX)?;
    let mut bytes = vec![0; blob.len as usize];
    File::from(blob.file).read_exact_at(&mut bytes, 0).ok()?;
    Some(bytes)
}

/// Puts a blob in the place of another one.
fn replace(store: &Store, name: u128, bytes: &[u8]) -> Result<(), StoreError> {
    store.remove(name);
    let mut writer = store.reserve(name, bytes.len() as u64)?;
    // Without all of its bytes it is not published.
    let _ = writer.write_at_end(bytes);
    writer.publish()
}

/// The fields of a 304 with those that it leaves out: they hold on.
fn with_known(fields: &HeaderMap, object: &Object) -> HeaderMap {
    let mut all = fields.clone();
    for (name, value) in object.fields() {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value))
            && !all.contains_key(&name)
        {
            all.insert(name, value);
        }
    }
    if let Some(date) = object.last_modified().and_then(|date| date.parse().ok()) {
        all.entry(http::header::LAST_MODIFIED).or_insert(date);
    }
    if let Some(etag) = object.etag().and_then(|etag| etag.parse().ok()) {
        all.entry(ETAG).or_insert(etag);
    }
    all
}

fn redirect(answer: &Answer) -> Flown {
    match (answer.status.as_u16(), answer.field(&LOCATION)) {
        (status @ (301 | 302 | 307 | 308), Some(location)) => {
            Ok(Answered::Redirect(status, location.into()))
        }
        (303, Some(location)) => Ok(Answered::Redirect(302, location.into())),
        (status, _) => Err(answer.bad(&format!("it answers {status}"))),
    }
}

fn has_validator(fields: &HeaderMap) -> bool {
    fields.contains_key(ETAG) || fields.contains_key(http::header::LAST_MODIFIED)
}
