//! Responses, whatever the version of HTTP: built from a request and the file, page or rule for its
//! path. Nothing here waits or sends.

use std::mem::take;
use std::num::NonZeroU16;
use std::ops::Range;
use std::rc::Rc;
use std::time::SystemTime;

use tidegate_config::Respond;
use tidegate_http::{
    ALLOW, FieldBlock, FieldLines, Method, Multipart, Precondition, RangeLimits, Ranges, Request,
    Status, evaluate, push_content_range, push_unsatisfied_range, ranges,
};
use tidegate_origin::CacheState;
use tidegate_site::{Decompression, Error as SiteError, File, Found, Listing, Provenance, Site};

use crate::clients::{Exceeded, TooMany};
use crate::config::snapshot::Snapshot;
use crate::observe::metrics::CacheStatus;
use crate::respond::refusal::Refusal;
use crate::transport::Transport;

/// The Retry-After of a 503, in seconds.
const RETRY_AFTER_SECONDS: u64 = 10;

/// The same if an origin fails.
const ORIGIN_RETRY_SECONDS: u64 = 5;

/// The default port of HTTPS.
const HTTPS_PORT: u16 = 443;

/// The type of [`Status::page`]. Always HTML, whatever Accept says, so no Vary is needed.
const PAGE_TYPE: FieldLines<'static> =
    FieldLines::from_static("Content-Type: text/html; charset=utf-8\r\n");

/// The scheme of a request, as far as its response depends on it.
#[derive(Clone, Copy)]
pub(crate) enum Scheme {
    Http,
    /// HTTP, on a listener that redirects all requests to HTTPS on this port.
    HttpRedirected(NonZeroU16),
    Https,
    /// HTTPS, for a host that the connection is not for.
    HttpsMisdirected,
}

impl Scheme {
    /// The scheme on this connection. `https_port`: where its listener redirects requests.
    pub(crate) fn on(transport: &Transport, https_port: Option<NonZeroU16>) -> Self {
        match https_port {
            _ if transport.is_tls() => Self::Https,
            Some(port) => Self::HttpRedirected(port),
            None => Self::Http,
        }
    }

    /// As [`Scheme::on`], for a request for `host` by HTTP/2: its clients use a connection for
    /// other hosts, too (RFC 9113, section 9.1.1). Those of HTTP/1.1 do not, and proxies in front
    /// may name one host in the handshake and another in the request.
    pub(crate) fn on_shared(
        transport: &Transport,
        https_port: Option<NonZeroU16>,
        host: Option<&str>,
    ) -> Self {
        match (transport.tls(), host) {
            (Some(tls), Some(host)) if tls.is_misdirected(host) => Self::HttpsMisdirected,
            _ => Self::on(transport, https_port),
        }
    }
}

/// A response without Date and connection fields: the protocol that sends it adds them.
pub(crate) struct Response {
    pub(crate) status: Status,
    /// The length of the content in bytes; for HEAD that of GET. `None` if it is not known
    /// beforehand, and for a 204 and a 304.
    pub(crate) content_length: Option<u64>,
    /// The fields of the representation.
    pub(crate) fields: PreparedFields,
    /// The fields of this response alone, sent after those.
    pub(crate) extra: FieldBlock,
    pub(crate) body: Body,
    /// How it came about; `None` if it is no object of an origin.
    pub(crate) cache_status: Option<CacheStatus>,
}

/// Fields that were built before the request.
pub(crate) enum PreparedFields {
    None,
    /// For a 200, or a 206 with one range.
    File(Rc<File>),
    /// For a 206 with several ranges.
    Parts(Rc<File>),
    NotModified(Rc<File>),
    Listing(FieldLines<'static>),
}

/// The content of a response, sent after its head.
pub(crate) enum Body {
    Empty,
    Static(&'static [u8]),
    /// A range of a file, in memory or on disk.
    File(Rc<File>, Range<u64>),
    /// Several ranges of a file, each after its own part head.
    Parts(Rc<File>, Box<Multipart>),
    /// A directory, written piece by piece.
    Listing(Box<Listing>),
    /// A file that is decompressed while it is sent.
    Decompression(Box<Decompression>),
}

/// Builds the response to a request.
pub(crate) struct ResponseBuilder<'a> {
    pub(crate) request: &'a Request<'a>,
    /// Decoded; empty if the target has none.
    pub(crate) path: &'a [u8],
    pub(crate) site: &'a Site,
    /// The value of Strict-Transport-Security; empty for none.
    pub(crate) hsts: &'a str,
    /// Whether it is for one user, and no shared cache may keep it.
    pub(crate) is_private: bool,
    /// The limits beyond which a request for ranges gets the whole file.
    pub(crate) range_limits: RangeLimits,
    /// Empty; the response takes it, with its own fields.
    pub(crate) extra: &'a mut FieldBlock,
    cache_status: Option<CacheStatus>,
}

impl Response {
    /// An HTML page for `status`, without fields from the site.
    pub(crate) fn page(status: Status) -> Self {
        let mut extra = FieldBlock::new();
        push_page_fields(&mut extra, status);
        let page = status.page().as_bytes();
        Self {
            status,
            content_length: Some(page.len() as u64),
            fields: PreparedFields::None,
            extra,
            body: Body::Static(page),
            cache_status: None,
        }
    }

    /// The response to one request too many, without fields from the site.
    pub(crate) fn too_many_requests(too_many: TooMany) -> Self {
        let mut response = Self::page(status_of(too_many.limit));
        let seconds = too_many.seconds.to_string();
        response.extra.push("Retry-After", seconds);
        response
    }
}

/// The status of a request that would exceed a limit: 429 blames the client.
fn status_of(limit: Exceeded) -> Status {
    match limit {
        Exceeded::Client | Exceeded::SiteClient => Status::TOO_MANY_REQUESTS,
        Exceeded::Site => Status::SERVICE_UNAVAILABLE,
    }
}

impl PreparedFields {
    pub(crate) fn lines(&self) -> FieldLines<'_> {
        match self {
            Self::None => FieldLines::default(),
            Self::File(file) => file.fields(),
            Self::Parts(file) => file.fields_without_type(),
            Self::NotModified(file) => file.not_modified_fields(),
            Self::Listing(fields) => *fields,
        }
    }
}

impl<'a> ResponseBuilder<'a> {
    /// A builder for the response to `request` of `site`. It takes the memory of `extra`, an empty
    /// block.
    pub(crate) fn new(
        snapshot: &'a Snapshot,
        request: &'a Request<'a>,
        path: &'a [u8],
        site: &'a Site,
        scheme: Scheme,
        extra: &'a mut FieldBlock,
    ) -> Self {
        Self {
            request,
            path,
            site,
            hsts: match scheme {
                Scheme::Https | Scheme::HttpsMisdirected => &snapshot.settings.tls.hsts,
                Scheme::Http | Scheme::HttpRedirected(_) => "",
            },
            is_private: false,
            range_limits: snapshot.ranges,
            extra,
            cache_status: None,
        }
    }

    /// The response for the result of a lookup.
    pub(crate) fn found(self, found: Found) -> Response {
        match found {
            Found::File(file) | Found::Fallback(file) => self.file(file),
            Found::Redirect { status, location } => {
                let location = self.with_query(location);
                self.redirect(status, &location)
            }
            Found::Elsewhere { status, location } => self.redirect(status, &location),
            Found::Refused {
                status,
                page,
                error: error @ SiteError::Origin(_),
            } => {
                let after = error.retry_after().or_else(|| retry_after_origin(status));
                self.paged(status, page, after)
            }
            Found::Refused { status, page, .. } => self.refuse(status.into(), page),
            Found::Listing { listing, .. } => self.list(listing),
            Found::Compressed(compressed) => self.described(&compressed.description),
            Found::Decompression(decompression) => {
                let mut response = self.described(decompression.description());
                if response.status == Status::OK {
                    response.body = Body::Decompression(decompression);
                }
                response
            }
        }
    }

    /// The requested file or ranges of it, once its preconditions are evaluated (RFC 9110, section
    /// 13.2.2).
    pub(crate) fn file(mut self, file: Rc<File>) -> Response {
        if let Some(origin) = &file.origin {
            self.push_provenance(origin);
        }
        match evaluate(self.request, &file.validators) {
            Precondition::Met => self.select(file),
            Precondition::NotModified => {
                self.push_common();
                let fields = PreparedFields::NotModified(file);
                self.finish(Status::NOT_MODIFIED, None, fields, Body::Empty)
            }
            Precondition::Failed => self.precondition_failed(&file),
        }
    }

    /// Age and Cache-Status of an object (RFC 9111, section 5.1; RFC 9211).
    fn push_provenance(&mut self, origin: &Provenance) {
        let age = origin.age(SystemTime::now());
        let state = origin.take_state();
        if age > 0 || !matches!(state, CacheState::Miss { .. }) {
            self.extra.push("Age", itoa::Buffer::new().format(age));
        }
        let (status, value) = match state {
            CacheState::Hit if origin.is_stored() => (CacheStatus::Hit, "tidegate; hit"),
            CacheState::Hit => (CacheStatus::Pass, "tidegate; fwd=uri-miss"),
            CacheState::Stale => (CacheStatus::Stale, "tidegate; hit; detail=stale"),
            CacheState::Revalidated => (
                CacheStatus::Revalidated,
                "tidegate; fwd=stale; fwd-status=304",
            ),
            CacheState::Miss { .. } if !origin.is_stored() => {
                (CacheStatus::Pass, "tidegate; fwd=uri-miss")
            }
            CacheState::Miss {
                is_collapsed: true, ..
            } => (CacheStatus::Collapsed, "tidegate; fwd=uri-miss; collapsed"),
            CacheState::Miss {
                was_stale: true, ..
            } => (CacheStatus::Miss, "tidegate; fwd=stale; stored"),
            CacheState::Miss { .. } => (CacheStatus::Miss, "tidegate; fwd=uri-miss; stored"),
        };
        self.cache_status = Some(status);
        self.extra.push("Cache-Status", value);
    }

    /// The head of a file that is decompressed while it is sent, or a 304 or 412. It has no ranges,
    /// since its length is not known.
    fn described(mut self, description: &File) -> Response {
        let (status, fields) = match evaluate(self.request, &description.validators) {
            Precondition::Met => (Status::OK, description.fields()),
            Precondition::NotModified => (Status::NOT_MODIFIED, description.not_modified_fields()),
            Precondition::Failed => return self.precondition_failed(description),
        };
        self.extra.extend(fields);
        self.push_common();
        self.finish(status, None, PreparedFields::None, Body::Empty)
    }

    fn precondition_failed(self, file: &File) -> Response {
        self.extra.extend(file.vary_field());
        self.page(Status::PRECONDITION_FAILED)
    }

    fn select(mut self, file: Rc<File>) -> Response {
        match ranges(self.request, &file.validators, file.len, self.range_limits) {
            Ranges::Whole => {
                self.push_common();
                self.whole(Status::OK, file)
            }
            Ranges::One(range) => self.part(file, range),
            Ranges::Many(ranges) => self.parts(file, ranges),
            Ranges::Unsatisfiable => {
                self.extra.extend(file.vary_field());
                push_unsatisfied_range(self.extra, file.len);
                self.page(Status::RANGE_NOT_SATISFIABLE)
            }
        }
    }

    /// All of `file`.
    fn whole(self, status: Status, file: Rc<File>) -> Response {
        let body = Body::File(Rc::clone(&file), 0..file.len);
        let len = file.len;
        self.finish(status, Some(len), PreparedFields::File(file), body)
    }

    fn part(mut self, file: Rc<File>, range: Range<u64>) -> Response {
        self.push_common();
        push_content_range(self.extra, &range, file.len);
        let len = range.end - range.start;
        let body = Body::File(Rc::clone(&file), range);
        let fields = PreparedFields::File(file);
        self.finish(Status::PARTIAL_CONTENT, Some(len), fields, body)
    }

    fn parts(mut self, file: Rc<File>, ranges: Vec<Range<u64>>) -> Response {
        let boundary = fastrand::u64(..);
        let parts = Multipart::new(ranges, file.len, &file.content_type, file.coding, boundary);
        self.push_common();
        parts.push_content_type(self.extra);
        let len = parts.content_length();
        let body = Body::Parts(Rc::clone(&file), Box::new(parts));
        let fields = PreparedFields::Parts(file);
        self.finish(Status::PARTIAL_CONTENT, Some(len), fields, body)
    }

    fn list(mut self, listing: Listing) -> Response {
        self.push_common();
        self.push_rules(Status::OK);
        let fields = PreparedFields::Listing(listing.fields());
        self.finish(Status::OK, None, fields, Body::Listing(Box::new(listing)))
    }

    /// Refuses the request, with the site's page for the status if there is one.
    pub(crate) fn refuse(self, refusal: Refusal, page: Option<Rc<File>>) -> Response {
        let status = refusal.status;
        if let Some(rule) = refusal.rule {
            let realm = self.site.realm(rule);
            let challenge = format!("Basic realm=\"{realm}\", charset=\"UTF-8\"");
            self.extra.push("WWW-Authenticate", challenge);
        }
        self.paged(status, page, default_retry_after(status))
    }

    /// Refuses one request too many. It has no page of the site, so that it costs no lookup.
    pub(crate) fn too_many_requests(self, too_many: TooMany) -> Response {
        self.paged(status_of(too_many.limit), None, Some(too_many.seconds))
    }

    /// Responds by a rule of the site, with the site's page if there is one.
    pub(crate) fn respond(mut self, respond: &Respond, page: Option<Rc<File>>) -> Response {
        let status = respond.status;
        if status == Status::NO_CONTENT {
            self.push_rules(status);
            self.push_common();
            return self.finish(status, None, PreparedFields::None, Body::Empty);
        }
        let retry_after = respond.retry_after.map(|after| after.as_secs());
        let retry_after = retry_after.or_else(|| default_retry_after(status));
        self.paged(status, page, retry_after)
    }

    fn paged(
        mut self,
        status: Status,
        page: Option<Rc<File>>,
        retry_after: Option<u64>,
    ) -> Response {
        let push_retry_after = |extra: &mut FieldBlock| {
            if let Some(seconds) = retry_after {
                extra.push("Retry-After", seconds.to_string());
            }
        };
        let Some(page) = page else {
            push_retry_after(self.extra);
            return self.page(status);
        };
        self.push_common();
        push_retry_after(self.extra);
        if status == Status::METHOD_NOT_ALLOWED {
            self.extra.push("Allow", ALLOW);
        }
        self.push_rules(status);
        self.whole(status, page)
    }

    /// Redirects the client to `location`, which must be encoded already.
    pub(crate) fn redirect(self, status: Status, location: &str) -> Response {
        self.extra.push("Location", location);
        self.page(status)
    }

    /// Redirects the client to the same target by HTTPS, on `port` of the requested host.
    pub(crate) fn redirect_to_https(self, port: NonZeroU16) -> Response {
        match https_location(self.request, port) {
            Some(location) => self.redirect(Status::PERMANENT_REDIRECT, &location),
            None => self.refuse(Status::BAD_REQUEST.into(), None),
        }
    }

    /// The response to OPTIONS (RFC 9110, section 9.3.7). A 204 has neither content nor
    /// Content-Length (section 8.6).
    pub(crate) fn options(mut self) -> Response {
        let status = Status::NO_CONTENT;
        self.push_rules(status);
        self.push_hsts();
        self.site.cors().push_preflight(self.request, self.extra);
        self.extra.push("Allow", ALLOW);
        self.finish(status, None, PreparedFields::None, Body::Empty)
    }

    /// Responds with [`Status::page`], with the fields pushed so far.
    fn page(mut self, status: Status) -> Response {
        self.push_rules(status);
        self.push_common();
        push_page_fields(self.extra, status);
        let page = status.page().as_bytes();
        let len = Some(page.len() as u64);
        self.finish(status, len, PreparedFields::None, Body::Static(page))
    }

    /// Builds the response. HEAD gets the head of GET, without content.
    fn finish(
        self,
        status: Status,
        content_length: Option<u64>,
        fields: PreparedFields,
        body: Body,
    ) -> Response {
        Response {
            status,
            content_length,
            fields,
            extra: take(self.extra),
            cache_status: self.cache_status,
            body: match self.request.method {
                Method::Head => Body::Empty,
                _ => body,
            },
        }
    }

    /// Appends the fields of all responses except those to OPTIONS.
    fn push_common(&mut self) {
        self.push_hsts();
        if self.is_private {
            // A rule for header fields may say `public`, which would let shared caches keep it
            // (RFC 9111, section 3.5); with both, it is private.
            self.extra.push("Cache-Control", "private");
        }
        self.site.cors().push_fields(self.request, self.extra);
    }

    fn push_hsts(&mut self) {
        if !self.hsts.is_empty() {
            self.extra.push("Strict-Transport-Security", self.hsts);
        }
    }

    /// Appends the fields that the site's rules add to responses other than files.
    fn push_rules(&mut self, status: Status) {
        let fields = self.site.fields_for(self.path, status);
        self.extra.extend(fields.lines());
    }

    fn with_query(&self, mut location: String) -> String {
        if let Some(query) = self.request.target.query() {
            location.push('?');
            location.push_str(query);
        }
        location
    }
}

/// Appends the fields of [`Status::page`]. A 405 must have Allow (RFC 9110, section 15.5.6).
fn push_page_fields(extra: &mut FieldBlock, status: Status) {
    extra.extend(PAGE_TYPE);
    if status == Status::METHOD_NOT_ALLOWED {
        extra.push("Allow", ALLOW);
    }
}

/// The Retry-After in seconds if an origin fails that did not say so itself.
fn retry_after_origin(status: Status) -> Option<u64> {
    let is_temporary = [
        Status::BAD_GATEWAY,
        Status::SERVICE_UNAVAILABLE,
        Status::GATEWAY_TIMEOUT,
    ];
    is_temporary
        .contains(&status)
        .then_some(ORIGIN_RETRY_SECONDS)
}

/// The default Retry-After in seconds, for a status that has one (RFC 9110, section 15.6.4).
fn default_retry_after(status: Status) -> Option<u64> {
    (status == Status::SERVICE_UNAVAILABLE).then_some(RETRY_AFTER_SECONDS)
}

/// The HTTPS URL of a request; `None` if it has no host or no path.
fn https_location(request: &Request<'_>, port: NonZeroU16) -> Option<String> {
    let authority = request.host?;
    // The text after the last colon is a port, unless the colon belongs to an IPv6 address.
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => host,
        _ => authority,
    };
    let path = request.target.path();
    if host.is_empty() || !path.starts_with('/') {
        return None;
    }
    let port = match port.get() {
        HTTPS_PORT => String::new(),
        port => format!(":{port}"),
    };
    let query = request.target.query();
    let query = query.map_or_else(String::new, |query| format!("?{query}"));
    Some(format!("https://{host}{port}{path}{query}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_tells_its_type_and_its_length() {
        for status in [Status::NOT_FOUND, Status::METHOD_NOT_ALLOWED] {
            let response = Response::page(status);
            let Body::Static(page) = response.body else {
                panic!("no page");
            };
            assert_eq!(page, status.page().as_bytes());
            assert_eq!(response.content_length, Some(page.len() as u64));
            let fields: Vec<_> = response.extra.lines().iter().collect();
            let content_type = ("Content-Type", b"text/html; charset=utf-8".as_slice());
            let allow = ("Allow", b"GET, HEAD, OPTIONS".as_slice());
            match status {
                Status::METHOD_NOT_ALLOWED => assert_eq!(fields, [content_type, allow]),
                _ => assert_eq!(fields, [content_type]),
            }
        }
    }

    // Moved once for each request from memory.
    const _: () = assert!(size_of::<Response>() <= 112);
}
