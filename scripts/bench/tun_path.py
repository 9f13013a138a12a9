#!/usr/bin/env python3
"""A path between two network namespaces, with a rate, a delay and losses, where the kernel has no netem. Needs root.

    scripts/bench/tun_path.py --near NAMESPACE --far NAMESPACE --rate 2500000 --delay 0.025 --loss 0.001 --seed 1

Each end is a TUN device named `path`, with 10.99.0.1 near and 10.99.0.2 far; the kernel hands over packets of at most
1500 bytes. It runs until it is ended, and prints a line when it is up.
"""

import argparse
import contextlib
import ctypes
import fcntl
import heapq
import itertools
import os
import pathlib
import random
import select
import struct
import subprocess
import threading
import time

NEAR, FAR = "10.99.0.1", "10.99.0.2"
PIECE_BYTES = 65536
# A path that nobody ends looks so often whether it is to end.
LOOK_SECONDS = 0.05

CHOSEN = pathlib.Path("/proc/sys/net/ipv4/tcp_congestion_control")
ALLOWED = CHOSEN.with_name("tcp_allowed_congestion_control")

# linux/sched.h and linux/if_tun.h
CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000


class Direction:
    """A queue, a line of so many bytes a second behind it, losses, and a delay (seconds)."""

    def __init__(self, delay, rate=None, queue=None, loss=0.0, seed=0):
        self.delay, self.rate, self.queue, self.loss = delay, rate, queue, loss
        self.random = random.Random(seed)
        self.free = 0.0

    def arrival(self, now, size):
        """When a packet of `size` bytes that comes now arrives; None if it is lost."""
        begin = max(now, self.free)
        if self.random.random() < self.loss or (self.queue and (begin - now) * self.rate > self.queue):
            return None
        if self.rate:
            self.free = begin + size / self.rate
            begin = self.free
        return begin + self.delay


def enter(namespace):
    """Moves this thread into a network namespace, given as an open file."""
    if ctypes.CDLL(None, use_errno=True).setns(namespace, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


@contextlib.contextmanager
def inside(name):
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(f"/run/netns/{name}", os.O_RDONLY)
    enter(there)
    try:
        yield
    finally:
        enter(here)
        os.close(here)
        os.close(there)


@contextlib.contextmanager
def namespace(name):
    """A network namespace that ends with the body."""
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def use_cubic(*names):
    """In these namespaces. One may choose it only while the host lists it as allowed: the list is put back at once."""
    before = ALLOWED.read_text()
    ALLOWED.write_text(f"{before.strip()} cubic")
    try:
        for name in names:
            with inside(name):
                CHOSEN.write_text("cubic")
    finally:
        ALLOWED.write_text(before)


@contextlib.contextmanager
def end_of_path(name, address):
    """One end of the path in a namespace: its packets, as a file. The device ends with the body."""
    with inside(name):
        packets = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(packets, TUNSETIFF, struct.pack("16sH", b"path", IFF_TUN | IFF_NO_PI))
    try:
        for command in (f"addr add {address}/24 dev path", "link set path up mtu 1500", "link set lo up"):
            subprocess.run(["ip", "-n", name, *command.split()], check=True)
        yield packets
    finally:
        os.close(packets)


def forward(ends, directions, stop):
    """Takes packets from each end to the other, through the direction of that end."""
    late, order = [], itertools.count()
    while not stop.is_set():
        wait = max(0, min(LOOK_SECONDS, late[0][0] - time.monotonic())) if late else LOOK_SECONDS
        for end in select.select(ends, [], [], wait)[0]:
            index = ends.index(end)
            for packet in packets_of(end):
                arrival = directions[index].arrival(time.monotonic(), len(packet))
                if arrival is not None:
                    heapq.heappush(late, (arrival, next(order), ends[1 - index], packet))
        while late and late[0][0] <= time.monotonic():
            _, _, end, packet = heapq.heappop(late)
            os.write(end, packet)


def packets_of(end):
    """Those that wait, but not for ever: others are due meanwhile."""
    with contextlib.suppress(BlockingIOError):
        for _ in range(16):
            yield os.read(end, PIECE_BYTES)


@contextlib.contextmanager
def path(near, far, directions):
    """A path between two namespaces, from near to far and back, until the body ends."""
    with contextlib.ExitStack() as stack:
        ends = [stack.enter_context(end_of_path(name, address)) for name, address in ((near, NEAR), (far, FAR))]
        stop = threading.Event()
        thread = threading.Thread(target=forward, args=(ends, directions, stop))
        thread.start()
        stack.callback(thread.join)
        stack.callback(stop.set)
        yield


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--near", required=True, help="the server's namespace")
    parser.add_argument("--far", required=True, help="the client's")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds, each way")
    parser.add_argument("--rate", type=float, help="bytes per second, from near to far")
    parser.add_argument("--queue", type=int, default=131072, help="bytes that wait for the line; more are dropped")
    parser.add_argument("--loss", type=float, default=0.0, help="of the packets from near to far")
    parser.add_argument("--seed", type=int, default=0, help="of the losses")
    return parser.parse_args()


def main():
    options = parse()
    there = Direction(options.delay, options.rate, options.queue if options.rate else None, options.loss, options.seed)
    with path(options.near, options.far, [there, Direction(options.delay)]), contextlib.suppress(KeyboardInterrupt):
        print("the path is up", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
