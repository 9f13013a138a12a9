//! Moves bodies: into the cache, or to one client past it.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, IF_MATCH, IF_UNMODIFIED_SINCE, RANGE};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use tokio::sync::mpsc::Sender;
use tokio::time::timeout;

use super::Origin;
use super::ranges::{content_range, range_value};
use super::route::Route;
use super::writing::{Writing, warn_of_disk};
use crate::cache::{Begun, Flown};
use crate::client::{Answer, Body, Request};
use crate::error::Error;
use crate::fill::{Fill, Stopped};
use crate::key::Key;
use crate::object::Object;
use crate::store::Writer;

/// How long a body of unknown length is waited for at most.
const SPOOL_TIME: Duration = Duration::from_mins(10);

/// The most bytes of a response without a length.
const SPOOL_BYTES: usize = 64 * 1024 * 1024;

impl Origin {
    /// Fills a slice from `body`, or from a request of its own, and ends the fill.
    pub(super) async fn fill_slice(
        self: Arc<Self>,
        object: Arc<Object>,
        number: u64,
        fill: Arc<Fill>,
        body: Option<Body>,
    ) {
        let range = self.slice_range(&object, number);
        let filled = self.try_fill(&object, number, &range, &fill, body).await;
        self.cache
            .end_fill(Key::slice(object.record.version, number));
        if let Err(error) = filled {
            self.fill_failed(&object, &fill, error);
        }
    }

    fn fill_failed(&self, object: &Object, fill: &Fill, error: Error) {
        self.cache
            .counters()
            .fill_failures
            .fetch_add(1, Ordering::Relaxed);
        if matches!(error, Error::Changed) {
            self.forget(object);
        }
        tracing::debug!(path = %object.record.path.escape_ascii(), %error, "a fill failed");
        fill.stop(Stopped::Failed(error));
    }

    async fn try_fill(
        &self,
        object: &Object,
        number: u64,
        range: &Range<u64>,
        fill: &Arc<Fill>,
        body: Option<Body>,
    ) -> Result<(), Error> {
        self.cache.counters().fills.fetch_add(1, Ordering::Relaxed);
        let name = Key::slice(object.record.version, number);
        let len = range.end - range.start;
        let Some(writer) = self.reserve(name, len).await else {
            fill.stop(Stopped::Unstored);
            return Ok(());
        };
        let shared = writer.file().try_clone().ok();
        let writing = Writing::new(&self.cache, fill, writer, len);
        let Some((shared, mut writing)) = shared.zip(writing) else {
            fill.stop(Stopped::Unstored);
            return Ok(());
        };
        fill.begin(shared);
        let mut body = match body {
            Some(body) => body,
            // The rest of it could be of another version.
            None if !object.record.has_validator() && len < object.record.len => {
                return Err(Error::Changed);
            }
            None => self.ask_for(object, range, Route::Fleet).await?,
        };
        if let Err(error) = writing.copy(&mut body).await {
            // The network may have been cut. What is there already is not asked for again.
            let rest = range.start + writing.taken()..range.end;
            if rest.is_empty() || !error.is_transient() {
                return Err(error);
            }
            drop(body);
            let mut body = self.ask_for(object, &rest, Route::Direct).await?;
            writing.copy(&mut body).await?;
        }
        writing.publish().await;
        Ok(())
    }

    async fn reserve(&self, name: u128, len: u64) -> Option<Writer> {
        let reserved = self
            .cache
            .blocking(move |store| store.reserve(name, len))
            .await?;
        match reserved {
            Ok(writer) => Some(writer),
            Err(error) => {
                warn_of_disk(&error);
                None
            }
        }
    }

    /// Fills all slices from the body of the whole object, one after the other: its origin sends no
    /// ranges.
    pub(super) fn fill_all(self: &Arc<Self>, object: &Arc<Object>, body: Body) {
        let mut fills = Vec::new();
        for number in 0..self.slices(object) {
            let name = Key::slice(object.record.version, number);
            match self.cache.begin_fill(name) {
                Begun::Mine(fill) => fills.push(Some(fill)),
                Begun::Others(_) | Begun::Stored => fills.push(None),
            }
        }
        let (origin, object) = (Arc::clone(self), Arc::clone(object));
        self.cache.runtime().spawn(async move {
            let Err((first, error)) = origin.try_fill_all(&object, &fills, body).await else {
                return;
            };
            for (number, fill) in fills.iter().enumerate().skip(first as usize) {
                if let Some(fill) = fill {
                    let name = Key::slice(object.record.version, number as u64);
                    origin.cache.end_fill(name);
                    origin.fill_failed(&object, fill, error.clone());
                }
            }
        });
    }

    /// An error tells the first slice that is not complete.
    async fn try_fill_all(
        &self,
        object: &Object,
        fills: &[Option<Arc<Fill>>],
        mut body: Body,
    ) -> Result<(), (u64, Error)> {
        let mut pending = Bytes::new();
        for (number, fill) in fills.iter().enumerate() {
            let number = number as u64;
            let range = self.slice_range(object, number);
            let len = range.end - range.start;
            let name = Key::slice(object.record.version, number);
            let writer = match fill {
                Some(_) => self.reserve(name, len).await,
                None => None,
            };
            let mut writing = None;
            if let (Some(fill), Some(writer)) = (fill, writer)
                && let Ok(file) = writer.file().try_clone()
                && let Some(new) = Writing::new(&self.cache, fill, writer, len)
            {
                fill.begin(file);
                writing = Some(new);
            } else if let Some(fill) = fill {
                fill.stop(Stopped::Unstored);
            }
            let mut left = len;
            while left > 0 {
                if pending.is_empty() {
                    let chunk = match &mut writing {
                        Some(writing) => writing.receive(&mut body).await,
                        None => body.more().await,
                    };
                    pending = chunk.map_err(|error| (number, error))?;
                }
                let part = pending.split_to((left as usize).min(pending.len()));
                left -= part.len() as u64;
                if let Some(writing) = &mut writing {
                    writing.take(&part).await;
                }
            }
            if let Some(writing) = writing {
                writing.publish().await;
            }
            if fill.is_some() {
                self.cache.end_fill(name);
            }
        }
        Ok(())
    }

    /// Asks for a range of the known version of an object.
    ///
    /// # Errors
    ///
    /// [`Error::Changed`] if it is another version by now.
    pub(super) async fn ask_for(
        &self,
        object: &Object,
        range: &Range<u64>,
        route: Route,
    ) -> Result<Body, Error> {
        let request = range_request(object, range);
        let answer = self.send(&object.key, &request, route, |answer| {
            // A peer may have another version for longer than the origin.
            answer.status == StatusCode::PARTIAL_CONTENT
                && object.record.agrees(&answer.fields)
                && content_range(answer) == Some((range.clone(), object.record.len))
        });
        let answer = answer.await?;
        match answer.status {
            StatusCode::PARTIAL_CONTENT => {
                let got = content_range(&answer);
                if got
                    .as_ref()
                    .is_some_and(|(_, len)| *len != object.record.len)
                {
                    return Err(Error::Changed);
                }
                if !object.record.agrees(&answer.fields) {
                    return Err(Error::Changed);
                }
                match got {
                    Some((got, _)) if got == *range => Ok(answer.body.part(0, got.end - got.start)),
                    _ => Err(answer.bad("it sends another range than it was asked for")),
                }
            }
            StatusCode::OK => {
                let len = answer
                    .field(&CONTENT_LENGTH)
                    .and_then(|len| len.parse().ok());
                if !object.record.agrees(&answer.fields) || len != Some(object.record.len) {
                    Err(Error::Changed)
                } else {
                    // It sends no ranges.
                    Ok(answer.body.part(range.start, range.end - range.start))
                }
            }
            // Gone, changed, or shorter than it was.
            StatusCode::PRECONDITION_FAILED
            | StatusCode::RANGE_NOT_SATISFIABLE
            | StatusCode::NOT_FOUND
            | StatusCode::GONE => Err(Error::Changed),
            status => Err(answer.bad(&format!("it answers {status}"))),
        }
    }

    /// Sends a range to one client past the cache, from a body that starts with it. If that is cut
    /// off, the rest of the same version is asked of the origin.
    pub(super) async fn pass(
        self: Arc<Self>,
        object: Arc<Object>,
        range: Range<u64>,
        body: Body,
        sender: Sender<Result<Bytes, Error>>,
    ) {
        let mut left = range.clone();
        let mut passed = pass_body(&mut left, body, &sender).await;
        let may_resume = object.has_ranges && object.record.has_validator() && left != range;
        if passed.as_ref().is_err_and(Error::is_transient) && may_resume {
            passed = match self.ask_for(&object, &left, Route::Direct).await {
                Ok(body) => pass_body(&mut left, body, &sender).await,
                Err(error) => Err(error),
            };
        }
        if let Err(error) = passed {
            self.pass_error(&object, error, &sender).await;
        }
    }

    /// Tells one client that the rest of an object cannot be had.
    pub(super) async fn pass_error(
        &self,
        object: &Object,
        error: Error,
        sender: &Sender<Result<Bytes, Error>>,
    ) {
        if matches!(error, Error::Changed) {
            self.forget(object);
        }
        let _ = sender.send(Err(error)).await;
    }

    /// A response without a length: it is read whole before anybody gets it, since no range of it
    /// has a place before its length is known.
    pub(super) async fn spooled(
        self: &Arc<Self>,
        key: &Key,
        mut answer: Answer,
        known: Option<&Arc<Object>>,
    ) -> Flown {
        let (mut all, mut memory) = (BytesMut::new(), self.cache.memory.begin());
        let read = async {
            while let Some(chunk) = answer.body.chunk().await {
                let chunk = chunk?;
                // A buffer that is full is doubled.
                if !memory.grow(2 * chunk.len()) {
                    return Err(answer.bad(
                        "there is no memory for a response without a length: have it send \
                         Content-Length, or raise limits.memory",
                    ));
                }
                all.extend_from_slice(&chunk);
                if all.len() > SPOOL_BYTES {
                    return Err(answer.bad(
                        "it sends more than 64 MiB without saying how much: have it send \
                         Content-Length",
                    ));
                }
            }
            Ok(())
        };
        match timeout(SPOOL_TIME, read).await {
            Ok(read) => read?,
            Err(_) => return Err(answer.bad("its response has no end")),
        }
        let len = all.len() as u64;
        answer.body = answer.body.replaced(all.freeze());
        self.begin(key, 0, len, len <= self.cache.slice, answer, known)
            .await
    }
}

/// Sends the bytes of `left` from a body that starts with them, and takes them off.
async fn pass_body(
    left: &mut Range<u64>,
    mut body: Body,
    sender: &Sender<Result<Bytes, Error>>,
) -> Result<(), Error> {
    while !left.is_empty() {
        let chunk = body.more().await?;
        left.start = left.end.min(left.start + chunk.len() as u64);
        if sender.send(Ok(chunk)).await.is_err() {
            // The client is gone.
            return Ok(());
        }
    }
    Ok(())
}

fn range_request(object: &Object, range: &Range<u64>) -> Request {
    let mut fields: Vec<(HeaderName, HeaderValue)> = Vec::new();
    let mut push = |name, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            fields.push((name, value));
        }
    };
    push(RANGE, &range_value(range));
    if let Some(etag) = object.record.strong_etag() {
        push(IF_MATCH, etag);
    } else if let Some(date) = object.last_modified() {
        push(IF_UNMODIFIED_SINCE, date);
    }
    Request {
        method: Method::GET,
        path: Arc::clone(&object.key.path),
        query: object.key.query.clone(),
        fields,
        // However many wait for a slice, the origin sees one request.
        may_be_hedged: false,
    }
}
