"""The functions in gears/ with the embedded reader: tokenized as it comes, asked by GET, kept or not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import redis
from redis.cluster import RedisCluster

from keymiss import keys
from keymiss.models import load
from keymiss.reading.reader import default_reader
from tests.servers import REPO, RedisClusterServers, WorkerProcess, tags_of, wait_until

QUESTION = "Who performs viral transmission among adults"
SENTENCES = {
    "0": "The weather was cold that year and few patients came.",
    "1": "Among adults, viral transmission is performed mainly by young parents of school children.",
    "2": "-",
}


def script(client: RedisCluster, name: str) -> Any:
    """Upload one of gears/ on any one master."""
    node = client.get_primaries()[0]
    return client.execute_command("RG.PYEXECUTE", (REPO / "gears" / name).read_text(), target_nodes=node)


@pytest.fixture(scope="module")
def client(cluster: RedisClusterServers, cluster_worker: WorkerProcess) -> Iterator[RedisCluster]:
    """A client of a cluster that has the reader, the functions, and one article on every shard."""
    assert load.main(["--model", "models/reader", "--nodes", cluster.addresses]) == 0
    with cluster.client(decode_responses=True) as made:
        made.hset(keys.sentence_key("before", tags(made)[0]), mapping=SENTENCES)
        assert script(made, "tokenize.py") == "OK"
        assert script(made, "qa.py") == "OK"
        for tag in tags(made):
            made.hset(keys.sentence_key("PMC1.xml", tag), mapping=SENTENCES)
        yield made


def tags(client: RedisCluster) -> list[str]:
    return tags_of(client)


def tensor(client: RedisCluster, key: str) -> Any:
    """The tensor [1, n] at `key`, None where there is none."""
    node = client.get_node_from_key(key)
    with redis.Redis(host=node.host, port=node.port, protocol=2) as raw:
        reply = raw.execute_command("AI.TENSORGET", key, "META", "BLOB") if raw.exists(key) else None
    if reply is None:
        return None
    fields = dict(zip(reply[::2], reply[1::2], strict=True))
    return np.frombuffer(fields[b"blob"], np.int64).reshape(fields[b"shape"])


def calls(client: RedisCluster, tag: str) -> int:
    """How often the shard's model has run."""
    flat = client.execute_command("AI.INFO", keys.model_key(tag))
    return int(dict(zip(flat[::2], flat[1::2], strict=True))["calls"])


def test_loading_again_stores_nothing(
    client: RedisCluster, cluster: RedisClusterServers, capsys: pytest.CaptureFixture[str]
) -> None:
    assert load.main(["--model", "models/reader", "--nodes", cluster.addresses]) == 0
    said = capsys.readouterr().out
    assert said.count("already there") == 2
    assert "models/reader: local folder (the embedded reader)" in said


def test_sentences_are_tokenized_as_they_come(client: RedisCluster) -> None:
    for tag in tags(client):
        for idx, sentence in SENTENCES.items():
            key = keys.tokenized_key("PMC1.xml", tag, idx)
            found = wait_until(lambda key=key: (tensor(client, key),) if client.exists(key) else None, 20)[0]
            assert found.tolist() == [default_reader().sentence(sentence).ids.tolist()]


def test_what_was_there_before_the_function_is_tokenized(client: RedisCluster) -> None:
    for idx, sentence in SENTENCES.items():
        key = keys.tokenized_key("before", tags(client)[0], idx)
        wait_until(lambda key=key: client.exists(key), 20)
        assert tensor(client, key).tolist() == [default_reader().sentence(sentence).ids.tolist()]


def test_an_answer_is_made_once_and_kept_under_both_keys(client: RedisCluster) -> None:
    for tag in tags(client):
        before = calls(client, tag)
        answer = keys.answer_key("PMC1.xml", tag, 1, QUESTION)
        span = keys.span_key("PMC1.xml", tag, 1, QUESTION)
        assert not client.exists(answer)
        given = client.get(answer)
        assert "parents" in given
        assert given in SENTENCES["1"]
        assert client.getrange(answer, 0, -1) == given
        known = json.loads(client.get(span))
        assert calls(client, tag) == before + 1
        assert known["answer"] == given == SENTENCES["1"][known["start"] : known["end"]]
        assert 0 < known["score"] <= 1
        assert known["sentence_digest"] == hashlib.sha256(SENTENCES["1"].encode()).hexdigest()
        assert known["model"] == load.model_info(client, keys.model_key(tag))["sha256"]
        assert (known["sentencekey"], known["question"]) == (keys.sentence_id("PMC1.xml", tag, 1), QUESTION)


def test_a_question_with_underscores_and_other_letters(client: RedisCluster) -> None:
    question = "who_performs_viral transmission among adults: ä, 病_?"
    span = keys.span_key("PMC1.xml", tags(client)[1], 1, question)
    assert json.loads(client.get(span))["question"] == question


def test_an_answer_that_looks_like_an_error_is_none(client: RedisCluster) -> None:
    key = keys.answer_key("PMC1.xml", tags(client)[0], 2, "Which sign")
    assert client.get(key) == "-"
    assert client.get(key) == "-"


def test_a_missing_or_stale_tensor_is_made(client: RedisCluster) -> None:
    tag = tags(client)[0]
    key = keys.tokenized_key("PMC1.xml", tag, 0)
    wait_until(lambda: client.exists(key), 20)
    client.delete(key)
    client.get(keys.answer_key("PMC1.xml", tag, 0, "What was cold"))
    assert tensor(client, key).tolist() == [default_reader().sentence(SENTENCES["0"]).ids.tolist()]
    client.execute_command("AI.TENSORSET", key, "INT64", 1, 2, "VALUES", 7, 102)
    client.get(keys.answer_key("PMC1.xml", tag, 0, "Who came"))
    assert tensor(client, key).tolist() == [default_reader().sentence(SENTENCES["0"]).ids.tolist()]


def test_a_sentence_of_many_windows(client: RedisCluster) -> None:
    tag = tags(client)[0]
    filler = "Nothing was seen on that day. " * 150
    client.hset(keys.sentence_key("long", tag), "0", filler + SENTENCES["1"] + " " + filler)
    known = json.loads(client.get(keys.span_key("long", tag, 0, QUESTION)))
    assert "parents" in known["answer"]
    assert known["start"] > len(filler)


def test_without_the_cache_nothing_is_kept(client: RedisCluster) -> None:
    tag = tags(client)[0]
    node = client.get_node_from_key(keys.model_key(tag))
    answer = keys.answer_key("PMC1.xml", tag, 1, "Who performs it")
    client.execute_command("CONFIG SET", "keymiss.cache", "no", target_nodes=node)
    try:
        before = calls(client, tag)
        assert client.get(answer) == client.get(answer)
        assert calls(client, tag) == before + 2
        assert not client.exists(answer)
        assert not client.exists(keys.span_key("PMC1.xml", tag, 1, "Who performs it"))
    finally:
        client.execute_command("CONFIG SET", "keymiss.cache", "yes", target_nodes=node)


@pytest.mark.parametrize(
    ("article", "idx", "question", "says"),
    [
        ("nowhere", "7", "Who", r"there is no sentence nowhere:\{\w+\}:7"),
        ("PMC1.xml", "99", "Who", r"there is no sentence PMC1\.xml:\{\w+\}:99"),
        ("PMC1.xml", "1", "", "no question"),
        ("PMC1.xml", "1", " \t", "question has no words"),
        ("PMC1.xml", "1", "w" * 1_000_000, "at most 2048"),
    ],
)
def test_what_cannot_be_answered_says_why(
    client: RedisCluster, article: str, idx: str, question: str, says: str
) -> None:
    with pytest.raises(redis.ResponseError, match=says):
        client.get(keys.answer_key(article, tags(client)[0], idx, question))


def test_a_question_that_is_not_utf8(client: RedisCluster) -> None:
    key = keys.answer_key("PMC1.xml", tags(client)[0], 1, "Who").encode() + b"\xff\xfe"
    with pytest.raises(redis.ResponseError, match="not UTF-8"):
        client.get(key)


def test_a_key_of_another_form(client: RedisCluster) -> None:
    with pytest.raises(redis.ResponseError, match="the key is not bertqa"):
        client.get("bertqa{%s}nothing" % tags(client)[0])  # noqa: UP031


def test_without_a_model_the_error_says_so_and_loading_mends_it(
    client: RedisCluster, cluster: RedisClusterServers, capsys: pytest.CaptureFixture[str]
) -> None:
    tag = tags(client)[1]
    key = keys.answer_key("PMC1.xml", tag, 1, "Who has no model")
    client.execute_command("AI.MODELDEL", keys.model_key(tag))
    with pytest.raises(redis.ResponseError, match=r"there is no model bert-qa\{\w+\}"):
        client.get(key)
    assert load.main(["--model", "models/reader", "--nodes", cluster.addresses]) == 0
    said = capsys.readouterr().out
    assert (said.count(": stored"), said.count(": already there")) == (1, 1)
    assert client.get(key) in SENTENCES["1"]
