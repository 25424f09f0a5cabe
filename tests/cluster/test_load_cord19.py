"""A folder in the layout of CORD-19 with its metadata.csv: loaded, asked by year, opened at /articles."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.cluster import RedisCluster

from keymiss import keys
from keymiss.models import load as load_reader
from tests.api.processes import ApiProcess
from tests.cluster import pipeline
from tests.cord19 import parse, write_metadata, write_parse
from tests.patience import patient
from tests.servers import REPO, RedisClusterServers, WorkerProcess, wait_until

SHA = {"one": "1" * 40, "two": "2" * 40, "three": "3" * 40, "extra": "e" * 40}
MASKS = "Surgical masks halved the transmission of the virus in schools."
BATS = "The virus was found in bats of the caves of Yunnan in the winter."
CAMELS = "The virus was found in camels of three countries in the summer."
ABSTRACT = "We asked which animals carry the virus."


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[RedisClusterServers, WorkerProcess, RedisCluster]]:
    with pipeline.running() as (servers, worker, client):
        pipeline.store_table(client)
        yield servers, worker, client


@pytest.fixture
def servers(running: tuple[RedisClusterServers, WorkerProcess, RedisCluster]) -> RedisClusterServers:
    """Without articles."""
    servers, _, client = running
    for key in client.scan_iter(f"{keys.PARAGRAPHS_PREFIX}*", target_nodes=RedisCluster.PRIMARIES):
        pipeline.delete(client, key.removeprefix(keys.PARAGRAPHS_PREFIX))
    pipeline.settle(client)
    return servers


@pytest.fixture
def client(
    running: tuple[RedisClusterServers, WorkerProcess, RedisCluster], servers: RedisClusterServers
) -> RedisCluster:
    return running[2]


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Three papers: parsed from XML and PDF, from a PDF and its supplement, from a PDF without title."""
    write_parse(tmp_path, parse("PMC1", MASKS, title="On masks"))
    write_parse(tmp_path, parse(SHA["one"], "A worse text of the same.", title="ON MASKS"))
    write_parse(tmp_path, parse(SHA["extra"], "Supplementary tables follow here.", title="Supplement"))
    write_parse(tmp_path, parse(SHA["two"], BATS, title="On bats", abstract=[ABSTRACT]))
    write_parse(tmp_path, parse(SHA["three"], CAMELS))
    write_metadata(
        tmp_path,
        {
            "cord_uid": "aaaaaaaa",
            "sha": SHA["one"],
            "pmcid": "PMC1",
            "publish_time": "2003-05-01",
            "journal": "Masks Today",
            "authors": "Example, Ada; Sample, Bo",
            "doi": "10.1234/masks",
        },
        {
            "cord_uid": "bbbbbbbb",
            "sha": f"{SHA['two']}; {SHA['extra']}",
            "publish_time": "2013",
            "abstract": ABSTRACT,
            "url": "https://example.org/bats; https://example.org/more",
        },
        {
            "cord_uid": "cccccccc",
            "sha": SHA["three"],
            "title": "On camels",
            "publish_time": "2014-02",
            "abstract": ABSTRACT.replace("We asked", "They asked"),
        },
        {"cord_uid": "dddddddd", "sha": "f" * 40, "title": "Not loaded"},
    )
    return tmp_path


def articles(client: RedisCluster) -> set[str]:
    found = client.scan_iter(f"{keys.PARAGRAPHS_PREFIX}*", target_nodes=RedisCluster.PRIMARIES)
    return {key.removeprefix(keys.PARAGRAPHS_PREFIX) for key in found}


def test_a_paper_is_one_article_from_its_best_parse(
    servers: RedisClusterServers, client: RedisCluster, dataset: Path
) -> None:
    done = pipeline.cli(servers, "load", dataset)
    assert done.returncode == 0, done.stderr
    assert f"{dataset / 'metadata.csv'}: 4 rows, 5 of the files' articles" in done.stdout
    assert "3 articles, 0.00 MB: 3 written, 0 as before, 0 files skipped" in done.stdout
    assert "2 files left aside: another parse of an article, pmc_json first: " in done.stdout
    assert f"{SHA['one']}.json (PMC1 from {dataset}" in done.stdout
    assert articles(client) == {"PMC1", SHA["two"], SHA["three"]}
    assert pipeline.sentences_of(client, "PMC1") == [MASKS]
    assert pipeline.sentences_of(client, SHA["two"]) == [ABSTRACT, BATS]
    assert pipeline.sentences_of(client, SHA["three"]) == [ABSTRACT.replace("We", "They"), CAMELS]
    assert client.hgetall(keys.article_key("PMC1")) == {
        "title": "On masks",
        "year": "2003",
        "month": "5",
        "day": "1",
        "authors": "Ada Example; Bo Sample",
        "journal": "Masks Today",
        "url": "https://doi.org/10.1234/masks",
        "source": "PMC1.xml.json",
    }
    again = pipeline.cli(servers, "load", dataset / "document_parses" / "pmc_json")
    assert "1 articles, 0.00 MB: 0 written, 1 as before, 0 files skipped" in again.stdout


def test_years_journal_and_links_are_in_the_replies(
    servers: RedisClusterServers, client: RedisCluster, dataset: Path
) -> None:
    assert load_reader.main(["--model", "models/reader", "--nodes", servers.addresses]) == 0
    pipeline.upload(client, "qa.py")
    assert pipeline.cli(servers, "load", dataset).returncode == 0
    env = {"KEYMISS_API_MIN_SCORE": "0", "KEYMISS_API_TIME_LIMIT_S": str(patient(30))}
    with ApiProcess(servers.addresses, wait_indexed=2, env=env) as api, api.client() as http:

        def years() -> list[tuple[str, int | None]]:
            reply = http.ask("Where was the virus found in animals?", years=(2013, 2014))
            return sorted((each.title or "", each.year) for each in reply.results)

        wait_until(lambda: set(years()) == {("On bats", 2013), ("On camels", 2014)}, patient(30))
        reply = http.ask("Where was the virus found in animals?", years=(None, 2003))
        assert {each.article for each in reply.results} == {"PMC1"}
        masks = http.get_article("PMC1")
        assert (masks.year, masks.month, masks.day) == (2003, 5, 1)
        assert masks.authors == ("Ada Example", "Bo Sample")
        assert (masks.journal, masks.url) == ("Masks Today", "https://doi.org/10.1234/masks")
        bats = http.get_article(SHA["two"])
        assert (bats.authors, bats.journal, bats.url) == ((), None, "https://example.org/bats")


def test_what_was_loaded_as_another_parse_or_by_its_old_name_is_replaced(
    servers: RedisClusterServers, client: RedisCluster, dataset: Path
) -> None:
    (dataset / "metadata.csv").rename(dataset / "later.csv")
    assert pipeline.cli(servers, "load", dataset).returncode == 0
    assert articles(client) == {"PMC1", *SHA.values()}
    pipeline.write(client, "PMC1.xml", "As it was called before.")
    done = pipeline.cli(servers, "load", dataset, "--metadata", dataset / "later.csv")
    assert done.returncode == 0, done.stderr
    assert "3 of those written replaced what was there" in done.stdout
    assert "3 articles removed that had been loaded by another name: " in done.stdout
    assert f"{SHA['extra']} (now {SHA['two']})" in done.stdout
    assert articles(client) == {"PMC1", SHA["two"], SHA["three"]}
    assert pipeline.state_of(client, SHA["one"]) == {}
    worse = dataset / "document_parses" / "pdf_json" / f"{SHA['one']}.json"
    done = pipeline.cli(servers, "load", worse, "--metadata", dataset / "later.csv")
    assert "0 articles, 0.00 MB: 0 written, 0 as before" in done.stdout
    assert f"{worse} (PMC1, which is loaded)" in done.stdout
    assert articles(client) == {"PMC1", SHA["two"], SHA["three"]}


def test_of_a_parse_that_cannot_be_read_the_next_one_is_loaded(
    servers: RedisClusterServers, client: RedisCluster, dataset: Path
) -> None:
    broken = dataset / "document_parses" / "pmc_json" / "PMC1.xml.json"
    broken.write_text('{"paper_id": "PMC1", ')
    done = pipeline.cli(servers, "load", dataset)
    assert done.returncode == 1
    assert f"skipped {broken}: not JSON" in done.stderr
    assert SHA["one"] in articles(client)
    assert client.hget(keys.article_key(SHA["one"]), "year") == "2003"


def test_a_bad_metadata_csv(servers: RedisClusterServers, dataset: Path) -> None:
    table = dataset / "metadata.csv"
    with table.open("a") as file:
        file.write('eeeeeeee,"open\n')
    done = pipeline.cli(servers, "load", dataset)
    assert (done.returncode, f"{table}: line 6: a quotation mark that is not closed (left out)") == (
        0,
        done.stderr.strip(),
    )
    table.write_text("name,date\nx,y\n")
    done = pipeline.cli(servers, "load", dataset)
    assert done.returncode == 0
    assert f"not used: {table} is not CORD-19's metadata.csv" in done.stderr
    done = pipeline.cli(servers, "load", dataset, "--metadata", table)
    assert (done.returncode, "its first line names none of the columns" in done.stderr) == (2, True)
    done = pipeline.cli(servers, "load", dataset, "--metadata", dataset / "none.csv")
    assert (done.returncode, done.stderr) == (2, f"{dataset / 'none.csv'}: No such file or directory\n")


def test_interrupted_and_run_again_it_goes_on(
    servers: RedisClusterServers,
    client: RedisCluster,
    running: tuple[RedisClusterServers, WorkerProcess, RedisCluster],
    tmp_path: Path,
) -> None:
    """The worker stands still, so the load waits for it when it is interrupted."""
    worker = running[1]
    for number in range(40):
        write_parse(tmp_path, parse(f"PMC{number}", MASKS, BATS, title=f"Paper {number}"))
    command = [sys.executable, "-m", "keymiss.cli", "load", str(tmp_path), "--nodes", servers.addresses]
    worker.signal(signal.SIGSTOP)
    try:
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        with subprocess.Popen(
            command,
            cwd=REPO,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            # a test run in the background of a shell ignores SIGINT, and so would what it starts
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        ) as loading:
            assert loading.stdout is not None
            assert loading.stdout.readline().startswith("40 articles, ")
            loading.send_signal(signal.SIGINT)
            _, said = loading.communicate(timeout=patient(60))
        assert loading.returncode == 130, said
        assert "Interrupted: 40 articles are there, and the functions go on with them." in said
        assert "Traceback" not in said
    finally:
        worker.signal(signal.SIGCONT)
    write_parse(tmp_path, parse("PMC40", CAMELS, title="Paper 40"))
    done = pipeline.cli(servers, "load", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "41 articles, 0.01 MB: 1 written, 40 as before, 0 files skipped" in done.stdout
    assert "81 sentences, 1 of them processed now, in" in done.stdout
    assert len(articles(client)) == 41
