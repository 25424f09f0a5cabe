"""One key that a shard answers: there already, or made by the function that is registered for it."""

from __future__ import annotations

from keymiss.cluster.shard_map import ShardMap
from keymiss.request_id import current_request_id


async def ask_key(shards: ShardMap, key: str) -> tuple[bytes | None, bool]:
    """The key's value, None where no function makes it; and whether it was there already.

    The worker is told the id of the request that is being handled. Raises what ``execute_together`` raises.
    """
    request_id = current_request_id.get()
    request = () if request_id is None else ("REQUEST", request_id)
    there, raw = await shards.execute_together(key, ("EXISTS", key), ("KM.MISS", key, *request))
    return raw, bool(there) and raw is not None
