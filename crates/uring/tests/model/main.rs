//! The op ring under a random program, against a model of what each op may return.
//!
//! A program is made of steps, of which each starts an op, polls one, drops one, cancels those on a
//! descriptor, lets the ring take a turn, or has a peer do something. The model knows which bytes an
//! op may get, in which order, and which errors. After some thousands of steps all that is under way
//! is cancelled, and then nothing may be left: no op, buffer, permit, descriptor or memory.
//!
//! The seed decides what each step draws. When the kernel completes an op is up to the kernel, so a
//! replay does the same things, but not always at the same moments.
//!
//! `scripts/model.sh` runs it for long, with `AddressSanitizer`. `TIDEGATE_MODEL_SEED` is the first
//! seed, `TIDEGATE_MODEL_STEPS` the number of steps, each `EPOCH_STEPS` of which have a seed of
//! their own.

#![allow(clippy::similar_names, reason = "rng and ring")]

mod account;
mod connection;
mod expected;
mod file;
mod heartbeat;
#[cfg(feature = "simulation")]
mod kernel;
mod listener;
mod live;
mod pipe;
mod program;
#[path = "../support/mod.rs"]
mod support;

use std::io::Write as _;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use heartbeat::Heartbeat;
use program::{Program, Tally};
use support::{executor, open_fds, watch};
use tidegate_uring::{Owner, sleep};

/// Whoever holds a permit.
const WORKER: Owner = Owner { device: 1, user: 1 };

/// The steps of a seed.
const EPOCH_STEPS: u64 = 10_000;

const STEPS_DEFAULT: u64 = 60_000;

/// How much the queues of the executor may grow, however many the steps are.
const GROWTH_BYTES: usize = 64 * 1024;

/// How often what is left after a seed is looked at, a millisecond apart.
const LOOKS_MAX: usize = 5000;

/// The seed and the step that are under way.
static NOW: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];

#[test]
fn any_program_gets_what_the_model_allows_and_leaves_nothing() {
    if std::env::var_os("TIDEGATE_MODEL_SANITIZED").is_some() {
        account::free_at_once();
    }
    let first = variable("TIDEGATE_MODEL_SEED").unwrap_or(1);
    let steps = variable("TIDEGATE_MODEL_STEPS");
    let seeds = first..first + steps.unwrap_or(STEPS_DEFAULT).div_ceil(EPOCH_STEPS);
    let run = thread::spawn(move || {
        executor().run(async move { tidegate_uring::spawn(all(seeds, steps.is_some())).await })
    });
    let total = run.join().unwrap_or_else(|_| {
        let [seed, step] = NOW.each_ref().map(|number| number.load(Ordering::Relaxed));
        panic!(
            "step {step} of seed {seed}; to replay it: TIDEGATE_MODEL_SEED={seed} \
             TIDEGATE_MODEL_STEPS={EPOCH_STEPS} cargo test -p tidegate-uring --test model"
        )
    });
    for (name, [completed, dropped]) in &total {
        println!("{name:16} {completed:9} completed, {dropped:9} dropped");
        assert!(*completed > 0, "{name}");
    }
}

/// Runs the program of each seed. What one leaves behind, another would have to.
async fn all(seeds: Range<u64>, is_told: bool) -> Tally {
    let _heartbeat = Heartbeat::start();
    let mut total = Tally::new();
    // What is allocated once for all is allocated by the first.
    epoch(seeds.start).await;
    let fds = open_fds();
    let bytes = account::allocated() + GROWTH_BYTES;
    for seed in seeds {
        if is_told {
            // Not by eprintln, which the harness catches and loses when the process aborts.
            let _ = writeln!(std::io::stderr(), "seed {seed}");
        }
        for (name, counts) in epoch(seed).await {
            let sum = total.entry(name).or_default();
            sum[0] += counts[0];
            sum[1] += counts[1];
        }
        look("descriptors", || (open_fds(), fds)).await;
        look("bytes", || (account::allocated(), bytes)).await;
    }
    total
}

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().expect(name))
}

/// Runs the program of `seed`.
async fn epoch(seed: u64) -> Tally {
    let _watched = watch();
    NOW[0].store(seed, Ordering::Relaxed);
    let mut program = Program::new(&mut Rng::with_seed(seed), is_simulated(seed));
    for step in 0..EPOCH_STEPS {
        NOW[1].store(step, Ordering::Relaxed);
        // Of its own, so that how many numbers the steps before have drawn decides nothing.
        let mut rng = Rng::with_seed(seed.wrapping_mul(EPOCH_STEPS).wrapping_add(step));
        program.step(&mut rng).await;
    }
    program.finish(seed.is_multiple_of(2)).await
}

/// Whether the kernel is simulated: then the seed also decides when an op completes, and a replay
/// differs only where the executor's own clock does.
fn is_simulated(seed: u64) -> bool {
    cfg!(feature = "simulation") && seed % 4 >= 2
}

/// Waits until there is no more of something than there should be.
async fn look(what: &str, counts: impl Fn() -> (usize, usize)) {
    for _ in 0..LOOKS_MAX {
        let (now, before) = counts();
        if now <= before {
            return;
        }
        // The driver of the ring or a thread of the watchdog may be about to end.
        sleep(Duration::from_millis(1)).await;
    }
    let (now, before) = counts();
    panic!("there are {now} {what}, and {before} at most without a leak");
}
