# shellcheck shell=bash disable=SC2034  # one script in parts: names are used in others
# What the benchmark needs from the host: a network namespace, cgroups that
# count and throttle the server under test, and a tree of files.
#
# Sets NETNS, ADDRESS and the CGROUP_* names; compare.sh has set RUN_ID, TREE,
# SERVER_CPU and CLIENT_CPU.

# The server's.
ADDRESS=127.0.0.1

# command_line SCRIPT ARGS...: what a page tells of how it was made, without this machine's paths.
command_line() {
    echo "scripts/bench/$*" | sed -E 's/ --(out|tree|arena|build-dir) [^ ]+/ --\1 DIR/g'
}

# --- network namespace -------------------------------------------------------

# A loopback of our own: nothing else travels on it, and its congestion control
# is cubic whatever the host's default is (bbr paces loopback and hides all).
make_netns() {
    NETNS="tidegate-bench-$RUN_ID"
    ip netns add "$NETNS"
    in_netns ip link set lo up
    use_cubic 2>/dev/null || allow_and_use_cubic || die "cubic is not to be had (modprobe tcp_cubic)"
}

use_cubic() {
    in_netns sysctl -qw net.ipv4.tcp_congestion_control=cubic
}

# Where the host's default is another one, a namespace may choose cubic only
# while the host lists it as allowed: the list is put back at once.
allow_and_use_cubic() {
    local list=/proc/sys/net/ipv4/tcp_allowed_congestion_control before status=0
    before=$(<"$list")
    echo "$before cubic" >"$list" || return 1
    use_cubic || status=1
    echo "$before" >"$list"
    return "$status"
}

remove_netns() {
    [[ -z ${NETNS:-} ]] || ip netns delete "$NETNS" 2>/dev/null || true
}

# nsenter, not `ip netns exec`: it becomes the command without a process in
# between, and leaves /sys, where the cgroups are, as it is.
in_netns() {
    nsenter --net="/run/netns/$NETNS" -- "$@"
}

# Where the client is: in the server's namespace, or in one of its own.
in_client_netns() {
    nsenter --net="/run/netns/${CLIENT_NETNS:-$NETNS}" -- "$@"
}

# --- cgroups -----------------------------------------------------------------

# Prints the mount point of a v1 controller.
v1_mount() {
    awk -v want="$1" '$3 == "cgroup" {
        n = split($4, options, ",")
        for (i = 1; i <= n; i++) if (options[i] == want) { print $2; exit }
    }' /proc/mounts
}

v2_mount() {
    awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts
}

# Finds out how CPU time is counted (CGROUP_CPU, a file) and reads are
# throttled (CGROUP_THROTTLE, a file; empty if they cannot be).
# CGROUP_DIRS are the directories that each server gets anew. CGROUP_MEMORY is
# the one that limits memory (empty if none can); a server enters it only when
# it is limited, for what is allocated in it is also counted, which costs time.
find_cgroups() {
    local name="tidegate-bench-$RUN_ID" mount
    V2_ENABLED=() CGROUP_DIRS=() CGROUP_CPU="" CGROUP_THROTTLE="" CGROUP_THROTTLE_KIND="" CGROUP_CPUSET=""
    CGROUP_MEMORY=""
    mount=$(v1_mount cpuacct)
    if [[ -n $mount ]]; then
        CGROUP_DIRS+=("$mount/$name")
        CGROUP_CPU="$mount/$name/cpuacct.usage"
    fi
    mount=$(v1_mount cpuset)
    if [[ -n $mount ]]; then
        CGROUP_DIRS+=("$mount/$name")
        CGROUP_CPUSET="$mount/$name"
    fi
    mount=$(v1_mount blkio)
    if [[ -n $mount && -e $mount/blkio.throttle.read_bps_device ]]; then
        CGROUP_DIRS+=("$mount/$name")
        CGROUP_THROTTLE="$mount/$name/blkio.throttle.read_bps_device"
        CGROUP_THROTTLE_KIND=v1
    fi
    find_memory_cgroup "$name"
    find_cgroups_v2 "$name"
    [[ -n $CGROUP_CPU ]] || die "no cgroup counts CPU time here (neither v1 cpuacct nor v2 is mounted)"
}

find_memory_cgroup() {
    local mount
    mount=$(v1_mount memory)
    if [[ -n $mount ]]; then
        CGROUP_MEMORY="$mount/$1"
    else
        mount=$(v2_mount)
        ! grep -qsw memory "$mount/cgroup.controllers" || CGROUP_MEMORY="$mount/$1"
    fi
}

# Limits the running server's memory to so many bytes, its share of the page
# cache included. What it has already is not counted.
limit_memory() {
    local pid limit="$CGROUP_MEMORY/memory.max"
    mkdir -p "$CGROUP_MEMORY"
    if [[ -n $(v1_mount memory) ]]; then
        limit="$CGROUP_MEMORY/memory.limit_in_bytes"
    else
        enable_v2 memory "${CGROUP_MEMORY%/*}/cgroup.subtree_control"
    fi
    echo "$1" >"$limit"
    for pid in $(cgroup_processes); do
        echo "$pid" >"$CGROUP_MEMORY/cgroup.procs"
    done
}

# Takes from v2 what v1 did not give.
find_cgroups_v2() {
    local mount dir
    mount=$(v2_mount)
    [[ -n $mount ]] || return 0
    dir="$mount/$1"
    [[ -n $CGROUP_CPU && -n $CGROUP_THROTTLE ]] && return 0
    CGROUP_DIRS+=("$dir")
    [[ -n $CGROUP_CPU ]] || CGROUP_CPU="$dir/cpu.stat"
    if [[ -z $CGROUP_CPUSET ]] && enable_v2 cpuset "$mount/cgroup.subtree_control"; then
        CGROUP_CPUSET=$dir
    fi
    if [[ -z $CGROUP_THROTTLE ]] && enable_v2 io "$mount/cgroup.subtree_control"; then
        CGROUP_THROTTLE="$dir/io.max"
        CGROUP_THROTTLE_KIND=v2
    fi
}

# Enables a v2 controller, and notes in V2_ENABLED what was not enabled before.
enable_v2() {
    ! grep -qw "$1" "$2" || return 0
    echo "+$1" 2>/dev/null >"$2" || return 1
    V2_ENABLED+=("$1")
}

restore_v2() {
    local controller
    for controller in "${V2_ENABLED[@]:-}"; do
        disable_v2 "$controller"
    done
}

# Disables a v2 controller that enable_v2 enabled.
disable_v2() {
    contains "$1" "${V2_ENABLED[@]:-}" || return 0
    [[ -z $1 ]] || echo "-$1" 2>/dev/null >"$(v2_mount)/cgroup.subtree_control" || true
}

make_cgroups() {
    local dir
    for dir in "${CGROUP_DIRS[@]}"; do
        mkdir -p "$dir" || die "cannot make the cgroup $dir"
    done
    # taskset binds what the server starts with; the cpuset also binds threads
    # that choose their CPU themselves, such as io_uring's workers.
    if [[ -n $CGROUP_CPUSET ]]; then
        echo "$SERVER_CPU" >"$CGROUP_CPUSET/cpuset.cpus"
        cat "${CGROUP_CPUSET%/*}/cpuset.mems.effective" 2>/dev/null >"$CGROUP_CPUSET/cpuset.mems" ||
            cat "${CGROUP_CPUSET%/*}/cpuset.mems" >"$CGROUP_CPUSET/cpuset.mems" || true
    fi
}

# Puts the calling process into the server's cgroups.
enter_cgroups() {
    local dir
    for dir in "${CGROUP_DIRS[@]}"; do
        echo "$BASHPID" >"$dir/cgroup.procs"
    done
}

cgroup_processes() {
    cat "${CGROUP_DIRS[0]}/cgroup.procs" 2>/dev/null || true
}

# A cgroup can be removed once the last thread in it has gone.
remove_cgroups() {
    local dir attempt
    for dir in "${CGROUP_DIRS[@]:-}" "${CGROUP_MEMORY:-}"; do
        for attempt in {1..50}; do
            [[ -n $dir && -d $dir ]] || break
            rmdir "$dir" 2>/dev/null && break
            [[ $attempt -lt 50 ]] || warn "cannot remove the cgroup $dir"
            sleep 0.05
        done
    done
    disable_v2 memory
}

# Whether reads from the tree's disk can be throttled; sets TREE_DEVICE.
find_tree_device() {
    local device parent
    TREE_DEVICE=""
    device=$(findmnt -nvo MAJ:MIN -T "$TREE" | tr -d ' ')
    [[ -n $CGROUP_THROTTLE && -e /sys/dev/block/$device ]] || return 1
    # Throttles hold for whole disks, not for partitions.
    if [[ -e /sys/dev/block/$device/partition ]]; then
        parent=$(readlink -f "/sys/dev/block/$device/..")
        device=$(<"$parent/dev")
    fi
    TREE_DEVICE=$device
}

# Limits the server's reads from the tree's disk to so many bytes per second.
throttle_reads() {
    if [[ $CGROUP_THROTTLE_KIND == v1 ]]; then
        echo "$TREE_DEVICE $1" >"$CGROUP_THROTTLE"
    else
        echo "$TREE_DEVICE rbps=$1" >"$CGROUP_THROTTLE"
    fi
}

# --- tree --------------------------------------------------------------------

# Makes a file of random bytes unless it is there already.
make_file() {
    local path="$TREE/$1" bytes=$2
    [[ -f $path && $(stat -c %s "$path") == "$bytes" ]] && return
    head -c "$bytes" /dev/urandom >"$path"
}

make_tree() {
    mkdir -p "$TREE"
    make_file 1k.bin 1024
    make_file 4k.bin 4096
    make_file 16k.bin 16384
    make_file 64k.bin 65536
    make_file 1m.bin 1048576
    make_file 100m.bin 104857600
    make_file cold-1.bin "$COLD_BYTES"
    make_file cold-2.bin "$COLD_BYTES"
    ! contains mixed "${CASES[@]}" || make_mixed_tree
    [[ -z $ARENA ]] || make_arena_tree
    sync -f "$TREE"
}

# The list is written last: without it the tree is half made.
make_mixed_tree() {
    [[ ! -f $TREE/$MIXED/list ]] || return 0
    rm -rf -- "${TREE:?}/$MIXED"
    "$LOAD" tree "$TREE/$MIXED" --bytes "$MIXED_BYTES" >/dev/null
}

# HttpArena's files and their variants, and the list of those that are asked for. A
# variant that is older than its file counts as stale, so all get one time.
make_arena_tree() {
    mkdir -p "$TREE/static"
    cp -- "$ARENA"/* "$TREE/static"
    touch -- "$TREE"/static/*
    find "$TREE/static" -type f ! -name "*.br" ! -name "*.gz" -printf "/static/%f\n" | sort >"$TREE/static.list"
}
