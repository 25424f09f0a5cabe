"""What both clients are made with, and the requests they build from it."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import httpx

from keymiss.client.calls import Call, Options, R
from keymiss.client.retries import Retries
from keymiss.request_id import HEADER, new_request_id, usable

DEFAULT_URL = "https://localhost:8080"
DEFAULT_TIMEOUT_S = 40.0  # nginx waits 30 s for the API: its own answer comes first
ADMIN_KEY_HEADER = "X-Admin-Key"

Verify = bool | str | os.PathLike[str] | ssl.SSLContext
"""True: the system's certificates. A path: a certificate (PEM), or a folder of them. False: trust all."""


class Connection:
    """The settings of a client. ValueError: one of them cannot be used."""

    def __init__(self, url: str, admin_key: str | None, timeout_s: float, retries: Retries) -> None:
        parts = httpx.URL(url)
        if parts.scheme not in ("http", "https") or not parts.host or parts.query or parts.fragment:
            raise ValueError(f"the address must be like {DEFAULT_URL}, not {url!r}")
        if admin_key is not None and not (admin_key.isascii() and admin_key.isprintable()):
            raise ValueError("the admin key must be of printable ASCII characters")
        self.url = url
        self.timeout_s = _positive(timeout_s)
        self.retries = retries
        self._admin_key = admin_key

    def request(
        self, http: httpx.Client | httpx.AsyncClient, call: Call[R], options: Options
    ) -> tuple[httpx.Request, str]:
        """The request, and its id. ValueError: a time limit or an id that cannot be used."""
        request_id = options.get("request_id") or new_request_id()
        if not usable(request_id):
            raise ValueError(f"a request id has 8 to 64 letters, digits, '.', '_' or '-': {request_id!r}")
        headers = {HEADER: request_id}
        if call.body is not None:
            headers["Content-Type"] = "application/json"
        if call.needs_admin and self._admin_key is not None:
            headers[ADMIN_KEY_HEADER] = self._admin_key
        request = http.build_request(
            call.method,
            call.path,
            params=dict(call.query) or None,
            content=call.body,
            headers=headers,
            timeout=_positive(options.get("timeout_s", self.timeout_s)),
        )
        return request, request_id


def tls(verify: Verify) -> ssl.SSLContext | bool:
    """What httpx takes: it makes no context of a path any more. OSError: it cannot be read."""
    if isinstance(verify, bool | ssl.SSLContext):
        return verify
    path = Path(verify)
    if path.is_dir():
        return ssl.create_default_context(capath=path)
    return ssl.create_default_context(cafile=path)


def _positive(timeout_s: float) -> float:
    if not 0 < timeout_s < float("inf"):
        raise ValueError(f"a time limit must be over 0 seconds, not {timeout_s}")
    return timeout_s
