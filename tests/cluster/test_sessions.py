"""Sessions: an upload with an ID goes in as a whole, and takes the place of another only if it says so."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from tests.servers import RedisClusterServers, RedisServer, WorkerProcess


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as started, WorkerProcess(started):
        yield started


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis.Redis]:
    with server.client(decode_responses=True) as made:
        yield made
        for row in made.execute_command("RG.DUMPREGISTRATIONS"):
            made.execute_command("RG.UNREGISTER", row[1])


def script(says: str, trigger: str = "say") -> str:
    return f"GB('CommandReader').map(lambda w: {says!r}).register(trigger={trigger!r}, mode='async_local')"


def upload(client: redis.Redis, source: str, *options: str) -> None:
    assert client.execute_command("RG.PYEXECUTE", source, *options) == "OK"


def sessions(client: redis.Redis, *words: str) -> dict[str, dict[str, object]]:
    rows = client.execute_command("RG.PYDUMPSESSIONS", *words)
    return {row[1]: dict(zip(row[::2], row[1::2], strict=True)) for row in rows}


def test_upgrade_is_asked_for(client: redis.Redis) -> None:
    upload(client, script("old"), "ID", "mine", "DESCRIPTION", "what it is")
    with pytest.raises(redis.ResponseError, match="Session mine already exists"):
        upload(client, script("new"), "ID", "mine")
    assert client.execute_command("RG.TRIGGER", "say") == ["old"]
    upload(client, script("new"), "ID", "mine", "UPGRADE")
    assert client.execute_command("RG.TRIGGER", "say") == ["new"]
    assert len(client.execute_command("RG.DUMPREGISTRATIONS")) == 1


def test_upgrade_of_what_is_not_there(client: redis.Redis) -> None:
    upload(client, script("first"), "ID", "new", "UPGRADE")
    assert client.execute_command("RG.TRIGGER", "say") == ["first"]


def test_one_takes_the_place_of_another(client: redis.Redis) -> None:
    upload(client, script("old"), "ID", "old")
    upload(client, script("new"), "ID", "new", "REPLACE_WITH", "old")
    assert client.execute_command("RG.TRIGGER", "say") == ["new"]
    assert list(sessions(client)) == ["new"]
    with pytest.raises(redis.ResponseError, match="Can not replace an existing session new with new"):
        upload(client, script("x"), "ID", "new", "REPLACE_WITH", "new")


def test_a_script_that_fails_changes_nothing(client: redis.Redis) -> None:
    upload(client, script("old"), "ID", "mine")
    before = client.execute_command("KM.REGISTRATIONS")
    with pytest.raises(redis.ResponseError, match="NameError"):
        upload(client, script("new") + "\nno_such_name", "ID", "mine", "UPGRADE")
    assert client.execute_command("KM.REGISTRATIONS") == before
    assert client.execute_command("RG.TRIGGER", "say") == ["old"]
    with pytest.raises(redis.ResponseError, match="NameError"):
        upload(client, script("new", "other") + "\nno_such_name", "ID", "second")
    assert list(sessions(client)) == ["mine"]


def test_the_same_source_in_two_sessions_has_two_namespaces(client: redis.Redis) -> None:
    source = (
        "n = 0\ndef count(_):\n    global n\n    n += 1\n    return n\n"
        "GB('CommandReader').map(count).register(trigger=NAME, mode='async_local')"
    )
    upload(client, source.replace("NAME", "'a'"), "ID", "a")
    upload(client, source.replace("NAME", "'b'"), "ID", "b")
    assert [client.execute_command("RG.TRIGGER", name) for name in ("a", "a", "b")] == [["1"], ["2"], ["1"]]
    upload(client, source.replace("NAME", "'a'"), "ID", "a", "UPGRADE")
    assert client.execute_command("RG.TRIGGER", "a") == ["1"]


def test_what_is_listed(client: redis.Redis) -> None:
    upload(client, script("x"), "ID", "mine", "DESCRIPTION", "what it is", "REQUIREMENTS", "redis", "numpy")
    (registration,) = client.execute_command("RG.DUMPREGISTRATIONS")
    (mine,) = sessions(client).values()
    assert (mine["sessionDescription"], mine["refCount"]) == ("what it is", 1)
    assert (mine["requirements"], mine["registrations"]) == (["redis", "numpy"], [registration[1]])
    verbose = sessions(client, "VERBOSE")["mine"]
    assert verbose["requirements"][0][:6] == ["GearReqVersion", 1, "Name", "redis", "IsDownloaded", "yes"]  # type: ignore[index]
    assert client.execute_command("RG.PYDUMPSESSIONS", "SESSIONS", "nobody") == [
        "Session nobody does not exists"
    ]
    assert client.execute_command("RG.PYDUMPSESSIONS", "DEAD") == []
    assert [row[3] for row in client.execute_command("RG.PYDUMPREQS")] == ["redis", "numpy"]
    with pytest.raises(redis.ResponseError, match="Unknown option x"):
        client.execute_command("RG.PYDUMPSESSIONS", "x")


def test_without_an_id_the_session_is_the_source(client: redis.Redis) -> None:
    source = "GB().count().register('some:')"
    upload(client, source)
    upload(client, source)
    assert len(client.execute_command("RG.DUMPREGISTRATIONS")) == 1
    (session,) = sessions(client)
    assert len(session) == 40


def test_register_gives_the_id(client: redis.Redis) -> None:
    upload(
        client,
        "id = GB().count().register('some:')\n"
        "GB('CommandReader').map(lambda _: id).register(trigger='id', mode='async_local')",
    )
    ids = {row[3]: row[1] for row in client.execute_command("RG.DUMPREGISTRATIONS")}
    assert client.execute_command("RG.TRIGGER", "id") == [ids["KeysReader"]]


def test_all_of_it_lives_on_after_a_restart_and_ids_grow() -> None:
    with RedisServer() as server, WorkerProcess(server):
        with server.client(decode_responses=True) as client:
            upload(client, script("x"), "ID", "mine", "DESCRIPTION", "what it is", "REQUIREMENTS", "redis")
            before = client.execute_command("RG.PYDUMPSESSIONS", "VERBOSE")
        server.restart()
        with WorkerProcess(server), server.client(decode_responses=True) as client:
            assert client.execute_command("RG.PYDUMPSESSIONS", "VERBOSE") == before
            assert client.execute_command("RG.TRIGGER", "say") == ["x"]
            (old,) = client.execute_command("RG.DUMPREGISTRATIONS")
            upload(client, script("y"), "ID", "mine", "UPGRADE")
            (new,) = client.execute_command("RG.DUMPREGISTRATIONS")
            assert int(new[1].split("-")[1]) > int(old[1].split("-")[1])


def test_every_shard_and_every_worker_has_the_new_one() -> None:
    with (
        RedisClusterServers(masters=2, replicas=0) as servers,
        WorkerProcess(servers),
        WorkerProcess(servers),
    ):
        clients = [master.client(decode_responses=True) for master in servers.masters]
        for says in ("1", "2", "3"):
            upload(clients[0], script(says), "ID", "mine", "UPGRADE")
            for client in clients:
                assert [client.execute_command("RG.TRIGGER", "say") for _ in range(6)] == [[says]] * 6
                assert list(sessions(client)) == ["mine"]
