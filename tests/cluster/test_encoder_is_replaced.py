"""Another encoder: every vector is made again, also where nobody was told of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from redis.cluster import RedisCluster

from keymiss import keys
from keymiss.models import load_encoder
from keymiss.models.export_encoder import export_encoder
from keymiss.reading.stored_vector import Encoded, encoder_mark, from_field, question_from_bytes
from tests.cluster import pipeline
from tests.servers import RedisClusterServers, WorkerProcess, tags_of, wait_until

SENTENCES = ["Masks reduce spreading.", "PCR detects viral RNA in a swab."]
QUESTION = "what do masks reduce"
FORMS = ("onnx-int8", "onnx")  # of one model, and two files: as two encoders


@pytest.fixture(scope="module")
def marks() -> dict[str, bytes]:
    return {form: encoder_mark(export_encoder(form=form)[0].sha256) for form in FORMS}


@pytest.fixture
def running() -> Iterator[tuple[RedisClusterServers, WorkerProcess, RedisCluster]]:
    with pipeline.running(masters=1) as (servers, worker, client):
        store(servers, "onnx-int8")
        pipeline.upload(client, "vectors.py", "question_vector.py")
        pipeline.write(client, "A", " ".join(SENTENCES))
        pipeline.settle(client)
        yield servers, worker, client


def store(servers: RedisClusterServers, form: str) -> None:
    assert load_encoder.main(["--nodes", servers.addresses, "--form", form]) == 0


def made_by(raw: redis.Redis) -> list[bytes]:
    """The encoders of the sentences' vectors."""
    fields = raw.hgetall(keys.vectors_key("A", keys.article_tag("A")))
    found = [from_field(fields.get(b"%d" % idx, b""), text) for idx, text in enumerate(SENTENCES)]
    return [each.encoder for each in found if each]


def question(raw: redis.Redis, tag: str) -> Encoded:
    value = raw.get(keys.question_vector_key(tag, QUESTION))
    found = question_from_bytes(value)
    assert found is not None
    return found


def test_vectors_are_made_again(
    running: tuple[RedisClusterServers, WorkerProcess, RedisCluster], marks: dict[str, bytes]
) -> None:
    servers, _, client = running
    (tag,) = tags_of(client)
    with servers.masters[0].client() as raw:
        assert made_by(raw) == [marks["onnx-int8"]] * 2
        assert question(raw, tag).encoder == marks["onnx-int8"]
        store(servers, "onnx")
        pipeline.settle(client)
        wait_until(lambda: made_by(raw) == [marks["onnx"]] * 2, 30, "all are the new encoder's")
        assert question(raw, tag).encoder == marks["onnx"]


def test_also_where_nobody_was_told_of_the_new_encoder(
    running: tuple[RedisClusterServers, WorkerProcess, RedisCluster], marks: dict[str, bytes]
) -> None:
    """The event is lost with the shard's memory; the worker that comes back asks what was missed."""
    servers, worker, _ = running
    worker.kill()
    store(servers, "onnx")
    servers.masters[0].restart(save=True)  # the queue, with the event, is gone
    worker.log.write_text("")
    worker.start()
    pipeline.wait_caught_up(worker)
    with servers.client(decode_responses=True) as again, servers.masters[0].client() as raw:
        pipeline.settle(again)
        wait_until(lambda: made_by(raw) == [marks["onnx"]] * 2, 30, "all are the new encoder's")


def test_questions_that_are_asked_together_get_the_vectors_that_each_gets_alone(
    running: tuple[RedisClusterServers, WorkerProcess, RedisCluster],
) -> None:
    servers, _, client = running
    (tag,) = tags_of(client)
    asked = [keys.question_vector_key(tag, f"what do {kind} masks reduce") for kind in ("red", "two", "no")]
    with servers.masters[0].client() as raw:
        replies = raw.execute_command("KM.MISSES", 4, asked[0], f"bertvec{{{tag}}}_ ", *asked[1:])
        first, bad, *others = [value for _, value in replies]
        assert "no question" in str(bad)
        vectors = [first, *others]
        assert len({*vectors}) == len(asked)
        assert [raw.get(key) for key in asked] == vectors  # they were kept
        raw.delete(*asked)
        assert [raw.get(key) for key in asked] == vectors
