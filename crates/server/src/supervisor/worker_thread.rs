//! The thread of a worker.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::Sender;
use std::thread;

use glommio::{LocalExecutor, LocalExecutorBuilder, Placement, PoolPlacement};
use tidegate_site::READER_THREADS;

use crate::control::ControlReceiver;
use crate::error::Error;
use crate::event::Event;
use crate::host::cores;
use crate::host::locked::EXECUTOR_IO_BYTES;
use crate::worker::{self, WorkerConfig};

/// Starts a worker's thread. It sends [`Event::Ready`] once it serves, and [`Event::Ended`] when it
/// ends, even by a panic.
pub(crate) fn spawn(
    config: WorkerConfig,
    control: ControlReceiver,
    events: Sender<Event>,
) -> Result<(), Error> {
    let shard = config.number;
    thread::Builder::new()
        .name(format!("shard-{shard}"))
        .spawn(move || {
            let outcome = catch_unwind(AssertUnwindSafe(|| execute(config, control, &events)));
            let result = outcome.unwrap_or_else(|panic| {
                Err(Error::ShardDied {
                    shard,
                    reason: message(&*panic),
                })
            });
            // Fails only while the main thread ends the process.
            let _ = events.send(Event::Ended { shard, result });
        })
        .map(drop)
        .map_err(|source| Error::Shard {
            shard,
            operation: "start its thread",
            source: source.into(),
        })
}

fn execute(
    config: WorkerConfig,
    control: ControlReceiver,
    events: &Sender<Event>,
) -> Result<(), Error> {
    config.heartbeat.begin();
    let executor = executor(config.number)?;
    // Not earlier, or the executor's blocking thread would be pinned too.
    cores::pin(config.core);
    executor.run(worker::run(config, control, |event| {
        let _ = events.send(event);
    }))
}

fn executor(shard: usize) -> Result<LocalExecutor, Error> {
    // glommio panics if it cannot start its blocking thread.
    let thread = thread::Builder::new().spawn(|| {});
    thread.map(drop).map_err(|source| Error::Shard {
        shard,
        operation: "start the thread that reads directories",
        source: source.into(),
    })?;
    // Pinned by the caller, since glommio reads the core from /sys, which may be hidden.
    LocalExecutorBuilder::new(Placement::Unbound)
        .name(&format!("shard-{shard}"))
        .io_memory(EXECUTOR_IO_BYTES)
        // These threads read directories and may run on any core, not first on this one.
        .blocking_thread_pool_placement(PoolPlacement::Unbound(READER_THREADS))
        .make()
        .map_err(|error| Error::Shard {
            shard,
            operation: "make its executor",
            source: error.to_string().into(),
        })
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    explained(text.unwrap_or("panic without a message"))
}

/// Adds the cause that glommio leaves out when the kernel refuses a call for its own rings.
fn explained(panic: &str) -> String {
    let refused = [
        "flush_rings!",
        "OutOfMemory",
        "Failed to poll io",
        "Failed to park",
    ];
    if refused.iter().any(|text| panic.contains(text)) {
        format!("{panic} (the kernel refused an io_uring_enter: is memory short?)")
    } else {
        panic.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_call_is_explained() {
        let all = [
            ("assertion failed: flush_rings!(lat_ring)? > 0", true),
            (
                "Failed to park! This is actually pretty bad!: Os { code: 12 }",
                true,
            ),
            ("index out of bounds", false),
        ];
        for (panic, is_refusal) in all {
            let text = explained(panic);
            assert!(text.starts_with(panic));
            assert_eq!(text.contains("io_uring_enter"), is_refusal, "{text}");
        }
    }
}
