"""Which masters a worker with --local serves."""

from __future__ import annotations

from collections.abc import Sequence

from keymiss.addresses import Address
from keymiss.cluster.credentials import NO_CREDENTIALS
from keymiss.cluster.topology import Shard
from keymiss.worker.own_shards import ALONE_S, LookAtShards, OwnShards, Workers, is_here
from tests.servers import RedisServer

OWN = Shard(Address("10.0.0.1", 1), "own", ((0, 99),))
OTHER = Shard(Address("10.0.0.2", 1), "other", ((100, 199),))


class Cluster:
    """How many workers a master of another host says that it has, and the time."""

    def __init__(self) -> None:
        self.workers: Workers | None = Workers(1, 0)
        self.now_s = 0.0
        self.shards = OwnShards(self.look, lambda host: host == OWN.master.host, lambda: self.now_s)

    def look(self, shards: Sequence[Shard]) -> dict[str, Workers]:
        assert set(shards) <= {OTHER}
        return {shard.identity: self.workers for shard in shards if self.workers}

    def after(self, seconds: float, workers: Workers | None) -> bool:
        """Whether it stands in then."""
        self.now_s += seconds
        self.workers = workers
        served = self.shards.of([OWN, OTHER])
        assert served[0] == (OWN, False)
        return served[1:] == [(OTHER, True)]


def test_it_stands_in_when_there_has_been_no_worker_for_a_while() -> None:
    cluster = Cluster()
    assert not cluster.after(0, Workers(1, 0))
    assert not cluster.after(10, Workers(0, 0))
    assert not cluster.after(ALONE_S / 2, Workers(0, 0))
    assert cluster.after(ALONE_S / 2, Workers(0, 0))
    assert cluster.after(1, Workers(1, 1)), "that is it itself"
    assert cluster.after(1, Workers(2, 2)), "another stands in, too"
    assert cluster.after(1, None), "it does not say"
    assert not cluster.after(1, Workers(3, 2)), "its own is back"
    assert not cluster.after(1, Workers(0, 0)), "it is waited for again"
    assert cluster.after(ALONE_S, Workers(0, 0))


def test_a_moment_without_a_worker_is_forgotten() -> None:
    cluster = Cluster()
    assert not cluster.after(0, Workers(0, 0))
    assert not cluster.after(ALONE_S / 2, Workers(1, 0))
    assert not cluster.after(ALONE_S, Workers(0, 0))


def test_where_others_stand_in_it_does_not() -> None:
    cluster = Cluster()
    assert not cluster.after(0, Workers(1, 1))
    assert not cluster.after(60, Workers(1, 1))


def test_a_master_that_is_gone_is_forgotten() -> None:
    cluster = Cluster()
    cluster.after(0, Workers(0, 0))
    assert cluster.after(ALONE_S, Workers(0, 0))
    assert cluster.shards.of([OWN]) == [(OWN, False)]
    assert not cluster.after(0, None)


def test_what_servers_say_of_their_workers() -> None:
    """One with the module, one without it, and one that is not there."""
    with RedisServer() as server, RedisServer(module=False) as plain, server.client() as client:
        client.execute_command("KM.PULL", "own", 1, 0)
        with server.client() as another:
            another.execute_command("KM.PULL", "other", 1, 0, "LOOKS", "AWAY")
            shards = [
                Shard(Address("127.0.0.1", port), name)
                for name, port in (("with", server.port), ("plain", plain.port), ("none", 1))
            ]
            look = LookAtShards(NO_CREDENTIALS)
            assert look(shards) == {shards[0].identity: Workers(2, 1)}
            assert look([]) == {}, "its connections are closed"


def test_what_is_an_address_of_this_host() -> None:
    assert is_here("127.0.0.1")
    assert is_here("localhost")
    assert not is_here("192.0.2.1"), "an address for documentation"
    assert not is_here("no-such-host.invalid")
