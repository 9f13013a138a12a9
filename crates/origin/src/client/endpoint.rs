//! One origin: a URL, its connections, how it is signed, and how it fares.

use std::error::Error as StdError;
use std::fmt::Write;
use std::io;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use bytes::{Buf, Bytes};
use http::header::{ACCEPT_ENCODING, HOST, USER_AGENT};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderValue, Uri};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use rustls::ClientConfig;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{timeout, timeout_at};

use super::health::Health;
use super::latency::Latency;
use super::{Answer, Content, Request};
use crate::error::Error;

/// All but what is never encoded (RFC 3986, section 2.3) and the slash: what S3 signs.
const PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/');

/// How long an unused connection is kept: less than most servers keep it, and short enough for a
/// name whose addresses change.
const IDLE: Duration = Duration::from_secs(20);

/// The User-Agent of requests.
const AGENT: HeaderValue = HeaderValue::from_static("tidegate");

/// What an endpoint is made of.
#[derive(Clone, Debug)]
pub struct EndpointConfig {
    /// Whether it speaks TLS.
    pub is_https: bool,
    /// Host and port, as in a URL.
    pub authority: String,
    /// What stands before every path: empty, or with a leading slash and without one at its end.
    pub prefix: String,
    /// The value of Host; `None`: the authority.
    pub host: Option<String>,
    /// How long a connection may take, with TLS.
    pub connect_timeout: Duration,
    /// How long the head of a response may take, from when it is asked for.
    pub first_byte_timeout: Duration,
    /// How long nothing may come of a body.
    pub stall_timeout: Duration,
    /// Requests under way at a time.
    pub connections: usize,
}

/// Signs requests with the credentials that the origin demands.
pub trait Authority: Send + Sync {
    /// Adds what proves who asks, as of now.
    ///
    /// # Errors
    ///
    /// Why there are no credentials.
    fn sign<'a>(
        &'a self,
        request: &'a mut http::request::Parts,
    ) -> futures_util::future::BoxFuture<'a, Result<(), String>>;
}

/// One origin.
pub struct Endpoint {
    name: Arc<str>,
    config: EndpointConfig,
    client: Client<HttpsConnector<HttpConnector>, Content>,
    authority: Option<Arc<dyn Authority>>,
    permits: Arc<Semaphore>,
    health: Health,
    latency: Latency,
    counters: EndpointCounters,
}

/// What happened to the requests of an endpoint so far.
#[derive(Debug, Default)]
pub struct EndpointCounters {
    /// Requests that were sent.
    pub requests: AtomicU64,
    /// Those without a response: no connection, no head in time, or one that is none.
    pub failures: AtomicU64,
    /// Those that were sent again after a failure.
    pub retries: AtomicU64,
    /// Those that were sent beside a slow one.
    pub hedges: AtomicU64,
    /// The sum of the times to the head, in microseconds.
    pub head_micros: AtomicU64,
    /// Bytes of bodies.
    pub body_bytes: AtomicU64,
}

impl Endpoint {
    /// An endpoint that `authority` signs requests for. Nothing is connected yet.
    pub fn new(
        config: EndpointConfig,
        tls: ClientConfig,
        authority: Option<Arc<dyn Authority>>,
    ) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(config.connect_timeout));
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(config.connections)
            // A connection that the origin closed meanwhile is replaced by a new one.
            .retry_canceled_requests(true)
            .set_host(false)
            .http1_max_buf_size(256 * 1024)
            .build(connector);
        let scheme = if config.is_https { "https" } else { "http" };
        Self {
            name: format!("{scheme}://{}{}", config.authority, config.prefix).into(),
            permits: Arc::new(Semaphore::new(config.connections)),
            health: Health::default(),
            latency: Latency::default(),
            counters: EndpointCounters::default(),
            authority,
            client,
            config,
        }
    }

    /// Its URL.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// What happened so far.
    pub fn counters(&self) -> &EndpointCounters {
        &self.counters
    }

    /// How long the head of a response may take, with the wait for a connection.
    pub(crate) fn patience(&self) -> Duration {
        2 * self.config.first_byte_timeout
    }

    /// Whether it is asked now.
    pub fn is_up(&self) -> bool {
        (self.health.down_until()).is_none_or(|until| until <= Instant::now())
    }

    pub(super) fn down_until(&self) -> Option<Instant> {
        self.health.down_until()
    }

    pub(super) fn hedge_after(&self) -> Option<Duration> {
        self.latency.hedge_after()
    }

    pub(super) fn may_hedge(&self) -> bool {
        let may = self.latency.take_hedge();
        if may {
            self.counters.hedges.fetch_add(1, Ordering::Relaxed);
        }
        may
    }

    pub(super) fn count_retry(&self) {
        self.counters.retries.fetch_add(1, Ordering::Relaxed);
    }

    /// Sends one request, and returns the head of its response.
    ///
    /// Dropped: the request is given up, and its connection closed.
    pub(super) async fn send(&self, request: &Request) -> Result<Answer, Error> {
        let permit = self.permit().await?;
        let (asked, start) = (SystemTime::now(), Instant::now());
        self.counters.requests.fetch_add(1, Ordering::Relaxed);
        let sent = self.exchange(request).await;
        let response = match sent {
            Ok(response) => response,
            Err(error) => {
                self.failed(&error);
                return Err(error);
            }
        };
        let taken = start.elapsed();
        self.latency.add(taken);
        self.counters
            .head_micros
            .fetch_add(taken.as_micros() as u64, Ordering::Relaxed);
        let (head, incoming) = response.into_parts();
        if head.status.is_server_error() {
            self.failed(&self.failure(format!("it answers {}", head.status)));
        } else if self.health.succeeded() {
            tracing::info!(origin = %self.name, "the origin answers again");
        }
        Ok(Answer {
            status: head.status,
            fields: head.headers,
            body: Body {
                source: Source::Incoming(incoming),
                skipped: 0,
                left: u64::MAX,
                stall: self.config.stall_timeout,
                origin: Arc::clone(&self.name),
                _permit: permit,
            },
            asked,
            came: SystemTime::now(),
        })
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit, Error> {
        let acquired = Arc::clone(&self.permits).acquire_owned();
        match timeout(self.config.first_byte_timeout, acquired).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(Error::Busy {
                origin: Arc::clone(&self.name),
                reason: "all its connections are in use (connections of the origin)".into(),
                retry_after: Some(1),
            }),
        }
    }

    async fn exchange(&self, request: &Request) -> Result<http::Response<Incoming>, Error> {
        let first_byte = self.config.first_byte_timeout;
        let until = tokio::time::Instant::now() + first_byte;
        let request = match timeout_at(until, self.build(request)).await {
            Ok(built) => built?,
            Err(_) => return Err(self.timed_out("its credentials")),
        };
        match timeout_at(until, self.client.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) if is_timeout(&error) => Err(self.timed_out("a connection")),
            Ok(Err(error)) => Err(self.failure(chain(&error))),
            Err(_) => Err(self.timed_out("the head of its response")),
        }
    }

    async fn build(&self, request: &Request) -> Result<http::Request<Content>, Error> {
        let uri = self.uri(request)?;
        let mut built = http::Request::new(Content::default());
        *built.method_mut() = request.method.clone();
        *built.uri_mut() = uri;
        let host = self.config.host.as_ref().unwrap_or(&self.config.authority);
        let host = HeaderValue::from_str(host);
        let fields = built.headers_mut();
        fields.insert(HOST, host.map_err(|error| self.failure(error.to_string()))?);
        fields.insert(USER_AGENT, AGENT);
        // Variants are objects of their own; a coding made by the origin would hide the length.
        fields.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        for (name, value) in &request.fields {
            fields.insert(name, value.clone());
        }
        let (mut parts, content) = built.into_parts();
        if let Some(authority) = &self.authority {
            let signed = authority.sign(&mut parts).await;
            signed.map_err(|reason| self.failure(reason))?;
        }
        Ok(http::Request::from_parts(parts, content))
    }

    fn uri(&self, request: &Request) -> Result<Uri, Error> {
        let mut target = self.config.prefix.clone();
        let _ = write!(target, "{}", percent_encode(&request.path, PATH));
        if let Some(query) = &request.query {
            let _ = write!(target, "?{query}");
        }
        let target = PathAndQuery::try_from(target);
        let scheme = if self.config.is_https {
            Scheme::HTTPS
        } else {
            Scheme::HTTP
        };
        Uri::builder()
            .scheme(scheme)
            .authority(&*self.config.authority)
            .path_and_query(target.map_err(|error| self.failure(error.to_string()))?)
            .build()
            .map_err(|error| self.failure(error.to_string()))
    }

    fn failed(&self, error: &Error) {
        self.counters.failures.fetch_add(1, Ordering::Relaxed);
        if self.health.failed(Instant::now()) {
            tracing::warn!(origin = %self.name, %error, "the origin is passed over for a while");
        }
    }

    /// An error of this endpoint.
    pub(crate) fn failure(&self, reason: String) -> Error {
        Error::Failed {
            origin: Arc::clone(&self.name),
            reason: reason.into(),
        }
    }

    fn timed_out(&self, awaited: &str) -> Error {
        Error::TimedOut {
            origin: Arc::clone(&self.name),
            reason: format!("{awaited} did not come in time").into(),
        }
    }
}

/// The body of a response. Its connection goes back to the pool at its end.
pub(crate) struct Body {
    source: Source,
    stall: Duration,
    origin: Arc<str>,
    /// Bytes that are left out before, and those that are wanted after that.
    skipped: u64,
    left: u64,
    _permit: OwnedSemaphorePermit,
}

enum Source {
    Incoming(Incoming),
    Memory(Bytes),
}

impl Body {
    /// The next bytes; `None` at the end. A body that is shorter than announced is an error.
    ///
    /// Dropped: nothing is lost.
    pub(crate) async fn chunk(&mut self) -> Option<Result<Bytes, Error>> {
        while self.left > 0 {
            let mut chunk = match self.next().await? {
                Ok(chunk) => chunk,
                Err(error) => return Some(Err(error)),
            };
            let skipped = self.skipped.min(chunk.len() as u64);
            self.skipped -= skipped;
            chunk.advance(skipped as usize);
            chunk.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
            self.left -= chunk.len() as u64;
            if !chunk.is_empty() {
                return Some(Ok(chunk));
            }
        }
        None
    }

    async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        let incoming = match &mut self.source {
            Source::Incoming(incoming) => incoming,
            Source::Memory(bytes) => {
                let bytes = mem::take(bytes);
                return (!bytes.is_empty()).then_some(Ok(bytes));
            }
        };
        match timeout(self.stall, incoming.frame()).await {
            // Trailers say nothing here.
            Ok(frame) => match frame? {
                Ok(frame) => Some(Ok(frame.into_data().unwrap_or_default())),
                Err(error) => Some(Err(Error::Failed {
                    origin: Arc::clone(&self.origin),
                    reason: chain(&error).into(),
                })),
            },
            Err(_) => Some(Err(Error::TimedOut {
                origin: Arc::clone(&self.origin),
                reason: "the rest of its response did not come in time".into(),
            })),
        }
    }

    /// The part of it that begins after `skipped` bytes and has at most `len`.
    pub(crate) fn part(mut self, skipped: u64, len: u64) -> Self {
        (self.skipped, self.left) = (skipped, len);
        self
    }

    /// The same, with `bytes` as what is left of it.
    pub(crate) fn replaced(mut self, bytes: Bytes) -> Self {
        self.source = Source::Memory(bytes);
        self
    }

    /// The URL of its origin.
    pub(crate) fn origin(&self) -> &Arc<str> {
        &self.origin
    }
}

fn is_timeout(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let io = error.downcast_ref::<io::Error>();
        if io.is_some_and(|error| error.kind() == io::ErrorKind::TimedOut) {
            return true;
        }
        next = error.source();
    }
    false
}

/// An error with its causes: hyper's own text names none.
fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let _ = write!(text, ": {error}");
        next = error.source();
    }
    text
}
