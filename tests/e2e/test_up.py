"""`keymiss up`: from nothing to an answer in one command; README.md's commands; other articles; down."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from keymiss.addresses import parse_addresses
from keymiss.cluster.credentials import Credentials
from keymiss.cluster.redis_cluster import open_cluster
from keymiss.corpus.sample import FOLDER
from keymiss.local.processes import processes_of
from keymiss.local.redis_users import password_of
from tests.e2e.test_start_stop import Local
from tests.patience import patient
from tests.servers import REPO, open_folder

README = (REPO / "README.md").read_text()
BLOCK = re.compile(r"^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.S | re.M)
SETS_UP = ("git clone", "./bootstrap_benchmark.sh", "./run_tests.sh")
"""What README.md shows and is not run here: it sets up the machine, and runs this."""
FAILED = re.compile(r"\(error\)|\(nil\)|\"status\": ?[45]")
QUESTION = "How long does influenza virus survive on surfaces"


@pytest.fixture(scope="module")
def local() -> Iterator[Local]:
    system = Local(open_folder(), masters=4)  # as README.md's
    system.share_exports()
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
    assert "4 masters, 0 replica(s) each: cluster created" in said
    assert "4 masters hold" in said
    assert f"{len(list(FOLDER.glob('*.json')))} written" in said
    answer = said.partition("$ keymiss ask ")[2]
    assert "score 0." in answer
    assert "Infected adults with mild symptoms" in answer


@pytest.mark.timeout(patient(300))
def test_ask_by_its_own_certificate(local: Local) -> None:
    reply = json.loads(done(local, "ask", "--json", QUESTION))
    assert reply["found"]
    assert reply["results"][0]["answer"] in done(local, "ask", QUESTION)
    assert keymiss(local, "ask", "--min-score", "0.99", QUESTION).returncode == 1


@pytest.mark.timeout(patient(300))
def test_again_changes_nothing_and_all_is_well(local: Local) -> None:
    said = done(local, "up")
    assert "Keymiss is up already" in said
    assert said.count("already there") == 2 * 4
    assert " 0 written" in said
    assert done(local, "gears", "list").count("4 of 4") >= 6
    looked = done(local, "doctor")
    assert "ok process api: runs" in looked
    assert "!!" not in looked
    watch = keymiss(local, "watch")
    assert watch.returncode == 1
    assert "keymiss up --observe" in watch.stderr


def shown(kind: str) -> list[str]:
    """The text of README.md's blocks of a kind."""
    return [block["text"] for block in BLOCK.finditer(README) if block["kind"] == kind]


def here(local: Local, text: str) -> str:
    """With this system's ports."""
    ports = {"30001": local.env["KEYMISS_BASE_PORT"], "8080": local.env["KEYMISS_HTTPS_PORT"]}
    return re.sub("|".join(ports), lambda port: ports[port[0]], text)


def commands() -> Iterator[tuple[str, str]]:
    """README.md's commands, each with what is shown below it: a line, or several that end in a backslash."""
    for block in shown(""):
        command, output = "", ""
        prompted = block.startswith("$ ")
        for line in block.replace("\\\n", "").splitlines():
            if prompted and not line.startswith("$ "):
                output += line + "\n"
            elif not line.startswith(SETS_UP):
                command = line.removeprefix("$ ")
                if not prompted:
                    yield command, ""
        if prompted:
            yield command, output


def typed(local: Local, *command: str) -> str:
    ended = subprocess.run(
        command,
        cwd=REPO,
        env={**os.environ, **local.env},
        capture_output=True,
        text=True,
        timeout=patient(200),
    )
    assert ended.returncode == 0, f"{command}: {ended.stdout}{ended.stderr}"
    return ended.stdout


@pytest.mark.timeout(patient(600))
def test_what_the_readme_shows(local: Local) -> None:
    ran = []
    for command, output in commands():
        printed = typed(local, "bash", "-euo", "pipefail", "-c", here(local, command))
        ran.append(command)
        assert not FAILED.search(printed), f"{command}: {printed}"
        assert printed.strip() or "--scan" not in command, command
        if output:
            assert re.sub(r"score [\d.]+", "score", printed) == re.sub(r"score [\d.]+", "score", output)
    assert len(ran) >= 12
    assert any(command.startswith("curl") for command in ran)
    (program,) = shown("python")
    assert "Infected adults with mild symptoms" in typed(local, sys.executable, "-c", here(local, program))


@pytest.mark.timeout(patient(300))
def test_the_benchmark_of_the_bootstrap(local: Local) -> None:
    script = str(REPO / "scripts" / "benchmark.py")
    printed = typed(local, "env", f"PYTHONPATH={REPO}", sys.executable, script)
    for row in ("question, not cached", "question, cached", "GET of a cached key", "transformers, warm"):
        assert row in printed
    assert "50 clients at once: 1 model" in printed


@pytest.mark.timeout(patient(300))
def test_the_sample_is_not_put_among_other_articles(local: Local) -> None:
    admin = Credentials("admin", password_of(local.settings, "admin"))
    with open_cluster(parse_addresses(local.settings.nodes), admin) as client:
        for name in FOLDER.glob("*.json"):
            client.delete(f"paragraphs:{name.stem}")
        client.set("paragraphs:of-my-own", "This is an article of my own.")
    said = done(local, "up")
    assert "There are other articles: the sample is not loaded." in said
    assert "keymiss ask" not in said
    with open_cluster(parse_addresses(local.settings.nodes), admin) as client:
        client.delete("paragraphs:of-my-own")
    assert "There are no articles yet: keymiss load" in done(local, "up", "--no-sample")


@pytest.mark.timeout(patient(300))
def test_down_stops_it_and_the_data_stays(local: Local) -> None:
    assert "Keymiss stopped." in done(local, "down")
    assert processes_of(local.settings.var) == []
    assert (local.settings.data / "layout.json").exists()
    assert "Keymiss is not running." in done(local, "down")
