"""What is left of a load, by a cluster that is a dictionary and a clock that is set by hand."""

from __future__ import annotations

import hashlib
from collections import deque
from typing import Any, cast

import pytest
from redis.cluster import RedisCluster

from keymiss import keys
from keymiss.addresses import Address
from keymiss.cluster.topology import Shard
from keymiss.corpus import left_to_do
from keymiss.corpus.article_file import Article
from keymiss.corpus.left_to_do import LeftToDo, Stage, in_words
from keymiss.corpus.loading import Step

TAG = keys.tag_for_slot(0)


class Cluster:
    """What LeftToDo asks one: states, sizes of hashes, and whether a model is there."""

    def __init__(self, *models: str) -> None:
        self.models, self.states, self.sizes = models, {}, {}  # type: ignore[var-annotated]
        self.replies: deque[Any] = deque()
        self.asked = 0

    def exists(self, key: str) -> int:
        return int(key in self.models)

    def pipeline(self) -> Cluster:
        return self

    def hmget(self, key: str, *_: str) -> None:
        self.asked += 1
        self.replies.append(self.states.get(key, (None, None)))

    def hlen(self, key: str) -> None:
        self.replies.append(self.sizes.get(key, 0))

    def execute(self) -> list[Any]:
        found = list(self.replies)
        self.replies.clear()
        return found

    def split(self, article: Article, sentences: int, text: str | None = None) -> None:
        digest = hashlib.sha1((text or article.text).encode()).hexdigest()
        self.states[keys.state_key(article.name, keys.article_tag(article.name))] = (
            digest.encode(),
            str(sentences).encode(),
        )

    def made(self, article: Article, tokens: int = 0, vectors: int = 0, states: int = 0) -> None:
        for key_of, n in (
            (keys.tokens_key, tokens),
            (keys.vectors_key, vectors),
            (keys.lower_key, states),
        ):
            self.sizes[key_of(article.name, keys.article_tag(article.name))] = n


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture(autouse=True)
def one_shard(monkeypatch: pytest.MonkeyPatch) -> None:
    shard = Shard(Address("127.0.0.1", 1), "node")
    monkeypatch.setattr(left_to_do, "shards_of", lambda client: (shard,))


def article(number: int, characters: int = 1000) -> Article:
    return Article(f"A{number}", {}, ["x" * characters])


def step(*articles: Article, written: bool = True, replaced: int = 0) -> Step:
    names = frozenset(each.name for each in articles) if written else frozenset[str]()
    return Step(len(articles), articles, names, replaced)


def started(cluster: Cluster) -> tuple[LeftToDo, Clock]:
    clock = Clock()
    return LeftToDo(cast(RedisCluster, cluster), clock), clock


def stages_after(left: LeftToDo, clock: Clock, seconds: float) -> dict[str, Stage]:
    clock.now_s += seconds
    assert left.look()
    return {stage.name: stage for stage in left.stages()}


def test_stages_rates_and_the_time_left() -> None:
    cluster = Cluster(keys.encoder_key(TAG))
    left, clock = started(cluster)
    articles = [article(number) for number in range(4)]
    left.add(step(*articles))
    (split,) = stages_after(left, clock, 1).values()
    assert split == Stage("split", "articles", 0, 4, True, 0.0, None), "nothing has begun"
    assert in_words([split]) == "split 0 of 4 articles; time left not known yet"
    for each in articles[:2]:
        cluster.split(each, 10)
    cluster.made(articles[0], tokens=10, vectors=5)
    found = stages_after(left, clock, 1)
    assert list(found) == ["split", "tokenized", "with vectors"], "states never begin without a model"
    assert (found["split"].done, found["split"].rate, found["split"].left_s) == (2, 1.0, 2.0)
    tokenized = found["tokenized"]
    assert (tokenized.done, tokenized.total, tokenized.exact) == (10, 40, False), "by the length of the text"
    assert (tokenized.rate, tokenized.left_s) == (5.0, 6.0)
    assert in_words(list(found.values())) == (
        "split 2 of 4 articles, 1/s; tokenized 10 of about 40 sentences, 5/s; "
        "with vectors 5 of about 40 sentences, 2/s; 0:14 left"
    )
    for each, sentences in zip(articles, (10, 10, 12, 12), strict=True):
        cluster.split(each, sentences)
        cluster.made(each, tokens=sentences, vectors=sentences)
    split, *others = stages_after(left, clock, 1).values()
    assert (split.done, split.total, split.left_s) == (4, 4, 0.0)
    assert {(stage.done, stage.total, stage.exact, stage.left_s) for stage in others} == {(44, 44, True, 0.0)}
    assert in_words([split, *others]).endswith("; 0:00 left")


def test_what_is_done_is_not_asked_again() -> None:
    cluster = Cluster(keys.encoder_key(TAG))
    left, clock = started(cluster)
    articles = [article(number) for number in range(3)]
    left.add(step(*articles))
    cluster.split(articles[0], 1)
    cluster.made(articles[0], tokens=1, vectors=1)
    cluster.split(articles[1], 0)  # skipped: it is in German
    cluster.split(articles[2], 1)
    cluster.made(articles[2], tokens=1)
    stages_after(left, clock, 1)
    cluster.asked = 0
    found = stages_after(left, clock, 1)
    assert cluster.asked == 1, "of the one without vectors"
    assert found["split"].done == 3


def test_what_was_done_before_does_not_count_for_the_rate() -> None:
    cluster = Cluster()
    left, clock = started(cluster)
    there, new = article(1), article(2)
    cluster.split(there, 1000)
    cluster.made(there, tokens=1000)
    left.add(step(there, written=False))
    left.add(step(new))
    cluster.split(new, 10)
    cluster.made(new, tokens=5)
    found = stages_after(left, clock, 1)
    assert (found["tokenized"].done, found["tokenized"].total) == (1005, 1010)
    assert (found["tokenized"].rate, found["tokenized"].left_s) == (5.0, 1.0)


def test_of_a_replaced_article_the_time_is_not_known() -> None:
    cluster = Cluster()
    left, clock = started(cluster)
    changed = article(1)
    cluster.split(changed, 10, text="its old text")
    cluster.made(changed, tokens=10)
    left.add(step(changed, replaced=1))
    (split,) = stages_after(left, clock, 1).values()
    assert (split.done, split.left_s) == (0, None)
    cluster.split(changed, 10)
    assert stages_after(left, clock, 1)["tokenized"].left_s is None


def test_it_looks_once_a_second_and_at_a_part_of_many(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster()
    left, clock = started(cluster)
    left.add(step(*(article(number, 10) for number in range(250))))
    assert left.look()
    assert cluster.asked == 250
    clock.now_s += 0.5
    assert not left.look()
    monkeypatch.setattr(cluster, "execute", _slow(cluster, clock))
    clock.now_s += 0.5
    cluster.asked = 0
    assert left.look()
    assert cluster.asked == 100, "the rest in its turn"


def _slow(cluster: Cluster, clock: Clock) -> Any:
    execute = cluster.execute

    def slow() -> list[Any]:
        clock.now_s += 0.2
        return execute()

    return slow


def test_hours_are_told() -> None:
    stages = [Stage("split", "articles", 1, 2, True, 1.0, seconds) for seconds in (3.0, 7384.0)]
    assert in_words(stages).endswith("; 2:03:04 left")
