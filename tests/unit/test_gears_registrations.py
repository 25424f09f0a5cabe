"""What the functions in gears/ register for, and that their names for the type checker are the worker's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

import pytest

from keymiss.addresses import Address
from keymiss.cluster.topology import Shard
from keymiss.worker.functions.builder import Recorder, Registration
from keymiss.worker.functions.gears_api import install_modules
from keymiss.worker.functions.job_context import JobContext
from keymiss.worker.functions.redisai_api import MEMBERS
from keymiss.worker.functions.scripts import execute_source

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted((ROOT / "gears").glob("*.py"))
GONE = {"del", "expired", "rename_from", "evicted"}
HERE = {"rename_to", "restore", "copy_to"}
SENTENCES_CHANGE = {"hset", "hdel", *GONE, *HERE, "catchup"}
EVENTS = {
    "split articles": ("paragraphs:", {"set", "append", "setrange", *GONE, *HERE, "catchup"}),
    "deleted articles": ("state:", {"catchup"}),
    "years of articles": ("article:", {"hset", "hdel", *GONE, *HERE}),
    "list of evicted keys": ("evicted:", {"evicted"}),
    "tokenize sentences": ("sentence:", SENTENCES_CHANGE),
    "tokens of deleted sentences": ("tokens:", {"catchup"}),
    "concepts of sentences": ("sentence:", {*SENTENCES_CHANGE, "concepts"}),
    "concepts of deleted sentences": ("concepts:", {"catchup", "evicted"}),
    "concept table": ("concept-table:", {"hset", "del", "restore", "evicted"}),
    "concept graph": ("edges:", {"xadd", "catchup"}),
    "vectors of sentences": ("sentence:", {*SENTENCES_CHANGE, "vectors"}),
    "vectors of deleted sentences": ("vectors:", {"catchup", "evicted"}),
    "encoder": ("bert-encoder", {"modelstore"}),
    "states of sentences": ("sentence:", {*SENTENCES_CHANGE, "states"}),
    "states of deleted sentences": ("lower:", {"catchup"}),
    "lower half of a reader": ("bert-qa-lower", {"modelstore"}),
    "vector of a question": ("bertvec", {"keymiss"}),
    "answer bertqa": ("bertqa", {"keymiss"}),
    "answer bertspan": ("bertspan", {"keymiss"}),
}


@pytest.fixture(scope="module")
def registered() -> dict[str, Registration]:
    """By description. Their scripts need no shard to be loaded."""
    install_modules()
    context = JobContext(cast(Any, None), Shard(Address("127.0.0.1", 1), "node"))
    found = []
    for script in SCRIPTS:
        found += execute_source(
            context, script.read_bytes(), Recorder("upload", keep_runs=False, new_id=str)
        ).registrations
    return {registration.desc: registration for registration in found}


def test_every_function_and_its_events(registered: dict[str, Registration]) -> None:
    assert {desc: (one.prefix, set(one.keys.event_types)) for desc, one in registered.items()} == EVENTS


def test_only_a_get_asks(registered: dict[str, Registration]) -> None:
    for one in registered.values():
        assert one.keys.commands == (("get",) if "keymiss" in one.keys.event_types else ())


def test_events_coalesce_and_misses_share_a_run(registered: dict[str, Registration]) -> None:
    for one in registered.values():
        assert one.keys.coalesce == ("keymiss" not in one.keys.event_types)


def test_the_stub_has_the_worker_s_names() -> None:
    stub = (ROOT / "stubs" / "redisAI.pyi").read_text()
    names = dict(re.findall(r"import (\w+) as (\w+)$", stub, re.M))
    assert {public: member.__name__ for public, member in MEMBERS.items()} == {
        public: name for name, public in names.items()
    }
