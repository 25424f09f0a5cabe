"""How far the pipeline is: what waits on every shard, and what came of the articles."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from redis.cluster import RedisCluster

from keymiss import keys
from keymiss.cluster.redis_cluster import masters_of
from keymiss.cluster.topology import Shard
from keymiss.corpus.eviction_report import evicted_problem, missing, policy_problem

POLL_S = 0.05
STUCK_S = 60.0
"""No figure has moved for so long: nothing will come any more, or a worker is away."""
STUCK = "See RG.DUMPREGISTRATIONS (lastError) and the worker's log."
SLOW = "It goes on: keymiss wait waits for the rest, --timeout-s says how long."
NAMES_AT_ONCE = 500
GRAPH_CONCEPTS = "concepts in the graph"


class PipelineStuck(RuntimeError):
    """What waits did not become less; the text says where and what to look at."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits on one shard: key events (queued and running), entries of the edge stream; workers attached;
    jobs done since the server started."""

    events: int
    edges: int
    workers: int
    done: int


def waiting_on(client: RedisCluster) -> dict[Shard, Waiting]:
    """What waits on each shard."""
    found = {}
    for shard, master in masters_of(client):
        flat = master.execute_command("KM.STATS")
        stats = {_text(name): int(value) for name, value in zip(flat[::2], flat[1::2], strict=True)}
        edges = sum(master.xlen(keys.edges_key(part)) for part in shard.parts)
        found[shard] = Waiting(
            stats["events_queued"] + stats["events_running"], edges, stats["workers"], stats["jobs_done"]
        )
    return found


def wait_processed(
    client: RedisCluster, timeout_s: float, tell: Callable[[int], None] = lambda left: None
) -> None:
    """Until nothing waits on any shard; `tell` gets how much does. PipelineStuck when it takes longer than
    `timeout_s`, or nothing moves for STUCK_S.

    Shards are asked one after the other, and a job on one may give another one work: so nothing waits when
    that was so twice, and no job ended in between."""
    start = moved = time.monotonic()
    last = -1
    while True:
        now = waiting_on(client)
        left = sum(each.events + each.edges for each in now.values())
        tell(left)
        done = sum(each.done for each in now.values())
        if left == 0 and done == last:
            return
        if done != last:  # what fails and comes again moves nothing
            last, moved = done, time.monotonic()
        stuck = time.monotonic() - moved > STUCK_S
        if stuck or time.monotonic() - start > timeout_s:
            places = "; ".join(
                f"{shard.address}: {each.events} events, {each.edges} edges, {each.workers} workers"
                for shard, each in now.items()
                if each.events or each.edges
            )
            raise PipelineStuck(
                f"not processed after {time.monotonic() - start:.0f} s: {places}. "
                + (STUCK if stuck else SLOW)
            )
        time.sleep(POLL_S)


@dataclass(slots=True)
class Outcome:
    """What came of articles: `skipped` and `left_out` have (article, why)."""

    articles: int = 0
    sentences: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    unprocessed: list[str] = field(default_factory=list)


def outcome_of(client: RedisCluster, names: Iterable[str]) -> Outcome:
    """Reads the state of the articles."""
    outcome = Outcome()
    remaining = list(names)
    for at in range(0, len(remaining), NAMES_AT_ONCE):
        part = remaining[at : at + NAMES_AT_ONCE]
        pipe = client.pipeline()
        for name in part:
            pipe.hmget(keys.state_key(name, keys.article_tag(name)), "sentences", "skipped", "left_out")
        for name, (sentences, skipped, left_out) in zip(part, pipe.execute(), strict=True):
            outcome.articles += 1
            outcome.sentences += int(sentences or 0)
            if sentences is None:
                outcome.unprocessed.append(name)
            if skipped:
                outcome.skipped.append((name, _text(skipped)))
            elif left_out:
                outcome.left_out.append((name, _text(left_out)))
    return outcome


@dataclass(frozen=True, slots=True)
class Memory:
    """What one shard may evict, and did: `evicted` has the keys of articles that are missing for it, and how
    many sentences each concerns."""

    policy: str
    evicted: Mapping[str, int]

    def problems(self) -> list[str]:
        """What is wrong, a line each."""
        lines = [policy_problem(self.policy), evicted_problem(len(self.evicted)), *missing(self.evicted)]
        return [line for line in lines if line]


def memory_of(client: RedisCluster) -> dict[Shard, Memory]:
    """That of each shard's master."""
    found = {}
    for shard, master in masters_of(client):
        evicted = dict[Any, Any]()
        for part in shard.parts:
            evicted |= master.hgetall(keys.evicted_key(part))
        policy = _text(master.info("memory")["maxmemory_policy"])
        found[shard] = Memory(policy, {_text(key): int(n) for key, n in evicted.items()})
    return found


def counts(client: RedisCluster) -> dict[Shard, dict[str, int]]:
    """How many keys and entries of each stage are on each shard. Reads every key's name: seconds for a
    million."""
    return {shard: _counts_of(master, shard.parts) for shard, master in masters_of(client)}


def _counts_of(shard: Any, parts: Iterable[str]) -> dict[str, int]:
    sums = {
        "sentences": keys.SENTENCE_PREFIX,
        "tokenized": keys.TOKENS_PREFIX,
        "with states": keys.LOWER_PREFIX,
        "with concepts": keys.CONCEPTS_PREFIX,
        "with vectors": keys.VECTORS_PREFIX,
    }
    numbers = {"articles": _count(shard, keys.PARAGRAPHS_PREFIX), "split": _count(shard, keys.STATE_PREFIX)}
    for what, prefix in sums.items():
        numbers[what] = sum(
            shard.hlen(key) for key in shard.scan_iter(f"{prefix}*", count=1000, _type="hash")
        )
    concepts = {concept for part in parts for concept in shard.zrange(keys.graph_nodes_key(part), 0, -1)}
    numbers[GRAPH_CONCEPTS] = len(concepts)
    numbers["edges waiting"] = sum(shard.xlen(keys.edges_key(part)) for part in parts)
    return numbers


def _count(shard: Any, prefix: str) -> int:
    return sum(1 for _ in shard.scan_iter(f"{prefix}*", count=1000))


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
