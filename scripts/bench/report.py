#!/usr/bin/env python3
"""Turns the raw results of compare.sh into a table and a plot.

    report.py report DIR        reads DIR/raw.jsonl, writes DIR/table.md and
                                DIR/plot.svg, prints the table
    report.py page DIR OUT.md   writes a page on the same run, with its plot and
                                raw data beside it as OUT.svg and OUT.jsonl
    report.py saturation DIR    prints what the best peer answers in a second in the case 1k
    report.py missed DIR        prints the cases in which tidegate misses a target for CPU time, each with the servers to
                                look at
    report.py targets DIR       prints how tidegate stands with HTTP/2, with the targets
    report.py run-line V...     prints the first line of raw.jsonl from the
                                environment; V is SERVER=VERSION

raw.jsonl has one JSON object a line: first the run, then one for each
measurement, as the load generator printed it. Only the standard library is
used.
"""

import json
import os
import shutil
import sys
from collections import defaultdict
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10
from statistics import median

from functions import GROUPS

BASE = "nginx"
NAMES = {
    "tidegate": "tidegate",
    "tidegate-memory": "tidegate, inline-max 1m",
    "tidegate-arena": "tidegate, nothing in memory",
    "nginx": "nginx, sendfile on",
    "nginx-nosendfile": "nginx, sendfile off",
    "nginx-aio": "nginx, aio threads",
    "nginx-8k": "nginx, frames of 8 KiB",
    "nginx-plain": "nginx, no open_file_cache",
    "lighttpd": "lighttpd",
    "h2o": "H2O",
    "nghttpd": "nghttpd",
    "caddy": "Caddy",
    "static-web-server": "static-web-server",
    "limit": "the limit",
}
# Told apart also by those who see fewer colours (after Okabe and Ito).
COLOURS = {
    "tidegate": "#d55e00",
    "tidegate-memory": "#f0a070",
    "tidegate-arena": "#b8860b",
    "nginx": "#0072b2",
    "nginx-nosendfile": "#56b4e9",
    "nginx-aio": "#7f9fd6",
    "nginx-8k": "#a6c8e0",
    "nginx-plain": "#3b5b92",
    "lighttpd": "#009e73",
    "h2o": "#cc79a7",
    "nghttpd": "#8f4f6f",
    "caddy": "#c9a800",
    "static-web-server": "#8c8c8c",
    "limit": "#d0d0d0",
}
# Cases whose measure is CPU time: the table's title, and the plot's label.
SIZES = {
    "1k": ("1 KiB, 64 connections", "1 KiB"),
    "4k": ("4 KiB, 64 connections", "4 KiB"),
    "16k": ("16 KiB, 64 connections", "16 KiB"),
    "64k": ("64 KiB, 64 connections", "64 KiB"),
    "1m": ("1 MiB, 16 connections", "1 MiB"),
    "100m": ("100 MiB, 16 connections, bodies dropped in the client's kernel", "100 MiB"),
}
CONNECTIONS = {
    "1k-c1": ("1 KiB, 1 connection", "1 connection"),
    "1k": ("1 KiB, 64 connections", "64 connections"),
    "1k-c512": ("1 KiB, 512 connections", "512 connections"),
    "1k-c4096": ("1 KiB, 4 096 connections", "4 096 connections"),
}
KINDS = {
    "pipelined": ("1 KiB, 64 connections, pipelined 16 deep", "pipelined"),
    "churn": ("1 KiB, a connection for each request, 64 at once", "connection each"),
    "304": ("304: 1 KiB that has not changed, 64 connections", "304"),
    "404": ("404: a file that is not there, 64 connections", "404"),
    "mixed": ("A mixed trace, 64 connections, on a tree larger than the page cache", "mixed"),
}
# The same with TLS 1.3: the cipher is AES-128-GCM, the key exchange X25519, the certificate's key P-256.
TLS = {
    "tls-1k": ("TLS: 1 KiB, 64 connections", "1 KiB"),
    "tls-64k": ("TLS: 64 KiB, 64 connections", "64 KiB"),
    "tls-1m": ("TLS: 1 MiB, 16 connections", "1 MiB"),
    "tls-100m": ("TLS: 100 MiB, 4 connections, dropped when they are decrypted", "100 MiB"),
    "tls-handshake": ("TLS: 1 KiB, a full handshake for each request", "full handshake"),
    "tls-resumed": ("TLS: 1 KiB, a session resumed for each request", "resumed"),
}
# The profile static of HttpArena, by wrk.
ARENA = {
    "static-c256": "HttpArena's static, 256 connections",
    "static-c1024": "HttpArena's static, 1 024 connections",
    "static-c4096": "HttpArena's static, 4 096 connections",
    "static-c6800": "HttpArena's static, 6 800 connections",
}
# 50 connections at a fixed rate.
RATES = {
    "1k-r2000": "1 KiB, 2 000 requests/s",
    "1k-r10000": "1 KiB, 10 000 requests/s",
    "1k-r30000": "1 KiB, 30 000 requests/s",
    "1k-load10": "1 KiB, 10 % of the best peer's most",
    "1k-load30": "1 KiB, 30 % of the best peer's most",
    "1k-load60": "1 KiB, 60 % of the best peer's most",
    "64k-r2000": "64 KiB, 2 000 requests/s",
    "64k-r10000": "64 KiB, 10 000 requests/s",
    "64k-r30000": "64 KiB, 30 000 requests/s",
}
# Clients that measure a case as well, as CASE-CLIENT.
CLIENTS = ("wrk", "h2load")
CLIENT_CASES = {case: title for case, (title, _) in (CONNECTIONS | SIZES | TLS).items()}
# HTTP/2, in tables of their own: how a case is named, and what is said of it.
HTTP2_SIZES = {"1k": "1 KiB", "16k": "16 KiB", "64k": "64 KiB", "1m": "1 MiB", "100m": "100 MiB"}
HTTP2_CONNECTIONS = (1, 16)
HTTP2_STREAMS = (1, 32, 100)
HTTP2_OTHERS = {
    "h2-1k-c16-http1": "the same client by HTTP/1.1: 1 KiB, 16 connections",
    "h2-1m-c16-http1": "the same client by HTTP/1.1: 1 MiB, 16 connections",
    "h2-static-c256": "HttpArena's static-h2, 256 connections, 32 streams",
    "h2-static-c1024": "HttpArena's static-h2, 1 024 connections, 32 streams",
    "h2-connect": "a connection with a full handshake and one request",
    "h2c-connect": "a connection with one request, without TLS",
}
HTTP2_MEMORY = {
    "h2-idle": "an idle connection after one request (1 000)",
    "h2-blocked": "a stream whose window is 0 (20 connections, 100 streams)",
    "h2-stalled": "a stream that has filled its window of 16 KiB (20 connections, 100 streams)",
}
MEMORY = {
    "idle": ("5 000 idle keep-alive connections", "idle"),
    "active": ("1 000 connections that take 32 KiB of 100 MiB every 50 ms", "downloading slowly"),
    "stalled": ("1 000 connections that asked for 100 MiB and read nothing", "stalled"),
    "tls-idle": ("TLS: 1 000 idle keep-alive connections", "idle, TLS"),
}

# Ticks of 10 ms make some hundredths of a core of error in a second.
OTHER_CORES_MOST = 0.1


# --- reading -----------------------------------------------------------------


def read(path):
    """The run line and the measurements of a raw.jsonl."""
    with open(path, encoding="utf-8") as file:
        lines = [json.loads(line) for line in file if line.strip()]
    return lines[0], lines[1:]


def series(samples, case, phase, value):
    """For each server the list of value(sample) over the rounds."""
    found = by_round(samples, case, phase, value)
    return {server: list(values.values()) for server, values in found.items()}


def by_round(samples, case, phase, value):
    """For each server value(sample) by round."""
    found = defaultdict(dict)
    for sample in samples:
        if sample["case"] == case and sample["phase"] == phase:
            number = value(sample)
            if number is not None:
                found[sample["server"]][sample["round"]] = number
    return found


def per(numerator, denominator, scale=1.0):
    """A function of a sample: scale * numerator / denominator, if there is one."""

    def value(sample):
        if not sample.get(denominator) or sample.get(numerator) is None:
            return None
        return scale * sample[numerator] / sample[denominator]

    return value


def field(name, scale=1.0):
    """A function of a sample: scale * the field, if it is there."""

    def value(sample):
        return None if sample.get(name) is None else scale * sample[name]

    return value


def p99_ms(sample):
    """The p99; of a server that answered nothing the age of the oldest waiting
    request, for there is no better bound of what its clients see."""
    return (sample["p99_us"] or sample["oldest_us"]) / 1e3


def longest_ms(sample):
    """The longest latency, of answered requests or of waiting ones."""
    return max(sample["max_us"] or 0, sample["oldest_us"]) / 1e3


def cpu_beside_to_alone(samples):
    """CPU time per hot request with cold readers, relative to without, by round."""
    cpu = per("cpu_ns", "requests")
    alone = {}
    for sample in samples:
        if sample["case"] == "slow" and sample["phase"] == "alone":
            alone[sample["server"], sample["round"]] = cpu(sample)

    def value(sample):
        before, beside = alone.get((sample["server"], sample["round"])), cpu(sample)
        return beside / before if before and beside else None

    return value


# --- tidegate and its peers --------------------------------------------------

CPU_PER_REQUEST = ("CPU per request, us", per("cpu_ns", "requests", 1e-3))
CPU_PER_GB = ("CPU per GB, s", per("cpu_ns", "bytes"))
P99 = ("p99, ms", p99_ms)
PER_CONNECTION = ("resident bytes per connection", field("bytes_per_connection"))
PER_STREAM = ("resident bytes per stream", field("bytes_per_stream"))
AIO = ("nginx-aio",)
NGINX = ("nginx",)
H2O = ("h2o",)
NGINX_8K = ("nginx-8k",)
NGINX_ALL = ("nginx", "nginx-nosendfile", "nginx-plain")
# What a stream that waits for a window may take, in bytes, whatever it takes elsewhere.
STREAM_MOST = 1024

# What tidegate is compared in: case, phase, measure (less is better), the
# target for its ratio to the best peer if there is one, and the peers if not all.
VERDICTS = [
    ("1k-c1", "alone", CPU_PER_REQUEST, None),
    ("1k", "alone", CPU_PER_REQUEST, 0.80),
    ("1k-c512", "alone", CPU_PER_REQUEST, 0.80),
    ("1k-c4096", "alone", CPU_PER_REQUEST, None),
    ("4k", "alone", CPU_PER_REQUEST, 0.85),
    ("16k", "alone", CPU_PER_REQUEST, 0.85),
    ("64k", "alone", CPU_PER_REQUEST, 0.92),
    ("1m", "alone", CPU_PER_REQUEST, 1.00),
    ("100m", "alone", CPU_PER_GB, 1.02),
    ("pipelined", "alone", CPU_PER_REQUEST, 0.30),
    ("churn", "alone", CPU_PER_REQUEST, 0.95),
    ("304", "alone", CPU_PER_REQUEST, 0.90),
    ("404", "alone", CPU_PER_REQUEST, 0.90),
    ("mixed", "alone", CPU_PER_REQUEST, None),
    ("mixed", "alone", CPU_PER_GB, None),
    ("mixed", "alone", P99, None),
    ("slow", "beside", P99, 1.00, AIO),
    ("slow", "beside", CPU_PER_REQUEST, 0.50, AIO),
    ("bulk", "beside", P99, 0.85),
    ("bulk-r10000", "beside", P99, 0.85),
    ("idle", "alone", PER_CONNECTION, 0.60),
    ("active", "alone", PER_CONNECTION, 0.60),
    ("stalled", "alone", PER_CONNECTION, 0.60),
    ("static-c256", "alone", CPU_PER_REQUEST, None),
    ("static-c1024", "alone", CPU_PER_REQUEST, 0.75, NGINX_ALL),
    ("static-c4096", "alone", CPU_PER_REQUEST, 0.75, NGINX_ALL),
    ("static-c6800", "alone", CPU_PER_REQUEST, None),
    ("tls-1k", "alone", CPU_PER_REQUEST, 0.60),
    ("tls-64k", "alone", CPU_PER_REQUEST, 0.50),
    ("tls-1m", "alone", CPU_PER_REQUEST, 0.52),
    ("tls-100m", "alone", CPU_PER_GB, 0.65),
    ("tls-handshake", "alone", CPU_PER_REQUEST, 0.95),
    ("tls-resumed", "alone", CPU_PER_REQUEST, None),
    ("tls-idle", "alone", PER_CONNECTION, 0.50, NGINX),
]


def http2_verdicts():
    """The same for HTTP/2. Large responses are counted by their bytes: they need not end within a measurement."""
    for protocol in ("h2c", "h2"):
        yield (f"{protocol}-1k-c16-m32", "alone", CPU_PER_REQUEST, 0.80, H2O)
    for size in ("64k", "1m", "100m"):
        for case in grid("h2", size):
            yield (case, "alone", CPU_PER_GB, 0.75)
    for size, target in (("64k", 0.70), ("1m", 1.10)):
        for case in grid("h2c", size):
            yield (case, "alone", CPU_PER_GB, target, NGINX_8K)
            yield (case, "alone", CPU_PER_GB, target, NGINX_ALL)
    for case in ("h2-static-c256", "h2-static-c1024"):
        yield (case, "alone", CPU_PER_REQUEST, 0.60, NGINX_ALL)
    for case in ("h2-connect", "h2c-connect"):
        yield (case, "alone", CPU_PER_REQUEST, None)
    yield ("h2-idle", "alone", PER_CONNECTION, 0.60)
    for case in ("h2-blocked", "h2-stalled"):
        yield (case, "alone", PER_STREAM, None)


def grid(protocol, size):
    """The cases of one size, with few connections and many, and few streams and many."""
    for connections in HTTP2_CONNECTIONS:
        for streams in HTTP2_STREAMS:
            yield f"{protocol}-{size}-c{connections}-m{streams}"


def rate_verdicts():
    """The same at fixed rates. At the lowest there is least to do at once."""
    for case in RATES:
        yield (case, "alone", CPU_PER_REQUEST, 0.95 if case.endswith("-r2000") else 0.88)
        yield (case, "alone", P99, 0.90)


VERDICTS += rate_verdicts()
VERDICTS += http2_verdicts()

# What tidegate takes of what the limit takes: case, measure, the target.
LIMIT_VERDICTS = [
    ("1k", CPU_PER_REQUEST, 1.15),
    ("1k-c512", CPU_PER_REQUEST, None),
    ("4k", CPU_PER_REQUEST, None),
    ("16k", CPU_PER_REQUEST, None),
    ("64k", CPU_PER_REQUEST, 1.08),
    ("1m", CPU_PER_REQUEST, 1.05),
    ("100m", CPU_PER_GB, None),
    *((case, CPU_PER_REQUEST, None) for case in RATES if "-load" not in case),
]

# Of tidegate alone: HTTP/2's case, HTTP/1.1's over TLS, the measure, the target.
HTTP1_VERDICTS = [
    ("h2-1k-c16-m32", "h2-1k-c16-http1", CPU_PER_REQUEST, 0.28),
    ("h2-1m-c16-m1", "h2-1m-c16-http1", CPU_PER_GB, 1.10),
    ("h2-1m-c16-m32", "h2-1m-c16-http1", CPU_PER_GB, 1.10),
]


@dataclass
class Verdict:
    """How tidegate stands in one case."""

    case: str
    measure: str
    own: float
    """tidegate's median."""
    peer: str
    best: float
    """The least median of a peer, and whose."""
    hardest: str
    rounds: float | None
    """The greatest median of the ratios to one peer, each of two values of the same round, and whose."""
    target: float | None
    clients: dict
    """The ratio of the medians by each other client that measured the case."""

    def worst(self):
        """The greatest ratio of medians, whoever the client is; None where there is none."""
        ratios = [quotient(self.own, self.best), *self.clients.values()]
        return None if None in ratios else max(ratios)


def verdicts(samples):
    """Of everything that was measured of tidegate and of a peer: by our client, or by the first other one that did."""
    for case, phase, (measure, value), target, *peers in VERDICTS:
        standings = list(by_clients(samples, case, phase, value, *peers))
        if not standings:
            continue
        (client, own, found), *others = standings
        peer, best = best_of(found)
        rounds = {server: ratio_of_rounds(own, values) for server, values in found.items()}
        hardest = max(rounds, key=lambda server: rounds[server] or 0)
        clients = {other: quotient(median(mine.values()), best_of(theirs)[1]) for other, mine, theirs in others}
        yield Verdict(
            by_client(case, client), measure, median(own.values()), peer, best, hardest, rounds[hardest], target, clients
        )


def by_client(case, client):
    """What a case is called by a client; None is ours."""
    return case if client is None else f"{case}-{client}"


def compared(samples, case, phase, value, peers=None):
    """tidegate's values by round, and those of each of its peers."""
    found = by_round(samples, case, phase, value)
    return found.get("tidegate"), {
        server: values
        for server, values in found.items()
        if is_peer(server) and (peers is None or server in peers)
    }


def is_peer(server):
    return server != "limit" and not server.startswith("tidegate")


def saturation(samples):
    """What the best peer answers in a second in the case 1k: the greatest median; None where none was measured."""
    found = medians(samples, "1k", "alone", field("requests_per_second"))
    return max((value for server, value in found.items() if is_peer(server)), default=None)


def best_of(found):
    """The server whose median is least, and that."""
    best = {server: median(values.values()) for server, values in found.items()}
    return min(best.items(), key=lambda item: item[1])


def by_clients(samples, case, phase, value, *peers):
    """Each client that measured tidegate and a peer in a case, ours (None) first, with the values of both."""
    for client in (None, *CLIENTS):
        own, found = compared(samples, by_client(case, client), phase, value, *peers)
        if own and found:
            yield client, own, found


def http1_verdicts(samples):
    """tidegate with HTTP/2 beside itself with HTTP/1.1."""
    for case, other, (measure, value), target in HTTP1_VERDICTS:
        own = by_round(samples, case, "alone", value).get("tidegate")
        before = by_round(samples, other, "alone", value).get("tidegate")
        if own and before:
            best, rounds = median(before.values()), ratio_of_rounds(own, before)
            yield Verdict(case, measure, median(own.values()), "tidegate", best, "tidegate", rounds, target, {})


def limit_verdicts(samples):
    """tidegate beside what answers without being a server for anybody."""
    for case, (measure, value), target in LIMIT_VERDICTS:
        found = by_round(samples, case, "alone", value)
        own, limit = found.get("tidegate"), found.get("limit")
        if own and limit:
            least, rounds = median(limit.values()), ratio_of_rounds(own, limit)
            yield Verdict(case, measure, median(own.values()), "limit", least, "limit", rounds, target, {})


@dataclass
class Missed:
    """A target that tidegate does not reach, with one client."""

    case: str
    measure: str
    target: float
    own: float
    peer: str
    best: float
    """The median that the target is relative to, the best peer's or the limit's, and whose."""
    limit: float | None
    """The median of the limit in limit_case, where it was measured."""

    def is_cpu(self):
        return self.measure in (CPU_PER_REQUEST[0], CPU_PER_GB[0])

    def floor(self):
        """What the limit takes of what the best peer takes; None where it was not measured."""
        return None if self.limit is None or self.peer == "limit" else quotient(self.limit, self.best)

    def out_of_reach(self):
        return is_missed(self.floor(), self.target)


def missed(samples):
    """The targets that tidegate does not reach, beside its peers with each client, and beside the limit."""
    for case, phase, (measure, value), target, *peers in VERDICTS:
        for client, own, found in by_clients(samples, case, phase, value, *peers):
            name, (peer, best) = by_client(case, client), best_of(found)
            limit = medians(samples, limit_case(name), phase, value).get("limit")
            row = Missed(name, measure, target, median(own.values()), peer, best, limit)
            if is_missed(quotient(row.own, best), target):
                yield row
    for row in limit_verdicts(samples):
        if is_missed(quotient(row.own, row.best), row.target):
            yield Missed(row.case, row.measure, row.target, row.own, "limit", row.best, row.best)


def limit_case(case):
    """In which case the limit does what is left of another one: it knows no TLS, and every answer of it is a file."""
    return "1k" if case in ("304", "404") else case.removeprefix("tls-")


def is_missed(found, target):
    """By two digits, as it is shown."""
    return target is not None and found is not None and round(found, 2) > target


def to_sample(samples):
    """The cases whose functions tell why a target is missed, and of which servers."""
    cases = defaultdict(dict)
    for row in missed(samples):
        if row.is_cpu():
            limit = ("limit",) if row.limit and limit_case(row.case) == row.case else ()
            cases[row.case] |= dict.fromkeys(("tidegate", row.peer, *limit))
    return cases


def ratio_of_rounds(own, peer):
    """The median of the ratios within each round: what slows a whole round down changes none of them."""
    ratios = [quotient(own[round], peer[round]) for round in own.keys() & peer.keys()]
    return median(ratios) if ratios and None not in ratios else None


def quotient(own, best):
    """None where memory did not grow: then there is no ratio."""
    return own / best if own > 0 and best > 0 else None


def is_behind(row):
    """Whether tidegate is worse with any client by what the table shows, two digits."""
    found = row.worst()
    return row.own > row.best if found is None else round(found, 2) > 1


def verdict_table(rows):
    """A Markdown table of some verdicts; a column for each other client that measured one of them."""
    clients = [client for client in CLIENTS if any(client in row.clients for row in rows)]
    titles = "".join(f" by {client} |" for client in clients)
    lines = [
        f"| case | measure | tidegate | best peer | | tidegate / best peer |{titles} target | round by round |",
        f"| --- | --- | ---: | --- | ---: | ---: |{' ---: |' * len(clients)} --- | --- |",
    ]
    for row in rows:
        rounds = "-" if row.rounds is None else f"{row.rounds:.2f} of {NAMES[row.hardest]}"
        others = "".join(f" {two_digits(row.clients.get(client))} |" for client in clients)
        lines.append(
            f"| `{row.case}` | {row.measure} | {number(row.own)} | {NAMES[row.peer]} | {number(row.best)} "
            f"| {two_digits(quotient(row.own, row.best))} |{others} {verdict(row.worst(), row.target)} | {rounds} |"
        )
    return "\n".join(lines)


VERDICTS_TEXT = """A target is met if it is met with each client that measured the case. Why the clients do not agree is told
[below](#clients-beside-each-other): wrk and h2load read in pieces of 8 KiB and are busy, ours reads in larger ones and has its
kernel drop the bodies of 100 MiB."""
LIMIT_TEXT = """`scripts/bench/limit/limit.c` is no server: it answers whatever ends with an empty line from a few files that it
has opened before, by io_uring, send(2), tee(2) and splice(2), and does nothing else. What it takes is what the kernel takes for
an answer on this machine, so no server can be much below it. It counts as nobody's peer."""


def limit_table(rows):
    lines = [
        "| case | measure | tidegate | the limit | tidegate / limit | target | round by round |",
        "| --- | --- | ---: | ---: | ---: | --- | ---: |",
    ]
    for row in rows:
        found = quotient(row.own, row.best)
        lines.append(
            f"| `{row.case}` | {row.measure} | {number(row.own)} | {number(row.best)} | {two_digits(found)} "
            f"| {verdict(found, row.target)} | {two_digits(row.rounds)} |"
        )
    return "\n".join(lines)


MISSED_TEXT = """A line for each client with which a target is missed. `limit / best peer` is the least that a server can reach here:
what the limit takes, beside the best peer. Over TLS it is the limit without TLS, and of 304 and 404 its answer of 1 KiB."""


def missed_section(samples):
    """The Markdown paragraphs on the targets that are missed: by how much, whether any server could reach them, and where
    the CPU time goes instead."""
    rows = list(missed(samples))
    if rows:
        yield "## Where a target is missed"
        yield MISSED_TEXT
        yield missed_table(rows)
        beyond = [
            f"- `{row.case}`, {row.measure.split(',')[0]}: the limit has {two_digits(row.floor())} of {NAMES[row.peer]}'s, and "
            f"the target is {row.target:.2f}: "
            + ("no server on this kernel can reach it." if row.is_cpu() else "it does not reach it either.")
            for row in rows
            if row.out_of_reach()
        ]
        if beyond:
            yield "\n".join(beyond)
    functions = [sample for sample in samples if sample["phase"] == "functions"]
    if functions:
        yield "### Where the CPU goes"
        yield FUNCTIONS_TEXT
        yield functions_table(samples, functions)


def missed_table(rows):
    lines = [
        "| case | measure | target | tidegate | | the best | tidegate / the best | limit / best peer |",
        "| --- | --- | ---: | ---: | --- | ---: | ---: | ---: |",
    ]
    for row in rows:
        lines.append(
            f"| `{row.case}` | {row.measure} | {row.target:.2f} | {number(row.own)} | {NAMES[row.peer]} "
            f"| {number(row.best)} | {two_digits(quotient(row.own, row.best))} | {two_digits(row.floor())} |"
        )
    return "\n".join(lines)


FUNCTIONS_TEXT = """Microseconds of CPU for a request (100 MiB: milliseconds for a GB): the median of the case, by the shares of the samples
that `perf record -e cpu-clock` took of the server in one more run of it. A sample counts for the innermost function that
belongs to a group ([functions.py](../scripts/bench/functions.py)), so what a function calls counts for it: memory
that is allocated for a packet is a part of sending. On loopback the sender's core does the receiver's work too, so
"TCP, receiving" is what the client's socket does with a response, and its acknowledgement."""


def functions_table(samples, functions):
    """A server a line, a group of functions a column."""
    groups = [name for name in GROUPS if any(name in sample["shares"] for sample in functions)]
    lines = [
        "| case | server | all | " + " | ".join(groups) + " |",
        "| --- | --- | ---: |" + " ---: |" * len(groups),
    ]
    for sample in functions:
        of_bytes = "100m" in sample["case"].split("-")
        value = per("cpu_ns", "bytes", 1e3) if of_bytes else CPU_PER_REQUEST[1]
        phase = phase_of(sample["case"])
        total = medians(samples, sample["case"], phase, value)[sample["server"]]
        cells = [small(total * sample["shares"].get(name, 0)) for name in groups]
        lines.append(f"| `{sample['case']}` | {NAMES[sample['server']]} | {number(total)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def phase_of(case):
    """In which phase of a case tidegate is compared."""
    return next((phase for name, phase, *_ in VERDICTS if name == case), "alone")


def small(value):
    """To a hundredth, and what is large to a tenth: the sum is what counts."""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def two_digits(ratio):
    return "-" if ratio is None else f"{ratio:.2f}"


def targets(samples):
    """The Markdown of what HTTP/2 has to reach, and what was measured of it."""
    http2 = [row for row in verdicts(samples) if is_http2(row.case)]
    yield "## HTTP/2: tidegate and the best of its peers"
    yield verdict_table(http2)
    own = list(http1_verdicts(samples))
    if own:
        yield "## HTTP/2 beside tidegate's own HTTP/1.1 over TLS"
        yield verdict_table(own)
    streams = [row for row in http2 if row.measure == PER_STREAM[0]]
    if streams:
        yield f"## A stream that waits for a window: at most {spaced(f'{STREAM_MOST:,}')} bytes"
        yield "\n".join(
            f"- `{row.case}`: {number(row.own)} bytes, {'met' if row.own <= STREAM_MOST else 'missed'}" for row in streams
        )


def is_http2(case):
    return case.startswith(("h2-", "h2c-"))


def verdict(found, target):
    if target is None:
        return ""
    if found is None:
        return f"{target:.2f}"
    return f"{target:.2f}, {'missed' if is_missed(found, target) else 'met'}"


# --- table -------------------------------------------------------------------


def number(value):
    """At least three digits."""
    if value == 0:
        return "0"
    digits = max(0, 2 - floor(log10(abs(value))))
    return spaced(f"{value:,.{digits}f}")


def spaced(text):
    """Thousands set apart by a space that does not break."""
    return text.replace(",", "\u00a0")


def spread(values):
    """Median, least and most."""
    if not values:
        return "-"
    return f"{number(median(values))} ({number(min(values))} - {number(max(values))})"


def ratio(values, base):
    """The median relative to the base's median."""
    if not values or not base or median(base) == 0:
        return "-"
    return f"{median(values) / median(base):.2f}"


def table(samples, servers, case, phase, columns):
    """A Markdown table. A column is (title, value) or (title, value, ratio's
    title) for one more column with the ratio to nginx."""
    titles, cells = ["server"], {server: [NAMES[server]] for server in servers}
    for title, value, *ratio_title in columns:
        found = series(samples, case, phase, value)
        titles += [title, *ratio_title]
        for server in servers:
            cells[server].append(spread(found.get(server)))
            if ratio_title:
                cells[server].append(ratio(found.get(server), found.get(BASE)))
    rows = [titles, ["---"] + ["---:"] * (len(titles) - 1)]
    # Not every server is measured in every case.
    rows += [cells[server] for server in servers if any(cell != "-" for cell in cells[server][1:])]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def size_columns(case):
    columns = [(*CPU_PER_REQUEST, "ratio to nginx")]
    if case.removeprefix("tls-") in ("16k", "64k", "1m", "100m", "mixed"):
        columns.append((*CPU_PER_GB, "ratio to nginx"))
    if case.endswith("100m"):
        # Few such requests end within a measurement: bytes are the measure.
        columns = columns[1:]
        columns.append(("GB/s", per("bytes", "seconds", 1e-9)))
        return columns
    return columns + [
        ("requests/s", field("requests_per_second")),
        ("p50, us", field("p50_us")),
        ("p99, us", field("p99_us")),
    ]


def slow_columns(samples):
    return [
        ("requests/s", field("requests_per_second"), "ratio to nginx"),
        ("p50, ms", field("p50_us", 1e-3)),
        ("p99, ms", p99_ms, "ratio to nginx"),
        ("longest, ms", longest_ms),
        ("CPU per request, us", per("cpu_ns", "requests", 1e-3)),
        ("the same, to without cold readers", cpu_beside_to_alone(samples)),
        ("cold MB/s", per("beside_bytes", "seconds", 1e-6)),
    ]


BULK_COLUMNS = [
    ("requests/s", field("requests_per_second"), "ratio to nginx"),
    ("p50, ms", field("p50_us", 1e-3)),
    ("p99, ms", p99_ms, "ratio to nginx"),
    ("bulk MB/s", per("bulk_bytes", "seconds", 1e-6)),
    ("slowest bulk reader, MB/s", per("bulk_bytes_least", "seconds", 1e-6)),
]
MEMORY_COLUMNS = [
    (*PER_CONNECTION, "ratio to nginx"),
    ("resident in all, MB", field("resident_after", 1e-6)),
    ("CPU meanwhile, ms per second", per("idle_cpu_ns", "seconds", 1e-6)),
]


def sections(samples):
    """(title, case, phase, columns) of every table."""
    for case, (title, _) in (CONNECTIONS | SIZES | KINDS).items():
        yield title, case, "alone", size_columns(case)
    slow = "1 KiB, 64 connections, while two evicted files are read from a disk slowed to 20 MB/s"
    yield slow, "slow", "beside", slow_columns(samples)
    yield "1 KiB, 16 connections, beside 12 bulk readers at 40 MB/s each", "bulk", "beside", BULK_COLUMNS
    at_rate = "1 KiB at 10 000 requests/s, 16 connections, beside 12 bulk readers at 40 MB/s each"
    yield at_rate, "bulk-r10000", "beside", [*BULK_COLUMNS, ("p99.9, ms", field("p999_us", 1e-3))]
    for case, (title, _) in TLS.items():
        yield title, case, "alone", size_columns(case)
    for case, (title, _) in MEMORY.items():
        yield title, case, "alone", MEMORY_COLUMNS


ARENA_TEXT = """\
The profile static of the public benchmark HttpArena as it is: 20 files in turn, 15 of them with variants,
asked for by one thread of wrk for 5 seconds. It makes each request anew by a script and is busy all the time,
so CPU per request tells the servers apart and requests per second do not. `tidegate, nothing in memory` is
the entry for its public table ([arena](../arena/README.md)), whose rules want files read from disk on every
request."""
CLIENTS_TEXT = """\
The same files by three clients, each on one core. `tidegate-load` is ours: it reads in pieces of 256 KiB, and
has its kernel drop the bodies of 100 MiB. wrk and h2load (`--h1`) read in pieces of 8 KiB, each of which a
general parser reads again, so they cost more the larger the body is: the last of these tables has the CPU
time of each. A client that is busy all the time is what limits the requests per second, and a server that
waits for it finds less to do each time that it wakes. wrk's figures hold its connecting, and h2load gives no
percentiles. A target is met if it is met with each client."""
CLIENTS_TLS_TEXT = """\
TLS is version 1.3 with AES-128-GCM and X25519 for all, with every client. Servers that use OpenSSL (nginx,
lighttpd, H2O, nghttpd) are bound to it by `OPENSSL_CONF`, and so is wrk; tidegate and Caddy have no such
setting and take it because nothing else is offered to them."""


def client_tables(samples, servers):
    """(title, table) of the cases that several clients have measured."""
    present = {sample["case"] for sample in samples}
    cases = {}
    for case, title in CLIENT_CASES.items():
        others = {f"{case}-{client}": f"{title}: {client}" for client in CLIENTS if f"{case}-{client}" in present}
        if others:
            cases |= {case: f"{title}: tidegate-load"} | others
    for measure, best in (
        (CPU_PER_REQUEST, min),
        (("requests per second", field("requests_per_second")), max),
        (("p50, us", field("p50_us")), min),
        (("p99, us", field("p99_us")), min),
        (("the client's own CPU, cores", per("client_cpu_ns", "seconds", 1e-9)), None),
    ):
        yield f"Clients beside each other: {measure[0]}", grid_table(samples, servers, cases, measure, best)


RATES_TEXT = """50 connections, and fewer requests than a server could answer: it seldom has more than one to do at a time.
`tidegate-load` asks on each connection in turn at even distances, and counts a latency from when a request was due, also if it
had to wait for the response to the one before (no coordinated omission). `h2load --h1 --rps` asks on all connections at about
the same time, and counts from when it sent. A server that does not keep up answers fewer requests per second than are asked
for."""


def rate_tables(samples, servers):
    """(title, table) of the fixed rates, by each client."""
    cases = {}
    for case, title in RATES.items():
        cases |= {case: f"{title}: tidegate-load", f"{case}-h2load": f"{title}: h2load"}
    for measure, best in (
        (CPU_PER_REQUEST, min),
        (("p50, us", field("p50_us")), min),
        (("p99, us", field("p99_us")), min),
        (("p99.9, us", field("p999_us")), min),
        (("requests per second", field("requests_per_second")), None),
    ):
        yield f"Fixed rates: {measure[0]}", grid_table(samples, servers, cases, measure, best)


def http2_tables(samples, servers):
    """(title, table) of HTTP/2: a case a line, a server a column, medians alone; the last column is tidegate's
    ratio to the best of the others."""
    for protocol, name in (("h2c", "without TLS (h2c)"), ("h2", "over TLS")):
        for sizes, measure in ((("1k", "16k"), CPU_PER_REQUEST), (("64k", "1m", "100m"), CPU_PER_GB)):
            cases = {case: label(case) for size in sizes for case in grid(protocol, size)}
            yield f"HTTP/2 {name}: {measure[0]}", grid_table(samples, servers, cases, measure)
    yield f"HTTP/2: {CPU_PER_REQUEST[0]}", grid_table(samples, servers, HTTP2_OTHERS, CPU_PER_REQUEST)
    everything = {case: label(case) for protocol in ("h2c", "h2") for case in grid(protocol, "1k")} | HTTP2_OTHERS
    yield "HTTP/2: requests per second", grid_table(
        samples, servers, everything, ("", field("requests_per_second")), best=max
    )
    memory = ("", lambda sample: sample.get("bytes_per_connection", sample.get("bytes_per_stream")))
    yield "HTTP/2 over TLS: resident bytes", grid_table(samples, servers, HTTP2_MEMORY, memory)


def label(case):
    protocol, size, connections, streams = case.split("-")
    plain = " without TLS" if protocol == "h2c" else ""
    counts = (counted(connections[1:], "connection"), counted(streams[1:], "stream"))
    return f"{HTTP2_SIZES[size]}, {', '.join(counts)}{plain}"


def counted(count, noun):
    return f"{count} {noun}" if count == "1" else f"{count} {noun}s"


def grid_table(samples, servers, cases, measure, best=min):
    """None where nothing of it was measured. Without `best` nothing is compared."""
    rows = {title: medians(samples, case, "alone", measure[1]) for case, title in cases.items()}
    rows = {title: found for title, found in rows.items() if found}
    servers = [server for server in servers if any(server in found for found in rows.values())]
    lines = [
        "| | " + " | ".join(NAMES[server] for server in servers) + (" | tidegate / best peer |" if best else " |"),
        "| --- |" + " ---: |" * (len(servers) + (best is not None)),
    ]
    for title, found in rows.items():
        peers = [value for server, value in found.items() if is_peer(server)]
        cells = [number(found[server]) if server in found else "-" for server in servers]
        if best:
            cells.append(f"{found['tidegate'] / best(peers):.2f}" if "tidegate" in found and peers else "-")
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines) if rows else None


def disturbed(sample):
    """Whether something else used a noticeable part of a core meanwhile."""
    other = per("other_cpu_ns", "seconds", 1e-9)(sample)
    return other is not None and other > OTHER_CORES_MOST


def troubles(samples):
    """What makes measurements doubtful: other work on the machine, failed
    requests, lost idle connections."""
    count = sum(map(disturbed, samples))
    if count:
        yield (
            f"- {count} of {len(samples)} measurements were disturbed: other processes used more than "
            f"{OTHER_CORES_MOST} of a core meanwhile"
        )
    for sample in samples:
        where = f"{sample['server']}, {sample['case']}, round {sample['round']}"
        if sample.get("errors"):
            yield f"- {where}: {sample['errors']} failed requests"
        lost = sample.get("connections", 0) - sample.get("still_open", 0)
        if lost > 0:
            yield f"- {where}: {lost} connections closed by the server"


def markdown(run, samples, servers):
    parts = [
        f"`{run['command']}`, {run['date']}, Linux {run['kernel']}, {run['cpu']}, revision "
        f"{run['revision']}. Medians of {run['rounds']} interleaved rounds (least - most); one core "
        "for the server, one for the client; CPU is the server's, user and system.",
        "Versions: " + "; ".join(f"{NAMES[server]}: {run['versions'][server]}" for server in servers) + ".",
    ]
    parts += results(samples, servers)
    return "\n\n".join(parts) + "\n"


def results(samples, servers):
    """The Markdown paragraphs of everything measured."""
    present = {sample["case"] for sample in samples}
    compared = [row for row in verdicts(samples) if not is_http2(row.case)]
    if compared:
        yield "## tidegate and the best of its peers"
        if any(row.clients for row in compared):
            yield VERDICTS_TEXT
        yield verdict_table(compared)
    limits = list(limit_verdicts(samples))
    if limits:
        yield "## tidegate and the limit"
        yield LIMIT_TEXT
        yield limit_table(limits)
    if any(map(is_http2, present)):
        yield from targets(samples)
    yield from missed_section(samples)
    for title, case, phase, columns in sections(samples):
        if case in present:
            yield f"## {title}"
            yield table(samples, servers, case, phase, columns)
    if present & ARENA.keys():
        yield "## HttpArena's static"
        yield ARENA_TEXT
    for case, title in ARENA.items():
        if case in present:
            yield f"## {title}"
            yield table(samples, servers, case, "alone", size_columns(case))
    yield from explained(["## Fixed rates", RATES_TEXT], rate_tables(samples, servers))
    clients = ["## Clients beside each other", CLIENTS_TEXT, CLIENTS_TLS_TEXT]
    yield from explained(clients, client_tables(samples, servers))
    yield from explained([], http2_tables(samples, servers))
    found = list(troubles(samples))
    if found:
        yield "## Troubles"
        yield "\n".join(found)


def explained(introduction, tables):
    """Those of the tables, each with its title, that have something in them, and before them what is to be said of them."""
    tables = [(title, text) for title, text in tables if text]
    if tables:
        yield from introduction
    for title, text in tables:
        yield f"## {title}"
        yield text


# --- page --------------------------------------------------------------------

# What a reader should know of a peer.
NOTES = {
    "nginx": "nginx runs as those who know it well run it: with `open_file_cache`, `multi_accept`, `tcp_nopush`, "
    "`reuseport`, larger `output_buffers` and, for HttpArena's files, `gzip_static` and `brotli_static`. What each "
    "setting of each server is for is told in [its template](../scripts/bench/peers).",
    "h2o": "H2O is Debian's, version 2.2.5 of 2018. What its authors have now is built from their repository, and may be "
    "faster.",
}

# The overview: a line's name, case, phase, value, and whether the best is the least or the greatest.
REQUESTS_PER_SECOND = field("requests_per_second")
OVERVIEW = [
    ("1 KiB, 64 connections", "1k", "alone", CPU_PER_REQUEST[1], min),
    ("1 KiB, 512 connections", "1k-c512", "alone", CPU_PER_REQUEST[1], min),
    ("1 KiB, 4 096 connections", "1k-c4096", "alone", CPU_PER_REQUEST[1], min),
    ("1 KiB, one connection", "1k-c1", "alone", CPU_PER_REQUEST[1], min),
    ("1 KiB, 2 000 requests/s", "1k-r2000", "alone", CPU_PER_REQUEST[1], min),
    ("1 KiB, 30 000 requests/s", "1k-r30000", "alone", CPU_PER_REQUEST[1], min),
    ("1 KiB, pipelined 16 deep", "pipelined", "alone", CPU_PER_REQUEST[1], min),
    ("1 KiB, a connection for each request", "churn", "alone", CPU_PER_REQUEST[1], min),
    ("304", "304", "alone", CPU_PER_REQUEST[1], min),
    ("404", "404", "alone", CPU_PER_REQUEST[1], min),
    ("4 KiB", "4k", "alone", CPU_PER_REQUEST[1], min),
    ("16 KiB", "16k", "alone", CPU_PER_REQUEST[1], min),
    ("64 KiB", "64k", "alone", CPU_PER_REQUEST[1], min),
    ("64 KiB, 2 000 requests/s", "64k-r2000", "alone", CPU_PER_REQUEST[1], min),
    ("1 MiB", "1m", "alone", CPU_PER_REQUEST[1], min),
    ("100 MiB, CPU per GB, s", "100m", "alone", CPU_PER_GB[1], min),
    ("HttpArena's static, 1 024 connections", "static-c1024", "alone", CPU_PER_REQUEST[1], min),
    ("HttpArena's static-h2, 256 connections", "h2-static-c256", "alone", CPU_PER_REQUEST[1], min),
    ("1 KiB beside 12 readers at 40 MB/s each, p99, ms", "bulk", "beside", p99_ms, min),
    ("the same at 10 000 requests/s, p99, ms", "bulk-r10000", "beside", p99_ms, min),
    ("1 KiB beside two cold files on a 20 MB/s disk, requests/s", "slow", "beside", REQUESTS_PER_SECOND, max),
    ("1 KiB beside two cold files on a 20 MB/s disk, p99, ms", "slow", "beside", p99_ms, min),
    ("5 000 idle connections, resident bytes each", "idle", "alone", PER_CONNECTION[1], min),
    ("1 000 downloads under way, resident bytes each", "active", "alone", PER_CONNECTION[1], min),
    ("1 000 stalled ones, resident bytes each", "stalled", "alone", PER_CONNECTION[1], min),
    ("HTTPS, 1 KiB", "tls-1k", "alone", CPU_PER_REQUEST[1], min),
    ("HTTPS, 64 KiB", "tls-64k", "alone", CPU_PER_REQUEST[1], min),
    ("HTTPS, 1 MiB", "tls-1m", "alone", CPU_PER_REQUEST[1], min),
    ("HTTPS, 100 MiB, CPU per GB, s", "tls-100m", "alone", CPU_PER_GB[1], min),
    ("HTTPS, a full handshake for each request", "tls-handshake", "alone", CPU_PER_REQUEST[1], min),
    ("HTTPS, a resumed one", "tls-resumed", "alone", CPU_PER_REQUEST[1], min),
    ("HTTPS, 1 000 idle connections, resident bytes each", "tls-idle", "alone", PER_CONNECTION[1], min),
]
OVERVIEW_SERVERS = ("tidegate", "nginx", "nginx-nosendfile", "lighttpd", "h2o", "limit")
OVERVIEW_TEXT = """Medians, the best one of a line bold: microseconds of CPU for a request where nothing else is named. Other peers, and
the least and the most of each measure, are in the tables below. HTTPS is encrypted in user space by all of them, TLS 1.3 with
AES-128-GCM and ECDSA on P-256: [tls.md](tls.md#what-it-costs-in-user-space) says what its cost consists of. The cost of a large
file is the kernel's, the same for all servers that use sendfile or splice:
[kernel.md](kernel.md#where-the-cpu-of-a-large-file-goes) breaks it down."""


def overview(samples, servers):
    """A Markdown table of what was measured of OVERVIEW."""
    servers = [server for server in OVERVIEW_SERVERS if server in servers]
    lines = [
        "| | " + " | ".join(NAMES[server] for server in servers) + " |",
        "| --- |" + " ---: |" * len(servers),
    ]
    for name, case, phase, value, best in OVERVIEW:
        found = medians(samples, case, phase, value)
        if "tidegate" in found:
            lines.append(f"| {name} | {' | '.join(overview_cells(found, servers, best))} |")
    return "\n".join(lines)


def overview_cells(found, servers, best):
    """The numbers of a line; the best of tidegate and its peers is bold, also if others share its three digits."""
    shown = {server: number(found[server]) for server in servers if server in found}
    first = number(best(found[server] for server in shown if server != "limit"))
    for server in servers:
        cell = shown.get(server, "")
        yield f"**{cell}**" if cell == first and server != "limit" else cell


def memory_rounds(run, samples):
    """Of how many rounds the medians of memory are, where these are fewer."""
    rounds = {sample["round"] for sample in samples if sample["case"] in MEMORY}
    return f", of {len(rounds)} for memory" if 0 < len(rounds) < run["rounds"] else ""


def page(run, samples, servers, stem):
    """The Markdown of a page on one run; its plot and raw data are STEM.svg and
    STEM.jsonl beside it."""
    behind = [row for row in verdicts(samples) if is_behind(row)]
    machine = {
        "CPU": f"{run['cpu']}, {run['cores']} cores" if "cores" in run else run["cpu"],
        "memory": f"{number(run['memory_bytes'] / 1e9)} GB" if "memory_bytes" in run else "not recorded",
        "kernel": f"Linux {run['kernel']}",
        "date": run["date"],
        "load average before": str(run["load_average"]),
        "tidegate's revision": f"`{run['revision']}`",
        **{NAMES[server]: run["versions"][server] for server in servers},
    }
    parts = [
        "# tidegate and its peers, measured",
        "This page is written by `scripts/bench/report.py page` from the raw data of one run: what is measured, "
        "how, and how to read it is in [scripts/bench](../scripts/bench/README.md).",
        f"```\n{run['command']}\n```",
        f"Medians of {run['rounds']} interleaved rounds of {run['seconds']} s (least - most){memory_rounds(run, samples)}; "
        "one core for the server, one for the client; CPU is the server's, user and system. "
        f"The raw data: [{stem}.jsonl]({stem}.jsonl).",
        f"![CPU, latency and memory of tidegate and its peers]({stem}.svg)",
        "## Machine and versions",
        "| | |\n| --- | --- |\n" + "\n".join(f"| {name} | {value} |" for name, value in machine.items()),
        *(text for server, text in NOTES.items() if server in servers),
        "## Overview",
        overview(samples, servers),
        OVERVIEW_TEXT,
        "## Where tidegate is not ahead",
        verdict_table(behind) if behind else "In none of the cases that this run measured.",
        *results(samples, servers),
    ]
    return "\n\n".join(parts) + "\n"


# --- plot --------------------------------------------------------------------

STYLE = """
  .card { fill: #ffffff; } .text { fill: #1f2328; } .quiet { fill: #59636e; }
  .grid { stroke: #d1d9e0; stroke-width: 1; } .base { stroke: #59636e; stroke-dasharray: 4 3; }
  text { font: 12px system-ui, sans-serif; } .title { font-weight: 600; font-size: 14px; }
  @media (prefers-color-scheme: dark) {
    .card { fill: #0d1117; } .text { fill: #f0f6fc; } .quiet { fill: #9198a1; }
    .grid { stroke: #3d444d; } .base { stroke: #9198a1; }
  }
"""
WIDTH, LEFT, RIGHT = 960, 64, 24
# Longer bars end here, with an arrow: the differences that matter are below.
LINEAR_MOST = 2.5
PANEL_HEIGHT, PANEL_TOP, PANEL_BOTTOM = 250, 44, 30


def medians(samples, case, phase, value):
    return {server: median(values) for server, values in series(samples, case, phase, value).items()}


def relative_cpu(samples, cases):
    """Groups of a panel: CPU relative to nginx, by case."""
    for case, (_, label) in cases.items():
        unit = "bytes" if case.endswith("100m") else "requests"
        found = medians(samples, case, "alone", per("cpu_ns", unit))
        if found.get(BASE):
            yield label, {server: cpu / found[BASE] for server, cpu in found.items()}


def panels(samples):
    """(title, groups, logarithmic) of every panel with something in it."""
    tails = [
        ("disk slowed to 20 MB/s", medians(samples, "slow", "beside", p99_ms)),
        ("12 bulk readers", medians(samples, "bulk", "beside", p99_ms)),
    ]
    memory = [(label, medians(samples, case, "alone", PER_CONNECTION[1])) for case, (_, label) in MEMORY.items()]
    cpu = "nginx with sendfile = 1; less is better"
    for title, groups, logarithmic in [
        (f"CPU time per request (100 MiB: per byte), {cpu}", list(relative_cpu(samples, SIZES)), False),
        (f"CPU time per request of 1 KiB, {cpu}", list(relative_cpu(samples, CONNECTIONS)), False),
        (f"CPU time per request, {cpu}", list(relative_cpu(samples, KINDS)), False),
        (f"CPU time per request over TLS (100 MiB: per byte), {cpu}", list(relative_cpu(samples, TLS)), False),
        ("p99 of small requests in ms, logarithmic; less is better", tails, True),
        ("Resident bytes per connection, logarithmic; less is better", memory, True),
    ]:
        groups = [(name, {s: v for s, v in values.items() if v > 0}) for name, values in groups]
        groups = [(name, values) for name, values in groups if values]
        if groups:
            yield title, groups, logarithmic


class Scale:
    """From a value to a height between 0 and 1, with the values of the grid."""

    def __init__(self, values, logarithmic):
        self.logarithmic = logarithmic
        if logarithmic:
            self.low, self.high = floor(log10(min(values))), ceil(log10(max(values)))
            self.high = max(self.high, self.low + 1)
            self.ticks = [10.0**exponent for exponent in range(self.low, self.high + 1)]
        else:
            self.low, self.high = 0, min(max(values) * 1.05, LINEAR_MOST)
            step = 0.25 if self.high < 1.6 else 0.5
            self.ticks = [step * i for i in range(int(self.high / step) + 1)]

    def label(self, value):
        """What is written over a bar."""
        text = number(value) if self.logarithmic else f"{value:.2f}"
        return text if self.logarithmic or value <= self.high else text + "\u2191"

    def __call__(self, value):
        value = log10(value) if self.logarithmic else value
        return min(max((value - self.low) / (self.high - self.low), 0.004), 1.0)


def panel(top, title, groups, logarithmic, servers):
    """The SVG elements of one panel of grouped bars."""
    scale = Scale([value for _, values in groups for value in values.values()], logarithmic)
    height, floor_y = PANEL_HEIGHT - PANEL_TOP - PANEL_BOTTOM, top + PANEL_HEIGHT - PANEL_BOTTOM
    yield f'<text class="text title" x="{LEFT}" y="{top + 20}">{escape(title)}</text>'
    for tick in scale.ticks:
        y = floor_y - height * (0 if tick == 0 else scale(tick))
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text class="quiet" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{spaced(f"{tick:,g}")}</text>'
    group_width = (WIDTH - LEFT - RIGHT) / len(groups)
    bar = min(group_width * 0.9 / len(servers), 34)
    for index, (name, values) in enumerate(groups):
        middle = LEFT + group_width * (index + 0.5)
        yield f'<text class="text" x="{middle:.1f}" y="{floor_y + 18}" text-anchor="middle">{escape(name)}</text>'
        for position, server in enumerate(servers):
            if server in values:
                x = middle + (position - len(servers) / 2) * bar
                value = values[server]
                yield from one_bar(x, floor_y, bar, height * scale(value), server, scale.label(value))


def one_bar(x, floor_y, width, height, server, label):
    yield (
        f'<rect x="{x + 1:.1f}" y="{floor_y - height:.1f}" width="{width - 2:.1f}" height="{height:.1f}" '
        f'fill="{COLOURS[server]}"><title>{escape(NAMES[server])}: {label}</title></rect>'
    )
    size = 8 if width < 22 else 9 if width < 30 else 11
    yield (
        f'<text class="quiet" x="{x + width / 2:.1f}" y="{floor_y - height - 3:.1f}" text-anchor="middle" '
        f'style="font-size:{size}px">{label}</text>'
    )


def legend(top, servers):
    x = LEFT
    for server in servers:
        if x + 30 + 6.3 * len(NAMES[server]) > WIDTH:
            x, top = LEFT, top + 18
        yield f'<rect x="{x}" y="{top}" width="12" height="12" fill="{COLOURS[server]}"/>'
        yield f'<text class="text" x="{x + 17}" y="{top + 10}">{escape(NAMES[server])}</text>'
        x += 30 + round(6.3 * len(NAMES[server]))


def plot(run, samples, servers):
    drawn = list(panels(samples))
    height = 90 + PANEL_HEIGHT * len(drawn)
    note = f"Medians of {run['rounds']} rounds, {run['date'][:10]}, Linux {run['kernel']}, {run['cpu']}; one core for each server"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img">',
        f"<title>tidegate and its peers</title><style>{STYLE}</style>",
        f'<rect class="card" width="{WIDTH}" height="{height}" rx="8"/>',
        *legend(20, servers),
    ]
    for index, (title, groups, logarithmic) in enumerate(drawn):
        parts += panel(58 + PANEL_HEIGHT * index, title, groups, logarithmic, servers)
    parts.append(f'<text class="quiet" x="{LEFT}" y="{height - 12}">{escape(note)}</text></svg>')
    return "\n".join(parts) + "\n"


# --- commands ----------------------------------------------------------------


def load(directory):
    """The run line, the measurements and the servers of a run."""
    run, samples = read(os.path.join(directory, "raw.jsonl"))
    return run, samples, [server for server in NAMES if server in run["versions"]]


def write(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def report(directory):
    measured = load(directory)
    text = markdown(*measured)
    write(os.path.join(directory, "table.md"), text)
    write(os.path.join(directory, "plot.svg"), plot(*measured))
    print(text)
    print(f"Results: {directory}")


def write_page(directory, out):
    measured = load(directory)
    stem = os.path.splitext(out)[0]
    write(out, page(*measured, os.path.basename(stem)))
    write(f"{stem}.svg", plot(*measured))
    shutil.copyfile(os.path.join(directory, "raw.jsonl"), f"{stem}.jsonl")


def run_line(versions):
    environment = os.environ
    line = {
        "date": environment["DATE"],
        "command": environment["COMMAND_LINE"],
        "revision": environment["REVISION"],
        "kernel": environment["KERNEL"],
        "cpu": environment["CPU"],
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "cpu_counter": environment["CPU_COUNTER"],
        "load_average": float(environment["LOAD_AVERAGE"]),
        "rounds": int(environment["ROUNDS"]),
        "seconds": int(environment["SECONDS_EACH"]),
        "versions": dict(version.split("=", 1) for version in versions),
    }
    print(json.dumps(line))


def main(arguments):
    match arguments:
        case ["report", directory]:
            report(directory)
        case ["saturation", directory]:
            found = saturation(load(directory)[1])
            print(f"{found:.0f}" if found else sys.exit("report.py: no peer was measured in the case 1k"))
        case ["missed", directory]:
            for missed_case, missed_servers in to_sample(load(directory)[1]).items():
                print(missed_case, *missed_servers)
        case ["targets", directory]:
            print("\n\n".join(targets(load(directory)[1])))
        case ["page", directory, out]:
            write_page(directory, out)
        case ["run-line", *versions]:
            run_line(versions)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
