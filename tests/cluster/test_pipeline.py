"""What the pipeline makes of an article, and that it follows the article, its year and the concept table."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from redis.cluster import RedisCluster

from keymiss import keys
from keymiss.reading.reader import default_reader
from tests.cluster import pipeline
from tests.cluster.pipeline import last_errors, settle, write
from tests.servers import RedisClusterServers, WorkerProcess, connect, tags_of

TABLE = pipeline.table(
    "C1,influenza,flu|influenza virus", "C2,pneumonia,lung inflammation", "C3,fever,", "C4,oseltamivir,"
)
OTHER_TABLE = pipeline.table("C1,influenza,flu|influenza virus", "C9,cough,")
FIRST = "Influenza often begins with fever and cough."
SECOND = "Flu can lead to pneumonia, and oseltamivir shortens influenza."
THIRD = "Nothing else is known of it."
GERMAN = "Die Grippe ist eine Krankheit der Atemwege, die sich im Winter rasch verbreitet und Fieber macht."

Running = tuple[RedisClusterServers, WorkerProcess, RedisCluster]


@pytest.fixture(scope="module")
def system() -> Iterator[Running]:
    with pipeline.running() as made:
        yield made


@pytest.fixture
def client(system: Running) -> Iterator[RedisCluster]:
    """An empty cluster with the table TABLE. When a test's articles are deleted, nothing is left of
    them; no function has failed but for the name a_b."""
    servers, _, made = system
    pipeline.store_table(made, TABLE)
    yield made
    settle(made)
    for prefix in (keys.ARTICLE_PREFIX, keys.PARAGRAPHS_PREFIX):
        for key in list(made.scan_iter(f"{prefix}*", target_nodes=RedisCluster.PRIMARIES)):
            made.delete(key)
    settle(made)
    assert pipeline.keyspace(servers) == {}
    failed = {
        what: [error for error in errors if "a_b" not in error] for what, errors in last_errors(made).items()
    }
    assert not any(failed.values()), failed


def first_article(client: RedisCluster) -> None:
    write(client, "A1", f"{FIRST} {SECOND}", THIRD, year=2019)
    settle(client)


def sentencekey(client: RedisCluster, article: str, idx: int) -> str:
    return keys.sentence_id(article, keys.article_tag(article), idx)


def writes(servers: RedisClusterServers) -> list[int]:
    """How many changes each shard has seen."""
    found = []
    for server in servers.masters:
        with server.client() as client:
            found.append(client.info("persistence")["rdb_changes_since_last_save"])
    return found


def test_an_article_becomes_sentences_and_a_state(client: RedisCluster) -> None:
    first_article(client)
    assert pipeline.sentences_of(client, "A1") == [FIRST, SECOND, THIRD]
    state = pipeline.state_of(client, "A1")
    assert (state["language"], state["sentences"], state["year"]) == ("en", "3", "2019")
    assert json.loads(state["paragraph_of"]) == [0, 0, 1]
    assert len(state["paragraphs"]) == 40
    assert "skipped" not in state
    assert "left_out" not in state


def test_every_sentence_has_its_tokens(client: RedisCluster) -> None:
    first_article(client)
    tag = keys.article_tag("A1")
    node = client.get_node_from_key(keys.tokens_key("A1", tag))
    with connect(node.port) as shard:
        for idx, sentence in enumerate((FIRST, SECOND, THIRD)):
            shape, blob = shard.execute_command(
                "AI.TENSORGET", keys.tokenized_key("A1", tag, idx), "META", "BLOB"
            )[3::2]
            ids = np.frombuffer(blob, np.int64).reshape(shape)
            assert ids.tolist() == [default_reader().sentence(sentence).ids.tolist()]
            blob = shard.execute_command("AI.TENSORGET", keys.offsets_key("A1", tag, idx), "BLOB")
            offsets = np.frombuffer(blob, np.int32).reshape(-1, 2)
            assert offsets.tolist() == default_reader().sentence(sentence).offsets.tolist()
    assert client.hgetall(keys.tokens_key("A1", tag)) == {
        str(idx): f"{hashlib.sha1(sentence.encode()).hexdigest()[:16]} {default_reader().tokenizer_digest}"
        for idx, sentence in enumerate((FIRST, SECOND, THIRD))
    }


def test_concepts_become_edges(client: RedisCluster) -> None:
    first_article(client)
    tag = keys.article_tag("A1")
    assert client.hgetall(keys.concepts_key("A1", tag)) == {"0": "2019 C1 C3", "1": "2019 C1 C2 C4"}
    zero, one = (f"{sentencekey(client, 'A1', idx)} 2019" for idx in (0, 1))
    assert pipeline.graph(client) == {
        ("C1", "C3"): {zero: 1.0},
        ("C1", "C2"): {one: 0.6667},
        ("C1", "C4"): {one: 0.6667},
        ("C2", "C4"): {one: 0.6667},
    }
    part = keys.part_of(keys.paragraphs_key("A1"))
    assert client.zrange(keys.graph_nodes_key(part), 0, -1, withscores=True) == [
        ("C3", 1.0), ("C2", 2.0), ("C4", 2.0), ("C1", 3.0),
    ]  # fmt: skip
    assert pipeline.years(client) == {"2019": 4}
    assert client.xlen(keys.edges_key(part)) == 0


def test_an_article_without_a_year(client: RedisCluster) -> None:
    write(client, "A1", FIRST)
    settle(client)
    assert pipeline.graph(client) == {("C1", "C3"): {sentencekey(client, "A1", 0): 1.0}}
    assert pipeline.years(client) == {"": 1}


@pytest.mark.parametrize("articles", [["A1"], [f"B{i}" for i in range(8)]], ids=["one", "on both shards"])
def test_a_year_that_comes_later_moves_the_edges(client: RedisCluster, articles: list[str]) -> None:
    for name in articles:
        write(client, name, f"{FIRST} {SECOND}", year=2019)
    settle(client)
    for name in articles:
        client.hset(keys.article_key(name), "year", 2021)
    settle(client)
    assert pipeline.years(client) == {"2021": 4 * len(articles)}
    assert {pipeline.state_of(client, name)["year"] for name in articles} == {"2021"}
    for name in articles:
        client.hdel(keys.article_key(name), "year")
    settle(client)
    assert pipeline.years(client) == {"": 4 * len(articles)}
    assert all(" " not in carrier for carriers in pipeline.graph(client).values() for carrier in carriers)


def test_a_text_that_comes_before_its_year(client: RedisCluster) -> None:
    client.set(keys.paragraphs_key("A1"), FIRST)
    client.hset(keys.article_key("A1"), "year", 2021)
    settle(client)
    assert pipeline.years(client) == {"2021": 1}


def test_an_article_that_becomes_german_loses_everything(system: Running, client: RedisCluster) -> None:
    first_article(client)
    write(client, "A1", GERMAN, year=2019)
    settle(client)
    prefixes = {key.split(":")[0] for key in pipeline.keyspace(system[0])}
    assert prefixes == {"article", "paragraphs", "state"}


def test_the_same_again_writes_nothing(system: Running, client: RedisCluster) -> None:
    servers = system[0]
    first_article(client)
    before, there = writes(servers), pipeline.keyspace(servers)
    write(client, "A1", f"{FIRST} {SECOND}", THIRD, year=2019)
    settle(client)
    done = pipeline.cli(servers, "catch-up")
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[0]) > 3
    settle(client)
    assert sum(writes(servers)) - sum(before) == 3  # the test's own: a HSET of two fields and a SET
    assert pipeline.keyspace(servers) == there


def test_a_changed_sentence_changes_what_was_made_of_it_only(system: Running, client: RedisCluster) -> None:
    servers = system[0]
    first_article(client)
    there = pipeline.keyspace(servers)
    changed = "Fever was seen in pneumonia."
    write(client, "A1", f"{FIRST} {changed}", THIRD, year=2019)
    settle(client)
    now = pipeline.keyspace(servers)
    tag = keys.article_tag("A1")
    tensors = [keys.tokenized_key("A1", tag, idx) for idx in range(3)]
    assert [now[key] == there[key] for key in tensors] == [True, False, True]
    assert client.hgetall(keys.concepts_key("A1", tag)) == {"0": "2019 C1 C3", "1": "2019 C3 C2"}
    assert set(pipeline.graph(client)) == {("C1", "C3"), ("C2", "C3")}


def test_a_shorter_article_loses_the_rest(client: RedisCluster) -> None:
    first_article(client)
    client.set(keys.paragraphs_key("A1"), FIRST)
    settle(client)
    tag = keys.article_tag("A1")
    assert pipeline.sentences_of(client, "A1") == [FIRST]
    assert list(client.hgetall(keys.tokens_key("A1", tag))) == ["0"]
    assert [client.exists(keys.tokenized_key("A1", tag, idx)) for idx in range(3)] == [1, 0, 0]
    assert set(pipeline.graph(client)) == {("C1", "C3")}


@pytest.mark.parametrize("how", ["del", "unlink", "expire", "rename", "becomes a list"])
def test_an_article_that_goes_takes_out_everything(system: Running, client: RedisCluster, how: str) -> None:
    servers = system[0]
    write(client, "STAYS", f"{FIRST} {SECOND}", year=2019)
    settle(client)
    before = pipeline.keyspace(servers)
    first_article(client)
    assert len(pipeline.keyspace(servers)) > len(before) + 8
    text = keys.paragraphs_key("A1")
    client.delete(keys.article_key("A1"))
    if how == "rename":
        client.rename(text, f"elsewhere{{{text}}}")
        client.delete(f"elsewhere{{{text}}}")
    elif how == "expire":
        client.pexpire(text, 0)
    elif how == "becomes a list":
        pipe = client.pipeline()
        pipe.delete(text)
        pipe.rpush(text, "a")
        pipe.execute()
        settle(client)
        client.delete(text)
    else:
        client.execute_command(how, text)
    settle(client)
    assert pipeline.differences(before, pipeline.keyspace(servers)) == []


def test_another_concept_table(client: RedisCluster) -> None:
    first_article(client)
    pipeline.store_table(client, OTHER_TABLE)
    settle(client)
    assert pipeline.graph(client) == {("C1", "C9"): {f"{sentencekey(client, 'A1', 0)} 2019": 1.0}}
    for tag in tags_of(client):
        client.delete(keys.concept_table_key(tag))
    settle(client)
    assert pipeline.graph(client) == {}
    pipeline.store_table(client, TABLE)
    settle(client)
    assert len(pipeline.graph(client)) == 4


def test_a_text_that_is_not_utf8(client: RedisCluster) -> None:
    first_article(client)
    client.set(keys.paragraphs_key("A1"), b"Influenza and fever \xff\xfe")
    settle(client)
    assert pipeline.state_of(client, "A1")["skipped"] == "the text is not UTF-8"
    assert pipeline.sentences_of(client, "A1") == []
    assert pipeline.graph(client) == {}


def test_an_empty_text(client: RedisCluster) -> None:
    client.set(keys.paragraphs_key("A1"), "")
    settle(client)
    assert pipeline.state_of(client, "A1")["skipped"] == "there is no sentence"


def test_a_key_that_is_not_utf8(client: RedisCluster) -> None:
    names = (b"paragraphs:\xff", b"article:\xff", b"sentence:\xff:{x}")
    client.set(names[0], FIRST)
    client.hset(names[1], "year", 2020)
    client.hset(names[2], "0", FIRST)
    settle(client)
    write(client, "A1", FIRST)
    settle(client)
    assert pipeline.sentences_of(client, "A1") == [FIRST]
    for key in names:
        client.delete(key)


def test_a_name_that_cannot_be_one_breaks_nothing_else(system: Running, client: RedisCluster) -> None:
    servers = system[0]
    client.set("paragraphs:a_b", FIRST)
    write(client, "A1", FIRST)
    settle(client)
    assert pipeline.sentences_of(client, "A1") == [FIRST]
    (error,) = last_errors(client)["split articles"]
    assert "a_b" in error
    assert not [key for key in pipeline.keyspace(servers) if "a_b" in key and key != "paragraphs:a_b"]


def test_many_sentences(client: RedisCluster) -> None:
    """More than go into one command of each kind."""
    sentences = [f"Influenza number {i} came with fever." for i in range(6000)]
    write(client, "LONG", *(" ".join(sentences[at : at + 50]) for at in range(0, 6000, 50)), year=2020)
    settle(client)
    assert pipeline.sentences_of(client, "LONG") == sentences
    tag = keys.article_tag("LONG")
    assert client.hlen(keys.tokens_key("LONG", tag)) == client.hlen(keys.concepts_key("LONG", tag)) == 6000
    assert pipeline.years(client) == {"2020": 6000}
    client.set(keys.paragraphs_key("LONG"), FIRST)
    settle(client)
    assert pipeline.years(client) == {"2020": 1}
    assert client.hlen(keys.sentence_key("LONG", tag)) == 1


def test_spelling_is_repaired_and_concepts_are_left_alone() -> None:
    with pipeline.running(masters=1, env={"KEYMISS_GEARS_SPELLING": "yes"}) as (_, _, client):
        pipeline.store_table(client, pipeline.table("C1,becouse syndrome,peopel"))
        write(client, "A1", "The goverment said that becouse of it peopel were ill.")
        settle(client)
        assert pipeline.sentences_of(client, "A1") == [
            "The government said that becouse of it peopel were ill."
        ]


def test_spelling_is_not_repaired_by_default(client: RedisCluster) -> None:
    write(client, "A1", "The goverment said that they were ill.")
    settle(client)
    assert pipeline.sentences_of(client, "A1") == ["The goverment said that they were ill."]


def test_a_sentence_that_was_written_by_hand(client: RedisCluster) -> None:
    """Without an article there are tokens and concepts all the same."""
    tag = tags_of(client)[0]
    key = keys.sentence_key("HAND", tag)
    client.hset(key, mapping={"0": FIRST, "1": b"not UTF-8 \xff"})
    settle(client)
    assert list(client.hgetall(keys.tokens_key("HAND", tag))) == ["0"]
    assert pipeline.graph(client) == {("C1", "C3"): {f"HAND:{{{tag}}}:0": 1.0}}
    client.delete(key)
    settle(client)
    assert pipeline.graph(client) == {}
    assert not client.exists(keys.tokenized_key("HAND", tag, 0))


def test_an_entry_that_is_no_edge_is_passed_over(system: Running, client: RedisCluster) -> None:
    tag = tags_of(client)[0]
    client.xadd(keys.edges_key(tag), {"what": "ever"})
    good: dict[Any, Any] = {
        "op": "add",
        "source": "a",
        "target": "b",
        "sentence": f"X:{{{tag}}}:0",
        "score": "1",
        "year": "",
    }
    client.xadd(keys.edges_key(tag), {**good, "source": "c"})
    client.xadd(keys.edges_key(tag), good)
    settle(client)
    assert pipeline.graph(client) == {("a", "b"): {f"X:{{{tag}}}:0": 1.0}}
    assert client.xlen(keys.edges_key(tag)) == 0
    assert "must sort before target" in system[1].log_text()
    assert "has no field" in system[1].log_text()
    client.xadd(keys.edges_key(tag), {**good, "op": "del"})
    settle(client)
