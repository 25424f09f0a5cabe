"""A model of the reader's name gets the shard's tag; one that somebody put under another key keeps it."""

from __future__ import annotations

from keymiss import keys
from tests.servers import RedisServer, WorkerProcess, wait_until


def test_only_the_readers_gets_the_shards_tag() -> None:
    others = ("m", "m{a}", f"other{{{keys.tag_for_slot(5)}}}")
    with RedisServer() as server, server.client() as client:
        for key in (*others, keys.model_key(keys.tag_for_slot(5))):
            client.execute_command("AI.MODELSTORE", key, "DUMMY", "CPU", "BLOB", key)
        with WorkerProcess(server):
            wait_until(lambda: client.exists(keys.model_key(keys.tag_for_slot(0))), 30)
        assert sorted(client.keys()) == sorted(
            key.encode() for key in (*others, keys.model_key(keys.tag_for_slot(0)))
        )
