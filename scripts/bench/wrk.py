#!/usr/bin/env python3
"""wrk as a client of compare.sh: measures a server, and prints one JSON object with the fields that tidegate-load prints.

wrk has no warm-up of its own, so it runs twice, the first time until it is interrupted. Requests and CPU time are those of the
whole second run, its connecting included.
"""

import argparse
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from math import ceil

from usage import cpu_ns, machine_ns

SCRIPT = pathlib.Path(__file__).with_name("wrk.lua")
WARMUP_SECONDS = 0.3


class Failed(Exception):
    """wrk did not do what it was told."""


def measure(options):
    warm_up(options)
    before, machine_before = cpu_ns(options.cpu), machine_ns()
    counted, client_ns = wrk(options, options.seconds)
    spent, machine = cpu_ns(options.cpu) - before, machine_ns() - machine_before
    if counted["requests"] == 0:
        raise Failed("no request was answered")
    return {
        **counted,
        "requests_per_second": counted["requests"] / counted["seconds"],
        "cpu_ns": spent,
        "client_cpu_ns": client_ns,
        "other_cpu_ns": max(0, machine - client_ns - spent),
    }


def warm_up(options):
    with subprocess.Popen(command(options, 1 + ceil(WARMUP_SECONDS)), stdout=subprocess.DEVNULL) as process:
        time.sleep(WARMUP_SECONDS)
        process.send_signal(signal.SIGINT)


def command(options, seconds):
    """wrk knows whole seconds alone."""
    url = f"{'https' if options.tls else 'http'}://{options.server}{options.path}"
    limits = ["--threads=1", f"--connections={options.connections}", f"--duration={seconds}s"]
    script_arguments = [str(options.paths)] if options.paths else []
    return ["wrk", *limits, f"--script={SCRIPT}", url, "--", *script_arguments]


def wrk(options, seconds):
    """What wrk counted, and the CPU time that it took."""
    with subprocess.Popen(command(options, seconds), stdout=subprocess.PIPE, text=True) as process:
        output = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise Failed(output)
    return json.loads(output.splitlines()[-1]), round((used.ru_utime + used.ru_stime) * 1e9)


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--label", action="append", default=[], help="NAME=VALUE, a field of the object")
    parser.add_argument("--server", required=True, help="HOST:PORT")
    parser.add_argument("--path", default="/", help="what is asked for")
    parser.add_argument("--paths", type=pathlib.Path, help="a file with paths that are asked for in turn, as HttpArena does")
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--seconds", type=int, required=True)
    parser.add_argument("--cpu", required=True, help="the server's CPU counter")
    return parser.parse_args()


def main():
    options = parse()
    try:
        report = measure(options)
    except (Failed, OSError, ValueError) as error:
        sys.exit(f"wrk.py: {options.path}: {error}")
    print(json.dumps(dict(label.split("=", 1) for label in options.label) | report))


if __name__ == "__main__":
    main()
