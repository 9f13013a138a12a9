//! Counts the memory of the process against its budget, and gives some back when it runs short.
//!
//! `host/limits.rs` divides the budget between pools, caches and connections at the start. Here it
//! is watched: a thread reads what is used and tells all cores, which give back what they have
//! cached and let new clients wait while more than nine tenths are used.

pub(crate) mod core_memory;
pub(crate) mod held;
pub(crate) mod pressure;
pub(crate) mod watch;

pub(crate) use core_memory::{CoreMemory, Step, Transfer};
pub(crate) use held::{Held, Part, held_bytes};
pub(crate) use pressure::Pressure;
