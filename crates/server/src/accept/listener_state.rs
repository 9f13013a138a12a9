//! What a reload changes of a listener that is open.

use std::cell::{Cell, Ref, RefCell};

use crate::accept::listener::{Listener, ListenerId};
use crate::connection::listener_protocol::{ListenerProtocol, Spoken};

/// A listener of one core, shared with the accept loop of one of its sockets.
#[derive(Clone)]
pub(crate) struct ListenerState {
    id: ListenerId,
    protocol: RefCell<ListenerProtocol>,
    backlog: Cell<u32>,
    is_removed: Cell<bool>,
}

impl ListenerState {
    pub(crate) fn new(listener: &Listener) -> Self {
        Self {
            id: listener.id,
            protocol: RefCell::new(listener.protocol.clone()),
            backlog: Cell::new(listener.backlog),
            is_removed: Cell::new(false),
        }
    }

    pub(crate) fn id(&self) -> ListenerId {
        self.id
    }

    /// Takes what the next configuration says, for connections that are accepted from now on.
    pub(crate) fn update(&self, listener: &Listener) {
        self.protocol.replace(listener.protocol.clone());
        self.backlog.set(listener.backlog);
    }

    /// The protocol of new connections. Not to be held across an await.
    pub(crate) fn protocol(&self) -> Ref<'_, ListenerProtocol> {
        self.protocol.borrow()
    }

    /// The backlog of listen(2).
    pub(crate) fn backlog(&self) -> u32 {
        self.backlog.get()
    }

    /// Whether there is a certificate, if it needs one.
    pub(crate) fn is_ready(&self) -> bool {
        match &self.protocol().spoken {
            Spoken::Https(tls) => tls.acceptor.is_ready(),
            Spoken::Http | Spoken::Redirect(_) => true,
        }
    }

    /// Has its accept loops end.
    pub(crate) fn remove(&self) {
        self.is_removed.set(true);
    }

    pub(crate) fn is_removed(&self) -> bool {
        self.is_removed.get()
    }
}
