"""What a shard may evict, and what it did: in words, for /readyz and `keymiss pipeline`.

Answers and question vectors carry a time to live and can be made again: a volatile-* policy takes these. An
allkeys-* policy takes articles, sentences, tensors and models as well, and says nothing of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from keymiss.keys import CONCEPT_TABLE_PREFIX, EVICTED_PREFIX

NAMES_SHOWN = 20
RIGHT_POLICY = "volatile-lru"


def policy_problem(policy: str) -> str | None:
    """What is wrong with a server's maxmemory-policy, if anything is."""
    if not policy.startswith("allkeys"):
        return None
    return (
        f"its maxmemory-policy is {policy}, which evicts articles, sentences and models when memory is "
        f"short: set {RIGHT_POLICY}"
    )


def evicted_problem(keys: int) -> str | None:
    """What is wrong when ``evicted:{tag}`` has so many entries, if anything is."""
    if not keys:
        return None
    return (
        f"{keys} keys of articles were evicted and are missing (keymiss pipeline names them): give it "
        "more memory, then keymiss catch-up, and load articles whose text is gone"
    )


def missing(evicted: Mapping[str, int]) -> Iterator[str]:
    """What is missing, in words: of ``evicted:{tag}``, key -> how many sentences that concerns."""
    parts: dict[str, list[str]] = {}
    sentences: dict[str, int] = {}
    for key, n in sorted(evicted.items()):
        what, _, name = key.partition(":")
        if what == CONCEPT_TABLE_PREFIX[:-1]:
            yield "the concept table: keymiss concepts load"
        elif what == EVICTED_PREFIX[:-1]:
            yield f"part of this list: load every article again, then HDEL {key} {key}"
        else:
            article = name.partition(":{")[0]
            parts.setdefault(article, []).append(what)
            sentences[article] = max(sentences.get(article, 0), n)
    named = [f"{article} ({', '.join(of)})" for article, of in list(parts.items())[:NAMES_SHOWN]]
    if named:
        more = f" and {len(parts) - len(named)} more" if len(parts) > len(named) else ""
        yield f"{sum(sentences.values())} sentences of {len(parts)} articles: {', '.join(named)}{more}"
