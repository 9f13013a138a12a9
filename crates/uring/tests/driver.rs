//! The driver: it sleeps when nothing is to be done, and gets its turn beside busy tasks.

mod support;

use std::cell::Cell;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use rustix::net::SendFlags;
use support::{arm, child, is_child, pipe, ring, run, settle, socket_pair};
use tidegate_uring::{Config, Fd, Ring};

/// Turns after which a ready op must have been seen.
const TURNS_MAX: usize = 1000;

/// Twice what glommio counts to.
const YIELDS: usize = 70_000;

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

/// Starts `command`, waits until the child says that it is idle and for what comes after that.
/// `None` if it ends before.
fn start_idle(mut command: Command) -> Option<Idle> {
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
        if stdout.read_line(&mut line).unwrap() == 0 {
            child.wait().unwrap();
            return None;
        }
    }
    thread::sleep(Duration::from_millis(300));
    Some(Idle {
        child,
        stdin,
        stdout,
    })
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
    let started = start_idle(child(name)).expect("the child says that it is idle");
    let before = activity(started.child.id());
    thread::sleep(Duration::from_secs(1));
    assert_eq!(activity(started.child.id()), before);
    end(started);
    assert_no_calls(&child(name));
}

/// The same under strace(1), where that is installed and allowed to trace.
fn assert_no_calls(command: &Command) {
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut traced = Command::new("strace");
    traced
        .args(["-f", "-o"])
        .arg(log.path())
        .arg(command.get_program())
        .args(command.get_args())
        .env(support::CHILD, "1");
    if Command::new("strace").arg("-V").output().is_err() {
        return eprintln!("strace is not installed: skipped");
    }
    let Some(started) = start_idle(traced) else {
        return eprintln!("strace may not trace here: skipped");
    };
    let before = std::fs::read(log.path()).unwrap();
    assert!(!before.is_empty());
    thread::sleep(Duration::from_secs(1));
    let after = std::fs::read(log.path()).unwrap();
    assert_eq!(after.len(), before.len());
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
                    workers: 2,
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
