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
from typing import TypedDict

from redis.exceptions import AuthenticationError, NoPermissionError

from keymiss.environment import BadSetting, secret

USERNAME, PASSWORD = "KEYMISS_REDIS_USERNAME", "KEYMISS_REDIS_PASSWORD"


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
