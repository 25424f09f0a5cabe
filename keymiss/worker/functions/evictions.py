"""For gears functions: noting that the server evicted what they made (maxmemory with an allkeys policy).

from keymiss.worker.functions.evictions import note_evicted, note_evicted_of, there_again

What is noted is in evicted:{tag}, where /readyz and `keymiss pipeline` look.
"""

from __future__ import annotations

from keymiss.keys import evicted_key
from keymiss.worker.functions.job_context import current

# allow-oom: it is when memory is short that there is something to note.
NOTE = """#!lua flags=allow-oom
return redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
"""

# KEYS: as above, then what was evicted and the sentences it was made of. Not when it is there again.
NOTE_OF = """#!lua flags=allow-oom
local n = redis.call('HLEN', KEYS[3])
if n == 0 or redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
return redis.call('HSET', KEYS[1], KEYS[2], n)
"""


def note_evicted(key: str, sentences: int) -> None:
    """`key` was evicted, and so many sentences are missing for it."""
    context = current()
    context.connection.command("EVAL", NOTE, 1, evicted_key(context.shard.tag), key, sentences)


def note_evicted_of(key: str, sentences_key: str) -> None:
    """`key` was made of the hash `sentences_key`, of the same article, and evicted."""
    context = current()
    tag = context.shard.tag
    if key.endswith(f":{{{tag}}}"):  # else slots have moved, and the three are not in one
        context.connection.command("EVAL", NOTE_OF, 3, evicted_key(tag), key, sentences_key)


def there_again(*keys: str) -> None:
    """They are whole, or not wanted any more."""
    context = current()
    context.connection.command("HDEL", evicted_key(context.shard.tag), *keys)
