"""The API's settings, read once from the environment; a bad value is one clear sentence.

``KEYMISS_NODES`` (or ``KEYMISS_HOST`` and ``KEYMISS_BASE_PORT``) says where the cluster is, and
`keymiss.cluster.credentials` who the API is there; all else is ``KEYMISS_API_<FIELD NAME IN CAPITALS>``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from urllib.parse import urlsplit

from keymiss.addresses import Address, parse_addresses
from keymiss.cluster.credentials import NO_CREDENTIALS, Credentials, secret
from keymiss.settings import BadSetting as BadSetting

MAY_BE_ZERO = ("ready_cache_s", "title_cache_s", "min_score", "bm25_weight", "vector_weight", "graph_weight")
HIGHEST = {"min_score": 1, "body_time_limit_s": 25, "article_time_limit_s": 70}
"""A body's: nginx ends the connection without a reply 5 s later (client_body_timeout)."""
MIN_ADMIN_KEY_CHARACTERS = 16


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """All settings of the API. Times in seconds."""

    nodes: tuple[Address, ...] = (Address("127.0.0.1", 30001),)
    credentials: Credentials = NO_CREDENTIALS
    time_limit_s: float = 5.0  # how long one question may take on the shards
    candidates: int = 20  # sentences asked for one question at most, the best of all shards
    candidates_per_shard: int = 20  # of them, on each shard at most
    results: int = 20  # results returned at most
    connections_per_shard: int = 32  # GETs in flight on one master at most
    max_questions: int = 64  # questions in flight at most; the next one gets 429
    body_time_limit_s: float = 10.0  # a question's body must be whole by then
    article_time_limit_s: float = 60.0  # an article's, of up to 8 MiB; nginx waits longer than both
    ready_time_limit_s: float = 10.0
    ready_cache_s: float = 1.0  # a readiness result is given again for this long
    topology_poll_s: float = 2.0
    rescan_s: float = 300.0  # full comparison of index and shard; changes are pushed in between
    title_cache_s: float = 60.0
    bm25_weight: float = 1.0  # of each signal in the ranking of sentences (keymiss.retrieval); 0: not used
    vector_weight: float = 1.0
    graph_weight: float = 0.5
    rrf_k: float = 5.0  # rank r of a signal counts weight / (rrf_k + r)
    pool: int = 100  # sentences of each signal that are ranked together
    graph_time_limit_s: float = 0.5  # the sentences behind a question's links; without them it goes on
    vector_time_limit_s: float = 0.5  # a question's vector; without it words alone are searched for
    min_score: float = 0.15  # results whose reader score is below are not shown; 0 shows all
    admin_key: str = field(default="", repr=False)  # X-Admin-Key must be it; empty: nobody changes articles
    prometheus_url: str = field(default="", repr=False)  # whom /watch asks; empty: nobody

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> ApiSettings:
        """Settings from ``env`` (default: the process's). Raises BadSetting."""
        env = os.environ if env is None else env
        values: dict[str, float | int | str] = {}
        for one in fields(cls):
            name = f"KEYMISS_API_{one.name.upper()}"
            if one.type not in ("int", "float") or name not in env:
                continue
            kind = int if one.type == "int" else float
            try:
                number = kind(env[name])
            except ValueError:
                raise BadSetting(f"{name} must be a number, not {env[name]!r}") from None
            lowest = 0.0 if one.name in MAY_BE_ZERO else 0.01
            highest = HIGHEST.get(one.name, 1_000_000)
            if not lowest <= number <= highest:
                least = "from 0" if one.name in MAY_BE_ZERO else "over 0"
                raise BadSetting(f"{name} must be {least} and at most {highest}, not {env[name]!r}")
            values[one.name] = number
        values["admin_key"] = checked_admin_key(secret("KEYMISS_API_ADMIN_KEY", env))
        values["prometheus_url"] = checked_prometheus_url(env.get("KEYMISS_API_PROMETHEUS_URL", ""))
        nodes = env.get("KEYMISS_NODES") or (
            f"{env.get('KEYMISS_HOST') or '127.0.0.1'}:{env.get('KEYMISS_BASE_PORT') or '30001'}"
        )
        try:
            addresses = parse_addresses(nodes)
        except ValueError as error:
            raise BadSetting(f"KEYMISS_NODES must be host:port,host:port,...; {error}") from None
        start = cls(nodes=addresses, credentials=Credentials.from_env(env))
        return replace(start, **values)  # type: ignore[arg-type]


def checked_admin_key(key: str) -> str:
    """The key, if it can be sent in a header and is long enough. Raises BadSetting without the key in it."""
    if key and not (len(key) >= MIN_ADMIN_KEY_CHARACTERS and key.isascii() and key.isprintable()):
        raise BadSetting(
            f"KEYMISS_API_ADMIN_KEY must have {MIN_ADMIN_KEY_CHARACTERS} or more printable ASCII characters"
        )
    if key != key.strip():
        raise BadSetting("KEYMISS_API_ADMIN_KEY must not begin or end with a blank")
    return key


def checked_prometheus_url(url: str) -> str:
    """The URL, if it is one of http or https. Raises BadSetting without it: it may hold a password."""
    if not url:
        return ""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number, brackets that do not match
        usable = False
    if not usable or not (url.isascii() and url.isprintable()) or "?" in url or "#" in url or " " in url:
        raise BadSetting(
            "KEYMISS_API_PROMETHEUS_URL must be an address like http://127.0.0.1:9090, without ? and #"
        )
    return url
