#!/usr/bin/env python3
"""CPU per request on one core and on two, and what steering changes, for docs/scaling.md.

    cargo build --release -p tidegate -p tidegate-load
    scripts/bench/netns.sh scripts/bench/scaling.py [--rounds N] [--seconds S] [--build DIR]

Cores 0 and 1 have to be otherwise idle. 64 keep-alive connections ask for a file of 1 KiB:

one, apart    the server on core 0, the client on core 1: how compare.sh measures
one, shared   server and client both on core 0
two servers   one server on each core, of one core each, each with a client of its own on its core
two, hash     the server on both cores, a client with 32 connections on each
two, cpu      the same with server.steering = "cpu": a connection is served where its client is

Cases take turns. A line gives the medians of all rounds, with the least and the most: CPU of the server's
threads per request (schedstat), and that relative to the round's "one, shared", which has the same number of
processes on a core.
"""

import argparse
import contextlib
import json
import pathlib
import re
import statistics
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
BODY_BYTES = 1024
CONNECTIONS = 64
WARM_SECONDS = 0.2
# Name: each server's cores, the clients' cores, steering.
CASES = {
    "one, apart": (((0,),), (1,), "hash"),
    "one, shared": (((0,),), (0,), "hash"),
    "two servers": (((0,), (1,)), (0, 1), "hash"),
    "two, hash": (((0, 1),), (0, 1), "hash"),
    "two, cpu": (((0, 1),), (0, 1), "cpu"),
}
BASE = "one, shared"


def start(stack, build, directory, cores, steering):
    """A server that runs until the stack is left, and its port."""
    config = directory / "tidegate.toml"
    listed = ",".join(f"{core}-{core}" for core in cores)
    config.write_text(
        f'[server]\ncores = "{listed}"\nsteering = "{steering}"\ngraceful-timeout = "0s"\n'
        f'[[listen]]\naddress = "127.0.0.1:0"\n[[site]]\nroot = "{directory}/tree"\n'
    )
    process = subprocess.Popen([build / "tidegate", "run", "--config", config], stdout=subprocess.PIPE)
    stack.callback(process.wait)
    stack.callback(process.terminate)
    return process, re.search(rb":(\d+)\n", process.stdout.readline())[1].decode()


def cpu_nanoseconds(process):
    tasks = pathlib.Path(f"/proc/{process.pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)


def load(build, ports, cores, seconds):
    """Has a client on each core ask, each the next server in turn; how many requests were answered."""
    clients = [
        subprocess.Popen(
            [
                *("taskset", "-c", str(core), build / "tidegate-load", "get"),
                *("--server", f"127.0.0.1:{ports[number % len(ports)]}", "--path", "/file", "--length", str(BODY_BYTES)),
                *("--connections", str(CONNECTIONS // len(cores))),
                *("--warmup", "0", "--seconds", str(seconds)),
            ],
            stdout=subprocess.PIPE,
        )
        for number, core in enumerate(cores)
    ]
    return sum(json.loads(client.communicate()[0])["requests"] for client in clients)


def measure(build, directory, case, seconds):
    """Microseconds of the servers' CPU for a request, and requests per second."""
    servers_cores, client_cores, steering = CASES[case]
    with contextlib.ExitStack() as stack:
        servers = [start(stack, build, directory, cores, steering) for cores in servers_cores]
        processes, ports = zip(*servers)
        load(build, ports, client_cores, WARM_SECONDS)
        before = sum(map(cpu_nanoseconds, processes))
        requests = load(build, ports, client_cores, seconds)
        used = sum(map(cpu_nanoseconds, processes)) - before
    return used / 1000 / requests, requests / seconds


def summary(values):
    return f"{statistics.median(values):6.2f} ({min(values):.2f} to {max(values):.2f})"


def main():
    parser = argparse.ArgumentParser(description="CPU per request on one core and on two.")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "target/release")
    options = parser.parse_args()
    costs = {case: [] for case in CASES}
    rates = {case: [] for case in CASES}
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        (directory / "tree").mkdir()
        (directory / "tree/file").write_bytes(b"x" * BODY_BYTES)
        for _ in range(options.rounds):
            for case in CASES:
                cost, rate = measure(options.build, directory, case, options.seconds)
                costs[case].append(cost)
                rates[case].append(rate)
    for case in CASES:
        ratios = [cost / base for cost, base in zip(costs[case], costs[BASE])]
        rate = statistics.median(rates[case])
        print(f"{case:12} us/request {summary(costs[case])}  ratio {summary(ratios)}  {rate:8.0f} requests/s")


main()
