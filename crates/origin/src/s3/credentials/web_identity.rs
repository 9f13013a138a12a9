//! A role that a token of an identity provider stands for, as in Kubernetes: STS's
//! `AssumeRoleWithWebIdentity` (AWS STS API Reference). The request is not signed.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Request, StatusCode, Uri};
use http_body_util::Full;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use zeroize::Zeroizing;

use super::environment::Environment;
use super::error::{CredentialsError, RequestError};
use super::http_client::{BODY_MAX, HttpClient, exchange, shown};
use super::keys::Credentials;
use super::profile::read_file;
use super::sts_response;

const TOKEN_FILE: &str = "AWS_WEB_IDENTITY_TOKEN_FILE";
const ROLE_ARN: &str = "AWS_ROLE_ARN";
const ROLE_SESSION_NAME: &str = "AWS_ROLE_SESSION_NAME";
const ENDPOINT: &str = "AWS_ENDPOINT_URL_STS";

const TIMEOUT: Duration = Duration::from_secs(5);

/// The credentials of the role `AWS_ROLE_ARN` for the token in `AWS_WEB_IDENTITY_TOKEN_FILE`;
/// `None` if there is no such variable. The file is read each time: its token changes. `region` is
/// asked if the environment has none.
pub(super) async fn load(
    environment: &Environment,
    client: &HttpClient,
    region: Option<&str>,
) -> Result<Option<Credentials>, CredentialsError> {
    let Some(file) = environment.get(TOKEN_FILE) else {
        return Ok(None);
    };
    let role = environment.need(ROLE_ARN, TOKEN_FILE)?;
    let session = environment
        .get(ROLE_SESSION_NAME)
        .unwrap_or_else(|| "tidegate".to_owned());
    let endpoint = endpoint(environment, region)?;
    let token = Zeroizing::new(read_token(Path::new(&file)).await?);

    let failed = |cause| CredentialsError::Service {
        service: "STS",
        address: shown(&endpoint),
        cause,
        remedy: "check AWS_ROLE_ARN, whether the role trusts the token's issuer, and \
                 AWS_ENDPOINT_URL_STS",
    };
    let request = request(&endpoint, &body(&role, &session, token.trim()))?;
    let response = exchange(client, request, TIMEOUT).await;
    response
        .and_then(|(status, body)| credentials_of(status, &body))
        .map(Some)
        .map_err(failed)
}

async fn read_token(file: &Path) -> Result<String, CredentialsError> {
    let token = read_file(file.to_owned(), BODY_MAX).await;
    token.map_err(|cause| CredentialsError::File {
        what: "web identity token",
        path: file.to_owned(),
        cause: cause.to_string(),
        remedy: TOKEN_FILE,
    })
}

fn request(endpoint: &Uri, body: &str) -> Result<Request<Full<Bytes>>, CredentialsError> {
    Request::post(endpoint)
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(ACCEPT, "text/xml")
        .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
        .map_err(|_| CredentialsError::Invalid {
            name: ENDPOINT,
            reason: NOT_A_URL,
        })
}

fn body(role: &str, session: &str, token: &str) -> Zeroizing<String> {
    let encoded = |value| utf8_percent_encode(value, NON_ALPHANUMERIC);
    Zeroizing::new(format!(
        "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn={}&RoleSessionName={}\
         &WebIdentityToken={}",
        encoded(role),
        encoded(session),
        encoded(token),
    ))
}

fn credentials_of(status: StatusCode, body: &[u8]) -> Result<Credentials, RequestError> {
    let body = std::str::from_utf8(body).map_err(|_| RequestError::Malformed("UTF-8"))?;
    if status == StatusCode::OK {
        return sts_response::parse(body);
    }
    Err(RequestError::Status {
        status,
        code: sts_response::error_code(body),
    })
}

const NOT_A_URL: &str = "it must be a URL like https://sts.eu-central-1.amazonaws.com";

/// Where STS is: `AWS_ENDPOINT_URL_STS`, or that of the region ("AWS Security Token Service
/// endpoints and quotas", AWS General Reference), or the global one.
fn endpoint(environment: &Environment, region: Option<&str>) -> Result<Uri, CredentialsError> {
    if let Some(url) = environment.get(ENDPOINT) {
        let endpoint: Option<Uri> = url.trim().parse().ok();
        let endpoint = endpoint.filter(|url| url.scheme().is_some() && url.host().is_some());
        return endpoint.ok_or(CredentialsError::Invalid {
            name: ENDPOINT,
            reason: NOT_A_URL,
        });
    }
    let of_environment = environment
        .get("AWS_REGION")
        .or_else(|| environment.get("AWS_DEFAULT_REGION"));
    let host = match of_environment.as_deref().or(region) {
        None => "sts.amazonaws.com".to_owned(),
        Some(region) if region.starts_with("cn-") => format!("sts.{region}.amazonaws.com.cn"),
        Some(region) => format!("sts.{region}.amazonaws.com"),
    };
    let is_label = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    let endpoint = host
        .bytes()
        .all(is_label)
        .then(|| format!("https://{host}/"));
    let endpoint = endpoint.and_then(|url| url.parse().ok());
    endpoint.ok_or(CredentialsError::Invalid {
        name: "AWS_REGION",
        reason: "it must be a region like eu-central-1",
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Answer, Server, client, environment, example_time, run};
    use super::*;

    const RESPONSE: &str = "<Credentials><AccessKeyId>A</AccessKeyId><SecretAccessKey>S\
        </SecretAccessKey><SessionToken>T</SessionToken><Expiration>2013-05-24T00:00:00Z\
        </Expiration></Credentials>";

    fn load_from(variables: &[(&str, &str)]) -> Result<Option<Credentials>, CredentialsError> {
        run(async { load(&environment(variables), &client(), None).await })
    }

    #[test]
    fn asks_sts() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, "to.ken+/=\n").unwrap();
        let server = Server::start(|_| Answer::ok(RESPONSE));
        let keys = load_from(&[
            (TOKEN_FILE, file.path().to_str().unwrap()),
            (ROLE_ARN, "arn:aws:iam::1:role/r"),
            (ROLE_SESSION_NAME, "me"),
            (ENDPOINT, server.endpoint()),
        ]);
        let keys = keys.unwrap().unwrap();
        assert_eq!((keys.access_key(), keys.secret_key()), ("A", "S"));
        assert_eq!(
            (keys.session_token(), keys.expires()),
            (Some("T"), Some(example_time()))
        );
        let [request] = &server.received()[..] else {
            panic!("one request")
        };
        assert_eq!((&*request.method, &*request.target), ("POST", "/"));
        assert_eq!(
            request.field("content-type"),
            Some("application/x-www-form-urlencoded")
        );
        assert_eq!(
            request.body,
            "Action=AssumeRoleWithWebIdentity&Version=2011-06-15\
             &RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fr&RoleSessionName=me\
             &WebIdentityToken=to%2Eken%2B%2F%3D"
        );
    }

    #[test]
    fn a_refusal_names_its_code_but_no_token() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, "SECRET").unwrap();
        let server = Server::start(|_| {
            Answer::with_body(
                400,
                "<Error><Code>ExpiredToken</Code><Message>SECRET</Message></Error>",
            )
        });
        let error = load_from(&[
            (TOKEN_FILE, file.path().to_str().unwrap()),
            (ROLE_ARN, "arn"),
            (ENDPOINT, server.endpoint()),
        ]);
        let error = error.unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(text.contains("status 400 (ExpiredToken)"), "{text}");
        assert!(
            text.contains(server.endpoint()) && !text.contains("SECRET"),
            "{text}"
        );
    }

    #[test]
    fn needs_a_role_and_a_file() {
        assert!(load_from(&[(ROLE_ARN, "arn")]).unwrap().is_none());
        let error = load_from(&[(TOKEN_FILE, "/none")]).unwrap_err();
        assert_eq!(
            error,
            CredentialsError::Incomplete {
                set: TOKEN_FILE,
                missing: ROLE_ARN
            }
        );
        let error = load_from(&[(TOKEN_FILE, "/none"), (ROLE_ARN, "arn")]).unwrap_err();
        assert!(matches!(error, CredentialsError::File { .. }), "{error}");
    }

    #[test]
    fn endpoints_are_those_of_the_region() {
        for (variables, region, expected) in [
            (&[][..], None, Some("https://sts.amazonaws.com/")),
            (
                &[],
                Some("eu-west-1"),
                Some("https://sts.eu-west-1.amazonaws.com/"),
            ),
            (
                &[
                    ("AWS_REGION", "us-east-2"),
                    ("AWS_DEFAULT_REGION", "us-east-1"),
                ],
                Some("eu-west-1"),
                Some("https://sts.us-east-2.amazonaws.com/"),
            ),
            (
                &[("AWS_DEFAULT_REGION", "cn-north-1")],
                None,
                Some("https://sts.cn-north-1.amazonaws.com.cn/"),
            ),
            (
                &[(ENDPOINT, "http://localhost:1")],
                Some("x"),
                Some("http://localhost:1/"),
            ),
            (&[(ENDPOINT, "localhost")], None, None),
            (&[("AWS_REGION", "evil.com/")], None, None),
            (&[("AWS_REGION", "a@b")], None, None),
        ] {
            let endpoint = endpoint(&environment(variables), region);
            let found = endpoint.ok().map(|endpoint| endpoint.to_string());
            assert_eq!(found.as_deref(), expected, "{variables:?} {region:?}");
        }
    }
}
