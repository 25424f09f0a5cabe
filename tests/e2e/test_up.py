"""`keymiss up`: from nothing to an answer in one command; again, beside other articles, and down."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator

import pytest

from keymiss.corpus.sample import FOLDER
from keymiss.local.processes import processes_of
from tests.e2e.test_start_stop import Local
from tests.patience import patient
from tests.servers import REPO, open_folder

QUESTION = "How long does influenza virus survive on surfaces"


@pytest.fixture(scope="module")
def local() -> Iterator[Local]:
    system = Local(open_folder())
    yield system
    for log in ("worker", "api"):
        print(system.supervisor.tail(log))
    system.supervisor.stop()


def keymiss(local: Local, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command of this checkout, from another folder."""
    return subprocess.run(
        [str(REPO / "scripts" / "keymiss"), *arguments],
        cwd="/",
        env={**os.environ, **local.env},
        capture_output=True,
        text=True,
        timeout=patient(250),
    )


def done(local: Local, *arguments: str) -> str:
    ended = keymiss(local, *arguments)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.mark.timeout(patient(300))
def test_from_nothing_to_an_answer(local: Local) -> None:
    said = done(local, "up", "--replicas", "0")
    local.env["KEYMISS_REPLICAS"] = "0"
    assert "1 masters, 0 replica(s) each: cluster created" in said
    assert "1 masters hold" in said
    assert f"{len(list(FOLDER.glob('*.json')))} written" in said
    answer = said.partition("$ keymiss ask ")[2]
    assert "score 0." in answer
    assert "Infected adults" in answer


@pytest.mark.timeout(patient(300))
def test_ask_by_its_own_certificate(local: Local) -> None:
    reply = json.loads(done(local, "ask", "--json", QUESTION))
    assert reply["found"]
    assert reply["results"][0]["answer"] in done(local, "ask", QUESTION)
    assert keymiss(local, "ask", "What is the capital of Australia").returncode == 1


@pytest.mark.timeout(patient(300))
def test_again_changes_nothing_and_all_is_well(local: Local) -> None:
    said = done(local, "up")
    assert "Keymiss is up already" in said
    assert said.count("already there") == 2
    assert " 0 written" in said
    assert done(local, "gears", "list").count("1 of 1") >= 6
    looked = done(local, "doctor")
    assert "ok process api: runs" in looked
    assert "!!" not in looked
    watch = keymiss(local, "watch")
    assert watch.returncode == 1
    assert "keymiss up --observe" in watch.stderr


@pytest.mark.timeout(patient(300))
def test_the_sample_is_not_put_among_other_articles(local: Local) -> None:
    with local.admin(local.settings.base_port) as client:
        for name in FOLDER.glob("*.json"):
            client.delete(f"paragraphs:{name.stem}")
        client.set("paragraphs:of-my-own", "This is an article of my own.")
    said = done(local, "up")
    assert "There are other articles: the sample is not loaded." in said
    assert "keymiss ask" not in said


@pytest.mark.timeout(patient(300))
def test_down_stops_it_and_the_data_stays(local: Local) -> None:
    assert "Keymiss stopped." in done(local, "down")
    assert processes_of(local.settings.var) == []
    assert (local.settings.data / "layout.json").exists()
    assert "Keymiss is not running." in done(local, "down")
