# shellcheck shell=bash disable=SC2153  # one script in parts: names are used in others
# Where the CPU time of a server goes, by function: perf samples it while a case runs once more.

# Samples of each second that the server has; no multiple of a timer's rate.
SAMPLES_PER_SECOND=4999

# The cases in which tidegate misses a target, each with those who are compared. Appends a line for each server to RAW.
run_functions() {
    local case servers server
    while read -r case servers; do
        for server in $servers; do
            echo "functions, $case, $server" >&2
            sample_functions "$case" "$server" || sample_functions "$case" "$server" || warn "no functions of $server in $case (see $OUT/log/perf.log)"
        done
    done < <(python3 "$BENCH/report.py" missed "$OUT")
}

sample_functions() {
    local case=$1 server=$2 perf status=0
    set_protocol "$case"
    # Of the server before: perf may fail to write another.
    rm -f "$RUN/perf.data"
    start_server "$server" || return 1
    taskset -c "$CLIENT_CPU" perf record -q -e cpu-clock -F "$SAMPLES_PER_SECOND" -g --kernel-callchains \
        -o "$RUN/perf.data" -p "$(cgroup_processes | paste -sd ,)" </dev/null >>"$OUT/log/perf.log" 2>&1 &
    perf=$!
    # It is slower while it is sampled, so this measurement is not one of the run's.
    RAW="$RUN/sampled.jsonl" run_case "$case" "$server" 0 </dev/null || status=1
    kill -INT "$perf" 2>/dev/null || true
    wait "$perf" || true
    stop_server
    [[ $status == 0 && -s $RUN/perf.data ]] || return 1
    python3 "$BENCH/functions.py" "$RUN/perf.data" "case=$case" "server=$server" round=0 phase=functions \
        2>>"$OUT/log/perf.log" >>"$RAW"
}
