"""A master that joins gets the sessions of functions with their registrations, paused ones too, but no time
event."""

from __future__ import annotations

import redis

from tests.cluster.redis_cli_cluster import add_masters
from tests.servers import RedisClusterServers, WorkerProcess, wait_until

SCRIPT = """
from redisgears import registerTimeEvent
GB('KeysReader', desc='copies').foreach(lambda r: None).register('person:*', eventTypes=['set'])
GB('CommandReader').map(lambda r: 'hooked').register(hook='unlink', convertToStr=False)
GB('StreamReader').foreach(lambda r: None).register('events:*')
registerTimeEvent(3600, lambda: None)
"""
ALL = ["CommandReader", "KeysReader", "StreamReader"]


def readers(client: redis.Redis) -> list[str]:
    return sorted(row[3] for row in client.execute_command("KM.REGISTRATIONS"))


def stream_status(client: redis.Redis) -> tuple[str, str]:
    """Id and status of the StreamReader."""
    rows = client.execute_command("RG.DUMPREGISTRATIONS")
    (row,) = [row for row in rows if row[row.index("reader") + 1] == "StreamReader"]
    data = row[row.index("RegistrationData") + 1]
    return row[row.index("id") + 1], data[data.index("status") + 1]


def session(client: redis.Redis) -> dict[str, object]:
    (found,) = client.execute_command("RG.PYDUMPSESSIONS")
    return dict(zip(found[::2], found[1::2], strict=True))


def test_a_master_that_joins_gets_sessions_but_no_time_event() -> None:
    with RedisClusterServers(masters=2) as servers, WorkerProcess(servers):
        one = servers.masters[0].client(decode_responses=True)
        one.execute_command("RG.PYEXECUTE", SCRIPT, "ID", "mine", "DESCRIPTION", "for joining")
        assert readers(one) == [*ALL, "TimeEvent"]
        id_, _ = stream_status(one)
        one.execute_command("RG.PAUSEREGISTRATIONS", id_)
        (new,) = (server.client(decode_responses=True) for server in add_masters(servers, 1))
        wait_until(lambda: readers(new) == ALL, 20, "it has the registrations")
        assert stream_status(new) == stream_status(one) == (id_, "PAUSED")
        assert session(new)["ID"] == "mine"
        assert session(new)["sessionDescription"] == session(one)["sessionDescription"] == "for joining"
        one.close()
        new.close()
