"""h2spec, a suite of HTTP/2 (RFC 9113) and HPACK (RFC 7541), run unchanged.

Each of its cases is run twice: over TLS with ALPN, and without TLS by prior knowledge (h2c).
"""

import subprocess
from xml.etree import ElementTree

import servers
from case import Case, Unavailable
from tree import plant

TITLE = "h2spec"
OPTION = "h2spec"
KINDS = servers.HTTP2_KINDS
TIMEOUT_SECONDS = 600
# Cases about flow control want a body of some length at "/".
PAGE = b"<!doctype html>\n<html lang=en><title>A page</title>\n" + b"<p>Some text.\n" * 200
WAYS = {"h2c": (), "TLS": ("--tls", "--insecure")}


def run(server, work, program):
    """A case for each of the suite's, on each way."""
    tree = plant(work / "tree", {"index.html": PAGE})
    with server.running_http2(tree, work) as ports:
        ways = zip(WAYS.items(), ports)
        return [case for way, port in ways for case in judged(program, work, port, *way)]


def judged(program, work, port, way, options):
    """The cases on one port, as the suite's report has them."""
    file = work / f"{way}.xml"
    command = [program, "-h", "127.0.0.1", "-p", str(port), "-j", file, *options]
    try:
        said = subprocess.run(command, capture_output=True, timeout=TIMEOUT_SECONDS, check=False)
    except OSError as error:
        raise Unavailable(f"{program} does not run: {error}") from error
    if not file.exists():
        # It gives up where nobody speaks HTTP/2.
        return [
            Case(f"{way} speaks HTTP/2", False, said.stderr.decode().strip()[-300:] or "failed")
        ]
    return list(cases(way, ElementTree.parse(file)))


def cases(way, report):
    numbers = {}
    for case in report.iter("testcase"):
        section = case.get("package")
        numbers[section] = numbers.get(section, 0) + 1
        name = f"{way} {section}/{numbers[section]}: {case.get('classname')}"
        failure = next(
            (case.find(tag) for tag in ("failure", "error") if case.find(tag) is not None), None
        )
        yield Case(name, failure is None, detail(failure))


def detail(failure):
    """What came in place of what was expected, which is the last line."""
    if failure is None:
        return ""
    return "".join(failure.itertext()).strip().rpartition("\n")[2] or "failed"
