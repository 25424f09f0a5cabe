"""Answers and question vectors have a time to live (keymiss.answer-ttl-s) and go first; nothing else does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from keymiss import keys
from keymiss.models import load, load_encoder
from tests.servers import REPO, RedisClusterServers, RedisServer, WorkerProcess, keymiss_info, wait_until

WEEK_S = 604800
SENTENCE = "Among adults, viral transmission is performed mainly by young parents of school children."
TAG = keys.article_tag("PMC1")
MADE_ON_A_MISS = (b"bertqa{", b"bertspan{", b"bertvec{")


@pytest.fixture(scope="module")
def servers() -> Iterator[RedisClusterServers]:
    with RedisClusterServers(masters=1, replicas=1) as running:
        yield running


@pytest.fixture(scope="module")
def loaded(servers: RedisClusterServers) -> Iterator[redis.Redis]:
    """Articles as they are loaded, with every function there is."""
    with WorkerProcess(servers), servers.masters[0].client() as made:
        assert load.main(["--model", "models/reader", "--nodes", servers.addresses]) == 0
        assert load_encoder.main(["--nodes", servers.addresses]) == 0
        for script in sorted((REPO / "gears").glob("*.py")):
            assert made.execute_command("RG.PYEXECUTE", script.read_text()) == b"OK"
        made.hset(keys.article_key("PMC1"), mapping={"title": "One", "year": 2020})
        made.set(keys.paragraphs_key("PMC1"), SENTENCE)
        wait_until(lambda: made.exists(keys.vectors_key("PMC1", TAG)), 30)
        wait_until(lambda: made.exists(keys.tokens_key("PMC1", TAG)), 30)
        yield made


@pytest.fixture
def client(loaded: redis.Redis) -> Iterator[redis.Redis]:
    """The setting is its default; no answer is there."""
    loaded.config_set("keymiss.answer-ttl-s", WEEK_S)
    for key in loaded.scan_iter("bert*_*"):
        loaded.unlink(key)
    return loaded


def ask(client: redis.Redis, question: str) -> tuple[str, str, str]:
    """Has an answer and a vector made; their keys."""
    answer, span = keys.answer_key("PMC1", TAG, 0, question), keys.span_key("PMC1", TAG, 0, question)
    vector = keys.question_vector_key(TAG, question)
    assert client.get(answer)
    assert client.get(vector)
    return answer, span, vector


def with_a_time(client: redis.Redis) -> set[bytes]:
    return {key for key in client.scan_iter(count=1000) if client.ttl(key) != -1}


def follower(servers: RedisClusterServers) -> redis.Redis:
    """The replica, read only; it has all that its master has."""
    master, replica = (server.client() for server in servers.nodes)
    replica.readonly()
    offset = master.info("replication")["master_repl_offset"]
    wait_until(lambda: replica.info("replication")["slave_repl_offset"] >= offset, 10, "the replica follows")
    return replica


def test_the_default_is_a_week(client: redis.Redis, servers: RedisClusterServers) -> None:
    assert client.config_get("keymiss.answer-ttl-s") == {"keymiss.answer-ttl-s": str(WEEK_S)}
    made = ask(client, "Who transmits for a week")
    assert all(WEEK_S - 60 < client.ttl(key) <= WEEK_S for key in made)
    with follower(servers) as replica:
        assert all(WEEK_S - 60 < replica.ttl(key) <= WEEK_S for key in made)


def test_nothing_else_has_a_time_to_live(client: redis.Redis) -> None:
    made = ask(client, "Who transmits and what stays")
    assert with_a_time(client) == {key.encode() for key in made}
    kinds = {key.partition(b":")[0] for key in client.scan_iter(count=1000)}
    assert {b"paragraphs", b"article", b"sentence", b"state", b"tokens", b"tokenized", b"vectors"} <= kinds
    assert {b"bert-qa{1bz}", b"bert-encoder{1bz}"} <= kinds


def test_it_can_be_set_while_the_system_runs(client: redis.Redis) -> None:
    client.config_set("keymiss.answer-ttl-s", 100)
    assert all(40 < client.ttl(key) <= 100 for key in ask(client, "Who transmits for less"))
    client.config_set("keymiss.answer-ttl-s", 0)
    assert all(client.ttl(key) == -1 for key in ask(client, "Who transmits for good"))
    for bad in ("-1", "315360001", "a week"):
        with pytest.raises(redis.ResponseError):
            client.config_set("keymiss.answer-ttl-s", bad)


def test_what_is_not_to_be_kept_is_not(client: redis.Redis) -> None:
    client.config_set("keymiss.cache", "no")
    try:
        assert client.exists(*ask(client, "Who transmits unseen")) == 0
    finally:
        client.config_set("keymiss.cache", "yes")


def test_an_answer_whose_time_is_over_is_asked_again_and_leaves_no_record(
    client: redis.Redis, servers: RedisClusterServers
) -> None:
    before = keymiss_info(client)["derived_keys"]
    client.config_set("keymiss.answer-ttl-s", 1)
    made = ask(client, "Who transmits for a second")
    wait_until(lambda: client.exists(*made) == 0, 10, "expired")
    assert figures(client) == (before, 0)
    with follower(servers) as replica:
        assert figures(replica) == (before, 0)
    client.config_set("keymiss.answer-ttl-s", WEEK_S)
    assert client.exists(*ask(client, "Who transmits for a second")) == 3
    assert figures(client) == (before + 3, 0)


def figures(client: redis.Redis) -> tuple[int, int]:
    info = keymiss_info(client)
    return info["derived_keys"], info["derived_stale"]


def fill_up(server: RedisServer, policy: str) -> None:
    """Memory is short until there is no key left that the policy takes."""
    with server.client() as admin:
        admin.config_set("maxmemory-policy", policy)
        admin.config_set("maxmemory", 1)
        try:
            wait_until(lambda: admin.info("keyspace")["db0"]["expires"] == 0, 20, "evicted")
        finally:
            admin.config_set("maxmemory", 0)


@pytest.mark.parametrize("policy", ["volatile-lru", "volatile-ttl"])
def test_when_memory_is_short_they_go_and_nothing_else(
    client: redis.Redis, servers: RedisClusterServers, policy: str
) -> None:
    others = set(client.scan_iter(count=1000))
    made = [key for n in range(5) for key in ask(client, f"Who transmits when memory is short, {n}")]
    assert figures(client) == (len(made), 0)
    fill_up(servers.masters[0], policy)
    assert client.exists(*made) == 0
    assert set(client.scan_iter(count=1000)) == others
    assert figures(client) == (0, 0)
    with follower(servers) as replica:
        assert replica.dbsize() == len(others)
        assert figures(replica) == (0, 0)
    assert client.exists(*ask(client, "Who transmits when memory is short, 0")) == 3


def test_an_answer_goes_with_its_sentence_and_its_time_counts_for_nothing(client: redis.Redis) -> None:
    client.config_set("keymiss.answer-ttl-s", 1000)
    answer, span, vector = ask(client, "Who transmits")
    client.expire(answer, 2000)  # no new value: it stays what it was made from
    assert figures(client)[0] == 3
    client.hset(keys.sentence_key("PMC1", TAG), "0", SENTENCE + " Or so.")
    wait_until(lambda: client.exists(answer, span) == 0, 10)
    assert client.exists(vector) == 1
    client.hset(keys.sentence_key("PMC1", TAG), "0", SENTENCE)


def test_a_replica_that_syncs_anew_has_the_times_and_the_records(
    client: redis.Redis, servers: RedisClusterServers
) -> None:
    client.config_set("keymiss.answer-ttl-s", 5000)
    made = ask(client, "Who transmits then")
    servers.replicas[0].restart()
    wait_until(lambda: follower(servers).exists(*made) == 3, 20, "synced")
    with follower(servers) as replica:
        assert all(0 < replica.ttl(key) <= 5000 for key in made)
        assert figures(replica) == figures(client) == (3, 0)


def test_z_a_promoted_replica_lets_them_go_as_well(client: redis.Redis, servers: RedisClusterServers) -> None:
    """The last one: the two nodes change places."""
    made = ask(client, "Who transmits at last")
    with follower(servers) as replica:
        replica.execute_command("CLUSTER", "FAILOVER")
        wait_until(lambda: replica.info("replication")["role"] == "master", 20, "promoted")
        assert replica.exists(*made) == 3
        assert all(0 < replica.ttl(key) <= WEEK_S for key in made)
        assert figures(replica) == (3, 0)
        fill_up(servers.replicas[0], "volatile-lru")
        assert replica.exists(*made) == 0
        assert figures(replica) == (0, 0)
