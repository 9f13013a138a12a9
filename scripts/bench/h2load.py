"""h2load (nghttp2), run for a time, and what it counted, as a dictionary.

TLS is the same for all servers, as with the other client: TLS 1.3 with AES-128-GCM and X25519, or P-256 for nghttpd, which
knows no other.
"""

import re
import signal
import subprocess
import threading
import time

TLS_OPTIONS = ("--tls13-ciphers=TLS_AES_128_GCM_SHA256", "--groups=X25519:P-256")
TLS_USED = ("TLS Protocol: TLSv1.3", "Cipher: TLS_AES_128_GCM_SHA256")
BEGIN = "Main benchmark duration is started"
END = "Main benchmark duration is over"
# h2load 1.52 now and then goes on for ever after its time: it is ended so long after it, and started again.
GRACE_SECONDS = 5
ATTEMPTS = 3
UNITS = {"us": 1, "ms": 1e3, "s": 1e6}


class Failed(Exception):
    """h2load did not do what it was told; its output is the reason."""


class Hung(Failed):
    """h2load did not end, or never began."""


def timed(urls, seconds, warmup, options, at_mark=lambda process: None):
    """Asks for `seconds` after a warm-up. Calls `at_mark` when the time begins and when it ends; returns what was
    counted and what the calls returned."""
    for _ in range(ATTEMPTS - 1):
        try:
            return timed_once(urls, seconds, warmup, options, at_mark)
        except Hung:
            continue
    return timed_once(urls, seconds, warmup, options, at_mark)


def timed_once(urls, seconds, warmup, options, at_mark):
    duration = [f"--duration={seconds * 1000:.0f}ms", f"--warm-up-time={warmup * 1000:.0f}ms"]
    process = start(urls, [*duration, *options])
    guard = threading.Timer(seconds + warmup + GRACE_SECONDS, process.kill)
    guard.start()
    lines, marks = [], []
    for line in process.stdout:
        lines.append(line)
        if line.startswith((BEGIN, END)):
            marks.append((time.monotonic(), at_mark(process)))
    guard.cancel()
    output = finished(process, lines, urls, options)
    if len(marks) != 2:
        raise Failed(output)
    (began, first), (ended, second) = marks
    count = counted(output)
    if count["bytes"] == 0:
        raise Hung(output)
    return {**count, "seconds": ended - began}, (first, second)


def once(urls, requests, options):
    """Makes so many requests; returns what was counted."""
    process = start(urls, [f"--requests={requests}", *options])
    output = finished(process, list(process.stdout), urls, options)
    return {**counted(output), "seconds": microseconds(r"finished in ([\d.]+)(us|ms|s)", output) / 1e6}


def start(urls, options):
    tls = TLS_OPTIONS if is_tls(urls) else ()
    return subprocess.Popen(["h2load", *tls, *options, *urls], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def is_tls(urls):
    return urls[0].startswith("https:")


def finished(process, lines, urls, options):
    output = "".join(lines)
    if process.wait() == -signal.SIGKILL:
        raise Hung(output)
    used = [*TLS_USED, f"Application protocol: {'http/1.1' if '--h1' in options else 'h2'}"]
    missing = [line for line in used if is_tls(urls) and line not in output]
    if process.returncode != 0 or missing:
        raise Failed(output)
    return output


def counted(output):
    """The numbers that h2load prints at its end. Bytes are those of frames, before encryption."""
    done, failed = numbers(r"requests: .*?(\d+) done, \d+ succeeded, (\d+) failed", output)
    other_codes = numbers(r"status codes: \d+ 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", output)
    return {
        "requests": done,
        "errors": failed + sum(other_codes),
        "bytes": numbers(r"traffic: \S+ \((\d+)\) total", output)[0],
        "mean_us": microseconds(r"time for request: +\S+ +\S+ +([\d.]+)(us|ms|s) ", output),
    }


def percentiles(log):
    """Of the latencies in microseconds in a log of --log-file: a line for each request, the third column."""
    latencies = sorted(int(line.split()[2]) for line in log)
    if not latencies:
        return {}
    names = {"p50_us": 0.5, "p99_us": 0.99, "p999_us": 0.999}
    return {name: latencies[min(len(latencies) - 1, int(share * len(latencies)))] for name, share in names.items()}


def numbers(pattern, output):
    found = re.search(pattern, output)
    if not found:
        raise Failed(output)
    return [int(group) for group in found.groups()]


def microseconds(pattern, output):
    found = re.search(pattern, output)
    if not found:
        raise Failed(output)
    return float(found[1]) * UNITS[found[2]]
