"""Floods and sieges against a server that runs: how each ends, and what it costs."""

import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import wire
from abuses import PATIENCE
from hpack import Decoder, HPACKError

ATTACKER = Path(__file__).parent / "attacker.py"
OUTCOME_SECONDS = 3
DRIP_SECONDS = 0.25
# Of an attacker who sends no more than the server bears, and begins again.
SHORT_BYTES = 1 << 16
CLIENTS = 8


# --- how it ends ----------------------------------------------------------------


def end_of(port, flood):
    """How a single connection with the flood ends, in words."""
    content = b"".join(flood.frames)
    with wire.Link(port) as link:
        link.send(flood.start)
        ended = Ending()
        # At least so many frames; a server may be patient with few. Streams cannot be used again.
        times = max(1, PATIENCE // len(flood.frames)) if flood.is_repeated else 1
        while times and not link.refused and not link.closed and ended.away is None:
            link.send(content, seconds=0.5)
            ended.take(link.read(0.001))
            times -= 1
        deadline = time.monotonic() + OUTCOME_SECONDS
        while not link.closed and ended.away is None and time.monotonic() < deadline:
            came = link.read(0.3)
            ended.take(came)
            if not came:
                break
        return ended.words(link.closed)


class Ending:
    """What the server said, in numbers."""

    def __init__(self):
        self.away = None
        self.resets = {}
        self.heads = {}
        self.decoder = Decoder()

    def take(self, frames):
        for frame in frames:
            if frame.kind == wire.GOAWAY:
                self.away = int.from_bytes(frame.payload[4:8], "big")
            elif frame.kind == wire.RST_STREAM:
                name = wire.name_of(int.from_bytes(frame.payload, "big"))
                self.resets[name] = self.resets.get(name, 0) + 1
            elif frame.kind == wire.HEADERS:
                self.head(frame)

    def head(self, frame):
        try:
            status = self.decoder.decode(frame.payload)[0][1]
        except HPACKError:
            status = "?"
        self.heads[status] = self.heads.get(status, 0) + 1

    def words(self, closed):
        if self.away is not None:
            return f"GOAWAY {wire.name_of(self.away)}"
        if closed:
            return "closed"
        if self.heads:
            return f"statuses {' '.join(sorted(self.heads))}"
        if self.resets:
            return f"RST {' '.join(sorted(self.resets))}"
        return "open"

    def remark(self):
        resets = [f"{count} RST {name}" for name, count in self.resets.items()]
        return ", ".join(
            [*resets, *(f"{count} of status {status}" for status, count in self.heads.items())]
        )


# --- what it costs ----------------------------------------------------------------


def cost(port, pid, flood, again, work, seconds):
    """CPU of the server and of the attacker, in seconds, and connections of the attacker."""
    start, frames = work / "start", work / "frames"
    start.write_bytes(flood.start)
    content = b"".join(flood.frames)
    frames.write_bytes(content if again else content[:SHORT_BYTES])
    before = cpu_of(pid)
    command = [sys.executable, "-B", "-S", "-E", ATTACKER, str(port), str(seconds), start, frames]
    command += ["again"] if again else []
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    attacker, connections, sent = done.stdout.split()
    # What the server has still to read.
    time.sleep(0.3)
    return cpu_of(pid) - before, float(attacker), int(connections), int(sent)


def cpu_of(pid):
    """Seconds that the threads of a process and of its children were on a core."""
    total = 0
    for process in (pid, *children(pid)):
        for task in Path(f"/proc/{process}/task").iterdir():
            # A thread may end meanwhile.
            with suppress(FileNotFoundError, ProcessLookupError):
                total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def children(pid):
    return [
        int(word)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for word in (task / "children").read_text().split()
    ]


def resident(pid):
    """KiB of memory of a process and its children."""
    total = 0
    for process in (pid, *children(pid)):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                total += int(line.split()[1])
    return total


# --- sieges -----------------------------------------------------------------------


def besiege(port, pid, siege):
    """How the server ends it, after how many seconds, and KiB of memory for each connection."""
    before = resident(pid)
    links = [wire.Link(port) for _ in range(CLIENTS)]
    try:
        for link in links:
            link.send(siege.start)
        begin = time.monotonic()
        ended, drip = Ending(), iter(siege.drip)
        most = 0
        first = links[0]
        while not first.closed and ended.away is None and time.monotonic() - begin < siege.seconds:
            if siege.reads:
                ended.take(first.read(DRIP_SECONDS))
            else:
                time.sleep(DRIP_SECONDS)
                first.closed = not first.is_established()
            piece = next(drip, b"")
            for link in links if piece else ():
                link.send(piece)
            most = max(most, resident(pid))
        return ended, first.closed, time.monotonic() - begin, max(0, most - before) / CLIENTS
    finally:
        for link in links:
            link.abort()
