"""Reading a request's body, with limits: of bytes, and of the time from the first byte to the last."""

from __future__ import annotations

import asyncio
import contextlib

from fastapi import Request
from pydantic_core import from_json

from keymiss.api.problems import BodyLate, BodyTooLarge, NotJson


async def read_body(request: Request, limit_bytes: int, time_limit_s: float) -> bytes:
    """The body. The content type is not looked at. BodyTooLarge as soon as more than the limit has come,
    BodyLate when it is not whole in time."""
    body = bytearray()
    try:
        async with asyncio.timeout(time_limit_s):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit_bytes:
                    raise BodyTooLarge(f"the body may have {limit_bytes} bytes at most")
    except TimeoutError:
        raise BodyLate(f"{len(body)} bytes of the body came within {time_limit_s:g} s, and no end") from None
    return bytes(body)


async def skip_body(request: Request, limit_bytes: int, time_limit_s: float) -> None:
    """Reads and forgets the body, up to the limits.

    Before a refusal: a proxy that is still sending when the connection is closed says that we are away.
    """
    read = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(time_limit_s):
            async for chunk in request.stream():
                read += len(chunk)
                if read > limit_bytes:
                    return


def check_json(body: bytes, example: str) -> None:
    """Raises NotJson with where the JSON is wrong, and what a body looks like."""
    try:
        from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise NotJson(f"the body must be JSON like {example}: {error}") from None
