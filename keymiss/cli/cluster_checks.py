"""What `keymiss doctor` says of a cluster: whether every master has what each should have, whether replicas
follow, and whether what was made of articles lies with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from redis.cluster import RedisCluster

from keymiss.cluster.redis_cluster import masters_of
from keymiss.corpus.belonging import Fault, Suspect, counted, faults_of
from keymiss.local.preflight import Check
from keymiss.worker.what_masters_have import Possessions, Wanted, possessions, questions

BEHIND_BYTES = 1 << 20
"""A replica that lacks more of what its master wrote is behind."""
REPAIR = "keymiss doctor --repair"
TO_DO = {
    Fault.TENSOR: REPAIR,
    Fault.ANSWER: REPAIR,
    Fault.LEFT: f"{REPAIR} (the functions take them out: they need a worker)",
    Fault.TAG: f"keymiss migrate, or {REPAIR}",
    Fault.SUM: f"keymiss migrate, or {REPAIR}",
}


def cluster_checks(client: RedisCluster) -> tuple[list[Check], list[Suspect]]:
    """The checks, and the keys that a repair is about."""
    masters = [
        possessions(shard, [master.execute_command(*command) for command in questions(shard)])
        for shard, master in masters_of(client)
    ]
    faults = faults_of(client)
    return [*_possessions(masters), *_replicas(client), *_faults(faults)], faults


def _possessions(masters: Sequence[Possessions]) -> Iterator[Check]:
    wanted = Wanted.of(masters)
    a_worker = "a worker gives it what it lacks within seconds; its log says why not (masters_not_compared)"
    for master in masters:
        registrations, models = wanted.missing(master)
        lacks = [f"{len(registrations)} registrations"] if registrations else []
        lacks += [f"model {name}" for name in sorted(models)]
        has = (
            f"{len(master.registrations)} registrations, models {', '.join(sorted(master.model_names)) or 0}"
        )
        yield Check(
            f"master {master.shard.address}", has, f"lacks {', '.join(lacks)}: {a_worker}" if lacks else ""
        )
    for name in sorted(wanted.models):
        digests = {model.about["sha256"] for each in masters for model in each.models if model.name == name}
        problem = "masters have different ones: store it again (keymiss models load, load-encoder)"
        yield Check(f"model {name}", "the same on all masters", problem if len(digests - {""}) > 1 else "")
    tables = {master.table for master in masters}
    problem = "not the same on all masters: keymiss concepts load" if len(tables) > 1 else ""
    yield Check("concept table", "none" if tables == {None} else "the same on all masters", problem)


def _replicas(client: RedisCluster) -> Iterator[Check]:
    for shard, master in masters_of(client):
        info: dict[str, Any] = master.info("replication")
        replicas = [value for name, value in info.items() if name[:5] == "slave" and isinstance(value, dict)]
        behind = [
            f"{each['ip']}:{each['port']} is {each['state']}"
            if each["state"] != "online"
            else f"{each['ip']}:{each['port']} lacks {lag} bytes"
            for each in replicas
            if each["state"] != "online"
            or (lag := info["master_repl_offset"] - each["offset"]) > BEHIND_BYTES
        ]
        problem = f"{'; '.join(behind)}: look at its log, or wait until it has caught up" if behind else ""
        yield Check(f"replicas of {shard.address}", f"{len(replicas)}, none behind", problem)


def _faults(found: Sequence[Suspect]) -> Iterator[Check]:
    counts = counted(found)
    for fault in Fault:
        example = next((each.key for each in found if each.fault is fault), "")
        # of an answer the question is left out: others may read what is printed
        example = example if fault is not Fault.ANSWER else "_".join(example.split("_", 2)[:2])
        problem = f"{counts[fault]}, as {example}: {TO_DO[fault]}" if counts[fault] else ""
        yield Check(str(fault), "none", problem)
