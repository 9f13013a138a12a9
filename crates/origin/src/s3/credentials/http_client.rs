//! Small requests to the services that give credentials.

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::{Client, connect::HttpConnector};

use super::error::RequestError;

/// The client that requests for credentials are sent with. Its connector must allow plain HTTP,
/// which instances and containers are asked by.
pub type HttpClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// The longest response, inclusive. Those of AWS have a few thousand bytes.
pub(super) const BODY_MAX: usize = 64 * 1024;

/// The whole response to a request, within `timeout`. A dropped future abandons it.
pub(super) async fn exchange(
    client: &HttpClient,
    request: Request<Full<Bytes>>,
    timeout: Duration,
) -> Result<(StatusCode, Bytes), RequestError> {
    let exchange = async {
        let response = client.request(request).await;
        let response = response.map_err(|error| RequestError::Connection(causes(&error)))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), BODY_MAX).collect().await;
        let body = body.map_err(|_| RequestError::Body(BODY_MAX))?;
        Ok((status, body.to_bytes()))
    };
    let outcome = tokio::time::timeout(timeout, exchange).await;
    outcome.unwrap_or(Err(RequestError::Timeout(timeout)))
}

/// The body of a response with status 200.
pub(super) async fn fetch(
    client: &HttpClient,
    request: Request<Full<Bytes>>,
    timeout: Duration,
) -> Result<Bytes, RequestError> {
    match exchange(client, request, timeout).await? {
        (StatusCode::OK, body) => Ok(body),
        (status, _) => Err(RequestError::Status { status, code: None }),
    }
}

/// A URI as errors show it: a user and a query may hold secrets.
pub(super) fn shown(uri: &Uri) -> String {
    let scheme = uri.scheme_str().unwrap_or("http");
    let host = uri.host().unwrap_or_default();
    let port = uri
        .port_u16()
        .map(|port| format!(":{port}"))
        .unwrap_or_default();
    format!("{scheme}://{host}{port}{}", uri.path())
}

/// The error with those that caused it: hyper's own says only "client error".
fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Answer, Server, client, run};
    use super::*;

    fn get(uri: &str) -> Request<Full<Bytes>> {
        Request::get(uri).body(Full::default()).unwrap()
    }

    #[test]
    fn responses_are_bounded() {
        let server = Server::start(|request| match request.target.as_str() {
            "/longest" => Answer::ok(&"a".repeat(BODY_MAX)),
            "/too-long" => Answer::ok(&"a".repeat(BODY_MAX + 1)),
            "/none" => Answer::never(),
            _ => Answer::status(404),
        });
        let timeout = Duration::from_millis(300);
        let not_found = RequestError::Status {
            status: StatusCode::NOT_FOUND,
            code: None,
        };
        for (path, expected) in [
            ("/longest", Ok(BODY_MAX)),
            ("/too-long", Err(RequestError::Body(BODY_MAX))),
            ("/none", Err(RequestError::Timeout(timeout))),
            ("/missing", Err(not_found)),
        ] {
            // A sanitizer may make a long body slow.
            let timeout = if path == "/none" {
                timeout
            } else {
                Duration::from_mins(1)
            };
            let request = get(&format!("{}{path}", server.endpoint()));
            let body = run(async { fetch(&client(), request, timeout).await });
            assert_eq!(body.map(|body| body.len()), expected, "{path}");
        }
    }

    #[test]
    fn a_refused_connection_names_its_cause() {
        let endpoint = Server::refusing();
        let timeout = Duration::from_mins(1);
        let error = run(async { fetch(&client(), get(&endpoint), timeout).await }).unwrap_err();
        assert!(error.to_string().contains("refused"), "{error}");
    }

    #[test]
    fn addresses_are_shown_without_secrets() {
        for (uri, expected) in [
            (
                "https://user:secret@host:1/path?secret",
                "https://host:1/path",
            ),
            ("http://[::1]/", "http://[::1]/"),
        ] {
            assert_eq!(shown(&uri.parse().unwrap()), expected);
        }
    }
}
