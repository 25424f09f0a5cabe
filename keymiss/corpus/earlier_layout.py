"""Data of an earlier layout, in which all that was made of an article had the tag of its shard: taken over to
the tag of the article's own slot.

What took long to make (sentences, tokens, vectors, states) is copied as it is. Concepts and the graph are
made by the functions: the old sentences go, and with them the edges under their old names; the new ones come.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from redis.cluster import RedisCluster

from keymiss import keys
from keymiss.cluster.redis_cluster import masters_of
from keymiss.corpus.key_events import keys_with

HASHES = (keys.tokens_key, keys.vectors_key, keys.lower_key)
TENSORS = (keys.tokenized_key, keys.offsets_key, keys.states_key)
BY_PART = (keys.GRAPH_PREFIX, keys.EDGES_PREFIX, keys.EVICTED_PREFIX)
AT_ONCE = 500


def old_articles(client: RedisCluster) -> list[tuple[str, str]]:
    """(article, tag) of those whose sentences have another tag than that of their text's slot, if there is a
    text: sentences without one were put there by hand, and stay."""
    found = set[tuple[str, str]]()
    for _, master in masters_of(client):
        for names in keys_with(master.execute_command, keys.SENTENCE_PREFIX, "hash"):
            for name in map(_text, names):
                try:
                    article, tag = keys.parse_article_key(name)
                except ValueError:
                    continue
                if tag != keys.article_tag(article):
                    found.add((article, tag))
    return sorted(one for one in found if client.exists(keys.paragraphs_key(one[0])))


def take_over(client: RedisCluster, article: str, old: str) -> None:
    """Copies what is made of one article, the sentences last, unless the functions have made it under the new
    tag already, and removes it under the old one. Done again after an interruption it ends the same."""
    new = keys.article_tag(article)
    if not client.exists(keys.state_key(article, new)):
        _copy_all(client, article, old, new)
    client.unlink(keys.sentence_key(article, old))  # its event has the functions take out the rest
    client.unlink(keys.state_key(article, old))


def _copy_all(client: RedisCluster, article: str, old: str, new: str) -> None:
    indexes = [_text(field) for field in client.hkeys(keys.sentence_key(article, old))]
    pairs = [(key_of(article, old), key_of(article, new)) for key_of in HASHES]
    pairs += [(key_of(article, old, idx), key_of(article, new, idx)) for key_of in TENSORS for idx in indexes]
    for at in range(0, len(pairs), AT_ONCE):
        _copy(client, pairs[at : at + AT_ONCE])
    _copy(
        client,
        [(key_of(article, old), key_of(article, new)) for key_of in (keys.sentence_key, keys.state_key)],
    )


def drop_old_sums(client: RedisCluster) -> int:
    """Removes graph, edges and lists of evicted keys that are kept under tags of no part: nobody reads them.
    Texts that such a list names are noted in the list of their part. Returns how many keys went."""
    parts, dropped = set(keys.part_tags()), 0
    for _, master in masters_of(client):
        for key in _with_tags(master, BY_PART):
            if keys.tag_in(key) in parts:
                continue
            if key.startswith(keys.EVICTED_PREFIX):
                for name, n in client.hgetall(key).items():
                    if _text(name).startswith(keys.PARAGRAPHS_PREFIX):
                        client.hset(keys.evicted_key(keys.part_of(name)), name, n)
            client.unlink(key)
            dropped += 1
    return dropped


def _with_tags(master: Any, prefixes: Sequence[str]) -> Iterator[str]:
    for prefix in prefixes:
        for names in keys_with(master.execute_command, prefix):
            yield from map(_text, names)


def _copy(client: RedisCluster, pairs: Sequence[tuple[str, str]]) -> None:
    reads = client.pipeline()
    for old, _ in pairs:
        reads.dump(old)
    dumped = [
        (new, value) for (_, new), value in zip(pairs, reads.execute(), strict=True) if value is not None
    ]
    writes = client.pipeline()
    for new, value in dumped:
        writes.restore(new, 0, value, replace=True)
    if dumped:
        writes.execute()


def _text(value: Any) -> str:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)
