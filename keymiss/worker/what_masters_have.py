"""What belongs to a shard whatever slots it has, as each master has it: registrations, models, the concept
table.

Nothing here talks to a server or decides: `keymiss.worker.same_on_all_masters` does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keymiss.cluster.topology import Shard
from keymiss.keys import (
    ENCODER,
    LOWER_READER,
    READER,
    concept_table_key,
    slot_of,
    tag_for_slot,
    tag_in,
    without_tag,
)
from keymiss.pipeline.records import as_dict
from keymiss.worker.functions import time_events
from keymiss.worker.functions.records import decode

Command = tuple[Any, ...]

SCRIPT, READER_NAME, DESCRIPTION, SESSION = 1, 3, 4, 12
"""Where in a row of KM.REGISTRATIONS."""
OF_EVERY_SHARD = frozenset({READER, LOWER_READER, ENCODER})
"""Models that no shard is without: one that half of the masters have was lost by the others."""
OF_SENTENCES = "states"
"""The first input of a reader that needs a lower half."""


@dataclass(frozen=True)
class OwnModel:
    """An entry of KM.MODELS."""

    key: str
    has_key: bool
    about: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The key without its tag."""
        return without_tag(self.key)

    @property
    def is_shards(self) -> bool:
        """Whether the key's tag can be a shard's. What has another tag, or none, is somebody's own."""
        return tag_in(self.key) == tag_for_slot(slot_of(self.key))


@dataclass(frozen=True)
class Possessions:
    """What one master has. `registrations`: as KM.REGISTER takes them, newest first, by id; without time
    events, which are those of one shard."""

    shard: Shard
    registrations: Mapping[str, tuple[str, ...]]
    models: Sequence[OwnModel]
    table: str | None
    """The concept table's sha256, at the shard's tag."""

    @property
    def reader_is_whole(self) -> bool:
        """Whether it is known that its reader needs no lower half."""
        inputs = [model.about.get("inputs") for model in self.models if model.name == READER]
        return any(names and names[0] != OF_SENTENCES for names in inputs)

    @property
    def model_names(self) -> set[str]:
        """Those that the shard can run."""
        return {model.name for model in self.models}


def questions(shard: Shard) -> list[Command]:
    """The commands whose replies `possessions` takes. A master without slots has no tag, and no table."""
    table = [("HGET", concept_table_key(shard.tag), "sha256")] if shard.slots else []
    return [("KM.REGISTRATIONS",), ("KM.MODELS",), *table]


def possessions(shard: Shard, replies: Sequence[Any]) -> Possessions:
    """Raises the first reply that is an error; a table's slot may be on its way."""
    rows, models, *table = replies
    for reply in (rows, models):
        if isinstance(reply, Exception):
            raise reply
    fields = [as_dict(decode(entry)) for entry in models]
    digest = decode(table[0]) if table and not isinstance(table[0], Exception) else None
    return Possessions(
        shard,
        {
            str(row[0]): tuple(str(field) for field in row)
            for row in map(decode, rows)
            if row[READER_NAME] != time_events.READER
        },
        [OwnModel(each["key"], bool(each["has_key"]), each) for each in fields],
        digest,
    )


def paused_in(reply: Sequence[Any]) -> set[str]:
    """Which registrations are paused, by a reply to RG.DUMPREGISTRATIONS."""
    rows = [as_dict(row) for row in decode(reply)]
    return {row["id"] for row in rows if as_dict(row["RegistrationData"]).get("status") == "PAUSED"}


def of_most(sets: Iterable[Iterable[str]], half_do: Container[str] = ()) -> set[str]:
    """What is in more than half of them; in half of them for those that `half_do`."""
    all_of_them = [set(each) for each in sets]
    counts = Counter(one for each in all_of_them for one in each)
    return {one for one, n in counts.items() if 2 * n + (one in half_do) > len(all_of_them)}


@dataclass(frozen=True)
class Wanted:
    """What every master should have: what more than half of those have that did not just join (half of them,
    of OF_EVERY_SHARD), models as the shard's. One has just joined if it has no registration while others have
    some."""

    registrations: frozenset[str]
    models: frozenset[str]
    joined: frozenset[str]
    """Identities of the masters that have just joined."""

    @classmethod
    def of(cls, masters: Sequence[Possessions]) -> Wanted:
        """From what all masters have."""
        old = [each for each in masters if each.registrations] or list(masters)
        return cls(
            frozenset(of_most(each.registrations for each in old)),
            frozenset(
                of_most(({one.name for one in each.models if one.is_shards} for each in old), OF_EVERY_SHARD)
            ),
            frozenset(each.shard.identity for each in masters if each not in old),
        )

    def missing(self, master: Possessions) -> tuple[set[str], set[str]]:
        """Registrations and models that it lacks. A lower half is not lacking where a whole reader has taken
        the place of a split one, as it does on one master after the other."""
        models = set(self.models - master.model_names)
        if master.reader_is_whole:
            models.discard(LOWER_READER)
        return set(self.registrations - master.registrations.keys()), models
