#!/usr/bin/env python3
"""Two or more servers, or one with and without a change, measured in turn: CPU per request.

    scripts/bench/netns.sh scripts/bench/ab.py --tree DIR --path /FILE NAME=COMMAND NAME=COMMAND...

Every server is started on core 0 and goes on running; the client, on core 1, asks each for a while, in an order that
moves on with each round. CPU is that of the server's threads and of its children's (schedstat). `{port}` and
`{tree}` in a command are replaced, and what starts with a variable is run with it:

    before='/tmp/before serve {tree} --listen 127.0.0.1:{port} --cores 0-0'
    after='VARIABLE=1 /tmp/after serve {tree} --listen 127.0.0.1:{port} --cores 0-0'

(with whole paths, since commands run where the log is). The client is built by `cargo build --release -p tidegate-load`.
With `--h2load OPTIONS` the client is h2load, and speaks HTTP/2, with `--tls` over TLS (nginx needs `http2` on its listen, and
so on): `--h2load '-c16 -m32'`. With `--wrk` it is wrk, which measures whole seconds; `--tls` serves both, and `OPENSSL_CONF`
pins the cipher of wrk and of servers with OpenSSL. Requests of both are counted by their bytes, so that large ones need not
end in time.
A server named twice tells what the rounds differ by when nothing does. A ratio is the median of those of each round to
its first server.
"""

import argparse
import contextlib
import json
import pathlib
import shlex
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts/lib"))

import h2load  # noqa: E402
from started import free_port, started  # noqa: E402

# h2load connects and shakes hands anew for each measurement: not a part of it.
WARMUP_SECONDS = 0.3
# A frame's head of 9 bytes is nothing beside this.
LARGE_BYTES = 65536
WRK_SCRIPT = pathlib.Path(__file__).with_name("wrk.lua")


def threads_of(pid):
    """The process and the children that it has now, as directories of /proc."""
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        yield task
        for child in (task / "children").read_text().split():
            yield from threads_of(child)


def cpu_nanoseconds(pid):
    return sum(int((task / "schedstat").read_text().split()[0]) for task in threads_of(pid))


def load(options, port):
    """Has the client ask one server; what it counted."""
    command = [
        *("taskset", "-c", "1", options.load, "get", "--server", f"127.0.0.1:{port}", "--path", options.path),
        *("--length", str(length(options)), "--connections", str(options.connections)),
        *("--seconds", str(options.seconds), "--warmup", "0"),
        *shlex.split(options.client),
    ]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def load_wrk(options, port):
    """The same by wrk."""
    command = [
        *("taskset", "-c", "1", "wrk", "-t1", f"-c{options.connections}", f"-d{max(round(options.seconds), 1)}s"),
        *("-s", str(WRK_SCRIPT), *shlex.split(options.client), url(options, port)),
    ]
    output = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
    counted = json.loads(output.splitlines()[-1])
    if counted["errors"]:
        raise RuntimeError(f"{counted['errors']} requests of wrk failed")
    requests = whole_requests(counted, options)
    return {"requests": requests, "requests_per_second": requests / counted["seconds"]}


def whole_requests(counted, options):
    """Those that ended, or of large files as many as the bytes are."""
    return max(counted["requests"], counted["bytes"] / length(options) if length(options) >= LARGE_BYTES else 0)


def length(options):
    return (options.tree / options.path.lstrip("/")).stat().st_size


def measure(options, pid, port):
    """Microseconds of CPU for a request, and requests per second."""
    if options.h2load is not None:
        return measure_http2(options, pid, port)
    ask = load_wrk if options.wrk else load
    before = cpu_nanoseconds(pid)
    counted = ask(options, port)
    used = cpu_nanoseconds(pid) - before
    return used / 1000 / counted["requests"], counted["requests_per_second"]


def url(options, port):
    return f"{'https' if options.tls else 'http'}://127.0.0.1:{port}{options.path}"


def measure_http2(options, pid, port):
    """The same by h2load. Of a file that is small, the frames' and heads' bytes are not."""
    asked = url(options, port)
    words = shlex.split(options.h2load)
    counted, (before, after) = h2load.timed([asked], options.seconds, WARMUP_SECONDS, words, lambda _: cpu_nanoseconds(pid))
    if counted["errors"]:
        raise h2load.Failed(f"{counted['errors']} requests of {asked} failed")
    requests = whole_requests(counted, options)
    return (after - before) / 1000 / requests, requests / counted["seconds"]


def start(stack, options, text, log):
    """A server that runs until the stack is left: its pid and port."""
    port = free_port()
    words = shlex.split(text.format(port=port, tree=options.tree))
    process = stack.enter_context(started(["taskset", "-c", "0", "env", *words], port, log))
    return process.pid, port


def named(text):
    name, equals, command = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text}: NAME=COMMAND is meant")
    return name, command


def parse():
    parser = argparse.ArgumentParser(description="Servers measured in turn: CPU per request.")
    parser.add_argument("servers", nargs="+", type=named, metavar="NAME=COMMAND")
    parser.add_argument("--tree", required=True, type=lambda name: pathlib.Path(name).resolve(), help="what they serve")
    parser.add_argument("--path", required=True, help="the file that is asked for, from the tree's top")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--warm-rounds", type=int, default=0, help="more before, which do not count: a cache is filled")
    parser.add_argument("--seconds", type=float, default=0.5, help="of each measurement")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--client", default="", help="more options of tidegate-load, such as '--churn' or '--discard'")
    parser.add_argument("--h2load", help="ask by h2load, with these options, instead of tidegate-load")
    parser.add_argument("--wrk", action="store_true", help="ask by wrk, with the options of --client")
    parser.add_argument("--tls", action="store_true", help="with --h2load or --wrk")
    parser.add_argument("--load", type=pathlib.Path, default=ROOT / "target/release/tidegate-load")
    parser.add_argument("--log", type=pathlib.Path, default=ROOT / "target/ab.log", help="what the servers print")
    return parser.parse_args()


def main():
    options = parse()
    costs = [[] for _ in options.servers]
    rates = [[] for _ in options.servers]
    with contextlib.ExitStack() as stack:
        running = [start(stack, options, command, options.log) for _, command in options.servers]
        for number in range(-options.warm_rounds, options.rounds):
            for turn in range(len(running)):
                which = (number + turn) % len(running)
                cost, rate = measure(options, *running[which])
                if number >= 0:
                    costs[which].append(cost)
                    rates[which].append(rate)
    for (name, _), cost, rate in zip(options.servers, costs, rates):
        ratio = statistics.median(one / first for one, first in zip(cost, costs[0]))
        print(
            f"{name:16} us/request {statistics.median(cost):8.2f} ({min(cost):.2f} to {max(cost):.2f})"
            f"  ratio {ratio:.3f}  {statistics.median(rate):8.0f} requests/s"
        )


main()
