"""A split reader in a running cluster: states when a sentence comes, answers of them, and its replacement."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from redis.cluster import RedisCluster

from keymiss import keys
from keymiss.corpus.progress import counts
from keymiss.models import load
from keymiss.models.by_model import find
from keymiss.models.by_split import SplitModel
from keymiss.models.export import Source
from keymiss.reading.reader import Reader
from tests.cluster.test_model_is_replaced import Askers
from tests.cluster.test_qa_functions import SENTENCES, script, tags
from tests.servers import RedisClusterServers, WorkerProcess, keymiss_info, wait_until
from tests.unit.test_split_halves import split_folder

ARTICLE = "PMC1.xml"
QUESTIONS = [f"Who performs viral transmission among {whom}" for whom in ("adults", "children", "young bats")]
LONG = "Nothing was seen on that day. " * 120 + SENTENCES["1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return split_folder(tmp_path_factory.mktemp("split"))


@pytest.fixture(autouse=True, scope="module")
def exports_apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KEYMISS_VAR", str(tmp_path_factory.mktemp("var")))
        yield


@pytest.fixture(scope="module")
def client(
    cluster: RedisClusterServers, cluster_worker: WorkerProcess, folder: Path
) -> Iterator[RedisCluster]:
    """Of a cluster with the functions and an article on every shard; the reader is loaded last."""
    with cluster.client(decode_responses=True) as made:
        for name in ("tokenize.py", "qa.py", "states.py"):
            assert script(made, name) == "OK"
        for tag in tags(made):
            made.hset(keys.sentence_key(ARTICLE, tag), mapping=SENTENCES)
        load_reader(cluster, folder)
        yield made


@pytest.fixture
def reader_is_loaded(client: RedisCluster, cluster: RedisClusterServers, folder: Path) -> None:
    load_reader(cluster, folder)
    for tag in tags(client):
        wait_states(client, ARTICLE, tag, set(SENTENCES))


def load_reader(cluster: RedisClusterServers, model: Path | str) -> None:
    assert load.main(["--model", str(model), "--nodes", cluster.addresses]) == 0


def wait_states(client: RedisCluster, article: str, tag: str, indices: set[str]) -> None:
    """Until just these sentences have states, of the lower model that is there."""
    model = load.model_info(client, keys.lower_model_key(tag))

    def there() -> bool:
        marks: dict[Any, Any] = client.hgetall(keys.lower_key(article, tag))
        of_model = model is None or all(mark.endswith(model["sha256"][:16]) for mark in marks.values())
        return set(marks) == indices and of_model

    wait_until(there, 30, f"states of {sorted(indices)}")


def span(client: RedisCluster, tag: str, idx: str, question: str, article: str = ARTICLE) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(client.get(keys.span_key(article, tag, idx, question)))
    return found


def states_counted(cluster: RedisClusterServers) -> list[int]:
    """By each shard, in INFO keymiss."""
    counted = []
    for master in cluster.masters:
        with master.client() as client:
            counted.append(int(keymiss_info(client)["states"]))
    return counted


def runs(client: RedisCluster, tag: str) -> tuple[int, int]:
    """Of the lower and the upper half."""
    calls = []
    for key in (keys.lower_model_key(tag), keys.model_key(tag)):
        flat = client.execute_command("AI.INFO", key)
        calls.append(int(dict(zip(flat[::2], flat[1::2], strict=True))["calls"]))
    return calls[0], calls[1]


def eager(folder: Path, question: str, text: str) -> Any:
    model = SplitModel.of(Source(str(folder)))
    assert model.about is not None
    reader = Reader.of(model.about)
    return find(model, reader, question, reader.sentence(text))


@pytest.mark.usefixtures("reader_is_loaded")
def test_every_sentence_gets_its_states(client: RedisCluster, cluster: RedisClusterServers) -> None:
    for tag in tags(client):
        for idx, text in SENTENCES.items():
            tokens = len(
                client.execute_command("AI.TENSORGET", keys.tokenized_key(ARTICLE, tag, idx), "VALUES")
            )
            reply = client.execute_command("AI.TENSORGET", keys.states_key(ARTICLE, tag, idx), "META")
            assert dict(zip(reply[::2], reply[1::2], strict=True)) == {"dtype": "INT8", "shape": [tokens, 36]}
            assert text
    on_each = [len(SENTENCES)] * len(tags(client))
    assert [each["with states"] for each in counts(client).values()] == on_each
    assert states_counted(cluster) == on_each


@pytest.mark.usefixtures("reader_is_loaded")
@pytest.mark.parametrize("question", QUESTIONS)
def test_the_answers_are_the_eager_readers(client: RedisCluster, folder: Path, question: str) -> None:
    for idx in ("0", "1"):
        wanted, found = eager(folder, question, SENTENCES[idx]), span(client, tags(client)[0], idx, question)
        assert (found["answer"], found["start"], found["end"]) == (wanted.text, wanted.start, wanted.end)
        assert found["score"] == pytest.approx(wanted.score, abs=0.02)  # of INT8


@pytest.mark.usefixtures("reader_is_loaded")
def test_a_question_costs_one_lower_run_a_shard(client: RedisCluster) -> None:
    tag, question = tags(client)[0], "Who is asked once"
    lower, upper = runs(client, tag)
    for idx in SENTENCES:
        span(client, tag, idx, question)
    assert runs(client, tag) == (lower + 1, upper + len(SENTENCES))
    sha256 = load.model_info(client, keys.lower_model_key(tag))
    assert sha256 is not None
    key = keys.question_states_key(tag, sha256["sha256"], question)
    meta = client.execute_command("AI.TENSORGET", key, "META")
    assert (meta[1], meta[3][1]) == ("FLOAT", 32)
    assert 0 < client.ttl(key) <= client.ttl(keys.span_key(ARTICLE, tag, 1, question))


@pytest.mark.usefixtures("reader_is_loaded")
def test_states_that_are_missing_are_made_and_kept(client: RedisCluster, folder: Path) -> None:
    tag, question = tags(client)[0], "Who asks when there are none"
    key = keys.states_key(ARTICLE, tag, 1)
    client.unlink(key)
    wanted = eager(folder, question, SENTENCES["1"])
    found = span(client, tag, "1", question)
    assert found["answer"] == wanted.text
    assert found["score"] == pytest.approx(wanted.score, abs=1e-3)  # of the states as they were made
    assert client.exists(key)


@pytest.mark.usefixtures("reader_is_loaded")
def test_states_of_another_sentence_or_model_are_not_used(client: RedisCluster, folder: Path) -> None:
    tag = tags(client)[0]
    marks, key = keys.lower_key(ARTICLE, tag), keys.states_key(ARTICLE, tag, 1)
    right = client.hget(marks, "1")
    for number, mark in enumerate((f"{'0' * 16} {right[17:]}", f"{right[:16]} {'0' * 16}", "")):
        zeros = np.zeros((20, 36), np.int8)
        client.execute_command("AI.TENSORSET", key, "INT8", 20, 36, "BLOB", zeros.tobytes())
        client.hset(marks, "1", mark)
        question = f"Who is number {number}"
        assert span(client, tag, "1", question)["answer"] == eager(folder, question, SENTENCES["1"]).text
        assert client.hget(marks, "1") == right


@pytest.mark.usefixtures("reader_is_loaded")
def test_states_follow_their_sentence(client: RedisCluster, folder: Path) -> None:
    tag, article = tags(client)[1], "changing"
    key = keys.sentence_key(article, tag)
    client.hset(key, mapping={"0": "Bats fly.", "1": "Masks help."})
    wait_states(client, article, tag, {"0", "1"})
    before = client.hgetall(keys.lower_key(article, tag))
    client.hset(key, "1", "Masks help a lot, as many say.")
    wait_until(lambda: client.hget(keys.lower_key(article, tag), "1") != before["1"], 20)
    assert client.hget(keys.lower_key(article, tag), "0") == before["0"]
    wanted = eager(folder, "What helps", "Masks help a lot, as many say.")
    assert span(client, tag, "1", "What helps", article)["answer"] == wanted.text
    client.hdel(key, "1")
    wait_states(client, article, tag, {"0"})
    assert not client.exists(keys.states_key(article, tag, 1))
    client.delete(key)
    wait_states(client, article, tag, set())
    assert not client.exists(keys.states_key(article, tag, 0))


@pytest.mark.usefixtures("reader_is_loaded")
def test_a_text_of_several_windows_has_no_states(client: RedisCluster, folder: Path) -> None:
    tag, article = tags(client)[0], "long"
    client.hset(keys.sentence_key(article, tag), mapping={"0": LONG, "1": "Bats fly."})
    wait_states(client, article, tag, {"1"})
    wanted, found = eager(folder, QUESTIONS[0], LONG), span(client, tag, "0", QUESTIONS[0], article)
    assert (found["answer"], found["start"]) == (wanted.text, wanted.start)
    assert not client.exists(keys.states_key(article, tag, 0))
    client.delete(keys.sentence_key(article, tag))


@pytest.mark.usefixtures("reader_is_loaded")
def test_a_whole_reader_takes_its_place_and_the_states_go(
    client: RedisCluster, cluster: RedisClusterServers
) -> None:
    tag = tags(client)[0]
    old = span(client, tag, "1", QUESTIONS[0])
    load_reader(cluster, "models/reader")
    assert not any(client.exists(keys.lower_model_key(each)) for each in tags(client))
    found = span(client, tag, "1", QUESTIONS[0])
    assert found["model"] != old["model"]
    assert "parents" in found["answer"]
    names = [keys.lower_key(ARTICLE, tag), *(keys.states_key(ARTICLE, tag, idx) for idx in SENTENCES)]
    wait_until(lambda: not any(map(client.exists, names)), 20, "the states are gone")
    wait_until(lambda: not any(states_counted(cluster)), 20, "none is counted")


@pytest.mark.usefixtures("reader_is_loaded")
def test_replaced_by_one_another_without_a_failed_request(
    client: RedisCluster, cluster: RedisClusterServers, folder: Path, tmp_path: Path
) -> None:
    other = split_folder(tmp_path, seed=7)
    tag, question = tags(client)[0], "Who performs it at last"
    with Askers(cluster, tag) as askers:
        for model in ("models/reader", folder, other, folder, "models/reader", other):
            load_reader(cluster, model)
            found = span(client, tag, "1", question)
            info = load.model_info(client, keys.model_key(tag))
            assert info is not None
            assert found["model"] == info["sha256"]
            if isinstance(model, Path):
                wanted = eager(model, question, SENTENCES["1"])
                assert found["answer"] == wanted.text
                assert found["score"] == pytest.approx(wanted.score, abs=0.02)
    assert askers.failed == []
    assert len(askers.answered) >= 3
    wait_states(client, ARTICLE, tag, set(SENTENCES))


@pytest.mark.usefixtures("reader_is_loaded")
def test_halves_of_two_readers_say_so(
    client: RedisCluster, cluster: RedisClusterServers, folder: Path, tmp_path: Path
) -> None:
    other = split_folder(tmp_path, seed=8)
    tag = tags(client)[0]
    _, lower = load.checked_reader(str(other), None)
    assert lower is not None
    client.execute_command("AI.MODELSTORE", keys.lower_model_key(tag), "TORCH", "CPU", "BLOB", lower.blob)
    with pytest.raises(Exception, match="are halves of two readers: keymiss models load"):
        span(client, tag, "1", "Who is of two readers")
    client.execute_command("AI.MODELDEL", keys.lower_model_key(tag))
    with pytest.raises(Exception, match=r"there is no model bert-qa-lower\{\w+\}"):
        span(client, tag, "1", "Who is half a reader")
    load_reader(cluster, folder)
    assert span(client, tag, "1", "Who is whole again")["answer"]


def test_turned_off_none_are_kept_and_answers_are_given(folder: Path) -> None:
    with (
        RedisClusterServers(masters=1) as servers,
        WorkerProcess(servers, env={"KEYMISS_GEARS_STATES": "no"}),
        servers.client(decode_responses=True) as client,
    ):
        load_reader(servers, folder)
        for name in ("tokenize.py", "qa.py", "states.py"):
            assert script(client, name) == "OK"
        (tag,) = tags(client)
        client.hset(keys.sentence_key(ARTICLE, tag), mapping=SENTENCES)
        wanted = eager(folder, QUESTIONS[0], SENTENCES["1"])
        for question in (QUESTIONS[0], QUESTIONS[1]):
            found = span(client, tag, "1", question)
            assert found["score"] == pytest.approx(eager(folder, question, SENTENCES["1"]).score, abs=1e-3)
        assert span(client, tag, "1", QUESTIONS[0])["answer"] == wanted.text
        wait_until(lambda: client.exists(keys.tokens_key(ARTICLE, tag)), 20)
        assert not client.exists(keys.lower_key(ARTICLE, tag))
        assert not client.exists(keys.states_key(ARTICLE, tag, 1))
