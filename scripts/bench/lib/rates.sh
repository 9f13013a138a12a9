# shellcheck shell=bash disable=SC2034,SC2153  # one script in parts: names are used in others
# Requests at a fixed rate, as servers have them that are not busy: by our client
# in an open loop, and by h2load. cases.sh runs them.

RATE_CASES=()
for size in 1k 64k; do
    for rate in 2000 10000 30000; do
        RATE_CASES+=("$size-r$rate" "$size-r$rate-h2load")
    done
done
unset size rate
# Per cent of what the best peer answers in the case 1k.
RATE_CASES+=(1k-load10 1k-load30 1k-load60)
RATE_CONNECTIONS=50

# What the best peer answers in a second; empty until it is known.
SATURATION=""

# The case names size and rate: 64k-r2000, 64k-r2000-h2load, 1k-load10.
measure_rate() {
    local case=$1 server=$2 round=$3 size rate
    IFS=- read -r size rate _ <<<"$case"
    set_rate "$rate" || return 1
    set -- --path "/$size.bin" --connections "$RATE_CONNECTIONS" --rate "$RATE"
    if [[ $case == *-h2load ]]; then
        measure_http2 "$case" "$server" "$round" get --http1 --label client=h2load --seconds "$SECONDS_EACH" "$@"
    else
        measure_get "$case" "$server" "$round" --length "$(stat -c %s "$TREE/$size.bin")" "$@"
    fi
}

# Sets RATE, of r2000 or load10. What a share is of stays the same for the whole run.
set_rate() {
    if [[ $1 == r* ]]; then
        RATE=${1#r}
        return
    fi
    [[ -n $SATURATION ]] || SATURATION=$(python3 "$BENCH/report.py" saturation "$OUT") || return 1
    RATE=$((SATURATION * ${1#load} / 100))
}

# Whether a share of the saturation can be told; says why not.
rate_available() {
    [[ $1 != *-load* || -n $SATURATION ]] || contains 1k "${CASES[@]}" || {
        warn "$1: what the best peer answers at most is not known (--saturation, or the case 1k before); skipped"
        return 1
    }
}
