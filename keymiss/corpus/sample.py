"""The sample articles that come with Keymiss."""

from __future__ import annotations

from redis.cluster import RedisCluster

from keymiss import keys
from keymiss.resources import PROJECT

FOLDER = PROJECT / "data" / "sample"
CONCEPTS = FOLDER / "concepts.csv"


def may_be_loaded(client: RedisCluster) -> bool:
    """Whether there are no articles yet, or (some of) these: they are not put among somebody's own."""
    if any(client.exists(keys.paragraphs_key(file.stem)) for file in FOLDER.glob("*.json")):
        return True
    pattern = f"{keys.PARAGRAPHS_PREFIX}*"
    return next(client.scan_iter(pattern, count=1000), None) is None
