"""MGET of missing keys: answered by a function that names MGET, and by no other."""

from __future__ import annotations

import threading

import pytest
import redis

from keymiss import keys
from tests.hand_worker import SHA1, Asker, HandWorker, bulk, register_miss, wait_for
from tests.servers import RedisClusterServers, RedisServer, WorkerProcess, keymiss_info


def register_mget(client: redis.Redis, prefix: str, ordinal: int = 0) -> None:
    """Registers a function for the misses of GET and MGET."""
    client.execute_command("KM.SCRIPT", "SET", SHA1, "the script's source")
    named = (f"mget-{ordinal}", SHA1, ordinal, "KeysReader", "", "async", prefix, "keymiss", "", "get,mget")
    client.execute_command("KM.REGISTER", *named)


def test_what_is_missing_is_asked_and_put_in_its_place(server: RedisServer) -> None:
    client = server.client()
    register_mget(client, "ask:")
    worker = HandWorker(server)
    client.set("ask:there", "old")
    client.hset("ask:hash", "f", "v")
    asker = Asker(server, "MGET", "other", "ask:1", "ask:there", "ask:hash", "ask:2", "ask:1")
    wait_for(server, "clients_waiting", 1)
    jobs = {job.key: job for job in worker.pull()}
    assert set(jobs) == {b"ask:1", b"ask:2"}
    worker.done(jobs[b"ask:2"], b"$-1\r\n")
    worker.done(jobs[b"ask:1"], bulk(b"one"))
    assert asker.result() == [None, b"one", b"old", None, None, b"one"]
    assert Asker(server, "mget", "ask:there").result() == [b"old"]


def test_it_shares_the_flight_of_a_get(server: RedisServer) -> None:
    register_mget(server.client(), "ask:")
    worker = HandWorker(server)
    askers = [Asker(server, "GET", "ask:1"), Asker(server, "MGET", "ask:1")]
    wait_for(server, "clients_waiting", 2)
    (job,) = worker.pull()
    worker.done(job, bulk(b"one"))
    assert [asker.result() for asker in askers] == [b"one", [b"one"]]


def test_an_error_is_the_whole_reply(server: RedisServer) -> None:
    client = server.client()
    register_mget(client, "ask:")
    client.set("ask:there", "old")
    worker = HandWorker(server)
    asker = Asker(server, "MGET", "ask:there", "ask:1")
    (job,) = worker.pull()
    worker.fail(job, "ValueError: no")
    assert str(asker.result()) == "FAILED ValueError: no"
    client.config_set("keymiss.miss-timeout-ms", 100)
    assert str(Asker(server, "MGET", "ask:1").result()).startswith("TIMEOUT")


def test_a_client_that_leaves_is_no_trouble(server: RedisServer) -> None:
    client = server.client()
    register_mget(client, "ask:")
    HandWorker(server)
    asker = Asker(server, "MGET", "ask:1", "ask:2")
    wait_for(server, "clients_waiting", 1)
    client.client_unblock(asker.id)
    assert str(asker.result()).startswith("TIMEOUT")
    gone = Asker(server, "MGET", "ask:3")
    wait_for(server, "clients_waiting", 1)
    client.client_kill_filter(_id=gone.id)
    wait_for(server, "clients_waiting", 0)
    assert isinstance(gone.result(), redis.exceptions.ConnectionError)
    assert client.ping()


def test_a_function_that_does_not_name_it_is_not_asked(server: RedisServer) -> None:
    client = server.client()
    register_miss(client, "ask:")
    HandWorker(server)
    assert client.mget("ask:1", "ask:2") == [None, None]
    register_mget(client, "ask:more", 1)  # another one does
    with HandAnswers(server):
        assert client.mget("ask:1", "ask:more:1") == [None, b"given"]
    assert keymiss_info(client)["flights_opened"] == 1


class HandAnswers:
    """Answers one job."""

    def __init__(self, server: RedisServer) -> None:
        self.worker = HandWorker(server, attach=False)

    def __enter__(self) -> None:
        self.thread = threading.Thread(target=self._answer)
        self.thread.start()

    def _answer(self) -> None:
        (job,) = self.worker.pull()
        self.worker.done(job, bulk(b"given"))

    def __exit__(self, *_: object) -> None:
        self.thread.join()


def test_where_nobody_can_wait_it_is_the_server_s_own(server: RedisServer) -> None:
    client = server.client()
    register_mget(client, "ask:")
    client.set("ask:there", "old")
    pipe = client.pipeline(transaction=True)
    pipe.mget("ask:1", "ask:there")
    assert pipe.execute() == [[None, b"old"]]
    script = "return redis.call('MGET', KEYS[1], KEYS[2])"
    assert client.eval(script, 2, "ask:1", "ask:there") == [None, b"old"]
    with server.client(db=1) as other:
        assert other.mget("ask:1", "ask:there") == [None, None]
    with pytest.raises(redis.ResponseError, match="wrong number"):
        client.execute_command("MGET")


SCRIPT = """
GB().foreach(lambda r: override_reply('made of ' + r['key'])).register(
    'made', eventTypes=['keymiss'], commands=['get', 'mget'])
"""


def test_in_a_cluster(cluster: RedisClusterServers, cluster_worker: WorkerProcess) -> None:
    with cluster.client() as client:
        client.execute_command("RG.PYEXECUTE", SCRIPT, target_nodes=client.get_primaries()[0])
    here, there = (keys.tag_for_slot(slot) for slot in (0, 8192))
    with cluster.masters[0].client() as node:
        names = [f"made{{{here}}}1", f"made{{{here}}}2"]
        assert node.execute_command("MGET", *names) == [f"made of {name}".encode() for name in names]
        with pytest.raises(redis.exceptions.MovedError):
            node.execute_command("MGET", f"made{{{there}}}1")
        with pytest.raises(redis.exceptions.ClusterCrossSlotError):
            node.execute_command("MGET", names[0], f"made{{{there}}}1")
