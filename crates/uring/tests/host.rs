//! What is said where a host does not allow io_uring, and of settings that no ring can have.

mod support;

use std::thread;

use rustix::process::{Resource, Rlimit, setrlimit};
use support::{child, is_child, run, watch};
use tidegate_uring::{Config, Error, Ring, probe};

#[test]
fn this_host_will_do() {
    let features = probe().unwrap();
    println!("{features:?}");
}

#[test]
fn too_little_locked_memory_is_explained_with_its_remedy() {
    let _watched = watch();
    if is_child() {
        let few = Some(64 * 1024);
        let limit = Rlimit {
            current: few,
            maximum: few,
        };
        setrlimit(Resource::Memlock, limit).unwrap();
        let error = probe().unwrap_err();
        assert!(matches!(
            error,
            Error::LockedMemory {
                limit: 65_536,
                needed: 524_288
            }
        ));
        let message = error.to_string();
        for part in ["RLIMIT_MEMLOCK", "65536", "524288", "ulimit -l"] {
            assert!(message.contains(part), "{message}");
        }
        return;
    }
    let status = child("too_little_locked_memory_is_explained_with_its_remedy").status();
    assert!(status.unwrap().success());
}

/// Makes `io_uring_setup(2)` fail with `errno` for the calling thread from here on.
fn forbid(errno: u16) {
    const LOAD_NUMBER: libc::sock_filter = statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0);
    const ALLOW: libc::sock_filter =
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW);
    const fn statement(code: u32, k: u32) -> libc::sock_filter {
        libc::sock_filter {
            code: code as u16,
            jt: 0,
            jf: 0,
            k,
        }
    }
    let is_setup = libc::sock_filter {
        jf: 1,
        ..statement(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            libc::SYS_io_uring_setup as u32,
        )
    };
    let refuse = statement(
        libc::BPF_RET | libc::BPF_K,
        libc::SECCOMP_RET_ERRNO | u32::from(errno),
    );
    let mut filter = [LOAD_NUMBER, is_setup, refuse, ALLOW];
    let program = libc::sock_fprog {
        len: 4,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: a call with integers only.
    let answer = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(answer, 0);
    // SAFETY: the program and its four instructions live until the call is over; the kernel
    // copies them.
    let answer = unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const program,
        )
    };
    assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
}

/// The answer of `probe` on a thread where `io_uring_setup(2)` fails with `errno`.
fn probe_with(errno: i32) -> Error {
    thread::spawn(move || {
        forbid(errno as u16);
        probe().unwrap_err()
    })
    .join()
    .unwrap()
}

#[test]
fn a_filter_that_forbids_io_uring_is_explained_with_its_remedy() {
    let error = probe_with(libc::EPERM);
    assert!(matches!(
        error,
        Error::Forbidden(_) | Error::SwitchedOff { .. }
    ));
    let message = error.to_string();
    if matches!(error, Error::Forbidden(_)) {
        for part in ["seccomp", "io_uring_setup", "io_uring_enter", "allow"] {
            assert!(message.contains(part), "{message}");
        }
    }
}

#[test]
fn a_kernel_without_io_uring_is_explained_with_its_remedy() {
    let error = probe_with(libc::ENOSYS);
    assert!(matches!(error, Error::Missing(_)));
    let message = error.to_string();
    for part in ["Linux 6.1", "CONFIG_IO_URING", "seccomp"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn a_kernel_that_is_too_old_is_named() {
    let error = probe_with(libc::EINVAL);
    assert!(matches!(error, Error::TooOld { .. }));
    let release = rustix::system::uname();
    assert!(
        error
            .to_string()
            .contains(&*release.release().to_string_lossy())
    );
}

fn bad_settings() -> Vec<Config> {
    let good = Config::default;
    vec![
        Config {
            entries: 0,
            ..good()
        },
        Config {
            entries: 3,
            ..good()
        },
        Config {
            entries: 65_536,
            completions: 65_536,
            ..good()
        },
        Config {
            completions: 512,
            ..good()
        },
        Config {
            completions: 5000,
            ..good()
        },
        Config {
            completions: 131_072,
            ..good()
        },
        Config {
            recv_buffers: 0,
            ..good()
        },
        Config {
            recv_buffers: 3,
            ..good()
        },
        Config {
            recv_buffer_bytes: 0,
            ..good()
        },
        Config {
            recv_buffer_bytes: usize::MAX / 1024 + 2,
            ..good()
        },
        Config {
            worker_cpus: vec![100_000],
            ..good()
        },
    ]
}

#[test]
fn settings_that_no_ring_can_have_are_refused_and_not_blamed_on_the_kernel() {
    let good = Config::default;
    run(async {
        for config in bad_settings() {
            let Err(error) = Ring::start(&config) else {
                panic!("a ring of {config:?}");
            };
            assert!(
                matches!(&error, Error::Setup { reason, .. }
                    if reason.kind() == std::io::ErrorKind::InvalidInput),
                "{config:?}: {error:?}"
            );
        }
        drop(
            Ring::start(&Config {
                workers: 0,
                ..good()
            })
            .unwrap(),
        );
        let largest = Config {
            entries: 32_768,
            completions: 65_536,
            recv_buffers: 32_768,
            ..good()
        };
        drop(Ring::start(&largest).unwrap());
    });
}
