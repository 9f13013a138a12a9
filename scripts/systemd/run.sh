#!/usr/bin/env bash
# The units of config/systemd: systemd-analyze finds no fault and an exposure of 1.5 at most, and they
# run under a real systemd, which is process 1 of namespaces of its own: readiness, a port below 1024,
# reload, upgrade, restart, stop, and the same with the socket unit. Exit status 1 if a check failed, 77
# if none could be made. What is not installed is skipped with a line that says so. Five seconds.
#
#   scripts/systemd/run.sh [--server PROGRAM]
#
#   --server PROGRAM   the binary to test (target/release/tidegate)
#
# On Debian: apt-get install systemd util-linux iproute2 curl; the second part needs root.
set -euo pipefail
# shellcheck source=scripts/lib/help.sh
. "$(dirname "$0")/../lib/help.sh"
root=$(cd "$(dirname "$0")/../.." && pwd)
server=${CARGO_TARGET_DIR:-$root/target}/release/tidegate
[[ ${1:-} != --server ]] || server=$2
readonly SECONDS_MAX=120

# The exit status if the rest is skipped.
status=77
skip() {
  echo "skipped: $1"
  exit $status
}

# Ends all that runs in the control group, then deletes the groups that the systemd made below it.
end() {
  if [[ -d ${group:-} ]]; then
    echo 1 >"$group/cgroup.kill"
    while grep -q 'populated 1' "$group/cgroup.events"; do sleep 0.05; done
    find "$group" -depth -type d -exec rmdir {} +
  fi
  rm -rf --one-file-system "$work"
}

command -v systemd-analyze >/dev/null || skip 'systemd-analyze is not installed (apt-get install systemd)'
work=$(mktemp -d)
trap end EXIT
cp "$root"/config/systemd/tidegate.* "$work"

# Verified with a program that is there, since tidegate need not be installed.
sed 's|=/usr/bin/tidegate|=/bin/true|; /^Documentation=/d' "$work/tidegate.service" >"$work/verify.service"
faults=$(systemd-analyze verify "$work/verify.service" "$work/tidegate.socket" 2>&1 |
  grep -v 'tidegate is not executable' || true)
[[ -z $faults ]] || {
  echo "failed: $faults"
  exit 1
}
echo 'ok: systemd-analyze verify'
# In tenths, as --threshold takes it.
systemd-analyze security --no-pager --offline=true --threshold=15 "$work/tidegate.service" | tail -1
status=0

[[ -x /lib/systemd/systemd ]] || skip 'systemd is not installed (apt-get install systemd)'
((EUID == 0)) || skip 'only root can run a systemd of its own'
for program in unshare ip curl; do
  command -v $program >/dev/null || skip "$program is not installed"
done
[[ -x $server ]] || skip "there is no $server (cargo build --release)"

# A control group of its own: two systemds in one would end each other's processes.
mounted=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/self/mounts)
[[ -n $mounted ]] || skip 'no cgroup2 is mounted'
group=$mounted$(sed -n 's/^0:://p' /proc/self/cgroup)/tidegate-$$
mkdir "$group" 2>/dev/null || skip "no control group can be made below $mounted"
namespaces=(unshare --mount --pid --fork --kill-child --uts --ipc --net --cgroup --mount-proc)
"${namespaces[@]}" mount -t tmpfs tmpfs /mnt 2>/dev/null || skip 'no namespaces can be made, as in a container'

install -D "$server" "$work/bin/tidegate"
cp "$(dirname "$0")/checks.sh" "$work/checks.sh"
(
  echo "$BASHPID" >"$group/cgroup.procs"
  exec timeout $SECONDS_MAX "${namespaces[@]}" "$root/scripts/systemd/boot.sh" "$work"
) >"$work/log" 2>&1 || true
cat "$work/result" 2>/dev/null || true
if ! grep -qx 'all is well' "$work/result" 2>/dev/null; then
  cat "$work/log" "$work/journal" 2>/dev/null || true
  echo 'failed: see above'
  exit 1
fi
