//! A transfer that its caller carries out step by step.

use std::io;
use std::ops::Range;
use std::rc::Rc;

use rustix::fs::{OFlags, fcntl_getfl};
use tidegate_uring::{Fd, Ring};

use crate::encoded_staging::{EncodedStaging, Piece};
use crate::error::Error;
use crate::file_source::FileSource;
use crate::options::{Opening, Options, Step};
use crate::pipe_staging::PipeStaging;
use crate::pool::{Parked, Pool};
use crate::progress::TransferProgress;
use crate::pump::Pump;
use crate::socket_sink::SocketSink;

/// A range of a file on its way to a socket, sent in steps of as many bytes as the caller allows.
///
/// Between two steps the caller may write other bytes to the socket, as a protocol does that frames
/// what it sends: a frame header with `MSG_MORE`, then a step of the frame's length. A step sends
/// exactly [`Step::bytes_max`] bytes, or all that [remain](Transfer::remaining) if those are fewer,
/// so the length is known before.
///
/// # Between two steps
///
/// A transfer may wait for its next step as long as it likes, as where the peer's flow control
/// window is closed. Meanwhile:
///
/// * The socket is not corked, and no time counts against the peer.
/// * A pipe that still holds bytes is *parked* in the [`Pool`]. The transfer gets it back, unless
///   another transfer needed a pipe first; then the bytes are spliced again.
/// * No permit to wait for the disk is held. A prefetch that is under way goes on, and its permit
///   returns when the worker is done.
/// * No buffer is held.
///
/// # Cancel safety
///
/// The future of a step may be dropped. [`Transfer::sent`] is exact then, and the next step goes on
/// from there. What a worker reads at that moment is lost and read again. The pipe is closed, if it
/// holds bytes, and the pool may make another at once, even if a worker is still reading into the
/// old one: until the disk answers there may be as many pipes too many as the ring has workers.
///
/// Dropped itself, a transfer closes its parked pipe and cancels its prefetch. It does not drop the
/// last few MiB that it brought into the page cache, unlike [`Transfer::finish`].
pub struct Transfer {
    pump: Pump,
    opening: Opening,
    /// The pipe that the last step left with bytes in it.
    parked: Option<Parked>,
    /// The encoded bytes that a dropped step left.
    piece: Option<Piece>,
}

/// The result of a transfer that sent its whole range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sent {
    /// A part of the range was not in memory when it was needed. (A part that was prefetched in
    /// time counts as in memory.)
    pub from_disk: bool,
}

impl Transfer {
    /// Prepares to send the bytes of `file` from `range.start` to `range.end` (exclusive). The
    /// file's own position is neither used nor moved. The transfer keeps the file open.
    #[inline]
    pub fn new(
        ring: &Ring,
        pool: &Rc<Pool>,
        file: &Fd,
        range: Range<u64>,
        options: &Options,
    ) -> Self {
        let source = FileSource::new(ring, pool, file, range.clone(), options);
        let progress = TransferProgress::new(range);
        Self {
            pump: Pump::new(progress, source, SocketSink::new(options.stall)),
            opening: options.opening,
            parked: None,
            piece: None,
        }
    }

    /// Bytes of the file that the socket took.
    pub fn sent(&self) -> u64 {
        self.pump.progress.sent()
    }

    /// Bytes of the range that are still to be sent.
    pub fn remaining(&self) -> u64 {
        self.pump.progress.remaining()
    }

    /// Sends the next bytes by splice(2), to the end of the step. `socket` carries `O_NONBLOCK` and
    /// is the same in each step.
    ///
    /// # Errors
    ///
    /// [`Error::sent`] says how many bytes the socket took in all steps, [`Error::kind`] what
    /// happened then.
    #[expect(clippy::manual_async_fn, reason = "it would keep its arguments twice")]
    pub fn step(&mut self, socket: &Fd, step: Step) -> impl Future<Output = Result<(), Error>> {
        async move {
            debug_assert!(is_nonblocking(socket), "the socket carries O_NONBLOCK");
            debug_assert!(self.piece.is_none(), "a transfer takes steps of one kind");
            self.pump.progress.begin_step(step, self.opening);
            // Not the transfer's during the step: a step that is dropped closes its pipe.
            let mut staging = PipeStaging::new(self.parked.take());
            let result = self.pump.run(&mut staging, socket).await;
            result.map_err(|kind| Error {
                sent: self.sent(),
                kind,
            })?;
            if let PipeStaging::Parked(parked) = staging {
                self.parked = Some(parked);
            }
            Ok(())
        }
    }

    /// Like [`Transfer::step`], but sends the bytes as `encode` makes them, as for TLS in user
    /// space: they are read into memory, a piece at a time, encoded and sent. A transfer takes
    /// either kind of step, not both.
    ///
    /// `encode` is given the next bytes of the file and a buffer. It puts the encoded bytes at the
    /// start of the buffer, over what is there, makes it longer if necessary, and returns how many
    /// they are. The pieces of a step are together the bytes of the step, so that an encoder that
    /// is made for the step can put bytes of its own, such as a frame header, before the first.
    /// Each piece is sent as a whole before the next is encoded.
    ///
    /// [`Options::opening`] is not used.
    ///
    /// # Errors
    ///
    /// As for [`Transfer::step`]; [`Error::sent`] counts bytes of pieces that the socket took as a
    /// whole.
    ///
    /// # Cancel safety
    ///
    /// The transfer keeps the piece that a dropped step was sending. The next step begins with the
    /// rest of it, even if that is more than its bound.
    pub async fn step_encoded(
        &mut self,
        socket: &Fd,
        step: Step,
        encode: impl FnMut(&[u8], &mut Vec<u8>) -> io::Result<usize>,
    ) -> Result<(), Error> {
        let progress = &mut self.pump.progress;
        let bytes_max = step.bytes_max.max(progress.staged());
        progress.begin_step(Step { bytes_max, ..step }, Opening::NONE);
        let staging = &mut EncodedStaging::new(encode, &mut self.piece);
        let result = self.pump.run(staging, socket).await;
        result.map_err(|kind| Error {
            sent: self.sent(),
            kind,
        })
    }

    /// Ends the transfer, after its last step or in place of it. With
    /// [`Options::drop_behind`] the last pages are dropped from the page cache a second later.
    pub fn finish(mut self) -> Sent {
        self.end()
    }

    /// [`Transfer::finish`] in place: to move a transfer costs as much as the rest of its end.
    pub(crate) fn end(&mut self) -> Sent {
        self.pump.source.finish();
        Sent {
            from_disk: self.pump.source.met_disk(),
        }
    }
}

fn is_nonblocking(socket: &Fd) -> bool {
    fcntl_getfl(socket).is_ok_and(|flags| flags.contains(OFlags::NONBLOCK))
}
