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

use crate::attention;
use crate::poll_on_wake::PollOnWake;
use crate::shared::Shared;
use crate::spawn;
use crate::wakeup_timers::WakeupTimers;

/// How long the driver waits on the op ring itself for the next completion before the executor
/// sleeps. Timers and other events of the executor wait as long: it looks at them every 100 ms at
/// most, between two turns.
const STAY: Duration = Duration::from_millis(50);

/// The same since the executor's last sleep, however many completions came, while something waits
/// for an event of the executor ([`crate::attention`]).
const STAY_ATTENTIVE: Duration = Duration::from_millis(10);

/// Drives the ring until its last clone is gone.
///
/// Queued ops are submitted when the ring is next checked for completions, or when no other task
/// ran since the driver did. In that case the driver first waits on the op ring itself, which takes
/// one syscall where the executor's own sleep and its end take eleven. Since the executor sees
/// nothing else meanwhile, the driver then waits for an op to be queued, or for the eventfd, which
/// the kernel signals with each batch of completions.
///
/// `wakeup_timers` run already: the executor may fall asleep before it first polls this.
pub(crate) async fn drive(ring: Weak<Shared>, event: Event, mut wakeup_timers: WakeupTimers) {
    let event = Rc::new(event);
    let mut signal: Option<Signal> = None;
    let mut patience = Patience::new();
    let mut polls = 0;
    let mut postponed = false;
    while let Some(shared) = ring.upgrade() {
        if wakeup_timers.are_due() {
            poll_fn(|context| wakeup_timers.set(context)).await;
        }
        let alone = polls == spawn::polls();
        polls = spawn::polls();
        // Once, for others to queue more.
        postponed = !alone && !postponed && !shared.has_completions();
        let wait = if alone { patience.left() } else { None };
        let busy = postponed || shared.turn(wait);
        drop(shared);
        if busy || !alone {
            patience.renew();
            yield_now().await;
            continue;
        }
        let sleeping = signal.get_or_insert_with(|| Signal::new(&event));
        poll_fn(|context| poll_work(&ring, sleeping, context)).await;
        // A completed read is started again for the next sleep.
        if sleeping.taken {
            signal = None;
        }
        patience = Patience::new();
    }
}

/// How long the driver may still wait on the ring itself.
struct Patience {
    /// The end of the executor's last sleep.
    awake: Instant,
    /// Since when there is nothing to do, if the clock was read since.
    idle: Option<Instant>,
}

impl Patience {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            awake: now,
            idle: Some(now),
        }
    }

    /// There was something to do.
    fn renew(&mut self) {
        self.idle = None;
    }

    /// `None`: the executor should sleep.
    fn left(&mut self) -> Option<Duration> {
        let now = Instant::now();
        let idle = *self.idle.get_or_insert(now);
        let end = if attention::is_needed() {
            self.awake + STAY_ATTENTIVE
        } else {
            idle + STAY
        };
        let left = end.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }
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
