"""Sentences of a shard that does not answer are replaced by those of others, and the coverage says so."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from keymiss.api.questions.question_in_key import question_in_key
from keymiss.client import Answers, Unavailable
from keymiss.keys import sentence_key, span_key
from tests.api.processes import (
    QUESTION,
    SILENT_FOR_LONG,
    ApiProcess,
    article_with_title_on,
    pause,
    resume,
    shard_tags,
)
from tests.api.scraping import scrape
from tests.patience import slower
from tests.servers import RedisClusterServers, wait_until

MASTERS = 3
READ = 6  # for a question
OF_A_SHARD = 8
LIMIT_S = slower(1)


@pytest.fixture
def shards() -> Iterator[RedisClusterServers]:
    """So many sentences on each that another's can be read instead; the answers are there."""
    with RedisClusterServers(*SILENT_FOR_LONG, masters=MASTERS) as servers:
        with servers.client() as client:
            for tag in shard_tags(MASTERS):
                article = article_with_title_on(tag, MASTERS)
                texts = {
                    str(i): f"Viral transmission among adults, number {i} ({tag})." for i in range(OF_A_SHARD)
                }
                client.hset(sentence_key(article, tag), mapping=texts)
                for idx in texts:
                    value = {"answer": f"{idx} of {tag}", "score": 0.9}
                    client.set(span_key(article, tag, idx, question_in_key(QUESTION)), json.dumps(value))
        yield servers


@pytest.fixture
def api(shards: RedisClusterServers) -> Iterator[ApiProcess]:
    env = {
        "KEYMISS_API_TIME_LIMIT_S": str(LIMIT_S),
        "KEYMISS_API_CANDIDATES": str(READ),
        "KEYMISS_API_VECTOR_WEIGHT": "0",
    }
    with ApiProcess(shards.addresses, wait_indexed=MASTERS, env=env) as running:
        yield running


def lost(reply: Answers) -> int:
    """How many of the sentences that were chosen first were replaced; the others must be right."""
    covered = reply.coverage
    assert covered.sentences.answered == READ
    assert covered.sentences.asked == READ + covered.sentences.failed
    assert covered.sentences.late == 0
    assert len({source.sentencekey for each in reply.results for source in each.sources}) == READ
    return covered.sentences.failed


def test_of_a_dead_shard(api: ApiProcess, shards: RedisClusterServers) -> None:
    assert lost(api.ask()) == 0
    gone = next(tag for tag in shard_tags(MASTERS) if tag in {each.shard for each in api.ask().results})
    shards.masters[shard_tags(MASTERS).index(gone)].kill()
    reply = wait_until(lambda: (r := api.ask()).coverage.shards.failed and r, 10, "the shard has failed")
    assert lost(reply) > 0
    assert reply.coverage.shards.failed == (gone,)
    assert gone not in {each.shard for each in reply.results}


def test_of_one_that_says_nothing_which_is_waited_for_once(
    api: ApiProcess, shards: RedisClusterServers
) -> None:
    gone = next(tag for tag in shard_tags(MASTERS) if tag in {each.shard for each in api.ask().results})
    master = shards.masters[shard_tags(MASTERS).index(gone)]
    pause(master)
    try:
        waited = api.ask()
        assert waited.coverage.shards.late == (gone,)
        assert waited.took_ms >= 1000 * LIMIT_S
        reply = api.ask()
        assert scrape(api.url).value("keymiss_silent_masters") == 1
    finally:
        resume(master)
    assert lost(reply) > 0
    assert reply.coverage.shards.failed == (gone,)
    assert reply.took_ms < 1000 * LIMIT_S
    shards.wait_ok()
    wait_until(lambda: lost(api.ask()) == 0, 10, "it is asked again")
    assert scrape(api.url).value("keymiss_silent_masters") == 0


def test_what_no_shard_can_give_is_an_error(api: ApiProcess, shards: RedisClusterServers) -> None:
    """Nothing else is read: there would be nobody to give it."""
    for master in shards.masters:
        master.kill()
    with pytest.raises(Unavailable):
        api.ask()
