#!/usr/bin/env bash
# Real object stores behind the real binary: Ceph's gateway (radosgw with a monitor and an OSD in memory) and
# Garage. A directory is published to each, and every object asked for by its hash: missed, hit, in ranges,
# conditionally, compressed; with wrong credentials, and while the store is killed and comes back. A fleet of
# nodes, each in a network namespace of its own, asks Ceph for each slice once, and one of them is killed under
# load; a node of three of Garage is killed while it is read from. Prints a line for each check; the exit status
# is 1 if one failed, 77 if none could be made. A store that is not installed is skipped with a line that says
# so, and so is the fleet without root. As root all is in namespaces that end with it, otherwise on the
# loopback; in a temporary directory. Four minutes.
#
#   scripts/stores/run.sh [--server PROGRAM] [--only PART,..] [--garage PROGRAM] [--keep DIRECTORY]
#
#   --server PROGRAM    the binary to test (target/release/tidegate)
#   --only PART,..      of ceph, fleet, garage and replicas
#   --garage PROGRAM    Garage (the one in PATH)
#   --keep DIRECTORY    what was written stays there: configurations and logs
#
# On Debian: apt-get install --no-install-recommends ceph-mon ceph-osd ceph-common radosgw iproute2 python3
# Garage 2: cargo install garage --locked (it needs protobuf-compiler)
set -euo pipefail
# shellcheck source=scripts/lib/help.sh
. "$(dirname "$0")/../lib/help.sh"
# shellcheck source=scripts/lib/apart.sh
. "$(dirname "$0")/../lib/apart.sh"
root=$(cd "$(dirname "$0")/../.." && pwd)

# Debian has ip where a user's PATH does not.
PATH=$PATH:/usr/sbin:/sbin
# No __pycache__ in the tree.
export PYTHONPATH="$root/scripts/lib"
work=$(mktemp -d "${TMPDIR:-/tmp}/stores-XXXXXX")
command=(python3 -B "$root/scripts/stores" --work "$work"
  --server "${CARGO_TARGET_DIR:-$root/target}/release/tidegate" "$@")

# Where no namespaces can be made.
alone=''
end() {
  end_apart
  if [[ -n $alone ]]; then
    kill "$alone" 2>/dev/null || true
    wait "$alone" || true
  fi
  rm -rf "$work"
}
trap end EXIT
trap 'exit 143' TERM INT

if unshare --mount --pid --net --fork true 2>/dev/null; then
  # Names of network namespaces are files of /run/netns, here of those within alone.
  # shellcheck disable=SC2016 # its own arguments
  apart --net sh -c 'mkdir -p /run/netns && mount -t tmpfs tmpfs /run/netns && ip link set lo up && exec "$@"' \
    sh "${command[@]}" --apart
else
  "${command[@]}" &
  alone=$!
  wait $alone
fi
