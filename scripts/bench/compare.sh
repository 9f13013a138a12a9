#!/usr/bin/env bash
# Measures tidegate and its peers side by side: see scripts/bench/README.md.
# shellcheck source-path=SCRIPTDIR
set -euo pipefail

BENCH=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd -- "$BENCH/../.." && pwd)
RUN_ID=$$
SERVER_CPU=0
CLIENT_CPU=1
COLD_BYTES=209715200
BUILT=${CARGO_TARGET_DIR:-$ROOT/target}/release

# shellcheck source=lib/host.sh
. "$BENCH/lib/host.sh"
# shellcheck source=lib/peers.sh
. "$BENCH/lib/peers.sh"
# shellcheck source=lib/cases.sh
. "$BENCH/lib/cases.sh"

usage() {
    cat <<END
Usage: scripts/bench/compare.sh [OPTIONS]

Measures tidegate and its peers side by side, each on core $SERVER_CPU with the client on
core $CLIENT_CPU, in a network namespace of its own. Needs root.

  --servers LIST   of: ${ALL_SERVERS[*]} (all of these if not given),
                   ${EXTRA_SERVERS[*]}
  --cases LIST     of: ${HTTP1_CASES[*]},
                   ${CLIENT_CASES[*]},
                   ${RATE_CASES[*]},
                   ${ARENA_CASES[*]},
                   ${HTTP2_CASES[*]};
                   http1, clients, rates, arena and http2 are all of a kind (all if not given);
                   targets are those that have a target, without most of HTTP/2
  --rounds N       interleaved rounds (5)
  --seconds N      for each measurement, whole seconds (2)
  --idle-seconds N in which the CPU time of idle, active and stalled connections is taken (10)
  --quick          2 rounds of 1 second: to see that it works, not for numbers
  --out DIR        where the results go (target/bench/DATE)
  --mixed-bytes N  the tree of the mixed case (2147483648); the server gets a
                   quarter of it as memory, at least 256 MiB
  --saturation N   requests/s of which 1k-load10 and so on are a share (the best
                   peer's in the case 1k of this run)
  --functions      at the end, where the CPU goes by function (perf) in each case whose target
                   for CPU is missed: of tidegate, the best peer and limit
  --arena DIR      HttpArena's data/static, for static-* and h2-static-*
  --tree DIR       the files to serve, made if missing, on a disk (target/bench/tree)
  --no-build       take what was built before
  --help

Lists are separated by commas. Environment: SWS_ROOT, where static-web-server
is installed if it is not in PATH (cargo install --root DIR static-web-server).
END
}

die() {
    echo "compare.sh: $*" >&2
    exit 1
}

warn() {
    echo "compare.sh: $*" >&2
}

parse_options() {
    local date
    COMMAND_LINE=$(command_line compare.sh "$@")
    date=$(date +%Y-%m-%d-%H%M%S)
    ROUNDS=5 SECONDS_EACH=2 IDLE_SECONDS=10 BUILD=yes MIXED_BYTES=2147483648 ARENA="" FUNCTIONS=no
    OUT="$ROOT/target/bench/$date" TREE="$ROOT/target/bench/tree"
    SWS_ROOT=${SWS_ROOT:-$ROOT/target/bench/static-web-server}
    SERVERS=("${ALL_SERVERS[@]}") CASES=("${ALL_CASES[@]}")
    while [[ $# -gt 0 ]]; do
        case $1 in
            --servers) need_value "$@" && IFS=, read -ra SERVERS <<<"$2" && shift ;;
            --cases) need_value "$@" && IFS=, read -ra CASES <<<"$2" && shift ;;
            --rounds) need_value "$@" && ROUNDS=$2 && shift ;;
            --seconds) need_value "$@" && SECONDS_EACH=$2 && shift ;;
            --idle-seconds) need_value "$@" && IDLE_SECONDS=$2 && shift ;;
            --quick) ROUNDS=2 SECONDS_EACH=1 IDLE_SECONDS=2 MIXED_BYTES=536870912 ;;
            --mixed-bytes) need_value "$@" && MIXED_BYTES=$2 && shift ;;
            --out) need_value "$@" && OUT=$2 && shift ;;
            --saturation) need_value "$@" && SATURATION=$2 && shift ;;
            --arena) need_value "$@" && ARENA=$2 && shift ;;
            --tree) need_value "$@" && TREE=$2 && shift ;;
            --functions) FUNCTIONS=yes ;;
            --no-build) BUILD=no ;;
            --help | -h) usage && exit 0 ;;
            *) usage >&2 && die "unknown option $1" ;;
        esac
        shift
    done
    check_options
    MIXED="mixed-$MIXED_BYTES"
}

need_value() {
    [[ $# -ge 2 ]] || die "$1 needs a value"
}

check_options() {
    local name
    [[ $ROUNDS =~ ^[1-9][0-9]*$ ]] || die "--rounds: $ROUNDS is not a whole number above 0"
    [[ $SECONDS_EACH =~ ^[1-9][0-9]*$ ]] || die "--seconds: $SECONDS_EACH is not a whole number above 0"
    [[ $IDLE_SECONDS =~ ^[1-9][0-9]*$ ]] || die "--idle-seconds: $IDLE_SECONDS is not a whole number above 0"
    [[ $MIXED_BYTES =~ ^[1-9][0-9]*$ ]] || die "--mixed-bytes: $MIXED_BYTES is not a whole number above 0"
    [[ $SATURATION =~ ^([1-9][0-9]*)?$ ]] || die "--saturation: $SATURATION is not a whole number above 0"
    for name in "${SERVERS[@]}"; do
        contains "$name" "${ALL_SERVERS[@]}" "${EXTRA_SERVERS[@]}" || die "no such server: $name"
    done
    expand_cases
    for name in "${CASES[@]}"; do
        contains "$name" "${ALL_CASES[@]}" || die "no such case: $name"
    done
    [[ -z $ARENA || -f $ARENA/reset.css ]] || die "--arena: $ARENA does not hold HttpArena's files (data/static)"
}

expand_cases() {
    local name cases=()
    for name in "${CASES[@]}"; do
        case $name in
            http1) cases+=("${HTTP1_CASES[@]}") ;;
            http2) cases+=("${HTTP2_CASES[@]}") ;;
            clients) cases+=("${CLIENT_CASES[@]}") ;;
            rates) cases+=("${RATE_CASES[@]}") ;;
            targets) cases+=("${TARGET_CASES[@]}") ;;
            arena) cases+=("${ARENA_CASES[@]}") ;;
            *) cases+=("$name") ;;
        esac
    done
    CASES=("${cases[@]}")
}

# contains WORD LIST...
contains() {
    local word=$1 other
    shift
    for other in "$@"; do [[ $other != "$word" ]] || return 0; done
    return 1
}

check_host() {
    local tool cpu
    [[ $EUID == 0 ]] || die "needs root: for a network namespace, cgroups and a slowed disk (sudo $COMMAND_LINE)"
    for tool in ip nsenter taskset findmnt python3 awk sed; do
        type -P "$tool" >/dev/null || die "$tool is not installed (apt-get install iproute2 util-linux python3)"
    done
    for cpu in "$SERVER_CPU" "$CLIENT_CPU"; do
        taskset -c "$cpu" true 2>/dev/null || die "needs core $cpu"
    done
    ulimit -n "$(ulimit -Hn)"
    [[ $FUNCTIONS == no ]] || type -P perf >/dev/null || die "--functions: perf is not installed (apt-get install linux-perf)"
    [[ $(ulimit -n) == unlimited || $(ulimit -n) -ge 16384 ]] ||
        die "needs 16384 open files, the limit here is $(ulimit -n) (ulimit -n)"
}

# What else runs takes time from both cores, and cache from all.
check_quiet() {
    LOAD_AVERAGE=$(cut -d ' ' -f 1 /proc/loadavg)
    awk -v load="$LOAD_AVERAGE" 'BEGIN { exit !(load > 0.5) }' || return 0
    warn "the load average is $LOAD_AVERAGE: what else runs here will show in the numbers"
}

# Builds as the user who called sudo, so that root leaves no files in target/.
build() {
    local packages=(-p tidegate-load)
    LOAD="$BUILT/tidegate-load"
    [[ " ${SERVERS[*]}" != *" tidegate"* ]] || packages+=(-p tidegate)
    if [[ $BUILD == yes ]]; then
        local cargo=(cargo build --release --target-dir "${BUILT%/release}" --manifest-path "$ROOT/Cargo.toml" "${packages[@]}")
        if [[ -n ${SUDO_USER:-} && $SUDO_USER != root ]]; then
            sudo -u "$SUDO_USER" -i -- "${cargo[@]}" || die "the build failed"
        else
            "${cargo[@]}" || die "the build failed"
        fi
    fi
    [[ -x $LOAD ]] || die "$LOAD is not there; run it without --no-build"
}

# Keeps the cases that can be run, and the servers that are installed and take part in one.
select_available() {
    local name servers=() cases=()
    for name in "${CASES[@]}"; do
        ! case_available "$name" || cases+=("$name")
    done
    CASES=("${cases[@]}")
    for name in "${SERVERS[@]}"; do
        if [[ -z $(server_program "$name") ]]; then
            warn "$name is not installed; going on without it"
        elif takes_any_part "$name"; then
            servers+=("$name")
        fi
    done
    SERVERS=("${servers[@]}")
}

takes_any_part() {
    local case
    for case in "${CASES[@]}"; do
        ! takes_part "$1" "$case" || return 0
    done
    return 1
}

verify_servers() {
    local server servers=()
    for server in "${SERVERS[@]}"; do
        if verify_protocols "$server"; then
            servers+=("$server")
        else
            warn "$server does not serve the files as they are; going on without it (see $OUT/log/$server.log)"
        fi
    done
    SERVERS=("${servers[@]}")
    [[ ${#SERVERS[@]} -gt 0 && ${#CASES[@]} -gt 0 ]] || die "nothing left to measure"
}

# With each protocol that it is measured with.
verify_protocols() {
    local case verified=() status=0
    for case in "${CASES[@]}"; do
        takes_part "$1" "$case" || continue
        set_protocol "$case"
        ! contains "$HTTP2-$SECURE" "${verified[@]:-}" || continue
        verified+=("$HTTP2-$SECURE")
        verify_server "$1" || status=1
    done
    return "$status"
}

# The first line of raw.jsonl: what was run, with what, where and when.
write_run_line() {
    local server versions=()
    for server in "${SERVERS[@]}"; do
        versions+=("$server=$(server_version "$server")")
    done
    DATE=$(date -u +%Y-%m-%dT%H:%M:%SZ) KERNEL=$(uname -r) COMMAND_LINE=$COMMAND_LINE \
        CPU=$(sed -n 's/^model name\t*: //p' /proc/cpuinfo | sed -n 1p) \
        REVISION=$(git -C "$ROOT" describe --always --dirty 2>/dev/null || echo unknown) \
        ROUNDS=$ROUNDS SECONDS_EACH=$SECONDS_EACH CPU_COUNTER=$CGROUP_CPU \
        LOAD_AVERAGE=$LOAD_AVERAGE \
        python3 "$BENCH/report.py" run-line "${versions[@]}" >"$RAW"
}

# Round after round, case after case, each server in turn; the order moves on
# by one each round, so that none is always first or always after the same one.
# Memory, which nothing else on the machine disturbs, needs but some of them.
run_rounds() {
    local round case index server
    for ((round = 1; round <= ROUNDS; round++)); do
        for case in "${CASES[@]}"; do
            ! is_memory "$case" || ((round <= MEMORY_ROUNDS)) || continue
            for ((index = 0; index < ${#SERVERS[@]}; index++)); do
                server=${SERVERS[$(((index + round - 1) % ${#SERVERS[@]}))]}
                echo "round $round of $ROUNDS, $case, $server" >&2
                run_sample "$case" "$server" "$round"
            done
        done
    done
}

run_sample() {
    takes_part "$2" "$1" || return 0
    set_protocol "$1"
    if start_server "$2"; then
        run_case "$@" || warn "$2 failed in $1, round $3 (see $OUT/log/$2.log)"
        stop_server
    else
        warn "$2 did not start for $1, round $3 (see $OUT/log/$2.log)"
    fi
}

clean_up() {
    stop_server
    remove_netns
    restore_v2
    [[ -z ${RUN:-} ]] || rm -rf -- "$RUN"
}

# Results belong to the user who called sudo.
hand_over() {
    [[ -n ${SUDO_UID:-} ]] || return 0
    chown -R "$SUDO_UID:${SUDO_GID:-$SUDO_UID}" "$OUT" "$TREE"
    [[ ! -d $ROOT/target/bench ]] || chown "$SUDO_UID:${SUDO_GID:-$SUDO_UID}" "$ROOT/target/bench"
}

main() {
    parse_options "$@"
    check_host
    check_quiet
    build
    mkdir -p "$OUT/config" "$OUT/log"
    OUT=$(cd "$OUT" && pwd)
    RAW="$OUT/raw.jsonl"
    trap clean_up EXIT
    trap 'exit 130' INT TERM
    RUN=$(mktemp -d)
    ! type -P openssl >/dev/null || make_certificate
    build_limit
    make_tree
    TREE=$(cd "$TREE" && pwd)
    find_cgroups
    make_netns
    select_available
    verify_servers
    write_run_line
    run_rounds
    [[ $FUNCTIONS == no ]] || run_functions
    python3 "$BENCH/report.py" report "$OUT"
    hand_over
}

main "$@"
