"""Models are fetched once, whatever becomes of the job that wanted them first."""

from __future__ import annotations

import hashlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from keymiss.addresses import Address
from keymiss.cluster.topology import Shard
from keymiss.reading.backends.base import ModelError
from keymiss.worker import model_runner
from keymiss.worker.functions.interruption import Interruption, run_interruptibly
from keymiss.worker.functions.job_context import GearsError
from keymiss.worker.model_processes.libraries import NotNow
from keymiss.worker.model_runner import ModelStore
from keymiss.worker.not_kept import NotKept
from tests.patience import patient
from tests.servers import wait_until

SHARD = Shard(Address("127.0.0.1", 1), "the-node")
BLOB = b"a model"


class Connection:
    """A shard with one model."""

    address = SHARD.address

    def another(self) -> Connection:
        return self

    def close(self) -> None:
        pass

    def __init__(self, blob: bytes = BLOB) -> None:
        self.asked, self.blob, self.fetched = 0, blob, False

    def command(self, name: str, *args: Any) -> Any:
        if name == "KM.MODELINFO":
            self.asked += 1
            sha256 = hashlib.sha256(self.blob).hexdigest()
            fields = {"version": 1, "backend": "TORCH", "size_bytes": len(self.blob), "sha256": sha256}
            return [one for pair in fields.items() for one in pair]
        self.fetched = True
        return self.blob


class Libraries:
    """Loading takes until `may_end` is set, and raises the errors first. `most`: so many were loaded at
    once."""

    def __init__(self, *errors: ModelError) -> None:
        self.errors, self.loads, self.most = list(errors), 0, 0
        self.began, self.may_end = threading.Event(), threading.Event()
        self._lock, self._now = threading.Lock(), 0
        self.of_before: dict[tuple[str, str], Any] = {}

    def kept(self, backend: str, digest: str) -> Any:
        return self.of_before.pop((backend, digest), None)

    def load(self, backend: str, file: int, digest: str) -> Any:
        with self._lock:
            self.loads += 1
            self._now += 1
            self.most = max(self.most, self._now)
        self.began.set()
        assert self.may_end.wait(patient(20))
        time.sleep(0.02)  # as loading takes its time: others that may would begin meanwhile
        with self._lock:
            self._now -= 1
        if self.errors:
            raise self.errors.pop(0)
        return type("Loaded", (), {"lost": False, "about": None})()


def store_of(libraries: Any) -> ModelStore:
    return ModelStore(libraries, NotKept(CollectorRegistry()))


def get(store: ModelStore) -> Any:
    connection: Any = Connection()
    return store.get(SHARD, connection, "m")[0]


def test_a_job_whose_time_is_over_does_not_end_the_loading() -> None:
    """It waits no longer; who comes next has the model, which is loaded once."""
    libraries = Libraries()
    store = store_of(libraries)

    def interrupt(interruption: Interruption) -> None:
        def other() -> None:
            libraries.began.wait(patient(20))
            interruption.interrupt("too long")

        threading.Thread(target=other, daemon=True).start()

    for _ in range(2):
        with pytest.raises(GearsError, match="too long"):
            run_interruptibly(interrupt, lambda: get(store))
    libraries.may_end.set()
    first = get(store)
    assert get(store) is first
    assert libraries.loads == 1


def test_a_model_that_the_worker_before_had_loaded_is_not_fetched() -> None:
    libraries, connection = Libraries(), Connection()
    kept = type("Loaded", (), {"lost": False, "about": None})()
    libraries.of_before["TORCH", hashlib.sha256(BLOB).hexdigest()] = kept
    store = store_of(libraries)
    for _ in range(2):
        assert store.get(SHARD, connection, "m")[0] is kept  # type: ignore[arg-type]
    assert store.loaded() == (1, len(BLOB))
    assert (libraries.loads, connection.fetched) == (0, False)


def test_only_what_is_wrong_with_the_model_is_remembered() -> None:
    libraries = Libraries(NotNow("ask again"), ModelError("it is bad"))
    libraries.may_end.set()
    store = store_of(libraries)
    with pytest.raises(ModelError, match="model m: ask again"):
        get(store)
    for _ in range(2):
        with pytest.raises(ModelError, match="model m: it is bad"):
            get(store)
    assert libraries.loads == 2


def test_a_shard_is_asked_once_in_an_epoch() -> None:
    libraries, connection = Libraries(), Connection()
    libraries.may_end.set()
    store, asked = store_of(libraries), []
    for epoch in (1, 1, 2, 2, 0, 0, 2, 1):
        before = connection.asked
        store.get(SHARD, connection, "m", epoch)  # type: ignore[arg-type]
        asked.append(connection.asked - before)
    assert asked == [1, 0, 1, 0, 1, 1, 0, 1]
    assert libraries.loads == 1


def test_a_model_whose_process_ended_is_loaded_anew_in_the_same_epoch() -> None:
    libraries, connection = Libraries(), Connection()
    libraries.may_end.set()
    store = store_of(libraries)
    first, _ = store.get(SHARD, connection, "m", 1)  # type: ignore[arg-type]
    first.lost = True
    second, _ = store.get(SHARD, connection, "m", 1)  # type: ignore[arg-type]
    assert second is not first
    assert libraries.loads == 2


@pytest.mark.parametrize("large", [False, True])
def test_models_are_loaded_beside_each_other_but_large_ones(
    monkeypatch: pytest.MonkeyPatch, *, large: bool
) -> None:
    monkeypatch.setattr(model_runner, "LARGE_BYTES", 0 if large else 1 << 20)
    libraries = Libraries()
    store = store_of(libraries)
    connections: list[Any] = [Connection(b"model %d" % number) for number in range(model_runner.MAX_FETCHED)]
    with ThreadPoolExecutor(len(connections)) as pool:
        got = [
            pool.submit(store.get, SHARD, connection, f"m{number}")
            for number, connection in enumerate(connections)
        ]
        wait_until(lambda: all(connection.fetched for connection in connections))
        wait_until(lambda: libraries.loads == (1 if large else len(connections)))
        libraries.may_end.set()
        assert len({id(each.result(patient(20))[0]) for each in got}) == len(connections)
    assert libraries.most == (1 if large else len(connections))
