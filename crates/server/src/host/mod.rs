//! What the host and its limits give.

pub(crate) mod cgroup;
pub(crate) mod cores;
pub(crate) mod diagnose;
pub(crate) mod limits;
pub(crate) mod locked;
pub(crate) mod report;
