//! The driver task: takes the ring's turns, and sleeps when the executor does.

use std::future::{Future, poll_fn};
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_lite::future::yield_now;
use glommio::io::BufferedFile;

use crate::poll_on_wake::PollOnWake;
use crate::shared::Shared;
use crate::wakeup_timers::WakeupTimers;

/// How long the driver waits on the op ring itself before the executor sleeps. It delays timers and
/// other events of the executor by up to as much.
const STAY: Duration = Duration::from_millis(10);

/// Drives the ring until its last clone is gone.
///
/// Queued ops are submitted when the ring is next checked for completions, or when no other task
/// ran since the driver did. In that case the driver first waits on the op ring itself, which takes
/// one syscall where the executor's own sleep takes five. Since the executor sees nothing else
/// meanwhile, the driver then waits for an op to be queued, or for the eventfd, which the kernel
/// signals with each batch of completions.
///
/// `wakeup_timers` run already: the executor may fall asleep before it first polls this.
pub(crate) async fn drive(ring: Weak<Shared>, event: Event, mut wakeup_timers: WakeupTimers) {
    let event = Rc::new(event);
    let mut signal: Option<Signal> = None;
    let mut awake = Instant::now();
    let mut polls = 0;
    let mut postponed = false;
    while let Some(shared) = ring.upgrade() {
        if wakeup_timers.are_due() {
            poll_fn(|context| wakeup_timers.set(context)).await;
        }
        let alone = polls == shared.polls.get();
        polls = shared.polls.get();
        // Once, for others to queue more.
        postponed = !alone && !postponed && !shared.has_completions();
        let busy = postponed || shared.turn(time_to_stay(alone, awake));
        drop(shared);
        if busy || !alone {
            yield_now().await;
            continue;
        }
        let sleeping = signal.get_or_insert_with(|| Signal::new(&event));
        poll_fn(|context| poll_work(&ring, sleeping, context)).await;
        // A completed read is started again for the next sleep.
        if sleeping.taken {
            signal = None;
        }
        awake = Instant::now();
    }
}

/// How long to wait on the ring itself, if there is nothing else to do.
fn time_to_stay(alone: bool, awake: Instant) -> Option<Duration> {
    let left = alone.then(|| STAY.saturating_sub(awake.elapsed()));
    left.filter(|left| !left.is_zero())
}

fn poll_work(ring: &Weak<Shared>, signal: &mut Signal, context: &mut Context<'_>) -> Poll<()> {
    let Some(shared) = ring.upgrade() else {
        return Poll::Ready(());
    };
    if signal.poll(context).is_ready() || shared.has_work_or_wakes(context.waker()) {
        Poll::Ready(())
    } else {
        Poll::Pending
    }
}

/// The eventfd that the kernel signals, as a file that the executor can read.
pub(crate) struct Event {
    /// Never dropped: glommio would leave the descriptor open where its executor ends before it
    /// checks its ring again. The file owns nothing else that matters.
    file: ManuallyDrop<BufferedFile>,
    _fd: OwnedFd,
}

impl Event {
    /// # Panics
    ///
    /// Outside a glommio executor.
    pub(crate) fn new(fd: OwnedFd) -> Self {
        // SAFETY: the descriptor is open, and stays so until both are dropped; the file, which is
        // never dropped itself, does not close it.
        let file = unsafe { BufferedFile::from_raw_fd(fd.as_raw_fd()) };
        Self {
            file: ManuallyDrop::new(file),
            _fd: fd,
        }
    }

    /// Waits for a signal. Dropped: nothing is lost; the count stays for the next call unless the
    /// read had taken it.
    async fn wait(&self) {
        // The count is not used. An open eventfd has no read error to handle; if one came, the
        // executor would spin and show it.
        let _ = self.file.read_at(0, 8).await;
    }
}

/// A read of the eventfd on the executor's own ring. It outlives the turns that queued ops cause
/// meanwhile, since cancelling and repeating it would cost more than the turn.
struct Signal {
    read: PollOnWake<Pin<Box<dyn Future<Output = ()>>>>,
    taken: bool,
}

impl Signal {
    fn new(event: &Rc<Event>) -> Self {
        let event = Rc::clone(event);
        Self {
            read: PollOnWake::new(Box::pin(async move { event.wait().await })),
            taken: false,
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let polled = Pin::new(&mut self.read).poll(context);
        self.taken = polled.is_ready();
        polled
    }
}
