"""Calls of scripts, and what a script asks for while it runs: its runner sends that to the worker and waits
for the answer."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keymiss.logs import one_line
from keymiss.reading.backends.base import ModelError
from keymiss.reading.backends.torch_script import ScriptCalls
from keymiss.reading.tensors import Tensor, TensorError
from keymiss.worker.model_processes.frames import Frame, FrameError, FrameReader, packed, send

ASK = "ask"
"""The field by which a question is told from a result."""


@dataclass(frozen=True)
class FunctionCall:
    """A function of a script, what it gets beside tensors (`TorchScript.call`), and what it can ask for."""

    name: str
    keys: Sequence[str]
    args: Sequence[str]
    list_at: int
    calls: ScriptCalls

    def fields(self) -> dict[str, Any]:
        """As its runner gets them."""
        return {"name": self.name, "keys": [*self.keys], "args": [*self.args], "list_at": self.list_at}


class AsksOfScript:
    """The script's side: `ScriptCalls` over the runner's socket."""

    def __init__(self, worker: socket.socket, reader: FrameReader) -> None:
        self._worker, self._reader = worker, reader

    def execute(self, words: list[str]) -> Any:
        """A command's reply."""
        return _for_script(self._ask({ASK: "command", "words": words}).fields["reply"])

    def run_model(self, key: str, inputs: list[Tensor], outputs: int) -> list[Tensor]:
        """Runs a model."""
        return self._ask({ASK: "model", "key": key, "outputs": outputs}, inputs).tensors

    def _ask(self, fields: Mapping[str, Any], tensors: Sequence[Tensor] = ()) -> Frame:
        try:
            send(self._worker, fields, tensors)
        except FrameError as error:
            raise ModelError(str(error)) from error
        while (answer := self._reader.read(self._worker)) is None:
            pass  # the worker ends a run that takes too long
        if "error" in answer.fields:
            raise ModelError(answer.fields["error"])
        return answer


def _for_script(reply: Any) -> Any:
    """A reply as TorchScript takes it: of a list it wants to know one type, of a tuple each one's."""
    if isinstance(reply, list):
        values = [_for_script(one) for one in reply]
        return values if values and all(isinstance(one, str) for one in values) else tuple(values)
    return reply


def answer_to(calls: ScriptCalls, ask: Frame) -> list[memoryview]:
    """The worker's side: does what is asked, and gives the buffers of the answer."""
    fields = ask.fields
    try:
        if fields[ASK] == "command":
            return packed({"reply": calls.execute(fields["words"])})
        return packed({}, calls.run_model(fields["key"], ask.tensors, fields["outputs"]))
    except (ModelError, TensorError, FrameError) as error:
        return packed({"error": str(error)})
    except Exception as error:
        return packed({"error": one_line(error)})
