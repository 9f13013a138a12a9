"""Sends sequences, and takes what comes back."""

import asyncio

# After that time without a byte a proxy is taken to wait for more, as it does where it reads otherwise.
IDLE_SECONDS = 0.4
# The server closes when the client does, so this is for one that hangs.
END_SECONDS = 30
# Between pieces: they leave by themselves, and mostly arrive so.
PIECE_SECONDS = 0.001


class NoEnd(Exception):
    """The server does not close."""


class Reset(Exception):
    """The server has reset the connection, and what it sent may be lost."""


class Collector(asyncio.Protocol):
    """Keeps what comes, also if a reset follows."""

    def __init__(self):
        self.received = bytearray()
        # Done once all has come: whether it ended with a reset.
        self.was_reset = asyncio.get_running_loop().create_future()

    def data_received(self, data):
        self.received += data

    def eof_received(self):
        self.finish(False)

    def connection_lost(self, error):
        self.finish(error is not None)

    def finish(self, was_reset):
        if not self.was_reset.done():
            self.was_reset.set_result(was_reset)

    async def ends_in(self, seconds):
        await asyncio.wait([self.was_reset], timeout=seconds)
        return self.was_reset.done()


async def ask_server(port, sequence):
    """All that the server sends until it closes. The client has said before that it sends no more."""
    transport, collector = await connected(port)
    try:
        await send(transport, sequence)
        write_eof(transport)
        if not await collector.ends_in(END_SECONDS):
            raise NoEnd
        if collector.was_reset.result():
            raise Reset
    finally:
        transport.abort()
    return bytes(collector.received)


async def ask_proxy(port, sequence):
    """What comes until the proxy closes, or has nothing more to say."""
    try:
        transport, collector = await connected(port)
    except OSError:
        # It has gone, and answers nothing.
        return b""
    await send(transport, sequence)
    count = -1
    while len(collector.received) > count:
        count = len(collector.received)
        if await collector.ends_in(IDLE_SECONDS):
            break
    # Aborted, if it still waits.
    transport.abort()
    return bytes(collector.received)


async def connected(port):
    return await asyncio.get_running_loop().create_connection(Collector, "127.0.0.1", port)


async def send(transport, sequence):
    for at, piece in enumerate(sequence.pieces):
        if at > 0:
            await asyncio.sleep(PIECE_SECONDS)
        if not transport.is_closing():
            transport.write(piece)


def write_eof(transport):
    try:
        if not transport.is_closing():
            transport.write_eof()
    except OSError:
        # It is reset, which the collector sees.
        pass
