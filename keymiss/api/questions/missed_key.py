"""One key that a shard answers: there already, or made by the function that is registered for it."""

from __future__ import annotations

from redis.exceptions import ResponseError

from keymiss.cluster.shard_map import ShardMap
from keymiss.request_id import current_request_id

OLD_MODULE = ("unknown command", "wrong number of arguments")
"""How a shard refuses KM.MISS with a request id: one whose server has no module, or was started before the
module learned it. GET does the same there, only that the worker does not hear the id."""


async def ask_key(shards: ShardMap, key: str) -> tuple[bytes | None, bool]:
    """The key's value, None where no function makes it; and whether it was there already.

    The worker is told the id of the request that is being handled. Raises what ``execute_together`` raises.
    """
    request_id = current_request_id.get()
    if request_id is None:
        return await _ask(shards, key, ("GET", key))
    try:
        return await _ask(shards, key, ("KM.MISS", key, "REQUEST", request_id))
    except ResponseError as error:
        if not str(error).startswith(OLD_MODULE):
            raise
        return await _ask(shards, key, ("GET", key))


async def _ask(shards: ShardMap, key: str, command: tuple[str, ...]) -> tuple[bytes | None, bool]:
    there, raw = await shards.execute_together(key, ("EXISTS", key), command)
    return raw, bool(there) and raw is not None
