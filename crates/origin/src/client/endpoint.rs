//! One origin: a URL, its connections, how it is signed, and how it fares.

use std::error::Error as StdError;
use std::fmt::Write;
use std::mem;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use bytes::{Buf, Bytes};
use http::header::{ACCEPT_ENCODING, HOST, RANGE, USER_AGENT};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderValue, Method, StatusCode, Uri};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use rustls::ClientConfig;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout, timeout_at};

use super::counters::EndpointCounters;
use super::failure::{FailureKind, describe};
use super::latency::Latency;
use super::monitor::Monitor;
use super::{Answer, Content, ERROR_BYTES, Request};
use crate::error::{Error, chain};
use crate::s3::errors::refusal;

/// All but what is never encoded (RFC 3986, section 2.3) and the slash: what S3 signs.
const PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/');

/// Bytes that are received at a time. Their memory is used again once they are copied.
const RECEIVED_MAX: usize = 64 * 1024;

/// How long an unused connection is kept: less than most servers keep it, and short enough for a
/// name whose addresses change.
const IDLE: Duration = Duration::from_secs(20);

/// How a peer is asked: its network is near, and the origin is there if it fails.
mod peer {
    use std::time::Duration;

    /// How long a connection may take.
    pub(super) const CONNECT_TIME: Duration = Duration::from_millis(100);
    /// How long a head may take: it asks the origin itself.
    pub(super) const FIRST_BYTE_TIME: Duration = Duration::from_mins(1);
    /// How long nothing may come of a body.
    pub(super) const STALL_TIME: Duration = Duration::from_secs(5);
    /// How long what was sent may be unacknowledged (tcp(7), `TCP_USER_TIMEOUT`).
    pub(super) const USER_TIME: Duration = Duration::from_secs(2);
    /// After how long without a byte, and how often from then on, it is asked whether it is there.
    pub(super) const KEEPALIVE: Duration = Duration::from_secs(1);
    /// Requests under way at a time.
    pub(super) const CONNECTIONS: usize = 512;
}

/// How often an endpoint that is down is asked for its health.
const HEALTH_EVERY: Duration = Duration::from_secs(5);

/// How long [`Endpoint::probe`] waits.
const PROBE: Duration = Duration::from_secs(5);

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
    /// A path below `prefix`, percent-encoded, with a leading slash: it is asked for while the
    /// endpoint is down, to see when it is up again. `None`: only other requests tell.
    pub health: Option<String>,
}

/// Signs requests with the credentials that the origin demands.
pub trait Authority: Send + Sync {
    /// Adds the fields that authenticate the request at this moment.
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
    config: EndpointConfig,
    client: Client<HttpsConnector<HttpConnector>, Content>,
    authority: Option<Arc<dyn Authority>>,
    permits: Arc<Semaphore>,
    latency: Latency,
    monitor: Arc<Monitor>,
}

impl Endpoint {
    /// An endpoint that `authority` signs requests for. Nothing is connected yet.
    pub fn new(
        config: EndpointConfig,
        tls: ClientConfig,
        authority: Option<Arc<dyn Authority>>,
    ) -> Self {
        Self::over(HttpConnector::new(), config, tls, authority)
    }

    /// The peer of the fleet at `address`.
    pub(crate) fn of_peer(address: SocketAddr, tls: ClientConfig) -> Self {
        let config = EndpointConfig {
            is_https: false,
            authority: address.to_string(),
            prefix: String::new(),
            host: None,
            connect_timeout: peer::CONNECT_TIME,
            first_byte_timeout: peer::FIRST_BYTE_TIME,
            stall_timeout: peer::STALL_TIME,
            connections: peer::CONNECTIONS,
            health: None,
        };
        let mut tcp = HttpConnector::new();
        tcp.set_tcp_user_timeout(Some(peer::USER_TIME));
        tcp.set_keepalive(Some(peer::KEEPALIVE));
        tcp.set_keepalive_interval(Some(peer::KEEPALIVE));
        tcp.set_keepalive_retries(Some(2));
        Self::over(tcp, config, tls, None)
    }

    fn over(
        mut tcp: HttpConnector,
        config: EndpointConfig,
        tls: ClientConfig,
        authority: Option<Arc<dyn Authority>>,
    ) -> Self {
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
            .http1_max_buf_size(RECEIVED_MAX)
            .build(connector);
        let scheme = if config.is_https { "https" } else { "http" };
        let name = format!("{scheme}://{}{}", config.authority, config.prefix);
        Self {
            monitor: Arc::new(Monitor::new(name.into())),
            permits: Arc::new(Semaphore::new(config.connections)),
            latency: Latency::default(),
            authority,
            client,
            config,
        }
    }

    /// Its URL.
    pub fn name(&self) -> &Arc<str> {
        self.monitor.name()
    }

    /// What happened so far.
    pub fn counters(&self) -> &EndpointCounters {
        &self.monitor.counters
    }

    /// How long the head of a response may take, with the wait for a connection.
    pub(crate) fn patience(&self) -> Duration {
        2 * self.config.first_byte_timeout
    }

    /// Whether it is asked now: it is up, or a request is to try it.
    pub fn is_up(&self) -> bool {
        (self.down_until()).is_none_or(|until| until <= Instant::now())
    }

    /// Whether it failed several times in a row, and did not answer since.
    pub fn is_down(&self) -> bool {
        self.monitor.health.outage().is_some()
    }

    pub(super) fn down_until(&self) -> Option<Instant> {
        self.monitor.health.down_until()
    }

    /// The time within which most heads come; `None`: too few came.
    pub(crate) fn usual(&self) -> Option<Duration> {
        self.latency.usual()
    }

    pub(super) fn hedge_after(&self) -> Option<Duration> {
        self.latency.hedge_after()
    }

    pub(super) fn may_hedge(&self) -> bool {
        let may = self.latency.take_hedge();
        if may {
            self.counters().hedges.fetch_add(1, Ordering::Relaxed);
        }
        may
    }

    pub(super) fn count_retry(&self) {
        self.counters().retries.fetch_add(1, Ordering::Relaxed);
    }

    /// Sends one request, and returns the head of its response.
    ///
    /// Dropped: the request is given up, and its connection closed.
    pub(crate) async fn send(self: &Arc<Self>, request: &Request) -> Result<Answer, Error> {
        let permit = self
            .permit()
            .await
            .inspect_err(|error| self.monitor.log(error))?;
        let answer = match self.ask(request, permit).await {
            Ok(answer) => answer,
            Err(Failure { kind, error }) => {
                self.failed(kind, &error);
                return Err(error);
            }
        };
        let status = answer.status;
        if status.is_server_error() {
            let kind = FailureKind::Status;
            let error = self.monitor.error(kind, format!("it answers {status}"));
            self.failed(kind, &error);
        } else {
            self.monitor.succeeded();
        }
        Ok(answer)
    }

    /// Sends one request, whatever the endpoint was like before.
    async fn ask(
        &self,
        request: &Request,
        permit: OwnedSemaphorePermit,
    ) -> Result<Answer, Failure> {
        let (asked, start) = (SystemTime::now(), Instant::now());
        self.counters().requests.fetch_add(1, Ordering::Relaxed);
        let (head, incoming) = self.exchange(request).await?.into_parts();
        let taken = start.elapsed();
        self.latency.add(taken);
        self.counters().head_came(taken);
        Ok(Answer {
            status: head.status,
            fields: head.headers,
            body: Body {
                source: Source::Incoming(incoming),
                skipped: 0,
                left: u64::MAX,
                stall: self.config.stall_timeout,
                monitor: Arc::clone(&self.monitor),
                _permit: permit,
            },
            asked,
            asked_origin: asked,
            is_of_peer: false,
            came: SystemTime::now(),
        })
    }

    /// Asks once, to tell whether it answers: for `health`, or else for what is at the prefix. Its
    /// health is not changed by it.
    ///
    /// Dropped: the request is given up.
    ///
    /// # Errors
    ///
    /// Why it does not answer within 5 s, or refuses the credentials, the clock or the bucket.
    pub async fn probe(&self) -> Result<StatusCode, Error> {
        let request = self.request(Method::GET);
        let probed = async {
            let permit = self.permit().await?;
            let asked = self.ask(&request, permit).await;
            let mut answer = asked.map_err(|failure| failure.error)?;
            let status = answer.status;
            if status.is_success() {
                return Ok(status);
            }
            match refusal(&answer.text(ERROR_BYTES).await) {
                Some(reason) => Err(self.monitor.error(FailureKind::Refused, reason)),
                None => Ok(status),
            }
        };
        match timeout(PROBE, probed).await {
            Ok(probed) => probed,
            Err(_) => Err(self.timed_out("an answer").error),
        }
    }

    /// For the path that tells its health, or else for its prefix: one byte, if it is a GET.
    fn request(&self, method: Method) -> Request {
        let path = self.config.health.as_deref().unwrap_or("/");
        let path: Vec<u8> = percent_decode_str(path).collect();
        let one_byte = (RANGE, HeaderValue::from_static("bytes=0-0"));
        Request {
            fields: (method == Method::GET)
                .then_some(one_byte)
                .into_iter()
                .collect(),
            method,
            path: path.into(),
            query: None,
            may_be_hedged: false,
        }
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit, Error> {
        let acquired = Arc::clone(&self.permits).acquire_owned();
        match timeout(self.config.first_byte_timeout, acquired).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(Error::Busy {
                origin: Arc::clone(self.name()),
                reason: "all its connections are in use (connections of the origin)".into(),
                retry_after: Some(1),
            }),
        }
    }

    async fn exchange(&self, request: &Request) -> Result<http::Response<Incoming>, Failure> {
        let first_byte = self.config.first_byte_timeout;
        let until = tokio::time::Instant::now() + first_byte;
        let request = match timeout_at(until, self.build(request)).await {
            Ok(built) => built?,
            Err(_) => return Err(self.timed_out("its credentials")),
        };
        match timeout_at(until, self.client.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => {
                let (kind, reason) = describe(&error);
                Err(self.failure(kind, reason))
            }
            Err(_) => Err(self.timed_out("the head of its response")),
        }
    }

    async fn build(&self, request: &Request) -> Result<http::Request<Content>, Failure> {
        let uri = self.uri(request)?;
        let mut built = http::Request::new(Content::default());
        *built.method_mut() = request.method.clone();
        *built.uri_mut() = uri;
        let host = self.config.host.as_ref().unwrap_or(&self.config.authority);
        let host = HeaderValue::from_str(host);
        let fields = built.headers_mut();
        fields.insert(HOST, host.map_err(|error| self.bad_request(&error))?);
        fields.insert(USER_AGENT, AGENT);
        // Variants are objects of their own; a coding made by the origin would hide the length.
        fields.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        for (name, value) in &request.fields {
            fields.insert(name, value.clone());
        }
        let (mut parts, content) = built.into_parts();
        if let Some(authority) = &self.authority {
            let signed = authority.sign(&mut parts).await;
            signed.map_err(|reason| self.failure(FailureKind::Credentials, reason))?;
        }
        Ok(http::Request::from_parts(parts, content))
    }

    fn uri(&self, request: &Request) -> Result<Uri, Failure> {
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
            .path_and_query(target.map_err(|error| self.bad_request(&error))?)
            .build()
            .map_err(|error| self.bad_request(&error))
    }

    /// It was given up, since another one answered first.
    pub(crate) fn overtaken(self: &Arc<Self>) {
        let Failure { kind, error } = self.timed_out("the head of its response");
        self.failed(kind, &error);
    }

    /// Counts a failure, and watches an endpoint that is down since.
    fn failed(self: &Arc<Self>, kind: FailureKind, error: &Error) {
        if self.monitor.down(kind, error) && self.config.health.is_some() {
            let outage = self.monitor.health.outage();
            tokio::spawn(Self::watch(Arc::downgrade(self), outage));
        }
    }

    /// Asks for the path that tells its health until the outage ends, or nobody has the endpoint.
    async fn watch(endpoint: Weak<Self>, outage: Option<u64>) {
        loop {
            sleep(HEALTH_EVERY).await;
            let Some(endpoint) = endpoint.upgrade() else {
                return;
            };
            if endpoint.monitor.health.outage() != outage || endpoint.is_healthy().await {
                return;
            }
        }
    }

    /// Asks for the path that tells its health. It is up at once if that succeeds.
    async fn is_healthy(&self) -> bool {
        self.counters().requests.fetch_add(1, Ordering::Relaxed);
        let is_healthy = match self.exchange(&self.request(Method::HEAD)).await {
            Ok(response) => {
                let status = response.status();
                status.is_success() || status.is_redirection()
            }
            Err(Failure { error, .. }) => {
                tracing::debug!(%error, "the origin is still down");
                false
            }
        };
        if is_healthy {
            self.monitor.succeeded();
        }
        is_healthy
    }

    fn failure(&self, kind: FailureKind, reason: String) -> Failure {
        let error = self.monitor.error(kind, reason);
        Failure { kind, error }
    }

    /// There is no such request: a host or path of the configuration that HTTP does not have.
    fn bad_request(&self, error: &dyn StdError) -> Failure {
        self.failure(FailureKind::Response, error.to_string())
    }

    fn timed_out(&self, awaited: &str) -> Failure {
        let reason = format!("{awaited} did not come in time");
        self.failure(FailureKind::Timeout, reason)
    }
}

/// Why there is no response.
struct Failure {
    kind: FailureKind,
    error: Error,
}

/// The body of a response. Its connection goes back to the pool at its end.
pub(crate) struct Body {
    source: Source,
    stall: Duration,
    monitor: Arc<Monitor>,
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

    /// The next bytes, which there must be.
    ///
    /// Dropped: nothing is lost.
    pub(crate) async fn more(&mut self) -> Result<Bytes, Error> {
        let chunk = self.chunk().await;
        chunk.unwrap_or_else(|| {
            let reason = "its response is shorter than it said".to_owned();
            Err(self.monitor.bad_answer(FailureKind::Reset, reason))
        })
    }

    async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        let incoming = match &mut self.source {
            Source::Incoming(incoming) => incoming,
            Source::Memory(bytes) => {
                let bytes = mem::take(bytes);
                return (!bytes.is_empty()).then_some(Ok(bytes));
            }
        };
        let Ok(frame) = timeout(self.stall, incoming.frame()).await else {
            let reason = "the rest of its response did not come in time".to_owned();
            return Some(Err(self.monitor.bad_answer(FailureKind::Timeout, reason)));
        };
        match frame? {
            // Trailers say nothing here.
            Ok(frame) => Some(Ok(self.came(frame.into_data().unwrap_or_default()))),
            Err(error) => {
                let reason = format!("the connection broke: {}", chain(&error));
                Some(Err(self.monitor.bad_answer(FailureKind::Reset, reason)))
            }
        }
    }

    fn came(&self, bytes: Bytes) -> Bytes {
        let counter = &self.monitor.counters.body_bytes;
        counter.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        bytes
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
        self.monitor.name()
    }

    /// What is told of its origin.
    pub(crate) fn monitor(&self) -> &Arc<Monitor> {
        &self.monitor
    }
}
