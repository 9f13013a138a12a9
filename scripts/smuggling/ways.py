"""The ways to tidegate, directly and through a proxy: what is counted on each, and what is wrong."""

import asyncio
import re
from collections import Counter
from dataclasses import dataclass, field

import client
import markers
from judge import fits, judge, shown, status_and_marker
from mutations import sequence
from reference import read_requests, read_responses
from relay import Relay

# Sequences under way at once.
CONCURRENCY = 32
# How long tidegate may take to end the connections that a proxy has ended.
FINISH_SECONDS = 30
PROBLEMS_SHOWN = 5
BYTES_SHOWN = 700
# The last bytes of a long conversation, among which mostly is what went wrong.
SHOWN_OF_CONVERSATION = 1500


@dataclass
class Report:
    """What came of the sequences on one way."""

    counts: Counter = field(default_factory=Counter)
    problems: list = field(default_factory=list)
    # What the proxy does by itself, and the sequences.
    others: list = field(default_factory=list)

    def complain(self, text):
        self.counts["problems"] += 1
        if len(self.problems) < PROBLEMS_SHOWN:
            self.problems.append(text)

    def require_answers(self):
        """Nothing is shown by requests that nobody answers."""
        known, answered = self.counts["known"], self.counts["known answered"]
        if answered * 10 < known * 9:
            self.complain(f"only {answered} of {known} known requests at the start of a connection were answered")


async def in_turn(numbers, ask):
    """Calls `ask` with each number, some at once."""
    numbers = iter(numbers)

    async def work():
        for number in numbers:
            await ask(number)

    await asyncio.gather(*(work() for _ in range(CONCURRENCY)))


# --- directly --------------------------------------------------------------------


async def directly(port, seed, numbers):
    report = Report()

    async def ask(number):
        sent = sequence(seed, number)
        report.counts["sent"] += 1
        try:
            received = await client.ask_server(port, sent)
        except client.NoEnd:
            report.complain(f"sequence {number}: the connection does not end: {clipped(sent.data)}")
            return
        except client.Reset:
            # Behind a request that is the last, as it says itself, a server need read nothing.
            report.counts["reset"] += 1
            if read_requests(sent.data).end != "closed":
                report.complain(f"sequence {number}: the connection is reset: {clipped(sent.data)}")
            return
        verdict = judge(sent.data, received)
        count_verdict(report, verdict)
        problem = verdict.problem
        if sent.known:
            is_answered = bool(verdict.responses) and verdict.responses[0].status == 200
            report.counts["known"] += 1
            report.counts["known answered"] += is_answered
            problem = problem or (None if is_answered else "the known request before it is not answered")
        if problem:
            report.complain(f"sequence {number}: {problem}\n    sent {clipped(sent.data)}\n    got {clipped(received)}")

    await in_turn(numbers, ask)
    report.require_answers()
    return report


def count_verdict(report, verdict):
    report.counts["requests"] += len(verdict.requests)
    report.counts["refused by tidegate"] += verdict.refused
    report.counts["answered"] += len(verdict.responses) - verdict.refused


# --- through a proxy -------------------------------------------------------------


class Through:
    """Sequences through one proxy."""

    def __init__(self, seed):
        self.seed = seed
        self.report = Report()
        # The requests that the proxy has passed on, as methods and numbers, by the sequences they are of.
        self.forwarded = {}
        # Of each sequence the requests that the strict reader sees in it, and how many responses its client got.
        self.read = {}
        self.got = {}
        # Where a client got what another request was for: sequence, its place there, and what came.
        self.wrong = []

    def over(self, conversation):
        """Judges a connection between proxy and tidegate."""
        sent, received = bytes(conversation.sent), bytes(conversation.received)
        verdict = judge(sent, received)
        count_verdict(self.report, verdict)
        for request in verdict.requests:
            name = markers.identity(request.target)
            if name:
                self.forwarded.setdefault(sequence_of(name), Counter())[request.method, name] += 1
        if verdict.problem:
            self.report.complain(
                f"a connection of the proxy: {verdict.problem}\n    it sent ..{clipped(sent, SHOWN_OF_CONVERSATION)}"
                f"\n    and got ..{clipped(received, SHOWN_OF_CONVERSATION)}"
            )

    async def ask(self, port, number):
        sent = sequence(self.seed, number)
        self.report.counts["sent"] += 1
        received = await client.ask_proxy(port, sent)
        reading = read_requests(sent.data)
        requests = reading.requests
        responses, flaw = read_responses(received, reading.methods)
        # Of HEAD that the proxy reads otherwise, or cut off where it has closed.
        self.report.counts["unreadable"] += flaw is not None
        self.read[number] = [(request.method, markers.identity(request.target)) for request in requests]
        self.got[number] = len(responses)
        if sent.known:
            self.report.counts["known"] += 1
            self.report.counts["known answered"] += bool(responses) and fits(requests[0], responses[0])
        for response in responses:
            if is_of_stranger(sent, response):
                got = status_and_marker(response)
                self.report.complain(f"sequence {number} got {got}, of another client: {clipped(sent.data)}")
        for at, (request, response) in enumerate(zip(requests, responses)):
            if is_of_another(request, response):
                self.wrong.append((number, at, f"{shown(request)} got {status_and_marker(response)}"))
                return

    def conclude(self, numbers):
        """Once all connections are over: whose fault it was."""
        counts = self.report.counts
        for number in numbers:
            forwarded, read = self.forwarded.get(number, Counter()), self.read[number]
            counts["refused by the proxy"] += b"s%d.m" % number not in (name for _, name in forwarded)
            if set(forwarded) - set(read):
                counts["read otherwise"] += 1
                self.report.others.append(("read otherwise", number))
            # What tidegate has answered and the client has not got: the proxy took it for a part of another request,
            # or has reset the connection.
            counts["without a response"] += len(forwarded) > self.got[number]
        for number, at, what in self.wrong:
            if self.agrees(number, at) or (at == 0 and sequence(self.seed, number).known):
                self.report.complain(f"sequence {number}: {what}: {clipped(sequence(self.seed, number).data)}")
            else:
                counts["wrong by the proxy"] += 1
                self.report.others.insert(0, (f"wrong by the proxy: {what}", number))
        self.report.require_answers()

    def agrees(self, number, at):
        """Whether the proxy has passed on each request of a sequence up to that place, and none that is not in it."""
        forwarded, read = self.forwarded.get(number, Counter()), self.read[number]
        # Some have lost their numbers.
        before = Counter(each for each in read[: at + 1] if each[1])
        return before <= forwarded and set(forwarded) <= set(read)


async def through(proxy, work, server_port, seed, numbers):
    """What comes of the sequences through this proxy."""
    way = Through(seed)
    relay = Relay(server_port, way.over)
    await relay.start()
    with proxy.running(relay.port, work) as port:
        await in_turn(numbers, lambda number: way.ask(port, number))
    unfinished = await relay.finish(FINISH_SECONDS)
    if unfinished:
        way.report.complain(f"{unfinished} connections were not ended by tidegate")
    way.conclude(numbers)
    return way.report


def is_of_stranger(sent, response):
    """Whether a response has the content of a file that the client has not named anywhere."""
    number = markers.number_in(response.body)
    # Without the first letter, which some mutations write in another way.
    return number is not None and b"arker-%d" % number not in sent.data


def is_of_another(request, response):
    """Whether a response has the content of another file than the one asked for."""
    number, wanted = markers.number_in(response.body), markers.number_of(request.target)
    if number is None:
        return response.status == 200 and request.method == b"GET" and wanted is not None
    return request.method != b"GET" or number != wanted


def sequence_of(name):
    return int(re.match(rb"s([0-9]+)", name)[1])


def clipped(data, count=BYTES_SHOWN):
    part = data[:count] if count == BYTES_SHOWN else data[-count:]
    return repr(bytes(part)) + (f" and {len(data) - len(part)} bytes" if len(part) < len(data) else "")
