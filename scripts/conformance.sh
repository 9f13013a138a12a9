#!/usr/bin/env bash
# Third-party HTTP suites against tidegate, nginx and Caddy, those of HTTP/2 against H2O too, side by
# side, each as it is installed here. Prints Markdown; --write puts it into docs/conformance.md as
# well. The exit status is 1 if tidegate fails a case for which scripts/conformance/reasons.toml has
# no reason, or passes one for which it has, and 77 if no suite was run.
#
#   scripts/conformance.sh [--SUITE PATH]... [--SERVER PROGRAM]... [--write docs/conformance.md]
#
# A suite is run from a checkout, and skipped with a line that says so where no path is given:
#
#   --unetworking DIR   https://github.com/uNetworking/h1spec; needs Deno, in PATH or named by DENO
#   --dropseed DIR      https://github.com/dropseed/h1spec
#   --llhttp DIR        https://github.com/nodejs/llhttp
#   --go DIR            https://github.com/golang/go, or another tree with its src/net/http
#   --redbot PROGRAM    the command `redbot` of the package redbot on PyPI
#   --h2spec PROGRAM    https://github.com/summerwind/h2spec, built; docs/conformance.md tells how
#   --hpack-test-case DIR  https://github.com/http2jp/hpack-test-case, for this checkout's decoder
#
#   --tidegate PROGRAM  the binary to test; without it the release build is made and tested
#   --nginx PROGRAM     default: nginx in PATH; a server that is not installed is left out
#   --caddy PROGRAM     default: caddy in PATH
#   --h2o PROGRAM       default: h2o in PATH; for the suites of HTTP/2
set -euo pipefail
# shellcheck source=scripts/lib/help.sh
. "$(dirname "$0")/lib/help.sh"
# Without bytecode, which would stay beside the sources.
scripts=$(cd "$(dirname "$0")" && pwd)
PYTHONPATH="$scripts/lib" exec python3 -B "$scripts/conformance" "$@"
