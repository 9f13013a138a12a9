#!/usr/bin/env bash
# Counts the user-space instructions that a request costs the server, by callgrind, on its main
# paths: see scripts/bench/README.md, "Instructions of a request".
#
#   scripts/bench/instructions.sh                 prints them beside the baseline
#   scripts/bench/instructions.sh --check         and exits 1 when one has grown by more than 5 %
#   scripts/bench/instructions.sh --write         and makes them the baseline
#   ... --server BIN                              of this binary, instead of building the release
#
# Exits 77 where they can't be counted or, with --check, can't be compared: no valgrind, or another
# compiler, C library, valgrind or kind of CPU than the baseline is of.
set -euo pipefail

BENCH=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd -- "$BENCH/../.." && pwd)
readonly BASELINE=$BENCH/instructions.tsv
readonly GROWTH_PERCENT=5
readonly START_SECONDS=60
readonly STOP_SECONDS=10
# What is counted: the connection's task with all that it calls. How often the executor around it looks
# at its rings before it sleeps depends on the clock, and costs from half as much again to three times more.
readonly COUNTED='<tidegate_server::connection::Serving as core::future::future::Future>::poll'

die() {
    echo "instructions.sh: $*" >&2
    exit 1
}

skip() {
    echo "skipped: $*"
    exit 77
}

parse_options() {
    MODE="show" SERVER=
    while [[ $# -gt 0 ]]; do
        case $1 in
            --check) MODE="check" ;;
            --write) MODE="write" ;;
            --server)
                [[ $# -ge 2 ]] || die "$1 needs a value"
                SERVER=$2
                shift
                ;;
            --help | -h) sed -n '2,/^set /{/^set /!s/^# \{0,1\}//p}' "$0" && exit 0 ;;
            *) die "unknown option $1 (--help has them all)" ;;
        esac
        shift
    done
}

check_host() {
    local tool
    [[ $(uname -m) == x86_64 ]] || skip 'the baseline is of x86-64'
    for tool in valgrind vgdb python3 cc readelf; do
        command -v "$tool" >/dev/null ||
            skip "$tool is not installed (apt-get install valgrind python3 build-essential)"
    done
}

# The release as `cargo build --release` makes it. The static one of scripts/vm/smoke.sh won't do:
# nothing can be preloaded into it.
build() {
    if [[ -z $SERVER ]]; then
        cargo build --release --locked --manifest-path "$ROOT/Cargo.toml" --package tidegate >&2
        SERVER=${CARGO_TARGET_DIR:-$ROOT/target}/release/tidegate
    fi
    [[ -x $SERVER ]] || die "$SERVER is not there"
    ! readelf --program-headers "$SERVER" | grep -q INTERP || return 0
    die "$SERVER is static: nothing can be preloaded into it"
}

# What the counts depend on besides the source, one line each: the compiler as the binary has it, and
# whether there is AVX2, by which memchr and the C library choose their code.
conditions() {
    readelf --string-dump=.comment "$SERVER" | grep -o 'rustc version [^ ]*' | sort -u
    getconf GNU_LIBC_VERSION
    valgrind --version
    if grep -qw avx2 /proc/cpuinfo; then echo 'CPU with AVX2'; else echo 'CPU without AVX2'; fi
}

# Starts the server under callgrind on a free port; sets PID and ADDRESS.
start() {
    local waited
    cc -O2 -Wall -Wextra -Werror -shared -fPIC -o "$RUN/preload.so" "$BENCH/instructions.c"
    mkdir "$RUN/tree"
    # A look-up is trusted for a whole run: how often one is looked at again depends on the clock.
    cat >"$RUN/tidegate.toml" <<END
[server]
cores = "0-0"
graceful-timeout = "0s"

[[listen]]
address = "127.0.0.1:0"

[cache]
valid = "1h"

[[site]]
root = "tree"
END
    python3 "$BENCH/instructions.py" files "$RUN/tree"
    : >"$RUN/address"
    LD_PRELOAD=$RUN/preload.so valgrind --tool=callgrind --callgrind-out-file="$RUN/count" \
        --toggle-collect="$COUNTED" "$SERVER" run --config "$RUN/tidegate.toml" >"$RUN/address" 2>"$RUN/log" &
    PID=$!
    for ((waited = 0; waited < START_SECONDS * 10; waited++)); do
        ADDRESS=$(sed -n 's,^listening on http://,,p' "$RUN/address")
        [[ -z $ADDRESS ]] || return 0
        kill -0 "$PID" 2>/dev/null || break
        sleep 0.1
    done
    cat "$RUN/log" >&2
    die 'the server does not start under valgrind'
}

clean_up() {
    local waited
    if [[ -n ${PID:-} ]] && kill -TERM "$PID" 2>/dev/null; then
        # One that does not stop is not let run on.
        for ((waited = 0; waited < STOP_SECONDS * 10; waited++)); do
            kill -0 "$PID" 2>/dev/null || break
            sleep 0.1
        done
        kill -KILL "$PID" 2>/dev/null || true
        wait "$PID" 2>/dev/null || true
    fi
    rm -rf -- "$RUN"
}

# report: the counts beside the baseline; fails when one has grown too much or is in one of them only.
report() {
    awk -F '\t' -v limit="$GROWTH_PERCENT" '
        BEGIN { printf "%-22s %10s %10s %8s\n", "instructions of", "baseline", "now", "change" }
        /^#/ { next }
        FILENAME == ARGV[1] { before[$1] = $2; next }
        !($1 in before) { printf "%-22s %10s %10d  not in the baseline\n", $1, "", $2; bad = 1; next }
        {
            change = 100 * ($2 - before[$1]) / before[$1]
            grown = change > limit
            printf "%-22s %10d %10d %+7.1f%%%s\n", $1, before[$1], $2, change, grown ? "  GROWN" : ""
            if (grown) bad = 1
            delete before[$1]
        }
        END {
            for (path in before) { printf "%-22s %10d  not measured\n", path, before[path]; bad = 1 }
            exit bad
        }' "$BASELINE" "$RUN/counts"
}

check() {
    local expected
    expected=$(sed -n 's/^# //p' "$BASELINE")
    if [[ $expected != "$(conditions)" ]]; then
        report || true
        diff <(echo "$expected") <(conditions) || true
        skip 'the baseline (<) is of other conditions than these (>), so nothing is compared'
    fi
    report || {
        echo "More than $GROWTH_PERCENT % is too much. If it has to be: scripts/bench/instructions.sh --write,"
        echo 'and commit the new baseline with the change, with the reason.'
        return 1
    }
}

main() {
    parse_options "$@"
    check_host
    build
    RUN=$(mktemp -d)
    trap clean_up EXIT
    trap 'exit 130' INT TERM
    start
    python3 "$BENCH/instructions.py" count "$ADDRESS" "$PID" "$RUN/count" >"$RUN/counts" || {
        local status=$?
        cat "$RUN/log" >&2
        exit $status
    }
    case $MODE in
        show) if [[ -e $BASELINE ]]; then report || true; else cat "$RUN/counts"; fi ;;
        check) check ;;
        write)
            { conditions | sed 's/^/# /' && cat "$RUN/counts"; } >"$BASELINE"
            cat "$BASELINE"
            ;;
    esac
}

main "$@"
