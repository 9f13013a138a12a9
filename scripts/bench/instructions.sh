#!/usr/bin/env bash
# Counts the user-space instructions that a request costs the server, by callgrind, on its main
# paths: see scripts/bench/README.md, "Instructions of a request".
#
#   scripts/bench/instructions.sh                 prints them beside the baseline
#   scripts/bench/instructions.sh --check         and exits 1 when one has grown by more than 5 %
#   scripts/bench/instructions.sh --write         and makes them the baseline
#   ... --server BIN                              of this binary, instead of building the release
#
# Where the compiler, C library, valgrind or kind of CPU is another than the baseline's, --check builds
# the commit that the baseline is of with what is here, counts that too, and compares with it.
#
# Exits 77 where they can't be counted or, with --check, can't be compared: no valgrind, or a baseline
# of other conditions and no history to build its commit from.
set -euo pipefail

BENCH=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd -- "$BENCH/../.." && pwd)
readonly BASELINE=$BENCH/instructions.tsv
readonly GROWTH_PERCENT=5
readonly START_SECONDS=60
readonly STOP_SECONDS=10
# The function to count, with its callees: the connection's task. The executor around it polls its rings until
# it sleeps, which depends on the clock and costs 1.5 to 4 times as much.
# The second name is that of the baseline's commit.
readonly COUNTED='<tidegate_server::connection::task::ConnectionTask as core::future::future::Future>::poll'
readonly COUNTED_BEFORE='<tidegate_server::connection::Serving as core::future::future::Future>::poll'

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

# build SOURCE TARGET: the release as `cargo build --release` makes it, in TARGET/release/tidegate.
build() {
    cargo build --release --locked --manifest-path "$1/Cargo.toml" --target-dir "$2" --package tidegate >&2
}

# A static binary won't do: nothing can be preloaded into it.
check_server() {
    [[ -x $SERVER ]] || die "$SERVER is not there"
    ! readelf --program-headers "$SERVER" | grep -q INTERP || return 0
    die "$SERVER is static: nothing can be preloaded into it"
}

# conditions BIN: what the counts depend on besides the source, one line each: the compiler as the
# binary has it, and whether there is AVX2, by which memchr and the C library choose their code.
conditions() {
    readelf --string-dump=.comment "$1" | grep -o 'rustc version [^ ]*' | sort -u
    getconf GNU_LIBC_VERSION
    valgrind --version
    if grep -qw avx2 /proc/cpuinfo; then echo 'CPU with AVX2'; else echo 'CPU without AVX2'; fi
}

# The preloaded library, the configuration and the requested files, the same for all servers.
prepare() {
    cc -O2 -Wall -Wextra -Werror -shared -fPIC -o "$RUN/preload.so" "$BENCH/instructions.c"
    mkdir "$RUN/tree"
    # A lookup is trusted for a whole run: how often one is looked at again depends on the clock.
    cat >"$RUN/tidegate.toml" <<END
[server]
cores = "0-0"
graceful-timeout = "0s"

[[listen]]
address = "127.0.0.1:0"

[cache]
valid = "1h"
popular-max = "64k"

[[site]]
root = "tree"
END
    python3 "$BENCH/instructions.py" files "$RUN/tree"
}

# start BIN: starts it under callgrind on a free port; sets PID and ADDRESS.
start() {
    local waited
    : >"$RUN/address"
    LD_PRELOAD=$RUN/preload.so valgrind --tool=callgrind --callgrind-out-file="$RUN/count" \
        --toggle-collect="$COUNTED" --toggle-collect="$COUNTED_BEFORE" "$1" run --config "$RUN/tidegate.toml" >"$RUN/address" 2>"$RUN/log" &
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

stop() {
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
    PID=
}

clean_up() {
    stop
    rm -rf -- "$RUN"
}

# measure BIN COUNTS: its instructions, into a file.
measure() {
    local status=0
    start "$1"
    python3 "$BENCH/instructions.py" count "$ADDRESS" "$PID" "$RUN/count" >"$2" || status=$?
    if ((status != 0)); then
        cat "$RUN/log" >&2
        exit "$status"
    fi
    stop
}

# The commit that the baseline is of, if the history tells: a clone that begins with some commit says of
# that one that it made every file.
baseline_commit() {
    local commit
    commit=$(git -C "$ROOT" log -1 --format=%H -- "$BASELINE" 2>/dev/null) && [[ -n $commit ]] &&
        git -C "$ROOT" rev-parse --quiet --verify "$commit^" >/dev/null && echo "$commit"
}

# measure_baseline: builds the baseline's commit with the tools at hand and counts it, into $RUN/before.
measure_baseline() {
    local commit target=$TARGET/instructions
    commit=$(baseline_commit) ||
        skip 'the baseline (<) is of other conditions than these (>), and its commit is not in the history'
    echo "the baseline (<) is of other conditions than these (>): comparing with its commit $commit, built here"
    # A fixed place below the target directory: what it depends on is built once. The files get the time of
    # now (-m), or cargo would take those of an older commit for built already.
    rm -rf -- "$target/source"
    mkdir -p "$target/source"
    git -C "$ROOT" archive "$commit" | tar -xm -C "$target/source"
    build "$target/source" "$target"
    diff <(conditions "$target/release/tidegate") <(conditions "$SERVER") ||
        die "$SERVER is of another compiler than the one here"
    measure "$target/release/tidegate" "$RUN/before"
}

# report BEFORE: the counts beside those; fails when one has grown too much or is in one of them only.
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
        }' "$1" "$RUN/counts"
}

check() {
    local expected before=$BASELINE
    expected=$(sed -n 's/^# //p' "$BASELINE")
    if [[ $expected != "$(conditions "$SERVER")" ]]; then
        report "$BASELINE" || true
        diff <(echo "$expected") <(conditions "$SERVER") || true
        before=$RUN/before
        measure_baseline
    fi
    report "$before" || {
        echo "More than $GROWTH_PERCENT % is too much. If it has to be: scripts/bench/instructions.sh --write,"
        echo 'and commit the new baseline with the change, with the reason.'
        return 1
    }
}

main() {
    parse_options "$@"
    check_host
    TARGET=${CARGO_TARGET_DIR:-$ROOT/target}
    if [[ -z $SERVER ]]; then
        build "$ROOT" "$TARGET"
        SERVER=$TARGET/release/tidegate
    fi
    check_server
    RUN=$(mktemp -d)
    trap clean_up EXIT
    trap 'exit 130' INT TERM
    prepare
    measure "$SERVER" "$RUN/counts"
    case $MODE in
        show) if [[ -e $BASELINE ]]; then report "$BASELINE" || true; else cat "$RUN/counts"; fi ;;
        check) check ;;
        write)
            { conditions "$SERVER" | sed 's/^/# /' && cat "$RUN/counts"; } >"$BASELINE"
            cat "$BASELINE"
            ;;
    esac
}

main "$@"
