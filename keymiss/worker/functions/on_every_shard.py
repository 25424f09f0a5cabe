"""What RG.* commands do on every master."""

from __future__ import annotations

import resource
from collections.abc import Callable
from typing import Any

from redis.exceptions import ResponseError

from keymiss.corpus.catchup import catch_up
from keymiss.worker.functions.job_context import GearsError, JobContext
from keymiss.worker.job import Job


def gears_command(context: JobContext, job: Job) -> Any:
    """The job's command, and its reply; None is OK."""
    name = job.payload[0].decode().lower()
    return _COMMANDS[name](context, job.payload[1:])


def unregister(context: JobContext, job: Job) -> None:
    """An error only if no master knew the registration or one is out of reach."""
    registration_id, *abort = job.payload
    refused: list[str] = []
    masters = context.services.masters()
    for shard in masters:
        connection = context.on(shard).connection
        try:
            connection.command("KM.UNREGISTER", registration_id)
        except ResponseError as error:
            refused.append(str(error))
            continue
        if abort:
            connection.command("KM.ABORTOF", registration_id)
        context.services.scripts.forget_registration(shard, registration_id.decode())
    if masters and len(refused) == len(masters):
        raise GearsError(refused[0])


def _pause(context: JobContext, ids: list[bytes]) -> None:
    _on_all(context, [("KM.PAUSE", id_) for id_ in ids])


def _unpause(context: JobContext, ids: list[bytes]) -> None:
    _on_all(context, [("KM.UNPAUSE", id_) for id_ in ids])
    names = {id_.decode() for id_ in ids}
    for shard in context.services.masters():  # what came in meanwhile
        catch_up(context.on(shard).connection.command, lambda registration_id: registration_id in names)


def _clear(context: JobContext, _args: list[bytes]) -> None:
    _on_all(context, [("KM.CLEARSTATS",)])


def _on_all(context: JobContext, commands: list[tuple[Any, ...]]) -> None:
    for shard in context.services.masters():
        for command in commands:
            context.on(shard).connection.command(*command)


def _memory(_context: JobContext, _args: list[bytes]) -> list[Any]:
    """Of the whole worker process: RedisGears counts its interpreter's. Nobody counts what was ever
    allocated."""
    with open("/proc/self/statm") as statm:
        now = int(statm.read().split()[1]) * resource.getpagesize()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return ["TotalAllocated", None, "PeakAllocated", max(peak, now), "CurrAllocated", now]


_COMMANDS: dict[str, Callable[[JobContext, list[bytes]], Any]] = {
    "rg.pauseregistrations": _pause,
    "rg.unpauseregistrations": _unpause,
    "rg.clearregistrationsstats": _clear,
    "rg.pystats": _memory,
}
