//! What a core gives back while memory is short.

use std::iter;

use tidegate_uring::unsent_bytes;

use crate::context::Context;
use crate::memory::Step;
use crate::observe::metrics::Relief;

/// One of this many connections is ended at a reading if none is idle: the slowest.
const CONNECTIONS_PER_SLOW_ENDED: usize = 64;

/// Acts on the last reading of the memory: gives back half of what is cached, and once there is
/// nothing more of that, ends idle connections, or else the slowest ones. Clients that wait to be
/// accepted look again.
pub(crate) fn relieve(context: &Context) {
    let sites = &context.snapshot().sites;
    match context.memory.step(|| context.timers.unsent(unsent_bytes)) {
        Some(Step::GiveBack) if sites.give_back() => {
            context.metrics.core().relief.count(Relief::CacheShrunk);
        }
        Some(Step::GiveBack) => {
            let ended = || context.timers.counts().ended_for_room;
            let before = ended();
            if !context.timers.end_longest_idle() {
                end_slowest(context);
            }
            let relief = &context.metrics.core().relief;
            relief.of(Relief::IdleClosed).add(ended() - before);
        }
        Some(Step::Regrow) => {
            sites.regrow();
        }
        None => {}
    }
    context.memory.wake();
}

/// Ends the slowest connections: those that hold memory for a few bytes a second would keep all
/// others out.
fn end_slowest(context: &Context) {
    let timers = &context.timers;
    let count = timers.len().div_ceil(CONNECTIONS_PER_SLOW_ENDED);
    for slow in iter::from_fn(|| timers.end_slowest()).take(count) {
        context.report_slow(&slow);
    }
}
