"""Which commands functions may hook."""

from __future__ import annotations

from collections.abc import Mapping

from keymiss.cluster.shard_connection import ShardConnection
from keymiss.worker.functions.job_context import GearsError
from keymiss.worker.functions.records import decode


def hooked_args(
    connection: ShardConnection, name: str, prefix: str, what: str = "override"
) -> Mapping[str, int]:
    """What the module is told of a command that is hooked. GearsError if it cannot be."""
    info = connection.command("COMMAND", "INFO", name)
    if not info or info[0] is None:
        raise GearsError(f"Can not {what} an unexisting command: {name!r}")
    flags = {decode(flag) for flag in info[0][2]}
    first, last, jump = info[0][3:6]
    if "noscript" in flags:
        raise GearsError(f"Can not {what} a command which are not allowed inside a script: {name!r}")
    if prefix not in ("", "*"):
        if "movablekeys" in flags:
            raise GearsError(f"Can not {what} a command with moveable keys by key prefix: {name!r}")
        if first <= 0:
            raise GearsError(f"Can not {what} a command by key prefix with none positive first key: {name!r}")
    return {"firstKey": first, "lastKey": last, "jump": jump, "reads": int("write" not in flags)}
