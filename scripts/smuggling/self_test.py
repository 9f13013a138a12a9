"""Whether the judge sees what is wrong: conversations as a server must not have them, and as it may."""

import markers
from judge import judge

GET_1 = b"GET /marker-1 HTTP/1.1\r\nHost: a\r\n\r\n"
GET_2 = b"GET /marker-2 HTTP/1.1\r\nHost: a\r\n\r\n"
HEAD_1 = GET_1.replace(b"GET", b"HEAD")


def post(fields, body):
    return b"POST /marker-1 HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n" + body


def response(status, body=b"", close=False):
    fields = b"Content-Length: %d\r\n" % len(body) + (b"Connection: close\r\n" if close else b"")
    return b"HTTP/1.1 %d Words\r\n%s\r\n%s" % (status, fields, body)


ONE = response(200, markers.content(1))
TWO = response(200, markers.content(2))
NOT_ALLOWED = response(405, b"page")
REFUSED = response(400, b"page", close=True)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
LENGTH_OF_GET_2 = b"Content-Length: %d\r\n" % len(GET_2)
# What was sent, what came, and a word of the complaint, or None.
CONVERSATIONS = (
    (GET_1 + GET_2, ONE + TWO, None),
    (GET_1 + GET_2, TWO + ONE, "got 200 marker 2"),
    (GET_1 + GET_2, ONE, "without a word"),
    (GET_1, ONE + TWO, "2 responses, and 1 requests"),
    (GET_1, ONE[:-1], "cut off"),
    (GET_1, b"junk\r\n", "malformed"),
    (HEAD_1 + GET_2, response(200) + TWO, None),
    (HEAD_1 + GET_2, ONE + TWO, "malformed"),
    (HEAD_1.replace(b"Host", b"Host "), b"HTTP/1.1 400 Bad\r\nContent-Length: 4\r\nConnection: close\r\n\r\n", None),
    (HEAD_1.replace(b"Host", b"Host "), REFUSED, "cut off"),
    (GET_1 + GET_2, ONE + REFUSED, None),
    (GET_1 + GET_2 + GET_1, ONE + REFUSED + ONE, "says that the connection ends"),
    (GET_1.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + GET_2, ONE + TWO, "2 responses, and 1 requests"),
    # Bodies that hold a request.
    (post(LENGTH_OF_GET_2, GET_2) + GET_1, NOT_ALLOWED + ONE, None),
    (post(LENGTH_OF_GET_2, GET_2) + GET_1, NOT_ALLOWED + TWO + ONE, "got 200 marker 2"),
    (post(LENGTH_OF_GET_2, GET_2), NOT_ALLOWED + TWO, "2 responses, and 1 requests"),
    (post(CHUNKED, b"0\r\n\r\n" + GET_2), NOT_ALLOWED + TWO, None),
    (post(CHUNKED, b"0\r\n\r\n" + GET_2), NOT_ALLOWED, "without a word"),
    (post(CHUNKED, b"%x\r\n%s\r\n0\r\n\r\n" % (len(GET_2), GET_2)), NOT_ALLOWED, None),
    (post(CHUNKED, b'1;a="b\n"\r\nx\r\n0\r\n\r\n') + GET_2, NOT_ALLOWED + TWO, "2 responses, and 1 requests"),
    (post(CHUNKED, b"0x1\r\nx\r\n0\r\n\r\n") + GET_2, NOT_ALLOWED, None),
    (post(CHUNKED, b"0x1\r\nx\r\n0\r\n\r\n") + GET_2, NOT_ALLOWED + REFUSED, "2 responses, and 1 requests"),
    # Heads that are refused.
    *(
        (post(fields, b"0\r\n\r\n" + GET_2), answer, None if answer == REFUSED else "requests")
        for fields in (
            CHUNKED + b"Content-Length: 5\r\n",
            b"Content-Length: 5\r\n" * 2,
            b"Content-Length: +5\r\n",
            b"Content-Length: 5, 5\r\n",
            b"Content-Length : 5\r\n",
            b"Content-Length: 5\n",
            b"Transfer-Encoding: xchunked\r\n",
            b"Transfer-Encoding: \x0bchunked\r\n",
            b"Transfer-Encoding:\r\n chunked\r\n",
            CHUNKED * 2,
            b"X: y\rTransfer-Encoding: chunked\r\n",
        )
        for answer in (REFUSED, NOT_ALLOWED, NOT_ALLOWED + TWO)
    ),
)


def failures():
    """The conversations that the judge does not see as they are."""
    for sent, received, word in CONVERSATIONS:
        problem = judge(sent, received).problem
        if (problem is None) != (word is None) or (word and word not in problem):
            yield f"{sent!r} and {received!r}: {problem}, not {word}"
