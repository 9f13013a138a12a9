#!/usr/bin/env python3
"""Where the CPU time of a server goes, by groups of functions.

    functions.py PERF_DATA NAME=VALUE...    prints one JSON object: the labels, how many samples there are, and each
                                            group's share of them
    functions.py --self-test

PERF_DATA is what `perf record -g --kernel-callchains` wrote. A sample belongs to the group of the innermost function
that a group names: what a function calls counts as its own unless a group names that too.
"""

import json
import re
import subprocess
import sys
from collections import Counter

USER = "its own code"
OTHER = "the rest of the kernel"
CRYPTO = "cryptography"
ENTRY = "entering the kernel"
# In user space, by function or by library.
CRYPTO_FUNCTION = re.compile(r"aes|gcm|ghash|gmult|sha256|sha512|ecp_|p256|x25519|curve25519|libcrypto", re.IGNORECASE)
# What only counts as the innermost of all: every system call has it in its chain.
ENTRY_FUNCTION = re.compile(
    r"entry_|do_syscall_64|x64_sys_call|syscall_|__x64_sys_|clear_bhb|srso_|fdget|fput|__fget|vfs_(read|write|iter)|ksys_"
    r"|do_(read|write)v|do_iter|rw_verify|import_iovec|iovec_from|sock_(read|write)_iter|security_|apparmor_"
)
# In the kernel. The first that matches a function has it.
KERNEL = [
    (
        "copies to and from user space",
        r"copy_user|copy_(from|to)_(user|iter)|copyin|copyout|rep_movs|skb_copy_datagram|memcpy_(to|from)_iter",
    ),
    (
        "wake-ups, scheduling, epoll",
        r"try_to_wake|ttwu_|__wake_up|ep_|epoll|^(__)?schedule|pick_next|(en|de)queue_(task|entity)|finish_task_switch"
        r"|sock_def_(readable|write_space)|sock_poll|tcp_poll|hrtimer|futex",
    ),
    ("io_uring", r"^(__)?io_"),
    (
        "page cache and pipes",
        r"filemap|folio|splice_(?!to_socket)|splice$|pipe_|generic_file|page_cache|mincore|cachestat|do_sendfile|do_tee"
        r"|^ext4|^xfs|sys_tee",
    ),
    (
        "TCP, sending",
        r"^(__)?tcp_(v4_send|send|push|write|transmit|tso|tsq|stream|skb_entail|small_queue|mark_push|rate|established"
        r"|event_new|update_skb|current_mss|cork|tx_)|^(__)?ip_(queue_xmit|output|finish_output|local_out)"
        r"|dev_queue_xmit|dev_hard_start|loopback_xmit|(sock|inet)_sendmsg|__sys_sendto|sys_sendmsg|splice_to_socket"
        r"|sk_stream|qdisc",
    ),
    (
        "TCP, receiving",
        r"softirq|net_rx|napi_poll|process_backlog|netif_receive|^ip_(rcv|local_deliver|protocol)|^(__)?tcp_"
        r"|(sock|inet)_recvmsg|sys_recv|^__sys_accept|inet_csk",
    ),
]
KERNEL = [(name, re.compile(pattern)) for name, pattern in KERNEL]
GROUPS = [USER, CRYPTO, ENTRY, *(name for name, _ in KERNEL), OTHER]


def samples(data):
    """The call chains of the kernel, each a list of (function, library) with the innermost first. In user space there
    is only the innermost."""
    innermost = [frame(line) for line in script(data, "-G", "-F", "ip,sym,dso")]
    chains = list(split(script(data, "-F", "tid,ip,sym,dso")))
    if len(chains) != len(innermost):
        sys.exit(f"functions.py: {data}: perf script tells of {len(innermost)} samples, and of {len(chains)} chains")
    for chain, function in zip(chains, innermost):
        yield chain or [function]


def script(data, *options):
    """The lines of perf-script(1)."""
    command = ["perf", "script", "-i", data, *options]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True).stdout.splitlines()


def split(lines):
    """The chain of each sample. A sample begins with a thread's id, and its frames are indented by a tab; where it has
    no chain, its one function may follow on the same line."""
    chains = []
    for line in filter(str.strip, lines):
        if not line.startswith("\t"):
            chains.append([])
            line = line.strip().partition(" ")[2]
        if line.strip():
            chains[-1].append(frame(line))
    return chains


def frame(line):
    """Of `ADDRESS FUNCTION (LIBRARY)`."""
    _, _, rest = line.strip().partition(" ")
    function, _, library = rest.rpartition(" (")
    return function, library.rstrip(")")


def group(chain):
    function, library = chain[0]
    if not is_kernel(library):
        return CRYPTO if CRYPTO_FUNCTION.search(function) or CRYPTO_FUNCTION.search(library) else USER
    if ENTRY_FUNCTION.match(function):
        return ENTRY
    for function, library in chain:
        for name, pattern in KERNEL:
            if is_kernel(library) and pattern.search(function):
                return name
    return OTHER


def is_kernel(library):
    return library.startswith("[") and library != "[vdso]"


def shares(chains):
    """How many samples there are, and the share of each group that has one."""
    counts = Counter(map(group, chains))
    total = counts.total()
    return total, {name: counts[name] / total for name in GROUPS if counts[name]}


KERNEL_LIBRARY = "[kernel.kallsyms]"


def self_test():
    lines = [
        "  7 ",
        f"\tffff1 _copy_from_iter ({KERNEL_LIBRARY})",
        f"\tffff2 tcp_sendmsg_locked ({KERNEL_LIBRARY})",
        f"\tffff3 do_syscall_64 ({KERNEL_LIBRARY})",
        "",
        f"  7 ffff1 kfree ({KERNEL_LIBRARY})",
        "  7 ",
        "",
    ]
    assert split(lines) == [
        [(name, KERNEL_LIBRARY) for name in ("_copy_from_iter", "tcp_sendmsg_locked", "do_syscall_64")],
        [("kfree", KERNEL_LIBRARY)],
        [],
    ]
    for names, expected in {
        ("kfree", "tcp_ack", "tcp_v4_rcv", "loopback_xmit", "tcp_sendmsg"): "TCP, receiving",
        ("__alloc_skb", "tcp_stream_alloc_skb", "tcp_sendmsg_locked", "io_send"): "TCP, sending",
        ("_raw_spin_unlock_irqrestore", "sock_def_readable", "tcp_data_ready"): "wake-ups, scheduling, epoll",
        ("fget", "io_recv", "do_syscall_64"): "io_uring",
        ("do_syscall_64", "entry_SYSCALL_64_after_hwframe"): ENTRY,
        ("filemap_get_pages", "filemap_splice_read", "do_splice"): "page cache and pipes",
        ("skb_release_data", "tcp_sendmsg_locked", "splice_to_socket", "do_splice"): "TCP, sending",
        ("madvise_vma_behavior", "do_syscall_64"): OTHER,
    }.items():
        found = group([(name, KERNEL_LIBRARY) for name in names])
        assert found == expected, (names, found)
    assert group([("aes_gcm_enc_update_vaes_avx512", "/usr/bin/tidegate")]) == CRYPTO
    assert group([("main", "/usr/bin/tidegate")]) == USER
    assert shares([[("main", "/a")], [("main", "/a")], [("kfree", KERNEL_LIBRARY)]]) == (3, {USER: 2 / 3, OTHER: 1 / 3})


def main(arguments):
    match arguments:
        case ["--self-test"]:
            self_test()
        case [data, *labels]:
            total, found = shares(samples(data))
            print(json.dumps(dict(label.split("=", 1) for label in labels) | {"samples": total, "shares": found}))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
