"""In MULTI, in Lua, on a replica: what plain Redis would reply."""

from __future__ import annotations

from tests.hand_worker import Asker, HandWorker, bulk, register_miss
from tests.servers import RedisServer, wait_until

KEY = "bertqa{x}_a:{x}:0_Who?"


def test_in_multi(server: RedisServer) -> None:
    client = server.client()
    register_miss(client)
    HandWorker(server)
    with client.pipeline(transaction=True) as pipe:
        pipe.get(KEY).set(KEY, "v").get(KEY)
        assert pipe.execute() == [None, True, b"v"]


def test_in_lua(server: RedisServer) -> None:
    client = server.client()
    register_miss(client)
    HandWorker(server)
    assert client.eval("return redis.call('get', KEYS[1])", 1, KEY) is None
    client.set(KEY, "v")
    assert client.eval("return redis.call('get', KEYS[1])", 1, KEY) == b"v"


def test_on_a_replica_and_after_its_promotion(server: RedisServer) -> None:
    register_miss(server.client())
    with RedisServer() as replica:
        client = replica.client()
        client.replicaof("127.0.0.1", server.port)
        wait_until(lambda: client.info("replication")["master_link_status"] == "up", 20)
        assert len(client.execute_command("KM.REGISTRATIONS")) == 1
        assert client.get(KEY) is None
        register_miss(server.client(), "other", "second", 9)
        wait_until(
            lambda: len(client.execute_command("KM.REGISTRATIONS")) == 2, 10, "the new registration arrives"
        )
        server.client().execute_command("KM.UNREGISTER", "second")
        wait_until(lambda: len(client.execute_command("KM.REGISTRATIONS")) == 1, 10, "and goes")
        client.replicaof("NO", "ONE")
        worker = HandWorker(replica)
        asker = Asker(replica, "GET", KEY)
        (job,) = worker.pull()
        worker.done(job, bulk(b"promoted"))
        assert asker.result() == b"promoted"
