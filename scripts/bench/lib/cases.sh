# shellcheck shell=bash disable=SC2034  # one script in parts: names are used in others
# The cases: what is measured of one server in one round. Each starts the
# server afresh, so no sample depends on the one before, and appends its JSON
# lines to RAW.

# shellcheck source=rates.sh
. "$BENCH/lib/rates.sh"
# shellcheck source=functions.sh
. "$BENCH/lib/functions.sh"

HTTP1_CASES=(
    1k-c1 1k 1k-c512 1k-c4096 4k 16k 64k 1m 100m
    pipelined churn 304 404 mixed slow bulk bulk-r10000 idle active stalled
    tls-1k tls-64k tls-1m tls-100m tls-handshake tls-resumed tls-idle
)
# The same by other clients, whose name is the last word.
CLIENT_CASES=()
for size in 1k 1k-c512 4k 16k 64k 1m; do
    CLIENT_CASES+=("$size-wrk" "$size-h2load")
done
CLIENT_CASES+=(tls-1k-wrk tls-64k-wrk tls-1m-wrk)
# HttpArena's profile static, by wrk as well.
ARENA_CASES=(static-c256 static-c1024 static-c4096 static-c6800)
# HTTP/2: h2c-* without TLS, h2-* with it. -c is connections, -m streams on each at once.
HTTP2_CASES=()
for protocol in h2c h2; do
    for size in 1k 16k 64k 1m 100m; do
        for connections in 1 16; do
            for streams in 1 32 100; do
                HTTP2_CASES+=("$protocol-$size-c$connections-m$streams")
            done
        done
    done
done
unset protocol size connections streams
# The same client with HTTP/1.1, for what HTTP/2 is compared with.
HTTP2_CASES+=(h2-1k-c16-http1 h2-1m-c16-http1)
HTTP2_CASES+=(h2-static-c256 h2-static-c1024 h2c-connect h2-connect h2-idle h2-blocked h2-stalled)
ALL_CASES=("${HTTP1_CASES[@]}" "${CLIENT_CASES[@]}" "${RATE_CASES[@]}" "${ARENA_CASES[@]}" "${HTTP2_CASES[@]}")
# Those that have a target and tell how tidegate stands as a whole: by our client and by wrk, or at a fixed rate by h2load.
TARGET_CASES=()
for size in 1k 1k-c512 4k 16k 64k 1m tls-1k tls-64k tls-1m; do
    TARGET_CASES+=("$size" "$size-wrk")
done
unset size
TARGET_CASES+=(100m tls-100m pipelined churn 304 404 bulk bulk-r10000)
# Those of limit, which is no peer: what the kernel takes for an answer, whoever gives it (limit/limit.c).
LIMIT_CASES=(100m)
for size in 1k 1k-c512 4k 16k 64k 1m; do
    LIMIT_CASES+=("$size" "$size-wrk")
done
unset size
for name in "${RATE_CASES[@]}"; do
    [[ $name != *-load* ]] || continue
    TARGET_CASES+=("$name")
    LIMIT_CASES+=("$name")
done
unset name
TARGET_CASES+=(static-c1024 static-c4096 h2-static-c256 idle active stalled)

SLOW_BYTES_PER_SECOND=20000000
SLOW_CONNECTIONS=64
BULK_READERS=12
BULK_BYTES_PER_SECOND=40000000
BULK_CONNECTIONS=16
BULK_WARMUP=0.5
# Seconds before each measurement, in which caches fill.
WARMUP=0.3
IDLE_CONNECTIONS=5000
TLS_IDLE_CONNECTIONS=1000
MEMORY_ROUNDS=3
# Streams that wait for a window, as many on each connection as all servers allow.
BLOCKED_CONNECTIONS=20
BLOCKED_STREAMS=100
STALLED_WINDOW=16384
# Connections that are opened at once, and as often as there is time.
CONNECT_CONNECTIONS=200
# As long as HttpArena measures: connecting is a part of it.
ARENA_SECONDS=5
STATIC_ACCEPT="accept-encoding: br;q=1, gzip;q=0.8"
PIPELINE_DEPTH=16
DOWNLOAD_CONNECTIONS=1000
SIP_BYTES=32768
# What a server needs beside the page cache: its heap, its sockets.
MIXED_MEMORY_LEAST=268435456

# The load generator, on its own core, in the namespace.
load() {
    in_client_netns taskset -c "$CLIENT_CPU" "$LOAD" "$@"
}

# measure CASE SERVER ROUND PHASE COMMAND ARGS...: runs the load generator and
# keeps what it prints.
measure() {
    local case=$1 server=$2 round=$3 phase=$4 command=$5
    shift 5
    ! is_secure "$case" || set -- "$@" --tls "$RUN/cert.pem"
    load "$command" --label "case=$case" --label "server=$server" --label "round=$round" \
        --label "phase=$phase" --server "$ADDRESS:${PORTS[$server]}" "$@" >>"$RAW"
}

# measure_get CASE SERVER ROUND ARGS...: what most cases are.
measure_get() {
    local case=$1 server=$2 round=$3
    shift 3
    measure "$case" "$server" "$round" alone get --seconds "$SECONDS_EACH" --warmup "$WARMUP" --cpu "$CGROUP_CPU" "$@"
}

# The client of HTTP/2, on the same core, which starts h2load; it adds --tls if that is measured.
http2() {
    in_client_netns taskset -c "$CLIENT_CPU" python3 "$BENCH/http2.py" "$@"
}

# measure_http2 CASE SERVER ROUND COMMAND ARGS...: as measure.
measure_http2() {
    local case=$1 server=$2 round=$3 command=$4
    shift 4
    [[ $SECURE == no ]] || set -- "$@" --tls
    http2 "$command" --label "case=$case" --label "server=$server" --label "round=$round" --label phase=alone \
        --server "$ADDRESS:${PORTS[$server]}" --cpu "$CGROUP_CPU" "$@" >>"$RAW"
}

# wrk, on the same core: as measure.
measure_wrk() {
    local case=$1 server=$2 round=$3
    shift 3
    ! is_secure "$case" || set -- "$@" --tls
    in_client_netns taskset -c "$CLIENT_CPU" env "OPENSSL_CONF=$RUN/openssl.cnf" python3 "$BENCH/wrk.py" \
        --label "case=$case" --label "server=$server" --label "round=$round" --label phase=alone --label client=wrk \
        --server "$ADDRESS:${PORTS[$server]}" --cpu "$CGROUP_CPU" "$@" >>"$RAW"
}

# Whether a case is one of TLS.
is_secure() {
    [[ $1 == tls-* || $1 == h2-* ]]
}

# Whether a case is one of resident memory over HTTP/1.1.
is_memory() {
    contains "$1" idle active stalled tls-idle
}

# Whether a case is one of HTTP/2.
is_http2() {
    [[ $1 == h2-* || $1 == h2c-* ]]
}

# Sets how a server is started for a case.
set_protocol() {
    SECURE=no HTTP2=no
    ! is_secure "$1" || SECURE=yes
    ! is_http2 "$1" || HTTP2=yes
}

# Whether a server is measured in a case. H2O 2.2 and lighttpd 1.4.69, set up as here, answer the tickets
# of TLS 1.3 that they have given out by a full handshake.
takes_part() {
    if [[ $1 == limit ]]; then
        contains "$2" "${LIMIT_CASES[@]}"
    elif [[ $2 == *-http1 ]]; then
        [[ $1 == tidegate ]]
    elif is_http2 "$2"; then
        contains "$1" "${HTTP2_SERVERS[@]}" || [[ $1 == tidegate-arena && $2 == h2-static-* ]]
    elif is_secure "$2"; then
        [[ $2 != tls-resumed || ($1 != h2o && $1 != lighttpd) ]] && contains "$1" "${TLS_SERVERS[@]}"
    elif [[ $2 == static-* ]]; then
        contains "$1" "${ARENA_SERVERS[@]}"
    else
        # What tidegate-memory differs in is for TLS, and what nginx-8k does for HTTP/2.
        [[ $1 != nghttpd && $1 != nginx-8k && $1 != tidegate-memory && $1 != tidegate-arena ]]
    fi
}

# Whether a case can be run here; says why not.
case_available() {
    ! is_secure "$1" || type -P openssl >/dev/null || {
        warn "$1: openssl is not installed (apt-get install openssl); skipped"
        return 1
    }
    ! is_http2 "$1" || type -P h2load >/dev/null || {
        warn "$1: h2load is not installed (apt-get install nghttp2-client); skipped"
        return 1
    }
    [[ $1 != *-wrk && $1 != static-* ]] || type -P wrk >/dev/null || {
        warn "$1: wrk is not installed (apt-get install wrk); skipped"
        return 1
    }
    [[ $1 != *-h2load ]] || type -P h2load >/dev/null || {
        warn "$1: h2load is not installed (apt-get install nghttp2-client); skipped"
        return 1
    }
    [[ $1 != *static-* || -n $ARENA ]] || {
        warn "$1: where HttpArena's files are is not told (--arena DIR); skipped"
        return 1
    }
    rate_available "$1" || return 1
    [[ $1 != slow ]] || find_tree_device || {
        warn "slow: reads from the disk of $TREE cannot be throttled here (blkio or io cgroup); skipped"
        return 1
    }
    [[ $1 != mixed || -n $CGROUP_MEMORY ]] ||
        warn "mixed: memory cannot be limited here (memory cgroup); the tree may fit into the page cache"
}

run_case() {
    case $1 in
        bulk-r*) measure_bulk "$@" --rate "${1#bulk-r}" ;;
        *-r[0-9]* | *-load[0-9]*) measure_rate "$@" ;;
        *-wrk | *-h2load) measure_by "$@" ;;
        static-c*) measure_wrk "$@" --paths "$TREE/static.list" --connections "${1#static-c}" --seconds "$ARENA_SECONDS" ;;
        1k-c1) measure_small "$@" 1 ;;
        1k) measure_small "$@" 64 ;;
        1k-c512) measure_small "$@" 512 ;;
        1k-c4096) measure_small "$@" 4096 ;;
        pipelined) measure_small "$@" 64 --depth "$PIPELINE_DEPTH" ;;
        churn) measure_small "$@" 64 --churn ;;
        304) measure_status "$@" /1k.bin --conditional ;;
        404) measure_status "$@" /none.bin ;;
        mixed) measure_mixed "$@" ;;
        4k) measure_size "$@" 64 4096 ;;
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
        h2-static-c*) measure_static "$@" "${1#h2-static-c}" ;;
        h2-connect | h2c-connect)
            measure_http2 "$@" connect --path /1k.bin --connections "$CONNECT_CONNECTIONS" --seconds "$SECONDS_EACH"
            ;;
        h2-idle) measure_http2_memory "$@" --connections "$TLS_IDLE_CONNECTIONS" ;;
        h2-blocked) measure_streams "$@" 0 ;;
        h2-stalled) measure_streams "$@" "$STALLED_WINDOW" ;;
        h2-*-http1) measure_http2_size "$@" --http1 ;;
        h2-* | h2c-*) measure_http2_size "$@" ;;
    esac
}

# The case names all: 1k-c512-wrk, tls-1m-wrk.
measure_by() {
    local case=$1 server=$2 round=$3 words size connections=64
    IFS=- read -ra words <<<"${case#tls-}"
    size=${words[0]}
    [[ $size != 1m ]] || connections=16
    [[ ${words[1]} != c* ]] || connections=${words[1]#c}
    set -- --path "/$size.bin" --connections "$connections" --seconds "$SECONDS_EACH"
    if [[ $case == *-wrk ]]; then
        measure_wrk "$case" "$server" "$round" "$@"
    else
        measure_http2 "$case" "$server" "$round" get --http1 --label client=h2load "$@"
    fi
}

# The case names all: h2c-1k-c16-m32.
measure_http2_size() {
    local case=$1 server=$2 round=$3 protocol size connections streams
    shift 3
    IFS=- read -r protocol size connections streams <<<"$case"
    [[ $streams == m* ]] || streams=m1
    measure_http2 "$case" "$server" "$round" get --path "/$size.bin" --connections "${connections#c}" \
        --streams "${streams#m}" --seconds "$SECONDS_EACH" "$@"
}

# HttpArena's static-h2: 20 files in turn, 32 streams on each connection. What it warms up is mostly handshakes.
measure_static() {
    local case=$1 server=$2 round=$3 connections=$4
    measure_http2 "$case" "$server" "$round" get --paths "$TREE/static.list" --header "$STATIC_ACCEPT" \
        --connections "$connections" --streams 32 --seconds "$SECONDS_EACH" --warmup "$((1 + connections / 256))"
}

# Streams that have sent a window of so many bytes, and may send no more.
measure_streams() {
    local case=$1 server=$2 round=$3 window=$4
    measure_http2_memory "$case" "$server" "$round" --connections "$BLOCKED_CONNECTIONS" \
        --streams "$BLOCKED_STREAMS" --window "$window" --blocked-path /100m.bin
}

measure_http2_memory() {
    local case=$1 server=$2 round=$3
    shift 3
    measure_http2 "$case" "$server" "$round" memory --path /1k.bin --seconds "$IDLE_SECONDS" \
        --processes "${CGROUP_DIRS[0]}/cgroup.procs" "$@"
}

measure_size() {
    local case=$1 server=$2 round=$3 connections=$4 length=$5
    shift 5
    measure_get "$case" "$server" "$round" --path "/${case#tls-}.bin" --length "$length" \
        --connections "$connections" "$@"
}

# The 1 KiB file with so many connections.
measure_small() {
    local case=$1 server=$2 round=$3 connections=$4
    shift 4
    measure_get "$case" "$server" "$round" --path /1k.bin --length 1024 --connections "$connections" "$@"
}

# The case is the status that every response must have.
measure_status() {
    local case=$1 server=$2 round=$3 path=$4
    shift 4
    measure_get "$case" "$server" "$round" --path "$path" --status "$case" --connections 64 "$@"
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

# Small requests beside rate-limited readers of a hot file, as many as the server answers or at a fixed rate.
measure_bulk() {
    local case=$1 server=$2 round=$3
    shift 3
    measure "$case" "$server" "$round" beside get --path /1k.bin --length 1024 \
        --connections "$BULK_CONNECTIONS" --seconds "$SECONDS_EACH" --warmup "$BULK_WARMUP" --cpu "$CGROUP_CPU" \
        --bulk-path /100m.bin --bulk-readers "$BULK_READERS" --bulk-rate "$BULK_BYTES_PER_SECOND" "$@"
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
    local server=$1 file files=(1k 16k 64k 1m 100m) status=0
    [[ $HTTP2 == yes ]] || files+=(4k cold-1 cold-2)
    start_server "$server" || return 1
    for file in "${files[@]}"; do
        check_file "$server" "$file" || status=1
    done
    # With HTTP/1.1: HTTP/2 sends the same files by the same way.
    if [[ -n $ARENA && $HTTP2 == no ]] && takes_part "$server" static-c256; then
        check_arena "$server" || status=1
    fi
    [[ $SECURE == no ]] || check_cipher "$server" || status=1
    stop_server
    return "$status"
}
