//! From the peer's frames to events (RFC 9113, sections 5 and 6).

mod connection_frames;
mod data;
mod headers;
mod stream_frames;

use std::time::{Duration, Instant};

use crate::ahead::Ahead;
use crate::closed::Closed;
use crate::connection::Phase;
use crate::frame::{Frame, flag, kind};
use crate::{Connection, ConnectionError, Event, HeadBuffer, ResetCause, StreamError, StreamId};

/// An event, but for the text of a head, which is in a [`HeadBuffer`].
enum Happened<T> {
    Nothing,
    Head {
        stream: StreamId,
        is_body_too_large: bool,
    },
    Other(Event<'static, T>),
}

type Outcome<T> = Result<Happened<T>, ConnectionError>;

impl<T> Connection<T> {
    /// Reads frames from the front of `input` up to the next event, and shortens it. `None`: all of
    /// it is used; the start of an incomplete frame is kept, which is at most 16 KiB, and that of
    /// an incomplete header block.
    ///
    /// After an error GOAWAY waits in the control output: send it, close in a way that it is not
    /// lost, and drop the connection with all states. What else arrives is ignored.
    pub fn receive<'a>(
        &mut self,
        input: &mut &[u8],
        now: Instant,
        head: &'a mut HeadBuffer,
    ) -> Result<Option<Event<'a, T>>, ConnectionError> {
        self.age = now.saturating_duration_since(self.start).as_nanos() as u64;
        match self.next_happened(input, head) {
            Ok(Happened::Nothing) => Ok(None),
            Ok(Happened::Head {
                stream,
                is_body_too_large,
            }) => Ok(Some(head.event(stream, is_body_too_large))),
            Ok(Happened::Other(event)) => Ok(Some(event)),
            Err(error) => {
                *input = &[];
                self.fail(error);
                Err(error)
            }
        }
    }

    #[inline]
    fn next_happened(&mut self, input: &mut &[u8], head: &mut HeadBuffer) -> Outcome<T> {
        if self.phase == Phase::Failed {
            *input = &[];
        }
        while !input.is_empty() {
            let Some(frame) = self.reader.next(input)? else {
                break;
            };
            match self.on_frame(&frame, input, head)? {
                Happened::Nothing => {}
                happened => return Ok(happened),
            }
        }
        if self.is_ahead_known {
            self.is_ahead_known = false;
            self.ahead = Ahead::default();
        }
        Ok(Happened::Nothing)
    }

    /// Says why the connection ends. The highest stream that may have been served is told, so that
    /// the peer knows what it can send again (RFC 9113, section 6.8).
    #[cold]
    fn fail(&mut self, error: ConnectionError) {
        let last = match self.phase {
            Phase::Gone(last) => last,
            _ => self.streams.highest,
        };
        self.phase = Phase::Failed;
        self.block = None;
        self.control.go_away(last, error.code(), &error.to_string());
    }

    #[inline]
    fn on_frame(&mut self, frame: &Frame<'_>, rest: &[u8], head: &mut HeadBuffer) -> Outcome<T> {
        let (header, payload) = (frame.header, frame.payload());
        if self.block.is_some() {
            return self.on_continuation(header, payload, rest, head);
        }
        if !self.reader.has_settings && (header.kind != kind::SETTINGS || header.has(flag::ACK)) {
            return Err(ConnectionError::FirstFrame);
        }
        match header.kind {
            kind::DATA => self.on_data(header, payload),
            kind::HEADERS => self.on_headers(header, payload, rest, head),
            kind::PRIORITY => self.on_priority(header, payload),
            kind::RST_STREAM => self.on_reset(header, payload),
            kind::SETTINGS => self.on_settings(header, payload),
            kind::PUSH_PROMISE => Err(ConnectionError::PushPromise),
            kind::PING => self.on_ping(header, payload),
            kind::GOAWAY => self.on_go_away(header, payload),
            kind::WINDOW_UPDATE => self.on_window_update(header, payload),
            kind::CONTINUATION => Err(ConnectionError::Continuation),
            kind::PRIORITY_UPDATE => self.on_priority_update(header, payload),
            // Unknown ones are ignored (RFC 9113, section 5.5).
            _ => self.spend(tokens_of(header.len)),
        }
    }

    /// A frame that does no work.
    #[inline]
    fn idle(&mut self) -> Outcome<T> {
        self.spend(1)
    }

    /// What does no work, and takes as much time as this many frames without content.
    #[inline]
    fn spend(&mut self, tokens: u32) -> Outcome<T> {
        let age = Duration::from_nanos(self.age);
        if self.idle_frames.take(tokens, self.limits.idle_frames, age) {
            Ok(Happened::Nothing)
        } else {
            Err(ConnectionError::TooManyIdleFrames)
        }
    }

    /// A reset by the peer, or one that it caused.
    fn count_reset(&mut self) -> Result<(), ConnectionError> {
        let age = Duration::from_nanos(self.age);
        if self.resets.take(1, self.limits.resets, age) {
            Ok(())
        } else {
            Err(ConnectionError::TooManyResets)
        }
    }

    /// Whether the peer has never opened this stream, and could not before lower ones (RFC 9113,
    /// section 5.1.1). It never opens one with an even number.
    fn is_idle(&self, number: u32) -> bool {
        number > self.streams.highest || number.is_multiple_of(2)
    }

    /// Refuses a stream that its peer had every right to open: that costs it nothing.
    fn refuse_for_now(&mut self, number: u32) -> Happened<T> {
        let error = StreamError::TooManyStreams;
        self.control.reset(number, error.code());
        self.streams.ignore(number);
        Happened::Other(Event::Reset {
            stream: StreamId::unknown(number),
            state: None,
            cause: ResetCause::Error(error),
        })
    }

    /// The peer made a mistake on a stream that is not idle.
    fn reset_for(&mut self, number: u32, error: StreamError) -> Outcome<T> {
        self.count_reset()?;
        self.control.reset(number, error.code());
        let (stream, state) = if let Some(stream) = self.streams.find(number) {
            (stream, self.streams.close(stream, Closed::ByUs))
        } else {
            self.streams.ignore(number);
            (StreamId::unknown(number), None)
        };
        Ok(Happened::Other(Event::Reset {
            stream,
            state,
            cause: ResetCause::Error(error),
        }))
    }
}

/// What a frame costs that does no work, by the bytes of its payload.
fn tokens_of(bytes: usize) -> u32 {
    1 + (bytes / 1024) as u32
}
