//! A stream.

/// A stream of a connection: its number, and where the connection keeps it. That of a stream which
/// is over never means another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StreamId {
    number: u32,
    slot: u32,
}

impl StreamId {
    /// The number on the wire: odd, less than 2^31.
    pub fn number(self) -> u32 {
        self.number
    }
}
