"""What a run writes into a cluster and removes at the end; questions put to paragraphs there by GET."""

from __future__ import annotations

import json
import re
import signal
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import RedisClusterException
from redis.retry import Retry

from keymiss import keys
from keymiss.api.questions.question_in_key import question_in_key
from keymiss.cluster.redis_cluster import shards_of
from keymiss.cluster.topology import Shard
from keymiss.corpus.progress import PipelineStuck, wait_processed
from keymiss.local.cluster_access import NoClusterError
from keymiss.local.cluster_access import connect as connect_cluster
from keymiss.models.asking import EvaluateError, Given, Item, Part, Way, ms_since

ASK_LIMIT_S = 60.0  # of one wait for the cluster or the API; the module's own is 30 s
ASK_TRIES = 3  # while shards are busy: a worker that has just started loads the model first
REMOVE_LIMIT_S = 300.0  # until the functions have taken out what they made of articles
IDLE_LIMIT_S = 10.0  # how long jobs that still run are waited for before what they wrote is removed
WRITE_BATCH = 500


def connect(nodes: str) -> RedisCluster:
    """A client whose every wait ends, and that repeats nothing. EvaluateError if no node answers."""
    try:
        return connect_cluster(
            nodes,
            decode_responses=True,
            encoding_errors="surrogateescape",  # keys of others may be any bytes
            socket_timeout=ASK_LIMIT_S,
            retry=Retry(NoBackoff(), 0),
        )
    except NoClusterError as error:
        raise EvaluateError(str(error)) from error


def names_of(part: Part, run: str) -> list[str]:
    """A name for each article of the part, with the run's own prefix. It has no underscore and no brace."""
    stem = re.sub(r"[^A-Za-z0-9.]+", "-", part.name)
    return [f"{run}-{stem}-{number}" for number in range(len(part.articles))]


@dataclass
class Visit:
    """What one run writes into a cluster: all is named by `run`, so that it is known again."""

    client: RedisCluster
    run: str = field(default_factory=lambda: f"evaluate-{uuid.uuid4().hex[:8]}")
    asked: set[str] = field(default_factory=set)  # questions put to any sentence, as in keys, with
    cached_before: set[str] = field(default_factory=set)  # what was cached for them before
    loaded: bool = False  # articles, of which the functions made more than keys of that name: the graph

    @property
    def marker(self) -> str:
        """A word that stands nowhere else, for sentences that are looked for."""
        return self.run.replace("-", "")

    @cached_property
    def shards(self) -> tuple[Shard, ...]:
        """As they were at the first look."""
        return shards_of(self.client)

    def store(self, article: str, sentences: Mapping[str, str], tag: str | None = None) -> None:
        """Write a hash of sentences, in the article's slot or that of `tag`."""
        key, pairs = keys.sentence_key(article, tag or keys.article_tag(article)), list(sentences.items())
        for at in range(0, len(pairs), WRITE_BATCH):
            self.client.hset(key, mapping=dict(pairs[at : at + WRITE_BATCH]))

    def scan(self, pattern: str) -> Iterator[str]:
        """The names of the masters' keys that match."""
        for node in self.client.get_primaries():
            yield from self.client.scan_iter(pattern, count=1000, target_nodes=node)

    def will_ask(self, questions: set[str]) -> None:
        """The API asks these about sentences of others too: those answers have to go as well."""
        self.asked = {
            question_in_key(each, ignore_case) for each in questions for ignore_case in (True, False)
        }
        self.cached_before = set(self._cached_for(self.asked))

    def _cached_for(self, questions: set[str]) -> Iterator[str]:
        return (key for key in self.scan("bert*{*}_*") if _question_in(key) in questions)

    def forget(self, questions: set[str] | None = None) -> None:
        """Remove what is cached for questions in the form of keys, by default all that are asked: they are
        read anew the next time."""
        cached = list(self._cached_for(self.asked if questions is None else questions))
        self.unlink(cached)
        self.cached_before.difference_update(cached)

    def remove(self) -> None:
        """All that was written. The texts and sentences first: nothing is kept for one that is gone."""
        for prefix in (keys.PARAGRAPHS_PREFIX, keys.ARTICLE_PREFIX, keys.SENTENCE_PREFIX):
            self.unlink(self.scan(f"{prefix}{self.run}-*"))
        try:
            if self.loaded:
                wait_processed(self.client, REMOVE_LIMIT_S)
        finally:
            self._wait_idle()
            self.unlink(self.scan(f"*{self.run}-*"))
            self.unlink(self.scan(f"bert*_{self.marker}*"))
            self.unlink(key for key in self._cached_for(self.asked) if key not in self.cached_before)

    def unlink(self, names: Iterable[str]) -> None:
        """Delete these keys."""
        for key in list(names):
            self.client.unlink(key)

    def _wait_idle(self) -> None:
        """Until no shard has a job, or IDLE_LIMIT_S: a job that still runs may write a tensor."""
        until_s = time.monotonic() + IDLE_LIMIT_S
        while time.monotonic() < until_s and any(map(self._jobs, self.client.get_primaries())):
            time.sleep(0.05)

    def _jobs(self, node: ClusterNode) -> int:
        flat = self.client.execute_command("KM.STATS", target_nodes=node)
        stats = dict(zip(flat[::2], flat[1::2], strict=True))
        return sum(int(stats[name]) for name in ("jobs_queued", "events_queued", "jobs_running"))


def _question_in(key: str) -> str:
    """Of an answer, a vector or the states of a question; empty for other keys."""
    if key.startswith(f"{keys.QUESTION_STATES_PREFIX}{{"):
        return key.partition("_")[2].partition("_")[2]
    try:
        if key.startswith(f"{keys.VECTOR_PREFIX}{{"):
            return keys.parse_vector_key(key)[1]
        return keys.parse_answer_key(key).question
    except ValueError:
        return ""


@contextmanager
def visiting(nodes: str) -> Iterator[Visit]:
    """A visit that leaves nothing behind, however it ends; SIGTERM ends it as Ctrl-C does."""
    with connect(nodes) as client:
        visit = Visit(client)
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            yield visit
        finally:
            try:
                with not_interrupted():
                    visit.remove()
            except (redis.RedisError, RedisClusterException, PipelineStuck) as error:
                raise EvaluateError(f"keys named {visit.run} could not be removed: {error}") from error
            finally:
                signal.signal(signal.SIGTERM, before)


@contextmanager
def not_interrupted() -> Iterator[None]:
    """A second Ctrl-C does not stop the removal; its waits have limits."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def by_cluster(visit: Visit, part: Part) -> Way:
    """Stores the paragraphs, each as one sentence, and asks by GET of bertspan..."""
    names = names_of(part, visit.run)
    for name, article in zip(names, part.articles, strict=True):
        visit.store(name, {str(paragraph.number): paragraph.context for paragraph in article})

    def ask(item: Item) -> Given:
        name = names[item.article]
        key = keys.span_key(name, keys.article_tag(name), item.paragraph.number, item.question.question)
        for _ in range(ASK_TRIES):
            began_s, problem = time.perf_counter(), ""
            try:
                raw = visit.client.get(key)
                break
            except (redis.RedisError, RedisClusterException) as error:
                problem = str(error) or type(error).__name__
            if not problem.startswith(("TIMEOUT ", "BUSY ")):
                break
        if problem:
            return Given("", 0.0, ms_since(began_s), problem)
        if raw is None:
            raise EvaluateError("no function answers bertspan: keymiss gears upload")
        known = json.loads(raw)
        return Given(known["answer"], float(known["score"]), ms_since(began_s))

    return ask
