//! AWS Signature Version 4 in the Authorization field of a request (Amazon S3 API Reference,
//! "Authenticating Requests: Using the Authorization Header").
//!
//! S3 differs from other services: a path is percent-encoded once, and neither `..` nor `//` is
//! resolved, for both may be part of a key.

use std::borrow::Cow;
use std::time::SystemTime;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac::{self, HMAC_SHA256};
use http::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, HeaderValue, InvalidHeaderValue};
use http::request::Parts;
use http::uri::{Scheme, Uri};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};

use super::credentials::Credentials;
use super::timestamp;

/// All but the unreserved characters of RFC 3986, section 2.3.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
const RESERVED_IN_PATH: &AsciiSet = &RESERVED.remove(b'/');

const X_AMZ_DATE: HeaderName = HeaderName::from_static("x-amz-date");
const X_AMZ_CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const X_AMZ_SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

/// Fields that are not signed, as those between may change them: hop by hop, or about the
/// transfer. The hash of the payload stands for Content-Length.
const UNSIGNED: [&str; 14] = [
    "accept-encoding",
    "authorization",
    "connection",
    "content-length",
    "expect",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "x-amzn-trace-id",
];

/// What the signature says of the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Nothing: the transport protects it, which should be TLS.
    Unsigned,
    /// Its SHA-256.
    Sha256([u8; 32]),
}

impl Payload {
    /// The payload of these bytes; of none for a GET, HEAD and DELETE.
    pub fn of(bytes: &[u8]) -> Self {
        Self::Sha256(sha256(bytes))
    }

    /// The value of x-amz-content-sha256.
    fn value(&self) -> String {
        match self {
            Self::Unsigned => "UNSIGNED-PAYLOAD".to_owned(),
            Self::Sha256(hash) => hex(hash),
        }
    }
}

/// Why a request cannot be signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// Neither the target nor a Host names the host.
    #[error("cannot sign {method} {path}: it names no host; give its URI a host")]
    NoHost {
        /// The method of the request.
        method: http::Method,
        /// The path of its target.
        path: String,
    },
    /// A value has bytes that no field may have.
    #[error("cannot sign a request: {field} would hold control characters; check {what}")]
    Value {
        /// The field.
        field: HeaderName,
        /// Where its bytes come from.
        what: &'static str,
    },
}

/// Signs a request as of `now`: sets Host if there is none, x-amz-date, x-amz-content-sha256,
/// x-amz-security-token if the credentials have a token, and Authorization. A request that was
/// signed before is signed anew.
///
/// S3 refuses a signature that is 15 minutes off its clock. Afterwards neither the target nor a
/// field may be changed, but for Content-Length and those that are hop by hop.
///
/// The target is signed as S3 reads it, however it is encoded; stores that take it as it is sent
/// agree only if it was made with [`encode_key`] and [`encode_parameter`].
pub fn sign(
    request: &mut Parts,
    credentials: &Credentials,
    region: &str,
    payload: Payload,
    now: SystemTime,
) -> Result<(), SignError> {
    let time = timestamp::basic(now);
    let date = time.get(..8).unwrap_or_default();
    let payload = payload.value();
    set_fields(request, credentials, &time, &payload)?;

    let signed_fields = signed_fields(&request.headers);
    let canonical = canonical_request(request, &signed_fields, &payload);
    let scope = format!("{date}/{region}/s3/aws4_request");
    let string_to_sign = format!(
        "AWS4-HMAC-SHA256\n{time}\n{scope}\n{}",
        hex(&sha256(&canonical))
    );
    let key = signing_key(credentials.secret_key(), date, region);
    let signature = hex(hmac::sign(&key, string_to_sign.as_bytes()).as_ref());

    let value = format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope},SignedHeaders={},Signature={signature}",
        credentials.access_key(),
        signed_fields.join(";"),
    );
    let mut value = field_value(&value, AUTHORIZATION, "the access key and the region")?;
    value.set_sensitive(true);
    request.headers.insert(AUTHORIZATION, value);
    Ok(())
}

/// Percent-encodes a key as S3 does, for the path of a target: all but unreserved characters and
/// the slash.
pub fn encode_key(key: &[u8]) -> String {
    percent_encode(key, RESERVED_IN_PATH).to_string()
}

/// Percent-encodes the name or the value of a parameter as S3 does, for the query of a target: all
/// but unreserved characters.
pub fn encode_parameter(text: &[u8]) -> String {
    percent_encode(text, RESERVED).to_string()
}

fn set_fields(
    request: &mut Parts,
    credentials: &Credentials,
    time: &str,
    payload: &str,
) -> Result<(), SignError> {
    let fields = &mut request.headers;
    if !fields.contains_key(HOST) {
        let host = host_of(&request.uri).ok_or_else(|| SignError::NoHost {
            method: request.method.clone(),
            path: request.uri.path().to_owned(),
        })?;
        fields.insert(HOST, field_value(&host, HOST, "the host of the URI")?);
    }
    fields.insert(X_AMZ_DATE, field_value(time, X_AMZ_DATE, "the time")?);
    let payload = field_value(payload, X_AMZ_CONTENT_SHA256, "the hash")?;
    fields.insert(X_AMZ_CONTENT_SHA256, payload);
    fields.remove(X_AMZ_SECURITY_TOKEN);
    if let Some(token) = credentials.session_token() {
        let mut token = field_value(token, X_AMZ_SECURITY_TOKEN, "the session token")?;
        token.set_sensitive(true);
        fields.insert(X_AMZ_SECURITY_TOKEN, token);
    }
    Ok(())
}

fn field_value(
    text: &str,
    field: HeaderName,
    what: &'static str,
) -> Result<HeaderValue, SignError> {
    let value = HeaderValue::from_str(text);
    value.map_err(|_: InvalidHeaderValue| SignError::Value { field, what })
}

/// The value of Host, as HTTP clients send it: without the scheme's default port.
fn host_of(uri: &Uri) -> Option<Cow<'_, str>> {
    let host = uri.host()?;
    let default = if uri.scheme() == Some(&Scheme::HTTP) {
        80
    } else {
        443
    };
    Some(match uri.port_u16() {
        Some(port) if port != default => Cow::Owned(format!("{host}:{port}")),
        _ => Cow::Borrowed(host),
    })
}

/// The names of the fields that are signed, in order.
fn signed_fields(fields: &HeaderMap) -> Vec<&str> {
    let names = fields.keys().map(HeaderName::as_str);
    let mut names: Vec<&str> = names.filter(|name| !UNSIGNED.contains(name)).collect();
    names.sort_unstable();
    names
}

fn canonical_request(request: &Parts, signed_fields: &[&str], payload: &str) -> Vec<u8> {
    let mut canonical = format!(
        "{}\n{}\n{}\n",
        request.method,
        canonical_path(request.uri.path()),
        canonical_query(request.uri.query().unwrap_or_default()),
    )
    .into_bytes();
    for &name in signed_fields {
        push_field(&mut canonical, name, &request.headers);
    }
    canonical.push(b'\n');
    canonical.extend_from_slice(signed_fields.join(";").as_bytes());
    canonical.push(b'\n');
    canonical.extend_from_slice(payload.as_bytes());
    canonical
}

/// The path encoded once, whatever was encoded in it.
fn canonical_path(path: &str) -> String {
    let key: Cow<'_, [u8]> = percent_decode_str(path).into();
    match encode_key(&key) {
        path if path.is_empty() => "/".to_owned(),
        path => path,
    }
}

/// The parameters in the order of their encoded names, then of their values. A parameter without
/// a value gets an empty one.
fn canonical_query(query: &str) -> String {
    let parameters = query.split('&').filter(|parameter| !parameter.is_empty());
    let mut parameters: Vec<(String, String)> = parameters
        .map(|parameter| {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            (encoded_anew(name), encoded_anew(value))
        })
        .collect();
    parameters.sort_unstable();
    let parameters: Vec<String> = parameters
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    parameters.join("&")
}

/// A part of a query, in which a plus stands for a space, as S3 takes it.
fn encoded_anew(part: &str) -> String {
    let part = part.replace('+', " ");
    let decoded: Cow<'_, [u8]> = percent_decode_str(&part).into();
    encode_parameter(&decoded)
}

/// Appends one line of canonical fields: the values in the order of the request, trimmed, with one
/// space for several.
fn push_field(canonical: &mut Vec<u8>, name: &str, fields: &HeaderMap) {
    canonical.extend_from_slice(name.as_bytes());
    let mut separator = b':';
    for value in fields.get_all(name) {
        canonical.push(separator);
        push_collapsed(canonical, value.as_bytes());
        separator = b',';
    }
    canonical.push(b'\n');
}

fn push_collapsed(canonical: &mut Vec<u8>, value: &[u8]) {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let words = value.split(is_space).filter(|word| !word.is_empty());
    for (nth, word) in words.enumerate() {
        if nth > 0 {
            canonical.push(b' ');
        }
        canonical.extend_from_slice(word);
    }
}

/// The key of one day, region and service.
fn signing_key(secret_key: &str, date: &str, region: &str) -> hmac::Key {
    let secret = zeroize::Zeroizing::new(format!("AWS4{secret_key}"));
    let key = hmac::Key::new(HMAC_SHA256, secret.as_bytes());
    [date, region, "s3", "aws4_request"]
        .iter()
        .fold(key, |key, part| {
            hmac::Key::new(HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref())
        })
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

/// Bytes in lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or_default();
    bytes
        .iter()
        .flat_map(|&byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn example_time() -> SystemTime {
        timestamp::parse_extended("2013-05-24T00:00:00Z").unwrap()
    }

    fn example_credentials(session_token: Option<&str>) -> Credentials {
        Credentials::new(
            "AKIAIOSFODNN7EXAMPLE".to_owned(),
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned(),
            session_token.map(str::to_owned),
            None,
        )
    }

    fn request(method: &str, target: &str, fields: &[(&'static str, &'static str)]) -> Parts {
        let mut request = Request::builder().method(method).uri(target);
        for &(name, value) in fields {
            request = request.header(name, value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn signed(request: &mut Parts, payload: Payload) -> String {
        sign(
            request,
            &example_credentials(None),
            "us-east-1",
            payload,
            example_time(),
        )
        .unwrap();
        request.headers[AUTHORIZATION].to_str().unwrap().to_owned()
    }

    /// "Signature Calculations for the Authorization Header: Transferring Payload in a Single
    /// Chunk", examples.
    #[test]
    fn signs_as_the_examples_of_aws() {
        struct Example {
            method: &'static str,
            target: &'static str,
            fields: &'static [(&'static str, &'static str)],
            body: &'static str,
            signed: &'static str,
            signature: &'static str,
        }
        let basic = "host;x-amz-content-sha256;x-amz-date";
        let examples = [
            Example {
                method: "GET",
                target: "/test.txt",
                fields: &[("range", "bytes=0-9")],
                body: "",
                signed: "host;range;x-amz-content-sha256;x-amz-date",
                signature: "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
            },
            Example {
                method: "PUT",
                target: "/test$file.text",
                fields: &[
                    ("date", "Fri, 24 May 2013 00:00:00 GMT"),
                    ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
                ],
                body: "Welcome to Amazon S3.",
                signed: "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
                signature: "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
            },
            Example {
                method: "GET",
                target: "/?lifecycle",
                fields: &[],
                body: "",
                signed: basic,
                signature: "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
            },
            Example {
                method: "GET",
                target: "/?prefix=J&max-keys=2",
                fields: &[],
                body: "",
                signed: basic,
                signature: "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
            },
        ];
        for example in examples {
            let target = format!("https://examplebucket.s3.amazonaws.com{}", example.target);
            let mut request = request(example.method, &target, example.fields);
            let authorization = signed(&mut request, Payload::of(example.body.as_bytes()));
            let expected = format!(
                "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/\
                 aws4_request,SignedHeaders={},Signature={}",
                example.signed, example.signature,
            );
            assert_eq!(
                authorization, expected,
                "{} {}",
                example.method, example.target
            );
        }
    }

    #[test]
    fn a_path_is_encoded_once() {
        for (path, canonical) in [
            ("", "/"),
            ("/", "/"),
            ("/a/b.txt", "/a/b.txt"),
            ("/test$file.text", "/test%24file.text"),
            ("/test%24file.text", "/test%24file.text"),
            ("/%7euser~", "/~user~"),
            ("/a+b%20c", "/a%2Bb%20c"),
            ("/a/../b//./c", "/a/../b//./c"),
            ("/%2525", "/%2525"),
            ("/%c3%a9", "/%C3%A9"),
            ("/100%", "/100%25"),
        ] {
            assert_eq!(canonical_path(path), canonical, "{path}");
        }
        assert_eq!(
            encode_key("a b/é(1)*'".as_bytes()),
            "a%20b/%C3%A9%281%29%2A%27"
        );
    }

    #[test]
    fn parameters_are_encoded_and_in_order() {
        for (query, canonical) in [
            ("", ""),
            ("acl", "acl="),
            ("b=2&a=1", "a=1&b=2"),
            ("a=2&a=1&a", "a=&a=1&a=2"),
            ("a-b=1&a=2&A=3", "A=3&a=2&a-b=1"),
            ("prefix=a/b", "prefix=a%2Fb"),
            ("prefix=a%2fb%20c+d", "prefix=a%2Fb%20c%20d"),
            ("token=a%2Bb%3D%3D", "token=a%2Bb%3D%3D"),
            ("token=a==", "token=a%3D%3D"),
            ("&&a=1&", "a=1"),
        ] {
            assert_eq!(canonical_query(query), canonical, "{query}");
        }
    }

    #[test]
    fn fields_are_trimmed_and_joined() {
        let fields = [
            ("x-amz-meta-a", "  a   b  "),
            ("x-amz-meta-a", "c"),
            ("te", "trailers"),
        ];
        let mut request = request("GET", "https://host/", &fields);
        let authorization = signed(&mut request, Payload::Unsigned);
        assert!(
            authorization
                .contains("SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-meta-a,")
        );
        let mut line = Vec::new();
        push_field(&mut line, "x-amz-meta-a", &request.headers);
        assert_eq!(line, b"x-amz-meta-a:a b,c\n");
    }

    #[test]
    fn host_is_without_the_default_port() {
        for (target, host) in [
            ("https://host/", Some("host")),
            ("https://host:443/", Some("host")),
            ("http://host:80/", Some("host")),
            ("http://host:443/", Some("host:443")),
            ("http://[::1]:9000/", Some("[::1]:9000")),
            ("/path", None),
        ] {
            let mut request = request("GET", target, &[]);
            let payload = Payload::of(b"");
            let result = sign(
                &mut request,
                &example_credentials(None),
                "r",
                payload,
                example_time(),
            );
            assert_eq!(result.is_ok(), host.is_some(), "{target}");
            let set = request
                .headers
                .get(HOST)
                .map(|value| value.to_str().unwrap());
            assert_eq!(set, host, "{target}");
        }
    }

    #[test]
    fn a_token_is_signed_and_not_shown() {
        let mut request = request("GET", "https://host/", &[]);
        let credentials = example_credentials(Some("TOKEN"));
        let now = example_time();
        sign(&mut request, &credentials, "r", Payload::Unsigned, now).unwrap();
        let authorization = request.headers[AUTHORIZATION].to_str().unwrap().to_owned();
        let names = "host;x-amz-content-sha256;x-amz-date;x-amz-security-token";
        assert!(authorization.contains(&format!("SignedHeaders={names},")));
        assert_eq!(request.headers[X_AMZ_SECURITY_TOKEN], "TOKEN");
        assert_eq!(request.headers[X_AMZ_CONTENT_SHA256], "UNSIGNED-PAYLOAD");
        let shown = format!("{request:?}");
        assert!(
            !shown.contains("TOKEN\"") && !shown.contains("Signature="),
            "{shown}"
        );

        // Signed again without a token: nothing of the first time is left.
        sign(
            &mut request,
            &example_credentials(None),
            "r",
            Payload::Unsigned,
            now,
        )
        .unwrap();
        assert!(!request.headers.contains_key(X_AMZ_SECURITY_TOKEN));
        let again = request.headers[AUTHORIZATION].to_str().unwrap();
        assert!(again.contains("SignedHeaders=host;x-amz-content-sha256;x-amz-date,"));
    }

    #[test]
    fn an_error_names_the_field_but_not_the_value() {
        let mut request = request("GET", "https://host/", &[]);
        let credentials = example_credentials(Some("SECRET\n"));
        let error = sign(
            &mut request,
            &credentials,
            "r",
            Payload::Unsigned,
            example_time(),
        )
        .unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(
            text.contains("x-amz-security-token") && !text.contains("SECRET"),
            "{text}"
        );
    }
}
