//! From a request to its response: from memory, or by a [lookup](super::lookup). A request that
//! cannot be parsed does not come here: its protocol refuses it.

use tidegate_http::{Accepted, Method, Navigation, Request, Status};
use tidegate_site::Cached;

use crate::config::snapshot::Snapshot;
use crate::context::Buffers;
use crate::respond::access::{self, is_challenge};
use crate::respond::exchange::Exchange;
use crate::respond::lookup::PendingLookup;
use crate::respond::response::{Response, ResponseBuilder, Scheme};

/// A response, or the lookup that it needs.
pub(crate) enum Resolution {
    /// Made from memory.
    Prepared(Response),
    /// Needs a lookup on disk.
    Lookup(Box<PendingLookup>),
}

/// Responds from memory, or returns the lookup that the response needs.
pub(crate) fn respond(
    snapshot: &Snapshot,
    request: &Request<'_>,
    scheme: Scheme,
    exchange: &mut Exchange,
    buffers: &mut Buffers,
) -> Resolution {
    let resolution = resolve(snapshot, request, scheme, exchange, buffers);
    let path = request.target.path();
    match &resolution {
        Resolution::Prepared(response) => exchange.record_status(response.status, path),
        Resolution::Lookup(_) => exchange.keep_path(path),
    }
    resolution
}

fn resolve(
    snapshot: &Snapshot,
    request: &Request<'_>,
    scheme: Scheme,
    exchange: &mut Exchange,
    buffers: &mut Buffers,
) -> Resolution {
    let site = snapshot.sites.of(request.host);
    exchange.set_site(site.number());
    let Buffers { path, extra } = buffers;
    let decoded = request.target.decode_path(site.encoded_slash(), path);
    if decoded.is_err() {
        // A partly decoded path must match no rule.
        path.clear();
    }
    let builder = ResponseBuilder::new(snapshot, request, path, site, scheme, extra);
    if let Scheme::HttpRedirected(port) = scheme
        && !is_challenge(path)
    {
        return Resolution::Prepared(builder.redirect_to_https(port));
    }
    if site.is_restricted() && decoded.is_ok() && !access::admits(site, path, exchange) {
        return refuse(builder, Status::FORBIDDEN);
    }
    match (request.method, decoded) {
        (Method::Get | Method::Head, Ok(())) => {
            let resolution = from_cache(builder, exchange);
            exchange.looked_in_cache(matches!(resolution, Resolution::Prepared(_)));
            resolution
        }
        (Method::Options, Ok(())) => Resolution::Prepared(builder.options()),
        (Method::Options, Err(_)) if request.target.is_asterisk() => {
            Resolution::Prepared(builder.options())
        }
        (Method::Get | Method::Head | Method::Options, Err(_)) => {
            refuse(builder, Status::BAD_REQUEST)
        }
        (Method::Known, Ok(())) if site.match_rules(path, None).is_some() => look_up(request, None),
        (Method::Known, _) => refuse(builder, Status::METHOD_NOT_ALLOWED),
        (Method::Unknown, _) => refuse(builder, Status::NOT_IMPLEMENTED),
    }
}

fn from_cache(builder: ResponseBuilder<'_>, exchange: &Exchange) -> Resolution {
    let (request, now) = (builder.request, exchange.start());
    let navigation = || Navigation::of(request);
    match builder
        .site
        .cached(builder.path, Accepted::of(request), navigation, now)
    {
        Cached::File(file) if !access::admits_file(builder.site, &file, exchange) => {
            refuse(builder, Status::FORBIDDEN)
        }
        Cached::File(file) => Resolution::Prepared(builder.file(file)),
        Cached::NotFound { page } => Resolution::Prepared(builder.refuse(Status::NOT_FOUND, page)),
        Cached::Miss => look_up(request, None),
    }
}

fn refuse(builder: ResponseBuilder<'_>, status: Status) -> Resolution {
    if builder.site.names_error_page(status) {
        look_up(builder.request, Some(status))
    } else {
        Resolution::Prepared(builder.refuse(status, None))
    }
}

/// Borrows nothing of the request: its receive buffer is returned during the lookup.
fn look_up(request: &Request<'_>, refusal: Option<Status>) -> Resolution {
    Resolution::Lookup(Box::new(PendingLookup::new(request, refusal)))
}
