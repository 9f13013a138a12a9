#!/usr/bin/env bash
# Attacks on a server of the loopback by crowds of connections that are bounded in number and in time, and what they
# cost it. scripts/soak.sh --attacks runs them beside clients whose requests must all be answered.
#
#   scripts/attacks.sh [--server PROGRAM] slowloris [--rounds N] [--seconds S] [--connections N] [--rate N]
#     [--cases CASE,..] [--servers SERVER,..] [--clients CLIENT,..] [--load PROGRAM]
#   scripts/attacks.sh [--server PROGRAM] senders [--rounds N] [--seconds S] [--connections N] [--cases CASE,..]
#     [--servers SERVER,..]
#   scripts/attacks.sh run --port PORT --tls-port PORT [--seconds S] [--seed N] [--together N] [--match WORDS]
#
#   --server PROGRAM   the binary (target/release/tidegate)
#
# slowloris: the latency of a file of 1 KiB, alone and beside 10,000 connections (--connections), each of which
# sends a byte of its request every three seconds and comes again when it is ended. The server has core 0, all else
# core 1; the crowd gets what the measuring client leaves of it. Rounds (5) take turns with a control, 10,000
# connections that are idle ("idle"), one without any ("nothing"), and with nginx; each has a new process.
# Further cases: "hello" sends the first flight of TLS by bytes, "http2" a frame. The clients are tidegate-load
# (beside PROGRAM, or --load) at --rate (2000) requests a second and wrk as fast as it goes. The status is 1 if a
# request failed or the crowd was not there. For figures, on a quiet machine and as root:
#
#   scripts/bench/netns.sh scripts/attacks.sh slowloris
#
# senders: memory of the server's own, in KiB for each of 1,000 clients that read nothing and go on sending: the most
# that was seen within --seconds (10), less what there was before they came. Cases: "http1" sends requests for
# a file of 4 MiB on and on, "http2" one and then PINGs, as many as a server bears, "http2-streams" 100 requests;
# "http1-tls" and "http2-tls" are the first two with TLS.
#
# run: all attacks in a random order, --together (2) at a time, on a server that is there.
#
# Needs python3 and openssl; the figures also nginx and wrk.
set -euo pipefail
# shellcheck source=scripts/lib/help.sh
. "$(dirname "$0")/lib/help.sh"
exec python3 -B "$(dirname "$0")/attacks" "$@"
