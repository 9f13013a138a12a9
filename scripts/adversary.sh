#!/usr/bin/env bash
# Adversaries of HTTP/2 against the real binary: random sequences of frames, valid and not; floods,
# each with its end and its cost, the CPU of the server against that of the attacker; and sieges,
# which must end by timeouts. After each the server must answer, and its log must have no panic.
# The exit status is 1 if it does not, if a valid request was not answered rightly, if the server
# sent what it must not, or if a flood costs it more than twice the attacker, or 6 times where it is
# of requests or their bodies. The attacker sends bytes that it has made before, and parses nothing,
# so a connection alone costs a server about as much, and frames cost the attacker nearly nothing.
# One that makes its frames with the Python module h2 takes 35 µs for a request and its reset, for
# which tidegate takes less than 1. All is on the loopback.
#
#   scripts/adversary.sh [--server PROGRAM] [--python PROGRAM] [--only PART,..] [--seeds N]
#     [--first SEED] [--jobs N] [--seconds S] [--match WORDS]
#
#   --server PROGRAM   the binary to test (target/release/tidegate); nginx, h2o and caddy serve too,
#                      to see what they make of it
#   --python PROGRAM   a Python with the modules h2 and hpack of PyPI, if python3 has not
#   --only PART,..     of random, floods and sieges
#   --seeds N          how many random sequences of each kind (500), from --first (0) on, --jobs (4) at
#                      once
#   --seconds S        how long the cost of a flood is measured (2)
#   --match WORDS      only the floods and sieges with these words in their names
set -euo pipefail
# shellcheck source=scripts/lib/help.sh
. "$(dirname "$0")/lib/help.sh"
scripts=$(cd "$(dirname "$0")" && pwd)
python=python3
arguments=()
while (($#)); do
  if [[ $1 == --python ]]; then
    python=$2
    shift 2
  else
    arguments+=("$1")
    shift
  fi
done
server=${CARGO_TARGET_DIR:-$scripts/../target}/release/tidegate
# Without bytecode, which would stay beside the sources.
PYTHONPATH="$scripts/lib:$scripts/conformance" exec "$python" -B "$scripts/adversary" \
  --server "$server" "${arguments[@]}"
