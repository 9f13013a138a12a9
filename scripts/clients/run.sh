#!/usr/bin/env bash
# Real clients against the real binary: headless Chromium, curl, wget, ffprobe, zsync, zckdl,
# electron-updater and nginx as a proxy in front; through TLS openssl, gnutls-cli, curl and Chromium
# again, and the scanners testssl.sh and sslyze. Prints a table; the exit status is 1 if a check
# failed. A tool that is not installed is skipped with a line that says so. All is on the loopback,
# in a temporary directory.
#
#   scripts/clients/run.sh [--server PROGRAM] [--only PART,..] [--tree DIR] [--sslyze DIR]
#     [--npm DIR] [--screenshots docs]
#
#   --server PROGRAM   the binary to test (target/release/tidegate). Caddy serves too, to see
#                      what another server makes of the same checks: --server caddy
#   --only PART,..     of curl, wget, ranges, ffmpeg, nginx, chromium, openssl, gnutls, curl-tls,
#                      chromium-tls, sslyze and testssl
#   --tree DIR         the files to compare byte for byte; without it the documentation of Rust's
#                      standard library, or /usr/share/doc, or a tree made for the purpose
#   --sslyze DIR       where the program sslyze is, if it is not in PATH
#   --npm DIR          the directory whose node_modules have electron-updater
#   --screenshots DIR  puts pictures of the directory listing there
#
# On Debian: apt-get install python3 curl wget ffmpeg nginx chromium zstd brotli openssl gnutls-bin \
#   zsync zchunk nodejs testssl.sh; and sslyze, to be found by --sslyze target/sslyze/bin:
#   python3 -m venv target/sslyze && target/sslyze/bin/pip install sslyze
# and electron-updater, for --npm target/npm:
#   npm install --prefix target/npm --ignore-scripts electron-updater
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)

# No __pycache__ in the tree.
PYTHONPATH="$root/scripts/lib" exec python3 -B "$root/scripts/clients" \
  --server "${CARGO_TARGET_DIR:-$root/target}/release/tidegate" "$@"
