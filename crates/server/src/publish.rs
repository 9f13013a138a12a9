//! What a core publishes for scrapes: every two seconds, and when someone scrapes.

use std::time::Instant;

use tidegate_sendfile::PoolStats;
use tidegate_site::{CacheStats, TableStats};
use tidegate_uring::RingStats;

use crate::context::Context;
use crate::memory::{Part, held_bytes};
use crate::observe::counters::Kind as _;
use crate::observe::metrics::{
    Chunk, ConnectionState, PipeState, Published, RecvBuffer, Source, Table, TableValues, Timeout,
    Wait, WorkerOp,
};
use crate::timeouts::{Phase, PhaseCounts};

/// Publishes the state of the core's connections, caches, pipes and ring, and its last minutes.
pub(crate) fn publish(context: &Context) {
    context.metrics.publish_recent(Instant::now());
    let core = context.metrics.core();
    let published = &core.published;
    connections(published, &context.timers.counts());
    let stalled = core.stalled_transfers.get();
    let counts = context.timers.counts();
    let waits = counts.expired(Phase::Send) + counts.expired(Phase::Window);
    published
        .timeouts
        .of(Timeout::SendStall)
        .set(waits + stalled);
    cache(published, &context.snapshot().sites.cache_stats());
    pipes(published, &context.io.pipes.stats());
    ring(published, &context.io.ring.stats());
    published.unsent.set(context.memory.unsent());
    for part in Part::ALL {
        published.held.of(*part).set(held_bytes(*part));
    }
}

fn connections(published: &Published, counts: &PhaseCounts) {
    let states = [
        (ConnectionState::New, Phase::AwaitingFirstRequest),
        (ConnectionState::Idle, Phase::Idle),
        (ConnectionState::Request, Phase::Request),
        (ConnectionState::Send, Phase::Send),
        (ConnectionState::Transfer, Phase::Transfer),
        (ConnectionState::Linger, Phase::Linger),
    ];
    for (state, phase) in states {
        let mut connections = counts.connections(phase) as u64;
        if phase == Phase::Send {
            connections += counts.connections(Phase::Window) as u64;
        }
        published.connections.of(state).set(connections);
    }
    let header = counts.expired(Phase::AwaitingFirstRequest) + counts.expired(Phase::Request);
    let timeouts = [
        (Timeout::Header, header),
        (Timeout::KeepAlive, counts.expired(Phase::Idle)),
        (Timeout::Linger, counts.expired(Phase::Linger)),
    ];
    for (timeout, count) in timeouts {
        published.timeouts.of(timeout).set(count);
    }
    published.ended_for_room.set(counts.ended_for_room);
}

fn cache(published: &Published, stats: &CacheStats) {
    table(&published.tables[Table::Hot as usize], &stats.hot);
    table(&published.tables[Table::Files as usize], &stats.files);
    table(&published.tables[Table::Negative as usize], &stats.negative);
}

fn table(values: &TableValues, stats: &TableStats) {
    values.entries.set(stats.entries as u64);
    values.weight.set(stats.weight);
    values.weight_max.set(stats.weight_max);
    values.evictions.set(stats.evictions);
}

fn pipes(published: &Published, stats: &PoolStats) {
    let in_use = stats.pipes - stats.idle - stats.parked;
    let pipes = &published.pipes;
    pipes.of(PipeState::Idle).set(stats.idle as u64);
    pipes.of(PipeState::InUse).set(in_use as u64);
    pipes.of(PipeState::Parked).set(stats.parked as u64);
    published.pipe_pages.set(stats.pages as u64);
    published.pipes_made.set(stats.pipes_made);
    published.pipes_taken.set(stats.pipes_taken);
    let waiting = &published.waiting;
    waiting.of(Wait::Pipe).set(stats.waiting as u64);
    waiting.of(Wait::Disk).set(stats.cold_waiting as u64);
    waiting.of(Wait::Readahead).set(stats.ahead_waiting as u64);
    published.disk_reads.set(stats.cold as u64);
    published.chunks.of(Chunk::Memory).set(stats.chunks_inline);
    published.chunks.of(Chunk::Disk).set(stats.chunks_cold);
    published.prefetches.set(stats.prefetches);
    published.file_bytes.of(Source::Hot).set(stats.bytes_inline);
    published.file_bytes.of(Source::Cold).set(stats.bytes_cold);
}

fn ring(published: &Published, stats: &RingStats) {
    published.ops_in_flight.set(stats.in_flight as u64);
    published.ops_queued.set(stats.queued as u64);
    let ops = &published.worker_ops;
    ops.of(WorkerOp::Open).set(stats.worker_ops.open);
    ops.of(WorkerOp::Stat).set(stats.worker_ops.stat);
    ops.of(WorkerOp::Read).set(stats.worker_ops.read);
    ops.of(WorkerOp::Splice).set(stats.worker_ops.splice);
    ops.of(WorkerOp::Advise).set(stats.worker_ops.advise);
    let buffers = &published.recv_buffers;
    let unused = stats.buffers_max - stats.buffers_free - stats.buffers_filled;
    buffers.of(RecvBuffer::Free).set(stats.buffers_free as u64);
    buffers
        .of(RecvBuffer::Filled)
        .set(stats.buffers_filled as u64);
    buffers.of(RecvBuffer::Unused).set(unused as u64);
    published
        .recv_buffers_exhausted
        .set(stats.buffers_exhausted);
}
