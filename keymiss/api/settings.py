"""The API's settings, read once from the environment; a bad value is one clear sentence.

`keymiss.cluster.access` says where the cluster is and who the API is there; all else is
``KEYMISS_API_<FIELD NAME IN CAPITALS>``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import NoDecode, SettingsConfigDict

from keymiss.addresses import Address
from keymiss.cluster.access import ClusterAccess, Nodes
from keymiss.cluster.credentials import NO_CREDENTIALS, Credentials
from keymiss.environment import EnvironmentSettings, Whole, secret

MOST = 1_000_000
MIN_ADMIN_KEY_CHARACTERS = 16
ORIGIN = re.compile(
    r"(http(?!.*:80$)|https(?!.*:443$))://([a-z0-9_-]+(\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(:[1-9][0-9]{0,4})?"
)
Count = Annotated[Whole, Field(ge=1, le=MOST)]
Positive = Annotated[float, Field(ge=0.01, le=MOST)]
OrNothing = Annotated[float, Field(ge=0, le=MOST)]


def checked_admin_key(key: str) -> str:
    """The key, if it can be sent in a header and is long enough. ValueError without the key in it."""
    if key and not (len(key) >= MIN_ADMIN_KEY_CHARACTERS and key.isascii() and key.isprintable()):
        raise ValueError(f"must have {MIN_ADMIN_KEY_CHARACTERS} or more printable ASCII characters")
    if key != key.strip():
        raise ValueError("must not begin or end with a blank")
    return key


def checked_prometheus_url(url: str) -> str:
    """The URL, if it is one of http or https. ValueError without it: it may hold a password."""
    if not url:
        return ""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number, brackets that do not match
        usable = False
    if not usable or not (url.isascii() and url.isprintable()) or "?" in url or "#" in url or " " in url:
        raise ValueError("must be an address like http://127.0.0.1:9090, without ? and #")
    return url


def parsed_origins(value: Any) -> Any:
    """``https://a.org,http://localhost:4200`` as a tuple. ValueError: one is not as browsers send it."""
    origins = tuple(each.strip() for each in value.split(",")) if isinstance(value, str) else value
    for origin in origins:
        if origin == "*":
            raise ValueError("must name each origin: '*' is refused, as the pages may send cookies")
        if not ORIGIN.fullmatch(origin):
            raise ValueError(
                "must be origins as browsers send them, like https://example.org,http://localhost:4200 "
                f"(small letters, no / at the end, no :443 of https, no :80 of http), not {origin!r}"
            )
    return origins


class ApiSettings(EnvironmentSettings):
    """All settings of the API. Times in seconds."""

    model_config = SettingsConfigDict(env_prefix="KEYMISS_API_")

    nodes: Nodes = (Address("127.0.0.1", 30001),)
    credentials: Annotated[Credentials, NoDecode] = NO_CREDENTIALS
    time_limit_s: Positive = 5.0  # how long one question may take on the shards
    candidates: Count = 20  # sentences asked for one question at most, the best of all shards
    candidates_per_shard: Count = 20  # of them, on each shard at most
    first_candidates: Count = 4  # read at once; the others only if none of these gives a sure answer
    sure_score: float = Field(0.9, ge=0, le=1)  # an answer of a greater score is sure; 1: all are always read
    max_behind: OrNothing = 2.0  # others further behind the best candidate (sureness.outlook) are not read
    results: Count = 20  # results returned at most
    connections_per_shard: Count = 32  # GETs in flight on one master at most
    max_questions: Count = 64  # questions in flight at most; the next one gets 429
    body_time_limit_s: float = Field(10.0, ge=0.01, le=25)  # a question's body must be whole by then
    article_time_limit_s: float = Field(
        60.0, ge=0.01, le=70
    )  # an article's, of up to 8 MiB; nginx waits longer than both
    ready_time_limit_s: Positive = 10.0
    ready_cache_s: OrNothing = 1.0  # a readiness result is given again for this long
    topology_poll_s: Positive = 1.0
    rescan_s: Positive = 300.0  # full comparison of index and shard; changes are pushed in between
    title_cache_s: OrNothing = 60.0
    bm25_weight: OrNothing = 5.0  # of each signal in the ranking (keymiss.retrieval); 0: not used
    vector_weight: OrNothing = 6.4
    graph_weight: OrNothing = 1.4
    pool: Count = 100  # sentences of each signal that are ranked together
    graph_time_limit_s: Positive = 0.5  # the sentences behind a question's links; without them it goes on
    vector_time_limit_s: Positive = 0.5  # a question's vector; without it words alone are searched for
    min_score: float = Field(0.3, ge=0, le=1)  # results whose score is below are not shown; 0 shows all
    ignore_case: bool = True  # the reader does not tell capitals from small letters: one cache entry for both
    admin_key: Annotated[str, AfterValidator(checked_admin_key)] = Field(
        "", repr=False
    )  # X-Admin-Key must be it; empty: nobody changes articles
    cors_origins: Annotated[
        tuple[str, ...], NoDecode, BeforeValidator(parsed_origins)
    ] = ()  # whose pages may ask
    prometheus_url: Annotated[str, AfterValidator(checked_prometheus_url)] = Field(
        "", repr=False
    )  # whom /watch asks; empty: nobody

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Self:
        """Settings from ``env`` (default: the process's). Raises BadSetting."""
        env = os.environ if env is None else env
        access = ClusterAccess.from_env(env)
        key = secret("KEYMISS_API_ADMIN_KEY", env)
        return cls._from(env, nodes=access.nodes, credentials=access.credentials, admin_key=key)
