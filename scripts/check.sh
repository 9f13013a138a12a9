#!/usr/bin/env bash
# All of CI in one command, for a developer's machine too. Every step runs even when an earlier one
# failed; the exit status is 1 if any did. What is not installed is skipped with a line that says so.
#
#   scripts/check.sh                 everything
#   scripts/check.sh STEP...         these steps only, such as: scripts/check.sh clippy tests
#   SKIP_VM=1 scripts/check.sh       without the virtual machine
#
# The steps, in their order:
#
#   format         cargo fmt --all --check
#   clippy         lints of all targets, warnings are errors
#   docs           the documentation builds without a warning
#   module-circles modules of a crate that import each other in a circle (scripts/lint)
#   readme         README.md gives the command for the tests
#   documents      links, paths and tests that the documents name exist (scripts/lint)
#   functions      what the benchmark's samples are grouped by (scripts/bench/functions.py)
#   fleet          the simulation of a fleet (scripts/bench/fleet.py)
#   tests          cargo test --workspace; at the end, the tests that were skipped and why
#   logs           jq and goaccess read the access log, logrotate rotates it
#   metrics        Prometheus scrapes, promtool checks, Chromium opens the live page
#   proxies        HAProxy and nginx in front
#   systemd        the units, under a systemd of its own (root)
#   containers     manifests, seccomp profile, image (podman, root)
#   package        the Debian package: installed, started, upgraded, removed (mmdebstrap, root)
#   shell-syntax   bash -n of every shell script
#   shell-lint     shellcheck of every shell script
#   dependencies   licenses, sources and duplicates (cargo-deny)
#   advisories     known vulnerabilities (cargo-deny)
#   instructions   the instructions of a request, against the baseline (valgrind)
#   least-kernel   the server on Linux 6.1 (qemu)
#
# Those from logs to package are scripts of their own (scripts/logs/run.sh and so on) with the debug binary that
# `tests` has built, and take two minutes together.
set -uo pipefail
# shellcheck source=scripts/lib/help.sh
. "$(dirname "$0")/lib/help.sh"
script=$(realpath "$0")
cd "$(dirname "$0")/.." || exit 1

# The one command that README.md gives for the tests; `readme` fails when the README says another.
readonly TEST_COMMAND='cargo test --workspace'
# The exit status of a step that cannot run here.
readonly SKIPPED=77

failed=()
skipped=()

# The steps, from the list in the comment above.
mapfile -t steps < <(sed -n 's/^#   \([a-z-]*\)  *[^ ].*/\1/p' "$script" | grep -v '^scripts')

# The chosen steps; all of them without arguments.
choose() {
  local name
  for name in "$@"; do
    [[ " ${steps[*]} " == *" $name "* ]] || {
      echo "check.sh: there is no step $name; there are: ${steps[*]}" >&2
      exit 2
    }
  done
  (($# == 0)) || steps=("$@")
}

# step NAME COMMAND...: runs the command if the step is chosen, and reports it.
step() {
  local name=$1 begin=$SECONDS status=0
  shift
  is_chosen "$name" || return 0
  printf '\n== %s\n' "$name"
  "$@" || status=$?
  report "$name" $status $((SECONDS - begin))
}

is_chosen() {
  [[ " ${steps[*]} " == *" $1 "* ]]
}

# report NAME STATUS DURATION: prints how a step ended, and counts it.
report() {
  case $2 in
    0) printf '== %s: ok, %d s\n' "$1" "$3" ;;
    "$SKIPPED")
      printf '== %s: skipped\n' "$1"
      skipped+=("$1")
      ;;
    *)
      printf '== %s: FAILED with status %d, %d s\n' "$1" "$2" "$3"
      failed+=("$1")
      ;;
  esac
}

# start NAME COMMAND...: as `step`, but the command runs beside the steps that follow; `finish` reports it. One
# step can be under way.
start() {
  local name=$1
  shift
  is_chosen "$name" || return 0
  beside_log=$(mktemp)
  (
    status=0
    begin=$SECONDS
    "$@" || status=$?
    echo $((SECONDS - begin)) >"$beside_log.duration"
    exit $status
  ) >"$beside_log" 2>&1 &
  beside=$!
}

# finish NAME: waits for the step that was started, prints its output and reports it.
finish() {
  local status=0
  is_chosen "$1" || return 0
  printf '\n== %s\n' "$1"
  wait "$beside" || status=$?
  cat "$beside_log"
  report "$1" $status "$(<"$beside_log.duration")"
  rm -f "$beside_log" "$beside_log.duration"
}

# A command in the background ignores the interrupt of the terminal: end it as well.
trap 'trap - INT; kill -TERM 0' INT

readme() {
  if grep -nE '@[A-Z]+@' README.md; then
    echo 'README.md has a placeholder'
    return 1
  fi
  grep -qF -- "$TEST_COMMAND" README.md || {
    echo "README.md does not give the test command: $TEST_COMMAND"
    return 1
  }
}

# Every shell script in the repository, found by its first line, whatever its name.
shell_scripts() {
  git ls-files -z --cached --others --exclude-standard \
    | xargs -0 grep -lIE '^#!.*[/ ](ba|da)?sh$' -- 2>/dev/null
}

syntax() {
  local script status=0
  while read -r script; do
    bash -n "$script" || status=1
  done < <(shell_scripts)
  return $status
}

lint_shell() {
  command -v shellcheck >/dev/null || {
    echo 'shellcheck is not installed'
    return $SKIPPED
  }
  shell_scripts | xargs -d '\n' shellcheck --external-sources
}

# The tests, then again the lines of skipped ones, which stand among thousands of others.
tests() {
  local log status=0
  log=$(mktemp)
  [[ ! -t 2 ]] || export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-always}
  # Word splitting is meant: the command stands in the README as it is run here.
  # shellcheck disable=SC2086
  { $TEST_COMMAND 2>&1 >&3 | tee "$log" >&2; } 3>&1 || status=$?
  grep '^skipped: ' "$log" | sort -u
  rm "$log"
  return $status
}

# with_server COMMAND...: runs the command with --server and the binary of the tests, which is built if it is not
# there or old.
with_server() {
  $TEST_COMMAND --no-run --quiet && "$@" --server "${CARGO_TARGET_DIR:-target}/debug/tidegate"
}

docs() {
  RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --document-private-items
}

has_deny() {
  cargo deny --version >/dev/null 2>&1 || {
    echo 'cargo-deny is not installed: cargo install --locked cargo-deny'
    return 1
  }
}

dependencies() {
  has_deny || return $SKIPPED
  cargo deny --workspace check bans licenses sources
}

advisories() {
  has_deny || return $SKIPPED
  cargo deny --workspace fetch db 2>/dev/null || {
    echo 'the advisory database cannot be fetched from here'
    return $SKIPPED
  }
  cargo deny --workspace check advisories
}

least_kernel() {
  [[ -z ${SKIP_VM:-} ]] || {
    echo 'SKIP_VM is set'
    return $SKIPPED
  }
  scripts/vm/test.sh bookworm
}

instructions() {
  # Before the release is built, which is most of the time this takes.
  command -v valgrind >/dev/null || {
    echo 'valgrind is not installed'
    return $SKIPPED
  }
  scripts/bench/instructions.sh --check
}

choose "$@"
step format cargo fmt --all --check
step clippy cargo clippy --workspace --all-targets --locked -- -D warnings
step docs docs
step module-circles scripts/lint/module_circles.py --self-test access compress config fuzz-targets h1 h2 http origin sendfile server site tidegate tls uring
step readme readme
step documents scripts/lint/documents.py --self-test
step functions scripts/bench/functions.py --self-test
step fleet scripts/bench/fleet.py --self-test
step tests tests
step logs with_server scripts/logs/run.sh
step metrics with_server scripts/metrics/run.sh
step proxies with_server scripts/proxies/run.sh
step systemd with_server scripts/systemd/run.sh
step containers with_server scripts/containers/run.sh
step package with_server scripts/package/test.sh
step shell-syntax syntax
step shell-lint lint_shell
step dependencies dependencies
step advisories advisories
# The emulation occupies one core, and so does the end of the release build: together they take little longer
# than the longer of them. Tests run alone, since other load changes their timing.
start least-kernel least_kernel
step instructions instructions
finish least-kernel

printf '\n%d s in all' "$SECONDS"
((${#skipped[@]} == 0)) || printf '; skipped: %s' "$(IFS=,; echo "${skipped[*]}")"
((${#failed[@]} == 0)) || {
  printf '; FAILED: %s\n' "$(IFS=,; echo "${failed[*]}")"
  exit 1
}
printf '; all that ran passed\n'
