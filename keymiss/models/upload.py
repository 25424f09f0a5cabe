"""A model's blob on its way to a shard, part by part: one command with all of a large one would hold it
up for seconds, as it writes it to its append-only file and sends it to its replicas in one go."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from redis.cluster import RedisCluster

from keymiss import keys

ONE_COMMAND_BYTES = 4 * 1024 * 1024
"""What may be sent with the command that stores it."""
PART_BYTES = 1024 * 1024
MAX_PARTS = 1000  # the module takes 1024
PARTS_TO_SPARE = 64
"""How many parts the replicas may lack: the shard has them in memory twice."""
KEPT_S = 600
"""What is left of an upload that was given up goes by itself."""


class UploadError(RuntimeError):
    """Parts that are not there any more; the text says of what."""


def send_parts(client: RedisCluster, key: str, blob: bytes, replicated: Callable[[], None]) -> str:
    """The key of the parts, for KM.MODELPUT of a model at `key`. `replicated` waits for the replicas.
    UploadError."""
    parts = keys.parts_key(key, secrets.token_hex(8))
    size = max(PART_BYTES, -(-len(blob) // MAX_PARTS))
    for n, at in enumerate(range(0, len(blob), size)):
        chunk = blob[at : at + size]
        if client.execute_command("KM.MODELPART", parts, chunk) != at + len(chunk):
            raise UploadError(f"parts of {key} were lost on the shard: was it short of memory?")
        if n == 0:
            client.expire(parts, KEPT_S)
        if n % PARTS_TO_SPARE == PARTS_TO_SPARE - 1:
            replicated()
    return parts
