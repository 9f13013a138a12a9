"""The request vectors of llhttp, a parser (test/request/*.md), put to servers.

Each vector is a request and the log of events the parser is to report. What a
server is to do follows from the log: answer every message that is complete,
refuse what the parser refuses, wait for the rest of what is incomplete, and
close after a message that said so. Only the strict vectors count; those for
lenient flags, for pauses and for callbacks of the parser say nothing about a
server.

The parser does not know that a request of HTTP/1.1 without Host is an error
(RFC 9112, section 3.2), so most vectors lack one. It is added, lest a server
passes by refusing that.
"""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from case import Case, Unavailable
from tree import PAGE, plant
from wire import exchange, responses

TITLE = "llhttp, request vectors"
OPTION = "llhttp"
THREADS = 8

# Statuses that refuse a message as such, whatever its target and method.
REFUSALS = {400, 411, 413, 414, 431, 501, 505}
# Errors of the parser that are pauses: bytes after them are not HTTP/1.1.
PAUSES = {21, 22}
PAUSE_FOR_HTTP2 = 23
DATA_AFTER_CLOSE = 5

ESCAPES = {"r": "\r", "n": "\n", "t": "\t", "f": "\f"}


@dataclass(frozen=True)
class Vector:
    """A request in bytes and the events that are to be reported of it."""

    name: str
    request: bytes
    log: tuple[str, ...]


@dataclass(frozen=True)
class Expected:
    """What a server is to do: answer `complete` messages, and `then` one of
    "nothing", "wait", "close", "refuse", "anything"."""

    methods: tuple[str, ...]
    complete: int
    then: str
    in_body: bool
    reason: str


def run(server, work, checkout):
    """A case for each vector."""
    vectors = load(Path(checkout) / "test" / "request")
    tree = plant(work / "tree", {"index.html": PAGE})
    with server.running(tree, work) as port, ThreadPoolExecutor(THREADS) as threads:
        return list(threads.map(lambda vector: judge(port, vector), vectors))


def load(directory):
    files = sorted(directory.glob("*.md"))
    if not files:
        raise Unavailable(f"no vectors in {directory}")
    return [vector for file in files for vector in read(file)]


# --- the files ---------------------------------------------------------------


def read(file):
    """The strict vectors of one file."""
    title, meta, blocks = "", {}, {}
    for number, fence, text in parts(file.read_text(encoding="utf-8")):
        if fence == "title":
            title, blocks = text, {}
        elif fence == "meta":
            meta, blocks = json.loads(text), {"line": number}
        else:
            blocks[fence] = text
            if fence == "log" and is_strict(meta, text):
                name = f"{file.stem}:{blocks['line']} {title}"
                request, log = unescape(blocks["http"]), tuple(text.splitlines())
                yield Vector(name, with_hosts(request, log), log)


def parts(text):
    """The titles, metadata and fenced blocks of a file with their line numbers."""
    fence, block = None, []
    for number, line in enumerate(text.split("\n"), 1):
        if fence:
            if line == "```":
                yield number, fence, "".join(block)
                fence, block = None, []
            else:
                block.append(line + "\n")
        elif match := re.fullmatch(r"```(\w+)", line):
            fence = match[1]
        elif match := re.fullmatch(r"#+ (.*)", line):
            yield number, "title", match[1]
        elif match := re.fullmatch(r"<!-- meta=(.*?) *-->", line):
            yield number, "meta", match[1]


def is_strict(meta, log):
    of_parser = "pause" in meta or "skipBody" in meta or f"code={PAUSE_FOR_HTTP2} " in log
    return meta.get("type") == "request" and not of_parser


def unescape(text):
    """The bytes of a request, by the rules of llhttp's own test/md-test.ts."""
    text = text.removesuffix("\n")
    text = re.sub(r"\\\n", "", text)
    text = text.replace("\n", "\r\n")
    text = re.sub(r"\\([rntf])", lambda match: ESCAPES[match[1]], text)
    text = re.sub(r"\\x([0-9a-fA-F]+)", lambda match: chr(int(match[1], 16) & 0xFFFF), text)
    text = re.sub(r"\\([0-7]{1,3})", lambda match: chr(int(match[1], 8)), text)
    return text.encode()


def with_hosts(request, log):
    """The request with a Host in each message of HTTP/1.1 that has none."""
    for message in reversed(messages(log)):
        version = offset(message, "version complete")
        if version is None or not any('span[version]="1.1"' in line for line in message):
            continue
        head = request[version:].split(b"\r\n\r\n")[0]
        if not re.search(rb"^\s*host\s*:", head, re.IGNORECASE | re.MULTILINE):
            line_end = re.match(rb"\r?\n", request[version:])
            if line_end:
                at = version + line_end.end()
                request = request[:at] + b"Host: localhost\r\n" + request[at:]
    return request


def messages(log):
    """The log in pieces, one for each message begun."""
    found = []
    for line in log:
        if line.endswith("message begin"):
            found.append([])
        if found:
            found[-1].append(line)
    return found


def offset(message, event):
    for line in message:
        if line.endswith(event):
            return int(re.match(r"off=(\d+)", line)[1])
    return None


# --- the verdict -------------------------------------------------------------


def judge(port, vector):
    expected = expect(vector.log)
    # The parser refuses at the first wrong byte; a server may read the head to
    # its end, so what is to be refused gets one.
    end = b"\r\n\r\n" if expected.then == "refuse" else b""
    received, closed = exchange(port, vector.request + end)
    statuses = [response.status for response in responses(received, expected.methods)]
    problem = disagreement(expected, statuses, closed)
    return Case(vector.name, not problem, problem)


def expect(log):
    text = "\n".join(log)
    complete = text.count("message complete")
    in_body = text.count(" headers complete") > complete
    methods = tuple(re.findall(r'span\[method\]="(.*)"', text))
    error = re.search(r'error code=(\d+) reason="(.*)"', text)
    reason = error[2] if error else ""
    return Expected(methods, complete, next_step(log, complete, error), in_body, reason)


def next_step(log, complete, error):
    if error is None:
        return "wait" if len(messages(log)) > complete else "nothing"
    code = int(error[1])
    if code in PAUSES:
        return "anything"
    return "close" if code == DATA_AFTER_CLOSE else "refuse"


def disagreement(expected, statuses, closed):
    """What the server did wrong, or ""."""
    answered, rest = statuses[: expected.complete], statuses[expected.complete :]
    came = f"{', '.join(map(str, statuses)) or 'no answer'}{', closed' if closed else ''}"
    if len(answered) < expected.complete:
        return f"{expected.complete} messages are complete: {came}"
    if any(status in REFUSALS - {501} for status in answered):
        return f"a right message was refused: {came}"
    if fits(expected, rest, closed):
        return ""
    return f"to {expected.then} was right ({expected.reason or 'incomplete'}): {came}"


def fits(expected, rest, closed):
    """Whether what came after the complete messages is as it should be."""
    match expected.then:
        case "nothing":
            return not rest
        case "wait":
            early = expected.in_body and len(rest) == 1 and rest[0] not in REFUSALS
            return early or not (rest or closed)
        case "close":
            return closed and not rest
        case "refuse":
            return refused(expected, rest, closed)
        case _:
            return True


def refused(expected, rest, closed):
    if len(rest) > 1:
        return False
    if not rest:
        return closed
    # A method may be refused as what it is; and a server may have answered
    # before it came to an error in the body, if it then closes.
    about_method = "method" in expected.reason and rest[0] == 405
    return rest[0] in REFUSALS or about_method or (expected.in_body and closed)
