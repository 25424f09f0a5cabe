"""Who this process is to the Redis servers, from the environment; used by everything that connects.

================================ ==================================================================
KEYMISS_REDIS_USERNAME           ACL user; none: the server's ``default``
KEYMISS_REDIS_PASSWORD           its password
KEYMISS_REDIS_PASSWORD_FILE      a file with the password, in place of KEYMISS_REDIS_PASSWORD
KEYMISS_TLS_CA, ...              how the connection is made: keymiss/cluster/tls.py
================================ ==================================================================

A password is never printed: it is in no error text and in no repr.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict

from redis.exceptions import AuthenticationError, NoPermissionError

from keymiss.cluster.tls import Tls, TlsTrouble
from keymiss.environment import BadSetting, secret

USERNAME, PASSWORD = "KEYMISS_REDIS_USERNAME", "KEYMISS_REDIS_PASSWORD"


class Login(TypedDict):
    """Keyword arguments of redis-py's clients and connections, asyncio's and cluster's too."""

    username: str | None
    password: str | None


@dataclass(frozen=True, slots=True)
class Credentials:
    """An ACL user, both None for servers without authentication; `tls` None for connections without TLS."""

    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: Tls | None = None

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Credentials:
        """From ``env`` (default: the process's). Raises BadSetting."""
        env = os.environ if env is None else env
        username = env.get(USERNAME) or None
        if username and not (username.isprintable() and " " not in username):
            raise BadSetting(f"{USERNAME} must be printable and without blanks")
        return cls(username, secret(PASSWORD, env) or None, Tls.from_env(env))

    @property
    def login(self) -> Login:
        """User and password as redis-py takes them."""
        return {"username": self.username, "password": self.password}

    @property
    def client_options(self) -> dict[str, Any]:
        """As redis-py's clients take it: ``Redis(host, port, **credentials.client_options)``."""
        return {**self.login, **(self.tls.client_options if self.tls else {})}

    @property
    def is_somebody(self) -> bool:
        """Whether there is a user or a password."""
        return bool(self.username or self.password)

    @property
    def user(self) -> str:
        """The user's name, for texts."""
        return self.username or "default"


NO_CREDENTIALS = Credentials()


def refusal(error: BaseException | None, credentials: Credentials) -> str:
    """One sentence when a server refused the user, what the user asked for, or the connection (TLS); "" for
    any other error.

    redis-py wraps what it got while it looked for the cluster: causes are looked at too.
    """
    while error is not None:
        if isinstance(error, AuthenticationError):
            if not credentials.is_somebody:
                return f"The server wants a user and a password: set {USERNAME} and {PASSWORD} (or _FILE)."
            return (
                f"The server refuses the user {credentials.user!r} with this password: see {USERNAME} and "
                f"{PASSWORD} (or _FILE)."
            )
        if isinstance(error, TlsTrouble):
            return str(error)
        if isinstance(error, NoPermissionError):
            return f"The user {credentials.user!r} may not do this ({error}): see {USERNAME}."
        error = error.__cause__
    return ""
