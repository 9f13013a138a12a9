//! Work that is left of a request that is not answered from memory.

use std::rc::Rc;

use rustix::net::SendFlags;
use tidegate_h1::ResponseFraming;

use super::response::Persistence;
use crate::config::snapshot::Snapshot;
use crate::respond::body::BodySource;
use crate::respond::exchange::Exchange;
use crate::respond::lookup::PendingLookup;
use crate::transport::Unsent;

/// Work left after answering from memory.
pub(in crate::connection) struct PendingWork {
    /// Responses that the socket did not take at once.
    pub(super) unsent: Option<Unsent>,
    pub(super) next: Next,
}

pub(super) enum Next {
    /// Receive more.
    Receive,
    /// Go on with the buffered input; enough output is ready to send.
    Continue,
    /// Perform a lookup for a request.
    LookUp(Box<Lookup>),
    /// Send the rest of a response.
    Send(Box<Rest>),
    /// Close.
    Close,
    /// Close, but receive what the client is still sending (see `lingering_close`).
    Linger,
}

/// A request whose response is not in memory.
pub(super) struct Lookup {
    pub(super) pending: Box<PendingLookup>,
    /// That chose to look it up.
    pub(super) snapshot: Rc<Snapshot>,
    pub(super) persistence: Persistence,
    pub(super) exchange: Exchange,
}

/// The unsent part of a response.
pub(super) struct Rest {
    pub(super) body: BodySource,
    pub(super) framing: ResponseFraming,
    /// Whether the connection persists after it.
    pub(super) persistent: bool,
    pub(super) exchange: Exchange,
}

impl PendingWork {
    pub(super) fn close() -> Self {
        Self {
            unsent: None,
            next: Next::Close,
        }
    }
}

impl Next {
    /// Flags for the bytes before it: `MORE` for a head whose body follows.
    pub(super) fn flags(&self) -> SendFlags {
        match self {
            Self::Send(_) => SendFlags::MORE,
            _ => SendFlags::empty(),
        }
    }
}
