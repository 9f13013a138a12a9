//! The request head that was decoded last.

use std::ops::Range;

use tidegate_http::{Fields, Method, Request, Target, TargetError, is_host};

use crate::priority::Priority;
use crate::{Event, RefusedHead, RequestError, RequestHead, StreamId};

/// The memory that a request head is decoded into. One serves any number of connections.
#[derive(Debug)]
pub struct HeadBuffer {
    /// For the decoder.
    pub(crate) scratch: Vec<u8>,
    /// The values of the pseudo-header fields and of Host, and the request line.
    pub(crate) text: Vec<u8>,
    /// Field lines, each ended by CRLF.
    pub(crate) lines: Vec<u8>,
    /// The value of all Cookie fields.
    pub(crate) cookies: Vec<u8>,
    pub(crate) head: Head,
}

/// What is known of a head besides its text.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) method: Method,
    pub(crate) is_connect: bool,
    /// In `text`: the path, or the authority of CONNECT.
    pub(crate) target: Range<usize>,
    /// In `text`.
    pub(crate) request_line: Range<usize>,
    /// In `text`: `:authority`, or Host.
    pub(crate) host: Option<Range<usize>>,
    /// The positions of field lines.
    pub(crate) index: Fields<'static>,
    pub(crate) priority: Option<Priority>,
    pub(crate) content_length: Option<u64>,
    /// Why it is to be answered with an error page, as far as it is known while it is decoded.
    pub(crate) refused: Option<RequestError>,
    /// Bytes of the header block.
    pub(crate) len: usize,
}

impl Head {
    fn new(len: usize) -> Self {
        Self {
            method: Method::Unknown,
            is_connect: false,
            target: 0..0,
            request_line: 0..0,
            host: None,
            index: Fields::new(&[]),
            priority: None,
            content_length: None,
            refused: None,
            len,
        }
    }
}

impl Default for HeadBuffer {
    fn default() -> Self {
        Self {
            scratch: Vec::new(),
            text: Vec::new(),
            lines: Vec::new(),
            cookies: Vec::new(),
            head: Head::new(0),
        }
    }
}

impl HeadBuffer {
    /// Forgets the last head, before a block of `len` bytes is decoded.
    pub(crate) fn clear(&mut self, len: usize) {
        self.text.clear();
        self.lines.clear();
        self.cookies.clear();
        self.head = Head::new(len);
    }

    /// The event of the head.
    pub(crate) fn event<T>(&self, stream: StreamId, is_body_too_large: bool) -> Event<'_, T> {
        let request_line = &self.text[self.head.request_line.clone()];
        let len = self.head.len;
        match self.request() {
            Ok(request) => Event::Request(RequestHead {
                stream,
                request,
                request_line,
                len,
                is_body_too_large,
            }),
            Err(error) => Event::Refused(RefusedHead {
                stream,
                error,
                method: self.head.method,
                request_line,
                len,
            }),
        }
    }

    fn request(&self) -> Result<Request<'_>, RequestError> {
        if let Some(error) = self.head.refused {
            return Err(error);
        }
        Ok(Request {
            method: self.head.method,
            target: self.target()?,
            host: self.host()?,
            fields: self.head.index.over(&self.lines),
        })
    }

    fn target(&self) -> Result<Target<'_>, RequestError> {
        let raw = str::from_utf8(&self.text[self.head.target.clone()]);
        let raw = raw.map_err(|_| TargetError::Malformed)?;
        if self.head.is_connect {
            return Ok(Target::connect(raw)?);
        }
        let (target, _) = Target::parse(raw)?;
        // As in HTTP/1.1: only OPTIONS asks about the server as a whole, and maybe a method that is
        // not known here.
        if target.is_asterisk() && !matches!(self.head.method, Method::Options | Method::Unknown) {
            return Err(TargetError::Malformed.into());
        }
        Ok(target)
    }

    /// The host, by the rules of HTTP/1.1.
    fn host(&self) -> Result<Option<&str>, RequestError> {
        let range = self.head.host.clone().ok_or(RequestError::Host)?;
        let host = str::from_utf8(&self.text[range]).map_err(|_| RequestError::Host)?;
        if !is_host(host) {
            return Err(RequestError::Host);
        }
        Ok((!host.is_empty()).then_some(host))
    }
}
