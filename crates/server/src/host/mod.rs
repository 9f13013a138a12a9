//! The host: its cores and limits, and the faults of a configuration on it.

pub(crate) mod budget;
pub(crate) mod cgroup;
pub(crate) mod cores;
pub(crate) mod diagnose;
pub(crate) mod finding;
pub(crate) mod limits;
pub(crate) mod locked;
pub(crate) mod report;
pub(crate) mod system;
pub(crate) mod threads;
pub(crate) mod users;
