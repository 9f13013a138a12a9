//! The memory of the process has keys: a crash does not leave it on the disk.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// 0 bounds files alone. 1 ends a dump to a program, too (`kernel.core_pattern`): the kernel takes it
/// for a dump of that program.
const NO_DUMP: u64 = 1;

/// Has no crash of this process leave a dump, whatever takes dumps on this host. False: one may.
pub(super) fn forbid() -> bool {
    let limit = Rlimit {
        current: Some(NO_DUMP),
        maximum: Some(NO_DUMP),
    };
    // An error means that the hard limit is lower: 0.
    let _ = setrlimit(Resource::Core, limit);
    let limit = getrlimit(Resource::Core);
    limit.current.is_some_and(|limit| limit <= NO_DUMP)
}
