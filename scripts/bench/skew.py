#!/usr/bin/env python3
"""How evenly SO_REUSEPORT spreads few connections over many listeners, for docs/scaling.md.

    scripts/bench/skew.py [--rounds N]

For each number of listeners and of connections: the busiest listener's connections over the mean, as the kernel
spread them over loopback in N (30) rounds, each with listeners and source ports of its own, and as computed
for a fair die; then the share of listeners that got none. The fair die is thrown 2000 times.
"""

import argparse
import random
import select
import socket
import statistics
import sys

LISTENERS = (2, 8, 64)
CONNECTIONS = (4, 8, 16, 64, 512)
THROWS = 2000


def listeners(count):
    """That many listeners on one free port, all before the first connection."""
    sockets = []
    address = ("127.0.0.1", 0)
    for _ in range(count):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
        address = listener.getsockname()
        sockets.append(listener)
    for listener in sockets:
        listener.listen(max(CONNECTIONS))
        listener.setblocking(False)
    return sockets, address


def kernel(listeners_count, connections):
    """How many connections each listener got."""
    sockets, address = listeners(listeners_count)
    clients = [socket.create_connection(address) for _ in range(connections)]
    counts = []
    for listener in sockets:
        accepted = []
        while select.select([listener], [], [], 0)[0]:
            accepted.append(listener.accept()[0])
        counts.append(len(accepted))
        for connection in accepted:
            connection.close()
    for each in clients + sockets:
        each.close()
    if sum(counts) != connections:
        sys.exit(f"skew.py: {sum(counts)} of {connections} connections were accepted")
    return counts


def die(listeners_count, connections):
    counts = [0] * listeners_count
    for _ in range(connections):
        counts[random.randrange(listeners_count)] += 1
    return counts


def main():
    parser = argparse.ArgumentParser(description="How evenly SO_REUSEPORT spreads few connections.")
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
    print("| listeners | connections | busiest / mean, kernel | of a fair die | listeners without any, kernel | of a fair die |")
    print("|---:|---:|---:|---:|---:|---:|")
    for count in LISTENERS:
        for connections in CONNECTIONS:
            cells = []
            for spread, times in ((kernel, rounds), (die, THROWS)):
                all_counts = [spread(count, connections) for _ in range(times)]
                busiest = statistics.mean(max(counts) for counts in all_counts) * count / connections
                empty = statistics.mean(counts.count(0) for counts in all_counts) / count
                cells.append((busiest, empty))
            (kernel_busiest, kernel_empty), (die_busiest, die_empty) = cells
            print(
                f"| {count} | {connections} | {kernel_busiest:.2f} | {die_busiest:.2f} "
                f"| {kernel_empty:.0%} | {die_empty:.0%} |",
                flush=True,
            )


main()
