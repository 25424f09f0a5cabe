"""What the shards, models and functions say of themselves, asked at each scrape; nodes that come and go."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from redis.cluster import RedisCluster

from keymiss import keys
from keymiss.client import Unavailable
from tests.api.processes import SENTENCES, ApiProcess, fill, pause, resume, shard_tags
from tests.api.scraping import Scraped, scrape
from tests.servers import RedisClusterServers, RedisServer, WorkerProcess, free_port, wait_until

MASTERS = 3
FAST_S = 0.9  # under the second that a node which does not answer has
SCRIPT = """
import json

def answer(record):
    if 'fails' in record['key']:
        raise ValueError('as it was told')
    text = json.dumps({'answer': 'viral', 'score': 0.9})
    execute('SET', record['key'], text)
    override_reply(text)

def other(record):
    override_reply('x')

GB(desc='answer').foreach(answer).register(
    prefix='bertspan', mode='async_local', eventTypes=['keymiss'], commands=['get'])
GB().foreach(other).register(prefix='other:*', mode='async_local', eventTypes=['keymiss'], commands=['get'])
"""


@pytest.fixture(scope="module")
def shards() -> Iterator[RedisClusterServers]:
    servers = RedisClusterServers("--cluster-require-full-coverage", "no", masters=MASTERS, replicas=1)
    with servers:
        fill(servers, question=None)
        yield servers


@pytest.fixture(scope="module")
def client(shards: RedisClusterServers) -> Iterator[RedisCluster]:
    """A worker runs the functions."""
    with WorkerProcess(shards, "--backend", "dummy"), shards.client() as made:
        assert made.execute_command("RG.PYEXECUTE", SCRIPT, target_nodes=made.get_primaries()[0]) == b"OK"
        yield made


@pytest.fixture(scope="module")
def api(shards: RedisClusterServers, client: RedisCluster) -> Iterator[ApiProcess]:
    """Told of one node of the cluster, and of one that is not there."""
    with ApiProcess(f"{shards.masters[0].address},127.0.0.1:{free_port()}", wait_indexed=MASTERS) as running:
        yield running


def absent(api: ApiProcess) -> str:
    return api.nodes.partition(",")[2]


def fast(api: ApiProcess) -> Scraped:
    """A scrape that did not wait for a node: one of several, as other processes may hold up a single one."""

    def quick() -> Scraped | None:
        start_s = time.monotonic()
        scraped = scrape(api.url)
        return scraped if time.monotonic() - start_s < FAST_S else None

    return wait_until(quick, 20, f"a scrape within {FAST_S} s")


def roles(scraped: Scraped) -> dict[str, tuple[str, str]]:
    """Node -> role and shard."""
    labels = [dict(at) for at in scraped.by("keymiss_node_info")]
    return {each["node"]: (each["role"], each["shard"]) for each in labels}


def test_all_nodes_of_the_cluster_are_found(api: ApiProcess, shards: RedisClusterServers) -> None:
    scraped = scrape(api.url)
    up = scraped.values_of("keymiss_node_up", "node")
    assert up == {node.address: 1 for node in shards.nodes} | {absent(api): 0}
    tags = shard_tags(MASTERS)
    expected = dict(
        zip((node.address for node in shards.masters), (("master", tag) for tag in tags), strict=True)
    )
    expected |= dict(
        zip((node.address for node in shards.replicas), (("replica", tag) for tag in tags), strict=True)
    )
    assert roles(scraped) == expected
    assert scraped.value("keymiss_cluster_slots_covered") == 16384
    assert scraped.value("keymiss_cluster_shards") == MASTERS


def test_every_figure_of_the_module_by_shard_and_master(api: ApiProcess, shards: RedisClusterServers) -> None:
    scraped = scrape(api.url)
    with shards.masters[1].client() as master:
        figures = master.execute_command("KM.STATS")[::2]
    assert len(figures) > 30
    names = {name for name, _ in scraped.samples if name.startswith("keymiss_shard_")}
    at = {"shard": shard_tags(MASTERS)[1], "node": shards.masters[1].address}
    for figure in map(bytes.decode, figures):
        stem = f"keymiss_shard_{figure.replace('oldest_job_ms', 'oldest_job_seconds')}"
        assert {stem, f"{stem}_total"} & names, figure
    for name in names:
        assert len(scraped.by(name)) == MASTERS, name
        assert scraped.value(name, **at) is not None, name
    assert scraped.values_of("keymiss_shard_workers", "shard") == dict.fromkeys(shard_tags(MASTERS), 1)
    assert scraped.values_of("keymiss_shard_registrations", "shard") == dict.fromkeys(shard_tags(MASTERS), 2)


def test_questions_are_seen_by_api_and_shards_alike(api: ApiProcess) -> None:
    before = scrape(api.url)
    for _ in range(2):
        assert api.ask("Which viral load")
    grown = scrape(api.url).since(before)
    one = len(SENTENCES)
    for tag in shard_tags(MASTERS):
        assert grown.value("keymiss_sentence_answers_total", shard=tag, outcome="computed") == one
        assert grown.value("keymiss_sentence_answers_total", shard=tag, outcome="cached") == one
        name = "keymiss_sentence_answer_duration_seconds_count"
        assert grown.value(name, shard=tag, cached="no") == one
        assert grown.value(name, shard=tag, cached="yes") == one
        assert grown.total("keymiss_shard_filter_hits_total", shard=tag) == one
        assert grown.total("keymiss_shard_filter_misses_total", shard=tag) == one
        assert grown.total("keymiss_shard_jobs_done_total", shard=tag) == one
        for what in ("triggered", "done"):
            assert grown.value(f"keymiss_registration_{what}_total", shard=tag, registration="answer") == one
        assert grown.value("keymiss_registration_failed_total", shard=tag, registration="answer") == 0


def test_a_function_that_fails_is_seen(api: ApiProcess) -> None:
    before = scrape(api.url)
    with pytest.raises(Unavailable):
        api.ask("Which viral load fails")
    grown = scrape(api.url).since(before)
    failed = MASTERS * len(SENTENCES)
    assert grown.total("keymiss_sentence_answers_total", outcome="failed") == failed
    assert grown.total("keymiss_shard_jobs_failed_total") == failed
    assert grown.total("keymiss_registration_failed_total", registration="answer") == failed
    assert grown.total("keymiss_registration_failed_total") == failed


def test_a_registration_without_description_is_named_by_what_it_reads(api: ApiProcess) -> None:
    names = {dict(at)["registration"] for at in scrape(api.url).by("keymiss_registration_done_total")}
    assert names == {"answer", "KeysReader other:"}


def test_models_and_the_graph(api: ApiProcess, client: RedisCluster) -> None:
    tag = shard_tags(MASTERS)[2]
    assert scrape(api.url).by("keymiss_model_calls_total") == {}
    model = keys.model_key(tag)
    client.execute_command("AI.MODELSTORE", model, "DUMMY", "CPU", "BLOB", "{}")
    node = client.get_node_from_key(model)
    client.execute_command("KM.MODELRAN", model, 3, 7, 1_500_000, 1, target_nodes=node)
    part = next(part for part in keys.part_tags() if client.get_node_from_key(keys.edges_key(part)) == node)
    client.xadd(keys.edges_key(part), {"a": "b"})
    client.zadd(keys.graph_nodes_key(part), {"KC0001": 1, "KC0002": 1})
    scraped = scrape(api.url)
    of_model = {
        what: scraped.value(f"keymiss_model_{what}_total", shard=tag, model="bert-qa")
        for what in ("calls", "samples", "errors", "duration_seconds")
    }
    assert of_model == {"calls": 3, "samples": 7, "errors": 1, "duration_seconds": 1.5}
    assert scraped.values_of("keymiss_shard_edges_waiting", "shard")[tag] == 1
    assert scraped.values_of("keymiss_shard_graph_concepts", "shard")[tag] == 2


def test_a_node_that_does_not_answer_is_waited_for_once_for_all(
    api: ApiProcess, shards: RedisClusterServers
) -> None:
    """Scrapes at the same time are one: the other nodes are asked once."""
    node = shards.replicas[2]
    before = asked(shards.masters[0])
    pause(node)
    try:
        with ThreadPoolExecutor(8) as pool:
            scrapes = list(pool.map(lambda _: scrape(api.url), range(8)))
    finally:
        resume(node)
        shards.wait_ok()
    for scraped in scrapes:
        up = scraped.values_of("keymiss_node_up", "node")
        assert {name for name, value in up.items() if not value} == {node.address, absent(api)}
        assert len(scraped.by("keymiss_shard_workers")) == MASTERS
    assert asked(shards.masters[0]) - before == 1


def asked(master: RedisServer) -> int:
    """How many times somebody asked this node for its figures."""
    with master.client() as client:
        return int(client.info("commandstats").get("cmdstat_km.stats", {"calls": 0})["calls"])


def test_a_killed_master_is_down_and_its_replica_takes_over(
    api: ApiProcess, shards: RedisClusterServers
) -> None:
    killed, replica, tag = shards.masters[1], shards.replicas[1], shard_tags(MASTERS)[1]
    killed.kill()
    scraped = fast(api)
    assert scraped.value("keymiss_node_up", node=killed.address) == 0
    assert scraped.value("keymiss_node_up", node=replica.address) == 1
    assert not scraped.by("keymiss_shard_workers", node=killed.address)
    assert len(scraped.by("keymiss_shard_workers", shard=shard_tags(MASTERS)[0])) == 1
    scraped = wait_until(
        lambda: (now := scrape(api.url)) and roles(now)[replica.address] == ("master", tag) and now,
        30,
        "the replica is master",
    )
    assert scraped.value("keymiss_cluster_slots_covered") == 16384
    assert scraped.value("keymiss_cluster_shards") == MASTERS
    assert scraped.value("keymiss_node_up", node=killed.address) == 0
    assert len(scraped.by("keymiss_shard_workers", shard=tag, node=replica.address)) == 1
    killed.start()
    wait_until(
        lambda: (
            (now := scrape(api.url)).value("keymiss_node_up", node=killed.address) == 1
            and roles(now)[killed.address] == ("replica", tag)
        ),
        30,
        "it is back as replica",
    )


def test_a_node_that_was_forgotten_disappears(api: ApiProcess, shards: RedisClusterServers) -> None:
    """Last: it breaks the cluster."""
    gone = shards.replicas[2]
    with gone.client() as client:
        gone_id = client.execute_command("CLUSTER", "MYID")
    gone.kill()
    assert scrape(api.url).value("keymiss_node_up", node=gone.address) == 0
    for node in shards.nodes:
        if node is not gone:
            with node.client() as client:
                client.execute_command("CLUSTER", "FORGET", gone_id)
    scraped = scrape(api.url)
    assert scraped.value("keymiss_node_up", node=gone.address) is None
    assert scraped.value("keymiss_node_up", node=absent(api)) == 0, "this one is configured"


def test_without_a_cluster_it_says_so() -> None:
    with ApiProcess(f"127.0.0.1:{free_port()}") as api:
        scraped = fast(api)
        assert scraped.by("keymiss_node_up") == {frozenset({("node", api.nodes)}): 0}
        assert scraped.value("keymiss_cluster_slots_covered") == 0
        assert scraped.value("keymiss_cluster_shards") == 0
        assert scraped.by("keymiss_shard_workers") == {}
        assert (scraped.value("process_cpu_seconds_total") or 0) > 0
        assert scraped.by("python_info")


def test_a_server_of_its_own_is_one_shard_with_every_slot() -> None:
    with RedisServer() as server, ApiProcess(server.address) as api:
        scraped = scrape(api.url)
        assert roles(scraped) == {server.address: ("master", shard_tags(1)[0])}
        assert scraped.value("keymiss_cluster_slots_covered") == 16384
        assert scraped.value("keymiss_shard_workers", shard=shard_tags(1)[0], node=server.address) == 0


def test_it_is_in_no_openapi_document(api: ApiProcess) -> None:
    assert "/metrics" not in httpx.get(f"{api.url}/openapi.json").json()["paths"]
