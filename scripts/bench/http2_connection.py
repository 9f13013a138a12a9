"""A client's HTTP/2 connection of hand-written frames (RFC 9113): as little as it takes to ask for files, with windows
of any size. Blocking, one request after the other or many at once; nothing is decoded of a response's head."""

import socket
import ssl
import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS, PADDED = 0x1, 0x1, 0x4, 0x8
INITIAL_WINDOW_SIZE = 4
WINDOW_MOST = 2**31 - 1
WINDOW_FIRST = 65535
TIMEOUT_SECONDS = 10


class Broken(Exception):
    """The connection ended, or a stream of it was reset."""


def tls_context():
    """TLS 1.3 is what servers choose; no certificate is checked, for they are made for a run."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    return context


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream) + payload


def literal(text):
    """An HPACK string without Huffman coding (RFC 7541, 5.2), of less than 127 bytes."""
    return bytes([len(text)]) + text.encode()


def window_settings(window):
    return frame(SETTINGS, 0, 0, struct.pack(">HI", INITIAL_WINDOW_SIZE, window))


class Connection:
    """Streams are numbered as they are asked for. Windows are as large as there can be."""

    def __init__(self, host, port, tls):
        self.authority = f"{host}:{port}"
        self.scheme = b"\x87" if tls else b"\x86"
        self.socket = socket.create_connection((host, port), TIMEOUT_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")
            if self.socket.selected_alpn_protocol() != "h2":
                raise Broken("the server did not choose h2")
        self.input = bytearray()
        self.stream = -1
        self.acknowledged = 0
        update = struct.pack(">I", WINDOW_MOST - WINDOW_FIRST)
        self.socket.sendall(PREFACE + window_settings(WINDOW_MOST) + frame(WINDOW_UPDATE, 0, 0, update))

    def set_window(self, window):
        """Gives later streams a window of so many bytes, once the server has acknowledged both SETTINGS."""
        self.socket.sendall(window_settings(window))
        while self.acknowledged < 2:
            self.next_frame()

    def ask(self, path, count=1):
        """Asks for a path on so many streams, in one send."""
        block = b"\x82" + self.scheme + b"\x04" + literal(path) + b"\x01" + literal(self.authority)
        requests = b""
        for _ in range(count):
            self.stream += 2
            requests += frame(HEADERS, END_STREAM | END_HEADERS, self.stream, block)
        self.socket.sendall(requests)

    def get(self, path):
        """The body of a response; all that came before it has been read."""
        self.ask(path)
        body, ended = bytearray(), False
        while not ended:
            kind, flags, stream, payload = self.next_frame()
            if stream == self.stream and kind == DATA:
                body += payload[1 : len(payload) - payload[0]] if flags & PADDED else payload
            ended = stream == self.stream and kind in (DATA, HEADERS) and flags & END_STREAM
        return bytes(body)

    def next_frame(self):
        """The next frame; SETTINGS and PING are answered."""
        length = int.from_bytes(self.take(3), "big")
        kind, flags, stream = struct.unpack(">BBI", self.take(6))
        payload = self.take(length)
        if kind == SETTINGS and not flags & ACK:
            self.socket.sendall(frame(SETTINGS, ACK, 0))
        elif kind == SETTINGS:
            self.acknowledged += 1
        elif kind == PING and not flags & ACK:
            self.socket.sendall(frame(PING, ACK, 0, payload))
        elif kind in (RST_STREAM, GOAWAY):
            raise Broken(f"frame {kind} of stream {stream}: {payload.hex()}")
        return kind, flags, stream, payload

    def take(self, count):
        while len(self.input) < count:
            self.receive()
        taken = bytes(self.input[:count])
        del self.input[:count]
        return taken

    def receive(self):
        piece = self.socket.recv(1 << 18)
        if not piece:
            raise Broken("the server closed the connection")
        self.input += piece

    def drain(self, quiet):
        """Reads until nothing has come for so many seconds; returns how much it was, in bytes."""
        self.socket.settimeout(quiet)
        try:
            while True:
                self.receive()
        except TimeoutError:
            return len(self.input)

    def is_open(self):
        """Whether the server has not closed it."""
        try:
            self.drain(0.001)
            return True
        except (Broken, OSError):
            return False
