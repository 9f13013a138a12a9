//! Signed requests of one store: each is sent once more if it may do better then.

use std::fmt::Write;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::header::{CONTENT_LENGTH, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::bucket::Bucket;
use super::content::{Body, Content, Progress};
use super::error::RequestError;
use super::observer::Observer;
use crate::error::chain;
use crate::s3::errors::{error_code, remedy};
use crate::s3::xml::{element, unescaped};
use crate::s3::{S3Authority, sign};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);

/// How long nothing may move. A store puts the parts of an object together in that time.
const STALL: Duration = Duration::from_mins(2);

/// How often that is looked at, and whether the work is to stop.
const TICK: Duration = Duration::from_millis(200);

/// Between a failure and the one retry, at most.
const RETRY_JITTER: Duration = Duration::from_secs(1);

/// The longest body of a response: a thousand keys of a kilobyte, each byte encoded as three.
const BODY_MAX: usize = 8 << 20;

/// How long an unused connection is kept: less than stores keep it.
const IDLE: Duration = Duration::from_secs(4);

/// The User-Agent of requests.
const AGENT: HeaderValue = HeaderValue::from_static("tidegate");

/// A request.
pub(super) struct Request {
    pub(super) method: Method,
    /// Empty: the bucket.
    pub(super) key: String,
    /// As it is sent: made with `sign::encode_parameter`.
    pub(super) query: String,
    pub(super) fields: Vec<(HeaderName, HeaderValue)>,
    pub(super) content: Content,
    /// Whether it is sent even when the work is to stop.
    pub(super) is_cleanup: bool,
}

/// A response with a status of success.
pub(super) struct Response {
    pub(super) fields: HeaderMap,
    pub(super) body: String,
}

/// The connections to a store.
pub(super) struct Transport<'a> {
    client: Client<HttpsConnector<HttpConnector>, Body>,
    authority: Arc<S3Authority>,
    bucket: Bucket,
    permits: Semaphore,
    observer: &'a dyn Observer,
}

impl Request {
    pub(super) fn new(method: Method, key: &str) -> Self {
        Self {
            method,
            key: key.to_owned(),
            query: String::new(),
            fields: Vec::new(),
            content: Content::none(),
            is_cleanup: false,
        }
    }

    /// With a query of these parameters, in that order.
    pub(super) fn query(mut self, parameters: &[(&str, &str)]) -> Self {
        for (name, value) in parameters {
            let mark = if self.query.is_empty() { "" } else { "&" };
            let value = sign::encode_parameter(value.as_bytes());
            // Writing to a `String` cannot fail.
            let _ = write!(self.query, "{mark}{name}={value}");
        }
        self
    }

    /// With another field. A value that no field may have is left out.
    pub(super) fn field(mut self, name: HeaderName, value: &str) -> Self {
        self.fields
            .extend(HeaderValue::from_str(value).map(|value| (name, value)));
        self
    }

    pub(super) fn content(mut self, content: Content) -> Self {
        self.content = content;
        self
    }
}

impl<'a> Transport<'a> {
    /// Up to `concurrency` requests at a time. Nothing is connected yet.
    pub(super) fn new(
        bucket: Bucket,
        tls: ClientConfig,
        authority: Arc<S3Authority>,
        concurrency: usize,
        observer: &'a dyn Observer,
    ) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT));
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(concurrency)
            .retry_canceled_requests(true)
            .build(connector);
        Self {
            client,
            authority,
            bucket,
            permits: Semaphore::new(concurrency),
            observer,
        }
    }

    /// The URL of the bucket.
    pub(super) fn url(&self) -> String {
        self.bucket.url().to_string()
    }

    /// Sends a request, and once more after a failure that may pass.
    ///
    /// # Errors
    ///
    /// Those of the last attempt.
    pub(super) async fn send(&self, request: &Request) -> Result<Response, RequestError> {
        match self.attempt(request).await {
            Err(error) if error.is_transient() => {
                sleep(RETRY_JITTER.mul_f64(fastrand::f64())).await;
                self.attempt(request).await
            }
            other => other,
        }
    }

    async fn attempt(&self, request: &Request) -> Result<Response, RequestError> {
        let permit = self.permits.acquire().await;
        let _permit = permit.map_err(|error| RequestError::Failed(error.to_string()))?;
        if self.observer.is_stopping() && !request.is_cleanup {
            return Err(RequestError::Stopped);
        }
        let progress = Progress::default();
        let exchange = self.exchange(request, &progress);
        self.watch(exchange, &progress, request.is_cleanup).await
    }

    /// Ends work that makes no progress, and all work when it is to stop.
    async fn watch<T>(
        &self,
        work: impl Future<Output = Result<T, RequestError>>,
        progress: &Progress,
        is_cleanup: bool,
    ) -> Result<T, RequestError> {
        let mut work = pin!(work);
        let (mut seen, mut idle) = (0, Duration::ZERO);
        loop {
            if let Ok(done) = timeout(TICK, work.as_mut()).await {
                return done;
            }
            if self.observer.is_stopping() && !is_cleanup {
                return Err(RequestError::Stopped);
            }
            let now = progress.load(Ordering::Relaxed);
            idle = if now == seen { idle + TICK } else { TICK };
            seen = now;
            if idle >= STALL {
                return Err(RequestError::TimedOut(STALL));
            }
        }
    }

    async fn exchange(
        &self,
        request: &Request,
        progress: &Progress,
    ) -> Result<Response, RequestError> {
        let built = self.build(request, progress).await?;
        let response = self.client.request(built).await;
        let response = response.map_err(|error| RequestError::Failed(chain(&error)))?;
        let (head, body) = response.into_parts();
        let body = read(body, progress).await?;
        // A store that puts parts together says 200 before it knows (Amazon S3 API Reference,
        // "CompleteMultipartUpload").
        let is_error = request.method == Method::POST && element(&body, "Error").is_some();
        if !head.status.is_success() || is_error {
            return Err(refused(request, head.status, &body));
        }
        Ok(Response {
            fields: head.headers,
            body,
        })
    }

    async fn build(
        &self,
        request: &Request,
        progress: &Progress,
    ) -> Result<http::Request<Body>, RequestError> {
        let failed = |reason: String| RequestError::Failed(reason);
        let uri = self.bucket.target(&request.key, &request.query);
        let mut built = http::Request::new(request.content.body(progress));
        *built.method_mut() = request.method.clone();
        *built.uri_mut() = uri.map_err(|error| failed(error.to_string()))?;
        let fields = built.headers_mut();
        fields.insert(USER_AGENT, AGENT);
        fields.extend(request.fields.iter().cloned());
        let has_content = request.method == Method::PUT || request.method == Method::POST;
        if has_content {
            fields.insert(CONTENT_LENGTH, request.content.len().into());
        }
        let (mut parts, body) = built.into_parts();
        let payload = request.content.payload();
        let signed = self.authority.sign_payload(&mut parts, payload).await;
        signed.map_err(failed)?;
        Ok(http::Request::from_parts(parts, body))
    }
}

/// A body in memory; bytes that are no text are replaced.
async fn read(mut body: Incoming, progress: &Progress) -> Result<String, RequestError> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| RequestError::Failed(chain(&error)))?;
        progress.fetch_add(1, Ordering::Relaxed);
        bytes.extend_from_slice(&frame.into_data().unwrap_or_default());
        if bytes.len() > BODY_MAX {
            return Err(RequestError::Malformed("is longer than any of S3"));
        }
    }
    Ok(String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// The error of a response: its status, the code in its body, and the remedy.
fn refused(request: &Request, status: StatusCode, body: &str) -> RequestError {
    let code = error_code(body).and_then(unescaped);
    let is_code = |code: &String| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._".contains(&byte);
        (1..=64).contains(&code.len()) && code.bytes().all(is_plain)
    };
    let code = code.filter(is_code);
    let remedy = code.as_deref().and_then(|code| match code {
        "AccessDenied" | "AllAccessDisabled" => Some(missing_right(request)),
        "AccountProblem" | "NotSignedUp" => Some("the account has a problem: ask its owner"),
        "BadDigest" | "XAmzContentSHA256Mismatch" => {
            Some("the file changed while it was sent: publish again")
        }
        "EntityTooLarge" => Some("the store takes no object so large"),
        "InvalidBucketName" => Some("the bucket's name is wrong, or --style is another one"),
        "KeyTooLongError" => Some("a key has at most 1024 bytes"),
        "MethodNotAllowed" => Some("--endpoint is not that of a store"),
        "NoSuchUpload" => Some("somebody aborted the upload: publish again"),
        "QuotaExceeded" => Some("the quota is used up: remove objects, or raise it"),
        "SlowDown" | "ServiceUnavailable" => Some("it is overloaded: use a lower --concurrency"),
        "TemporaryRedirect" => Some("name the region of the bucket with --region"),
        code => remedy(code),
    });
    RequestError::Refused {
        status,
        code,
        remedy,
    }
}

/// What a policy has to allow.
fn missing_right(request: &Request) -> &'static str {
    match request.method {
        Method::DELETE if request.is_cleanup => {
            "the credentials lack the right s3:AbortMultipartUpload"
        }
        Method::DELETE => "the credentials lack the right s3:DeleteObject",
        Method::GET => "the credentials lack the right s3:ListBucket",
        _ => "the credentials lack the right s3:PutObject",
    }
}
