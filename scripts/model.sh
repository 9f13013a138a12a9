#!/usr/bin/env bash
# Runs random programs on the op ring against a model of what each op may return (crates/uring/tests/model), with
# AddressSanitizer: STEPS of them, each 10,000 with a seed of their own, from SEED on. Half of the seeds have the
# real kernel, half a simulated one, whose writes AddressSanitizer sees, too. The exit status is 1 if the
# model was broken: the last lines name the seed, the step, and what replays them.
#
#   scripts/model.sh                  10,000,000 steps: some minutes
#   scripts/model.sh STEPS [SEED]     so many, from this seed (1)
#
# Where the compiler comes without AddressSanitizer, there is none; what the kernel writes to freed memory is then
# noticed, as in the tests that CI runs.
set -euo pipefail
# shellcheck source=scripts/lib/help.sh
. "$(dirname "$0")/lib/help.sh"
cd "$(dirname "$0")/.."

steps=${1:-10000000} seed=${2:-1}
[[ $steps =~ ^[0-9]+$ && $seed =~ ^[0-9]+$ ]] || {
  echo "model.sh: STEPS and SEED are numbers, not $steps and $seed" >&2
  exit 2
}

host=$(rustc -vV | sed -n 's/^host: //p')
directory=$(realpath -m "${CARGO_TARGET_DIR:-target}")/model

export TIDEGATE_MODEL_SEED=$seed TIDEGATE_MODEL_STEPS=$steps
if compgen -G "$(rustc --print sysroot)/lib/rustlib/$host/lib/librustc-*_rt.asan.a" >/dev/null; then
  # The option is not stable.
  export RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address TIDEGATE_MODEL_SANITIZED=1
  # glommio leaks each executor; the model counts what is allocated itself.
  export ASAN_OPTIONS=detect_leaks=0
else
  echo 'this compiler has no AddressSanitizer: without it'
fi

# Optimised, with the checks of a debug build. A target of its own, so that what runs while it builds is not
# instrumented.
export CARGO_TARGET_DIR=$directory CARGO_PROFILE_DEV_OPT_LEVEL=1
mkdir -p "$directory"
log=$directory/log
cargo test --quiet --locked -p tidegate-uring --features simulation --test model --target "$host" --no-run
status=0
cargo test --quiet --locked -p tidegate-uring --features simulation --test model --target "$host" any_program -- --nocapture \
  >"$log" 2>&1 || status=$?
if ((status != 0)); then
  grep -v '^seed' "$log" | tail -n 60
  echo "FOUND something with status $status at $(grep '^seed' "$log" | tail -n 1): $log"
  exit 1
fi
grep -E 'completed|AddressSanitizer' "$log"
echo "$steps steps from seed $seed: nothing found"
