"""Pages of other origins may ask when `KEYMISS_API_CORS_ORIGINS` names them; their cookies come with it."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import Request
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

from keymiss.api.http.problems import NotAllowed, problem_response
from keymiss.api.settings import ApiSettings
from keymiss.request_id import HEADER

METHODS = ("GET", "POST", "DELETE")
HEADERS = ("Content-Type", HEADER)
"""Not X-Admin-Key: articles are changed by no page of another origin."""
PREFLIGHT_KEPT_S = 600


class CrossOrigin(CORSMiddleware):
    """Answers preflights, and puts the headers on every reply to one of the origins, a 500 too."""

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=METHODS,
            allow_headers=HEADERS,
            allow_credentials=True,
            expose_headers=(HEADER, "Retry-After"),
            max_age=PREFLIGHT_KEPT_S,
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """What is refused is a problem, as every error is."""
        answer = super().preflight_response(request_headers)
        if answer.status_code < 400:
            return answer
        headers = {name: text for name, text in answer.headers.items() if not name.startswith("content-")}
        return problem_response(400, "Not allowed across origins", bytes(answer.body).decode(), headers)


def refuse_other_sites(request: Request) -> None:
    """NotAllowed: a page of another site, which is none of the origins, has made a browser send this."""
    settings: ApiSettings = request.app.state.settings
    sent_by = request.headers.get("origin")
    if request.headers.get("sec-fetch-site") == "cross-site" and sent_by not in settings.cors_origins:
        raise NotAllowed(
            "pages of other sites may not do this: KEYMISS_API_CORS_ORIGINS names those that may"
        )
