#!/usr/bin/env bash
# Faults of the kernel against the real binary. In each phase of a server's life (start, requests of every kind, reload,
# upgrade, stop and so on) strace first tells which system calls it makes; then each of them fails, in a run of its own,
# with each error that its manual page has: once, again and again, or from some time on. Clients compare every body
# meanwhile. After it the server answers as if nothing had been, or it has ended with a status above 0 and a line of
# the log that has the cause. What hangs, panics, ends without a reason or sends a wrong byte is printed, with the
# log, and the exit status is 1.
#
#   scripts/faults.sh [--server PROGRAM] [--phase PHASE,..] [--call CALL,..] [--error ERROR,..] [--every N]
#     [--jobs N] [--seconds S] [--list]
#
#   --server PROGRAM   the binary (target/debug/tidegate)
#   --phase PHASE,..   of start, small, large, tls, http2, origin, reload, reopen, upgrade and stop
#   --call CALL,..     these system calls only
#   --error ERROR,..   these errors only, such as EINTR
#   --every N          one in N of the runs, so that fewer of each kind are left
#   --jobs N           runs at a time (2)
#   --seconds S        begins no run after this time (no limit)
#   --list             prints what would be run
#
# All of it takes an hour on two cores. Needs strace, openssl, and permission to trace (ptrace). All is on the loopback,
# in a temporary directory. No faults are made where strace cannot tell what a call is for: futex(2) both waits and
# wakes, and a wake never fails.
set -euo pipefail
# shellcheck source=scripts/lib/help.sh
. "$(dirname "$0")/lib/help.sh"
scripts=$(cd "$(dirname "$0")" && pwd)
server=${CARGO_TARGET_DIR:-$scripts/../target}/debug/tidegate
for program in strace openssl; do
  command -v "$program" >/dev/null || {
    echo "skipped: $program is not installed (apt-get install $program)"
    exit 77
  }
done
# Without bytecode, which would stay beside the sources.
PYTHONPATH="$scripts/lib:$scripts/adversary" exec python3 -B "$scripts/faults" --server "$server" "$@"
