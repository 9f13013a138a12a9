#!/usr/bin/env bash
# A Ceph of one monitor and one OSD that keeps objects in memory, with a user of S3. Runs until it is ended
# (TERM), and takes its daemons with it. Prints "ready" once the user is there; then a gateway can be started:
#
#   radosgw -f -c DIRECTORY/ceph.conf -n client.rgw.a
#
#   scripts/stores/ceph.sh DIRECTORY PORT ACCESS-KEY SECRET-KEY
#
#   DIRECTORY     for its state, an empty one
#   PORT          the first of 64: the monitor's are PORT and PORT + 1, the gateway's is PORT + 2
set -euo pipefail
# shellcheck source=scripts/lib/help.sh
. "$(dirname "$0")/../lib/help.sh"
(($# == 4)) || {
  echo 'ceph.sh: DIRECTORY, PORT, ACCESS-KEY and SECRET-KEY are needed' >&2
  exit 2
}
directory=$1
port=$2
addresses="[v2:127.0.0.1:$((port + 1)),v1:127.0.0.1:$port]"
cluster=$(</proc/sys/kernel/random/uuid)
# The OSD is announced and made with the same one.
osd=$(</proc/sys/kernel/random/uuid)
export CEPH_CONF=$directory/ceph.conf

mkdir -p "$directory"/{mon,osd,rgw,log,run}
# One copy of all, in one placement group a pool: fast to start, and a monitor does not complain.
cat >"$CEPH_CONF" <<CONF
[global]
fsid = $cluster
mon initial members = a
mon host = $addresses
public addr = 127.0.0.1
ms bind port min = $((port + 10))
ms bind port max = $((port + 60))
keyring = $directory/keyring
log file = $directory/log/\$name.log
run dir = $directory/run
admin socket = $directory/run/\$name.asok
pid file =
auth allow insecure global id reclaim = false
mon data = $directory/mon
mon data avail warn = 1
mon data avail crit = 1
mon allow pool size one = true
mon warn on pool no redundancy = false
mon max pg per osd = 1000
osd data = $directory/osd
osd objectstore = memstore
memstore device bytes = 4294967296
osd crush chooseleaf type = 0
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
[client.rgw.a]
rgw data = $directory/rgw
rgw frontends = beast endpoint=127.0.0.1:$((port + 2))
rgw thread pool size = 64
rgw override bucket index max shards = 1
CONF

# key NAME CAP...: a key with these capabilities.
key() {
  local name=$1 create=()
  shift
  [[ -e $directory/keyring ]] || create=(--create-keyring)
  ceph-authtool "${create[@]}" "$directory/keyring" --gen-key -n "$name" "$@" >/dev/null
}
key mon. --cap mon 'allow *'
key client.admin --cap mon 'allow *' --cap osd 'allow *'
key osd.0 --cap mon 'allow profile osd' --cap osd 'allow *'
key client.rgw.a --cap mon 'allow rw' --cap osd 'allow rwx'

daemons=()
end() {
  ((${#daemons[@]} == 0)) || kill "${daemons[@]}" 2>/dev/null || true
  wait
}
trap end EXIT
trap 'exit 0' TERM INT

monmaptool --create --fsid "$cluster" --addv a "$addresses" "$directory/monmap" >/dev/null
ceph-mon --mkfs -i a --monmap "$directory/monmap" --keyring "$directory/keyring"
ceph-mon -f -i a &
daemons+=($!)
ceph osd new "$osd" 0 >/dev/null
ceph-osd -i 0 --mkfs --osd-uuid "$osd"
ceph-osd -f -i 0 &
daemons+=($!)
radosgw-admin user create --uid=tidegate --display-name=tidegate --access-key="$3" --secret-key="$4" >/dev/null
echo ready
# Ends if one of them does.
wait -n
