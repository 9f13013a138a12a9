#!/usr/bin/env bash
# Runs a command in a network namespace of its own, with cubic on its loopback, as compare.sh does. Needs root.
#
#   scripts/bench/netns.sh COMMAND [ARGUMENT...]
# shellcheck source-path=SCRIPTDIR
set -euo pipefail

BENCH=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
RUN_ID=$$

# shellcheck source=lib/host.sh
. "$BENCH/lib/host.sh"

# The arguments of the command are its own.
# shellcheck source=../lib/help.sh
. "$BENCH/../lib/help.sh" "${1:-}"

die() {
    echo "netns.sh: $*" >&2
    exit 1
}

(($# > 0)) || die 'which command? netns.sh COMMAND [ARGUMENT...]'
trap remove_netns EXIT
make_netns
in_netns "$@"
