"""For gears functions: noting that the server evicted what they made (maxmemory with an allkeys policy).

from keymiss.worker.functions.evictions import note_evicted, note_evicted_of, there_again

What is noted is in evicted:{part}, where /readyz and `keymiss pipeline` look.
"""

from __future__ import annotations

from keymiss.keys import evicted_key, part_of
from keymiss.worker.functions.job_context import current
from keymiss.worker.functions.other_shards import execute_at

# allow-oom: it is when memory is short that there is something to note.
NOTE = """#!lua flags=allow-oom
return redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
"""


def note_evicted(key: str, sentences: int) -> None:
    """`key` was evicted, and so many sentences are missing for it."""
    noted = _noted_at(key)
    execute_at(noted, "EVAL", NOTE, 1, noted, key, sentences)


def note_evicted_of(key: str, sentences_key: str) -> None:
    """`key` was made of the hash `sentences_key`, of the same article, and evicted."""
    context = current()
    exists, sentences = ["EXISTS", key], ["HLEN", sentences_key]
    there, n = (context.connection.command(*command) for command in (exists, sentences))
    if there or not n:
        return
    note_evicted(key, n)
    if context.connection.command(*exists):  # it came in between
        there_again(key)


def there_again(*keys: str) -> None:
    """They are whole, or not wanted any more; of one article."""
    noted = _noted_at(keys[0])
    execute_at(noted, "HDEL", noted, *keys)


def _noted_at(key: str) -> str:
    return evicted_key(part_of(key))
