#!/usr/bin/env bash
# Real clients against the real binary: headless Chromium, curl, wget, ffprobe, and nginx as a proxy
# in front; clients of ranges (zsync, zckdl, electron-updater, aria2, axel, lftp, casync, fsspec, remotezip,
# GDAL); programs that read listings (fsspec, GDAL, htmllistparse, Kodi's pattern, rclone, lftp, wget,
# httpdirfs); npm, pip and apt with repositories of files; through TLS openssl, gnutls-cli, curl and
# Chromium again, and the scanners testssl.sh and sslyze; over HTTP/2 curl, nghttp and h2load, Go, httpx,
# Java, Node, HAProxy and Caddy in front, and a page of 200 assets in Chromium. Prints a line for each check; the exit status is 1 if a
# check failed. A tool that is not installed is skipped with a line that says so. All is on the
# loopback, in a temporary directory.
#
#   scripts/clients/run.sh [--server PROGRAM] [--only PART,..] [--tree DIR] [--sslyze DIR]
#     [--python PROGRAM] [--npm DIR] [--screenshots docs]
#
#   --server PROGRAM   the binary to test (target/release/tidegate). Caddy serves too, to see
#                      what another server makes of the same checks: --server caddy
#   --only PART,..     of curl, wget, ranges, ffmpeg, listings, packages, nginx, chromium, openssl, gnutls,
#                      curl-tls, chromium-tls, sslyze and testssl; of HTTP/2 curl-http2, curl-h2c, nghttp,
#                      go, httpx, java, node, haproxy, caddy and chromium-http2
#   --tree DIR         the files to compare byte for byte; without it the documentation of Rust's
#                      standard library, or /usr/share/doc, or a tree made for the purpose
#   --sslyze DIR       where the program sslyze is, if it is not in PATH
#   --python PROGRAM   a Python with the modules fsspec, aiohttp, pyogrio (GDAL), htmllistparse, remotezip,
#                      httpx with h2, and pip, if python3 has not
#   --npm DIR          the directory whose node_modules have electron-updater
#   --screenshots DIR  puts pictures of the directory listing there
#
# On Debian: apt-get install python3 curl wget ffmpeg nginx chromium zstd brotli openssl gnutls-bin \
#   zsync zchunk nodejs npm testssl.sh rclone lftp httpdirfs aria2 axel casync gdal-bin dpkg-dev \
#   nghttp2-client golang-go golang-golang-x-net-dev default-jdk-headless haproxy caddy
# From PyPI, to be found by --sslyze target/clients/bin --python target/clients/bin/python:
#   python3 -m venv target/clients && target/clients/bin/pip install sslyze fsspec aiohttp pyogrio \
#   htmllistparse remotezip 'httpx[http2]'
# and electron-updater, for --npm target/npm:
#   npm install --prefix target/npm --ignore-scripts electron-updater
set -euo pipefail
# shellcheck source=scripts/lib/help.sh
. "$(dirname "$0")/../lib/help.sh"
root=$(cd "$(dirname "$0")/../.." && pwd)

# No __pycache__ in the tree.
PYTHONPATH="$root/scripts/lib" exec python3 -B "$root/scripts/clients" \
  --server "${CARGO_TARGET_DIR:-$root/target}/release/tidegate" "$@"
