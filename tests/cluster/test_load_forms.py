"""keymiss.models.load on a running cluster: other forms, exported files, and what leaves the model there."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.cluster import RedisCluster

from keymiss import keys
from keymiss.models import load
from keymiss.models.export import Source, compare, export
from keymiss.reading.tensors import Tensor, parse_get_reply, set_command
from tests.servers import RedisClusterServers, WorkerProcess, tags_of
from tests.unit.test_export import small


@pytest.fixture(scope="module")
def two() -> Iterator[RedisClusterServers]:
    """A cluster of its own, as a master of it is stopped."""
    with RedisClusterServers(masters=2) as cluster, WorkerProcess(cluster):
        yield cluster


@pytest.fixture
def client(two: RedisClusterServers) -> Iterator[RedisCluster]:
    with two.client() as made:
        yield made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small(tmp_path_factory.mktemp("model") / "forms-test")


@pytest.fixture(autouse=True)
def own_var(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYMISS_VAR", str(tmp_path_factory.mktemp("var")))


class Stored:
    """The model on one shard, run there by AI.MODELEXECUTE."""

    about = None

    def __init__(self, client: RedisCluster, tag: str) -> None:
        self._client, self._tag = client, tag

    def run(self, inputs: list[Tensor]) -> list[Tensor]:
        given = [f"in{number}{{{self._tag}}}" for number in range(3)]
        taken = [f"out{number}{{{self._tag}}}" for number in range(2)]
        for key, tensor in zip(given, inputs, strict=True):
            self._client.execute_command(*set_command(key, tensor))
        order = ["INPUTS", 3, *given, "OUTPUTS", 2, *taken]
        self._client.execute_command("AI.MODELEXECUTE", keys.model_key(self._tag), *order)
        replies = [self._client.execute_command("AI.TENSORGET", key, "META", "BLOB") for key in taken]
        return [parse_get_reply(key, reply) for key, reply in zip(taken, replies, strict=True)]


def stored(client: RedisCluster) -> list[tuple[bytes, bytes]]:
    """Backend and tag of each shard's model."""
    metas = [client.execute_command("AI.MODELGET", keys.model_key(tag), "META") for tag in tags_of(client)]
    return [(meta[1], meta[5]) for meta in metas]


@pytest.mark.timeout(300)
def test_forms_and_files_take_each_others_place(
    client: RedisCluster, two: RedisClusterServers, folder: Path
) -> None:
    source = Source(str(folder))
    seen = set()
    for form, backend, limit in (
        ("onnx-int8", b"ONNX", 0.02),
        ("torchscript-bfloat16", b"TORCH", 0.05),
        ("onnx", b"ONNX", 1e-4),
    ):
        assert load.main(["--model", str(folder), "--form", form, "--nodes", two.addresses]) == 0
        (name, tag), other = stored(client)
        assert (name, tag) == other
        assert name == backend
        seen.add(tag)
        for hash_tag in tags_of(client):
            assert compare(source, Stored(client, hash_tag), 3, 33) < limit
    made, _ = export(str(folder))
    assert load.main(["--model", made.path, "--nodes", two.addresses]) == 0
    assert stored(client) == [(b"TORCH", made.sha256[:12].encode())] * 2
    assert len(seen) == 3


def test_a_refused_file_leaves_the_running_model(
    client: RedisCluster, two: RedisClusterServers, folder: Path, tmp_path: Path
) -> None:
    assert load.main(["--model", str(folder), "--nodes", two.addresses]) == 0
    before = stored(client)
    made, _ = export(str(folder))
    bad = tmp_path / "bad.pt"
    bad.write_bytes(Path(made.path).read_bytes()[:-100])
    assert load.main(["--model", str(bad), "--nodes", two.addresses]) == 1
    assert stored(client) == before


def test_nothing_is_stored_while_a_master_does_not_answer(
    client: RedisCluster,
    two: RedisClusterServers,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert load.main(["--model", str(folder), "--nodes", two.addresses]) == 0
    before = stored(client)
    monkeypatch.setattr(load, "ASK_TIMEOUT_S", 0.5)
    first, second = two.masters
    order = ["--model", str(folder), "--form", "torchscript-bfloat16", "--nodes", first.address]
    made, _ = export(str(folder), form="torchscript-bfloat16")
    second.signal(signal.SIGSTOP)
    try:
        assert load.main(order) == 1
    finally:
        second.signal(signal.SIGCONT)
    assert f"master {second.address} cannot take a model, none was stored: " in capsys.readouterr().err
    two.wait_ok()
    assert stored(client) == before
    assert load.main(order) == 0
    assert stored(client) == [(b"TORCH", made.sha256[:12].encode())] * 2
