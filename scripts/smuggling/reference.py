"""A strict reader of HTTP/1.1: which requests some bytes are (RFC 9112), and which responses.

It takes what the RFC lets a client send and nothing else, except within a target, which frames nothing. So a
server may refuse more than it does, but must not accept more.
"""

import re
from dataclasses import dataclass

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
# No control but the tab.
TEXT = rb"[\t\x20-\x7e\x80-\xff]*"
REQUEST_LINE = re.compile(rb"(%s) ([\x21-\x7e]+) HTTP/([0-9])\.([0-9])" % TOKEN)
FIELD = re.compile(rb"(%s):(%s)" % (TOKEN, TEXT))
AUTHORITY = rb"(?:[A-Za-z0-9\-._~!$&'()*+,;=]*|\[[0-9A-Za-z:.]+\])(?::[0-9]*)?"
HOST = re.compile(AUTHORITY)
QUOTED = rb'"(?:[\t\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"'
EXTENSION = rb"[ \t]*;[ \t]*%s(?:[ \t]*=[ \t]*(?:%s|%s))?" % (TOKEN, TOKEN, QUOTED)
CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]+)(?:%s)*" % EXTENSION)
STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9]) %s" % TEXT)
LENGTH_MAX = (1 << 64) - 1


class Malformed(Exception):
    """No client may send this; the message says what is wrong."""


class Incomplete(Exception):
    """More bytes would have to come."""


@dataclass(frozen=True)
class Request:
    """A request whose head is complete."""

    method: bytes
    target: bytes
    persistent: bool
    start: int
    # Where its head ends.
    body: int


@dataclass(frozen=True)
class Response:
    """A final response."""

    status: int
    body: bytes
    closes: bool


@dataclass(frozen=True)
class Reading:
    """What some bytes are: requests, and how they end.

    `end` is "whole" if the last request is the end of all; "closed" if that does not let the connection persist;
    "partial head", "partial body", "bad head" or "bad body"; `reason` says what is bad.
    """

    requests: list
    end: str
    reason: str = ""
    # Of a head that is bad or partial: what it begins with.
    last_method: bytes = b"GET"

    @property
    def methods(self):
        """Those of all responses that there may be."""
        return [*(request.method for request in self.requests), self.last_method]


def read_requests(data):
    requests, at = [], 0
    while True:
        part = "head"
        try:
            at = behind_empty_lines(data, at)
            if at == len(data):
                return Reading(requests, "whole")
            request, framing = read_head(data, at)
            requests.append(request)
            part = "body"
            at = behind_body(data, request.body, framing)
        except Incomplete:
            return Reading(requests, f"partial {part}", last_method=last_method(data, at, part))
        except Malformed as malformed:
            return Reading(requests, f"bad {part}", str(malformed), last_method(data, at, part))
        if not request.persistent:
            return Reading(requests, "closed")


def last_method(data, at, part):
    """HEAD if that is asked for, however badly: its response has no content."""
    is_head = part == "head" and data[at:].lstrip(b"\r\n").startswith(b"HEAD ")
    return b"HEAD" if is_head else b"GET"


def behind_empty_lines(data, at):
    while data.startswith(b"\r\n", at):
        at += 2
    return at


def line_at(data, at):
    """The line there without its end, and where the next is."""
    end = data.find(b"\r\n", at)
    line = data[at:] if end < 0 else data[at:end]
    if b"\n" in line or b"\r" in line.removesuffix(b"\r" if end < 0 else b""):
        raise Malformed("a bare CR or LF")
    if end < 0:
        raise Incomplete
    return line, end + 2


def read_head(data, start):
    line, at = line_at(data, start)
    matched = REQUEST_LINE.fullmatch(line)
    if not matched:
        raise Malformed("the request line")
    method, target, major, minor = matched.groups()
    if major != b"1":
        raise Malformed("the version")
    fields, at = read_fields(data, at)
    is_old = minor == b"0"
    check_target(method, target)
    check_host(fields, is_old)
    options = elements(fields, b"connection")
    persistent = b"close" not in options and (not is_old or b"keep-alive" in options)
    return Request(method, target, persistent, start, at), framing_of(fields, is_old)


def read_fields(data, at):
    """Names in lower case with their values, up to the empty line."""
    fields = []
    while True:
        line, at = line_at(data, at)
        if not line:
            return fields, at
        matched = FIELD.fullmatch(line)
        if not matched:
            raise Malformed("a field line")
        fields.append((matched[1].lower(), matched[2].strip(b" \t")))


def values(fields, name):
    return [value for each, value in fields if each == name]


def elements(fields, name):
    """The elements of a list, in lower case; empty ones are left out (RFC 9110, 5.6.1)."""
    parts = b",".join(values(fields, name)).split(b",")
    return [part.strip(b" \t").lower() for part in parts if part.strip(b" \t")]


def check_target(method, target):
    if method == b"CONNECT":
        fits = HOST.fullmatch(target)
    elif target == b"*":
        fits = method not in (b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"PATCH", b"TRACE")
    else:
        fits = target.startswith(b"/") or re.match(rb"(?i)https?://%s(?:[/?]|$)" % AUTHORITY, target)
    if not fits:
        raise Malformed("the target")


def check_host(fields, is_old):
    hosts = values(fields, b"host")
    if len(hosts) > 1 or (not hosts and not is_old) or not all(map(HOST.fullmatch, hosts)):
        raise Malformed("Host")


def framing_of(fields, is_old):
    """The length of the body, or "chunked"."""
    lengths = values(fields, b"content-length")
    codings = values(fields, b"transfer-encoding")
    if codings:
        if lengths or is_old or elements(fields, b"transfer-encoding") != [b"chunked"]:
            raise Malformed("Transfer-Encoding")
        return "chunked"
    if not lengths:
        return 0
    # More digits are more than LENGTH_MAX, and more than int() takes.
    if len(lengths) > 1 or not re.fullmatch(rb"0*[0-9]{1,20}", lengths[0]) or int(lengths[0]) > LENGTH_MAX:
        raise Malformed("Content-Length")
    return int(lengths[0])


def behind_body(data, at, framing):
    """Where a body ends."""
    if framing == "chunked":
        return chunks(data, at)[1]
    return behind_bytes(data, at, framing)


def behind_bytes(data, at, count):
    if len(data) - at < count:
        raise Incomplete
    return at + count


def chunks(data, at):
    """The content of a chunked body, and where it ends."""
    content = []
    while True:
        line, at = line_at(data, at)
        matched = CHUNK_SIZE.fullmatch(line)
        if not matched or int(matched[1], 16) > LENGTH_MAX:
            raise Malformed("a chunk size")
        size = int(matched[1], 16)
        if size == 0:
            _, at = read_fields(data, at)
            return b"".join(content), at
        end = behind_bytes(data, at, size)
        content.append(data[at:end])
        if not b"\r\n".startswith(data[end : end + 2]):
            raise Malformed("the end of a chunk")
        at = behind_bytes(data, end, 2)


def read_responses(data, methods):
    """The final responses to requests with these methods, and what is wrong behind them, or None. A response to no
    request is read as one to GET."""
    responses, at = [], 0
    while at < len(data):
        method = methods[len(responses)] if len(responses) < len(methods) else b"GET"
        try:
            status, fields, at = read_response_head(data, at)
            if status < 200:
                continue
            body, at = read_response_body(data, at, method, status, fields)
        except Incomplete:
            return responses, "a response is cut off"
        except Malformed as malformed:
            return responses, f"a response is malformed: {malformed}"
        responses.append(Response(status, body, b"close" in elements(fields, b"connection")))
    return responses, None


def read_response_head(data, at):
    line, at = line_at(data, at)
    matched = STATUS_LINE.fullmatch(line)
    if not matched:
        raise Malformed(f"a status line: {line[:60]!r}")
    fields, at = read_fields(data, at)
    return int(matched[1]), fields, at


def read_response_body(data, at, method, status, fields):
    if method == b"HEAD" or status in (204, 304):
        return b"", at
    if b"chunked" in elements(fields, b"transfer-encoding"):
        return chunks(data, at)
    lengths = values(fields, b"content-length")
    end = behind_bytes(data, at, int(lengths[0])) if lengths else len(data)
    return data[at:end], end
