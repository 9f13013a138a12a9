"""The client of a flood, a process of its own, so that its CPU can be told from the server's.

    attacker.py PORT SECONDS START FRAMES [again]

START and FRAMES are files with bytes that are made before. A connection is START and FRAMES and a
close; or, if there is an argument "again", FRAMES again and again until the server closes or takes
no more. Nothing is parsed, and what comes is thrown away, so an attacker can hardly be cheaper.
Prints the CPU that it took in seconds, the connections and the bytes.
"""

import resource
import socket
import sys
import time
from pathlib import Path

# A server that takes nothing for so long has the better of this connection.
PATIENCE_SECONDS = 0.2
READ_BYTES = 1 << 20


def main():
    port, seconds = int(sys.argv[1]), float(sys.argv[2])
    start, frames = (memoryview(Path(name).read_bytes()) for name in sys.argv[3:5])
    again = sys.argv[5:] == ["again"]
    once = memoryview(bytes(start) + bytes(frames))
    sink = bytearray(READ_BYTES)
    connections = sent = 0
    before = cpu()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with socket.create_connection(("127.0.0.1", port)) as link:
            link.settimeout(PATIENCE_SECONDS)
            connections += 1
            try:
                link.sendall(once)
                sent += len(once)
                while again and time.monotonic() < end:
                    link.sendall(frames)
                    sent += len(frames)
                    drain(link, sink)
                if not again:
                    link.recv_into(sink)
            except OSError:
                pass
    print(cpu() - before, connections, sent)


def drain(link, sink):
    link.setblocking(False)
    try:
        while link.recv_into(sink):
            pass
    except BlockingIOError:
        pass
    link.settimeout(PATIENCE_SECONDS)


def cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


main()
