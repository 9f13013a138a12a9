//! The thread of a worker.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::Sender;
use std::thread;

use tidegate_site::READER_THREADS;
use tidegate_uring::executor::{Executor, explain_panic};

use crate::control::ControlReceiver;
use crate::error::Error;
use crate::event::Event;
use crate::host::cores;
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
    // Not earlier, or the executor's blocking threads would be pinned too.
    cores::pin(config.core);
    executor.run(worker::run(config, control, |event| {
        let _ = events.send(event);
    }))
}

fn executor(shard: usize) -> Result<Executor, Error> {
    // Its blocking threads read directories.
    Executor::new(&format!("shard-{shard}"), READER_THREADS).map_err(|error| Error::Shard {
        shard,
        operation: "make its executor",
        source: error.into(),
    })
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    explain_panic(text.unwrap_or("panic without a message"))
}
