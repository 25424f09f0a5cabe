"""What the master of a shard says of itself, in one round trip: for /metrics and for `keymiss status`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio.connection import Connection

from keymiss.cluster.async_connection import replies_of
from keymiss.keys import (
    edges_key,
    encoder_key,
    evicted_key,
    graph_nodes_key,
    lower_model_key,
    model_key,
    without_tag,
)


@dataclass(frozen=True, slots=True)
class RegistrationReply:
    """One entry of RG.DUMPREGISTRATIONS; figures since the server's process started. ``name``: its
    description, else its reader and prefix."""

    name: str
    triggered: int
    done: int
    failed: int
    aborted: int
    total_ms: int
    last_error: str


@dataclass(frozen=True, slots=True)
class ShardReplies:
    """What the server refuses to say is empty or None.

    ``stats``: KM.STATS. ``models``: name without its tag -> AI.INFO, of the models that there are.
    ``edges_waiting``: entries of the edge streams. ``graph_concepts``: concepts that have a link, those of
    each part of the graph counted.
    ``evicted``: keys of articles that were evicted and are missing.
    """

    stats: Mapping[str, int]
    registrations: tuple[RegistrationReply, ...]
    edges_waiting: int | None
    graph_concepts: int | None
    models: Mapping[str, Mapping[str, Any]]
    evicted: int | None


async def ask_shard(connection: Connection, tag: str, parts: Sequence[str]) -> ShardReplies:
    """Asks the master of the shard of that hash tag, which has the keys of these parts. Raises what the
    connection raises."""
    models = {without_tag(key): key for key in (model_key(tag), lower_model_key(tag), encoder_key(tag))}
    sizes = (("XLEN", edges_key), ("ZCARD", graph_nodes_key), ("HLEN", evicted_key))
    stats, registrations, *replies = await replies_of(
        connection,
        ("KM.STATS",),
        ("RG.DUMPREGISTRATIONS",),
        *(("AI.INFO", key) for key in models.values()),
        *((command, key_of(part)) for command, key_of in sizes for part in parts),
    )
    infos, counted, n = replies[: len(models)], replies[len(models) :], len(parts)
    edges, concepts, evicted = (_sum(counted[at * n : (at + 1) * n]) for at in range(len(sizes)))
    return ShardReplies(
        _fields(stats) if isinstance(stats, list) else {},
        tuple(map(_registration, registrations)) if isinstance(registrations, list) else (),
        edges,
        concepts,
        {
            name: _fields(info)
            for name, info in zip(models, infos, strict=True)
            if isinstance(info, list)  # else there is no such model
        },
        evicted,
    )


def _sum(replies: Sequence[Any]) -> int | None:
    numbers = [reply for reply in replies if isinstance(reply, int)]
    return sum(numbers) if len(numbers) == len(replies) else None


def _fields(flat: Sequence[Any]) -> dict[str, Any]:
    """``name, value, ...`` by name; texts decoded."""
    names, values = flat[::2], (v.decode(errors="replace") if isinstance(v, bytes) else v for v in flat[1::2])
    return {name.decode(): value for name, value in zip(names, values, strict=True)}


def subject_of(args: Mapping[str, Any]) -> str:
    """What a registration is for, of the ``args`` in RG.DUMPREGISTRATIONS: keys, streams, a trigger or a
    command."""
    for name in ("regex", "stream", "trigger", "hook"):
        if name in args:
            value = args[name]
            return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return ""


def _registration(reply: Sequence[Any]) -> RegistrationReply:
    entry = _fields(reply)
    data = _fields(entry["RegistrationData"])
    about = subject_of(_fields(data["args"])).removesuffix("*")
    return RegistrationReply(
        (entry["desc"] or f"{entry['reader']} {about}").strip(),
        data["numTriggered"],
        data["numSuccess"],
        data["numFailures"],
        data["numAborted"],
        data["totalRunDurationMS"],
        str(data["lastError"] or ""),
    )
