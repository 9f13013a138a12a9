"""The requests of a plan by httpx, all at once; see http2_plan.py."""

import asyncio
import hashlib
import ssl
import sys

import httpx

PLACES = 64


async def main():
    base, authority = sys.argv[1:]
    plan = [line.split("\t") for line in sys.stdin.read().splitlines()]
    places = asyncio.Semaphore(PLACES)
    trust = ssl.create_default_context(cafile=authority)
    limits = httpx.Limits(max_connections=1)
    options = {"http1": False, "http2": True, "verify": trust, "limits": limits, "timeout": 120}
    async with httpx.AsyncClient(base_url=base, trust_env=False, **options) as client:
        for answer in await asyncio.gather(*(told(client, places, *line) for line in plan)):
            print(answer)


async def told(client, places, *line):
    async with places:
        try:
            return await ask(client, *line)
        except Exception as error:
            return f"error\t{type(error).__name__} {error}"


async def ask(client, method, path, size, *fields):
    cancelled = method == "CANCEL"
    headers = dict(field.split(": ", 1) for field in fields)
    headers.setdefault("accept-encoding", "identity")
    body = b"x" * int(size) if size != "0" else None
    hashed, count = hashlib.sha256(), 0
    method = "GET" if cancelled else method
    async with client.stream(method, path, headers=headers, content=body) as response:
        async for piece in response.aiter_raw():
            piece = piece[:1] if cancelled else piece
            hashed.update(piece)
            count += len(piece)
            if cancelled:
                break
    told_fields = [
        response.headers.get(name, "") for name in ("etag", "content-range", "content-length")
    ]
    version = "HTTP/2.0" if response.http_version == "HTTP/2" else response.http_version
    return "\t".join(
        [version, str(response.status_code), str(count), hashed.hexdigest(), *told_fields]
    )


asyncio.run(main())
