"""Reading a request's body, with limits: of bytes, and of the time from the first byte to the last."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from keymiss.api.http.problems import BadQuestion, BodyLate, BodyTooLarge, NotJson, in_a_line, listed

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one body."""

    bytes: int
    time_s: float


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
        raise BodyLate(f"only {len(body)} bytes of the body arrived within {time_limit_s:g} s") from None
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


async def read_model(request: Request, model: type[M], limits: Limits, example: str) -> M:
    """The body as a model. NotJson, BodyLate, BodyTooLarge, BadQuestion."""
    body = await read_body(request, limits.bytes, limits.time_s)
    check_json(body, example)
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        errors = listed(error.errors(include_url=False, include_context=False, include_input=False))
    raise BadQuestion(in_a_line(errors), errors=errors)


def check_json(body: bytes, example: str) -> None:
    """Raises NotJson with where the JSON is wrong, and what a body looks like."""
    try:
        from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise NotJson(f"the body must be JSON like {example}: {error}") from None
