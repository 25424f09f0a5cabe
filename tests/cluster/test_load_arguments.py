"""What may stand behind `loadmodule`: RedisAI's arguments, RedisGears' settings, and those of functions."""

from __future__ import annotations

import pytest
import redis

from tests.servers import RedisServer


def configured(client: redis.Redis, name: str) -> object:
    (value,) = client.execute_command("RG.CONFIGGET", name)
    return value


def test_those_of_both_and_of_functions() -> None:
    arguments = ("MaxExecutions", "7", "model_chunk_size", "1000", "of-mine", "a value", "CreateVenv", "1")
    with RedisServer(*arguments) as server, server.client() as client:
        assert configured(client, "MaxExecutions") == 7
        assert client.execute_command("AI.CONFIG", "GET", "MODEL_CHUNK_SIZE") in (1000, b"1000")
        assert configured(client, "of-mine") == b"a value"
        assert configured(client, "CreateVenv") == 0
        assert "Failed setting config value CreateVenv: it is 0, as functions run in" in server.log_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("MODEL_CHUNK_SIZE", "many"), "MODEL_CHUNK_SIZE is a whole number from 1 to"),
        (("MaxExecutions",), "load arguments are pairs of a name and a value"),
    ],
)
def test_a_server_with_wrong_ones_does_not_start(arguments: tuple[str, ...], said: str) -> None:
    with pytest.raises(RuntimeError, match=said), RedisServer(*arguments):
        pass
