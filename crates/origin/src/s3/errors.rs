//! Errors of S3 that are about the request and not about the object, and their remedies (Amazon S3
//! API Reference, "Error responses").

use super::xml::element;

/// The credentials, the clock, the region or the bucket are wrong.
const REMEDIES: [(&str, &str); 11] = [
    (
        "RequestTimeTooSkewed",
        "the clock of this host is off: set it (chrony, systemd-timesyncd)",
    ),
    (
        "SignatureDoesNotMatch",
        "the secret access key is wrong, or a proxy changes requests",
    ),
    (
        "InvalidAccessKeyId",
        "the access key is not known there: check the credentials",
    ),
    (
        "ExpiredToken",
        "the credentials have expired: renew the session token",
    ),
    (
        "InvalidToken",
        "the session token is wrong: check the credentials",
    ),
    (
        "AuthorizationHeaderMalformed",
        "the region is probably another one: set region",
    ),
    (
        "AuthorizationQueryParametersError",
        "the region is probably another one: set region",
    ),
    (
        "NoSuchBucket",
        "the bucket does not exist there: check the URL of the origin",
    ),
    (
        "PermanentRedirect",
        "the bucket is in another region: set region and the URL to that",
    ),
    ("AllAccessDisabled", "the account or the bucket is disabled"),
    ("AccountProblem", "the account has a problem: ask its owner"),
];

/// The code of such an error in the body of a response, with its remedy.
pub(crate) fn refusal(body: &str) -> Option<String> {
    let code = element(body, "Code")?;
    remedy(code).map(|remedy| format!("{code}: {remedy}"))
}

/// The remedy of the error with this code, if it is one of these.
pub(crate) fn remedy(code: &str) -> Option<&'static str> {
    let mut known = REMEDIES.into_iter();
    known.find_map(|(known, remedy)| (known == code).then_some(remedy))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_about_the_request_have_their_remedy() {
        for (text, expected) in [
            (
                "<Error><Code>RequestTimeTooSkewed</Code></Error>",
                Some("clock"),
            ),
            ("<Code>ExpiredToken</Code>", Some("expired")),
            ("<Code>NoSuchBucket</Code>", Some("bucket does not exist")),
            ("<Code>NoSuchKey</Code>", None),
            ("<Code>AccessDenied</Code>", None),
            ("<Code>ExpiredToken", None),
            ("", None),
        ] {
            let said = refusal(text);
            assert_eq!(said.is_some(), expected.is_some(), "{text}");
            assert!(
                said.unwrap_or_default()
                    .contains(expected.unwrap_or_default())
            );
        }
    }
}
