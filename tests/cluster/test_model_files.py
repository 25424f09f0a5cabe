"""keymiss.model-folder: large blobs are in files that the servers of a host map; all else gives the whole."""

from __future__ import annotations

import os
import random
import re
import resource
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis

from tests.servers import RedisServer, keymiss_info, open_folder, wait_until

BLOB = random.Random(1).randbytes((3 << 20) + 17)
OTHER = random.Random(2).randbytes(len(BLOB))
NAME = re.compile(r"\d+-[0-9a-f]{16}\.blob")


@pytest.fixture
def folder() -> Path:
    return open_folder() / "blobs"


@pytest.fixture
def pair(folder: Path) -> Iterator[list[RedisServer]]:
    """Two servers of one folder."""
    with ExitStack() as stack:
        yield [stack.enter_context(with_files(folder)) for _ in range(2)]


def with_files(folder: Path, *args: str, appendonly: bool = False) -> RedisServer:
    return RedisServer("--keymiss.model-folder", str(folder), *args, appendonly=appendonly)


def store(server: RedisServer, blob: bytes = BLOB, key: str = "m", wait: bool = True) -> None:
    at = mapped(server)
    with server.client() as client:
        assert client.execute_command(
            "AI.MODELSTORE", key, "DUMMY", "CPU", "TAG", "t", "BLOB", blob[:70000], blob[70000:]
        )
    if wait:
        wait_until(lambda: mapped(server) == at + len(blob), 10, "moved into a file")


def mapped(server: RedisServer) -> int:
    with server.client() as client:
        return int(keymiss_info(client)["mapped_models_bytes"])


def blob_at(server: RedisServer, key: str = "m") -> bytes:
    with server.client() as client:
        return bytes(client.execute_command("AI.MODELGET", key, "BLOB"))


def digest(server: RedisServer, key: str = "m") -> object:
    with server.client() as client:
        return client.execute_command("DEBUG", "DIGEST-VALUE", key)


def inodes(server: RedisServer, folder: Path) -> set[int]:
    """Of the files of the folder that the server has mapped."""
    lines = Path(f"/proc/{server.pid}/maps").read_text().splitlines()
    return {int(line.split()[4]) for line in lines if str(folder) in line}


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_two_servers_share_one_file(pair: list[RedisServer], folder: Path) -> None:
    before = [server.client().info("memory")["used_memory"] for server in pair]
    for server in pair:
        store(server)
    (name,) = files(folder)
    assert NAME.fullmatch(name)
    at = (folder / name).stat()
    assert (at.st_mode & 0o777, at.st_size) == (0o400, len(BLOB))
    assert folder.stat().st_mode & 0o777 == 0o700
    for server, used in zip(pair, before, strict=True):
        assert inodes(server, folder) == {at.st_ino}
        assert blob_at(server) == BLOB
        with server.client() as client:
            assert keymiss_info(client)["tensors_and_models_bytes"] < 4096
            assert client.execute_command("MEMORY", "USAGE", "m") < 4096
            wait_until(
                lambda used=used, client=client: client.info("memory")["used_memory"] < used + len(BLOB) // 2
            )


def test_chunks_stay_as_they_were_sent(pair: list[RedisServer]) -> None:
    moved, _ = pair
    store(moved)
    with RedisServer() as plain, plain.client() as client, moved.client() as other:
        store(plain, wait=False)
        assert digest(plain) == digest(moved)
        for offset, length in (
            (0, 100),
            (69_990, 100),
            (70_000, 1 << 20),
            (len(BLOB) - 5, 9),
            (len(BLOB), 9),
        ):
            part = ("KM.MODELCHUNK", "m", "*", offset, length)
            assert client.execute_command(*part) == other.execute_command(*part)
        assert client.execute_command("AI.MODELGET", "m") == other.execute_command("AI.MODELGET", "m")


def test_a_small_one_and_one_of_a_server_without_a_folder_stay_on_the_heap(
    pair: list[RedisServer], folder: Path
) -> None:
    server, _ = pair
    store(server, BLOB[: 1 << 19], "small", wait=False)
    store(server)  # by now the small one would have been moved, too
    assert len(files(folder)) == 1
    with RedisServer() as plain:
        store(plain, wait=False)
        with plain.client() as client:
            assert client.config_get("keymiss.model-folder") == {"keymiss.model-folder": ""}
            assert keymiss_info(client)["tensors_and_models_bytes"] > len(BLOB)
            assert client.execute_command("MEMORY", "USAGE", "m") > len(BLOB)


def test_what_is_deleted_leaves_with_the_last_that_has_it(pair: list[RedisServer], folder: Path) -> None:
    for server in pair:
        store(server)
    one, two = (server.client() for server in pair)
    one.execute_command("COPY", "m", "twin")
    assert mapped(pair[0]) == len(BLOB), "a copy has no memory of its own"
    one.delete("m")
    assert blob_at(pair[0], "twin") == BLOB
    one.flushall(asynchronous=True)
    wait_until(lambda: mapped(pair[0]) == 0)
    store(pair[0], OTHER)  # it has looked for unused ones by the time this is in its file
    assert len(files(folder)) == 2
    two.execute_command("AI.MODELDEL", "m")
    wait_until(lambda: len(files(folder)) == 1, 10, "the file is removed")
    one.execute_command("AI.MODELSTORE", "m", "DUMMY", "CPU", "BLOB", "another one in its place")
    wait_until(lambda: files(folder) == [], 10, "the file is removed")


def test_the_same_of_two_keys_is_one_file(pair: list[RedisServer], folder: Path) -> None:
    server, _ = pair
    store(server)
    store(server, key="n")
    assert len(files(folder)) == 1
    server.client().delete("m")
    assert blob_at(server, "n") == BLOB


@pytest.mark.parametrize("how", ["RDB", "AOF", "rewritten AOF", "rewritten AOF of commands", "killed"])
def test_a_restart(folder: Path, how: str) -> None:
    preamble = "no" if how.endswith("commands") else "yes"
    with with_files(folder, "--aof-use-rdb-preamble", preamble, appendonly=how != "RDB") as server:
        store(server)
        before, value = files(folder), digest(server)
        if how.startswith("rewritten"):
            with server.client() as client:
                client.bgrewriteaof()
                wait_until(lambda: not client.info("persistence")["aof_rewrite_in_progress"], 20)
                assert client.info("persistence")["aof_last_bgrewrite_status"] == "ok"
        if how == "killed":
            with server.client() as client:
                wait_until(lambda: client.info("persistence")["aof_pending_bio_fsync"] == 0)
            server.kill()
            server.start()
        else:
            server.restart()
        wait_until(lambda: mapped(server) == len(BLOB))
        assert (blob_at(server), digest(server), files(folder)) == (BLOB, value, before)


def test_a_child_saves_what_is_deleted_meanwhile(folder: Path) -> None:
    with with_files(folder) as server, server.client() as client:
        store(server)
        value = digest(server)
        client.config_set("rdb-key-save-delay", 1_000_000)
        for i in range(3):
            client.set(i, i)
        client.bgsave()
        client.delete("m")
        wait_until(lambda: files(folder) == [], 10, "removed, though the child has it")
        client.config_set("rdb-key-save-delay", 0)
        wait_until(lambda: not client.info("persistence")["rdb_bgsave_in_progress"], 30)
        assert client.info("persistence")["rdb_last_bgsave_status"] == "ok"
        client.shutdown(nosave=True)
        assert server.process is not None
        server.process.wait(20)
        server.start()
        assert (blob_at(server), digest(server)) == (BLOB, value)


def test_a_replica_a_dump_and_a_move(pair: list[RedisServer], folder: Path) -> None:
    """MIGRATE without a worker moves a model as it is."""
    one, two = pair
    store(one)
    value = digest(one)
    with one.client() as client, two.client() as other:
        other.execute_command("REPLICAOF", "127.0.0.1", one.port)
        wait_until(lambda: other.info("replication")["master_link_status"] == "up", 20)
        wait_until(lambda: mapped(two) == len(BLOB))
        assert (blob_at(two), digest(two)) == (BLOB, value)
        store(one, OTHER, "n")
        wait_until(lambda: mapped(two) == 2 * len(BLOB))
        assert blob_at(two, "n") == OTHER
        other.execute_command("REPLICAOF", "NO", "ONE")
        other.flushall()
        other.restore("dumped", 0, client.dump("m"))
        client.migrate("127.0.0.1", two.port, "m", 0, 10_000)
        wait_until(lambda: mapped(two) == 2 * len(BLOB))
        assert len(files(folder)) == 2
        for key in ("m", "dumped"):
            assert (blob_at(two, key), digest(two, key)) == (BLOB, value)
        assert not client.exists("m")


def put(folder: Path, digits: str, blob: bytes, mode: int = 0o400) -> Path:
    path = folder / f"{len(BLOB)}-{digits * 16}.blob"
    path.write_bytes(blob)
    path.chmod(mode)
    return path


def test_files_that_are_not_what_they_seem(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    other = put(folder, "1", OTHER)
    cut = put(folder, "2", BLOB[:-1])
    open_to_all = put(folder, "3", BLOB, 0o644)
    link = folder / f"{len(BLOB)}-{'4' * 16}.blob"
    link.symlink_to(open_to_all)
    pipe = folder / f"{len(BLOB)}-{'5' * 16}.blob"
    os.mkfifo(pipe, 0o400)
    mine = folder / "notes.txt"
    mine.write_text("of somebody")
    with with_files(folder) as server:
        wait_until(lambda: not other.exists() and not cut.exists(), 10, "what nobody uses is removed")
        put(folder, "1", OTHER)
        store(server)
        made = {path for path in folder.iterdir() if path.stat().st_ino in inodes(server, folder)}
        assert len(made) == 1
        assert not made & {other, open_to_all, link, pipe}
        assert blob_at(server) == BLOB
    assert open_to_all.exists()
    assert mine.exists()


def broken(folder: Path, how: str) -> None:
    if how == "a file in its place":
        folder.write_text("")
    elif how == "a link":
        (folder.parent / "elsewhere").mkdir(mode=0o700)
        folder.symlink_to(folder.parent / "elsewhere")
    elif how == "open to all":
        folder.mkdir()
        folder.chmod(0o777)
    else:
        folder.parent.rmdir()


@pytest.mark.parametrize("how", ["a file in its place", "a link", "open to all", "no parent"])
def test_without_its_folder_a_blob_stays_on_the_heap(folder: Path, how: str) -> None:
    broken(folder, how)
    with with_files(folder) as server, server.client() as client:
        store(server, wait=False)
        store(server, OTHER, "n", wait=False)
        wait_until(lambda: "stays on the heap" in server.log_text(), 10)
        assert (blob_at(server), blob_at(server, "n"), mapped(server)) == (BLOB, OTHER, 0)
        assert keymiss_info(client)["tensors_and_models_bytes"] > 2 * len(BLOB)
        assert server.log_text().count("stays on the heap") == 1


def test_a_folder_that_goes_is_made_again(pair: list[RedisServer], folder: Path) -> None:
    server, other = pair
    store(server)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    store(other)
    assert (blob_at(server), blob_at(other)) == (BLOB, BLOB)
    assert len(files(folder)) == 1


def test_a_file_that_grows_too_large_and_later_may(folder: Path) -> None:
    with with_files(folder) as server, server.client():
        unlimited = resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
        store(server, wait=False)
        wait_until(lambda: "the file cannot be written: File too large" in server.log_text(), 10)
        assert files(folder) == []
        assert (blob_at(server), mapped(server)) == (BLOB, 0)
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, unlimited)
        wait_until(lambda: mapped(server) == len(BLOB), 30, "tried again")
        assert blob_at(server) == BLOB


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_a_disk_that_is_full(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    if os.system(f"mount -t tmpfs -o size=4m,mode=700 tmpfs {folder} 2>/dev/null"):
        pytest.skip("nothing can be mounted here")
    try:
        with with_files(folder) as server:
            store(server, wait=False)
            wait_until(lambda: "less than twice as much room" in server.log_text(), 10)
            assert (blob_at(server), mapped(server), files(folder)) == (BLOB, 0, [])
    finally:
        os.system(f"umount {folder}")


def test_the_setting_is_a_whole_path_and_fixed(folder: Path) -> None:
    with (
        pytest.raises(RuntimeError, match="must be the path of a folder from / on"),
        with_files(Path("blobs")),
    ):
        pass
    with with_files(folder) as server, server.client() as client:
        assert client.config_get("keymiss.model-folder") == {"keymiss.model-folder": str(folder)}
        with pytest.raises(redis.ResponseError, match="immutable"):
            client.config_set("keymiss.model-folder", "/tmp")
