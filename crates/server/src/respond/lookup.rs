//! Requests whose answer is not known yet: look it up, then answer.

use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use tidegate_config::Respond;
use tidegate_http::{
    Accepted, Head, Navigation, Precondition, Status, evaluate, parse, prefers_json,
};
use tidegate_site::{Error as SiteError, File, Found, Order, Ruling, Site, Wanted as Lookup};

use crate::connection::{Closed, Connection};
use crate::respond::response::{Body, Reply};
use crate::timeouts::Phase;

/// A request that is to be looked up.
pub(crate) struct Wanted {
    /// Its head as it was received: the buffer it was received into is given back meanwhile.
    pub(crate) head: Box<[u8]>,
    pub(crate) reply: Reply,
    /// It is refused with this, and only the page for it is to be looked up.
    pub(crate) refusal: Option<Status>,
}

/// What the request comes to.
enum Outcome<'s> {
    Found(Found),
    /// By a rule of the site, with the page for it, if there is one.
    Ruled(&'s Respond, Option<Rc<File>>),
    /// By a rule of the site, to this location.
    Moved(Status, String),
    /// With the site's page for it, if there is one.
    Refused(Status, Option<Rc<File>>),
}

/// The answer to a request that was looked up.
pub(crate) struct Looked {
    /// What of it is in memory.
    pub(crate) bytes: Bytes,
    /// What follows these.
    pub(crate) body: Option<Body>,
    /// Whether the connection goes on after it.
    pub(crate) persistent: bool,
}

/// Looks up what is wanted, and answers it.
pub(crate) async fn look_up(connection: &Connection, wanted: Wanted) -> Result<Looked, Closed> {
    // A disk is not hurried by the connection's deadline.
    connection.enter(Phase::Transfer);
    let shard = &connection.shard;
    // It was parsed before, when it came in.
    let Ok(Some(head)) = parse(&wanted.head, &shard.http) else {
        return Err(Closed);
    };
    let site = shard.sites.of(head.host);
    let mut path = Vec::new();
    let slash = site.encoded_slash();
    if head.target.decode_path(slash, &mut path).is_err() {
        path.clear();
    }
    let outcome = outcome(connection, site, &head, &path, &wanted).await;
    let date = shard.clock.date(Instant::now());
    let answer = connection.answer_to(&head, &path, site, wanted.reply, &date);
    let persistent = wanted.reply.persistent;
    let mut out = Vec::with_capacity(512);
    let (body, persistent) = match outcome {
        Outcome::Found(found) => answer.found(found, &mut out),
        Outcome::Ruled(respond, page) => {
            (answer.respond(respond, page.as_ref(), &mut out), persistent)
        }
        Outcome::Moved(status, location) => {
            (answer.redirect(status, &location, &mut out), persistent)
        }
        Outcome::Refused(status, page) => {
            (answer.refuse(status, page.as_ref(), &mut out), persistent)
        }
    };
    Ok(Looked {
        bytes: out.into(),
        body,
        persistent,
    })
}

async fn outcome<'s>(
    connection: &Connection,
    site: &'s Rc<Site>,
    head: &Head<'_>,
    path: &[u8],
    wanted: &Wanted,
) -> Outcome<'s> {
    if let Some(status) = wanted.refusal {
        let page = site.error_page(status, Accepted::of(head), Instant::now());
        return Outcome::Refused(status, page.await);
    }
    match site.ruling(path, head.target.query()) {
        Some(Ruling::Respond(respond)) => {
            let page = site.respond_page(respond, Accepted::of(head), Instant::now());
            Outcome::Ruled(respond, page.await)
        }
        Some(Ruling::Redirect { status, location }) => Outcome::Moved(status, location),
        None => Outcome::Found(find(connection, site, head, path, wanted.reply).await),
    }
}

async fn find(
    connection: &Connection,
    site: &Rc<Site>,
    head: &Head<'_>,
    path: &[u8],
    reply: Reply,
) -> Found {
    let lookup = Lookup {
        path,
        accepted: Accepted::of(head),
        navigation: Navigation::of(head),
        wants_json: prefers_json(head),
        order: Order::of_query(head.target.query()),
    };
    let found = site.find(&lookup, Instant::now()).await;
    let found = match found {
        Found::Compressed(compressed) if wants_bytes(head, reply, &compressed.description) => {
            // Boxed, as it is rare.
            Box::pin(site.decompress(&compressed, lookup.accepted)).await
        }
        found => found,
    };
    warn_of(connection, path, &found);
    found
}

/// Whether a request is answered with the bytes of the file of which `description` tells.
fn wants_bytes(head: &Head<'_>, reply: Reply, description: &File) -> bool {
    reply.with_body && evaluate(head, &description.validators) == Precondition::Met
}

/// Tells the site's owner of what is not the client's fault.
fn warn_of(connection: &Connection, path: &[u8], found: &Found) {
    if let Found::Refused { error, .. } = found
        && !matches!(error, SiteError::NotFound | SiteError::NotAcceptable)
        && connection.shard.file_warnings.is_due()
    {
        tracing::warn!(path = %path.escape_ascii(), %error, "cannot look up");
    }
}
