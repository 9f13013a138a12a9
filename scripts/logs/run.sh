#!/usr/bin/env bash
# The access log against the programs that read and rotate it: jq reads the JSON, goaccess the combined
# log, and logrotate rotates under load with config/logrotate/tidegate, with every line counted. Prints
# a line for each check; the exit status is 1 if one failed, 77 if none could be made. A program that is
# not installed is skipped with a line that says so. All is on the loopback, in a temporary directory.
# Seven seconds.
#
#   scripts/logs/run.sh [--server PROGRAM]
#
#   --server PROGRAM   the binary to test (target/release/tidegate)
#
# On Debian: apt-get install python3 jq goaccess logrotate
set -euo pipefail
# shellcheck source=scripts/lib/help.sh
. "$(dirname "$0")/../lib/help.sh"
root=$(cd "$(dirname "$0")/../.." && pwd)

# No __pycache__ in the tree.
PYTHONPATH="$root/scripts/lib" exec python3 -B "$root/scripts/logs" \
  --server "${CARGO_TARGET_DIR:-$root/target}/release/tidegate" "$@"
