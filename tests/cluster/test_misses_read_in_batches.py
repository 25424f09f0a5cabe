"""A float32 reader takes sentences of like length that are missed together in one run; the answers are those
that it gives one by one."""

from __future__ import annotations

import json

from keymiss import keys
from keymiss.models import load
from tests.servers import REPO, RedisClusterServers, WorkerProcess, tags_of

PLACES = (
    "a cave",
    "a wet market",
    "the old harbour",
    "a village in the hills",
    "a farm",
    "two hospitals",
    "the zoo",
    "a school",
)
QUESTION = "Where was the virus found first"


def test_answers_of_one_run_are_those_of_many(
    cluster: RedisClusterServers, cluster_worker: WorkerProcess
) -> None:
    assert load.main(["--model", "models/reader", "--form", "torchscript", "--nodes", cluster.addresses]) == 0
    with cluster.client() as whole:
        tag = tags_of(whole)[0]
    texts = {
        str(at): f"In the year of {1960 + at} the virus was first found in {place}."
        for at, place in enumerate(PLACES)
    }
    spans = [keys.span_key("PMC1", tag, idx, QUESTION) for idx in texts]
    server = cluster.server_of(keys.sentence_key("PMC1", tag))
    with server.client(decode_responses=True) as client:
        assert client.execute_command("RG.PYEXECUTE", (REPO / "gears" / "qa.py").read_text()) == "OK"
        client.hset(keys.sentence_key("PMC1", tag), mapping=texts)

        def figures() -> tuple[int, int]:
            flat = client.execute_command("AI.INFO", keys.model_key(tag))
            known = dict(zip(flat[::2], flat[1::2], strict=True))
            return known["calls"], known["samples"]

        began = figures()
        together = client.execute_command("KM.MISSES", len(spans), *spans)
        after = figures()
        for key in spans:
            client.delete(key, key.replace(keys.SPAN_PREFIX, keys.ANSWER_PREFIX, 1))
        alone = [client.get(key) for key in spans]
        ended = figures()
    assert after[1] - began[1] == ended[1] - after[1] == len(texts)
    assert ended[0] - after[0] == len(texts)
    assert 2 <= after[0] - began[0] <= len(texts) // 2
    read = [json.loads(text) for _, text in together]
    for one, other, place in zip(read, map(json.loads, alone), PLACES, strict=True):
        assert abs(one.pop("score") - other.pop("score")) < 1e-4
        assert one == other
        assert place in one["answer"] or one["answer"] in place
