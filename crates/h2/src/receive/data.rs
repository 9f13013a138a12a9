//! Request bodies, which are dropped (RFC 9113, sections 6.1 and 6.9).

use std::time::Duration;

use super::{Happened, Outcome, tokens_of};
use crate::closed::Closed;
use crate::frame::{self, FrameHeader, flag};
use crate::{Connection, ConnectionError, ErrorCode, Event, StreamError, StreamId};

impl<T> Connection<T> {
    pub(super) fn on_data(&mut self, header: FrameHeader, payload: &[u8]) -> Outcome<T> {
        if self.is_idle(header.stream) {
            return Err(match header.stream {
                0 => ConnectionError::FrameStream,
                _ => ConnectionError::IdleStream,
            });
        }
        let data = frame::data_len(header, payload)?;
        self.receive_in_connection(header.len)?;
        let end_stream = header.has(flag::END_STREAM);
        if data == 0 && !end_stream {
            self.idle()?;
        }
        let Some(id) = self.streams.find(header.stream) else {
            return self.on_data_of_closed(header);
        };
        if let Err(error) = self.receive_in_stream(id, header.len, end_stream) {
            return self.reset_for(header.stream, error);
        }
        self.on_body(id, data, end_stream)
    }

    /// Counts bytes in the window of the connection. Nothing of them is kept, whatever the stream,
    /// so it is given back.
    fn receive_in_connection(&mut self, bytes: usize) -> Result<(), ConnectionError> {
        let size = self.limits.connection_window();
        if !self.receive_window.receive(bytes, size) {
            return Err(ConnectionError::ConnectionWindow);
        }
        let increment = self.receive_window.give_back(size);
        if increment > 0 {
            self.control.window_update(0, increment);
        }
        Ok(())
    }

    /// Counts bytes in the window of a stream, which is given back, but not for a body that is too
    /// large before the response.
    fn receive_in_stream(
        &mut self,
        id: StreamId,
        bytes: usize,
        end_stream: bool,
    ) -> Result<(), StreamError> {
        let size = self.limits.stream_window();
        let Some(stream) = self.streams.get_mut(id) else {
            return Ok(());
        };
        let body = &mut stream.body;
        if body.is_whole {
            return Err(StreamError::Closed);
        }
        if !body.window.receive(bytes, size) {
            return Err(StreamError::Window);
        }
        if !end_stream && (stream.is_answered || !body.is_too_large) {
            self.give_back(id);
        }
        Ok(())
    }

    /// Opens the window of a stream, if it is worth a frame.
    pub(crate) fn give_back(&mut self, id: StreamId) {
        let size = self.limits.stream_window();
        let Some(stream) = self.streams.get_mut(id) else {
            return;
        };
        let increment = stream.body.window.give_back(size);
        if increment > 0 {
            self.control.window_update(id.number, increment);
        }
    }

    /// Counts bytes of a body, which may end with them.
    pub(super) fn on_body(&mut self, id: StreamId, bytes: usize, is_end: bool) -> Outcome<T> {
        let limit = self.limits.body_discard;
        let Some(stream) = self.streams.get_mut(id) else {
            return Ok(Happened::Nothing);
        };
        let received = stream.body.receive(bytes, is_end);
        let is_too_large = stream.body.passes(limit);
        let is_answered = stream.is_answered;
        let lingers = is_answered && stream.body.is_too_large;
        let now = self.start + Duration::from_nanos(self.age);
        let is_enough = lingers && !stream.body.lingers(&self.limits, now);
        if is_end {
            self.streams.body_ended();
        }
        match received {
            // A client that has its answer may stop early, as curl does.
            Err(_) if lingers && is_end => {
                self.streams.close(id, Closed::Ended);
            }
            Err(error) => return self.reset_for(id.number, error),
            Ok(()) if is_answered && is_end => {
                self.streams.close(id, Closed::Ended);
            }
            Ok(()) if is_enough => {
                self.reset(id, ErrorCode::NO_ERROR);
            }
            Ok(()) => {}
        }
        Ok(if is_too_large {
            Happened::Other(Event::BodyTooLarge(id))
        } else {
            Happened::Nothing
        })
    }

    /// After a reset by this side, DATA may be under way (RFC 9113, section 5.1, "closed").
    fn on_data_of_closed(&mut self, header: FrameHeader) -> Outcome<T> {
        match self.streams.closed(header.stream) {
            Some(Closed::ByUs) => self.spend(tokens_of(header.len)),
            _ => self.reset_for(header.stream, StreamError::Closed),
        }
    }
}
