//! What a request has to wait for, until its response can be built.

use crate::config::snapshot::Snapshot;
use crate::context::{Buffers, Context};
use crate::respond::access::Gate;
use crate::respond::exchange::Exchange;
use crate::respond::lookup::{PendingLookup, Task, look_up};
use crate::respond::respond::{Resolution, respond};
use crate::respond::response::{Response, Scheme};

/// Verifies the password of `pending` if it needs that, then performs the lookup, and responds.
///
/// Dropped: a lookup goes on for other requests for the same file, and no response is made.
pub(crate) async fn complete(
    context: &Context,
    snapshot: &Snapshot,
    mut pending: PendingLookup,
    scheme: Scheme,
    exchange: &mut Exchange,
) -> Response {
    while let Task::LogIn(rule) = pending.task {
        let request = &pending.request.request();
        let site = snapshot.sites.of(request.host);
        // Passwords do not depend on the path.
        let gate = Gate::new(snapshot, site, request, b"");
        pending = match gate.verify(rule, exchange, &context.io.ring).await {
            Err(refusal) => PendingLookup::new(request, Task::Refuse(refusal)),
            // The password is remembered now.
            Ok(()) => match respond(snapshot, request, scheme, exchange, &mut Buffers::default()) {
                Resolution::Prepared(response) => return response,
                Resolution::Lookup(next) => *next,
            },
        };
    }
    look_up(context, snapshot, pending, scheme, exchange).await
}
