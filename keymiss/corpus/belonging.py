"""Whether what was made of articles lies with what it was made of: for `keymiss doctor`.

A first look reads the names of all keys. What seems wrong then is looked at once more, by itself: while
articles are loaded or slots move, keys come and go between two commands.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import Any

from redis.cluster import RedisCluster

from keymiss import keys
from keymiss.cluster.redis_cluster import masters_of
from keymiss.corpus.catchup import CATCHUP
from keymiss.corpus.earlier_layout import drop_old_sums, take_over
from keymiss.corpus.key_events import keys_with

AT_ONCE = 500
TENSORS = (keys.TOKENIZED_PREFIX, keys.OFFSETS_PREFIX, keys.STATES_PREFIX)
OF_ARTICLES = (
    *(keys.STATE_PREFIX, keys.TOKENS_PREFIX, keys.VECTORS_PREFIX),
    *(keys.CONCEPTS_PREFIX, keys.LOWER_PREFIX),
)
ANSWERS = (f"{keys.ANSWER_PREFIX}{{", f"{keys.SPAN_PREFIX}{{")
SUMS = (keys.GRAPH_PREFIX, keys.EDGES_PREFIX, keys.EVICTED_PREFIX)


class Fault(StrEnum):
    """What may be wrong with a key."""

    TENSOR = "tensors without their sentence"
    ANSWER = "answers without their sentence"
    LEFT = "keys of articles without what they were made of"
    TAG = "articles under a tag that is not their slot's"
    SUM = "keys of a graph, of edges or evictions under a tag of no part"


@dataclass(frozen=True)
class Suspect:
    """A key, and what it was made of: a field `idx` of `source`, or `source` itself if that is None. Of
    sentences under another tag the text: without one they were put there by hand, and stay."""

    fault: Fault
    key: str
    source: str = ""
    idx: str | None = None


def faults_of(client: RedisCluster) -> list[Suspect]:
    """Those of the whole cluster that two looks find. Reads every key's name: seconds for a million."""
    return confirmed(client, list(_suspects(client)))


def counted(found: Iterable[Suspect]) -> Counter[Fault]:
    """How many there are of each fault."""
    return Counter(each.fault for each in found)


def confirmed(client: RedisCluster, suspects: Sequence[Suspect]) -> list[Suspect]:
    """Those that are wrong now."""
    found = [each for each in suspects if each.fault is Fault.SUM]
    others = iter([each for each in suspects if each.fault is not Fault.SUM])
    while some := list(islice(others, AT_ONCE)):
        pipe = client.pipeline()
        for each in some:
            pipe.exists(each.key)
            if each.idx is None:
                pipe.exists(each.source)
            else:
                pipe.hexists(each.source, each.idx)
        replies = pipe.execute()
        there = zip(some, replies[::2], replies[1::2], strict=True)
        found += [each for each, key, source in there if key and _is_wrong(each, bool(source))]
    return found


def repair(client: RedisCluster, found: Iterable[Suspect]) -> None:
    """Removes what belongs to nothing, has the functions take out what they made, and takes over articles
    with another tag. All of it may be done again."""
    found = list(found)
    for each in found:
        if each.fault is Fault.TAG:
            take_over(client, *keys.parse_article_key(each.key))
        elif each.fault is Fault.LEFT:
            node = client.get_node_from_key(each.key)
            client.execute_command("KM.NOTIFY", CATCHUP, each.key, target_nodes=node)
        elif each.fault is not Fault.SUM:
            client.unlink(each.key)
    if counted(found)[Fault.SUM]:
        drop_old_sums(client)


def _is_wrong(suspect: Suspect, has_source: bool) -> bool:
    return has_source == (suspect.fault is Fault.TAG)


def _suspects(client: RedisCluster) -> Iterator[Suspect]:
    parts = set(keys.part_tags())
    for _, master in masters_of(client):
        needed: dict[str, list[Suspect]] = defaultdict(list)  # source -> those made of it
        for names in keys_with(master.execute_command, ""):
            for name in map(_text, names):
                if name.startswith(SUMS):
                    if keys.tag_in(name) not in parts:
                        yield Suspect(Fault.SUM, name)
                    continue
                suspect = _made_of_something(name)
                if suspect is not None:
                    needed[suspect.source].append(suspect)
        yield from _without_their_source(client, needed)


def _made_of_something(name: str) -> Suspect | None:
    """What has to be there for a key; None for one that needs nothing, or is not ours."""
    try:
        if name.startswith(keys.SENTENCE_PREFIX):
            article, tag = keys.parse_article_key(name)
            fits = tag == keys.article_tag(article)
            return None if fits else Suspect(Fault.TAG, name, keys.made_from(name))
        if name.startswith(OF_ARTICLES):
            return Suspect(Fault.LEFT, name, keys.made_from(name))
        prefix = next((each for each in TENSORS if name.startswith(each)), None)
        if prefix is not None:
            hash_name, _, idx = name.removeprefix(prefix).rpartition(":")
            article, tag = keys.parse_article_key(f"{keys.SENTENCE_PREFIX}{hash_name}")
            return Suspect(Fault.TENSOR, name, keys.sentence_key(article, tag), idx)
        if name.startswith(ANSWERS):
            answer = keys.parse_answer_key(name)
            return Suspect(Fault.ANSWER, name, answer.sentence_key, answer.idx)
    except ValueError:  # somebody else's key
        pass
    return None


def _without_their_source(client: RedisCluster, needed: dict[str, list[Suspect]]) -> Iterator[Suspect]:
    sources = iter(needed)
    while some := list(islice(sources, AT_ONCE)):
        pipe = client.pipeline()
        for source in some:
            if source.startswith(keys.SENTENCE_PREFIX):
                pipe.hkeys(source)
            else:
                pipe.exists(source)
        for source, reply in zip(some, pipe.execute(), strict=True):
            fields = set(map(_text, reply)) if isinstance(reply, list) else set()
            for suspect in needed[source]:
                has_source = bool(reply) if suspect.idx is None else suspect.idx in fields
                if _is_wrong(suspect, has_source):
                    yield suspect


def _text(value: Any) -> str:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)
