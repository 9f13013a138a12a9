//! Seccomp: the system calls that serving needs. Others fail with EPERM.
//!
//! Calls that depend on their number alone are decided once, when the filter is installed: the
//! kernel keeps a bit for each. So their order is of no matter, and `io_uring_enter`, the one that
//! is called most, costs a test of its bit.

use std::collections::BTreeMap;
use std::env::consts::ARCH;
use std::process;

use libc::{c_long, c_ulong};
use rustix::io::Errno;
use rustix::process::getsid;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};

use crate::error::Error;

/// Calls that are allowed whatever their arguments are.
const ALLOWED: &[c_long] = &[
    // Serving.
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_preadv2,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_pwritev2,
    libc::SYS_splice,
    libc::SYS_tee,
    libc::SYS_vmsplice,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_pipe2,
    libc::SYS_shutdown,
    libc::SYS_accept4,
    libc::SYS_accept,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_connect,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_recvmmsg,
    libc::SYS_sendmmsg,
    // Files: landlock and their modes say which.
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_statx,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_readlinkat,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_getdents64,
    libc::SYS_lseek,
    libc::SYS_getcwd,
    libc::SYS_fadvise64,
    libc::SYS_readahead,
    libc::SYS_mincore,
    libc::SYS_sendfile,
    libc::SYS_copy_file_range,
    libc::SYS_fcntl,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_flock,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync_file_range,
    libc::SYS_syncfs,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_utimensat,
    libc::SYS_umask,
    libc::SYS_fgetxattr,
    // Memory.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_mlock,
    libc::SYS_munlock,
    libc::SYS_membarrier,
    // Threads, time, signals.
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_rseq,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getgroups,
    libc::SYS_getresuid,
    libc::SYS_getresgid,
    libc::SYS_capget,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_getcpu,
    libc::SYS_getpriority,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_gettimeofday,
    libc::SYS_times,
    libc::SYS_getrusage,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    libc::SYS_getrandom,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sigaltstack,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_timerfd_gettime,
    libc::SYS_eventfd2,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_inotify_init1,
    libc::SYS_inotify_add_watch,
    libc::SYS_inotify_rm_watch,
    libc::SYS_wait4,
    libc::SYS_waitid,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // Refused by the other filter, as by an old kernel.
    libc::SYS_clone3,
];

/// The older forms of calls that x86-64 has beside those above.
#[cfg(target_arch = "x86_64")]
const ALLOWED_OLD: &[c_long] = &[
    libc::SYS_access,
    libc::SYS_arch_prctl,
    libc::SYS_chmod,
    libc::SYS_epoll_wait,
    libc::SYS_lstat,
    libc::SYS_mkdir,
    libc::SYS_open,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_readlink,
    libc::SYS_rename,
    libc::SYS_rmdir,
    libc::SYS_select,
    libc::SYS_stat,
    libc::SYS_time,
    libc::SYS_unlink,
];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_OLD: &[c_long] = &[libc::SYS_renameat];

/// Sockets of these families: the network and Unix; and netlink for routes alone, which the
/// resolver asks for addresses of the host.
const FAMILIES: [i32; 3] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6];

/// Requests of ioctl(2): to block or not, how much waits in a socket, whether it is a terminal.
const IOCTLS: [c_ulong; 6] = [
    libc::FIONBIO,
    libc::FIONREAD,
    libc::FIOCLEX,
    libc::TIOCOUTQ,
    libc::TCGETS,
    libc::TIOCGWINSZ,
];

/// `PR_GET_AUXV`: what the kernel told the process of itself at its start, such as the size of a
/// page. The file of it in /proc is not to be read once the user has changed.
const PR_GET_AUXV: i32 = 0x4155_5856;

/// Names of threads and of memory.
const PRCTLS: [i32; 4] = [
    libc::PR_SET_NAME,
    libc::PR_GET_NAME,
    libc::PR_SET_VMA,
    PR_GET_AUXV,
];

/// Has all other calls refused, by this thread and those that it starts. False: the kernel has no
/// seccomp.
pub(super) fn restrict() -> Result<bool, Error> {
    // First the one that does not need the other's leave.
    for filter in [clone3()?, allowed()?] {
        match apply_filter(&filter) {
            Ok(()) => {}
            Err(seccompiler::Error::Seccomp(error) | seccompiler::Error::Prctl(error))
                if [libc::ENOSYS, libc::EINVAL].contains(&error.raw_os_error().unwrap_or(0)) =>
            {
                return Ok(false);
            }
            Err(error) => return Err(Error::Seccomp(error)),
        }
    }
    Ok(true)
}

/// As [`restrict`], and whether it then refuses a harmless call that serving does not need.
pub(super) fn try_bounds() -> Result<bool, Error> {
    Ok(restrict()? && getsid(None) == Err(Errno::PERM))
}

/// How many calls are allowed, some of them with certain arguments only.
pub(super) fn count() -> usize {
    rules().map_or(0, |rules| rules.len() - 1)
}

/// clone3(2) has its flags in memory, where no filter sees them. The C library takes ENOSYS for an
/// old kernel, and starts its threads with clone(2).
fn clone3() -> Result<BpfProgram, Error> {
    let rules = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let refuse = SeccompAction::Errno(libc::ENOSYS as u32);
    compile(rules, SeccompAction::Allow, refuse)
}

fn allowed() -> Result<BpfProgram, Error> {
    compile(
        rules()
            .map_err(seccompiler::Error::from)
            .map_err(Error::Seccomp)?,
        SeccompAction::Errno(libc::EPERM as u32),
        SeccompAction::Allow,
    )
}

type Rules = BTreeMap<c_long, Vec<SeccompRule>>;

fn compile(rules: Rules, others: SeccompAction, these: SeccompAction) -> Result<BpfProgram, Error> {
    let failed = |error: seccompiler::BackendError| Error::Seccomp(error.into());
    let architecture = ARCH.try_into().map_err(failed)?;
    let filter = SeccompFilter::new(rules, others, these, architecture).map_err(failed)?;
    filter.try_into().map_err(failed)
}

fn rules() -> Result<Rules, seccompiler::BackendError> {
    let mut all: Rules = BTreeMap::new();
    for call in ALLOWED.iter().chain(ALLOWED_OLD) {
        all.insert(*call, Vec::new());
    }
    let mut sockets = Vec::new();
    for family in FAMILIES {
        sockets.push(rule([is(0, family as u64)?])?);
    }
    let route = is(2, libc::NETLINK_ROUTE as u64)?;
    sockets.push(rule([is(0, libc::AF_NETLINK as u64)?, route])?);
    all.insert(libc::SYS_socket, sockets);
    let pair = rule([is(0, libc::AF_UNIX as u64)?])?;
    all.insert(libc::SYS_socketpair, vec![pair]);
    // Threads alone: no process.
    let thread = libc::CLONE_THREAD as u64;
    let is_thread = has(0, thread, thread)?;
    all.insert(libc::SYS_clone, vec![rule([is_thread])?]);
    let own = is(0, u64::from(process::id()))?;
    all.insert(libc::SYS_tgkill, vec![rule([own])?]);
    if process::id() == 1 {
        // Process 1 passes signals on to its successors.
        all.insert(libc::SYS_kill, Vec::new());
    }
    // Memory is never both written and run, and is not made to be run later. A file that was written
    // may still be mapped to be run, as a library is.
    let (write, run) = (libc::PROT_WRITE as u64, libc::PROT_EXEC as u64);
    let mapped = vec![rule([has(2, write, 0)?])?, rule([has(2, run, 0)?])?];
    all.insert(libc::SYS_mmap, mapped);
    all.insert(libc::SYS_mprotect, vec![rule([has(2, run, 0)?])?]);
    // Limits are read, of this process.
    let reads = rule([is(0, 0)?, is_word(2, 0)?])?;
    all.insert(libc::SYS_prlimit64, vec![reads]);
    let mut ioctls = Vec::new();
    for request in IOCTLS {
        ioctls.push(rule([is(1, request)?])?);
    }
    all.insert(libc::SYS_ioctl, ioctls);
    let mut prctls = Vec::new();
    for option in PRCTLS {
        prctls.push(rule([is(0, option as u64)?])?);
    }
    all.insert(libc::SYS_prctl, prctls);
    Ok(all)
}

/// All conditions hold.
fn rule<const N: usize>(
    conditions: [SeccompCondition; N],
) -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(conditions.into())
}

/// Argument `number`, of 32 bits, is `value`.
fn is(number: u8, value: u64) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(number, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
}

/// Argument `number`, of 64 bits, is `value`.
fn is_word(number: u8, value: u64) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(number, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, value)
}

/// The bits `mask` of argument `number`, of 32 bits, are `value`.
fn has(number: u8, mask: u64, value: u64) -> Result<SeccompCondition, seccompiler::BackendError> {
    let operator = SeccompCmpOp::MaskedEq(mask);
    SeccompCondition::new(number, SeccompCmpArgLen::Dword, operator, value)
}
