//! The connections of a shard and until when each may take its time.
//!
//! A connection notes its deadline with one store; the calendar that finds those that are over
//! holds one note for each connection, which is moved only when it comes up. So a request costs
//! no timer, and an idle connection is looked at once in a keep-alive time.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use glommio::timer::Timer;
use rustix::net::{Shutdown, shutdown, sockopt};
use slab::Slab;
use tidegate_uring::Fd;

/// Deadlines are rounded up to this.
const TICK: Duration = Duration::from_millis(100);

/// When a connection that is past its deadline and still there is looked at again.
const LOOK_AGAIN_TICKS: u32 = 100;

/// One of this many connections is ended when others wait for their places.
const MEMBERS_PER_IDLE_ENDED: usize = 64;

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Its first request; nothing of it came yet.
    Fresh,
    /// Another request; nothing of it came yet.
    Idle,
    /// The rest of a request's head or body.
    Request,
    /// The client, to take more of a response.
    Send,
    /// A transfer that watches over its own time.
    Transfer,
    /// The end of a connection that is closed.
    Linger,
}

/// A registered connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    index: u32,
    generation: u32,
}

struct Member {
    socket: Fd,
    generation: u32,
    phase: Phase,
    /// In ticks; past it the connection is over.
    deadline: u32,
    /// The tick of this connection's note in the calendar.
    noted: u32,
    expired: bool,
}

pub(crate) struct Deadlines {
    epoch: Instant,
    inner: RefCell<Inner>,
}

#[derive(Default)]
struct Inner {
    members: Slab<Member>,
    calendar: BTreeMap<u32, Vec<Key>>,
    generation: u32,
    /// The calendar's task, and the tick until which it sleeps.
    sleeper: Option<(u32, Waker)>,
    /// Who waits for members to leave.
    waiting: Vec<Waker>,
}

impl Deadlines {
    pub(crate) fn new() -> Self {
        Self {
            epoch: Instant::now(),
            inner: RefCell::default(),
        }
    }

    /// Registers a connection that is in `phase` for at most `time`.
    pub(crate) fn join(&self, socket: &Fd, phase: Phase, time: Duration, now: Instant) -> Key {
        let deadline = self.tick(now + time);
        let mut inner = self.inner.borrow_mut();
        let generation = inner.generation;
        inner.generation = generation.wrapping_add(1);
        let index = inner.members.insert(Member {
            socket: socket.clone(),
            generation,
            phase,
            deadline,
            noted: deadline,
            expired: false,
        });
        let key = Key {
            index: u32::try_from(index).expect("fewer than 2^32 connections"),
            generation,
        };
        inner.note(deadline, key);
        key
    }

    pub(crate) fn leave(&self, key: Key) {
        let mut inner = self.inner.borrow_mut();
        inner.members.remove(key.index as usize);
        drop(inner);
        self.wake_waiting();
    }

    /// The connection is in `phase` from `now` on, for at most `time`.
    pub(crate) fn enter(&self, key: Key, phase: Phase, time: Duration, now: Instant) {
        let deadline = self.tick(now + time);
        let mut inner = self.inner.borrow_mut();
        let member = &mut inner.members[key.index as usize];
        member.phase = phase;
        member.deadline = deadline;
        if deadline < member.noted {
            member.noted = deadline;
            inner.note(deadline, key);
        }
    }

    /// Whether the connection was over its time.
    pub(crate) fn expired(&self, key: Key) -> bool {
        self.inner.borrow().members[key.index as usize].expired
    }

    pub(crate) fn len(&self) -> usize {
        self.inner.borrow().members.len()
    }

    /// Waits until `ready`, which is asked whenever a connection has left.
    pub(crate) async fn until(&self, ready: impl Fn() -> bool) {
        poll_fn(|context| {
            if ready() {
                return Poll::Ready(());
            }
            self.inner.borrow_mut().wait(context.waker());
            Poll::Pending
        })
        .await;
    }

    /// Has all who wait in [`Deadlines::until`] ask again.
    pub(crate) fn wake_waiting(&self) {
        let waiting = std::mem::take(&mut self.inner.borrow_mut().waiting);
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Ends some of the connections that wait for another request: those whose time is over
    /// soonest.
    pub(crate) fn end_longest_idle(&self) {
        let mut inner = self.inner.borrow_mut();
        let count = inner.members.len().div_ceil(MEMBERS_PER_IDLE_ENDED);
        let mut idle: Vec<(u32, usize)> = inner
            .members
            .iter()
            .filter(|(_, member)| member.phase == Phase::Idle && !member.expired)
            .map(|(index, member)| (member.deadline, index))
            .collect();
        if idle.len() > count {
            idle.select_nth_unstable(count);
            idle.truncate(count);
        }
        for (_, index) in idle {
            inner.members[index].expire();
        }
    }

    /// Ends the connections that wait for a request: the server stops.
    pub(crate) fn end_idle(&self) {
        let mut inner = self.inner.borrow_mut();
        for (_, member) in &mut inner.members {
            if matches!(member.phase, Phase::Fresh | Phase::Idle) {
                member.expire();
            }
        }
    }

    /// Ends all connections, at once.
    pub(crate) fn end_all(&self) {
        let mut inner = self.inner.borrow_mut();
        for (_, member) in &mut inner.members {
            member.phase = Phase::Send;
            member.expire();
        }
    }

    /// Ends connections that are over their time, for as long as it is polled.
    pub(crate) async fn watch(self: Rc<Self>) {
        loop {
            let next = self.sweep();
            let at = self.epoch + TICK * next.unwrap_or(u32::MAX / 2);
            let sleep = Timer::new(at.saturating_duration_since(Instant::now()));
            futures_lite::future::or(
                async {
                    let _ = sleep.await;
                },
                self.earlier(next),
            )
            .await;
        }
    }

    /// Ready when a note was made for a tick before `next`.
    async fn earlier(&self, next: Option<u32>) {
        let next = next.unwrap_or(u32::MAX);
        poll_fn(|context| {
            let mut inner = self.inner.borrow_mut();
            if inner
                .calendar
                .keys()
                .next()
                .is_some_and(|tick| *tick < next)
            {
                return Poll::Ready(());
            }
            inner.sleeper = Some((next, context.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    /// Looks at all whose note is due, and yields the tick of the next note.
    fn sweep(&self) -> Option<u32> {
        // Rounded down: a tick is over when all of it is.
        let now = self.ticks_until(Instant::now());
        let mut inner = self.inner.borrow_mut();
        while let Some(entry) = inner.calendar.first_entry() {
            if *entry.key() > now {
                return Some(*entry.key());
            }
            let (tick, keys) = entry.remove_entry();
            for key in keys {
                inner.look_at(key, tick, now);
            }
        }
        None
    }

    fn tick(&self, at: Instant) -> u32 {
        self.ticks_until(at).saturating_add(1)
    }

    fn ticks_until(&self, at: Instant) -> u32 {
        let ticks = at.saturating_duration_since(self.epoch).as_millis() / TICK.as_millis();
        u32::try_from(ticks).unwrap_or(u32::MAX / 2)
    }
}

impl Inner {
    /// Once for each task, however often it asks: see [`tidegate_uring::PollOnWake`].
    fn wait(&mut self, waker: &Waker) {
        if !self.waiting.iter().any(|known| known.will_wake(waker)) {
            self.waiting.push(waker.clone());
        }
    }

    fn note(&mut self, tick: u32, key: Key) {
        self.calendar.entry(tick).or_default().push(key);
        if self
            .sleeper
            .as_ref()
            .is_some_and(|(until, _)| tick < *until)
            && let Some((_, waker)) = self.sleeper.take()
        {
            waker.wake();
        }
    }

    fn look_at(&mut self, key: Key, tick: u32, now: u32) {
        let Some(member) = self.members.get_mut(key.index as usize) else {
            return;
        };
        // A member that left, or one that has an earlier note since.
        if member.generation != key.generation || member.noted != tick {
            return;
        }
        if member.deadline <= now {
            if member.phase != Phase::Transfer {
                member.expire();
            }
            // A transfer watches its own time. Any other task sees its end now; should it not
            // come to it, it is reminded.
            member.deadline = now + LOOK_AGAIN_TICKS;
        }
        member.noted = member.deadline.max(now + 1);
        let tick = member.noted;
        self.note(tick, key);
    }
}

impl Member {
    /// Makes the connection's task see the end: of its input, or of a response that is stuck.
    fn expire(&mut self) {
        self.expired = true;
        // Errors mean that the connection is over already, which is what is wanted.
        let _ = match self.phase {
            Phase::Fresh | Phase::Idle | Phase::Request | Phase::Linger => {
                shutdown(&self.socket, Shutdown::Read)
            }
            Phase::Send | Phase::Transfer => {
                let _ = sockopt::set_socket_linger(&self.socket, Some(Duration::ZERO));
                shutdown(&self.socket, Shutdown::Both)
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::pin::pin;

    use futures_lite::future::poll_once;
    use glommio::LocalExecutor;

    use super::*;

    /// Registered, and the other end to see what becomes of it.
    fn member(deadlines: &Deadlines, phase: Phase, time: Duration) -> (Key, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let key = deadlines.join(
            &Fd::from(std::os::fd::OwnedFd::from(ours)),
            phase,
            time,
            now(),
        );
        (key, theirs)
    }

    fn now() -> Instant {
        Instant::now()
    }

    const LONG: Duration = Duration::from_hours(1);
    const SHORT: Duration = Duration::from_millis(1);

    /// Lets the calendar run until `done`.
    fn watch_until(deadlines: Rc<Deadlines>, done: impl Fn(&Deadlines) -> bool) {
        LocalExecutor::default().run(async move {
            let watching = glommio::spawn_local(Rc::clone(&deadlines).watch());
            while !done(&deadlines) {
                Timer::new(Duration::from_millis(5)).await;
            }
            watching.cancel().await;
        });
    }

    #[test]
    fn only_those_over_their_time_are_ended() {
        let deadlines = Rc::new(Deadlines::new());
        let (late, _peer) = member(&deadlines, Phase::Idle, SHORT);
        let (early, _other) = member(&deadlines, Phase::Idle, LONG);
        watch_until(Rc::clone(&deadlines), |all| all.expired(late));
        assert!(!deadlines.expired(early));
    }

    #[test]
    fn an_earlier_deadline_is_seen_though_a_later_one_was_noted() {
        let deadlines = Rc::new(Deadlines::new());
        let (key, _peer) = member(&deadlines, Phase::Idle, LONG);
        deadlines.enter(key, Phase::Request, SHORT, now());
        watch_until(Rc::clone(&deadlines), |all| all.expired(key));
    }

    #[test]
    fn an_earlier_note_wakes_a_calendar_that_sleeps() {
        let deadlines = Rc::new(Deadlines::new());
        let (key, _peer) = member(&deadlines, Phase::Idle, LONG);
        let again = Rc::clone(&deadlines);
        LocalExecutor::default().run(async move {
            let watching = glommio::spawn_local(Rc::clone(&again).watch());
            Timer::new(Duration::from_millis(20)).await;
            again.enter(key, Phase::Send, SHORT, now());
            while !again.expired(key) {
                Timer::new(Duration::from_millis(5)).await;
            }
            watching.cancel().await;
        });
    }

    #[test]
    fn a_deadline_that_was_moved_on_ends_nobody() {
        let deadlines = Rc::new(Deadlines::new());
        let (moved, _peer) = member(&deadlines, Phase::Idle, SHORT);
        deadlines.enter(moved, Phase::Idle, LONG, now());
        let (late, _other) = member(&deadlines, Phase::Idle, SHORT * 200);
        watch_until(Rc::clone(&deadlines), |all| all.expired(late));
        assert!(!deadlines.expired(moved));
    }

    #[test]
    fn a_transfer_watches_over_itself() {
        let deadlines = Rc::new(Deadlines::new());
        let (transfer, _peer) = member(&deadlines, Phase::Transfer, SHORT);
        let (late, _other) = member(&deadlines, Phase::Idle, SHORT * 200);
        watch_until(Rc::clone(&deadlines), |all| all.expired(late));
        assert!(!deadlines.expired(transfer));
    }

    #[test]
    fn a_note_of_a_member_that_left_is_not_its_successors() {
        let deadlines = Rc::new(Deadlines::new());
        let (gone, _peer) = member(&deadlines, Phase::Idle, SHORT);
        deadlines.leave(gone);
        let (successor, _next) = member(&deadlines, Phase::Idle, LONG);
        assert_eq!(successor.index, gone.index);
        let (late, _other) = member(&deadlines, Phase::Idle, SHORT * 200);
        watch_until(Rc::clone(&deadlines), |all| all.expired(late));
        assert!(!deadlines.expired(successor));
    }

    #[test]
    fn those_idle_for_longest_make_room() {
        let deadlines = Deadlines::new();
        let (later, _a) = member(&deadlines, Phase::Idle, LONG * 2);
        let (soon, _b) = member(&deadlines, Phase::Idle, LONG);
        let (busy, _c) = member(&deadlines, Phase::Request, SHORT);
        deadlines.end_longest_idle();
        assert!(deadlines.expired(soon));
        assert!(!deadlines.expired(later) && !deadlines.expired(busy));
        deadlines.end_longest_idle();
        assert!(deadlines.expired(later) && !deadlines.expired(busy));
    }

    #[test]
    fn a_task_that_asks_again_and_again_is_woken_once() {
        let deadlines = Deadlines::new();
        LocalExecutor::default().run(async move {
            for _ in 0..70_000 {
                assert!(poll_once(pin!(deadlines.until(|| false))).await.is_none());
            }
            assert_eq!(deadlines.inner.borrow().waiting.len(), 1);
        });
    }

    #[test]
    fn stopping_ends_those_that_wait_for_a_request() {
        let deadlines = Deadlines::new();
        let (idle, _a) = member(&deadlines, Phase::Idle, LONG);
        let (busy, _b) = member(&deadlines, Phase::Request, LONG);
        deadlines.end_idle();
        assert!(deadlines.expired(idle) && !deadlines.expired(busy));
        deadlines.end_all();
        assert!(deadlines.expired(busy));
    }
}
