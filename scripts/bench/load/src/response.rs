//! Where one response ends and the next begins (sans-io).
//!
//! Bytes after the end of the last response that is due mean that the server's
//! framing went wrong: an error, not something to skip.

use httparse::{EMPTY_HEADER, Header, Status};

/// Heads longer than this are refused; no peer comes near it.
const HEAD_BYTES_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 32;

/// What a response must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) status: u16,
    /// Content-Length; `None` if it may be any.
    pub(crate) length: Option<u64>,
}

impl Default for Expected {
    fn default() -> Self {
        Self {
            status: 200,
            length: None,
        }
    }
}

/// Follows one response after another on one connection.
#[derive(Debug, Default)]
pub(crate) struct ResponseReader {
    expected: Expected,
    /// The first part of a head that came in pieces.
    head_part: Vec<u8>,
    /// Bytes of the body still to come; `None` while the head is.
    body_remaining: Option<u64>,
    length: u64,
    close: bool,
}

/// What a piece of input brought.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Body bytes in this piece.
    pub(crate) body_bytes: u64,
    /// The response is complete; the reader is ready for the next one.
    pub(crate) complete: bool,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ResponseError {
    #[error("malformed head: {0}")]
    Malformed(httparse::Error),
    #[error("head of more than {HEAD_BYTES_MAX} bytes")]
    HeadTooLong,
    #[error("status {0}")]
    Status(u16),
    #[error("no valid Content-Length")]
    Length,
    #[error("Content-Length {found} where {wanted} was due")]
    WrongLength { found: u64, wanted: u64 },
    #[error("{0} bytes after the end")]
    Surplus(u64),
}

impl ResponseReader {
    /// Body bytes that are still to come, once the head is complete.
    pub(crate) fn body_remaining(&self) -> Option<u64> {
        self.body_remaining
    }

    /// Content-Length of the latest head.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Whether the latest head announced the end of the connection.
    pub(crate) fn close(&self) -> bool {
        self.close
    }

    /// What the responses from here on must be.
    pub(crate) fn expect(&mut self, expected: Expected) {
        self.expected = expected;
    }

    /// Takes `input` as it came from the socket, which ends no later than the
    /// response does.
    pub(crate) fn take(&mut self, input: &[u8]) -> Result<Progress, ResponseError> {
        match self.take_next(input)? {
            (progress, taken) if taken == input.len() => Ok(progress),
            (_, taken) => Err(ResponseError::Surplus((input.len() - taken) as u64)),
        }
    }

    /// Takes what belongs to this response from `input`, and tells how many
    /// bytes that were.
    pub(crate) fn take_next(&mut self, input: &[u8]) -> Result<(Progress, usize), ResponseError> {
        if let Some(remaining) = self.body_remaining {
            let taken = remaining.min(input.len() as u64);
            return Ok((self.take_body(taken)?, taken as usize));
        }
        if self.head_part.is_empty() {
            return self.take_head(input);
        }
        let mut joined = std::mem::take(&mut self.head_part);
        let before = joined.len();
        joined.extend_from_slice(input);
        let (progress, taken) = self.take_head(&joined)?;
        Ok((progress, taken - before))
    }

    /// Takes `count` body bytes, seen or dropped by the kernel.
    pub(crate) fn take_body(&mut self, count: u64) -> Result<Progress, ResponseError> {
        let remaining = self.body_remaining.unwrap_or(0);
        let left = remaining
            .checked_sub(count)
            .ok_or(ResponseError::Surplus(count - remaining.min(count)))?;
        self.body_remaining = (left > 0).then_some(left);
        Ok(Progress {
            body_bytes: count,
            complete: left == 0,
        })
    }

    fn take_head(&mut self, bytes: &[u8]) -> Result<(Progress, usize), ResponseError> {
        let mut headers = [EMPTY_HEADER; HEADERS_MAX];
        let mut head = httparse::Response::new(&mut headers);
        match head.parse(bytes).map_err(ResponseError::Malformed)? {
            Status::Partial if bytes.len() > HEAD_BYTES_MAX => Err(ResponseError::HeadTooLong),
            Status::Partial => {
                self.head_part = bytes.to_vec();
                let progress = Progress {
                    body_bytes: 0,
                    complete: false,
                };
                Ok((progress, bytes.len()))
            }
            Status::Complete(head_bytes) => {
                let length = self.accept(&head)?;
                let body_bytes = length.min((bytes.len() - head_bytes) as u64);
                let progress = self.take_body(body_bytes)?;
                Ok((progress, head_bytes + body_bytes as usize))
            }
        }
    }

    /// Checks a head; the bytes of body that follow it.
    fn accept(&mut self, head: &httparse::Response<'_, '_>) -> Result<u64, ResponseError> {
        let status = head.code.unwrap_or(0);
        if status != self.expected.status {
            return Err(ResponseError::Status(status));
        }
        // A 304 has no body, whatever it says of the length (RFC 9112, 6.3).
        self.length = match content_length(head.headers) {
            _ if status == 304 => 0,
            Some(length) => length,
            None => return Err(ResponseError::Length),
        };
        if let Some(wanted) = self.expected.length.filter(|&wanted| wanted != self.length) {
            let found = self.length;
            return Err(ResponseError::WrongLength { found, wanted });
        }
        self.close = closes(head.headers);
        self.body_remaining = Some(self.length);
        Ok(self.length)
    }
}

/// The one Content-Length; `None` if it is missing, repeated or contradicted
/// by Transfer-Encoding.
fn content_length(headers: &[Header<'_>]) -> Option<u64> {
    let mut found = None;
    for header in headers {
        if header.name.eq_ignore_ascii_case("transfer-encoding") {
            return None;
        }
        if header.name.eq_ignore_ascii_case("content-length") {
            let value = std::str::from_utf8(header.value).ok()?.parse().ok()?;
            if found.replace(value).is_some() {
                return None;
            }
        }
    }
    found
}

fn closes(headers: &[Header<'_>]) -> bool {
    headers.iter().any(|header| {
        header.name.eq_ignore_ascii_case("connection")
            && header.value.eq_ignore_ascii_case(b"close")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nServer: x\r\n\r\nhello";

    fn error_of(input: &[u8]) -> ResponseError {
        ResponseReader::default().take(input).unwrap_err()
    }

    #[test]
    fn a_response_split_at_every_byte() {
        for split in 1..RESPONSE.len() {
            let mut reader = ResponseReader::default();
            let first = reader.take(&RESPONSE[..split]).unwrap();
            assert!(!first.complete, "split at {split}");
            let second = reader.take(&RESPONSE[split..]).unwrap();
            assert!(second.complete, "split at {split}");
            assert_eq!(first.body_bytes + second.body_bytes, 5);
            assert_eq!(reader.length(), 5);
        }
    }

    #[test]
    fn one_response_after_another() {
        let mut reader = ResponseReader::default();
        for _ in 0..3 {
            assert!(reader.take(RESPONSE).unwrap().complete);
            assert_eq!(reader.body_remaining(), None);
            assert!(!reader.close());
        }
    }

    #[test]
    fn pipelined_responses_split_at_every_byte() {
        let three = RESPONSE.repeat(3);
        for split in 1..three.len() {
            let mut reader = ResponseReader::default();
            let mut complete = 0;
            for mut piece in [&three[..split], &three[split..]] {
                while !piece.is_empty() {
                    let (progress, taken) = reader.take_next(piece).unwrap();
                    complete += usize::from(progress.complete);
                    piece = &piece[taken..];
                }
            }
            assert_eq!(complete, 3, "split at {split}");
        }
    }

    #[test]
    fn a_304_has_no_body() {
        let mut reader = ResponseReader::default();
        reader.expect(Expected {
            status: 304,
            length: None,
        });
        let head = b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n";
        assert!(reader.take(head).unwrap().complete);
    }

    #[test]
    fn a_length_that_was_not_due_is_refused() {
        let mut reader = ResponseReader::default();
        reader.expect(Expected {
            status: 200,
            length: Some(6),
        });
        assert_eq!(
            reader.take(RESPONSE),
            Err(ResponseError::WrongLength {
                found: 5,
                wanted: 6
            })
        );
    }

    #[test]
    fn an_empty_body_completes_with_its_head() {
        let mut reader = ResponseReader::default();
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: Close\r\n\r\n";
        assert_eq!(
            reader.take(head),
            Ok(Progress {
                body_bytes: 0,
                complete: true
            })
        );
        assert!(reader.close());
    }

    #[test]
    fn wrong_responses_are_refused() {
        assert_eq!(
            error_of(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
            ResponseError::Status(404)
        );
        assert_eq!(error_of(b"HTTP/1.1 200 OK\r\n\r\n"), ResponseError::Length);
        assert_eq!(
            error_of(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n"),
            ResponseError::Length
        );
        assert_eq!(
            error_of(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab"),
            ResponseError::Surplus(1)
        );
        assert!(matches!(
            error_of(b"SSH-2.0\r\n"),
            ResponseError::Malformed(_)
        ));
    }
}
