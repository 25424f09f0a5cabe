"""A shard that does not answer: the others' answers come in time, and the coverage says so."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from keymiss.api_shapes.questions import Coverage, SentenceCoverage
from keymiss.client import TooBusy, Unavailable
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
from tests.patience import slower
from tests.servers import RedisClusterServers, free_port, wait_until

LIMIT_S = slower(1)
ONE = len(SENTENCES)  # sentences asked on one shard: those without a word of the question are neighbours
ALL = 3 * ONE


@pytest.fixture(scope="module")
def quorum() -> Iterator[RedisClusterServers]:
    """Three masters that answer for their own slots when another is away."""
    servers = RedisClusterServers(*SILENT_FOR_LONG, masters=3)
    with servers:
        fill(servers)
        yield servers


@pytest.fixture(scope="module")
def quick_api(quorum: RedisClusterServers) -> Iterator[ApiProcess]:
    env = {"KEYMISS_API_TIME_LIMIT_S": str(LIMIT_S), "KEYMISS_API_READY_TIME_LIMIT_S": "1"}
    with ApiProcess(quorum.addresses, wait_indexed=3, env=env) as running:
        yield running


def test_every_shard_answers(quick_api: ApiProcess) -> None:
    reply = quick_api.ask()
    tags = shard_tags(3)
    assert (reply.found, reply.message) == (True, None)
    assert (reply.concepts, reply.links) == ((), ())
    stages_ms = reply.stages_ms.model_dump()
    assert set(stages_ms) == {"retrieve", "ask", "merge"}
    assert 0 < sum(stages_ms.values()) <= reply.took_ms + 1
    assert sorted(reply.coverage.shards.answered) == sorted(tags)
    assert reply.coverage.sentences.asked == reply.coverage.sentences.answered == ALL
    first = reply.results[0]
    assert first.answer == f"answer 0 of {tags[0]}"
    assert first.sentence.startswith("Viral transmission among adults")
    kind, article, tag, idx = first.sentencekey.split(":")
    assert (kind, tag, idx, first.shard) == ("sentence", f"{{{tags[0]}}}", "0", tags[0])
    assert (first.article, first.title, first.year) == (article, f"Title of {article}", None)
    assert first.cached is True
    assert first.reader_score == 0.9
    assert 0 < (reply.score or 0) == first.score <= 1
    assert [r.score for r in reply.results] == sorted((r.score for r in reply.results), reverse=True)
    assert reply.took_ms > 0


def test_a_stopped_shard_is_late_and_the_others_answer(
    quick_api: ApiProcess, quorum: RedisClusterServers
) -> None:
    tags = shard_tags(3)
    pause(quorum.masters[1])
    try:
        reply = quick_api.ask()
    finally:
        resume(quorum.masters[1])
    covered = reply.coverage
    assert covered.sentences == SentenceCoverage(asked=ALL, answered=ALL - ONE, late=ONE, failed=0)
    assert covered.shards.late == (tags[1],)
    assert sorted(covered.shards.answered) == sorted([tags[0], tags[2]])
    assert {r.shard for r in reply.results} == {tags[0], tags[2]}
    assert reply.took_ms >= 1000 * LIMIT_S, "it was waited for"
    quorum.wait_ok()
    wait_until(lambda: quick_api.ask().coverage.sentences.answered == ALL, 15, "all answer again")


def test_all_shards_stopped_is_504(quick_api: ApiProcess, quorum: RedisClusterServers) -> None:
    for master in quorum.masters:
        pause(master)
    try:
        reply = httpx.post(f"{quick_api.url}/qasearch", json={"search": QUESTION})
    finally:
        for master in quorum.masters:
            resume(master)
    assert reply.status_code == 504, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.json()["coverage"]["sentences"] == {
        "asked": ALL, "answered": 0, "late": ALL, "failed": 0, "unread": 0,
    }  # fmt: skip
    quorum.wait_ok()
    wait_until(quick_api.ask, 15, "answers again")


def test_nothing_registered_is_503_and_not_ready(quick_api: ApiProcess) -> None:
    with pytest.raises(Unavailable) as raised:
        quick_api.ask("What is the viral load of children")
    covered = Coverage.model_validate(raised.value.members["coverage"]).sentences
    assert covered.failed == covered.asked > 0
    for path in ("/readyz", "/healthz"):
        ready = httpx.get(quick_api.url + path)
        assert ready.status_code == 503
        assert ready.headers["content-type"] == "application/problem+json"
        assert all(f"shard {{{tag}}}" in ready.json()["detail"] for tag in shard_tags(3))


def test_too_many_questions_is_429(quorum: RedisClusterServers) -> None:
    env = {"KEYMISS_API_MAX_QUESTIONS": "1", "KEYMISS_API_TIME_LIMIT_S": str(slower(3))}
    with ApiProcess(quorum.addresses, wait_indexed=3, env=env) as api:
        assert api.ask().found
        pause(quorum.masters[0])
        try:
            with ThreadPoolExecutor(2) as pool:
                asked = [pool.submit(api.ask) for _ in range(2)]
        finally:
            resume(quorum.masters[0])
        quorum.wait_ok()
    (refused,) = [error for each in asked if (error := each.exception())]
    assert isinstance(refused, TooBusy)
    assert (refused.status, refused.retry_after_s) == (429, 1)


def test_a_dead_shard_fails_at_once(quorum: RedisClusterServers, quick_api: ApiProcess) -> None:
    """Last: it ends a server."""
    quorum.masters[2].kill()
    reply = wait_until(
        lambda: (r := quick_api.ask()).coverage.shards.failed and r, 10, "the shard counts as failed"
    )
    assert reply.coverage.shards.failed == (shard_tags(3)[2],)
    assert reply.coverage.sentences.answered == ALL - ONE


def test_without_a_cluster_it_lives_but_is_not_ready() -> None:
    with ApiProcess(f"127.0.0.1:{free_port()}") as api:
        assert httpx.get(f"{api.url}/livez").json() == {"status": "live"}
        assert httpx.get(f"{api.url}/readyz").status_code == 503
        reply = httpx.post(f"{api.url}/qasearch", json={"search": QUESTION})
        assert reply.status_code == 503
        assert reply.headers["content-type"] == "application/problem+json"
        assert api.terminate() == 0
