"""The concepts that a client has excluded. Its cookie has them: the service keeps nothing of a client."""

from __future__ import annotations

import re
from collections.abc import Iterable

from fastapi import Request, Response

from keymiss.api.http.problems import TooManyExcluded
from keymiss.api.settings import ApiSettings
from keymiss.graph.events import CONCEPT_ID_PATTERN

COOKIE = "keymiss_excluded"
MAX_CHARACTERS = 3500
"""Browsers keep cookies of 4096, with name and attributes."""

SEPARATOR = "_"  # in no id
_ID = re.compile(CONCEPT_ID_PATTERN)


def excluded_by(request: Request) -> tuple[str, ...]:
    """The concepts' ids, in the order in which they were excluded. What is no id was not put there by us."""
    ids = request.cookies.get(COOKIE, "")[:MAX_CHARACTERS].split(SEPARATOR)
    return tuple(dict.fromkeys(each for each in ids if _ID.fullmatch(each)))


def remember(request: Request, response: Response, ids: Iterable[str]) -> None:
    """Until the browser is closed; without ids the cookie goes. TooManyExcluded: it cannot hold them."""
    text = SEPARATOR.join(ids)
    if len(text) > MAX_CHARACTERS:
        raise TooManyExcluded(
            f"the cookie holds {MAX_CHARACTERS} characters of ids; DELETE /exclude shows all concepts again"
        )
    settings: ApiSettings = request.app.state.settings
    secure = request.headers.get("x-forwarded-proto", request.url.scheme) == "https"
    # Of a page of another site browsers take a cookie only if it is marked so, and comes over TLS.
    elsewhere = bool(settings.cors_origins) and secure
    response.set_cookie(
        COOKIE,
        text,
        max_age=None if text else 0,
        httponly=True,
        secure=secure,
        samesite="none" if elsewhere else "lax",
    )
