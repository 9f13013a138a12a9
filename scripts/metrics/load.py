"""A bounded load from a few clients: files from memory, a large one read slowly, errors, and paths
that would be markup if they were not text."""

import socket
import threading
import time
from contextlib import contextmanager

CLIENTS = 4
PAUSE_SECONDS = 0.004
HOSTILE = "/<img/src=x/onerror=hacked=1><script>hacked=1</script>"
ENCODED = "/%3Cscript%3Ehacked=1%3C/script%3E"
REQUESTS = ("/", "/app.js", "/app.js", "/", "/missing.png", "/app.js?v=1", HOSTILE, ENCODED)


@contextmanager
def under_load(subject):
    """Load while the body runs."""
    stop = threading.Event()
    threads = [threading.Thread(target=ask_on, args=(subject.port, stop)) for _ in range(CLIENTS)]
    threads.append(threading.Thread(target=read_slowly, args=(subject.port, stop)))
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def ask_on(port, stop):
    while not stop.is_set():
        with socket.create_connection(("127.0.0.1", port), 10) as client, client.makefile("rb") as answers:
            for number in range(200):
                if stop.is_set():
                    return
                ask(client, REQUESTS[number % len(REQUESTS)])
                if not read(answers):
                    break
                time.sleep(PAUSE_SECONDS)


def ask(client, path):
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())


def read(answers):
    """Reads a response; false if the connection ends behind it."""
    length, persists = 0, True
    while (line := answers.readline().strip().lower()):
        if line.startswith(b"content-length:"):
            length = int(line.split(b":")[1])
        persists &= line != b"connection: close"
    answers.read(length)
    return persists


def read_slowly(port, stop):
    """The large file at some 8 MB/s, again and again."""
    while not stop.is_set():
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
            client.settimeout(10)
            client.connect(("127.0.0.1", port))
            client.sendall(b"GET /film.bin HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
            while client.recv(1 << 16) and not stop.is_set():
                time.sleep(0.008)
