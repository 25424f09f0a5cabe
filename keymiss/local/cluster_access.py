"""A client of the cluster for programs on this machine, which know the local system's passwords."""

from __future__ import annotations

from typing import Any

from redis.cluster import RedisCluster
from redis.exceptions import RedisClusterException, RedisError

from keymiss.addresses import parse_addresses
from keymiss.cluster.credentials import refusal
from keymiss.cluster.redis_cluster import open_cluster
from keymiss.environment import BadSetting
from keymiss.local.redis_users import credentials_for


class NoClusterError(RuntimeError):
    """No cluster that answers this user; the text says why."""


def connect(nodes: str, **options: Any) -> RedisCluster:
    """A client of the cluster that any of `nodes` ("host:port,...") belongs to. Raises NoClusterError."""
    try:
        addresses = parse_addresses(nodes)
    except ValueError as error:
        raise NoClusterError(f"no cluster at {nodes}: the nodes {error}") from None
    try:
        mine = credentials_for(addresses)
    except BadSetting as error:
        raise NoClusterError(f"no cluster at {nodes}: {error}") from error
    try:
        return open_cluster(addresses, mine, **options)
    except (RedisError, RedisClusterException) as error:
        raise NoClusterError(refusal(error, mine) or f"no cluster at {nodes}: {error}") from error
