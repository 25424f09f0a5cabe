"""For gears functions: the run of a split reader over one sentence of the job's shard.

from keymiss.worker.split_runs import keeps_states, read_split

The question's states are made once a shard: of jobs that ask the same at the same time, one makes them.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from functools import partial

import numpy as np

from keymiss import keys
from keymiss.pipeline.answers import Run
from keymiss.pipeline.kept_tensors import keep_command
from keymiss.pipeline.model_version import ModelVersion
from keymiss.pipeline.states import SplitRun, States, max_state_tokens
from keymiss.reading.reader import Half, Ids, Reader
from keymiss.reading.tensors import Tensor, TensorError
from keymiss.worker.functions.gears_api import config_get, execute, hashtag
from keymiss.worker.functions.job_context import current
from keymiss.worker.functions.model_runs import run_lower, run_upper
from keymiss.worker.functions.readers import lower_half
from keymiss.worker.functions.redisai_api import get_tensor_from_key
from keymiss.worker.not_kept import keeping
from keymiss.worker.stored_sentences import StoredSentence

_lock = threading.Lock()
_made_now: dict[tuple[str, str], Future[States]] = {}


def keeps_states() -> bool:
    """KEYMISS_GEARS_STATES=no in the worker's environment: none are kept, each is made when it is needed."""
    return config_get("states") != "no"


def read_split(
    reader: Reader, asked: keys.AnswerKey, model: ModelVersion, half: Half
) -> tuple[StoredSentence, Run]:
    """The sentence, and the run over it. ValueError if the two halves are not of one reader."""
    lower = model.lower
    if lower is None:
        raise ValueError(
            f"there is no model {keys.lower_model_key(hashtag())}: {model.key} is half of a reader"
        )
    about, sha256 = lower_half(lower.key)
    if about.half is None or about.half.pair != half.pair:
        raise ValueError(f"models {lower.key} and {model.key} are halves of two readers: keymiss models load")
    stored = StoredSentence.read(reader, asked, sha256)

    def made(states: States) -> None:
        if keeps_states() and len(states) == 1 and states.shape[1] <= max_state_tokens(about):
            stored.keep_states(states[0], lower, sha256)

    question = partial(question_states, lower, sha256, asked.question)
    runs = (partial(run_lower, lower.key), partial(run_upper, model.key))
    return stored, SplitRun(question, *runs, stored.states, made)


async def question_states(lower: ModelVersion, sha256: str, question: str, ids: Ids) -> States:
    """[tokens, width], by the lower model of that SHA-256. Kept if answers are."""
    key = keys.question_states_key(hashtag(), sha256, question)
    place = (current().shard.identity, key)
    with _lock:
        waited = _made_now.get(place)
        mine: Future[States] = Future()
        if waited is None:
            _made_now[place] = mine
    if waited is not None:
        await asyncio.wait([asyncio.wrap_future(waited)])
        if not waited.cancelled() and waited.exception() is None:
            return waited.result()
        return await _question_states(lower, key, ids)
    try:
        states = await _question_states(lower, key, ids)
        mine.set_result(states)
        return states
    finally:
        with _lock:
            del _made_now[place]
        mine.cancel()  # if there is no result: those that wait make their own


async def _question_states(lower: ModelVersion, key: str, ids: Ids) -> States:
    cached = config_get("cache") != "no"
    if cached:
        try:
            known = get_tensor_from_key(key)
            if known.type_name == "FLOAT" and len(known.dims) == 2 and known.dims[0] == len(ids):
                return known.array
        except TensorError:
            pass
    row = ids[np.newaxis]
    states: States = (await run_lower(lower.key, row, np.ones_like(row), np.zeros_like(row)))[0]
    if cached:
        with keeping("states"):
            execute(*keep_command(lower, key, Tensor(states), config_get("answer-ttl-s") or "0"))
    return states
