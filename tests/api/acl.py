"""A cluster with the committed ACL: `default` is off, every part of the system has a user of its own."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers import REPO, RedisClusterServers

USERS = ("admin", "worker", "api", "replica", "monitor")
TEMPLATE = REPO / "acl" / "users.acl.template"


def password_of(user: str) -> str:
    """The password of a user in these tests."""
    return f"the password of {user}"


def env_of(user: str) -> dict[str, str]:
    """What a process needs to be that user."""
    return {"KEYMISS_REDIS_USERNAME": user, "KEYMISS_REDIS_PASSWORD": password_of(user)}


def login_of(user: str) -> dict[str, str]:
    """The same for a client of redis-py."""
    return {"username": user, "password": password_of(user)}


def acl_text() -> str:
    """The template with the hashes of the passwords."""
    text = TEMPLATE.read_text()
    for user in USERS:
        text = text.replace(f"{{{user}}}", hashlib.sha256(password_of(user).encode()).hexdigest())
    return text


@contextmanager
def locked_cluster(masters: int = 3, replicas: int = 1) -> Iterator[RedisClusterServers]:
    """Its own clients are `admin`, its replicas `replica`."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "users.acl"
        file.write_text(acl_text())
        arguments = (
            *("--aclfile", str(file), "--masteruser", "replica", "--masterauth", password_of("replica")),
            *("--cluster-require-full-coverage", "no"),
        )
        with RedisClusterServers(
            *arguments, masters=masters, replicas=replicas, login=login_of("admin")
        ) as servers:
            yield servers
