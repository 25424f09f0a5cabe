"""The API's settings, read once from the environment; a bad value is one clear sentence.

``KEYMISS_NODES`` (or ``KEYMISS_HOST`` and ``KEYMISS_BASE_PORT``) says where the cluster is; everything
else is ``KEYMISS_API_<FIELD NAME IN CAPITALS>``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

Node = tuple[str, int]


class BadSetting(ValueError):
    """A setting that cannot be used; the text names it and says what it may be."""


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """All settings of the API. Times in seconds."""

    nodes: tuple[Node, ...] = (("127.0.0.1", 30001),)
    time_limit_s: float = 5.0  # how long one question may take on the shards
    candidates_per_shard: int = 5  # sentences asked on each shard
    results: int = 20  # results returned at most
    connections_per_shard: int = 32  # GETs in flight on one master at most
    max_questions: int = 64  # questions in flight at most; the next one gets 429
    ready_time_limit_s: float = 10.0
    ready_cache_s: float = 1.0  # a readiness result is given again for this long
    topology_poll_s: float = 2.0
    rescan_s: float = 300.0  # full comparison of index and shard; changes are pushed in between
    title_cache_s: float = 60.0

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> ApiSettings:
        """Settings from ``env`` (default: the process's). Raises BadSetting."""
        env = os.environ if env is None else env
        values: dict[str, float | int] = {}
        for field in fields(cls):
            name = f"KEYMISS_API_{field.name.upper()}"
            if field.name == "nodes" or name not in env:
                continue
            kind = int if field.type == "int" else float
            try:
                number = kind(env[name])
            except ValueError:
                raise BadSetting(f"{name} must be a number, not {env[name]!r}") from None
            lowest = 0.0 if field.name in ("ready_cache_s", "title_cache_s") else 0.01
            if not lowest <= number <= 1_000_000:
                raise BadSetting(f"{name} must be over 0 and at most 1000000, not {env[name]!r}")
            values[field.name] = number
        nodes = env.get("KEYMISS_NODES") or (
            f"{env.get('KEYMISS_HOST') or '127.0.0.1'}:{env.get('KEYMISS_BASE_PORT') or '30001'}"
        )
        return replace(cls(nodes=parse_nodes(nodes)), **values)  # type: ignore[arg-type]


def parse_nodes(text: str) -> tuple[Node, ...]:
    """``"host:port,host:port"`` to pairs. Raises BadSetting."""
    nodes = []
    for part in filter(None, (p.strip() for p in text.split(","))):
        host, colon, port = part.rpartition(":")
        if not (colon and host and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise BadSetting(f"KEYMISS_NODES must be host:port,host:port,...; {part!r} is not host:port")
        nodes.append((host.strip("[]"), int(port)))
    if not nodes:
        raise BadSetting("KEYMISS_NODES names no node")
    return tuple(nodes)
