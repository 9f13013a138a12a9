//! From a request to its response: from memory, or by a [lookup](super::lookup). A request that
//! cannot be parsed does not come here: its protocol refuses it.

use tidegate_http::{Accepted, Method, Navigation, Request, Status};
use tidegate_site::Cached;

use crate::config::snapshot::Snapshot;
use crate::context::Buffers;
use crate::respond::access::{Decision, Gate, is_challenge};
use crate::respond::exchange::Exchange;
use crate::respond::lookup::{PendingLookup, Task};
use crate::respond::refusal::Refusal;
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
    exchange.find_client(request.fields, &snapshot.settings.proxies);
    let Buffers { path, extra } = buffers;
    let decoded = request.target.decode_path(site.encoded_slash(), path);
    if decoded.is_err() {
        // A partly decoded path must match no rule.
        path.clear();
    }
    if snapshot.is_paced {
        exchange.set_pace(site.pace(path));
    }
    let mut builder = ResponseBuilder::new(snapshot, request, path, site, scheme, extra);
    if let Some(limits) = &snapshot.request_limits
        && let Err(too_many) = exchange.admit(limits)
    {
        return Resolution::Prepared(builder.too_many_requests(too_many));
    }
    if let Scheme::HttpRedirected(port) = scheme
        && !is_challenge(path)
    {
        return Resolution::Prepared(builder.redirect_to_https(port));
    }
    if let Scheme::HttpsMisdirected = scheme
        && !exchange.peer_is_trusted()
    {
        return refuse(builder, Status::MISDIRECTED_REQUEST.into());
    }
    let is_restricted = site.is_restricted() && decoded.is_ok();
    let gate = is_restricted.then(|| Gate::new(snapshot, site, request, path));
    if let Some(gate) = gate {
        match gate.decide(exchange) {
            Decision::Granted => {}
            other => return not_granted(builder, other),
        }
        builder.is_private = exchange.user().is_some();
    }
    match (request.method, decoded) {
        (Method::Get | Method::Head, Ok(())) => {
            let resolution = from_cache(builder, gate, exchange);
            exchange.looked_in_cache(matches!(resolution, Resolution::Prepared(_)));
            resolution
        }
        (Method::Options, Ok(())) => Resolution::Prepared(builder.options()),
        (Method::Options, Err(_)) if request.target.is_asterisk() => {
            Resolution::Prepared(builder.options())
        }
        (Method::Get | Method::Head | Method::Options, Err(_)) => {
            refuse(builder, Status::BAD_REQUEST.into())
        }
        (Method::Known, Ok(())) if site.match_rules(path, None).is_some() => {
            look_up(request, Task::Find)
        }
        (Method::Known, _) => refuse(builder, Status::METHOD_NOT_ALLOWED.into()),
        (Method::Unknown, _) => refuse(builder, Status::NOT_IMPLEMENTED.into()),
    }
}

/// A decision that was not to grant the path.
fn not_granted(builder: ResponseBuilder<'_>, decision: Decision) -> Resolution {
    match decision {
        Decision::Unverified(rule) => look_up(builder.request, Task::LogIn(rule)),
        Decision::Refused(refusal) => refuse(builder, refusal),
        Decision::Granted => look_up(builder.request, Task::Find),
    }
}

fn from_cache(
    mut builder: ResponseBuilder<'_>,
    gate: Option<Gate<'_>>,
    exchange: &mut Exchange,
) -> Resolution {
    let (request, now) = (builder.request, exchange.start());
    let navigation = || Navigation::of(request);
    match builder.site.cached(
        builder.path,
        request.target.query(),
        Accepted::of(request),
        navigation,
        now,
    ) {
        Cached::File(file) => {
            if let Some(gate) = gate {
                match gate.decide_file(&file, exchange) {
                    Decision::Granted => {}
                    other => return not_granted(builder, other),
                }
                builder.is_private = exchange.user().is_some();
            }
            Resolution::Prepared(builder.file(file))
        }
        Cached::NotFound { page } => {
            Resolution::Prepared(builder.refuse(Status::NOT_FOUND.into(), page))
        }
        Cached::Miss => look_up(request, Task::Find),
    }
}

fn refuse(builder: ResponseBuilder<'_>, refusal: Refusal) -> Resolution {
    if builder.site.names_error_page(refusal.status) {
        look_up(builder.request, Task::Refuse(refusal))
    } else {
        Resolution::Prepared(builder.refuse(refusal, None))
    }
}

/// Borrows nothing of the request: its receive buffer is returned during the lookup.
fn look_up(request: &Request<'_>, task: Task) -> Resolution {
    Resolution::Lookup(Box::new(PendingLookup::new(request, task)))
}
