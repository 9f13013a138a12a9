//! Requests whose response is not in memory: lookup, then response.

use std::rc::Rc;
use std::time::Instant;

use tidegate_config::Respond;
use tidegate_http::{
    Accepted, FieldBlock, Method, Navigation, Precondition, Request, Status, StoredRequest,
    evaluate, first_byte, prefers_json,
};
use tidegate_site::{Error as SiteError, File, Found, RuleMatch, Site, SiteRequest, SortOrder};

use crate::config::snapshot::Snapshot;
use crate::context::Context;
use crate::respond::access::Gate;
use crate::respond::exchange::Exchange;
use crate::respond::refusal::Refusal;
use crate::respond::response::{Response, ResponseBuilder, Scheme};

/// A request that needs a lookup.
pub(crate) struct PendingLookup {
    pub(super) request: StoredRequest,
    pub(super) task: Task,
}

/// What a pending request needs.
#[derive(Clone, Copy)]
pub(super) enum Task {
    /// The lookup of its path, which the client may have.
    Find,
    /// The page for a refusal.
    Refuse(Refusal),
    /// The password for a rule is to be verified before anything else.
    LogIn(usize),
}

impl PendingLookup {
    pub(super) fn new(request: &Request<'_>, task: Task) -> Self {
        Self {
            request: StoredRequest::new(request),
            task,
        }
    }
}

/// The result of a lookup.
enum Outcome<'s> {
    Found(Found),
    /// A rule of the site, with its page if there is one.
    Ruled(&'s Respond, Option<Rc<File>>),
    /// A rule of the site that redirects the client to this location.
    Moved(Status, String),
    /// A refusal, with the site's page if there is one.
    Refused(Refusal, Option<Rc<File>>),
}

/// Performs the lookup for `pending`, and responds. If the future is dropped, the lookup goes on
/// for other requests for the same file, and no response is made.
pub(crate) async fn look_up(
    context: &Context,
    snapshot: &Snapshot,
    pending: PendingLookup,
    scheme: Scheme,
    exchange: &mut Exchange,
) -> Response {
    let request = &pending.request.request();
    let site = snapshot.sites.of(request.host);
    let mut path = Vec::new();
    let slash = site.encoded_slash();
    if request.target.decode_path(slash, &mut path).is_err() {
        path.clear();
    }
    let gate = Gate::new(snapshot, site, request, &path);
    let outcome = outcome(context, site, gate, &path, pending.task, exchange).await;
    let mut extra = FieldBlock::new();
    let mut builder = ResponseBuilder::new(snapshot, request, &path, site, scheme, &mut extra);
    builder.is_private = exchange.user().is_some();
    let response = match outcome {
        Outcome::Found(found) => builder.found(found),
        Outcome::Ruled(respond, page) => builder.respond(respond, page),
        Outcome::Moved(status, location) => builder.redirect(status, &location),
        Outcome::Refused(refusal, page) => builder.refuse(refusal, page),
    };
    let (metrics, status) = (&context.metrics, response.status.code());
    metrics.record_status(status, request.target.path());
    response
}

async fn outcome<'s>(
    context: &Context,
    site: &'s Rc<Site>,
    gate: Gate<'_>,
    path: &[u8],
    task: Task,
    exchange: &mut Exchange,
) -> Outcome<'s> {
    let request = gate.request();
    if let Task::Refuse(refusal) = task {
        return refused(site, request, refusal).await;
    }
    match site.match_rules(path, request.target.query()) {
        Some(RuleMatch::Respond(respond)) => {
            let page = site.respond_page(respond, Accepted::of(request), Instant::now());
            Outcome::Ruled(respond, page.await)
        }
        Some(RuleMatch::Redirect { status, location }) => Outcome::Moved(status, location),
        None => find(context, site, gate, path, exchange).await,
    }
}

async fn refused<'s>(site: &Rc<Site>, request: &Request<'_>, refusal: Refusal) -> Outcome<'s> {
    let page = site.error_page(refusal.status, Accepted::of(request), Instant::now());
    Outcome::Refused(refusal, page.await)
}

async fn find<'s>(
    context: &Context,
    site: &Rc<Site>,
    gate: Gate<'_>,
    path: &[u8],
    exchange: &mut Exchange,
) -> Outcome<'s> {
    let request = gate.request();
    let lookup = SiteRequest {
        path,
        accepted: Accepted::of(request),
        navigation: Navigation::of(request),
        wants_json: prefers_json(request),
        order: SortOrder::of_query(request.target.query()),
        query: request.target.query(),
        first_byte: first_byte(request),
    };
    let found = site.find(&lookup, Instant::now()).await;
    if site.is_restricted() {
        let admitted = gate.admit_found(&found, exchange, &context.io.ring);
        // Boxed, as it is rare.
        if let Err(refusal) = Box::pin(admitted).await {
            return refused(site, request, refusal).await;
        }
    }
    let found = match found {
        Found::Compressed(compressed) if wants_bytes(request, &compressed.description) => {
            // Boxed, as it is rare.
            Box::pin(site.decompress(&compressed, lookup.accepted)).await
        }
        found => found,
    };
    warn_of(context, path, &found);
    Outcome::Found(found)
}

/// Whether the response includes the bytes of the file that `description` describes.
fn wants_bytes(request: &Request<'_>, description: &File) -> bool {
    request.method != Method::Head
        && evaluate(request, &description.validators) == Precondition::Met
}

/// Logs errors that the site's owner can fix. Those of origins are in the log already.
fn warn_of(context: &Context, path: &[u8], found: &Found) {
    if let Found::Refused { error, .. } = found
        && !matches!(
            error,
            SiteError::NotFound | SiteError::NotAcceptable | SiteError::Origin(_)
        )
        && context.file_warnings.is_due()
    {
        tracing::warn!(path = %path.escape_ascii(), %error, "cannot look up");
    }
}
