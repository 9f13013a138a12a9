//! Messages from the main thread to a worker.
//!
//! A bounded channel of the standard library holds them; a byte in a pipe wakes the worker, which
//! waits on its ring. The pipe is not an eventfd: Linux 6.18 notifies a ring that has an eventfd of
//! its own only once of another eventfd.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::io::{Errno, read, write};
use rustix::pipe::{PipeFlags, pipe_with};
use tidegate_uring::executor::coarse_sleep;
use tidegate_uring::{Fd, Ring};

use crate::update::CoreUpdate;

/// Messages that may wait for a worker: one of each kind, since a `Stop` must never be lost. A stop
/// is sent once. The next `Apply` is sent only when every worker has taken the one before.
const QUEUE_MAX: usize = 5;

/// How long to pause when the pipe cannot be read or written.
const REST: Duration = Duration::from_millis(100);

/// How often a write to the pipe is tried that fails, for lack of memory above all.
const WAKE_TRIES: u32 = 20;

/// A message to a worker.
pub(crate) enum Control {
    /// Accept connections.
    Serve,
    /// Replace the configuration.
    Apply(Box<CoreUpdate>),
    /// Leave the listeners to another process, and let connections end.
    HandOver,
    /// Accept no more connections, and let responses finish.
    Stop,
    /// End without waiting for responses.
    StopNow,
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Serve => "Serve",
            Self::Apply(_) => "Apply",
            Self::HandOver => "HandOver",
            Self::Stop => "Stop",
            Self::StopNow => "StopNow",
        })
    }
}

/// The main thread's end.
pub(crate) struct ControlSender {
    // Dropped before the pipe, whose end has the worker look here.
    messages: SyncSender<Control>,
    wake: OwnedFd,
}

/// The worker's end, on its way to the worker's thread.
pub(crate) struct ControlReceiver {
    messages: Receiver<Control>,
    wake: OwnedFd,
}

/// The worker's end, on its ring.
pub(crate) struct ControlInbox {
    messages: Receiver<Control>,
    wake: Fd,
    ring: Ring,
}

/// A channel to one worker.
pub(crate) fn channel() -> rustix::io::Result<(ControlSender, ControlReceiver)> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    let (sender, receiver) = sync_channel(QUEUE_MAX);
    let sender = ControlSender {
        messages: sender,
        wake: writer,
    };
    let receiver = ControlReceiver {
        messages: receiver,
        wake: reader,
    };
    Ok((sender, receiver))
}

impl ControlSender {
    /// Sends to the worker; nothing if it has ended.
    pub(crate) fn send(&self, message: Control) {
        match self.messages.try_send(message) {
            Ok(()) => self.wake(),
            Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(message)) => {
                tracing::error!(?message, "a shard leaves its messages unread");
            }
        }
    }

    /// Tries more than once: a message that is not told of is read only with the next one.
    fn wake(&self) {
        for _ in 0..WAKE_TRIES {
            match write(&self.wake, b".") {
                // EPIPE: the worker has ended meanwhile.
                Ok(_) | Err(Errno::PIPE) => return,
                Err(Errno::INTR) => continue,
                Err(error) => tracing::error!(%error, "cannot wake a shard for a message"),
            }
            thread::sleep(REST);
        }
    }
}

impl ControlReceiver {
    /// The end for the worker whose ring this is.
    pub(crate) fn attach(self, ring: &Ring) -> ControlInbox {
        ControlInbox {
            messages: self.messages,
            wake: Fd::from(self.wake),
            ring: ring.clone(),
        }
    }

    /// The messages that wait.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> Vec<Control> {
        self.messages.try_iter().collect()
    }
}

impl ControlInbox {
    /// Waits for the next message. Dropped: no message is lost. A main thread that has ended
    /// waits for nothing: that is [`Control::StopNow`].
    pub(crate) async fn next(&self) -> Control {
        loop {
            match self.messages.try_recv() {
                Ok(message) => return message,
                Err(TryRecvError::Disconnected) => return Control::StopNow,
                Err(TryRecvError::Empty) => {}
            }
            if let Err(error) = self.woken().await {
                // The messages are not in the pipe: they are looked for now and then.
                tracing::debug!(%error, "cannot read the shard's control pipe");
                coarse_sleep(REST).await;
            }
        }
    }

    /// Waits until messages may have come.
    async fn woken(&self) -> io::Result<()> {
        // Not a read on the ring: one that is dropped could still take the byte.
        self.ring.poll(&self.wake, PollFlags::IN).await?;
        match read(&self.wake, &mut [0; QUEUE_MAX]) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_lite::future::poll_once;
    use tidegate_uring::Config;
    use tidegate_uring::executor::Executor;

    use super::*;

    fn with_channel<F: Future>(test: impl FnOnce(ControlSender, ControlInbox) -> F) {
        Executor::new("test", 1).unwrap().run(async {
            let ring = Ring::start(&Config::default()).unwrap();
            let (sender, receiver) = channel().unwrap();
            test(sender, receiver.attach(&ring)).await;
        });
    }

    #[test]
    fn messages_arrive_in_their_order() {
        with_channel(async |sender, inbox| {
            sender.send(Control::Stop);
            sender.send(Control::StopNow);
            assert!(matches!(inbox.next().await, Control::Stop));
            assert!(matches!(inbox.next().await, Control::StopNow));
        });
    }

    #[test]
    fn a_message_wakes_a_worker_that_waits_again() {
        with_channel(async |sender, inbox| {
            assert!(poll_once(pin!(inbox.next())).await.is_none());
            let mut next = pin!(inbox.next());
            assert!(poll_once(&mut next).await.is_none());
            sender.send(Control::Stop);
            assert!(matches!(next.await, Control::Stop));
        });
    }

    #[test]
    fn the_end_of_the_main_thread_stops_now() {
        with_channel(async |sender, inbox| {
            let mut next = pin!(inbox.next());
            assert!(poll_once(&mut next).await.is_none());
            drop(sender);
            assert!(matches!(next.await, Control::StopNow));
        });
    }

    #[test]
    fn a_worker_that_has_ended_gets_no_message() {
        let (sender, receiver) = channel().unwrap();
        drop(receiver);
        sender.send(Control::Stop);
    }
}
