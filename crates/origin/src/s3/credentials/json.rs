//! Credentials as IMDS and containers' endpoints give them.

use serde::Deserialize;

use super::error::{self, RequestError};
use super::keys::Credentials;
use crate::s3::timestamp;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    /// Only of IMDS.
    code: Option<String>,
    access_key_id: Option<String>,
    secret_access_key: Option<String>,
    token: Option<String>,
    expiration: Option<String>,
}

/// Parses a response with status 200. IMDS says in it whether it has credentials.
pub(super) fn parse(body: &[u8]) -> Result<Credentials, RequestError> {
    // The error of serde_json would quote secrets.
    let document: Document =
        serde_json::from_slice(body).map_err(|_| RequestError::Malformed("JSON"))?;
    if let Some(code) = document.code.filter(|code| code != "Success") {
        let status = http::StatusCode::OK;
        return Err(RequestError::Status {
            status,
            code: error::code(&code),
        });
    }
    let expires = match document.expiration {
        None => None,
        Some(text) => {
            Some(timestamp::parse_extended(&text).ok_or(RequestError::Malformed("Expiration"))?)
        }
    };
    Ok(Credentials::new(
        needed(document.access_key_id, "AccessKeyId")?,
        needed(document.secret_access_key, "SecretAccessKey")?,
        document.token.filter(|token| !token.is_empty()),
        expires,
    ))
}

fn needed(member: Option<String>, name: &'static str) -> Result<String, RequestError> {
    member
        .filter(|value| !value.is_empty())
        .ok_or(RequestError::Malformed(name))
}

#[cfg(test)]
mod tests {
    use super::super::testing::example_time;
    use super::*;

    #[test]
    fn parses_what_is_complete() {
        let body = br#"{"Code":"Success","LastUpdated":"2013-05-23T18:00:00Z","Type":"AWS-HMAC",
            "AccessKeyId":"A","SecretAccessKey":"S","Token":"T",
            "Expiration":"2013-05-24T00:00:00Z"}"#;
        let keys = parse(body).unwrap();
        assert_eq!(keys.access_key(), "A");
        assert_eq!(keys.secret_key(), "S");
        assert_eq!(keys.session_token(), Some("T"));
        assert_eq!(keys.expires(), Some(example_time()));

        let keys = parse(br#"{"AccessKeyId":"A","SecretAccessKey":"S"}"#).unwrap();
        assert_eq!((keys.session_token(), keys.expires()), (None, None));
    }

    #[test]
    fn refuses_what_is_not() {
        for (body, expected) in [
            ("", RequestError::Malformed("JSON")),
            ("[]", RequestError::Malformed("JSON")),
            ("{}", RequestError::Malformed("AccessKeyId")),
            (
                r#"{"AccessKeyId":"A"}"#,
                RequestError::Malformed("SecretAccessKey"),
            ),
            (
                r#"{"AccessKeyId":"A","SecretAccessKey":""}"#,
                RequestError::Malformed("SecretAccessKey"),
            ),
            (
                r#"{"AccessKeyId":"A","SecretAccessKey":"S","Expiration":"soon"}"#,
                RequestError::Malformed("Expiration"),
            ),
            (
                r#"{"Code":"AssumeRoleUnauthorizedAccess"}"#,
                RequestError::Status {
                    status: http::StatusCode::OK,
                    code: Some("AssumeRoleUnauthorizedAccess".to_owned()),
                },
            ),
        ] {
            assert_eq!(parse(body.as_bytes()).unwrap_err(), expected, "{body}");
        }
    }
}
