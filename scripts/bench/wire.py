#!/usr/bin/env python3
"""The measurements of wire.sh, and their table.

    wire.py measure ...       one measurement, as a JSON object
    wire.py run-line ...      what is measured, where and when, as a JSON object
    wire.py page DIR OUT.md   the medians of DIR/raw.jsonl, and what they show; the raw data beside it as OUT.jsonl

Two counters of CPU time are read where the measurement begins and ends: that of the server's cgroup, and how long the
server's core was not idle nor ran another task. The second also has what the kernel did for the server outside of its
threads.
"""

import argparse
import contextlib
import json
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections import defaultdict

import h2load
from usage import cpu_ns

WARMUP_SECONDS = 0.2
# From the start of the client to that of its time.
START_SECONDS = 0.01
COUNTED = ("requests", "bytes", "seconds")
PER_CORE = pathlib.Path("/sys/fs/cgroup/cpuacct/cpuacct.usage_percpu")
WIRES = {
    "gso": "veth, MTU 1,500, segments of up to 64 KiB (TSO, GSO, GRO)",
    "nogso": "veth, each packet by itself, at most 1,500 bytes",
    "rate": "veth with GSO behind tbf, 1 Gbit/s",
    "loss": "veth, each packet by itself, one in a thousand lost",
    "far": "a path of 40 ms round trip, 100 Mbit/s, one packet in two thousand lost (tun_path.py)",
}
SERVERS = {"tidegate": "tidegate", "nginx": "nginx", "lighttpd": "lighttpd", "h2o": "H2O"}
CASES = {
    "1k": "1 KiB, 64 connections",
    "64k": "64 KiB, 64 connections",
    "1m": "1 MiB, 16 connections",
    "100m": "100 MiB, 16 connections, dropped by the client",
    "h2-64k": "64 KiB, HTTP/2 with TLS, 16 connections of 8 streams",
    "h2-1m": "1 MiB, HTTP/2 with TLS, 16 connections of 8 streams",
}


# --- measure -------------------------------------------------------------------


def busy_ns(core):
    """How long a core was neither idle nor taken by the host, since it was started."""
    for line in pathlib.Path("/proc/stat").read_text().splitlines():
        words = line.split()
        if words[0] == f"cpu{core}":
            idle, iowait, steal = int(words[4]), int(words[5]), int(words[8])
            return time.monotonic_ns() - (idle + iowait + steal) * (1_000_000_000 // os.sysconf("SC_CLK_TCK"))
    raise OSError(f"/proc/stat has no core {core}")


def tasks_ns(core):
    """What tasks have had of a core, ksoftirqd left out; 0 where no v1 cpuacct counts it."""
    if not PER_CORE.exists():
        return 0
    return int(PER_CORE.read_text().split()[core]) - ksoftirqd_ns(core)


def ksoftirqd_ns(core):
    for comm in pathlib.Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):
            if comm.read_text() == f"ksoftirqd/{core}\n":
                return int((comm.parent / "schedstat").read_text().split()[0])
    return 0


def sample(options):
    return {"cpu_ns": cpu_ns(options.cpu), "core_ns": busy_ns(options.core), "tasks_ns": tasks_ns(options.core)}


def spent(before, after):
    """What was spent between two samples. Other tasks may have run on the server's core: their time is not its."""
    used = {name: after[name] - before[name] for name in before}
    others = max(0, used.pop("tasks_ns") - used["cpu_ns"])
    return {**used, "core_ns": used["core_ns"] - others, "others_ns": others}


def by_http1(options):
    size = options.file.stat().st_size
    command = [options.load, "get", "--server", options.address, "--path", f"/{options.file.name}", "--length", str(size)]
    command += ["--connections", str(options.connections), "--seconds", str(options.seconds)]
    command += ["--warmup", str(WARMUP_SECONDS), "--cpu", options.cpu, *(["--discard"] if options.discard else [])]
    client = subprocess.Popen(command, stdout=subprocess.PIPE)
    time.sleep(START_SECONDS + WARMUP_SECONDS)
    before = sample(options)
    time.sleep(options.seconds)
    after = sample(options)
    counted = json.loads(client.communicate()[0])
    if client.returncode != 0 or counted["errors"]:
        raise SystemExit(f"{counted.get('errors')} requests failed")
    used = spent(before, after)
    # It reads this counter at the very ends of its time, where these samples may be late.
    used["core_ns"] += counted["cpu_ns"] - used["cpu_ns"]
    return {name: counted[name] for name in COUNTED} | used | {"cpu_ns": counted["cpu_ns"]}


def by_http2(options):
    url = f"https://{options.address}/{options.file.name}"
    words = [f"--clients={options.connections}", f"--max-concurrent-streams={options.streams}"]
    counted, (before, after) = h2load.timed([url], options.seconds, WARMUP_SECONDS, words, lambda _: sample(options))
    if counted["errors"]:
        raise SystemExit(f"{counted['errors']} requests failed")
    return {name: counted[name] for name in COUNTED} | spent(before, after)


def measure(options):
    found = (by_http2 if options.streams else by_http1)(options)
    case = options.file.stem if not options.streams else f"h2-{options.file.stem}"
    line = {"wire": options.wire, "case": case, "server": options.server, "round": options.round}
    print(json.dumps(line | found))


# --- table ---------------------------------------------------------------------

# What is said of each server: a title, and how it is had from a line.
COLUMNS = {
    "MB/s": lambda line: line["bytes"] / line["seconds"] / 1e6,
    "core, us per request": lambda line: line["core_ns"] / 1e3 / line["requests"],
    "threads, us per request": lambda line: line["cpu_ns"] / 1e3 / line["requests"],
    "core, s per GB": lambda line: line["core_ns"] / line["bytes"],
    "threads, s per GB": lambda line: line["cpu_ns"] / line["bytes"],
}


def number(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def columns_of(case):
    """A large file is measured by its bytes, a small one by requests."""
    return [name for name in COLUMNS if ("request" in name) == (case == "1k") or name == "MB/s"]


def rows(lines):
    """The lines of each wire, case and server."""
    grouped = defaultdict(list)
    for line in lines:
        grouped[line["wire"], line["case"], line["server"]].append(line)
    return grouped


def row(lines, columns):
    values = [[COLUMNS[name](line) for line in lines] for name in columns]
    return [f"{number(statistics.median(found))} ({number(min(found))} - {number(max(found))})" for found in values]


def beside_best(grouped, wire, case):
    """The time of tidegate's threads relative to the best of its peers', and which that is; None where one is missing."""

    def cost(server):
        return statistics.median(line["cpu_ns"] / line["bytes"] for line in grouped[wire, case, server])

    peers = [name for name in SERVERS if name != "tidegate" and (wire, case, name) in grouped]
    if not peers or (wire, case, "tidegate") not in grouped:
        return None
    best = min(peers, key=cost)
    return cost("tidegate") / cost(best), SERVERS[best]


def told(found):
    return "-" if found is None else f"{found[0]:.2f} of {found[1]}"


def what_it_shows(grouped, wires):
    """A line for each wire: how tidegate stands, and where it is behind."""
    for wire in wires:
        found = {case: beside_best(grouped, wire, case) for case in CASES}
        found = {case: pair for case, pair in found.items() if pair}
        if not found:
            continue
        least, most = (choose(pair[0] for pair in found.values()) for choose in (min, max))
        behind = [f"{CASES[case].split(', 16')[0]} ({told(pair)})" for case, pair in found.items() if round(pair[0], 2) > 1]
        yield (
            f"- **{WIRES[wire]}**: tidegate's threads take {least:.2f} to {most:.2f} of the best peer's. "
            + (f"It is behind with {'; '.join(behind)}." if behind else "It is not behind in any case.")
        )


WHY = """Two things explain most of it. Without GSO most packets are sent when an acknowledgement comes, outside of any server's
threads: "core" has that time, "threads" has not. And where the line limits, a socket that drains slowly wakes its
transfer for a part of a chunk, so there are more system calls for a byte than on loopback
([kernel.md](kernel.md#each-request))."""


def quiet(lines):
    """How much of the server's core other tasks had, in the median."""
    others = statistics.median(line["others_ns"] / 1e9 / line["seconds"] for line in lines)
    return (
        f"Other tasks had {others:.2f} of the server's core in the median (`others_ns` in the raw data); their time is in "
        "none of the figures."
    )


def page(runs, lines, stem):
    grouped = rows(lines)
    wires = [wire for wire in WIRES if any(line["wire"] == wire for line in lines)]
    yield "# tidegate and its peers, over a wire"
    yield (
        "The cases of [benchmarks.md](benchmarks.md) over a veth pair and over a path with delay and loss, instead of loopback.\n"
        f"`scripts/bench/wire.sh` measures, and `wire.py page` writes this page from [{stem}.jsonl]({stem}.jsonl);\n"
        "[scripts/bench](../scripts/bench/README.md#over-a-wire) says what each wire is, and whose CPU time is counted how."
    )
    for run in runs:
        versions = "; ".join(f"{SERVERS.get(server, server)}: {version}" for server, version in run["versions"].items())
        yield (
            f"`{run['command']}`, {run['date']}, Linux {run['kernel']}, {run['cpu']}, tidegate's revision "
            f"`{run['revision']}`. {versions}."
        )
    rounds = len({line["round"] for line in lines})
    yield f"Medians of {rounds} rounds (least - most); one core for the server, one for the client, cubic. {quiet(lines)}"
    yield "## What it shows"
    yield "\n".join(what_it_shows(grouped, wires))
    yield WHY
    yield "## tidegate beside the best of its peers"
    yield "The CPU time of the server's threads per GB, by medians."
    yield best_table(grouped, wires)
    for wire in wires:
        yield f"## {WIRES[wire]}"
        yield from (case_table(grouped, wire, case) for case in CASES if any(key[:2] == (wire, case) for key in grouped))


def best_table(grouped, wires):
    head = "| | " + " | ".join(CASES.values()) + " |\n| --- |" + " ---: |" * len(CASES)
    cells = {wire: " | ".join(told(beside_best(grouped, wire, case)) for case in CASES) for wire in wires}
    return "\n".join([head, *(f"| {WIRES[wire]} | {cells[wire]} |" for wire in wires)])


def case_table(grouped, wire, case):
    columns = columns_of(case)
    lines = [f"| {CASES[case]} | " + " | ".join(columns) + " |\n| --- |" + " ---: |" * len(columns)]
    for server in SERVERS:
        if (wire, case, server) in grouped:
            lines.append(f"| {SERVERS[server]} | " + " | ".join(row(grouped[wire, case, server], columns)) + " |")
    return "\n".join(lines)


def write_page(options):
    raw = options.directory / "raw.jsonl"
    lines = [json.loads(line) for line in raw.read_text().splitlines()]
    runs, measured = [line for line in lines if "command" in line], [line for line in lines if "wire" in line]
    options.out.write_text("\n\n".join(page(runs, measured, options.out.stem)) + "\n")
    shutil.copyfile(raw, options.out.with_suffix(".jsonl"))


# --- run line --------------------------------------------------------------------


def run_line(options):
    models = [line for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    line = {
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": options.command,
        "revision": options.revision,
        "seconds": options.seconds,
        "kernel": platform.release(),
        "cpu": f"{models[0].split(':')[1].strip() if models else platform.machine()}, {os.cpu_count()} cores",
        "versions": dict(version.split("=", 1) for version in options.versions),
    }
    print(json.dumps(line))


# --- command line ----------------------------------------------------------------


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("measure")
    one.set_defaults(run=measure)
    for name in ("wire", "server", "address", "cpu", "load"):
        one.add_argument(f"--{name}", required=True)
    for name in ("round", "connections", "core"):
        one.add_argument(f"--{name}", type=int, required=True)
    one.add_argument("--file", type=pathlib.Path, required=True)
    one.add_argument("--seconds", type=float, required=True)
    one.add_argument("--streams", type=int, default=0, help="HTTP/2 over TLS, by h2load, with so many on a connection")
    one.add_argument("--discard", action="store_true")
    first = commands.add_parser("run-line")
    first.set_defaults(run=run_line)
    for name in ("revision", "command"):
        first.add_argument(f"--{name}", required=True)
    first.add_argument("--seconds", type=float, required=True)
    first.add_argument("versions", nargs="+", help="SERVER=VERSION")
    written = commands.add_parser("page")
    written.set_defaults(run=write_page)
    written.add_argument("directory", type=pathlib.Path)
    written.add_argument("out", type=pathlib.Path)
    return parser.parse_args()


if __name__ == "__main__":
    arguments = parse()
    sys.exit(arguments.run(arguments))
