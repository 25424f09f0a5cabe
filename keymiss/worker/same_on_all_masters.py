"""Gives every master what the cluster should have: registrations, models, the concept table.

They belong to the shards, whatever slots these have, so no slot that moves brings or takes them. A thread of
the worker looks each second at what each master has (`keymiss.worker.what_masters_have`), and puts right what
differs. A master that has just joined gets all at once, before it has a slot if it can. What a master that
was there before lacks is given when it has lacked the same for LACKS_FOR_S: somebody may be about to change
it everywhere, one master after the other.

When slots have moved and rest again, each shard's models and its concept table get the shard's tag, and what
came in the slots that it gained is looked at (`keymiss.corpus.catchup`): a key that moves makes no event.
Several workers may do this at once: each step leaves what is right already as it is.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from redis.exceptions import RedisError

from keymiss.cluster.credentials import Credentials
from keymiss.cluster.shard_connection import ShardConnection
from keymiss.cluster.topology import MASTER, Shard, Slots, is_in, shard_of, view_of_reply
from keymiss.corpus.catchup import catch_up
from keymiss.keys import CONCEPT_TABLE_PREFIX, concept_table_key, slot_of, tag_for_slot
from keymiss.logs import log_event, one_line
from keymiss.pipeline.records import as_dict
from keymiss.worker.functions.records import decode
from keymiss.worker.what_masters_have import (
    DESCRIPTION,
    OF_EVERY_SHARD,
    SCRIPT,
    SESSION,
    Command,
    OwnModel,
    Possessions,
    Wanted,
    paused_in,
    possessions,
    questions,
)

LOOK_EVERY_S = 1.0
TIMEOUT_S = 30.0
CHUNK_BYTES = 4 << 20
LACKS_FOR_S = 10.0
"""Models of 100 MB are stored on a dozen masters in that time."""
RESTS_AFTER_LOOKS = 2
"""Slots that were the same in so many looks are not moving."""


class SameOnAllMasters:
    """`masters`: those that have slots."""

    def __init__(self, masters: Callable[[], Sequence[Shard]], credentials: Credentials) -> None:
        self._masters = masters
        self._credentials = credentials
        self._stopping = threading.Event()
        self._connections: dict[str, ShardConnection] = {}
        self._lacked: dict[str, tuple[tuple[set[str], set[str]], float]] = {}
        """What a master lacks, and since when."""
        self._seen: dict[str, Slots] = {}
        self._rested = 0
        self._settled: dict[str, Slots] = {}
        """The slots that each master had when they rested the last time."""
        self._said = ""

    def start(self) -> None:
        """Looks from now on."""
        threading.Thread(target=self._body, name="same-on-all-masters", daemon=True).start()

    def stop(self) -> None:
        """Looks no more."""
        self._stopping.set()

    def is_moving(self, shard: Shard) -> bool:
        """Whether the shard may lack, for a moment, what lay under its tag before slots moved."""
        return shard.identity in self._settled and self._settled[shard.identity] != shard.slots

    def _body(self) -> None:
        while not self._stopping.wait(LOOK_EVERY_S):
            try:
                self._look()
                self._said = ""
            except (RedisError, OSError, ValueError) as error:  # a master is away: the next look may do
                if one_line(error) != self._said:
                    self._said = one_line(error)
                    log_event("masters_not_compared", "warning", error=self._said)

    def _look(self) -> None:
        shards = self._all_masters()
        self._forget(shards)
        slots = {shard.identity: shard.slots for shard in shards}
        self._rested = self._rested + 1 if slots == self._seen else 0
        self._seen = slots
        masters = [self._ask(shard) for shard in shards]
        if len(masters) > 1:
            self._give(masters)
        if self._rested >= RESTS_AFTER_LOOKS and slots != self._settled:
            self._settle([self._ask(shard) for shard in shards])
            self._settled = slots

    def _all_masters(self) -> list[Shard]:
        """Those too that have no slots yet."""
        shards = list(self._masters())
        if not shards:
            return []
        (reply,) = self._at(shards[0]).pipeline([("CLUSTER", "NODES")])
        view, known = view_of_reply(reply, shards[0].master), {shard.node_id for shard in shards}
        new = (each for each in view.nodes.values() if each.role == MASTER and not each.slots)
        return shards + [
            Shard(each.address, each.id, ()) for each in new if not each.failing and each.id not in known
        ]

    def _forget(self, shards: Sequence[Shard]) -> None:
        alive = {shard.identity for shard in shards}
        for identity in [identity for identity in self._connections if identity not in alive]:
            self._connections.pop(identity).close()
            self._lacked.pop(identity, None)

    def _at(self, shard: Shard) -> ShardConnection:
        known = self._connections.get(shard.identity)
        if known is None:
            known = ShardConnection(shard.master, TIMEOUT_S, self._credentials, ("KM.UNHOOKED",))
            self._connections[shard.identity] = known
        return known

    def _ask(self, shard: Shard) -> Possessions:
        return possessions(shard, self._at(shard).pipeline(questions(shard)))

    # ---- what is missing

    def _give(self, masters: Sequence[Possessions]) -> None:
        wanted = Wanted.of(masters)
        for master in masters:
            identity = master.shard.identity
            lacks = wanted.missing(master)
            lacked, since_s = self._lacked.get(identity, (lacks, time.monotonic()))
            since_s = since_s if lacked == lacks else time.monotonic()
            self._lacked[identity] = lacks, since_s
            for_long = time.monotonic() - since_s >= LACKS_FOR_S
            if any(lacks) and (for_long or identity in wanted.joined):
                self._give_models(lacks[1], master, masters)
                self._give_registrations(lacks[0], master, masters)

    def _give_registrations(self, ids: set[str], to: Possessions, masters: Sequence[Possessions]) -> None:
        """Oldest first, as the newest of two that fit is asked."""
        source = max(masters, key=lambda each: len(ids & each.registrations.keys()))
        here, there = self._at(to.shard), self._at(source.shard)
        given = [row for id_, row in source.registrations.items() if id_ in ids][::-1]
        for script in dict.fromkeys(row[SCRIPT] for row in given):
            text = there.command("KM.SCRIPT", "GET", script)
            if text is not None:
                here.command("KM.SCRIPT", "SET", script, text)
        for session in dict.fromkeys(row[SESSION] for row in given):
            (found,) = there.command("RG.PYDUMPSESSIONS", "SESSIONS", session)
            about = as_dict(decode(found)) if isinstance(found, list) else {}
            description = about.get("sessionDescription") or ""
            here.command("KM.SESSION", session, description, *about.get("requirements", ()))
        if not given:
            return
        paused = paused_in(there.command("RG.DUMPREGISTRATIONS"))
        for row in given:
            pause = [("KM.PAUSE", row[0])] if row[0] in paused else []
            for reply in here.pipeline([("KM.REGISTER", *row), *pause]):
                if isinstance(reply, Exception):
                    raise reply
        described = [row[DESCRIPTION] or row[0] for row in given]
        log_event("registrations_given", shard=to.shard.address, registrations=described)
        catch_up(here.command, lambda id_: id_ in ids)

    def _give_models(self, names: set[str], to: Possessions, masters: Sequence[Possessions]) -> None:
        for name in sorted(names):
            source, model = next(
                (each, model) for each in masters for model in each.models if model.name == name
            )
            self._give_model(model, source.shard, to.shard, model.key)
            if to.shard.slots:
                self._at(to.shard).command("KM.MODELHOME", _home(name, to.shard))

    def _give_model(self, model: OwnModel, source: Shard, to: Shard, key: str) -> None:
        """In pieces from there, and here as one command of many arguments: neither master is held up."""
        about, size = model.about, int(model.about["size_bytes"])
        there, chunks, at = self._at(source), list[bytes](), 0
        while at < size:
            chunk = there.command("KM.MODELCHUNK", model.key, about["version"], at, CHUNK_BYTES)
            if not chunk:
                raise ValueError(f"model {model.key} of {source.address} ends after {at} of {size} bytes")
            chunks.append(chunk)
            at += len(chunk)
        names = [
            part
            for word in ("inputs", "outputs")
            if about[word]
            for part in (word.upper(), len(about[word]), *about[word])
        ]
        settings: Command = ("TAG", about["tag"], "BATCHSIZE", about["batchsize"])
        settings += ("MINBATCHSIZE", about["minbatchsize"], "MINBATCHTIMEOUT", about["minbatchtimeout"])
        self._at(to).command(
            *("KM.MODELGIVE", about["sha256"] or "-", key, about["backend"], about["device"]),
            *(*settings, *names, "BLOB", *chunks),
        )
        log_event("model_given", shard=to.address, source=source.address, model=model.name, size_bytes=size)

    # ---- after slots have moved

    def _settle(self, masters: Sequence[Possessions]) -> None:
        wanted = Wanted.of(masters)
        for master in masters:
            homeless = {model.name for model in master.models if self._lost_its_home(model, master.shard)}
            for name in sorted(homeless & wanted.models):
                if master.shard.slots:
                    self._at(master.shard).command("KM.MODELHOME", _home(name, master.shard))
            for model in master.models:
                if not (model.has_key or (model.name in wanted.models and model.is_shards)):
                    self._bring(model, master.shard, masters)
        self._settle_table(masters)
        for master in masters:
            gained = _gained(self._settled.get(master.shard.identity), master.shard)
            if self._settled and gained is not None:
                queued = catch_up(self._at(master.shard).command, in_slots=gained)
                log_event("slots_gained", shard=master.shard.address, queued=queued)

    def _lost_its_home(self, model: OwnModel, shard: Shard) -> bool:
        """Whether it had the shard's tag before slots moved; what was put under another key stays there."""
        before = self._settled.get(shard.identity)
        had = before and model.key == f"{model.name}{{{tag_for_slot(before[0][0])}}}"
        lost = not model.has_key and model.is_shards
        return bool(had) or lost or model.name in OF_EVERY_SHARD

    def _bring(self, model: OwnModel, source: Shard, masters: Sequence[Possessions]) -> None:
        """A model of one slot, that stayed behind when the slot went, goes after it."""
        owner = shard_of([each.shard for each in masters], model.key)
        there = self._at(owner)
        if owner.identity == source.identity or there.command("EXISTS", model.key):
            self._at(source).command("KM.MODELHOME" if owner == source else "KM.MODELDROP", model.key)
            return
        self._give_model(model, source, owner, model.key)
        there.command("KM.MODELHOME", model.key)
        self._at(source).command("KM.MODELDROP", model.key)

    def _settle_table(self, masters: Sequence[Possessions]) -> None:
        """Each shard has the table under its own tag, and none under another. It is written without the
        events that have every sentence looked at again."""
        with_slots = [master.shard for master in masters if master.shard.slots]
        found: dict[str, Shard] = {}
        for shard in with_slots:
            for key in self._tables_on(shard):
                found[key] = shard
        homes = {concept_table_key(shard.tag): shard for shard in with_slots}
        if not found or found.keys() == homes.keys():
            return
        source = next((key for key in homes if key in found), next(iter(found)))
        fields = self._at(found[source]).command("HGETALL", source)
        for key, shard in homes.items():
            if key not in found and fields:
                new = f"new-{key}"
                self._at(shard).pipeline([("HSET", new, *fields), ("RENAME", new, key)])
                log_event("concept_table_given", shard=shard.address)
        for key, shard in found.items():
            if key not in homes:
                old = f"old-{key}"
                self._at(shard).pipeline([("RENAME", key, old), ("UNLINK", old)])

    def _tables_on(self, shard: Shard) -> list[str]:
        cursor, keys = b"0", list[str]()
        while True:
            pattern = f"{CONCEPT_TABLE_PREFIX}{{*}}"
            cursor, some = self._at(shard).command("SCAN", cursor, "MATCH", pattern, "COUNT", 1000)
            keys += [key for key in decode(some) if is_in(shard.slots, slot_of(key))]
            if int(cursor) == 0:
                return list(dict.fromkeys(keys))


def _home(name: str, shard: Shard) -> str:
    return f"{name}{{{shard.tag}}}"


def _gained(before: Slots | None, shard: Shard) -> Callable[[int], bool] | None:
    """Whether a slot is one that the shard has and had not; None if it gained none."""
    had = before or ()
    new = [(low, high) for low, high in shard.slots if not all(is_in(had, n) for n in range(low, high + 1))]
    return (lambda slot: is_in(tuple(new), slot) and not is_in(had, slot)) if new else None
