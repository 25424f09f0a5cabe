"""A master that joins gets the sessions of functions with their registrations, but no time event."""

from __future__ import annotations

import redis

from tests.cluster.redis_cli_cluster import add_masters
from tests.servers import RedisClusterServers, WorkerProcess, wait_until

SCRIPT = """
from redisgears import registerTimeEvent
GB('KeysReader', desc='copies').foreach(lambda r: None).register('person:*', eventTypes=['set'])
GB('CommandReader').map(lambda r: 'hooked').register(hook='unlink', convertToStr=False)
registerTimeEvent(3600, lambda: None)
"""


def readers(client: redis.Redis) -> list[str]:
    return sorted(row[3] for row in client.execute_command("KM.REGISTRATIONS"))


def session(client: redis.Redis) -> dict[str, object]:
    (found,) = client.execute_command("RG.PYDUMPSESSIONS")
    return dict(zip(found[::2], found[1::2], strict=True))


def test_a_master_that_joins_gets_sessions_but_no_time_event() -> None:
    with RedisClusterServers(masters=2) as servers, WorkerProcess(servers):
        one = servers.masters[0].client(decode_responses=True)
        one.execute_command("RG.PYEXECUTE", SCRIPT, "ID", "mine", "DESCRIPTION", "for joining")
        assert readers(one) == ["CommandReader", "KeysReader", "TimeEvent"]
        (new,) = (server.client(decode_responses=True) for server in add_masters(servers, 1))
        wait_until(lambda: readers(new) == ["CommandReader", "KeysReader"], 20, "it has the registrations")
        assert session(new)["ID"] == "mine"
        assert session(new)["sessionDescription"] == session(one)["sessionDescription"] == "for joining"
        one.close()
        new.close()
