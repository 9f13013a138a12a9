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

/// How messages of Garage begin whose code is `AccessDenied`, and the code that S3 has for them.
const OF_GARAGE: [(&str, &str); 3] = [
    ("Forbidden: Invalid signature", "SignatureDoesNotMatch"),
    ("Forbidden: No such key: ", "InvalidAccessKeyId"),
    ("Forbidden: Access key ", "ExpiredToken"),
];

/// The code of the error in the body of a response.
pub(crate) fn error_code(body: &str) -> Option<&str> {
    let code = element(body, "Code")?;
    if code != "AccessDenied" {
        return Some(code);
    }
    let message = element(body, "Message").unwrap_or_default();
    let mut of_garage = OF_GARAGE.into_iter();
    let meant = of_garage.find(|(begin, _)| message.starts_with(begin));
    Some(meant.map_or(code, |(_, code)| code))
}

/// The code of such an error in the body of a response, with its remedy.
pub(crate) fn refusal(body: &str) -> Option<String> {
    let code = error_code(body)?;
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
            (
                "<Code>AccessDenied</Code><Message>Forbidden: Invalid signature</Message>",
                Some("SignatureDoesNotMatch: the secret"),
            ),
            (
                "<Code>AccessDenied</Code><Message>Forbidden: No such key: GK1</Message>",
                Some("access key is not known"),
            ),
            (
                "<Code>AccessDenied</Code><Message>Forbidden: Access key GK1 has expired</Message>",
                Some("expired"),
            ),
            (
                "<Code>AccessDenied</Code><Message>Forbidden: Operation is not allowed for this \
                 key.</Message>",
                None,
            ),
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
