//! Flow control (RFC 9113, sections 5.2 and 6.9).

use crate::frame::MAX_31_BITS;

/// How much this side may send. Below 0 after `SETTINGS_INITIAL_WINDOW_SIZE` became smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SendWindow(i32);

/// A window above 2^31-1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Overflow;

impl SendWindow {
    /// A window of `bytes`, at most 2^31-1.
    pub(crate) fn new(bytes: u32) -> Self {
        Self(bytes.min(MAX_31_BITS) as i32)
    }

    /// Bytes that may be sent.
    #[inline]
    pub(crate) fn bytes(self) -> usize {
        self.0.max(0) as usize
    }

    /// Opens the window, or closes it, by `delta`.
    #[inline]
    pub(crate) fn change(&mut self, delta: i64) -> Result<(), Overflow> {
        let bytes = i64::from(self.0) + delta;
        // A window of at least -(2^31-1) cannot be less: the initial one is never below 0.
        self.0 = i32::try_from(bytes).map_err(|_| Overflow)?;
        Ok(())
    }

    /// Counts bytes as sent: no more than [`bytes`](Self::bytes).
    #[inline]
    pub(crate) fn consume(&mut self, bytes: usize) {
        debug_assert!(bytes <= self.bytes());
        self.0 = self.0.saturating_sub(bytes as i32);
    }
}

/// How much the peer may send: a window of a fixed size, less what was received and not given back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ReceiveWindow {
    used: u32,
}

impl ReceiveWindow {
    /// Counts bytes as received in a window of `size`; `false` if there is no room for them.
    #[inline]
    pub(crate) fn receive(&mut self, bytes: usize, size: u32) -> bool {
        let used = self.used as usize + bytes;
        if used > size as usize {
            return false;
        }
        self.used = used as u32;
        true
    }

    /// The increment to give back, which is all that was received, once half of it is used: fewer
    /// frames, and the peer never has to wait for one. 0: not yet.
    #[inline]
    pub(crate) fn give_back(&mut self, size: u32) -> u32 {
        if self.used < size / 2 {
            return 0;
        }
        std::mem::take(&mut self.used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_send_window_may_be_negative_but_not_too_large() {
        let mut window = SendWindow::new(10);
        window.consume(10);
        assert_eq!(window.change(-20), Ok(()));
        assert_eq!(window.bytes(), 0);
        assert_eq!(window.change(25), Ok(()));
        assert_eq!(window.bytes(), 5);
        assert_eq!(window.change(i64::from(MAX_31_BITS) - 5), Ok(()));
        assert_eq!(window.bytes(), MAX_31_BITS as usize);
        assert_eq!(window.change(1), Err(Overflow));
    }

    #[test]
    fn a_receive_window_is_given_back_by_halves() {
        let mut window = ReceiveWindow::default();
        assert!(window.receive(49, 100));
        assert_eq!(window.give_back(100), 0);
        assert!(window.receive(51, 100), "all of it");
        assert!(!window.receive(1, 100), "more");
        assert_eq!(window.give_back(100), 100);
        assert_eq!(window.give_back(100), 0);
    }
}
