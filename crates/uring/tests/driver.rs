//! The driver: it sleeps when there is no work, and gets its turn beside busy tasks.

#[path = "../../../tests/support/skip.rs"]
mod skip;
mod support;

use std::cell::Cell;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::SendFlags;
use skip::skipped;
use support::{arm, child, conversation, is_child, pipe, ring, run, settle, socket_pair};
use tidegate_uring::{Config, Fd, Ring};

/// Turns after which a ready op must have been seen.
const TURNS_MAX: usize = 1000;

/// Seconds for an idle child to come to rest; one of them must be quiet.
const RESTS_MAX: usize = 100;

/// Twice what glommio counts to.
const YIELDS: usize = 70_000;

/// Bytes that a conversation with pauses sends to and fro.
const EXCHANGES: usize = 20;

/// Bytes sent to and fro in which a timer must have come.
const EXCHANGES_MAX: usize = 1_000_000;

#[test]
fn yield_now_lets_completions_in_beside_a_task_that_spins() {
    run(async {
        let ring = ring();
        let (reader, writer) = pipe();
        let seen = Rc::new(Cell::new(0));
        let (task_ring, task_seen) = (ring.clone(), Rc::clone(&seen));
        glommio::spawn_local(async move {
            loop {
                let (count, _) = task_ring.read(&reader, Vec::with_capacity(1), None).await;
                task_seen.set(task_seen.get() + count.unwrap());
            }
        })
        .detach();
        for round in 1..=20 {
            rustix::io::write(&writer, b"x").unwrap();
            let mut turns = 0;
            while seen.get() < round && turns < TURNS_MAX {
                ring.yield_now().await;
                turns += 1;
            }
            assert_eq!(seen.get(), round);
        }
    });
}

/// glommio counts a task's wakers in 16 bits, and a read of its own keeps one of each poll.
#[test]
fn a_task_that_yields_for_long_leaves_the_driver_its_wakers() {
    run(async {
        let ring = ring();
        // The driver sleeps, and is woken by each yield to find nothing.
        glommio::timer::sleep(Duration::from_millis(100)).await;
        for _ in 0..YIELDS {
            ring.yield_now().await;
        }
        ring.nop().await.unwrap();
    });
}

#[test]
fn timers_come_through_beside_a_conversation_that_never_pauses() {
    run(async {
        let ring = ring();
        let (socket, mut peer) = socket_pair();
        // Ends with the socket, whose last op ends with the ring.
        thread::spawn(move || {
            let mut byte = [0];
            while peer.read_exact(&mut byte).is_ok() {
                peer.write_all(&byte).unwrap();
            }
        });
        let over = Rc::new(Cell::new(false));
        let timer_over = Rc::clone(&over);
        let timer = ring.spawn(async move {
            glommio::timer::sleep(Duration::from_millis(5)).await;
            timer_over.set(true);
        });
        let talk_ring = ring.clone();
        let talk = ring.spawn(async move {
            let mut recv = talk_ring.recv(&socket);
            for _ in 0..EXCHANGES_MAX {
                if over.get() {
                    return;
                }
                talk_ring
                    .send(&socket, "x".into(), SendFlags::empty())
                    .await
                    .unwrap();
                assert_eq!(&*recv.next().await.unwrap().unwrap(), b"x");
            }
            panic!("the timer never came");
        });
        talk.await;
        timer.await;
    });
}

/// Sleeps, and waits for blocking work, so many times.
async fn wait_in_turn(times: u32) {
    for _ in 0..times {
        tidegate_uring::sleep(Duration::from_millis(1)).await;
        tidegate_uring::run_blocking(|| ()).await.unwrap();
    }
}

#[test]
fn sleeps_and_blocking_work_end_soon_beside_a_conversation() {
    run(async {
        let ring = ring();
        let listens = conversation(&ring);
        // Each is up to 10 ms late; it would be up to 100 if the executor only looked at its events
        // when its own timer tells it to. On a busy machine one of a few tries is undisturbed.
        let is_soon = async || {
            let start = Instant::now();
            ring.spawn(wait_in_turn(10)).await;
            start.elapsed() < Duration::from_millis(400)
        };
        let mut tries = 0;
        while !is_soon().await {
            tries += 1;
            assert!(tries < 10, "they end late");
        }
        listens.cancel().await;
    });
}

/// The child: a conversation that pauses, so that the executor sleeps again and again.
fn converse() {
    run(async {
        let ring = ring();
        let (socket, mut peer) = socket_pair();
        let talk = thread::spawn(move || {
            let mut byte = [0];
            for _ in 0..EXCHANGES {
                thread::sleep(Duration::from_millis(60));
                peer.write_all(b"x").unwrap();
                peer.read_exact(&mut byte).unwrap();
            }
        });
        let mut recv = ring.recv(&socket);
        for _ in 0..EXCHANGES {
            assert_eq!(&*recv.next().await.unwrap().unwrap(), b"x");
            let sent = ring.send(&socket, "x".into(), SendFlags::empty());
            sent.await.unwrap();
        }
        talk.join().unwrap();
    });
}

/// As on a machine that is busy with others: the executor does not run for a while just after it
/// set its timer, so that the timer is over before the first task had its turn.
#[test]
fn tasks_are_not_slept_over_when_the_executor_was_kept_from_running() {
    let name = "tasks_are_not_slept_over_when_the_executor_was_kept_from_running";
    if is_child() {
        return converse();
    }
    // It sleeps and wakes with some eight calls: one of these is the one. A few children at a time,
    // since their rings share the memory that one user may lock.
    for calls in (40..60).collect::<Vec<_>>().chunks(5) {
        let tries = calls.iter().map(|call| {
            let delay = format!("inject=io_uring_enter:delay_exit=150ms:when={call}");
            let command = strace(&["-e", "trace=io_uring_enter", "-e", &delay], &child(name));
            (call, command.map(spawn_quiet))
        });
        for (call, started) in tries.collect::<Vec<_>>() {
            let Some(mut started) = started else {
                return;
            };
            let status = started.wait().unwrap();
            assert!(status.success(), "{call}: {status}");
        }
    }
}

fn spawn_quiet(mut command: Command) -> Child {
    let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
    quiet.spawn().unwrap()
}

/// `command` under strace(1) with `options`; `None`, and says so, where that is not installed or
/// not allowed to trace.
fn strace(options: &[&str], command: &Command) -> Option<Command> {
    let mut probe = Command::new("strace");
    let probed = probe.args(["-o", "/dev/null", "true"]).output();
    if !probed.is_ok_and(|output| output.status.success()) {
        skipped("strace is not installed (apt-get install strace), or may not trace here");
        return None;
    }
    let mut traced = Command::new("strace");
    traced
        .arg("-f")
        .args(options)
        .arg(command.get_program())
        .args(command.get_args())
        .env(support::CHILD, "1");
    Some(traced)
}

/// The child: a ring with ops in flight, and nothing to do until its standard input ends.
fn idle() {
    run(async {
        let ring = ring();
        let (socket, _peer) = socket_pair();
        let mut recv = ring.recv(&socket);
        arm(&mut recv).await;
        // It has worked, too, so that what work leaves behind would show.
        for _ in 0..100 {
            drop(ring.pipe().await.unwrap());
        }
        settle(&ring).await;
        let stdin = std::io::stdin();
        let stdin = Fd::from(rustix::io::fcntl_dupfd_cloexec(&stdin, 3).unwrap());
        let end = ring.read(&stdin, Vec::with_capacity(1), None);
        println!("idle");
        assert_eq!(end.await.0.unwrap(), 0);
    });
}

/// A child that is idle until its standard input ends.
struct Idle {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

/// Starts `command`, and waits until the child says that it is idle.
fn start_idle(mut command: Command) -> Idle {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let stdin = child.stdin.take().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.ends_with("idle\n") {
        line.clear();
        let count = stdout.read_line(&mut line).unwrap();
        assert!(count > 0, "the child ended");
    }
    Idle {
        child,
        stdin,
        stdout,
    }
}

/// Waits until `account` stays the same for a second. On a busy machine it takes a while until the
/// child has come to its rest, and once it has it stays there.
fn assert_comes_to_rest<T: PartialEq>(account: impl Fn() -> T) {
    let mut before = account();
    for _ in 0..RESTS_MAX {
        thread::sleep(Duration::from_secs(1));
        let after = account();
        if after == before {
            return;
        }
        before = after;
    }
    panic!("it never rests");
}

fn end(mut idle: Idle) {
    drop(idle.stdin);
    std::io::copy(&mut idle.stdout, &mut std::io::sink()).unwrap();
    assert!(idle.child.wait().unwrap().success());
}

/// Times on a processor and context switches of every thread, as the kernel counts them.
fn activity(process: u32) -> Vec<String> {
    let mut all: Vec<String> = std::fs::read_dir(format!("/proc/{process}/task"))
        .unwrap()
        .map(|task| task_activity(&task.unwrap().path()))
        .collect();
    all.sort();
    all
}

fn task_activity(task: &Path) -> String {
    let status = std::fs::read_to_string(task.join("status")).unwrap();
    let switches: Vec<&str> = status
        .lines()
        .filter(|line| line.contains("ctxt_switches"))
        .collect();
    // Not everywhere, since it takes CONFIG_SCHED_INFO.
    let time = std::fs::read_to_string(task.join("schedstat")).unwrap_or_default();
    format!("{} {switches:?} {time}", task.display())
}

#[test]
fn an_idle_executor_neither_runs_nor_calls_the_kernel() {
    let name = "an_idle_executor_neither_runs_nor_calls_the_kernel";
    if is_child() {
        return idle();
    }
    let started = start_idle(child(name));
    assert_comes_to_rest(|| activity(started.child.id()));
    end(started);
    assert_no_calls(&child(name));
}

/// The same under strace(1).
fn assert_no_calls(command: &Command) {
    let log = tempfile::NamedTempFile::new().unwrap();
    let path = log.path().display().to_string();
    let Some(traced) = strace(&["-o", &path], command) else {
        return;
    };
    let started = start_idle(traced);
    let written = || std::fs::metadata(log.path()).unwrap().len();
    assert!(written() > 0);
    assert_comes_to_rest(written);
    end(started);
}

/// The processors that a worker thread of this thread may run on.
fn worker_cpus(thread: &str) -> Vec<String> {
    std::fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("status")).ok())
        .filter(|status| status.contains(&format!("iou-wrk-{thread}")))
        .filter_map(|status| {
            let line = status
                .lines()
                .find(|l| l.starts_with("Cpus_allowed_list"))?;
            Some(line.split_whitespace().last()?.to_owned())
        })
        .collect()
}

#[test]
fn workers_stay_on_the_processors_of_their_thread_or_those_that_are_named() {
    let allowed = rustix::thread::sched_getaffinity(None).unwrap();
    let cpus: Vec<usize> = (0..1024).filter(|cpu| allowed.is_set(*cpu)).collect();
    let (first, last) = (cpus[0], cpus[cpus.len() - 1]);
    for (worker_cpus_set, expected) in [(Vec::new(), first), (vec![last], last)] {
        thread::spawn(move || {
            let mut only = rustix::thread::CpuSet::new();
            only.set(first);
            rustix::thread::sched_setaffinity(None, &only).unwrap();
            let thread = rustix::thread::gettid().as_raw_nonzero().to_string();
            run(async {
                let ring = Ring::start(&Config {
                    worker_cpus: worker_cpus_set,
                    splice_workers: 2,
                    ..Config::default()
                })
                .unwrap();
                // Blocks a worker: there is nothing in the pipe.
                let (from, _writer) = pipe();
                let (_reader, to) = pipe();
                let to = Fd::from(to);
                let flags = rustix::pipe::SpliceFlags::empty();
                let ops: Vec<_> = (0..6)
                    .map(|_| ring.splice(&from, None, &to, None, 1, flags))
                    .collect();
                support::until("a worker", || !worker_cpus(&thread).is_empty()).await;
                settle(&ring).await;
                for cpus in worker_cpus(&thread) {
                    assert_eq!(cpus, expected.to_string());
                }
                assert!(worker_cpus(&thread).len() <= 4, "two of each kind");
                drop(ops);
            });
        })
        .join()
        .unwrap();
    }
}

#[test]
fn a_slow_worker_does_not_hold_the_ring() {
    run(async {
        let ring = ring();
        let (from, writer) = pipe();
        let (to_reader, to) = pipe();
        let to = Fd::from(to);
        let flags = rustix::pipe::SpliceFlags::empty();
        let splice = ring.splice(&from, None, &to, None, 16, flags);
        let (socket, mut peer) = socket_pair();
        peer.write_all(b"meanwhile").unwrap();
        let mut recv = ring.recv(&socket);
        assert_eq!(support::read_all(&mut recv, 9).await, b"meanwhile");
        rustix::io::write(&writer, b"late").unwrap();
        assert_eq!(splice.await.unwrap(), 4);
        let (count, _) = ring.read(&to_reader, Vec::with_capacity(8), None).await;
        assert_eq!(count.unwrap(), 4);
        let _: OwnedFd = writer;
    });
}
