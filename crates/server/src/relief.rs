//! What a core gives back while memory is short.

use tidegate_uring::unsent_bytes;

use crate::context::Context;
use crate::memory::Step;
use crate::observe::metrics::Relief;

/// Acts on the last reading of the memory: gives back half of what is cached, and once there is
/// nothing more of that, ends idle connections. Clients that wait to be accepted look again.
pub(crate) fn relieve(context: &Context) {
    let sites = &context.snapshot().sites;
    match context.memory.step(|| context.timers.unsent(unsent_bytes)) {
        Some(Step::GiveBack) if sites.give_back() => {
            context.metrics.core().relief.count(Relief::CacheShrunk);
        }
        Some(Step::GiveBack) => {
            let ended = || context.timers.counts().ended_for_room;
            let before = ended();
            context.timers.end_longest_idle();
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
