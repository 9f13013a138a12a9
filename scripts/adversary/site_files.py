"""The files that are served, and a request that must be answered whatever came before it."""

import os
import socket

import h2.config
import h2.connection
import h2.events

SECONDS = 5
LONG_AGO_NS = 1_400_000_000_123_456_789
FILES = {
    "index.html": b"<!doctype html>\n<html lang=en><title>A page</title>\n"
    + b"<p>Some text.\n" * 50,
    "empty.txt": b"",
    "small.txt": b"Small.\n" * 20,
    "middling.bin": bytes(range(251)) * 400,
    "large.bin": os.urandom(3_000_000),
}


def plant(tree):
    tree.mkdir()
    for name, content in FILES.items():
        (tree / name).write_bytes(content)
        os.utime(tree / name, ns=(LONG_AGO_NS, LONG_AGO_NS))
    return tree


def content_of(path):
    """The bytes at a path, or None."""
    return FILES.get(path.removeprefix("/") or "index.html")


def answers(port):
    """None if the page comes as it should on a connection of its own; else what is wrong."""
    try:
        return asked(port)
    except (OSError, h2.exceptions.ProtocolError) as error:
        return f"a good request was not answered: {type(error).__name__} {error}"


def asked(port):
    connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    connection.initiate_connection()
    names = (":method", ":scheme", ":authority", ":path")
    connection.send_headers(1, list(zip(names, ("GET", "http", "localhost", "/"))), end_stream=True)
    status, body = None, b""
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as link:
        while True:
            link.sendall(connection.data_to_send())
            came = link.recv(1 << 16)
            for event in connection.receive_data(came):
                match event:
                    case h2.events.ResponseReceived():
                        status = dict(event.headers)[":status"]
                    case h2.events.DataReceived():
                        body += event.data
                    case h2.events.StreamEnded():
                        right = status == "200" and body == content_of("/")
                        return None if right else f"a good request got {status}, {len(body)} bytes"
                    case h2.events.StreamReset() | h2.events.ConnectionTerminated():
                        return f"a good request got {event}"
            if not came:
                return "a good request found the connection closed"
