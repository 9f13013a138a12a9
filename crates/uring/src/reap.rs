//! What a completion does to its op.

use std::mem;
use std::os::fd::OwnedFd;
use std::task::Waker;

use slab::Slab;

use crate::buffers::Buffers;
use crate::resources::OpResources;
use crate::shares::Permit;
use crate::slot::{Completion, Item, Key, ResultKind, Slot, State, opened, release};

/// Filled buffers that a stream queues for a slow reader before it is paused.
const BUFFER_QUEUE_MAX: usize = 4;

/// Descriptors (accepted connections) that it queues.
const FD_QUEUE_MAX: usize = 256;

/// Output of a turn. Wakers are called and values dropped once the ring is no longer borrowed,
/// since either may re-enter it.
#[derive(Default)]
pub(crate) struct Reaped {
    pub(crate) wakers: Vec<Waker>,
    pub(crate) released: Vec<OpResources>,
    /// Permits of completed ops whose futures are not polled yet.
    pub(crate) permits: Vec<Permit>,
    /// Streams whose readers are behind.
    pub(crate) overfull: Vec<Key>,
    /// The doorbell was rung; whether its poll goes on.
    pub(crate) rung: Option<bool>,
    /// Opened files whose future is gone.
    pub(crate) opened: Vec<(OwnedFd, Option<Box<Permit>>)>,
}

/// Accounts for the buffer that `completion` names. A buffer without bytes (the end of a
/// connection, an error) is republished at once, since nothing reads it.
pub(crate) fn note_buffer(completion: Completion, buffers: &Buffers) -> Completion {
    let Some(id) = completion.buffer else {
        return completion;
    };
    buffers.fill();
    if completion.result > 0 {
        return completion;
    }
    buffers.publish(id);
    Completion {
        buffer: None,
        ..completion
    }
}

/// Completions that a stream queues for a slow reader before it is paused.
fn queue_max(result_kind: ResultKind) -> usize {
    match result_kind {
        ResultKind::Buffer => BUFFER_QUEUE_MAX,
        _ => FD_QUEUE_MAX,
    }
}

/// Brings a completion to its op.
pub(crate) fn settle(
    slots: &mut Slab<Slot>,
    key: Key,
    completion: Completion,
    buffers: &Buffers,
    reaped: &mut Reaped,
) {
    let Some(slot) = slots
        .get_mut(key.index as usize)
        .filter(|slot| slot.generation == key.generation)
    else {
        debug_assert!(false, "a completion without an op");
        return;
    };
    if slot.result_kind == ResultKind::Closed {
        slot.resources.closed();
    }
    match &mut slot.state {
        State::Waiting(waker) => {
            reaped.wakers.extend(waker.take());
            slot.state = State::Done(completion);
            if slot.result_kind == ResultKind::Nothing {
                reaped
                    .permits
                    .extend(slot.resources.permit.take().map(|permit| *permit));
            }
        }
        State::Stream(stream) => {
            stream.ended = !completion.more;
            stream.queue.push(Item::Completion(completion));
            reaped.wakers.extend(stream.waker.take());
            if completion.more
                && stream.queue.len() >= queue_max(slot.result_kind)
                && !mem::replace(&mut stream.paused, true)
            {
                reaped.overfull.push(key);
            }
        }
        State::Orphaned => {
            match opened(completion, &slot.resources) {
                Some(fd) => reaped.opened.push((fd, slot.resources.permit.take())),
                None => release(slot.result_kind, completion, &slot.resources, buffers),
            }
            if !completion.more {
                let slot = slots.remove(key.index as usize);
                reaped.released.push(slot.resources);
            }
        }
        State::Done(_) => debug_assert!(false, "a second completion of a single op"),
    }
}

/// Copies the bytes of `item` out of its provided buffer.
pub(crate) fn spill_item(item: &mut Item, buffers: &Buffers) {
    let Item::Completion(completion) = *item else {
        return;
    };
    let Some(id) = completion.buffer else {
        return;
    };
    let bytes = buffers.bytes(id, completion.result.max(0) as usize);
    *item = Item::Spilled(Box::new(bytes.to_vec()));
    buffers.publish(id);
}
