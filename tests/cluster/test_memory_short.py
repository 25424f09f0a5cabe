"""When memory is short: what is evicted of articles is noted until it is there again, and said by
`keymiss pipeline`; when nothing may be evicted, writes are refused with a clear error."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.cluster import RedisCluster

from keymiss import keys
from keymiss.cluster.redis_cluster import shards_of
from keymiss.cluster.topology import shard_at, shard_of
from tests.api.processes import pause, resume
from tests.cluster import pipeline
from tests.cluster.pipeline import cli, keyspace, sentences_of, settle, write
from tests.servers import RedisClusterServers, RedisServer, WorkerProcess, wait_until

TABLE = pipeline.table("C1,influenza,flu|influenza virus", "C2,pneumonia,lung inflammation", "C3,fever,")
FIRST = "Influenza often begins with fever and cough."
SECOND = "Flu can lead to pneumonia when nothing is done about it."

Running = tuple[RedisClusterServers, WorkerProcess, RedisCluster]


@pytest.fixture(scope="module")
def system() -> Iterator[Running]:
    with pipeline.running() as made:
        yield made


@pytest.fixture
def client(system: Running) -> Iterator[RedisCluster]:
    """An empty cluster with a concept table, and nothing of it noted."""
    servers, _, made = system
    pipeline.store_table(made, TABLE)
    for server in servers.masters:
        set_memory(server, 0, "volatile-lru")
    yield made
    for server in servers.masters:
        set_memory(server, 0, "noeviction")
    settle(made)
    for prefix in (keys.PARAGRAPHS_PREFIX, keys.ARTICLE_PREFIX, keys.SENTENCE_PREFIX):
        for key in list(made.scan_iter(f"{prefix}*", target_nodes=RedisCluster.PRIMARIES)):
            made.delete(key)
    settle(made)
    for part in keys.part_tags():
        made.unlink(keys.evicted_key(part))


def set_memory(server: RedisServer, limit: int, policy: str) -> None:
    with server.client() as admin:
        admin.config_set("maxmemory-policy", policy)
        admin.config_set("maxmemory", limit)


def evict(system: Running, *names: str) -> None:
    """Has keys of one shard evicted, as an allkeys policy might: here because somebody gave them a time."""
    _, worker, client = system
    servers = system[0]
    server = servers.server_of(names[0])
    pause(worker)  # its writes would be refused meanwhile
    try:
        with server.client() as shard:
            for name in names:
                assert shard.expire(name, 100000), name
            set_memory(server, 1, "volatile-ttl")
            wait_until(lambda: not any(shard.exists(name) for name in names), 10, "evicted")
    finally:
        set_memory(server, 0, "volatile-lru")
        resume(worker)
    settle(client)


def article(client: RedisCluster, name: str = "A1") -> tuple[str, str, str]:
    """Writes it and waits; its text's key, its sentences', and what notes its evictions."""
    write(client, name, FIRST, SECOND, year=2019)
    settle(client)
    tag = keys.article_tag(name)
    text = keys.paragraphs_key(name)
    return text, keys.sentence_key(name, tag), keys.evicted_key(keys.part_of(text))


def said_by(system: Running) -> tuple[int, str]:
    """Exit code of `keymiss pipeline`, and what is not its table."""
    done = cli(system[0], "pipeline")
    assert "Traceback" not in done.stderr
    return done.returncode, " ".join(done.stderr.split())


def test_nothing_is_said_when_nothing_was_evicted(system: Running, client: RedisCluster) -> None:
    article(client)
    assert said_by(system) == (0, "")


def test_evicted_sentences_are_noted_until_a_catch_up_makes_them_again(
    system: Running, client: RedisCluster
) -> None:
    _, sentences, noted = article(client)
    before = keyspace(system[0])
    evict(system, sentences)
    assert client.hgetall(noted) == {sentences: "2"}
    code, said = said_by(system)
    assert code == 1
    assert "1 keys of articles were evicted and are missing" in said
    assert "2 sentences of 1 articles: A1 (sentence)" in said
    assert not client.exists(keys.tokens_key("A1", keys.article_tag("A1")))
    assert cli(system[0], "catch-up").returncode == 0
    settle(client)
    assert sentences_of(client, "A1") == [FIRST, SECOND]
    assert keyspace(system[0]) == before
    assert said_by(system) == (0, "")


def test_an_evicted_text_takes_its_sentences_along_and_is_noted_until_it_is_loaded(
    system: Running, client: RedisCluster
) -> None:
    text, sentences, noted = article(client)
    before = keyspace(system[0])
    evict(system, text)
    assert not client.exists(sentences)
    assert client.hgetall(noted) == {text: "2"}
    code, said = said_by(system)
    assert code == 1
    assert "2 sentences of 1 articles: A1 (paragraphs)" in said
    assert cli(system[0], "catch-up").returncode == 0
    settle(client)
    assert client.hgetall(noted) == {text: "2"}, "a catch-up cannot make it"
    article(client)
    assert keyspace(system[0]) == before
    assert said_by(system) == (0, "")


def test_all_of_an_article_at_once(system: Running, client: RedisCluster) -> None:
    text, sentences, noted = article(client)
    evict(system, text, sentences, keys.state_key("A1", keys.article_tag("A1")))
    assert set(client.hgetall(noted)) == {text, sentences}
    code, said = said_by(system)
    assert code == 1
    assert "2 sentences of 1 articles: A1 (paragraphs, sentence)" in said
    article(client)
    assert said_by(system) == (0, "")


def test_evicted_concepts_are_noted_until_a_catch_up_finds_them_again(
    system: Running, client: RedisCluster
) -> None:
    _, _, noted = article(client)
    concepts = keys.concepts_key("A1", keys.article_tag("A1"))
    before = keyspace(system[0])
    evict(system, concepts)
    assert client.hgetall(noted) == {concepts: "2"}
    assert said_by(system)[0] == 1
    assert cli(system[0], "catch-up").returncode == 0
    settle(client)
    assert keyspace(system[0]) == before
    assert said_by(system) == (0, "")


@pytest.mark.parametrize("lost", ["text", "sentences"])
def test_an_article_that_is_deleted_is_missed_no_more(
    system: Running, client: RedisCluster, lost: str
) -> None:
    text, sentences, noted = article(client)
    evict(system, text if lost == "text" else sentences)
    assert client.exists(noted)
    pipeline.delete(client, "A1")
    settle(client)
    assert not client.exists(noted)
    assert said_by(system) == (0, "")


def test_what_is_deleted_on_purpose_is_not_missed(system: Running, client: RedisCluster) -> None:
    _, _, noted = article(client)
    pipeline.delete(client, "A1")
    settle(client)
    assert not client.exists(noted)


def test_loading_the_same_article_again_brings_evicted_sentences_back(
    system: Running, client: RedisCluster, tmp_path: Path
) -> None:
    body = {"paper_id": "A2", "metadata": {"title": "A2"}, "body_text": [{"text": FIRST}, {"text": SECOND}]}
    file = tmp_path / "A2.json"
    file.write_text(json.dumps(body))
    assert cli(system[0], "load", file).returncode == 0
    before = keyspace(system[0])
    evict(system, keys.sentence_key("A2", keys.article_tag("A2")))
    again = cli(system[0], "load", file)
    assert again.returncode == 0, again.stderr
    assert "1 written" in again.stdout
    assert keyspace(system[0]) == before
    assert "1 as before" in cli(system[0], "load", file).stdout


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "allkeys-random"])
def test_a_policy_that_takes_everything_is_said_of_the_shard_that_has_it(
    system: Running, client: RedisCluster, policy: str
) -> None:
    article(client)
    set_memory(system[0].masters[1], 0, policy)
    code, said = said_by(system)
    assert code == 1
    tag = keys.tag_for_slot(8192)
    assert said.startswith(f"shard {{{tag}}}: its maxmemory-policy is {policy}, which evicts articles,")
    assert said.count("shard {") == 1


def lost_on(server: RedisServer, names: list[str]) -> set[str]:
    """Those of the articles that lie on the shard whose text or sentences are not there."""
    with server.client() as shard:
        here = [name for name in names if server.port == node_of(shard, keys.paragraphs_key(name))]
        return {
            name
            for name in here
            if not (
                shard.exists(keys.paragraphs_key(name))
                and shard.exists(keys.sentence_key(name, keys.article_tag(name)))
            )
        }


def node_of(shard: redis.Redis, key: str) -> int:
    """The port of the master of a key's slot."""
    slot = keys.slot_of(key)
    return next(
        int(master[1])
        for first, last, master, *_ in shard.execute_command("CLUSTER SLOTS")
        if first <= slot <= last
    )


def test_nothing_is_lost_silently_under_a_policy_that_takes_everything(
    system: Running, client: RedisCluster
) -> None:
    """As it is found in the field: memory runs short under allkeys-lru. What was lost is said also after the
    policy was put right: by name, or, when the list of names went as well, by that."""
    names = [f"B{number}" for number in range(60)]
    text = FIRST + " " + "x" * 2000 + "."
    for name in names:
        write(client, name, text, SECOND)
    settle(client)
    before = keyspace(system[0])
    for server in system[0].masters:
        with server.client() as shard:
            base = int(shard.info("stats")["evicted_keys"])
            set_memory(server, int(shard.info("memory")["used_memory"]) - 60_000, "allkeys-lru")
            wait_until(
                lambda shard=shard, base=base: shard.info("stats")["evicted_keys"] > base + 20, 20, "gone"
            )
    for server in system[0].masters:
        set_memory(server, 0, "volatile-lru")
    settle(client)
    code, said = said_by(system)
    assert code == 1
    assert "allkeys" not in said
    for server, tag in zip(system[0].masters, (keys.tag_for_slot(0), keys.tag_for_slot(8192)), strict=True):
        lost = lost_on(server, names)
        assert lost
        lists = [keys.evicted_key(part) for part in shard_at(shards_of(client), keys.slot_of(tag)).parts]
        noted = {key for each in lists for key in client.hgetall(each)}
        named = {key.split(":")[1] for key in noted}
        assert lost <= named or noted & set(lists)
        assert f"shard {{{tag}}}: {len(noted)} keys of articles were evicted" in said
    pipeline.store_table(client, TABLE)
    for name in names:
        write(client, name, text, SECOND)
    settle(client)
    assert cli(system[0], "catch-up").returncode == 0
    settle(client)
    for noted_at in map(keys.evicted_key, keys.part_tags()):
        client.hdel(noted_at, noted_at)
    assert said_by(system) == (0, "")
    sentences = {key: value for key, value in before.items() if key.startswith(keys.SENTENCE_PREFIX)}
    assert {key: value for key, value in keyspace(system[0]).items() if key in sentences} == sentences


def test_when_nothing_may_be_evicted_loading_is_refused_with_a_clear_error(
    system: Running, client: RedisCluster, tmp_path: Path
) -> None:
    article(client)
    before = keyspace(system[0])
    body = {"paper_id": "A3", "metadata": {"title": "A3"}, "body_text": [{"text": FIRST}]}
    file = tmp_path / "A3.json"
    file.write_text(json.dumps(body))
    for policy in ("noeviction", "volatile-lru"):
        for server in system[0].masters:
            set_memory(server, 1, policy)
        refused = cli(system[0], "load", file)
        assert refused.returncode == 1
        assert "memory is full (maxmemory)" in refused.stderr
        assert "Traceback" not in refused.stderr
        assert keyspace(system[0]) == before, "nothing went"
        assert said_by(system) == (0, "")
    for server in system[0].masters:
        set_memory(server, 0, "volatile-lru")
    assert cli(system[0], "load", file).returncode == 0


def test_a_list_of_evicted_keys_that_is_evicted_itself_says_so(system: Running, client: RedisCluster) -> None:
    _, sentences, noted = article(client)
    evict(system, sentences)
    evict(system, noted)
    assert client.hgetall(noted) == {noted: "0"}
    code, said = said_by(system)
    assert code == 1
    assert "part of this list" in said


def test_an_evicted_concept_table_is_missed_until_it_is_loaded(system: Running, client: RedisCluster) -> None:
    article(client)
    concept_table = keys.concept_table_key(shard_of(shards_of(client), keys.paragraphs_key("A1")).tag)
    noted = keys.evicted_key(keys.part_of(concept_table))
    evict(system, concept_table)
    assert client.hgetall(noted) == {concept_table: "0"}
    assert "the concept table: keymiss concepts load" in said_by(system)[1]
    pipeline.store_table(client, TABLE)
    settle(client)
    assert said_by(system) == (0, "")
