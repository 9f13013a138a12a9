//! Responses on their way to the socket.

use std::rc::Rc;
use std::time::Instant;

use rustix::net::SendFlags;
use tidegate_h2::{ErrorCode, Grant, StreamId};
use tidegate_http::FieldBlock;

use super::connection::{Connection, Ending, QUANTUM_BYTES, Turn};
use super::response::{content_in_memory, write_block};
use super::stream::{Pace, Prepared, Sending, Stream};
use super::work::{pause, read};
use crate::frame_buffer::{FrameBuffer, FrameSize};
use crate::respond::body::BodySource;
use crate::respond::body_reader::{BodyReader, Progress};
use crate::respond::exchange::Exchange;
use crate::respond::response::{Body, Response};
use crate::transport::Flush;

/// What a piece costs that has to be made: it occupies the core, so other tasks run after it.
const MADE_PIECE_COST: usize = QUANTUM_BYTES;

impl Connection {
    /// Writes a response, as much of it as may be sent at once. `keep` is called for one that goes
    /// on. Returns the memory of its own fields, unless it has to wait for the socket.
    pub(super) fn respond(
        &mut self,
        stream: StreamId,
        response: Response,
        mut exchange: Exchange,
        keep: impl FnOnce(&mut Exchange),
        frames: &mut FrameBuffer,
        turn: &Turn,
    ) -> Option<FieldBlock> {
        if self.flush.is_some() {
            keep(&mut exchange);
            let prepared = Box::new(Prepared { response, exchange });
            self.h2.attach(stream, Stream::Prepared(prepared));
            self.waiting.push(stream);
            return None;
        }
        Some(self.write(stream, response, exchange, keep, frames, turn))
    }

    /// Writes the responses that had to wait for the socket.
    fn write_waiting(&mut self, frames: &mut FrameBuffer, turn: &Turn) {
        while !self.waiting.is_empty() && !frames.is_full() {
            let stream = self.waiting.remove(0);
            if let Some(Stream::Prepared(prepared)) = self.h2.detach(stream) {
                let Prepared { response, exchange } = *prepared;
                self.write(stream, response, exchange, |_| (), frames, turn);
            }
        }
    }

    fn write(
        &mut self,
        stream: StreamId,
        mut response: Response,
        mut exchange: Exchange,
        keep: impl FnOnce(&mut Exchange),
        frames: &mut FrameBuffer,
        turn: &Turn,
    ) -> FieldBlock {
        self.write_control(frames);
        let date = self.context.clock.date(turn.now);
        let content = content_in_memory(&response);
        let is_empty = content.is_some_and(<[u8]>::is_empty);
        let content = content.filter(|content| self.may_send_at_once(stream, content.len()));
        let start = frames.len();
        frames.append(|out| {
            let block =
                |encoder: &mut _, block: &mut _| write_block(encoder, &response, &date, block);
            self.h2.write_head(stream, is_empty, out, block)
        });
        let head_bytes = frames.len() - start;
        if head_bytes == 0 {
            // The stream is over.
            return response.extra;
        }
        if is_empty {
            exchange.head_written(&response, head_bytes, head_bytes);
            exchange.complete_with_batch();
        } else if let Some(content) = content {
            let (header, payload) = frames.next_frame(content.len());
            payload.copy_from_slice(content);
            self.h2
                .write_data_header(stream, content.len(), true, header);
            frames.add(content.len());
            exchange.head_written(&response, head_bytes, head_bytes + content.len());
            exchange.complete_with_batch();
        } else {
            keep(&mut exchange);
            exchange.head_written(&response, head_bytes, head_bytes);
            exchange.sent(turn.now);
            let body = std::mem::replace(&mut response.body, Body::Empty);
            self.begin_body(stream, body, exchange, turn.now);
        }
        response.extra
    }

    pub(super) fn frame_size(&self) -> FrameSize {
        if self.transport.is_tls() {
            FrameSize::Record
        } else {
            FrameSize::Full
        }
    }

    /// Whether content of `len` bytes is written behind its head: it fits a frame, the windows are
    /// open, and no other stream waits for its turn.
    fn may_send_at_once(&self, stream: StreamId, len: usize) -> bool {
        len <= self.frame_size().payload()
            && len <= self.h2.send_window(stream)
            && self.h2.next_to_send(1).is_none()
    }

    fn begin_body(&mut self, stream: StreamId, body: Body, exchange: Exchange, now: Instant) {
        let pace = exchange.pace().map(|rate| Pace::new(rate, now));
        let sending = Box::new(Sending {
            body: BodyReader::new(BodySource::from(body)),
            exchange,
            pace,
        });
        self.h2.attach(stream, Stream::Sending(sending));
        self.h2.set_ready(stream, true);
    }

    /// Sends what waits, until the socket is full, the windows are closed, or it is the turn of
    /// other tasks.
    pub(super) fn send(&mut self, turn: &mut Turn) -> Result<(), Ending> {
        let context = Rc::clone(&self.context);
        let frames = &mut context.scratch.borrow_mut().frames;
        while self.flush.is_none() {
            self.write_waiting(frames, turn);
            let control = frames.len();
            self.write_control(frames);
            let control = frames.len() - control;
            self.pull(frames, turn);
            if frames.is_empty() {
                if self.waits.input_ended {
                    // The client opens no window any more.
                    self.h2.cancel_blocked();
                }
                if self.h2.control_bytes() == 0 {
                    break;
                }
                // A stream was reset just now.
                continue;
            }
            turn.cost += frames.len() - control;
            self.send_frames(frames)?;
            if turn.cost >= QUANTUM_BYTES {
                break;
            }
        }
        Ok(())
    }

    /// Sends what is written if the buffer is full.
    pub(super) fn make_room(
        &mut self,
        frames: &mut FrameBuffer,
        turn: &mut Turn,
    ) -> Result<(), Ending> {
        if frames.is_full() {
            turn.cost += frames.len();
            self.send_frames(frames)?;
        }
        Ok(())
    }

    fn write_control(&mut self, frames: &mut FrameBuffer) {
        if self.h2.control_bytes() > 0 {
            frames.append(|out| self.h2.write_control(out));
        }
    }

    /// Sends what is written. The responses in it are over.
    fn send_frames(&mut self, frames: &mut FrameBuffer) -> Result<(), Ending> {
        self.is_corked = self.h2.next_to_send(1).is_some();
        let flags = if self.is_corked {
            SendFlags::MORE
        } else {
            SendFlags::empty()
        };
        let context = &self.context;
        let written = self
            .transport
            .write_now(&context.io, frames.frames(), flags);
        frames.clear();
        context.access_log.batch_sent(written.is_ok());
        let unsent = written.map_err(|_| Ending::Gone)?;
        self.flush = unsent.map(|unsent| Box::new(Flush::new(unsent)));
        Ok(())
    }

    /// Has the kernel send the last segment, since what was to follow has to be waited for.
    pub(super) fn uncork(&mut self) {
        if self.is_corked && self.flush.is_none() {
            self.is_corked = false;
            self.transport.push();
        }
    }

    /// Sends what was written before the connection ended.
    pub(super) fn send_last(&mut self) {
        let context = Rc::clone(&self.context);
        let frames = &mut context.scratch.borrow_mut().frames;
        // Nothing was written behind what the socket did not take.
        if !frames.is_empty() {
            // It has ended in any case.
            let _ = self.send_frames(frames);
        }
    }

    /// Fills the buffer from the streams whose turn it is.
    fn pull(&mut self, frames: &mut FrameBuffer, turn: &mut Turn) {
        while turn.cost < QUANTUM_BYTES
            && let Some(room) = frames.room()
            && let Some(grant) = self.h2.next_to_send(room)
        {
            self.send_piece(grant, frames, turn);
        }
    }

    /// Writes the next bytes of a body: a frame, or as many as fit if the stream keeps its turn, for
    /// which one read does.
    fn send_piece(&mut self, grant: Grant, frames: &mut FrameBuffer, turn: &mut Turn) {
        let Grant {
            stream,
            bytes,
            stays,
        } = grant;
        let windows = self.h2.send_windows(stream);
        let Some(Stream::Sending(sending)) = self.h2.state_mut(stream) else {
            self.h2.set_ready(stream, false);
            return;
        };
        let Sending {
            body,
            exchange,
            pace,
        } = &mut **sending;
        let bytes = match pace {
            Some(pace) => bytes.min(pace.piece()),
            None if stays => windows,
            None => bytes,
        };
        let mut payload = frames.payload(bytes);
        let read = body.read(
            &mut payload,
            self.transport.socket(),
            &self.context,
            exchange,
        );
        let len = payload.len();
        if body.is_costly() {
            turn.cost += MADE_PIECE_COST;
        }
        let Ok(progress) = read else {
            self.h2.reset(stream, ErrorCode::INTERNAL_ERROR);
            return;
        };
        let is_end = progress == Progress::End;
        if len > 0 || is_end {
            self.write_data(stream, len, is_end, frames);
        }
        match progress {
            Progress::End => {}
            Progress::Waits if len == 0 => self.make(stream),
            _ if self.keep_pace(stream, len, turn.now) => {}
            Progress::Waits => self.make(stream),
            Progress::More => {}
        }
    }

    /// Adds the frames of `len` bytes of payload, which are written.
    fn write_data(&mut self, stream: StreamId, len: usize, is_end: bool, frames: &mut FrameBuffer) {
        let mut ended = None;
        frames.add_frames(len, |len, is_last, header| {
            let is_end = is_end && is_last;
            ended = self.h2.write_data_header(stream, len, is_end, header);
        });
        if let Some(Stream::Sending(mut sending)) = ended {
            sending.exchange.complete(Instant::now());
        }
    }

    /// Waits for the next bytes of a body.
    fn make(&mut self, stream: StreamId) {
        self.h2.set_ready(stream, false);
        if let Some(Stream::Sending(sending)) = self.h2.detach(stream) {
            let work = read(Rc::clone(&self.context), stream, sending);
            let work = Stream::Working(self.works.start(work));
            self.h2.attach(stream, work);
        }
    }

    /// Waits until the next bytes are due, if the body is paced; else returns false.
    fn keep_pace(&mut self, stream: StreamId, len: usize, now: Instant) -> bool {
        let Some(Stream::Sending(sending)) = self.h2.state_mut(stream) else {
            return false;
        };
        let Some(pace) = &mut sending.pace else {
            return false;
        };
        let time = pace.sent(len, now);
        pace.wait = Some(self.works.start(pause(stream, time)));
        self.h2.set_ready(stream, false);
        true
    }
}
