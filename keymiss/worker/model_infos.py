"""For gears functions: which models the job's shard has, asked for once in an epoch of them.

from keymiss.worker.model_infos import ModelInfos
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from keymiss.worker.functions.gears_api import execute_together
from keymiss.worker.functions.job_context import current
from keymiss.worker.functions.records import decode


class ModelInfos:
    """Of the models at these keys. The replies to `commands` say it; there are none if the shard's models
    have not changed since it was asked last."""

    def __init__(self, keys: Sequence[str]) -> None:
        context = current()
        self._keys, self._shard, self._epoch = keys, context.shard, context.models_epoch
        self._store = context.services.models.store
        self._known = self._store.infos(self._shard, keys, self._epoch)
        self.commands = [["KM.MODELINFO", key] for key in keys] if self._known is None else []

    def of(self, replies: Iterator[Any]) -> Sequence[Any]:
        """The decoded reply of each key, None where there is no model; of the raw replies the next ones. An
        error reply is raised."""
        if self._known is not None:
            return self._known
        infos = _checked([decode(next(replies)) for _ in self._keys])
        for key, info in zip(self._keys, infos, strict=True):
            self._store.note_info(self._shard, key, self._epoch, info)
        return infos

    def now(self) -> Sequence[Any]:
        """The same, asked now."""
        return _checked(execute_together([["KM.MODELINFO", key] for key in self._keys]))


def _checked(infos: Sequence[Any]) -> Sequence[Any]:
    for info in infos:
        if isinstance(info, Exception):
            raise info
    return infos
