# shellcheck shell=bash disable=SC2034  # one script in parts: names are used in others
# The cases: what is measured of one server in one round. Each starts the
# server afresh, so no sample depends on the one before, and appends its JSON
# lines to raw.jsonl.

ALL_CASES=(
    1k-c1 1k 1k-c512 1k-c4096 16k 64k 1m 100m
    pipelined churn 304 404 mixed slow bulk idle active stalled
    tls-1k tls-64k tls-1m tls-100m tls-handshake tls-resumed tls-idle
)

SLOW_BYTES_PER_SECOND=20000000
SLOW_CONNECTIONS=64
BULK_READERS=12
BULK_BYTES_PER_SECOND=40000000
BULK_CONNECTIONS=16
IDLE_CONNECTIONS=5000
TLS_IDLE_CONNECTIONS=1000
PIPELINE_DEPTH=16
DOWNLOAD_CONNECTIONS=1000
SIP_BYTES=32768
# What a server needs beside the page cache: its heap, its sockets.
MIXED_MEMORY_LEAST=268435456

# The load generator, on its own core, in the namespace.
load() {
    in_netns taskset -c "$CLIENT_CPU" "$LOAD" "$@"
}

# measure CASE SERVER ROUND PHASE COMMAND ARGS...: runs the load generator and
# keeps what it prints.
measure() {
    local case=$1 server=$2 round=$3 phase=$4 command=$5
    shift 5
    ! is_secure "$case" || set -- "$@" --tls "$RUN/cert.pem"
    load "$command" --label "case=$case" --label "server=$server" --label "round=$round" \
        --label "phase=$phase" --server "127.0.0.1:${PORTS[$server]}" "$@" >>"$OUT/raw.jsonl"
}

# Whether a case is one of TLS.
is_secure() {
    [[ $1 == tls-* ]]
}

# Whether a server is measured in a case. What the variant of tidegate differs in is for TLS. H2O 2.2 and lighttpd 1.4.69, set up as here, answer the tickets
# of TLS 1.3 that they have given out by a full handshake.
takes_part() {
    [[ $2 != tls-resumed || ($1 != h2o && $1 != lighttpd) ]] || return 1
    [[ $1 != tidegate-memory || $2 == tls-* ]] || return 1
    ! is_secure "$2" || [[ -v TLS_LINES[$1] ]]
}

# Whether a case can be run here; says why not.
case_available() {
    ! is_secure "$1" || type -P openssl >/dev/null || {
        warn "$1: openssl is not installed (apt-get install openssl); skipped"
        return 1
    }
    [[ $1 != slow ]] || find_tree_device || {
        warn "slow: reads from the disk of $TREE cannot be throttled here (blkio or io cgroup); skipped"
        return 1
    }
    [[ $1 != mixed || -n $CGROUP_MEMORY ]] ||
        warn "mixed: memory cannot be limited here (memory cgroup); the tree may fit into the page cache"
}

run_case() {
    case $1 in
        1k-c1) measure_small "$@" 1 ;;
        1k) measure_small "$@" 64 ;;
        1k-c512) measure_small "$@" 512 ;;
        1k-c4096) measure_small "$@" 4096 ;;
        pipelined) measure_small "$@" 64 --depth "$PIPELINE_DEPTH" ;;
        churn) measure_small "$@" 64 --churn ;;
        304) measure_status "$@" /1k.bin --conditional ;;
        404) measure_status "$@" /none.bin ;;
        mixed) measure_mixed "$@" ;;
        16k) measure_size "$@" 64 16384 ;;
        64k) measure_size "$@" 64 65536 ;;
        1m) measure_size "$@" 16 1048576 ;;
        # A client that copied 100 MiB bodies would be slower than the server.
        100m) measure_size "$@" 16 104857600 --discard ;;
        slow) measure_slow "$@" ;;
        bulk) measure_bulk "$@" ;;
        idle) measure_idle "$@" "$IDLE_CONNECTIONS" ;;
        active) measure_idle "$@" "$DOWNLOAD_CONNECTIONS" --download /100m.bin --sip "$SIP_BYTES" ;;
        stalled) measure_idle "$@" "$DOWNLOAD_CONNECTIONS" --download /100m.bin ;;
        tls-1k) measure_size "$@" 64 1024 ;;
        tls-64k) measure_size "$@" 64 65536 ;;
        tls-1m) measure_size "$@" 16 1048576 ;;
        tls-100m) measure_size "$@" 4 104857600 ;;
        # The client makes one handshake at a time.
        tls-handshake) measure_small "$@" 1 --churn ;;
        tls-resumed) measure_small "$@" 1 --churn --resume ;;
        tls-idle) measure_idle "$@" "$TLS_IDLE_CONNECTIONS" ;;
    esac
}

measure_size() {
    local case=$1 server=$2 round=$3 connections=$4 length=$5
    shift 5
    measure "$case" "$server" "$round" alone get --path "/${case#tls-}.bin" --length "$length" \
        --connections "$connections" --seconds "$SECONDS_EACH" --cpu "$CGROUP_CPU" "$@"
}

# The 1 KiB file with so many connections.
measure_small() {
    local case=$1 server=$2 round=$3 connections=$4
    shift 4
    measure "$case" "$server" "$round" alone get --path /1k.bin --length 1024 \
        --connections "$connections" --seconds "$SECONDS_EACH" --cpu "$CGROUP_CPU" "$@"
}

# The case is the status that every response must have.
measure_status() {
    local case=$1 server=$2 round=$3 path=$4
    shift 4
    measure "$case" "$server" "$round" alone get --path "$path" --status "$case" \
        --connections 64 --seconds "$SECONDS_EACH" --cpu "$CGROUP_CPU" "$@"
}

# Files of many sizes, none of them in memory at first, and all of them never.
measure_mixed() {
    local case=$1 server=$2 round=$3 limit=$((MIXED_BYTES / 4))
    [[ $limit -ge $MIXED_MEMORY_LEAST ]] || limit=$MIXED_MEMORY_LEAST
    "$LOAD" evict "$TREE/$MIXED" >/dev/null
    [[ -z $CGROUP_MEMORY ]] || limit_memory "$limit"
    measure "$case" "$server" "$round" alone get --path "/$MIXED" --trace "$TREE/$MIXED/list" --discard \
        --connections 64 --seconds "$SECONDS_EACH" --warmup "$((4 * SECONDS_EACH))" --cpu "$CGROUP_CPU"
}

# Small requests alone, then while two evicted files are read from a disk that
# is slowed for this server.
measure_slow() {
    local case=$1 server=$2 round=$3
    local small=(--path /1k.bin --length 1024 --connections "$SLOW_CONNECTIONS" --cpu "$CGROUP_CPU")
    measure "$case" "$server" "$round" alone get "${small[@]}" --seconds "$SECONDS_EACH"
    "$LOAD" evict "$TREE/cold-1.bin" "$TREE/cold-2.bin" >/dev/null
    throttle_reads "$SLOW_BYTES_PER_SECOND"
    measure "$case" "$server" "$round" beside get "${small[@]}" --seconds "$((2 * SECONDS_EACH))" \
        --beside /cold-1.bin --beside /cold-2.bin
}

# Small requests beside rate-limited readers of a hot file.
measure_bulk() {
    local case=$1 server=$2 round=$3
    measure "$case" "$server" "$round" beside get --path /1k.bin --length 1024 \
        --connections "$BULK_CONNECTIONS" --seconds "$SECONDS_EACH" --warmup 1 --cpu "$CGROUP_CPU" \
        --bulk-path /100m.bin --bulk-readers "$BULK_READERS" --bulk-rate "$BULK_BYTES_PER_SECOND"
}

measure_idle() {
    local case=$1 server=$2 round=$3 connections=$4
    shift 4
    measure "$case" "$server" "$round" alone idle --path /1k.bin --connections "$connections" \
        --seconds "$IDLE_SECONDS" --cpu "$CGROUP_CPU" --processes "${CGROUP_DIRS[0]}/cgroup.procs" "$@"
}

# Compares what a server sends with the files, all of them, before anything is
# measured. This also brings the files into the page cache.
verify_server() {
    local server=$1 file status=0
    start_server "$server" || return 1
    for file in 1k 16k 64k 1m 100m cold-1 cold-2; do
        check_file "$server" "$file" || status=1
    done
    stop_server
    return "$status"
}
