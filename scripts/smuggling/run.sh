#!/usr/bin/env bash
# Request smuggling: whether a proxy and tidegate ever see a request differently. nginx, HAProxy, Varnish, Apache
# Traffic Server, Apache httpd, H2O and Caddy, those that can be lenient so configured, stand in front of the real
# binary with connections that they keep. Clients send requests that are wrong in the ways of smuggling (two
# lengths, odd lengths and codings, broken chunks and lines, and so on), between known requests for files of which
# each has its own content, through each proxy and directly. A relay between proxy and tidegate notes what both
# send. A strict parser reads the requests of each connection again: tidegate has to answer these and no others, or
# refuse one and close; and a client must never get what another request was for. What a proxy itself reads otherwise
# than the strict parser is counted, and is no failure. Prints a line for each; the exit status is 1 if one failed,
# 77 if none could be made. A proxy that is not installed is skipped with a line that says so. All is on the
# loopback, in a temporary directory. Four minutes.
#
# A line counts the mutated requests that were sent, of which the proxy has refused some; the requests that the strict
# parser reads in what it has passed on, known ones too; and what tidegate refused, malformed requests mostly, and
# answered. Known requests at the start of a connection have to be answered, nine of ten at least: a reset by the
# proxy loses some. What the proxy does by itself are sequences in which it sees other requests than the strict
# parser; clients that got fewer responses than tidegate gave; clients that got what another request of their own was
# for because the proxy took content for a request; and responses that are malformed or cut off.
#
#   scripts/smuggling/run.sh [--server PROGRAM] [--requests N] [--seed SEED] [--only WAY,..] [--first N]
#     [--examples N] [--keep DIRECTORY]
#
#   --server PROGRAM   the binary to test (target/release/tidegate)
#   --requests N       how many mutated requests in all (100000), in equal parts on the ways that there are
#   --seed SEED        that of an earlier run, which it printed: the same bytes are sent again
#   --only WAY,..      of direct, nginx, haproxy, haproxy-lenient, varnish, trafficserver, apache, h2o and caddy
#   --first N          begins with this sequence: with --requests 1 it is sent alone
#   --examples N       how many of the sequences that a proxy reads otherwise are shown for each (0)
#   --keep DIRECTORY   what was written stays there: configurations and logs
#
# On Debian: apt-get install python3 nginx haproxy varnish trafficserver apache2 h2o caddy
set -euo pipefail
# shellcheck source=scripts/lib/help.sh
. "$(dirname "$0")/../lib/help.sh"
root=$(cd "$(dirname "$0")/../.." && pwd)

# Debian has proxies where a user's PATH does not.
PATH=$PATH:/usr/sbin:/sbin
# No __pycache__ in the tree.
PYTHONPATH="$root/scripts/lib" exec python3 -B "$root/scripts/smuggling" \
  --server "${CARGO_TARGET_DIR:-$root/target}/release/tidegate" "$@"
