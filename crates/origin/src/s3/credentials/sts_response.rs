//! Responses of STS, as far as they are needed.

use super::error::{self, RequestError};
use super::keys::Credentials;
use crate::s3::timestamp;
use crate::s3::xml::{element, unescaped};

/// Parses a response to `AssumeRoleWithWebIdentity` with status 200.
pub(super) fn parse(body: &str) -> Result<Credentials, RequestError> {
    let credentials = needed(body, "Credentials")?;
    let expires = text_of(credentials, "Expiration")?;
    let expires =
        timestamp::parse_extended(&expires).ok_or(RequestError::Malformed("Expiration"))?;
    Ok(Credentials::new(
        text_of(credentials, "AccessKeyId")?,
        text_of(credentials, "SecretAccessKey")?,
        Some(text_of(credentials, "SessionToken")?),
        Some(expires),
    ))
}

/// The code in a response with another status.
pub(super) fn error_code(body: &str) -> Option<String> {
    error::code(element(element(body, "Error")?, "Code")?.trim())
}

fn text_of(xml: &str, name: &'static str) -> Result<String, RequestError> {
    let text = unescaped(needed(xml, name)?.trim());
    text.filter(|text| !text.is_empty())
        .ok_or(RequestError::Malformed(name))
}

fn needed<'a>(xml: &'a str, name: &'static str) -> Result<&'a str, RequestError> {
    element(xml, name).ok_or(RequestError::Malformed(name))
}

#[cfg(test)]
mod tests {
    use super::super::testing::example_time;
    use super::*;

    /// After the example in the AWS STS API Reference, "`AssumeRoleWithWebIdentity`".
    const RESPONSE: &str = r#"<AssumeRoleWithWebIdentityResponse
      xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
      <AssumeRoleWithWebIdentityResult>
        <SubjectFromWebIdentityToken>subject</SubjectFromWebIdentityToken>
        <AssumedRoleUser><Arn>arn:aws:sts::123456789012:assumed-role/R/app1</Arn></AssumedRoleUser>
        <Credentials>
          <SessionToken>AQoDYXdz/a+b==&amp;c</SessionToken>
          <SecretAccessKey>wJalr/K7+MDENG</SecretAccessKey>
          <Expiration>2013-05-24T00:00:00.123Z</Expiration>
          <AccessKeyId>ASgeIAIOSFODNN7EXAMPLE</AccessKeyId>
        </Credentials>
      </AssumeRoleWithWebIdentityResult>
      <ResponseMetadata><RequestId>ad4156e9</RequestId></ResponseMetadata>
    </AssumeRoleWithWebIdentityResponse>"#;

    #[test]
    fn parses_a_response() {
        let keys = parse(RESPONSE).unwrap();
        assert_eq!(keys.access_key(), "ASgeIAIOSFODNN7EXAMPLE");
        assert_eq!(keys.secret_key(), "wJalr/K7+MDENG");
        assert_eq!(keys.session_token(), Some("AQoDYXdz/a+b==&c"));
        assert_eq!(keys.expires(), Some(example_time()));
    }

    #[test]
    fn names_what_is_missing() {
        for (from, to, expected) in [
            ("Credentials>", "Other>", "Credentials"),
            ("SessionToken>", "Other>", "SessionToken"),
            ("SecretAccessKey>", "Other>", "SecretAccessKey"),
            ("AccessKeyId>", "Other>", "AccessKeyId"),
            ("ASgeIAIOSFODNN7EXAMPLE", " ", "AccessKeyId"),
            ("Expiration>", "Other>", "Expiration"),
            ("2013-05", "2013-13", "Expiration"),
            ("&amp;", "&other;", "SessionToken"),
            ("&amp;", "<b/>", "SessionToken"),
        ] {
            let error = parse(&RESPONSE.replace(from, to)).unwrap_err();
            assert_eq!(error, RequestError::Malformed(expected), "{from} {to}");
        }
        assert!(parse("").is_err());
        // No cut is valid, and none is out of bounds.
        let end = RESPONSE.find("</Credentials>").unwrap();
        assert!((0..end).all(|end| parse(&RESPONSE[..end]).is_err()));
    }

    #[test]
    fn finds_the_code_of_an_error() {
        let body = "<ErrorResponse><Error><Type>Sender</Type><Code>ExpiredTokenException</Code>\
                    <Message>secret</Message></Error></ErrorResponse>";
        assert_eq!(error_code(body), Some("ExpiredTokenException".to_owned()));
        assert_eq!(error_code("<html>502</html>"), None);
    }
}
