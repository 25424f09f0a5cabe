"""Copies of a flow for other shards: each shard runs functions of its own.

Functions of a script are copied without the script's globals: they get those that the same upload has on the
other shard, so that what a function keeps in a global there is seen by all functions of that shard.
"""

from __future__ import annotations

import io
import pickle
import types
from typing import Any

import cloudpickle

from keymiss.logs import one_line
from keymiss.worker.functions.builder import Run
from keymiss.worker.functions.job_context import GearsError

Namespace = dict[str, Any]


class _Dumper(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle is not typed
    def __init__(self, file: io.BytesIO, namespace: Namespace | None) -> None:
        super().__init__(file)
        self._namespace = namespace

    def persistent_id(self, obj: Any) -> str | None:
        return "globals" if self._namespace is not None and obj is self._namespace else None

    def reducer_override(self, obj: Any) -> Any:
        reduced = super().reducer_override(obj)
        if not isinstance(obj, types.FunctionType) or obj.__globals__ is not self._namespace:
            return reduced
        make, (code, _globals, *rest), state, *others = reduced
        state[1]["__globals__"] = {}
        return (make, (code, self._namespace, *rest), state, *others)


class _Loader(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, namespace: Namespace | None) -> None:
        super().__init__(file)
        self._namespace = namespace

    def persistent_load(self, pid: Any) -> Any:
        return self._namespace


class CopiedRun:
    """A run, from which copies are made. GearsError if it cannot be copied."""

    def __init__(self, run: Run, namespace: Namespace | None) -> None:
        """`namespace`: the script's globals, if each shard has its own."""
        bare, whole = io.BytesIO(), io.BytesIO()
        try:
            if namespace is not None:
                _Dumper(bare, namespace).dump(run)
            _Dumper(whole, None).dump(run)
        except Exception as error:
            raise GearsError(
                "Error occured when serialized a python callback: each shard runs a copy of the functions "
                f"and of the globals they use; make in the function what cannot be copied ({one_line(error)})"
            ) from None
        self._bare, self._whole = bare.getvalue(), whole.getvalue()

    def copy(self, namespace: Namespace | None) -> Run:
        """With the globals that are there; with a copy of the script's, if there are none."""
        use_own = namespace is not None and self._bare
        copied: Run = _Loader(io.BytesIO(self._bare if use_own else self._whole), namespace).load()
        return copied
