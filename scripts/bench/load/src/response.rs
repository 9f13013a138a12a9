//! Where one response ends and the next begins (sans-io).
//!
//! The load generator never pipelines, so bytes after the end of a response
//! mean that the server's framing went wrong: an error, not something to skip.

use httparse::{EMPTY_HEADER, Header, Status};

/// Heads longer than this are refused; no peer comes near it.
const HEAD_BYTES_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 32;

/// Follows one response after another on one connection.
#[derive(Debug, Default)]
pub(crate) struct ResponseReader {
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

    /// Takes `input` as it came from the socket.
    pub(crate) fn take(&mut self, input: &[u8]) -> Result<Progress, ResponseError> {
        if self.body_remaining.is_some() {
            return self.take_body(input.len() as u64);
        }
        if self.head_part.is_empty() {
            return self.take_head(input);
        }
        let mut joined = std::mem::take(&mut self.head_part);
        joined.extend_from_slice(input);
        self.take_head(&joined)
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

    fn take_head(&mut self, bytes: &[u8]) -> Result<Progress, ResponseError> {
        let mut headers = [EMPTY_HEADER; HEADERS_MAX];
        let mut head = httparse::Response::new(&mut headers);
        match head.parse(bytes).map_err(ResponseError::Malformed)? {
            Status::Partial if bytes.len() > HEAD_BYTES_MAX => Err(ResponseError::HeadTooLong),
            Status::Partial => {
                self.head_part = bytes.to_vec();
                Ok(Progress {
                    body_bytes: 0,
                    complete: false,
                })
            }
            Status::Complete(head_bytes) => {
                self.accept(&head)?;
                self.take_body((bytes.len() - head_bytes) as u64)
            }
        }
    }

    fn accept(&mut self, head: &httparse::Response<'_, '_>) -> Result<(), ResponseError> {
        match head.code {
            Some(200) => {}
            other => return Err(ResponseError::Status(other.unwrap_or(0))),
        }
        self.length = content_length(head.headers).ok_or(ResponseError::Length)?;
        self.close = closes(head.headers);
        self.body_remaining = Some(self.length);
        Ok(())
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
