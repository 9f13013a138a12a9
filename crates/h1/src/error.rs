//! What can be wrong with the bytes of a request; each error has its status.

use tidegate_http::{Status, TargetError};

/// Why a request is refused. The connection is closed behind the response: where the
/// next request starts is not certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The request line is not `method SP target SP HTTP/d.d` (RFC 9112, section 3).
    #[error("the request line is malformed")]
    RequestLine,
    /// The request target is malformed.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The major version is not 1 (RFC 9110, section 15.6.6).
    #[error("the HTTP version is not 1.0 or 1.1")]
    Version,
    /// A CR or LF by itself, where RFC 9112, section 2.2 has CRLF.
    #[error("a line does not end with CRLF")]
    LineEnding,
    /// A field name is no token, is folded or has whitespace at its colon (RFC 9112, section 5).
    #[error("a header field name is malformed")]
    FieldName,
    /// A control character in a field value (RFC 9110, section 5.5).
    #[error("a header field value is malformed")]
    FieldValue,
    /// Host is missing, given twice or no host (RFC 9112, section 3.2).
    #[error("the Host header field is missing, repeated or malformed")]
    Host,
    /// Content-Length is repeated or no decimal number of 64 bits (RFC 9112, section 6.3).
    #[error("the Content-Length header field is repeated or malformed")]
    ContentLength,
    /// Chunked is not the last coding, not alone in it, or sent by HTTP/1.0 (RFC 9112, section
    /// 6.1).
    #[error("the Transfer-Encoding header field is malformed")]
    TransferEncoding,
    /// Two lengths, the means of request smuggling (RFC 9112, section 6.1).
    #[error("the request has both Transfer-Encoding and Content-Length")]
    TwoLengths,
    /// A transfer coding other than chunked (RFC 9112, section 6.1).
    #[error("the transfer coding is not known")]
    UnknownCoding,
    /// An expectation other than `100-continue` (RFC 9110, section 10.1.1).
    #[error("the expectation is not known")]
    Expectation,
    /// The request line alone is longer than a head may be.
    #[error("the request line is too long")]
    UriTooLong,
    /// The head is longer than [`Limits::header_bytes`](crate::Limits::header_bytes).
    #[error("the request head is too large")]
    HeadTooLarge,
    /// More field lines than [`Limits::headers`](crate::Limits::headers).
    #[error("the request has too many header fields")]
    TooManyFields,
    /// A chunk, its extension or the trailer section is malformed (RFC 9112, section 7.1).
    #[error("the chunked body is malformed")]
    Chunk,
    /// The body is larger than [`Limits::body_discard`](crate::Limits::body_discard).
    #[error("the request body is too large")]
    BodyTooLarge,
}

impl Error {
    /// The status to answer with.
    pub fn status(self) -> Status {
        match self {
            Self::Version => Status::HTTP_VERSION_NOT_SUPPORTED,
            Self::UnknownCoding => Status::NOT_IMPLEMENTED,
            Self::Expectation => Status::EXPECTATION_FAILED,
            Self::UriTooLong => Status::URI_TOO_LONG,
            Self::HeadTooLarge | Self::TooManyFields => Status::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::BodyTooLarge => Status::CONTENT_TOO_LARGE,
            _ => Status::BAD_REQUEST,
        }
    }
}

impl From<httparse::Error> for Error {
    fn from(error: httparse::Error) -> Self {
        match error {
            httparse::Error::HeaderName => Self::FieldName,
            httparse::Error::HeaderValue => Self::FieldValue,
            httparse::Error::NewLine => Self::LineEnding,
            httparse::Error::TooManyHeaders => Self::TooManyFields,
            httparse::Error::Version => Self::Version,
            httparse::Error::Token | httparse::Error::Status => Self::RequestLine,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_has_its_status() {
        let cases = [
            (Error::RequestLine, 400),
            (Error::Host, 400),
            (Error::TwoLengths, 400),
            (Error::Target(TargetError::Malformed), 400),
            (Error::Chunk, 400),
            (Error::BodyTooLarge, 413),
            (Error::UriTooLong, 414),
            (Error::Expectation, 417),
            (Error::HeadTooLarge, 431),
            (Error::TooManyFields, 431),
            (Error::UnknownCoding, 501),
            (Error::Version, 505),
        ];
        for (error, code) in cases {
            assert_eq!(error.status().code(), code, "{error}");
        }
    }
}
