"""KM.MODELPART and KM.MODELPUT: a model whose blob comes part by part is as one that came at once."""

from __future__ import annotations

import random
from typing import Any

import pytest
import redis

from tests.cluster.test_model_files import with_files
from tests.hand_worker import Asker, HandWorker, Job
from tests.servers import RedisServer, keymiss_info, open_folder, wait_until

PARTS = [random.Random(i).randbytes(700_000 + i) for i in range(5)]
SETTINGS = ("DUMMY", "CPU", "TAG", "t", "BATCHSIZE", 3)


def send(client: redis.Redis, parts: list[bytes], key: str = "p", before: int = 0) -> None:
    for part in parts:
        before += len(part)
        assert client.execute_command("KM.MODELPART", key, part) == before


def put(client: redis.Redis, key: str = "m", parts: str = "p") -> Any:
    return client.execute_command("KM.MODELPUT", parts, key, *SETTINGS)


def digest(client: redis.Redis, key: str = "m") -> Any:
    return client.execute_command("DEBUG", "DIGEST-VALUE", key)


def as_at_once(client: redis.Redis) -> Any:
    """The digest of the same model, sent in one command."""
    client.execute_command("AI.MODELSTORE", "whole", *SETTINGS, "BLOB", *PARTS)
    return digest(client, "whole")


def caught_up(master: redis.Redis, replica: redis.Redis) -> bool:
    return bool(
        replica.info("replication")["master_link_status"] == "up"
        and replica.info("replication")["slave_repl_offset"]
        == master.info("replication")["master_repl_offset"]
    )


def replica_of(server: RedisServer) -> RedisServer:
    return RedisServer("--replicaof", "127.0.0.1", str(server.port))


def test_it_is_the_same_model(server: RedisServer) -> None:
    client = server.client()
    with replica_of(server) as replica:
        wait_until(lambda: caught_up(client, replica.client()), 20)
        send(client, PARTS)
        assert put(client) == b"OK"
        wait_until(lambda: caught_up(client, replica.client()), 20)
        for one in (client, replica.client()):
            assert one.keys() == [b"m"]
            assert one.execute_command("AI.MODELGET", "m", "BLOB") == b"".join(PARTS)
        value = as_at_once(client)
        assert digest(client) == digest(replica.client()) == value
    client.flushall()
    wait_until(lambda: keymiss_info(client)["tensors_and_models_bytes"] == 0, 5, "freed")


@pytest.mark.parametrize("how", ["RDB", "AOF", "rewritten AOF", "rewritten AOF of commands"])
def test_parts_outlive_a_restart(how: str) -> None:
    preamble = "no" if how.endswith("commands") else "yes"
    with RedisServer("--aof-use-rdb-preamble", preamble, appendonly=how != "RDB") as server:
        client = server.client()
        send(client, PARTS[:3])
        value = digest(client, "p")
        if how.startswith("rewritten"):
            client.bgrewriteaof()
            wait_until(lambda: not client.info("persistence")["aof_rewrite_in_progress"], 20)
        server.restart()
        client = server.client()
        assert digest(client, "p") == value
        send(client, PARTS[3:], before=sum(map(len, PARTS[:3])))
        put(client)
        server.restart()
        client = server.client()
        assert client.keys() == [b"m"]
        assert digest(client) == as_at_once(client)


@pytest.fixture
def by_hand(server: RedisServer) -> HandWorker:
    worker = HandWorker(server, attach=False)
    worker.client.execute_command("KM.PULL", "by-hand", 1, 0, "LOOKS")
    return worker


def begin(server: RedisServer, worker: HandWorker) -> tuple[Asker, Job]:
    """A client that waits for KM.MODELPUT, and the job that looks."""
    asker = Asker(server, "KM.MODELPUT", "p", "m", *SETTINGS)
    (job,) = worker.pull()
    assert job.payload[:2] == [b"model", b"m"]
    return asker, job


def test_a_worker_looks_and_replicas_get_no_blob_again(server: RedisServer, by_hand: HandWorker) -> None:
    client = server.client()
    with replica_of(server) as replica:
        send(client, PARTS)
        wait_until(lambda: caught_up(client, replica.client()), 20)
        asker, job = begin(server, by_hand)
        part = by_hand.client.execute_command("KM.CANDIDATE", job.id, 10, 100)
        assert part == PARTS[0][10:110]
        with pytest.raises(redis.ResponseError, match="a model is being stored of it"):
            client.execute_command("KM.MODELPART", "p", "more")
        before = client.info("replication")["master_repl_offset"]
        by_hand.client.execute_command("KM.LOOKED", "m", job.id, 1, "a", 1, "b")
        assert asker.result() == b"OK"
        wait_until(lambda: caught_up(client, replica.client()), 20)
        assert client.info("replication")["master_repl_offset"] - before < 5000
        for one in (client, replica.client()):
            assert one.keys() == [b"m"]
            assert one.execute_command("AI.MODELGET", "m", "BLOB") == b"".join(PARTS)
        assert digest(client) == digest(replica.client())


def test_one_that_is_refused_leaves_its_parts(server: RedisServer, by_hand: HandWorker) -> None:
    client = server.client()
    send(client, PARTS)
    asker, job = begin(server, by_hand)
    by_hand.fail(job, "no model")
    assert "no model" in str(asker.result())
    assert client.keys() == [b"p"]
    send(client, [b"more"], before=sum(map(len, PARTS)))


def test_parts_that_go_while_a_worker_looks(server: RedisServer, by_hand: HandWorker) -> None:
    client = server.client()
    with replica_of(server) as replica:
        send(client, PARTS)
        asker, job = begin(server, by_hand)
        client.delete("p")
        by_hand.client.execute_command("KM.LOOKED", "m", job.id, 1, "a", 1, "b")
        assert asker.result() == b"OK"
        wait_until(lambda: caught_up(client, replica.client()), 20)
        assert digest(client) == digest(replica.client())
        assert replica.client().execute_command("AI.MODELGET", "m", "BLOB") == b"".join(PARTS)


def test_parts_that_are_renamed_while_a_worker_looks(server: RedisServer, by_hand: HandWorker) -> None:
    client = server.client()
    send(client, PARTS)
    asker, job = begin(server, by_hand)
    client.rename("p", "q")
    by_hand.client.execute_command("KM.LOOKED", "m", job.id, 1, "a", 1, "b")
    assert asker.result() == b"OK"
    client.delete("m")
    with pytest.raises(redis.ResponseError, match="a model is being stored of it"):
        client.execute_command("KM.MODELPART", "q", "more")


def test_it_is_moved_into_a_file_once_it_is_stored() -> None:
    folder = open_folder() / "blobs"
    with with_files(folder) as server, server.client() as client:
        send(client, PARTS)
        put(client)
        wait_until(lambda: keymiss_info(client)["mapped_models_bytes"] == sum(map(len, PARTS)))
        assert client.execute_command("AI.MODELGET", "m", "BLOB") == b"".join(PARTS)
        assert digest(client) == as_at_once(client)


def test_in_a_transaction(server: RedisServer) -> None:
    client = server.client()
    with client.pipeline(transaction=True) as pipe:
        for part in PARTS:
            pipe.execute_command("KM.MODELPART", "p", part)
        pipe.execute_command("KM.MODELPUT", "p", "m", *SETTINGS)
        assert pipe.execute()[-1] == b"OK"
    client.flushall(asynchronous=True)
    wait_until(lambda: keymiss_info(client)["tensors_and_models_bytes"] == 0, 5, "freed")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("KM.MODELPART", "p", ""), "the part is empty"),
        (("KM.MODELPART", "text", "x"), "WRONGTYPE"),
        (("KM.MODELPART", "p"), "wrong number"),
        (("KM.MODELPUT", "none", "m", "DUMMY", "CPU"), "KM.MODELPART sends them"),
        (("KM.MODELPUT", "text", "m", "DUMMY", "CPU"), "WRONGTYPE"),
        (("KM.MODELPUT", "p", "text", "DUMMY", "CPU"), "WRONGTYPE"),
        (("KM.MODELPUT", "p", "m", "FOREST", "CPU"), "unsupported backend"),
        (("KM.MODELPUT", "p", "m", "DUMMY", "CPU", "BLOB", "x"), "none is given"),
        (("KM.MODELPUT", "p", "m", "DUMMY", "CPU", "TAG"), "missing"),
    ],
)
def test_errors(server: RedisServer, command: tuple[str, ...], said: str) -> None:
    client = server.client()
    client.set("text", "x")
    client.execute_command("KM.MODELPART", "p", "a part")
    with pytest.raises(redis.ResponseError, match=said):
        client.execute_command(*command)
    assert client.exists("p")


def test_there_are_1024_at_most(server: RedisServer) -> None:
    client = server.client()
    send(client, [b"x"] * 1024)
    with pytest.raises(redis.ResponseError, match="at most 1024"):
        client.execute_command("KM.MODELPART", "p", "x")
    assert put(client) == b"OK"
    assert client.execute_command("AI.MODELGET", "m", "BLOB") == b"x" * 1024
