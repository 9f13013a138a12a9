"""Bytes to a server and back, without a client library that would mend them."""

import socket
import time
from dataclasses import dataclass, field

# How long a server may be silent before it is taken to have said all.
SILENCE_SECONDS = 0.5
# No exchange takes longer than this.
EXCHANGE_SECONDS = 10


@dataclass
class Response:
    """One response as received; field names are in lower case."""

    status: int
    fields: dict = field(default_factory=dict)
    body: bytes = b""


def exchange(port, request):
    """Sends `request`, and reads until the server closes or is silent.

    Returns the bytes received and whether the server closed.
    """
    received = b""
    deadline = time.monotonic() + EXCHANGE_SECONDS
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.settimeout(SILENCE_SECONDS)
        try:
            connection.sendall(request)
            while time.monotonic() < deadline:
                piece = connection.recv(65536)
                if not piece:
                    return received, True
                received += piece
        except TimeoutError:
            return received, False
        except ConnectionError:
            return received, True
    return received, False


def responses(received, methods):
    """The final responses in `received`, to requests with these methods in turn."""
    if received and not received.startswith(b"HTTP/"):
        # HTTP/0.9, where a response has no head.
        return [Response(200, body=received)]
    found = []
    while b"\r\n\r\n" in received:
        head, received = received.split(b"\r\n\r\n", 1)
        response = parse_head(head)
        if 100 <= response.status < 200:
            continue
        method = methods[len(found)] if len(found) < len(methods) else ""
        if method != "HEAD" and response.status not in (204, 304):
            response.body, received = split_body(response.fields, received)
        found.append(response)
    return found


def get(port, path, fields=(), method="GET"):
    """One request with these (name, value) fields on a connection of its own."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in fields]
    received, _ = exchange(port, "\r\n".join([*lines, "", ""]).encode())
    answers = responses(received, [method])
    return answers[0] if answers else Response(0)


def parse_head(head):
    status_line, *lines = head.decode("latin-1").split("\r\n")
    parts = status_line.split(" ", 2)
    status = int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else 0
    fields = {}
    for line in lines:
        name, _, value = line.partition(":")
        fields[name.strip().lower()] = value.strip()
    return Response(status, fields)


def split_body(fields, received):
    """The body at the start of `received`, and what follows it."""
    if "chunked" in fields.get("transfer-encoding", "").lower():
        return split_chunked(received)
    length = fields.get("content-length", "")
    if length.isdigit():
        return received[: int(length)], received[int(length) :]
    return received, b""


def split_chunked(received):
    body = b""
    while b"\r\n" in received:
        line, received = received.split(b"\r\n", 1)
        length = int(line.split(b";")[0], 16)
        if length == 0:
            return body, received.split(b"\r\n", 1)[-1]
        body, received = body + received[:length], received[length + 2 :]
    return body, b""
