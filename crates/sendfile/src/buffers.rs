//! Reusable buffers for pieces of files on their way to a socket.

use std::cell::RefCell;

/// Idle buffers kept. Those in use are bounded by the transfers, which hold one each while their
/// sockets are full.
const IDLE_MAX: usize = 4;

/// The buffers of one executor.
#[derive(Default)]
pub(crate) struct Buffers(RefCell<Vec<Vec<u8>>>);

impl Buffers {
    /// A buffer that still holds its last user's bytes.
    pub(crate) fn take(&self) -> Vec<u8> {
        self.0.borrow_mut().pop().unwrap_or_default()
    }

    /// Keeps `buffer` for the next user.
    pub(crate) fn give(&self, buffer: Vec<u8>) {
        let mut idle = self.0.borrow_mut();
        if idle.len() < IDLE_MAX {
            idle.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_buffer_is_the_next_and_few_are_kept() {
        let buffers = Buffers::default();
        assert!(buffers.take().is_empty());
        (0..=IDLE_MAX).for_each(|len| buffers.give(vec![0; len]));
        assert_eq!(buffers.take().len(), IDLE_MAX - 1);
        assert_eq!(buffers.0.borrow().len(), IDLE_MAX - 1);
    }
}
