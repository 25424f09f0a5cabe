"""Who may change articles: who sends the admin key."""

from __future__ import annotations

import hmac

from fastapi import Request
from fastapi.security import APIKeyHeader

from keymiss.api.http.problems import NoAdminKey, NotAllowed
from keymiss.api.settings import ApiSettings

HEADER = "X-Admin-Key"

admin_key_header = APIKeyHeader(
    name=HEADER,
    scheme_name="admin key",
    description="KEYMISS_API_ADMIN_KEY of the service.",
    auto_error=False,
)
"""For OpenAPI: a route with ``Security(admin_key_header)`` is shown as one that needs the key."""


def check_admin(request: Request) -> None:
    """Raises NotAllowed when no key is set, NoAdminKey when another one came, or none."""
    settings: ApiSettings = request.app.state.settings
    if not settings.admin_key:
        raise NotAllowed(
            "articles cannot be changed over HTTP: the service was started without KEYMISS_API_ADMIN_KEY. "
            "Set it in the service's environment and start it again"
        )
    given = request.headers.get(HEADER)
    if given is None:
        raise NoAdminKey(f"the header {HEADER} is missing")
    # Bytes: compare_digest takes no other text than ASCII. It takes as long wherever the two differ.
    if not hmac.compare_digest(given.encode("latin-1", "replace"), settings.admin_key.encode()):
        raise NoAdminKey(f"the key in the header {HEADER} is wrong")
