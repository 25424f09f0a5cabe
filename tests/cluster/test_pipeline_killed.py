"""A worker that is killed at any point while articles go in: afterwards all is as if it had not been."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from redis.cluster import RedisCluster

from keymiss.corpus.progress import waiting_on
from keymiss.corpus.prose import join_paragraphs
from keymiss.keys import paragraphs_key
from keymiss.models import load_encoder
from tests.cluster import pipeline
from tests.servers import RedisClusterServers, WorkerProcess, keymiss_info, wait_until

KILLS = 7
MOST_JOBS = 60
"""A worker is killed when it has ended at most so many jobs; what each part of the steps brings is more."""

Step = Callable[[RedisCluster], object]


def steps(articles: int, seed: int) -> list[Step]:
    """All the articles go in one after the other; after every fourth one that is there is deleted, shortened,
    or gets another year."""
    random_ = random.Random(seed)
    made: list[Step] = []
    for number in range(articles):
        paragraphs = pipeline.made_paragraphs(random_, random_.randint(1, 3), random_.randint(2, 5))
        made.append(write(f"PMC{number}.xml", paragraphs, random_.randint(2015, 2026)))
        if number % 4 == 3:
            made.append(change(f"PMC{random_.randrange(number)}.xml", random_))
    return made


def write(name: str, paragraphs: list[str], year: int) -> Step:
    return lambda client: pipeline.write(client, name, *paragraphs, year=year)


def change(name: str, random_: random.Random) -> Step:
    kind = random_.choice(("delete", "shorten", "year"))
    if kind == "delete":
        return lambda client: pipeline.delete(client, name)
    if kind == "year":
        return lambda client: client.hset(f"article:{name}", "year", 2000)
    text = join_paragraphs(pipeline.made_paragraphs(random_, 1, 2))
    return lambda client: client.set(paragraphs_key(name), text)


def parts(of: list[Step], n: int) -> Iterator[list[Step]]:
    """The steps in n parts."""
    for i in range(n):
        yield of[i * len(of) // n : (i + 1) * len(of) // n]


def jobs_done(servers: RedisClusterServers) -> int:
    total = 0
    for server in servers.masters:
        with server.client() as client:
            total += keymiss_info(client)["jobs_done"]
    return total


def load_the_encoder(servers: RedisClusterServers) -> None:
    assert load_encoder.main(["--nodes", servers.addresses]) == 0


def undisturbed(all_steps: list[Step], scripts: tuple[str, ...]) -> pipeline.Keyspace:
    """What there is when no worker dies."""
    with RedisClusterServers(masters=2) as servers, WorkerProcess(servers), servers.client() as client:
        prepare(servers, client, scripts)
        for step in all_steps:
            step(client)
        pipeline.settle(client)
        return pipeline.keyspace(servers)


def prepare(servers: RedisClusterServers, client: RedisCluster, scripts: tuple[str, ...]) -> None:
    pipeline.store_table(client)
    if "vectors.py" in scripts:
        load_the_encoder(servers)
    pipeline.upload(client, *scripts)


def killed(
    all_steps: list[Step], scripts: tuple[str, ...], kills: int, seed: int
) -> tuple[pipeline.Keyspace, int]:
    """What there is when the worker is killed so often, and how many jobs it had under way then."""
    random_ = random.Random(seed)
    with RedisClusterServers(masters=2) as servers, servers.client() as client:
        worker = WorkerProcess(servers)
        with worker:
            prepare(servers, client, scripts)
            for number, part in enumerate(parts(all_steps, kills + 1)):
                for step in part:
                    step(client)
                if number == kills:
                    break
                wait_for_a_point(servers, random_)
                worker.kill()
                wait_until(lambda: workers(servers) == 0, 10, "the shards know that it is gone")
                worker.log.write_text("")
                worker.start(wait=bool(random_.getrandbits(1)))
            pipeline.wait_caught_up(worker)
            pipeline.settle(client)
            return pipeline.keyspace(servers), requeued(servers)


def wait_for_a_point(servers: RedisClusterServers, random_: random.Random) -> None:
    """At once, when some more jobs are done, or when edges wait for the graph."""
    kind = random_.choice(("at once", "jobs", "edges"))
    goal = jobs_done(servers) + random_.randint(1, MOST_JOBS)

    def reached() -> bool:
        return jobs_done(servers) >= goal or (kind == "edges" and edges_waiting(servers) > 0)

    if kind != "at once":
        wait_until(reached, 20, f"{goal} jobs done", 0.001)


def edges_waiting(servers: RedisClusterServers) -> int:
    with servers.client() as client:
        return sum(each.edges for each in waiting_on(client).values())


def workers(servers: RedisClusterServers) -> int:
    total = 0
    for server in servers.masters:
        with server.client() as client:
            total += keymiss_info(client)["workers"]
    return total


def requeued(servers: RedisClusterServers) -> int:
    total = 0
    for server in servers.masters:
        with server.client() as client:
            total += keymiss_info(client)["jobs_requeued"]
    return total


def test_two_hundred_articles() -> None:
    seed = 1
    all_steps = steps(200, seed)
    calm = undisturbed(all_steps, pipeline.SCRIPTS)
    assert {kind for kind, _ in calm.values()} == {"string", "hash", "zset", "km-tensor"}
    disturbed, under_way = killed(all_steps, pipeline.SCRIPTS, KILLS, seed)
    assert under_way > 0
    assert pipeline.differences(calm, disturbed) == []


def test_with_vectors() -> None:
    scripts = (*pipeline.SCRIPTS, "vectors.py")
    all_steps = steps(40, 3)
    calm = undisturbed(all_steps, scripts)
    assert any(key.startswith("vectors:") for key in calm)
    disturbed, under_way = killed(all_steps, scripts, 3, 3)
    assert under_way > 0
    assert pipeline.differences(calm, disturbed) == []
