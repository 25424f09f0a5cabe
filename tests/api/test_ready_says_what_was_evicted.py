"""/readyz is not ready when a shard may evict what cannot be made again, or has; /metrics counts it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest
import redis
from redis.cluster import RedisCluster

from keymiss import keys
from keymiss.client import Unavailable
from keymiss.models import load
from tests.api.processes import ApiProcess, pause, resume
from tests.cluster.pipeline import settle, upload, write
from tests.servers import RedisClusterServers, RedisServer, WorkerProcess, wait_until

TAGS = (keys.tag_for_slot(0), keys.tag_for_slot(8192))
QUESTION = "Who performs viral transmission among adults"
TEXT = "Among adults, viral transmission is performed mainly by young parents of school children."
ADMIN = "an admin key of some length"


@pytest.fixture(scope="module")
def servers() -> Iterator[RedisClusterServers]:
    with RedisClusterServers(masters=2) as running:
        yield running


@pytest.fixture(scope="module")
def worker(servers: RedisClusterServers) -> Iterator[WorkerProcess]:
    with WorkerProcess(servers) as running:
        yield running


@pytest.fixture(scope="module")
def client(servers: RedisClusterServers, worker: WorkerProcess) -> Iterator[RedisCluster]:
    assert load.main(["--model", "models/reader", "--nodes", servers.addresses]) == 0
    with servers.client(decode_responses=True) as made:
        upload(made, "split.py", "tokenize.py", "qa.py")
        for number in range(8):  # some on each shard
            write(made, f"A{number}", TEXT)
        settle(made)
        yield made


@pytest.fixture(scope="module")
def api(servers: RedisClusterServers, client: RedisCluster) -> Iterator[ApiProcess]:
    env = {"KEYMISS_API_READY_CACHE_S": "0", "KEYMISS_API_MIN_SCORE": "0", "KEYMISS_API_ADMIN_KEY": ADMIN}
    with ApiProcess(servers.addresses, wait_indexed=2, env=env) as running:
        wait_until(lambda: running.missing() == [], 30, "ready")
        yield running


@pytest.fixture(autouse=True)
def memory_as_it_should_be(servers: RedisClusterServers) -> Iterator[None]:
    for server in servers.masters:
        set_memory(server, 0, "volatile-lru")
    yield
    for server in servers.masters:
        set_memory(server, 0, "volatile-lru")


def is_missing(api: ApiProcess, words: str) -> None:
    """Waits until that is all that is. (A sentence that is just gone may be the one that it tries.)"""
    wait_until(lambda: [one[: len(words)] for one in api.missing()] == [words], 10, f"only missing: {words}")


def set_memory(server: RedisServer, limit: int, policy: str) -> None:
    with server.client() as admin:
        admin.config_set("maxmemory-policy", policy)
        admin.config_set("maxmemory", limit)


def evicted_keys(api: ApiProcess, tag: str) -> float:
    page = httpx.get(f"{api.url}/metrics", timeout=30).text
    found = re.findall(rf'^keymiss_shard_evicted_keys\{{.*shard="{tag}".*\}} (\S+)$', page, re.M)
    assert len(found) == 1
    return float(found[0])


def on_shard(client: RedisCluster, number: int) -> str:
    """An article whose text lies on that shard."""
    names = [f"A{n}" for n in range(8)]
    return next(n for n in names if keys.slot_of(keys.paragraphs_key(n)) // 8192 == number)


def evict(servers: RedisClusterServers, worker: WorkerProcess, client: RedisCluster, key: str) -> None:
    """Has it evicted, as an allkeys policy might: here because somebody gave it a time."""
    server = servers.server_of(key)
    pause(worker)
    try:
        with server.client() as shard:
            assert shard.expire(key, 100000)
            set_memory(server, 1, "volatile-ttl")
            wait_until(lambda: not shard.exists(key), 10, "evicted")
    finally:
        set_memory(server, 0, "volatile-lru")
        resume(worker)
    settle(client)


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "allkeys-random"])
def test_a_policy_that_takes_everything_on_one_master_is_enough(
    servers: RedisClusterServers, api: ApiProcess, policy: str
) -> None:
    set_memory(servers.masters[1], 0, policy)
    (said,) = api.missing()
    assert said.startswith(f"shard {{{TAGS[1]}}}: its maxmemory-policy is {policy}")
    assert "volatile-lru" in said


@pytest.mark.parametrize("policy", ["noeviction", "volatile-lru", "volatile-lfu", "volatile-ttl"])
def test_the_others_are_fine(servers: RedisClusterServers, api: ApiProcess, policy: str) -> None:
    for server in servers.masters:
        set_memory(server, 0, policy)
    assert api.missing() == []


def test_evicted_sentences_are_said_until_they_are_there_again(
    servers: RedisClusterServers, worker: WorkerProcess, client: RedisCluster, api: ApiProcess
) -> None:
    name = on_shard(client, 0)
    assert evicted_keys(api, TAGS[0]) == 0
    evict(servers, worker, client, keys.sentence_key(name, keys.article_tag(name)))
    is_missing(api, f"shard {{{TAGS[0]}}}: 1 keys of articles were evicted and are missing")
    assert evicted_keys(api, TAGS[0]) == 1
    assert evicted_keys(api, TAGS[1]) == 0
    client.set(keys.paragraphs_key(name), TEXT)
    settle(client)
    wait_until(lambda: api.missing() == [], 10)
    assert evicted_keys(api, TAGS[0]) == 0


def test_an_evicted_text_is_said_until_it_is_loaded_or_deleted_over_http(
    servers: RedisClusterServers, worker: WorkerProcess, client: RedisCluster, api: ApiProcess
) -> None:
    name = on_shard(client, 1)
    for mend in ("load", "delete"):
        evict(servers, worker, client, keys.paragraphs_key(name))
        is_missing(api, f"shard {{{TAGS[1]}}}: 1 keys of articles were evicted")
        if mend == "load":
            write(client, name, TEXT)
        else:
            with api.client(ADMIN) as http:
                http.delete_article(name)
        settle(client)
        wait_until(lambda: api.missing() == [], 10)


def test_an_evicted_tensor_is_made_again_and_nothing_is_said(
    servers: RedisClusterServers, worker: WorkerProcess, client: RedisCluster, api: ApiProcess
) -> None:
    name = on_shard(client, 0)
    tensor = keys.tokenized_key(name, keys.article_tag(name), 0)
    evict(servers, worker, client, tensor)
    assert (
        client.get(keys.answer_key(name, keys.article_tag(name), 0, "Who transmits without a tensor")) in TEXT
    )
    assert client.exists(tensor)
    assert api.missing() == []


def test_an_evicted_model_is_said(
    servers: RedisClusterServers, worker: WorkerProcess, client: RedisCluster, api: ApiProcess
) -> None:
    evict(servers, worker, client, keys.model_key(TAGS[0]))
    try:
        is_missing(api, f"shard {{{TAGS[0]}}}: there is no model: keymiss models load")
    finally:
        assert load.main(["--model", "models/reader", "--nodes", servers.addresses]) == 0
    assert api.missing() == []


@pytest.mark.parametrize("policy", ["noeviction", "volatile-lru"])
def test_when_memory_is_full_questions_are_answered_and_articles_refused_with_a_clear_error(
    servers: RedisClusterServers, client: RedisCluster, api: ApiProcess, policy: str
) -> None:
    for server in servers.masters:
        set_memory(server, 1, policy)
    reply = api.ask(f"{QUESTION}, {policy}")
    assert reply.coverage.sentences.answered == reply.coverage.sentences.asked > 0
    assert "parents" in (reply.answer or "")
    assert api.missing() == []
    body = {"paper_id": "New", "metadata": {"title": "New"}, "body_text": [{"text": TEXT}]}
    with api.client(ADMIN) as http, pytest.raises(Unavailable) as raised:
        http.add_article(body)
    assert raised.value.detail == "the article's shard takes no writes: its memory is full (maxmemory)"
    with servers.masters[0].client() as shard, pytest.raises(redis.OutOfMemoryError):
        shard.set("paragraphs:{1bz}", "text")
