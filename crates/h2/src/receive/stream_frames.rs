//! Frames of a stream that are no part of its request.

use super::{Happened, Outcome};
use crate::closed::Closed;
use crate::frame::{self, FrameHeader, MAX_31_BITS};
use crate::{Connection, ConnectionError, ErrorCode, Event, ResetCause, StreamError};

impl<T> Connection<T> {
    /// RST_STREAM (RFC 9113, section 6.4).
    pub(super) fn on_reset(&mut self, header: FrameHeader, payload: &[u8]) -> Outcome<T> {
        let number = header.stream;
        if number == 0 {
            return Err(ConnectionError::FrameStream);
        }
        let code = frame::number(payload)?;
        if self.is_idle(number) {
            return Err(ConnectionError::IdleStream);
        }
        // Both sides may reset a stream at the same time.
        let Some(stream) = self.streams.find(number) else {
            return self.idle();
        };
        self.count_reset()?;
        Ok(Happened::Other(Event::Reset {
            stream,
            state: self.streams.close(stream, Closed::ByPeer),
            cause: ResetCause::Peer(ErrorCode::new(code)),
        }))
    }

    /// PRIORITY, which has no effect (RFC 9113, section 5.3.2).
    pub(super) fn on_priority(&mut self, header: FrameHeader, payload: &[u8]) -> Outcome<T> {
        if header.stream == 0 {
            return Err(ConnectionError::FrameStream);
        }
        let error = match payload {
            [dependency @ .., _weight] if dependency.len() == 4 => {
                if frame::number(dependency)? & MAX_31_BITS != header.stream {
                    return self.idle();
                }
                StreamError::SelfDependency
            }
            _ => StreamError::PriorityLength,
        };
        if !self.is_idle(header.stream) {
            return self.reset_for(header.stream, error);
        }
        // A stream that is idle cannot be reset (RFC 9113, section 6.4).
        Err(match error {
            StreamError::SelfDependency => ConnectionError::SelfDependency,
            _ => ConnectionError::FrameLength,
        })
    }

    /// WINDOW_UPDATE (RFC 9113, section 6.9).
    pub(super) fn on_window_update(&mut self, header: FrameHeader, payload: &[u8]) -> Outcome<T> {
        let increment = frame::number(payload)? & MAX_31_BITS;
        let number = header.stream;
        if number == 0 {
            return self.on_connection_window(increment);
        }
        if self.is_idle(number) {
            return Err(ConnectionError::IdleStream);
        }
        let Some(stream) = self.streams.find(number) else {
            return self.idle();
        };
        if increment == 0 {
            return self.reset_for(number, StreamError::WindowIncrement);
        }
        match self.streams.change_window(stream, i64::from(increment)) {
            Ok(()) => self.idle(),
            Err(_) => self.reset_for(number, StreamError::WindowOverflow),
        }
    }

    fn on_connection_window(&mut self, increment: u32) -> Outcome<T> {
        if increment == 0 {
            return Err(ConnectionError::WindowIncrement);
        }
        let changed = self.send_window.change(i64::from(increment));
        changed.map_err(|_| ConnectionError::WindowOverflow)?;
        self.idle()
    }
}
