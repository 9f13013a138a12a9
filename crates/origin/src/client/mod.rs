//! Asks the origins of a site: the first one that is healthy, and another one when that fails.
//!
//! ```text
//!   Origins::send --> an endpoint that is up --> its permit --> sign --> connection of its pool
//!        ^                |  no head by the 95th percentile: a second request beside it
//!        |                v
//!        `-- once more, if it failed before the head and may do better
//! ```
//!
//! The modules, from top to bottom: `probe`; `endpoint`; `monitor` (counters, health and log);
//! `health`, `latency`, `counters`; `failure`.

mod counters;
mod endpoint;
mod failure;
mod health;
mod latency;
mod monitor;
mod probe;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{Either, select};
use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use tokio::time::sleep;

pub use self::counters::{EndpointCounters, HEAD_BOUNDS_MICROS, HEAD_BUCKETS};
pub(crate) use self::endpoint::Body;
pub use self::endpoint::{Authority, Endpoint, EndpointConfig};
pub use self::failure::FailureKind;
use self::monitor::Monitor;
pub use self::probe::probe_all;
use crate::error::Error;

/// Between a failure and the one retry, at most: spread, so that nodes do not come back together.
const RETRY_JITTER: Duration = Duration::from_millis(100);

/// Bytes of an error's body that are looked at.
pub(crate) const ERROR_BYTES: usize = 4096;

/// A request without content. It may be sent twice.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: Method,
    /// Below the origin's prefix: decoded, with a leading slash.
    pub(crate) path: Arc<[u8]>,
    /// As it is sent.
    pub(crate) query: Option<Arc<str>>,
    pub(crate) fields: Vec<(HeaderName, HeaderValue)>,
    /// Whether it may be sent a second time while the first one is late.
    pub(crate) may_be_hedged: bool,
}

/// The head of a response, and the rest of it.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) fields: HeaderMap,
    pub(crate) body: Body,
    /// When the request was sent, and when the head came.
    pub(crate) asked: SystemTime,
    /// When the origin was asked for what it says: earlier, if it came from a peer.
    pub(crate) asked_origin: SystemTime,
    /// Whether a peer sent it.
    pub(crate) is_of_peer: bool,
    pub(crate) came: SystemTime,
}

/// The origins of a site in their order: the primary, then those to fall back to.
pub(crate) struct Origins {
    endpoints: Vec<Arc<Endpoint>>,
}

impl Origins {
    pub(crate) fn new(endpoints: Vec<Arc<Endpoint>>) -> Self {
        Self { endpoints }
    }

    pub(crate) fn endpoints(&self) -> &[Arc<Endpoint>] {
        &self.endpoints
    }

    /// Sends a request, and once more if it fails before the head of a response came.
    ///
    /// Dropped: the request is given up, and its connection closed.
    pub(crate) async fn send(&self, request: &Request) -> Result<Answer, Error> {
        let first = self.choose(None);
        let failed = match self.hedged(first, request).await {
            Ok(answer) if !is_failure(answer.status) => return Ok(answer),
            other => other,
        };
        if failed.as_ref().is_err_and(|error| !error.is_transient()) {
            return failed;
        }
        sleep(RETRY_JITTER.mul_f64(fastrand::f64())).await;
        let second = self.choose(Some(first));
        tracing::debug!(origin = %second.name(), "asked again");
        second.count_retry();
        match second.send(request).await {
            Ok(answer) => Ok(answer),
            // What the first one said is more than that the second one is not there.
            Err(error) => failed.or(Err(error)),
        }
    }

    /// A second request to the same endpoint goes beside the first one if that takes longer than
    /// most do. The first head wins.
    async fn hedged(&self, endpoint: &Arc<Endpoint>, request: &Request) -> Result<Answer, Error> {
        let patience = request.may_be_hedged.then(|| endpoint.hedge_after());
        let Some(patience) = patience.flatten() else {
            return endpoint.send(request).await;
        };
        let began = Instant::now();
        let first = endpoint.send(request).boxed();
        let first = match select(first, Box::pin(sleep(patience))).await {
            Either::Left((answer, _)) => return answer,
            Either::Right(((), first)) => first,
        };
        // Where the timer is late as well, it is this host that is busy.
        if began.elapsed() > 2 * patience || !endpoint.may_hedge() {
            return first.await;
        }
        match select(first, endpoint.send(request).boxed()).await {
            Either::Left((Ok(answer), _)) | Either::Right((Ok(answer), _)) => Ok(answer),
            Either::Left((Err(_), other)) | Either::Right((Err(_), other)) => other.await,
        }
    }

    /// The endpoint to ask, or to ask after `but`.
    fn choose(&self, but: Option<&Arc<Endpoint>>) -> &Arc<Endpoint> {
        let but = self
            .endpoints
            .iter()
            .position(|one| but.is_some_and(|but| Arc::ptr_eq(but, one)));
        let down = self
            .endpoints
            .iter()
            .map(|one| one.down_until().filter(|_| !one.is_up()))
            .collect::<Vec<_>>();
        &self.endpoints[choose(&down, but)]
    }
}

/// Which endpoint to ask, by until when each is down: the first that is up, and if none is the one
/// that is due first. After a failure of `but` another one, unless that alone is up.
fn choose(down: &[Option<Instant>], but: Option<usize>) -> usize {
    let others = || (0..down.len()).filter(|at| Some(*at) != but);
    let up = |at: &usize| down[*at].is_none();
    others()
        .find(up)
        .or_else(|| but.filter(up))
        // It may be well again, and the one that just failed is not.
        .or_else(|| others().min_by_key(|at| down[*at]))
        .unwrap_or(0)
}

/// Whether the endpoint is in trouble, and another may not be.
fn is_failure(status: StatusCode) -> bool {
    status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED
}

impl Answer {
    /// The start of a short body, for what it says of an error: at most `max` bytes.
    pub(crate) async fn text(&mut self, max: usize) -> String {
        let mut text = Vec::new();
        while text.len() < max
            && let Some(Ok(chunk)) = self.body.chunk().await
        {
            text.extend_from_slice(&chunk);
        }
        text.truncate(max);
        String::from_utf8_lossy(&text).into_owned()
    }

    /// It cannot be used, as `reason` says.
    pub(crate) fn bad(&self, reason: &str) -> Error {
        bad(
            self.body.monitor(),
            self.status,
            FailureKind::Response,
            reason,
        )
    }

    /// It says that its origin is overloaded (429, 503).
    pub(crate) fn busy(&self) -> Error {
        let error = Error::Busy {
            origin: Arc::clone(self.body.origin()),
            reason: format!("it answers {}", self.status).into(),
            retry_after: self
                .field(&RETRY_AFTER)
                .and_then(|after| after.parse().ok()),
        };
        if !self.status.is_server_error() {
            self.body.monitor().failed(FailureKind::Status, &error);
        }
        error
    }

    /// Reads its body, and fails if `refusal` says what is wrong with the request.
    pub(crate) async fn admitted(
        mut self,
        refusal: impl FnOnce(&str) -> Option<String>,
    ) -> Result<Self, Error> {
        match refusal(&self.text(ERROR_BYTES).await) {
            Some(reason) => Err(bad(
                self.body.monitor(),
                self.status,
                FailureKind::Refused,
                &reason,
            )),
            None => Ok(self),
        }
    }

    /// The value of a field, if it is text.
    pub(crate) fn field(&self, name: &HeaderName) -> Option<&str> {
        self.fields.get(name)?.to_str().ok()
    }
}

/// The error of an answer, which is counted and logged unless its status was.
fn bad(monitor: &Monitor, status: StatusCode, kind: FailureKind, reason: &str) -> Error {
    let reason = reason.to_owned();
    if status.is_server_error() {
        monitor.error(kind, reason)
    } else {
        monitor.bad_answer(kind, reason)
    }
}

/// A request's content: none, or all of it in memory.
pub(crate) type Content = http_body_util::Full<Bytes>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_endpoint_is_asked_after_a_failure_unless_one_alone_is_up() {
        let later = |seconds| Some(Instant::now() + Duration::from_secs(seconds));
        let table = [
            (vec![None, None], None, 0),
            (vec![None, None], Some(0), 1),
            (vec![later(9), None], None, 1),
            (vec![later(9), None], Some(1), 1),
            (vec![later(9), later(1)], None, 1),
            (vec![later(9), later(1)], Some(1), 0),
            (vec![later(9), later(1), None], Some(1), 2),
            (vec![None], Some(0), 0),
            (vec![later(1)], Some(0), 0),
        ];
        for (down, but, expected) in table {
            assert_eq!(choose(&down, but), expected, "{down:?} after {but:?}");
        }
    }
}
