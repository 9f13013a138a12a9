"""A way to the server that is as slow as a network, so that the order of what comes can be seen."""

import socket
import threading
import time
from contextlib import contextmanager

PIECE_BYTES = 4096
# What waits on the way; more would be out of the server's hands.
BUFFER_BYTES = 16 << 10


@contextmanager
def slow_link(port, bytes_per_second):
    """A port that leads to `port`; bytes to the client come no faster than that."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(
            target=accept, args=(listener, port, bytes_per_second), daemon=True
        ).start()
        yield listener.getsockname()[1]


def accept(listener, port, rate):
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        server = socket.socket()
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        server.connect(("127.0.0.1", port))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        for source, sink, limit in ((client, server, None), (server, client, rate)):
            threading.Thread(target=pass_on, args=(source, sink, limit), daemon=True).start()


def pass_on(source, sink, rate):
    try:
        begin, count = time.monotonic(), 0
        while piece := source.recv(PIECE_BYTES):
            sink.sendall(piece)
            count += len(piece)
            ahead = rate and count / rate - (time.monotonic() - begin)
            if ahead and ahead > 0:
                time.sleep(ahead)
            elif rate and ahead < -0.1:
                # It was idle, which is not saved up.
                begin, count = time.monotonic(), 0
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        sink.close()
        source.close()
