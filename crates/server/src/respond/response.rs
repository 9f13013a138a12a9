//! What a request is answered: from its head and what its path leads to, to the bytes of the
//! response and what is to follow them. Nothing here waits or sends.

use std::num::NonZeroU16;
use std::ops::Range;
use std::rc::Rc;

use bytes::Bytes;
use tidegate_config::Respond;
use tidegate_http::{
    Head, HttpDate, Multipart, Precondition, RangeLimits, Ranges, ResponseHead, Status, Streamed,
    TextResponse, Version, evaluate, ranges, write_content_range, write_field, write_options,
    write_unsatisfied_range,
};
use tidegate_site::{Content, Decompression, File, Found, Listing, Site};

/// The most of a file in memory that is copied behind its head. What is longer is sent from where it
/// is, so that a client that is slow to take it holds no copy.
const COPIED_BYTES_MAX: usize = 32 * 1024;

/// When a client is told to come again that was refused for now.
const RETRY_AFTER_SECONDS: u64 = 10;

/// The port of HTTPS where none is named.
const HTTPS_PORT: u16 = 443;

/// How a response is written, whatever it says.
#[derive(Clone, Copy)]
pub(crate) struct Reply {
    /// Of the request.
    pub(crate) version: Version,
    /// Whether the connection goes on after it.
    pub(crate) persistent: bool,
    /// Not for HEAD.
    pub(crate) with_body: bool,
}

/// What follows the bytes of a response that were built in memory.
pub(crate) enum Body {
    /// Bytes of a file in memory.
    Memory(Bytes),
    /// Bytes of a file, to be spliced.
    Range(Rc<File>, Range<u64>),
    /// Ranges of a file, each behind a head of its own.
    Parts(Rc<File>, Multipart),
    /// A listing, piece by piece.
    Listing(Box<Listing>, Streamed),
    /// A file that is decompressed while it is sent.
    Decompression(Box<Decompression>, Streamed),
}

/// A request that is answered.
pub(crate) struct Answer<'a> {
    pub(crate) head: &'a Head<'a>,
    /// Decoded.
    pub(crate) path: &'a [u8],
    pub(crate) site: &'a Site,
    pub(crate) reply: Reply,
    pub(crate) date: &'a HttpDate,
    /// The value of Strict-Transport-Security; empty: there is none.
    pub(crate) hsts: &'a str,
    /// More ranges than these are answered with all of the file.
    pub(crate) range_limits: RangeLimits,
}

impl Reply {
    /// How a response is written whose body ends as `streamed` says.
    fn streamed(self, streamed: Streamed) -> Self {
        Self {
            persistent: streamed.persists(self.persistent),
            ..self
        }
    }
}

impl Answer<'_> {
    /// What was looked up: what follows, and whether the connection goes on after it.
    pub(crate) fn found(&self, found: Found, out: &mut Vec<u8>) -> (Option<Body>, bool) {
        let body = match found {
            Found::File(file) | Found::Fallback(file) => self.file(&file, out),
            Found::Redirect { status, location } => {
                self.redirect(status, &self.with_query(location), out)
            }
            Found::Refused { status, page, .. } => self.refuse(status, page.as_ref(), out),
            Found::Listing(listing) => return self.list(listing, out),
            Found::Compressed(compressed) => {
                return self.decompressed(&compressed.description, out);
            }
            Found::Decompression(decompression) => {
                let streamed = Streamed::to(self.reply.version);
                let (_, persistent) = self.decompressed(decompression.description(), out);
                return (
                    Some(Body::Decompression(decompression, streamed)),
                    persistent,
                );
            }
        };
        (body, self.reply.persistent)
    }

    /// The file that the path leads to, or as much of it as is asked for (RFC 9110, section 13.2.2).
    pub(crate) fn file(&self, file: &Rc<File>, out: &mut Vec<u8>) -> Option<Body> {
        match evaluate(self.head, &file.validators) {
            Precondition::Met => self.select(file, out),
            Precondition::NotModified => self.not_modified(file, out),
            Precondition::Failed => self.precondition_failed(file, out),
        }
    }

    fn not_modified(&self, file: &File, out: &mut Vec<u8>) -> Option<Body> {
        let fields = file.not_modified_fields();
        self.start(Status::NOT_MODIFIED, None, fields, out);
        out.extend_from_slice(b"\r\n");
        None
    }

    fn precondition_failed(&self, file: &File, out: &mut Vec<u8>) -> Option<Body> {
        let fields = file.vary_field().to_vec();
        self.text(Status::PRECONDITION_FAILED, fields, out)
    }

    /// The head of a file that is decompressed while it is sent, of which `description` tells, or what
    /// is sent in place of it. It has no ranges: how long it is is not known.
    fn decompressed(&self, description: &File, out: &mut Vec<u8>) -> (Option<Body>, bool) {
        let body = match evaluate(self.head, &description.validators) {
            Precondition::Met => {
                let persistent = self.start_streamed(description.fields(), &[], out);
                return (None, persistent);
            }
            Precondition::NotModified => self.not_modified(description, out),
            Precondition::Failed => self.precondition_failed(description, out),
        };
        (body, self.reply.persistent)
    }

    fn select(&self, file: &Rc<File>, out: &mut Vec<u8>) -> Option<Body> {
        match ranges(self.head, &file.validators, file.len, self.range_limits) {
            Ranges::Whole => self.whole(file, Status::OK, &[], out),
            Ranges::One(range) => self.part(file, range, out),
            Ranges::Many(ranges) => self.parts(file, ranges, out),
            Ranges::Unsatisfiable => {
                let mut fields = file.vary_field().to_vec();
                write_unsatisfied_range(&mut fields, file.len);
                self.text(Status::RANGE_NOT_SATISFIABLE, fields, out)
            }
        }
    }

    /// All of `file`, with further field lines.
    fn whole(
        &self,
        file: &Rc<File>,
        status: Status,
        lines: &[u8],
        out: &mut Vec<u8>,
    ) -> Option<Body> {
        self.start(status, Some(file.len), file.fields(), out);
        out.extend_from_slice(lines);
        out.extend_from_slice(b"\r\n");
        self.bytes(file, 0..file.len, out)
    }

    fn part(&self, file: &Rc<File>, range: Range<u64>, out: &mut Vec<u8>) -> Option<Body> {
        let len = range.end - range.start;
        self.start(Status::PARTIAL_CONTENT, Some(len), file.fields(), out);
        write_content_range(out, &range, file.len);
        out.extend_from_slice(b"\r\n");
        self.bytes(file, range, out)
    }

    fn parts(&self, file: &Rc<File>, ranges: Vec<Range<u64>>, out: &mut Vec<u8>) -> Option<Body> {
        let parts = Multipart::new(
            ranges,
            file.len,
            &file.content_type,
            file.coding,
            fastrand::u64(..),
        );
        let len = parts.content_length();
        self.start(
            Status::PARTIAL_CONTENT,
            Some(len),
            file.fields_without_type(),
            out,
        );
        parts.write_content_type(out);
        out.extend_from_slice(b"\r\n");
        match &file.content {
            _ if !self.reply.with_body => None,
            Content::Memory(bytes) if len <= COPIED_BYTES_MAX as u64 => {
                for range in parts.ranges() {
                    parts.write_head(range, out);
                    out.extend_from_slice(slice(bytes, range));
                }
                parts.write_end(out);
                None
            }
            _ => Some(Body::Parts(Rc::clone(file), parts)),
        }
    }

    /// The bytes of a range: at once where they are in memory, else they follow.
    fn bytes(&self, file: &Rc<File>, range: Range<u64>, out: &mut Vec<u8>) -> Option<Body> {
        match &file.content {
            _ if !self.reply.with_body || range.is_empty() => None,
            Content::Memory(content) => {
                let bytes = slice(content, &range);
                if bytes.len() > COPIED_BYTES_MAX {
                    return Some(Body::Memory(content.slice_ref(bytes)));
                }
                out.extend_from_slice(bytes);
                None
            }
            Content::File(_) => Some(Body::Range(Rc::clone(file), range)),
        }
    }

    fn list(&self, listing: Listing, out: &mut Vec<u8>) -> (Option<Body>, bool) {
        let lines = self.lines(Status::OK);
        let persistent = self.start_streamed(listing.fields(), &lines, out);
        let body = Body::Listing(Box::new(listing), Streamed::to(self.reply.version));
        (self.reply.with_body.then_some(body), persistent)
    }

    /// The head of a response whose length is not known, with further field lines: whether the
    /// connection goes on after it.
    fn start_streamed(&self, fields: &[u8], lines: &[u8], out: &mut Vec<u8>) -> bool {
        let streamed = Streamed::to(self.reply.version);
        let reply = self.reply.streamed(streamed);
        Answer { reply, ..*self }.start(Status::OK, None, fields, out);
        out.extend_from_slice(lines);
        out.extend_from_slice(streamed.fields());
        out.extend_from_slice(b"\r\n");
        reply.persistent
    }

    /// Refuses the request, with an error page if there is one.
    pub(crate) fn refuse(
        &self,
        status: Status,
        page: Option<&Rc<File>>,
        out: &mut Vec<u8>,
    ) -> Option<Body> {
        self.paged(status, page, default_retry_after(status), out)
    }

    /// Answers as a rule of the site says, with the page for it if there is one.
    pub(crate) fn respond(
        &self,
        respond: &Respond,
        page: Option<&Rc<File>>,
        out: &mut Vec<u8>,
    ) -> Option<Body> {
        let status = respond.status;
        if status == Status::NO_CONTENT {
            self.start(status, None, &self.lines(status), out);
            out.extend_from_slice(b"\r\n");
            return None;
        }
        let retry_after = respond.retry_after.map(|after| after.as_secs());
        let retry_after = retry_after.or_else(|| default_retry_after(status));
        self.paged(status, page, retry_after, out)
    }

    /// A status with its page, or with a line of text where there is none.
    fn paged(
        &self,
        status: Status,
        page: Option<&Rc<File>>,
        retry_after: Option<u64>,
        out: &mut Vec<u8>,
    ) -> Option<Body> {
        let mut fields = Vec::new();
        if let Some(seconds) = retry_after {
            write_field(&mut fields, "Retry-After", &seconds.to_string());
        }
        let Some(page) = page else {
            return self.text(status, fields, out);
        };
        if status == Status::METHOD_NOT_ALLOWED {
            write_field(&mut fields, "Allow", tidegate_http::ALLOW);
        }
        fields.extend_from_slice(&self.lines(status));
        self.whole(page, status, &fields, out)
    }

    /// Sends the client to `location`, in which everything is encoded that must be.
    pub(crate) fn redirect(
        &self,
        status: Status,
        location: &str,
        out: &mut Vec<u8>,
    ) -> Option<Body> {
        let mut fields = Vec::new();
        write_field(&mut fields, "Location", location);
        self.text(status, fields, out)
    }

    /// Sends the client to the same target by HTTPS, on `port` of the host that it names.
    pub(crate) fn to_https(&self, port: NonZeroU16, out: &mut Vec<u8>) -> Option<Body> {
        match https_location(self.head, port) {
            Some(location) => self.redirect(Status::PERMANENT_REDIRECT, &location, out),
            None => self.refuse(Status::BAD_REQUEST, None, out),
        }
    }

    /// Tells what may be asked of the path (RFC 9110, section 9.3.7).
    pub(crate) fn options(&self, out: &mut Vec<u8>) -> Option<Body> {
        let mut fields = self.site.fields_for(self.path, Status::NO_CONTENT);
        self.write_hsts(&mut fields);
        self.site.cors().write_preflight(self.head, &mut fields);
        let Reply {
            version,
            persistent,
            ..
        } = self.reply;
        write_options(out, self.date, version, persistent, &fields);
        None
    }

    /// A response that says `status` and nothing else, with further field lines.
    fn text(&self, status: Status, mut fields: Vec<u8>, out: &mut Vec<u8>) -> Option<Body> {
        fields.extend_from_slice(&self.lines(status));
        self.write_hsts(&mut fields);
        self.site.cors().write_fields(self.head, &mut fields);
        TextResponse {
            status,
            date: self.date,
            version: self.reply.version,
            persistent: self.reply.persistent,
            with_body: self.reply.with_body,
            fields: &fields,
        }
        .write(out);
        None
    }

    /// The head of a response but for its last lines.
    fn start(&self, status: Status, length: Option<u64>, fields: &[u8], out: &mut Vec<u8>) {
        ResponseHead {
            status,
            date: self.date,
            persistent: self.reply.persistent,
            version: self.reply.version,
            content_length: length,
            fields,
        }
        .write_start(out);
        self.write_hsts(out);
        self.site.cors().write_fields(self.head, out);
    }

    fn write_hsts(&self, out: &mut Vec<u8>) {
        if !self.hsts.is_empty() {
            write_field(out, "Strict-Transport-Security", self.hsts);
        }
    }

    /// What the site's rules add to answers other than files.
    fn lines(&self, status: Status) -> Vec<u8> {
        self.site.fields_for(self.path, status)
    }

    fn with_query(&self, mut location: String) -> String {
        if let Some(query) = self.head.target.query() {
            location.push('?');
            location.push_str(query);
        }
        location
    }
}

/// In how many seconds to come again, where that may help (RFC 9110, section 15.6.4).
fn default_retry_after(status: Status) -> Option<u64> {
    (status == Status::SERVICE_UNAVAILABLE).then_some(RETRY_AFTER_SECONDS)
}

/// Whether `path` is that of a challenge by which certificates are renewed (RFC 8555, section 8.3).
pub(crate) fn is_challenge(path: &[u8]) -> bool {
    path.starts_with(b"/.well-known/acme-challenge/")
}

/// Where a request goes by HTTPS, if it names a host and a path.
fn https_location(head: &Head<'_>, port: NonZeroU16) -> Option<String> {
    let authority = head.host?;
    // What follows the last colon is a port, unless the colon is one of an IPv6 address.
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => host,
        _ => authority,
    };
    let path = head.target.path();
    if host.is_empty() || !path.starts_with('/') {
        return None;
    }
    let port = match port.get() {
        HTTPS_PORT => String::new(),
        port => format!(":{port}"),
    };
    let query = head.target.query();
    let query = query.map_or_else(String::new, |query| format!("?{query}"));
    Some(format!("https://{host}{port}{path}{query}"))
}

/// The bytes of `range`, which lies within the file.
pub(crate) fn slice<'a>(bytes: &'a [u8], range: &Range<u64>) -> &'a [u8] {
    // A file in memory is no longer than its bytes, which fit a usize.
    &bytes[range.start as usize..range.end as usize]
}
