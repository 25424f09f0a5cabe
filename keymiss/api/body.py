"""Reading a request's body, with a limit."""

from __future__ import annotations

from fastapi import Request
from pydantic_core import from_json

from keymiss.api.problems import BodyTooLarge, NotJson


async def read_body(request: Request, limit_bytes: int) -> bytes:
    """The body. The content type is not looked at. BodyTooLarge as soon as more than the limit has come."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit_bytes:
            raise BodyTooLarge(f"the body may have {limit_bytes} bytes at most")
    return bytes(body)


async def skip_body(request: Request, limit_bytes: int) -> None:
    """Reads and forgets the body, up to the limit.

    Before a refusal: a proxy that is still sending when the connection is closed says that we are away.
    """
    read = 0
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
