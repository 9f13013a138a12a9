//! Whether each shard makes progress: the main thread queries it every two seconds.
//!
//! The query wakes a task of the shard from another thread, and rings a bell on its ring, since the
//! executor notices the former up to 150 ms late; the answer goes through the ring. So an answer
//! shows that the executor runs, and that its ring works. A query also ends a sleep that the
//! executor should not have begun. Between queries there is no cost.

use std::fs;
use std::future::{pending, poll_fn};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures_lite::future::or;
use rustix::event::PollFlags;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socketpair};
use rustix::thread::{Pid, gettid};
use tidegate_uring::{Fd, Ring};

use crate::error::Error;

/// How often each shard is queried.
pub(crate) const ASK_EVERY: Duration = Duration::from_secs(2);

/// Unanswered queries in a row after which a shard is reported to make no progress.
const STALLED_QUESTIONS: u32 = 3;

/// Unanswered queries in a row that wake the shard: glommio counts a task's wakers in 16 bits.
const WAKING_QUESTIONS_MAX: u32 = 1000;

/// The queries to one shard, and its answers.
#[derive(Default)]
pub(crate) struct Heartbeat(Mutex<State>);

#[derive(Default)]
struct State {
    asked: u32,
    /// When the first of the unanswered queries was sent.
    asked_at: Option<Instant>,
    /// Someone scrapes: the shard is to publish its state.
    is_scraped: bool,
    /// How often the shard was reported to make no progress.
    stalls: u64,
    answered: u32,
    answers: Answers,
    /// A socket whose other end the shard listens to.
    bell: Option<OwnedFd>,
    thread: Option<Pid>,
}

/// The task that answers.
#[derive(Default)]
enum Answers {
    /// The shard starts. Queries count already, since a start may hang too.
    #[default]
    Later,
    /// It waits for a query.
    From(Waker),
    /// The shard has ended: queries no longer count.
    No,
}

impl Heartbeat {
    /// The number of unanswered queries.
    pub(crate) fn unanswered(&self) -> u32 {
        self.state().unanswered()
    }

    /// Whether the shard has answered none of the last queries.
    pub(crate) fn is_stalled(&self) -> bool {
        self.unanswered() >= STALLED_QUESTIONS
    }

    /// How often the shard was reported to make no progress.
    pub(crate) fn stalls(&self) -> u64 {
        self.state().stalls
    }

    /// Has the shard publish its state soon, if it makes progress. Does not wait.
    pub(crate) fn scrape(&self) {
        let mut state = self.state();
        // Once until the answer: see `WAKING_QUESTIONS_MAX`.
        if !std::mem::replace(&mut state.is_scraped, true)
            && let Answers::From(task) = &state.answers
        {
            task.wake_by_ref();
            state.ring_bell();
        }
    }

    /// How long the shard has not answered, in steps of [`ASK_EVERY`].
    pub(crate) fn silence(&self) -> Duration {
        ASK_EVERY * self.unanswered().saturating_sub(1)
    }

    /// Takes the calling thread as the shard's.
    pub(crate) fn begin(&self) {
        self.state().thread = Some(gettid());
    }

    /// Answers queries until dropped; an executor that ends does not drop its tasks. With each answer it
    /// calls `publish` with the time that the query has waited; without one if only a scrape woke it.
    pub(crate) async fn beat(self: Arc<Self>, ring: Ring, publish: impl Fn(Option<Duration>)) {
        let end = End(&self);
        // Without it, queries are noticed late.
        let ear = self.hang_bell().ok();
        loop {
            let asked = poll_fn(|context| self.poll_asked(context));
            let asked = or(asked, listen(&ring, ear.as_ref())).await;
            if let Some(ear) = &ear {
                drain(ear);
            }
            // Its completion is the answer.
            let _ = ring.nop().await;
            publish(end.0.answer(asked));
        }
    }

    /// Answers the queries up to `asked`. Returns how long the first of them has waited.
    fn answer(&self, asked: u32) -> Option<Duration> {
        let mut state = self.state();
        state.answered = asked;
        state.asked_at.take().map(|at| at.elapsed())
    }

    /// Queries the shard, unless it has ended. Returns the number of earlier unanswered queries.
    fn ask(&self) -> u32 {
        let mut state = self.state();
        let unanswered = state.unanswered();
        match &state.answers {
            Answers::No => return unanswered,
            // By reference: the waker is dropped by the shard's own thread alone.
            Answers::From(task) if unanswered < WAKING_QUESTIONS_MAX => {
                task.wake_by_ref();
                state.ring_bell();
            }
            Answers::From(_) | Answers::Later => {}
        }
        state.asked = state.asked.wrapping_add(1);
        state.asked_at.get_or_insert_with(Instant::now);
        unanswered
    }

    /// Returns the shard's end of the bell.
    fn hang_bell(&self) -> io::Result<Fd> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (ear, bell) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        self.state().bell = Some(bell);
        Ok(ear.into())
    }

    fn poll_asked(&self, context: &mut Context<'_>) -> Poll<u32> {
        let mut state = self.state();
        if std::mem::take(&mut state.is_scraped) || state.unanswered() > 0 {
            return Poll::Ready(state.asked);
        }
        state.answers = Answers::From(context.waker().clone());
        Poll::Pending
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes its task whenever the bell rings. Never ready.
async fn listen(ring: &Ring, ear: Option<&Fd>) -> u32 {
    while let Some(ear) = ear
        && ring.poll(ear, PollFlags::IN).await.is_ok()
    {
        drain(ear);
    }
    pending().await
}

/// Takes what the bell sent: less than this, since it rings again only after an answer, or each
/// [`ASK_EVERY`].
fn drain(ear: &Fd) {
    // There may be nothing.
    let _ = rustix::io::read(ear, &mut [0; 64]);
}

impl State {
    fn ring_bell(&self) {
        // Full: it rings already.
        let send = |bell| send(bell, b".", SendFlags::NOSIGNAL);
        let _ = self.bell.as_ref().map(send);
    }

    fn unanswered(&self) -> u32 {
        self.asked.wrapping_sub(self.answered)
    }
}

/// Ends the queries when dropped.
struct End<'a>(&'a Heartbeat);

impl Drop for End<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.answers = Answers::No;
        state.answered = state.asked;
    }
}

/// Queries the shards on behalf of the main thread.
pub(crate) struct Watchdog {
    shards: Vec<Watched>,
    /// Unanswered queries in a row after which the process ends.
    questions_max: Option<u32>,
}

struct Watched {
    heartbeat: Arc<Heartbeat>,
    /// Unanswered queries in a row, without those during which the thread got no core.
    missed: u32,
    /// The total time for which the thread has waited for a core.
    starved: Duration,
}

impl Watchdog {
    /// Reports an error once a shard has not answered for `limit`; never without a limit.
    pub(crate) fn new(heartbeats: &[Arc<Heartbeat>], limit: Option<Duration>) -> Self {
        let shards = heartbeats.iter().map(|heartbeat| Watched {
            heartbeat: Arc::clone(heartbeat),
            missed: 0,
            starved: Duration::ZERO,
        });
        let questions = |limit: Duration| limit.as_millis().div_ceil(ASK_EVERY.as_millis());
        Self {
            shards: shards.collect(),
            questions_max: limit.map(|limit| u32::try_from(questions(limit)).unwrap_or(u32::MAX)),
        }
    }

    /// Queries every shard; call it each [`ASK_EVERY`]. It counts the calls and reads no clock, so
    /// time in which the process was stopped or the machine suspended does not count.
    ///
    /// Returns whether all have answered the last query. An error once a shard has not answered for
    /// the limit.
    pub(crate) fn ask(&mut self) -> Result<bool, Error> {
        for (shard, watched) in self.shards.iter_mut().enumerate() {
            watched.ask(shard);
            if self.questions_max.is_some_and(|max| watched.missed >= max) {
                return Err(Error::ShardStalled {
                    shard,
                    time: ASK_EVERY * watched.missed,
                    thread: thread_state(watched.heartbeat.state().thread),
                });
            }
        }
        Ok(self.shards.iter().all(|watched| watched.missed == 0))
    }
}

impl Watched {
    fn ask(&mut self, shard: usize) {
        let unanswered = self.heartbeat.ask();
        match unanswered {
            0 => self.missed = 0,
            _ if self.was_starved() => {}
            _ => self.missed += 1,
        }
        if unanswered + 1 == STALLED_QUESTIONS {
            self.heartbeat.state().stalls += 1;
            let thread = thread_state(self.heartbeat.state().thread);
            tracing::error!(shard, thread, "a shard makes no progress");
        }
    }

    /// Whether the thread has waited for a core for most of the time since the last call.
    fn was_starved(&mut self) -> bool {
        let starved = starved(self.heartbeat.state().thread).unwrap_or_default();
        let before = std::mem::replace(&mut self.starved, starved);
        starved.saturating_sub(before) > ASK_EVERY / 2
    }
}

/// How long a thread has been runnable without running; `None` if the kernel does not report it
/// (`CONFIG_SCHED_INFO`).
fn starved(thread: Option<Pid>) -> Option<Duration> {
    let text = proc_text(thread, "schedstat")?;
    let nanoseconds = text.split(' ').nth(1)?;
    nanoseconds.parse().ok().map(Duration::from_nanos)
}

/// The state of a thread, and the kernel function that it waits in (proc(5)).
fn thread_state(thread: Option<Pid>) -> String {
    let stat = proc_text(thread, "stat").unwrap_or_default();
    // The thread's name, before it, may hold any characters.
    let state = stat
        .rsplit(") ")
        .next()
        .and_then(|rest| rest.chars().next());
    let place = proc_text(thread, "wchan").filter(|place| !matches!(place.as_str(), "" | "0"));
    let state = format!("state {}", state.unwrap_or('?'));
    place.map_or(state.clone(), |place| format!("{state} in {place}"))
}

fn proc_text(thread: Option<Pid>, file: &str) -> Option<String> {
    let thread = thread?.as_raw_nonzero();
    fs::read_to_string(format!("/proc/self/task/{thread}/{file}")).ok()
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::thread;

    use futures_lite::future::{or, poll_once};
    use tidegate_uring::Config;
    use tidegate_uring::executor::{Executor, coarse_sleep};

    use super::*;

    fn watchdog(limit: Option<Duration>) -> (Arc<Heartbeat>, Watchdog) {
        let heartbeat = Arc::<Heartbeat>::default();
        let watchdog = Watchdog::new(&[Arc::clone(&heartbeat)], limit);
        (heartbeat, watchdog)
    }

    /// Registers a task that never answers.
    fn begin(heartbeat: &Heartbeat) {
        assert!(
            heartbeat
                .poll_asked(&mut Context::from_waker(Waker::noop()))
                .is_pending()
        );
    }

    #[test]
    fn a_shard_that_hangs_while_it_starts_is_reported() {
        let (heartbeat, mut watchdog) = watchdog(Some(ASK_EVERY * 4));
        heartbeat.begin();
        for _ in 0..4 {
            watchdog.ask().unwrap();
        }
        assert!(heartbeat.is_stalled());
        assert!(watchdog.ask().is_err());
    }

    #[test]
    fn a_silent_shard_is_reported_and_is_an_error_at_the_limit() {
        let (heartbeat, mut watchdog) = watchdog(Some(Duration::from_secs(30)));
        begin(&heartbeat);
        for asked in 1..=15 {
            watchdog.ask().unwrap();
            assert_eq!(
                heartbeat.is_stalled(),
                asked >= STALLED_QUESTIONS,
                "{asked}"
            );
            assert_eq!(heartbeat.silence(), ASK_EVERY * (asked - 1));
        }
        let error = watchdog.ask().unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("shard 0 made no progress for 30s"),
            "{error}"
        );
    }

    #[test]
    fn without_a_limit_it_waits_for_ever() {
        let (heartbeat, mut watchdog) = watchdog(None);
        begin(&heartbeat);
        for _ in 0..100_000 {
            watchdog.ask().unwrap();
        }
        assert!(heartbeat.is_stalled());
    }

    #[test]
    fn a_shard_answers_until_it_ends() {
        let (heartbeat, mut watchdog) = watchdog(Some(ASK_EVERY * 2));
        let shard = Arc::clone(&heartbeat);
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let thread = thread::spawn(move || {
            Executor::new("test", 1).unwrap().run(async {
                let ring = Ring::start(&Config::default()).unwrap();
                let beat = shard.beat(ring.clone(), |_| ());
                let end = async {
                    while stopped.try_recv().is_err() {
                        coarse_sleep(Duration::from_millis(1)).await;
                    }
                };
                or(beat, end).await;
            });
        });
        while !matches!(heartbeat.state().answers, Answers::From(_)) {
            thread::yield_now();
        }
        for _ in 0..100 {
            watchdog.ask().unwrap();
            while heartbeat.unanswered() > 0 {
                thread::yield_now();
            }
        }
        stop.send(()).unwrap();
        thread.join().unwrap();
        for _ in 0..10 {
            watchdog.ask().unwrap();
        }
        assert_eq!(heartbeat.unanswered(), 0);
    }

    #[test]
    fn a_task_that_is_dropped_counts_as_an_answer() {
        let heartbeat = Arc::<Heartbeat>::default();
        Executor::new("test", 1).unwrap().run(async {
            let ring = Ring::start(&Config::default()).unwrap();
            let mut beat = pin!(Arc::clone(&heartbeat).beat(ring, |_| ()));
            assert!(poll_once(&mut beat).await.is_none());
            heartbeat.ask();
            assert_eq!(heartbeat.unanswered(), 1);
        });
        assert_eq!(heartbeat.unanswered(), 0);
        assert_eq!(heartbeat.ask(), 0);
    }

    #[test]
    fn the_state_of_a_thread_is_read() {
        let own = Some(gettid());
        assert!(
            thread_state(own).starts_with("state R"),
            "{}",
            thread_state(own)
        );
        assert_eq!(thread_state(None), "state ?");
    }
}
