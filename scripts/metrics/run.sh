#!/usr/bin/env bash
# The metrics and the live page of a running server, by the programs that read them: a real
# Prometheus scrapes it and is asked for the values, promtool checks the metrics, the rules and
# their unit tests, and headless Chromium opens the page under load. Prints a table; the exit status
# is 1 if a check failed, 77 if none could be made. A program that is not installed is skipped with a
# line that says so. All is on the loopback, in a temporary directory. 40 seconds, 30 of them Chromium's.
#
#   scripts/metrics/run.sh [--server PROGRAM] [--only PART,..] [--screenshot docs/live-page.png]
#
#   --server PROGRAM    the binary to test (target/release/tidegate)
#   --only PART,..      of promtool, prometheus and chromium
#   --screenshot FILE   puts a picture of the live page there (needs ffmpeg)
#
# On Debian: apt-get install python3 prometheus chromium ffmpeg
set -euo pipefail
# shellcheck source=scripts/lib/help.sh
. "$(dirname "$0")/../lib/help.sh"
root=$(cd "$(dirname "$0")/../.." && pwd)

# No __pycache__ in the tree. What drives Chromium is that of the tests of clients.
PYTHONPATH="$root/scripts/lib" exec python3 -B "$root/scripts/metrics" \
  --server "${CARGO_TARGET_DIR:-$root/target}/release/tidegate" "$@"
