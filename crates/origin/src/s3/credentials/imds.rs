//! The instance metadata service of EC2, version 2: with a session token (Amazon EC2 User Guide,
//! "Use the Instance Metadata Service to access instance metadata").

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Uri};
use http_body_util::Full;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::environment::Environment;
use super::error::{CredentialsError, RequestError};
use super::http_client::{HttpClient, fetch, shown};
use super::json;
use super::keys::Credentials;

const DISABLED: &str = "AWS_EC2_METADATA_DISABLED";
const ENDPOINT: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT";
const ENDPOINT_MODE: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE";

const TOKEN_PATH: &str = "/latest/api/token";
const ROLE_PATH: &str = "/latest/meta-data/iam/security-credentials/";
const TOKEN: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token");
const TOKEN_TTL: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token-ttl-seconds");
/// A token is used for one load only, which is two requests.
const TOKEN_TTL_SECONDS: HeaderValue = HeaderValue::from_static("60");

/// Of each of the three requests. The service is on the same host.
const TIMEOUT: Duration = Duration::from_secs(1);

/// The credentials of the instance's role; `None` if `AWS_EC2_METADATA_DISABLED` is true.
pub(super) async fn load(
    environment: &Environment,
    client: &HttpClient,
) -> Result<Option<Credentials>, CredentialsError> {
    if environment.is_true(DISABLED) {
        return Ok(None);
    }
    let endpoint = endpoint(environment)?;
    let service = Service {
        client,
        endpoint: &endpoint,
    };
    let token = service.token().await?;
    let role = service.role(&token).await?;
    service.credentials(&token, &role).await.map(Some)
}

/// Its scheme, host and port, without a slash at the end.
fn endpoint(environment: &Environment) -> Result<String, CredentialsError> {
    let is_v6 = environment
        .get(ENDPOINT_MODE)
        .is_some_and(|mode| mode.eq_ignore_ascii_case("ipv6"));
    let default = if is_v6 {
        "http://[fd00:ec2::254]"
    } else {
        "http://169.254.169.254"
    };
    let endpoint = environment
        .get(ENDPOINT)
        .unwrap_or_else(|| default.to_owned());
    let endpoint = endpoint.trim().trim_end_matches('/');
    let is_url = endpoint
        .parse()
        .is_ok_and(|uri: Uri| uri.scheme().is_some() && uri.host().is_some());
    is_url
        .then(|| endpoint.to_owned())
        .ok_or(CredentialsError::Invalid {
            name: ENDPOINT,
            reason: "it must be a URL like http://169.254.169.254",
        })
}

struct Service<'a> {
    client: &'a HttpClient,
    endpoint: &'a str,
}

impl Service<'_> {
    async fn token(&self) -> Result<HeaderValue, CredentialsError> {
        let body = self
            .ask(Method::PUT, TOKEN_PATH, (TOKEN_TTL, TOKEN_TTL_SECONDS))
            .await?;
        let token = HeaderValue::from_bytes(body.trim_ascii());
        let mut token = token.map_err(|_| self.malformed(TOKEN_PATH, "token"))?;
        token.set_sensitive(true);
        Ok(token)
    }

    /// The name of the instance's role: the first line.
    async fn role(&self, token: &HeaderValue) -> Result<String, CredentialsError> {
        let body = self
            .ask(Method::GET, ROLE_PATH, (TOKEN, token.clone()))
            .await?;
        let role = std::str::from_utf8(&body)
            .ok()
            .and_then(|body| body.lines().next());
        let role = role.map(str::trim).filter(|role| !role.is_empty());
        role.map(str::to_owned)
            .ok_or_else(|| self.malformed(ROLE_PATH, "role"))
    }

    async fn credentials(
        &self,
        token: &HeaderValue,
        role: &str,
    ) -> Result<Credentials, CredentialsError> {
        let role = utf8_percent_encode(role, NON_ALPHANUMERIC);
        let path = format!("{ROLE_PATH}{role}");
        let body = self.ask(Method::GET, &path, (TOKEN, token.clone())).await?;
        json::parse(&body).map_err(|cause| self.failed(&path, cause))
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        (name, value): (HeaderName, HeaderValue),
    ) -> Result<Bytes, CredentialsError> {
        let uri = format!("{}{path}", self.endpoint);
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header(name, value);
        let request = request.body(Full::default());
        let request = request.map_err(|_| self.malformed(path, "role"))?;
        let body = fetch(self.client, request, TIMEOUT).await;
        body.map_err(|cause| self.failed(path, cause))
    }

    fn malformed(&self, path: &str, what: &'static str) -> CredentialsError {
        self.failed(path, RequestError::Malformed(what))
    }

    fn failed(&self, path: &str, cause: RequestError) -> CredentialsError {
        let uri = format!("{}{path}", self.endpoint).parse();
        CredentialsError::Service {
            service: "EC2's instance metadata service, asked as nothing else has any,",
            address: uri.map(|uri| shown(&uri)).unwrap_or_default(),
            cause,
            remedy: "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or on EC2 give the \
                     instance a role, and allow two hops if this is a container",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Answer, Received, Server, client, environment, run};
    use super::*;

    const RESPONSE: &str = r#"{"Code":"Success","AccessKeyId":"A","SecretAccessKey":"S",
        "Token":"T","Expiration":"2013-05-24T00:00:00Z"}"#;

    fn instance(request: &Received) -> Answer {
        match (request.method.as_str(), request.target.as_str()) {
            ("PUT", TOKEN_PATH) if request.field(TOKEN_TTL.as_str()) == Some("60") => {
                Answer::ok("session-token")
            }
            _ if request.field(TOKEN.as_str()) != Some("session-token") => Answer::status(401),
            ("GET", ROLE_PATH) => Answer::ok("my role\nother"),
            ("GET", "/latest/meta-data/iam/security-credentials/my%20role") => Answer::ok(RESPONSE),
            _ => Answer::status(404),
        }
    }

    fn load_from(variables: &[(&str, &str)]) -> Result<Option<Credentials>, CredentialsError> {
        run(async { load(&environment(variables), &client()).await })
    }

    #[test]
    fn asks_for_token_role_and_credentials() {
        let server = Server::start(instance);
        for endpoint in [
            server.endpoint().to_owned(),
            format!("{}/", server.endpoint()),
        ] {
            let keys = load_from(&[(ENDPOINT, &endpoint)]).unwrap().unwrap();
            assert_eq!((keys.access_key(), keys.secret_key()), ("A", "S"));
            assert_eq!(keys.session_token(), Some("T"));
        }
        assert_eq!(server.received().len(), 6);
    }

    #[test]
    fn failures_name_the_address() {
        let without_role = Server::start(|request| match request.method.as_str() {
            "PUT" => Answer::ok("token"),
            _ => Answer::status(404),
        });
        let text = load_from(&[(ENDPOINT, without_role.endpoint())])
            .unwrap_err()
            .to_string();
        let expected = format!("{}{ROLE_PATH}: status 404", without_role.endpoint());
        assert!(text.contains(&expected), "{text}");

        let refusing = Server::refusing();
        let text = load_from(&[(ENDPOINT, &refusing)]).unwrap_err().to_string();
        assert!(
            text.contains(&refusing) && text.contains("refused"),
            "{text}"
        );

        let silent = Server::start(|_| Answer::never());
        let error = load_from(&[(ENDPOINT, silent.endpoint())]).unwrap_err();
        assert!(
            error.to_string().contains("no response within 1 s"),
            "{error}"
        );
    }

    #[test]
    fn endpoints_follow_the_variables() {
        for (variables, expected) in [
            (&[][..], Some("http://169.254.169.254")),
            (&[(ENDPOINT_MODE, "IPv6")], Some("http://[fd00:ec2::254]")),
            (
                &[(ENDPOINT_MODE, "IPv6"), (ENDPOINT, "http://host:1/")],
                Some("http://host:1"),
            ),
            (&[(ENDPOINT, "host")], None),
            (&[(ENDPOINT, "http://")], None),
        ] {
            let found = endpoint(&environment(variables)).ok();
            assert_eq!(found.as_deref(), expected, "{variables:?}");
        }
        assert!(load_from(&[(DISABLED, "True")]).unwrap().is_none());
    }
}
