"""For gears functions: the states of a question, made once a shard by the lower half of a split reader.

from keymiss.worker.split_runs import QuestionStates, keeps_states

Of jobs that ask the same at the same time, one makes them.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import numpy as np

from keymiss import keys
from keymiss.pipeline.kept_tensors import keep_command, tensor_of
from keymiss.pipeline.model_version import ModelVersion
from keymiss.pipeline.states import States
from keymiss.reading.reader import Ids
from keymiss.reading.tensors import Tensor
from keymiss.worker.functions.gears_api import config_get, hashtag
from keymiss.worker.functions.interruption import Shield
from keymiss.worker.functions.job_context import current
from keymiss.worker.not_kept import KeptTogether

if TYPE_CHECKING:
    from keymiss.worker.model_in_use import ModelInUse

_lock = threading.Lock()
_made_now: dict[tuple[str, str], Future[States]] = {}


def keeps_states() -> bool:
    """KEYMISS_GEARS_STATES=no in the worker's environment: none are kept, each is made when it is needed."""
    return config_get("states") != "no"


async def run_lower(lower: ModelInUse, ids: Ids, mask: Ids, types: Ids) -> States:
    """States, FLOAT [batch, tokens, width]. ModelError if the run fails."""
    (states,) = await lower.run((ids, mask, types), 1)
    return states


class QuestionStates:
    """Those of the questions of one run of misses. `known`: replies to the commands of `read`."""

    def __init__(self, lower: ModelInUse, version: ModelVersion, known: dict[str, Any]) -> None:
        self._lower, self._version, self._known = lower, version, known
        self._made: dict[str, States] = {}

    @staticmethod
    def read(lower_sha256: str, question: str) -> tuple[str, list[Any]]:
        """The key of the question's states by that model, and the command that reads them."""
        key = keys.question_states_key(hashtag(), lower_sha256, question)
        return key, ["AI.TENSORGET", key, "META", "BLOB"]

    async def of(self, question: str, ids: Ids, kept: KeptTogether) -> States:
        """[tokens, width]. To be kept if answers are."""
        key = keys.question_states_key(hashtag(), self._lower.sha256, question)
        if key in self._made:
            return self._made[key]
        reply = self._known.get(key)
        known = tensor_of(reply) if isinstance(reply, list) else None
        if known and known.type_name == "FLOAT" and len(known.dims) == 2 and known.dims[0] == len(ids):
            stored: States = known.array
            return stored
        place = (current().shard.identity, key)
        with _lock:
            waited = _made_now.get(place)
            mine: Future[States] = Future()
            if waited is None:
                _made_now[place] = mine
        if waited is not None:
            with Shield():  # its lock is another job's, too
                ended = asyncio.wrap_future(waited)
            await asyncio.wait([ended])
            if not waited.cancelled() and waited.exception() is None:
                return waited.result()
            return await self._run(ids)
        try:
            states = await self._run(ids)
            self._made[key] = states
            mine.set_result(states)
        finally:
            with _lock:
                del _made_now[place]
            mine.cancel()  # if there is no result: those that wait make their own
        if config_get("cache") != "no":
            ttl_s = config_get("answer-ttl-s") or "0"
            kept.add("states", keep_command(self._version, key, Tensor(states), ttl_s))
        return states

    async def _run(self, ids: Ids) -> States:
        row = ids[np.newaxis]
        states: States = (await run_lower(self._lower, row, np.ones_like(row), np.zeros_like(row)))[0]
        return states
