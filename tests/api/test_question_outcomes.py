"""Questions, stages and sentences are counted as what they were."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from keymiss.client import Late, TooBusy, Unavailable
from tests.api.processes import (
    QUESTION,
    SENTENCES,
    SILENT_FOR_LONG,
    ApiProcess,
    fill,
    pause,
    resume,
    shard_tags,
)
from tests.api.scraping import Scraped, lines, scrape
from tests.hand_worker import HandWorker, register_miss
from tests.patience import slower
from tests.servers import RedisClusterServers, wait_until

MASTERS = 2
ALL = MASTERS * len(SENTENCES)


@pytest.fixture(scope="module")
def shards() -> Iterator[RedisClusterServers]:
    """With the module; the answers to QUESTION are there."""
    servers = RedisClusterServers(*SILENT_FOR_LONG, masters=MASTERS)
    with servers:
        fill(servers)
        yield servers


@pytest.fixture(scope="module")
def api(shards: RedisClusterServers) -> Iterator[ApiProcess]:
    env = {
        "KEYMISS_API_TIME_LIMIT_S": str(slower(3)),  # a scrape takes 1 s while a node does not answer
        "KEYMISS_API_MAX_QUESTIONS": "1",
        "KEYMISS_API_VECTOR_WEIGHT": "0",  # its key would wait in a queue too
    }
    with ApiProcess(shards.addresses, wait_indexed=MASTERS, env=env) as running:
        yield running


@pytest.fixture
def grown(api: ApiProcess) -> Callable[[], Scraped]:
    """Scrapes, and says how much has been counted since the test began."""
    before = scrape(api.url)
    return lambda: scrape(api.url).since(before)


@contextlib.contextmanager
def stopped(api: ApiProcess, shards: RedisClusterServers, *numbers: int) -> Iterator[None]:
    """These masters do not answer inside the block."""
    for number in numbers:
        pause(shards.masters[number])
    try:
        yield
    finally:
        for number in numbers:
            resume(shards.masters[number])
        shards.wait_ok()
        wait_until(lambda: scrape(api.url).value("keymiss_silent_masters") == 0, 10, "they are asked again")


def outcomes(scraped: Scraped) -> dict[str, float]:
    """Those that there were."""
    return {k: v for k, v in scraped.values_of("keymiss_questions_total", "outcome").items() if v}


def sentences(scraped: Scraped) -> dict[str, float]:
    """By outcome, of all shards; those that there were."""
    names = ("cached", "computed", "late", "busy", "failed")
    counts = {name: scraped.total("keymiss_sentence_answers_total", outcome=name) for name in names}
    return {name: count for name, count in counts.items() if count}


def test_everything_known_is_0_at_the_start(api: ApiProcess) -> None:
    scraped = scrape(api.url)
    assert scraped.values_of("keymiss_questions_total", "outcome") == dict.fromkeys(
        ("answered", "nothing_found", "refused", "busy", "late", "failed", "left", "error"), 0
    )
    for tag in shard_tags(MASTERS):
        assert len(scraped.by("keymiss_sentence_answers_total", shard=tag)) == 5
        assert scraped.value("keymiss_indexed_sentences", shard=tag) == len(SENTENCES)
        assert scraped.value("keymiss_indexed_articles", shard=tag) == 1
        assert scraped.value("keymiss_indexed_vectors", shard=tag) == 0
    assert scraped.value("keymiss_http_requests_total", route="/qasearch", method="POST", code="200") == 0


def test_answered_and_refused(api: ApiProcess, grown: Callable[[], Scraped]) -> None:
    for _ in range(3):
        assert api.ask().found
    assert httpx.post(f"{api.url}/qasearch", content=b"{").status_code == 400
    assert httpx.post(f"{api.url}/qasearch", json={"search": ""}).status_code == 422
    assert httpx.post(f"{api.url}/qasearch", content=b" " * 65537).status_code == 413
    scraped = grown()
    assert outcomes(scraped) == {"answered": 3, "refused": 3}
    assert sentences(scraped) == {"cached": 3 * ALL}
    assert scraped.value("keymiss_question_duration_seconds_count") == 3
    assert 0 < (scraped.value("keymiss_question_duration_seconds_sum") or 0) < 30
    assert scraped.values_of("keymiss_question_stage_duration_seconds_count", "stage") == {
        "retrieve": 3,
        "ask": 3,
        "merge": 3,
    }
    for tag in shard_tags(MASTERS):
        name = "keymiss_sentence_answer_duration_seconds_count"
        assert scraped.value(name, shard=tag, cached="yes") == 3 * len(SENTENCES)
        assert scraped.value(name, shard=tag, cached="no") == 0
    requests = {
        code: scraped.value("keymiss_http_requests_total", route="/qasearch", method="POST", code=code)
        for code in ("200", "400", "413", "422")
    }
    assert requests == {"200": 3, "400": 1, "413": 1, "422": 1}
    assert scraped.value("keymiss_http_request_duration_seconds_count", route="/qasearch") == 6
    assert scrape(api.url).value("keymiss_questions_in_flight") == 0
    assert scraped.value("keymiss_questions_partial_total") == 0


def test_nothing_found(api: ApiProcess, grown: Callable[[], Scraped]) -> None:
    assert api.ask("Quokka").found is False
    assert outcomes(grown()) == {"nothing_found": 1}


def test_paths_are_counted_by_their_template(api: ApiProcess, grown: Callable[[], Scraped]) -> None:
    for name in ("KM1", "KM2"):
        assert httpx.get(f"{api.url}/articles/{name}-not-there").status_code == 404
    assert httpx.get(f"{api.url}/one/path").status_code == 404
    assert httpx.request("BREW", f"{api.url}/another/path").status_code == 404
    scraped = grown()
    name = "keymiss_http_requests_total"
    assert scraped.value(name, route="/articles/{article}", method="GET", code="404") == 2
    assert scraped.value(name, route="other", method="GET", code="404") == 1
    assert scraped.value(name, route="other", method="other", code="404") == 1


def test_a_stopped_shard_makes_it_partial_all_of_them_late(
    api: ApiProcess, shards: RedisClusterServers, grown: Callable[[], Scraped]
) -> None:
    with stopped(api, shards, 1):
        assert api.ask().found
        scraped = grown()
        assert outcomes(scraped) == {"answered": 1}
        assert sentences(scraped) == {"cached": len(SENTENCES), "late": len(SENTENCES)}
        assert scraped.value("keymiss_questions_partial_total") == 1
    with stopped(api, shards, 0, 1), pytest.raises(Late):
        api.ask()
    scraped = grown()
    assert outcomes(scraped) == {"answered": 1, "late": 1}
    assert scraped.value("keymiss_question_duration_seconds_count") == 1
    last = lines(api, "question")[-1]
    assert (last["outcome"], last["level"], last["sentences"]["late"]) == ("late", "warning", ALL)


def test_too_many_at_once_are_busy(
    api: ApiProcess, shards: RedisClusterServers, grown: Callable[[], Scraped]
) -> None:
    with stopped(api, shards, 0, 1), ThreadPoolExecutor(1) as pool:
        first = pool.submit(api.ask)
        wait_until(lambda: grown().value("keymiss_questions_in_flight") == 1, 5, "it is being asked")
        with pytest.raises(TooBusy):
            api.ask()
        with pytest.raises(Late):
            first.result()
    assert outcomes(grown()) == {"busy": 1, "late": 1}


def test_a_client_that_leaves(
    api: ApiProcess, shards: RedisClusterServers, grown: Callable[[], Scraped]
) -> None:
    body = json.dumps({"search": QUESTION})
    with stopped(api, shards, 0, 1):
        with socket.create_connection(("127.0.0.1", api.port)) as client:
            client.sendall(
                f"POST /qasearch HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
            )
            wait_until(lambda: grown().value("keymiss_questions_in_flight") == 1, 5, "it is asked")
        scraped = wait_until(lambda: (s := grown()) and outcomes(s) and s, 5, "it has ended")
    assert outcomes(scraped) == {"left": 1}
    assert scraped.value("keymiss_http_requests_total", route="/qasearch", method="POST", code="499") == 1


def test_no_worker_is_failed_and_a_full_queue_busy(
    api: ApiProcess, shards: RedisClusterServers, grown: Callable[[], Scraped]
) -> None:
    """Last: a function is registered here."""
    for master in shards.masters:
        with master.client() as client:
            register_miss(client, "bertspan")
            client.config_set("keymiss.noworker-grace-ms", 0)
    with pytest.raises(Unavailable):
        api.ask("Which viral load")
    assert outcomes(grown()) == {"failed": 1}
    assert sentences(grown()) == {"failed": ALL}
    for master in shards.masters:
        with master.client() as client:
            client.config_set("keymiss.queue-limit", 1)
    workers = [HandWorker(master) for master in shards.masters]
    with pytest.raises(Late):
        api.ask("Which viral load")
    for worker in workers:
        worker.die()
    scraped = grown()
    assert outcomes(scraped) == {"failed": 1, "late": 1}
    assert sentences(scraped) == {"failed": ALL, "late": MASTERS, "busy": ALL - MASTERS}
    assert scraped.values_of("keymiss_shard_refused_busy_total", "shard") == dict.fromkeys(
        shard_tags(MASTERS), len(SENTENCES) - 1
    )
