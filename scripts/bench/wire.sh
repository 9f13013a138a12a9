#!/usr/bin/env bash
# Measures servers over something that is more of a wire than loopback: see scripts/bench/README.md. Needs root, and
# `apt-get install ethtool nftables` beside what compare.sh needs.
#
#   scripts/bench/wire.sh [--wires gso,nogso,rate,loss,far] [--servers LIST] [--rounds N] [--seconds N] [--out DIR]
#                         [--tree DIR] [--build-dir DIR]
#
# The server is in one network namespace, on core 0, the client in another, on core 1. Appends to DIR/raw.jsonl, so that a run
# may be made in parts; `wire.py page DIR docs/benchmarks-wire.md` makes the page of all that is in it. The defaults take
# about eight minutes.
# shellcheck source-path=SCRIPTDIR
set -euo pipefail

BENCH=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd -- "$BENCH/../.." && pwd)
RUN_ID=$$
SERVER_CPU=0
CLIENT_CPU=1
BUILT=${CARGO_TARGET_DIR:-$ROOT/target}/release

# shellcheck source=../lib/help.sh
. "$BENCH/../lib/help.sh" "$@"
# shellcheck source=lib/host.sh
. "$BENCH/lib/host.sh"
# shellcheck source=lib/peers.sh
. "$BENCH/lib/peers.sh"
# shellcheck source=lib/cases.sh
. "$BENCH/lib/cases.sh"

ADDRESS=10.99.0.1
CLIENT_ADDRESS=10.99.0.2
ALL_WIRES=(gso nogso rate loss far)
# rate: what tbf lets through. far: a path of tun_path.py.
RATE=1gbit
LOSS_PER_MILLE=1
FAR=(--rate 12500000 --queue 500000 --delay 0.02 --loss 0.0005)
# A path of a round trip needs time until its windows are open.
FAR_SECONDS=2
# What each wire is measured with: size and connections. Where the line limits, large files tell it all; a path of a round
# trip answers one request after another with small ones.
declare -A HTTP1=(
    [gso]="1k:64 64k:64 1m:16 100m:16" [nogso]="1k:64 64k:64 1m:16 100m:16"
    [rate]="64k:64 1m:16 100m:16" [loss]="64k:64 1m:16 100m:16" [far]="64k:64 100m:16"
)
declare -A HTTP2_OF_TLS=([gso]="64k:16 1m:16" [nogso]="64k:16 1m:16" [rate]="1m:16" [loss]="1m:16" [far]="64k:16")
STREAMS=8

die() {
    echo "wire.sh: $*" >&2
    exit 1
}

warn() {
    echo "wire.sh: $*" >&2
}

# contains WORD LIST...
contains() {
    local word=$1 other
    shift
    for other in "$@"; do [[ $other != "$word" ]] || return 0; done
    return 1
}

parse_options() {
    COMMAND_LINE=$(command_line wire.sh "$@")
    WIRES=("${ALL_WIRES[@]}") SERVERS=(tidegate nginx lighttpd h2o)
    ROUNDS=4 SECONDS_EACH=0.5 OUT="$ROOT/target/bench/wire" TREE="$ROOT/target/bench/tree"
    while [[ $# -gt 0 ]]; do
        [[ $# -ge 2 ]] || die "$1 needs a value"
        case $1 in
            --wires) IFS=, read -ra WIRES <<<"$2" ;;
            --servers) IFS=, read -ra SERVERS <<<"$2" ;;
            --rounds) ROUNDS=$2 ;;
            --seconds) SECONDS_EACH=$2 ;;
            --out) OUT=$2 ;;
            --tree) TREE=$2 ;;
            --build-dir) BUILT=$2 ;;
            *) die "unknown option $1" ;;
        esac
        shift 2
    done
    local name
    for name in "${WIRES[@]}"; do contains "$name" "${ALL_WIRES[@]}" || die "no such wire: $name"; done
}

check_host() {
    local tool
    [[ $EUID == 0 ]] || die "needs root: for network namespaces and cgroups"
    for tool in ip nsenter taskset python3 openssl h2load ethtool nft tc; do
        PATH="$PATH:/usr/sbin:/sbin" type -P "$tool" >/dev/null ||
            die "$tool is not installed (apt-get install iproute2 util-linux python3 openssl nghttp2-client ethtool nftables)"
    done
    LOAD="$BUILT/tidegate-load"
    [[ -x $LOAD && -x $BUILT/tidegate ]] ||
        die "$BUILT lacks tidegate or tidegate-load (cargo build --release -p tidegate -p tidegate-load)"
    ulimit -n "$(ulimit -Hn)"
}

# Two namespaces, both with cubic.
make_namespaces() {
    RUN_ID="$RUN_ID-client" make_netns
    CLIENT_NETNS=$NETNS
    make_netns
}

clean_up() {
    stop_server
    lay_down
    remove_netns
    [[ -z ${CLIENT_NETNS:-} ]] || NETNS=$CLIENT_NETNS remove_netns
    restore_v2
    [[ -z ${RUN:-} ]] || rm -rf -- "$RUN"
}

# --- wires -------------------------------------------------------------------

PATH_PID=""

# lay NAME: the wire between the namespaces.
lay() {
    case $1 in
        far) lay_path ;;
        *) lay_veth "$1" ;;
    esac
}

lay_veth() {
    ip -n "$NETNS" link add wire mtu 1500 type veth peer name wire mtu 1500 netns "$CLIENT_NETNS"
    ip -n "$NETNS" addr add "$ADDRESS/24" dev wire
    ip -n "$CLIENT_NETNS" addr add "$CLIENT_ADDRESS/24" dev wire
    ip -n "$NETNS" link set wire up
    ip -n "$CLIENT_NETNS" link set wire up
    receive_on wire
    case $1 in
        nogso) single_packets ;;
        rate) in_netns tc qdisc add dev wire root tbf rate "$RATE" burst 128k limit 1m ;;
        loss) single_packets && lose ;;
    esac
}

# Every packet goes by itself, with at most 1500 bytes.
single_packets() {
    in_netns ethtool -K wire tso off gso off gro off >/dev/null
    in_client_netns ethtool -K wire tso off gso off gro off >/dev/null
}

# The client's side drops some of what comes; where the sender drops it, TCP is told at once.
lose() {
    in_client_netns nft -f - <<END
table ip wire {
    chain input {
        type filter hook input priority 0;
        tcp sport 8000-8099 numgen random mod 1000 < $LOSS_PER_MILLE drop
    }
}
END
}

lay_path() {
    taskset -c "$CLIENT_CPU" python3 "$BENCH/tun_path.py" --near "$NETNS" --far "$CLIENT_NETNS" "${FAR[@]}" >"$RUN/path" &
    PATH_PID=$!
    for _ in {1..100}; do
        [[ ! -s $RUN/path ]] || break
        sleep 0.05
    done
    [[ -s $RUN/path ]] || die "the path did not come up"
    receive_on path
}

# What arrives is worked off on the receiver's core (receive packet steering), as it is by a network card. Otherwise the
# sender's core would do it.
receive_on() {
    ip netns exec "$NETNS" sh -c "printf %x $((1 << SERVER_CPU)) >/sys/class/net/$1/queues/rx-0/rps_cpus"
    ip netns exec "$CLIENT_NETNS" sh -c "printf %x $((1 << CLIENT_CPU)) >/sys/class/net/$1/queues/rx-0/rps_cpus"
}

lay_down() {
    if [[ -n $PATH_PID ]]; then
        kill "$PATH_PID" 2>/dev/null || true
        wait "$PATH_PID" 2>/dev/null || true
        PATH_PID=""
    fi
    [[ -z ${CLIENT_NETNS:-} ]] || in_client_netns nft flush ruleset 2>/dev/null || true
    ip -n "${NETNS:-none}" link delete wire 2>/dev/null || true
}

make_files() {
    mkdir -p "$TREE"
    make_file 1k.bin 1024
    make_file 64k.bin 65536
    make_file 1m.bin 1048576
    make_file 100m.bin 104857600
}

# What is measured, where and when.
write_run_line() {
    local server versions=()
    for server in "${SERVERS[@]}"; do versions+=("$server=$(server_version "$server")"); done
    python3 "$BENCH/wire.py" run-line --revision "$(git -C "$ROOT" describe --always --dirty 2>/dev/null || echo unknown)" \
        --command "$COMMAND_LINE" --seconds "$SECONDS_EACH" "${versions[@]}" >>"$OUT/raw.jsonl"
}

# --- measurements ------------------------------------------------------------

# measure_wire WIRE ROUND SERVER: every case of one server.
measure_wire() {
    local wire=$1 round=$2 server=$3 each
    SECURE=no HTTP2=no
    if start_server "$server"; then
        for each in ${HTTP1[$wire]}; do measure_one "$wire" "$round" "$server" "${each%:*}" "${each#*:}"; done
        stop_server
    fi
    contains "$server" "${HTTP2_SERVERS[@]}" || return 0
    SECURE=yes HTTP2=yes
    if start_server "$server"; then
        for each in ${HTTP2_OF_TLS[$wire]}; do
            measure_one "$wire" "$round" "$server" "${each%:*}" "${each#*:}" --streams "$STREAMS"
        done
        stop_server
    fi
}

# measure_one WIRE ROUND SERVER SIZE CONNECTIONS [--streams N]
measure_one() {
    local wire=$1 round=$2 server=$3 size=$4 connections=$5 seconds=$SECONDS_EACH
    shift 5
    [[ $wire != far ]] || seconds=$FAR_SECONDS
    [[ $size != 100m ]] || set -- "$@" --discard
    in_client_netns taskset -c "$CLIENT_CPU" python3 "$BENCH/wire.py" measure --wire "$wire" --round "$round" \
        --server "$server" --address "$ADDRESS:${PORTS[$server]}" --file "$TREE/$size.bin" \
        --connections "$connections" --seconds "$seconds" --cpu "$CGROUP_CPU" --core "$SERVER_CPU" \
        --load "$LOAD" "$@" >>"$OUT/raw.jsonl" || warn "$server failed with $size over $wire, round $round"
}

main() {
    local wire round index
    parse_options "$@"
    check_host
    mkdir -p "$OUT/config" "$OUT/log"
    OUT=$(cd "$OUT" && pwd)
    RUN=$(mktemp -d)
    trap clean_up EXIT
    trap 'exit 130' INT TERM
    make_certificate
    make_files
    TREE=$(cd "$TREE" && pwd)
    find_cgroups
    make_namespaces
    write_run_line
    for wire in "${WIRES[@]}"; do
        lay "$wire"
        for ((round = 1; round <= ROUNDS; round++)); do
            for ((index = 0; index < ${#SERVERS[@]}; index++)); do
                measure_wire "$wire" "$round" "${SERVERS[$(((index + round - 1) % ${#SERVERS[@]}))]}"
            done
        done
        lay_down
    done
    python3 "$BENCH/wire.py" page "$OUT" "$OUT/page.md"
    cat "$OUT/page.md"
}

main "$@"
