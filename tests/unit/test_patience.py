"""The tests' time limits: longer on a slow machine, also on one that becomes slow."""

from __future__ import annotations

import pytest

from tests import patience, scheduling
from tests.servers import REPO


def test_a_limit_is_longer_on_a_slow_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "slowness", lambda: 3.0)
    monkeypatch.setattr(patience, "_patience", patience.Patience())
    assert patience.patient(10) == 30 * patience.HEADROOM
    assert patience.slower(10) == 30


def test_a_machine_that_has_become_slow_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s, slow = 0.0, 1.0
    monkeypatch.setattr(patience.time, "monotonic", lambda: now_s)
    monkeypatch.setattr(patience, "slowness", lambda: slow)
    monkeypatch.setattr(patience, "_patience", patience.Patience())
    limit = patience.Limit(10)
    now_s, slow = 10 * patience.HEADROOM + 1, 2.0
    assert not limit.reached()
    assert limit.whole_s == 20 * patience.HEADROOM
    now_s, slow = 20 * patience.HEADROOM + 1, 1.0
    assert limit.reached()


def test_fewer_cores_and_more_load_are_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "WORK_ROUNDS", 1)
    cores, load = {0, 1}, 0.0
    monkeypatch.setattr(patience.os, "sched_getaffinity", lambda _: cores)
    monkeypatch.setattr(patience.os, "getloadavg", lambda: (load, 0, 0))
    assert patience.slowness() == 1
    cores = {0}
    assert patience.slowness() == 2
    load = 2.5
    assert patience.slowness() == 5
    load = 1000.0
    assert patience.slowness() == patience.MOST


def test_files_that_start_a_whole_system_are_one_group() -> None:
    assert all((REPO / file).is_file() for file in scheduling.HEAVY)
    assert {scheduling.group_of(f"{file}::test_x[a]") for file in scheduling.HEAVY} == {"heavy"}
    others = ("tests/unit/test_x.py::test_a", "tests/api/test_x.py::test_a")
    assert len(set(map(scheduling.group_of, others))) == 2
