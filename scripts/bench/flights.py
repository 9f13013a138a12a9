#!/usr/bin/env python3
"""What a client over TLS can decrypt after each round trip, for docs/tls.md. Needs root.

    scripts/bench/flights.py [--server target/release/tidegate]

Two network namespaces are joined by a path of 25 ms each way, which this script forwards packets of at most
1500 bytes along. A client in one of them asks tidegate in the other for a file of 64 KiB, on a new
connection with a full handshake and then on one with a resumed session. For what came without a
pause: when, how many bytes of TCP that is in all, and how many of the response were decrypted.
"""

import argparse
import contextlib
import os
import pathlib
import socket
import ssl
import subprocess
import tempfile
import time

from tun_path import NEAR, Direction, inside, namespace, path

ROOT = pathlib.Path(__file__).resolve().parents[2]
DELAY = 0.025
PAUSE = 0.010
FILE_BYTES = 65536
PORT = 8443

def flights(context, session):
    """One connection: its flights, and its session."""
    stream = socket.create_connection((NEAR, PORT))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost", session=session)

    def receive():
        stream.sendall(outgoing.read())
        received = stream.recv(65536)
        incoming.write(received)
        return len(received)

    while True:
        try:
            tls.do_handshake()
            break
        except ssl.SSLWantReadError:
            receive()
    tls.write(b"GET /file HTTP/1.1\r\nHost: localhost\r\n\r\n")
    start, last = time.monotonic(), 0
    wire, decrypted, found = 0, 0, []
    while decrypted < FILE_BYTES:
        try:
            decrypted += len(tls.read(65536))
        except ssl.SSLWantReadError:
            wire += receive()
        now = time.monotonic() - start
        if not found or now - last > PAUSE:
            found.append(None)
        found[-1] = (round(1000 * now), wire, decrypted)
        last = now
    stream.close()
    return [flight for flight in found if flight[1] > 0], tls.session


def serve(server, directory, namespace):
    """tidegate over TLS, with a certificate that is made for it."""
    subprocess.run(
        f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -days 2 -subj /CN=localhost"
        f" -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE"
        f" -keyout {directory}/key.pem -out {directory}/cert.pem".split(),
        check=True,
        stderr=subprocess.DEVNULL,
    )
    (directory / "www").mkdir()
    (directory / "www/file").write_bytes(os.urandom(FILE_BYTES))
    config = directory / "tidegate.toml"
    config.write_text(
        f'[[listen]]\naddress = "{NEAR}:{PORT}"\ntls = true\n'
        '[[tls.certificates]]\ncert = "cert.pem"\nkey = "key.pem"\n[[site]]\nroot = "www"\n'
    )
    command = ["ip", "netns", "exec", namespace, str(server.resolve()), "run", "--config", str(config)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    # It says where it listens.
    process.stdout.readline()
    return process


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", type=pathlib.Path, default=ROOT / "target/release/tidegate")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        directory = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        near, far = (stack.enter_context(namespace(f"tidegate-{end}-{os.getpid()}")) for end in ("near", "far"))
        stack.enter_context(path(near, far, [Direction(DELAY), Direction(DELAY)]))
        server = serve(options.server, directory, near)
        stack.callback(server.wait)
        stack.callback(server.terminate)
        context = ssl.create_default_context(cafile=directory / "cert.pem")
        stack.enter_context(inside(far))
        session = None
        for kind in ("full handshake", "resumed session"):
            found, session = flights(context, session)
            for at, wire, decrypted in found:
                print(f"{kind}: after {at} ms {wire} bytes received, {decrypted} of the response decrypted")


if __name__ == "__main__":
    main()
