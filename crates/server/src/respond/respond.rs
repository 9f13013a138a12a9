//! The only path from a request to a response.

use std::time::Instant;

use tidegate_http::{Accepted, FieldBlock, Method, Navigation, Request, Status};
use tidegate_site::Cached;

use crate::respond::lookup::PendingLookup;
use crate::respond::response::{Response, ResponseBuilder, Scheme};
use crate::worker::Shard;

/// Whether a request has its response.
pub(crate) enum Answer {
    /// From memory.
    Prepared(Response),
    /// It is to be looked up on disk.
    Lookup(Box<PendingLookup>),
}

/// Memory that responses reuse, so that one from memory allocates nothing.
#[derive(Default)]
pub(crate) struct Buffers {
    /// The decoded path of the request at hand.
    path: Vec<u8>,
    /// Empty between two requests.
    extra: FieldBlock,
}

impl Buffers {
    /// Takes the memory of a response back that was sent.
    pub(crate) fn reclaim(&mut self, mut extra: FieldBlock) {
        extra.clear();
        self.extra = extra;
    }
}

/// Responds from memory, or tells what to look up.
pub(crate) fn respond(
    shard: &Shard,
    request: &Request<'_>,
    scheme: Scheme,
    now: Instant,
    buffers: &mut Buffers,
) -> Answer {
    let site = shard.sites.of(request.host);
    let Buffers { path, extra } = buffers;
    let decoded = request.target.decode_path(site.encoded_slash(), path);
    if decoded.is_err() {
        // Half a path means nothing, nor to the rules of the site.
        path.clear();
    }
    let builder = ResponseBuilder::new(shard, request, path, site, scheme, extra);
    if let Scheme::HttpRedirected(port) = scheme
        && !is_challenge(path)
    {
        return Answer::Prepared(builder.redirect_to_https(port));
    }
    match (request.method, decoded) {
        (Method::Get | Method::Head, Ok(())) => from_cache(builder, now),
        (Method::Options, Ok(())) => Answer::Prepared(builder.options()),
        (Method::Options, Err(_)) if request.target.is_asterisk() => {
            Answer::Prepared(builder.options())
        }
        (Method::Get | Method::Head | Method::Options, Err(_)) => {
            refuse(builder, Status::BAD_REQUEST)
        }
        (Method::Known, Ok(())) if site.ruling(path, None).is_some() => look_up(request, None),
        (Method::Known, _) => refuse(builder, Status::METHOD_NOT_ALLOWED),
        (Method::Unknown, _) => refuse(builder, Status::NOT_IMPLEMENTED),
    }
}

fn from_cache(builder: ResponseBuilder<'_>, now: Instant) -> Answer {
    let request = builder.request;
    let navigation = || Navigation::of(request);
    match builder
        .site
        .cached(builder.path, Accepted::of(request), navigation, now)
    {
        Cached::File(file) => Answer::Prepared(builder.file(file)),
        Cached::Absent { page } => Answer::Prepared(builder.refuse(Status::NOT_FOUND, page)),
        Cached::Unknown => look_up(request, None),
    }
}

fn refuse(builder: ResponseBuilder<'_>, status: Status) -> Answer {
    if builder.site.names_error_page(status) {
        look_up(builder.request, Some(status))
    } else {
        Answer::Prepared(builder.refuse(status, None))
    }
}

/// Nothing of the request is borrowed: the buffer it was received into is given back meanwhile.
fn look_up(request: &Request<'_>, refusal: Option<Status>) -> Answer {
    Answer::Lookup(Box::new(PendingLookup::new(request, refusal)))
}

/// Whether `path` is that of a challenge by which certificates are renewed (RFC 8555, section 8.3).
fn is_challenge(path: &[u8]) -> bool {
    path.starts_with(b"/.well-known/acme-challenge/")
}
