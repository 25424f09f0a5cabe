"""`keymiss doctor` of a cluster: what belongs together is together, and `--repair` makes it so."""

from __future__ import annotations

from keymiss import keys
from keymiss.addresses import Address
from keymiss.cli.cluster_checks import _possessions
from keymiss.cluster.topology import Shard
from keymiss.worker.what_masters_have import OwnModel, Possessions
from tests.cluster import pipeline
from tests.servers import tags_of

SENTENCE = "Influenza often begins with fever."
NAMES = [f"DOC{number}" for number in range(6)]
OLD, GONE = NAMES[0], "GONE"
QUESTION = "What must not be printed"


def test_what_is_wrong_is_named_and_repaired() -> None:
    with pipeline.running(masters=3) as (servers, _, client), servers.client() as raw:
        pipeline.store_table(client, pipeline.table("C1,influenza,flu", "C2,fever,"))
        for name in NAMES:
            pipeline.write(client, name, SENTENCE, year=2019)
        pipeline.settle(client)
        well = pipeline.cli(servers, "doctor")
        assert well.returncode == 0, well.stdout + well.stderr
        assert all(line.startswith("ok ") for line in well.stdout.splitlines())
        wanted = pipeline.keyspace(servers)

        tag, other = keys.article_tag(GONE), keys.article_tag(OLD)
        tensor = raw.dump(keys.tokenized_key(OLD, other, 0))
        raw.restore(keys.tokenized_key(OLD, other, 7), 0, tensor)
        client.set(keys.answer_key(GONE, tag, 0, QUESTION), "an answer")
        client.hset(keys.tokens_key(GONE, tag), "0", "mark")
        old = next(each for each in tags_of(client) if each != other)
        client.hset(keys.sentence_key(OLD, old), "0", SENTENCE)
        client.zadd(keys.graph_nodes_key("x"), {"C1": 1})
        pipeline.settle(client)

        found = pipeline.cli(servers, "doctor")
        assert found.returncode == 1
        wrong = [line for line in found.stdout.splitlines() if line.startswith("!! ")]
        assert [line.partition(":")[0].removeprefix("!! ") for line in wrong] == [
            "tensors without their sentence",
            "answers without their sentence",
            "keys of articles without what they were made of",
            "articles under a tag that is not their slot's",
            "keys of a graph, of edges or evictions under a tag of no part",
        ]
        assert QUESTION not in found.stdout
        assert all("keymiss doctor --repair" in line for line in wrong)

        repaired = pipeline.cli(servers, "doctor", "--repair")
        assert repaired.returncode == 0, repaired.stdout + repaired.stderr
        pipeline.settle(client)
        assert pipeline.keyspace(servers) == wanted
        assert not client.exists(keys.answer_key(GONE, tag, 0, QUESTION))


def master(number: int, registrations: str, table: str | None, **digests: str) -> Possessions:
    shard = Shard(Address("127.0.0.1", number), f"node{number}", ((number, number),))
    models = [OwnModel(f"{name}{{a}}", True, {"sha256": digest}) for name, digest in digests.items()]
    return Possessions(shard, {name: (name,) for name in registrations}, models, table)


def test_masters_that_differ() -> None:
    same = [master(1, "xy", "t", m="1"), master(2, "xy", "t", m="1")]
    assert not [check for check in _possessions(same) if check.problem]
    found = {check.what: check.problem for check in _possessions([*same, master(3, "x", "u", other="2")])}
    assert found["master 127.0.0.1:3"].startswith("lacks 1 registrations, model m: a worker gives it")
    assert "concept table" in found
    assert "keymiss concepts load" in found["concept table"]
    found = {check.what: check.problem for check in _possessions([*same, master(3, "xy", "t", m="2")])}
    assert "store it again" in found["model m"]
