#!/usr/bin/env bash
# The life of a server in twenty minutes: clients of every kind, plain and TLS, on kept and on new connections,
# while files change, logs are rotated (USR1), the configuration is reloaded (HUP, also with faults in it)
# and the binary is upgraded (USR2). Not one request may fail, every answered request must be in the log
# once, and memory, descriptors and threads must stay flat. Prints a line each minute and a verdict; exits 1
# if anything of this does not hold.
#
#   scripts/soak.sh [--server PROGRAM] [--minutes N] [--reload-seconds N] [--rotate-seconds N]
#     [--upgrade-seconds N] [--requests N] [--attacks] [--quiet-minutes N]
#     [--seed N]
#
#   --server PROGRAM     the binary (without it the release is built)
#   --minutes N          how long (20)
#   --reload-seconds N, --rotate-seconds N, --upgrade-seconds N
#                        the time between two of them (5, 7 and 31); 0 for none
#   --requests N         ends after so many requests, if that is earlier (no limit)
#   --attacks            with all attacks of scripts/attacks.sh at random, from --seed N (1). The clients ask for
#                        --quiet-minutes (2) without them before, and as long after them. After each of these
#                        the server is looked at while nobody asks: after the attacks it must have no
#                        more than 5 % more memory, no more threads, and no descriptor more of any kind but
#                        files of its tree and pipes of its pool, which is small here. Its process is then
#                        that of the last quarter of the attacks.
#
# Needs python3 and openssl. All is on the loopback, in a temporary directory.
set -euo pipefail
# shellcheck source=scripts/lib/help.sh
. "$(dirname "$0")/lib/help.sh"
root=$(cd "$(dirname "$0")/.." && pwd)

if [[ " $* " != *' --server'* ]]; then
  cargo build --release --locked --manifest-path "$root/Cargo.toml" --package tidegate >&2
  set -- --server "${CARGO_TARGET_DIR:-$root/target}/release/tidegate" "$@"
fi
exec python3 -B "$root/scripts/soak" "$@"
