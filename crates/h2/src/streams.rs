//! The streams of a connection that are not over.

use std::collections::VecDeque;

use slab::Slab;

use crate::StreamId;
use crate::closed::{Closed, ClosedStreams};
use crate::flow::{Overflow, SendWindow};
use crate::priority::Priority;
use crate::schedule::Schedule;
use crate::stream::{Body, Stream};

/// Streams whose memory a connection keeps while it is idle.
const KEPT: usize = 1;

/// The streams. The server names them with their slots, the peer by their numbers.
#[derive(Debug)]
pub(crate) struct Streams<T> {
    slots: Slab<Stream<T>>,
    /// Number and slot of each, by number: new ones are higher than all others.
    numbers: VecDeque<(u32, u32)>,
    closed: ClosedStreams,
    schedule: Schedule,
    /// The highest number of a stream of the peer.
    pub(crate) highest: u32,
    /// Streams whose server has bytes to send.
    ready: u32,
    /// Streams whose response is not whole.
    unanswered: u32,
    /// Streams whose request is not whole.
    receiving: u32,
}

impl<T> Default for Streams<T> {
    fn default() -> Self {
        Self {
            slots: Slab::new(),
            numbers: VecDeque::new(),
            closed: ClosedStreams::default(),
            schedule: Schedule::default(),
            highest: 0,
            ready: 0,
            unanswered: 0,
            receiving: 0,
        }
    }
}

impl<T> Streams<T> {
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Bytes of memory that they take.
    pub(crate) fn memory(&self) -> usize {
        self.slots.capacity() * size_of::<Stream<T>>()
            + self.numbers.capacity() * size_of::<(u32, u32)>()
    }

    pub(crate) fn ready(&self) -> usize {
        self.ready as usize
    }

    pub(crate) fn unanswered(&self) -> usize {
        self.unanswered as usize
    }

    pub(crate) fn receiving(&self) -> usize {
        self.receiving as usize
    }

    /// Opens a stream, with a higher number than all before.
    pub(crate) fn open(
        &mut self,
        number: u32,
        priority: Priority,
        body: Body,
        send_window: SendWindow,
    ) -> StreamId {
        self.unanswered += 1;
        self.receiving += u32::from(!body.is_whole);
        if self.slots.capacity() == 0 {
            // Many connections have one stream at a time, which finds its place again.
            self.slots.reserve_exact(KEPT);
            self.numbers.reserve_exact(KEPT);
        }
        let slot = self.slots.insert(Stream {
            number,
            state: None,
            priority,
            body,
            is_answered: false,
            is_ready: false,
            send_window,
            key: None,
        }) as u32;
        self.numbers.push_back((number, slot));
        StreamId { number, slot }
    }

    /// The stream that the server means.
    #[inline]
    pub(crate) fn get(&self, id: StreamId) -> Option<&Stream<T>> {
        let stream = self.slots.get(id.slot as usize);
        stream.filter(|stream| stream.number == id.number)
    }

    /// The stream that the server means.
    #[inline]
    pub(crate) fn get_mut(&mut self, id: StreamId) -> Option<&mut Stream<T>> {
        let stream = self.slots.get_mut(id.slot as usize);
        stream.filter(|stream| stream.number == id.number)
    }

    /// The stream that the server means, if its response is not whole.
    #[inline]
    pub(crate) fn get_unanswered(&self, id: StreamId) -> Option<&Stream<T>> {
        self.get(id).filter(|stream| !stream.is_answered)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (StreamId, &mut Stream<T>)> {
        self.slots.iter_mut().map(|(slot, stream)| {
            let number = stream.number;
            let slot = slot as u32;
            (StreamId { number, slot }, stream)
        })
    }

    /// The stream that the peer means.
    #[inline]
    pub(crate) fn find(&self, number: u32) -> Option<StreamId> {
        let at = self.index(number)?;
        let (number, slot) = self.numbers[at];
        Some(StreamId { number, slot })
    }

    fn index(&self, number: u32) -> Option<usize> {
        let found = self
            .numbers
            .binary_search_by_key(&number, |(number, _)| *number);
        found.ok()
    }

    /// How a stream ended that is over; `None` if that was long ago, or it was never open.
    pub(crate) fn closed(&self, number: u32) -> Option<Closed> {
        self.closed.find(number)
    }

    /// Whether [`closed`](Self::closed) may have forgotten a stream.
    pub(crate) fn may_have_forgotten(&self) -> bool {
        self.closed.is_full()
    }

    /// Remembers a stream that never was open.
    pub(crate) fn ignore(&mut self, number: u32) {
        self.closed.push(number, Closed::ByUs);
    }

    /// Removes a stream.
    pub(crate) fn close(&mut self, id: StreamId, closed: Closed) -> Option<T> {
        self.get(id)?;
        let stream = self.slots.remove(id.slot as usize);
        if let Some(at) = self.index(id.number) {
            self.numbers.remove(at);
        }
        if let Some(key) = stream.key {
            self.schedule.remove(key);
        }
        self.ready -= u32::from(stream.is_ready);
        self.unanswered -= u32::from(!stream.is_answered);
        self.receiving -= u32::from(!stream.body.is_whole);
        self.closed.push(id.number, closed);
        stream.state
    }

    /// Notes that the request is whole, which its body says already.
    pub(crate) fn body_ended(&mut self) {
        self.receiving -= 1;
    }

    /// Notes that the response is whole, and returns the state. The stream goes on until its
    /// request is whole, too.
    pub(crate) fn answered(&mut self, id: StreamId) -> Option<T> {
        self.set_ready(id, false);
        let stream = self.get_mut(id)?;
        let state = stream.state.take();
        if stream.body.is_whole {
            self.close(id, Closed::Ended);
        } else if !stream.is_answered {
            stream.is_answered = true;
            self.unanswered -= 1;
        }
        state
    }

    /// Says whether the server has bytes to send.
    #[inline]
    pub(crate) fn set_ready(&mut self, id: StreamId, ready: bool) {
        let Some(stream) = self.get_mut(id) else {
            return;
        };
        if stream.is_ready == ready || stream.is_answered {
            return;
        }
        stream.is_ready = ready;
        if ready {
            self.ready += 1;
        } else {
            self.ready -= 1;
        }
        self.place(id);
    }

    /// Changes the send window of a stream.
    pub(crate) fn change_window(&mut self, id: StreamId, delta: i64) -> Result<(), Overflow> {
        let Some(stream) = self.get_mut(id) else {
            return Ok(());
        };
        let changed = stream.send_window.change(delta);
        self.place(id);
        changed
    }

    /// Changes the send windows of all streams (RFC 9113, section 6.9.2).
    pub(crate) fn change_windows(&mut self, delta: i64) -> Result<(), Overflow> {
        for at in 0..self.numbers.len() {
            let (number, slot) = self.numbers[at];
            self.change_window(StreamId { number, slot }, delta)?;
        }
        Ok(())
    }

    pub(crate) fn set_priority(&mut self, id: StreamId, priority: Priority) {
        let Some(stream) = self.get_mut(id) else {
            return;
        };
        stream.priority = priority;
        self.displace(id);
        self.place(id);
    }

    /// The stream to send from next.
    #[inline]
    pub(crate) fn next_to_send(&self) -> Option<(StreamId, &Stream<T>)> {
        let slot = self.schedule.first()?;
        let stream = self.slots.get(slot as usize)?;
        let number = stream.number;
        Some((StreamId { number, slot }, stream))
    }

    /// Counts bytes as sent. An incremental stream goes behind the others.
    #[inline]
    pub(crate) fn sent(&mut self, id: StreamId, bytes: usize) {
        let Some(stream) = self.get_mut(id) else {
            return;
        };
        stream.send_window.consume(bytes);
        if stream.priority.incremental {
            self.displace(id);
        }
        self.place(id);
    }

    /// Puts a stream into the schedule, or out of it: it belongs there if it is ready and its
    /// window is open.
    #[inline]
    fn place(&mut self, id: StreamId) {
        let Some(stream) = self.slots.get_mut(id.slot as usize) else {
            return;
        };
        let can_send = stream.is_ready && stream.send_window.bytes() > 0;
        match stream.key {
            None if can_send => {
                let key = self.schedule.key(stream.priority, id.number);
                stream.key = Some(key);
                self.schedule.insert(key, id.slot);
            }
            Some(_) if !can_send => self.displace(id),
            _ => {}
        }
    }

    /// Takes a stream out of the schedule.
    #[inline]
    fn displace(&mut self, id: StreamId) {
        let Some(stream) = self.slots.get_mut(id.slot as usize) else {
            return;
        };
        if let Some(key) = stream.key.take() {
            self.schedule.remove(key);
        }
    }

    /// Returns memory that is not in use, but for [`KEPT`] streams.
    pub(crate) fn shrink(&mut self) {
        if self.slots.is_empty() {
            if self.slots.capacity() > KEPT {
                self.slots = Slab::new();
                self.numbers = VecDeque::new();
            }
            self.closed.shrink();
            self.schedule.shrink();
        }
    }
}
