"""The sentences of all shards: each shard's index is asked, and one ranking is made of all."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Mapping
from operator import itemgetter

from keymiss.addresses import Address
from keymiss.cluster.credentials import NO_CREDENTIALS, Credentials
from keymiss.reading.stored_vector import Encoded
from keymiss.retrieval.candidate import Candidate
from keymiss.retrieval.corpus_filter import WHOLE_CORPUS, CorpusFilter
from keymiss.retrieval.follow import ShardFollower
from keymiss.retrieval.fuse import BM25, GRAPH, VECTORS, Mix, by_links, by_vectors, by_words, fuse
from keymiss.retrieval.index import Hits, ShardIndex
from keymiss.retrieval.lexical import added_up

Place = tuple[str, int]  # shard tag, number of the sentence in the shard's index
Ranked = list[tuple[str, Candidate]]  # with the tag of the index it is in, best first

RANKINGS_KEPT = 256
"""Of questions that come again while no index has changed: a few kilobytes each, and the linked sentences."""
LINKED_KEPT = 1000
"""A ranking with more linked sentences, of up to two hundred bytes each, is not kept."""


class Retrieval:
    """The indexes of all shards, each followed on its master. Fed by `follow` with the cluster's map."""

    def __init__(
        self,
        rescan_s: float = 300.0,
        mix: Mix | None = None,
        credentials: Credentials = NO_CREDENTIALS,
    ) -> None:
        self._rescan_s, self._mix, self._credentials = rescan_s, mix or Mix(), credentials
        self._followers: dict[str, ShardFollower] = {}
        self._leaving: list[ShardFollower] = []
        self._rankings: OrderedDict[Hashable, Ranked] = OrderedDict()

    async def follow(self, masters: Mapping[str, Address]) -> None:
        """Shard tag -> its master now. A master keeps its index when its tag changes, as slots move; in a
        failover an index moves with its shard to a new master. What a shard had that is gone is found until
        others have it."""
        old, before = self._followers, {each.address: each for each in self._followers.values()}
        gone = {tag: each for tag, each in old.items() if each.address not in masters.values()}
        self._followers = {
            tag: before.pop(address) if address in before else self._new(address, gone.get(tag))
            for tag, address in masters.items()
        }
        used = {id(each.index) for each in self._followers.values()}
        gone_now = [each for each in before.values() if id(each.index) not in used and masters]
        self._leaving = [each for each in self._leaving if each.index.articles] + gone_now
        for each in before.values():
            await (each.leave() if each in gone_now else each.stop())
        for follower in self._followers.values():
            follower.start()

    def _new(self, address: Address, known: ShardFollower | None) -> ShardFollower:
        index = known.index if known else ShardIndex()
        elsewhere = self._elsewhere(address, index)
        follower = ShardFollower(address, self._rescan_s, index, self._credentials, elsewhere)
        if known and known.ready.is_set():
            follower.ready.set()
        return follower

    def _elsewhere(self, address: Address, index: ShardIndex) -> Callable[[bytes], bool]:
        """Whether another master's index than this one's has a key's sentences."""

        def has(key: bytes) -> bool:
            others = (each for each in self._followers.values() if each.address != address)
            return any(each.keeps(key, index) for each in others)

        return has

    async def stop(self) -> None:
        """Stops following every shard."""
        await self.follow({})
        for each in self._leaving:
            await each.stop()

    def sentences(self) -> dict[str, int | None]:
        """Shard tag -> sentences indexed; None while its first scan is not through."""
        return {
            tag: follower.index.sentences if follower.ready.is_set() else None
            for tag, follower in self._followers.items()
        }

    def vectors(self) -> dict[str, int]:
        """Shard tag -> sentences that can be found by their vector."""
        return {tag: follower.index.vectors() for tag, follower in self._followers.items()}

    def lacking_vectors(self, encoder: bytes | None) -> set[str]:
        """The shards with sentences that have no vector (yet): of this encoder, or of any."""
        return {tag for tag, index in self.indexes().items() if index.lacks_vectors(encoder)}

    def indexes(self) -> dict[str, ShardIndex]:
        """Shard tag -> its index, of the shards whose first scan is through."""
        return {tag: f.index for tag, f in self._followers.items() if f.ready.is_set()}

    def some_sentence(self, tag: str) -> Candidate | None:
        """Any sentence of a shard, for checks; None when it has none."""
        follower = self._followers.get(tag)
        return follower.index.first() if follower else None

    async def candidates(
        self,
        question: str,
        per_shard: int,
        vector: Encoded | None = None,
        linked: Mapping[str, float] | None = None,
        limit: int | None = None,
        only: CorpusFilter = WHOLE_CORPUS,
        without: Collection[str] = (),
    ) -> dict[str, list[Candidate]]:
        """Shard tag -> its best sentences for the question; shards not indexed yet are left out. (Of one that
        is gone, and whose sentences no other has yet: its address.)

        The sentences of all shards are ranked together; of them at most `limit`, and `per_shard` of each
        shard, are taken. `vector`: the question's; sentences with one of its encoder are found by it.
        `linked`: sentencekey -> score, from the concept graph. `only`: what is searched; each signal gives
        its best of that. `without`: shards that are left out, too.
        """
        leaving = {str(each.address): each.index for each in self._leaving if each.index.articles}
        indexes = {tag: index for tag, index in (leaving | self.indexes()).items() if tag not in without}
        of_vector = (vector.encoder, vector.vector.tobytes()) if vector else None
        linked = linked or {}
        keeps = len(linked) <= LINKED_KEPT
        links = tuple(linked.items()) if keeps else ()
        wanted = question, of_vector, links, per_shard, limit, only

        def versions() -> Hashable:
            return tuple((tag, index.version) for tag, index in indexes.items())

        before = versions()
        ranked = self._rankings.pop((wanted, before), None) if keeps else None
        if ranked is None:
            ranked = await asyncio.to_thread(
                rank, indexes, question, self._mix, vector, linked, per_shard, limit, only
            )
        if keeps and before == versions():
            self._rankings[wanted, before] = ranked  # the last one now
            while len(self._rankings) > RANKINGS_KEPT:
                self._rankings.popitem(last=False)
        found: dict[str, list[Candidate]] = {tag: [] for tag in indexes}
        for tag, candidate in ranked:
            found[tag].append(candidate)
        return found

    async def takes_any(self, only: CorpusFilter) -> bool:
        """Whether there is a sentence that the filter takes."""
        indexes = self.indexes().values()
        return await asyncio.to_thread(lambda: any(index.within(only) for index in indexes))


def rank(
    indexes: Mapping[str, ShardIndex],
    question: str,
    mix: Mix,
    vector: Encoded | None = None,
    linked: Mapping[str, float] | None = None,
    per_shard: int | None = None,
    limit: int | None = None,
    only: CorpusFilter = WHOLE_CORPUS,
) -> Ranked:
    """The sentences of all indexes (by shard tag), best first, each with the index it is in. Once each: one
    whose slot is on its way may be in two. `Retrieval.candidates` says the rest."""
    terms = next(iter(indexes.values())).terms(question) if indexes else []
    own = {tag: index.frequencies(terms) for tag, index in indexes.items()}
    whole = added_up(own.values())
    weights = {term: whole.idf(term) for term in terms}
    words: dict[Place, float] = {}
    if mix.bm25_weight > 0:
        words = _best(indexes, lambda tag: indexes[tag].by_words(own[tag], whole, mix.pool, only), mix.pool)
    near: dict[Place, float] = {}
    if vector is not None and mix.vector_weight > 0:
        near = _best(indexes, lambda tag: indexes[tag].by_vector(vector, mix.pool, only), mix.pool)
    links = _by_links(indexes, linked or {}, mix.pool, only) if mix.graph_weight > 0 else {}
    others = _cosines(indexes, vector, (words | links).keys() - near.keys()) if vector is not None else {}
    signals = {BM25: by_words(words, mix.pool), VECTORS: by_vectors(near, others), GRAPH: by_links(links)}
    cosines = near | others
    taken: dict[str, int] = dict.fromkeys(indexes, 0)
    ranked: Ranked = []
    seen: set[str] = set()
    for fused in fuse(signals, mix.weights):
        if limit is not None and len(ranked) >= limit:
            break
        tag, number = fused.item
        if per_shard is not None and taken[tag] >= per_shard:
            continue
        sentence = indexes[tag].sentence(number)
        if sentence is None:  # it was dropped in the meantime
            continue
        candidate = Candidate(
            sentence.article,
            sentence.tag,
            sentence.idx,
            sentence.text,
            bm25=words.get(fused.item, 0.0),
            cosine=cosines.get(fused.item),
            found_by=fused.found_by,
            score=fused.score,
            coverage=indexes[tag].coverage(number, weights),
        )
        if candidate.sentencekey not in seen:
            seen.add(candidate.sentencekey)
            taken[tag] += 1
            ranked.append((tag, candidate))
    return ranked


def _best(
    indexes: Mapping[str, ShardIndex], hits_of: Callable[[str], Hits], limit: int
) -> dict[Place, float]:
    """The `limit` best of all shards, best first; equal scores in the order of shards and their indexes."""
    found = [((tag, number), score) for tag in indexes for number, score in hits_of(tag)]
    return dict(sorted(found, key=itemgetter(1), reverse=True)[:limit])


def _cosines(
    indexes: Mapping[str, ShardIndex], vector: Encoded, places: Collection[Place]
) -> dict[Place, float]:
    """Of the sentences there that have a vector of the question's encoder."""
    found: dict[Place, float] = {}
    for tag, index in indexes.items():
        cosines = index.cosines([number for of, number in places if of == tag], vector)
        found |= {(tag, number): cosine for number, cosine in cosines.items()}
    return found


def _by_links(
    indexes: Mapping[str, ShardIndex], linked: Mapping[str, float], limit: int, only: CorpusFilter
) -> dict[Place, float]:
    """The sentences that are here of those that the graph names, best first."""
    found: dict[Place, float] = {}
    for sentencekey, score in sorted(linked.items(), key=lambda one: (-one[1], one[0])):
        name, _, idx = sentencekey.rpartition(":")
        article, _, tag = name.rpartition(":")
        tag = tag.removeprefix("{").removesuffix("}")
        for shard, index in indexes.items():
            number = index.number(article, tag, idx, only)
            if number is not None:
                found[shard, number] = score
                break
        if len(found) == limit:
            break
    return found
