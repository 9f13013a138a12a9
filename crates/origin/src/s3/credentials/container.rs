//! The endpoint of a container: of ECS, and of EKS with Pod Identity ("Container credential
//! provider", AWS SDKs and Tools Reference Guide).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, HeaderValue};
use http::uri::Scheme;
use http::{Request, Uri};
use http_body_util::Full;
use zeroize::Zeroizing;

use super::environment::Environment;
use super::error::CredentialsError;
use super::http_client::{BODY_MAX, HttpClient, fetch, shown};
use super::json;
use super::keys::Credentials;
use super::profile::read_file;

const RELATIVE_URI: &str = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
const FULL_URI: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
const TOKEN: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN";
const TOKEN_FILE: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";

/// Where `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI` is.
const ECS: Ipv4Addr = Ipv4Addr::new(169, 254, 170, 2);
const EKS: Ipv4Addr = Ipv4Addr::new(169, 254, 170, 23);
const EKS_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23);

/// The endpoint may ask STS itself.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The credentials that the endpoint gives; `None` if no variable names one.
pub(super) async fn load(
    environment: &Environment,
    client: &HttpClient,
) -> Result<Option<Credentials>, CredentialsError> {
    let Some(uri) = uri(environment)? else {
        return Ok(None);
    };
    let mut request = Request::get(&uri).header(ACCEPT, "application/json");
    if let Some(token) = authorization(environment).await? {
        request = request.header(AUTHORIZATION, token);
    }
    let request = request.body(Full::<Bytes>::default());
    let request = request.map_err(|_| invalid(FULL_URI, NOT_A_URL))?;
    let body = fetch(client, request, TIMEOUT).await;
    let credentials = body.and_then(|body| json::parse(&body));
    credentials
        .map(Some)
        .map_err(|cause| CredentialsError::Service {
            service: "the container's endpoint",
            address: shown(&uri),
            cause,
            remedy: "check whether the task or pod has a role",
        })
}

fn invalid(name: &'static str, reason: &'static str) -> CredentialsError {
    CredentialsError::Invalid { name, reason }
}

const NOT_A_URL: &str = "it must be a URL";

fn uri(environment: &Environment) -> Result<Option<Uri>, CredentialsError> {
    if let Some(path) = environment.get(RELATIVE_URI) {
        let not_a_path = || invalid(RELATIVE_URI, "it must be a path that begins with a slash");
        if !path.starts_with('/') {
            return Err(not_a_path());
        }
        let uri = format!("http://{ECS}{path}").parse();
        return uri.map(Some).map_err(|_| not_a_path());
    }
    let Some(uri) = environment.get(FULL_URI) else {
        return Ok(None);
    };
    let uri: Uri = uri.parse().map_err(|_| invalid(FULL_URI, NOT_A_URL))?;
    if is_trusted(&uri) {
        return Ok(Some(uri));
    }
    Err(invalid(
        FULL_URI,
        "without https its host must be localhost, a loopback address, 169.254.170.2, \
         169.254.170.23 or fd00:ec2::23",
    ))
}

/// Whether the token may be sent there: others might read it on the way.
fn is_trusted(uri: &Uri) -> bool {
    let Some(host) = uri.host() else { return false };
    if uri.scheme() == Some(&Scheme::HTTPS) {
        return true;
    }
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let of_container = |address: IpAddr| {
        address.is_loopback() || [ECS.into(), EKS.into(), EKS_V6.into()].contains(&address)
    };
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(of_container)
}

/// The value of Authorization. The file is read each time: its token changes.
async fn authorization(environment: &Environment) -> Result<Option<HeaderValue>, CredentialsError> {
    let (name, token) = match environment.get(TOKEN_FILE) {
        Some(file) => (TOKEN_FILE, read_token(file.into()).await?),
        None => match environment.get(TOKEN) {
            Some(token) => (TOKEN, token),
            None => return Ok(None),
        },
    };
    let token = Zeroizing::new(token);
    let value = HeaderValue::from_str(token.trim());
    let mut value = value.map_err(|_| invalid(name, "it has line breaks or control characters"))?;
    value.set_sensitive(true);
    Ok(Some(value))
}

async fn read_token(path: PathBuf) -> Result<String, CredentialsError> {
    let token = read_file(path.clone(), BODY_MAX).await;
    token.map_err(|cause| CredentialsError::File {
        what: "container's token",
        path,
        cause: cause.to_string(),
        remedy: TOKEN_FILE,
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Answer, Server, client, environment, run};
    use super::*;

    const RESPONSE: &str = r#"{"AccessKeyId":"A","SecretAccessKey":"S","Token":"T",
        "Expiration":"2013-05-24T00:00:00Z","RoleArn":"arn"}"#;

    fn load_from(variables: &[(&str, &str)]) -> Result<Option<Credentials>, CredentialsError> {
        run(async { load(&environment(variables), &client()).await })
    }

    #[test]
    fn the_file_s_token_is_preferred() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, "of file\n").unwrap();
        let file = file.path().to_str().unwrap();
        for (variables, expected) in [
            (&[][..], None),
            (&[(TOKEN, "of variable")], Some("of variable")),
            (
                &[(TOKEN, "of variable"), (TOKEN_FILE, file)],
                Some("of file"),
            ),
        ] {
            let server = Server::start(|_| Answer::ok(RESPONSE));
            let uri = format!("{}/v1/credentials?id=1", server.endpoint());
            let keys = load_from(&[&[(FULL_URI, uri.as_str())], variables].concat());
            assert_eq!(keys.unwrap().unwrap().session_token(), Some("T"));
            let [request] = &server.received()[..] else {
                panic!("one request")
            };
            assert_eq!(request.target, "/v1/credentials?id=1");
            assert_eq!(request.field("authorization"), expected);
        }
    }

    #[test]
    fn a_refusal_shows_no_token() {
        let server = Server::start(|_| Answer::with_body(403, "SECRET"));
        let uri = format!("{}/v1?SECRET", server.endpoint());
        for token in ["SECRET", "SEC\nRET"] {
            let error = load_from(&[(FULL_URI, uri.as_str()), (TOKEN, token)]).unwrap_err();
            let text = format!("{error} {error:?}");
            assert!(!text.contains("SECRET") && !text.contains("RET"), "{text}");
        }
    }

    #[test]
    fn only_trusted_hosts_are_asked() {
        for (variables, expected) in [
            (&[][..], Ok(None)),
            (
                &[(RELATIVE_URI, "/v2/x")],
                Ok(Some("http://169.254.170.2/v2/x")),
            ),
            (
                &[(RELATIVE_URI, "/v2/x"), (FULL_URI, "https://host/")],
                Ok(Some("http://169.254.170.2/v2/x")),
            ),
            (&[(RELATIVE_URI, "@evil/")], Err(())),
            (&[(RELATIVE_URI, "/a b")], Err(())),
            (&[(FULL_URI, "https://host/")], Ok(Some("https://host/"))),
            (
                &[(FULL_URI, "http://localhost:1/")],
                Ok(Some("http://localhost:1/")),
            ),
            (
                &[(FULL_URI, "http://127.1.2.3/")],
                Ok(Some("http://127.1.2.3/")),
            ),
            (&[(FULL_URI, "http://[::1]/")], Ok(Some("http://[::1]/"))),
            (
                &[(FULL_URI, "http://169.254.170.23/v1")],
                Ok(Some("http://169.254.170.23/v1")),
            ),
            (
                &[(FULL_URI, "http://[fd00:ec2::23]/v1")],
                Ok(Some("http://[fd00:ec2::23]/v1")),
            ),
            (&[(FULL_URI, "http://169.254.170.3/")], Err(())),
            (&[(FULL_URI, "http://host/")], Err(())),
            (&[(FULL_URI, "/path")], Err(())),
        ] {
            let found = uri(&environment(variables)).map_err(|_| ());
            let found = found.map(|uri| uri.map(|uri| uri.to_string()));
            assert_eq!(
                found,
                expected.map(|uri| uri.map(str::to_owned)),
                "{variables:?}"
            );
        }
    }
}
