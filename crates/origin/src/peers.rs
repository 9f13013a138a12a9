//! Answers the requests of other nodes: a tier of HTTP of its own, whose clients are nodes.
//!
//! A peer gets the facts that a cache needs, as they came from the origin: validators,
//! Cache-Control and Expires, tags, Age. Rules of sites do not apply: those for clients were applied
//! at the node of the client, and one for fields would hide what the origin said. So these requests
//! do not go the way of clients through the sites, and nothing is asked of another peer.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::stream::unfold;
use http::header::{
    ACCEPT_RANGES, AGE, CONTENT_RANGE, DATE, ETAG, HOST, IF_MATCH, IF_MODIFIED_SINCE,
    IF_NONE_MATCH, IF_UNMODIFIED_SINCE, LAST_MODIFIED, LOCATION, RANGE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use percent_encoding::percent_decode_str;
use rustix::net::sockopt::set_tcp_user_timeout;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::sleep;

use crate::cache::Cache;
use crate::error::Error;
use crate::fill::{Growing, Stream};
use crate::fleet::{ASKED_AGO, Fleet, ORIGIN};
use crate::object::{Found, Object, Slice};
use crate::origin::{Origin, Wanted};
use crate::record::millis;

/// Connections of peers at a time. Others wait in the backlog.
const CONNECTIONS: usize = 4096;

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// How long the head of a request may take, and a connection be idle: longer than peers keep it.
const HEAD_TIME: Duration = Duration::from_secs(30);

/// How long what was sent may be unacknowledged, or not be taken (tcp(7), `TCP_USER_TIMEOUT`).
const USER_TIME: Duration = Duration::from_mins(1);

/// After an error of accept, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bytes that are read at once.
const PIECE: u64 = 256 * 1024;

/// The tags of an object.
const SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");

type Body = UnsyncBoxBody<Bytes, Error>;

/// The listener for peers.
pub struct Peers {
    fleet: Arc<Fleet>,
    sites: RwLock<Vec<Arc<Origin>>>,
}

impl Peers {
    /// Answers peers on `addresses` from now on, until it is dropped. Blocking.
    ///
    /// # Errors
    ///
    /// An address cannot be listened on.
    pub fn listen(
        addresses: &[SocketAddr],
        fleet: &Arc<Fleet>,
        cache: &Arc<Cache>,
    ) -> io::Result<Arc<Self>> {
        let peers = Arc::new(Self {
            fleet: Arc::clone(fleet),
            sites: RwLock::default(),
        });
        let runtime = cache.runtime();
        let _guard = runtime.enter();
        for address in addresses {
            let listener = bind(*address)?;
            runtime.spawn(accept(Arc::downgrade(&peers), listener));
        }
        Ok(peers)
    }

    /// Replaces the origins that are asked for.
    pub fn set_sites(&self, sites: Vec<Arc<Origin>>) {
        *self.sites.write().unwrap_or_else(PoisonError::into_inner) = sites;
    }

    async fn answer(&self, request: &Request<Incoming>) -> Response<Body> {
        let counters = self.fleet.counters();
        if !self.fleet.admits(request.headers()) {
            counters.refused.fetch_add(1, Ordering::Relaxed);
            return status(StatusCode::FORBIDDEN);
        }
        counters.served.fetch_add(1, Ordering::Relaxed);
        if request.method() != Method::GET {
            return status(StatusCode::METHOD_NOT_ALLOWED);
        }
        let Some(origin) = self.origin(request.headers()) else {
            return status(StatusCode::MISDIRECTED_REQUEST);
        };
        let path: Vec<u8> = percent_decode_str(request.uri().path()).collect();
        let range = requested(request.headers());
        let wanted = Wanted {
            path: &path,
            query: request.uri().query(),
            first_byte: range.as_ref().map_or(0, |range| range.start),
        };
        match origin.find_for_peer(wanted).await {
            Ok(Found::Object(object, _)) => respond(&origin, &object, range, request.headers()),
            Ok(Found::Redirect { status, location }) => elsewhere(status, &location),
            Err(error) => refused(&error, origin.absent_since(wanted)),
        }
    }

    /// The origin that a peer means: that of its site, if that has the same origin here.
    fn origin(&self, fields: &HeaderMap) -> Option<Arc<Origin>> {
        let text = |name: HeaderName| fields.get(name)?.to_str().ok();
        let (host, name) = (text(HOST)?, text(ORIGIN)?);
        let sites = self.sites.read().unwrap_or_else(PoisonError::into_inner);
        let is_it = |wanted: &str| {
            let mut sites = sites.iter();
            sites
                .find(|origin| origin.site() == (wanted, name))
                .cloned()
        };
        is_it(host).or_else(|| is_it(""))
    }
}

/// Shared with the process that takes over in an upgrade.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn accept(peers: Weak<Peers>, listener: TcpListener) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
            return;
        };
        let accepted = listener.accept().await;
        if peers.strong_count() == 0 {
            return;
        }
        match accepted {
            Ok((stream, _)) => {
                let peers = Weak::clone(&peers);
                tokio::spawn(async move {
                    serve(peers, stream).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "cannot accept a peer");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(peers: Weak<Peers>, stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let _ = set_tcp_user_timeout(&stream, USER_TIME.as_millis() as u32);
    let service = service_fn(|request: Request<Incoming>| {
        let peers = peers.upgrade();
        async move {
            let peers = peers.ok_or(Error::Changed)?;
            Ok::<_, Error>(peers.answer(&request).await)
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = served.await {
        tracing::debug!(%error, "a connection of a peer ended");
    }
}

/// The range of a peer's request, which has one at most: its end is exclusive.
fn requested(fields: &HeaderMap) -> Option<Range<u64>> {
    let value = fields.get(RANGE)?.to_str().ok()?;
    let (first, last) = value.strip_prefix("bytes=")?.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some(first..last.saturating_add(1))
}

fn respond(
    origin: &Arc<Origin>,
    object: &Arc<Object>,
    range: Option<Range<u64>>,
    asked: &HeaderMap,
) -> Response<Body> {
    let now = SystemTime::now();
    let ago = millis(now).saturating_sub(object.record.asked);
    if !object.is_stored() || !object.record.has_validator() {
        // It is for one client; or the rest of it could not be had if this node ends.
        return said(StatusCode::MISDIRECTED_REQUEST, ago);
    }
    if let Some(status) = condition(object, asked) {
        let mut response = said(status, ago);
        describe(object, now, response.headers_mut());
        return response;
    }
    let len = object.len();
    let (status, range) = match range {
        Some(range) if range.start >= len => {
            let mut response = said(StatusCode::RANGE_NOT_SATISFIABLE, ago);
            let fields = response.headers_mut();
            put(fields, CONTENT_RANGE, &format!("bytes */{len}"));
            return response;
        }
        Some(range) => (StatusCode::PARTIAL_CONTENT, range.start..range.end.min(len)),
        None => (StatusCode::OK, 0..len),
    };
    let mut response = said(status, ago);
    let fields = response.headers_mut();
    describe(object, now, fields);
    put(fields, ACCEPT_RANGES, "bytes");
    put(
        fields,
        http::header::CONTENT_LENGTH,
        &(range.end - range.start).to_string(),
    );
    if status == StatusCode::PARTIAL_CONTENT {
        let value = format!("bytes {}-{}/{len}", range.start, range.end - 1);
        put(fields, CONTENT_RANGE, &value);
    }
    let reader = Reader {
        origin: Arc::clone(origin),
        object: Arc::clone(object),
        left: range,
        slice: None,
    };
    let pieces = unfold(reader, |mut reader| async move {
        let piece = reader.next().await?;
        Some((piece.map(Frame::data), reader))
    });
    *response.body_mut() = StreamBody::new(pieces).boxed_unsync();
    response
}

/// 304 or 412, if that is what the conditions of a request come to. A peer has one condition, with
/// the validator of a response as it was sent.
fn condition(object: &Object, asked: &HeaderMap) -> Option<StatusCode> {
    let is = |name: HeaderName, known: Option<&str>| {
        let value = asked.get(name)?;
        Some(known.is_some_and(|known| known.as_bytes() == value.as_bytes()))
    };
    let (etag, date) = (object.etag(), object.last_modified());
    let changed = [is(IF_MATCH, etag), is(IF_UNMODIFIED_SINCE, date)];
    if changed.contains(&Some(false)) {
        return Some(StatusCode::PRECONDITION_FAILED);
    }
    let unchanged = [is(IF_NONE_MATCH, etag), is(IF_MODIFIED_SINCE, date)];
    unchanged
        .contains(&Some(true))
        .then_some(StatusCode::NOT_MODIFIED)
}

/// The fields of an object as they came from the origin, and its age (RFC 9111, section 5.1).
fn describe(object: &Object, now: SystemTime, fields: &mut HeaderMap) {
    if let Some(etag) = object.etag() {
        put(fields, ETAG, etag);
    }
    if let Some(date) = object.last_modified() {
        put(fields, LAST_MODIFIED, date);
    }
    for (name, value) in object.fields() {
        if let Ok(name) = HeaderName::from_bytes(name.as_bytes()) {
            put(fields, name, value);
        }
    }
    if !object.record.tags.is_empty() {
        put(fields, SURROGATE_KEY, &object.record.tags.join(" "));
    }
    let age = object.age(now);
    put(fields, AGE, &age.to_string());
    // The time of the response is the origin's: Expires and Last-Modified are seen from there.
    let made = now.checked_sub(Duration::from_secs(age)).unwrap_or(now);
    put(fields, DATE, &httpdate::fmt_http_date(made));
}

fn elsewhere(status: u16, location: &str) -> Response<Body> {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::FOUND);
    let mut response = said(status, 0);
    put(response.headers_mut(), LOCATION, location);
    response
}

/// That there is no object is an answer; whatever else is wrong, the peer asks the origin itself.
fn refused(error: &Error, since: Option<SystemTime>) -> Response<Body> {
    let ago = since.map_or(0, |since| {
        millis(SystemTime::now()).saturating_sub(millis(since))
    });
    match error {
        Error::NotFound => said(StatusCode::NOT_FOUND, ago),
        Error::Forbidden => said(StatusCode::FORBIDDEN, ago),
        Error::Busy { .. } | Error::Changed => status(StatusCode::SERVICE_UNAVAILABLE),
        Error::Failed { .. } => status(StatusCode::BAD_GATEWAY),
        Error::TimedOut { .. } => status(StatusCode::GATEWAY_TIMEOUT),
    }
}

fn status(status: StatusCode) -> Response<Body> {
    let body = Empty::new().map_err(|never| match never {});
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() = status;
    response
}

/// An answer about the object, for which the origin was asked `ago` milliseconds ago.
fn said(about: StatusCode, ago: u64) -> Response<Body> {
    let mut response = status(about);
    put(response.headers_mut(), ASKED_AGO, &ago.to_string());
    response
}

fn put(fields: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        fields.insert(name, value);
    }
}

/// Reads a range of an object.
struct Reader {
    origin: Arc<Origin>,
    object: Arc<Object>,
    left: Range<u64>,
    /// That of the next byte.
    slice: Option<Open>,
}

/// A slice that is open: the bytes of a file are those of `range` within the object.
enum Open {
    Stored(Arc<File>, Range<u64>),
    Growing(Arc<File>, Range<u64>, Box<Growing>),
    Streamed(Box<Stream>),
}

impl Reader {
    async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        if self.left.is_empty() {
            return None;
        }
        let piece = self.piece().await;
        match &piece {
            Ok(piece) => self.left.start += piece.len() as u64,
            // It ends here.
            Err(error) => {
                tracing::debug!(%error, "a response to a peer is cut short");
                self.left = 0..0;
            }
        }
        Some(piece)
    }

    /// The next bytes; not empty.
    async fn piece(&mut self) -> Result<Bytes, Error> {
        let position = self.left.start;
        let is_within = match &self.slice {
            Some(Open::Stored(_, range) | Open::Growing(_, range, _)) => range.contains(&position),
            Some(Open::Streamed(_)) => true,
            None => false,
        };
        if !is_within {
            self.slice = Some(self.open(position).await?);
        }
        match &mut self.slice {
            Some(Open::Stored(file, range)) => {
                let file = Arc::clone(file);
                let range = range.clone();
                self.read(file, range).await
            }
            Some(Open::Growing(file, range, growing)) => {
                let written = growing.more_than(position - range.start).await?;
                let Some(written) = written else {
                    let rest = self.origin.rest(&self.object, position);
                    return self.stream(rest).await;
                };
                let (file, start) = (Arc::clone(file), range.start);
                self.read(file, start..start + written).await
            }
            Some(Open::Streamed(_)) | None => self.streamed().await,
        }
    }

    async fn open(&self, position: u64) -> Result<Open, Error> {
        let len = self.origin.slice_len();
        let start = position / len * len;
        let range = start..(start + len).min(self.object.len());
        let slice = self.origin.slice_for_peer(&self.object, position / len);
        Ok(match slice.await? {
            Slice::Stored(file) => Open::Stored(Arc::new(file.into()), range),
            Slice::Growing(growing) => {
                let file = growing.file().map_err(|error| broken(&error))?;
                Open::Growing(Arc::new(file.into()), range, Box::new(growing))
            }
            Slice::Streamed(stream) => Open::Streamed(Box::new(stream)),
        })
    }

    async fn stream(&mut self, stream: Stream) -> Result<Bytes, Error> {
        self.slice = Some(Open::Streamed(Box::new(stream)));
        self.streamed().await
    }

    /// A stream ends with its slice, or with the object.
    async fn streamed(&mut self) -> Result<Bytes, Error> {
        for _ in 0..2 {
            if let Some(Open::Streamed(stream)) = &mut self.slice
                && let Some(mut piece) = stream.next(self.left.start).await?
            {
                let left = usize::try_from(self.left.end - self.left.start);
                piece.truncate(left.unwrap_or(usize::MAX));
                return Ok(piece);
            }
            self.slice = Some(self.open(self.left.start).await?);
            if !matches!(self.slice, Some(Open::Streamed(_))) {
                return Box::pin(self.piece()).await;
            }
        }
        Err(Error::Changed)
    }

    /// Reads from a file that has the bytes `there` of the object.
    async fn read(&self, file: Arc<File>, there: Range<u64>) -> Result<Bytes, Error> {
        let position = self.left.start;
        let end = self.left.end.min(there.end).min(position + PIECE);
        let mut bytes = vec![0; (end - position) as usize];
        let read = self.origin.cache().blocking(move |_| {
            let read = file.read_exact_at(&mut bytes, position - there.start);
            read.map(|()| bytes)
        });
        match read.await {
            Some(Ok(bytes)) => Ok(bytes.into()),
            Some(Err(error)) => Err(broken(&error)),
            None => Err(Error::Changed),
        }
    }
}

fn broken(error: &io::Error) -> Error {
    Error::Failed {
        origin: "the cache".into(),
        reason: error.to_string().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_of_a_peer_is_a_simple_one() {
        let table = [
            ("bytes=0-9", Some(0..10)),
            ("bytes=5-5", Some(5..6)),
            ("bytes=5-4", None),
            ("bytes=5-", None),
            ("bytes=-5", None),
            ("bytes=0-1,3-4", None),
            ("bytes=0-18446744073709551615", Some(0..u64::MAX)),
        ];
        for (value, expected) in table {
            let mut fields = HeaderMap::new();
            put(&mut fields, RANGE, value);
            assert_eq!(requested(&fields), expected, "{value}");
        }
    }
}
