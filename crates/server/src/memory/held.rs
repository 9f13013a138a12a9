//! What the connections of a core hold, counted by the core alone.

use std::cell::Cell;
use std::marker::PhantomData;

use crate::observe::counters::Kind as _;
use crate::observe::counters::kinds;

kinds! {
    /// What is held.
    Part {
        /// State and buffers of TLS in user space.
        Tls = "tls",
        /// Connections of HTTP/2.
        Http2 = "http2",
        /// Responses that wait for their clients.
        Unsent = "unsent",
        /// Lookups, handshakes and transfers that wait.
        Work = "work",
        /// Requests of which something is missing.
        Request = "request",
    }
}

thread_local! {
    /// Of the core whose thread this is.
    static HELD: [Cell<u64>; Part::COUNT] = const { [const { Cell::new(0) }; Part::COUNT] };
}

/// Bytes that are held until it is dropped. It stays on its core.
#[derive(Debug)]
pub(crate) struct Held {
    bytes: u32,
    part: Part,
    _on_its_core: PhantomData<*const ()>,
}

impl Held {
    /// `bytes` of `part`; of more than 4 GiB as many.
    pub(crate) fn new(part: Part, bytes: usize) -> Self {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        add(part, bytes.into());
        Self {
            bytes,
            part,
            _on_its_core: PhantomData,
        }
    }

    /// Holds so many from now on.
    pub(crate) fn set(&mut self, bytes: usize) {
        *self = Self::new(self.part, bytes);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        add(self.part, 0_u64.wrapping_sub(self.bytes.into()));
    }
}

/// Bytes that this core holds of `part`.
pub(crate) fn held_bytes(part: Part) -> u64 {
    HELD.with(|held| held[part.index()].get())
}

/// All bytes that this core holds.
pub(crate) fn held_in_all() -> u64 {
    HELD.with(|held| held.iter().map(Cell::get).sum())
}

fn add(part: Part, bytes: u64) {
    // The thread may end: then nobody counts any more.
    let _ = HELD.try_with(|held| {
        let held = &held[part.index()];
        held.set(held.get().wrapping_add(bytes));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_counts_until_it_is_dropped() {
        let first = Held::new(Part::Tls, 100);
        let second = Held::new(Part::Tls, 11);
        let other = Held::new(Part::Work, 7);
        assert_eq!((held_bytes(Part::Tls), held_in_all()), (111, 118));
        drop(first);
        assert_eq!((held_bytes(Part::Tls), held_bytes(Part::Work)), (11, 7));
        drop((second, other));
        assert_eq!(held_in_all(), 0);
    }

    #[test]
    fn what_is_held_may_change() {
        let mut held = Held::new(Part::Request, 100);
        held.set(30);
        assert_eq!(held_in_all(), 30);
        drop(held);
        assert_eq!(held_in_all(), 0);
    }

    #[test]
    fn a_future_that_is_dropped_gives_back_what_it_held() {
        let future = {
            let held = Held::new(Part::Work, 50);
            async move {
                std::future::pending::<()>().await;
                drop(held);
            }
        };
        assert_eq!(held_in_all(), 50);
        drop(future);
        assert_eq!(held_in_all(), 0);
    }
}
