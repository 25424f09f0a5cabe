"""For gears functions: the concept table of the job's shard, as a matcher that is made once for all threads.

from keymiss.worker.functions.concept_tables import matcher_here
"""

from __future__ import annotations

import threading

from redis.exceptions import TryAgainError

from keymiss.corpus.concept_matcher import ConceptMatcher
from keymiss.corpus.concept_table import ConceptTable
from keymiss.keys import concept_table_key
from keymiss.logs import log_event
from keymiss.worker.functions.job_context import current

_lock = threading.Lock()
_made: dict[bytes, ConceptMatcher] = {}
KEPT = 2
"""While a table is replaced, shards have the old one and the new one."""


def matcher_here() -> ConceptMatcher | None:
    """None when the shard has no table. TryAgainError while slots move and it may be on its way."""
    context = current()
    key = concept_table_key(context.shard.tag)
    digest = context.connection.command("HGET", key, "sha256")
    if digest is None and context.services.is_moving(context.shard):
        raise TryAgainError(f"slots of the shard move, and {key} is not there yet")
    if digest is None:
        return None
    known = _made.get(digest)
    if known is not None:
        return known
    with _lock:
        if digest not in _made:
            # Both at once: of one and the same table.
            digest, csv = context.connection.command("HMGET", key, "sha256", "csv")
            if digest is None or csv is None:
                return None
            table = ConceptTable.from_csv_text(csv.decode())
            _made[digest] = ConceptMatcher(table)
            while len(_made) > KEPT:
                del _made[next(iter(_made))]
            log_event("concept_table", sha256=digest.decode(), concepts=len(table.concepts))
        return _made[digest]
