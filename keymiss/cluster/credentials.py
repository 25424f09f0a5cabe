"""Who this process is to the Redis servers, from the environment; used by everything that connects.

================================ ==================================================================
KEYMISS_REDIS_USERNAME           ACL user; none: the server's ``default``
KEYMISS_REDIS_PASSWORD           its password
KEYMISS_REDIS_PASSWORD_FILE      a file with the password, in place of KEYMISS_REDIS_PASSWORD
================================ ==================================================================

A password is never printed: it is in no error text and in no repr.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from redis.exceptions import AuthenticationError, NoPermissionError

from keymiss.settings import BadSetting

USERNAME, PASSWORD = "KEYMISS_REDIS_USERNAME", "KEYMISS_REDIS_PASSWORD"
MAX_SECRET_BYTES = 4096  # a file that is longer is not the one that was meant


class Login(TypedDict):
    """The keyword arguments of redis-py's clients and connections, asyncio's and cluster's too."""

    username: str | None
    password: str | None


@dataclass(frozen=True, slots=True)
class Credentials:
    """An ACL user; both None for servers without authentication."""

    username: str | None = None
    password: str | None = field(default=None, repr=False)

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Credentials:
        """From ``env`` (default: the process's). Raises BadSetting."""
        env = os.environ if env is None else env
        username = env.get(USERNAME) or None
        if username and not (username.isprintable() and " " not in username):
            raise BadSetting(f"{USERNAME} must be printable and without blanks")
        return cls(username, secret(PASSWORD, env) or None)

    @property
    def login(self) -> Login:
        """As redis-py takes it: ``Redis(host, port, **credentials.login)``."""
        return {"username": self.username, "password": self.password}

    @property
    def user(self) -> str:
        """The user's name, for texts."""
        return self.username or "default"


NO_CREDENTIALS = Credentials()


def secret(name: str, env: Mapping[str, str]) -> str:
    """What the variable ``name`` holds, or the file that ``<name>_FILE`` names; "" when neither is set.

    Of a file the line break at its end is no part. Raises BadSetting, without the secret in its text, when
    both are set, the file cannot be read or is empty, or there is no printable text.
    """
    value, path = env.get(name) or "", env.get(f"{name}_FILE") or ""
    if value and path:
        raise BadSetting(f"{name} and {name}_FILE are both set: one of them must go")
    if path:
        return _printable(f"The file of {name}_FILE, {path},", _first_line(name, path))
    return _printable(name, value) if value else ""


def _first_line(name: str, path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            raw = file.read(MAX_SECRET_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        why = getattr(error, "strerror", None) or error
        raise BadSetting(f"{name}_FILE: {path!r} cannot be read: {why}") from None
    if len(raw) > MAX_SECRET_BYTES:
        raise BadSetting(f"{name}_FILE: {path!r} has more than {MAX_SECRET_BYTES} bytes")
    try:
        text = raw.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise BadSetting(f"{name}_FILE: {path!r} is not text in UTF-8") from None
    if not text:
        raise BadSetting(f"{name}_FILE: {path!r} is empty")
    return text


def _printable(what: str, text: str) -> str:
    if not (text.strip() and text.isprintable()):
        raise BadSetting(f"{what} must have printable text in one line, and no control characters")
    return text


def refusal(error: BaseException | None, credentials: Credentials) -> str:
    """One sentence when a server refused the user, or what the user asked for; "" for any other error.

    redis-py wraps what it got while it looked for the cluster: causes are looked at too.
    """
    while error is not None:
        if isinstance(error, AuthenticationError):
            if credentials == NO_CREDENTIALS:
                return f"The server wants a user and a password: set {USERNAME} and {PASSWORD} (or _FILE)."
            return (
                f"The server refuses the user {credentials.user!r} with this password: see {USERNAME} and "
                f"{PASSWORD} (or _FILE)."
            )
        if isinstance(error, NoPermissionError):
            return f"The user {credentials.user!r} may not do this ({error}): see {USERNAME}."
        error = error.__cause__
    return ""
