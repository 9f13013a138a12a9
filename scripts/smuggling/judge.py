"""What a server has to make of the bytes of one connection."""

from dataclasses import dataclass

import markers
from reference import read_requests, read_responses

# With these a request is refused; the connection has to end then.
REFUSALS = {400, 408, 413, 414, 417, 431, 501, 505}
# Answers to methods that are not GET; a file server has no others.
BY_METHOD = {b"HEAD": {200, 404}, b"OPTIONS": {204}}
CHANGING = {b"POST", b"PUT", b"DELETE", b"PATCH", b"TRACE", b"CONNECT"}


@dataclass(frozen=True)
class Verdict:
    """What came of the requests on a connection, and what is wrong, or None."""

    requests: list
    responses: list
    problem: str | None = None

    @property
    def refused(self):
        return sum(map(is_refusal, self.responses))


def judge(sent, received):
    """Holds all that tidegate sent on a connection, up to its end, against what it was sent."""
    reading = read_requests(sent)
    responses, flaw = read_responses(received, reading.methods)
    return Verdict(reading.requests, responses, flaw or problem(reading, responses))


def problem(reading, responses):
    requests = reading.requests
    for at, response in enumerate(responses):
        is_last = at == len(responses) - 1
        if response.closes and not is_last:
            return f"response {at} says that the connection ends, and {len(responses) - 1 - at} follow"
        if is_refusal(response):
            continue
        if at >= len(requests):
            return f"{len(responses)} responses, and {len(requests)} requests, then {end_of(reading)}"
        if not fits(requests[at], response):
            return f"{shown(requests[at])} got {status_and_marker(response)}"
    if len(responses) > len(requests) + (reading.end in ("partial head", "bad head")):
        # Not even a refusal: the request with the bad body had its response.
        return f"{len(responses)} responses, and {len(requests)} requests, then {end_of(reading)}"
    if len(responses) < len(requests) and not (responses and responses[-1].closes):
        return f"{len(responses)} responses without a word of the end, and {len(requests)} requests"
    return None


def is_refusal(response):
    return response.closes and response.status in REFUSALS


def fits(request, response):
    """Whether a response is for this request, as far as that can be told."""
    number = markers.number_in(response.body)
    if request.method != b"GET":
        if request.method in CHANGING:
            return response.status in (400, 405) and number is None
        return response.status in BY_METHOD.get(request.method, {501}) | {400} and number is None
    wanted = markers.number_of(request.target)
    if wanted is None:
        return response.status in (301, 308, 400, 404) and number is None
    return response.status == 200 and number == wanted


def shown(request):
    return (request.method + b" " + request.target).decode("latin-1")[:80]


def status_and_marker(response):
    number = markers.number_in(response.body)
    return f"{response.status} {len(response.body)} bytes" if number is None else f"{response.status} marker {number}"


def end_of(reading):
    return f"{reading.end} ({reading.reason})" if reading.reason else reading.end
