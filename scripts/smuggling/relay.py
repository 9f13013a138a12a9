"""Stands between a proxy and tidegate, and notes what both send."""

import asyncio


class Conversation:
    """What was sent on a connection, and what came back until the end."""

    def __init__(self):
        self.sent, self.received = bytearray(), bytearray()


class Half(asyncio.Protocol):
    """One side of a connection. What comes is passed on; what a proxy that has gone would have got is noted all the
    same, so every request that was passed on has its response there."""

    def __init__(self, note):
        self.note = note
        self.peer = None
        self.transport = None
        self.has_ended = False

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.note.extend(data)
        if self.peer:
            self.peer.pass_on(data)

    def pass_on(self, data):
        if not self.transport.is_closing():
            self.transport.write(data)

    def eof_received(self):
        self.end()
        # The other direction goes on.
        return True

    def connection_lost(self, error):
        self.end()

    def end(self):
        self.has_ended = True
        if self.peer:
            self.peer.end_passed_on()
            if self.peer.has_ended:
                self.transport.close()
                self.peer.transport.close()

    def end_passed_on(self):
        if not self.transport.is_closing() and self.transport.can_write_eof():
            try:
                self.transport.write_eof()
            except OSError:
                # It has gone.
                pass


class Front(Half):
    """The side of the proxy."""

    def __init__(self, relay):
        self.conversation = Conversation()
        super().__init__(self.conversation.sent)
        self.relay = relay

    def connection_made(self, transport):
        super().connection_made(transport)
        self.relay.begin(self)


class Back(Half):
    """The side of tidegate, with whose end the conversation is over."""

    def __init__(self, relay, front):
        super().__init__(front.conversation.received)
        self.relay = relay
        self.front = front

    def connection_made(self, transport):
        super().connection_made(transport)
        self.peer, self.front.peer = self.front, self
        self.pass_on(bytes(self.front.note))
        if self.front.has_ended:
            self.end_passed_on()

    def connection_lost(self, error):
        super().connection_lost(error)
        self.front.transport.close()
        self.relay.over(self.front.conversation)


class Relay:
    """Passes connections to its port on to another one."""

    def __init__(self, target, over):
        """Calls `over` with each conversation that has come to its end."""
        self.target = target
        self.tell = over
        self.port = None
        self.server = None
        self.open = set()
        self.tasks = set()

    async def start(self):
        loop = asyncio.get_running_loop()
        self.server = await loop.create_server(lambda: Front(self), "127.0.0.1", 0, backlog=1024)
        self.port = self.server.sockets[0].getsockname()[1]

    def begin(self, front):
        self.open.add(front.conversation)
        task = asyncio.get_running_loop().create_task(self.connect(front))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def connect(self, front):
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: Back(self, front), "127.0.0.1", self.target)
        except OSError:
            # The server has gone, which is found elsewhere.
            front.transport.abort()
            self.open.discard(front.conversation)

    def over(self, conversation):
        if conversation in self.open:
            self.open.discard(conversation)
            self.tell(conversation)

    async def finish(self, seconds):
        """Waits for the end of all conversations, at most so long; gives how many have none."""
        self.server.close()
        deadline = asyncio.get_running_loop().time() + seconds
        while self.open and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.05)
        return len(self.open)
