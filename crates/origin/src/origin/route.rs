//! Whom a request is sent to.

/// Whom a request may be sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// The owner of the object, then the origin.
    Fleet,
    /// The origin alone: a peer asks, or a peer has failed.
    Direct,
}
